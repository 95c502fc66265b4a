//! Costly elements that a row needs more than once: computed once, into a row of scratch.
//!
//! Softmax adds up exponentials and then divides each by the sum. Written into both readers,
//! every exponential would be computed twice.

use std::collections::BTreeSet;

use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::te::{Axis, Compute, Graph, Stage, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Stmt};
use fermata_ir::types::DType;

use super::inline::{Env, nodes};
use super::nest::{Nest, Refusal};
use super::rules_cpu::loaded;

/// The longest row that is held: it should stay in the second-level cache.
const MAX_HELD: usize = 1 << 14;

/// The tensors of the root's shape that a reduction over their rows reads and something else
/// too, and whose elements cost more than reading them back; in the order of the graph.
pub fn held_tensors(graph: &Graph, root: &Compute, kept: &BTreeSet<BufferId>) -> Vec<BufferId> {
    let shape = |axes: &[Axis]| axes.iter().map(|a| a.extent).collect::<Vec<_>>();
    let wanted = shape(&root.axes);
    if root.reduce.is_some() || wanted.last().is_none_or(|&n| n > MAX_HELD) {
        return Vec::new();
    }
    let inner = |s: &&Stage| !s.outputs.iter().any(|b| kept.contains(b));
    let candidates = graph.stages.iter().filter(inner).filter_map(|s| match (&s.kind, &s.outputs[..]) {
        (StageKind::Compute(c), &[tensor]) if c.reduce.is_none() && shape(&c.axes) == wanted => {
            (c.body.iter().any(is_costly) && is_read_twice(graph, tensor, kept)).then_some(tensor)
        }
        _ => None,
    });
    candidates.collect()
}

/// True if evaluating the expression takes many instructions.
fn is_costly(expr: &Expr) -> bool {
    nodes(expr).iter().any(|e| match e.kind() {
        ExprKind::Unary(op, _) => {
            e.dtype().is_float() && !matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sqrt)
        }
        ExprKind::Binary(op, ..) => matches!(op, BinaryOp::Pow | BinaryOp::Atan2),
        _ => false,
    })
}

/// True if a reduction that is no kernel of its own reads the tensor, and another stage does.
fn is_read_twice(graph: &Graph, tensor: BufferId, kept: &BTreeSet<BufferId>) -> bool {
    let readers = graph.stages.iter().filter_map(|s| {
        let StageKind::Compute(c) = &s.kind else { return None };
        loaded(c).contains(&tensor).then_some((s, c))
    });
    let readers: Vec<_> = readers.collect();
    let reduces = |&(s, c): &(&Stage, &Compute)| c.reduce.is_some() && !kept.contains(&s.outputs[0]);
    readers.len() > 1 && readers.iter().any(reduces)
}

/// Computes the row of a tensor, at the root's axes as `env` has them and along its `last` one,
/// into scratch, or `into` a row of its own buffer if it is a result too; from here on the nest
/// reads it there.
///
/// # Errors
/// If the elements read a reduction that the nest cannot hold, or a result has no such row.
pub fn hold_row(
    nest: &mut Nest<'_>,
    tensor: BufferId,
    axes: &[Axis],
    last: &Axis,
    env: &Env,
    into: Option<Vec<Expr>>,
) -> Result<(), Refusal> {
    let graph = nest.inliner().graph();
    let no_row = if into.is_some() { Err(Refusal::Guarded(tensor)) } else { Ok(()) };
    let stage = graph.stages.iter().find(|s| s.outputs == [tensor]);
    let Some(StageKind::Compute(compute)) = stage.map(|s| &s.kind) else { return no_row };
    let (Some(root_last), Some((own_last, outer))) = (axes.last(), compute.axes.split_last()) else {
        return no_row;
    };
    if root_last.var != last.var || compute.reduce.is_some() {
        return no_row;
    }
    let at = |a: &Axis| env.get(&a.var).cloned().unwrap_or_else(|| a.expr());
    let place: Vec<Expr> = axes[..outer.len()].iter().map(at).collect();
    let mut own: Env = outer.iter().map(|a| a.var).zip(place.iter().cloned()).collect();
    let (row, lead) = match into {
        Some(lead) => (tensor, lead),
        None => (nest.local("row", &[last.extent], compute.body[0].dtype()), Vec::new()),
    };
    let j = nest.var("j", DType::I64);
    nest.open(j, last.extent.into(), LoopKind::Vectorized);
    nest.declare_axis_as(last, j);
    let column = Expr::new(ExprKind::Var(j), DType::I64);
    own.insert(own_last.var, column.clone());
    let element = nest.inliner().instantiate(&compute.body[0], &own);
    let value = nest.place(&element)?;
    let indices = lead.iter().cloned().chain([column]).collect();
    nest.push(Stmt::Store { buffer: row, indices, value });
    nest.close();
    nest.inliner().hold(tensor, row, lead, place);
    Ok(())
}
