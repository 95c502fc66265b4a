//! Stages that only move elements, seen through: a product reads its operands where they came
//! from, and writes its result where it goes in the end.

use std::collections::BTreeSet;

use fermata_ir::op::transform::{TRANSPOSE, TransposeAttrs};
use fermata_ir::te::{self, Compute, Graph, Stage, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind};

use super::super::inline::{Env, Inliner, nodes};
use super::super::rules_cpu::loaded;
use super::Origins;
use crate::fuse::is_reshape;

/// What a compute combines, with loads of moved tensors as loads of where their elements came
/// from; `None` if it reads no moved tensor.
pub fn seen_through(graph: &Graph, compute: &Compute) -> Option<Expr> {
    let moved: BTreeSet<BufferId> =
        graph.stages.iter().filter(|s| is_move(s)).map(|s| s.outputs[0]).collect();
    if loaded(compute).is_disjoint(&moved) {
        return None;
    }
    let others = graph.stages.iter().flat_map(|s| &s.outputs).copied().filter(|b| !moved.contains(b));
    Some(Inliner::new(graph, &others.collect()).instantiate(&compute.body[0], &Env::new()))
}

/// True if each element of a stage is one element of one other tensor, whatever the values are.
fn is_move(stage: &Stage) -> bool {
    let StageKind::Compute(compute) = &stage.kind else { return false };
    let ([_], [body]) = (&stage.outputs[..], &compute.body[..]) else { return false };
    let ExprKind::Load(_, indices) = body.kind() else { return false };
    let reads = |index: &Expr| nodes(index).iter().any(|n| matches!(n.kind(), ExprKind::Load(..)));
    compute.reduce.is_none() && &*stage.tag != te::KEPT && !indices.iter().any(reads)
}

/// Where the elements of a tensor end up: how far apart in the root are neighbours on each axis.
pub struct Destination<'a> {
    /// The stage whose elements the root has, in another order.
    pub source: &'a Stage,
    /// Elements of the root from one step of an axis of the source to the next.
    pub steps: Vec<usize>,
}

/// The stage that a root is a reordering of, by reshapes and transposes; `None` if it is none.
pub fn destination<'a>(graph: &'a Graph, origins: &Origins, root: &'a Stage) -> Option<Destination<'a>> {
    let mut at = root;
    let mut chain = Vec::new();
    while let ([output], true) = (&at.outputs[..], is_move(at)) {
        let Some(origin) = origins.get(output) else { break };
        if !(origin.op.is(&TRANSPOSE) || is_reshape(origin.op)) {
            break;
        }
        let source = origin.args.first()?.id;
        chain.push((origin, *output));
        at = graph.stages.iter().find(|s| s.outputs == [source])?;
    }
    if chain.is_empty() {
        return None;
    }
    let StageKind::Compute(compute) = &at.kind else { return None };
    let mut order = Order::of(&compute.axes.iter().map(|a| a.extent).collect::<Vec<_>>());
    for (origin, output) in chain.into_iter().rev() {
        match origin.op.is(&TRANSPOSE) {
            true => order.transpose(origin.attrs.read::<TransposeAttrs>().axes)?,
            false => order.reshape(&graph.buffers[output].shape)?,
        }
    }
    Some(Destination { source: at, steps: order.steps(compute.axes.len()) })
}

/// The axes of a source, in the order of a tensor's elements, gathered in the tensor's dimensions.
struct Order {
    extents: Vec<usize>,
    dims: Vec<Vec<usize>>,
}

impl Order {
    fn of(extents: &[usize]) -> Order {
        let own = |(axis, &n): (usize, &usize)| if n == 1 { Vec::new() } else { vec![axis] };
        Order { extents: extents.to_vec(), dims: extents.iter().enumerate().map(own).collect() }
    }

    fn transpose(&mut self, axes: Option<Vec<i64>>) -> Option<()> {
        let rank = self.dims.len();
        let axes = axes.filter(|a| !a.is_empty()).unwrap_or_else(|| (0..rank as i64).rev().collect());
        let place = |&a: &i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok();
        self.dims = axes.iter().map(|a| self.dims.get(place(a)?).cloned()).collect::<Option<Vec<_>>>()?;
        Some(())
    }

    /// Gathers the axes in dimensions of other sizes; `None` if an axis would be cut.
    fn reshape(&mut self, shape: &[usize]) -> Option<()> {
        let mut axes = std::mem::take(&mut self.dims).into_iter().flatten().peekable();
        for &size in shape {
            let mut dim = Vec::new();
            let mut filled = 1;
            while filled < size {
                let axis = axes.next()?;
                filled *= self.extents[axis];
                dim.push(axis);
            }
            if filled != size {
                return None;
            }
            self.dims.push(dim);
        }
        axes.peek().is_none().then_some(())
    }

    fn steps(&self, axes: usize) -> Vec<usize> {
        let mut steps = vec![0; axes];
        let mut step = 1;
        for &axis in self.dims.iter().flatten().rev() {
            steps[axis] = step;
            step *= self.extents[axis];
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_to_rows() {
        // [1, heads, rows, width] to [1, rows, heads * width].
        let mut order = Order::of(&[1, 3, 5, 2]);
        order.transpose(Some(vec![0, 2, 1, 3])).expect("a permutation");
        order.reshape(&[1, 5, 6]).expect("whole axes");
        assert_eq!(order.steps(4), [0, 2, 6, 1]);
        assert_eq!(order.reshape(&[6, 5]), None, "an axis would be cut");
    }
}
