//! `nn.conv1d`, `nn.conv2d` and `nn.conv3d`: cross-correlation with groups, strides and dilation.

use super::attrs::{Conv, Conv1dAttrs, Conv2dAttrs, Conv3dAttrs, ConvKind};
use super::geometry::Geometry;
use super::kernel::forward;
use crate::eval::Value;
use crate::op::check::{same_dim, shape_of, size};
use crate::op::nn::dense::product_dtype;
use crate::op::num::{acc_dtype, read, with_acc, write};
use crate::op::util::{NUMERIC, accumulator};
use crate::op::window::Window;
use crate::op::{FusePattern, Lower, OpDef, OpError, Purity, stages};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{Dim, TensorType, Type};

/// A row of a convolution whose attributes are `T`.
const fn row<T: ConvKind>(name: &'static str, doc: &'static str, onnx: &'static [&'static str]) -> OpDef {
    OpDef {
        name,
        doc,
        args: &["data", "weight"],
        optional: 0,
        attrs: T::SCHEMA,
        pattern: FusePattern::OutElemwiseFusable,
        purity: Purity::Pure,
        dtypes: NUMERIC,
        infer: |args, attrs| infer(args, &T::conv(attrs)),
        backward: |args, attrs| backward(args, &T::conv(attrs)),
        eval: |args, attrs, ty| eval(args, &T::conv(attrs), ty),
        lower: Lower::Te(|g, args, attrs, out| {
            Ok(vec![lower(g, &args[0], &args[1], &T::conv(attrs), &out[0])?])
        }),
        onnx,
    }
}

/// Convolution over one spatial axis.
pub static CONV1D: OpDef =
    row::<Conv1dAttrs>("nn.conv1d", "Convolution (cross-correlation) over one spatial axis.", &["Conv"]);

/// Convolution over two spatial axes.
pub static CONV2D: OpDef = row::<Conv2dAttrs>(
    "nn.conv2d",
    "Convolution (cross-correlation) over two spatial axes.",
    &["Conv", "ConvInteger"],
);

/// Convolution over three spatial axes.
pub static CONV3D: OpDef =
    row::<Conv3dAttrs>("nn.conv3d", "Convolution (cross-correlation) over three spatial axes.", &["Conv"]);

/// The kernel's size on an axis: the weight's, which an attribute may have to tell.
fn kernel_sizes(conv: &Conv, weight: &[Dim]) -> Result<Vec<usize>, OpError> {
    let given = conv.kernel_size()?;
    (0..conv.axes)
        .map(|d| {
            let dim = match &given {
                Some(k) => same_dim(1, "the kernel's size", &weight[2 + d], &k[d].into())?,
                None => weight[2 + d].clone(),
            };
            match dim.as_static() {
                Some(0) => Err(OpError::arg(1, "the kernel has no taps")),
                Some(n) => Ok(n),
                None => Err(OpError::arg(1, "the kernel's size is not known").help("give kernel_size")),
            }
        })
        .collect()
}

/// The kernel's sizes and the result's channels, which the attributes and the weight must
/// agree on; `channels(o, groups)` are those of a weight with `o` in its output dimension.
pub(super) fn kernel_and_channels(
    conv: &Conv,
    weight: &[Dim],
    output: usize,
    channels: impl Fn(usize, usize) -> Option<usize>,
) -> Result<(Vec<usize>, Dim), OpError> {
    let groups = conv.groups()?;
    let found = match weight[output].as_static() {
        Some(o) => Dim::Static(channels(o, groups).ok_or_else(|| {
            OpError::arg(1, format!("{o} output channels do not divide into {groups} groups"))
        })?),
        None => Dim::Any,
    };
    let found = match conv.channels {
        Some(c) => same_dim(1, "the number of output channels", &found, &size("channels", c, 0)?.into())?,
        None => found,
    };
    Ok((kernel_sizes(conv, weight)?, found))
}

