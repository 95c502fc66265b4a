//! Regions for external code generators: what a program calls that some other compiler shall make.
//!
//! A region is a function with the attribute `Compiler`, the name of its code generator, called
//! where it is written, as a group of operators is with `Primitive`. `annotate_target` makes one of
//! each operator that a code generator has, `merge_compiler_regions` joins them, and
//! `partition_graph` makes them global functions. Where Relay marks the ends of a region by
//! operators, here it is a function at once: each step runs, prints and checks as any program does.

use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module};
use fermata_ir::op::AttrValue;

/// The attribute that names a region's code generator.
pub const COMPILER: &str = "Compiler";

/// The value of a function's attribute, if that is a text.
pub fn text_attr<'f>(func: &'f Function, key: &str) -> Option<&'f str> {
    match func.attrs.get(key) {
        Some(AttrValue::Str(text)) => Some(text),
        _ => None,
    }
}

/// The function that an expression calls where it is written, and its place.
pub fn called(module: &Module, expr: ExprId) -> Option<(ExprId, &Function)> {
    let Expr::Call(call) = &module.exprs[expr] else { return None };
    let Callee::Expr(callee) = call.callee else { return None };
    match &module.exprs[callee] {
        Expr::Func(func) => Some((callee, func)),
        _ => None,
    }
}

/// The region that an expression calls: the name of its code generator, its place and itself.
pub fn region(module: &Module, expr: ExprId) -> Option<(&str, ExprId, &Function)> {
    let (callee, func) = called(module, expr)?;
    Some((text_attr(func, COMPILER)?, callee, func))
}
