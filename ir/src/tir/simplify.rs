//! Simplification of index arithmetic by what is known of the variables.
//!
//! Only `int64` and bool expressions change; it is assumed, as everywhere in TIR, that
//! index arithmetic does not overflow. The result is equal for every value of the
//! variables within their bounds.

use super::interval::{Bounds, Interval};
use super::ir::{Expr, ExprKind};
use super::linear::{Linear, difference};
use super::visit::map_expr;
use crate::scalar::{BinaryOp, CmpOp, Scalar};
use crate::types::DType;

/// The expression, simplified.
pub fn simplify(root: &Expr, bounds: &Bounds) -> Expr {
    map_expr(root, &mut |e| match e.kind() {
        ExprKind::Binary(op, a, b) if e.dtype() == DType::I64 => binary(*op, a, b, e, bounds),
        ExprKind::Cmp(op, a, b) if a.dtype() == DType::I64 => compare(*op, a, b, bounds),
        ExprKind::Binary(BinaryOp::And | BinaryOp::Or, ..) if e.dtype() == DType::Bool => logical(e),
        ExprKind::Select(_, a, b) if a == b => Some(a.clone()),
        _ => None,
    })
}

/// True if the condition holds wherever the variables lie within their bounds.
pub fn proves(cond: &Expr, bounds: &Bounds) -> bool {
    simplify(cond, bounds).as_int() == Some(1)
}

fn logical(e: &Expr) -> Option<Expr> {
    let ExprKind::Binary(op, a, b) = e.kind() else { return None };
    let absorbing = if *op == BinaryOp::And { 0 } else { 1 };
    match (a.as_int(), b.as_int()) {
        (Some(v), _) => Some(if v == absorbing { a.clone() } else { b.clone() }),
        (_, Some(v)) => Some(if v == absorbing { b.clone() } else { a.clone() }),
        _ => (a == b).then(|| a.clone()),
    }
}

fn binary(op: BinaryOp, a: &Expr, b: &Expr, e: &Expr, bounds: &Bounds) -> Option<Expr> {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => Some(merge_div_mod(Linear::of(e), bounds).to_expr()),
        BinaryOp::FloorDiv => b.as_int().filter(|&d| d > 0).map(|d| floor_div(a, d, bounds)),
        BinaryOp::FloorMod => b.as_int().filter(|&d| d > 0).map(|d| floor_mod(a, d, bounds)),
        BinaryOp::Div | BinaryOp::Mod if bounds.of(a).lo >= 0 => {
            let d = b.as_int().filter(|&d| d > 0)?;
            Some(if op == BinaryOp::Div { floor_div(a, d, bounds) } else { floor_mod(a, d, bounds) })
        }
        BinaryOp::Min | BinaryOp::Max => {
            let diff = difference(a, b)?.interval(bounds);
            let (first, second) = if op == BinaryOp::Min { (a, b) } else { (b, a) };
            if diff.hi <= 0 {
                Some(first.clone())
            } else if diff.lo >= 0 {
                Some(second.clone())
            } else {
                None
            }
        }
        BinaryOp::Div
        | BinaryOp::Mod
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => None,
    }
}

fn compare(op: CmpOp, a: &Expr, b: &Expr, bounds: &Bounds) -> Option<Expr> {
    let Interval { lo, hi } = difference(a, b)?.interval(bounds);
    let (always, never) = match op {
        CmpOp::Lt => (hi < 0, lo >= 0),
        CmpOp::Le => (hi <= 0, lo > 0),
        CmpOp::Gt => (lo > 0, hi <= 0),
        CmpOp::Ge => (lo >= 0, hi < 0),
        CmpOp::Eq => (lo == 0 && hi == 0, lo > 0 || hi < 0),
        CmpOp::Ne => (lo > 0 || hi < 0, lo == 0 && hi == 0),
    };
    (always || never).then(|| Expr::constant(Scalar::from_i64(DType::Bool, always as i64)))
}

/// `floor((d * q + r) / d) = q + floor(r / d)`, and the latter is 0 if `r` lies in `0..d`.
fn floor_div(a: &Expr, d: i64, bounds: &Bounds) -> Expr {
    let (quotient, rest) = merge_div_mod(Linear::of(a), bounds).split(d);
    let inner = rest.interval(bounds);
    if inner.is_bounded() && inner.lo.div_euclid(d) == inner.hi.div_euclid(d) {
        let shift = Linear { terms: Vec::new(), constant: inner.lo.div_euclid(d) };
        if let Some(sum) = quotient.plus(&shift, 1) {
            return sum.to_expr();
        }
    }
    let divided = divide(rest, d, bounds);
    match quotient.plus(&Linear::of(&divided), 1) {
        Some(sum) => sum.to_expr(),
        None => Expr::new(ExprKind::Binary(BinaryOp::FloorDiv, a.clone(), Expr::int(d)), DType::I64),
    }
}

/// `floor(rest / d)` with common factors cancelled and a division inside joined.
fn divide(mut rest: Linear, mut d: i64, bounds: &Bounds) -> Expr {
    // floor((g * x + r) / (g * d)) = floor(x / d) for any r in 0..g.
    let mut factors: Vec<i64> = rest.terms.iter().map(|(_, k)| gcd(d, *k)).filter(|g| *g > 1).collect();
    factors.sort_unstable_by(|a, b| b.cmp(a));
    for g in factors {
        let (multiple, remainder) = rest.split(g);
        if remainder.interval(bounds).within(Interval::below(g)) {
            (rest, d) = (multiple, d / g);
            break;
        }
    }
    if let ([(atom, 1)], 0) = (rest.terms.as_slice(), rest.constant)
        && let ExprKind::Binary(BinaryOp::FloorDiv, x, inner) = atom.kind()
        && let Some(both) = inner.as_int().filter(|&i| i > 0).and_then(|i| i.checked_mul(d))
    {
        return x.clone().floor_div(both);
    }
    rest.to_expr().floor_div(d)
}

