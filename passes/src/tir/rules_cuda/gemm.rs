//! Matrix products, and convolutions as such: tiles of both operands in shared memory.
//!
//! A sum of products is a matrix product if each spatial axis occurs in one factor only (rows
//! in the left, columns in the right) or in both (batch), and each summed axis in both. Several
//! axes of a kind count as one flat axis, so that a convolution is a product of its gathered
//! input with its weights, and nothing is gathered in memory.

use std::collections::BTreeSet;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::scalar::BinaryOp;
use fermata_ir::te::{Axis, Combiner, Compute, Graph, StageKind};
use fermata_ir::tir::{Buffer, BufferId, Expr, ExprKind, LoopKind, Scope, Stmt, VarId};
use fermata_ir::types::DType;

use super::super::collapse::{Pointwise, collapse};
use super::super::inline::{Env, Inliner, nodes};
use super::super::nest::{BlockThreads, Nest, Refusal, is_contiguous};
use super::super::rows::{Rows, close_kernel, replace_loads, store};
use super::super::rules_cpu::{Scheduled, reduced_tensors};

/// Rows and columns of a tile.
const TILE: usize = 64;

/// Summed elements that are in shared memory at a time.
const DEPTH: usize = 16;

/// Rows and columns that a thread computes.
const PER_THREAD: usize = 4;

/// Threads of a block: each computes a square of the tile.
const THREADS: usize = (TILE / PER_THREAD) * (TILE / PER_THREAD);

/// The least rows, columns and summed elements that are worth a tile.
const MIN_EXTENT: usize = 16;

/// One factor: its value, the flat axis that only it has, and how its tile lies.
pub struct Factor {
    /// Its value, in terms of its own axes, the batch and the summed axes.
    pub value: Expr,
    /// The axes that only it has.
    pub axes: Vec<Axis>,
    /// Whether neighbouring threads read along the summed axis, not along the factor's own.
    pub along_depth: bool,
}

/// A matrix product.
pub struct Product {
    /// The reduction's tensor, if the stage reads it; the stage itself otherwise.
    pub tensor: Option<BufferId>,
    /// What sums begin with.
    pub identity: Expr,
    /// The axes that both factors have, besides the summed ones.
    pub batch: Vec<Axis>,
    /// The summed axes.
    pub depth: Vec<Axis>,
    /// The factor that has the rows.
    pub left: Factor,
    /// The factor that has the columns.
    pub right: Factor,
}

impl Product {
    /// True if there are enough rows, columns and summed elements for tiles of them.
    pub fn is_large(&self) -> bool {
        [&self.left.axes, &self.right.axes, &self.depth].into_iter().all(|axes| extent(axes) >= MIN_EXTENT)
    }

    /// The product and its elementwise body with neighbouring axes merged where all that they access
    /// allows it: rows of a batch are rows like any others then, and tiles of them parts of a matrix.
    /// `buffers` take the merged shapes.
    pub fn collapsed(
        &self,
        pointwise: &Pointwise,
        buffers: &mut PrimaryMap<BufferId, Buffer>,
    ) -> Option<(Product, Pointwise)> {
        let mut all = pointwise.clone();
        all.bodies.extend([self.left.value.clone(), self.right.value.clone()]);
        collapse(&mut all, buffers);
        let (right, left) = (all.bodies.pop()?, all.bodies.pop()?);
        let product = factors(&left, &right, &all.axes, &self.depth)?;
        Some((Product { tensor: self.tensor, identity: self.identity.clone(), ..product }, all))
    }
}

