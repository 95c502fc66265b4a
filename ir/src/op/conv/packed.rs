//! `nn.contrib_conv2d_packed`: a convolution on weights that a row of this file packed, so
//! that packing happens when constants fold. AlterOpLayout puts both in.

use super::attrs::Conv;
use super::geometry::Geometry;
use super::kernel::forward;
use super::plain::pad_spatial;
use crate::eval::Value;
use crate::op::check::{ranked, same_dim, shape_of, size, sizes};
use crate::op::nn::dense::product_dtype;
use crate::op::num::{acc_dtype, read, with_acc, write};
use crate::op::panels::into_panels;
use crate::op::util::{FLOAT, accumulator, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`CONV2D_PACKED`]: those of `nn.conv2d` in NCHW, and the panels' width.
    pub struct Conv2dPackedAttrs {
        /// Number of output channels.
        channels: i64,
        /// Size of the kernel.
        kernel_size: Vec<i64>,
        /// Output channels in a panel.
        mr: i64,
        /// Steps between windows.
        strides: Vec<i64> = vec![1; 2],
        /// Zeros around the data: one value, one an axis, or all befores and then all afters.
        padding: Vec<i64> = vec![0; 2],
        /// Steps between the taps of the kernel.
        dilation: Vec<i64> = vec![1; 2],
        /// Groups of channels that see only each other.
        groups: i64 = 1,
        /// Dtype of the result; the data's where it is `None`.
        out_dtype: Option<DType> = None,
    }
}

op_attrs! {
    /// Attributes of [`CONV2D_PACK_WEIGHT`].
    pub struct Conv2dPackWeightAttrs {
        /// Output channels in a panel.
        mr: i64,
        /// Groups of channels that see only each other.
        groups: i64 = 1,
    }
}

/// `nn.conv2d` in NCHW on packed weights.
pub static CONV2D_PACKED: OpDef = OpDef {
    name: "nn.contrib_conv2d_packed",
    doc: "nn.conv2d in NCHW on a weight packed into panels [groups, ceil(channels / groups / mr), k, mr].",
    args: &["data", "weight"],
    optional: 0,
    attrs: Conv2dPackedAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer,
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &[],
};

/// Packs the weight of `nn.conv2d` in OIHW into panels.
pub static CONV2D_PACK_WEIGHT: OpDef = OpDef {
    name: "nn.contrib_conv2d_pack_weight",
    doc: "A weight OIHW as panels [groups, ceil(O / groups / mr), I * H * W, mr], zeros past O.",
    args: &["weight"],
    optional: 0,
    attrs: Conv2dPackWeightAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_pack,
    backward: no_backward,
    eval: eval_pack,
    lower: Lower::Te(lower_pack),
    onnx: &[],
};

/// The convolution that it is.
fn conv(attrs: &Attrs) -> Conv {
    let a: Conv2dPackedAttrs = attrs.read();
    Conv {
        axes: 2,
        strides: a.strides,
        padding: a.padding,
        dilation: a.dilation,
        output_padding: vec![0; 2],
        groups: a.groups,
        channels: Some(a.channels),
        kernel_size: Some(a.kernel_size),
        data_layout: "NCHW".into(),
        kernel_layout: "OIHW".into(),
        out_layout: "".into(),
        out_dtype: a.out_dtype,
    }
}

/// The kernel's sizes and the number of output channels.
fn kernel_and_channels(attrs: &Attrs) -> Result<(Vec<usize>, usize), OpError> {
    let a: Conv2dPackedAttrs = attrs.read();
    Ok((sizes("kernel_size", &a.kernel_size, 2, 1)?, size("channels", a.channels, 0)?))
}

fn infer(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let conv = conv(attrs);
    let dtype = product_dtype(args, conv.out_dtype)?;
    let (data, weight) = (ranked(args, 0, 4)?, ranked(args, 1, 4)?);
    let (kernel, channels) = kernel_and_channels(attrs)?;
    let mr = size("mr", attrs.read::<Conv2dPackedAttrs>().mr, 1)?;
    let groups = conv.groups()?;
    let input = data.shape[1].as_static();
    if !channels.is_multiple_of(groups) || input.is_some_and(|c| !c.is_multiple_of(groups)) {
        return Err(OpError::new(format!("the channels do not divide into {groups} groups")));
    }
    let reduced = input.map_or(Dim::Any, |c| (c / groups * kernel[0] * kernel[1]).into());
    let panels = [groups.into(), (channels / groups).div_ceil(mr).into(), reduced, mr.into()];
    for (found, expected) in weight.shape.iter().zip(&panels) {
        same_dim(1, "a dimension of the panels", found, expected)?;
    }
    let mut shape = vec![data.shape[0].clone(), channels.into()];
    for (window, dim) in conv.windows(&kernel)?.iter().zip(&data.shape[2..]) {
        shape.push(window.count_dim(dim, false)?);
    }
    tensor_type(shape, dtype)
}

