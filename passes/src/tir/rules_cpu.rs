//! Schedule rules for CPUs: from stages to kernels of tiles.
//!
//! Every tensor that is *kept* (an output, or what another kernel must find in memory)
//! becomes one kernel; all else is inlined or computed inside it. The rules start by keeping
//! as little as they may, and keep more where a nest refuses: a reduction that would be
//! repeated, a value that is read under a select.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::te::{self, Axis, Compute, Graph, Stage, StageKind};
use fermata_ir::tir::{Block, Buffer, BufferId, Expr, ExprKind, LoopKind, PrimFunc, Stmt};
use indexmap::IndexMap;

use super::checkpoint::{Goal, fit};
use super::collapse::{Pointwise, collapse};
use super::held::held_tensors;
use super::inline::{Env, Inliner, nodes};
use super::joint::{Joining, Joint};
use super::nest::{Nest, Refusal};
use super::rows::{Rows, emit_rows};
use super::split::split_divided;
use super::tensorize::{self, Origins, Tensorized, anchor};
use crate::target::CpuTarget;

/// A kernel and the tensors of its graph that it reads and writes.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The kernel.
    pub func: PrimFunc,
    /// What its input parameters are.
    pub inputs: Vec<BufferId>,
    /// What its output parameters are.
    pub outputs: Vec<BufferId>,
}

/// The graph cannot be scheduled; a sentence.
#[derive(Clone, Debug)]
pub struct Unschedulable(pub String);

/// The kernels, in order, that compute `outputs`; with a bound, with tiles that the cost model
/// keeps under it where the rules have such tiles.
///
/// # Errors
/// If a stage has a form that no rule handles.
pub fn schedule(
    name: &str,
    graph: &Graph,
    origins: &Origins,
    outputs: &[BufferId],
    target: &CpuTarget,
    bound: Option<Duration>,
) -> Result<Vec<Scheduled>, Unschedulable> {
    if let Some(whole) = tensorize::quantize_i8::find(graph, origins, outputs) {
        let mut emit = |goal: Goal<'_>| Ok::<_, Infallible>(whole.emit(name, graph, outputs, &goal));
        let Ok(kernel) = fit(target, bound, &mut emit);
        return Ok(vec![kernel]);
    }
    if let Some(rows) = tensorize::softmax::find(graph, origins, outputs) {
        let mut emit = |goal: Goal<'_>| Ok::<_, Infallible>(rows.emit(name, graph, outputs, &goal));
        let Ok(kernel) = fit(target, bound, &mut emit);
        return Ok(vec![kernel]);
    }
    let tensorized = tensorize::tensorized(graph, origins);
    let mut kept = kept_first(graph, &tensorized, outputs);
    loop {
        let found = Found { name, graph, origins, tensorized: &tensorized, kept: &kept };
        let emit =
            |stage: &Stage, joint: &Joint| fit(target, bound, &mut |goal| found.emit(stage, joint, &goal));
        let joining = Joining { graph, origins: Some(origins), outputs, longest_row: 0 };
        match joining.schedule(&emit) {
            Ok(kernels) => return Ok(kernels),
            Err(tensor) => {
                if !kept.insert(tensor) {
                    let name = &graph.buffers[tensor].name;
                    return Err(Unschedulable(format!("no schedule rule can compute `{name}`")));
                }
            }
        }
    }
}

/// Why a product finds an operand in memory that its tiles might compute, if it does.
pub fn held_back(
    graph: &Graph,
    origins: &Origins,
    outputs: &[BufferId],
    target: &CpuTarget,
) -> Option<String> {
    let kept = kept_first(graph, &tensorize::tensorized(graph, origins), outputs);
    tensorize::held_back(graph, origins, &kept, target)
}

/// What is kept before any nest has refused something.
fn kept_first(graph: &Graph, tensorized: &Tensorized, outputs: &[BufferId]) -> BTreeSet<BufferId> {
    outputs.iter().copied().chain(must_keep(graph, tensorized)).collect()
}

/// Tensors that are kept whatever reads them: results and arguments of externs and of
/// tensor intrinsics, what a reduction would compute over and over, and what says so itself.
fn must_keep(graph: &Graph, tensorized: &Tensorized) -> BTreeSet<BufferId> {
    let mut kept: BTreeSet<BufferId> =
        tensorized.keys().chain(tensorized.values().flatten()).copied().collect();
    for stage in &graph.stages {
        match &stage.kind {
            StageKind::Extern { inputs, .. } => {
                kept.extend(inputs);
                kept.extend(&stage.outputs);
            }
            StageKind::Compute(compute)
                if compute.reduce.is_some() && !tensorized.contains_key(&stage.outputs[0]) =>
            {
                kept.extend(loaded(compute).into_iter().filter(|&b| repeats(graph, compute, b)));
            }
            StageKind::Compute(_) if &*stage.tag == te::KEPT => kept.extend(&stage.outputs),
            StageKind::Compute(_) | StageKind::Placeholder => {}
        }
    }
    kept
}

