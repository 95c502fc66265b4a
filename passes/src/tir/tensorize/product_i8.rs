//! `quant.contrib_dense_pack` on `gemm_i8`: a tile is a block of rows and of panels.
//!
//! Where the target multiplies rows in another form than they have, a kernel of its own widens
//! them once, and the tiles are those of `gemm_i8_widened`.

use fermata_ir::op::quant::{PANEL, QUANT_DENSE_PACK};
use fermata_ir::te::{Graph, Stage, Tensor};
use fermata_ir::tir::intrin::{GEMM_I8_ROWS, GEMM_I8_STRIP, widened_row};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Region, Stmt};
use fermata_ir::types::DType;

use super::super::checkpoint::Goal;
use super::super::cost::intrin::{product_i8, product_widened_i8};
use super::super::inline::Env;
use super::super::joint::Joint;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::Scheduled;
use super::gelu;
use super::{
    Anchored, Origin, RowEpilogue, TILE_FLOPS, clipped, close, intrin, over_tiles, prepared, range, results,
    var,
};
use crate::target::CpuTarget;

/// Rows of a tile at most: what the intrinsic holds of the data at a time.
const MAX_ROWS: usize = GEMM_I8_ROWS;

/// Columns of a tile that are worth it: each tile brings its rows of data into the form that it
/// multiplies.
const GOOD_COLUMNS: usize = 192;

/// Columns of a tile at least.
const MIN_COLUMNS: usize = 64;

/// Rows of a tile at least, where it has all columns, and bytes of weights at most, which each such
/// tile goes through: they should stay in the second-level cache.
const MIN_WHOLE_ROWS: usize = 8;
const MAX_WHOLE_BYTES: usize = 1 << 18;

/// The largest size that the intrinsic takes.
const MAX_SIZE: usize = 1 << 20;

/// True if the operator that made a tensor is one that the intrinsic computes.
pub fn is_product(origin: &Origin) -> bool {
    origin.op.is(&QUANT_DENSE_PACK)
        && origin.args[0].shape.iter().all(|&n| n > 0)
        && origin.args[0].shape.last().is_some_and(|&k| k <= MAX_SIZE)
        && origin.args[4].shape[0] > 0
}

/// Rows of a product that are worth widening apart.
const MIN_WIDENED: usize = 16;

/// Numbers that a tile widens, about.
const WIDENED_NUMBERS: usize = 1 << 15;

/// The widened rows of a product that is better off with them, and the stage that widens.
pub(super) fn widened(graph: &mut Graph, origin: &Origin, target: &CpuTarget) -> Option<(Tensor, Stage)> {
    let features = target.features;
    if !origin.op.is(&QUANT_DENSE_PACK) || !is_product(origin) || !features.avx2 || features.avx512vnni {
        return None;
    }
    let x = &origin.args[0];
    let [outer @ .., rows, k] = &x.shape[..] else { return None };
    let m = outer.iter().product::<usize>() * rows;
    if m < MIN_WIDENED || origin.args[4].shape[0] <= MIN_COLUMNS {
        return None;
    }
    let tensor = graph.tensor("widened", &[m, widened_row(*k)], DType::I16);
    let height = (WIDENED_NUMBERS / k).clamp(1, *rows);
    let parts = rows.div_ceil(height);
    let t = graph.var("t", DType::I64);
    let row0 = var(t).floor_mod(parts) * height;
    let count = clipped(height, *rows, &row0);
    let index = var(t).floor_div(parts);
    let mut stride: usize = outer.iter().product();
    let mut ranges = Vec::new();
    for (place, &extent) in outer.iter().enumerate() {
        stride /= extent;
        let at = index.clone().floor_div(stride);
        ranges.push(range(if place == 0 { at } else { at.floor_mod(extent) }, 1i64));
    }
    ranges.extend([range(&row0, &count), range(0i64, *k)]);
    let to = vec![range(index * *rows + row0, &count), range(0i64, widened_row(*k))];
    let regions = vec![Region { buffer: tensor.id, ranges: to }, Region { buffer: x.id, ranges }];
    let body = Stmt::For {
        var: t,
        extent: (m / rows * parts).into(),
        kind: LoopKind::Parallel,
        body: Box::new(intrin("widen_i8", regions, vec![count, (*k).into()])),
    };
    let stage = prepared("widen", x.id, tensor.id, body);
    Some((tensor, stage))
}

/// A tile: its first row and column, and how many there are of each.
struct Tile {
    m0: Expr,
    rows: Expr,
    n0: Expr,
    columns: Expr,
}

