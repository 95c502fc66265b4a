//! Arithmetic, comparison, logic: operators that work on each element and broadcast.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, wrong};
use crate::op::broadcast as b;
use crate::op::elemwise::{self as e, ClipAttrs};
use crate::op::{OpAttrs, OpDef};
use crate::types::DType;

/// Element by element.
pub(super) const ROWS: &[Row] = &[
    one!("Abs", |cx| unary(cx, &e::ABS)),
    one!("Acos", |cx| unary(cx, &e::ACOS)),
    one!("Acosh", |cx| unary(cx, &e::ACOSH)),
    one!("Asin", |cx| unary(cx, &e::ASIN)),
    one!("Asinh", |cx| unary(cx, &e::ASINH)),
    one!("Atan", |cx| unary(cx, &e::ATAN)),
    one!("Atanh", |cx| unary(cx, &e::ATANH)),
    one!("BitwiseNot", |cx| unary(cx, &e::BITWISE_NOT)),
    one!("Ceil", |cx| unary(cx, &e::CEIL)),
    one!("Cos", |cx| unary(cx, &e::COS)),
    one!("Cosh", |cx| unary(cx, &e::COSH)),
    one!("Erf", |cx| unary(cx, &e::ERF)),
    one!("Exp", |cx| unary(cx, &e::EXP)),
    one!("Floor", |cx| unary(cx, &e::FLOOR)),
    one!("IsNaN", |cx| unary(cx, &e::ISNAN)),
    one!("Log", |cx| unary(cx, &e::LOG)),
    one!("Neg", |cx| unary(cx, &e::NEGATIVE)),
    one!("Not", |cx| unary(cx, &e::LOGICAL_NOT)),
    one!("Round", |cx| unary(cx, &e::ROUND)),
    one!("Sigmoid", |cx| unary(cx, &e::SIGMOID)),
    one!("Sign", |cx| unary(cx, &e::SIGN)),
    one!("Sin", |cx| unary(cx, &e::SIN)),
    one!("Sinh", |cx| unary(cx, &e::SINH)),
    one!("Sqrt", |cx| unary(cx, &e::SQRT)),
    one!("Tan", |cx| unary(cx, &e::TAN)),
    one!("Tanh", |cx| unary(cx, &e::TANH)),
    one!("Add", |cx| binary(cx, &b::ADD)),
    one!("And", |cx| binary(cx, &b::LOGICAL_AND)),
    one!("BitwiseAnd", |cx| binary(cx, &b::BITWISE_AND)),
    one!("BitwiseOr", |cx| binary(cx, &b::BITWISE_OR)),
    one!("BitwiseXor", |cx| binary(cx, &b::BITWISE_XOR)),
    one!("Div", |cx| binary(cx, &b::DIVIDE)),
    one!("Equal", |cx| binary(cx, &b::EQUAL)),
    one!("Greater", |cx| binary(cx, &b::GREATER)),
    one!("GreaterOrEqual", |cx| binary(cx, &b::GREATER_EQUAL)),
    one!("Less", |cx| binary(cx, &b::LESS)),
    one!("LessOrEqual", |cx| binary(cx, &b::LESS_EQUAL)),
    one!("Mul", |cx| binary(cx, &b::MULTIPLY)),
    one!("Or", |cx| binary(cx, &b::LOGICAL_OR)),
    one!("Sub", |cx| binary(cx, &b::SUBTRACT)),
    one!("Xor", |cx| binary(cx, &b::LOGICAL_XOR)),
    one!("Max", |cx| variadic(cx, &b::MAXIMUM)),
    one!("Min", |cx| variadic(cx, &b::MINIMUM)),
    one!("Sum", |cx| variadic(cx, &b::ADD)),
    one!("Mean", mean),
    one!("BitShift", bit_shift),
    one!("Clip", clip),
    one!("IsInf", is_inf),
    one!("Mod", modulo),
    one!("Pow", power),
    one!("Reciprocal", reciprocal),
    one!("Where", |cx| {
        let (c, x, y) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
        cx.select(c, x, y)
    }),
];

fn unary(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let x = cx.arg(0)?;
    cx.un(op, x)
}

