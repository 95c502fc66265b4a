//! Several results of a product's kernel: what its epilogue computes on its way.

use std::collections::BTreeSet;

use fermata_ir::te::{Graph, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Stmt};
use fermata_ir::types::DType;

use super::super::held::hold_row;
use super::super::inline::{Env, Inliner, nodes};
use super::super::joint::Joint;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::element_loads;
use super::{
    Anchored, Kind, RowEpilogue, epilogue, reads_reduction, replace_all_loads, row_epilogue, stands_at, var,
};

/// Checks that a tile holds all that the `joint` asks for.
///
/// # Errors
/// With the tensor that it cannot hold.
pub fn check(
    graph: &Graph,
    kept: &BTreeSet<BufferId>,
    anchored: &Anchored<'_>,
    joint: &Joint,
) -> Result<(), Refusal> {
    let kind = &anchored.kind;
    let no_tile = matches!(anchored.rows, Some(RowEpilogue::Softmax)) || matches!(kind, Kind::Conv(_));
    if no_tile || kind.is_moved() || joint.quantised.is_some() && !kind.holds_rows() {
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
                let read = (anchored.tensor, &kind.operands()[..]);
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
        let in_view = all_loads(&|b, _| kind.may_be_read(graph, b));
        if !(in_row && is_computed && in_view) || kind.operands().contains(&tensor) {
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
fn held(nest: &mut Nest<'_>, held: &[BufferId], joint: &Joint) -> Vec<BufferId> {
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

/// Computes what stands in a row once the product is there, the row's own reductions included, in
/// place. `env` has where the epilogue's leading axes stand, `row` where the row lies in the result.
///
/// # Errors
/// If an element reads what this nest cannot hold.
pub fn store_row(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    joint: &Joint,
    (body, held): (&Expr, &[BufferId]),
    (mut env, row): (Env, Vec<Expr>),
) -> Result<(), Refusal> {
    let output = anchored.root.outputs[0];
    let (last, leading) = anchored.axes.split_last().expect("a product has columns");
    let place: Vec<Expr> = leading.iter().map(|a| env[&a.var].clone()).collect();
    nest.inliner().hold(anchored.tensor, output, row.clone(), place);
    for tensor in self::held(nest, held, joint) {
        let into = joint.companions.contains(&tensor).then(|| row.clone());
        hold_row(nest, tensor, &anchored.axes, last, &env, into)?;
    }
    let j = nest.var("j", DType::I64);
    nest.open(j, last.extent.into(), LoopKind::Vectorized);
    nest.declare_axis_as(last, j);
    env.insert(last.var, var(j));
    let element = nest.inliner().instantiate(body, &env);
    let value = nest.place(&element)?;
    let indices = row.iter().cloned().chain([var(j)]).collect();
    nest.push(Stmt::Store { buffer: output, indices, value });
    nest.close();
    nest.extend(joint.quantise_row(output, &row, last.extent));
    Ok(())
}
