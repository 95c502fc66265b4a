//! Attention, in the form that fusion takes whole: keys read as they lie, no factor on the scores.
//!
//! The chain is a product of queries and keys, a scale, a mask, a softmax and a product with the
//! values. Scales move from the scores, or from queries and keys, towards the projections before
//! them, whose weights and biases take them in; where there are none, the scale of the scores stays,
//! since it costs nothing behind a product and a kernel before it. A transposition of the keys becomes the product's
//! own. The mask stays where it is: in front of the softmax. Float16 takes no part in moving
//! scales: a product may overflow that a scale kept small.

use egg::{Id, Subst};
use fermata_ir::op::broadcast::{ADD, MULTIPLY};
use fermata_ir::op::nn::{BATCH_MATMUL, BIAS_ADD, BatchMatmulAttrs, DENSE, MATMUL, SOFTMAX, SoftmaxAttrs};
use fermata_ir::op::reduce::ReduceAttrs;
use fermata_ir::op::transform::{RESHAPE, TRANSPOSE};
use fermata_ir::op::{OpAttrs, OpDef};

use super::super::facts::Graph;
use super::super::lang::Head;
use super::When::{Constant, Float, Scalar, Wide};
use super::layout::{permutation, transpose};
use super::make::{call, variable};
use super::{Rule, To, When};
use crate::pass::FloatClass::{self, Algebraic, Exact};

const fn rule(
    name: &'static str,
    from: &'static str,
    to: To,
    when: &'static [When],
    float: FloatClass,
) -> Rule {
    Rule { name, from, to, when, float }
}

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("scale-of-scores",    "(multiply (nn.batch_matmul ?q ?k ?a) ?c)", To::Made(scale_of_scores),                                             &[Scalar("?c"), Wide("?q")],                 Algebraic),
    rule("scale-of-transpose", "(multiply (transpose ?x ?a) ?c)",          To::Pattern("(transpose (multiply ?x ?c) ?a)"),                         &[Scalar("?c")],                             Exact),
    rule("scale-of-reshape",   "(multiply (reshape ?x ?a) ?c)",            To::Pattern("(reshape (multiply ?x ?c) ?a)"),                           &[Scalar("?c")],                             Exact),
    rule("scale-of-bias",      "(multiply (nn.bias_add ?x ?b ?a) ?c)",     To::Pattern("(nn.bias_add (multiply ?x ?c) (multiply ?b ?c) ?a)"),      &[Scalar("?c"), Constant("?b"), Wide("?x")], Algebraic),
    rule("scale-of-dense",     "(multiply (nn.dense ?x ?w ?a) ?c)",        To::Pattern("(nn.dense ?x (multiply ?w ?c) ?a)"),                       &[Scalar("?c"), Constant("?w"), Wide("?x")], Algebraic),
    rule("scale-of-matmul",    "(multiply (nn.matmul ?x ?w ?a) ?c)",       To::Pattern("(nn.matmul ?x (multiply ?w ?c) ?a)"),                      &[Scalar("?c"), Constant("?w"), Wide("?x")], Algebraic),
    rule("keys-as-they-lie",   "(nn.batch_matmul ?q (transpose ?k ?p) ?a)", To::Made(transposed_right),                                            &[],                                         Exact),
    rule("rows-as-they-lie",   "(nn.batch_matmul (transpose ?k ?p) ?v ?a)", To::Made(transposed_left),                                             &[],                                         Exact),
    rule("softmax",            "(divide (exp (subtract ?x (max ?x ?m))) (sum (exp (subtract ?x (max ?x ?m))) ?m))", To::Made(softmax),             &[Float("?x")],                              Algebraic),
];

/// How far projections are looked for.
const MAX_DISTANCE: usize = 8;

/// The scores with their scale at the queries, if a projection takes it in.
fn scale_of_scores(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let [queries, keys, scale] = ["?q", "?k", "?c"].map(|name| variable(subst, name));
    if !is_projected(graph, queries) {
        return None;
    }
    let attrs = graph[variable(subst, "?a")].data.attrs()?.clone();
    let scaled = call(graph, &MULTIPLY, &[queries, scale], None);
    Some(call(graph, &BATCH_MATMUL, &[scaled, keys], Some(attrs)))
}

/// True if a value is a product with a constant weight, but for moves and constant vectors added.
fn is_projected(graph: &Graph, value: Id) -> bool {
    let mut open = vec![value];
    for _ in 0..MAX_DISTANCE {
        let Some(class) = open.pop() else { return false };
        for node in &graph[class].nodes {
            let Head::Op(op) = node.head else { continue };
            let is_constant = |place: usize| graph[node.children[place]].data.constant().is_some();
            let is = |defs: &[&'static OpDef]| defs.iter().any(|def| op.is(def));
            if is(&[&DENSE, &MATMUL]) && is_constant(1) {
                return true;
            }
            if is(&[&RESHAPE, &TRANSPOSE]) || is(&[&ADD, &BIAS_ADD]) && is_constant(1) {
                open.push(node.children[0]);
            }
        }
    }
    false
}

/// A product whose operand swaps its last two dimensions, with the swap as its own. What else the
/// permutation does stays a transposition.
fn transposed(graph: &mut Graph, subst: &Subst, operand: &str, other: &str, left: bool) -> Option<Id> {
    let stored = variable(subst, operand);
    let mut axes = permutation(graph, stored, variable(subst, "?p"))?;
    let rank = axes.len();
    // Swapping is worth it where that leaves nothing to do.
    axes.swap(rank.checked_sub(2)?, rank - 1);
    if axes.iter().enumerate().any(|(i, &a)| i != a) {
        return None;
    }
    let stored = transpose(graph, stored, &axes);
    let mut attrs: BatchMatmulAttrs = graph[variable(subst, "?a")].data.attrs()?.read();
    let flag = if left { &mut attrs.transpose_a } else { &mut attrs.transpose_b };
    *flag = !*flag;
    let other = variable(subst, other);
    let args = if left { [stored, other] } else { [other, stored] };
    Some(call(graph, &BATCH_MATMUL, &args, Some(attrs.attrs())))
}

fn transposed_right(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    transposed(graph, subst, "?k", "?q", false)
}

fn transposed_left(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    transposed(graph, subst, "?k", "?v", true)
}

/// `nn.softmax` along the one axis that is reduced.
fn softmax(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let x = variable(subst, "?x");
    let over: ReduceAttrs = graph[variable(subst, "?m")].data.attrs()?.read();
    let axis = over.axis.filter(|axes| axes.len() == 1 && over.keepdims && !over.exclude)?[0];
    Some(call(graph, &SOFTMAX, &[x], Some(SoftmaxAttrs { axis }.attrs())))
}
