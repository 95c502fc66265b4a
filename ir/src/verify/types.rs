//! R5 to R8: types are there, and are what the operands give.

use std::sync::Arc;

use super::Report;
use crate::entity::SecondaryMap;
use crate::expr::{Call, Callee, CtorRef, Expr, ExprId, Function, MatchPattern, Module};
use crate::infer::{Satisfied, check_call, compatible, infer_op, is_well_formed, join};
use crate::types::{DType, FuncType, Type};
use crate::walk;

pub(super) fn check(report: &mut Report<'_>, order: &[ExprId]) {
    let module = report.module;
    let mut proper = Satisfied::default();
    for (id, func) in module.functions() {
        let name = &module.globals[id].name;
        let types = func.params.iter().map(|&p| &module.vars[p].ty).chain([&func.ret]);
        if !types.into_iter().all(|ty| proper.holds(ty, is_well_formed)) {
            report.general("R5", format!("a parameter or the result of `@{name}` has no proper type"));
        } else if !compatible(&func.ret, &module.types[func.body]) {
            let (ret, found) = (&func.ret, &module.types[func.body]);
            report.at("R7", func.body, format!("`@{name}` gives {found}, but its result is declared {ret}"));
        }
    }
    // Operands come first, so what is known of their types is known.
    let mut has_type: SecondaryMap<ExprId, bool> = SecondaryMap::new();
    for &id in order {
        has_type[id] = proper.holds(&module.types[id], is_well_formed);
        expression(report, id, &mut proper, &has_type);
    }
}

fn expression(
    report: &mut Report<'_>,
    id: ExprId,
    proper: &mut Satisfied,
    has_type: &SecondaryMap<ExprId, bool>,
) {
    let module = report.module;
    let expr = &module.exprs[id];
    let ty = &module.types[id];
    if !has_type[id] {
        report.at("R5", id, format!("an expression has no proper type: {ty}"));
        return;
    }
    for var in walk::bound_vars(expr) {
        if !proper.holds(&module.vars[var].ty, is_well_formed) {
            report.at("R5", id, format!("variable `%{}` has no proper type", module.vars[var].name));
            return;
        }
    }
    let mut typed = true;
    walk::for_each_child(expr, |child| typed &= has_type[child]);
    if !typed {
        return;
    }
    match expected(module, id) {
        Ok(expected) if compatible(&expected, ty) => {}
        Ok(expected) => {
            report.at("R7", id, format!("an expression has type {ty}, its operands give {expected}"))
        }
        Err((rule, message)) => report.at(rule, id, message),
    }
}

