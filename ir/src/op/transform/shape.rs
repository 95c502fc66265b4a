//! Operators that give the same elements another shape.

use super::dims::Product;
use super::reindex::reindex;
use crate::eval::Value;
use crate::op::indexing::{sizes, zero};
use crate::op::strided::{Layout, pick};
use crate::op::util::{normalize_axes, show_dims, tensor_arg, tensor_type, unify_dim};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `expand_dims`.
    pub struct ExpandDimsAttrs {
        /// Where the new dimensions go, counted in the result from the end if negative.
        axis: i64,
        /// How many.
        num_newaxis: i64 = 1,
    }
}

op_attrs! {
    /// Attributes of `expand_like`.
    pub struct ExpandLikeAttrs {
        /// The dimensions of the result that the data lacks.
        axis: Vec<i64> = Vec::new(),
    }
}

op_attrs! {
    /// Attributes of `reshape` and `contrib_reverse_reshape`.
    pub struct ReshapeAttrs {
        /// The new sizes; 0 copies, -1 infers, -2 copies the rest, -3 merges two, -4 splits one in two.
        newshape: Vec<i64>,
        /// Whether 0 is a size rather than a copy.
        allowzero: bool = false,
    }
}

op_attrs! {
    /// Attributes of `reshape_like`.
    pub struct ReshapeLikeAttrs {
        /// First dimension of the data to replace.
        lhs_begin: i64 = 0,
        /// One past the last dimension of the data to replace; the rank if None.
        lhs_end: Option<i64> = None,
        /// First dimension to take from the other tensor.
        rhs_begin: i64 = 0,
        /// One past the last dimension to take; the rank if None.
        rhs_end: Option<i64> = None,
    }
}

op_attrs! {
    /// Attributes of `squeeze`.
    pub struct SqueezeAttrs {
        /// The dimensions of size 1 to drop; all of them if None.
        axis: Option<Vec<i64>> = None,
    }
}

/// `expand_dims`: adds dimensions of size 1.
pub static EXPAND_DIMS: OpDef = OpDef {
    name: "expand_dims",
    doc: "Inserts dimensions of size 1 before `axis`.",
    args: &["data"],
    optional: 0,
    attrs: ExpandDimsAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_expand_dims,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &["Unsqueeze"],
};

/// `expand_like`: adds the dimensions that another tensor has.
pub static EXPAND_LIKE: OpDef = OpDef {
    name: "expand_like",
    doc: "Repeats the data along the dimensions `axis` of the second tensor, whose shape the result has.",
    args: &["data", "shape_like"],
    optional: 0,
    attrs: ExpandLikeAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_expand_like,
    backward: no_backward,
    eval: eval_expand_like,
    lower: Lower::Te(lower_expand_like),
    onnx: &[],
};

/// `reshape`: the same elements in row-major order under another shape.
pub static RESHAPE: OpDef = OpDef {
    name: "reshape",
    doc: "Gives the elements another shape; 0 copies a size, -1 infers one, -2 copies the rest, \
          -3 merges two, -4 splits one into the next two.",
    args: &["data"],
    optional: 0,
    attrs: ReshapeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_reshape,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &["Reshape", "Flatten"],
};

/// `reshape_like`: takes (part of) the shape of another tensor.
pub static RESHAPE_LIKE: OpDef = OpDef {
    name: "reshape_like",
    doc: "Replaces the dimensions `lhs_begin..lhs_end` of the data by `rhs_begin..rhs_end` of the second tensor.",
    args: &["data", "shape_like"],
    optional: 0,
    attrs: ReshapeLikeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_reshape_like,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &[],
};

/// `contrib_reverse_reshape`: `reshape` with its codes matched from the right.
pub static REVERSE_RESHAPE: OpDef = OpDef {
    name: "contrib_reverse_reshape",
    doc: "Reshapes with the codes of `newshape` matched against the dimensions from the right.",
    args: &["data"],
    optional: 0,
    attrs: ReshapeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_reverse_reshape,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &[],
};

/// `squeeze`: drops dimensions of size 1.
pub static SQUEEZE: OpDef = OpDef {
    name: "squeeze",
    doc: "Drops the dimensions `axis`, which must be of size 1, or all of that size.",
    args: &["data"],
    optional: 0,
    attrs: SqueezeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_squeeze,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &["Squeeze"],
};

