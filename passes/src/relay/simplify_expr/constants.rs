//! Sums and products with constants: neighbours become one.
//!
//! `(x + c1) * c2` is `x * c2 + c1 * c2`, `(x + c1) + c2` is `x + (c1 + c2)`, and products alike.
//! Of integers, which wrap, that is exact; of floats rounding changes.

use fermata_ir::eval::eval_expr;
use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, MULTIPLY};
use fermata_ir::op::{Attrs, Op, OpDef};

use super::located;

/// A call of `def` with a constant on either side: what is no constant, and the constant.
fn with_constant(module: &Module, op: Op, call: &Call, def: &'static OpDef) -> Option<(ExprId, ExprId)> {
    let &[a, b] = &call.args[..] else { return None };
    let constant = |e: ExprId| module.as_const(e).is_some();
    match (constant(a), constant(b)) {
        _ if !op.is(def) => None,
        (false, true) => Some((a, b)),
        (true, false) => Some((b, a)),
        (true, true) | (false, false) => None,
    }
}

/// The call with its constant joined with that of the call before it.
pub fn join_constants(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let outer = if op.is(&ADD) { &ADD } else { &MULTIPLY };
    let (data, second) = with_constant(module, op, call, outer)?;
    let (inner_op, inner) = module.as_op_call(data)?;
    let inner = inner.clone();
    if let Some((source, first)) = with_constant(module, inner_op, &inner, outer) {
        let joined = computed(module, expr, outer, [first, second])?;
        return located(module, expr).call(outer, &[source, joined], Attrs::NONE).ok();
    }
    if outer.name != MULTIPLY.name {
        return None;
    }
    let (source, first) = with_constant(module, inner_op, &inner, &ADD)?;
    let shift = computed(module, expr, &MULTIPLY, [first, second])?;
    let mut build = located(module, expr);
    let scaled = build.call(&MULTIPLY, &[source, second], Attrs::NONE).ok()?;
    build.call(&ADD, &[scaled, shift], Attrs::NONE).ok()
}

/// What an operator makes of two constants, as a constant.
fn computed(module: &mut Module, at: ExprId, def: &'static OpDef, args: [ExprId; 2]) -> Option<ExprId> {
    let call = located(module, at).call(def, &args, Attrs::NONE).ok()?;
    let value = eval_expr(module, call).ok()?;
    Some(module.constant(value.as_tensor()?.clone()))
}

/// True if two expressions are one value: every mention of a variable is an expression of its own.
pub fn same_value(module: &Module, a: ExprId, b: ExprId) -> bool {
    a == b || matches!((&module.exprs[a], &module.exprs[b]), (Expr::Var(x), Expr::Var(y)) if x == y)
}

/// `x + x` as `x * 2`: exact in every type.
pub fn double(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&ADD) {
        return None;
    }
    let dtype = module.types[expr].as_tensor()?.dtype;
    if !same_value(module, call.args[0], call.args[1]) || module.as_const(call.args[0]).is_some() {
        return None;
    }
    let two = fermata_ir::scalar::Scalar::from_i64(dtype, 2).bits().to_le_bytes();
    let two = fermata_ir::tensor::Tensor::from_bytes(dtype, &[], &two[..dtype.bytes()]).ok()?;
    let mut build = located(module, expr);
    let factor = build.constant(two);
    build.call(&MULTIPLY, &[call.args[0], factor], Attrs::NONE).ok()
}
