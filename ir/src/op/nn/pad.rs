//! `nn.pad`, `nn.mirror_pad` and `nn.dilate`: elements around and between the data's own.

use std::sync::Arc;

use crate::eval::Value;
use crate::op::check::{one_of, shape_of, sizes};
use crate::op::util::{ALL, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Scalar, cast};
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`PAD`].
    pub struct PadAttrs {
        /// Elements before and after each dimension; negative numbers cut off.
        pad_width: Vec<Vec<i64>>,
        /// `constant`, `edge`, `reflect` (without the edge) or `wrap`.
        pad_mode: Arc<str> = "constant".into(),
    }
}

op_attrs! {
    /// Attributes of [`MIRROR_PAD`].
    pub struct MirrorPadAttrs {
        /// `SYMMETRIC` (with the edge) or `REFLECT` (without).
        mode: Arc<str> = "SYMMETRIC".into(),
        /// Elements before and after each dimension.
        pad_width: Vec<Vec<i64>>,
    }
}

op_attrs! {
    /// Attributes of [`DILATE`].
    pub struct DilateAttrs {
        /// The step from one element to the next in each dimension.
        strides: Vec<i64>,
        /// The value between elements.
        dilation_value: f64 = 0.0,
    }
}

/// Elements around the data.
pub static PAD: OpDef = OpDef {
    name: "nn.pad",
    doc: "Elements around the data: a value (0 if none is given), its edges, its mirror image, or itself again.",
    args: &["data", "pad_value"],
    optional: 1,
    attrs: PadAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |args, attrs| infer_pad(args, &Pad::new(attrs)?),
    backward: no_backward,
    eval: |args, attrs, ty| eval_pad(args, &Pad::new(attrs)?, ty),
    lower: Lower::Te(|g, args, attrs, out| Ok(vec![lower_pad(g, args, &Pad::new(attrs)?, &out[0])])),
    onnx: &["Pad"],
};

/// The mirror image around the data.
pub static MIRROR_PAD: OpDef = OpDef {
    name: "nn.mirror_pad",
    doc: "The mirror image of the data around it.",
    args: &["data"],
    optional: 0,
    attrs: MirrorPadAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |args, attrs| infer_pad(args, &Pad::mirror(attrs)?),
    backward: no_backward,
    eval: |args, attrs, ty| eval_pad(args, &Pad::mirror(attrs)?, ty),
    lower: Lower::Te(|g, args, attrs, out| Ok(vec![lower_pad(g, args, &Pad::mirror(attrs)?, &out[0])])),
    onnx: &[],
};

/// A value between the elements.
pub static DILATE: OpDef = OpDef {
    name: "nn.dilate",
    doc: "A value between the elements of the data.",
    args: &["data"],
    optional: 0,
    attrs: DilateAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_dilate,
    backward: no_backward,
    eval: eval_dilate,
    lower: Lower::Te(lower_dilate),
    onnx: &[],
};

/// Where the elements around the data come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Symmetric,
    Wrap,
}

impl Mode {
    /// The index in `n` elements, at least one, of the element at `j` from the first.
    fn index(self, j: i64, n: i64) -> Option<i64> {
        match self {
            Mode::Constant => (0..n).contains(&j).then_some(j),
            Mode::Edge => Some(j.clamp(0, n - 1)),
            Mode::Reflect if n == 1 => Some(0),
            Mode::Reflect => {
                let m = j.rem_euclid(2 * (n - 1));
                Some(if m < n { m } else { 2 * (n - 1) - m })
            }
            Mode::Symmetric => {
                let m = j.rem_euclid(2 * n);
                Some(if m < n { m } else { 2 * n - 1 - m })
            }
            Mode::Wrap => Some(j.rem_euclid(n)),
        }
    }

    /// The same as an expression; a constant's elements are guarded by the caller.
    fn expr(self, j: Expr, n: i64) -> Expr {
        match self {
            Mode::Constant => j,
            Mode::Edge => j.max(0i64).min(n - 1),
            Mode::Reflect if n == 1 => Expr::int(0),
            Mode::Reflect => {
                let m = j.floor_mod(2 * (n - 1));
                m.clone().min(Expr::int(2 * (n - 1)) - m)
            }
            Mode::Symmetric => {
                let m = j.floor_mod(2 * n);
                m.clone().min(Expr::int(2 * n - 1) - m)
            }
            Mode::Wrap => j.floor_mod(n),
        }
    }
}

