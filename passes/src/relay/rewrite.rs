//! What the passes of this folder share: rebuilding functions from the operands up.

use std::collections::BTreeMap;

use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, Function, GlobalId, Module, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use crate::fuse::is_primitive_expr;
use crate::pass::Outcome;

/// What stands for each old expression, while a function is rebuilt.
pub type Mapped = SecondaryMap<ExprId, Option<ExprId>>;

/// Rebuilds every function: `f(module, old, new)` sees each expression once, operands first,
/// `new` with its operands replaced, and gives what shall stand in its place. Types are kept,
/// so `f` must keep them too. The bodies of primitive functions are left alone.
pub fn rebuild_functions(
    module: &mut Module,
    mut f: impl FnMut(&mut Module, ExprId, ExprId) -> ExprId,
) -> Outcome {
    let mut outcome = Outcome::Unchanged;
    for (global, func) in owned_functions(module) {
        let body = rebuild(module, func.body, &mut f);
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    outcome
}

/// Rebuilds what one root reaches.
pub fn rebuild(
    module: &mut Module,
    root: ExprId,
    f: &mut impl FnMut(&mut Module, ExprId, ExprId) -> ExprId,
) -> ExprId {
    let order = walk::post_order(module, &[root]);
    let primitive = primitive_bodies(module, &order);
    let mut mapped: Mapped = SecondaryMap::new();
    for old in order {
        if primitive[old] {
            continue;
        }
        let operands = walk::map_children(&module.exprs[old], |child| mapped[child].unwrap_or(child));
        let new = match operands {
            Some(expr) => {
                let ty = module.types[old].clone();
                let id = module.add_like(expr, old);
                module.types[id] = ty;
                id
            }
            None => old,
        };
        let new = f(module, old, new);
        mapped[old] = Some(new);
    }
    mapped[root].unwrap_or(root)
}

fn primitive_bodies(module: &Module, order: &[ExprId]) -> SecondaryMap<ExprId, bool> {
    let mut inside = SecondaryMap::new();
    for &expr in order {
        if let Expr::Func(func) = &module.exprs[expr]
            && is_primitive_expr(module, expr)
        {
            walk::post_order(module, &[func.body]).into_iter().for_each(|e| inside[e] = true);
        }
    }
    inside
}

/// The live functions, cloned, so that they can be replaced one after the other.
pub fn owned_functions(module: &Module) -> Vec<(GlobalId, Function)> {
    module.functions().into_iter().map(|(id, func)| (id, func.clone())).collect()
}

/// How often each expression of all functions is used as an operand or a body.
pub fn use_counts(module: &Module) -> SecondaryMap<ExprId, u32> {
    let roots: Vec<ExprId> = module.functions().iter().map(|(_, f)| f.body).collect();
    walk::use_counts(module, &roots)
}

/// The static shape of an expression's tensor type.
pub fn static_shape(module: &Module, expr: ExprId) -> Option<Vec<usize>> {
    module.types[expr].as_tensor()?.static_shape()
}

/// True if both expressions are known to have the same type.
pub fn same_type(module: &Module, a: ExprId, b: ExprId) -> bool {
    module.types[a] != Type::Unknown && module.types[a] == module.types[b]
}

/// A copy of a function's body over these arguments; what it binds is bound anew. What does not
/// depend on them, and binds nothing, is shared with the function.
///
/// The function has no type parameters.
pub fn instantiate(module: &mut Module, func: &Function, args: &[ExprId]) -> ExprId {
    let order = walk::post_order(module, &[func.body]);
    let known: BTreeMap<VarId, ExprId> = func.params.iter().copied().zip(args.iter().copied()).collect();
    let mut renamed: BTreeMap<VarId, VarId> = BTreeMap::new();
    for &expr in &order {
        for var in walk::bound_vars(&module.exprs[expr]) {
            let outer = module.vars[var].clone();
            renamed.insert(var, module.var(outer.name, outer.ty));
        }
    }
    let mut mapped: Mapped = SecondaryMap::new();
    for old in order {
        if let Expr::Var(var) = module.exprs[old]
            && let Some(&arg) = known.get(&var)
        {
            mapped[old] = Some(arg);
            continue;
        }
        let operands = walk::map_children(&module.exprs[old], |child| mapped[child].unwrap_or(child));
        let mut changed = operands.is_some();
        let mut new = operands.unwrap_or_else(|| module.exprs[old].clone());
        let mut rename = |var: &mut VarId| {
            if let Some(&own) = renamed.get(var) {
                *var = own;
                changed = true;
            }
        };
        match &mut new {
            Expr::Var(var) | Expr::Let { var, .. } => rename(var),
            Expr::Func(func) => func.params.iter_mut().for_each(rename),
            Expr::Match { clauses, .. } => {
                for clause in clauses {
                    walk::map_pattern_vars(&mut clause.pattern, |mut var| {
                        rename(&mut var);
                        var
                    });
                }
            }
            Expr::Global(_)
            | Expr::Const(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Call(_)
            | Expr::If { .. }
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {}
        }
        if changed {
            let ty = module.types[old].clone();
            let id = module.add_like(new, old);
            module.types[id] = ty;
            mapped[old] = Some(id);
        }
    }
    mapped[func.body].unwrap_or(func.body)
}
