//! Means, variances, and the logarithm of a sum of exponentials.

use super::{Plan, ReduceAttrs, fold, fold_rows, infer, lower_fold, narrow, sum};
use crate::dispatch;
use crate::eval::Value;
use crate::op::broadcast::shape::check_broadcasts;
use crate::op::elemwise::convert::cast;
use crate::op::runs::{map, zip};
use crate::op::util::{
    FLOAT, NUMERIC, accumulator, broadcast_at, build, elements, same_dtype, tensor_arg, tensor_type,
    tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Arith, Binary, BinaryOp, Convert, Scalar, Unary, UnaryOp};
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

/// Reductions in several steps.
pub const OPS: &[&OpDef] = &[&LOGSUMEXP, &MEAN, &STD, &VARIANCE];

op_attrs! {
    /// Attributes of `variance` and `std`.
    pub struct VarianceAttrs {
        /// The axes to reduce; all if absent.
        axis: Option<Vec<i64>> = None,
        /// Whether reduced axes stay, with size 1.
        keepdims: bool = false,
        /// Whether to reduce all axes but those listed.
        exclude: bool = false,
        /// Whether to divide by one less than the number of elements.
        unbiased: bool = false,
    }
}

impl VarianceAttrs {
    fn plan(&self, rank: usize) -> Result<Plan, OpError> {
        Plan::new(self.axis.as_deref(), self.keepdims, self.exclude, rank)
    }

    /// What the sum of squares is divided by.
    fn divisor(&self, count: usize) -> f64 {
        count as f64 - self.unbiased as u8 as f64
    }
}

/// `mean`: the sum divided by the number of elements.
pub static MEAN: OpDef = OpDef {
    name: "mean",
    doc: "the mean; integers add in 64 bits and truncate.",
    args: &["data"],
    optional: 0,
    attrs: ReduceAttrs::SCHEMA,
    pattern: FusePattern::CommReduce,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer,
    backward: no_backward,
    eval: |args, attrs, _| {
        let data = tensor_value(args, 0)?;
        let plan = attrs.read::<ReduceAttrs>().plan(data.rank())?;
        Ok(cast(&wide_mean(data, &plan)?, data.dtype())?.into())
    },
    lower: Lower::Te(|graph, args, attrs, out| {
        let plan = attrs.read::<ReduceAttrs>().plan(args[0].rank())?;
        Ok(vec![lower_mean(graph, &args[0], &plan, &out[0])])
    }),
    onnx: &["ReduceMean"],
};

/// `variance`: the mean of the squared distances from the mean.
pub static VARIANCE: OpDef = OpDef {
    name: "variance",
    doc: "the mean of the squared distances from the mean, which may be given, with the axes kept.",
    args: &["data", "mean"],
    optional: 1,
    attrs: VarianceAttrs::SCHEMA,
    pattern: FusePattern::CommReduce,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: infer_variance,
    backward: no_backward,
    eval: |args, attrs, _| eval_variance(args, attrs, |x| x),
    lower: Lower::Te(|graph, args, attrs, out| lower_variance("variance", graph, args, attrs, &out[0])),
    onnx: &[],
};

/// `std`: the square root of the variance.
pub static STD: OpDef = OpDef {
    name: "std",
    doc: "the standard deviation: the square root of the variance.",
    args: &["data"],
    optional: 0,
    attrs: VarianceAttrs::SCHEMA,
    pattern: FusePattern::CommReduce,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: infer_variance,
    backward: no_backward,
    eval: |args, attrs, _| eval_variance(args, attrs, f64::sqrt),
    lower: Lower::Te(|graph, args, attrs, out| lower_variance("std", graph, args, attrs, &out[0])),
    onnx: &[],
};

/// `logsumexp`: the logarithm of the sum of the exponentials.
pub static LOGSUMEXP: OpDef = OpDef {
    name: "logsumexp",
    doc: "log(sum(exp(x))), without overflow.",
    args: &["data"],
    optional: 0,
    attrs: ReduceAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer,
    backward: no_backward,
    eval: eval_logsumexp,
    lower: Lower::Te(lower_logsumexp),
    onnx: &["ReduceLogSumExp"],
};

/// The dtype that a mean is computed in.
fn wide(dtype: DType) -> DType {
    match dtype {
        d if d.is_signed_int() => DType::I64,
        d if d.is_unsigned_int() => DType::U64,
        d => accumulator(d),
    }
}

fn wide_mean(data: &Tensor, plan: &Plan) -> Result<Tensor, OpError> {
    let count: usize = plan.extents(data.shape()).iter().product();
    let sum = fold(BinaryOp::Add, &cast(data, wide(data.dtype()))?, plan)?;
    dispatch!(sum.dtype(), T => {
        let sums = elements::<T>(&sum)?;
        let count = T::of_u64(count as u64);
        build::<T>(sum.shape(), |out| map(sums, out, |x| x.div(count)))
    })
}

fn lower_mean(graph: &mut te::Graph, data: &te::Tensor, plan: &Plan, out: &TensorType) -> te::Tensor {
    let wide = TensorType { dtype: wide(out.dtype), ..out.clone() };
    let count: usize = plan.extents(&data.shape).iter().product();
    let sum = lower_fold("sum", BinaryOp::Add, graph, data, plan, &wide, |x, _| x.cast(wide.dtype));
    let count = Expr::constant(Scalar::from_i64(wide.dtype, count as i64));
    graph.compute("mean", "elemwise", out, |i| (sum.at(i) / count).cast(out.dtype))
}

