//! The schedule of everything that is not a tensor intrinsic: tiles of rows.
//!
//! The leading axes of the result are flattened into rows, a tile takes a few of them, and
//! the trailing axes are loops inside a row, the last one in vectors. Very long rows are
//! split into columns as well. A reduction that walks memory along the last axis keeps a row
//! of accumulators; any other keeps one accumulator, or eight lanes of it.

use fermata_ir::scalar::BinaryOp;
use fermata_ir::te::{Axis, Combiner, Compute, Reduce, Stage, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Stmt, VarId};
use fermata_ir::types::DType;

use super::checkpoint::Goal;
use super::collapse::Pointwise;
use super::held::hold_row;
use super::inline::{Env, nodes};
use super::joint::Joint;
use super::nest::{Nest, Refusal, is_contiguous};
use super::rules_cpu::{Scheduled, finish_outputs};

/// Scalar operations that a tile should be worth: about forty microseconds of scalar code, a few of
/// vectors, so that what a checkpoint takes is little beside it.
const TILE_WORK: usize = 80_000;

/// The longest row of accumulators.
const MAX_ROW: usize = 1024;

/// The shortest row that is worth a row of accumulators.
const MIN_ROW: usize = 4;

/// What is to be scheduled, and how.
pub struct Rows<'a> {
    /// The stage whose results the kernel writes.
    pub stage: &'a Stage,
    /// Its compute.
    pub compute: &'a Compute,
    /// Its axes and, inlined, its elements (of a reduction: the elements to combine).
    pub pointwise: &'a Pointwise,
    /// How many trailing axes are loops inside a row.
    pub inner_axes: usize,
    /// Whether a row may be cut into columns.
    pub splits_columns: bool,
    /// Tensors whose rows are computed once, before all else that is in a row.
    pub held: &'a [BufferId],
    /// What the kernel writes besides.
    pub joint: &'a Joint,
}

impl Rows<'_> {
    /// Refuses where there are no whole rows at once, if something is to be done with them.
    fn need_no_row(&self) -> Result<(), Refusal> {
        let companion = self.held.iter().find(|b| self.joint.companions.contains(b));
        let root = self.joint.quantised.map(|_| &self.stage.outputs[0]);
        companion.or(root).map_or(Ok(()), |&tensor| Err(Refusal::Guarded(tensor)))
    }
}

/// The tile grid: rows and columns.
struct Grid {
    outer: Vec<Axis>,
    inner: Vec<Axis>,
    rows: usize,
    rows_per_tile: usize,
    columns_per_tile: usize,
    column_tiles: usize,
}

/// Emits the kernel.
///
/// # Errors
/// If it reads a reduction that these rows cannot hold.
pub fn emit_rows(mut nest: Nest<'_>, rows: &Rows<'_>, goal: &Goal<'_>) -> Result<Scheduled, Refusal> {
    let tile = nest.var("t", DType::I64);
    if rows.pointwise.axes.iter().any(|a| a.extent == 0) {
        nest.open(tile, Expr::int(0), LoopKind::Tiles);
        nest.close();
        return Ok(close_kernel(nest, rows));
    }
    let row_reduction = find_row_reduction(rows, &mut nest);
    let grid = Grid::new(rows, row_reduction.is_some(), goal);
    let tiles = grid.rows.div_ceil(grid.rows_per_tile) * grid.column_tiles;
    nest.open(tile, tiles.into(), LoopKind::Tiles);
    let (row_tile, column_tile) = split_tile(tile, grid.column_tiles);
    let opened = open_rows(&mut nest, &grid, row_tile);
    let mut env: Env =
        rows.pointwise.axes.iter().filter(|a| a.extent == 1).map(|a| (a.var, Expr::int(0))).collect();
    emit_row(&mut nest, rows, &grid, row_reduction, column_tile, &mut env)?;
    (0..opened).for_each(|_| nest.close());
    Ok(close_kernel(nest, rows))
}

/// The kernel of a nest whose loops are closed, the tile loop last.
pub fn close_kernel(nest: Nest<'_>, rows: &Rows<'_>) -> Scheduled {
    let (func, scratch, body) = nest.finish();
    let Stmt::Seq(mut stmts) = body else { unreachable!("a nest is a sequence") };
    let tiles = stmts.pop().expect("the tile loop");
    let outputs = rows.joint.outputs(&rows.stage.outputs);
    finish_outputs(func, rows.stage.name.clone(), &outputs, scratch, tiles)
}

fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

/// The row and column part of a tile's number.
fn split_tile(tile: VarId, column_tiles: usize) -> (Expr, Expr) {
    let tile = var(tile);
    (tile.clone().floor_div(column_tiles), tile.floor_mod(column_tiles))
}

impl Grid {
    fn new(rows: &Rows<'_>, row_reduction: bool, goal: &Goal<'_>) -> Grid {
        let work = goal.cut(TILE_WORK);
        let axes: Vec<Axis> = rows.pointwise.axes.iter().filter(|a| a.extent > 1).cloned().collect();
        let reduces = rows.compute.reduce.is_some() && !row_reduction;
        let inner_axes = if reduces { 0 } else { rows.inner_axes.min(axes.len()) };
        let (outer, inner) = axes.split_at(axes.len() - inner_axes);
        let points = |axes: &[Axis]| axes.iter().map(|a| a.extent).product::<usize>();
        let element = element_work(rows);
        let columns = points(inner);
        let may_split = row_reduction || rows.splits_columns && rows.compute.reduce.is_none();
        let mut columns_per_tile = columns;
        if may_split && inner.len() == 1 {
            let fitting = (work / element).clamp(64, TILE_WORK).next_multiple_of(16);
            let limit = if row_reduction { MAX_ROW.min(fitting) } else { fitting };
            columns_per_tile = columns.min(limit);
        }
        let row_work = (columns_per_tile * element).max(1);
        let row_count = points(outer);
        let rows_per_tile = (work / row_work).clamp(1, row_count.max(1));
        Grid {
            outer: outer.to_vec(),
            inner: inner.to_vec(),
            rows: row_count,
            rows_per_tile,
            columns_per_tile,
            column_tiles: columns.div_ceil(columns_per_tile),
        }
    }
}

/// Scalar operations for one element of the result.
fn element_work(rows: &Rows<'_>) -> usize {
    let body =
        rows.pointwise.bodies.iter().flat_map(nodes).filter(|n| n.dtype() != DType::I64).count().max(1);
    let steps = rows.compute.reduce.as_ref().map_or(1, |r| r.axes.iter().map(|a| a.extent.max(1)).product());
    body.saturating_mul(steps)
}

/// Opens the loop over the rows of a tile and binds the outer axes; gives the number of open loops.
fn open_rows(nest: &mut Nest<'_>, grid: &Grid, row_tile: Expr) -> usize {
    let mut opened = 1;
    let mut row = row_tile;
    if grid.rows_per_tile > 1 {
        let first = row * grid.rows_per_tile;
        let extent = if grid.rows.is_multiple_of(grid.rows_per_tile) {
            Expr::from(grid.rows_per_tile)
        } else {
            (Expr::from(grid.rows) - first.clone()).min(grid.rows_per_tile)
        };
        let r = nest.var("r", DType::I64);
        nest.open(r, extent, LoopKind::Serial);
        opened += 1;
        row = first + var(r);
    }
    let mut stride = grid.rows;
    for (i, axis) in grid.outer.iter().enumerate() {
        stride /= axis.extent;
        let index = row.clone().floor_div(stride);
        let index = if i == 0 { index } else { index.floor_mod(axis.extent) };
        nest.bind(axis.var, index);
        nest.declare_axis(axis);
    }
    opened
}

/// A reduction that keeps a row of accumulators: what it computes, and its axes in terms of the root's.
struct RowReduction {
    tensor: Option<BufferId>,
    compute: Compute,
}

impl RowReduction {
    fn reduce(&self) -> &Reduce {
        self.compute.reduce.as_ref().expect("found by its reduction")
    }
}

