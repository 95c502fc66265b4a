//! Operators that move elements without changing any: transposition, reversal, data layouts.

use super::dims::Product;
use super::layout::{DataLayout, Letter};
use super::reindex::{flatten, unflatten};
use crate::eval::Value;
use crate::op::indexing::{index_expr, int_arg, sizes, zero};
use crate::op::strided::{Layout, copy, pick, pick_as};
use crate::op::util::{integers, normalize_axes, normalize_axis, tensor_arg, tensor_type, unify_dim};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};
use std::sync::Arc;

op_attrs! {
    /// Attributes of `transpose`.
    pub struct TransposeAttrs {
        /// The dimension of the data that each dimension of the result is; reversed if None.
        axes: Option<Vec<i64>> = None,
    }
}

op_attrs! {
    /// Attributes of `reverse`.
    pub struct ReverseAttrs {
        /// The dimension to reverse.
        axis: i64,
    }
}

op_attrs! {
    /// Attributes of `reverse_sequence`.
    pub struct ReverseSequenceAttrs {
        /// The dimension of a sequence's elements.
        seq_axis: i64 = 1,
        /// The dimension of the sequences.
        batch_axis: i64 = 0,
    }
}

op_attrs! {
    /// Attributes of `layout_transform`.
    pub struct LayoutTransformAttrs {
        /// The layout of the data, such as `NCHW`.
        src_layout: Arc<str>,
        /// The layout of the result, such as `NCHW4c`.
        dst_layout: Arc<str>,
    }
}

/// `transpose`: permutes dimensions.
pub static TRANSPOSE: OpDef = OpDef {
    name: "transpose",
    doc: "Permutes dimensions: dimension `d` of the result is dimension `axes[d]` of the data.",
    args: &["data"],
    optional: 0,
    attrs: TransposeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_transpose,
    backward: no_backward,
    eval: eval_transpose,
    lower: Lower::Te(lower_transpose),
    onnx: &["Transpose"],
};

/// `reverse`: reverses one dimension.
pub static REVERSE: OpDef = OpDef {
    name: "reverse",
    doc: "Reverses the elements along `axis`.",
    args: &["data"],
    optional: 0,
    attrs: ReverseAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_reverse,
    backward: no_backward,
    eval: eval_reverse,
    lower: Lower::Te(lower_reverse),
    onnx: &[],
};

/// `reverse_sequence`: reverses the start of each sequence.
pub static REVERSE_SEQUENCE: OpDef = OpDef {
    name: "reverse_sequence",
    doc: "Reverses the first `seq_lengths[b]` elements along `seq_axis` of sequence `b`; lengths are clamped.",
    args: &["data", "seq_lengths"],
    optional: 0,
    attrs: ReverseSequenceAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_reverse_sequence,
    backward: no_backward,
    eval: eval_reverse_sequence,
    lower: Lower::Te(lower_reverse_sequence),
    onnx: &["ReverseSequence"],
};

/// `layout_transform`: goes from one data layout to another.
pub static LAYOUT_TRANSFORM: OpDef = OpDef {
    name: "layout_transform",
    doc: "Permutes, splits and merges dimensions from one data layout to another: `NCHW` to `NCHW4c`.",
    args: &["data"],
    optional: 0,
    attrs: LayoutTransformAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_layout_transform,
    backward: no_backward,
    eval: eval_layout_transform,
    lower: Lower::Te(lower_layout_transform),
    onnx: &[],
};

fn permutation(attrs: &Attrs, rank: usize) -> Result<Vec<usize>, OpError> {
    let Some(list) = attrs.read::<TransposeAttrs>().axes.filter(|list| !list.is_empty()) else {
        return Ok((0..rank).rev().collect());
    };
    if list.len() != rank {
        return Err(OpError::new(format!("axes {list:?} do not permute a tensor of rank {rank}")));
    }
    normalize_axes(&list, rank)
}

fn infer_transpose(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let order = permutation(attrs, data.rank())?;
    tensor_type(order.iter().map(|&a| data.shape[a].clone()).collect(), data.dtype)
}

