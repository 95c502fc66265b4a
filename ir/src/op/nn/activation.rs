//! Activations and what acts along one axis: relu and its kin, bias_add, dropout.

use crate::dispatch;
use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, ranked, same_dim};
use crate::op::num::{Acc, Real, acc_dtype, larger, read, with_acc, with_real, write};
use crate::op::util::{FLOAT, NUMERIC, elements, normalize_axis, tensor_arg, tensor_type};
use crate::op::{FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of [`LEAKY_RELU`].
    pub struct LeakyReluAttrs {
        /// Slope of negative values.
        alpha: f64 = 0.25,
    }
}

op_attrs! {
    /// Attributes of [`PRELU`].
    pub struct PReluAttrs {
        /// The axis that has a slope an index.
        axis: i64 = 1,
    }
}

op_attrs! {
    /// Attributes of [`BIAS_ADD`].
    pub struct BiasAddAttrs {
        /// The axis that has a bias an index.
        axis: i64 = 1,
    }
}

op_attrs! {
    /// Attributes of [`DROPOUT`].
    pub struct DropoutAttrs {
        /// The share of elements that training drops.
        rate: f64 = 0.5,
    }
}

/// `max(x, 0)`.
pub static RELU: OpDef = OpDef {
    name: "nn.relu",
    doc: "The larger of x and 0; NaN stays.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |args, _| infer_same(args, NUMERIC),
    backward: no_backward,
    eval: |args, _, _| {
        let x = args[0].tensor()?;
        dispatch!(x.dtype(), T => {
            let relu = |&v: &T| larger(v, T::ZERO);
            let data: Vec<T> = elements::<T>(x)?.iter().map(relu).collect();
            Ok(Tensor::from_slice(x.shape(), &data)?.into())
        })
    },
    lower: Lower::Te(|g, args, _, out| {
        let x = &args[0];
        Ok(vec![g.compute("relu", "elemwise", &out[0], |i| x.at(i).max(stages::zero(x.dtype)))])
    }),
    onnx: &["Relu"],
};

/// `x` where it is positive, otherwise `alpha * x`.
pub static LEAKY_RELU: OpDef = OpDef {
    name: "nn.leaky_relu",
    doc: "x where it is positive, otherwise alpha * x.",
    args: &["data"],
    optional: 0,
    attrs: LeakyReluAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, _| infer_same(args, FLOAT),
    backward: no_backward,
    eval: |args, attrs, _| {
        let alpha = attrs.read::<LeakyReluAttrs>().alpha;
        let x = args[0].tensor()?;
        with_real!(x.dtype(), F => map::<F>(x, |v| if v > F::ZERO { v } else { v * F::of(alpha) }))
    },
    lower: Lower::Te(|g, args, attrs, out| {
        let alpha = attrs.read::<LeakyReluAttrs>().alpha;
        let x = &args[0];
        Ok(vec![g.compute("leaky_relu", "elemwise", &out[0], |i| {
            let v = stages::widen(x.at(i));
            slope(v.clone(), Expr::float(alpha, v.dtype())).cast(x.dtype)
        })])
    }),
    onnx: &["LeakyRelu"],
};

/// `x` where it is positive, otherwise `alpha * x` with a slope an index of an axis.
pub static PRELU: OpDef = OpDef {
    name: "nn.prelu",
    doc: "x where it is positive, otherwise alpha * x; alpha is a vector along an axis.",
    args: &["data", "alpha"],
    optional: 0,
    attrs: PReluAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, attrs| infer_along(args, attrs.read::<PReluAttrs>().axis, FLOAT),
    backward: |args, attrs| backward_along(args, attrs.read::<PReluAttrs>().axis),
    eval: |args, attrs, _| {
        let axis = attrs.read::<PReluAttrs>().axis;
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => along::<F>(args, axis, |v, a| if v > F::ZERO { v } else { v * a }))
    },
    lower: Lower::Te(|g, args, attrs, out| {
        let axis = attrs.read::<PReluAttrs>().axis;
        lower_along(g, args, axis, &out[0], "prelu", slope)
    }),
    onnx: &["PRelu"],
};

/// `x + bias` along an axis.
pub static BIAS_ADD: OpDef = OpDef {
    name: "nn.bias_add",
    doc: "Adds a vector along an axis.",
    args: &["data", "bias"],
    optional: 0,
    attrs: BiasAddAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |args, attrs| infer_along(args, attrs.read::<BiasAddAttrs>().axis, NUMERIC),
    backward: |args, attrs| backward_along(args, attrs.read::<BiasAddAttrs>().axis),
    eval: |args, attrs, _| {
        let axis = attrs.read::<BiasAddAttrs>().axis;
        let dtype = args[0].tensor()?.dtype();
        with_acc!(acc_dtype(dtype, dtype), A => along::<A>(args, axis, A::plus))
    },
    lower: Lower::Te(|g, args, attrs, out| {
        let axis = attrs.read::<BiasAddAttrs>().axis;
        lower_along(g, args, axis, &out[0], "bias_add", |v, b| v + b)
    }),
    onnx: &["Conv", "Gemm"],
};

