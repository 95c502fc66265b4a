//! Normalisations.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::norm::{
    BATCH_NORM, BatchNormAttrs, GROUP_NORM, GroupNormAttrs, INSTANCE_NORM, InstanceNormAttrs, LAYER_NORM,
    LRN, LayerNormAttrs, LrnAttrs, RMS_NORM, RmsNormAttrs,
};
use crate::op::transform::{REPEAT, RepeatAttrs};
use crate::types::DType;

/// Normalisations.
pub(super) const ROWS: &[Row] = &[
    Row::new("BatchNormalization", batch_norm),
    one!("GroupNormalization", group_norm),
    one!("InstanceNormalization", instance_norm),
    Row::new("LayerNormalization", layer_norm),
    one!("LRN", lrn),
    one!("RMSNormalization", rms_norm),
];

fn batch_norm(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let (gamma, beta) = (cx.arg(1)?, cx.arg(2)?);
    let (mean, variance) = (cx.arg(3)?, cx.arg(4)?);
    let epsilon = cx.float("epsilon", 1e-5)?;
    let out = cx.dtype(x)?;
    let wide = cx.dtype(mean)?;
    if cx.opset >= 14 && cx.flag("training_mode", false)? {
        return batch_norm_training(cx, x, [gamma, beta, mean, variance], epsilon);
    }
    let mut args = [x, gamma, beta, mean, variance];
    for arg in &mut args {
        *arg = cx.cast(*arg, wide)?;
    }
    let attrs = BatchNormAttrs { axis: 1, epsilon, center: true, scale: true };
    let y = cx.call_multi(&BATCH_NORM, &args, attrs.attrs())?[0];
    Ok(vec![Value::Tensor(cx.cast(y, out)?)])
}

/// The statistics of the batch itself, and the running ones moved towards them.
fn batch_norm_training(cx: &mut Cx<'_, '_>, x: ExprId, args: [ExprId; 4], epsilon: f64) -> Mapped {
    let momentum = cx.float("momentum", 0.9)?;
    let rank = cx.rank(x)?;
    let axes: Vec<usize> = (0..rank).filter(|&a| a != 1).collect();
    let mean = cx.mean(x, &axes)?;
    let centred = cx.sub(x, mean)?;
    let square = cx.mul(centred, centred)?;
    let variance = cx.mean(square, &axes)?;
    let [gamma, beta, running_mean, running_var] = args;
    let std = cx.num(&b::ADD, variance, epsilon)?;
    let std = cx.un(&e::SQRT, std)?;
    let y = cx.div(centred, std)?;
    let (gamma, beta) = (cx.along(gamma, 1, rank)?, cx.along(beta, 1, rank)?);
    let y = cx.mul(y, gamma)?;
    let mut results = vec![Value::Tensor(cx.add(y, beta)?)];
    for (running, new) in [(running_mean, mean), (running_var, variance)] {
        let new = cx.squeeze(new, &axes)?;
        let old = cx.num(&b::MULTIPLY, running, momentum)?;
        let new = cx.num(&b::MULTIPLY, new, 1.0 - momentum)?;
        results.push(Value::Tensor(cx.add(old, new)?));
    }
    Ok(results)
}

fn instance_norm(cx: &mut Cx<'_, '_>) -> Step {
    let args = [cx.arg(0)?, cx.arg(1)?, cx.arg(2)?];
    let epsilon = cx.float("epsilon", 1e-5)?;
    let attrs = InstanceNormAttrs { axis: 1, epsilon, center: true, scale: true };
    cx.call(&INSTANCE_NORM, &args, attrs.attrs())
}

/// Before opset 21 scale and bias belong to the groups, since then to the channels.
fn group_norm(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let (mut gamma, mut beta) = (cx.arg(1)?, cx.arg(2)?);
    let Some(num_groups) = cx.int_opt("num_groups")?.filter(|&n| n > 0) else {
        return wrong("GroupNormalization needs num_groups");
    };
    if cx.opset < 21 {
        let repeats = cx.size(x, 1)? as i64 / num_groups;
        let attrs = RepeatAttrs { repeats, axis: Some(0) };
        gamma = cx.call(&REPEAT, &[gamma], attrs.attrs())?;
        beta = cx.call(&REPEAT, &[beta], attrs.attrs())?;
    }
    let epsilon = cx.float("epsilon", 1e-5)?;
    let attrs = GroupNormAttrs { num_groups, axis: 1, epsilon, center: true, scale: true };
    cx.call(&GROUP_NORM, &[x, gamma, beta], attrs.attrs())
}