/// A variable as an index.
pub fn var(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

/// The number of values of some axes together.
pub fn extent(axes: &[Axis]) -> usize {
    axes.iter().map(|a| a.extent).product()
}

/// True if an expression has an axis in it.
pub fn mentions(e: &Expr, axis: &Axis) -> bool {
    nodes(e).iter().any(|n| matches!(n.kind(), ExprKind::Var(v) if *v == axis.var))
}

/// The product that a stage is, or that its elementwise body takes on.
pub fn find(graph: &Graph, kept: &BTreeSet<BufferId>, rows: &Rows<'_>) -> Option<Product> {
    let reduced = reduced_tensors(graph, kept);
    let mut inliner = Inliner::new(graph, kept);
    let (tensor, compute, env) = if rows.compute.reduce.is_some() {
        (None, rows.compute, Env::new())
    } else {
        let (tensor, compute) = only_reduction(graph, &reduced, rows)?;
        // The reduction's axes become those of the stage.
        let env = compute.axes.iter().zip(&rows.pointwise.axes).map(|(own, root)| (own.var, root.expr()));
        (Some(tensor), compute, env.collect())
    };
    let reduce = compute.reduce.as_ref()?;
    let (Combiner::Binary(BinaryOp::Add), [body]) = (&reduce.combiner, &compute.body[..]) else {
        return None;
    };
    let unit = rows.pointwise.axes.iter().chain(&reduce.axes).filter(|a| a.extent == 1);
    let ones: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
    let body = inliner.instantiate(body, &env);
    let body = inliner.instantiate(&body, &ones);
    let ExprKind::Binary(BinaryOp::Mul, a, b) = body.kind() else { return None };
    let impure = nodes(&body).iter().any(|n| matches!(n.kind(), ExprKind::Load(b, _) if reduced.contains(b)));
    let product = factors(a, b, &rows.pointwise.axes, &reduce.axes)?;
    let axes = [&product.left.axes, &product.right.axes, &product.depth, &product.batch];
    let empty = axes.iter().any(|axes| extent(axes) == 0);
    (!empty && !impure).then(|| Product { tensor, identity: reduce.identity[0].clone(), ..product })
}

/// The only reduction that a pointwise stage reads, if it reads it at its own axes.
fn only_reduction<'a>(
    graph: &'a Graph,
    reduced: &BTreeSet<BufferId>,
    rows: &Rows<'_>,
) -> Option<(BufferId, &'a Compute)> {
    let identity: Vec<Expr> =
        rows.pointwise.axes.iter().map(|a| if a.extent == 1 { Expr::int(0) } else { a.expr() }).collect();
    let mut found = BTreeSet::new();
    for node in rows.pointwise.bodies.iter().flat_map(nodes) {
        if let ExprKind::Load(b, indices) = node.kind()
            && reduced.contains(b)
        {
            if *indices != identity {
                return None;
            }
            found.insert(*b);
        }
    }
    let tensor = *found.first().filter(|_| found.len() == 1)?;
    let stage = graph.stages.iter().find(|s| s.outputs == [tensor])?;
    let StageKind::Compute(compute) = &stage.kind else { return None };
    Some((tensor, compute))
}

/// Sorts axes by the factors that they occur in.
fn factors(a: &Expr, b: &Expr, spatial: &[Axis], summed: &[Axis]) -> Option<Product> {
    let depth: Vec<Axis> = summed.iter().filter(|k| k.extent != 1).cloned().collect();
    if !depth.iter().all(|k| mentions(a, k) && mentions(b, k)) {
        return None;
    }
    let last = spatial.iter().rfind(|x| x.extent != 1)?;
    // Neighbouring threads store neighbouring columns: the last axis is one of them.
    let (left, right) = if mentions(b, last) { (a, b) } else { (b, a) };
    let (mut rows, mut columns, mut batch) = (Vec::new(), Vec::new(), Vec::new());
    for axis in spatial.iter().filter(|x| x.extent != 1) {
        match (mentions(left, axis), mentions(right, axis)) {
            (true, false) => rows.push(axis.clone()),
            (false, true) => columns.push(axis.clone()),
            (true, true) | (false, false) => batch.push(axis.clone()),
        }
    }
    let innermost = depth.last()?.var;
    let factor = |value: &Expr, axes: Vec<Axis>| {
        let along_depth = is_contiguous(value, innermost);
        Factor { value: value.clone(), axes, along_depth }
    };
    let (left, right) = (factor(left, rows), factor(right, columns));
    Some(Product { tensor: None, identity: Expr::int(0), batch, depth, left, right })
}

