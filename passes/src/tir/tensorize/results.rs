//! Several results of a product's kernel: what its epilogue computes on its way.

use std::collections::BTreeSet;

use fermata_ir::te::{Graph, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind, Stmt};

use super::super::inline::{Env, Inliner, nodes};
use super::super::joint::Joint;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::element_loads;
use super::product::Product;
use super::{Anchored, RowEpilogue, epilogue, reads_reduction, replace_all_loads, row_epilogue, stands_at};

/// Checks that a tile holds all that the `joint` asks for.
///
/// # Errors
/// With the tensor that it cannot hold.
pub fn check(
    graph: &Graph,
    kept: &BTreeSet<BufferId>,
    anchored: &Anchored<'_>,
    product: &Product,
    joint: &Joint,
) -> Result<(), Refusal> {
    let is_softmax = matches!(anchored.rows, Some(RowEpilogue::Softmax));
    if is_softmax || product.is_moved() || joint.quantised.is_some() && !product.holds_rows() {
        return Err(Refusal::Guarded(anchored.root.outputs[0]));
    }
    let mut inliner = Inliner::new(graph, kept);
    for (&tensor, load) in
        joint.companions.iter().zip(element_loads(graph, &joint.companions, &anchored.axes))
    {
        let element = inliner.instantiate(&load, &Env::new());
        let loads = nodes(&element);
        let all_loads = |holds: &dyn Fn(BufferId, &[Expr]) -> bool| {
            loads.iter().all(|n| !matches!(n.kind(), ExprKind::Load(b, indices) if !holds(*b, indices)))
        };
        let in_row = match anchored.rows {
            Some(_) => {
                let read = (anchored.tensor, &product.operands()[..]);
                row_epilogue::holds(graph, kept, read, &anchored.axes, &element)
            }
            None => {
                let stands =
                    |indices: &[Expr]| indices.iter().zip(&anchored.axes).all(|(i, a)| stands_at(i, a));
                let others = replace_all_loads(std::slice::from_ref(&element), &mut |b, _| {
                    (b == anchored.tensor).then(|| Expr::float(0.0, load.dtype()))
                });
                all_loads(&|b, indices| b != anchored.tensor || stands(indices))
                    && !reads_reduction(graph, &others[0], kept)
            }
        };
        let is_computed = tensor == anchored.tensor || all_loads(&|b, _| b != tensor);
        let in_view = all_loads(&|b, _| product.may_be_read(graph, b));
        if !(in_row && is_computed && in_view) || product.operands().contains(&tensor) {
            return Err(Refusal::Guarded(tensor));
        }
    }
    Ok(())
}

/// The elements of what an epilogue computes, the root's last, where the product's lie in the root's
/// buffer; none if the product is all.
pub fn elements(nest: &mut Nest<'_>, anchored: &Anchored<'_>, joint: &Joint) -> Vec<Expr> {
    let indices: Vec<Expr> = anchored.axes.iter().map(|a| a.expr()).collect();
    let StageKind::Compute(root) = &anchored.root.kind else { return Vec::new() };
    if joint.companions.is_empty() {
        return epilogue(anchored, nest, indices).into_iter().collect();
    }
    let output = anchored.root.outputs[0];
    let companions = element_loads(nest.inliner().graph(), &joint.companions, &anchored.axes);
    let all = nest.inliner().instantiate_all(companions.iter().chain(&root.body), &Env::new());
    let own = Expr::new(ExprKind::Load(output, indices), nest.func.buffers[output].dtype);
    replace_all_loads(&all, &mut |b, _| (b == anchored.tensor).then(|| own.clone()))
}

/// The tensors whose rows come first: those that are worth it, and those that are results.
pub fn held(nest: &mut Nest<'_>, held: &[BufferId], joint: &Joint) -> Vec<BufferId> {
    let graph = nest.inliner().graph();
    let others = held.iter().filter(|b| !joint.companions.contains(b));
    let mut held: Vec<BufferId> = others.chain(&joint.companions).copied().collect();
    held.sort_by_key(|b| graph.stages.iter().position(|s| s.outputs.contains(b)));
    held
}

/// Stores what an epilogue computes at one place of the tile, the root last, over the product.
///
/// # Errors
/// If an element reads what this nest cannot hold.
pub fn store(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    joint: &Joint,
    (elements, env): (&[Expr], &Env),
    indices: Vec<Expr>,
) -> Result<(), Refusal> {
    let output = anchored.root.outputs[0];
    let elements = nest.inliner().instantiate_all(elements.iter(), env);
    // The result's own element is the tile's, whatever its index was made of.
    let own = Expr::new(ExprKind::Load(output, indices.clone()), nest.func.buffers[output].dtype);
    let elements = replace_all_loads(&elements, &mut |b, _| (b == output).then(|| own.clone()));
    let values = nest.place_all(&elements)?;
    for (&buffer, value) in joint.companions.iter().chain([&output]).zip(values) {
        nest.push(Stmt::Store { buffer, indices: indices.clone(), value });
    }
    Ok(())
}
