//! How much work a kernel is: scalar operations, to compare two ways to compute the same.

use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::tir::{Expr, ExprKind, LoopKind, PrimFunc, Stmt};

use super::inline::nodes;

/// What a scalar operation of a loop that is not in vectors counts.
const SCALAR: u64 = 8;

/// What a function that is a polynomial counts, in operations.
const TRANSCENDENTAL: u64 = 12;

/// Multiply-adds of each thread in the products that threads of a GPU do together, or four bytes at
/// once, by the names' beginnings.
const PRODUCTS: [(&str, u64); 3] = [("mma_m16n8k32", 128), ("mma_m16n8k16", 64), ("dp4a_16", 16)];

/// Scalar operations of all tiles, eight at once counting as eight times less in vectors; loops
/// whose extent is not constant count as their longest.
pub fn of(func: &PrimFunc) -> u64 {
    statement(&func.body, SCALAR)
}

fn statement(stmt: &Stmt, weight: u64) -> u64 {
    let total = |exprs: &[Expr]| exprs.iter().map(expression).fold(0, u64::saturating_add);
    match stmt {
        Stmt::Seq(stmts) => stmts.iter().map(|s| statement(s, weight)).fold(0, u64::saturating_add),
        Stmt::For { extent, kind, body, .. } => {
            let weight = if *kind == LoopKind::Vectorized { 1 } else { weight };
            longest(extent).saturating_mul(statement(body, weight))
        }
        Stmt::Block(block) => {
            let init = block.init.as_ref().map_or(0, |s| statement(s, weight));
            init.saturating_add(statement(&block.body, weight))
        }
        Stmt::Let { value, .. } => weight.saturating_mul(expression(value)),
        Stmt::If { cond, then, els } => {
            let sides = statement(then, weight).max(els.as_ref().map_or(0, |s| statement(s, weight)));
            sides.saturating_add(weight.saturating_mul(expression(cond)))
        }
        Stmt::Store { indices, value, .. } => {
            weight.saturating_mul(total(indices).saturating_add(expression(value)).saturating_add(1))
        }
        // The sizes come first; the units of an intrinsic do several operations at once.
        Stmt::Intrin { name, params, .. } => {
            let product = PRODUCTS.iter().find(|(stem, _)| name.starts_with(stem));
            params.iter().take(3).map(longest).fold(product.map_or(1, |(_, n)| *n), u64::saturating_mul)
        }
        Stmt::Checkpoint | Stmt::Barrier => 0,
    }
}

fn longest(extent: &Expr) -> u64 {
    let bound = |e: &Expr| e.as_int().and_then(|n| u64::try_from(n).ok());
    match extent.kind() {
        ExprKind::Binary(BinaryOp::Min, a, b) => bound(a).into_iter().chain(bound(b)).min().unwrap_or(1),
        _ => bound(extent).unwrap_or(1),
    }
}

fn expression(expr: &Expr) -> u64 {
    let cost = |node: &Expr| match node.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => 0,
        ExprKind::Unary(UnaryOp::Neg | UnaryOp::Not | UnaryOp::Abs, _) => 1,
        ExprKind::Unary(UnaryOp::Sqrt, _) => 4,
        ExprKind::Unary(..) => TRANSCENDENTAL,
        ExprKind::Binary(BinaryOp::Div | BinaryOp::Mod | BinaryOp::FloorDiv | BinaryOp::FloorMod, ..) => 4,
        ExprKind::Binary(BinaryOp::Pow | BinaryOp::Atan2, ..) => 2 * TRANSCENDENTAL,
        ExprKind::Binary(..)
        | ExprKind::Load(..)
        | ExprKind::Cast(_)
        | ExprKind::Reinterpret(_)
        | ExprKind::Cmp(..)
        | ExprKind::Fma(..)
        | ExprKind::Select(..) => 1,
    };
    nodes(expr).iter().map(cost).sum()
}