/// The kernel's buffers and where its tile begins.
struct Tile {
    block: BlockThreads,
    acc: BufferId,
    /// The first row and the first column.
    origin: [Expr; 2],
    /// The first row and column of the thread, in the tile.
    own: [Expr; 2],
}

/// Emits the kernel.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn emit(mut nest: Nest<'_>, rows: &Rows<'_>, product: &Product) -> Result<Scheduled, Refusal> {
    let dtype = product.identity.dtype();
    let (m, n) = (extent(&product.left.axes), extent(&product.right.axes));
    let (row_tiles, column_tiles) = (m.div_ceil(TILE), n.div_ceil(TILE));
    let t = nest.var("t", DType::I64);
    nest.open(t, (extent(&product.batch) * row_tiles * column_tiles).into(), LoopKind::Tiles);
    let block = nest.open_threads(THREADS);
    nest.bind_axes(&product.batch, &var(t).floor_div(row_tiles * column_tiles));
    let row_tile = var(t).floor_div(column_tiles).floor_mod(row_tiles);
    let m0 = nest.bind_fresh_named("m0", row_tile * TILE);
    let n0 = nest.bind_fresh_named("n0", var(t).floor_mod(column_tiles) * TILE);
    let side = TILE / PER_THREAD;
    let own_row = nest.bind_fresh_named("tm", var(block.index).floor_div(side) * PER_THREAD);
    let own_column = nest.bind_fresh_named("tn", var(block.index).floor_mod(side) * PER_THREAD);
    let acc = nest.local("acc", &[PER_THREAD * PER_THREAD], dtype);
    let tile = Tile { block, acc, origin: [m0, n0], own: [own_row, own_column] };
    let u = nest.var("u", DType::I64);
    nest.open(u, (PER_THREAD * PER_THREAD).into(), LoopKind::Unrolled);
    nest.store_element(acc, var(u), product.identity.clone());
    nest.close();
    emit_sum(&mut nest, product, &tile)?;
    emit_results(&mut nest, rows, product, &tile)?;
    (0..2).for_each(|_| nest.close());
    Ok(close_kernel(nest, rows))
}

/// The loop over the summed axis: load, meet, multiply, meet.
fn emit_sum(nest: &mut Nest<'_>, product: &Product, tile: &Tile) -> Result<(), Refusal> {
    let dtype = product.identity.dtype();
    // One column more keeps threads that store along the depth out of each other's banks.
    let shape = [DEPTH, TILE + 1];
    let left = nest.scratch_buffer("left", &shape, dtype, Scope::Shared);
    let right = nest.scratch_buffer("right", &shape, dtype, Scope::Shared);
    let step = nest.var("step", DType::I64);
    nest.open(step, extent(&product.depth).div_ceil(DEPTH).into(), LoopKind::Serial);
    load(nest, product, &product.left, left, tile, (&tile.origin[0], step))?;
    load(nest, product, &product.right, right, tile, (&tile.origin[1], step))?;
    nest.push(Stmt::Barrier);
    let names = [("kk", DEPTH), ("i", PER_THREAD), ("j", PER_THREAD)];
    let [kk, i, j] = names.map(|(name, n)| {
        let v = nest.var(name, DType::I64);
        nest.open(v, n.into(), LoopKind::Unrolled);
        var(v)
    });
    let at = |buffer, line: Expr| Expr::new(ExprKind::Load(buffer, vec![kk.clone(), line]), dtype);
    let a = at(left, tile.own[0].clone() + i.clone());
    let b = at(right, tile.own[1].clone() + j.clone());
    let place = i * PER_THREAD + j;
    let sum = nest.element(tile.acc, place.clone());
    let sum = if dtype.is_float() { a.fma(b, sum) } else { sum + a * b };
    nest.store_element(tile.acc, place, sum);
    (0..3).for_each(|_| nest.close());
    nest.push(Stmt::Barrier);
    nest.close();
    Ok(())
}

