//! Quantised operators, as compositions: integers minus zero points, products in int32,
//! scales in float.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::reduce::{MAX, MIN};
use crate::op::transform::{REPEAT, RepeatAttrs};
use crate::types::DType;

/// int8 and its relatives.
pub(super) const ROWS: &[Row] = &[
    one!("ConvInteger", conv_integer),
    one!("DequantizeLinear", dequantize),
    Row::new("DynamicQuantizeLinear", dynamic_quantize),
    one!("MatMulInteger", matmul_integer),
    one!("QLinearConv", qlinear_conv),
    one!("QLinearMatMul", qlinear_matmul),
    one!("QuantizeLinear", quantize),
];

impl Cx<'_, '_> {
    /// `x - zero` in int32; a vector of zero points lies along `axis`, counted from the end.
    fn centred(&mut self, x: ExprId, zero: Option<ExprId>, from_end: usize) -> Step {
        let x = self.cast(x, DType::I32)?;
        let Some(zero) = zero else { return Ok(x) };
        let zero = self.cast(zero, DType::I32)?;
        let zero = self.placed(zero, from_end)?;
        self.sub(x, zero)
    }

    /// A scalar, or a vector that lies along a dimension counted from the end, to broadcast.
    fn placed(&mut self, v: ExprId, from_end: usize) -> Step {
        match self.rank(v)? {
            1 if self.size(v, 0)? == 1 => self.reshape(v, &[]),
            1 => self.expand_dims(v, 1, from_end),
            _ => Ok(v),
        }
    }

    /// Rounds, adds the zero point and saturates.
    fn requantized(&mut self, x: ExprId, zero: ExprId, from_end: usize) -> Step {
        let dtype = self.dtype(zero)?;
        let x = self.un(&e::ROUND, x)?;
        let zero = self.cast(zero, self.dtype(x)?)?;
        let zero = self.placed(zero, from_end)?;
        let x = self.add(x, zero)?;
        self.cast(x, dtype)
    }
}

fn is_quantized(dtype: DType) -> bool {
    dtype.is_int() && dtype.bytes() <= 2
}

/// A scale or zero point that broadcasts against `x`: a scalar, a value for each index of
/// an axis, or one for each block along it.
fn spread(cx: &mut Cx<'_, '_>, v: ExprId, x: ExprId, axis: i64) -> Step {
    let (rank, own) = (cx.rank(x)?, cx.rank(v)?);
    let block = cx.int("block_size", 0)?;
    if own == 0 || own == 1 && block == 0 && cx.size(v, 0)? == 1 {
        return cx.reshape(v, &[]);
    }
    let axis = cx.axis(axis, rank)?;
    if block == 0 {
        return match own {
            1 => cx.along(v, axis, rank),
            _ => wrong("a scale must be a scalar or a vector"),
        };
    }
    if own != rank || block < 0 {
        return wrong("the scale of a blocked quantisation has the rank of the data");
    }
    let v = cx.call(&REPEAT, &[v], RepeatAttrs { repeats: block, axis: Some(axis as i64) }.attrs())?;
    let size = cx.size(x, axis)?;
    match cx.size(v, axis)? == size {
        true => Ok(v),
        false => cx.part(v, axis, 0, size),
    }
}

fn quantize(cx: &mut Cx<'_, '_>) -> Step {
    let (x, scale, zero) = (cx.arg(0)?, cx.arg(1)?, cx.opt(2)?);
    let axis = cx.int("axis", 1)?;
    let asked = match cx.int("output_dtype", 0)? {
        0 => None,
        _ => cx.dtype_attr("output_dtype")?,
    };
    let to = match (zero, asked) {
        (Some(z), _) => cx.dtype(z)?,
        (None, asked) => asked.unwrap_or(DType::U8),
    };
    if !is_quantized(to) {
        return refuse(format!("QuantizeLinear to {to} is not supported"));
    }
    // `precision` says in which float the division is made.
    let float = match cx.int("precision", 0)? {
        0 if cx.dtype(x)?.is_float() => cx.dtype(x)?,
        0 => cx.dtype(scale)?,
        _ => cx.dtype_attr("precision")?.unwrap_or(DType::F32),
    };
    let scale = spread(cx, scale, x, axis)?;
    let (y, scale) = (cx.cast(x, float)?, cx.cast(scale, float)?);
    let y = cx.div(y, scale)?;
    let y = cx.un(&e::ROUND, y)?;
    // 16-bit integers are not exact in half precision.
    let y = if float.bytes() == 2 { cx.cast(y, DType::F32)? } else { y };
    let y = match zero {
        None => y,
        Some(zero) => {
            let zero = cx.cast(zero, cx.dtype(y)?)?;
            let zero = spread(cx, zero, x, axis)?;
            cx.add(y, zero)?
        }
    };
    cx.cast(y, to)
}

