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
            let next = variable(var) + 1;
            self.known.extend(least_of(&extent).iter().filter_map(|limit| difference(limit, &next)));
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
        let mut names = 0;
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
                // A condition that was given a name.
                ExprKind::Var(v) if names < MAX_OPERANDS => {
                    names += 1;
                    stack.extend(self.values.get(v).map(|value| (value.clone(), holds)));
                }
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
        let follows = |sum: &Linear| {
            clear(sum) || self.known.iter().filter_map(|fact| sum.plus(fact, -1)).any(|rest| clear(&rest))
        };
        follows(sum) || self.without_least(sum).iter().any(follows) || self.interval(sum).lo >= 0
    }

    /// Sums that are at most `sum`: what is taken away is replaced by something larger.
    fn without_least(&self, sum: &Linear) -> Vec<Linear> {
        for (atom, k) in sum.terms.iter().filter(|(_, k)| *k < 0) {
            let taken = Linear { terms: vec![(atom.clone(), 1)], constant: 0 };
            let ceilings = self.ceilings(atom);
            if !ceilings.is_empty() {
                let lower = |above: &Linear| sum.plus(&above.plus(&taken, -1)?, *k);
                return ceilings.iter().filter_map(lower).collect();
            }
        }
        Vec::new()
    }

    /// Sums that are at least an atom: each operand of a minimum, also of one in a quotient.
    fn ceilings(&self, atom: &Expr) -> Vec<Linear> {
        match atom.kind() {
            ExprKind::Binary(BinaryOp::Min, ..) => least_of(atom).iter().map(Linear::of).collect(),
            ExprKind::Binary(BinaryOp::FloorDiv, a, b) => {
                let Some(divisor) = b.as_int().filter(|d| *d > 0) else { return Vec::new() };
                let divided = Linear::of(a);
                let is_least =
                    |(e, k): &&(Expr, i64)| *k > 0 && matches!(e.kind(), ExprKind::Binary(BinaryOp::Min, ..));
                let Some((least, k)) = divided.terms.iter().find(is_least) else { return Vec::new() };
                let quotient = |operand: &Expr| {
                    let above = divided.plus(&difference(operand, least)?, *k)?;
                    let (mut quotient, rest) = above.split(divisor);
                    let carry = rest.interval(&self.bounds).floor_div(divisor).hi;
                    quotient.constant = quotient.constant.checked_add(carry)?;
                    Some(quotient)
                };
                least_of(least).iter().filter_map(quotient).collect()
            }
            _ => Vec::new(),
        }
    }

    /// An interval that has every value of a sum, its quotients by constants narrowed by what is
    /// known of what they divide.
    fn interval(&self, sum: &Linear) -> Interval {
        let of = |atom: &Expr| match atom.kind() {
            ExprKind::Binary(BinaryOp::FloorDiv, a, b) if b.as_int().is_some_and(|d| d > 0) => {
                let divisor = b.as_int().unwrap_or(1);
                self.bounds.of(atom).intersect(self.reach(&Linear::of(a)).floor_div(divisor))
            }
            _ => self.bounds.of(atom),
        };
        let terms = sum.terms.iter().map(|(atom, k)| of(atom) * Interval::point(*k));
        terms.fold(Interval::point(sum.constant), |all, term| all + term)
    }

    /// An interval that has every value of a sum, narrowed by each sum that is at least 0.
    fn reach(&self, sum: &Linear) -> Interval {
        let mut reach = sum.interval(&self.bounds);
        for fact in &self.known {
            let end = |k| sum.plus(fact, k).map_or(Interval::ALL, |s| s.interval(&self.bounds));
            reach = reach.intersect(Interval::new(end(-1).lo, end(1).hi));
        }
        reach
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

/// Operands of nested minima, and named conditions inside one, that are looked at; the others are
/// left aside, which proves less.
const MAX_OPERANDS: usize = 8;

/// What an expression is the least of: the operands of nested minima, or itself.
fn least_of(root: &Expr) -> Vec<Expr> {
    let (mut operands, mut stack) = (Vec::new(), vec![root]);
    while let Some(e) = stack.pop() {
        match e.kind() {
            ExprKind::Binary(BinaryOp::Min, a, b) if operands.len() + stack.len() < MAX_OPERANDS => {
                stack.extend([b, a]);
            }
            _ => operands.push(e.clone()),
        }
    }
    operands
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
