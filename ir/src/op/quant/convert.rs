//! `qnn.quantize`, `qnn.dequantize` and `qnn.requantize`: between real and quantised numbers.

use std::sync::Arc;

use super::param::{self, Values};
use crate::eval::Value;
use crate::op::check::{dtype_in, one_of, shape_of};
use crate::op::num::{Real, read, with_real, write};
use crate::op::util::{FLOAT, accumulator, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{CmpOp, UnaryOp};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of [`QUANTIZE`].
    pub struct QuantizeAttrs {
        /// Dtype of the result.
        out_dtype: DType = DType::I8,
        /// The axis that a vector of parameters is along.
        axis: i64 = -1,
    }
}

op_attrs! {
    /// Attributes of [`DEQUANTIZE`].
    pub struct DequantizeAttrs {
        /// Dtype of the result.
        out_dtype: DType = DType::F32,
        /// The axis that a vector of parameters is along.
        axis: i64 = -1,
    }
}

op_attrs! {
    /// Attributes of [`REQUANTIZE`].
    pub struct RequantizeAttrs {
        /// The axis that a vector of parameters is along.
        axis: i64 = -1,
        /// How halves round: `UPWARD` (also `None`), `TONEAREST` (away from zero) or `TONEVEN`.
        rounding: Arc<str> = "None".into(),
        /// Kept for Relay's texts; the result is always computed in float64.
        compute_dtype: Arc<str> = "None".into(),
        /// Dtype of the result.
        out_dtype: DType = DType::I8,
    }
}

/// The dtypes of quantised numbers.
pub(super) const QUANTISED: &[DType] = &[DType::I8, DType::U8, DType::I16, DType::U16, DType::I32];

/// `clamp(round(data / scale) + zero_point)`, halves to even.
pub static QUANTIZE: OpDef = OpDef {
    name: "qnn.quantize",
    doc: "round(data / scale) + zero_point, halves to even, clamped to the result's dtype.",
    args: &["data", "output_scale", "output_zero_point"],
    optional: 0,
    attrs: QuantizeAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, attrs| {
        let a: QuantizeAttrs = attrs.read();
        dtype_in(args, 0, FLOAT)?;
        converted(args, [1, 2], a.axis, a.out_dtype, QUANTISED)
    },
    backward: no_backward,
    eval: |args, attrs, ty| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => quantize::<F>(args, attrs, ty))
    },
    lower: Lower::Te(lower_quantize),
    onnx: &["QuantizeLinear", "DynamicQuantizeLinear"],
};

/// `(data - zero_point) * scale`.
pub static DEQUANTIZE: OpDef = OpDef {
    name: "qnn.dequantize",
    doc: "(data - zero_point) * scale.",
    args: &["data", "input_scale", "input_zero_point"],
    optional: 0,
    attrs: DequantizeAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: QUANTISED,
    infer: |args, attrs| {
        let a: DequantizeAttrs = attrs.read();
        dtype_in(args, 0, QUANTISED)?;
        converted(args, [1, 2], a.axis, a.out_dtype, FLOAT)
    },
    backward: no_backward,
    eval: |args, attrs, ty| {
        let (_, dtype) = shape_of(ty)?;
        with_real!(dtype, F => dequantize::<F>(args, attrs, ty))
    },
    lower: Lower::Te(lower_dequantize),
    onnx: &["DequantizeLinear"],
};

/// `clamp(round((data - input_zero_point) * input_scale / output_scale) + output_zero_point)`.
pub static REQUANTIZE: OpDef = OpDef {
    name: "qnn.requantize",
    doc: "Quantised numbers under other parameters: the real value over the output's scale, rounded and clamped.",
    args: &["data", "input_scale", "input_zero_point", "output_scale", "output_zero_point"],
    optional: 0,
    attrs: RequantizeAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: QUANTISED,
    infer: |args, attrs| {
        let a: RequantizeAttrs = attrs.read();
        dtype_in(args, 0, QUANTISED)?;
        Rounding::read(&a.rounding)?;
        converted(args, [1, 2], a.axis, a.out_dtype, QUANTISED)?;
        converted(args, [3, 4], a.axis, a.out_dtype, QUANTISED)
    },
    backward: no_backward,
    eval: requantize,
    lower: Lower::Te(lower_requantize),
    onnx: &["QLinearConv", "QLinearMatMul"],
};

/// The type of a conversion with a scale and a zero point at two places.
fn converted(
    args: &[Type],
    [scale, zero]: [usize; 2],
    axis: i64,
    out: DType,
    allowed: &[DType],
) -> Result<Type, OpError> {
    param::check(args, scale, &args[0], axis, true)?;
    param::check(args, zero, &args[0], axis, false)?;
    if !allowed.contains(&out) {
        return Err(OpError::new(format!("out_dtype cannot be {out}")));
    }
    tensor_type(tensor_arg(args, 0)?.shape.clone(), out)
}