/// The tensors that a compute loads.
pub fn loaded(compute: &Compute) -> BTreeSet<BufferId> {
    let loads = compute.body.iter().flat_map(nodes).filter_map(|e| match e.kind() {
        ExprKind::Load(b, _) => Some(*b),
        _ => None,
    });
    loads.collect()
}

/// True if a reduction evaluates each element of a computed tensor several times, and computing
/// it is not free. What stands still in the inner loops is evaluated outside of them.
pub fn repeats(graph: &Graph, reader: &Compute, tensor: BufferId) -> bool {
    let order: Vec<&Axis> = reader.axes.iter().chain(reader.reduce.iter().flat_map(|r| &r.axes)).collect();
    let innermost = |indices: &[Expr]| {
        let vars: Vec<Expr> = indices.iter().flat_map(nodes).collect();
        let is = |node: &Expr, axis: &Axis| matches!(node.kind(), ExprKind::Var(v) if *v == axis.var);
        order.iter().rposition(|axis| vars.iter().any(|n| is(n, axis))).map_or(0, |at| at + 1)
    };
    let places = reader.body.iter().flat_map(nodes).filter_map(|e| match e.kind() {
        ExprKind::Load(b, indices) if *b == tensor => Some(innermost(indices)),
        _ => None,
    });
    let depth = places.max().unwrap_or(0);
    let reads = order[..depth].iter().map(|a| a.extent as f64).product::<f64>();
    let size = graph.buffers[tensor].shape.iter().map(|&n| n as f64).product::<f64>();
    let Some(StageKind::Compute(producer)) =
        graph.stages.iter().find(|s| s.outputs.contains(&tensor)).map(|s| &s.kind)
    else {
        return false;
    };
    let costly = producer.body.iter().flat_map(nodes).any(|e| match e.kind() {
        ExprKind::Unary(op, _) => !matches!(op, UnaryOp::Neg | UnaryOp::Not | UnaryOp::Abs),
        ExprKind::Binary(op, ..) => e.dtype().is_float() && matches!(op, BinaryOp::Div | BinaryOp::Pow),
        ExprKind::Select(..) | ExprKind::Cast(_) => true,
        _ => false,
    });
    costly && reads > 1.5 * size
}

/// What is known of a graph when its kernels are made.
struct Found<'a> {
    name: &'a str,
    graph: &'a Graph,
    origins: &'a Origins,
    tensorized: &'a Tensorized,
    kept: &'a BTreeSet<BufferId>,
}

impl Found<'_> {
    /// The kernel of a stage that is no placeholder, with something besides; or the tensor that
    /// must be kept besides, or that is in the way of doing both in one kernel.
    fn emit(&self, stage: &Stage, joint: &Joint, goal: &Goal<'_>) -> Result<Scheduled, BufferId> {
        let &Found { name, graph, origins, tensorized, kept } = self;
        let mut kept = kept.clone();
        if !joint.is_alone() {
            // Companions are at hand in the kernel; its root is what is written, whoever asked for it.
            kept.extend(&stage.outputs);
            joint.companions.iter().for_each(|b| {
                kept.remove(b);
            });
        }
        match &stage.kind {
            StageKind::Placeholder => unreachable!("a placeholder is no kernel"),
            StageKind::Extern { .. } if !joint.is_alone() => Err(stage.outputs[0]),
            StageKind::Extern { allocs, body, .. } => Ok(emit_extern(name, graph, stage, allocs, body)),
            StageKind::Compute(compute) => match anchor(graph, origins, tensorized, stage, compute, &kept) {
                Some(anchored) => {
                    tensorize::emit(name, graph, &anchored, &kept, joint, goal).map_err(tensor_of)
                }
                None => emit_compute(name, graph, stage, compute, &kept, joint, goal),
            },
        }
    }
}

/// The tensor that must be kept for a refused nest to be possible.
pub fn tensor_of(refusal: Refusal) -> BufferId {
    match refusal {
        Refusal::Repeated { tensor, .. } | Refusal::Guarded(tensor) => tensor,
    }
}

