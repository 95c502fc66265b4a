//! A thread an element, and externs.

use fermata_ir::te::{Axis, Graph, Stage};
use fermata_ir::tir::{BufferId, Expr, LoopKind, PrimFunc, Scope, Stmt, VarInfo};
use fermata_ir::types::DType;

use super::super::inline::Env;
use super::super::nest::{Nest, Refusal};
use super::super::rows::{Rows, close_kernel, emit_point};
use super::super::rules_cpu::{Scheduled, finish};
use super::gemm::{extent, var};

/// Threads of a block at most.
pub const THREADS: usize = 256;

/// Threads of a block that runs an extern: its iterations are long, and each has its scratch.
const EXTERN_THREADS: usize = 64;

/// Threads of a warp.
const WARP: usize = 32;

/// Threads for this many independent elements: a power of two.
pub fn threads_for(count: usize) -> usize {
    count.next_power_of_two().clamp(WARP, THREADS)
}

/// What stands for axes of one step.
pub fn unit_axes(rows: &Rows<'_>) -> Env {
    let unit = rows.pointwise.axes.iter().filter(|a| a.extent == 1);
    unit.map(|a| (a.var, Expr::int(0))).collect()
}

/// A kernel without tiles, for a result without elements.
pub fn emit_nothing(mut nest: Nest<'_>, rows: &Rows<'_>) -> Scheduled {
    let tile = nest.var("t", DType::I64);
    nest.open(tile, Expr::int(0), LoopKind::Tiles);
    nest.close();
    close_kernel(nest, rows)
}

/// Emits a kernel in which each thread computes one element.
///
/// # Errors
/// If it reads a reduction that several elements share, or something is asked for a row.
pub fn emit_points(mut nest: Nest<'_>, rows: &Rows<'_>) -> Result<Scheduled, Refusal> {
    if let Some(&tensor) = rows.joint.per_row.first() {
        return Err(Refusal::Guarded(tensor));
    }
    let axes: Vec<Axis> = rows.pointwise.axes.iter().filter(|a| a.extent != 1).cloned().collect();
    let count = extent(&axes);
    if count == 0 {
        return Ok(emit_nothing(nest, rows));
    }
    let threads = threads_for(count);
    let tile = nest.var("t", DType::I64);
    nest.open(tile, count.div_ceil(threads).into(), LoopKind::Tiles);
    let block = nest.open_threads(threads);
    let at = nest.bind_fresh_named("e", var(tile) * threads + var(block.index));
    // What is bound inside the condition is not moved out of it.
    nest.open_guard(at.clone().lt(count));
    nest.bind_axes(&axes, &at);
    axes.iter().for_each(|a| nest.declare_axis(a));
    emit_point(&mut nest, rows, &mut unit_axes(rows))?;
    (0..3).for_each(|_| nest.close());
    Ok(close_kernel(nest, rows))
}

/// A kernel whose statement the operator wrote itself: a thread runs an iteration of its
/// outermost parallel loop, or one thread all of it. Scratch memory is the thread's own.
pub fn emit_extern(name: &str, graph: &Graph, stage: &Stage, allocs: &[BufferId], body: &Stmt) -> Scheduled {
    let mut func = PrimFunc::new(name);
    func.buffers = graph.buffers.clone();
    func.vars = graph.vars.clone();
    allocs.iter().for_each(|&b| func.buffers[b].scope = Scope::Local);
    let mut new = |name: &str| func.vars.push(VarInfo { name: name.into(), dtype: DType::I64 });
    let (tile, tx) = (new("t"), new("tx"));
    let (count, iteration) = match body {
        Stmt::For { var: i, extent, kind: LoopKind::Parallel, body } if extent.as_int().is_some() => {
            (extent.as_int().map_or(1, |n| n.max(0) as usize), Some((*i, body)))
        }
        _ => (1, None),
    };
    let threads = if count > 1 { EXTERN_THREADS } else { 1 };
    let inner = match iteration {
        Some((i, body)) => {
            let at = var(tile) * threads + var(tx);
            let guarded = Stmt::If { cond: var(i).lt(count), then: body.clone(), els: None };
            Stmt::Seq(vec![Stmt::Let { var: i, value: at }, guarded])
        }
        None => body.clone(),
    };
    let kind = LoopKind::ThreadBinding("threadIdx.x".into());
    let threads_loop = Stmt::For { var: tx, extent: threads.into(), kind, body: Box::new(inner) };
    let (extent, body) = (count.div_ceil(threads).into(), Box::new(threads_loop));
    finish(func, stage, allocs.to_vec(), Stmt::For { var: tile, extent, kind: LoopKind::Tiles, body })
}
