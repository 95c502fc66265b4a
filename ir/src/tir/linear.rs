//! Index expressions as sums of atoms times constants.

use super::interval::{Bounds, Interval};
use super::ir::{Expr, ExprKind, VarId};
use crate::scalar::{BinaryOp, UnaryOp};
use crate::types::DType;

/// Nodes that [`Linear::of`] opens before it takes the rest as atoms: sharing could make
/// the sum exponentially longer than the expression.
const MAX_OPENED: usize = 1024;

/// `constant + sum of coefficient * atom`; atoms differ from each other and are no sums
/// themselves, coefficients are not 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linear {
    /// Atoms in order of appearance, with their coefficients.
    pub terms: Vec<(Expr, i64)>,
    /// What is added.
    pub constant: i64,
}

impl Linear {
    /// The expression (of dtype `int64`) as a sum.
    pub fn of(root: &Expr) -> Linear {
        Linear::checked(root).unwrap_or_else(|| Linear { terms: vec![(root.clone(), 1)], constant: 0 })
    }

    /// The sum, or nothing if a coefficient overflows.
    fn checked(root: &Expr) -> Option<Linear> {
        let mut sum = Linear::default();
        let mut stack = vec![(root, 1i64)];
        let mut opened = 0;
        while let Some((e, k)) = stack.pop() {
            opened += 1;
            match e.kind() {
                ExprKind::Const(c) => sum.constant = sum.constant.checked_add(k.checked_mul(c.as_i64())?)?,
                _ if opened > MAX_OPENED => sum.push(e, k)?,
                ExprKind::Binary(BinaryOp::Add, a, b) => stack.extend([(b, k), (a, k)]),
                ExprKind::Binary(BinaryOp::Sub, a, b) => stack.extend([(b, k.checked_neg()?), (a, k)]),
                ExprKind::Binary(BinaryOp::Mul, a, b) => match (a.as_int(), b.as_int()) {
                    (Some(c), _) => stack.push((b, k.checked_mul(c)?)),
                    (_, Some(c)) => stack.push((a, k.checked_mul(c)?)),
                    _ => sum.push(e, k)?,
                },
                ExprKind::Unary(UnaryOp::Neg, a) => stack.push((a, k.checked_neg()?)),
                _ => sum.push(e, k)?,
            }
        }
        Some(sum)
    }

    /// Adds `k * atom`.
    fn push(&mut self, atom: &Expr, k: i64) -> Option<()> {
        match self.terms.iter().position(|(a, _)| a == atom) {
            Some(i) => {
                self.terms[i].1 = self.terms[i].1.checked_add(k)?;
                if self.terms[i].1 == 0 {
                    self.terms.remove(i);
                }
            }
            None if k == 0 => {}
            None => self.terms.push((atom.clone(), k)),
        }
        Some(())
    }

    /// `self + factor * other`, or nothing on overflow.
    pub fn plus(&self, other: &Linear, factor: i64) -> Option<Linear> {
        let mut sum = self.clone();
        for (atom, k) in &other.terms {
            sum.push(atom, k.checked_mul(factor)?)?;
        }
        sum.constant = sum.constant.checked_add(other.constant.checked_mul(factor)?)?;
        Some(sum)
    }

    /// The value, if there are no atoms.
    pub fn as_const(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The coefficient of a variable; 0 if it is no atom.
    pub fn coefficient(&self, var: VarId) -> i64 {
        let of = |(atom, k): &(Expr, i64)| matches!(atom.kind(), ExprKind::Var(v) if *v == var).then_some(*k);
        self.terms.iter().find_map(of).unwrap_or(0)
    }

    /// An interval that has every value.
    pub fn interval(&self, bounds: &Bounds) -> Interval {
        let terms = self.terms.iter().map(|(atom, k)| bounds.of(atom) * Interval::point(*k));
        terms.fold(Interval::point(self.constant), |sum, term| sum + term)
    }

    /// The terms that satisfy a condition (with the constant 0), and the rest with the constant.
    pub fn partition(&self, mut pick: impl FnMut(&Expr, i64) -> bool) -> (Linear, Linear) {
        let (picked, rest) = self.terms.iter().cloned().partition(|(atom, k)| pick(atom, *k));
        (Linear { terms: picked, constant: 0 }, Linear { terms: rest, constant: self.constant })
    }

    /// `self = divisor * quotient + remainder`, with every coefficient that allows it in the
    /// quotient and the remainder's constant in `0..divisor`.
    pub fn split(&self, divisor: i64) -> (Linear, Linear) {
        let (mut quotient, mut rest) = self.partition(|_, k| k % divisor == 0);
        quotient.terms.iter_mut().for_each(|(_, k)| *k /= divisor);
        quotient.constant = self.constant.div_euclid(divisor);
        rest.constant = self.constant.rem_euclid(divisor);
        (quotient, rest)
    }

    /// The sum as an expression: positive terms first, in order of appearance.
    pub fn to_expr(&self) -> Expr {
        let scaled = |atom: &Expr, k: i64| if k == 1 { atom.clone() } else { atom.clone() * k };
        let (positive, negative) = self.partition(|_, k| k > 0);
        let mut sum: Option<Expr> = None;
        for (atom, k) in &positive.terms {
            let term = scaled(atom, *k);
            sum = Some(sum.map_or(term.clone(), |s| s + term));
        }
        let mut constant = self.constant;
        if sum.is_none() && (constant != 0 || negative.terms.is_empty()) {
            sum = Some(Expr::int(constant));
            constant = 0;
        }
        for (atom, k) in &negative.terms {
            sum = Some(match sum {
                Some(s) if *k != i64::MIN => s - scaled(atom, -k),
                Some(s) => s + scaled(atom, *k),
                None => scaled(atom, *k),
            });
        }
        let sum = sum.unwrap_or_else(|| Expr::int(0));
        match constant {
            0 => sum,
            c if c < 0 && c != i64::MIN => sum - (-c),
            c => sum + c,
        }
    }
}

/// `a - b` as a sum; both of dtype `int64`.
pub fn difference(a: &Expr, b: &Expr) -> Option<Linear> {
    debug_assert!(a.dtype() == DType::I64 && b.dtype() == DType::I64);
    Linear::of(a).plus(&Linear::of(b), -1)
}
