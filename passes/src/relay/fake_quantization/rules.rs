//! The forms of operators in integers.

use std::collections::BTreeSet;

use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, BROADCAST_TO, DIVIDE, MAXIMUM, MULTIPLY, SUBTRACT};
use fermata_ir::op::conv::CONV2D;
use fermata_ir::op::elemwise::{CLIP, COPY, ClipAttrs};
use fermata_ir::op::nn::{BATCH_MATMUL, BIAS_ADD, DENSE, MATMUL, PAD, RELU};
use fermata_ir::op::pool::{
    ADAPTIVE_MAX_POOL2D, AVG_POOL2D, GLOBAL_AVG_POOL2D, GLOBAL_MAX_POOL2D, MAX_POOL1D, MAX_POOL2D, MAX_POOL3D,
};
use fermata_ir::op::quant::{QNN_ADD, QNN_MUL, QnnBroadcastAttrs};
use fermata_ir::op::reduce::{MAX, MEAN, MIN, SUM};
use fermata_ir::op::transform::{
    BATCH_FLATTEN, CONCATENATE, EXPAND_DIMS, LAYOUT_TRANSFORM, REPEAT, RESHAPE, REVERSE, SQUEEZE,
    STRIDED_SLICE, TILE, TRANSPOSE,
};
use fermata_ir::op::{Attrs, Op, OpAttrs, OpDef};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::integer::{Affine, Params, Value, Work};
use super::products;

/// Operators that give elements of their operand in other places.
const MOVES: &[&OpDef] = &[
    &BATCH_FLATTEN,
    &BROADCAST_TO,
    &COPY,
    &EXPAND_DIMS,
    &LAYOUT_TRANSFORM,
    &REPEAT,
    &RESHAPE,
    &REVERSE,
    &SQUEEZE,
    &STRIDED_SLICE,
    &TILE,
    &TRANSPOSE,
];

/// Operators that give the largest or smallest elements of their operand.
const EXTREMA: &[&OpDef] =
    &[&ADAPTIVE_MAX_POOL2D, &GLOBAL_MAX_POOL2D, &MAX, &MAX_POOL1D, &MAX_POOL2D, &MAX_POOL3D, &MIN];

/// Operators of one tensor and nothing else that is quantised, which go together with rounding: what
/// is rounded first gives the same.
const LIMITS: &[&OpDef] = &[&CLIP, &PAD, &RELU];

const MEANS: &[&OpDef] = &[&AVG_POOL2D, &GLOBAL_AVG_POOL2D, &MEAN, &SUM];

const PRODUCTS: &[&OpDef] = &[&BATCH_MATMUL, &CONV2D, &DENSE, &MATMUL];

const BINARY: &[&OpDef] = &[&ADD, &BIAS_ADD, &DIVIDE, &MULTIPLY, &SUBTRACT];

