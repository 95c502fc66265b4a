//! `einsum`: sums of products named by labels, as in numpy.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dispatch;
use crate::eval::Value;
use crate::op::indexing::{sizes, zero};
use crate::op::strided::Layout;
use crate::op::util::{
    ALL, accumulator, broadcast_dim, build, elements, show_dims, tensor_type, tuple_arg, tuple_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{BinaryOp, Scalar};
use crate::te;
use crate::tensor::{Element, Tensor};
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `einsum`.
    pub struct EinsumAttrs {
        /// The labels of each operand's dimensions and of the result's: `ij,jk->ik`.
        equation: Arc<str>,
    }
}

/// `einsum`: sums of products named by labels.
pub static EINSUM: OpDef = OpDef {
    name: "einsum",
    doc: "Multiplies the fields of a tuple along equal labels of `equation` and sums over those \
          that the result lacks.",
    args: &["data"],
    optional: 0,
    attrs: EinsumAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_einsum,
    backward: no_backward,
    eval: eval_einsum,
    lower: Lower::Te(lower_einsum),
    onnx: &["Einsum"],
};

/// A label: a letter, or a dimension of the ellipsis counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// An equation for operands of known ranks.
#[derive(Debug)]
struct Plan {
    operands: Vec<Vec<Label>>,
    output: Vec<Label>,
    /// The labels that are summed over.
    summed: Vec<Label>,
}

/// The labels of one term; its ellipsis stands for `hidden` dimensions.
fn labels(term: &str, hidden: usize) -> Result<Vec<Label>, OpError> {
    let bad = || OpError::new(format!("\"{term}\" is no list of labels"));
    let mut list = Vec::new();
    let (head, tail) = term.split_once("...").unwrap_or((term, ""));
    for (i, part) in [head, tail].into_iter().enumerate() {
        if i == 1 && term.contains("...") {
            list.extend((0..hidden).rev().map(Label::Ellipsis));
        }
        for c in part.chars() {
            list.push(if c.is_ascii_alphabetic() { Label::Letter(c) } else { return Err(bad()) });
        }
    }
    Ok(list)
}

impl Plan {
    fn new(attrs: &Attrs, ranks: &[usize]) -> Result<Plan, OpError> {
        let equation: String = attrs.read::<EinsumAttrs>().equation.split_whitespace().collect();
        let (inputs, output) = match equation.split_once("->") {
            Some((inputs, output)) => (inputs, Some(output)),
            None => (equation.as_str(), None),
        };
        let terms: Vec<&str> = inputs.split(',').collect();
        if terms.len() != ranks.len() {
            let what = format!("{} terms for {} operands", terms.len(), ranks.len());
            return Err(OpError::new(format!("the equation \"{equation}\" has {what}")));
        }
        let mut operands = Vec::new();
        let mut hidden = 0;
        for (term, &rank) in terms.iter().zip(ranks) {
            let named = term.chars().filter(char::is_ascii_alphabetic).count();
            let own = if term.contains("...") { rank.saturating_sub(named) } else { 0 };
            if named + own != rank {
                return Err(OpError::new(format!("\"{term}\" does not label a tensor of rank {rank}")));
            }
            operands.push(labels(term, own)?);
            hidden = hidden.max(own);
        }
        let output = match output {
            Some(term) => labels(term, hidden)?,
            None => implicit_output(&operands, hidden),
        };
        let known = |l: &Label| operands.iter().any(|o| o.contains(l));
        let twice = (1..output.len()).any(|i| output[..i].contains(&output[i]));
        if twice || !output.iter().all(known) {
            return Err(OpError::new(format!(
                "the result of \"{equation}\" has a label twice or from nowhere"
            )));
        }
        let mut summed: Vec<Label> =
            operands.iter().flatten().filter(|l| !output.contains(l)).copied().collect();
        summed.sort();
        summed.dedup();
        Ok(Plan { operands, output, summed })
    }

    /// The size of each label, to which its dimensions of size 1 broadcast.
    fn dims(&self, shapes: &[Vec<Dim>]) -> Result<BTreeMap<Label, Dim>, OpError> {
        let mut dims = BTreeMap::new();
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (label, dim) in labels.iter().zip(shape) {
                let old: &Dim = dims.get(label).unwrap_or(&Dim::Static(1));
                let new = broadcast_dim(old, dim).ok_or_else(|| {
                    let shape = show_dims(shape);
                    OpError::new(format!("a label is {old} in one operand and {dim} in one of shape {shape}"))
                })?;
                dims.insert(*label, new);
            }
        }
        Ok(dims)
    }

    /// The sizes of labels, in the order of `list`.
    fn sizes(&self, shapes: &[&[usize]], list: &[Label]) -> Result<Vec<usize>, OpError> {
        let shapes: Vec<Vec<Dim>> = shapes.iter().map(|s| s.iter().map(|&n| n.into()).collect()).collect();
        let dims = self.dims(&shapes)?;
        Ok(list.iter().map(|l| dims.get(l).and_then(Dim::as_static).unwrap_or(1)).collect())
    }
}

