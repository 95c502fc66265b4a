//! Intervals of `int64` values, and what is known of variables.

use std::collections::BTreeMap;
use std::ops;

use super::ir::{Expr, ExprKind, VarId};
use super::visit::{NodeMap, node_map, post_order};
use crate::scalar::{BinaryOp, UnaryOp};
use crate::types::DType;

/// The integers from `lo` to `hi`, both included; the extreme values of `i64` mean unbounded.
/// An interval with `lo > hi` is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The smallest.
    pub lo: i64,
    /// The largest.
    pub hi: i64,
}

impl Interval {
    /// Every integer.
    pub const ALL: Interval = Interval { lo: i64::MIN, hi: i64::MAX };

    /// From `lo` to `hi`, both included.
    pub const fn new(lo: i64, hi: i64) -> Interval {
        Interval { lo, hi }
    }

    /// One integer.
    pub const fn point(value: i64) -> Interval {
        Interval { lo: value, hi: value }
    }

    /// The values of a loop variable: `0..extent`.
    pub const fn below(extent: i64) -> Interval {
        Interval { lo: 0, hi: extent - 1 }
    }

    /// The values of an integer or bool dtype.
    pub fn of_dtype(dtype: DType) -> Interval {
        let bits = dtype.bits() as u32;
        match dtype {
            DType::Bool => Interval::new(0, 1),
            d if d.is_signed_int() && bits < 64 => Interval::new(-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            d if d.is_unsigned_int() && bits < 64 => Interval::new(0, (1 << bits) - 1),
            _ => Interval::ALL,
        }
    }

    /// True if there is no value in it.
    pub const fn is_empty(self) -> bool {
        self.lo > self.hi
    }

    /// True if both ends are known.
    pub const fn is_bounded(self) -> bool {
        self.lo != i64::MIN && self.hi != i64::MAX
    }

    /// True if every value of this lies in `other`.
    pub const fn within(self, other: Interval) -> bool {
        self.is_empty() || (other.lo <= self.lo && self.hi <= other.hi)
    }

    /// The smallest interval that has both.
    pub fn hull(self, other: Interval) -> Interval {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Interval::new(self.lo.min(other.lo), self.hi.max(other.hi)),
        }
    }

    /// What both have.
    pub fn intersect(self, other: Interval) -> Interval {
        Interval::new(self.lo.max(other.lo), self.hi.min(other.hi))
    }

    /// All quotients rounded down, by a positive constant.
    pub fn floor_div(self, divisor: i64) -> Interval {
        let end = |v: i64| if v == i64::MIN || v == i64::MAX { v } else { v.div_euclid(divisor) };
        Interval::new(end(self.lo), end(self.hi))
    }

    /// All remainders of the floor division by a positive constant.
    pub fn floor_mod(self, divisor: i64) -> Interval {
        let same_quotient = self.is_bounded() && self.lo.div_euclid(divisor) == self.hi.div_euclid(divisor);
        if same_quotient {
            Interval::new(self.lo.rem_euclid(divisor), self.hi.rem_euclid(divisor))
        } else {
            Interval::new(0, divisor - 1)
        }
    }
}

impl ops::Add for Interval {
    type Output = Interval;

    /// All sums.
    fn add(self, other: Interval) -> Interval {
        let unbounded =
            (self.lo == i64::MIN || other.lo == i64::MIN, self.hi == i64::MAX || other.hi == i64::MAX);
        Interval::new(
            if unbounded.0 { i64::MIN } else { self.lo.saturating_add(other.lo) },
            if unbounded.1 { i64::MAX } else { self.hi.saturating_add(other.hi) },
        )
    }
}

impl ops::Neg for Interval {
    type Output = Interval;

    /// All negatives.
    fn neg(self) -> Interval {
        let flip = |v: i64| match v {
            i64::MIN => i64::MAX,
            i64::MAX => i64::MIN,
            v => -v,
        };
        Interval::new(flip(self.hi), flip(self.lo))
    }
}

impl ops::Mul for Interval {
    type Output = Interval;

    /// All products.
    fn mul(self, other: Interval) -> Interval {
        if self == Interval::point(0) || other == Interval::point(0) {
            return Interval::point(0);
        }
        let ends = [(self.lo, other.lo), (self.lo, other.hi), (self.hi, other.lo), (self.hi, other.hi)];
        let point = |(a, b): (i64, i64)| Interval::point(product(a, b));
        ends.into_iter().map(point).fold(Interval::new(1, 0), Interval::hull)
    }
}

/// The product of two ends: unbounded if one of them is.
fn product(a: i64, b: i64) -> i64 {
    let unbounded = |v: i64| v == i64::MIN || v == i64::MAX;
    match (a, b) {
        (0, _) | (_, 0) => 0,
        _ if unbounded(a) || unbounded(b) => {
            if (a < 0) == (b < 0) {
                i64::MAX
            } else {
                i64::MIN
            }
        }
        _ => a.saturating_mul(b),
    }
}