/// A kernel whose statement the operator wrote itself: tiles are the iterations of its
/// outermost parallel loop, or there is one tile.
fn emit_extern(name: &str, graph: &Graph, stage: &Stage, allocs: &[BufferId], body: &Stmt) -> Scheduled {
    let mut func = PrimFunc::new(name);
    func.buffers = graph.buffers.clone();
    func.vars = graph.vars.clone();
    let (var, extent, inner) = match body {
        Stmt::For { var, extent, kind: LoopKind::Parallel, body } => (*var, extent.clone(), (**body).clone()),
        _ => {
            let info = fermata_ir::tir::VarInfo { name: "t".into(), dtype: fermata_ir::types::DType::I64 };
            (func.vars.push(info), Expr::int(1), body.clone())
        }
    };
    finish(func, stage, allocs.to_vec(), Stmt::For { var, extent, kind: LoopKind::Tiles, body: inner.into() })
}

/// The kernel that writes a stage's outputs by a loop over tiles.
pub fn finish(func: PrimFunc, stage: &Stage, scratch: Vec<BufferId>, tiles: Stmt) -> Scheduled {
    finish_outputs(func, stage.name.clone(), &stage.outputs, scratch, tiles)
}

/// Wraps the body of the tile loop in the block that owns the scratch, and finds the parameters.
pub fn finish_outputs(
    mut func: PrimFunc,
    name: Arc<str>,
    outputs: &[BufferId],
    scratch: Vec<BufferId>,
    tiles: Stmt,
) -> Scheduled {
    let Stmt::For { var, extent, kind, body } = tiles else {
        unreachable!("a kernel is a loop over tiles");
    };
    let inputs: Vec<BufferId> = super::walk::globals_read(&body, &func)
        .into_iter()
        .filter(|b| !outputs.contains(b) && !scratch.contains(b))
        .collect();
    let block = Block {
        name,
        iters: Vec::new(),
        predicate: None,
        reads: Vec::new(),
        writes: Vec::new(),
        attrs: IndexMap::new(),
        allocs: scratch,
        init: None,
        body,
    };
    let body = Box::new(Stmt::Block(Box::new(block)));
    func.body = Stmt::For { var, extent, kind, body };
    func.outputs = outputs.len();
    func.params = inputs.iter().chain(outputs).copied().collect();
    Scheduled { func, inputs, outputs: outputs.to_vec() }
}

/// A kernel that computes a kept tensor, with everything that is not kept inside it, and besides
/// it what the `joint` says.
fn emit_compute(
    name: &str,
    graph: &Graph,
    stage: &Stage,
    compute: &Compute,
    kept: &BTreeSet<BufferId>,
    joint: &Joint,
    goal: &Goal<'_>,
) -> Result<Scheduled, BufferId> {
    if !joint.is_alone() && compute.reduce.is_some() {
        return Err(stage.outputs[0]);
    }
    let reductions = reduced_tensors(graph, kept);
    let mut held = held_rows(graph, compute, kept, joint);
    let mut pointwise = written_out(graph, stage, compute, &kept.iter().chain(&held).copied().collect());
    let whole_rows =
        joint.quantised.is_some() || held.iter().any(|&b| reads_within(graph, kept, b, &reductions));
    if !whole_rows && !reads_any(&pointwise, &reductions) {
        // Nothing is reduced over these rows, and their axes may be joined.
        held.clear();
        pointwise = written_out(graph, stage, compute, kept);
        add_companions(graph, &mut pointwise, compute, kept, joint)?;
    }
    let in_rows = whole_rows || reads_any(&pointwise, &reductions);
    let mut inner_axes = 1;
    loop {
        let mut nest = Nest::new(name, Inliner::new(graph, kept), kept);
        if compute.reduce.is_none() && !in_rows {
            collapse(&mut pointwise, &mut nest.func.buffers);
            split_divided(&mut pointwise, &mut nest.func);
        }
        // Reductions of each element alone are not repeated if a row is cut.
        let own =
            || reductions.iter().all(|&b| size(&graph.buffers[b]) >= size(&graph.buffers[stage.outputs[0]]));
        let splits_columns = !in_rows || (joint.is_alone() && goal.share < 1.0 && own());
        let rows =
            Rows { stage, compute, pointwise: &pointwise, inner_axes, splits_columns, held: &held, joint };
        match emit_rows(nest, &rows, goal) {
            Ok(kernel) => return Ok(kernel),
            Err(Refusal::Guarded(tensor)) => return Err(tensor),
            Err(Refusal::Repeated { tensor, axes }) => {
                // A reduction over the trailing axes fits if the rows are the leading ones.
                let lead = pointwise.axes.iter().filter(|a| a.extent > 1);
                let prefix = lead.clone().take(axes.len()).map(|a| a.var).collect::<Vec<_>>();
                let wanted = lead.count() - axes.len().min(prefix.len());
                if prefix != axes || wanted <= inner_axes {
                    return Err(tensor);
                }
                inner_axes = wanted;
            }
        }
    }
}

