//! Sums of integers: products, what is added to them, and means.

use fermata_ir::expr::{Call, ExprId};
use fermata_ir::op::broadcast::{MULTIPLY, SUBTRACT};
use fermata_ir::op::conv::{CONV2D, Conv2dAttrs};
use fermata_ir::op::elemwise::{CAST, CastAttrs};
use fermata_ir::op::nn::{BATCH_MATMUL, BIAS_ADD, BiasAddAttrs, DENSE, DenseAttrs, MATMUL, MatmulAttrs};
use fermata_ir::op::pool::{AVG_POOL2D, AvgPool2dAttrs, GLOBAL_AVG_POOL2D, GlobalPool2dAttrs};
use fermata_ir::op::quant::{QNN_BATCH_MATMUL, QNN_CONV2D, QNN_DENSE, QUANTIZE, QuantizeAttrs};
use fermata_ir::op::reduce::{MEAN, ReduceAttrs, SUM};
use fermata_ir::op::transform::{TRANSPOSE, TransposeAttrs};
use fermata_ir::op::{Attrs, Op, OpAttrs};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::integer::{Affine, Params, Work};

/// A product of quantised operands, exact in int32.
pub fn product(work: &mut Work<'_>, op: Op, call: &Call) -> Result<Affine, String> {
    let (mut data, mut weight) = (work.quantised(call.args[0])?, work.quantised(call.args[1])?);
    data.params.single()?;
    if [&data, &weight].iter().any(|a| !matches!(a.params.dtype, DType::I8 | DType::U8)) {
        return Err("its operands are no bytes".into());
    }
    let rank = |work: &Work<'_>, e: ExprId| work.module.types[e].as_tensor().map_or(0, |t| t.rank());
    let (def, attrs, along, axis) = if op.is(&CONV2D) {
        let attrs = Conv2dAttrs { out_dtype: Some(DType::I32), ..call.attrs.read() };
        let out = if attrs.out_layout.is_empty() { &attrs.data_layout } else { &attrs.out_layout };
        let (output, channel) = (attrs.kernel_layout.find('O'), out.find('C'));
        (&QNN_CONV2D, attrs.attrs(), output, channel)
    } else if op.is(&BATCH_MATMUL) {
        weight.params.single()?;
        (&QNN_BATCH_MATMUL, call.attrs.clone(), None, None)
    } else {
        let mut units = None;
        if op.is(&DENSE) {
            units = call.attrs.read::<DenseAttrs>().units;
        } else if op.is(&MATMUL) {
            let attrs: MatmulAttrs = call.attrs.read();
            units = attrs.units;
            if attrs.transpose_a {
                data.expr = turned(work, data.expr)?;
            }
            if !attrs.transpose_b {
                weight.expr = turned(work, weight.expr)?;
                weight.params.axis = weight.params.axis.map(|axis| 1 - axis.min(1));
            }
        }
        let attrs = DenseAttrs { units, out_dtype: Some(DType::I32) };
        let last = rank(work, data.expr).checked_sub(1);
        (&QNN_DENSE, attrs.attrs(), Some(0), last)
    };
    if weight.params.axis.is_some() && weight.params.axis != along {
        return Err("the weight's scales are not along its output channels".into());
    }
    let (x, w) = (&data.params, &weight.params);
    let args = [data.expr, weight.expr, x.scale, x.zero, w.scale, w.zero];
    let sums = work.call(def, &args, attrs)?;
    let scale = work.product(x.scale, w.scale)?;
    let zero = work.integer(DType::I32, 0);
    let several = work.module.types[scale].as_tensor().is_none_or(|t| t.elements() != Some(1));
    let params = Params { scale, zero, axis: axis.filter(|_| several), dtype: DType::I32 };
    Ok(Affine { expr: sums, params })
}

/// The last two dimensions the other way round.
fn turned(work: &mut Work<'_>, expr: ExprId) -> Result<ExprId, String> {
    let rank = work.module.types[expr].as_tensor().map_or(0, |t| t.rank()) as i64;
    let axes = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    work.call(&TRANSPOSE, &[expr], TransposeAttrs { axes: Some(axes) }.attrs())
}

