//! Constants, shapes as values, conversions between dtypes.

use super::{Row, one};
use crate::dispatch;
use crate::expr::ExprId;
use crate::front::onnx::fold::Extent;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, floats, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::elemwise::{CastAttrs, REINTERPRET};
use crate::scalar::{self, BinaryOp, Scalar};
use crate::tensor::Tensor;
use crate::types::DType;

/// How many elements a constant may have that the file does not store.
const MAX_MADE: usize = 1 << 26;

/// Values out of nothing.
pub(super) const ROWS: &[Row] = &[
    one!("BitCast", bit_cast),
    one!("Cast", cast).moves(),
    one!("CastLike", |cx| {
        let (x, like) = (cx.arg(0)?, cx.arg(1)?);
        let dtype = cx.dtype(like)?;
        cx.cast(x, dtype)
    }),
    one!("Constant", constant),
    one!("ConstantOfShape", constant_of_shape).known(&[0]),
    Row::new("Dropout", dropout).known(&[1, 2]),
    one!("EyeLike", eye_like),
    one!("Range", range).known(&[0, 1, 2]),
    one!("Shape", shape),
    one!("Size", size),
];

fn constant(cx: &mut Cx<'_, '_>) -> Step {
    if let Some(proto) = cx.tensor_opt("value")? {
        let tensor = cx.im.tensor(proto)?;
        return Ok(cx.constant(tensor));
    }
    let tensor = if let Some(x) = cx.float_opt("value_float")? {
        Tensor::scalar(x as f32)
    } else if let Some(n) = cx.int_opt("value_int")? {
        Tensor::scalar(n)
    } else if let Some(list) = cx.floats_opt("value_floats")? {
        vector(&list)?
    } else if let Some(list) = cx.ints_opt("value_ints")? {
        vector(&list)?
    } else {
        return refuse("a Constant that is a string or sparse is not supported");
    };
    Ok(cx.constant(tensor))
}

fn vector<T: crate::tensor::Element>(list: &[T]) -> Step<Tensor> {
    Tensor::from_slice(&[list.len()], list).or_else(|e| wrong(e.to_string()))
}

/// A shape from integers, refused if it is negative or too large to make.
fn made_shape(cx: &Cx<'_, '_>, sizes: &[i64]) -> Step<Vec<usize>> {
    let shape: Option<Vec<usize>> = sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
    let elements = |s: &Vec<usize>| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match shape.filter(|s| elements(s).is_some_and(|n| n <= MAX_MADE)) {
        Some(shape) => Ok(shape),
        None => wrong(format!("`{}` cannot make a tensor of shape {sizes:?}", cx.node.op_type)),
    }
}

fn constant_of_shape(cx: &mut Cx<'_, '_>) -> Step {
    let shape = cx.arg(0)?;
    let value = match cx.tensor_opt("value")? {
        Some(proto) => cx.im.tensor(proto)?,
        None => Tensor::scalar(0f32),
    };
    let Ok(value) = value.reshape(&[]) else {
        return wrong("the value of ConstantOfShape must be one element");
    };
    if cx.known(shape).is_none() {
        let value = cx.constant(value);
        return cx.dyn_full(value, shape);
    }
    let shape = made_shape(cx, &cx.const_ints(0, "the shape")?)?;
    let dtype = value.dtype();
    let value = cx.constant(value);
    cx.full(value, &shape, dtype)
}

fn shape(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let ty = cx.ty(x)?;
    let rank = ty.rank() as i64;
    let bound = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
    let start = bound(cx.int("start", 0)?);
    let end = bound(cx.int("end", rank)?).max(start);
    let extents: Vec<Extent> = ty.shape[start..end].iter().map(Extent::from).collect();
    let known: Option<Vec<i64>> =
        ty.shape[start..end].iter().map(|d| d.as_static().map(|n| n as i64)).collect();
    if let Some(known) = known {
        return Ok(cx.ints_const(&known));
    }
    let mut e = cx.shape_of(x)?;
    if end - start < ty.rank() {
        e = cx.slice(e, &[0], &[start as i64], &[end as i64], &[1])?;
    }
    cx.im.folder.note_extents(e, extents);
    Ok(e)
}

fn size(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    if let Some(n) = cx.ty(x)?.elements() {
        let tensor = Tensor::scalar(n as i64);
        return Ok(cx.constant(tensor));
    }
    let shape = cx.shape_of(x)?;
    cx.reduce(&crate::op::reduce::PROD, shape, &[0], false)
}