/// True if a tile of whole rows of the result is a good one: all weights are gone through for it.
pub fn holds_rows(origin: &Origin) -> bool {
    let (x, n) = (&origin.args[0], origin.args[4].shape[0]);
    let (&k, outer) = x.shape.split_last().expect("a product has a last dimension");
    n.saturating_mul(k) <= MAX_WHOLE_BYTES && whole_rows(outer.iter().product(), n, k) >= MIN_WHOLE_ROWS
}

/// Rows of a tile that has all columns, if no bound asks for fewer.
fn whole_rows(m: usize, n: usize, k: usize) -> usize {
    let fitting = (TILE_FLOPS / (2 * n * k).max(1)).clamp(2 * GEMM_I8_STRIP, MAX_ROWS);
    // At least four tiles, so that a second worker finds work; strips that are not full cost the same.
    fitting.min(m.div_ceil(4).next_multiple_of(GEMM_I8_STRIP)).min(m)
}

/// So many rows, but no strip that is not full where there are several.
fn whole_strips(rows: usize) -> usize {
    if rows > GEMM_I8_STRIP { rows - rows % GEMM_I8_STRIP } else { rows }
}

/// True if a tensor is seen as it is, or is neither the numbers nor the scales of the rows.
pub fn may_be_read(origin: &Origin, buffer: BufferId) -> bool {
    let seen = [(&origin.args[0], 2), (&origin.args[3], 1)];
    seen.iter().all(|(tensor, rank)| tensor.id != buffer || tensor.rank() == *rank)
}

/// Emits the kernel.
///
/// # Errors
/// If an epilogue reads what this nest cannot hold.
pub fn emit(
    mut nest: Nest<'_>,
    anchored: &Anchored<'_>,
    origin: &Origin,
    joint: &Joint,
    goal: &Goal<'_>,
) -> Result<Scheduled, Refusal> {
    let [x, w, sums, x_scale, w_scale, bias, widened @ ..] = &origin.args[..] else {
        unreachable!("a packed product has six arguments")
    };
    let output = anchored.root.outputs[0];
    let shape = nest.func.buffers[output].shape.clone();
    let (&n, outer) = shape.split_last().expect("a product has a last dimension");
    let (m, k): (usize, usize) = (outer.iter().product(), x.shape[x.rank() - 1]);
    let gelu = joint.companions.is_empty()
        && gelu::argument(&anchored.element).is_some_and(|e| is_load_of(e, anchored.tensor));
    let elements = if gelu { Vec::new() } else { results::elements(&mut nest, anchored, joint) };
    for (buffer, matrix) in [(x.id, vec![m, k]), (x_scale.id, vec![m])] {
        nest.func.buffers[buffer].shape = matrix;
    }
    joint.see_as(&mut nest.func.buffers, output, &[m, n]);
    let tiling = match anchored.rows.is_some() || joint.quantised.is_some() {
        true => [whole_strips(goal.cut(whole_rows(m, n, k))), n],
        false => tiling([m, n, k], !widened.is_empty(), goal),
    };
    if let Some(RowEpilogue::Stages { reduced: Some(reduced), .. }) = &anchored.rows
        && tiling[0] < GEMM_I8_STRIP.min(m)
    {
        // All weights for less than a strip of rows: the stages behind are better off apart.
        return Err(Refusal::Guarded(*reduced));
    }
    let tile = open_tiles(&mut nest, [m, n], tiling);
    let (a, a_columns, name) = match widened {
        [widened, ..] => (widened.id, widened_row(k), "gemm_i8_widened"),
        [] => (x.id, k, "gemm_i8"),
    };
    let [nr, kr] = PANEL;
    let groups = k.div_ceil(kr);
    let panels = (tile.columns.clone() + (nr - 1)).floor_div(nr);
    let rows = || range(&tile.m0, &tile.rows);
    let columns = || range(&tile.n0, &tile.columns);
    let all = |extent: usize| range(0i64, extent);
    let regions = vec![
        Region { buffer: output, ranges: vec![rows(), columns()] },
        Region { buffer: a, ranges: vec![rows(), all(a_columns)] },
        Region {
            buffer: w.id,
            ranges: vec![range(tile.n0.clone().floor_div(nr), panels), all(groups), all(nr), all(kr)],
        },
        Region { buffer: sums.id, ranges: vec![columns()] },
        Region { buffer: x_scale.id, ranges: vec![rows()] },
        Region { buffer: w_scale.id, ranges: vec![columns()] },
        Region { buffer: bias.id, ranges: vec![columns()] },
    ];
    let sizes = vec![tile.rows.clone(), tile.columns.clone(), k.into(), usize::from(gelu).into()];
    nest.push(intrin(name, regions, sizes));
    if anchored.rows.is_some() || joint.quantised.is_some() || !elements.is_empty() {
        emit_epilogue(&mut nest, anchored, joint, &elements, tile)?;
    }
    nest.close();
    Ok(close(nest, anchored.root, joint))
}