/// Inference leaves the data as it is; SimplifyInference drops the call.
pub static DROPOUT: OpDef = OpDef {
    name: "nn.dropout",
    doc: "The data and a mask of ones: dropping is for training, which is not done here.",
    args: &["data"],
    optional: 0,
    attrs: DropoutAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Stateful,
    dtypes: FLOAT,
    infer: |args, _| {
        let same = infer_same(args, FLOAT)?;
        Ok(Type::tuple([same.clone(), same]))
    },
    backward: no_backward,
    eval: |args, _, _| {
        let x = args[0].tensor()?;
        let ones: Vec<f32> = vec![1.0; x.len()];
        let mask: Value = write(x.dtype(), x.shape(), &ones)?.into();
        Ok(Value::Tuple([args[0].clone(), mask].into()))
    },
    lower: Lower::Te(|g, args, _, out| {
        let x = &args[0];
        let data = g.compute("dropout", "elemwise", &out[0], |i| x.at(i));
        let mask = g.compute("dropout_mask", "elemwise", &out[1], |_| stages::number(x.dtype, 1));
        Ok(vec![data, mask])
    }),
    onnx: &["Dropout"],
};

/// `x` where it is positive, otherwise `x * alpha`.
fn slope(x: Expr, alpha: Expr) -> Expr {
    let zero = stages::zero(x.dtype());
    zero.lt(x.clone()).select(x.clone(), x * alpha)
}

/// The type of argument 0, if its dtype is allowed.
pub(in crate::op) fn infer_same(args: &[Type], dtypes: &[DType]) -> Result<Type, OpError> {
    dtype_in(args, 0, dtypes)?;
    Ok(args[0].clone())
}

/// Every element through `f`.
fn map<A: Acc>(x: &Tensor, f: impl Fn(A) -> A) -> Result<Value, OpError> {
    let data: Vec<A> = read::<A>(x).iter().map(|&v| f(v)).collect();
    Ok(write(x.dtype(), x.shape(), &data)?.into())
}

/// The data's type, with the length of the vector unified into the axis.
fn infer_along(args: &[Type], along: i64, dtypes: &[DType]) -> Result<Type, OpError> {
    let dtype = dtype_in(args, 0, dtypes)?;
    let (data, vector) = (tensor_arg(args, 0)?, ranked(args, 1, 1)?);
    has_dtype(args, 1, dtype)?;
    let d = normalize_axis(along, data.rank())?;
    let mut shape = data.shape.clone();
    shape[d] = same_dim(1, "the length", &vector.shape[0], &shape[d])?;
    tensor_type(shape, dtype)
}

fn backward_along(args: &[Type], along: i64) -> Vec<(usize, Type)> {
    match (args.first().and_then(Type::as_tensor), args.get(1)) {
        (Some(data), Some(Type::Unknown)) => normalize_axis(along, data.rank())
            .map(|d| (1, TensorType::new(vec![data.shape[d].clone()], data.dtype).into()))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// Every element and the vector's element at its index of the axis through `f`.
fn along<A: Acc>(args: &[Value], along: i64, f: impl Fn(A, A) -> A) -> Result<Value, OpError> {
    let (x, v) = (args[0].tensor()?, args[1].tensor()?);
    let d = normalize_axis(along, x.rank())?;
    let inner: usize = x.shape()[d + 1..].iter().product();
    let v = read::<A>(v);
    let mut data = read::<A>(x).into_owned();
    if inner > 0 && !v.is_empty() {
        for (row, &b) in data.chunks_exact_mut(inner).zip(v.iter().cycle()) {
            row.iter_mut().for_each(|a| *a = f(*a, b));
        }
    }
    Ok(write(x.dtype(), x.shape(), &data)?.into())
}

fn lower_along(
    g: &mut Graph,
    args: &[te::Tensor],
    along: i64,
    out: &TensorType,
    name: &str,
    f: impl FnOnce(Expr, Expr) -> Expr,
) -> Result<Vec<te::Tensor>, OpError> {
    let (x, v) = (&args[0], &args[1]);
    let d = normalize_axis(along, x.rank())?;
    Ok(vec![g.compute(name, "broadcast", out, |i| {
        let v = v.at(std::slice::from_ref(&i[d]));
        f(stages::widen(x.at(i)), stages::widen(v)).cast(x.dtype)
    })])
}