/// Sums in int32 and what is added to them, under the scales of the sums.
pub fn biased(
    work: &mut Work<'_>,
    expr: ExprId,
    op: Op,
    call: &Call,
    sum: ExprId,
    bias: ExprId,
    swapped: bool,
) -> Result<Affine, String> {
    let sum = work.quantised(sum)?;
    let shape = |work: &Work<'_>, e: ExprId| work.module.types[e].as_tensor().and_then(|t| t.static_shape());
    let (Some(result), Some(added)) = (shape(work, expr), shape(work, bias)) else {
        return Err("a shape is not known".into());
    };
    if shape(work, sum.expr).as_ref() != Some(&result) {
        return Err("what is added is larger than the sums".into());
    }
    // The axis of the bias that the scales of the sums are along.
    let axis = match sum.params.axis {
        None => None,
        Some(axis) if op.is(&BIAS_ADD) => {
            let own = call.attrs.read::<BiasAddAttrs>().axis;
            let own = if own < 0 { own + result.len() as i64 } else { own };
            Some(0).filter(|_| own == axis as i64)
        }
        Some(axis) => (axis + added.len()).checked_sub(result.len()).filter(|&a| added[a] == result[axis]),
    };
    if sum.params.axis.is_some() && axis.is_none() {
        return Err("what is added is not along the channels".into());
    }
    let params = Params { axis, ..sum.params.clone() };
    let integers = match work.module.as_const(bias).is_some() {
        true => {
            let axis = axis.map_or(-1, |a| a as i64);
            let attrs = QuantizeAttrs { out_dtype: DType::I32, axis };
            work.call(&QUANTIZE, &[bias, params.scale, params.zero], attrs.attrs())?
        }
        false => {
            let affine = work.quantised(bias)?;
            match close(work, &affine.params, &params) {
                true => affine.expr,
                false => work.requantised(&affine, &params)?,
            }
        }
    };
    let args = if swapped { [integers, sum.expr] } else { [sum.expr, integers] };
    Ok(Affine { expr: work.call(op.0, &args, call.attrs.clone())?, params: sum.params })
}

/// Whether int32 numbers stand for the same but for the rounding of their scales.
fn close(work: &Work<'_>, a: &Params, b: &Params) -> bool {
    let (Some(x), Some(y)) = (work.floats(a.scale), work.floats(b.scale)) else { return false };
    let zeros = work.integers(a.zero).is_some_and(|z| z.iter().all(|&z| z == 0));
    let near = |(x, y): (&f32, &f32)| (x - y).abs() <= y.abs() * 4.0 * f32::EPSILON;
    a.dtype == DType::I32 && zeros && a.axis == b.axis && x.len() == y.len() && x.iter().zip(&y).all(near)
}

/// Further bits of means of windows.
const MORE: i64 = 256;

/// Sums and means of bytes: of a known number of elements as a sum under another scale; of windows,
/// which may reach past the edge, as a mean with more bits.
pub fn mean(work: &mut Work<'_>, expr: ExprId, op: Op, call: &Call) -> Result<Affine, String> {
    let data = work.quantised(call.args[0])?;
    data.params.single()?;
    if !matches!(data.params.dtype, DType::I8 | DType::U8) {
        return Err("its operand is no bytes".into());
    }
    let elements = |work: &Work<'_>, e: ExprId| work.module.types[e].as_tensor().and_then(|t| t.elements());
    let mut wide = work.call(&CAST, &[data.expr], CastAttrs { dtype: DType::I32 }.attrs())?;
    if work.integers(data.params.zero).is_none_or(|zero| zero != [0]) {
        let zero = work.zero(&Params { dtype: DType::I32, ..data.params.clone() })?;
        wide = work.call(&SUBTRACT, &[wide, zero], Attrs::NONE)?;
    }
    let none = work.integer(DType::I32, 0);
    let (made, divisor) = if op.is(&AVG_POOL2D) {
        let window: i64 = call.attrs.read::<AvgPool2dAttrs>().pool_size.iter().product();
        fits(window, MORE)?;
        let more = work.integer(DType::I32, MORE);
        let wide = work.call(&MULTIPLY, &[wide, more], Attrs::NONE)?;
        (work.call(&AVG_POOL2D, &[wide], call.attrs.clone())?, MORE as f32)
    } else {
        let (all, left) = (elements(work, call.args[0]), elements(work, expr));
        let number =
            all.zip(left).and_then(|(all, left)| all.checked_div(left)).ok_or("its size is not known")?;
        fits(number as i64, 1)?;
        let attrs = match op.is(&GLOBAL_AVG_POOL2D) {
            true => {
                let attrs: GlobalPool2dAttrs = call.attrs.read();
                let place = |letter| attrs.layout.find(letter).map(|p| p as i64);
                let axes = place('H')
                    .zip(place('W'))
                    .filter(|_| attrs.layout.len() == 4 && attrs.out_layout.is_empty());
                let (h, w) = axes.ok_or("its layout is in parts")?;
                ReduceAttrs { axis: Some(vec![h, w]), keepdims: true, exclude: false }
            }
            false => call.attrs.read(),
        };
        let divisor = if op.is(&SUM) { 1.0 } else { number as f32 };
        debug_assert!(op.is(&SUM) || op.is(&MEAN) || op.is(&GLOBAL_AVG_POOL2D));
        (work.call(&SUM, &[wide], attrs.attrs())?, divisor)
    };
    let factor = work.module.constant(Tensor::scalar(1.0 / divisor));
    let scale = work.product(data.params.scale, factor)?;
    Ok(Affine { expr: made, params: Params { scale, zero: none, axis: None, dtype: DType::I32 } })
}

/// An error if so many bytes, each times a factor, may not have an int32 sum.
fn fits(number: i64, factor: i64) -> Result<(), String> {
    let most = number.checked_mul(255).and_then(|n| n.checked_mul(factor));
    match most.is_some_and(|n| n <= i64::from(i32::MAX)) {
        true => Ok(()),
        false => Err("its sum may not fit int32".into()),
    }
}
