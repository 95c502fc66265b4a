//! What an index outside a dimension means.

use crate::op::OpError;
use crate::tir::Expr;

/// How an index is brought within a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Clamped: what is negative is 0, what is too large is the last one.
    Clip,
    /// Taken modulo the size.
    Wrap,
    /// Negative ones count from the end, then clamped: ONNX's indices.
    FromEnd,
}

impl Bounds {
    /// The mode of `take` with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_name(name: &str) -> Result<Bounds, OpError> {
        match name {
            "clip" => Ok(Bounds::Clip),
            "wrap" => Ok(Bounds::Wrap),
            "fast" => Ok(Bounds::FromEnd),
            other => Err(OpError::new(format!("mode is \"clip\", \"wrap\" or \"fast\", not \"{other}\""))),
        }
    }

    /// The place of index `i` in a dimension of size `n`, which is at least 1.
    pub fn place(self, i: i64, n: usize) -> usize {
        let n = n as i64;
        let at = match self {
            Bounds::Clip => i.clamp(0, n - 1),
            Bounds::Wrap => i.rem_euclid(n),
            Bounds::FromEnd => (if i < 0 { i.saturating_add(n) } else { i }).clamp(0, n - 1),
        };
        at as usize
    }

    /// As [`Bounds::place`], of an `int64` expression.
    pub fn place_expr(self, i: Expr, n: usize) -> Expr {
        match self {
            Bounds::Clip => i.max(0i64).min(n as i64 - 1),
            Bounds::Wrap => i.floor_mod(n),
            Bounds::FromEnd => from_end(i, n).max(0i64).min(n as i64 - 1),
        }
    }
}

/// An index with negative ones counted from the end of a dimension of size `n`.
pub(super) fn from_end(i: Expr, n: usize) -> Expr {
    i.clone().lt(0i64).select(i.clone() + n, i)
}

/// The place that a write to index `i` of a dimension of size `n` goes to, if there is one.
pub(super) fn write_place(i: i64, n: usize) -> Option<usize> {
    let at = if i < 0 { i.saturating_add(n as i64) } else { i };
    usize::try_from(at).ok().filter(|&at| at < n)
}
