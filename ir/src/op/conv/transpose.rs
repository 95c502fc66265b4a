//! `nn.conv1d_transpose` and its siblings: the transpose of a convolution as a linear map.

use super::attrs::{Conv, Conv1dTransposeAttrs, Conv2dTransposeAttrs, Conv3dTransposeAttrs, ConvKind};
use super::geometry::Geometry;
use super::kernel::transposed;
use super::plain::kernel_and_channels;
use crate::eval::Value;
use crate::op::check::{same_dim, shape_of};
use crate::op::nn::dense::product_dtype;
use crate::op::num::{acc_dtype, read, with_acc, write};
use crate::op::util::{NUMERIC, accumulator};
use crate::op::window::Window;
use crate::op::{FusePattern, Lower, OpDef, OpError, Purity, stages};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{Dim, TensorType, Type};

/// A row of a transposed convolution whose attributes are `T`.
const fn row<T: ConvKind>(name: &'static str, doc: &'static str) -> OpDef {
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
        onnx: &["ConvTranspose"],
    }
}

/// Transposed convolution over one spatial axis.
pub static CONV1D_TRANSPOSE: OpDef =
    row::<Conv1dTransposeAttrs>("nn.conv1d_transpose", "Transposed convolution over one spatial axis.");

/// Transposed convolution over two spatial axes.
pub static CONV2D_TRANSPOSE: OpDef =
    row::<Conv2dTransposeAttrs>("nn.conv2d_transpose", "Transposed convolution over two spatial axes.");

/// Transposed convolution over three spatial axes.
pub static CONV3D_TRANSPOSE: OpDef =
    row::<Conv3dTransposeAttrs>("nn.conv3d_transpose", "Transposed convolution over three spatial axes.");

/// The size that spreads from `count` elements.
fn spread(window: &Window, count: &Dim, output_padding: usize) -> Result<Dim, OpError> {
    let Some(count) = count.as_static() else {
        let keeps =
            window.stride == 1 && window.before + window.after == window.extent() - 1 + output_padding;
        return Ok(if keeps { count.clone() } else { Dim::Any });
    };
    let whole = count.saturating_sub(1) * window.stride + window.extent() + output_padding;
    let whole = if count == 0 { 0 } else { whole };
    whole.checked_sub(window.before + window.after).map(Dim::Static).ok_or_else(|| {
        let cut = window.before + window.after;
        OpError::arg(0, format!("padding cuts {cut} off {whole} elements of the result"))
    })
}

fn infer(args: &[Type], conv: &Conv) -> Result<Type, OpError> {
    let dtype = product_dtype(args, conv.out_dtype)?;
    let data = conv.data_order()?.dims(args, 0)?;
    let weight = conv.kernel_order("IO")?.dims(args, 1)?;
    let groups = conv.groups()?;
    let (kernel, channels) = kernel_and_channels(conv, &weight, 1, usize::checked_mul)?;
    let input = same_dim(1, "the number of input channels", &weight[0], &data[1])?;
    if input.as_static().is_some_and(|c| !c.is_multiple_of(groups)) {
        return Err(OpError::arg(0, format!("{input} channels do not divide into {groups} groups")));
    }
    let mut shape = vec![data[0].clone(), channels];
    let extra = conv.output_padding()?;
    for ((window, dim), extra) in conv.windows(&kernel)?.iter().zip(&data[2..]).zip(extra) {
        shape.push(spread(window, dim, extra)?);
    }
    conv.out_order()?.tensor_type(&shape, dtype)
}