/// How halves round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Upward,
    AwayFromZero,
    Even,
}

impl Rounding {
    fn read(name: &str) -> Result<Rounding, OpError> {
        one_of("rounding", name, &["None", "UPWARD", "TONEAREST", "TONEVEN"])?;
        Ok(match name {
            "TONEAREST" => Rounding::AwayFromZero,
            "TONEVEN" => Rounding::Even,
            _ => Rounding::Upward,
        })
    }

    pub fn round(self, v: f64) -> f64 {
        match self {
            Rounding::Upward => (v + 0.5).floor(),
            Rounding::AwayFromZero => v.round(),
            Rounding::Even => v.round_ties_even(),
        }
    }

    pub fn expr(self, v: Expr) -> Expr {
        let half = Expr::float(0.5, v.dtype());
        match self {
            Rounding::Upward => (v + half).unary(UnaryOp::Floor),
            Rounding::AwayFromZero => {
                let whole = (v.clone().unary(UnaryOp::Abs) + half).unary(UnaryOp::Floor);
                let zero = Expr::float(0.0, v.dtype());
                v.cmp(CmpOp::Lt, zero).select(-whole.clone(), whole)
            }
            Rounding::Even => v.unary(UnaryOp::Round),
        }
    }
}

fn quantize<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let axis = attrs.read::<QuantizeAttrs>().axis;
    let scale = Values::<F>::new(args[1].tensor()?, &shape, axis)?;
    let zero = Values::<F>::new(args[2].tensor()?, &shape, axis)?;
    let one = |(i, &v): (usize, &F)| F::of_f64((v / scale.at(i)).to_f64().round_ties_even()) + zero.at(i);
    // Converting to an integer clamps, and takes NaN to 0.
    let y: Vec<F> = read::<F>(x).iter().enumerate().map(one).collect();
    Ok(write(dtype, &shape, &y)?.into())
}

fn lower_quantize(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: QuantizeAttrs = attrs.read();
    let acc = accumulator(args[0].dtype);
    Ok(vec![g.compute("quantize", "broadcast", &out[0], |i| {
        let at = |p: usize| param::at(&args[p], i, a.axis).cast(acc);
        ((args[0].at(i).cast(acc) / at(1)).unary(UnaryOp::Round) + at(2)).cast(a.out_dtype)
    })])
}

fn dequantize<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let axis = attrs.read::<DequantizeAttrs>().axis;
    let scale = Values::<F>::new(args[1].tensor()?, &shape, axis)?;
    let zero = Values::<i32>::new(args[2].tensor()?, &shape, axis)?;
    let one = |(i, &v): (usize, &i32)| F::of_i64(v.wrapping_sub(zero.at(i)).into()) * scale.at(i);
    let y: Vec<F> = read::<i32>(x).iter().enumerate().map(one).collect();
    Ok(write(dtype, &shape, &y)?.into())
}

fn lower_dequantize(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: DequantizeAttrs = attrs.read();
    let acc = accumulator(a.out_dtype);
    Ok(vec![g.compute("dequantize", "broadcast", &out[0], |i| {
        let at = |p: usize| param::at(&args[p], i, a.axis);
        let centered = args[0].at(i).cast(DType::I32) - at(2).cast(DType::I32);
        (centered.cast(acc) * at(1).cast(acc)).cast(a.out_dtype)
    })])
}

fn requantize(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let a: RequantizeAttrs = attrs.read();
    let rounding = Rounding::read(&a.rounding)?;
    let value = |i: usize| Values::<f64>::new(args[i].tensor()?, &shape, a.axis);
    let (scale, zero, out_scale, out_zero) = (value(1)?, value(2)?, value(3)?, value(4)?);
    let one = |(i, &v): (usize, &f64)| {
        rounding.round((v - zero.at(i)) * (scale.at(i) / out_scale.at(i))) + out_zero.at(i)
    };
    let y: Vec<f64> = read::<f64>(x).iter().enumerate().map(one).collect();
    Ok(write(dtype, &shape, &y)?.into())
}

fn lower_requantize(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: RequantizeAttrs = attrs.read();
    let rounding = Rounding::read(&a.rounding)?;
    Ok(vec![g.compute("requantize", "broadcast", &out[0], |i| {
        let at = |p: usize| param::at(&args[p], i, a.axis).cast(DType::F64);
        let real = (args[0].at(i).cast(DType::F64) - at(2)) * (at(1) / at(3));
        (rounding.expr(real) + at(4)).cast(a.out_dtype)
    })])
}
