//! LambdaLift: closures that a let binds become global functions.
//!
//! A function that is nothing but called needs no closure: what it captured becomes further
//! parameters, and every call passes it on. That is how a recursion of a let, such as ONNX's
//! `Loop`, becomes a function that a plan can call. A variable that is used in any other way
//! keeps its closure, and so does one that shares binders with what stands outside of it.
//! Closures that call each other are lifted together: who calls one that captured something
//! captures that too. All is found in one walk and written in another, so the time is in
//! proportion to the program.
//!
//! A function that is called where it is written, such as a composite, is put in the place of its
//! call first ([`apply`](super::apply)).

mod scopes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fermata_ir::diag::Diagnostics;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Global, GlobalId, Module, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::rewrite::{owned_functions, use_counts};
use crate::fuse::is_primitive;
use crate::lower::program::is_data;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use scopes::Scopes;

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

/// What lifting may add to a program, parameters and arguments, for each expression that it has.
const MAX_ADDED: usize = 16;

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let outcome = super::apply::apply(module, context);
    let lifted = choose(module, context);
    if lifted.is_empty() {
        return Ok(outcome);
    }
    let mut regions = Regions { lifted: &lifted, mapped: SecondaryMap::new(), region: 0 };
    for (global, func) in owned_functions(module) {
        let body = regions.rebuild(module, func.body, &BTreeMap::new());
        module.globals[global].func = Some(Function { body, ..func });
    }
    for closure in lifted.values() {
        let own: Vec<VarId> = closure.extra.iter().map(|&var| fresh(module, var)).collect();
        let renamed = closure.extra.iter().copied().zip(own.iter().copied()).collect();
        let body = regions.rebuild(module, closure.func.body, &renamed);
        let params = closure.func.params.iter().chain(&own).copied().collect();
        module.globals[closure.global].func = Some(Function { params, body, ..closure.func.clone() });
    }
    Ok(Outcome::Changed)
}

/// A variable like another one.
fn fresh(module: &mut Module, var: VarId) -> VarId {
    let outer = module.vars[var].clone();
    module.var(outer.name, outer.ty)
}

/// A closure that becomes a global function.
struct Closure {
    func: Function,
    global: GlobalId,
    /// What it captured: further parameters.
    extra: Vec<VarId>,
}

/// The closures that become global functions, by the variables that they are bound to. What a let binds
/// is chosen before what can call it, so that it is known what a call passes on.
fn choose(module: &mut Module, context: &mut PassContext) -> BTreeMap<VarId, Closure> {
    let mut lifted = BTreeMap::new();
    let binds_function = |e: &Expr| match e {
        Expr::Let { value, .. } => matches!(module.exprs[*value], Expr::Func(_)),
        _ => false,
    };
    if !module.exprs.values().any(binds_function) {
        return lifted;
    }
    let (scopes, calls, uses) = (Scopes::of(module), Calls::of(module), use_counts(module));
    let mut names = Names::of(module);
    let mut left = MAX_ADDED * scopes.order.len();
    for &expr in scopes.order.iter().rev() {
        let Expr::Let { var, value, .. } = module.exprs[expr] else { continue };
        let Expr::Func(func) = &module.exprs[value] else { continue };
        if !func.type_params.is_empty() || is_primitive(func) || calls.escaping.contains(&var) {
            continue;
        }
        let count = calls.count.get(&var).copied().unwrap_or(0) + 1;
        let extra = if uses[value] > 1 || scopes.shares_binders(value) {
            Err("something in it binds variables and stands outside of it too")
        } else {
            extra(module, &scopes, &lifted, var, value)
        };
        let extra = extra.and_then(|extra| match left.checked_sub(extra.len() * count) {
            Some(rest) => {
                left = rest;
                Ok(extra)
            }
            None => Err("its calls would pass on too much"),
        });
        match extra {
            Ok(extra) if context.fire("lift a closure", module, expr) => {
                let func = Function::clone(func);
                let owner = scopes.owner(value).map_or("main", |owner| &*module.globals[owner].name);
                let name = names.unique(format!("{owner}_{}", module.vars[var].name));
                let global = module.globals.push(Global { name: name.into(), func: None });
                lifted.insert(var, Closure { func, global, extra });
            }
            Ok(_) => {}
            Err(why) => {
                let name = module.vars[var].name.clone();
                context.remark(module, expr, || format!("`%{name}` stays a closure: {why}"));
            }
        }
    }
    lifted
}

/// What a closure needs as further parameters: what it captured and, of lifted closures, what those need.
fn extra(
    module: &Module,
    scopes: &Scopes,
    lifted: &BTreeMap<VarId, Closure>,
    var: VarId,
    value: ExprId,
) -> Result<Vec<VarId>, &'static str> {
    let captured = scopes.captured(value).ok_or("it captures too many variables")?;
    let (mut extra, mut known) = (Vec::new(), BTreeSet::new());
    for &outer in captured.iter().filter(|&&outer| outer != var) {
        let needed = match lifted.get(&outer) {
            Some(closure) => &closure.extra[..],
            None if is_data(&module.vars[outer].ty) => &[outer],
            None => return Err("it captures what is no tensor"),
        };
        extra.extend(needed.iter().copied().filter(|&v| known.insert(v)));
    }
    Ok(extra)
}