/// `nn.batch_flatten`: keeps the first dimension and merges the others.
pub static BATCH_FLATTEN: OpDef = OpDef {
    name: "nn.batch_flatten",
    doc: "Merges all dimensions but the first.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_batch_flatten,
    backward: no_backward,
    eval: eval_reshaped,
    lower: Lower::Te(lower_reshaped),
    onnx: &["Flatten"],
};

fn infer_expand_dims(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let ExpandDimsAttrs { axis, num_newaxis } = attrs.read();
    let rank = data.rank() as i64;
    let at = if axis < 0 { axis.saturating_add(rank + 1) } else { axis };
    if !(0..=rank).contains(&at) {
        return Err(OpError::new(format!("axis {axis} is out of range for a tensor of rank {rank}"))
            .help(format!("it goes from {} to {rank}", -rank - 1)));
    }
    let count = usize::try_from(num_newaxis).ok().filter(|&n| n <= crate::types::MAX_RANK);
    let count = count.ok_or_else(|| OpError::new(format!("cannot add {num_newaxis} dimensions")))?;
    let mut shape = data.shape.clone();
    shape.splice(at as usize..at as usize, vec![Dim::Static(1); count]);
    tensor_type(shape, data.dtype)
}

fn infer_expand_like(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, like) = (tensor_arg(args, 0)?, tensor_arg(args, 1)?);
    let own = own_axes(&attrs.read::<ExpandLikeAttrs>(), data.rank(), like.rank())?;
    let mut shape = like.shape.clone();
    for (dim, &d) in data.shape.iter().zip(&own) {
        shape[d] = unify_dim(dim, &like.shape[d]).ok_or_else(|| {
            OpError::arg(
                0,
                format!("a dimension is {dim}, but {} in dimension {d} of the other", like.shape[d]),
            )
        })?;
    }
    tensor_type(shape, data.dtype)
}

/// The dimensions of the result that the data has itself.
fn own_axes(attrs: &ExpandLikeAttrs, data_rank: usize, like_rank: usize) -> Result<Vec<usize>, OpError> {
    let added = normalize_axes(&attrs.axis, like_rank)?;
    if data_rank + added.len() != like_rank {
        let (n, what) = (added.len(), "dimensions to add give rank");
        return Err(OpError::new(format!(
            "rank {data_rank} and {n} {what} {}, not {like_rank}",
            data_rank + n
        )));
    }
    Ok((0..like_rank).filter(|d| !added.contains(d)).collect())
}

fn infer_reshape(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let ReshapeAttrs { newshape, allowzero } = attrs.read();
    tensor_type(reshaped(&data.shape, &newshape, allowzero)?, data.dtype)
}

fn infer_reverse_reshape(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let ReshapeAttrs { newshape, allowzero } = attrs.read();
    let input: Vec<Dim> = data.shape.iter().rev().cloned().collect();
    let mut shape = reshaped(&input, &reversed_codes(&newshape)?, allowzero)?;
    shape.reverse();
    tensor_type(shape, data.dtype)
}

/// The codes from right to left; -4 stays in front of its two sizes.
fn reversed_codes(codes: &[i64]) -> Result<Vec<i64>, OpError> {
    let mut groups: Vec<&[i64]> = Vec::new();
    let mut at = 0;
    while at < codes.len() {
        let len = if codes[at] == -4 { 3 } else { 1 };
        groups.push(codes.get(at..at + len).ok_or_else(|| OpError::new("-4 takes the two sizes after it"))?);
        at += len;
    }
    Ok(groups
        .into_iter()
        .rev()
        .flat_map(|g| match g {
            [split, a, b] => vec![*split, *b, *a],
            _ => g.to_vec(),
        })
        .collect())
}

/// A new shape being made: which input dimensions it has used up, and where -1 stands.
struct Reshaping<'a> {
    input: &'a [Dim],
    /// The next input dimension.
    at: usize,
    /// Input dimensions that a code has accounted for.
    used: Vec<bool>,
    /// Result dimensions, and whether -1 must still divide by them.
    out: Vec<(Dim, bool)>,
    inferred: Option<usize>,
}

