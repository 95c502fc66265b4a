//! Schedule rules for GPUs: from stages to kernels of tiles, a tile being a block of threads.
//!
//! As for CPUs ([`super::rules_cpu`]), every tensor that is kept becomes one kernel, or several of
//! them do where one kernel can write them, and more are kept where a nest refuses. A kernel is one
//! of
//! - *points*: a thread an element, which covers every compute;
//! - *rows*: a block a row, whose threads share the reductions over it (softmax, norms, and
//!   reductions to few elements), by a tree in shared memory;
//! - a *product*: matrix products and convolutions, tiles of both operands in shared memory; of
//!   int8, float16 and bfloat16 on tensor cores where there are any, of int8 by dot products of
//!   four bytes elsewhere and where there are few rows;
//! - an *extern*: the operator's own statement, a thread an iteration of its parallel loop.
//!
//! Points, rows and products write tensors of the root's shape besides, each thread where it has the
//! root's element at hand. Rows also write what has one element a row (sums, the scales of quantised
//! rows), and keep a row that is a result in shared memory while its reductions read it.

mod dot;
mod gemm;
mod narrow;
mod points;
mod rows;
mod tensor_core;

use std::collections::BTreeSet;

use fermata_ir::te::{Combiner, Compute, Graph, Reduce, Stage, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind};
use fermata_ir::types::DType;

use super::collapse::{Pointwise, collapse};
use super::inline::{Env, Inliner, nodes};
use super::joint::{Joining, Joint};
use super::nest::{Nest, Refusal, is_contiguous};
use super::rows::Rows;
use super::rules_cpu::{
    Scheduled, Unschedulable, element_loads, loaded, reduced_tensors, repeats, tensor_of,
};
use crate::target::CudaTarget;

/// Bytes of scratch memory that an extern may have for each thread.
const MAX_SCRATCH: usize = 256 << 10;

/// Elements from which on a block shares a reduction.
const SHARED_REDUCTION: usize = 64;

/// Elements of the longest row of which a kernel writes one element besides: a block goes through
/// it alone.
const LONGEST_ROW: usize = 1 << 14;

/// Bytes of rows that a block keeps in shared memory, beside what reductions need.
const MAX_HELD: usize = 32 << 10;

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
        let found = Found { name, graph, kept: &kept, target };
        let joining = Joining { graph, origins: None, outputs, longest_row: LONGEST_ROW };
        match joining.schedule(&|stage, joint| found.emit(stage, joint)) {
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

/// What is known of a graph when its kernels are made.
struct Found<'a> {
    name: &'a str,
    graph: &'a Graph,
    kept: &'a BTreeSet<BufferId>,
    target: CudaTarget,
}

impl Found<'_> {
    /// The kernel of a stage that is no placeholder, with something besides; or the tensor that
    /// must be kept besides, or that is in the way of doing both in one kernel.
    fn emit(&self, stage: &Stage, joint: &Joint) -> Result<Scheduled, BufferId> {
        let &Found { name, graph, kept, target } = self;
        let compute = match &stage.kind {
            StageKind::Placeholder => unreachable!("a placeholder is no kernel"),
            StageKind::Extern { .. } if !joint.is_alone() => return Err(stage.outputs[0]),
            StageKind::Extern { allocs, body, .. } => {
                return Ok(points::emit_extern(name, graph, stage, allocs, body));
            }
            StageKind::Compute(compute) => compute,
        };
        let mut kernel =
            Kernel { name, graph, target, stage, compute, joint, outputs: stage.outputs.clone(), kept };
        if joint.is_alone() {
            return kernel.emit();
        }
        // What is written is at hand in the kernel, and read there rather than in memory.
        let written = joint.outputs(&stage.outputs);
        let kept = kept.iter().filter(|b| !written.contains(b)).copied().collect();
        kernel.outputs.splice(0..0, joint.companions.iter().copied());
        let body = element_loads(graph, &kernel.outputs, &compute.axes);
        let compute = Compute { axes: compute.axes.clone(), reduce: None, body };
        Kernel { compute: &compute, kept: &kept, ..kernel }.emit()
    }
}