/// The padding of a call.
struct Pad {
    widths: Vec<(i64, i64)>,
    mode: Mode,
}

impl Pad {
    fn new(attrs: &Attrs) -> Result<Pad, OpError> {
        let PadAttrs { pad_width, pad_mode } = attrs.read();
        one_of("pad_mode", &pad_mode, &["constant", "edge", "reflect", "wrap"])?;
        let mode = match &*pad_mode {
            "edge" => Mode::Edge,
            "reflect" => Mode::Reflect,
            "wrap" => Mode::Wrap,
            _ => Mode::Constant,
        };
        Ok(Pad { widths: widths(&pad_width)?, mode })
    }

    fn mirror(attrs: &Attrs) -> Result<Pad, OpError> {
        let MirrorPadAttrs { mode, pad_width } = attrs.read();
        one_of("mode", &mode, &["SYMMETRIC", "REFLECT"])?;
        let mode = if &*mode == "REFLECT" { Mode::Reflect } else { Mode::Symmetric };
        Ok(Pad { widths: widths(&pad_width)?, mode })
    }
}

/// The largest width; sums with tensor sizes stay within 64 bits.
const MAX_WIDTH: i64 = 1 << 40;

fn widths(pad_width: &[Vec<i64>]) -> Result<Vec<(i64, i64)>, OpError> {
    let pair = |p: &Vec<i64>| match p[..] {
        [before, after] if before.abs() <= MAX_WIDTH && after.abs() <= MAX_WIDTH => Ok((before, after)),
        _ => Err(OpError::new("pad_width needs two sizes a dimension: before and after")),
    };
    pad_width.iter().map(pair).collect()
}

fn infer_pad(args: &[Type], pad: &Pad) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    if args.len() > 1 && tensor_arg(args, 1)?.elements() != Some(1) {
        return Err(OpError::arg(1, "the padding's value is not a scalar"));
    }
    if pad.widths.len() != data.rank() {
        let (found, rank) = (pad.widths.len(), data.rank());
        return Err(OpError::new(format!("pad_width has {found} pairs for a tensor of rank {rank}")));
    }
    let dim = |(dim, &(before, after)): (&Dim, &(i64, i64))| match dim {
        _ if (before, after) == (0, 0) => Ok(dim.clone()),
        Dim::Static(0) if pad.mode != Mode::Constant => {
            Err(OpError::arg(0, "a dimension without elements has nothing to repeat"))
        }
        Dim::Static(n) => usize::try_from(*n as i64 + before + after).map(Dim::Static).map_err(|_| {
            OpError::new(format!("padding of ({before}, {after}) cuts more than the {n} elements there are"))
        }),
        Dim::Sym(_) if before + after == 0 => Ok(dim.clone()),
        Dim::Sym(_) | Dim::Any => Ok(Dim::Any),
    };
    let shape = data.shape.iter().zip(&pad.widths).map(dim).collect::<Result<_, _>>()?;
    tensor_type(shape, data.dtype)
}

/// The only element of a tensor, in a dtype.
fn fill(value: Option<&Value>, dtype: DType) -> Result<Scalar, OpError> {
    let Some(value) = value else { return Ok(Scalar::from_bits(dtype, 0)) };
    let t = value.tensor()?;
    let mut bits = [0; 8];
    bits[..t.dtype().bytes()].copy_from_slice(&t.bytes()[..t.dtype().bytes()]);
    Ok(cast(Scalar::from_bits(t.dtype(), u64::from_le_bytes(bits)), dtype))
}

/// The tensor whose element at each index is the one that `maps` pick in every dimension,
/// or the fill where one of them picks none.
fn gather(x: &Tensor, maps: &[Vec<Option<usize>>], fill: Scalar) -> Result<Tensor, OpError> {
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    let width = x.dtype().bytes();
    let fill = fill.bits().to_le_bytes();
    // Where rows start, in elements, dimension by dimension; the last one is done in place.
    let mut starts: Vec<Option<usize>> = vec![Some(0)];
    let outer = maps.len().saturating_sub(1);
    for (map, &n) in maps.iter().zip(x.shape()).take(outer) {
        let next = |s: Option<usize>| map.iter().map(move |&i| Some(s? * n + i?));
        starts = starts.into_iter().flat_map(next).collect();
    }
    let last: &[Option<usize>] = maps.last().map_or(&[Some(0)], |m| m);
    let row = x.shape().last().copied().unwrap_or(1);
    Ok(Tensor::filled(x.dtype(), &shape, |bytes| {
        let places = starts.iter().flat_map(|&s| last.iter().map(move |&i| Some(s? * row + i?)));
        for (to, from) in bytes.chunks_exact_mut(width).zip(places) {
            to.copy_from_slice(from.map_or(&fill[..width], |at| &x.bytes()[at * width..(at + 1) * width]));
        }
    })?)
}

