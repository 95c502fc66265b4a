//! Products of narrow numbers on tensor cores, from compute capability 8.0 on.
//!
//! A warp computes a part of the tile in fragments of 16 x 8 sums; the parts of a step are copied
//! to shared memory while those of the steps before are multiplied. There is one barrier a step:
//! who passes it has waited for its copies of this step, and has read the stage that is filled
//! next.

use fermata_ir::tir::{BufferId, Expr, LoopKind, Stmt};
use fermata_ir::types::DType;

use super::super::nest::{Nest, Refusal};
use super::super::rows::Rows;
use super::super::rules_cpu::Scheduled;
use super::gemm::{Product, extent, var};
use super::narrow::{
    ROW_BYTES, Tile, Transfer, call, close, emit_results, fill, named, open_grid, row, stage,
};

/// The first compute capability with what this needs.
pub const SM: u32 = 80;

/// Threads of a warp.
const WARP: usize = 32;

/// Rows and columns of a fragment of sums.
const FRAGMENT: [usize; 2] = [16, 8];

/// Sums of a fragment that a thread holds.
const SUMS: usize = 4;

/// Bytes of a row that a fragment of an operand has.
const FRAGMENT_BYTES: usize = 32;

/// Tiles from which on every processor of a large GPU has one.
const MANY_TILES: usize = 128;

/// How a tile is cut.
struct Shape {
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// Warps along rows and columns.
    warps: [usize; 2],
    /// Stages of shared memory.
    stages: usize,
}

/// From the one that reads least of its operands to the one that has the most tiles. All fit in
/// the shared memory that a kernel has without asking for more.
const SHAPES: [Shape; 3] = [
    Shape { tile: [128, 64], warps: [2, 2], stages: 3 },
    Shape { tile: [64, 64], warps: [2, 2], stages: 4 },
    Shape { tile: [32, 64], warps: [1, 4], stages: 4 },
];

impl Shape {
    /// The largest that gives every processor a tile, or else the smallest.
    fn of(product: &Product) -> &'static Shape {
        let (m, n) = (extent(&product.left.axes), extent(&product.right.axes));
        let tiles = |s: &Shape| extent(&product.batch) * m.div_ceil(s.tile[0]) * n.div_ceil(s.tile[1]);
        SHAPES.iter().find(|s| tiles(s) >= MANY_TILES).unwrap_or(&SHAPES[SHAPES.len() - 1])
    }

    /// Rows and columns of a warp.
    fn part(&self) -> [usize; 2] {
        [0, 1].map(|d| self.tile[d] / self.warps[d])
    }

    /// Fragments of a warp along rows and columns.
    fn fragments(&self) -> [usize; 2] {
        [0, 1].map(|d| self.part()[d] / FRAGMENT[d])
    }
}

/// Where a thread is, and its registers.
struct Warp {
    lane: Expr,
    /// The first row and column of the warp in the tile.
    origin: [Expr; 2],
    sums: BufferId,
    operands: [BufferId; 2],
}

/// Emits the kernel of a product whose factors have this dtype.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn emit(
    mut nest: Nest<'_>,
    rows: &Rows<'_>,
    product: &Product,
    dtype: DType,
) -> Result<Scheduled, Refusal> {
    let shape = Shape::of(product);
    let [fragment_rows, fragment_columns] = shape.fragments();
    let (block, origin) = open_grid(&mut nest, product, shape.tile, WARP * shape.warps[0] * shape.warps[1]);
    let lane = nest.bind_fresh_named("lane", var(block.index).floor_mod(WARP));
    let number = nest.bind_fresh_named("warp", var(block.index).floor_div(WARP));
    let part = shape.part();
    let wm = nest.bind_fresh_named("wm", number.clone().floor_div(shape.warps[1]) * part[0]);
    let wn = nest.bind_fresh_named("wn", number.floor_mod(shape.warps[1]) * part[1]);
    let count = fragment_rows * fragment_columns * SUMS;
    let warp = Warp {
        lane,
        origin: [wm, wn],
        sums: nest.local("sums", &[count], product.identity.dtype()),
        operands: [
            nest.local("left_fragments", &[fragment_rows * 4], DType::U32),
            nest.local("right_fragments", &[fragment_columns * 2], DType::U32),
        ],
    };
    let u = nest.var("u", DType::I64);
    nest.open(u, count.into(), LoopKind::Unrolled);
    nest.store_element(warp.sums, var(u), product.identity.clone());
    nest.close();
    // A step more than there are would never be filled.
    let steps = extent(&product.depth).div_ceil(ROW_BYTES / dtype.bytes());
    let stages = shape.stages.min(steps + 1);
    let tile =
        stage(&mut nest, product, (block, dtype), shape.tile, origin.clone(), stages, Transfer::Asynchronous);
    emit_steps(&mut nest, product, &tile, (shape, stages), &warp)?;
    emit_results(&mut nest, rows, product, (warp.sums, count), shape.tile, &|nest| {
        let names = [("i", fragment_rows), ("h", 2), ("j", fragment_columns), ("c", 2)];
        let [i, h, j, c] = names.map(|(name, n)| {
            let v = nest.var(name, DType::I64);
            nest.open(v, n.into(), LoopKind::Unrolled);
            var(v)
        });
        let m =
            warp.origin[0].clone() + i.clone() * FRAGMENT[0] + h.clone() * 8 + warp.lane.clone().floor_div(4);
        let n =
            warp.origin[1].clone() + j.clone() * FRAGMENT[1] + warp.lane.clone().floor_mod(4) * 2 + c.clone();
        let m = nest.bind_fresh_named("m", origin[0].clone() + m);
        let n = nest.bind_fresh_named("n", origin[1].clone() + n);
        (4, (i * fragment_columns + j) * SUMS + h * 2 + c, [m, n])
    })?;
    Ok(close(nest, rows))
}

