//! Rules: themed tables of rewrites, each with what must hold and what it may do to floats.
//!
//! Both sides are S-expressions over the names of the op table, attributes last. A rule never
//! changes a type: where the right side would have another one it does not fire.

mod algebra;
mod layout;
mod norm;

#[cfg(test)]
mod tests;

use egg::{Applier, ENodeOrVar, Id, Language, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};
use fermata_ir::types::Type;

use super::facts::{Facts, Graph, Knowledge, infer, splat};
use super::lang::Node;
use crate::pass::FloatClass;

/// A row of a table.
pub struct Rule {
    /// The name, in remarks and statistics.
    pub name: &'static str,
    /// What it looks for.
    pub from: &'static str,
    /// What is equal to it.
    pub to: To,
    /// What must hold.
    pub when: &'static [When],
    /// What it does to floating-point results; on integers every rule is exact.
    pub float: FloatClass,
}

/// The right side of a rule.
pub enum To {
    /// A pattern over the variables of the left side.
    Pattern(&'static str),
    /// What a function makes of the match, if anything.
    Made(fn(&mut Graph, &Subst) -> Option<Id>),
}

/// A condition on a variable of the left side.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// A constant all of whose elements are this number.
    Splat(&'static str, f64),
    /// A constant whose elements are -0 if they are floats and 0 if they are not: what addition ignores.
    AddsNothing(&'static str),
    /// A constant.
    Constant(&'static str),
    /// Of floats.
    Float(&'static str),
    /// Of floats or signed integers.
    Signed(&'static str),
}

/// Every rule, theme by theme.
pub const THEMES: &[(&str, &[Rule])] =
    &[("algebra", algebra::RULES), ("layout", layout::RULES), ("norm", norm::RULES)];

/// The rules as egg wants them; algebraic ones only if asked for.
///
/// # Panics
/// If a side of a rule does not parse, which the tests of the tables rule out.
pub fn compile(algebraic: bool) -> Vec<Rewrite<Node, Knowledge>> {
    all().map(|rule| compile_rule(rule, algebraic)).collect()
}

/// The rules of all themes.
fn all() -> impl Iterator<Item = &'static Rule> {
    THEMES.iter().flat_map(|(_, rules)| rules.iter())
}

fn compile_rule(rule: &'static Rule, algebraic: bool) -> Rewrite<Node, Knowledge> {
    let pattern = |text: &str| text.parse::<Pattern<Node>>().expect("the sides of a rule are patterns");
    let right = match rule.to {
        To::Pattern(text) => Right::Pattern(pattern(text)),
        To::Made(made) => Right::Made(made),
    };
    let when = rule.when.iter().map(|when| (when.var(), *when)).collect();
    let apply = Apply { rule, right, when, algebraic };
    Rewrite::new(rule.name, pattern(rule.from), apply).expect("the right side names variables of the left")
}

impl When {
    fn var(self) -> Var {
        let (When::Splat(name, _)
        | When::AddsNothing(name)
        | When::Constant(name)
        | When::Float(name)
        | When::Signed(name)) = self;
        name.parse().expect("conditions name variables")
    }

    fn holds(self, facts: &Facts) -> bool {
        match self {
            When::Constant(_) => facts.constant().is_some(),
            When::Float(_) => facts.tensor().is_some_and(|t| t.dtype.is_float()),
            When::Signed(_) => facts.tensor().is_some_and(|t| t.dtype.is_float() || t.dtype.is_signed_int()),
            When::Splat(_, number) => splat(facts).is_some_and(|s| s.as_f64() == number),
            When::AddsNothing(_) => splat(facts).is_some_and(|s| {
                s.as_f64() == 0.0 && (!s.dtype().is_float() || s.as_f64().is_sign_negative())
            }),
        }
    }
}

enum Right {
    Pattern(Pattern<Node>),
    Made(fn(&mut Graph, &Subst) -> Option<Id>),
}

/// A right side with its guards.
struct Apply {
    rule: &'static Rule,
    right: Right,
    when: Vec<(Var, When)>,
    algebraic: bool,
}

impl Applier<Node, Knowledge> for Apply {
    fn apply_one(
        &self,
        graph: &mut Graph,
        class: Id,
        subst: &Subst,
        ast: Option<&PatternAst<Node>>,
        name: Symbol,
    ) -> Vec<Id> {
        let Some(ty) = graph[class].data.ty().cloned() else { return Vec::new() };
        let floats = ty.as_tensor().is_none_or(|t| t.dtype.is_float());
        let allowed = !floats || self.rule.float == FloatClass::Exact || self.algebraic;
        let fits = |graph: &Graph| self.when.iter().all(|(var, when)| when.holds(&graph[subst[*var]].data));
        if !allowed || !fits(graph) {
            return Vec::new();
        }
        let changed = match &self.right {
            Right::Pattern(pattern) if result_type(graph, &pattern.ast, subst).as_ref() == Some(&ty) => {
                if graph.analysis.fuel == Some(0) {
                    return Vec::new();
                }
                pattern.apply_one(graph, class, subst, ast, name)
            }
            Right::Pattern(_) => Vec::new(),
            Right::Made(made) => match made(graph, subst) {
                Some(id) if graph[id].data.ty() == Some(&ty) && graph.analysis.fuel != Some(0) => {
                    if graph.union(class, id) { vec![id] } else { Vec::new() }
                }
                _ => Vec::new(),
            },
        };
        if !changed.is_empty() && graph.analysis.take_fuel() {
            *graph.analysis.fired.entry(self.rule.name).or_default() += 1;
            graph.analysis.last_fired = Some(self.rule.name);
        }
        changed
    }
}

/// The type that a pattern would have, found without adding anything.
fn result_type(graph: &Graph, ast: &PatternAst<Node>, subst: &Subst) -> Option<Type> {
    let mut facts: Vec<Facts> = Vec::with_capacity(ast.as_ref().len());
    for part in ast.as_ref() {
        let of_part = match part {
            ENodeOrVar::Var(var) => graph[subst[*var]].data.clone(),
            ENodeOrVar::ENode(node) => {
                let operands: Vec<&Facts> = node.children().iter().map(|&c| &facts[usize::from(c)]).collect();
                infer(&graph.analysis, node.head, &operands)?
            }
        };
        facts.push(of_part);
    }
    facts.last()?.ty().cloned()
}
