//! Operators that take or replace a box of a tensor: strided slices, slices like another
//! tensor, sliding windows.

use crate::eval::Value;
use crate::op::indexing::{index_expr, int_arg, sizes};
use crate::op::strided::{Layout, copy, pick};
use crate::op::util::{integers, normalize_axes, normalize_axis, same_dtype, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{BinaryOp, CmpOp};
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};
use std::sync::Arc;

op_attrs! {
    /// Attributes of `strided_slice`.
    pub struct StridedSliceAttrs {
        /// The first index along each dimension, from the end if negative; 0 where missing.
        begin: Option<Vec<i64>> = None,
        /// One past the last index, or the size in `size` mode (-1 is all); the end where missing.
        end: Option<Vec<i64>> = None,
        /// The steps, which may be negative; 1 where missing.
        strides: Option<Vec<i64>> = None,
        /// `end` or `size`: what `end` holds.
        slice_mode: Arc<str> = "end".into(),
        /// The dimensions that the lists are about; the first ones if None.
        axes: Option<Vec<i64>> = None,
    }
}

op_attrs! {
    /// Attributes of `slice_like`.
    pub struct SliceLikeAttrs {
        /// The dimensions to cut; all if None.
        axes: Option<Vec<i64>> = None,
    }
}

op_attrs! {
    /// Attributes of `sliding_window`.
    pub struct SlidingWindowAttrs {
        /// The first dimension that the window slides over.
        axis: i64,
        /// The size of the window in each dimension from `axis` on.
        window_shape: Vec<i64>,
        /// How far it moves in each of these.
        strides: Vec<i64>,
    }
}

/// `strided_slice`: a box of the data, in steps.
pub static STRIDED_SLICE: OpDef = OpDef {
    name: "strided_slice",
    doc: "Takes `begin..end` in steps of `strides` along each dimension, by Python's rules of slices.",
    args: &["data"],
    optional: 0,
    attrs: StridedSliceAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_strided_slice,
    backward: no_backward,
    eval: eval_strided_slice,
    lower: Lower::Te(lower_strided_slice),
    onnx: &["Slice"],
};

/// `strided_set`: the data with a box replaced.
pub static STRIDED_SET: OpDef = OpDef {
    name: "strided_set",
    doc: "The data with the slice `begin..end` in steps of `strides` (tensors) replaced by `v`, \
          as far as both reach.",
    args: &["data", "v", "begin", "end", "strides"],
    optional: 1,
    attrs: &[],
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_strided_set,
    backward: no_backward,
    eval: eval_strided_set,
    lower: Lower::Te(lower_strided_set),
    onnx: &[],
};

/// `slice_like`: the data cut to the shape of another tensor.
pub static SLICE_LIKE: OpDef = OpDef {
    name: "slice_like",
    doc: "Cuts the data from its start to the sizes that the second tensor has along `axes`.",
    args: &["data", "shape_like"],
    optional: 0,
    attrs: SliceLikeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_slice_like,
    backward: no_backward,
    eval: eval_slice_like,
    lower: Lower::Te(lower_slice_like),
    onnx: &[],
};

/// `sliding_window`: every position of a window.
pub static SLIDING_WINDOW: OpDef = OpDef {
    name: "sliding_window",
    doc: "All windows of `window_shape` over the dimensions from `axis` on, `strides` apart.",
    args: &["data"],
    optional: 0,
    attrs: SlidingWindowAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_sliding_window,
    backward: no_backward,
    eval: eval_sliding_window,
    lower: Lower::Te(lower_sliding_window),
    onnx: &[],
};

/// A slice along one dimension as it was asked for; a missing end is all there is.
#[derive(Clone, Copy, Debug)]
struct Slice {
    begin: Option<i64>,
    end: Option<i64>,
    step: i64,
}

/// A slice along a dimension of known size: where it starts, its step and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::op) struct Cut {
    pub start: i64,
    pub step: i64,
    pub len: usize,
}

const ALL: Slice = Slice { begin: None, end: None, step: 1 };

