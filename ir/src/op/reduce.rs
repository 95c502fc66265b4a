//! Reductions.
//!
//! `axis` lists the axes to reduce (negative ones count from the back, none of them means all,
//! an empty list reduces nothing), `exclude` turns the choice around, `keepdims` leaves
//! dimensions of size 1. f16 and bf16 accumulate in f32 and round once; integers wrap. Of no
//! elements, a sum is 0, a product 1, a maximum the lowest value and a mean NaN.

pub mod arg;
pub mod collapse;
pub mod moments;
mod plan;

#[cfg(test)]
mod tests;

pub use arg::{ARGMAX, ARGMIN, ArgReduceAttrs};
pub use collapse::{COLLAPSE_SUM_LIKE, COLLAPSE_SUM_TO, CollapseSumToAttrs};
pub use moments::{LOGSUMEXP, MEAN, STD, VARIANCE, VarianceAttrs};
pub use plan::Plan;

use super::elemwise::convert::cast;
use super::util::{
    ALL, BOOL, NUMERIC, accumulator, build, elements, highest, lowest, tensor_arg, tensor_type, tensor_value,
};
use super::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::dispatch;
use crate::eval::Value;
use crate::op_attrs;
use crate::scalar::{Arith, BinaryOp, Scalar, binary_fn};
use crate::te;
use crate::tensor::{Element, Tensor};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of reductions.
    pub struct ReduceAttrs {
        /// The axes to reduce; all if absent.
        axis: Option<Vec<i64>> = None,
        /// Whether reduced axes stay, with size 1.
        keepdims: bool = false,
        /// Whether to reduce all axes but those listed.
        exclude: bool = false,
    }
}

impl ReduceAttrs {
    /// How a tensor of this rank is reduced.
    ///
    /// # Errors
    /// If an axis is out of bounds or given twice.
    pub fn plan(&self, rank: usize) -> Result<Plan, OpError> {
        Plan::new(self.axis.as_deref(), self.keepdims, self.exclude, rank)
    }
}

/// Declares a row for each reduction that combines elements with a function of two scalars.
macro_rules! rows {
    ($($row:ident $name:literal $op:ident $dtypes:ident [$($onnx:literal),*] $doc:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $doc)]
            pub static $row: OpDef = OpDef {
                name: $name,
                doc: $doc,
                args: &["data"],
                optional: 0,
                attrs: ReduceAttrs::SCHEMA,
                pattern: FusePattern::CommReduce,
                purity: Purity::Pure,
                dtypes: $dtypes,
                infer,
                backward: no_backward,
                eval: |args, attrs, _| eval(BinaryOp::$op, args, attrs),
                lower: Lower::Te(|graph, args, attrs, out| {
                    let plan = attrs.read::<ReduceAttrs>().plan(args[0].rank())?;
                    Ok(vec![lower($name, BinaryOp::$op, graph, &args[0], &plan, &out[0])])
                }),
                onnx: &[$($onnx),*],
            };
        )*
        /// Reductions.
        pub const OPS: &[&OpDef] = &[$(&$row),*];
    };
}

rows! {
    SUM  "sum"  Add NUMERIC ["ReduceSum"]  "the sum.";
    PROD "prod" Mul NUMERIC ["ReduceProd"] "the product.";
    MAX  "max"  Max ALL     ["ReduceMax"]  "the largest element; NaN if one is.";
    MIN  "min"  Min ALL     ["ReduceMin"]  "the smallest element; NaN if one is.";
    ALL_ "all"  And BOOL    []             "whether every element holds.";
    ANY  "any"  Or  BOOL    []             "whether an element holds.";
}

/// The type of a reduction that keeps the dtype.
fn infer(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    let plan = attrs.read::<ReduceAttrs>().plan(data.rank())?;
    tensor_type(plan.shape(&data.shape), data.dtype)
}

fn eval(op: BinaryOp, args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let plan = attrs.read::<ReduceAttrs>().plan(data.rank())?;
    Ok(fold(op, data, &plan)?.into())
}

