//! Operators that put tensors together and take them apart: concatenation, stacking, splitting.

use super::dims::{Product, sum};
use crate::eval::Value;
use crate::op::indexing::{sizes, zero};
use crate::op::strided::{Layout, copy, pick};
use crate::op::util::{
    normalize_axis, show_dims, tensor_arg, tensor_type, tuple_arg, tuple_value, unify_dim,
};
use crate::op::{
    AttrField, AttrKind, AttrValue, Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward,
};
use crate::op_attrs;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

/// Where `split` cuts: a number of equal parts, or the indices of the cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sections {
    /// So many equal parts.
    Equal(i64),
    /// Parts that begin at 0 and at each of these.
    At(Vec<i64>),
}

impl AttrField for Sections {
    const KIND: AttrKind = AttrKind::Either(&AttrKind::Int, &AttrKind::List(&AttrKind::Int));

    fn get(value: &AttrValue) -> Option<Self> {
        i64::get(value).map(Sections::Equal).or_else(|| Vec::get(value).map(Sections::At))
    }

    fn put(&self) -> AttrValue {
        match self {
            Sections::Equal(n) => n.put(),
            Sections::At(cuts) => cuts.put(),
        }
    }
}

op_attrs! {
    /// Attributes of `concatenate`.
    pub struct ConcatenateAttrs {
        /// The dimension to join along.
        axis: i64 = 0,
    }
}

op_attrs! {
    /// Attributes of `stack`.
    pub struct StackAttrs {
        /// Where the new dimension goes in the result.
        axis: i64 = 0,
    }
}

op_attrs! {
    /// Attributes of `split`.
    pub struct SplitAttrs {
        /// The number of equal parts, or the indices to cut at.
        indices_or_sections: Sections,
        /// The dimension to cut.
        axis: i64 = 0,
    }
}

/// `concatenate`: joins tensors along a dimension.
pub static CONCATENATE: OpDef = OpDef {
    name: "concatenate",
    doc: "Joins the fields of a tuple along `axis`.",
    args: &["data"],
    optional: 0,
    attrs: ConcatenateAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_concatenate,
    backward: no_backward,
    eval: eval_concatenate,
    lower: Lower::Te(lower_concatenate),
    onnx: &["Concat"],
};

/// `stack`: joins tensors of one shape along a new dimension.
pub static STACK: OpDef = OpDef {
    name: "stack",
    doc: "Joins the fields of a tuple, all of one shape, along a new dimension `axis`.",
    args: &["data"],
    optional: 0,
    attrs: StackAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_stack,
    backward: no_backward,
    eval: eval_stack,
    lower: Lower::Te(lower_stack),
    onnx: &["ConcatFromSequence"],
};

/// `split`: cuts a tensor into a tuple of parts.
pub static SPLIT: OpDef = OpDef {
    name: "split",
    doc: "Cuts the data along `axis` into equal parts or at the given indices; the result is a tuple.",
    args: &["data"],
    optional: 0,
    attrs: SplitAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_split,
    backward: no_backward,
    eval: eval_split,
    lower: Lower::Te(lower_split),
    onnx: &["Split"],
};

/// The fields of the tuple, at least one, all of one dtype and rank.
fn alike(args: &[Type]) -> Result<Vec<&TensorType>, OpError> {
    let fields = tuple_arg(args, 0)?;
    let first = fields.first().ok_or_else(|| OpError::arg(0, "expected a tuple of at least one tensor"))?;
    for (i, field) in fields.iter().enumerate() {
        if field.dtype != first.dtype {
            return Err(OpError::arg(0, format!("field {i} is {}, field 0 is {}", field.dtype, first.dtype)));
        }
        if field.rank() != first.rank() {
            let (a, b) = (show_dims(&field.shape), show_dims(&first.shape));
            return Err(OpError::arg(0, format!("field {i} has shape {a}, field 0 has {b}: another rank")));
        }
    }
    Ok(fields)
}

/// The shape that all fields have, but for the dimension `except`.
fn common_shape(fields: &[&TensorType], except: Option<usize>) -> Result<Vec<Dim>, OpError> {
    let mut shape = fields[0].shape.clone();
    for (i, field) in fields.iter().enumerate() {
        for (d, dim) in field.shape.iter().enumerate().filter(|&(d, _)| Some(d) != except) {
            shape[d] = unify_dim(&shape[d], dim).ok_or_else(|| {
                let (a, b) = (show_dims(&field.shape), show_dims(&fields[0].shape));
                OpError::arg(0, format!("field {i} has shape {a}, field 0 has {b}: dimension {d} differs"))
            })?;
        }
    }
    Ok(shape)
}