fn eval_transpose(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let layout = Layout::dense(data.shape()).permuted(&permutation(attrs, data.rank())?);
    Ok(pick(data, &layout, &sizes(ty)?)?.into())
}

fn lower_transpose(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let order = permutation(attrs, args[0].rank())?;
    Ok(vec![g.compute("transpose", "injective", &out[0], |index| {
        let mut from = vec![Expr::int(0); order.len()];
        for (i, &a) in index.iter().zip(&order) {
            from[a] = i.clone();
        }
        args[0].at(&from)
    })])
}

fn infer_reverse(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    normalize_axis(attrs.read::<ReverseAttrs>().axis, data.rank())?;
    Ok(args[0].clone())
}

fn eval_reverse(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let d = normalize_axis(attrs.read::<ReverseAttrs>().axis, data.rank())?;
    let layout = Layout::dense(data.shape()).sliced(d, data.shape()[d] as isize - 1, -1);
    Ok(pick(data, &layout, data.shape())?.into())
}

fn lower_reverse(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let d = normalize_axis(attrs.read::<ReverseAttrs>().axis, args[0].rank())?;
    Ok(vec![g.compute("reverse", "injective", &out[0], |index| {
        let mut from = index.to_vec();
        from[d] = Expr::int(args[0].shape[d] as i64 - 1) - &index[d];
        args[0].at(&from)
    })])
}

/// The sequence and batch dimensions.
fn sequence_axes(attrs: &Attrs, rank: usize) -> Result<(usize, usize), OpError> {
    let a: ReverseSequenceAttrs = attrs.read();
    let (seq, batch) = (normalize_axis(a.seq_axis, rank)?, normalize_axis(a.batch_axis, rank)?);
    if seq == batch {
        return Err(OpError::new(format!("seq_axis and batch_axis are both {seq}")));
    }
    Ok((seq, batch))
}

fn infer_reverse_sequence(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, lengths) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let (_, batch) = sequence_axes(attrs, data.rank())?;
    match lengths.shape.as_slice() {
        [n] if unify_dim(n, &data.shape[batch]).is_some() => Ok(args[0].clone()),
        _ => Err(OpError::arg(1, format!("expected one length for each of {} sequences", data.shape[batch]))),
    }
}

fn eval_reverse_sequence(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, lengths) = (args[0].tensor()?, integers(args[1].tensor()?)?);
    let (seq, batch) = sequence_axes(attrs, data.rank())?;
    let (width, dense, n) = (data.dtype().bytes(), Layout::dense(data.shape()), data.shape()[seq]);
    let mut shape = data.shape().to_vec();
    shape[batch] = 1;
    Ok(Tensor::filled(data.dtype(), data.shape(), |out| {
        for (b, &length) in lengths.iter().enumerate() {
            let length = length.clamp(0, n as i64) as usize;
            let one = dense.clone().sliced(batch, b as isize, 1);
            shape[seq] = length;
            let backwards = one.clone().sliced(seq, length as isize - 1, -1);
            copy(width, &shape, data.bytes(), &backwards, out, &one);
            shape[seq] = n - length;
            let rest = one.sliced(seq, length as isize, 1);
            copy(width, &shape, data.bytes(), &rest, out, &rest);
        }
    })?
    .into())
}

fn lower_reverse_sequence(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, lengths) = (&args[0], &args[1]);
    let (seq, batch) = sequence_axes(attrs, data.rank())?;
    Ok(vec![g.compute("reverse_sequence", "injective", &out[0], |index| {
        let at = index[seq].clone();
        let length = index_expr(lengths.at(&[index[batch].clone()])).min(data.shape[seq]);
        let mut from = index.to_vec();
        from[seq] = at.clone().lt(&length).select(length - 1i64 - &at, at);
        data.at(&from)
    })])
}

