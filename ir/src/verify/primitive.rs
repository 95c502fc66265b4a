//! R9: what a fused group may contain.

use super::Report;
use crate::expr::{Callee, Expr, ExprId, Function};
use crate::op::AttrValue;
use crate::walk;

/// The attribute that marks a function as one kernel.
const PRIMITIVE: &str = "Primitive";

/// R9: primitive functions are closed, and made of operators only.
pub(super) fn check(report: &mut Report<'_>, order: &[ExprId]) {
    let module = report.module;
    for (_, func) in module.functions() {
        if is_primitive(func) {
            body(report, func.body, func);
        }
    }
    for &id in order {
        if let Expr::Func(func) = &module.exprs[id]
            && is_primitive(func)
        {
            body(report, id, func);
        }
    }
}

/// True if a function is marked as one kernel.
fn is_primitive(func: &Function) -> bool {
    func.attrs.get(PRIMITIVE).is_some_and(|v| matches!(v, AttrValue::Int(1) | AttrValue::Bool(true)))
}

fn body(report: &mut Report<'_>, at: ExprId, func: &Function) {
    let module = report.module;
    for var in walk::free_vars_of(module, func) {
        let name = &module.vars[var].name;
        report.at("R9", at, format!("a primitive function uses `%{name}`, which is not its own"));
    }
    for id in walk::post_order(module, &[func.body]) {
        let allowed = match &module.exprs[id] {
            Expr::Var(_) | Expr::Const(_) | Expr::Tuple(_) | Expr::Proj { .. } => true,
            Expr::Call(call) => match call.callee {
                Callee::Op(_) => true,
                Callee::Expr(_) | Callee::Ctor(_) => false,
            },
            Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => false,
        };
        if !allowed {
            report.at("R9", id, "a primitive function contains more than calls of operators");
        }
    }
}
