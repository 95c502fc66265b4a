//! Digits of a tile's number: where in a grid the tile lies.

use crate::scalar::BinaryOp;
use crate::tir::{Expr, ExprKind, VarId};

/// `(tile / stride) % extent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    stride: i64,
    extent: i64,
}

impl Digit {
    /// The digit that an expression is of the number of a tile, which is below `tiles`.
    pub fn of(root: &Expr, tile: VarId, tiles: i64) -> Option<Digit> {
        let mut steps = Vec::new();
        let mut at = root;
        loop {
            match at.kind() {
                ExprKind::Var(v) if *v == tile => break,
                ExprKind::Binary(op @ (BinaryOp::FloorDiv | BinaryOp::FloorMod), a, b) => {
                    steps.push((*op, b.as_int().filter(|n| *n > 0)?));
                    at = a;
                }
                _ => return None,
            }
        }
        let mut digit = Digit { stride: 1, extent: tiles };
        for (op, n) in steps.into_iter().rev() {
            digit = match op {
                BinaryOp::FloorDiv => digit.upper(n, tiles)?,
                _ => digit.lower(n, tiles)?,
            };
        }
        Some(digit)
    }

    /// True if it cuts nothing off.
    fn is_whole(self, tiles: i64) -> bool {
        self.stride.checked_mul(self.extent).is_none_or(|end| end >= tiles)
    }

    /// The digit over `n`.
    fn upper(self, n: i64, tiles: i64) -> Option<Digit> {
        let even = self.is_whole(tiles) || self.extent % n == 0;
        let stride = self.stride.checked_mul(n).filter(|_| even)?;
        Some(Digit { stride, extent: self.extent / n + i64::from(self.extent % n != 0) })
    }

    /// The digit modulo `n`.
    fn lower(self, n: i64, tiles: i64) -> Option<Digit> {
        if self.extent <= n {
            return Some(self);
        }
        let even = self.is_whole(tiles) || self.extent % n == 0;
        even.then_some(Digit { extent: n, ..self })
    }
}

/// True if no two numbers below `tiles` have all of these digits in common.
pub fn tell_apart(mut digits: Vec<Digit>, tiles: i64) -> bool {
    digits.sort_by_key(|d| (d.stride, std::cmp::Reverse(d.extent)));
    // Numbers with the digits so far in common differ by a multiple of this.
    let mut step = 1i64;
    for digit in digits {
        if digit.stride == step {
            step = step.saturating_mul(digit.extent);
        }
    }
    step >= tiles
}