/// The dtype of `Cast`: a number, or in the first opset a name.
fn cast(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let to = match cx.opset {
        ..6 => match cx.text_opt("to")?.and_then(|t| DType::from_name(&t.to_lowercase())) {
            Some(dtype) => Some(dtype),
            None => return refuse("the dtype of Cast is not supported"),
        },
        6.. => cx.dtype_attr("to")?,
    };
    match to {
        Some(dtype) => cx.cast(x, dtype),
        None => wrong("Cast needs a dtype"),
    }
}

fn bit_cast(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let Some(dtype) = cx.dtype_attr("to")? else { return wrong("BitCast needs a dtype") };
    let from = cx.dtype(x)?;
    if from == DType::Bool && dtype.bytes() == 1 {
        return cx.cast(x, dtype);
    }
    if from.bits() != dtype.bits() {
        return refuse(format!("BitCast from {from} to {dtype} is not supported"));
    }
    cx.call(&REINTERPRET, &[x], CastAttrs { dtype }.attrs())
}

/// In inference nothing is dropped.
fn dropout(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let training = match cx.const_opt(2, "the training mode")? {
        Some(mode) => floats(&mode).first().is_some_and(|&m| m != 0.0),
        None => cx.opset < 7 && !cx.flag("is_test", false)?,
    };
    let ratio = match cx.const_floats_opt(1, "the ratio")? {
        Some(ratio) => ratio.first().copied().unwrap_or(0.5),
        None => cx.float("ratio", 0.5)?,
    };
    if training && ratio != 0.0 {
        return refuse("Dropout in training mode is not supported: it is random");
    }
    let mut results = vec![Value::Tensor(x)];
    if cx.node.outputs.len() > 1 {
        let dtype = if cx.opset < 10 { cx.dtype(x)? } else { DType::Bool };
        let ones = cx.scalar(dtype, 1.0);
        results.push(Value::Tensor(cx.broadcast_like(ones, x)?));
    }
    Ok(results)
}

fn eye_like(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let dtype = match cx.dtype_attr("dtype")? {
        Some(dtype) => dtype,
        None => cx.dtype(x)?,
    };
    let (shape, k) = (cx.shape(x)?, cx.int("k", 0)?);
    let [rows, columns] = shape[..] else { return wrong("EyeLike wants a matrix") };
    made_shape(cx, &[rows as i64, columns as i64])?;
    let tensor = dispatch!(dtype, T => {
        let at = |v: f64| Scalar::from_f64(dtype, v).get::<T>().expect("made in this dtype");
        let (zero, one) = (at(0.0), at(1.0));
        let data: Vec<T> = (0..rows * columns)
            .map(|i| if (i % columns) as i64 == ((i / columns) as i64).saturating_add(k) { one } else { zero })
            .collect();
        Tensor::from_slice(&shape, &data)
    });
    match tensor {
        Ok(tensor) => Ok(cx.constant(tensor)),
        Err(e) => wrong(e.to_string()),
    }
}

fn range(cx: &mut Cx<'_, '_>) -> Step {
    let args = [cx.arg(0)?, cx.arg(1)?, cx.arg(2)?];
    let dtype = cx.dtype(args[0])?;
    let known: Option<Vec<Tensor>> = args.iter().map(|&e| cx.known(e)).collect();
    let Some(known) = known else { return dynamic_range(cx, args) };
    let numbers: Vec<f64> = known.iter().filter_map(|t| floats(t).first().copied()).collect();
    let [start, limit, delta] = numbers[..] else { return wrong("Range wants three scalars") };
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() || count > MAX_MADE as f64 {
        return wrong(format!("Range from {start} to {limit} by {delta} is too long"));
    }
    let tensor = dispatch!(dtype, T => {
        let first = |i: usize| known[i].as_slice::<T>().and_then(|d| d.first().copied()).map(Scalar::of);
        let (Some(start), Some(delta)) = (first(0), first(2)) else { return wrong("Range wants one dtype") };
        let at = |i: usize| {
            let offset = scalar::binary(BinaryOp::Mul, Scalar::from_i64(dtype, i as i64), delta);
            scalar::binary(BinaryOp::Add, start, offset).get::<T>().expect("computed in this dtype")
        };
        let data: Vec<T> = (0..count as usize).map(at).collect();
        Tensor::from_slice(&[data.len()], &data)
    });
    match tensor {
        Ok(tensor) => Ok(cx.constant(tensor)),
        Err(e) => wrong(e.to_string()),
    }
}

fn dynamic_range(cx: &mut Cx<'_, '_>, args: [ExprId; 3]) -> Step {
    cx.arange(args)
}