fn infer_concatenate(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let fields = alike(args)?;
    let d = normalize_axis(attrs.read::<ConcatenateAttrs>().axis, fields[0].rank())?;
    let mut shape = common_shape(&fields, Some(d))?;
    shape[d] = sum(fields.iter().map(|f| &f.shape[d]));
    tensor_type(shape, fields[0].dtype)
}

/// Copies tensors one after another along dimension `d`; `parts` are their shapes in the result.
fn join(fields: &[&Tensor], parts: &[Vec<usize>], d: usize, shape: &[usize]) -> Result<Value, OpError> {
    let (dtype, dense) = (fields[0].dtype(), Layout::dense(shape));
    let filled = Tensor::filled(dtype, shape, |out| {
        let mut at = 0;
        for (field, part) in fields.iter().zip(parts) {
            let to = dense.clone().sliced(d, at as isize, 1);
            copy(dtype.bytes(), part, field.bytes(), &Layout::dense(part), out, &to);
            at += part[d];
        }
    });
    Ok(filled?.into())
}

fn eval_concatenate(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (fields, shape) = (tuple_value(args, 0)?, sizes(ty)?);
    let d = normalize_axis(attrs.read::<ConcatenateAttrs>().axis, shape.len())?;
    let parts: Vec<Vec<usize>> = fields.iter().map(|f| f.shape().to_vec()).collect();
    join(&fields, &parts, d, &shape)
}

fn lower_concatenate(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let d = normalize_axis(attrs.read::<ConcatenateAttrs>().axis, out[0].rank())?;
    let fields = in_runs(args.to_vec(), |run| {
        let mut shape = run[0].shape.clone();
        shape[d] = run.iter().map(|field| field.shape[d]).sum();
        concatenated(g, run, d, &TensorType::of(&shape, out[0].dtype), te::KEPT)
    });
    Ok(vec![concatenated(g, &fields, d, &out[0], "injective")])
}

/// The most fields that one stage chooses from: a kernel has a parameter and a branch for each.
const MAX_FIELDS: usize = 64;

/// The fields, runs of which are joined until there are few enough.
fn in_runs(
    mut fields: Vec<te::Tensor>,
    mut join: impl FnMut(&[te::Tensor]) -> te::Tensor,
) -> Vec<te::Tensor> {
    while fields.len() > MAX_FIELDS {
        fields = fields.chunks(MAX_FIELDS).map(&mut join).collect();
    }
    fields
}

fn concatenated(g: &mut te::Graph, args: &[te::Tensor], d: usize, out: &TensorType, tag: &str) -> te::Tensor {
    // Empty fields are never chosen, so they get no branch.
    let mut fields = Vec::new();
    let mut end = 0;
    for field in args.iter().filter(|f| !f.shape.contains(&0)) {
        fields.push((end, field));
        end += field.shape[d];
    }
    g.compute("concatenate", tag, out, |index| match fields.as_slice() {
        [] => zero(out.dtype),
        fields => choose(fields, &index[d], &|start, field: &te::Tensor| {
            let mut from = index.to_vec();
            from[d] = index[d].clone() - start;
            field.at(&from)
        }),
    })
}

/// The element of the field in whose range `at` falls, by bisection: fields begin at
/// ascending places, the first one at 0. Its depth is the logarithm of their number.
fn choose(fields: &[(usize, &te::Tensor)], at: &Expr, element: &dyn Fn(usize, &te::Tensor) -> Expr) -> Expr {
    if let [(start, field)] = fields {
        return element(*start, field);
    }
    let (left, right) = fields.split_at(fields.len() / 2);
    let here = choose(left, at, element);
    at.clone().lt(right[0].0).select(here, choose(right, at, element))
}

fn infer_stack(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let fields = alike(args)?;
    let mut shape = common_shape(&fields, None)?;
    let d = normalize_axis(attrs.read::<StackAttrs>().axis, shape.len() + 1)?;
    shape.insert(d, Dim::Static(fields.len()));
    tensor_type(shape, fields[0].dtype)
}

fn eval_stack(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (fields, shape) = (tuple_value(args, 0)?, sizes(ty)?);
    let d = normalize_axis(attrs.read::<StackAttrs>().axis, shape.len())?;
    let mut part = shape.clone();
    part[d] = 1;
    join(&fields, &vec![part; fields.len()], d, &shape)
}