/// The dimensions from the node's axis on as one, where they are several: the data, how
/// many elements a line has, and the shape to go back to.
fn as_lines(cx: &mut Cx<'_, '_>, x: ExprId, axis: usize) -> Step<(ExprId, usize, Option<Vec<usize>>)> {
    let rank = cx.rank(x)?;
    if axis + 1 == rank {
        return Ok((x, cx.size(x, axis)?, None));
    }
    let shape = cx.shape(x)?;
    let line: usize = shape[axis..].iter().product();
    let mut flat = shape[..axis].to_vec();
    flat.push(line);
    Ok((cx.reshape_to(x, &flat)?, line, Some(shape)))
}

/// A scale or bias for each element of a line.
fn of_line(cx: &mut Cx<'_, '_>, v: Option<ExprId>, x: ExprId, axis: usize, default: f64) -> Step {
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    let line: Vec<usize> = (axis..rank).map(|d| cx.size(x, d)).collect::<Step<_>>()?;
    let count: usize = line.iter().product();
    let Some(v) = v else { return cx.filled(&[count], dtype, default) };
    let v = cx.cast(v, dtype)?;
    let own = cx.shape(v)?;
    if own.iter().product::<usize>() == count {
        return cx.reshape_to(v, &[count]);
    }
    let v = cx.broadcast_to(v, &line)?;
    cx.reshape_to(v, &[count])
}

fn layer_norm(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(x)?)?;
    let epsilon = cx.float("epsilon", 1e-5)?;
    let (scale, bias) = (cx.opt(1)?, cx.opt(2)?);
    let gamma = of_line(cx, scale, x, axis, 1.0)?;
    let beta = of_line(cx, bias, x, axis, 0.0)?;
    let (lines, _, shape) = as_lines(cx, x, axis)?;
    let attrs = LayerNormAttrs { axis: -1, epsilon, center: true, scale: true };
    let mut y = cx.call(&LAYER_NORM, &[lines, gamma, beta], attrs.attrs())?;
    if let Some(shape) = shape {
        y = cx.reshape_to(y, &shape)?;
    }
    let mut results = vec![Value::Tensor(y)];
    if cx.node.outputs.len() > 1 {
        let axes: Vec<usize> = (axis..cx.rank(x)?).collect();
        let stash = if cx.int("stash_type", 1)? == 1 { DType::F32 } else { cx.dtype(x)? };
        let x = cx.cast(x, stash)?;
        let mean = cx.mean(x, &axes)?;
        let centred = cx.sub(x, mean)?;
        let square = cx.mul(centred, centred)?;
        let variance = cx.mean(square, &axes)?;
        let variance = cx.num(&b::ADD, variance, epsilon)?;
        let inverse = cx.un(&e::RSQRT, variance)?;
        results.extend([Value::Tensor(mean), Value::Tensor(inverse)]);
    }
    Ok(results)
}

fn rms_norm(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(x)?)?;
    let epsilon = cx.float("epsilon", 1e-5)?;
    let scale = cx.opt(1)?;
    let gamma = of_line(cx, scale, x, axis, 1.0)?;
    let (lines, _, shape) = as_lines(cx, x, axis)?;
    let y = cx.call(&RMS_NORM, &[lines, gamma], RmsNormAttrs { axis: -1, epsilon }.attrs())?;
    match shape {
        Some(shape) => cx.reshape_to(y, &shape),
        None => Ok(y),
    }
}

fn lrn(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let Some(size) = cx.int_opt("size")? else { return wrong("LRN needs a size") };
    let attrs = LrnAttrs {
        size,
        axis: 1,
        bias: cx.float("bias", 1.0)?,
        alpha: cx.float("alpha", 1e-4)?,
        beta: cx.float("beta", 0.75)?,
    };
    cx.call(&LRN, &[x], attrs.attrs())
}