fn dequantize(cx: &mut Cx<'_, '_>) -> Step {
    let (x, scale, zero) = (cx.arg(0)?, cx.arg(1)?, cx.opt(2)?);
    let axis = cx.int("axis", 1)?;
    let float = cx.dtype(scale)?;
    let out = match cx.int("output_dtype", 0)? {
        0 => float,
        _ => cx.dtype_attr("output_dtype")?.unwrap_or(float),
    };
    let mut y = cx.cast(x, DType::I32)?;
    if let Some(zero) = zero {
        let zero = cx.cast(zero, DType::I32)?;
        let zero = spread(cx, zero, x, axis)?;
        y = cx.sub(y, zero)?;
    }
    let y = cx.cast(y, float)?;
    let scale = spread(cx, scale, x, axis)?;
    let y = cx.mul(y, scale)?;
    cx.cast(y, out)
}

fn dynamic_quantize(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let axes: Vec<usize> = (0..cx.rank(x)?).collect();
    let high = cx.reduce(&MAX, x, &axes, false)?;
    let high = cx.num(&b::MAXIMUM, high, 0.0)?;
    let low = cx.reduce(&MIN, x, &axes, false)?;
    let low = cx.num(&b::MINIMUM, low, 0.0)?;
    let range = cx.sub(high, low)?;
    let scale = cx.num(&b::DIVIDE, range, 255.0)?;
    let zero = cx.div(low, scale)?;
    let zero = cx.un(&e::NEGATIVE, zero)?;
    let zero = cx.un(&e::ROUND, zero)?;
    let zero = cx.cast(zero, DType::U8)?;
    let y = cx.div(x, scale)?;
    let y = cx.requantized(y, zero, 0)?;
    Ok(vec![Value::Tensor(y), Value::Tensor(scale), Value::Tensor(zero)])
}

fn matmul_integer(cx: &mut Cx<'_, '_>) -> Step {
    let (x, y) = (cx.arg(0)?, cx.arg(1)?);
    let (zero_x, zero_y) = (cx.opt(2)?, cx.opt(3)?);
    let x = cx.centred(x, zero_x, 1)?;
    let y = cx.centred(y, zero_y, 0)?;
    cx.matmul(x, y)
}

fn conv_integer(cx: &mut Cx<'_, '_>) -> Step {
    let (x, w) = (cx.arg(0)?, cx.arg(1)?);
    let (zero_x, zero_w) = (cx.opt(2)?, cx.opt(3)?);
    let rank = cx.rank(w)?;
    let x = cx.centred(x, zero_x, 0)?;
    let w = cx.centred(w, zero_w, rank.saturating_sub(1))?;
    cx.conv(x, w, None)
}

/// The accumulator times `scale_x * scale_y / scale_out`.
fn rescaled(cx: &mut Cx<'_, '_>, acc: ExprId, scales: [ExprId; 3], from_end: [usize; 2]) -> Step {
    let mut wide = [acc; 3];
    for (wide, &s) in wide.iter_mut().zip(&scales) {
        *wide = cx.cast(s, DType::F32)?;
    }
    let x = cx.placed(wide[0], from_end[0])?;
    let y = cx.placed(wide[1], from_end[1])?;
    let out = cx.placed(wide[2], 0)?;
    let scale = cx.mul(x, y)?;
    let scale = cx.div(scale, out)?;
    let acc = cx.cast(acc, DType::F32)?;
    cx.mul(acc, scale)
}

fn qlinear_matmul(cx: &mut Cx<'_, '_>) -> Step {
    let (x, y) = (cx.arg(0)?, cx.arg(3)?);
    let (zero_x, zero_y) = (cx.opt(2)?, cx.opt(5)?);
    let x = cx.centred(x, zero_x, 1)?;
    let y = cx.centred(y, zero_y, 0)?;
    let acc = cx.matmul(x, y)?;
    let scales = [cx.arg(1)?, cx.arg(4)?, cx.arg(6)?];
    let z = rescaled(cx, acc, scales, [1, 0])?;
    let zero = cx.arg(7)?;
    cx.requantized(z, zero, 0)
}

fn qlinear_conv(cx: &mut Cx<'_, '_>) -> Step {
    let (x, w) = (cx.arg(0)?, cx.arg(3)?);
    let (zero_x, zero_w) = (cx.opt(2)?, cx.opt(5)?);
    let rank = cx.rank(w)?;
    let x = cx.centred(x, zero_x, 0)?;
    let w = cx.centred(w, zero_w, rank.saturating_sub(1))?;
    let mut acc = cx.conv(x, w, None)?;
    if let Some(bias) = cx.opt(8)? {
        acc = cx.bias_add(acc, bias)?;
    }
    let scales = [cx.arg(1)?, cx.arg(4)?, cx.arg(6)?];
    let y = rescaled(cx, acc, scales, [0, rank.saturating_sub(2)])?;
    let zero = cx.arg(7)?;
    cx.requantized(y, zero, 0)
}