fn lower_stack(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let d = normalize_axis(attrs.read::<StackAttrs>().axis, out[0].rank())?;
    if args.len() <= MAX_FIELDS {
        return Ok(vec![stacked(g, args, d, &out[0], "injective")]);
    }
    let run = |g: &mut te::Graph, fields: &[te::Tensor]| {
        let mut shape = fields[0].shape.clone();
        shape.insert(d, fields.len());
        stacked(g, fields, d, &TensorType::of(&shape, out[0].dtype), te::KEPT)
    };
    let runs: Vec<te::Tensor> = args.chunks(MAX_FIELDS).map(|fields| run(g, fields)).collect();
    let axis = ConcatenateAttrs { axis: d as i64 }.attrs();
    lower_concatenate(g, &runs, &axis, out)
}

fn stacked(g: &mut te::Graph, args: &[te::Tensor], d: usize, out: &TensorType, tag: &str) -> te::Tensor {
    let fields: Vec<(usize, &te::Tensor)> = args.iter().enumerate().collect();
    g.compute("stack", tag, out, |index| {
        let mut from = index.to_vec();
        from.remove(d);
        choose(&fields, &index[d], &|_, field| field.at(&from))
    })
}

/// The parts of `split`: where each begins and how long it is.
fn split_parts(sections: &Sections, dim: &Dim) -> Result<Vec<(usize, Dim)>, OpError> {
    match sections {
        Sections::Equal(count) => {
            let n = usize::try_from(*count).ok().filter(|&n| n > 0);
            let n = n.ok_or_else(|| OpError::new(format!("cannot split into {count} parts")))?;
            let size = Product::of([dim]).quotient(Product::of([&Dim::Static(n)])).ok_or_else(|| {
                OpError::new(format!("cannot split a dimension of {dim} into {n} equal parts"))
                    .help("give the indices to cut at: indices_or_sections=[..]")
            })?;
            let step = size.as_static().unwrap_or(0);
            Ok((0..n).map(|i| (i * step, size.clone())).collect())
        }
        Sections::At(cuts) => {
            let bad = || {
                OpError::new(format!("cannot cut a dimension of {dim} at {cuts:?}: not ascending within it"))
            };
            let mut begins = vec![0usize];
            for &cut in cuts {
                let cut = usize::try_from(cut).map_err(|_| bad())?;
                if begins.last().is_some_and(|&last| cut < last) || dim.as_static().is_some_and(|n| cut > n) {
                    return Err(bad());
                }
                begins.push(cut);
            }
            let end = |i: usize| begins.get(i + 1).copied().or(dim.as_static());
            let size = |(i, &begin): (usize, &usize)| {
                (begin, end(i).map_or(rest(dim, begin), |e| (e - begin).into()))
            };
            Ok(begins.iter().enumerate().map(size).collect())
        }
    }
}

/// What is left of a dimension of unknown size after `begin`.
fn rest(dim: &Dim, begin: usize) -> Dim {
    if begin == 0 { dim.clone() } else { Dim::Any }
}

fn infer_split(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let SplitAttrs { indices_or_sections, axis } = attrs.read();
    let d = normalize_axis(axis, data.rank())?;
    let parts = split_parts(&indices_or_sections, &data.shape[d])?;
    let field = |(_, size): (usize, Dim)| {
        let mut shape = data.shape.clone();
        shape[d] = size;
        tensor_type(shape, data.dtype)
    };
    Ok(Type::tuple(parts.into_iter().map(field).collect::<Result<Vec<_>, _>>()?))
}

/// Where the parts of a tensor of known shape begin, and the cut dimension.
fn begins(attrs: &Attrs, shape: &[usize]) -> Result<(usize, Vec<usize>), OpError> {
    let SplitAttrs { indices_or_sections, axis } = attrs.read();
    let d = normalize_axis(axis, shape.len())?;
    let parts = split_parts(&indices_or_sections, &Dim::Static(shape[d]))?;
    Ok((d, parts.into_iter().map(|(begin, _)| begin).collect()))
}

fn eval_split(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let (d, begins) = begins(attrs, data.shape())?;
    let fields = ty.as_tuple().unwrap_or(&[]).iter().zip(begins).map(|(ty, begin)| {
        let layout = Layout::dense(data.shape()).sliced(d, begin as isize, 1);
        Ok(pick(data, &layout, &sizes(ty)?)?.into())
    });
    Ok(Value::Tuple(fields.collect::<Result<_, OpError>>()?))
}

fn lower_split(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (d, begins) = begins(attrs, &args[0].shape)?;
    let part = |(ty, begin): (&TensorType, usize)| {
        g.compute("split", "injective", ty, |index| {
            let mut from = index.to_vec();
            from[d] = index[d].clone() + begin;
            args[0].at(&from)
        })
    };
    Ok(out.iter().zip(begins).map(part).collect())
}