/// Loads a factor's part of a step into shared memory; zeros where there is none.
fn load(
    nest: &mut Nest<'_>,
    product: &Product,
    factor: &Factor,
    to: BufferId,
    tile: &Tile,
    (origin, step): (&Expr, VarId),
) -> Result<(), Refusal> {
    let u = nest.var("u", DType::I64);
    nest.open(u, (TILE * DEPTH / THREADS).into(), LoopKind::Unrolled);
    let e = nest.bind_fresh_named("e", var(u) * THREADS + var(tile.block.index));
    let (line, deep) = match factor.along_depth {
        true => (e.clone().floor_div(DEPTH), e.floor_mod(DEPTH)),
        false => (e.clone().floor_mod(TILE), e.floor_div(TILE)),
    };
    let line = nest.bind_fresh_named("line", line);
    let deep = nest.bind_fresh_named("deep", deep);
    let k = nest.bind_fresh_named("k", var(step) * DEPTH + deep.clone());
    let at = nest.bind_fresh_named("at", origin.clone() + line.clone());
    let inside = at.clone().lt(extent(&factor.axes)).and(k.clone().lt(extent(&product.depth)));
    nest.open_guard(inside);
    let mut env = Env::new();
    let own = nest.fresh_axes(&factor.axes, &mut env);
    nest.bind_axes(&own, &at);
    let depth = nest.fresh_axes(&product.depth, &mut env);
    nest.bind_axes(&depth, &k);
    let value = nest.inliner().instantiate(&factor.value, &env);
    let value = nest.place(&value)?;
    let put = |value| Stmt::Store { buffer: to, indices: vec![deep.clone(), line.clone()], value };
    nest.push(put(value));
    nest.open_else();
    nest.push(put(product.identity.clone()));
    nest.close();
    nest.close();
    Ok(())
}

/// Stores what a thread computed, after the elementwise body.
fn emit_results(nest: &mut Nest<'_>, rows: &Rows<'_>, product: &Product, tile: &Tile) -> Result<(), Refusal> {
    let [i, j] = ["i", "j"].map(|name| {
        let v = nest.var(name, DType::I64);
        nest.open(v, PER_THREAD.into(), LoopKind::Unrolled);
        var(v)
    });
    let m = nest.bind_fresh_named("m", tile.origin[0].clone() + tile.own[0].clone() + i.clone());
    let n = nest.bind_fresh_named("n", tile.origin[1].clone() + tile.own[1].clone() + j.clone());
    let (row_axes, column_axes) = (&product.left.axes, &product.right.axes);
    nest.open_guard(m.clone().lt(extent(row_axes)).and(n.clone().lt(extent(column_axes))));
    nest.bind_axes(row_axes, &m);
    nest.bind_axes(column_axes, &n);
    let unit = rows.pointwise.axes.iter().filter(|a| a.extent == 1);
    let env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
    let sum = nest.element(tile.acc, i * PER_THREAD + j);
    let values = results(nest, rows, product, &env, sum)?;
    store(nest, rows, &env, values);
    (0..3).for_each(|_| nest.close());
    Ok(())
}

/// The elements of the results at a place, `sum` being that of the product.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn results(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    product: &Product,
    env: &Env,
    sum: Expr,
) -> Result<Vec<Expr>, Refusal> {
    let Some(tensor) = product.tensor else { return Ok(vec![sum]) };
    let bodies = replace_loads(&rows.pointwise.bodies, tensor, &sum);
    let bodies = nest.inliner().instantiate_all(bodies.iter(), env);
    nest.place_all(&bodies)
}
