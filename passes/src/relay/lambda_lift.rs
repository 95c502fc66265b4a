//! LambdaLift: closures that a let binds become global functions.
//!
//! A function that is nothing but called needs no closure: what it captured becomes further
//! parameters, and every call passes it on. That is how a recursion of a let, such as ONNX's
//! `Loop`, becomes a function that a plan can call. A variable that is used in any other way
//! keeps its closure, and so does one that shares binders with what stands outside of it.
//!
//! A function that is called where it is written, such as a composite, is put in the place of its
//! call first ([`apply`](super::apply)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Global, GlobalId, Module, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::rewrite::{owned_functions, rebuild};
use crate::fuse::is_primitive;
use crate::lower::program::is_data;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "lambda_lift",
    relay_name: "LambdaLift",
    level: 0,
    doc: "make closures that are only called global functions, and put functions in the place of their one call",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut outcome = super::apply::apply(module, context);
    let escaping = escaping(module);
    let mut names = names(module);
    for (global, func) in owned_functions(module) {
        let owner = module.globals[global].name.clone();
        let body = rebuild(module, func.body, &mut |module, old, new| {
            let Some(closure) = closure_of(module, new, &escaping) else { return new };
            if shares_binders(module, func.body, old) || !context.fire("lift a closure", module, new) {
                return new;
            }
            let name = unique(format!("{owner}_{}", module.vars[closure.var].name), &mut names);
            lift(module, name, closure)
        });
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    Ok(outcome)
}

/// Variables that are used as values, not only called.
fn escaping(module: &Module) -> BTreeSet<VarId> {
    let mut escaping = BTreeSet::new();
    for expr in walk::reachable(module) {
        let callee = match &module.exprs[expr] {
            Expr::Call(call) => match call.callee {
                Callee::Expr(callee) if !call.args.contains(&callee) => Some(callee),
                Callee::Expr(_) | Callee::Op(_) | Callee::Ctor(_) => None,
            },
            _ => None,
        };
        walk::for_each_child(&module.exprs[expr], |child| {
            if let Expr::Var(v) = module.exprs[child]
                && Some(child) != callee
            {
                escaping.insert(v);
            }
        });
    }
    for (_, func) in module.functions() {
        if let Expr::Var(v) = module.exprs[func.body] {
            escaping.insert(v);
        }
    }
    escaping
}

/// A let that binds a function.
struct Closure {
    var: VarId,
    func: Function,
    captured: Vec<VarId>,
    body: ExprId,
}

/// The let, if its function can be lifted: it captures tensors only.
fn closure_of(module: &Module, expr: ExprId, escaping: &BTreeSet<VarId>) -> Option<Closure> {
    let Expr::Let { var, value, body } = module.exprs[expr] else { return None };
    let Expr::Func(func) = &module.exprs[value] else { return None };
    if !func.type_params.is_empty() || is_primitive(func) || escaping.contains(&var) {
        return None;
    }
    let mut captured = walk::free_vars_of(module, func);
    captured.retain(|&v| v != var);
    let tensors = captured.iter().all(|&v| is_data(&module.vars[v].ty));
    tensors.then(|| Closure { var, func: Function::clone(func), captured, body })
}

/// True if the closure that a let binds shares an expression that binds variables with what stands
/// outside of it: as two functions they would bind those variables twice.
fn shares_binders(module: &Module, root: ExprId, bound: ExprId) -> bool {
    let Expr::Let { value, .. } = module.exprs[bound] else { return false };
    let Expr::Func(func) = &module.exprs[value] else { return false };
    let mut binding: BTreeSet<ExprId> = BTreeSet::new();
    let inside = walk::post_order(module, &[func.body]);
    for &expr in &inside {
        let binds = !walk::bound_vars(&module.exprs[expr]).is_empty();
        if binds || walk::children(&module.exprs[expr]).iter().any(|c| binding.contains(c)) {
            binding.insert(expr);
        }
    }
    if binding.is_empty() {
        return false;
    }
    let inside: BTreeSet<ExprId> = inside.into_iter().collect();
    let outside =
        walk::post_order(module, &[root]).into_iter().filter(|e| *e != value && !inside.contains(e));
    outside.into_iter().any(|e| walk::children(&module.exprs[e]).iter().any(|c| binding.contains(c)))
}

/// The names of all global functions, live or not.
pub(super) fn names(module: &Module) -> BTreeSet<String> {
    module.globals.values().map(|g| g.name.to_string()).collect()
}

/// The name, with a number behind it if it is taken; it is taken then.
pub(super) fn unique(name: String, names: &mut BTreeSet<String>) -> String {
    let mut found = name.clone();
    let mut count = 0;
    while !names.insert(found.clone()) {
        count += 1;
        found = format!("{name}_{count}");
    }
    found
}

/// Makes the function global; gives what stands for the let.
fn lift(module: &mut Module, name: String, closure: Closure) -> ExprId {
    let Closure { var, func, captured, body } = closure;
    let global = module.globals.push(Global { name: name.into(), func: None });
    let own: Vec<VarId> = captured
        .iter()
        .map(|&v| {
            let outer = module.vars[v].clone();
            module.var(outer.name, outer.ty)
        })
        .collect();
    let renamed: BTreeMap<VarId, VarId> = captured.iter().copied().zip(own.iter().copied()).collect();
    let inside = call_global(module, func.body, var, global, &own, &renamed);
    let outside = call_global(module, body, var, global, &captured, &BTreeMap::new());
    let params = func.params.iter().chain(&own).copied().collect();
    module.globals[global].func = Some(Function { params, body: inside, ..func });
    outside
}

/// The expression with calls of `var` as calls of `global` that pass `extra` on, and variables renamed.
fn call_global(
    module: &mut Module,
    root: ExprId,
    var: VarId,
    global: GlobalId,
    extra: &[VarId],
    renamed: &BTreeMap<VarId, VarId>,
) -> ExprId {
    let mut callees: BTreeSet<ExprId> = BTreeSet::new();
    rebuild(module, root, &mut |module, _, new| match module.exprs[new].clone() {
        Expr::Var(v) if v == var => {
            let mut ty = module.types[new].clone();
            if let Type::Func(func) = &mut ty {
                Arc::make_mut(func).params.extend(extra.iter().map(|&v| module.vars[v].ty.clone()));
            }
            let callee = module.add_like(Expr::Global(global), new);
            module.types[callee] = ty;
            callees.insert(callee);
            callee
        }
        Expr::Var(v) => match renamed.get(&v) {
            Some(&inner) => variable(module, inner, new),
            None => new,
        },
        Expr::Call(mut call) if matches!(call.callee, Callee::Expr(c) if callees.contains(&c)) => {
            let passed: Vec<ExprId> = extra.iter().map(|&v| variable(module, v, new)).collect();
            call.args.extend(passed);
            let ty = module.types[new].clone();
            let id = module.add_like(Expr::Call(call), new);
            module.types[id] = ty;
            id
        }
        _ => new,
    })
}

/// A use of a variable.
fn variable(module: &mut Module, var: VarId, origin: ExprId) -> ExprId {
    let ty = module.vars[var].ty.clone();
    let id = module.add_like(Expr::Var(var), origin);
    module.types[id] = ty;
    id
}
