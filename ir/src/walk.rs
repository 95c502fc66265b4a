//! The traversals of tensor-level programs; there are no others.
//!
//! A program is a graph of expressions that may be hundreds of thousands of nodes deep, so
//! every traversal here keeps its own stack. Each visits a shared node once. The order of
//! children is the order of evaluation: callee, arguments; condition, branches; value, body.

mod recursion;
mod rewrite;

pub use recursion::{CallGraph, recursive_lets};
pub use rewrite::{map_children, rewrite, rewrite_module};

use smallvec::SmallVec;

use crate::entity::{EntitySet, SecondaryMap};
use crate::expr::{Args, Callee, Expr, ExprId, Function, MatchPattern, Module, VarId};

/// Calls `f` with every direct operand, in order of evaluation.
///
/// The body of a function, the scope of a let and the arms of a match are operands too.
pub fn for_each_child(expr: &Expr, mut f: impl FnMut(ExprId)) {
    match expr {
        Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => {}
        Expr::Call(call) => {
            match call.callee {
                Callee::Expr(callee) => f(callee),
                Callee::Op(_) | Callee::Ctor(_) => {}
            }
            call.args.iter().copied().for_each(f);
        }
        Expr::Func(func) => f(func.body),
        Expr::Let { value, body, .. } => {
            f(*value);
            f(*body);
        }
        Expr::If { cond, then, els } => {
            f(*cond);
            f(*then);
            f(*els);
        }
        Expr::Tuple(fields) => fields.iter().copied().for_each(f),
        Expr::Proj { tuple, .. } => f(*tuple),
        Expr::Match { value, clauses, .. } => {
            f(*value);
            clauses.iter().for_each(|clause| f(clause.body));
        }
        Expr::Ref(value) => f(*value),
        Expr::RefRead(cell) => f(*cell),
        Expr::RefWrite { cell, value } => {
            f(*cell);
            f(*value);
        }
    }
}

/// Every direct operand, in order of evaluation.
pub fn children(expr: &Expr) -> Args {
    let mut out = Args::new();
    for_each_child(expr, |child| out.push(child));
    out
}

