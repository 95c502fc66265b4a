//! Numbers: identities, inverses, and constants brought together.
//!
//! Sums and products commute; of associativity and distribution there is only what joins
//! constants, since the general laws multiply the nodes of a graph and find little.

use super::To::Pattern;
use super::When::{AddsNothing, Constant, Float, Signed, Splat};
use super::{Rule, To, When};
use crate::pass::FloatClass::{self, Algebraic, Exact};

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
    rule("power-half",        "(power ?x ?c)",                                   "(sqrt ?x)",                                   &[Splat("?c", 0.5)],               Algebraic),
    rule("negate-twice",      "(negative (negative ?x))",                        "?x",                                          &[],                               Exact),
    rule("subtract-negative", "(subtract ?x (negative ?y))",                     "(add ?x ?y)",                                 &[],                               Exact),
    rule("add-negative",      "(add ?x (negative ?y))",                          "(subtract ?x ?y)",                            &[],                               Exact),
    rule("subtract-constant", "(subtract ?x ?c)",                                "(add ?x (negative ?c))",                      &[Constant("?c")],                 Exact),
    rule("join-sums",         "(add (add ?x ?a) ?b)",                            "(add ?x (add ?a ?b))",                        &[Constant("?a"), Constant("?b")], Algebraic),
    rule("join-products",     "(multiply (multiply ?x ?a) ?b)",                  "(multiply ?x (multiply ?a ?b))",              &[Constant("?a"), Constant("?b")], Algebraic),
    rule("join-quotient",     "(divide (multiply ?x ?a) ?b)",                    "(multiply ?x (divide ?a ?b))",                &[Constant("?a"), Constant("?b"), Float("?x")], Algebraic),
    rule("lift-sum",          "(add (add ?x ?a) ?y)",                            "(add (add ?x ?y) ?a)",                        &[Constant("?a")],                 Algebraic),
    rule("scale-of-sum",      "(multiply (add ?x ?a) ?b)",                       "(add (multiply ?x ?b) (multiply ?a ?b))",     &[Constant("?a"), Constant("?b")], Algebraic),
    rule("factor",            "(add (multiply ?x ?c) (multiply ?y ?c))",         "(multiply (add ?x ?y) ?c)",                   &[],                               Algebraic),
    rule("factor-quotient",   "(add (divide ?x ?c) (divide ?y ?c))",             "(divide (add ?x ?y) ?c)",                     &[Float("?x")],                    Algebraic),
    rule("relu-twice",        "(nn.relu (nn.relu ?x))",                          "(nn.relu ?x)",                                &[],                               Exact),
    rule("abs-twice",         "(abs (abs ?x))",                                  "(abs ?x)",                                    &[],                               Exact),
    rule("abs-of-negative",   "(abs (negative ?x))",                             "(abs ?x)",                                    &[Signed("?x")],                   Exact),
    rule("not-twice",         "(logical_not (logical_not ?x))",                  "?x",                                          &[],                               Exact),
    rule("max-with-itself",   "(maximum ?x ?x)",                                 "?x",                                          &[],                               Exact),
    rule("min-with-itself",   "(minimum ?x ?x)",                                 "?x",                                          &[],                               Exact),
];