/// The ellipsis, then every letter that occurs once, in alphabetical order.
fn implicit_output(operands: &[Vec<Label>], hidden: usize) -> Vec<Label> {
    let mut all: Vec<Label> = operands.iter().flatten().copied().collect();
    all.sort();
    let letters = all.iter().filter(|l| matches!(l, Label::Letter(_)));
    let once = letters.filter(|l| all.iter().filter(|m| m == l).count() == 1).copied();
    (0..hidden).rev().map(Label::Ellipsis).chain(once).collect()
}

fn infer_einsum(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let fields = tuple_arg(args, 0)?;
    let first = fields.first().ok_or_else(|| OpError::arg(0, "expected a tuple of at least one tensor"))?;
    if let Some(other) = fields.iter().find(|f| f.dtype != first.dtype) {
        return Err(OpError::arg(0, format!("a field is {}, another {}", first.dtype, other.dtype)));
    }
    let plan = Plan::new(attrs, &fields.iter().map(|f| f.rank()).collect::<Vec<_>>())?;
    let shapes: Vec<Vec<Dim>> = fields.iter().map(|f| f.shape.clone()).collect();
    let dims = plan.dims(&shapes)?;
    tensor_type(plan.output.iter().map(|l| dims[l].clone()).collect(), first.dtype)
}

/// A number that sums accumulate in.
trait Accumulate: Copy {
    const ZERO: Self;
    const ONE: Self;
    fn multiply_add(self, acc: Self, other: Self) -> Self;
}

macro_rules! accumulate {
    ($($t:ty, $zero:expr, $one:expr, |$a:ident, $acc:ident, $b:ident| $body:expr;)*) => { $(
        impl Accumulate for $t {
            const ZERO: $t = $zero;
            const ONE: $t = $one;
            fn multiply_add(self, acc: $t, other: $t) -> $t {
                let ($a, $acc, $b) = (self, acc, other);
                $body
            }
        }
    )* };
}
accumulate! {
    f32, 0.0, 1.0, |a, acc, b| acc + a * b;
    f64, 0.0, 1.0, |a, acc, b| acc + a * b;
    i64, 0, 1, |a, acc, b| acc.wrapping_add(a.wrapping_mul(b));
}

/// Loops over labels: their sizes and each operand's step.
struct Loops {
    sizes: Vec<usize>,
    steps: Vec<Vec<usize>>,
}

impl Loops {
    fn new(plan: &Plan, shapes: &[&[usize]], list: &[Label]) -> Result<Loops, OpError> {
        let step = |operand: usize, label: &Label| {
            let dense = Layout::dense(shapes[operand]);
            let own = plan.operands[operand].iter().enumerate();
            // A label that an operand has twice walks its diagonal.
            own.filter(|&(d, l)| l == label && shapes[operand][d] != 1)
                .map(|(d, _)| dense.strides[d] as usize)
                .sum()
        };
        let steps = list.iter().map(|l| (0..shapes.len()).map(|o| step(o, l)).collect()).collect();
        Ok(Loops { sizes: plan.sizes(shapes, list)?, steps })
    }

    /// Calls `f` with each operand's place, starting at `places`, which end as they began.
    fn each(&self, places: &mut [usize], mut f: impl FnMut(&mut [usize])) {
        if self.sizes.contains(&0) {
            return;
        }
        let mut index = vec![0; self.sizes.len()];
        loop {
            f(places);
            let mut d = self.sizes.len();
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                index[d] += 1;
                let more = index[d] < self.sizes[d];
                for (place, step) in places.iter_mut().zip(&self.steps[d]) {
                    *place = if more { *place + step } else { *place - step * (self.sizes[d] - 1) };
                }
                if more {
                    break;
                }
                index[d] = 0;
            }
        }
    }
}

/// The sum of products at each place of the result, in order.
fn contract<A: Accumulate>(plan: &Plan, shapes: &[&[usize]], data: &[Vec<A>]) -> Result<Vec<A>, OpError> {
    let outer = Loops::new(plan, shapes, &plan.output)?;
    let inner = Loops::new(plan, shapes, &plan.summed)?;
    let mut out = Vec::with_capacity(outer.sizes.iter().product());
    let mut places = vec![0; shapes.len()];
    outer.each(&mut places, |places| {
        let mut sum = A::ZERO;
        inner.each(places, |at| {
            let mut factors = data.iter().zip(at.iter()).map(|(d, &i)| d[i]);
            let first = factors.next().unwrap_or(A::ONE);
            let last = factors.next_back().unwrap_or(A::ONE);
            let product = factors.fold(first, |p, x| p.multiply_add(A::ZERO, x));
            sum = product.multiply_add(sum, last);
        });
        out.push(sum);
    });
    Ok(out)
}