/// Both layouts of a call, over the same letters.
fn layouts(attrs: &Attrs, rank: usize) -> Result<(DataLayout, DataLayout), OpError> {
    let a: LayoutTransformAttrs = attrs.read();
    let (src, dst) = (DataLayout::parse(&a.src_layout)?, DataLayout::parse(&a.dst_layout)?);
    if src.parts.len() != rank {
        return Err(OpError::arg(0, format!("a tensor of rank {rank} has no layout {}", a.src_layout)));
    }
    if !src.same_letters(&dst) {
        return Err(OpError::new(format!("{} and {} have other letters", a.src_layout, a.dst_layout)));
    }
    Ok((src, dst))
}

fn infer_layout_transform(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let (src, dst) = layouts(attrs, data.rank())?;
    for (part, dim) in src.parts.iter().zip(&data.shape) {
        if let (Some(n), Dim::Static(m)) = (part.factor, dim)
            && n != *m
        {
            return Err(OpError::arg(0, format!("the layout says {n} where the shape has {m}")));
        }
    }
    let mut shape = Vec::with_capacity(dst.parts.len());
    for part in &dst.parts {
        shape.push(match part.factor {
            Some(n) => Dim::Static(n),
            None => {
                let whole = Product::of(src.parts_of(part.letter).map(|i| &data.shape[i]));
                let inner = Dim::Static(dst.inner_size(part.letter));
                whole.quotient(Product::of([&inner])).ok_or_else(|| {
                    OpError::arg(0, format!("dimension {} is no multiple of {inner}", part.letter.0))
                })?
            }
        });
    }
    tensor_type(shape, data.dtype)
}

fn eval_layout_transform(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let (src, dst) = layouts(attrs, data.rank())?;
    let shape = sizes(ty)?;
    // Through the plain layout; where one side is plain, one of the two steps is nothing.
    let letters: Vec<Letter> = if src.is_plain() { src.letters() } else { dst.letters() };
    let merged: Vec<usize> = letters.iter().flat_map(|&l| src.parts_of(l)).collect();
    let permuted: Vec<usize> = merged.iter().map(|&i| data.shape()[i]).collect();
    let extent = |l: Letter| src.parts_of(l).map(|i| data.shape()[i]).product::<usize>();
    let plain: Vec<usize> = letters.iter().map(|&l| extent(l)).collect();
    let in_order = merged.iter().enumerate().all(|(i, &m)| i == m);
    let flat = match in_order {
        true => data.reshape(&plain)?,
        false => pick_as(data, &Layout::dense(data.shape()).permuted(&merged), &permuted, &plain)?,
    };
    // Split each letter into its parts, then bring the parts into the result's order.
    let split: Vec<usize> = letters.iter().flat_map(|&l| dst.parts_of(l)).collect();
    let split_shape: Vec<usize> = split.iter().map(|&i| shape[i]).collect();
    let mut order = vec![0; split.len()];
    split.iter().enumerate().for_each(|(at, &i)| order[i] = at);
    Ok(pick(&flat, &Layout::dense(&split_shape).permuted(&order), &shape)?.into())
}

fn lower_layout_transform(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let data = &args[0];
    let (src, dst) = layouts(attrs, data.rank())?;
    let shape = sizes(&out[0].clone().into())?;
    Ok(vec![g.compute("layout_transform", "injective", &out[0], |index| {
        if data.shape.contains(&0) {
            return zero(data.dtype);
        }
        let mut from = vec![Expr::int(0); data.rank()];
        for letter in src.letters() {
            let (mine, theirs): (Vec<usize>, Vec<usize>) =
                (src.parts_of(letter).collect(), dst.parts_of(letter).collect());
            let sizes_of =
                |parts: &[usize], shape: &[usize]| parts.iter().map(|&i| shape[i]).collect::<Vec<_>>();
            let (inner, outer) = (sizes_of(&mine, &data.shape), sizes_of(&theirs, &shape));
            let indices: Vec<Expr> = theirs.iter().map(|&i| index[i].clone()).collect();
            let mut places = indices.clone();
            if inner != outer {
                places.clear();
                unflatten(flatten(&indices, &outer), &inner, &mut places);
            }
            mine.iter().zip(places).for_each(|(&i, place)| from[i] = place);
        }
        data.at(&from)
    })])
}