/// Python's slice of a dimension of size `n`; a step of 0 takes nothing.
pub(in crate::op) fn cut(begin: i64, end: i64, step: i64, n: usize) -> Cut {
    let n = n as i64;
    let (low, high) = if step < 0 { (-1, n - 1) } else { (0, n) };
    let clamp = |i: i64| if i < 0 { i.saturating_add(n).clamp(low, high) } else { i.min(high) };
    let (start, stop) = (clamp(begin), clamp(end));
    let distance = if step < 0 { start - stop } else { stop - start };
    let len = match step {
        0 => 0,
        _ if distance <= 0 => 0,
        _ => (distance as u64).div_ceil(step.unsigned_abs()) as usize,
    };
    // A step that is never taken must not overflow where places are computed.
    Cut { start, step: if len > 1 { step } else { 1 }, len }
}

impl Slice {
    fn cut(self, n: usize) -> Cut {
        let (first, last) = if self.step < 0 { (i64::MAX, i64::MIN) } else { (0, i64::MAX) };
        cut(self.begin.unwrap_or(first), self.end.unwrap_or(last), self.step, n)
    }

    /// The length along a dimension that may not be known.
    fn dim(self, dim: &Dim) -> Dim {
        // An end past every size that occurs in practice says "all there is".
        const FAR: i64 = i32::MAX as i64;
        match dim {
            Dim::Static(n) => Dim::Static(self.cut(*n).len),
            Dim::Sym(_) | Dim::Any => {
                let forward = self.step == 1
                    && self.begin.is_none_or(|b| b == 0 || b <= -FAR)
                    && self.end.is_none_or(|e| e >= FAR);
                let backward = self.step == -1
                    && self.begin.is_none_or(|b| b == -1 || b >= FAR)
                    && self.end.is_none_or(|e| e <= -FAR);
                if forward || backward { dim.clone() } else { Dim::Any }
            }
        }
    }
}

/// The slice along each dimension.
fn slices(attrs: &Attrs, rank: usize) -> Result<Vec<Slice>, OpError> {
    let a: StridedSliceAttrs = attrs.read();
    let [begin, end, strides] = [a.begin, a.end, a.strides].map(Option::unwrap_or_default);
    let count = begin.len().max(end.len()).max(strides.len());
    let axes = match &a.axes {
        Some(list) => normalize_axes(list, rank)?,
        None => (0..count.min(rank)).collect(),
    };
    if count > axes.len() {
        return Err(OpError::new(format!("slices of {count} dimensions do not fit {}", axes.len())));
    }
    let mut all = vec![ALL; rank];
    for (i, &d) in axes.iter().enumerate() {
        let (first, last) = (begin.get(i).copied(), end.get(i).copied());
        all[d] = match &*a.slice_mode {
            "end" => Slice { begin: first, end: last, step: strides.get(i).copied().unwrap_or(1) },
            "size" => sized(first.unwrap_or(0), last.unwrap_or(-1)),
            other => return Err(OpError::new(format!("slice_mode is \"end\" or \"size\", not \"{other}\""))),
        };
        if all[d].step == 0 {
            return Err(OpError::new(format!("the stride along dimension {d} is 0")));
        }
    }
    Ok(all)
}

/// `size` elements from `begin` on, or all if it is negative.
fn sized(begin: i64, size: i64) -> Slice {
    let end = begin.saturating_add(size);
    // From the end, a sum of 0 or more has reached the end of the dimension.
    let open = size < 0 || (begin < 0 && end >= 0);
    Slice { begin: Some(begin), end: (!open).then_some(end), step: 1 }
}

fn infer_strided_slice(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let slices = slices(attrs, data.rank())?;
    tensor_type(slices.iter().zip(&data.shape).map(|(s, dim)| s.dim(dim)).collect(), data.dtype)
}

/// The part of a dense tensor that these cuts leave.
fn cut_layout(shape: &[usize], cuts: &[Cut]) -> Layout {
    let cuts = cuts.iter().enumerate();
    cuts.fold(Layout::dense(shape), |layout, (d, cut)| {
        layout.sliced(d, cut.start as isize, cut.step as isize)
    })
}

fn cuts(attrs: &Attrs, shape: &[usize]) -> Result<Vec<Cut>, OpError> {
    Ok(slices(attrs, shape.len())?.iter().zip(shape).map(|(s, &n)| s.cut(n)).collect())
}

fn eval_strided_slice(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, shape) = (args[0].tensor()?, sizes(ty)?);
    if shape.contains(&0) {
        return Ok(Tensor::zeros(data.dtype(), &shape)?.into());
    }
    Ok(pick(data, &cut_layout(data.shape(), &cuts(attrs, data.shape())?), &shape)?.into())
}

