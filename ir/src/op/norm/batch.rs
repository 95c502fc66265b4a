//! `nn.batch_norm` with given statistics, as inference has them.

use super::rows::{infer_vectors, vectors_backward};
use crate::eval::Value;
use crate::op::check::dtype_in;
use crate::op::num::{Real, read, with_real, write};
use crate::op::util::{FLOAT, normalize_axis};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, stages};
use crate::op_attrs;
use crate::scalar::UnaryOp;
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{TensorType, Type};

op_attrs! {
    /// Attributes of [`BATCH_NORM`].
    pub struct BatchNormAttrs {
        /// The axis of channels.
        axis: i64 = 1,
        /// Added to the variance.
        epsilon: f64 = 1e-5,
        /// Adds beta.
        center: bool = true,
        /// Multiplies by gamma.
        scale: bool = true,
    }
}

/// `(data - mean) / sqrt(var + epsilon) * gamma + beta`, and the statistics as they came.
pub static BATCH_NORM: OpDef = OpDef {
    name: "nn.batch_norm",
    doc: "(data - mean) / sqrt(var + epsilon) * gamma + beta along an axis, and the statistics as they came.",
    args: &["data", "gamma", "beta", "moving_mean", "moving_var"],
    optional: 0,
    attrs: BatchNormAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, attrs| {
        let dtype = dtype_in(args, 0, FLOAT)?;
        let (data, channels) = infer_vectors(args, attrs.read::<BatchNormAttrs>().axis)?;
        let vector = Type::from(TensorType::new(vec![channels], dtype));
        Ok(Type::tuple([data, vector.clone(), vector]))
    },
    backward: |args, attrs| vectors_backward(args, attrs.read::<BatchNormAttrs>().axis),
    eval,
    lower: Lower::Te(lower),
    onnx: &["BatchNormalization"],
};

fn eval(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let dtype = args[0].tensor()?.dtype();
    let data = with_real!(dtype, F => normalized::<F>(args, &attrs.read())?);
    Ok(Value::Tuple([data, args[3].clone(), args[4].clone()].into()))
}

fn normalized<F: Real>(args: &[Value], attrs: &BatchNormAttrs) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let d = normalize_axis(attrs.axis, x.rank())?;
    let inner: usize = x.shape()[d + 1..].iter().product();
    let channels = x.shape()[d];
    let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| args[i].tensor().map(read::<F>));
    let (gamma, beta, mean, var) = (gamma?, beta?, mean?, var?);
    let mut data = read::<F>(x).into_owned();
    for (row, values) in data.chunks_exact_mut(inner.max(1)).enumerate() {
        let c = row % channels;
        let deviation = (var[c] + F::of(attrs.epsilon)).sqrt();
        let scale = if attrs.scale { gamma[c] } else { F::ONE };
        let center = if attrs.center { beta[c] } else { F::ZERO };
        values.iter_mut().for_each(|v| *v = (*v - mean[c]) / deviation * scale + center);
    }
    Ok(write(x.dtype(), x.shape(), &data)?.into())
}

fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs: BatchNormAttrs = attrs.read();
    let x = &args[0];
    let d = normalize_axis(attrs.axis, x.rank())?;
    let data = g.compute("batch_norm", "broadcast", &out[0], |i| {
        let vector = |t: &te::Tensor| stages::widen(t.at(std::slice::from_ref(&i[d])));
        let var = vector(&args[4]);
        let epsilon = Expr::float(attrs.epsilon, var.dtype());
        let mut y = (stages::widen(x.at(i)) - vector(&args[3])) / (var + epsilon).unary(UnaryOp::Sqrt);
        if attrs.scale {
            y = y * vector(&args[1]);
        }
        if attrs.center {
            y = y + vector(&args[2]);
        }
        y.cast(x.dtype)
    });
    let mean = g.compute("batch_norm_mean", "elemwise", &out[1], |i| args[3].at(i));
    let var = g.compute("batch_norm_var", "elemwise", &out[2], |i| args[4].at(i));
    Ok(vec![data, mean, var])
}