/// The elements of tensors as numbers that sums accumulate in.
fn widen<A>(fields: &[&Tensor], number: impl Fn(Scalar) -> A) -> Result<Vec<Vec<A>>, OpError> {
    let widened = |t: &&Tensor| dispatch!(t.dtype(), T => Ok(elements::<T>(t)?.iter().map(|&x| number(Scalar::of(x))).collect()));
    fields.iter().map(widened).collect()
}

/// Numbers as a tensor.
fn narrow<A: Copy>(
    shape: &[usize],
    dtype: DType,
    data: &[A],
    scalar: impl Fn(A) -> Scalar,
) -> Result<Value, OpError> {
    fn write<T: Element>(shape: &[usize], values: impl Iterator<Item = Scalar>) -> Result<Tensor, OpError> {
        build::<T>(shape, |out| {
            for (slot, value) in out.iter_mut().zip(values) {
                *slot = value.get().unwrap_or(*slot);
            }
        })
    }
    let values = data.iter().map(|&x| scalar(x));
    Ok(dispatch!(dtype, T => write::<T>(shape, values))?.into())
}

fn eval_einsum(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (fields, shape) = (tuple_value(args, 0)?, sizes(ty)?);
    let plan = Plan::new(attrs, &fields.iter().map(|f| f.rank()).collect::<Vec<_>>())?;
    let shapes: Vec<&[usize]> = fields.iter().map(|f| f.shape()).collect();
    let dtype = fields[0].dtype();
    match accumulator(dtype) {
        DType::F32 => {
            let sums = contract(&plan, &shapes, &widen(&fields, |x| x.as_f64() as f32)?)?;
            narrow(&shape, dtype, &sums, |x| Scalar::from_f64(dtype, x as f64))
        }
        DType::F64 => {
            let sums = contract(&plan, &shapes, &widen(&fields, Scalar::as_f64)?)?;
            narrow(&shape, dtype, &sums, |x| Scalar::from_f64(dtype, x))
        }
        DType::Bool => {
            let sums = contract(&plan, &shapes, &widen(&fields, |x| x.bits() as i64)?)?;
            narrow(&shape, dtype, &sums, |x| Scalar::from_i64(dtype, (x != 0) as i64))
        }
        _ => {
            let sums = contract(&plan, &shapes, &widen(&fields, Scalar::as_i64)?)?;
            narrow(&shape, dtype, &sums, |x| Scalar::from_i64(dtype, x))
        }
    }
}

fn lower_einsum(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let plan = Plan::new(attrs, &args.iter().map(te::Tensor::rank).collect::<Vec<_>>())?;
    let shapes: Vec<&[usize]> = args.iter().map(|t| t.shape.as_slice()).collect();
    let (dtype, acc) = (out[0].dtype, accumulator(out[0].dtype));
    let (multiply, add) = match dtype {
        DType::Bool => (BinaryOp::And, BinaryOp::Or),
        _ => (BinaryOp::Mul, BinaryOp::Add),
    };
    let product = |index: &[Expr], summed: &[Expr]| {
        let place = |(label, &n): (&Label, &usize)| {
            let at =
                |list: &[Label], index: &[Expr]| Some(index[list.iter().position(|l| l == label)?].clone());
            let found = at(&plan.output, index).or_else(|| at(&plan.summed, summed));
            if n == 1 { Expr::int(0) } else { found.unwrap_or(Expr::int(0)) }
        };
        let factor = |(t, labels): (&te::Tensor, &Vec<Label>)| {
            t.at(&labels.iter().zip(&t.shape).map(place).collect::<Vec<_>>()).cast(acc)
        };
        let factors = args.iter().zip(&plan.operands).map(factor);
        factors.reduce(|a, b| a.binary(multiply, b)).unwrap_or_else(|| zero(acc))
    };
    if plan.summed.is_empty() {
        return Ok(vec![g.compute("einsum", "einsum", &out[0], |index| product(index, &[]).cast(dtype))]);
    }
    let wide = TensorType::new(out[0].shape.clone(), acc);
    let extents = plan.sizes(&shapes, &plan.summed)?;
    let sums = g.reduce("einsum", "einsum", &wide, &extents, add, zero(acc), product);
    if acc == dtype {
        return Ok(vec![sums]);
    }
    Ok(vec![g.compute("einsum_cast", "elemwise", &out[0], |index| sums.at(index).cast(dtype))])
}
