//! Recognition of activations that an exporter wrote out.
//!
//! Divisions by constants are products ([`algebra`](super::algebra)), and constants move out of
//! products and sums there, so that few forms are left of all that are in use: GELU is
//! `x * (erf(x / sqrt(2)) + 1) / 2`, which the schedules know, and with the hyperbolic tangent in
//! place of the error function it is a product with a sigmoid, which takes two operators less.

use std::f64::consts::FRAC_1_SQRT_2;

use egg::{Id, Subst};
use fermata_ir::op::broadcast::{ADD, MULTIPLY};
use fermata_ir::op::elemwise::{ERF, SIGMOID};

use super::super::facts::Graph;
use super::When::{Float, Near, Splat};
use super::make::{call, node, number, variable};
use super::{Rule, To, When};
use crate::pass::FloatClass::Algebraic;

const fn rule(name: &'static str, from: &'static str, to: To, when: &'static [When]) -> Rule {
    Rule { name, from, to, when, float: Algebraic }
}

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("gelu",         "(multiply ?x (add (multiply (erf (multiply ?x ?s)) ?h) ?h))",    To::Made(gelu),                   &[Near("?s", FRAC_1_SQRT_2), Splat("?h", 0.5)]),
    rule("half-tanh",    "(multiply (add (tanh ?u) ?o) ?h)",                               To::Made(half_tanh),              &[Splat("?o", 1.0), Splat("?h", 0.5)]),
    rule("gelu-tanh",    "(multiply (multiply ?x (add (tanh ?u) ?o)) ?h)",                 To::Made(times_half_tanh),        &[Splat("?o", 1.0), Splat("?h", 0.5)]),
    rule("factor-cube",  "(add ?x (multiply (multiply ?x (multiply ?x ?x)) ?c))",          To::Made(factor_cube),            &[When::Scalar("?c"), Float("?x")]),
    rule("sigmoid",      "(divide ?o (add ?p (exp (negative ?x))))",                       To::Pattern("(sigmoid ?x)"),      &[Splat("?o", 1.0), Splat("?p", 1.0)]),
];

/// `x * (erf(x * s) + 1) * h`, a form that a kernel knows.
fn gelu(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let (x, scale, half) = (variable(subst, "?x"), variable(subst, "?s"), variable(subst, "?h"));
    let one = number(graph, x, 1.0)?;
    let inner = call(graph, &MULTIPLY, &[x, scale], None);
    let erf = call(graph, &ERF, &[inner], None);
    let share = call(graph, &ADD, &[erf, one], None);
    let product = call(graph, &MULTIPLY, &[x, share], None);
    let whole = node(graph, &MULTIPLY, &[product, half], None);
    graph.analysis.preferred.insert(whole.clone());
    Some(graph.add(whole))
}

/// `sigmoid(u * 2)`, which is half of `tanh(u) + 1`.
fn half_tanh(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let u = variable(subst, "?u");
    let two = number(graph, u, 2.0)?;
    let twice = call(graph, &MULTIPLY, &[u, two], None);
    Some(call(graph, &SIGMOID, &[twice], None))
}

fn times_half_tanh(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let share = half_tanh(graph, subst)?;
    Some(call(graph, &MULTIPLY, &[variable(subst, "?x"), share], None))
}

/// `x * (x * x * c + 1)`.
fn factor_cube(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let x = variable(subst, "?x");
    let one = number(graph, x, 1.0)?;
    let square = call(graph, &MULTIPLY, &[x, x], None);
    let scaled = call(graph, &MULTIPLY, &[square, variable(subst, "?c")], None);
    let factor = call(graph, &ADD, &[scaled, one], None);
    Some(call(graph, &MULTIPLY, &[x, factor], None))
}
