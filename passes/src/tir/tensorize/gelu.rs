//! GELU, found by what an element is: `x * (erf(x / sqrt(2)) + 1) / 2`, its factors in any order.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::tir::{Expr, ExprKind};
use fermata_ir::types::DType;

/// A constant may differ by so much from the one that is meant: importers round them.
const CLOSE: f32 = 2e-7;

/// `x`, if the element is its GELU.
pub fn argument(element: &Expr) -> Option<&Expr> {
    if element.dtype() != DType::F32 {
        return None;
    }
    let (share, rest) = factors(element)?;
    let sum = rest.iter().position(|e| normal_share(e).is_some())?;
    let x = normal_share(rest[sum])?;
    let [other] = rest.iter().enumerate().filter(|(i, _)| *i != sum).map(|(_, e)| *e).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    (other == x && is_close(share, 0.5)).then_some(x)
}

/// The product of an expression's constant factors, and its others; no more than a few.
fn factors(element: &Expr) -> Option<(f32, Vec<&Expr>)> {
    let (mut constant, mut others, mut open) = (1.0, Vec::new(), vec![element]);
    while let Some(e) = open.pop() {
        match e.kind() {
            ExprKind::Binary(BinaryOp::Mul, a, b) => open.extend([a, b]),
            ExprKind::Binary(BinaryOp::Div, a, b) => {
                constant /= value(b)?;
                open.push(a);
            }
            _ => match value(e) {
                Some(v) => constant *= v,
                None => others.push(e),
            },
        }
        if others.len() > 2 || open.len() > 4 {
            return None;
        }
    }
    Some((constant, others))
}

/// `x`, if the expression is `erf(x / sqrt(2)) + 1`.
fn normal_share(e: &Expr) -> Option<&Expr> {
    let ExprKind::Binary(BinaryOp::Add, a, b) = e.kind() else { return None };
    let (erf, one) = if value(a).is_some() { (b, a) } else { (a, b) };
    let ExprKind::Unary(UnaryOp::Erf, inner) = erf.kind() else { return None };
    if value(one)? != 1.0 {
        return None;
    }
    let (x, scale) = match inner.kind() {
        ExprKind::Binary(BinaryOp::Mul, a, b) => match value(a) {
            Some(scale) => (b, scale),
            None => (a, value(b)?),
        },
        ExprKind::Binary(BinaryOp::Div, a, b) if is_close(value(b)?, SQRT_2) => (a, FRAC_1_SQRT_2),
        _ => return None,
    };
    is_close(scale, FRAC_1_SQRT_2).then_some(x)
}

fn value(e: &Expr) -> Option<f32> {
    match e.kind() {
        ExprKind::Const(c) if e.dtype() == DType::F32 => Some(c.as_f64() as f32),
        _ => None,
    }
}

fn is_close(a: f32, b: f32) -> bool {
    (a - b).abs() <= CLOSE * b
}