/// The shape that the codes of `reshape` ask for.
pub(super) fn reshaped(input: &[Dim], newshape: &[i64], allowzero: bool) -> Result<Vec<Dim>, OpError> {
    let mut r = Reshaping { input, at: 0, used: vec![false; input.len()], out: Vec::new(), inferred: None };
    let mut codes = newshape.iter().copied();
    while let Some(code) = codes.next() {
        match code {
            0 if !allowzero => {
                let dim = r.take("0")?;
                r.out.push((dim, false));
            }
            0.. => r.place(Dim::Static(code as usize)),
            -1 => r.infer_here()?,
            -2 => {
                while r.at < input.len() {
                    let dim = r.take("-2")?;
                    r.out.push((dim, false));
                }
            }
            -3 => {
                let pair = [r.take("-3")?, r.take("-3")?];
                r.out.push((Product::of(&pair).dim(), false));
            }
            -4 => {
                let (a, b) = (codes.next(), codes.next());
                let sizes = a.zip(b).ok_or_else(|| OpError::new("-4 takes the two sizes after it"))?;
                let dim = r.take("-4")?;
                let (a, b) = split_dim(&dim, sizes)?;
                r.out.extend([(a, false), (b, false)]);
            }
            other => return Err(OpError::new(format!("{other} is no size and no code of reshape"))),
        }
    }
    r.finish(newshape)
}

/// The two sizes that -4 splits a dimension into, one of which may be -1.
fn split_dim(dim: &Dim, sizes: (i64, i64)) -> Result<(Dim, Dim), OpError> {
    let bad =
        || OpError::new(format!("-4 cannot split a dimension of {dim} into {} and {}", sizes.0, sizes.1));
    let known = |n: i64| usize::try_from(n).map(Dim::Static).map_err(|_| bad());
    let rest = |n: &Dim| Product::of([dim]).quotient(Product::of([n])).ok_or_else(bad);
    let (a, b) = match sizes {
        (-1, b) => (rest(&known(b)?)?, known(b)?),
        (a, -1) => (known(a)?, rest(&known(a)?)?),
        (a, b) => (known(a)?, known(b)?),
    };
    if Product::of([&a, &b]).differs(Product::of([dim])) { Err(bad()) } else { Ok((a, b)) }
}

impl Reshaping<'_> {
    /// The next input dimension, for a code that consumes it.
    fn take(&mut self, code: &str) -> Result<Dim, OpError> {
        let dim = self.input.get(self.at).cloned().ok_or_else(|| {
            let (at, rank) = (self.at, self.input.len());
            OpError::new(format!("{code} asks for dimension {at} of a tensor of rank {rank}"))
        })?;
        self.used[self.at] = true;
        self.at += 1;
        Ok(dim)
    }

    fn place(&mut self, dim: Dim) {
        self.out.push((dim, true));
        self.at += 1;
    }

    fn infer_here(&mut self) -> Result<(), OpError> {
        if self.inferred.replace(self.out.len()).is_some() {
            return Err(OpError::new("-1 stands twice in the new shape"));
        }
        self.out.push((Dim::Any, false));
        self.at += 1;
        Ok(())
    }

    fn finish(self, newshape: &[i64]) -> Result<Vec<Dim>, OpError> {
        let mut shape: Vec<Dim> = self.out.iter().map(|(dim, _)| dim.clone()).collect();
        let rest = self.input.iter().zip(&self.used).filter(|(_, used)| !**used).map(|(dim, _)| dim);
        let placed = self.out.iter().filter(|(_, placed)| *placed).map(|(dim, _)| dim);
        let refuse = |what: String| {
            OpError::new(format!("cannot reshape {} to {newshape:?}{what}", show_dims(self.input)))
        };
        if let Some(at) = self.inferred {
            let quotient = Product::of(rest).quotient(Product::of(placed));
            shape[at] = quotient.ok_or_else(|| refuse(": no size fits for -1".to_string()))?;
        } else if Product::of(self.input).differs(Product::of(&shape)) {
            let (from, to) = (Product::of(self.input).dim(), Product::of(&shape).dim());
            return Err(refuse(format!(": {from} elements into {to}")));
        }
        Ok(shape)
    }
}