/// The variables that an expression itself binds: parameters, a let's binder, those of patterns.
pub fn bound_vars(expr: &Expr) -> SmallVec<[VarId; 4]> {
    match expr {
        Expr::Func(func) => SmallVec::from_slice(&func.params),
        Expr::Let { var, .. } => SmallVec::from_slice(&[*var]),
        Expr::Match { clauses, .. } => clauses.iter().flat_map(|c| pattern_vars(&c.pattern)).collect(),
        Expr::Var(_)
        | Expr::Global(_)
        | Expr::Const(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Call(_)
        | Expr::If { .. }
        | Expr::Tuple(_)
        | Expr::Proj { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => SmallVec::new(),
    }
}

/// The variables that a pattern binds, from left to right.
pub fn pattern_vars(pattern: &MatchPattern) -> SmallVec<[VarId; 4]> {
    let mut out = SmallVec::new();
    let mut stack = vec![pattern];
    while let Some(pattern) = stack.pop() {
        match pattern {
            MatchPattern::Wildcard => {}
            MatchPattern::Var(var) => out.push(*var),
            MatchPattern::Ctor(_, fields) | MatchPattern::Tuple(fields) => stack.extend(fields.iter().rev()),
        }
    }
    out
}

/// Replaces every variable that a pattern binds.
pub fn map_pattern_vars(pattern: &mut MatchPattern, mut f: impl FnMut(VarId) -> VarId) {
    let mut stack = vec![pattern];
    while let Some(pattern) = stack.pop() {
        match pattern {
            MatchPattern::Wildcard => {}
            MatchPattern::Var(var) => *var = f(*var),
            MatchPattern::Ctor(_, fields) | MatchPattern::Tuple(fields) => stack.extend(fields),
        }
    }
}

/// Every expression that the roots reach, each once, operands before their users.
///
/// Enters functions, lets, branches and arms; does not follow references to globals.
pub fn post_order(module: &Module, roots: &[ExprId]) -> Vec<ExprId> {
    let (mut walk, mut order) = (Walk::default(), Vec::new());
    roots.iter().for_each(|&root| walk.visit(module, root, |_| true, &mut order));
    order
}

/// As [`post_order`], without entering the bodies of functions: what one activation evaluates.
pub fn post_order_in_scope(module: &Module, root: ExprId) -> Vec<ExprId> {
    Walk::default().post_order(module, root, |expr| !matches!(expr, Expr::Func(_)))
}

/// Every expression that a live global function reaches; functions in order of their names.
pub fn reachable(module: &Module) -> Vec<ExprId> {
    let roots: Vec<ExprId> = module.functions().iter().map(|(_, func)| func.body).collect();
    post_order(module, &roots)
}

/// A post-order walk of several roots, one after the other: in time for all of them that is
/// proportional to the program, however many they are.
#[derive(Default)]
pub struct Walk {
    seen: EntitySet<ExprId>,
}

impl Walk {
    /// What `root` reaches and no earlier root did, each once, operands before their users; the operands
    /// of those that `enter` says no of are left out.
    pub fn post_order(
        &mut self,
        module: &Module,
        root: ExprId,
        enter: impl Fn(&Expr) -> bool,
    ) -> Vec<ExprId> {
        let mut order = Vec::new();
        self.visit(module, root, enter, &mut order);
        order
    }

    fn visit(
        &mut self,
        module: &Module,
        root: ExprId,
        enter: impl Fn(&Expr) -> bool,
        order: &mut Vec<ExprId>,
    ) {
        let mut stack = vec![(root, false)];
        while let Some((id, done)) = stack.pop() {
            if done {
                order.push(id);
                continue;
            }
            if !self.seen.insert(id) {
                continue;
            }
            let expr = &module.exprs[id];
            let at = stack.len();
            stack.push((id, true));
            if enter(expr) {
                for_each_child(expr, |child| stack.push((child, false)));
            }
            match stack.len() - at {
                // A leaf needs no second visit.
                1 => {
                    stack.pop();
                    order.push(id);
                }
                _ => stack[at + 1..].reverse(),
            }
        }
    }
}

/// How often each expression is an operand of what the roots reach; a root counts as used once.
pub fn use_counts(module: &Module, roots: &[ExprId]) -> SecondaryMap<ExprId, u32> {
    let mut uses = SecondaryMap::new();
    roots.iter().for_each(|&root| uses[root] += 1);
    for id in post_order(module, roots) {
        for_each_child(&module.exprs[id], |child| uses[child] += 1);
    }
    uses
}

/// The variables that occur in `root` and are bound outside it, in order of first occurrence.
///
/// Relies on every variable being bound at one place, which the verifier checks.
pub fn free_vars(module: &Module, root: ExprId) -> Vec<VarId> {
    free_vars_except(module, root, &[])
}

/// The free variables of a function: those of its body that are not its parameters.
pub fn free_vars_of(module: &Module, func: &Function) -> Vec<VarId> {
    free_vars_except(module, func.body, &func.params)
}

fn free_vars_except(module: &Module, root: ExprId, params: &[VarId]) -> Vec<VarId> {
    let order = post_order(module, &[root]);
    let mut bound: EntitySet<VarId> = EntitySet::new();
    params.iter().for_each(|&var| {
        bound.insert(var);
    });
    for &id in &order {
        bound_vars(&module.exprs[id]).into_iter().for_each(|var| {
            bound.insert(var);
        });
    }
    let mut free = Vec::new();
    for &id in &order {
        if let Expr::Var(var) = module.exprs[id]
            && bound.insert(var)
        {
            free.push(var);
        }
    }
    free
}

#[cfg(test)]
mod tests;