/// A kernel to be made, with everything that is not kept inside it.
struct Kernel<'a> {
    name: &'a str,
    graph: &'a Graph,
    target: CudaTarget,
    /// The root.
    stage: &'a Stage,
    /// The elements of the outputs.
    compute: &'a Compute,
    /// The root's outputs and those of its shape.
    outputs: Vec<BufferId>,
    joint: &'a Joint,
    kept: &'a BTreeSet<BufferId>,
}

impl<'a> Kernel<'a> {
    fn emit(&self) -> Result<Scheduled, BufferId> {
        let mut pointwise = self.pointwise(&[]);
        let reads = self.reductions_read(&pointwise);
        let rows = self.rows(&pointwise, &[]);
        if let Some(product) = gemm::find(self.graph, self.kept, &rows)
            && let Some(done) = self.emit_product(&rows, &product)
        {
            return done.map_err(tensor_of);
        }
        if self.compute.reduce.is_none() && reads.is_empty() {
            let mut nest = self.nest();
            collapse(&mut pointwise, &mut nest.func.buffers);
            return points::emit_points(nest, &self.rows(&pointwise, &[])).map_err(tensor_of);
        }
        let own = self.compute.reduce.is_some().then_some(self.compute);
        let reductions: Vec<&Compute> = reads.iter().copied().chain(own).collect();
        let shareable = reductions.iter().all(|c| is_shareable(c));
        let mut inliner = Inliner::new(self.graph, self.kept);
        let points = || points::emit_points(self.nest(), &rows);
        if shareable && reductions.iter().any(|c| walks_its_axis(c, &mut inliner)) {
            return match self.emit_rows(&reads) {
                Err(tensor) => points().map_err(|_| tensor),
                done => done,
            };
        }
        match points() {
            Err(_) if shareable => self.emit_rows(&reads),
            done => done.map_err(tensor_of),
        }
    }

