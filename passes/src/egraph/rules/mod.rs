//! Rules: themed tables of rewrites, each with what must hold and what it may do to floats.
//!
//! Both sides are S-expressions over the names of the op table, attributes last. A rule never
//! changes a type: where the right side would have another one it does not fire.

mod activation;
mod algebra;
mod attention;
mod layout;
mod make;
mod norm;
mod parallel;
mod quantised;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use egg::{
    Applier, ENodeOrVar, Id, Language, Pattern, PatternAst, Rewrite, SearchMatches, Subst, Symbol, Var,
};
use fermata_ir::scalar::Scalar;
use fermata_ir::types::{DType, Type};

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

/// What makes something of all matches of a rule, each a class and what the variables stand for.
pub type Merge = fn(&mut Graph, &[(Id, &Subst)]) -> Vec<(Id, Id)>;

/// The right side of a rule.
pub enum To {
    /// A pattern over the variables of the left side.
    Pattern(&'static str),
    /// What a function makes of the match, if anything.
    Made(fn(&mut Graph, &Subst) -> Option<Id>),
    /// What a function makes of all matches together: a class, and what is equal to it.
    Together(Merge),
}

/// A condition on a variable of the left side.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// A constant all of whose elements are this number.
    Splat(&'static str, f64),
    /// A constant all of whose elements are this number, but for the rounding of an importer.
    Near(&'static str, f64),
    /// A constant whose elements are -0 if they are floats and 0 if they are not: what addition ignores.
    AddsNothing(&'static str),
    /// A constant.
    Constant(&'static str),
    /// A constant of one element.
    Scalar(&'static str),
    /// Of floats.
    Float(&'static str),
    /// Of floats whose range is that of float32 or more: a factor may move without overflow.
    Wide(&'static str),
    /// Of floats or signed integers.
    Signed(&'static str),
}

/// Every rule, theme by theme.
pub const THEMES: &[(&str, &[Rule])] = &[
    ("algebra", algebra::RULES),
    ("layout", layout::RULES),
    ("norm", norm::RULES),
    ("activation", activation::RULES),
    ("attention", attention::RULES),
    ("quantised", quantised::RULES),
    ("parallel", parallel::RULES),
];

/// The rules as egg wants them; of floats only those up to a class. They are made once for all programs.
///
/// # Panics
/// If a side of a rule does not parse, which the tests of the tables rule out.
pub fn compiled(class: FloatClass) -> &'static [Rewrite<Node, Knowledge>] {
    static EXACT: OnceLock<Vec<Rewrite<Node, Knowledge>>> = OnceLock::new();
    static ALGEBRAIC: OnceLock<Vec<Rewrite<Node, Knowledge>>> = OnceLock::new();
    static APPROXIMATE: OnceLock<Vec<Rewrite<Node, Knowledge>>> = OnceLock::new();
    let rules = match class {
        FloatClass::Exact => &EXACT,
        FloatClass::Algebraic => &ALGEBRAIC,
        FloatClass::Approximate => &APPROXIMATE,
    };
    rules.get_or_init(|| all().map(|rule| compile_rule(rule, class)).collect())
}

/// The rules of all themes.
fn all() -> impl Iterator<Item = &'static Rule> {
    THEMES.iter().flat_map(|(_, rules)| rules.iter())
}

fn compile_rule(rule: &'static Rule, class: FloatClass) -> Rewrite<Node, Knowledge> {
    let pattern = |text: &str| text.parse::<Pattern<Node>>().expect("the sides of a rule are patterns");
    let right = match rule.to {
        To::Pattern(text) => Right::Pattern(pattern(text)),
        To::Made(made) => Right::Made(made),
        To::Together(made) => Right::Together(made),
    };
    let when = rule.when.iter().map(|when| (when.var(), *when)).collect();
    let apply = Apply { rule, right, when, class };
    Rewrite::new(rule.name, pattern(rule.from), apply).expect("the right side names variables of the left")
}

impl When {
    fn var(self) -> Var {
        let (When::Splat(name, _)
        | When::Near(name, _)
        | When::AddsNothing(name)
        | When::Constant(name)
        | When::Scalar(name)
        | When::Float(name)
        | When::Wide(name)
        | When::Signed(name)) = self;
        name.parse().expect("conditions name variables")
    }

    fn holds(self, facts: &Facts) -> bool {
        match self {
            When::Constant(_) => facts.constant().is_some(),
            When::Scalar(_) => facts.constant().is_some_and(|c| c.len() == 1),
            When::Near(_, number) => splat(facts).is_some_and(|s| is_near(s, number)),
            When::Wide(_) => {
                facts.tensor().is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64 | DType::BF16))
            }
            When::Float(_) => facts.tensor().is_some_and(|t| t.dtype.is_float()),
            When::Signed(_) => facts.tensor().is_some_and(|t| t.dtype.is_float() || t.dtype.is_signed_int()),
            When::Splat(_, number) => splat(facts).is_some_and(|s| s.as_f64() == number),
            When::AddsNothing(_) => splat(facts).is_some_and(|s| {
                s.as_f64() == 0.0 && (!s.dtype().is_float() || s.as_f64().is_sign_negative())
            }),
        }
    }
}

/// True if a number of a program stands for a real number that its dtype only comes close to; many
/// come from float32.
fn is_near(found: Scalar, number: f64) -> bool {
    let close = match found.dtype() {
        DType::BF16 => 1.0 / 128.0,
        DType::F16 => 1.0 / 1024.0,
        _ => 2e-7,
    };
    found.dtype().is_float() && (found.as_f64() - number).abs() <= close * number.abs()
}

enum Right {
    Pattern(Pattern<Node>),
    Made(fn(&mut Graph, &Subst) -> Option<Id>),
    Together(Merge),
}

/// A right side with its guards.
struct Apply {
    rule: &'static Rule,
    right: Right,
    when: Vec<(Var, When)>,
    class: FloatClass,
}

impl Apply {
    /// True if the rule may be used on a match.
    fn may(&self, graph: &Graph, class: Id, subst: &Subst) -> bool {
        let facts = &graph[class].data;
        let Some(ty) = facts.ty() else { return false };
        // What is known needs no other form; forms of constants would breed more constants.
        if facts.constant().is_some() {
            return false;
        }
        let floats = ty.as_tensor().is_none_or(|t| t.dtype.is_float());
        let allowed = !floats || self.rule.float <= self.class;
        allowed && self.when.iter().all(|(var, when)| when.holds(&graph[subst[*var]].data))
    }

    /// Says that a class is what the right side made, if the types agree and there is fuel.
    fn unite(&self, graph: &mut Graph, class: Id, made: Id) -> bool {
        if graph[made].data.ty() != graph[class].data.ty() || graph.analysis.fuel == Some(0) {
            return false;
        }
        let changed = graph.union(class, made);
        self.count(graph, changed);
        changed
    }

    fn count(&self, graph: &mut Graph, changed: bool) {
        if changed && graph.analysis.take_fuel() {
            *graph.analysis.fired.entry(self.rule.name).or_default() += 1;
            graph.analysis.last_fired = Some(self.rule.name);
        }
    }
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
        if !self.may(graph, class, subst) {
            return Vec::new();
        }
        match &self.right {
            Right::Pattern(pattern) => {
                let ty = result_type(graph, &pattern.ast, subst);
                if ty.as_ref() != graph[class].data.ty() || graph.analysis.fuel == Some(0) {
                    return Vec::new();
                }
                let changed = pattern.apply_one(graph, class, subst, ast, name);
                self.count(graph, !changed.is_empty());
                changed
            }
            Right::Made(made) => match made(graph, subst) {
                Some(id) if self.unite(graph, class, id) => vec![id],
                _ => Vec::new(),
            },
            Right::Together(made) => {
                let pairs = made(graph, &[(class, subst)]);
                pairs.into_iter().filter(|&(at, id)| self.unite(graph, at, id)).map(|(_, id)| id).collect()
            }
        }
    }

    fn apply_matches(&self, graph: &mut Graph, matches: &[SearchMatches<'_, Node>], name: Symbol) -> Vec<Id> {
        let each = matches.iter().flat_map(|m| m.substs.iter().map(|subst| (m.eclass, subst)));
        if let Right::Together(made) = &self.right {
            let fitting: Vec<(Id, &Subst)> = each.filter(|(at, subst)| self.may(graph, *at, subst)).collect();
            let pairs = made(graph, &fitting);
            return pairs
                .into_iter()
                .filter(|&(at, id)| self.unite(graph, at, id))
                .map(|(_, id)| id)
                .collect();
        }
        each.flat_map(|(class, subst)| self.apply_one(graph, class, subst, None, name)).collect()
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
