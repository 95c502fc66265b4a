//! Norms over statistics of the data itself: layer, group, instance and RMS norm.
//!
//! Each is a reduction over some elements of the data (a line, or the channels of a group
//! with their spatial axes), then a scale and shift along the axis of channels.

use super::lower;
use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, ranked, same_dim};
use crate::op::num::{Real, read, with_real, write};
use crate::op::strided::{Layout, pick};
use crate::op::util::{FLOAT, normalize_axis, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity};
use crate::op_attrs;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`LAYER_NORM`].
    pub struct LayerNormAttrs {
        /// The axis to normalise over.
        axis: i64 = -1,
        /// Added to the variance.
        epsilon: f64 = 1e-5,
        /// Adds beta.
        center: bool = true,
        /// Multiplies by gamma.
        scale: bool = true,
    }
}

op_attrs! {
    /// Attributes of [`GROUP_NORM`].
    pub struct GroupNormAttrs {
        /// Number of groups that the channels divide into.
        num_groups: i64,
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

op_attrs! {
    /// Attributes of [`INSTANCE_NORM`].
    pub struct InstanceNormAttrs {
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

op_attrs! {
    /// Attributes of [`RMS_NORM`].
    pub struct RmsNormAttrs {
        /// The axis to normalise over.
        axis: i64 = -1,
        /// Added to the mean square.
        epsilon: f64 = 1e-5,
    }
}

/// A row of this file: a norm described by `T`.
const fn row<T: NormKind>(
    name: &'static str,
    doc: &'static str,
    args: &'static [&'static str],
    onnx: &'static [&'static str],
) -> OpDef {
    OpDef {
        name,
        doc,
        args,
        optional: 0,
        attrs: T::SCHEMA,
        pattern: FusePattern::OutElemwiseFusable,
        purity: Purity::Pure,
        dtypes: FLOAT,
        infer: |args, attrs| infer(args, &T::norm(attrs)),
        backward: |args, attrs| vectors_backward(args, T::norm(attrs).axis),
        eval: |args, attrs, _| eval(args, &T::norm(attrs)),
        lower: Lower::Te(|g, args, attrs, out| Ok(vec![lower::lower(g, args, &T::norm(attrs), &out[0])?])),
        onnx,
    }
}

/// `(data - mean) / sqrt(var + epsilon) * gamma + beta` over lines along an axis.
pub static LAYER_NORM: OpDef = row::<LayerNormAttrs>(
    "nn.layer_norm",
    "(data - mean) / sqrt(var + epsilon) * gamma + beta over each line along an axis.",
    &["data", "gamma", "beta"],
    &["LayerNormalization"],
);

/// The same over groups of channels and all spatial axes.
pub static GROUP_NORM: OpDef = row::<GroupNormAttrs>(
    "nn.group_norm",
    "(data - mean) / sqrt(var + epsilon) * gamma + beta over each group of channels with its spatial axes.",
    &["data", "gamma", "beta"],
    &["GroupNormalization"],
);

/// The same over the spatial axes of each channel.
pub static INSTANCE_NORM: OpDef = row::<InstanceNormAttrs>(
    "nn.instance_norm",
    "(data - mean) / sqrt(var + epsilon) * gamma + beta over the spatial axes of each channel.",
    &["data", "gamma", "beta"],
    &["InstanceNormalization"],
);

/// `data / sqrt(mean(data^2) + epsilon) * weight` over lines along an axis.
pub static RMS_NORM: OpDef = row::<RmsNormAttrs>(
    "nn.rms_norm",
    "data / sqrt(mean of data^2 + epsilon) * weight over each line along an axis.",
    &["data", "weight"],
    &["RMSNormalization"],
);

/// Which elements share statistics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// A line along the axis.
    Line,
    /// A group of channels and the axes other than the first.
    Groups(i64),
    /// A channel and the axes other than the first.
    Channel,
}

/// A norm.
pub(super) struct Norm {
    /// A name for stages.
    pub name: &'static str,
    /// The axis of gamma and beta.
    pub axis: i64,
    pub over: Over,
    pub epsilon: f64,
    /// Subtracts the mean.
    pub centered: bool,
    pub gamma: bool,
    pub beta: bool,
}

/// Attributes that describe a norm.
trait NormKind: OpAttrs {
    fn norm(attrs: &Attrs) -> Norm;
}

impl NormKind for LayerNormAttrs {
    fn norm(attrs: &Attrs) -> Norm {
        let LayerNormAttrs { axis, epsilon, center, scale } = attrs.read();
        let over = Over::Line;
        Norm { name: "layer_norm", axis, over, epsilon, centered: true, gamma: scale, beta: center }
    }
}

impl NormKind for GroupNormAttrs {
    fn norm(attrs: &Attrs) -> Norm {
        let GroupNormAttrs { num_groups, axis, epsilon, center, scale } = attrs.read();
        let over = Over::Groups(num_groups);
        Norm { name: "group_norm", axis, over, epsilon, centered: true, gamma: scale, beta: center }
    }
}

impl NormKind for InstanceNormAttrs {
    fn norm(attrs: &Attrs) -> Norm {
        let InstanceNormAttrs { axis, epsilon, center, scale } = attrs.read();
        let over = Over::Channel;
        Norm { name: "instance_norm", axis, over, epsilon, centered: true, gamma: scale, beta: center }
    }
}

impl NormKind for RmsNormAttrs {
    fn norm(attrs: &Attrs) -> Norm {
        let RmsNormAttrs { axis, epsilon } = attrs.read();
        Norm { name: "rms_norm", axis, over: Over::Line, epsilon, centered: false, gamma: true, beta: false }
    }
}

impl Norm {
    /// The number of groups that `channels` divide into.
    pub fn groups(&self, channels: usize) -> Result<usize, OpError> {
        match self.over {
            Over::Line => Ok(1),
            Over::Channel => Ok(channels),
            Over::Groups(n) => usize::try_from(n)
                .ok()
                .filter(|&n| n > 0 && channels.is_multiple_of(n))
                .ok_or_else(|| OpError::new(format!("{channels} channels do not divide into {n} groups"))),
        }
    }
}

/// The data's type and its dimension along an axis, which all other arguments are vectors of.
pub(super) fn infer_vectors(args: &[Type], axis: i64) -> Result<(Type, Dim), OpError> {
    let data = tensor_arg(args, 0)?;
    let d = normalize_axis(axis, data.rank())?;
    let mut channels = data.shape[d].clone();
    for i in 1..args.len() {
        has_dtype(args, i, data.dtype)?;
        channels = same_dim(i, "the length", &ranked(args, i, 1)?.shape[0], &channels)?;
    }
    let mut shape = data.shape.clone();
    shape[d] = channels.clone();
    Ok((tensor_type(shape, data.dtype)?, channels))
}

/// Unknown arguments are vectors along the axis.
pub(super) fn vectors_backward(args: &[Type], axis: i64) -> Vec<(usize, Type)> {
    let Some(data) = args.first().and_then(Type::as_tensor) else { return Vec::new() };
    let Ok(d) = normalize_axis(axis, data.rank()) else { return Vec::new() };
    let vector = Type::from(TensorType::new(vec![data.shape[d].clone()], data.dtype));
    let unknown = (1..args.len()).filter(|&i| args[i] == Type::Unknown);
    unknown.map(|i| (i, vector.clone())).collect()
}

fn infer(args: &[Type], norm: &Norm) -> Result<Type, OpError> {
    dtype_in(args, 0, FLOAT)?;
    let (data, channels) = infer_vectors(args, norm.axis)?;
    let rank = tensor_arg(args, 0)?.rank();
    if norm.over != Over::Line && (rank < 2 || normalize_axis(norm.axis, rank)? == 0) {
        return Err(OpError::arg(0, "the first axis is the batch, so channels cannot be on it"));
    }
    if let Some(channels) = channels.as_static() {
        norm.groups(channels)?;
    }
    Ok(data)
}

/// The order of axes in which the elements that share statistics are neighbours.
fn order(norm: &Norm, rank: usize, d: usize) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.remove(d);
    axes.insert(if norm.over == Over::Line { rank - 1 } else { 1 }, d);
    axes
}

