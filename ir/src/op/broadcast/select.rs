//! Choosing between two tensors, and the logarithm of a sum of exponentials.

use super::broadcast;
use crate::dispatch;
use crate::eval::Value;
use crate::op::elemwise::convert::cast;
use crate::op::runs::Runs;
use crate::op::util::{
    ALL, FLOAT, accumulator, broadcast_at, broadcast_dims, build, elements, result_type, same_dtype,
    static_shape, tensor_arg, tensor_type, tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::scalar::{Binary, Convert, Unary, UnaryOp};
use crate::tensor::Bool8;
use crate::tir::Expr;
use crate::types::{DType, Type};

/// Broadcasting operators that are no function of the scalar table.
pub const OPS: &[&OpDef] = &[&LOG_ADD_EXP, &WHERE];

/// `where`: one of two values, by a condition.
pub static WHERE: OpDef = OpDef {
    name: "where",
    doc: "the element of x where the condition is not 0, else that of y; all three broadcast.",
    args: &["condition", "x", "y"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, _| {
        let dtype = same_dtype(types, 1, 2)?;
        let values = broadcast_dims(&tensor_arg(types, 1)?.shape, &tensor_arg(types, 2)?.shape)?;
        tensor_type(broadcast_dims(&tensor_arg(types, 0)?.shape, &values)?, dtype)
    },
    backward: no_backward,
    eval: eval_where,
    lower: Lower::Te(|graph, args, _, out| {
        let choice = |i: &[Expr]| {
            let condition = broadcast_at(&args[0], i).cast(DType::Bool);
            condition.select(broadcast_at(&args[1], i), broadcast_at(&args[2], i))
        };
        Ok(vec![graph.compute("where", "broadcast", &out[0], choice)])
    }),
    onnx: &["Where"],
};

/// `log_add_exp`: the logarithm of a sum of exponentials.
pub static LOG_ADD_EXP: OpDef = OpDef {
    name: "log_add_exp",
    doc: "log(exp(lhs) + exp(rhs)), without overflow.",
    args: &["lhs", "rhs"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |types, _| {
        let dtype = same_dtype(types, 0, 1)?;
        tensor_type(broadcast_dims(&tensor_arg(types, 0)?.shape, &tensor_arg(types, 1)?.shape)?, dtype)
    },
    backward: no_backward,
    eval: |args, _, ty| {
        dispatch!(tensor_value(args, 0)?.dtype(), T => broadcast::<T, T, T>(args, ty, |x, y| {
            T::of_f64(log_add_exp(x.to_f64(), y.to_f64()))
        }))
    },
    lower: Lower::Te(|graph, args, _, out| {
        let wide = accumulator(out[0].dtype);
        let sum = |i: &[Expr]| {
            let x = broadcast_at(&args[0], i).cast(wide);
            let y = broadcast_at(&args[1], i).cast(wide);
            log_add_exp_expr(x, y).cast(out[0].dtype)
        };
        Ok(vec![graph.compute("log_add_exp", "broadcast", &out[0], sum)])
    }),
    onnx: &[],
};

fn log_add_exp(x: f64, y: f64) -> f64 {
    if x == y {
        // Also for equal infinities, whose difference is NaN.
        return x + std::f64::consts::LN_2;
    }
    x.greater(y) + Unary::exp(x.lesser(y) - x.greater(y)).ln_1p()
}

fn log_add_exp_expr(x: Expr, y: Expr) -> Expr {
    let dtype = x.dtype();
    let (high, low) = (x.clone().max(y.clone()), x.clone().min(y.clone()));
    let tail = (low - high.clone()).unary(UnaryOp::Exp);
    let sum = high + (Expr::float(1.0, dtype) + tail).unary(UnaryOp::Log);
    let twice = x.clone() + Expr::float(std::f64::consts::LN_2, dtype);
    x.equal(y).select(twice, sum)
}

fn eval_where(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let condition = cast(tensor_value(args, 0)?, DType::Bool)?;
    let (x, y) = (tensor_value(args, 1)?, tensor_value(args, 2)?);
    let shape = static_shape(result_type(ty)?)?;
    let runs = Runs::new([condition.shape(), x.shape(), y.shape()], &shape);
    let picks = elements::<Bool8>(&condition)?;
    dispatch!(x.dtype(), T => {
        let (x, y) = (elements::<T>(x)?, elements::<T>(y)?);
        let result = build::<T>(&shape, |out| {
            let step = runs.moves.map(usize::from);
            runs.for_each(|at, from| {
                for (k, out) in out[at..at + runs.len].iter_mut().enumerate() {
                    let place = |operand: usize| from[operand] + k * step[operand];
                    *out = if picks[place(0)].into() { x[place(1)] } else { y[place(2)] };
                }
            });
        });
        Ok(result?.into())
    })
}