/// The broken rule and how it is broken.
type Broken = (&'static str, String);

/// The type that the types of an expression's operands give it.
fn expected(module: &Module, id: ExprId) -> Result<Type, Broken> {
    let ty = |id: ExprId| &module.types[id];
    let r7 = |message: String| Err(("R7", message));
    match &module.exprs[id] {
        Expr::Var(var) => Ok(module.vars[*var].ty.clone()),
        Expr::Const(constant) => Ok(module.consts[*constant].tensor.ty()),
        Expr::Global(global) => match &module.globals[*global].func {
            Some(func) => Ok(func_type(module, func)),
            None => r7("a removed function is used".into()),
        },
        Expr::Op(op) => r7(format!("operator `{op}` is used as a value")),
        Expr::Ctor(ctor) => Ok(ctor_type(module, *ctor)),
        Expr::Call(call) => call_type(module, call),
        Expr::Func(func) if !compatible(&func.ret, ty(func.body)) => {
            r7(format!("a function gives {}, but its result is declared {}", ty(func.body), func.ret))
        }
        Expr::Func(func) => Ok(func_type(module, func)),
        Expr::Let { var, value, body } => {
            let (var, value) = (&module.vars[*var], ty(*value));
            if !compatible(&var.ty, value) {
                return r7(format!("`%{}` of type {} is bound to a value of type {value}", var.name, var.ty));
            }
            Ok(ty(*body).clone())
        }
        Expr::If { cond, then, els } => {
            if !compatible(ty(*cond), &Type::scalar(DType::Bool)) {
                return r7(format!("a condition has type {}", ty(*cond)));
            }
            join_all([*then, *els].map(ty).into_iter())
        }
        Expr::Tuple(fields) => Ok(Type::tuple(fields.iter().map(|&f| ty(f).clone()))),
        Expr::Proj { tuple, index } => match ty(*tuple).as_tuple() {
            Some(fields) if (*index as usize) < fields.len() => Ok(fields[*index as usize].clone()),
            _ => r7(format!("there is no field {index} in {}", ty(*tuple))),
        },
        Expr::Match { value, clauses, .. } => {
            clauses.iter().try_for_each(|clause| pattern(module, &clause.pattern, ty(*value)))?;
            join_all(clauses.iter().map(|clause| ty(clause.body)))
        }
        Expr::Ref(value) => Ok(Type::Ref(Arc::new(ty(*value).clone()))),
        Expr::RefRead(cell) => match ty(*cell) {
            Type::Ref(content) => Ok((**content).clone()),
            other => r7(format!("a value of type {other} is read like a reference cell")),
        },
        Expr::RefWrite { cell, value } => match ty(*cell) {
            Type::Ref(content) if compatible(content, ty(*value)) => Ok(Type::tuple([])),
            other => r7(format!("a value of type {} is written to a cell of type {other}", ty(*value))),
        },
    }
}

fn func_type(module: &Module, func: &Function) -> Type {
    let params = func.params.iter().map(|&p| module.vars[p].ty.clone()).collect();
    let (type_params, ret) = (func.type_params.clone(), func.ret.clone());
    Type::Func(Arc::new(FuncType { type_params, params, ret }))
}

fn ctor_type(module: &Module, ctor: CtorRef) -> Type {
    let adt = &module.adts[ctor.adt];
    let args = adt.params.iter().cloned().map(Type::Var).collect();
    let params = adt.ctors[ctor.index as usize].fields.clone();
    let ret = Type::Adt(adt.name.clone(), args);
    Type::Func(Arc::new(FuncType { type_params: adt.params.clone(), params, ret }))
}

fn call_type(module: &Module, call: &Call) -> Result<Type, Broken> {
    let args: Vec<Type> = call.args.iter().map(|&arg| module.types[arg].clone()).collect();
    let callee = match call.callee {
        Callee::Op(op) => {
            crate::infer::check_call_shape(op, args.len(), &call.attrs).map_err(|e| ("R6", e.message))?;
            return infer_op(op, &args, &call.attrs).map_err(|e| ("R7", format!("{op}: {}", e.message)));
        }
        Callee::Ctor(ctor) => ctor_type(module, ctor),
        Callee::Expr(callee) => module.types[callee].clone(),
    };
    let Some(func) = callee.as_func() else {
        return Err(("R7", format!("a value of type {callee} is called")));
    };
    check_call(func, &args).ok_or_else(|| {
        let given = Type::tuple(args.iter().cloned());
        ("R7", format!("a function of type {callee} is called with {given}"))
    })
}

fn join_all<'a>(types: impl Iterator<Item = &'a Type>) -> Result<Type, Broken> {
    types.into_iter().try_fold(Type::Unknown, |joined, ty| {
        join(&joined, ty).ok_or_else(|| ("R7", format!("branches have the types {joined} and {ty}")))
    })
}

/// R8: a pattern fits the type of the value.
fn pattern(module: &Module, pattern: &MatchPattern, ty: &Type) -> Result<(), Broken> {
    let mut stack = vec![(pattern, ty.clone())];
    while let Some((pattern, ty)) = stack.pop() {
        let unfit = |what: &str| Err(("R8", format!("{what} cannot fit a value of type {ty}")));
        match (pattern, &ty) {
            (MatchPattern::Wildcard, _) => {}
            (MatchPattern::Var(var), ty) if compatible(&module.vars[*var].ty, ty) => {}
            (MatchPattern::Var(_), _) => return unfit("a variable of another type"),
            (MatchPattern::Tuple(patterns), Type::Tuple(fields)) if patterns.len() == fields.len() => {
                stack.extend(patterns.iter().zip(fields.iter().cloned()));
            }
            (MatchPattern::Tuple(_), _) => return unfit("a tuple pattern"),
            (MatchPattern::Ctor(ctor, patterns), Type::Adt(name, args)) => {
                let adt = &module.adts[ctor.adt];
                let fields = &adt.ctors[ctor.index as usize].fields;
                if adt.name != *name || fields.len() != patterns.len() || adt.params.len() != args.len() {
                    return unfit("a constructor pattern");
                }
                let fields = fields.iter().map(|f| crate::infer::substitute(f, &adt.params, args));
                stack.extend(patterns.iter().zip(fields));
            }
            (MatchPattern::Ctor(..), _) => return unfit("a constructor pattern"),
        }
    }
    Ok(())
}