fn is_load_of(expr: &Expr, tensor: BufferId) -> bool {
    matches!(expr.kind(), ExprKind::Load(b, _) if *b == tensor)
}

/// Rows and columns of a tile.
fn tiling([m, n, k]: [usize; 3], widened: bool, goal: &Goal<'_>) -> [usize; 2] {
    let rows = m.min(MAX_ROWS);
    let fitting = TILE_FLOPS / (2 * rows * k);
    // At least four tiles, so that a second worker finds work.
    let columns = fitting.max(GOOD_COLUMNS).min(n.div_ceil(4)).clamp(MIN_COLUMNS, MAX_SIZE / 2);
    let columns = columns.next_multiple_of(PANEL[0]);
    let peaks = goal.target.peaks();
    let strips = 1..=rows.div_ceil(GEMM_I8_STRIP);
    let heights = strips.map(|r| (r * GEMM_I8_STRIP).min(rows)).chain([4, 1]);
    let widths = || (1..=n.div_ceil(PANEL[0])).map(|c| c * PANEL[0]);
    let candidates = heights.filter(|&r| r <= m).flat_map(|r| widths().map(move |c| [r, c]));
    goal.choose([rows, columns], candidates, |[rows, columns]| {
        let product = if widened { product_widened_i8 } else { product_i8 };
        let cost = |rows: usize, columns: usize| product(rows, columns.min(n), k, &peaks);
        (cost(rows, columns), over_tiles([m, n], [rows, columns], cost))
    })
}

/// Opens the loop over tiles and binds where one lies.
fn open_tiles(nest: &mut Nest<'_>, [m, n]: [usize; 2], [rows, columns]: [usize; 2]) -> Tile {
    let column_tiles = n.div_ceil(columns);
    let tile = nest.var("t", DType::I64);
    nest.open(tile, (m.div_ceil(rows) * column_tiles).into(), LoopKind::Tiles);
    let m0 = nest.bind_fresh_named("m0", var(tile).floor_div(column_tiles) * rows);
    let n0 = nest.bind_fresh_named("n0", var(tile).floor_mod(column_tiles) * columns);
    let rows = nest.bind_fresh_named("rows", clipped(rows, m, &m0));
    let columns = nest.bind_fresh_named("columns", clipped(columns, n, &n0));
    Tile { m0, rows, n0, columns }
}

/// The stages behind the product over the tile, row by row and in place.
fn emit_epilogue(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    joint: &Joint,
    elements: &[Expr],
    tile: Tile,
) -> Result<(), Refusal> {
    let (last, outer) = anchored.axes.split_last().expect("a product has a last axis");
    let i = nest.var("i", DType::I64);
    nest.open(i, tile.rows, LoopKind::Serial);
    let row = nest.bind_fresh_named("row", tile.m0 + var(i));
    let mut env = Env::new();
    let mut stride: usize = outer.iter().map(|a| a.extent).product();
    for (place, axis) in outer.iter().enumerate() {
        stride /= axis.extent;
        let value = row.clone().floor_div(stride);
        let value = if place == 0 { value } else { value.floor_mod(axis.extent) };
        // Behind rows, places are variables or 0, so that what is read at one place is seen to be.
        let value = match anchored.rows {
            Some(_) if axis.extent == 1 => Expr::int(0),
            Some(_) => nest.bind_fresh_named("at", value),
            None => value,
        };
        env.insert(axis.var, value);
    }
    if let Some(RowEpilogue::Stages { body, held, .. }) = &anchored.rows {
        results::store_row(nest, anchored, joint, (body, held), (env, vec![row]))?;
        nest.close();
        return Ok(());
    }
    if !elements.is_empty() {
        let j = nest.var("j", DType::I64);
        nest.open(j, tile.columns, LoopKind::Vectorized);
        let column = tile.n0 + var(j);
        env.insert(last.var, column.clone());
        results::store(nest, anchored, joint, (elements, &env), vec![row.clone(), column])?;
        nest.close();
    }
    nest.extend(joint.quantise_row(anchored.root.outputs[0], &[row], last.extent));
    nest.close();
    Ok(())
}
