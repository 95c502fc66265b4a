//! Splitting of loop axes that indices take apart.
//!
//! `transpose` and `reshape` together read `x[j // 32, i, j % 32]`. With a loop for the
//! quotient and one for the remainder, the inner one walks memory, and nothing is divided.

use std::collections::BTreeMap;

use fermata_ir::scalar::BinaryOp;
use fermata_ir::te::Axis;
use fermata_ir::tir::interval::{Bounds, Interval};
use fermata_ir::tir::simplify::simplify;
use fermata_ir::tir::{Expr, ExprKind, PrimFunc, VarId, VarInfo};
use fermata_ir::types::DType;

use super::collapse::Pointwise;
use super::inline::{nodes, rebuild};

/// The shortest inner loop that is worth a loop of its own.
const MIN_INNER: usize = 4;

/// Splits axes as long as an index divides one by a part of it. The results are seen in the
/// split shape; their bytes are the same.
pub fn split_divided(pointwise: &mut Pointwise, func: &mut PrimFunc) {
    // Every split leaves two shorter axes, so this ends.
    while let Some((at, inner)) = divided_axis(pointwise) {
        let axis = pointwise.axes[at].clone();
        let mut part = |extent: usize| {
            let name = func.vars[axis.var].name.clone();
            Axis { var: func.vars.push(VarInfo { name, dtype: DType::I64 }), extent }
        };
        let (outer, inner) = (part(axis.extent / inner), part(inner));
        let whole = outer.expr() * inner.extent + inner.expr();
        for &output in &pointwise.outputs {
            let shape = &mut func.buffers[output].shape;
            shape.splice(at..=at, [outer.extent, inner.extent]);
        }
        pointwise.axes.splice(at..=at, [outer, inner]);
        let mut bounds = Bounds::new();
        pointwise.axes.iter().for_each(|a| bounds.set(a.var, Interval::below(a.extent as i64)));
        pointwise.bodies.iter_mut().for_each(|body| *body = substituted(body, axis.var, &whole, &bounds));
    }
}

/// The first axis, last to first, that an index divides into parts, and the size of a part.
fn divided_axis(pointwise: &Pointwise) -> Option<(usize, usize)> {
    let loads: Vec<Expr> = pointwise.bodies.iter().flat_map(nodes).collect();
    let reads_output = |e: &Expr| matches!(e.kind(), ExprKind::Load(b, _) if pointwise.outputs.contains(b));
    if loads.iter().any(reads_output) {
        return None;
    }
    let indices = loads.iter().filter_map(|e| match e.kind() {
        ExprKind::Load(_, indices) => Some(indices),
        _ => None,
    });
    let parts: Vec<Expr> = indices.flatten().flat_map(nodes).collect();
    (0..pointwise.axes.len()).rev().find_map(|at| {
        let axis = &pointwise.axes[at];
        let fits =
            |&part: &usize| part >= MIN_INNER && part < axis.extent && axis.extent.is_multiple_of(part);
        let part = parts.iter().filter_map(|e| divisor(e, axis.var)).find(fits)?;
        Some((at, part))
    })
}

/// The constant that an expression divides a variable by.
fn divisor(e: &Expr, var: VarId) -> Option<usize> {
    match e.kind() {
        ExprKind::Binary(BinaryOp::FloorDiv | BinaryOp::FloorMod, a, b) if matches!(a.kind(), ExprKind::Var(v) if *v == var) => {
            usize::try_from(b.as_int()?).ok()
        }
        _ => None,
    }
}

/// The expression with a variable replaced and its indices simplified.
fn substituted(body: &Expr, var: VarId, by: &Expr, bounds: &Bounds) -> Expr {
    let mut done: BTreeMap<usize, Expr> = BTreeMap::new();
    for node in nodes(body) {
        let value = match node.kind() {
            ExprKind::Var(v) if *v == var => by.clone(),
            _ => rebuild(&node, &mut |e| done[&e.key()].clone()),
        };
        let value = match value.kind() {
            ExprKind::Load(b, indices) => {
                let indices = indices.iter().map(|i| simplify(i, bounds)).collect();
                Expr::new(ExprKind::Load(*b, indices), value.dtype())
            }
            _ => value,
        };
        done.insert(node.key(), value);
    }
    done[&body.key()].clone()
}