fn among(op: Op, list: &[&'static OpDef]) -> bool {
    list.iter().any(|def| op.is(def))
}

/// Whether there is a form of an operator in integers.
pub fn has_integers(op: Op) -> bool {
    let all = [MOVES, EXTREMA, LIMITS, MEANS, PRODUCTS, BINARY, &[&CONCATENATE]];
    all.iter().any(|list| among(op, list))
}

/// The expressions behind which nothing changes numbers but rounding that goes together with it.
pub fn reaching(module: &Module, data: ExprId, inside: &[ExprId]) -> BTreeSet<ExprId> {
    let mut reaching = BTreeSet::from([data]);
    for &expr in inside.iter().rev() {
        if let Some((op, call)) = module.as_op_call(expr)
            && reaching.contains(&expr)
            && [MOVES, EXTREMA, LIMITS].iter().any(|list| among(op, list))
        {
            reaching.insert(call.args[0]);
        }
    }
    reaching
}

/// What an expression is in integers, its operands being known.
pub fn value(work: &mut Work<'_>, expr: ExprId) -> Result<Value, String> {
    if let Expr::Tuple(fields) = &work.module.exprs[expr] {
        return Ok(Value::Fields(fields.to_vec()));
    }
    let Some((op, call)) = work.module.as_op_call(expr) else { return Err("it is no call".into()) };
    let call = call.clone();
    let affine = if among(op, PRODUCTS) {
        products::product(work, op, &call)
    } else if among(op, BINARY) {
        binary(work, expr, op, &call)
    } else if among(op, MEANS) {
        products::mean(work, expr, op, &call)
    } else if op.is(&CONCATENATE) {
        concatenate(work, expr, &call)
    } else {
        limited(work, expr, op, &call)
    };
    affine.map(Value::Quantised).map_err(|why| format!("`{op}`: {why}"))
}

/// An operand, at the goal already if nothing but rounding lies between.
fn early(work: &mut Work<'_>, expr: ExprId, arg: ExprId) -> Result<Affine, String> {
    let affine = work.quantised(arg)?;
    if work.reaching.contains(&expr) && work.goal.axis.is_none() && work.ascending(&work.goal).is_ok() {
        let params = work.goal.clone();
        return Ok(Affine { expr: work.at_goal(&affine)?, params });
    }
    Ok(affine)
}

fn limited(work: &mut Work<'_>, expr: ExprId, op: Op, call: &Call) -> Result<Affine, String> {
    let data = early(work, expr, call.args[0])?;
    let params = data.params.clone();
    let kept = [&COPY, &MAX_POOL2D, &GLOBAL_MAX_POOL2D].iter().any(|def| op.is(def));
    if !kept {
        params.single()?;
    }
    if !among(op, MOVES) && !op.is(&PAD) {
        work.ascending(&params)?;
    }
    let made = if op.is(&RELU) {
        let zero = work.zero(&params)?;
        work.call(&MAXIMUM, &[data.expr, zero], Attrs::NONE)?
    } else if op.is(&CLIP) {
        let (scale, zero) = work.numbers(&params).ok_or("its scale is computed")?;
        let ClipAttrs { a_min, a_max } = call.attrs.read();
        let bound = |v: f64| {
            let rounded = f64::from((v as f32 / scale).round_ties_even()) + zero as f64;
            Scalar::from_f64(params.dtype, rounded).as_f64()
        };
        // A bound that lies between two steps rounds with the result, but not in the midst of a region.
        let on_step = |v: f64| {
            let steps = v as f32 / scale;
            let (low, high) = (bound(f64::MIN), bound(f64::MAX));
            let near = (steps - steps.round_ties_even()).abs() <= steps.abs() * 4.0 * f32::EPSILON;
            near || !(low..high).contains(&(f64::from(steps) + zero as f64))
        };
        let at_end = work.reaching.contains(&expr) && work.same(&params, &work.goal);
        if !(at_end || on_step(a_min) && on_step(a_max)) {
            return Err("its bounds lie between two numbers".into());
        }
        let attrs = ClipAttrs { a_min: bound(a_min), a_max: bound(a_max) };
        work.call(&CLIP, &[data.expr], attrs.attrs())?
    } else if op.is(&PAD) {
        if call.args.len() > 1 && work.floats(call.args[1]).is_none_or(|v| v != [0.0]) {
            return Err("it is not padded with zeros".into());
        }
        let zero = work.zero(&params)?;
        work.call(&PAD, &[data.expr, zero], call.attrs.clone())?
    } else {
        work.call(op.0, &[data.expr], call.attrs.clone())?
    };
    Ok(Affine { expr: made, params })
}

fn concatenate(work: &mut Work<'_>, expr: ExprId, call: &Call) -> Result<Affine, String> {
    let Some(Value::Fields(fields)) = work.values.get(&call.args[0]).cloned() else {
        return Err("its operand is no tuple that is written there".into());
    };
    let parts: Vec<Affine> = fields.iter().map(|&f| work.quantised(f)).collect::<Result<_, _>>()?;
    let params = match (work.reaching.contains(&expr), parts.first()) {
        (true, _) => work.goal.clone(),
        (false, Some(first)) if parts.iter().all(|p| work.same(&p.params, &first.params)) => {
            first.params.clone()
        }
        (false, _) => return Err("its operands differ in scale".into()),
    };
    params.single()?;
    let mut joined = Vec::new();
    for part in &parts {
        joined.push(work.requantised(part, &params)?);
    }
    let tuple = fermata_ir::build::Builder::new(work.module).tuple(&joined).map_err(super::said)?;
    Ok(Affine { expr: work.call(&CONCATENATE, &[tuple], call.attrs.clone())?, params })
}

fn binary(work: &mut Work<'_>, expr: ExprId, op: Op, call: &Call) -> Result<Affine, String> {
    let [left, right] = call.args[..] else { return Err("it has no two operands".into()) };
    let constant = |work: &Work<'_>, e: ExprId| work.module.as_const(e).is_some();
    if among(op, &[&MULTIPLY, &DIVIDE]) && (constant(work, right) || constant(work, left) && op.is(&MULTIPLY))
    {
        let (data, factor) = if constant(work, right) { (left, right) } else { (right, left) };
        return scaled(work, expr, op, data, factor);
    }
    if among(op, &[&ADD, &BIAS_ADD]) {
        let swapped = op.is(&ADD) && is_sum(work, right) && !is_sum(work, left);
        let (sum, bias) = if swapped { (right, left) } else { (left, right) };
        if is_sum(work, sum) {
            return products::biased(work, expr, op, call, sum, bias, swapped);
        }
    }
    if !among(op, &[&ADD, &SUBTRACT, &MULTIPLY]) {
        return Err("it has no form in integers here".into());
    }
    if !work.reaching.contains(&expr) {
        return Err("what its result is quantised to is not known".into());
    }
    let (a, b, goal) = (work.quantised(left)?, work.quantised(right)?, work.goal.clone());
    for params in [&a.params, &b.params, &goal] {
        params.single()?;
        if params.dtype != goal.dtype {
            return Err(format!("it is of {}, its result of {}", params.dtype, goal.dtype));
        }
    }
    let mut right_scale = b.params.scale;
    if op.is(&SUBTRACT) {
        let minus = work.module.constant(Tensor::scalar(-1f32));
        right_scale = work.product(right_scale, minus)?;
    }
    let args =
        [a.expr, b.expr, a.params.scale, a.params.zero, right_scale, b.params.zero, goal.scale, goal.zero];
    let def = if op.is(&MULTIPLY) { &QNN_MUL } else { &QNN_ADD };
    let attrs = QnnBroadcastAttrs { lhs_axis: -1, rhs_axis: -1 };
    Ok(Affine { expr: work.call(def, &args, attrs.attrs())?, params: goal })
}

/// Whether an expression is a sum in int32, with a zero point of 0.
fn is_sum(work: &Work<'_>, expr: ExprId) -> bool {
    match work.values.get(&expr) {
        Some(Value::Quantised(a)) => {
            a.params.dtype == DType::I32 && work.integers(a.params.zero).is_some_and(|z| z == [0])
        }
        Some(Value::Fields(_)) | None => false,
    }
}

/// A number times a constant: the scale changes, the integers stay.
fn scaled(work: &mut Work<'_>, expr: ExprId, op: Op, data: ExprId, factor: ExprId) -> Result<Affine, String> {
    let number = match &work.floats(factor).unwrap_or_default()[..] {
        &[number] => number,
        _ => return Err("a constant of several numbers has no scale".into()),
    };
    let number = if op.is(&DIVIDE) { 1.0 / number } else { number };
    if !number.is_finite() || number == 0.0 || work.module.types[data] != work.module.types[expr] {
        return Err("the constant is no factor of a scale".into());
    }
    let Affine { expr, params } = work.quantised(data)?;
    let number = work.module.constant(Tensor::scalar(number));
    let scale = work.product(params.scale, number)?;
    Ok(Affine { expr, params: Params { scale, ..params } })
}
