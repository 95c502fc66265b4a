//! Searching in sorted sequences.

use super::line::{serial, store, var_expr, within};
use super::{before, order_keys};
use crate::eval::Value;
use crate::op::elemwise::convert::cast;
use crate::op::reduce::narrow;
use crate::op::util::{
    ALL, INT, build, check_dtype, same_dtype, show_dims, tensor_arg, tensor_type, tensor_value, unify_dim,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{BinaryOp, Scalar, UnaryOp};
use crate::te::{self, StageKind};
use crate::tir::{Expr, LoopKind, Stmt};
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `searchsorted`.
    pub struct SearchsortedAttrs {
        /// Whether a value goes after equal elements instead of before them.
        right: bool = false,
        /// The dtype of the result.
        dtype: DType = DType::I32,
    }
}

/// `searchsorted`: where values belong in sorted sequences.
pub static SEARCHSORTED: OpDef = OpDef {
    name: "searchsorted",
    doc: "the place where each value keeps a sorted sequence sorted; several sequences pair up with values by their leading dimensions.",
    args: &["sorted_sequence", "values"],
    optional: 0,
    attrs: SearchsortedAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer,
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &[],
};

fn infer(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    same_dtype(types, 0, 1)?;
    let (sequence, values) = (tensor_arg(types, 0)?, tensor_arg(types, 1)?);
    let dtype = attrs.read::<SearchsortedAttrs>().dtype;
    check_dtype(0, dtype, INT)?;
    let Some((_, leading)) = sequence.shape.split_last() else {
        return Err(OpError::arg(0, "a scalar is no sequence"));
    };
    let fits = |(a, b): (&Dim, &Dim)| unify_dim(a, b).is_some();
    let pairs_up = values.rank() == sequence.rank() && leading.iter().zip(&values.shape).all(fits);
    if !leading.is_empty() && !pairs_up {
        let (sequences, values) = (show_dims(&sequence.shape), show_dims(&values.shape));
        return Err(OpError::arg(1, format!("values {values} do not pair up with sequences {sequences}")));
    }
    tensor_type(values.shape.clone(), dtype)
}

fn eval(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let SearchsortedAttrs { right, dtype } = attrs.read();
    let (sequence, values) = (tensor_value(args, 0)?, tensor_value(args, 1)?);
    let len = *sequence.shape().last().expect("sequences have a dimension");
    let sequences: usize = sequence.shape()[..sequence.rank() - 1].iter().product();
    let (sorted, wanted) = (order_keys(sequence), order_keys(values));
    let share = wanted.len().checked_div(sequences).unwrap_or(0).max(1);
    let places = build::<i64>(values.shape(), |out| {
        for (i, (out, &v)) in out.iter_mut().zip(&wanted).enumerate() {
            let sorted = &sorted[i / share * len..][..len];
            *out = sorted.partition_point(|&x| x < v || (right && x == v)) as i64;
        }
    })?;
    Ok(cast(&places, dtype)?.into())
}

/// For each value, a place that grows by ever smaller powers of two as long as the element
/// before it still belongs to its left.
fn lower(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (sequence, values) = (&args[0], &args[1]);
    let right = attrs.read::<SearchsortedAttrs>().right;
    let len = *sequence.shape.last().expect("sequences have a dimension");
    if len == 0 || values.shape.contains(&0) {
        let nowhere = Expr::constant(Scalar::from_i64(out[0].dtype, 0));
        return Ok(vec![graph.compute("searchsorted", "elemwise", &out[0], |_| nowhere)]);
    }
    let places = graph.tensor("places", &values.shape, DType::I64);
    let axes = graph.spatial_axes(&values.shape);
    let at: Vec<Expr> = axes.iter().map(te::Axis::expr).collect();
    let (round, next) = (graph.var("round", DType::I64), graph.var("next", DType::I64));

    let rounds = (usize::BITS - len.leading_zeros()) as usize;
    let step = Expr::int(1).binary(BinaryOp::Shl, Expr::from(rounds) - 1i64 - var_expr(round));
    let mut element = at[..sequence.rank() - 1].to_vec();
    element.push(within(var_expr(next) - 1i64, len));
    let (x, v) = (sequence.at(&element), values.at(&at));
    let goes_after = if right { before(v, x).unary(UnaryOp::Not) } else { before(x, v) };
    let grow = Stmt::If {
        cond: var_expr(next).lt(len as i64 + 1).and(goes_after),
        then: Box::new(store(places.id, at.clone(), var_expr(next))),
        els: None,
    };
    let search = Stmt::Seq(vec![
        store(places.id, at.clone(), Expr::int(0)),
        serial(round, rounds, vec![Stmt::Let { var: next, value: places.at(&at) + step }, grow]),
    ]);
    let body = axes.iter().enumerate().rev().fold(search, |body, (d, axis)| {
        let kind = if d == 0 { LoopKind::Parallel } else { LoopKind::Serial };
        Stmt::For { var: axis.var, extent: axis.extent.into(), kind, body: Box::new(body) }
    });
    let kind = StageKind::Extern { inputs: vec![sequence.id, values.id], allocs: Vec::new(), body };
    graph.push("searchsorted", "search", &[places.id], kind);
    Ok(vec![narrow("searchsorted", graph, places, &out[0])])
}
