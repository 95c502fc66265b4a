//! Losses and one step of training.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::nn::{LOG_SOFTMAX, SoftmaxAttrs};
use crate::op::reduce::{MEAN, SUM};

/// The domain of training steps.
const TRAINING: &str = "ai.onnx.preview.training";

/// Losses.
pub(super) const ROWS: &[Row] = &[
    one!("NegativeLogLikelihoodLoss", |cx| {
        let x = cx.arg(0)?;
        likelihood(cx, x)
    }),
    Row::new("SoftmaxCrossEntropyLoss", |cx| {
        let x = cx.arg(0)?;
        let log = cx.call(&LOG_SOFTMAX, &[x], SoftmaxAttrs { axis: 1 }.attrs())?;
        Ok(vec![Value::Tensor(likelihood(cx, log)?), Value::Tensor(log)])
    }),
    Row::new("Adagrad", |cx| each_tensor(cx, 2, adagrad)).of(TRAINING),
    Row::new("Adam", |cx| each_tensor(cx, 3, adam)).of(TRAINING),
    Row::new("Momentum", |cx| each_tensor(cx, 2, momentum)).of(TRAINING),
];

/// The negative of each target's log probability, weighted and reduced as the node says.
fn likelihood(cx: &mut Cx<'_, '_>, log: ExprId) -> Step {
    let target = cx.arg(1)?;
    let ignored = match cx.int_opt("ignore_index")? {
        Some(index) => Some(cx.num(&b::EQUAL, target, index as f64)?),
        None => None,
    };
    let zero = cx.scalar(cx.dtype(target)?, 0.0);
    let class = match ignored {
        Some(ignored) => cx.select(ignored, zero, target)?,
        None => target,
    };
    let place = cx.expand_dims(class, 1, 1)?;
    let chosen = cx.gather(log, place, 1)?;
    let chosen = cx.squeeze(chosen, &[1])?;
    let mut loss = cx.un(&e::NEGATIVE, chosen)?;
    let mut weight = match cx.opt(2)? {
        Some(weight) => Some(cx.take(weight, class, 0)?),
        None => None,
    };
    if let Some(ignored) = ignored {
        let dtype = cx.dtype(loss)?;
        let (none, one) = (cx.scalar(dtype, 0.0), cx.scalar(dtype, 1.0));
        weight = Some(cx.select(ignored, none, weight.unwrap_or(one))?);
    }
    if let Some(weight) = weight {
        loss = cx.mul(loss, weight)?;
    }
    let axes: Vec<usize> = (0..cx.rank(loss)?).collect();
    match (cx.text("reduction", "mean")?, weight) {
        ("none", _) => Ok(loss),
        ("sum", _) => cx.reduce(&SUM, loss, &axes, false),
        ("mean", None) => cx.reduce(&MEAN, loss, &axes, false),
        ("mean", Some(weight)) => {
            let sum = cx.reduce(&SUM, loss, &axes, false)?;
            let weights = cx.reduce(&SUM, weight, &axes, false)?;
            cx.div(sum, weights)
        }
        (other, _) => wrong(format!("reduction `{other}` does not exist")),
    }
}

/// What a step of training does with one tensor: rate, count, and the tensor, its gradient
/// and its state; the new tensor and state.
type Update = for<'i, 'a> fn(&mut Cx<'i, 'a>, ExprId, ExprId, &[ExprId]) -> Step<Vec<ExprId>>;

/// Applies an update to each of the optimised tensors, which lie side by side in the operands.
fn each_tensor(cx: &mut Cx<'_, '_>, states: usize, update: Update) -> Mapped {
    let (rate, count) = (cx.arg(0)?, cx.arg(1)?);
    let groups = states + 1;
    let operands = (2..cx.arity()).map(|i| cx.arg(i)).collect::<Step<Vec<_>>>()?;
    if operands.len() % groups != 0 {
        return wrong("the operands of a training step do not divide evenly");
    }
    let tensors = operands.len() / groups;
    let mut columns: Vec<Vec<ExprId>> = Vec::new();
    for t in 0..tensors {
        let own: Vec<ExprId> = (0..groups).map(|g| operands[g * tensors + t]).collect();
        columns.push(update(cx, rate, count, &own)?);
    }
    let results = columns.first().map_or(0, Vec::len);
    Ok((0..results).flat_map(|r| columns.iter().map(move |c| Value::Tensor(c[r]))).collect())
}

