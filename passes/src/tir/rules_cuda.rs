//! Schedule rules for GPUs: from stages to kernels of tiles, a tile being a block of threads.
//!
//! As for CPUs ([`super::rules_cpu`]), every tensor that is kept becomes one kernel, and more
//! are kept where a nest refuses. A kernel is one of
//! - *points*: a thread an element, which covers every compute;
//! - *rows*: a block a row, whose threads share the reductions over it (softmax, norms, and
//!   reductions to few elements), by a tree in shared memory;
//! - a *product*: matrix products and convolutions, tiles of both operands in shared memory; of
//!   int8, float16 and bfloat16 on tensor cores where there are any, of int8 by dot products of
//!   four bytes elsewhere and where there are few rows;
//! - an *extern*: the operator's own statement, a thread an iteration of its parallel loop.

mod dot;
mod gemm;
mod narrow;
mod points;
mod tensor_core;

use std::collections::BTreeSet;

use fermata_ir::te::{Combiner, Compute, Graph, Reduce, Stage, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind};
use fermata_ir::types::DType;

use super::collapse::{Pointwise, collapse};
use super::inline::{Env, Inliner, nodes};
use super::joint::ALONE;
use super::nest::{Nest, Refusal, is_contiguous};
use super::rows::Rows;
use super::rules_cpu::{Scheduled, Unschedulable, loaded, reduced_tensors, repeats, tensor_of};
use crate::target::CudaTarget;

/// Bytes of scratch memory that an extern may have for each thread.
const MAX_SCRATCH: usize = 256 << 10;

/// Elements from which on a block shares a reduction.
const SHARED_REDUCTION: usize = 64;