fn floor_mod(a: &Expr, d: i64, bounds: &Bounds) -> Expr {
    let opened = open_multiples(Linear::of(a), d);
    let (_, rest) = merge_div_mod(opened, bounds).split(d);
    let inner = rest.interval(bounds);
    if inner.is_bounded() && inner.lo.div_euclid(d) == inner.hi.div_euclid(d) {
        let shift = Linear { terms: Vec::new(), constant: inner.lo.div_euclid(d) };
        if let Some(sum) = shift
            .as_const()
            .and_then(|c| c.checked_mul(-d))
            .and_then(|c| rest.plus(&Linear { terms: Vec::new(), constant: c }, 1))
        {
            return sum.to_expr();
        }
    }
    rest.to_expr().floor_mod(d)
}

/// Under a remainder by `d`, `x % m` is `x` if `d` divides `m`.
fn open_multiples(sum: Linear, d: i64) -> Linear {
    let mut opened = Linear { terms: Vec::new(), constant: sum.constant };
    for (atom, k) in &sum.terms {
        let inner = match atom.kind() {
            ExprKind::Binary(BinaryOp::FloorMod, x, m) if m.as_int().is_some_and(|m| m > 0 && m % d == 0) => {
                x
            }
            _ => atom,
        };
        match opened.plus(&Linear::of(inner), *k) {
            Some(next) => opened = next,
            None => return sum,
        }
    }
    opened
}

/// `k * d * (x // d) + k * (x % d)` is `k * x`.
fn merge_div_mod(mut sum: Linear, bounds: &Bounds) -> Linear {
    let mut start = 0;
    while let Some((x, i, j, k)) = find_div_mod(&sum, start, bounds) {
        let mut rest = sum.clone();
        rest.terms.remove(i.max(j));
        rest.terms.remove(i.min(j));
        match rest.plus(&Linear::of(&x), k) {
            Some(merged) => sum = merged,
            None => start = i + 1,
        }
    }
    sum
}

/// A remainder at `i` and its division at `j`: `(x, i, j, k)`.
fn find_div_mod(sum: &Linear, start: usize, bounds: &Bounds) -> Option<(Expr, usize, usize, i64)> {
    (start..sum.terms.len()).find_map(|i| {
        let (atom, k) = &sum.terms[i];
        let ExprKind::Binary(BinaryOp::FloorMod, x, d) = atom.kind() else { return None };
        let (x, d) = (x, d.as_int().filter(|&d| d > 0)?);
        let want = k.checked_mul(d)?;
        let quotient = Linear::of(&divide(Linear::of(x), d, bounds));
        let [(division, 1)] = quotient.terms.as_slice() else { return None };
        let j = sum.terms.iter().position(|(a, c)| *c == want && a == division)?;
        (quotient.constant == 0).then(|| (x.clone(), i, j, *k))
    })
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a as i64
}

#[cfg(test)]
mod tests {
    use super::super::ir::VarId;
    use super::*;
    use crate::cranelift_entity::EntityRef;

    fn var(i: usize) -> Expr {
        Expr::new(ExprKind::Var(VarId::new(i)), DType::I64)
    }

    /// `i0` in 0..8, `i1` in 0..4, `i2` anything.
    fn check(e: Expr, expected: Expr) {
        let mut bounds = Bounds::new();
        bounds.set(VarId::new(0), Interval::below(8));
        bounds.set(VarId::new(1), Interval::below(4));
        let got = simplify(&e, &bounds);
        assert_eq!(got, expected, "{e:?}");
    }

    #[test]
    fn sums() {
        check(var(0) + 3 - var(0), Expr::int(3));
        check(var(0) * 4 + var(1) - (var(0) * 3), var(0) + var(1));
        check(var(2).floor_div(4) * 4 + var(2).floor_mod(4), var(2));
        check(var(2).floor_div(4) * 8 + var(2).floor_mod(4) * 2, var(2) * 2);
    }

    #[test]
    fn divisions() {
        check((var(0) * 4 + var(1)).floor_div(4), var(0));
        check((var(0) * 4 + var(1)).floor_mod(4), var(1));
        check((var(2) * 4 + var(1)).floor_div(8), var(2).floor_div(2));
        check(var(2).floor_div(3).floor_div(5), var(2).floor_div(15));
        check(var(2).floor_mod(12).floor_mod(4), var(2).floor_mod(4));
        check((var(0) + 8).floor_mod(8), var(0));
        check(var(0).floor_div(8), Expr::int(0));
        check((var(1) - 4).floor_div(4), Expr::int(-1));
        check(var(0).binary(BinaryOp::Div, Expr::int(8)), Expr::int(0));
        check(var(2).floor_mod(3), var(2).floor_mod(3));
    }

    #[test]
    fn comparisons_and_extremes() {
        check(var(0).min(7), var(0));
        check(var(0).max(var(0) + 1), var(0) + 1);
        check(var(0).lt(8).and(var(1).ge(0)).select(var(0), var(1)), var(0));
        check(var(2).lt(8), var(2).lt(8));
        check(var(0).equal(9), Expr::constant(Scalar::from_i64(DType::Bool, 0)));
    }
}