fn infer(args: &[Type], conv: &Conv) -> Result<Type, OpError> {
    let dtype = product_dtype(args, conv.out_dtype)?;
    let data = conv.data_order()?.dims(args, 0)?;
    let weight = conv.kernel_order("OI")?.dims(args, 1)?;
    let groups = conv.groups()?;
    let divides = |o: usize, groups: usize| o.is_multiple_of(groups).then_some(o);
    let (kernel, channels) = kernel_and_channels(conv, &weight, 0, divides)?;
    if let (Some(c), Some(i)) = (data[1].as_static(), weight[1].as_static())
        && i.checked_mul(groups) != Some(c)
    {
        return Err(OpError::arg(
            1,
            format!("{groups} groups of {i} channels do not match {c} channels of data"),
        ));
    }
    let mut shape = vec![data[0].clone(), channels];
    for (window, dim) in conv.windows(&kernel)?.iter().zip(&data[2..]) {
        shape.push(window.count_dim(dim, false)?);
    }
    conv.out_order()?.tensor_type(&shape, dtype)
}

fn backward(args: &[Type], conv: &Conv) -> Vec<(usize, Type)> {
    let weight = || {
        let data = conv.data_order().ok()?.dims(args, 0).ok()?;
        let groups = conv.groups().ok()?;
        let input = data[1].as_static().filter(|c| c.is_multiple_of(groups))? / groups;
        let mut shape = vec![usize::try_from(conv.channels?).ok()?, input];
        shape.extend(conv.kernel_size().ok()??);
        let shape = conv.kernel_order("OI").ok()?.arrange(&shape);
        Some(Type::tensor(&shape, args[0].as_tensor()?.dtype))
    };
    match args.get(1) {
        Some(Type::Unknown) => weight().map(|t| (1, t)).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn eval(args: &[Value], conv: &Conv, ty: &Type) -> Result<Value, OpError> {
    let x = conv.data_order()?.canonical_tensor(args[0].tensor()?)?;
    let w = conv.kernel_order("OI")?.canonical_tensor(args[1].tensor()?)?;
    let (shape, dtype) = shape_of(ty)?;
    let order = conv.out_order()?;
    let out = order.canonical(&shape);
    let geo = Geometry::new(conv, x.shape(), &out, &w.shape()[2..])?;
    with_acc!(acc_dtype(x.dtype(), dtype), A => {
        let y = write(dtype, &out, &forward::<A>(&geo, &read(&x), &read(&w)))?;
        Ok(order.arrange_tensor(&y)?.into())
    })
}

/// Zeros around the spatial axes of data in an order, as a stage if there are any.
pub(super) fn pad_spatial(
    g: &mut Graph,
    x: &te::Tensor,
    conv: &Conv,
    windows: &[Window],
) -> Result<te::Tensor, OpError> {
    let mut pads = vec![(0, 0); 2];
    pads.extend(windows.iter().map(|w| (w.before, w.after)));
    Ok(stages::pad(g, x, &conv.data_order()?.arrange(&pads), stages::zero(x.dtype)))
}

/// The tag of a convolution's stage: `conv2d_nchw`, `depthwise_conv2d_nhwc`, `group_conv1d_ncw`.
fn tag(conv: &Conv, groups: usize, icg: usize) -> String {
    let kind = match (groups, icg) {
        (1, _) => "",
        (_, 1) => "depthwise_",
        _ => "group_",
    };
    format!("{kind}conv{}d_{}", conv.axes, conv.data_layout.to_lowercase())
}

fn lower(
    g: &mut Graph,
    x: &te::Tensor,
    w: &te::Tensor,
    conv: &Conv,
    out: &TensorType,
) -> Result<te::Tensor, OpError> {
    let (data, kernel, result) = (conv.data_order()?, conv.kernel_order("OI")?, conv.out_order()?);
    let sizes = kernel.canonical(&w.shape);
    let groups = conv.groups()?;
    let (ocg, icg) = (sizes[0] / groups, sizes[1]);
    let windows = conv.windows(&sizes[2..])?;
    let x = pad_spatial(g, x, conv, &windows)?;
    let tag = tag(conv, groups, icg);
    let acc = accumulator(out.dtype);
    Ok(stages::sum(g, &tag, &tag, out, &sizes[1..], |i, k| {
        let i = result.canonical(i);
        let first = if groups == 1 { Expr::int(0) } else { i[1].clone().floor_div(ocg.max(1)) * icg };
        let mut at = vec![i[0].clone(), first + &k[0]];
        let taps = windows.iter().zip(&i[2..]).zip(&k[1..]);
        at.extend(taps.map(|((w, i), k)| i * w.stride + k * w.dilation));
        let mut weight = vec![i[1].clone()];
        weight.extend_from_slice(k);
        x.at(&data.arrange(&at)).cast(acc) * w.at(&kernel.arrange(&weight)).cast(acc)
    }))
}
