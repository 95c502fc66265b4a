//! Motion of transposes and reshapes: through elementwise operators, until they meet and cancel.

use std::cmp::Ordering;

use egg::{Id, Subst};
use fermata_ir::op::Op;
use fermata_ir::op::OpAttrs;
use fermata_ir::op::transform::{RESHAPE, ReshapeAttrs, TRANSPOSE, TransposeAttrs};

use super::super::facts::Graph;
use super::super::lang::{Head, Node};
use super::make::{call, variable};
use super::{Rule, To};
use crate::pass::FloatClass::Exact;

const fn rule(name: &'static str, from: &'static str, to: To) -> Rule {
    Rule { name, from, to, when: &[], float: Exact }
}

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("transpose-twice",      "(transpose (transpose ?x ?a) ?b)",                       To::Made(transpose_twice)),
    rule("transpose-nothing",    "(transpose ?x ?a)",                                      To::Made(transpose_nothing)),
    rule("reshape-twice",        "(reshape (reshape ?x ?a) ?b)",                           To::Made(reshape_twice)),
    rule("reshape-nothing",      "(reshape ?x ?a)",                                        To::Pattern("?x")),
    rule("transpose-relu",       "(nn.relu (transpose ?x ?a))",                            To::Pattern("(transpose (nn.relu ?x) ?a)")),
    rule("transpose-sigmoid",    "(sigmoid (transpose ?x ?a))",                            To::Pattern("(transpose (sigmoid ?x) ?a)")),
    rule("transpose-clip",       "(clip (transpose ?x ?a) ?c)",                            To::Pattern("(transpose (clip ?x ?c) ?a)")),
    rule("transpose-add",        "(add (transpose ?x ?a) (transpose ?y ?a))",              To::Pattern("(transpose (add ?x ?y) ?a)")),
    rule("transpose-multiply",   "(multiply (transpose ?x ?a) (transpose ?y ?a))",         To::Pattern("(transpose (multiply ?x ?y) ?a)")),
    rule("reshape-relu",         "(nn.relu (reshape ?x ?a))",                              To::Pattern("(reshape (nn.relu ?x) ?a)")),
    rule("reshape-sigmoid",      "(sigmoid (reshape ?x ?a))",                              To::Pattern("(reshape (sigmoid ?x) ?a)")),
];

/// The permutation that a transpose does, from its attributes and the rank of its argument.
pub fn permutation(graph: &Graph, x: Id, attrs: Id) -> Option<Vec<usize>> {
    let rank = graph[x].data.tensor()?.rank();
    let axes = graph[attrs].data.attrs()?.read::<TransposeAttrs>().axes.unwrap_or_default();
    if axes.is_empty() {
        return Some((0..rank).rev().collect());
    }
    axes.iter().map(|&a| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok()).collect()
}

/// A transpose of a class, unless it moves nothing.
pub fn transpose(graph: &mut Graph, x: Id, axes: &[usize]) -> Id {
    if axes.iter().enumerate().all(|(i, &a)| i.cmp(&a) == Ordering::Equal) {
        return x;
    }
    let attrs = TransposeAttrs { axes: Some(axes.iter().map(|&a| a as i64).collect()) }.attrs();
    call(graph, &TRANSPOSE, &[x], Some(attrs))
}

fn transpose_twice(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let x = variable(subst, "?x");
    let first = permutation(graph, x, variable(subst, "?a"))?;
    // The ranks are equal, so the argument of the first stands for that of the second.
    let second = permutation(graph, x, variable(subst, "?b"))?;
    let both: Vec<usize> = second.iter().map(|&a| first[a]).collect();
    Some(transpose(graph, x, &both))
}

fn transpose_nothing(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let x = variable(subst, "?x");
    let axes = permutation(graph, x, variable(subst, "?a"))?;
    axes.iter().enumerate().all(|(i, &a)| i == a).then_some(x)
}

fn reshape_twice(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let (x, attrs) = (variable(subst, "?x"), variable(subst, "?b"));
    let ReshapeAttrs { newshape, allowzero } = graph[attrs].data.attrs()?.read();
    // 0 and -2 and so on speak of the argument's own dimensions, which are others now.
    let speaks_of_itself = newshape.iter().any(|&n| n < -1 || (n == 0 && !allowzero));
    let node = Node { head: Head::Op(Op(&RESHAPE)), children: [x, attrs].into_iter().collect() };
    (!speaks_of_itself).then(|| graph.add(node))
}
