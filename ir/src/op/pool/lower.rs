//! Poolings as Tensor Expressions: a pad stage, a reduction, and a division for means.

use super::attrs::{Area, Pool, Reduction};
use super::span::Span;
use crate::op::OpError;
use crate::op::stages;
use crate::op::util::accumulator;
use crate::scalar::BinaryOp;
use crate::te::{Graph, Tensor};
use crate::tir::Expr;
use crate::types::{DType, TensorType};

/// One axis of a pooling with its size known.
struct AxisPlan {
    area: Area,
    input: usize,
    spans: Vec<Span>,
    /// Extent of the reduce axis: the most taps that an area has, padding included.
    extent: usize,
}

impl AxisPlan {
    fn new(area: Area, input: usize, count: usize) -> AxisPlan {
        let spans = area.spans(input, count);
        let extent = match area {
            Area::Window(w, _) => w.kernel,
            Area::Shares(_) | Area::Keep => spans.iter().map(|s| s.taps).max().unwrap_or(1),
        };
        AxisPlan { area, input, spans, extent }
    }

    /// Padding that lets every window read inside.
    fn pads(&self) -> (usize, usize) {
        match self.area {
            Area::Window(w, _) => {
                let reach = self.spans.len().saturating_sub(1) * w.stride + w.extent();
                (w.before, reach.saturating_sub(self.input + w.before))
            }
            Area::Shares(_) | Area::Keep => (0, 0),
        }
    }

    /// Where tap `k` of area `i` lies in the padded data, and the condition under which it is one.
    fn tap(&self, i: &Expr, k: &Expr) -> (Expr, Option<Expr>) {
        let count = self.spans.len().max(1);
        match self.area {
            Area::Window(w, _) => (i * w.stride + k * w.dilation, None),
            Area::Keep => (i.clone(), None),
            Area::Shares(_) if self.input.is_multiple_of(count) => (i * (self.input / count) + k, None),
            Area::Shares(_) => {
                let first = (i * self.input).floor_div(count);
                let end = ((i + 1i64) * self.input + (count - 1)).floor_div(count);
                let inside = (first.clone() + k).lt(end);
                (first + k, Some(inside))
            }
        }
    }

    /// The number of elements that area `i` counts.
    fn elements(&self, i: &Expr, include_pad: bool) -> Expr {
        let number = |s: &Span| if include_pad { s.padded } else { s.taps };
        if let Some(first) = self.spans.first().map(number)
            && self.spans.iter().all(|s| number(s) == first)
        {
            return first.into();
        }
        match self.area {
            Area::Window(w, _) => {
                let ceil = |e: Expr| (e + (w.dilation - 1)).floor_div(w.dilation);
                let low = if include_pad { 0 } else { w.before };
                let high = self.input + w.before + if include_pad { w.after } else { 0 };
                let start = i * w.stride;
                let first = ceil(Expr::from(low) - start.clone()).max(0i64);
                let end = ceil(Expr::from(high) - start).min(w.kernel);
                end - first
            }
            Area::Shares(_) | Area::Keep => {
                let count = self.spans.len();
                // Without outputs there is nothing to divide; the expression is never evaluated.
                let count = count.max(1);
                let first = (i * self.input).floor_div(count);
                ((i + 1i64) * self.input + (count - 1)).floor_div(count) - first
            }
        }
    }
}

/// Adds the stages of a pooling.
pub(super) fn lower(g: &mut Graph, x: &Tensor, pool: &Pool, out: &TensorType) -> Result<Tensor, OpError> {
    let (order, result) = (pool.order()?, pool.out_order()?);
    let shape = out.static_shape().ok_or_else(|| OpError::new("the result's shape is not known"))?;
    let (input, count) = (order.canonical(&x.shape), result.canonical(&shape));
    let plans: Vec<AxisPlan> =
        (0..pool.axes).map(|d| AxisPlan::new(pool.areas[d], input[2 + d], count[2 + d])).collect();
    let mut pads = vec![(0, 0); 2];
    pads.extend(plans.iter().map(AxisPlan::pads));
    let (op, start, name) = match pool.reduction {
        Reduction::Max => (BinaryOp::Max, stages::lowest(x.dtype), "pool_max"),
        Reduction::Avg { .. } => (BinaryOp::Add, stages::zero(accumulator(x.dtype)), "pool_sum"),
    };
    let acc = start.dtype();
    let padding = if acc == x.dtype { start.clone() } else { stages::zero(x.dtype) };
    let x = stages::pad(g, x, &order.arrange(&pads), padding);
    let extents: Vec<usize> = plans.iter().map(|p| p.extent).collect();
    let wide = TensorType::new(out.shape.clone(), acc);
    let reduced = g.reduce(name, name, &wide, &extents, op, start.clone(), |i, k| {
        let i = result.canonical(i);
        let mut at = vec![i[0].clone(), i[1].clone()];
        let mut inside: Option<Expr> = None;
        for ((plan, i), k) in plans.iter().zip(&i[2..]).zip(k) {
            let (tap, condition) = plan.tap(i, k);
            at.push(tap);
            inside = match (inside, condition) {
                (Some(a), Some(b)) => Some(a.and(b)),
                (a, b) => a.or(b),
            };
        }
        let element = x.at(&order.arrange(&at)).cast(acc);
        inside.map_or(element.clone(), |inside| inside.select(element, start))
    });
    Ok(match pool.reduction {
        Reduction::Max => reduced,
        Reduction::Avg { include_pad } => g.compute("pool_avg", "elemwise", out, |i| {
            let own = result.canonical(i);
            let number = plans.iter().zip(&own[2..]).map(|(p, i)| p.elements(i, include_pad));
            let number = number.reduce(|a, b| a * b).map_or(Expr::from(1usize), |n| n.max(1i64));
            mean(reduced.at(i), number).cast(out.dtype)
        }),
    })
}

/// The sum over a number of elements.
fn mean(sum: Expr, number: Expr) -> Expr {
    let dtype = sum.dtype();
    if dtype.is_float() {
        return sum / number.cast(dtype);
    }
    // The number may not fit a narrow integer dtype.
    let wide = if dtype == DType::U64 { DType::U64 } else { DType::I64 };
    (sum.cast(wide) / number.cast(wide)).cast(dtype)
}