/// The gradient with the regularisation's part.
fn regularised(cx: &mut Cx<'_, '_>, x: ExprId, gradient: ExprId) -> Step {
    let norm = cx.float("norm_coefficient", 0.0)?;
    let part = cx.num(&b::MULTIPLY, x, norm)?;
    cx.add(part, gradient)
}

fn adagrad(cx: &mut Cx<'_, '_>, rate: ExprId, count: ExprId, own: &[ExprId]) -> Step<Vec<ExprId>> {
    let (x, h) = (own[0], own[2]);
    let (decay, epsilon) = (cx.float("decay_factor", 0.0)?, cx.float("epsilon", 1e-6)?);
    let count = cx.cast(count, cx.dtype(rate)?)?;
    let slower = cx.num(&b::MULTIPLY, count, decay)?;
    let slower = cx.num(&b::ADD, slower, 1.0)?;
    let rate = cx.div(rate, slower)?;
    let g = regularised(cx, x, own[1])?;
    let square = cx.mul(g, g)?;
    let h = cx.add(h, square)?;
    let root = cx.un(&e::SQRT, h)?;
    let root = cx.num(&b::ADD, root, epsilon)?;
    let step = cx.mul(rate, g)?;
    let step = cx.div(step, root)?;
    Ok(vec![cx.sub(x, step)?, h])
}

fn adam(cx: &mut Cx<'_, '_>, rate: ExprId, count: ExprId, own: &[ExprId]) -> Step<Vec<ExprId>> {
    let (x, v, h) = (own[0], own[2], own[3]);
    let (alpha, beta) = (cx.float("alpha", 0.9)?, cx.float("beta", 0.999)?);
    let epsilon = cx.float("epsilon", 1e-6)?;
    let after = cx.float("norm_coefficient_post", 0.0)?;
    let g = regularised(cx, x, own[1])?;
    let moved = |cx: &mut Cx<'_, '_>, old: ExprId, new: ExprId, keep: f64| -> Step {
        let old = cx.num(&b::MULTIPLY, old, keep)?;
        let new = cx.num(&b::MULTIPLY, new, 1.0 - keep)?;
        cx.add(old, new)
    };
    let v = moved(cx, v, g, alpha)?;
    let square = cx.mul(g, g)?;
    let h = moved(cx, h, square, beta)?;
    // The first steps are corrected for the state's start at zero.
    let dtype = cx.dtype(rate)?;
    let count = cx.cast(count, dtype)?;
    let power = |cx: &mut Cx<'_, '_>, base: f64| -> Step {
        let base = cx.scalar(dtype, base);
        let power = cx.bin(&b::POWER, base, count)?;
        let one = cx.scalar(dtype, 1.0);
        cx.sub(one, power)
    };
    let (a, c) = (power(cx, alpha)?, power(cx, beta)?);
    let c = cx.un(&e::SQRT, c)?;
    let corrected = cx.mul(rate, c)?;
    let corrected = cx.div(corrected, a)?;
    let first = cx.num(&b::EQUAL, count, 0.0)?;
    let rate = cx.select(first, rate, corrected)?;
    let root = cx.un(&e::SQRT, h)?;
    let root = cx.num(&b::ADD, root, epsilon)?;
    let step = cx.mul(rate, v)?;
    let step = cx.div(step, root)?;
    let x = cx.sub(x, step)?;
    Ok(vec![cx.num(&b::MULTIPLY, x, 1.0 - after)?, v, h])
}

fn momentum(cx: &mut Cx<'_, '_>, rate: ExprId, count: ExprId, own: &[ExprId]) -> Step<Vec<ExprId>> {
    let (x, v) = (own[0], own[2]);
    let (alpha, beta) = (cx.float("alpha", 0.0)?, cx.float("beta", 0.0)?);
    let g = regularised(cx, x, own[1])?;
    let dtype = cx.dtype(g)?;
    let first = cx.num(&b::EQUAL, count, 0.0)?;
    let (one, beta) = (cx.scalar(dtype, 1.0), cx.scalar(dtype, beta));
    let beta = cx.select(first, one, beta)?;
    let kept = cx.num(&b::MULTIPLY, v, alpha)?;
    let new = cx.mul(beta, g)?;
    let v = cx.add(kept, new)?;
    let direction = match cx.text("mode", "standard")? {
        "nesterov" => {
            let ahead = cx.num(&b::MULTIPLY, v, alpha)?;
            cx.add(g, ahead)?
        }
        _ => v,
    };
    let step = cx.mul(rate, direction)?;
    Ok(vec![cx.sub(x, step)?, v])
}