fn infer_reshape_like(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, like) = (tensor_arg(args, 0)?, tensor_arg(args, 1)?);
    let a: ReshapeLikeAttrs = attrs.read();
    let lhs = part(&data.shape, a.lhs_begin, a.lhs_end)?;
    let rhs = part(&like.shape, a.rhs_begin, a.rhs_end)?;
    let (old, new) = (&data.shape[lhs.clone()], &like.shape[rhs]);
    if Product::of(old).differs(Product::of(new)) {
        let (old, new) = (show_dims(old), show_dims(new));
        return Err(OpError::new(format!("dimensions {old} cannot become {new}: they have other products")));
    }
    let mut shape = data.shape.clone();
    shape.splice(lhs, new.iter().cloned());
    tensor_type(shape, data.dtype)
}

/// The range of dimensions that a begin and an end, counted from the end if negative, name.
fn part(shape: &[Dim], begin: i64, end: Option<i64>) -> Result<std::ops::Range<usize>, OpError> {
    let rank = shape.len() as i64;
    let from_end = |n: i64| if n < 0 { n.saturating_add(rank) } else { n };
    let (b, e) = (from_end(begin), from_end(end.unwrap_or(rank)));
    if 0 <= b && b <= e && e <= rank {
        return Ok(b as usize..e as usize);
    }
    Err(OpError::new(format!("dimensions {b} to {e} are no part of a tensor of rank {rank}")))
}

fn infer_squeeze(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let dropped = match attrs.read::<SqueezeAttrs>().axis {
        Some(list) => normalize_axes(&list, data.rank())?,
        None => unit_axes(&data.shape)?,
    };
    if let Some(&d) = dropped.iter().find(|&&d| matches!(data.shape[d], Dim::Static(n) if n != 1)) {
        return Err(OpError::new(format!("cannot squeeze dimension {d}: it is {}, not 1", data.shape[d])));
    }
    let kept = data.shape.iter().enumerate().filter(|(d, _)| !dropped.contains(d));
    tensor_type(kept.map(|(_, dim)| dim.clone()).collect(), data.dtype)
}

fn unit_axes(shape: &[Dim]) -> Result<Vec<usize>, OpError> {
    if let Some(dim) = shape.iter().find(|dim| dim.as_static().is_none()) {
        return Err(OpError::new(format!("whether a dimension of {dim} is dropped is not known"))
            .help("name the dimensions to drop with axis=[..]"));
    }
    Ok((0..shape.len()).filter(|&d| shape[d] == Dim::Static(1)).collect())
}

fn infer_batch_flatten(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let [batch, rest @ ..] = data.shape.as_slice() else {
        return Err(OpError::arg(0, "expected a tensor of rank 1 or more"));
    };
    tensor_type(vec![batch.clone(), Product::of(rest).dim()], data.dtype)
}

pub(super) fn eval_reshaped(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    Ok(args[0].tensor()?.reshape(&sizes(ty)?)?.into())
}

pub(super) fn lower_reshaped(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, shape) = (&args[0], sizes(&out[0].clone().into())?);
    let body = |index: &[Expr]| match data.shape.contains(&0) {
        true => zero(data.dtype),
        false => data.at(&reindex(index, &shape, &data.shape)),
    };
    Ok(vec![g.compute("reshape", "injective", &out[0], body)])
}

fn eval_expand_like(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, shape) = (args[0].tensor()?, sizes(ty)?);
    let own = own_axes(&attrs.read(), data.rank(), shape.len())?;
    let dense = Layout::dense(data.shape());
    let mut layout = Layout { offset: 0, strides: vec![0; shape.len()] };
    for (&d, stride) in own.iter().zip(dense.strides) {
        layout.strides[d] = stride;
    }
    Ok(pick(data, &layout, &shape)?.into())
}

fn lower_expand_like(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let own = own_axes(&attrs.read(), args[0].rank(), out[0].rank())?;
    Ok(vec![g.compute("expand_like", "broadcast", &out[0], |index| {
        args[0].at(&own.iter().map(|&d| index[d].clone()).collect::<Vec<_>>())
    })])
}