/// How variables are used.
#[derive(Default)]
struct Calls {
    /// How often each is called.
    count: BTreeMap<VarId, usize>,
    /// Those that are used as values, not only called.
    escaping: BTreeSet<VarId>,
}

impl Calls {
    fn of(module: &Module) -> Calls {
        let mut calls = Calls::default();
        for expr in walk::reachable(module) {
            let callee = match &module.exprs[expr] {
                Expr::Call(call) => match call.callee {
                    Callee::Expr(callee) if !call.args.contains(&callee) => Some(callee),
                    Callee::Expr(_) | Callee::Op(_) | Callee::Ctor(_) => None,
                },
                _ => None,
            };
            walk::for_each_child(&module.exprs[expr], |child| {
                let Expr::Var(var) = module.exprs[child] else { return };
                if Some(child) == callee {
                    *calls.count.entry(var).or_default() += 1;
                } else {
                    calls.escaping.insert(var);
                }
            });
        }
        for (_, func) in module.functions() {
            if let Expr::Var(var) = module.exprs[func.body] {
                calls.escaping.insert(var);
            }
        }
        calls
    }
}

/// The names of all global functions, live or not.
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// The last number that stands behind a name.
    numbers: BTreeMap<String, usize>,
}

impl Names {
    pub(super) fn of(module: &Module) -> Names {
        let taken = module.globals.values().map(|g| g.name.to_string()).collect();
        Names { taken, numbers: BTreeMap::new() }
    }

    /// The name, with a number behind it if it is taken; it is taken then.
    pub(super) fn unique(&mut self, name: String) -> String {
        if self.taken.insert(name.clone()) {
            return name;
        }
        let number = self.numbers.entry(name.clone()).or_default();
        loop {
            *number += 1;
            let numbered = format!("{name}_{number}");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

/// Writes functions without the closures that were lifted from them.
struct Regions<'a> {
    lifted: &'a BTreeMap<VarId, Closure>,
    /// What stands for each expression, and in which function that is so.
    mapped: SecondaryMap<ExprId, Option<(usize, ExprId)>>,
    /// The function that is being written.
    region: usize,
}

impl Regions<'_> {
    /// What a root is with calls of lifted closures as calls of global functions, and variables renamed.
    fn rebuild(&mut self, module: &mut Module, root: ExprId, renamed: &BTreeMap<VarId, VarId>) -> ExprId {
        self.region += 1;
        let mut stack = vec![(root, false)];
        while let Some((old, done)) = stack.pop() {
            if self.written(old).is_some() {
                continue;
            }
            if done {
                let new = self.write(module, old, renamed);
                self.mapped[old] = Some((self.region, new));
                continue;
            }
            stack.push((old, true));
            match &module.exprs[old] {
                Expr::Let { var, body, .. } if self.lifted.contains_key(var) => stack.push((*body, false)),
                Expr::Func(func) if is_primitive(func) => {}
                other => stack.extend(walk::children(other).into_iter().rev().map(|c| (c, false))),
            }
        }
        self.written(root).unwrap_or(root)
    }

    fn written(&self, old: ExprId) -> Option<ExprId> {
        self.mapped[old].filter(|(region, _)| *region == self.region).map(|(_, new)| new)
    }

    fn write(&self, module: &mut Module, old: ExprId, renamed: &BTreeMap<VarId, VarId>) -> ExprId {
        let of = |child: ExprId| self.written(child).unwrap_or(child);
        let inner = |var: VarId| renamed.get(&var).copied().unwrap_or(var);
        let callee = match &module.exprs[old] {
            Expr::Let { var, body, .. } if self.lifted.contains_key(var) => return of(*body),
            Expr::Var(var) => match self.lifted.get(var) {
                Some(closure) => return callee(module, closure, old),
                None if inner(*var) != *var => return variable(module, inner(*var), old),
                None => return old,
            },
            Expr::Call(call) => match call.callee {
                Callee::Expr(callee) => match module.exprs[callee] {
                    Expr::Var(var) => self.lifted.get(&var),
                    _ => None,
                },
                Callee::Op(_) | Callee::Ctor(_) => None,
            },
            _ => None,
        };
        let Some(mut expr) = walk::map_children(&module.exprs[old], of) else { return old };
        if let (Expr::Call(call), Some(closure)) = (&mut expr, callee) {
            call.args.extend(closure.extra.iter().map(|&var| variable(module, inner(var), old)));
        }
        let ty = module.types[old].clone();
        let id = module.add_like(expr, old);
        module.types[id] = ty;
        id
    }
}

/// A global function in the place of the variable that its closure was bound to.
fn callee(module: &mut Module, closure: &Closure, old: ExprId) -> ExprId {
    let mut ty = module.types[old].clone();
    if let Type::Func(func) = &mut ty {
        let further = closure.extra.iter().map(|&var| module.vars[var].ty.clone());
        Arc::make_mut(func).params.extend(further);
    }
    let id = module.add_like(Expr::Global(closure.global), old);
    module.types[id] = ty;
    id
}

/// A use of a variable.
fn variable(module: &mut Module, var: VarId, origin: ExprId) -> ExprId {
    let ty = module.vars[var].ty.clone();
    let id = module.add_like(Expr::Var(var), origin);
    module.types[id] = ty;
    id
}
