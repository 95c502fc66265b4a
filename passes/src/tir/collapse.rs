//! Merging of loop axes that every access walks through as one.
//!
//! `relu` over `[1, 64, 56, 56]` is one loop of 200,704 steps. Two neighbouring axes merge if
//! each access either has them side by side over whole dimensions, or has neither. The
//! buffers are seen in the merged shape; their bytes are the same.

use std::collections::BTreeMap;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::te::Axis;
use fermata_ir::tir::{Buffer, BufferId, Expr, ExprKind, VarId};
use fermata_ir::types::DType;

use super::inline::{nodes, rebuild};

/// A pointwise computation: `outputs[axes] = bodies`.
#[derive(Clone, Debug)]
pub struct Pointwise {
    /// The loops.
    pub axes: Vec<Axis>,
    /// One an output.
    pub bodies: Vec<Expr>,
    /// The tensors that are written, each at all axes in order.
    pub outputs: Vec<BufferId>,
}

/// Drops dimensions of size one and merges axes as far as all accesses allow; `buffers`
/// take the merged shapes.
pub fn collapse(pointwise: &mut Pointwise, buffers: &mut PrimaryMap<BufferId, Buffer>) {
    drop_unit_dims(pointwise, buffers);
    let mut outer = 0;
    while outer + 1 < pointwise.axes.len() {
        if !merge(pointwise, outer, buffers) {
            outer += 1;
        }
    }
}

fn loads(bodies: &[Expr]) -> Vec<(BufferId, Vec<Expr>)> {
    let all = bodies.iter().flat_map(nodes).filter_map(|node| match node.kind() {
        ExprKind::Load(buffer, indices) => Some((*buffer, indices.clone())),
        _ => None,
    });
    all.collect()
}

/// Rewrites every load's indices, and then the shapes.
fn reindex(
    pointwise: &mut Pointwise,
    buffers: &mut PrimaryMap<BufferId, Buffer>,
    keep: &dyn Fn(BufferId, usize) -> bool,
) {
    let mut done = BTreeMap::new();
    for body in &mut pointwise.bodies {
        *body = rewrite(body, keep, &mut done);
    }
    for (id, buffer) in buffers.iter_mut() {
        let mut shape = Vec::new();
        let mut pending = 1;
        for (dim, &size) in buffer.shape.iter().enumerate() {
            if keep(id, dim) {
                shape.push(pending * size);
                pending = 1;
            } else {
                pending *= size;
            }
        }
        buffer.shape = shape;
    }
}

fn rewrite(
    expr: &Expr,
    keep: &dyn Fn(BufferId, usize) -> bool,
    done: &mut BTreeMap<usize, (Expr, Expr)>,
) -> Expr {
    if let Some((_, value)) = done.get(&expr.key()) {
        return value.clone();
    }
    let rebuilt = rebuild(expr, &mut |e| rewrite(e, keep, done));
    let value = match rebuilt.kind() {
        ExprKind::Load(buffer, indices) => {
            let kept = indices.iter().enumerate().filter(|(dim, _)| keep(*buffer, *dim));
            let indices = kept.map(|(_, index)| index.clone()).collect();
            Expr::new(ExprKind::Load(*buffer, indices), rebuilt.dtype())
        }
        _ => rebuilt,
    };
    done.insert(expr.key(), (expr.clone(), value.clone()));
    value
}

/// Dimensions of size one hold only index 0.
fn drop_unit_dims(pointwise: &mut Pointwise, buffers: &mut PrimaryMap<BufferId, Buffer>) {
    let used = used_buffers(pointwise);
    let unit: BTreeMap<BufferId, Vec<bool>> =
        used.iter().map(|&b| (b, buffers[b].shape.iter().map(|&n| n == 1).collect())).collect();
    reindex(pointwise, buffers, &|buffer, dim| !unit.get(&buffer).is_some_and(|u| u[dim]));
    pointwise.axes.retain(|axis| axis.extent != 1);
}

fn used_buffers(pointwise: &Pointwise) -> Vec<BufferId> {
    let mut used: Vec<BufferId> = loads(&pointwise.bodies).into_iter().map(|(b, _)| b).collect();
    used.extend(&pointwise.outputs);
    used.sort_unstable();
    used.dedup();
    used
}

/// Merges axes `outer` and `outer + 1` if every access allows it.
fn merge(pointwise: &mut Pointwise, outer: usize, buffers: &mut PrimaryMap<BufferId, Buffer>) -> bool {
    let (a, b) = (pointwise.axes[outer].clone(), pointwise.axes[outer + 1].clone());
    let mut dims: BTreeMap<BufferId, Option<usize>> = BTreeMap::new();
    for (buffer, indices) in loads(&pointwise.bodies) {
        let Ok(place) = pair_at(&indices, &buffers[buffer].shape, &a, &b) else { return false };
        if *dims.entry(buffer).or_insert(place) != place {
            return false;
        }
    }
    if !vars_outside_loads(&pointwise.bodies, a.var, b.var) {
        return false;
    }
    for &output in &pointwise.outputs {
        if dims.insert(output, Some(outer)).is_some_and(|place| place != Some(outer)) {
            return false;
        }
    }
    reindex(pointwise, buffers, &|buffer, dim| dims.get(&buffer).copied().flatten() != Some(dim));
    pointwise.axes.remove(outer);
    pointwise.axes[outer].extent = a.extent * b.extent;
    true
}

/// The dimension where the two axes stand side by side over whole dimensions, or none if the
/// access has neither.
///
/// # Errors
/// If the access uses them in any other way.
fn pair_at(indices: &[Expr], shape: &[usize], a: &Axis, b: &Axis) -> Result<Option<usize>, ()> {
    let is = |e: &Expr, v: VarId| matches!(e.kind(), ExprKind::Var(x) if *x == v);
    let mut place = None;
    for dim in 0..indices.len() {
        let pair = dim + 1 < indices.len() && is(&indices[dim], a.var) && is(&indices[dim + 1], b.var);
        if pair && place.is_none() && shape[dim] == a.extent && shape[dim + 1] == b.extent {
            place = Some(dim);
            continue;
        }
        let second = place.is_some_and(|p| p + 1 == dim);
        let mentions = nodes(&indices[dim])
            .iter()
            .any(|n| matches!(n.kind(), ExprKind::Var(v) if *v == a.var || *v == b.var));
        if mentions && !second {
            return Err(());
        }
    }
    Ok(place)
}

/// True if no value is computed from the two axes themselves (an arange, a mask).
fn vars_outside_loads(bodies: &[Expr], a: VarId, b: VarId) -> bool {
    let mut stack: Vec<Expr> = bodies.to_vec();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(expr) = stack.pop() {
        if !seen.insert(expr.key()) {
            continue;
        }
        match expr.kind() {
            ExprKind::Load(..) => {}
            ExprKind::Var(v) if *v == a || *v == b => return false,
            _ => stack.extend(super::inline::operands(&expr).into_iter().cloned()),
        }
    }
    true
}

/// A flat variable over nothing: index expressions of a rank-0 tensor.
pub fn axis_exprs(axes: &[Axis]) -> Vec<Expr> {
    axes.iter().map(|a| Expr::new(ExprKind::Var(a.var), DType::I64)).collect()
}
