//! Products with fixed-point numbers, as quantised networks use them to rescale.

use crate::eval::Value;
use crate::op::util::{build, elements, normalize_axes, tensor_arg, tensor_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Binary, BinaryOp};
use crate::te;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

/// Products with fixed-point numbers.
pub const OPS: &[&OpDef] = &[&FIXED_POINT_MULTIPLY, &FIXED_POINT_MULTIPLY_PER_AXIS];

/// Fractional bits of a multiplier.
const FRACTION: i64 = 31;

op_attrs! {
    /// Attributes of `fixed_point_multiply`.
    pub struct FixedPointMultiplyAttrs {
        /// The multiplier, in units of 2^-31.
        multiplier: i64,
        /// The power of 2 that the product is multiplied with.
        shift: i64,
    }
}

op_attrs! {
    /// Attributes of `fixed_point_multiply_per_axis`.
    pub struct FixedPointMultiplyPerAxisAttrs {
        /// Whether the left shifts are used.
        is_lshift_required: bool = false,
        /// Whether the right shifts are used.
        is_rshift_required: bool = false,
        /// The axes that multipliers and shifts belong to.
        axes: Vec<i64> = Vec::new(),
    }
}

/// `fixed_point_multiply`: a product with one fixed-point number.
pub static FIXED_POINT_MULTIPLY: OpDef = OpDef {
    name: "fixed_point_multiply",
    doc: "x * multiplier * 2^(shift - 31), halves rounded up.",
    args: &["data"],
    optional: 0,
    attrs: FixedPointMultiplyAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: &[DType::I32],
    infer: |types, _| Ok(tensor_arg(types, 0)?.clone().into()),
    backward: no_backward,
    eval: |args, attrs, _| {
        let FixedPointMultiplyAttrs { multiplier, shift } = attrs.read();
        let data = tensor_value(args, 0)?;
        let input = elements::<i32>(data)?;
        let f = |x| multiply(x, multiplier, shift.max(0), shift.min(0).saturating_neg());
        Ok(build(data.shape(), |out| crate::op::runs::map(input, out, f))?.into())
    },
    lower: Lower::Te(|graph, args, attrs, out| {
        let FixedPointMultiplyAttrs { multiplier, shift } = attrs.read();
        let (left, right) = (Expr::int(shift.max(0)), Expr::int(shift.min(0).saturating_neg()));
        let product = |i: &[Expr]| multiply_expr(args[0].at(i), Expr::int(multiplier), left, right);
        Ok(vec![graph.compute("fixed_point_multiply", "elemwise", &out[0], product)])
    }),
    onnx: &[],
};

/// `fixed_point_multiply_per_axis`: a product with fixed-point numbers along axes.
pub static FIXED_POINT_MULTIPLY_PER_AXIS: OpDef = OpDef {
    name: "fixed_point_multiply_per_axis",
    doc: "x * y * 2^(lshift - rshift - 31), halves rounded up; y and the shifts vary along some axes.",
    args: &["x", "y", "lshift", "rshift"],
    optional: 0,
    attrs: FixedPointMultiplyPerAxisAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: &[DType::I32],
    infer: infer_per_axis,
    backward: no_backward,
    eval: eval_per_axis,
    lower: Lower::Te(lower_per_axis),
    onnx: &[],
};

/// `x * multiplier * 2^(left - right - 31)`, halves rounded up.
fn multiply(x: i32, multiplier: i64, left: i64, right: i64) -> i32 {
    let product = Binary::mul(Binary::shl(x as i64, left), multiplier);
    let shift = right.saturating_add(FRACTION);
    Binary::shr(Binary::add(product, Binary::shl(1i64, shift - 1)), shift) as i32
}

fn multiply_expr(x: Expr, multiplier: Expr, left: Expr, right: Expr) -> Expr {
    let product = x.cast(DType::I64).binary(BinaryOp::Shl, left) * multiplier;
    let half = Expr::int(1).binary(BinaryOp::Shl, right.clone() + (FRACTION - 1));
    (product + half).binary(BinaryOp::Shr, right + FRACTION).cast(DType::I32)
}

fn infer_per_axis(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    let axes = normalize_axes(&attrs.read::<FixedPointMultiplyPerAxisAttrs>().axes, data.rank())?;
    let expected: Vec<&Dim> = axes.iter().map(|&a| &data.shape[a]).collect();
    for arg in 1..4 {
        let param = tensor_arg(types, arg)?;
        let fits = |(a, b): (&Dim, &&Dim)| crate::op::util::unify_dim(a, b).is_some();
        if param.rank() != axes.len() || !param.shape.iter().zip(&expected).all(fits) {
            return Err(OpError::arg(arg, "the shape must be that of the data along the axes"));
        }
        if param.dtype != DType::I32 {
            return Err(OpError::arg(arg, format!("expected int32, found {}", param.dtype)));
        }
    }
    Ok(data.clone().into())
}

/// A parameter's shape with its axes put where the data has them, so that it broadcasts.
fn spread(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|d| if axes.contains(&d) { shape[d] } else { 1 }).collect()
}

fn eval_per_axis(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let attrs = attrs.read::<FixedPointMultiplyPerAxisAttrs>();
    let data = tensor_value(args, 0)?;
    let shape = data.shape();
    let axes = normalize_axes(&attrs.axes, shape.len())?;
    // In the order of the data's axes a parameter broadcasts; in another, its own strides do.
    let strides = crate::op::strided::Layout::dense(tensor_value(args, 1)?.shape()).strides;
    let spread_shape = spread(shape, &axes);
    let order = |d: usize| axes.iter().position(|&a| a == d).map_or(0, |at| strides[at]);
    let layout = crate::op::strided::Layout { offset: 0, strides: (0..shape.len()).map(order).collect() };
    let params = (1..4)
        .map(|arg| crate::op::strided::pick(tensor_value(args, arg)?, &layout, &spread_shape))
        .collect::<Result<Vec<_>, _>>()?;
    let [y, left, right] = [0, 1, 2].map(|p| elements::<i32>(&params[p]));
    let (x, y, left, right) = (elements::<i32>(data)?, y?, left?, right?);
    let runs = crate::op::runs::Runs::new([shape, &spread_shape], shape);
    let result = build(shape, |out: &mut [i32]| {
        runs.for_each(|at, [i, p]| {
            for k in 0..runs.len {
                let (i, p) = (i + k * runs.moves[0] as usize, p + k * runs.moves[1] as usize);
                let left = if attrs.is_lshift_required { left[p] as i64 } else { 0 };
                let right = if attrs.is_rshift_required { right[p] as i64 } else { 0 };
                out[at + k] = multiply(x[i], y[p] as i64, left, right);
            }
        });
    });
    Ok(result?.into())
}

fn lower_per_axis(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs = attrs.read::<FixedPointMultiplyPerAxisAttrs>();
    let axes = normalize_axes(&attrs.axes, args[0].rank())?;
    let product = |i: &[Expr]| {
        let place: Vec<Expr> = axes.iter().map(|&a| i[a].clone()).collect();
        let param = |arg: usize| args[arg].at(&place).cast(DType::I64);
        let shift = |used: bool, arg: usize| if used { param(arg) } else { Expr::int(0) };
        let (left, right) = (shift(attrs.is_lshift_required, 2), shift(attrs.is_rshift_required, 3));
        multiply_expr(args[0].at(i), param(1), left, right)
    };
    Ok(vec![graph.compute("fixed_point_multiply_per_axis", "broadcast", &out[0], product)])
}