/// The kernels, in order, that compute `outputs`.
///
/// # Errors
/// If a stage has a form that no rule handles.
pub fn schedule(
    name: &str,
    graph: &Graph,
    outputs: &[BufferId],
    target: CudaTarget,
) -> Result<Vec<Scheduled>, Unschedulable> {
    let mut kept: BTreeSet<BufferId> = outputs.iter().copied().collect();
    for stage in &graph.stages {
        match &stage.kind {
            StageKind::Extern { inputs, allocs, .. } => {
                scratch_fits(graph, stage, allocs)?;
                kept.extend(inputs);
                kept.extend(&stage.outputs);
            }
            StageKind::Compute(compute) if compute.reduce.is_some() => {
                kept.extend(loaded(compute).into_iter().filter(|&b| repeats(graph, compute, b)));
            }
            StageKind::Compute(_) | StageKind::Placeholder => {}
        }
    }
    loop {
        match try_schedule(name, graph, outputs, &kept, target) {
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

/// Scratch memory of an extern is each thread's own.
fn scratch_fits(graph: &Graph, stage: &Stage, allocs: &[BufferId]) -> Result<(), Unschedulable> {
    let size = |b: &BufferId| {
        let buffer = &graph.buffers[*b];
        buffer.shape.iter().product::<usize>().saturating_mul(buffer.dtype.bytes())
    };
    let bytes = allocs.iter().map(size).fold(0, usize::saturating_add);
    if bytes <= MAX_SCRATCH {
        return Ok(());
    }
    let name = &stage.name;
    Err(Unschedulable(format!(
        "`{name}` needs {bytes} bytes of scratch memory in one GPU thread, which has at most {MAX_SCRATCH}"
    )))
}

/// One kernel for each kept tensor that is needed; or the tensor that must be kept besides.
fn try_schedule(
    name: &str,
    graph: &Graph,
    outputs: &[BufferId],
    kept: &BTreeSet<BufferId>,
    target: CudaTarget,
) -> Result<Vec<Scheduled>, BufferId> {
    let mut needed: BTreeSet<BufferId> = outputs.iter().copied().collect();
    let mut kernels = Vec::new();
    for stage in graph.stages.iter().rev() {
        if !stage.outputs.iter().any(|b| needed.contains(b)) {
            continue;
        }
        let kernel = match &stage.kind {
            StageKind::Placeholder => continue,
            StageKind::Extern { allocs, body, .. } => points::emit_extern(name, graph, stage, allocs, body),
            StageKind::Compute(compute) => emit_compute(name, graph, stage, compute, kept, target)?,
        };
        needed.extend(&kernel.inputs);
        kernels.push(kernel);
    }
    kernels.reverse();
    Ok(kernels)
}

/// A kernel that computes a kept tensor, with everything that is not kept inside it.
fn emit_compute(
    name: &str,
    graph: &Graph,
    stage: &Stage,
    compute: &Compute,
    kept: &BTreeSet<BufferId>,
    target: CudaTarget,
) -> Result<Scheduled, BufferId> {
    let mut inliner = Inliner::new(graph, kept);
    // An axis of one step has no loop to bind it.
    let env: Env = compute.axes.iter().filter(|a| a.extent == 1).map(|a| (a.var, Expr::int(0))).collect();
    let mut pointwise = Pointwise {
        axes: compute.axes.clone(),
        bodies: compute.body.iter().map(|b| inliner.instantiate(b, &env)).collect(),
        outputs: stage.outputs.clone(),
    };
    let nest = || Nest::new(name, Inliner::new(graph, kept), kept);
    let reads = reductions_read(graph, kept, &pointwise);
    let rows = Rows {
        stage,
        compute,
        pointwise: &pointwise,
        inner_axes: 0,
        splits_columns: false,
        held: &[],
        joint: &ALONE,
    };
    if let Some(product) = gemm::find(graph, kept, &rows)
        && let Some(done) = emit_product(&nest, &rows, &product, target)
    {
        return done.map_err(tensor_of);
    }
    if compute.reduce.is_none() && reads.is_empty() {
        let mut nest = nest();
        collapse(&mut pointwise, &mut nest.func.buffers);
        let rows = Rows {
            stage,
            compute,
            pointwise: &pointwise,
            inner_axes: 0,
            splits_columns: false,
            held: &[],
            joint: &ALONE,
        };
        return points::emit_points(nest, &rows).map_err(tensor_of);
    }
    let own = compute.reduce.is_some().then_some(compute);
    let reductions: Vec<&Compute> = reads.into_iter().chain(own).collect();
    let shareable = reductions.iter().all(|c| is_shareable(c));
    if shareable && reductions.iter().any(|c| walks_its_axis(c, &mut inliner)) {
        return match emit_rows(&nest, rows) {
            Err(tensor) => points::emit_points(
                nest(),
                &Rows {
                    stage,
                    compute,
                    pointwise: &pointwise,
                    inner_axes: 0,
                    splits_columns: false,
                    held: &[],
                    joint: &ALONE,
                },
            )
            .map_err(|_| tensor),
            done => done,
        };
    }
    match points::emit_points(nest(), &rows) {
        Err(_) if shareable => emit_rows(&nest, rows),
        done => done.map_err(tensor_of),
    }
}

/// A kernel of tiles for a product, if it is worth one.
fn emit_product<'a>(
    nest: &dyn Fn() -> Nest<'a>,
    rows: &Rows<'_>,
    product: &gemm::Product,
    target: CudaTarget,
) -> Option<Result<Scheduled, Refusal>> {
    let narrow = narrow::narrow_dtype(product);
    if narrow == Some(DType::I8) && dot::has_few_rows(&nest(), product) {
        return Some(dot::emit_columns(nest(), rows, product));
    }
    let tiles = |nest| match narrow {
        Some(dtype) if target.sm >= tensor_core::SM => tensor_core::emit(nest, rows, product, dtype),
        Some(DType::I8) => dot::emit_tiles(nest, rows, product),
        Some(_) | None => gemm::emit(nest, rows, product),
    };
    product.is_large().then(|| tiles(nest()))
}

/// Rows over ever more trailing axes, until the reductions that are read fit.
fn emit_rows<'a>(nest: &dyn Fn() -> Nest<'a>, mut rows: Rows<'_>) -> Result<Scheduled, BufferId> {
    loop {
        match points::emit_rows(nest(), &rows) {
            Ok(kernel) => return Ok(kernel),
            Err(Refusal::Guarded(tensor)) => return Err(tensor),
            Err(Refusal::Repeated { tensor, axes }) => {
                // A reduction over the trailing axes fits if the rows are the leading ones.
                let lead = rows.pointwise.axes.iter().filter(|a| a.extent > 1);
                let prefix = lead.clone().take(axes.len()).map(|a| a.var).collect::<Vec<_>>();
                let wanted = lead.count() - axes.len().min(prefix.len());
                if prefix != axes || wanted <= rows.inner_axes {
                    return Err(tensor);
                }
                rows.inner_axes = wanted;
            }
        }
    }
}

/// The reductions that a compute reads, directly or by one another, and that are not kept.
fn reductions_read<'a>(
    graph: &'a Graph,
    kept: &BTreeSet<BufferId>,
    pointwise: &Pointwise,
) -> Vec<&'a Compute> {
    let reduced = reduced_tensors(graph, kept);
    let mut inliner = Inliner::new(graph, kept);
    let mut found: Vec<&Compute> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending = pointwise.bodies.clone();
    while let Some(body) = pending.pop() {
        for node in nodes(&body) {
            let ExprKind::Load(b, _) = node.kind() else { continue };
            if !reduced.contains(b) || !seen.insert(*b) {
                continue;
            }
            let stage = graph.stages.iter().find(|s| s.outputs.contains(b));
            if let Some(StageKind::Compute(compute)) = stage.map(|s| &s.kind) {
                pending.extend(compute.body.iter().map(|e| inliner.instantiate(e, &Env::new())));
                found.push(compute);
            }
        }
    }
    found
}

/// True if the threads of a block can share the reduction.
fn is_shareable(compute: &Compute) -> bool {
    let reduce = compute.reduce.as_ref();
    reduce.is_some_and(|r| matches!(r.combiner, Combiner::Binary(_))) && compute.body.len() == 1
}

/// True if the reduction is long and neighbouring threads would read neighbouring elements.
fn walks_its_axis(compute: &Compute, inliner: &mut Inliner<'_>) -> bool {
    let Some(Reduce { axes, .. }) = &compute.reduce else { return false };
    let length: usize = axes.iter().map(|a| a.extent).product();
    let Some(last) = axes.iter().rfind(|a| a.extent > 1) else { return false };
    length >= SHARED_REDUCTION && is_contiguous(&inliner.instantiate(&compute.body[0], &Env::new()), last.var)
}
