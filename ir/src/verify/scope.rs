//! R3: every use of a variable is inside the scope of its binder.
//!
//! A program is a graph, so a node may stand in several scopes and must be well scoped in each.
//! Walking it once a place would take exponential time. Instead a node remembers the innermost
//! scope that it needs; where it is met again, that scope must be open. Scopes are opened once
//! each, so if the innermost one is open, so are those around it. For a node that binds
//! variables itself what it needs of the outside is first overestimated, as everything that was
//! open around it, and found out exactly only if that turns out to be too much.

use std::collections::HashMap;

use super::Report;
use crate::entity::SecondaryMap;
use crate::expr::{Expr, ExprId, Module, VarId};
use crate::walk;

/// A scope: how many are open around it, and its number in order of opening.
#[derive(Clone, Copy, PartialEq)]
struct Scope {
    depth: usize,
    serial: u32,
}

/// What a node needs: the innermost scope, if it needs any.
#[derive(Clone, Copy)]
struct Need {
    scope: Option<Scope>,
    exact: bool,
}

enum Step {
    Visit(ExprId),
    Open(Vec<VarId>),
    Close,
    Done(ExprId),
}

struct Checker<'r, 'm> {
    report: &'r mut Report<'m>,
    module: &'m Module,
    /// The serial numbers of the open scopes, outermost first.
    open: Vec<u32>,
    serial: u32,
    scope_of: SecondaryMap<VarId, Option<Scope>>,
    needs: HashMap<ExprId, Need>,
    /// What the nodes whose operands are being visited need so far, and the number of scopes
    /// that were open when each was begun.
    pending: Vec<(Option<Scope>, usize)>,
    steps: Vec<Step>,
}

pub(super) fn check(report: &mut Report<'_>) {
    let module = report.module;
    let mut checker = Checker {
        report,
        module,
        open: Vec::new(),
        serial: 0,
        scope_of: SecondaryMap::new(),
        needs: HashMap::new(),
        pending: Vec::new(),
        steps: Vec::new(),
    };
    for (_, func) in module.functions() {
        checker.steps.extend([Step::Close, Step::Visit(func.body), Step::Open(func.params.clone())]);
        checker.run();
    }
}

impl Checker<'_, '_> {
    fn run(&mut self) {
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Open(vars) => self.open(&vars),
                Step::Close => drop(self.open.pop()),
                Step::Visit(id) => self.visit(id),
                Step::Done(id) => self.done(id),
            }
        }
    }

    fn open(&mut self, vars: &[VarId]) {
        self.serial += 1;
        let scope = Scope { depth: self.open.len(), serial: self.serial };
        self.open.push(self.serial);
        vars.iter().for_each(|&var| self.scope_of[var] = Some(scope));
    }

    fn is_open(&self, scope: Scope) -> bool {
        self.open.get(scope.depth) == Some(&scope.serial)
    }

    /// Adds a need to the node whose operands are being visited.
    fn require(&mut self, scope: Option<Scope>) {
        if let (Some((need, _)), Some(scope)) = (self.pending.last_mut(), scope)
            && need.is_none_or(|have| have.depth < scope.depth)
        {
            *need = Some(scope);
        }
    }

    fn visit(&mut self, id: ExprId) {
        if let Some(&need) = self.needs.get(&id) {
            self.revisit(id, need);
            return;
        }
        if let Expr::Var(var) = self.module.exprs[id] {
            let scope = self.variable(id, var);
            self.needs.insert(id, Need { scope, exact: true });
            self.require(scope);
            return;
        }
        self.pending.push((None, self.open.len()));
        self.steps.push(Step::Done(id));
        let first = self.steps.len();
        self.operands(id);
        self.steps[first..].reverse();
    }

    /// The scope of a variable that is used here.
    fn variable(&mut self, id: ExprId, var: VarId) -> Option<Scope> {
        let scope = self.scope_of[var].filter(|&scope| self.is_open(scope));
        if scope.is_none() {
            let name = &self.module.vars[var].name;
            self.report.at("R3", id, format!("variable `%{name}` is used outside the scope of its binder"));
        }
        scope
    }

    /// Pushes the visits of the operands, in order, with the scopes that they stand in.
    fn operands(&mut self, id: ExprId) {
        match &self.module.exprs[id] {
            Expr::Func(func) => {
                self.steps.extend([Step::Open(func.params.clone()), Step::Visit(func.body), Step::Close]);
            }
            Expr::Let { var, value, body } => {
                let (open, value_step) = (Step::Open(vec![*var]), Step::Visit(*value));
                match self.module.exprs[*value] {
                    Expr::Func(_) => self.steps.extend([open, value_step]),
                    _ => self.steps.extend([value_step, open]),
                }
                self.steps.extend([Step::Visit(*body), Step::Close]);
            }
            Expr::Match { value, clauses, .. } => {
                self.steps.push(Step::Visit(*value));
                for clause in clauses {
                    let vars = walk::pattern_vars(&clause.pattern).to_vec();
                    self.steps.extend([Step::Open(vars), Step::Visit(clause.body), Step::Close]);
                }
            }
            expr => walk::for_each_child(expr, |child| self.steps.push(Step::Visit(child))),
        }
    }

    fn done(&mut self, id: ExprId) {
        let Some((need, open)) = self.pending.pop() else { return };
        let need = match need {
            // Some of what it needs it binds itself; the rest is anything that was open around it.
            Some(scope) if scope.depth >= open => {
                let scope = open.checked_sub(1).map(|depth| Scope { depth, serial: self.open[depth] });
                Need { scope, exact: false }
            }
            scope => Need { scope, exact: true },
        };
        self.needs.insert(id, need);
        self.require(need.scope);
    }

    /// A node that is met again, perhaps in another scope.
    fn revisit(&mut self, id: ExprId, need: Need) {
        let satisfied = need.scope.is_none_or(|scope| self.is_open(scope));
        if satisfied {
            self.require(need.scope);
            return;
        }
        let mut scope: Option<Scope> = None;
        let mut well_scoped = true;
        for var in walk::free_vars(self.module, id) {
            let found = self.variable(id, var);
            well_scoped &= found.is_some();
            if scope.is_none_or(|have| found.is_some_and(|found| found.depth > have.depth)) {
                scope = found;
            }
        }
        if well_scoped && !need.exact {
            self.needs.insert(id, Need { scope, exact: true });
        }
        self.require(scope);
    }
}