fn eval(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (x, w) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let (kernel, _) = kernel_and_channels(attrs)?;
    let geo = Geometry::new(&conv(attrs), x.shape(), &shape, &kernel)?;
    let (k, mr) = (w.shape()[2], w.shape()[3]);
    with_acc!(acc_dtype(x.dtype(), dtype), A => {
        let packed = read::<A>(w);
        let panels = geo.ocg.div_ceil(mr);
        let mut plain = Vec::with_capacity(geo.groups * geo.ocg * k);
        for o in 0..geo.groups * geo.ocg {
            let (group, channel) = (o / geo.ocg, o % geo.ocg);
            let first = (group * panels + channel / mr) * k * mr + channel % mr;
            plain.extend((0..k).map(|p| packed[first + p * mr]));
        }
        Ok(write(dtype, &shape, &forward::<A>(&geo, &read(x), &plain))?.into())
    })
}

fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (conv, out, w) = (conv(attrs), &out[0], &args[1]);
    let (kernel, channels) = kernel_and_channels(attrs)?;
    let windows = conv.windows(&kernel)?;
    let groups = conv.groups()?;
    let (icg, ocg, mr) = (args[0].shape[1] / groups, (channels / groups).max(1), w.shape[3]);
    let x = pad_spatial(g, &args[0], &conv, &windows)?;
    let acc = accumulator(out.dtype);
    let extents = [icg, kernel[0], kernel[1]];
    Ok(vec![stages::sum(g, "conv2d_packed", "conv2d_packed", out, &extents, |i, k| {
        let (group, channel) = (i[1].clone().floor_div(ocg), i[1].clone().floor_mod(ocg));
        let at = [
            i[0].clone(),
            group.clone() * icg + &k[0],
            &i[2] * windows[0].stride + &k[1] * windows[0].dilation,
            &i[3] * windows[1].stride + &k[2] * windows[1].dilation,
        ];
        let reduced = (&k[0] * kernel[0] + &k[1]) * kernel[1] + &k[2];
        let weight = [group, channel.clone().floor_div(mr), reduced, channel.floor_mod(mr)];
        x.at(&at).cast(acc) * w.at(&weight).cast(acc)
    })])
}

fn infer_pack(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: Conv2dPackWeightAttrs = attrs.read();
    let weight = ranked(args, 0, 4)?;
    let (mr, groups) = (size("mr", a.mr, 1)?, size("groups", a.groups, 1)?);
    let panels = match weight.shape[0].as_static() {
        Some(o) if !o.is_multiple_of(groups) => {
            return Err(OpError::arg(0, format!("{o} output channels do not divide into {groups} groups")));
        }
        Some(o) => (o / groups).div_ceil(mr).into(),
        None => Dim::Any,
    };
    let reduced = weight.shape[1..].iter().try_fold(1usize, |n, d| n.checked_mul(d.as_static()?));
    let shape = vec![groups.into(), panels, reduced.map_or(Dim::Any, Dim::Static), mr.into()];
    tensor_type(shape, weight.dtype)
}

fn eval_pack(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let weight = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let (groups, panels, k, mr, width) = (shape[0], shape[1], shape[2], shape[3], dtype.bytes());
    let rows = (weight.shape()[0] / groups * k * width).max(1);
    let packed = Tensor::filled(dtype, &shape, |packed| {
        let groups = packed.chunks_mut((panels * k * mr * width).max(1));
        groups
            .zip(weight.bytes().chunks(rows))
            .for_each(|(packed, rows)| into_panels(rows, packed, [k, mr, width]));
    })?;
    Ok(packed.into())
}

fn lower_pack(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: Conv2dPackWeightAttrs = attrs.read();
    let (weight, mr) = (&args[0], size("mr", a.mr, 1)?);
    let ocg = weight.shape[0] / size("groups", a.groups, 1)?;
    let (h, w) = (weight.shape[2].max(1), weight.shape[3].max(1));
    Ok(vec![g.compute("conv2d_pack_weight", "injective", &out[0], |i| {
        let channel = &i[1] * mr + &i[3];
        let at = [
            &i[0] * ocg + channel.clone(),
            i[2].clone().floor_div(h * w),
            i[2].clone().floor_div(w).floor_mod(h),
            i[2].clone().floor_mod(w),
        ];
        channel.lt(ocg).select(weight.at(&at), stages::zero(weight.dtype))
    })])
}
