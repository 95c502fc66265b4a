//! EtaExpand: globals and constructors that are used as values become functions that call them.

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Args, Call, Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::Attrs;
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::rewrite::{Rebuilt, owned_functions};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "eta_expand",
    relay_name: "EtaExpand",
    level: 4,
    doc: "write globals and constructors that are used as values as functions that call them",
    options: &[
        OptionDef {
            name: "expand_constructor",
            doc: "constructors of data types",
            default: OptionValue::Bool(true),
        },
        OptionDef { name: "expand_global_var", doc: "global functions", default: OptionValue::Bool(true) },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let (mut outcome, mut rebuilt) = (Outcome::Unchanged, Rebuilt::default());
    for (global, func) in owned_functions(module) {
        let body =
            rebuilt.rebuild(module, func.body, &mut |module, _, new| expand_operands(module, new, context));
        let body = expanded(module, body, context).unwrap_or(body);
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    Ok(outcome)
}

/// The expression with its operands expanded, but for what it calls.
fn expand_operands(module: &mut Module, expr: ExprId, context: &mut PassContext) -> ExprId {
    let called = match &module.exprs[expr] {
        Expr::Call(Call { callee: Callee::Expr(callee), args, .. }) => Some((*callee, args.contains(callee))),
        _ => None,
    };
    let mut pairs: Vec<(ExprId, ExprId)> = Vec::new();
    for child in walk::children(&module.exprs[expr]) {
        let only_called = called.is_some_and(|(callee, argument_too)| callee == child && !argument_too);
        if only_called || pairs.iter().any(|(c, _)| *c == child) {
            continue;
        }
        if let Some(lambda) = expanded(module, child, context) {
            pairs.push((child, lambda));
        }
    }
    let of = |child: ExprId| pairs.iter().find(|(c, _)| *c == child).map_or(child, |(_, lambda)| *lambda);
    let Some(mut new) = walk::map_children(&module.exprs[expr], of) else { return expr };
    if let (Expr::Call(call), Some((callee, _))) = (&mut new, called) {
        call.callee = Callee::Expr(callee);
    }
    let ty = module.types[expr].clone();
    let id = module.add_like(new, expr);
    module.types[id] = ty;
    id
}

/// A function that calls what the expression names, if it names a global or a constructor.
fn expanded(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let callee = match module.exprs[expr] {
        Expr::Global(_) if context.bool("expand_global_var") => Callee::Expr(expr),
        Expr::Ctor(ctor) if context.bool("expand_constructor") => Callee::Ctor(ctor),
        _ => return None,
    };
    let Type::Func(ty) = module.types[expr].clone() else { return None };
    if !ty.type_params.is_empty() || !context.fire("write a value as a function", module, expr) {
        return None;
    }
    let params: Vec<VarId> =
        ty.params.iter().enumerate().map(|(i, t)| module.var(format!("a{i}"), t.clone())).collect();
    let mut args = Args::new();
    for (&param, ty) in params.iter().zip(&ty.params) {
        let arg = module.add_like(Expr::Var(param), expr);
        module.types[arg] = ty.clone();
        args.push(arg);
    }
    let body = module.add_like(Expr::Call(Call { callee, args, attrs: Attrs::NONE }), expr);
    module.types[body] = ty.ret.clone();
    let func =
        Function { type_params: Vec::new(), params, body, ret: ty.ret.clone(), attrs: Default::default() };
    let lambda = module.add_like(Expr::Func(Box::new(func)), expr);
    module.types[lambda] = Type::Func(ty);
    Some(lambda)
}
