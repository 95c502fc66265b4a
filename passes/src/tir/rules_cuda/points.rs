//! A thread an element, a block a row, and externs.

use fermata_ir::te::{Axis, Graph, Stage};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Scope, Stmt, VarId, VarInfo};
use fermata_ir::types::DType;

use super::super::inline::Env;
use super::super::nest::{Nest, Refusal};
use super::super::rows::{Rows, close_kernel, emit_elements, emit_point, store};
use super::super::rules_cpu::{Scheduled, finish};

/// Threads of a block at most.
const THREADS: usize = 256;

/// Threads of a block that runs an extern: its iterations are long, and each has its scratch.
const EXTERN_THREADS: usize = 64;

/// Threads of a warp.
const WARP: usize = 32;

fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

/// Threads for this many independent elements: a power of two.
fn threads_for(count: usize) -> usize {
    count.next_power_of_two().clamp(WARP, THREADS)
}

fn extent(axes: &[Axis]) -> usize {
    axes.iter().map(|a| a.extent).product()
}

/// What stands for axes of one step.
fn unit_axes(rows: &Rows<'_>) -> Env {
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
/// If it reads a reduction that several elements share.
pub fn emit_points(mut nest: Nest<'_>, rows: &Rows<'_>) -> Result<Scheduled, Refusal> {
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

/// Emits a kernel in which each block computes a row: the elements at one place of the leading
/// axes. Reductions that the row's elements share, and the stage's own, are done by all threads.
///
/// # Errors
/// If it reads a reduction that several rows share.
pub fn emit_rows(mut nest: Nest<'_>, rows: &Rows<'_>) -> Result<Scheduled, Refusal> {
    let axes: Vec<Axis> = rows.pointwise.axes.iter().filter(|a| a.extent != 1).cloned().collect();
    if extent(&axes) == 0 {
        return Ok(emit_nothing(nest, rows));
    }
    let (outer, inner) = axes.split_at(axes.len() - rows.inner_axes.min(axes.len()));
    let tile = nest.var("t", DType::I64);
    nest.open(tile, extent(outer).into(), LoopKind::Tiles);
    let threads = if inner.is_empty() { THREADS } else { threads_for(extent(inner)) };
    let block = nest.open_threads(threads);
    nest.share_reductions(block);
    nest.bind_axes(outer, &var(tile));
    outer.iter().for_each(|a| nest.declare_axis(a));
    let env = unit_axes(rows);
    if inner.is_empty() {
        let values = match &rows.compute.reduce {
            Some(reduce) => nest.accumulate(rows.compute, reduce, env.clone())?,
            None => place_all(&mut nest, rows, &env)?,
        };
        nest.open_guard(var(block.index).equal(0));
        store(&mut nest, rows, &env, values);
        nest.close();
    } else {
        let (at, opened) = nest.open_share(block, extent(inner));
        nest.bind_axes(inner, &at);
        inner.iter().for_each(|a| nest.declare_axis(a));
        emit_elements(&mut nest, rows, &env, None)?;
        (0..opened).for_each(|_| nest.close());
    }
    (0..2).for_each(|_| nest.close());
    Ok(close_kernel(nest, rows))
}

fn place_all(nest: &mut Nest<'_>, rows: &Rows<'_>, env: &Env) -> Result<Vec<Expr>, Refusal> {
    let bodies = nest.inliner().instantiate_all(rows.pointwise.bodies.iter(), env);
    nest.place_all(&bodies)
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