    fn nest(&self) -> Nest<'a> {
        Nest::new(self.name, Inliner::new(self.graph, self.kept), self.kept)
    }

    /// The elements of the outputs in terms of what is kept and of these tensors.
    fn pointwise(&self, ends: &[BufferId]) -> Pointwise {
        let ends = self.kept.iter().chain(ends).copied().collect();
        let mut inliner = Inliner::new(self.graph, &ends);
        // An axis of one step has no loop to bind it.
        let unit = self.compute.axes.iter().filter(|a| a.extent == 1);
        let env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
        Pointwise {
            axes: self.compute.axes.clone(),
            bodies: inliner.instantiate_all(self.compute.body.iter(), &env),
            outputs: self.outputs.clone(),
        }
    }

    fn rows<'r>(&'r self, pointwise: &'r Pointwise, held: &'r [BufferId]) -> Rows<'r> {
        Rows {
            stage: self.stage,
            compute: self.compute,
            pointwise,
            inner_axes: 0,
            splits_columns: false,
            held,
            joint: self.joint,
        }
    }

    /// A kernel of tiles for a product, if it is worth one.
    fn emit_product(&self, rows: &Rows<'_>, product: &gemm::Product) -> Option<Result<Scheduled, Refusal>> {
        let mut nest = self.nest();
        let (product, pointwise) = product.collapsed(rows.pointwise, &mut nest.func.buffers)?;
        let rows = &Rows { pointwise: &pointwise, ..*rows };
        let narrow = narrow::narrow_dtype(&product);
        let by_columns = narrow == Some(DType::I8) && dot::has_few_rows(&nest, &product);
        if !by_columns && !product.is_large() {
            return None;
        }
        if let Some(&tensor) = self.joint.per_row.first() {
            // Tiles have no whole rows.
            return Some(Err(Refusal::Guarded(tensor)));
        }
        Some(match narrow {
            Some(_) if by_columns => dot::emit_columns(nest, rows, &product),
            Some(dtype) if self.target.sm >= tensor_core::SM => {
                tensor_core::emit(nest, rows, &product, dtype)
            }
            Some(DType::I8) => dot::emit_tiles(nest, rows, &product),
            Some(_) | None => gemm::emit(nest, rows, &product),
        })
    }

    /// Rows over ever more trailing axes, until the reductions that are read fit.
    fn emit_rows(&self, reads: &[&Compute]) -> Result<Scheduled, BufferId> {
        let held = self.held(reads);
        // What has one element a row is written out where the rows are, once for all that read it.
        let ends: Vec<BufferId> = held.iter().chain(&self.joint.per_row).copied().collect();
        let pointwise = self.pointwise(&ends);
        let mut rows = self.rows(&pointwise, &held);
        let lead: Vec<_> = pointwise.axes.iter().filter(|a| a.extent > 1).map(|a| a.var).collect();
        let per_row = self.joint.per_row.iter().map(|&b| &self.graph.buffers[b].shape);
        let leading = per_row.map(|shape| shape.iter().filter(|&&n| n != 1).count()).max();
        rows.inner_axes = leading.map_or(usize::from(!held.is_empty()), |n| lead.len() - n);
        loop {
            match rows::emit_rows(self.nest(), &rows) {
                Ok(kernel) => return Ok(kernel),
                Err(Refusal::Guarded(tensor)) => return Err(tensor),
                Err(Refusal::Repeated { tensor, axes }) => {
                    // A reduction over the trailing axes fits if the rows are the leading ones.
                    let wanted = lead.len() - axes.len().min(lead.len());
                    if !lead.starts_with(&axes) || wanted <= rows.inner_axes {
                        return Err(tensor);
                    }
                    rows.inner_axes = wanted;
                }
            }
        }
    }

    /// The outputs of the root's shape that reductions in the kernel read, as far as their rows fit
    /// in shared memory.
    fn held(&self, reads: &[&Compute]) -> Vec<BufferId> {
        let ends = self.kept.iter().chain(&self.outputs).copied().collect();
        let mut inliner = Inliner::new(self.graph, &ends);
        let mut read = BTreeSet::new();
        for body in reads.iter().flat_map(|c| &c.body) {
            let body = inliner.instantiate(body, &Env::new());
            read.extend(nodes(&body).iter().filter_map(|e| match e.kind() {
                ExprKind::Load(b, _) => Some(*b),
                _ => None,
            }));
        }
        let mut left = MAX_HELD;
        let mut held: Vec<BufferId> = self.outputs.iter().filter(|b| read.contains(b)).copied().collect();
        held.sort_by_key(|b| self.graph.stages.iter().position(|s| s.outputs.contains(b)));
        held.retain(|&b| {
            let buffer = &self.graph.buffers[b];
            let bytes = buffer.shape.last().map_or(0, |n| n.saturating_mul(buffer.dtype.bytes()));
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            fits
        });
        held
    }

    /// The reductions that the kernel reads, directly or by one another, and that are not kept.
    fn reductions_read(&self, pointwise: &Pointwise) -> Vec<&'a Compute> {
        let reduced = reduced_tensors(self.graph, self.kept);
        let mut inliner = Inliner::new(self.graph, self.kept);
        let mut found: Vec<&Compute> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut pending = pointwise.bodies.clone();
        for load in element_loads(self.graph, &self.joint.per_row, &[]) {
            pending.push(inliner.instantiate(&load, &Env::new()));
        }
        while let Some(body) = pending.pop() {
            for node in nodes(&body) {
                let ExprKind::Load(b, _) = node.kind() else { continue };
                if !reduced.contains(b) || !seen.insert(*b) {
                    continue;
                }
                let stage = self.graph.stages.iter().find(|s| s.outputs.contains(b));
                if let Some(StageKind::Compute(compute)) = stage.map(|s| &s.kind) {
                    pending.extend(compute.body.iter().map(|e| inliner.instantiate(e, &Env::new())));
                    found.push(compute);
                }
            }
        }
        found
    }
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
