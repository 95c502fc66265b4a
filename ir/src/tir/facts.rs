//! What is known at a place in a function: values of variables, their bounds, conditions.

use std::collections::BTreeMap;

use super::interval::{Bounds, Interval};
use super::ir::{Expr, ExprKind, VarId};
use super::linear::{Linear, difference};
use super::simplify::simplify;
use super::visit::{has_load, substitute};
use crate::scalar::{BinaryOp, CmpOp, UnaryOp};
use crate::types::DType;

/// What is known of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Within bounds for every value of the variables.
    Inside,
    /// Outside for every value of the variables, where there is one.
    Outside,
    /// Analysis cannot tell.
    Unknown,
}

/// What is known at a place.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    bounds: Bounds,
    /// Block and let variables in terms of loop variables.
    values: BTreeMap<VarId, Expr>,
    /// Sums that are at least 0.
    known: Vec<Linear>,
}

impl Facts {
    /// Binds a loop variable to `0..extent`.
    pub fn bind_loop(&mut self, var: VarId, extent: &Expr) {
        let extent = self.expand(extent);
        let last = self.bounds.of(&extent).hi.saturating_sub(1);
        self.bounds.set(var, Interval::new(0, last));
        if extent.as_int().is_none() {
            let sum = difference(&extent, &(variable(var) + 1));
            self.known.extend(sum);
        }
    }

    /// Binds a variable to a value. What is read from memory stays unknown.
    pub fn bind_value(&mut self, var: VarId, value: &Expr) {
        let value = self.expand(value);
        self.bounds.set(var, self.bounds.of(&value));
        if !has_load(&value) {
            self.values.insert(var, value);
        }
    }

    /// Binds a variable of which only the bounds are known.
    pub fn bind_bounds(&mut self, var: VarId, interval: Interval) {
        self.bounds.set(var, interval);
    }

    /// The bounds of variables.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The expression in terms of loop variables, simplified.
    pub fn expand(&self, e: &Expr) -> Expr {
        let expanded = substitute(e, &|v| self.values.get(&v).cloned());
        simplify(&expanded, &self.bounds)
    }

    /// Takes a condition (or its negation) as true from here on.
    pub fn assume(&mut self, cond: &Expr, holds: bool) {
        let mut stack = vec![(cond.clone(), holds)];
        while let Some((cond, holds)) = stack.pop() {
            match cond.kind() {
                ExprKind::Unary(UnaryOp::Not, inner) => stack.push((inner.clone(), !holds)),
                ExprKind::Binary(BinaryOp::And, a, b) if holds => {
                    stack.extend([(a.clone(), true), (b.clone(), true)])
                }
                ExprKind::Binary(BinaryOp::Or, a, b) if !holds => {
                    stack.extend([(a.clone(), false), (b.clone(), false)]);
                }
                ExprKind::Cmp(op, a, b) if a.dtype() == DType::I64 => self.compare(*op, a, b, holds),
                _ => {}
            }
        }
    }

    fn compare(&mut self, op: CmpOp, a: &Expr, b: &Expr, holds: bool) {
        let (a, b) = (self.expand(a), self.expand(b));
        let op = if holds { op } else { negated(op) };
        let mut at_least = |x: &Expr, y: &Expr, margin: i64| {
            let margin = Linear { terms: Vec::new(), constant: -margin };
            if let Some(sum) = difference(x, y).and_then(|d| d.plus(&margin, 1)) {
                self.learn(sum);
            }
        };
        match op {
            CmpOp::Lt => at_least(&b, &a, 1),
            CmpOp::Le => at_least(&b, &a, 0),
            CmpOp::Gt => at_least(&a, &b, 1),
            CmpOp::Ge => at_least(&a, &b, 0),
            CmpOp::Eq => {
                at_least(&a, &b, 0);
                at_least(&b, &a, 0);
            }
            CmpOp::Ne => {}
        }
    }

    /// Takes a sum as at least 0; one of a single variable narrows its bounds.
    fn learn(&mut self, sum: Linear) {
        if let [(atom, k)] = sum.terms.as_slice()
            && let ExprKind::Var(v) = atom.kind()
        {
            let old = self.bounds.get(*v);
            // k * v + c >= 0.
            let new = match *k {
                k if k > 0 => old.intersect(Interval::new((-sum.constant + k - 1).div_euclid(k), i64::MAX)),
                k => old.intersect(Interval::new(i64::MIN, sum.constant.div_euclid(-k))),
            };
            self.bounds.set(*v, new);
        }
        self.known.push(sum);
    }

    /// True if the sum is at least 0 for all values of the variables.
    pub fn proves_nonnegative(&self, sum: &Linear) -> bool {
        let clear = |sum: &Linear| sum.interval(&self.bounds).lo >= 0;
        clear(sum) || self.known.iter().filter_map(|fact| sum.plus(fact, -1)).any(|rest| clear(&rest))
    }

    /// Where `min .. min + extent` lies relative to `0..n`; both expanded.
    pub fn place(&self, min: &Expr, extent: &Expr, n: usize) -> Place {
        let n = Expr::from(n);
        let end = min + extent.clone();
        let before = difference(min, &Expr::int(0));
        let after = difference(&n, &end);
        let (Some(before), Some(after)) = (before, after) else { return Place::Unknown };
        if self.proves_nonnegative(&before) && self.proves_nonnegative(&after) {
            return Place::Inside;
        }
        let (low, high) = (before.interval(&self.bounds), after.interval(&self.bounds));
        let outside = (low.hi < 0 && !low.is_empty()) || (high.hi < 0 && !high.is_empty());
        if outside { Place::Outside } else { Place::Unknown }
    }
}

/// A variable as an index.
pub fn variable(var: VarId) -> Expr {
    Expr::new(ExprKind::Var(var), DType::I64)
}

fn negated(op: CmpOp) -> CmpOp {
    match op {
        CmpOp::Eq => CmpOp::Ne,
        CmpOp::Ne => CmpOp::Eq,
        CmpOp::Lt => CmpOp::Ge,
        CmpOp::Le => CmpOp::Gt,
        CmpOp::Gt => CmpOp::Le,
        CmpOp::Ge => CmpOp::Lt,
    }
}