/// The reduction that is the stage itself, or that the stage reads at its own axes, if it walks
/// memory along the last axis.
fn find_row_reduction(rows: &Rows<'_>, nest: &mut Nest<'_>) -> Option<RowReduction> {
    let last = rows.pointwise.axes.iter().rfind(|a| a.extent > 1)?;
    if rows.inner_axes != 1 || last.extent < MIN_ROW {
        return None;
    }
    if rows.compute.reduce.is_some() {
        let found = RowReduction { tensor: None, compute: rows.compute.clone() };
        return walks_row(&found, nest, last.var).then_some(found);
    }
    let identity = super::collapse::axis_exprs(&rows.pointwise.axes);
    let mut reads = rows.pointwise.bodies.iter().flat_map(nodes).filter_map(|e| match e.kind() {
        ExprKind::Load(b, indices) if *indices == identity => Some(*b),
        _ => None,
    });
    reads.find_map(|tensor| {
        let graph = nest.inliner().graph();
        let stage = graph.stages.iter().find(|s| s.outputs == [tensor])?;
        let StageKind::Compute(compute) = &stage.kind else { return None };
        if compute.reduce.is_none() || !nest.holds(tensor) {
            return None;
        }
        let found = RowReduction { tensor: Some(tensor), compute: compute.clone() };
        let own_last = compute.axes.iter().rfind(|a| a.extent > 1)?.var;
        walks_row(&found, nest, own_last).then_some(found)
    })
}

fn walks_row(found: &RowReduction, nest: &mut Nest<'_>, last: VarId) -> bool {
    let single = matches!(found.reduce().combiner, Combiner::Binary(_)) && found.compute.body.len() == 1;
    let nonempty = found.reduce().axes.iter().all(|a| a.extent > 0);
    single && nonempty && {
        let element = nest.inliner().instantiate(&found.compute.body[0], &Env::new());
        let along_reduction = found.reduce().axes.last().is_some_and(|k| is_contiguous(&element, k.var));
        is_contiguous(&element, last) && !along_reduction
    }
}

/// Emits what is inside a row.
fn emit_row(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    grid: &Grid,
    row_reduction: Option<RowReduction>,
    column_tile: Expr,
    env: &mut Env,
) -> Result<(), Refusal> {
    let Some((last, middle)) = grid.inner.split_last() else {
        rows.need_no_row()?;
        return emit_point(nest, rows, env);
    };
    let (first, count) = columns(grid, last, column_tile);
    let at = |a: &Axis| env.get(&a.var).cloned().unwrap_or_else(|| var(a.var));
    let leading = rows.pointwise.axes.split_last().filter(|(own, _)| own.var == last.var);
    let place: Option<Vec<Expr>> = leading.map(|(_, leading)| leading.iter().map(at).collect());
    match place.clone().filter(|_| middle.is_empty() && grid.column_tiles == 1 && row_reduction.is_none()) {
        Some(place) => {
            for &tensor in rows.held {
                let into = rows.joint.companions.contains(&tensor).then(|| place.clone());
                hold_row(nest, tensor, &rows.pointwise.axes, last, env, into)?;
            }
        }
        None => rows.need_no_row()?,
    }
    let sums = match row_reduction {
        Some(found) => {
            Some((found.tensor, accumulate_row(nest, rows, &found, env, last, &first, &count, grid)?))
        }
        None => None,
    };
    middle.iter().for_each(|a| nest.open_axis(a, LoopKind::Serial));
    let j = nest.var("j", DType::I64);
    nest.open(j, count, LoopKind::Vectorized);
    nest.declare_axis_as(last, j);
    env.insert(last.var, first + var(j));
    emit_elements(nest, rows, env, sums.map(|(tensor, acc)| (tensor, acc, var(j))))?;
    nest.close();
    middle.iter().for_each(|_| nest.close());
    let root = rows.stage.outputs[0];
    nest.extend(place.and_then(|place| rows.joint.quantise_row(root, &place, last.extent)));
    Ok(())
}

/// The first column of a tile and their number.
fn columns(grid: &Grid, last: &Axis, column_tile: Expr) -> (Expr, Expr) {
    if grid.column_tiles == 1 {
        return (Expr::int(0), last.extent.into());
    }
    let first = column_tile * grid.columns_per_tile;
    if last.extent.is_multiple_of(grid.columns_per_tile) {
        return (first, grid.columns_per_tile.into());
    }
    let rest = Expr::from(last.extent) - first.clone();
    (first, rest.min(grid.columns_per_tile))
}