/// The loop over the summed axis.
fn emit_steps(
    nest: &mut Nest<'_>,
    product: &Product,
    tile: &Tile,
    (shape, stages): (&Shape, usize),
    warp: &Warp,
) -> Result<(), Refusal> {
    let commit = |nest: &mut Nest<'_>| {
        if tile.is_asynchronous() {
            nest.push(call("cp_async_commit", Vec::new(), Vec::new()));
        }
    };
    let ahead = stages - 1;
    nest.open_note("fill all stages but one");
    let s = nest.var("s", DType::I64);
    nest.open(s, ahead.into(), LoopKind::Unrolled);
    fill(nest, product, tile, (&var(s), &var(s)))?;
    commit(nest);
    (0..2).for_each(|_| nest.close());
    let step = nest.var("step", DType::I64);
    nest.open(step, tile.steps.into(), LoopKind::Serial);
    if tile.is_asynchronous() {
        nest.push(call("cp_async_wait", Vec::new(), vec![Expr::from(ahead - 1)]));
    }
    nest.push(Stmt::Barrier);
    nest.open_note("fill the stage that was read last");
    let next = nest.bind_fresh_named("next", var(step) + ahead);
    nest.open_guard(next.clone().lt(tile.steps));
    fill(nest, product, tile, (&next.clone().floor_mod(stages), &next))?;
    nest.close();
    commit(nest);
    nest.close();
    nest.open_note("multiply");
    let here = nest.bind_fresh_named("here", var(step).floor_mod(stages));
    multiply(nest, tile, shape, warp, &here);
    (0..2).for_each(|_| nest.close());
    Ok(())
}

/// Loads the fragments of a stage and multiplies them.
fn multiply(nest: &mut Nest<'_>, tile: &Tile, shape: &Shape, warp: &Warp, here: &Expr) {
    let [fragment_rows, fragment_columns] = shape.fragments();
    let (depth, half) = (FRAGMENT_BYTES / tile.dtype.bytes(), FRAGMENT_BYTES / 2 / tile.dtype.bytes());
    let kk = nest.var("kk", DType::I64);
    nest.open(kk, (ROW_BYTES / FRAGMENT_BYTES).into(), LoopKind::Unrolled);
    let lane = || warp.lane.clone();
    // Which row of 16 bytes a lane gives: those of A by columns of matrices, those of B by rows.
    let sides = [
        (fragment_rows, lane().floor_mod(16), lane().floor_div(16)),
        (
            fragment_columns / 2,
            lane().floor_mod(8) + lane().floor_div(16) * 8,
            lane().floor_div(8).floor_mod(2),
        ),
    ];
    for (side, (loads, line, which)) in sides.into_iter().enumerate() {
        let i = nest.var(if side == 0 { "i" } else { "j" }, DType::I64);
        nest.open(i, loads.into(), LoopKind::Unrolled);
        let line = warp.origin[side].clone() + var(i) * 16 + line;
        let from = vec![here.clone(), line, var(kk) * depth + which * half];
        let to = row(warp.operands[side], vec![var(i) * 4], 4);
        let from = row(tile.staged[side].buffer, from, half);
        nest.push(call(&named("ldmatrix_x4", tile.dtype), vec![to, from], Vec::new()));
        nest.close();
    }
    let [i, j] = [("i", fragment_rows), ("j", fragment_columns)].map(|(name, n)| {
        let v = nest.var(name, DType::I64);
        nest.open(v, n.into(), LoopKind::Unrolled);
        var(v)
    });
    let sums = row(warp.sums, vec![(i.clone() * fragment_columns + j.clone()) * SUMS], SUMS);
    let (a, b) = (row(warp.operands[0], vec![i * 4], 4), row(warp.operands[1], vec![j * 2], 2));
    let stem = if tile.dtype == DType::I8 { "mma_m16n8k32" } else { "mma_m16n8k16" };
    nest.push(call(&named(stem, tile.dtype), vec![sums, a, b], Vec::new()));
    (0..3).for_each(|_| nest.close());
}