fn eval_pad(args: &[Value], pad: &Pad, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let map = |d: usize| {
        let index = |i: usize| {
            let n = x.shape()[d] as i64;
            pad.mode.index(i as i64 - pad.widths[d].0, n).map(|i| i as usize)
        };
        (0..shape[d]).map(index).collect()
    };
    let maps: Vec<Vec<Option<usize>>> = (0..x.rank()).map(map).collect();
    Ok(gather(x, &maps, fill(args.get(1), dtype)?)?.into())
}

fn lower_pad(g: &mut Graph, args: &[te::Tensor], pad: &Pad, out: &TensorType) -> te::Tensor {
    let x = &args[0];
    let value = match args.get(1) {
        Some(v) => v.at(&vec![Expr::int(0); v.rank()]).cast(x.dtype),
        None => Expr::constant(Scalar::from_bits(x.dtype, 0)),
    };
    g.compute("pad", "pad", out, |i| {
        let mut inside = Expr::constant(Scalar::from_i64(DType::Bool, 1));
        let mut at = Vec::new();
        for ((i, &(before, after)), &n) in i.iter().zip(&pad.widths).zip(&x.shape) {
            let j = i - before;
            if pad.mode == Mode::Constant {
                inside = if before > 0 { inside.and(j.clone().ge(0i64)) } else { inside };
                inside = if after > 0 { inside.and(j.clone().lt(n)) } else { inside };
            }
            let padded = (before, after) != (0, 0);
            at.push(if padded { pad.mode.expr(j, n as i64) } else { j });
        }
        inside.select(x.at(&at), value)
    })
}

fn infer_dilate(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let strides = strides(attrs, data.rank())?;
    let dim = |(dim, &s): (&Dim, &usize)| match dim {
        Dim::Static(n) => Dim::Static(n.saturating_sub(1).saturating_mul(s) + (*n).min(1)),
        Dim::Sym(_) | Dim::Any if s == 1 => dim.clone(),
        Dim::Sym(_) | Dim::Any => Dim::Any,
    };
    tensor_type(data.shape.iter().zip(&strides).map(dim).collect(), data.dtype)
}

fn strides(attrs: &Attrs, rank: usize) -> Result<Vec<usize>, OpError> {
    let strides = attrs.read::<DilateAttrs>().strides;
    if strides.len() != rank {
        return Err(OpError::new(format!(
            "strides has {} values for a tensor of rank {rank}",
            strides.len()
        )));
    }
    sizes("strides", &strides, rank, 1)
}

fn eval_dilate(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let strides = strides(attrs, x.rank())?;
    let map = |(&n, &s): (&usize, &usize)| (0..n).map(|i| i.is_multiple_of(s).then_some(i / s)).collect();
    let maps: Vec<Vec<Option<usize>>> = shape.iter().zip(&strides).map(map).collect();
    let fill = Scalar::from_f64(dtype, attrs.read::<DilateAttrs>().dilation_value);
    Ok(gather(x, &maps, fill)?.into())
}

fn lower_dilate(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let x = &args[0];
    let strides = strides(attrs, x.rank())?;
    let fill = Expr::float(attrs.read::<DilateAttrs>().dilation_value, x.dtype);
    Ok(vec![g.compute("dilate", "injective", &out[0], |i| {
        let mut hit = Expr::constant(Scalar::from_i64(DType::Bool, 1));
        let mut at = Vec::new();
        for (i, &s) in i.iter().zip(&strides) {
            if s > 1 {
                hit = hit.and(i.clone().floor_mod(s).equal(0i64));
            }
            at.push(i.clone().floor_div(s));
        }
        hit.select(x.at(&at), fill)
    })])
}