/// Emits the loops of a reduction with an accumulator for each column; gives the accumulators.
#[allow(clippy::too_many_arguments, reason = "the parts of one loop nest")]
fn accumulate_row(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    found: &RowReduction,
    env: &Env,
    last: &Axis,
    first: &Expr,
    count: &Expr,
    grid: &Grid,
) -> Result<BufferId, Refusal> {
    let Combiner::Binary(op) = found.reduce().combiner else {
        unreachable!("only binary combiners keep rows")
    };
    let op: BinaryOp = op;
    let dtype = found.compute.body[0].dtype();
    let acc = nest.local("row", &[grid.columns_per_tile], dtype);
    vector_loop(nest, count, |nest, j| {
        nest.store_element(acc, j, found.reduce().identity[0].clone());
        Ok(())
    })?;
    // The reduction's own axes stand at the root's.
    let mut own: Env = Env::new();
    for (mine, root) in found.compute.axes.iter().zip(&rows.pointwise.axes) {
        let value = env.get(&root.var).cloned().unwrap_or_else(|| var(root.var));
        own.insert(mine.var, value);
    }
    let axes = nest.fresh_axes(&found.reduce().axes, &mut own);
    axes.iter().for_each(|a| nest.open(a.var, a.extent.into(), LoopKind::Serial));
    let column = found.compute.axes[position(&rows.pointwise.axes, last)].var;
    let step = vector_loop(nest, count, |nest, j| {
        own.insert(column, first.clone() + j.clone());
        let element = nest.inliner().instantiate(&found.compute.body[0], &own);
        let element = nest.place(&element)?;
        let sum = nest.element(acc, j.clone()).binary(op, element);
        nest.store_element(acc, j, sum);
        Ok(())
    });
    axes.iter().for_each(|_| nest.close());
    step.map(|()| acc)
}

fn position(axes: &[Axis], axis: &Axis) -> usize {
    axes.iter().position(|a| a.var == axis.var).expect("an axis of the stage")
}

fn vector_loop(
    nest: &mut Nest<'_>,
    count: &Expr,
    body: impl FnOnce(&mut Nest<'_>, Expr) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let j = nest.var("j", DType::I64);
    nest.open(j, count.clone(), LoopKind::Vectorized);
    let done = body(nest, var(j));
    nest.close();
    done
}

/// Emits one element where no axis is left: a scalar, or an element of a reduction.
pub fn emit_point(nest: &mut Nest<'_>, rows: &Rows<'_>, env: &mut Env) -> Result<(), Refusal> {
    let Some(reduce) = &rows.compute.reduce else {
        return emit_elements(nest, rows, env, None);
    };
    let values = nest.accumulate(rows.compute, reduce, env.clone())?;
    store(nest, rows, env, values);
    Ok(())
}

/// Places and stores the elements of the results; `sums` are accumulators of the column,
/// standing for the tensor, or for the stage itself.
pub fn emit_elements(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    env: &Env,
    sums: Option<(Option<BufferId>, BufferId, Expr)>,
) -> Result<(), Refusal> {
    if let Some((None, acc, j)) = sums {
        let value = nest.element(acc, j);
        store(nest, rows, env, vec![value]);
        return Ok(());
    }
    let bodies: Vec<Expr> = match &sums {
        Some((Some(tensor), acc, j)) => {
            let sum = nest.element(*acc, j.clone());
            replace_loads(&rows.pointwise.bodies, *tensor, &sum)
        }
        _ => rows.pointwise.bodies.clone(),
    };
    let bodies = nest.inliner().instantiate_all(bodies.iter(), env);
    let values = nest.place_all(&bodies)?;
    store(nest, rows, env, values);
    Ok(())
}

/// The expressions with every load of `tensor` replaced; they go on sharing what they share.
pub fn replace_loads(exprs: &[Expr], tensor: BufferId, by: &Expr) -> Vec<Expr> {
    super::tensorize::replace_all_loads(exprs, &mut |b, _| (b == tensor).then(|| by.clone()))
}

/// Stores an element of each result.
pub fn store(nest: &mut Nest<'_>, rows: &Rows<'_>, env: &Env, values: Vec<Expr>) {
    let at = |a: &Axis| env.get(&a.var).cloned().unwrap_or_else(|| var(a.var));
    let indices: Vec<Expr> = rows.pointwise.axes.iter().map(at).collect();
    for (&buffer, value) in rows.pointwise.outputs.iter().zip(values) {
        nest.push(Stmt::Store { buffer, indices: indices.clone(), value });
    }
}
