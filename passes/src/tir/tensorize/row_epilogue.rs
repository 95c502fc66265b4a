//! Reductions over the rows of a product, in its own kernel: softmax over attention scores, a norm
//! behind a projection.
//!
//! Where a tile has whole rows of the result, whatever a row's elements need of each other is in
//! the cache when the intrinsic is done.

use std::collections::BTreeSet;

use fermata_ir::te::{Axis, Graph, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind};

use super::super::inline::{Env, Inliner, nodes};
use super::stands_at;

/// True if all that an element reads of a product is in the element's own row, directly or through
/// reductions over that row, and nothing reads an `operand`.
pub fn holds(
    graph: &Graph,
    kept: &BTreeSet<BufferId>,
    (product, operands): (BufferId, &[BufferId]),
    axes: &[Axis],
    element: &Expr,
) -> bool {
    let Some((_, leading)) = axes.split_last() else { return false };
    let mut inliner = Inliner::new(graph, kept);
    let mut pending = vec![element.clone()];
    let mut seen = BTreeSet::new();
    while let Some(expr) = pending.pop() {
        for node in nodes(&expr) {
            let ExprKind::Load(tensor, indices) = node.kind() else { continue };
            let in_row = indices.len() >= leading.len()
                && indices.iter().zip(leading).all(|(index, axis)| stands_at(index, axis));
            if *tensor == product {
                if !in_row || indices.len() != axes.len() {
                    return false;
                }
                continue;
            }
            if operands.contains(tensor) {
                return false;
            }
            let stage = graph.stages.iter().find(|s| s.outputs.contains(tensor));
            let Some(StageKind::Compute(compute)) = stage.map(|s| &s.kind) else { continue };
            if compute.reduce.is_none() || kept.contains(tensor) {
                continue;
            }
            let alone = indices[leading.len().min(indices.len())..].iter().all(|i| i.as_int() == Some(0));
            if !in_row || !alone {
                return false;
            }
            if seen.insert(*tensor) {
                let env: Env = compute.axes.iter().map(|a| a.var).zip(indices.iter().cloned()).collect();
                pending.extend(compute.body.iter().map(|b| inliner.instantiate(b, &env)));
            }
        }
    }
    true
}
