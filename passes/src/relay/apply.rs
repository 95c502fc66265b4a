//! Functions that are called where they are written become what they compute.
//!
//! That is what composites and regions are that no external code generator took over. Arguments
//! take the place of parameters, so each expression is gone through once, however deep functions
//! stand in each other.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::EntitySet;
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::walk;

use super::dead_code::Purities;
use super::rewrite::{Mapped, owned_functions, use_counts};
use crate::fuse::is_primitive_expr;
use crate::pass::{Outcome, PassContext};

/// Puts functions in the place of their calls where nothing else names them, their arguments have no
/// effects, and no closure in them would compute an argument each time that it is called.
pub(super) fn apply(module: &mut Module, context: &mut PassContext) -> Outcome {
    let calls = applicable(module, context);
    if calls.bodies.is_empty() {
        return Outcome::Unchanged;
    }
    let (mut mapped, mut seen): (Mapped, EntitySet<ExprId>) = Default::default();
    for (global, func) in owned_functions(module) {
        let body = calls.rebuild(module, func.body, &mut mapped, &mut seen);
        module.globals[global].func = Some(Function { body, ..func });
    }
    Outcome::Changed
}

/// What is put in place.
struct Calls {
    /// The body that a call becomes.
    bodies: BTreeMap<ExprId, ExprId>,
    /// The argument that a parameter becomes.
    args: BTreeMap<VarId, ExprId>,
}

fn applicable(module: &Module, context: &mut PassContext) -> Calls {
    let mut calls = Calls { bodies: BTreeMap::new(), args: BTreeMap::new() };
    let order = walk::reachable(module);
    let written = |expr: ExprId| match &module.exprs[expr] {
        Expr::Call(call) => match call.callee {
            Callee::Expr(callee) => match &module.exprs[callee] {
                Expr::Func(func) if !is_primitive_expr(module, callee) => Some((callee, func, &call.args)),
                _ => None,
            },
            Callee::Op(_) | Callee::Ctor(_) => None,
        },
        _ => None,
    };
    if !order.iter().any(|&e| written(e).is_some()) {
        return calls;
    }
    let (uses, purity) = (use_counts(module), Purities::of(module));
    let called: BTreeSet<ExprId> = order.iter().filter_map(|&e| Some(written(e)?.0)).collect();
    let mut captured: BTreeSet<VarId> = BTreeSet::new();
    for &expr in order.iter().filter(|e| !called.contains(e)) {
        if let Expr::Func(func) = &module.exprs[expr] {
            captured.extend(walk::free_vars_of(module, func));
        }
    }
    for &expr in &order {
        let Some((callee, func, args)) = written(expr) else { continue };
        let atom = |e: ExprId| matches!(module.exprs[e], Expr::Var(_) | Expr::Const(_));
        let fits = |(param, &arg): (&VarId, &ExprId)| {
            purity.is_pure(arg) && (atom(arg) || !captured.contains(param))
        };
        if func.type_params.is_empty()
            && uses[callee] == 1
            && func.params.iter().zip(args).all(fits)
            && context.fire("put a function in the place of its call", module, expr)
        {
            calls.bodies.insert(expr, func.body);
            calls.args.extend(func.params.iter().copied().zip(args.iter().copied()));
        }
    }
    calls
}

impl Calls {
    /// What an expression becomes, if that is another one as a whole.
    fn other(&self, module: &Module, expr: ExprId) -> Option<ExprId> {
        match &module.exprs[expr] {
            Expr::Var(var) => self.args.get(var).copied(),
            Expr::Call(_) => self.bodies.get(&expr).copied(),
            _ => None,
        }
    }

    fn rebuild(
        &self,
        module: &mut Module,
        root: ExprId,
        mapped: &mut Mapped,
        seen: &mut EntitySet<ExprId>,
    ) -> ExprId {
        let mut stack = vec![(root, false)];
        while let Some((old, done)) = stack.pop() {
            let other = self.other(module, old);
            if !done {
                if seen.insert(old) {
                    stack.push((old, true));
                    let enters = other.is_none() && !is_primitive_expr(module, old);
                    let children =
                        if enters { walk::children(&module.exprs[old]) } else { Default::default() };
                    stack.extend(children.into_iter().chain(other).rev().map(|c| (c, false)));
                }
                continue;
            }
            let of = |child: ExprId| mapped[child].unwrap_or(child);
            let new = match (other, walk::map_children(&module.exprs[old], of)) {
                (Some(other), _) => of(other),
                (None, Some(expr)) => {
                    let ty = module.types[old].clone();
                    let id = module.add_like(expr, old);
                    module.types[id] = ty;
                    id
                }
                (None, None) => old,
            };
            mapped[old] = Some(new);
        }
        mapped[root].unwrap_or(root)
    }
}