fn eval(args: &[Value], norm: &Norm) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let d = normalize_axis(norm.axis, x.rank())?;
    let axes = order(norm, x.rank(), d);
    let shape: Vec<usize> = axes.iter().map(|&a| x.shape()[a]).collect();
    let arranged = pick(x, &Layout::dense(x.shape()).permuted(&axes), &shape)?;
    let y = with_real!(x.dtype(), F => normalized::<F>(args, &arranged, norm, x.shape()[d])?);
    let mut inverse = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
    Ok(pick(&y, &Layout::dense(&shape).permuted(&inverse), x.shape())?.into())
}

/// The norm of data whose rows are neighbours.
fn normalized<F: Real>(args: &[Value], x: &Tensor, norm: &Norm, channels: usize) -> Result<Tensor, OpError> {
    let gamma = if norm.gamma { Some(read::<F>(args[1].tensor()?)) } else { None };
    let beta = if norm.beta { Some(read::<F>(args[2].tensor()?)) } else { None };
    let groups = norm.groups(channels)?;
    // Elements of one index of the channels' axis, and of a whole row.
    let (step, row) = match norm.over {
        Over::Line => (1, channels),
        Over::Groups(_) | Over::Channel => {
            let inner: usize = x.shape()[2..].iter().product();
            (inner, inner * (channels / groups.max(1)))
        }
    };
    let mut data = read::<F>(x).into_owned();
    for (r, values) in data.chunks_exact_mut(row.max(1)).enumerate() {
        let (mean, deviation) = statistics(values, norm);
        let first = if norm.over == Over::Line { 0 } else { r % groups * (channels / groups) };
        for (i, v) in values.iter_mut().enumerate() {
            let c = first + i / step;
            let y = (*v - mean) / deviation;
            let y = gamma.as_ref().map_or(y, |g| y * g[c]);
            *v = beta.as_ref().map_or(y, |b| y + b[c]);
        }
    }
    write(x.dtype(), x.shape(), &data)
}

/// The mean (0 if it is not subtracted) and the root of the variance plus epsilon.
fn statistics<F: Real>(values: &[F], norm: &Norm) -> (F, F) {
    let n = F::of(values.len() as f64);
    let zero = F::ZERO;
    let mean = if norm.centered { values.iter().fold(zero, |s, &v| s + v) / n } else { zero };
    let squares = values.iter().fold(zero, |s, &v| s.mac(v - mean, v - mean));
    (mean, (squares / n + F::of(norm.epsilon)).sqrt())
}
