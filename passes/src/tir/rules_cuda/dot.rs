//! Products of int8 by dot products of four bytes: tiles where there are no tensor cores for
//! them, and a warp a column where there are few rows.

use fermata_ir::tir::{Expr, LoopKind, Stmt};
use fermata_ir::types::DType;

use super::super::inline::Env;
use super::super::nest::{Nest, Refusal};
use super::super::rows::{Rows, store};
use super::super::rules_cpu::Scheduled;
use super::gemm::{Product, extent, results, var};
use super::narrow::{
    COPY_BYTES, ROW_BYTES, Transfer, call, close, emit_results, fill, open_grid, row, rows_in_memory, stage,
};

/// Threads of a warp.
const WARP: usize = 32;

/// Columns of a tile, and rows where there are many.
const TILE: usize = 64;

/// Threads along rows and columns of a tile.
const SIDE: usize = 16;

/// Rows, or columns, that a thread computes.
const PER_THREAD: usize = TILE / SIDE;

/// Rows below which a warp computes a column of all of them.
pub const FEW_ROWS: usize = 16;

/// Columns of a tile that has few rows: a warp each.
const COLUMNS: usize = 8;

/// Emits tiles whose threads each compute sixteen sums.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn emit_tiles(mut nest: Nest<'_>, rows: &Rows<'_>, product: &Product) -> Result<Scheduled, Refusal> {
    let tile_size = [TILE, TILE];
    let (block, origin) = open_grid(&mut nest, product, tile_size, SIDE * SIDE);
    let tm = nest.bind_fresh_named("tm", var(block.index).floor_div(SIDE));
    let tn = nest.bind_fresh_named("tn", var(block.index).floor_mod(SIDE));
    let count = PER_THREAD * PER_THREAD;
    let sums = nest.local("sums", &[count], product.identity.dtype());
    let u = nest.var("u", DType::I64);
    nest.open(u, count.into(), LoopKind::Unrolled);
    nest.store_element(sums, var(u), product.identity.clone());
    nest.close();
    let tile = stage(&mut nest, product, (block, DType::I8), tile_size, origin.clone(), 1, Transfer::Vectors);
    let step = nest.var("step", DType::I64);
    nest.open(step, tile.steps.into(), LoopKind::Serial);
    fill(&mut nest, product, &tile, (&Expr::int(0), &var(step)))?;
    nest.push(Stmt::Barrier);
    let names = [("kk", ROW_BYTES / COPY_BYTES), ("i", PER_THREAD), ("j", PER_THREAD)];
    let [kk, i, j] = names.map(|(name, n)| {
        let v = nest.var(name, DType::I64);
        nest.open(v, n.into(), LoopKind::Unrolled);
        var(v)
    });
    let operand = |side: usize, line: Expr| {
        row(tile.staged[side].buffer, vec![Expr::int(0), line, kk.clone() * COPY_BYTES], COPY_BYTES)
    };
    let (a, b) = (operand(0, i.clone() * SIDE + tm.clone()), operand(1, j.clone() * SIDE + tn.clone()));
    let sum = row(sums, vec![i * PER_THREAD + j], 1);
    nest.push(call("dp4a_16_i8", vec![sum, a, b], Vec::new()));
    (0..3).for_each(|_| nest.close());
    nest.push(Stmt::Barrier);
    nest.close();
    emit_results(&mut nest, rows, product, (sums, count), tile_size, &|nest| {
        let [i, j] = ["i", "j"].map(|name| {
            let v = nest.var(name, DType::I64);
            nest.open(v, PER_THREAD.into(), LoopKind::Unrolled);
            var(v)
        });
        let m = nest.bind_fresh_named("m", origin[0].clone() + i.clone() * SIDE + tm.clone());
        let n = nest.bind_fresh_named("n", origin[1].clone() + j.clone() * SIDE + tn.clone());
        (2, i * PER_THREAD + j, [m, n])
    })?;
    Ok(close(nest, rows))
}

/// True if a warp can compute a column: few rows, and both factors in vectors along the summed axis.
pub fn has_few_rows(nest: &Nest<'_>, product: &Product) -> bool {
    let in_memory = |factor| rows_in_memory(nest, product, factor).is_some();
    extent(&product.left.axes) < FEW_ROWS && in_memory(&product.left) && in_memory(&product.right)
}

/// Emits tiles of eight columns, a warp each: its lanes go through the summed axis side by side,
/// and add up what each has.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn emit_columns(mut nest: Nest<'_>, rows: &Rows<'_>, product: &Product) -> Result<Scheduled, Refusal> {
    let (m, n, k) = (extent(&product.left.axes), extent(&product.right.axes), extent(&product.depth));
    let (block, origin) = open_grid(&mut nest, product, [m, COLUMNS], WARP * COLUMNS);
    let lane = nest.bind_fresh_named("lane", var(block.index).floor_mod(WARP));
    let column = origin[1].clone() + var(block.index).floor_div(WARP);
    let column = nest.bind_fresh_named("n", column);
    // A warp past the last column computes that one, too, but does not store it.
    let read = nest.bind_fresh_named("column", column.clone().min(n - 1));
    let sums = nest.local("sums", &[m], DType::I32);
    let each = |nest: &mut Nest<'_>| {
        let v = nest.var("m", DType::I64);
        nest.open(v, m.into(), LoopKind::Unrolled);
        var(v)
    };
    let i = each(&mut nest);
    nest.store_element(sums, i, product.identity.clone());
    nest.close();
    let stride = WARP * COPY_BYTES;
    let step = nest.var("step", DType::I64);
    nest.open(step, k.div_ceil(stride).into(), LoopKind::Serial);
    let deep = nest.bind_fresh_named("k", var(step) * stride + lane.clone() * COPY_BYTES);
    let guarded = !k.is_multiple_of(stride);
    if guarded {
        nest.open_guard(deep.clone().lt(k));
    }
    // Vectors are whole: what begins before the end also ends there.
    let deep = if guarded { nest.bind_fresh_named("k", deep.min(k - COPY_BYTES)) } else { deep };
    let i = each(&mut nest);
    let regions = [(&product.left, i.clone()), (&product.right, read)].map(|(factor, line)| {
        let mut env = Env::new();
        let own = nest.fresh_axes(&factor.axes, &mut env);
        nest.bind_axes(&own, &line);
        env.insert(product.depth[0].var, deep.clone());
        let (buffer, indices) = rows_in_memory(&nest, product, factor).expect("asked for before");
        let indices = indices.iter().map(|i| nest.inliner().instantiate(i, &env)).collect();
        row(buffer, indices, COPY_BYTES)
    });
    let [a, b] = regions;
    nest.push(call("dp4a_16_i8", vec![row(sums, vec![i], 1), a, b], Vec::new()));
    (0..2 + guarded as usize).for_each(|_| nest.close());
    let i = each(&mut nest);
    nest.push(call("warp_sum_i32", vec![row(sums, vec![i], 1)], Vec::new()));
    nest.close();
    let i = each(&mut nest);
    nest.open_guard(lane.equal(i.clone()).and(column.clone().lt(n)));
    let unit = rows.pointwise.axes.iter().filter(|a| a.extent == 1);
    let mut env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
    for (axes, at) in [(&product.left.axes, &i), (&product.right.axes, &column)] {
        let own = nest.fresh_axes(axes, &mut env);
        nest.bind_axes(&own, at);
    }
    let sum = nest.element(sums, i);
    let values = results(&mut nest, rows, product, &env, sum)?;
    store(&mut nest, rows, &env, values);
    (0..2).for_each(|_| nest.close());
    Ok(close(nest, rows))
}
