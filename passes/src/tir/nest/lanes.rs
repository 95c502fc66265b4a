//! Reductions along memory: partial results in lanes, combined at the end.

use fermata_ir::scalar::BinaryOp;
use fermata_ir::te::Axis;
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, VarId};
use fermata_ir::types::DType;

use super::{Nest, Refusal};
use crate::tir::inline::Env;

/// The least number of elements that are worth lanes.
pub(super) const MIN_EXTENT: usize = 8;

/// Elements of a vector.
const VECTOR: usize = 4;

/// The number of partial results: as many vectors as hide the latency of an addition, fewer
/// where that leaves no rest.
fn lanes_for(extent: usize) -> usize {
    let fits = |&lanes: &usize| extent >= 2 * lanes;
    let even = |&lanes: &usize| extent.is_multiple_of(lanes);
    let widest = [16, 8, 4].into_iter().find(fits).unwrap_or(VECTOR);
    let without_rest = [16, 8].into_iter().filter(fits).find(even);
    if extent < 16 * widest { without_rest.unwrap_or(widest) } else { widest }
}

impl Nest<'_> {
    /// A reduction with partial results in lanes.
    pub(super) fn accumulate_lanes(
        &mut self,
        op: BinaryOp,
        element: &Expr,
        axes: &[Axis],
        identity: &Expr,
    ) -> Result<Expr, Refusal> {
        let (last, outer) = axes.split_last().expect("a reduction has an axis");
        let lanes = lanes_for(last.extent);
        let acc = self.local("acc", &[lanes], element.dtype());
        self.lane_loop(lanes, |nest, lane| {
            nest.store_element(acc, lane, identity.clone());
            Ok(())
        })?;
        outer.iter().for_each(|a| self.open(a.var, a.extent.into(), LoopKind::Serial));
        let whole = last.extent / lanes;
        let chunk = self.var("k_outer", DType::I64);
        self.open(chunk, whole.into(), LoopKind::Serial);
        let step = self.lane_loop(lanes, |nest, lane| {
            let k = Expr::new(ExprKind::Var(chunk), DType::I64) * lanes + lane.clone();
            nest.combine_at(op, element, last.var, k, acc, lane)
        });
        self.close();
        step?;
        let vectors = last.extent / VECTOR * VECTOR;
        for first in (whole * lanes..vectors).step_by(VECTOR) {
            self.lane_loop(VECTOR, |nest, lane| {
                nest.combine_at(op, element, last.var, lane.clone() + first, acc, lane)
            })?;
        }
        for rest in vectors..last.extent {
            self.combine_at(op, element, last.var, rest.into(), acc, (rest - vectors).into())?;
        }
        outer.iter().for_each(|_| self.close());
        let mut sums: Vec<Expr> = (0..lanes).map(|l| self.element(acc, l.into())).collect();
        while sums.len() > 1 {
            let upper = sums.split_off(sums.len() / 2);
            sums = sums.into_iter().zip(upper).map(|(a, b)| a.binary(op, b)).collect();
        }
        Ok(sums.pop().expect("there are lanes"))
    }

    fn lane_loop(
        &mut self,
        lanes: usize,
        body: impl FnOnce(&mut Self, Expr) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let lane = self.var("lane", DType::I64);
        self.open(lane, lanes.into(), LoopKind::Vectorized);
        let done = body(self, Expr::new(ExprKind::Var(lane), DType::I64));
        self.close();
        done
    }

    /// `acc[lane] = acc[lane] op element[axis := k]`.
    fn combine_at(
        &mut self,
        op: BinaryOp,
        element: &Expr,
        axis: VarId,
        k: Expr,
        acc: BufferId,
        lane: Expr,
    ) -> Result<(), Refusal> {
        let element = self.inliner.instantiate(element, &Env::from([(axis, k)]));
        let element = self.place(&element)?;
        let sum = self.element(acc, lane.clone()).binary(op, element);
        self.store_element(acc, lane, sum);
        Ok(())
    }
}