fn infer_variance(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    if types.len() > 1 {
        same_dtype(types, 0, 1)?;
        check_broadcasts(&tensor_arg(types, 1)?.shape, &data.shape)?;
    }
    let plan = attrs.read::<VarianceAttrs>().plan(data.rank())?;
    tensor_type(plan.shape(&data.shape), data.dtype)
}

fn eval_variance(args: &[Value], attrs: &Attrs, last: fn(f64) -> f64) -> Result<Value, OpError> {
    let attrs = attrs.read::<VarianceAttrs>();
    let data = tensor_value(args, 0)?;
    let plan = attrs.plan(data.rank())?;
    let count: usize = plan.extents(data.shape()).iter().product();
    let x = cast(data, accumulator(data.dtype()))?;
    let mean = match args.get(1) {
        Some(mean) => cast(mean.tensor()?, x.dtype())?,
        None => wide_mean(&x, &plan.keeping())?,
    };
    let variance = match x.dtype() {
        DType::F64 => variance::<f64>(&x, &mean, &plan, attrs.divisor(count), last),
        _ => variance::<f32>(&x, &mean, &plan, attrs.divisor(count), last),
    };
    Ok(cast(&variance?, data.dtype())?.into())
}

fn variance<T: Arith>(
    data: &Tensor,
    mean: &Tensor,
    plan: &Plan,
    divisor: f64,
    last: fn(f64) -> f64,
) -> Result<Tensor, OpError> {
    let (x, m) = (elements::<T>(data)?, elements::<T>(mean)?);
    let squares = build::<T>(data.shape(), |out| {
        zip((x, data.shape()), (m, mean.shape()), (out, data.shape()), |x, m| x.sub(m).mul(x.sub(m)))
    })?;
    let divisor = T::of_f64(divisor);
    fold_rows(&squares, plan, |row| T::of_f64(last(sum::<T>(row).div(divisor).to_f64())))
}

fn lower_variance(
    name: &str,
    graph: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &TensorType,
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs = attrs.read::<VarianceAttrs>();
    let data = &args[0];
    let plan = attrs.plan(data.rank())?;
    let wide = accumulator(out.dtype);
    let mean = match args.get(1) {
        Some(mean) => mean.clone(),
        None => {
            let keeping = plan.keeping();
            let kept = TensorType::of(&keeping.sizes(&data.shape), wide);
            lower_mean(graph, data, &keeping, &kept)
        }
    };
    let square = |x: Expr, place: &[Expr]| {
        let distance = x.cast(wide) - broadcast_at(&mean, place).cast(wide);
        distance.clone() * distance
    };
    let sums = TensorType { dtype: wide, ..out.clone() };
    let squares = lower_fold("squares", BinaryOp::Add, graph, data, &plan, &sums, square);
    let count: usize = plan.extents(&data.shape).iter().product();
    let divisor = Expr::float(attrs.divisor(count), wide);
    let last = |i: &[Expr]| {
        let variance = squares.at(i) / divisor;
        let value = if name == "std" { variance.unary(UnaryOp::Sqrt) } else { variance };
        value.cast(out.dtype)
    };
    Ok(vec![graph.compute(name, "elemwise", out, last)])
}

fn eval_logsumexp(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let plan = attrs.read::<ReduceAttrs>().plan(data.rank())?;
    let x = cast(data, accumulator(data.dtype()))?;
    let result = match x.dtype() {
        DType::F64 => fold_rows(&x, &plan, logsumexp::<f64>),
        _ => fold_rows(&x, &plan, logsumexp::<f32>),
    };
    Ok(cast(&result?, data.dtype())?.into())
}

/// An infinite maximum is not subtracted, since its difference from itself is NaN.
fn logsumexp<T: Arith>(row: &[T]) -> T {
    let max = row.iter().fold(T::of_f64(f64::NEG_INFINITY), |max, &x| max.greater(x));
    let shift = if Unary::is_inf(max) { T::ZERO } else { max };
    let exponentials: Vec<T> = row.iter().map(|x| x.sub(shift).exp()).collect();
    sum::<T>(&exponentials).log().add(shift)
}

fn lower_logsumexp(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, out) = (&args[0], &out[0]);
    let plan = attrs.read::<ReduceAttrs>().plan(data.rank())?;
    let keeping = plan.keeping();
    let wide = accumulator(out.dtype);
    let kept = TensorType::of(&keeping.sizes(&data.shape), wide);
    let max = lower_fold("max", BinaryOp::Max, graph, data, &keeping, &kept, |x, _| x.cast(wide));
    let shift = graph.compute("shift", "elemwise", &kept, |i| {
        max.at(i).unary(UnaryOp::IsInf).select(Expr::float(0.0, wide), max.at(i))
    });
    let exponential =
        |x: Expr, place: &[Expr]| (x.cast(wide) - broadcast_at(&shift, place)).unary(UnaryOp::Exp);
    let sum = lower_fold("sum", BinaryOp::Add, graph, data, &keeping, &kept, exponential);
    let log = graph.compute("log", "elemwise", &kept, |i| sum.at(i).unary(UnaryOp::Log) + shift.at(i));
    let shaped = graph.compute("logsumexp", "injective", &TensorType { dtype: wide, ..out.clone() }, |i| {
        log.at(&plan.indices(i, &vec![Expr::int(0); plan.reduced().count()]))
    });
    Ok(vec![narrow("logsumexp", graph, shaped, out)])
}