fn backward(args: &[Type], conv: &Conv) -> Vec<(usize, Type)> {
    let weight = || {
        let data = conv.data_order().ok()?.dims(args, 0).ok()?;
        let channels = usize::try_from(conv.channels?).ok()?;
        let mut shape = vec![data[1].clone(), (channels / conv.groups().ok()?).into()];
        shape.extend(conv.kernel_size().ok()??.into_iter().map(Dim::Static));
        let shape = conv.kernel_order("IO").ok()?.arrange(&shape);
        Some(TensorType::new(shape, args[0].as_tensor()?.dtype).into())
    };
    match args.get(1) {
        Some(Type::Unknown) => weight().map(|t| (1, t)).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn eval(args: &[Value], conv: &Conv, ty: &Type) -> Result<Value, OpError> {
    let x = conv.data_order()?.canonical_tensor(args[0].tensor()?)?;
    let w = conv.kernel_order("IO")?.canonical_tensor(args[1].tensor()?)?;
    let (shape, dtype) = shape_of(ty)?;
    let order = conv.out_order()?;
    let out = order.canonical(&shape);
    // The windows slide over the result, and every element of the data is one of them.
    let mut geo = Geometry::new(conv, &out, x.shape(), &w.shape()[2..])?;
    std::mem::swap(&mut geo.icg, &mut geo.ocg);
    with_acc!(acc_dtype(x.dtype(), dtype), A => {
        let y = write(dtype, &out, &transposed::<A>(&geo, &read(&x), &read(&w)))?;
        Ok(order.arrange_tensor(&y)?.into())
    })
}

/// The data with `stride - 1` zeros between elements and what the taps of the flipped kernel
/// reach around them, so that a convolution of stride 1 follows.
fn dilate(g: &mut Graph, x: &te::Tensor, places: &[usize], windows: &[Window], out: &[usize]) -> te::Tensor {
    let mut shape = x.shape.clone();
    for ((&p, w), n) in places.iter().zip(windows).zip(out) {
        shape[p] = n + w.extent() - 1;
    }
    g.compute("data_dilate", "dilate", &TensorType::of(&shape, x.dtype), |i| {
        let mut at = i.to_vec();
        let mut hit: Option<Expr> = None;
        for (&p, w) in places.iter().zip(windows) {
            let offset = &i[p] + (w.before as i64 - (w.extent() as i64 - 1));
            let element = offset.clone().floor_div(w.stride);
            let inside = element.clone().ge(0i64).and(element.clone().lt(x.shape[p]));
            let inside = inside.and(offset.floor_mod(w.stride).equal(0i64));
            hit = Some(match hit {
                Some(hit) => hit.and(inside),
                None => inside,
            });
            at[p] = element;
        }
        let value = x.at(&at);
        hit.map_or(value.clone(), |hit| hit.select(value, stages::zero(x.dtype)))
    })
}

fn lower(
    g: &mut Graph,
    x: &te::Tensor,
    w: &te::Tensor,
    conv: &Conv,
    out: &TensorType,
) -> Result<te::Tensor, OpError> {
    let (data, kernel, result) = (conv.data_order()?, conv.kernel_order("IO")?, conv.out_order()?);
    let sizes = kernel.canonical(&w.shape);
    let groups = conv.groups()?;
    let (icg, ocg) = (sizes[0] / groups, sizes[1]);
    let windows = conv.windows(&sizes[2..])?;
    let places: Vec<usize> = (0..conv.axes).map(|d| data.place(2 + d)).collect();
    let wide = out.static_shape().ok_or_else(|| OpError::new("the result's shape is not known"))?;
    let x = dilate(g, x, &places, &windows, &result.canonical(&wide)[2..]);
    let tag = format!("conv{}d_transpose_{}", conv.axes, conv.data_layout.to_lowercase());
    let acc = accumulator(out.dtype);
    let extents: Vec<usize> = [&[icg], &sizes[2..]].concat();
    Ok(stages::sum(g, &tag, &tag, out, &extents, |i, k| {
        let i = result.canonical(i);
        let (group, channel) = match groups {
            1 => (Expr::int(0), i[1].clone()),
            _ => (i[1].clone().floor_div(ocg.max(1)), i[1].clone().floor_mod(ocg.max(1))),
        };
        let input = group * icg + &k[0];
        let mut at = vec![i[0].clone(), input.clone()];
        let mut weight = vec![input, channel];
        for ((w, i), k) in windows.iter().zip(&i[2..]).zip(&k[1..]) {
            at.push(i + k * w.dilation);
            weight.push(Expr::from(w.kernel - 1) - k);
        }
        x.at(&data.arrange(&at)).cast(acc) * w.at(&kernel.arrange(&weight)).cast(acc)
    }))
}
