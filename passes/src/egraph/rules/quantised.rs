//! What quantisation does not change: which element is larger.

use egg::{Id, Subst};
use fermata_ir::op::OpDef;
use fermata_ir::op::quant::DequantizeAttrs;
use fermata_ir::op::reduce::{ARGMAX, ARGMIN};
use fermata_ir::op::sort::ARGSORT;

use super::super::facts::Graph;
use super::make::{call, variable};
use super::{Rule, To};
use crate::pass::FloatClass::Exact;
use crate::relay::simplify_expr::order::is_kept;

const fn rule(name: &'static str, from: &'static str, to: To) -> Rule {
    Rule { name, from, to, when: &[], float: Exact }
}

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("argmax-of-dequantized",  "(argmax (qnn.dequantize ?x ?s ?z ?q) ?a)",  To::Made(|graph, subst| places(graph, subst, &ARGMAX))),
    rule("argmin-of-dequantized",  "(argmin (qnn.dequantize ?x ?s ?z ?q) ?a)",  To::Made(|graph, subst| places(graph, subst, &ARGMIN))),
    rule("argsort-of-dequantized", "(argsort (qnn.dequantize ?x ?s ?z ?q) ?a)", To::Made(|graph, subst| places(graph, subst, &ARGSORT))),
];

/// The places of the quantised elements themselves.
fn places(graph: &mut Graph, subst: &Subst, def: &'static OpDef) -> Option<Id> {
    let x = variable(subst, "?x");
    let attrs: DequantizeAttrs = graph[variable(subst, "?q")].data.attrs()?.read();
    let dtype = graph[x].data.tensor()?.dtype;
    let (scale, zero) = (&graph[variable(subst, "?s")].data, &graph[variable(subst, "?z")].data);
    if !is_kept(dtype, attrs.out_dtype, scale.constant()?, zero.constant()?) {
        return None;
    }
    let order = graph[variable(subst, "?a")].data.attrs()?.clone();
    Some(call(graph, def, &[x], Some(order)))
}
