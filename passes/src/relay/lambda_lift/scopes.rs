//! In which function each variable is bound and used: what closures capture, found for all of them in
//! one walk, however deep they stand in each other.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, GlobalId, Module, VarId};
use fermata_ir::walk;

/// The most variables that a closure is known to capture.
const MAX_CAPTURED: usize = 1024;

/// Every function of a program, global ones first.
pub struct Scopes {
    /// Every expression that a live function reaches, operands first.
    pub order: Vec<ExprId>,
    scopes: Vec<Scope>,
    /// The scope that a function opens.
    opened: BTreeMap<ExprId, usize>,
    /// Where an expression stands that is a function or binds variables, or has such an operand. The
    /// others may stand in several functions.
    places: SecondaryMap<ExprId, Option<usize>>,
    /// The scope that binds a variable.
    homes: BTreeMap<VarId, usize>,
}

struct Scope {
    /// The global function that it is, or stands in.
    owner: GlobalId,
    parent: Option<usize>,
    depth: usize,
    /// True if something that binds variables stands in this function and outside of it too.
    shares: bool,
    captured: Vec<VarId>,
    known: BTreeSet<VarId>,
}

impl Scopes {
    /// Those of a program.
    pub fn of(module: &Module) -> Scopes {
        let mut found = Scopes {
            order: walk::reachable(module),
            scopes: Vec::new(),
            opened: BTreeMap::new(),
            places: SecondaryMap::new(),
            homes: BTreeMap::new(),
        };
        let mut binding: SecondaryMap<ExprId, bool> = SecondaryMap::new();
        for &expr in &found.order {
            let expression = &module.exprs[expr];
            let mut binds = matches!(expression, Expr::Func(_)) || !walk::bound_vars(expression).is_empty();
            walk::for_each_child(expression, |child| binds |= binding[child]);
            binding[expr] = binds;
        }
        found.place(module, &binding);
        found.capture(module, &binding);
        found
    }

    /// The variables that a function takes from outside of it, in order of their first use; `None` if they
    /// are too many.
    pub fn captured(&self, func: ExprId) -> Option<&[VarId]> {
        let scope = &self.scopes[*self.opened.get(&func)?];
        (scope.captured.len() <= MAX_CAPTURED).then_some(&scope.captured)
    }

    /// True if something in a function binds variables and stands outside of it too: as two functions they
    /// would bind those variables twice.
    pub fn shares_binders(&self, func: ExprId) -> bool {
        self.opened.get(&func).is_some_and(|&scope| self.scopes[scope].shares)
    }

    /// The global function that a function stands in.
    pub fn owner(&self, func: ExprId) -> Option<GlobalId> {
        Some(self.scopes[*self.opened.get(&func)?].owner)
    }

    /// Finds where everything stands, users first.
    fn place(&mut self, module: &Module, binding: &SecondaryMap<ExprId, bool>) {
        for (global, func) in module.functions() {
            let scope = self.open(global, None, &func.params);
            if binding[func.body] {
                self.stands(func.body, scope);
            }
        }
        for at in (0..self.order.len()).rev() {
            let expr = self.order[at];
            let Some(outer) = self.places[expr] else { continue };
            let inner = match &module.exprs[expr] {
                Expr::Func(func) => {
                    let scope = self.open(self.scopes[outer].owner, Some(outer), &func.params);
                    self.opened.insert(expr, scope);
                    scope
                }
                other => {
                    self.homes.extend(walk::bound_vars(other).into_iter().map(|var| (var, outer)));
                    outer
                }
            };
            walk::for_each_child(&module.exprs[expr], |child| {
                if binding[child] {
                    self.stands(child, inner);
                }
            });
        }
    }

    fn open(&mut self, owner: GlobalId, parent: Option<usize>, params: &[VarId]) -> usize {
        let scope = self.scopes.len();
        let depth = parent.map_or(0, |parent| self.scopes[parent].depth + 1);
        let (captured, known) = (Vec::new(), BTreeSet::new());
        self.scopes.push(Scope { owner, parent, depth, shares: false, captured, known });
        self.homes.extend(params.iter().map(|&var| (var, scope)));
        scope
    }

    /// Notes that something stands in a scope: if it stands in another one too, it belongs to the one that
    /// holds both, and the functions between share it.
    fn stands(&mut self, expr: ExprId, scope: usize) {
        let (mut a, mut b) = (scope, self.places[expr].unwrap_or(scope));
        while a != b {
            let deeper = if self.scopes[a].depth >= self.scopes[b].depth { &mut a } else { &mut b };
            self.scopes[*deeper].shares = true;
            match self.scopes[*deeper].parent {
                Some(parent) => *deeper = parent,
                // Of two global functions; any of them will do.
                None => break,
            }
        }
        self.places[expr] = Some(a);
    }

    /// Notes every use of a variable.
    fn capture(&mut self, module: &Module, binding: &SecondaryMap<ExprId, bool>) {
        let mut seen: SecondaryMap<ExprId, Option<usize>> = SecondaryMap::new();
        for at in 0..self.order.len() {
            let expr = self.order[at];
            let Some(outer) = self.places[expr] else { continue };
            let scope = self.opened.get(&expr).copied().unwrap_or(outer);
            let mut stack = walk::children(&module.exprs[expr]);
            stack.reverse();
            while let Some(inside) = stack.pop() {
                if binding[inside] || seen[inside] == Some(scope) {
                    continue;
                }
                seen[inside] = Some(scope);
                if let Expr::Var(var) = module.exprs[inside] {
                    self.uses(scope, var);
                }
                let first = stack.len();
                walk::for_each_child(&module.exprs[inside], |child| stack.push(child));
                stack[first..].reverse();
            }
        }
    }

    /// Notes that a scope uses a variable, and that those around it do, up to the one that binds it.
    fn uses(&mut self, scope: usize, var: VarId) {
        let home = self.homes.get(&var).copied();
        let mut next = Some(scope);
        while let Some(at) = next.filter(|&at| Some(at) != home) {
            let scope = &mut self.scopes[at];
            next = scope.parent;
            if scope.captured.len() <= MAX_CAPTURED {
                if !scope.known.insert(var) {
                    return;
                }
                scope.captured.push(var);
            }
        }
    }
}
