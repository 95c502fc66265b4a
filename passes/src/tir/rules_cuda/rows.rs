//! A block a row.

use fermata_ir::te::Axis;
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Scope, Stmt};
use fermata_ir::types::DType;

use super::super::inline::Env;
use super::super::nest::{BlockThreads, Nest, Refusal};
use super::super::rows::{Rows, close_kernel, emit_elements, store};
use super::super::rules_cpu::Scheduled;
use super::gemm::{extent, var};
use super::points::{THREADS, emit_nothing, threads_for, unit_axes};

/// Emits a kernel in which each block computes a row: the elements at one place of the leading
/// axes. Reductions that the row's elements share, and the stage's own, are done by all threads.
///
/// # Errors
/// If it reads a reduction that several rows share, or its rows are not those of what is asked for
/// a row.
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
        for &tensor in rows.held {
            hold_row(&mut nest, block, rows, (tensor, inner), &env)?;
        }
        let opened = open_row(&mut nest, block, inner);
        emit_elements(&mut nest, rows, &env, None)?;
        (0..opened).for_each(|_| nest.close());
    }
    store_per_row(&mut nest, block, rows, outer)?;
    (0..2).for_each(|_| nest.close());
    Ok(close_kernel(nest, rows))
}

fn place_all(nest: &mut Nest<'_>, rows: &Rows<'_>, env: &Env) -> Result<Vec<Expr>, Refusal> {
    let bodies = nest.inliner().instantiate_all(rows.pointwise.bodies.iter(), env);
    nest.place_all(&bodies)
}

/// Opens what goes through the elements of a row, and says that its axes are known there; gives the
/// number of frames that were opened, at least one: what is at hand outside of them is the row's.
fn open_row(nest: &mut Nest<'_>, block: BlockThreads, inner: &[Axis]) -> usize {
    let count = extent(inner);
    nest.open_note("go through the row");
    let (at, opened) = nest.open_share(block, count);
    nest.bind_axes(inner, &at);
    inner.iter().for_each(|a| nest.declare_axis(a));
    opened + 1
}

/// Computes the row of a tensor of the root's shape into shared memory, where it is read from here
/// on. A row that is more than the last axis stays as it is.
fn hold_row(
    nest: &mut Nest<'_>,
    block: BlockThreads,
    rows: &Rows<'_>,
    (tensor, inner): (BufferId, &[Axis]),
    env: &Env,
) -> Result<(), Refusal> {
    let (Some((last, leading)), [own]) = (rows.pointwise.axes.split_last(), inner) else { return Ok(()) };
    if last.var != own.var {
        return Ok(());
    }
    let at = |a: &Axis| env.get(&a.var).cloned().unwrap_or_else(|| a.expr());
    let place: Vec<Expr> = leading.iter().map(at).collect();
    let dtype = nest.func.buffers[tensor].dtype;
    let row = nest.scratch_buffer("row", &[last.extent], dtype, Scope::Shared);
    let axes = nest.fresh_axes(inner, &mut Env::new());
    let opened = open_row(nest, block, &axes);
    let column = axes[0].expr();
    let indices = place.iter().cloned().chain([column.clone()]).collect();
    let element = Expr::new(ExprKind::Load(tensor, indices), dtype);
    let element = nest.inliner().instantiate(&element, &Env::new());
    let value = nest.place(&element)?;
    nest.store_element(row, column, value);
    (0..opened).for_each(|_| nest.close());
    nest.push(Stmt::Barrier);
    nest.inliner().hold(tensor, row, Vec::new(), place);
    Ok(())
}

/// Stores what has one element a row: all threads compute it, one stores it.
fn store_per_row(
    nest: &mut Nest<'_>,
    block: BlockThreads,
    rows: &Rows<'_>,
    outer: &[Axis],
) -> Result<(), Refusal> {
    let mut elements = Vec::new();
    for &tensor in &rows.joint.per_row {
        let buffer = &nest.func.buffers[tensor];
        let proper = buffer.shape.iter().filter(|&&n| n != 1);
        if !proper.eq(outer.iter().map(|a| &a.extent)) {
            return Err(Refusal::Guarded(tensor));
        }
        let mut axes = outer.iter();
        let index = |&n: &usize| match n {
            1 => Expr::int(0),
            _ => axes.next().map_or(Expr::int(0), Axis::expr),
        };
        let indices = buffer.shape.iter().map(index).collect();
        elements.push(Expr::new(ExprKind::Load(tensor, indices), buffer.dtype));
    }
    if elements.is_empty() {
        return Ok(());
    }
    let bodies = nest.inliner().instantiate_all(elements.iter(), &Env::new());
    let values = nest.place_all(&bodies)?;
    nest.open_guard(var(block.index).equal(0));
    for (element, value) in elements.iter().zip(values) {
        let ExprKind::Load(buffer, indices) = element.kind() else { unreachable!("elements are loads") };
        nest.push(Stmt::Store { buffer: *buffer, indices: indices.clone(), value });
    }
    nest.close();
    Ok(())
}