/// Where a reduction starts.
fn identity(op: BinaryOp, dtype: DType) -> Scalar {
    match op {
        BinaryOp::Min => highest(dtype),
        BinaryOp::Max => lowest(dtype),
        BinaryOp::Mul | BinaryOp::And => Scalar::from_i64(dtype, 1),
        _ => Scalar::from_i64(dtype, 0),
    }
}

/// The reduction of a tensor, accumulated as [`accumulator`] says.
///
/// # Errors
/// If the result is larger than a tensor may be.
pub fn fold(op: BinaryOp, data: &Tensor, plan: &Plan) -> Result<Tensor, OpError> {
    let wide = cast(data, accumulator(data.dtype()))?;
    let folded = dispatch!(wide.dtype(), T => {
        let start: T = identity(op, T::DTYPE).get().expect("made of this dtype");
        let f = binary_fn::<T>(op);
        match op {
            BinaryOp::Add => fold_rows(&wide, plan, sum::<T>),
            _ => fold_rows(&wide, plan, |row: &[T]| row.iter().fold(start, |acc, &x| f(acc, x))),
        }
    })?;
    cast(&folded, data.dtype())
}

/// What `f` makes of the elements that are reduced together, in row-major order.
///
/// # Errors
/// If the dtype is another or the result is larger than a tensor may be.
pub fn fold_rows<T: Element, U: Element>(
    data: &Tensor,
    plan: &Plan,
    f: impl Fn(&[T]) -> U,
) -> Result<Tensor, OpError> {
    let (rows, len) = plan.rows(data)?;
    let rows = elements::<T>(&rows)?;
    build(&plan.sizes(data.shape()), |out| {
        for (i, out) in out.iter_mut().enumerate() {
            *out = f(&rows[i * len..(i + 1) * len]);
        }
    })
}

/// How many elements a sum adds one after the other before it starts another.
const BLOCK: usize = 32;

/// The sum of a row: of blocks, then of their sums, so that rounding grows slowly.
pub fn sum<T: Arith>(row: &[T]) -> T {
    let block = |block: &[T]| block.iter().fold(T::ZERO, |acc, &x| acc.add(x));
    if row.len() <= BLOCK {
        return block(row);
    }
    let mut sums: Vec<T> = row.chunks(BLOCK).map(block).collect();
    while sums.len() > 1 {
        sums = sums.chunks(BLOCK).map(block).collect();
    }
    sums[0]
}

fn lower(
    name: &str,
    op: BinaryOp,
    graph: &mut te::Graph,
    data: &te::Tensor,
    plan: &Plan,
    out: &TensorType,
) -> te::Tensor {
    let wide = TensorType { dtype: accumulator(out.dtype), ..out.clone() };
    let folded = lower_fold(name, op, graph, data, plan, &wide, |x, _| x.cast(wide.dtype));
    narrow(name, graph, folded, out)
}

/// The reduction of `f(element, its indices)` as a stage; a plain compute if nothing is reduced.
pub fn lower_fold(
    name: &str,
    op: BinaryOp,
    graph: &mut te::Graph,
    data: &te::Tensor,
    plan: &Plan,
    out: &TensorType,
    f: impl Fn(Expr, &[Expr]) -> Expr,
) -> te::Tensor {
    let element = |i: &[Expr], k: &[Expr]| {
        let place = plan.indices(i, k);
        f(data.at(&place), &place)
    };
    let extents = plan.extents(&data.shape);
    if extents.is_empty() {
        return graph.compute(name, "injective", out, |i| element(i, &[]));
    }
    let start = Expr::constant(identity(op, out.dtype));
    graph.reduce(name, "comm_reduce", out, &extents, op, start, element)
}

/// A stage that converts to the dtype of the result, if it is another.
pub fn narrow(name: &str, graph: &mut te::Graph, wide: te::Tensor, out: &TensorType) -> te::Tensor {
    if wide.dtype == out.dtype {
        return wide;
    }
    graph.compute(&format!("{name}_cast"), "elemwise", out, |i| wide.at(i).cast(out.dtype))
}