fn lower_strided_slice(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let cuts = cuts(attrs, &args[0].shape)?;
    Ok(vec![g.compute("strided_slice", "injective", &out[0], |index| {
        let from = index.iter().zip(&cuts).map(|(i, cut)| i.clone() * cut.step + cut.start);
        args[0].at(&from.collect::<Vec<_>>())
    })])
}

fn infer_strided_set(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (data, v) = (tensor_arg(args, 0)?, tensor_arg(args, 1)?);
    same_dtype(args, 0, 1)?;
    if v.rank() != data.rank() {
        let (a, b) = (v.rank(), data.rank());
        return Err(OpError::arg(1, format!("the new values have rank {a}, the data has rank {b}")));
    }
    for i in 2..args.len() {
        let list = int_arg(args, i)?;
        let fits = matches!(list.shape.as_slice(), [n] if n.as_static().is_none_or(|n| n <= data.rank()));
        if !fits {
            return Err(OpError::arg(i, "expected a vector of at most one number a dimension"));
        }
    }
    Ok(args[0].clone())
}

fn eval_strided_set(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, v) = (args[0].tensor()?, args[1].tensor()?);
    let lists = args[2..].iter().map(|a| integers(a.tensor()?)).collect::<Result<Vec<_>, _>>()?;
    let get = |list: usize, d: usize| lists.get(list).and_then(|l| l.get(d)).copied();
    let mut cuts = Vec::with_capacity(data.rank());
    for (d, (&n, &given)) in data.shape().iter().zip(v.shape()).enumerate() {
        let slice = Slice { begin: get(0, d), end: get(1, d), step: get(2, d).unwrap_or(1) };
        let cut = slice.cut(n);
        cuts.push(Cut { len: cut.len.min(given), ..cut });
    }
    let part: Vec<usize> = cuts.iter().map(|cut| cut.len).collect();
    let filled = Tensor::filled(data.dtype(), data.shape(), |out| {
        out.copy_from_slice(data.bytes());
        if !part.contains(&0) {
            let to = cut_layout(data.shape(), &cuts);
            copy(data.dtype().bytes(), &part, v.bytes(), &Layout::dense(v.shape()), out, &to);
        }
    });
    Ok(filled?.into())
}

fn lower_strided_set(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, v) = (&args[0], &args[1]);
    let element = |list: usize, d: usize| {
        let list = args.get(2 + list)?;
        (d < list.shape[0]).then(|| index_expr(list.at(&[Expr::int(d as i64)])))
    };
    Ok(vec![g.compute("strided_set", "injective", &out[0], |index| {
        if v.shape.contains(&0) {
            return data.at(index);
        }
        let mut inside = Expr::constant(crate::scalar::Scalar::of(crate::tensor::Bool8(1)));
        let mut from = Vec::with_capacity(index.len());
        for (d, i) in index.iter().enumerate() {
            let (hit, place) =
                slice_place(i, [element(0, d), element(1, d), element(2, d)], data.shape[d], v.shape[d]);
            inside = inside.and(hit);
            from.push(place);
        }
        inside.select(v.at(&from), data.at(index))
    })])
}

/// Whether index `i` of a dimension of size `n` is hit by a slice that is known at run time
/// only, and at which of its `given` elements.
fn slice_place(i: &Expr, [begin, end, step]: [Option<Expr>; 3], n: usize, given: usize) -> (Expr, Expr) {
    let n = Expr::int(n as i64);
    let step = step.unwrap_or(Expr::int(1));
    let backward = step.clone().lt(0i64);
    let low = backward.clone().select(Expr::int(-1), Expr::int(0));
    let high = backward.clone().select(n.clone() - 1i64, n.clone());
    let clamp = |e: Expr| {
        // Saturating first keeps the sum with the size from wrapping around.
        let e = e.max(i64::MIN / 2);
        let from_end = e.clone().lt(0i64).select(e.clone() + &n, e);
        from_end.max(&low).min(&high)
    };
    let start = begin.map_or_else(|| backward.clone().select(high.clone(), Expr::int(0)), clamp);
    let stop = end.map_or_else(|| backward.clone().select(Expr::int(-1), high.clone()), clamp);
    let within = backward.clone().select(
        i.clone().cmp(CmpOp::Le, start.clone()).and(i.clone().cmp(CmpOp::Gt, stop.clone())),
        i.clone().ge(start.clone()).and(i.clone().lt(stop)),
    );
    let distance = i.clone() - start;
    // Both divisions are by 0 where the step is; the remainder is then 0, so that is asked too.
    let whole = distance.clone().binary(BinaryOp::Mod, step.clone()).equal(0i64);
    let moving = step.clone().cmp(CmpOp::Ne, Expr::int(0));
    let place = distance.binary(BinaryOp::Div, step);
    let reached = place.clone().lt(given);
    (within.and(moving).and(whole).and(reached), place)
}

