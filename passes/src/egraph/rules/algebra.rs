//! Numbers: identities, inverses, and constants brought together.
//!
//! Sums and products commute; of associativity and distribution there is only what joins
//! constants, since the general laws multiply the nodes of a graph and find little.

use super::To::Pattern;
use egg::{Id, Subst};
use fermata_ir::op::broadcast::{ADD, DIVIDE, MULTIPLY};
use fermata_ir::types::DType;

use super::super::facts::Graph;
use super::When::{AddsNothing, Constant, Float, Signed, Splat};
use super::make::{call, number, variable};
use super::{Rule, To, When};
use crate::pass::FloatClass::{self, Algebraic, Approximate, Exact};
use crate::relay::elements::scalars;

const fn rule(
    name: &'static str,
    from: &'static str,
    to: &'static str,
    when: &'static [When],
    float: FloatClass,
) -> Rule {
    let to: To = Pattern(to);
    Rule { name, from, to, when, float }
}

const fn made(
    name: &'static str,
    from: &'static str,
    to: fn(&mut Graph, &Subst) -> Option<Id>,
    when: &'static [When],
    float: FloatClass,
) -> Rule {
    Rule { name, from, to: To::Made(to), when, float }
}

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("add-commutes",      "(add ?x ?y)",                                     "(add ?y ?x)",                                 &[],                               Exact),
    rule("mul-commutes",      "(multiply ?x ?y)",                                "(multiply ?y ?x)",                            &[],                               Exact),
    rule("add-nothing",       "(add ?x ?c)",                                     "?x",                                          &[AddsNothing("?c")],              Exact),
    rule("add-zero",          "(add ?x ?c)",                                     "?x",                                          &[Splat("?c", 0.0)],               Algebraic),
    rule("mul-one",           "(multiply ?x ?c)",                                "?x",                                          &[Splat("?c", 1.0)],               Exact),
    rule("div-one",           "(divide ?x ?c)",                                  "?x",                                          &[Splat("?c", 1.0)],               Exact),
    rule("power-one",         "(power ?x ?c)",                                   "?x",                                          &[Splat("?c", 1.0)],               Exact),
    rule("power-two",         "(power ?x ?c)",                                   "(multiply ?x ?x)",                            &[Splat("?c", 2.0)],               Algebraic),
    rule("power-three",       "(power ?x ?c)",                                   "(multiply ?x (multiply ?x ?x))",              &[Splat("?c", 3.0), Float("?x")],  Algebraic),
    rule("power-half",        "(power ?x ?c)",                                   "(sqrt ?x)",                                   &[Splat("?c", 0.5)],               Algebraic),
    rule("negate-twice",      "(negative (negative ?x))",                        "?x",                                          &[],                               Exact),
    rule("subtract-negative", "(subtract ?x (negative ?y))",                     "(add ?x ?y)",                                 &[],                               Exact),
    rule("add-negative",      "(add ?x (negative ?y))",                          "(subtract ?x ?y)",                            &[],                               Exact),
    rule("subtract-constant", "(subtract ?x ?c)",                                "(add ?x (negative ?c))",                      &[Constant("?c")],                 Exact),
    rule("join-sums",         "(add (add ?x ?a) ?b)",                            "(add ?x (add ?a ?b))",                        &[Constant("?a"), Constant("?b")], Algebraic),
    rule("join-products",     "(multiply (multiply ?x ?a) ?b)",                  "(multiply ?x (multiply ?a ?b))",              &[Constant("?a"), Constant("?b")], Algebraic),
    rule("join-quotient",     "(divide (multiply ?x ?a) ?b)",                    "(multiply ?x (divide ?a ?b))",                &[Constant("?a"), Constant("?b"), Float("?x")], Algebraic),
    rule("join-difference",   "(add (subtract ?a ?x) ?b)",                       "(subtract (add ?a ?b) ?x)",                   &[Constant("?a"), Constant("?b")], Algebraic),
    made("divide-constant",   "(divide ?x ?c)",                                  times_reciprocal,                              &[Constant("?c"), Float("?x")],    Algebraic),
    rule("lift-product",      "(multiply (multiply ?x ?a) ?y)",                  "(multiply (multiply ?x ?y) ?a)",              &[Constant("?a")],                 Algebraic),
    rule("lift-difference",   "(subtract ?x (add ?y ?a))",                       "(add (subtract ?x ?y) (negative ?a))",        &[Constant("?a")],                 Algebraic),
    rule("lift-sum",          "(add (add ?x ?a) ?y)",                            "(add (add ?x ?y) ?a)",                        &[Constant("?a")],                 Algebraic),
    rule("scale-of-sum",      "(multiply (add ?x ?a) ?b)",                       "(add (multiply ?x ?b) (multiply ?a ?b))",     &[Constant("?a"), Constant("?b")], Algebraic),
    rule("factor",            "(add (multiply ?x ?c) (multiply ?y ?c))",         "(multiply (add ?x ?y) ?c)",                   &[],                               Algebraic),
    rule("factor-quotient",   "(add (divide ?x ?c) (divide ?y ?c))",             "(divide (add ?x ?y) ?c)",                     &[Float("?x")],                    Algebraic),
    made("factor-one",        "(add ?x (multiply ?x ?y))",                       factor_one,                                    &[],                               Algebraic),
    rule("max-constants",     "(maximum (maximum ?x ?a) ?b)",                    "(maximum ?x (maximum ?a ?b))",                &[Constant("?a"), Constant("?b")], Exact),
    rule("min-constants",     "(minimum (minimum ?x ?a) ?b)",                    "(minimum ?x (minimum ?a ?b))",                &[Constant("?a"), Constant("?b")], Exact),
    rule("rsqrt",             "(divide ?x (sqrt ?y))",                           "(multiply ?x (rsqrt ?y))",                    &[Float("?x")],                    Approximate),
    rule("binomial",          "(add (add (multiply ?x ?x) (multiply (multiply ?x ?y) ?c)) (multiply ?y ?y))", "(multiply (add ?x ?y) (add ?x ?y))", &[Splat("?c", 2.0)], Approximate),
    rule("binomial-last",     "(add (add (multiply ?x ?x) (multiply ?y ?y)) (multiply (multiply ?x ?y) ?c))", "(multiply (add ?x ?y) (add ?x ?y))", &[Splat("?c", 2.0)], Approximate),
    rule("relu-twice",        "(nn.relu (nn.relu ?x))",                          "(nn.relu ?x)",                                &[],                               Exact),
    rule("abs-twice",         "(abs (abs ?x))",                                  "(abs ?x)",                                    &[],                               Exact),
    rule("abs-of-negative",   "(abs (negative ?x))",                             "(abs ?x)",                                    &[Signed("?x")],                   Exact),
    rule("not-twice",         "(logical_not (logical_not ?x))",                  "?x",                                          &[],                               Exact),
    rule("max-with-itself",   "(maximum ?x ?x)",                                 "?x",                                          &[],                               Exact),
    rule("min-with-itself",   "(minimum ?x ?x)",                                 "?x",                                          &[],                               Exact),
];

/// `x * (1 / c)`, where every reciprocal is a normal number.
fn times_reciprocal(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let (x, divisor) = (variable(subst, "?x"), variable(subst, "?c"));
    let one = number(graph, divisor, 1.0)?;
    let reciprocal = call(graph, &DIVIDE, &[one, divisor], None);
    let tensor = graph[reciprocal].data.constant()?;
    let least = match tensor.dtype() {
        DType::F16 => 6.2e-5,
        _ => 1.2e-38,
    };
    let normal = |s: f64| s.is_finite() && s.abs() >= least;
    let all_normal = scalars(tensor).all(|s| normal(s.as_f64()));
    all_normal.then(|| call(graph, &MULTIPLY, &[x, reciprocal], None))
}

/// `x * (y + 1)`.
fn factor_one(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let (x, y) = (variable(subst, "?x"), variable(subst, "?y"));
    let one = number(graph, y, 1.0)?;
    let factor = call(graph, &ADD, &[y, one], None);
    Some(call(graph, &MULTIPLY, &[x, factor], None))
}