/// Two operands; before opset 7 they broadcast only where an attribute says so, and from
/// a given dimension on.
fn binary(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let (x, mut y) = (cx.arg(0)?, cx.arg(1)?);
    if cx.opset < 7
        && let Some(axis) = cx.int_opt("axis")?
    {
        let (rank, other) = (cx.rank(x)?, cx.rank(y)?);
        let axis = cx.axis(axis, rank)?;
        if axis + other > rank {
            return wrong(format!("`{}` cannot broadcast rank {other} from axis {axis}", cx.node.op_type));
        }
        y = cx.expand_dims(y, other, rank - axis - other)?;
    }
    cx.bin(op, x, y)
}

fn variadic(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let args = cx.tensors()?;
    let Some((&first, rest)) = args.split_first() else {
        return wrong(format!("`{}` needs an input", cx.node.op_type));
    };
    rest.iter().try_fold(first, |acc, &x| cx.bin(op, acc, x))
}

fn mean(cx: &mut Cx<'_, '_>) -> Step {
    let sum = variadic(cx, &b::ADD)?;
    let count = cx.arity() as f64;
    cx.num(&b::DIVIDE, sum, count)
}

fn reciprocal(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let one = cx.scalar(cx.dtype(x)?, 1.0);
    cx.div(one, x)
}

fn bit_shift(cx: &mut Cx<'_, '_>) -> Step {
    match cx.text("direction", "")? {
        "LEFT" => binary(cx, &b::LEFT_SHIFT),
        "RIGHT" => binary(cx, &b::RIGHT_SHIFT),
        other => wrong(format!("direction `{other}` of BitShift is neither LEFT nor RIGHT")),
    }
}

fn modulo(cx: &mut Cx<'_, '_>) -> Step {
    match cx.flag("fmod", false)? {
        true => binary(cx, &b::MOD),
        false => binary(cx, &b::FLOOR_MOD),
    }
}

/// The result has the base's dtype, whatever the exponent's.
fn power(cx: &mut Cx<'_, '_>) -> Step {
    let (x, y) = (cx.arg(0)?, cx.arg(1)?);
    let (base, exponent) = (cx.dtype(x)?, cx.dtype(y)?);
    if base == exponent || !exponent.is_float() && !base.is_float() {
        let y = cx.cast(y, base)?;
        return cx.bin(&b::POWER, x, y);
    }
    let wide = if base == DType::F64 || exponent == DType::F64 { DType::F64 } else { DType::F32 };
    let (x, y) = (cx.cast(x, wide)?, cx.cast(y, wide)?);
    let z = cx.bin(&b::POWER, x, y)?;
    cx.cast(z, base)
}

fn is_inf(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let (negative, positive) = (cx.flag("detect_negative", true)?, cx.flag("detect_positive", true)?);
    let inf = cx.un(&e::ISINF, x)?;
    let side = match (negative, positive) {
        (true, true) => return Ok(inf),
        (true, false) => cx.num(&b::LESS, x, 0.0)?,
        (false, true) => cx.num(&b::GREATER, x, 0.0)?,
        (false, false) => cx.bin(&b::NOT_EQUAL, inf, inf)?,
    };
    cx.bin(&b::LOGICAL_AND, inf, side)
}

/// The bounds of a node: attributes before opset 11, operands since.
fn clip(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let dtype = cx.dtype(x)?;
    let (low, high) = if cx.opset < 11 {
        let bound = |v: Option<f64>, cx: &mut Cx<'_, '_>| v.map(|v| cx.scalar(dtype, v));
        let (low, high) = (cx.float_opt("min")?, cx.float_opt("max")?);
        (bound(low, cx), bound(high, cx))
    } else {
        (cx.opt(1)?, cx.opt(2)?)
    };
    let known = |cx: &Cx<'_, '_>, e: Option<ExprId>, open: f64| match e {
        None => Some(open),
        Some(e) => cx.known(e).and_then(|t| crate::front::onnx::node::floats(&t).first().copied()),
    };
    let bounds = known(cx, low, f64::NEG_INFINITY).zip(known(cx, high, f64::INFINITY));
    if let Some((a_min, a_max)) = bounds
        && dtype.is_float()
        && (low.is_some() || high.is_some())
        && a_min <= a_max
    {
        return cx.call(&e::CLIP, &[x], ClipAttrs { a_min, a_max }.attrs());
    }
    let x = match low {
        Some(low) => cx.bin(&b::MAXIMUM, x, low)?,
        None => x,
    };
    match high {
        Some(high) => cx.bin(&b::MINIMUM, x, high),
        None => Ok(x),
    }
}