/// The tensors whose rows are computed before all else that is in a row, in the order of the graph:
/// those that are worth it, and those that are results too.
fn held_rows(graph: &Graph, compute: &Compute, kept: &BTreeSet<BufferId>, joint: &Joint) -> Vec<BufferId> {
    let mut held = held_tensors(graph, compute, kept);
    held.retain(|b| !joint.companions.contains(b));
    held.extend(&joint.companions);
    held.sort_by_key(|b| graph.stages.iter().position(|s| s.outputs.contains(b)));
    held
}

/// True if an element of a tensor needs one of these, through what is not kept.
fn reads_within(
    graph: &Graph,
    kept: &BTreeSet<BufferId>,
    tensor: BufferId,
    wanted: &BTreeSet<BufferId>,
) -> bool {
    let stage = graph.stages.iter().find(|s| s.outputs == [tensor]);
    stage.is_some_and(|stage| match &stage.kind {
        StageKind::Compute(compute) => reads_any(&written_out(graph, stage, compute, kept), wanted),
        StageKind::Placeholder | StageKind::Extern { .. } => false,
    })
}

/// Adds the elements of companions before those of the root, all in terms of the same loads.
fn add_companions(
    graph: &Graph,
    pointwise: &mut Pointwise,
    compute: &Compute,
    kept: &BTreeSet<BufferId>,
    joint: &Joint,
) -> Result<(), BufferId> {
    if joint.companions.is_empty() {
        return Ok(());
    }
    let mut inliner = Inliner::new(graph, kept);
    let unit = compute.axes.iter().filter(|a| a.extent == 1);
    let env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
    let companions = element_loads(graph, &joint.companions, &compute.axes);
    let all = inliner.instantiate_all(companions.iter().chain(&compute.body), &env);
    let is_load = |(b, e): &(&BufferId, &Expr)| matches!(e.kind(), ExprKind::Load(l, _) if l == *b);
    if let Some((&tensor, _)) = joint.companions.iter().zip(&all).find(is_load) {
        return Err(tensor);
    }
    pointwise.bodies = all;
    pointwise.outputs.splice(0..0, joint.companions.iter().copied());
    Ok(())
}

/// The elements of tensors at these axes.
pub fn element_loads(graph: &Graph, tensors: &[BufferId], axes: &[Axis]) -> Vec<Expr> {
    let at = |&b: &BufferId| {
        let indices = axes.iter().map(Axis::expr).collect();
        Expr::new(ExprKind::Load(b, indices), graph.buffers[b].dtype)
    };
    tensors.iter().map(at).collect()
}

/// The elements of a stage in terms of the tensors where inlining ends.
fn written_out(graph: &Graph, stage: &Stage, compute: &Compute, ends: &BTreeSet<BufferId>) -> Pointwise {
    let mut inliner = Inliner::new(graph, ends);
    // An axis of one step has no loop to bind it.
    let unit = compute.axes.iter().filter(|a| a.extent == 1);
    let env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
    Pointwise {
        axes: compute.axes.clone(),
        bodies: compute.body.iter().map(|b| inliner.instantiate(b, &env)).collect(),
        outputs: stage.outputs.clone(),
    }
}

/// True if an element loads one of the tensors.
fn reads_any(pointwise: &Pointwise, tensors: &BTreeSet<BufferId>) -> bool {
    pointwise.bodies.iter().flat_map(nodes).any(|e| match e.kind() {
        ExprKind::Load(b, _) => tensors.contains(b),
        _ => false,
    })
}

fn size(buffer: &Buffer) -> usize {
    buffer.shape.iter().product()
}

/// The tensors that reductions inside a kernel compute.
pub fn reduced_tensors(graph: &Graph, kept: &BTreeSet<BufferId>) -> BTreeSet<BufferId> {
    let reduces = |s: &&Stage| matches!(&s.kind, StageKind::Compute(c) if c.reduce.is_some());
    let tensors = graph.stages.iter().filter(reduces).flat_map(|s| s.outputs.iter().copied());
    tensors.filter(|b| !kept.contains(b)).collect()
}
