//! Which expressions have one value in all elements.

use fermata_ir::eval::Value;
use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::broadcast::shape::{BROADCAST_TO, BROADCAST_TO_LIKE};
use fermata_ir::op::elemwise::fill::{FULL, FULL_LIKE, ONES, ONES_LIKE, ZEROS, ZEROS_LIKE};
use fermata_ir::op::reduce::{COLLAPSE_SUM_LIKE, COLLAPSE_SUM_TO, MAX, MEAN, MIN, SUM};
use fermata_ir::op::transform::{REVERSE, STRIDED_SLICE, TILE, TRANSPOSE};
use fermata_ir::op::{FusePattern, Op, OpDef, Purity};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{TensorType, Type};

use super::Lazy;
use crate::fuse::is_reshape;
use crate::relay::elements::one_value;

/// Operators that only move or repeat the elements of their first argument.
static MOVES: [&OpDef; 6] = [&TRANSPOSE, &STRIDED_SLICE, &REVERSE, &TILE, &BROADCAST_TO, &BROADCAST_TO_LIKE];

impl Lazy {
    /// The value of all elements of an expression, from what is known of its operands.
    pub fn value(&self, module: &Module, expr: ExprId) -> Option<Scalar> {
        match &module.exprs[expr] {
            Expr::Const(c) => one_value(&module.consts[*c].tensor),
            Expr::Var(var) => self.vars.get(var).copied(),
            Expr::Let { body, .. } => self.exprs[*body],
            Expr::If { then, els, .. } => self.exprs[*then].filter(|v| self.exprs[*els] == Some(*v)),
            Expr::Call(_) => {
                let (op, call) = module.as_op_call(expr)?;
                self.of_call(module, expr, op, call)
            }
            Expr::Proj { .. }
            | Expr::Tuple(_)
            | Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => None,
        }
    }

    fn of_call(&self, module: &Module, expr: ExprId, op: Op, call: &Call) -> Option<Scalar> {
        let ty = module.types[expr].as_tensor()?;
        let is = |defs: &[&'static OpDef]| defs.iter().any(|def| op.is(def));
        if is(&[&ZEROS, &ZEROS_LIKE]) {
            return Some(Scalar::from_i64(ty.dtype, 0));
        }
        if is(&[&ONES, &ONES_LIKE]) {
            return Some(Scalar::from_i64(ty.dtype, 1));
        }
        if is(&[&FULL, &FULL_LIKE]) {
            return self.exprs[*call.args.last()?].filter(|v| v.dtype() == ty.dtype);
        }
        let first = self.exprs[*call.args.first()?];
        if is_reshape(op) || is(&MOVES) {
            return first;
        }
        if is(&[&MEAN, &MAX, &MIN]) {
            return first.filter(|_| elements(module, call.args[0]).is_some_and(|n| n > 0));
        }
        if is(&[&SUM, &COLLAPSE_SUM_TO, &COLLAPSE_SUM_LIKE]) {
            let (all, kept) = (elements(module, call.args[0])?, ty.elements()?);
            let count = all.checked_div(kept).filter(|n| ty.dtype.is_float() && n * kept == all)?;
            return Some(Scalar::from_f64(ty.dtype, first?.as_f64() * count as f64));
        }
        self.elementwise(op, call, ty)
    }

    /// What an operator makes, element by element, of values that are all known.
    fn elementwise(&self, op: Op, call: &Call, ty: &TensorType) -> Option<Scalar> {
        let by_element = matches!(op.pattern, FusePattern::Elemwise | FusePattern::Broadcast);
        if !by_element || op.purity != Purity::Pure || call.args.is_empty() {
            return None;
        }
        let scalar = |&arg: &ExprId| {
            let value = self.exprs[arg]?;
            let bytes = &value.bits().to_le_bytes()[..value.dtype().bytes()];
            Some(Value::from(Tensor::from_bytes(value.dtype(), &[], bytes).ok()?))
        };
        let values: Vec<Value> = call.args.iter().map(scalar).collect::<Option<_>>()?;
        let types: Vec<Type> = values.iter().map(Value::ty).collect();
        let result = op.result(&types, &call.attrs).ok()?;
        let tensor = result.as_tensor().filter(|t| t.shape.is_empty() && t.dtype == ty.dtype)?;
        (op.eval)(&values, &call.attrs, &tensor.clone().into()).ok()?.as_tensor().and_then(one_value)
    }
}

/// The number of elements of a tensor of static shape.
fn elements(module: &Module, expr: ExprId) -> Option<usize> {
    module.types[expr].as_tensor()?.elements()
}
