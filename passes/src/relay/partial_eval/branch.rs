//! Conditionals and matches: the known one is taken, of others every arm is interpreted.

use std::collections::BTreeSet;

use fermata_ir::expr::{Clause, Expr, ExprId, MatchPattern, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::machine::{Machine, Task};
use super::value::{Known, Value};

/// A branch of which it is not known where it goes, arm after arm.
pub struct Branching {
    origin: ExprId,
    name: Option<VarId>,
    /// The condition, or what is taken apart.
    on: Value,
    /// For a match, whether it covers every case.
    complete: Option<bool>,
    /// Arms that are left, the next one last, with what they bind.
    left: Vec<(Option<MatchPattern>, ExprId)>,
    patterns: Vec<Option<MatchPattern>>,
    bodies: Vec<ExprId>,
    /// Where the journal of the cells stood.
    mark: usize,
    written: BTreeSet<usize>,
}

/// Whether a pattern fits.
enum Fit {
    Yes(Vec<(VarId, Value)>),
    No,
    Unknown,
}

impl Machine<'_> {
    /// Evaluates a conditional.
    pub fn branch(&mut self, expr: ExprId, cond: ExprId, arms: [ExprId; 2], name: Option<VarId>) {
        let on = self.operand(cond);
        let atom = self.facts[on].atom;
        let truth = match self.known(on) {
            Known::Constant => self.module.as_const(atom).and_then(|t| Some(*t.bytes().first()? != 0)),
            _ => None,
        };
        if let Some(truth) = truth
            && self.context.fire("take a known branch", self.module, expr)
        {
            return self.tasks.push(Task::Run(arms[usize::from(!truth)]));
        }
        let left = vec![(None, arms[1]), (None, arms[0])];
        self.begin(expr, name, on, None, left);
    }

    /// Evaluates a match.
    pub fn select(
        &mut self,
        expr: ExprId,
        value: ExprId,
        clauses: Vec<Clause>,
        complete: bool,
        name: Option<VarId>,
    ) {
        let on = self.operand(value);
        for clause in &clauses {
            match self.fit(&clause.pattern, on) {
                Fit::No => {}
                Fit::Yes(bound) if self.context.fire("take a known arm", self.module, expr) => {
                    bound.into_iter().for_each(|(var, value)| self.bind(var, value));
                    return self.tasks.push(Task::Run(clause.body));
                }
                Fit::Yes(_) | Fit::Unknown => break,
            }
        }
        let left = clauses.into_iter().rev().map(|c| (Some(c.pattern), c.body)).collect();
        self.begin(expr, name, on, Some(complete), left);
    }

    fn fit(&self, pattern: &MatchPattern, value: Value) -> Fit {
        let (mut bound, mut stack) = (Vec::new(), vec![(pattern, value)]);
        while let Some((pattern, value)) = stack.pop() {
            match (pattern, self.known(value)) {
                (MatchPattern::Wildcard, _) => {}
                (MatchPattern::Var(var), _) => bound.push((*var, value)),
                (MatchPattern::Tuple(patterns), Known::Tuple(fields)) if patterns.len() == fields.len() => {
                    stack.extend(patterns.iter().zip(fields.iter().copied()));
                }
                (MatchPattern::Ctor(ctor, patterns), Known::Data(made, fields)) => {
                    if ctor != made {
                        return Fit::No;
                    }
                    stack.extend(patterns.iter().zip(fields.iter().copied()));
                }
                (MatchPattern::Tuple(_) | MatchPattern::Ctor(..), _) => return Fit::Unknown,
            }
        }
        Fit::Yes(bound)
    }

    fn begin(
        &mut self,
        origin: ExprId,
        name: Option<VarId>,
        on: Value,
        complete: Option<bool>,
        left: Vec<(Option<MatchPattern>, ExprId)>,
    ) {
        let (patterns, bodies, mark, written) = (Vec::new(), Vec::new(), self.store.mark(), BTreeSet::new());
        self.depth += 1;
        self.next(Branching { origin, name, on, complete, left, patterns, bodies, mark, written });
    }

    /// Goes on with the next arm, or emits the branch.
    fn next(&mut self, mut branching: Branching) {
        if let Some((pattern, body)) = branching.left.pop() {
            let pattern = pattern.map(|pattern| self.renamed(pattern, branching.origin));
            branching.patterns.push(pattern);
            self.blocks.push(Vec::new());
            self.tasks.push(Task::Arm(Box::new(branching)));
            return self.tasks.push(Task::Run(body));
        }
        self.depth -= 1;
        let Branching { origin, name, on, complete, patterns, bodies, written, .. } = branching;
        written.into_iter().for_each(|cell| self.store.write(cell, None));
        let on = self.atom(on);
        let expr = match complete {
            None => Expr::If { cond: on, then: bodies[0], els: bodies[1] },
            Some(complete) => {
                let clauses = patterns.into_iter().zip(bodies);
                let clauses = clauses.filter_map(|(pattern, body)| Some(Clause { pattern: pattern?, body }));
                Expr::Match { value: on, clauses: clauses.collect(), complete }
            }
        };
        let value = self.emit(expr, name, origin, Known::Nothing);
        self.give(value);
    }

    /// Ends an arm.
    pub fn arm(&mut self, mut branching: Branching) {
        let value = self.taken();
        let body = self.close(value);
        branching.bodies.push(body);
        branching.written.extend(self.store.undo(branching.mark));
        self.next(branching);
    }

    /// A pattern whose variables are bound anew, to values of which nothing is known.
    fn renamed(&mut self, mut pattern: MatchPattern, origin: ExprId) -> MatchPattern {
        let mut bound = Vec::new();
        walk::map_pattern_vars(&mut pattern, |old| {
            let new = self.module.var(self.module.vars[old].name.clone(), Type::Unknown);
            bound.push((old, new));
            new
        });
        for (old, new) in bound {
            let value = self.variable(new, origin);
            self.bind(old, value);
        }
        pattern
    }
}