fn infer_slice_like(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, like) = (tensor_arg(args, 0)?, tensor_arg(args, 1)?);
    let axes = match attrs.read::<SliceLikeAttrs>().axes.filter(|list| !list.is_empty()) {
        Some(list) => normalize_axes(&list, data.rank())?,
        None if like.rank() == data.rank() => (0..data.rank()).collect(),
        None => {
            let (a, b) = (data.rank(), like.rank());
            return Err(
                OpError::new(format!("ranks {a} and {b} differ")).help("name the dimensions with axes=[..]")
            );
        }
    };
    let mut shape = data.shape.clone();
    for d in axes {
        let size = like.shape.get(d).ok_or_else(|| OpError::arg(1, format!("there is no dimension {d}")))?;
        if let (Dim::Static(have), Dim::Static(want)) = (&shape[d], size)
            && want > have
        {
            return Err(OpError::new(format!("dimension {d} is {have}, too small to cut it to {want}")));
        }
        shape[d] = size.clone();
    }
    tensor_type(shape, data.dtype)
}

fn eval_slice_like(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    Ok(pick(data, &Layout::dense(data.shape()), &sizes(ty)?)?.into())
}

fn lower_slice_like(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    Ok(vec![g.compute("slice_like", "injective", &out[0], |index| args[0].at(index))])
}

/// The first windowed dimension, and the window's size and step in each.
fn windows(attrs: &Attrs, rank: usize) -> Result<(usize, Vec<(usize, usize)>), OpError> {
    let a: SlidingWindowAttrs = attrs.read();
    let first = normalize_axis(a.axis, rank)?;
    let count = rank - first;
    if a.window_shape.len() != count || a.strides.len() != count {
        return Err(OpError::new(format!("window_shape and strides need {count} numbers each")));
    }
    let positive = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0);
    let pairs = a.window_shape.iter().zip(&a.strides).map(|(&w, &s)| positive(w).zip(positive(s)));
    let pairs = pairs.collect::<Option<Vec<_>>>();
    Ok((first, pairs.ok_or_else(|| OpError::new("sizes and strides of a window must be positive"))?))
}

fn infer_sliding_window(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let (first, windows) = windows(attrs, data.rank())?;
    let mut shape = data.shape[..first].to_vec();
    for (dim, (size, step)) in data.shape[first..].iter().zip(&windows) {
        shape.push(match dim {
            Dim::Static(n) if n < size => {
                return Err(OpError::arg(0, format!("a window of {size} does not fit a dimension of {n}")));
            }
            Dim::Static(n) => Dim::Static((n - size) / step + 1),
            Dim::Sym(_) | Dim::Any => Dim::Any,
        });
    }
    shape.extend(windows.iter().map(|&(size, _)| Dim::Static(size)));
    tensor_type(shape, data.dtype)
}

fn eval_sliding_window(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let (first, windows) = windows(attrs, data.rank())?;
    let mut layout = Layout::dense(data.shape());
    let inner: Vec<isize> = layout.strides[first..].to_vec();
    for (stride, (_, step)) in layout.strides[first..].iter_mut().zip(&windows) {
        *stride *= *step as isize;
    }
    layout.strides.extend(inner);
    Ok(pick(data, &layout, &sizes(ty)?)?.into())
}

fn lower_sliding_window(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let rank = args[0].rank();
    let (first, windows) = windows(attrs, rank)?;
    Ok(vec![g.compute("sliding_window", "injective", &out[0], |index| {
        let mut from = index[..rank].to_vec();
        for (w, (_, step)) in windows.iter().enumerate() {
            from[first + w] = index[first + w].clone() * *step + &index[rank + w];
        }
        args[0].at(&from)
    })])
}