/// What is known of variables.
#[derive(Clone, Debug, Default)]
pub struct Bounds(BTreeMap<VarId, Interval>);

impl Bounds {
    /// Nothing is known.
    pub fn new() -> Bounds {
        Bounds::default()
    }

    /// Says that a variable lies in an interval; replaces what was said before.
    pub fn set(&mut self, var: VarId, interval: Interval) {
        self.0.insert(var, interval);
    }

    /// Forgets a variable.
    pub fn forget(&mut self, var: VarId) {
        self.0.remove(&var);
    }

    /// What is known of a variable.
    pub fn get(&self, var: VarId) -> Interval {
        self.0.get(&var).copied().unwrap_or(Interval::ALL)
    }

    /// True if something was said of it.
    pub fn knows(&self, var: VarId) -> bool {
        self.0.contains_key(&var)
    }

    /// An interval that has every value of an integer or bool expression, if index
    /// arithmetic does not overflow. Floats are unbounded.
    pub fn of(&self, root: &Expr) -> Interval {
        if root.kind().children().is_empty() {
            return self.of_node(root, &|_| Interval::ALL).intersect(Interval::of_dtype(root.dtype()));
        }
        let order = post_order([root]);
        let mut known: NodeMap<Interval> = node_map(order.len());
        for e in order {
            let at = |c: &Expr| known[&c.key()];
            let interval = self.of_node(e, &at).intersect(Interval::of_dtype(e.dtype()));
            known.insert(e.key(), interval);
        }
        known[&root.key()]
    }

    /// The interval of one node from those of its operands.
    fn of_node(&self, e: &Expr, at: &dyn Fn(&Expr) -> Interval) -> Interval {
        if e.dtype().is_float() {
            return Interval::ALL;
        }
        match e.kind() {
            ExprKind::Const(s) => Interval::point(s.as_i64()),
            ExprKind::Var(v) => self.get(*v),
            ExprKind::Cast(a) => of_cast(at(a), a.dtype(), e.dtype()),
            ExprKind::Unary(UnaryOp::Neg, a) if e.dtype() == DType::I64 => -at(a),
            ExprKind::Binary(op, a, b) if e.dtype() == DType::I64 => of_binary(*op, at(a), at(b)),
            ExprKind::Select(_, a, b) => at(a).hull(at(b)),
            ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Reinterpret(_)
            | ExprKind::Cmp(..)
            | ExprKind::Fma(..)
            | ExprKind::Load(..) => Interval::ALL,
        }
    }
}

/// Conversions keep values that fit; others wrap.
fn of_cast(a: Interval, from: DType, to: DType) -> Interval {
    if from.is_float() || from == DType::U64 || to == DType::Bool {
        return Interval::ALL;
    }
    if a.within(Interval::of_dtype(to)) && to != DType::U64 { a } else { Interval::ALL }
}

fn of_binary(op: BinaryOp, a: Interval, b: Interval) -> Interval {
    let divisor = (b.lo == b.hi && b.lo > 0).then_some(b.lo);
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a + -b,
        BinaryOp::Mul => a * b,
        BinaryOp::Min => Interval::new(a.lo.min(b.lo), a.hi.min(b.hi)),
        BinaryOp::Max => Interval::new(a.lo.max(b.lo), a.hi.max(b.hi)),
        BinaryOp::FloorDiv => divisor.map_or(Interval::ALL, |d| a.floor_div(d)),
        BinaryOp::Div if a.lo >= 0 => divisor.map_or(Interval::ALL, |d| a.floor_div(d)),
        BinaryOp::FloorMod => divisor.map_or(Interval::ALL, |d| a.floor_mod(d)),
        BinaryOp::Mod if a.lo >= 0 => divisor.map_or(Interval::ALL, |d| a.floor_mod(d)),
        BinaryOp::Div
        | BinaryOp::Mod
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => Interval::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cranelift_entity::EntityRef;

    fn var(i: usize) -> Expr {
        Expr::new(ExprKind::Var(VarId::new(i)), DType::I64)
    }

    #[test]
    fn arithmetic() {
        let mut bounds = Bounds::new();
        bounds.set(VarId::new(0), Interval::below(8));
        bounds.set(VarId::new(1), Interval::new(-3, 4));
        let of = |e: Expr| {
            let i = bounds.of(&e);
            (i.lo, i.hi)
        };
        assert_eq!(of(var(0) * 4 + 3), (3, 31));
        assert_eq!(of(var(0) - var(1)), (-4, 10));
        assert_eq!(of(var(0) * var(1)), (-21, 28));
        assert_eq!(of(var(1).floor_div(2)), (-2, 2));
        assert_eq!(of(var(1).floor_mod(16)), (0, 15));
        assert_eq!(of((var(0) + 16).floor_mod(16)), (0, 7));
        assert_eq!(of(var(0).min(3).max(var(1))), (0, 4));
        assert_eq!(of(var(2) + 1), (i64::MIN, i64::MAX));
        assert_eq!(of(var(2).max(0).min(5)), (0, 5));
    }
}
