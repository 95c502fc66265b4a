//! The lines of a tensor along an axis, and loops over them.

use crate::te;
use crate::tir::{BufferId, Expr, ExprKind, LoopKind, Stmt, VarId};
use crate::types::DType;

/// A shape seen as lines along an axis.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// Number of elements of a line.
    pub(super) len: usize,
    outer: usize,
    inner: usize,
}

impl Lines {
    /// The lines of a shape along an axis.
    pub(super) fn new(shape: &[usize], axis: usize) -> Lines {
        let product = |dims: &[usize]| dims.iter().product();
        Lines { len: shape[axis], outer: product(&shape[..axis]), inner: product(&shape[axis + 1..]) }
    }

    /// Calls `f` with each line.
    pub(super) fn for_each(self, mut f: impl FnMut(Line)) {
        for outer in 0..self.outer {
            for inner in 0..self.inner {
                f(Line { outer, inner });
            }
        }
    }

    /// Where element `k` of a line is.
    pub(super) fn at(self, line: Line, k: usize) -> usize {
        (line.outer * self.len + k) * self.inner + line.inner
    }
}

/// A line, by its place before and after the axis.
#[derive(Clone, Copy)]
pub(super) struct Line {
    outer: usize,
    inner: usize,
}

/// A statement over the lines of tensors, under construction: loop variables for the other
/// dimensions.
pub(super) struct LineLoops {
    vars: Vec<(VarId, usize)>,
    axis: usize,
}

impl LineLoops {
    /// Loops over all dimensions of a shape but one.
    pub(super) fn new(graph: &mut te::Graph, shape: &[usize], axis: usize) -> LineLoops {
        let others = (0..shape.len()).filter(|&d| d != axis);
        let vars = others.map(|d| (graph.var(&format!("i{d}"), DType::I64), shape[d])).collect();
        LineLoops { vars, axis }
    }

    /// The indices of an element of the current line.
    pub(super) fn at(&self, place: Expr) -> Vec<Expr> {
        let mut indices = self.others();
        indices.insert(self.axis, place);
        indices
    }

    /// The indices of the current line in the other dimensions.
    pub(super) fn others(&self) -> Vec<Expr> {
        self.vars.iter().map(|&(var, _)| var_expr(var)).collect()
    }

    /// The statement for every line; lines are independent.
    pub(super) fn around(&self, body: Stmt) -> Stmt {
        self.vars.iter().enumerate().rev().fold(body, |body, (d, &(var, extent))| {
            let kind = if d == 0 { LoopKind::Parallel } else { LoopKind::Serial };
            Stmt::For { var, extent: extent.into(), kind, body: Box::new(body) }
        })
    }
}

/// A variable of dtype `int64` as an expression.
pub(super) fn var_expr(var: VarId) -> Expr {
    Expr::new(ExprKind::Var(var), DType::I64)
}

/// A serial loop.
pub(super) fn serial(var: VarId, extent: impl Into<Expr>, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var, extent: extent.into(), kind: LoopKind::Serial, body: Box::new(Stmt::Seq(body)) }
}

/// `tensor[indices] = value`.
pub(super) fn store(buffer: BufferId, indices: Vec<Expr>, value: Expr) -> Stmt {
    Stmt::Store { buffer, indices, value }
}

/// A place limited to `0..len`, which it is within anyway wherever its element matters.
pub(super) fn within(place: Expr, len: usize) -> Expr {
    place.max(0i64).min(len as i64 - 1)
}
