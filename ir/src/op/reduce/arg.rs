//! The places of the largest and smallest elements.

use super::{Plan, fold_rows};
use crate::dispatch;
use crate::eval::Value;
use crate::op::util::{ALL, highest, lowest, tensor_arg, tensor_type, tensor_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Arith, BinaryOp, CmpOp, Scalar, UnaryOp, compare_fn};
use crate::te::expr::Reduce;
use crate::te::{self, Axis, Combiner, Compute, StageKind};
use crate::tir::{Expr, ExprKind};
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `argmax` and `argmin`.
    pub struct ArgReduceAttrs {
        /// The axes to reduce; all if absent. Several count as one, in row-major order.
        axis: Option<Vec<i64>> = None,
        /// Whether reduced axes stay, with size 1.
        keepdims: bool = false,
        /// Whether to reduce all axes but those listed.
        exclude: bool = false,
        /// Whether the last of several equal elements is taken instead of the first.
        select_last_index: bool = false,
    }
}

impl ArgReduceAttrs {
    fn plan(&self, rank: usize) -> Result<Plan, OpError> {
        Plan::new(self.axis.as_deref(), self.keepdims, self.exclude, rank)
    }
}

/// Declares the two rows.
macro_rules! rows {
    ($($row:ident $name:literal $better:ident $onnx:literal $doc:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $doc)]
            pub static $row: OpDef = OpDef {
                name: $name,
                doc: $doc,
                args: &["data"],
                optional: 0,
                attrs: ArgReduceAttrs::SCHEMA,
                pattern: FusePattern::CommReduce,
                purity: Purity::Pure,
                dtypes: ALL,
                infer,
                backward: no_backward,
                eval: |args, attrs, _| eval(CmpOp::$better, args, attrs),
                lower: Lower::Te(|graph, args, attrs, out| {
                    lower($name, CmpOp::$better, graph, &args[0], attrs, &out[0])
                }),
                onnx: &[$onnx],
            };
        )*
        /// The places of extreme elements.
        pub const OPS: &[&OpDef] = &[$(&$row),*];
    };
}

rows! {
    ARGMAX "argmax" Gt "ArgMax" "the place of the largest element as int32; of NaN, if there is one.";
    ARGMIN "argmin" Lt "ArgMin" "the place of the smallest element as int32; of NaN, if there is one.";
}

fn infer(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    let plan = attrs.read::<ArgReduceAttrs>().plan(data.rank())?;
    let count = plan.reduced().try_fold(1usize, |count, d| count.checked_mul(data.shape[d].as_static()?));
    if plan.reduced().any(|d| data.shape[d] == Dim::Static(0)) {
        return Err(OpError::arg(0, "none of no elements is the largest or smallest"));
    }
    if count.is_some_and(|n| n > i32::MAX as usize) {
        return Err(OpError::arg(0, "a place among more than 2^31 - 1 elements does not fit an int32"));
    }
    tensor_type(plan.shape(&data.shape), DType::I32)
}

fn eval(better: CmpOp, args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let attrs = attrs.read::<ArgReduceAttrs>();
    let data = tensor_value(args, 0)?;
    let plan = attrs.plan(data.rank())?;
    let last = attrs.select_last_index;
    let places = dispatch!(data.dtype(), T => {
        let better = compare_fn::<T>(better);
        fold_rows(data, &plan, |row: &[T]| place(row, last, better))
    });
    Ok(places?.into())
}

/// The place of the element that no other is better than.
fn place<T: Arith>(row: &[T], last: bool, better: impl Fn(T, T) -> bool) -> i32 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        let old = row[best];
        let take = match (x.is_nan(), old.is_nan()) {
            (false, false) => better(x, old) || (last && x.key() == old.key()),
            (x_is_nan, old_is_nan) => x_is_nan && (last || !old_is_nan),
        };
        if take {
            best = i;
        }
    }
    best as i32
}

fn lower(
    name: &str,
    better: CmpOp,
    graph: &mut te::Graph,
    data: &te::Tensor,
    attrs: &Attrs,
    out: &TensorType,
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs = attrs.read::<ArgReduceAttrs>();
    let plan = attrs.plan(data.rank())?;
    let extents = plan.extents(&data.shape);
    if extents.is_empty() {
        let zero = Expr::constant(Scalar::from_i64(DType::I32, 0));
        return Ok(vec![graph.compute(name, "elemwise", out, |_| zero)]);
    }
    let shape = plan.sizes(&data.shape);
    let axes = graph.spatial_axes(&shape);
    let raxes: Vec<Axis> =
        extents.iter().enumerate().map(|(i, &n)| graph.axis(&format!("k{i}"), n)).collect();
    let place = raxes.iter().fold(Expr::int(0), |place, axis| place * axis.extent + axis.expr());
    let exprs = |axes: &[Axis]| axes.iter().map(Axis::expr).collect::<Vec<_>>();
    let element = data.at(&plan.indices(&exprs(&axes), &exprs(&raxes)));
    let reduce = arg_reduce(graph, raxes, better, attrs.select_last_index, data.dtype);
    let compute = Compute { axes, reduce: Some(reduce), body: vec![place.cast(DType::I32), element] };
    let places = graph.tensor(name, &shape, DType::I32);
    let values = graph.tensor(&format!("{name}_value"), &shape, data.dtype);
    graph.push(name, "comm_reduce_idx", &[places.id, values.id], StageKind::Compute(compute));
    Ok(vec![places])
}

/// The reduction of (place, value) pairs. It compares places too, so that it commutes.
fn arg_reduce(graph: &mut te::Graph, axes: Vec<Axis>, better: CmpOp, last: bool, dtype: DType) -> Reduce {
    let mut pair = |name: &str| {
        [graph.var(&format!("{name}_place"), DType::I32), graph.var(&format!("{name}_value"), dtype)]
    };
    let (old, new) = (pair("old"), pair("new"));
    let exprs = |[place, value]: [_; 2]| {
        [Expr::new(ExprKind::Var(place), DType::I32), Expr::new(ExprKind::Var(value), dtype)]
    };
    let ([old_place, old_value], [new_place, new_value]) = (exprs(old), exprs(new));
    let or = |a: Expr, b: Expr| a.binary(BinaryOp::Or, b);
    let nan = |x: &Expr| x.clone().unary(UnaryOp::IsNan);
    let not = |x: Expr| x.unary(UnaryOp::Not);

    let mut wins = new_value.clone().cmp(better, old_value.clone());
    let mut ties = new_value.clone().equal(old_value.clone());
    if dtype.is_float() {
        wins = or(wins, nan(&new_value).and(not(nan(&old_value))));
        ties = or(ties, nan(&new_value).and(nan(&old_value)));
    }
    let (order, start) = if last { (CmpOp::Gt, -1) } else { (CmpOp::Lt, i32::MAX as i64) };
    let take = or(wins, ties.and(new_place.clone().cmp(order, old_place.clone())));
    let result = vec![take.clone().select(new_place, old_place), take.select(new_value, old_value)];
    let worst = if better == CmpOp::Gt { lowest(dtype) } else { highest(dtype) };
    Reduce {
        axes,
        combiner: Combiner::User { lhs: old.to_vec(), rhs: new.to_vec(), result },
        identity: vec![Expr::constant(Scalar::from_i64(DType::I32, start)), Expr::constant(worst)],
    }
}
