//! Norms as Tensor Expressions: sum, mean, sum of squares, deviation, and the result.

use super::rows::{Norm, Over};
use crate::op::OpError;
use crate::op::stages::{sum, widen};
use crate::op::util::{accumulator, normalize_axis};
use crate::scalar::UnaryOp;
use crate::te::{Graph, Tensor};
use crate::tir::Expr;
use crate::types::TensorType;

/// How rows of elements that share statistics lie in the data.
struct Rows {
    over: Over,
    /// The axis of channels.
    axis: usize,
    /// Channels of a row; 1 needs no reduce axis.
    channels: usize,
    /// Sizes of the data.
    shape: Vec<usize>,
}

impl Rows {
    /// Sizes of the statistics.
    fn outer(&self) -> Vec<usize> {
        match self.over {
            Over::Line => {
                self.shape.iter().enumerate().filter(|&(d, _)| d != self.axis).map(|(_, &n)| n).collect()
            }
            Over::Groups(_) | Over::Channel => {
                vec![self.shape[0], self.shape[self.axis] / self.channels.max(1)]
            }
        }
    }

    /// The statistics' index of an element.
    fn row(&self, i: &[Expr]) -> Vec<Expr> {
        match self.over {
            Over::Line => {
                let mut row = i.to_vec();
                row.remove(self.axis);
                row
            }
            Over::Groups(_) | Over::Channel => {
                vec![i[0].clone(), i[self.axis].clone().floor_div(self.channels.max(1))]
            }
        }
    }

    /// Extents of the reduction over a row.
    fn extents(&self) -> Vec<usize> {
        let others =
            self.shape.iter().enumerate().filter(|&(d, _)| d != 0 && d != self.axis).map(|(_, &n)| n);
        match self.over {
            Over::Line => vec![self.shape[self.axis]],
            Over::Groups(_) | Over::Channel => {
                (self.channels != 1).then_some(self.channels).into_iter().chain(others).collect()
            }
        }
    }

    /// The indices of an element of a row.
    fn element(&self, row: &[Expr], k: &[Expr]) -> Vec<Expr> {
        let mut at = row.to_vec();
        if self.over == Over::Line {
            at.insert(self.axis, k[0].clone());
            return at;
        }
        let mut k = k.iter().cloned();
        let channel = match self.channels {
            1 => row[1].clone(),
            n => &row[1] * n + k.next().expect("the channels' axis comes first"),
        };
        let own = |d: usize| match d {
            0 => row[0].clone(),
            _ if d == self.axis => channel.clone(),
            _ => k.next().expect("one axis a dimension"),
        };
        (0..self.shape.len()).map(own).collect()
    }
}

/// Adds the stages of a norm.
pub(super) fn lower(
    g: &mut Graph,
    args: &[Tensor],
    norm: &Norm,
    out: &TensorType,
) -> Result<Tensor, OpError> {
    let x = &args[0];
    let axis = normalize_axis(norm.axis, x.rank())?;
    let groups = norm.groups(x.shape[axis])?.max(1);
    let rows = Rows { over: norm.over, axis, channels: x.shape[axis] / groups, shape: x.shape.clone() };
    let outer = TensorType::of(&rows.outer(), accumulator(x.dtype));
    let extents = rows.extents();
    let n = Expr::float(extents.iter().product::<usize>() as f64, outer.dtype);
    let stage = |part: &str| format!("{}_{part}", norm.name);
    let mean = norm.centered.then(|| {
        let name = stage("sum");
        let total = sum(g, &name, &name, &outer, &extents, |i, k| x.at(&rows.element(i, k)));
        g.compute(&stage("mean"), "elemwise", &outer, |i| total.at(i) / n.clone())
    });
    let centered = |i: &[Expr], row: &[Expr]| {
        let v = widen(x.at(i));
        mean.as_ref().map_or(v.clone(), |mean| v - mean.at(row))
    };
    let name = stage("sqsum");
    let squares = sum(g, &name, &name, &outer, &extents, |i, k| {
        let v = centered(&rows.element(i, k), i);
        v.clone() * v
    });
    let deviation = g.compute(&stage("deviation"), "elemwise", &outer, |i| {
        (squares.at(i) / n + Expr::float(norm.epsilon, outer.dtype)).unary(UnaryOp::Sqrt)
    });
    Ok(g.compute(norm.name, norm.name, out, |i| {
        let row = rows.row(i);
        let vector = |t: &Tensor| widen(t.at(std::slice::from_ref(&i[axis])));
        let mut y = centered(i, &row) / deviation.at(&row);
        if norm.gamma {
            y = y * vector(&args[1]);
        }
        if norm.beta {
            y = y + vector(&args[2]);
        }
        y.cast(x.dtype)
    }))
}
