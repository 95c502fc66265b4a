//! Products of narrow numbers (int8, float16, bfloat16), whose operands come to shared memory as
//! they are: what tensor cores and dot products of bytes share.
//!
//! Operands lie in shared memory as rows along the summed axis, 64 bytes at a time, and 16 bytes
//! more between rows: eight neighbouring rows then begin in different banks, so that the eight
//! rows of a fragment are read without a conflict, and every row at a multiple of 16 bytes.
//! Lines and depths past the end are zeros there, which add nothing.

use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, Range, Region, Scope, Stmt};
use fermata_ir::types::DType;

use super::super::collapse::Pointwise;
use super::super::inline::Env;
use super::super::nest::{BlockThreads, Nest, Refusal};
use super::super::rows::{Rows, close_kernel, store};
use super::super::rules_cpu::Scheduled;
use super::gemm::{Factor, Product, extent, results, var};

/// Bytes of a row that are in shared memory at a time.
pub const ROW_BYTES: usize = 64;

/// Bytes that a thread copies at a time.
pub const COPY_BYTES: usize = 16;

/// The dtype of both factors before they are widened to that of the sum.
pub fn narrow_dtype(product: &Product) -> Option<DType> {
    let wide = product.identity.dtype();
    let of = |factor: &Factor| match factor.value.kind() {
        ExprKind::Cast(inner) => Some(inner.dtype()),
        _ => None,
    };
    let dtype = of(&product.left).filter(|d| of(&product.right) == Some(*d))?;
    let fits = matches!((dtype, wide), (DType::I8, DType::I32) | (DType::F16 | DType::BF16, DType::F32));
    fits.then_some(dtype)
}

/// The narrow value of a factor.
fn inner(factor: &Factor) -> &Expr {
    match factor.value.kind() {
        ExprKind::Cast(inner) => inner,
        _ => unreachable!("the factors of a narrow product are widened"),
    }
}

/// The buffer and indices of a factor whose rows lie along the summed axis, whole vectors of 16
/// bytes each.
pub fn rows_in_memory<'f>(
    nest: &Nest<'_>,
    product: &Product,
    factor: &'f Factor,
) -> Option<(BufferId, &'f [Expr])> {
    let ExprKind::Load(buffer, indices) = inner(factor).kind() else { return None };
    let ([depth], Some((last, outer))) = (&product.depth[..], indices.split_last()) else { return None };
    let along = matches!(last.kind(), ExprKind::Var(v) if *v == depth.var);
    let inside = outer.iter().any(|i| super::gemm::mentions(i, depth));
    let info = &nest.func.buffers[*buffer];
    let vectors = |n: usize| (n * info.dtype.bytes()).is_multiple_of(COPY_BYTES);
    let pitch = info.shape.last().copied().unwrap_or(0);
    (along && !inside && vectors(pitch) && vectors(depth.extent)).then_some((*buffer, indices))
}

/// How a factor comes to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Vectors of 16 bytes, by asynchronous copies.
    Asynchronous,
    /// Vectors of 16 bytes.
    Vectors,
    /// Elements, each computed where it is stored.
    Elements,
}

/// A factor's place in shared memory.
pub struct Staged {
    /// Stages, lines and depth.
    pub buffer: BufferId,
    /// Lines of a tile.
    pub lines: usize,
    transfer: Transfer,
    /// The line of the factor at which the tile begins.
    origin: Expr,
}

/// What a kernel of tiles has in common.
pub struct Tile {
    /// The threads.
    pub block: BlockThreads,
    /// The dtype of the factors.
    pub dtype: DType,
    /// The left and right factor.
    pub staged: [Staged; 2],
    /// Steps over the summed axis.
    pub steps: usize,
}

impl Tile {
    /// Elements of a row that are in shared memory at a time.
    pub fn depth(&self) -> usize {
        ROW_BYTES / self.dtype.bytes()
    }

    /// True if a factor comes by asynchronous copies.
    pub fn is_asynchronous(&self) -> bool {
        self.staged.iter().any(|s| s.transfer == Transfer::Asynchronous)
    }
}

/// The name of a copy or load for a dtype: `cp_async_16_i8`.
pub fn named(stem: &str, dtype: DType) -> String {
    let suffix = match dtype {
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        _ => "i8",
    };
    format!("{stem}_{suffix}")
}

/// `buffer[mins.., last:last + count]`.
pub fn row(buffer: BufferId, mins: Vec<Expr>, count: usize) -> Region {
    let last = mins.len().saturating_sub(1);
    let range = |(d, min)| Range { min, extent: Expr::from(if d == last { count } else { 1 }) };
    Region { buffer, ranges: mins.into_iter().enumerate().map(range).collect() }
}

/// The statement of an intrinsic.
pub fn call(name: &str, regions: Vec<Region>, params: Vec<Expr>) -> Stmt {
    Stmt::Intrin { name: name.into(), regions, params }
}

/// The grid of a kernel whose tiles are so many rows and columns, opened: tiles and threads, with
/// the batch bound. Gives the block and the first row and column.
pub fn open_grid(
    nest: &mut Nest<'_>,
    product: &Product,
    [rows, columns]: [usize; 2],
    threads: usize,
) -> (BlockThreads, [Expr; 2]) {
    let row_tiles = extent(&product.left.axes).div_ceil(rows);
    let column_tiles = extent(&product.right.axes).div_ceil(columns);
    let t = nest.var("t", DType::I64);
    nest.open(t, (extent(&product.batch) * row_tiles * column_tiles).into(), LoopKind::Tiles);
    let block = nest.open_threads(threads);
    nest.bind_axes(&product.batch, &var(t).floor_div(row_tiles * column_tiles));
    let row_tile = var(t).floor_div(column_tiles).floor_mod(row_tiles);
    let m0 = nest.bind_fresh_named("m0", row_tile * rows);
    let n0 = nest.bind_fresh_named("n0", var(t).floor_mod(column_tiles) * columns);
    (block, [m0, n0])
}

/// The shared memory of both factors.
pub fn stage(
    nest: &mut Nest<'_>,
    product: &Product,
    (block, dtype): (BlockThreads, DType),
    lines: [usize; 2],
    origins: [Expr; 2],
    stages: usize,
    vectors: Transfer,
) -> Tile {
    let pitch = (ROW_BYTES + COPY_BYTES) / dtype.bytes();
    let factors = [(&product.left, "left"), (&product.right, "right")];
    let [left, right] = [0, 1].map(|side| {
        let (factor, name) = factors[side];
        let transfer = match rows_in_memory(nest, product, factor) {
            Some(_) => vectors,
            None => Transfer::Elements,
        };
        let buffer = nest.scratch_buffer(name, &[stages, lines[side], pitch], dtype, Scope::Shared);
        Staged { buffer, lines: lines[side], transfer, origin: origins[side].clone() }
    });
    let steps = extent(&product.depth).div_ceil(ROW_BYTES / dtype.bytes());
    Tile { block, dtype, staged: [left, right], steps }
}

/// Brings the parts of both factors for a step to a stage of shared memory.
///
/// # Errors
/// If a factor reads what cannot be computed in it.
pub fn fill(nest: &mut Nest<'_>, product: &Product, tile: &Tile, at: (&Expr, &Expr)) -> Result<(), Refusal> {
    for (factor, staged) in [&product.left, &product.right].into_iter().zip(&tile.staged) {
        match staged.transfer {
            Transfer::Elements => fill_elements(nest, product, factor, (tile, staged), at)?,
            Transfer::Asynchronous | Transfer::Vectors => {
                fill_vectors(nest, product, factor, (tile, staged), at);
            }
        }
    }
    Ok(())
}

/// Whether a line and a depth are inside of a factor; nothing where they always are.
fn inside(
    product: &Product,
    factor: &Factor,
    (tile, staged): (&Tile, &Staged),
    at: [&Expr; 2],
) -> Option<Expr> {
    let limits = [(extent(&factor.axes), staged.lines), (extent(&product.depth), tile.depth())];
    let checks = limits.iter().zip(at).filter(|((n, step), _)| !n.is_multiple_of(*step));
    checks.map(|((n, _), i)| i.clone().lt(*n)).reduce(Expr::and)
}

fn fill_vectors(
    nest: &mut Nest<'_>,
    product: &Product,
    factor: &Factor,
    (tile, staged): (&Tile, &Staged),
    (stage, step): (&Expr, &Expr),
) {
    let vector = COPY_BYTES / tile.dtype.bytes();
    let vectors = tile.depth() / vector;
    let u = nest.var("u", DType::I64);
    nest.open(u, (staged.lines * vectors).div_ceil(tile.block.count).into(), LoopKind::Unrolled);
    let e = nest.bind_fresh_named("e", var(u) * tile.block.count + var(tile.block.index));
    let line = nest.bind_fresh_named("line", e.clone().floor_div(vectors));
    let deep = nest.bind_fresh_named("deep", e.floor_mod(vectors) * vector);
    let k = nest.bind_fresh_named("k", step.clone() * tile.depth() + deep.clone());
    let at = nest.bind_fresh_named("at", staged.origin.clone() + line.clone());
    let inside = inside(product, factor, (tile, staged), [&at, &k]);
    let valid = inside.map_or_else(|| Expr::from(vector), |c| c.select(vector.into(), Expr::int(0)));
    // What is not valid is not read, but has a place within the buffer all the same.
    let (lines, depth) = (extent(&factor.axes), extent(&product.depth));
    let clamp =
        |i: Expr, n: usize, step: usize, last: usize| if n.is_multiple_of(step) { i } else { i.min(last) };
    let at = nest.bind_fresh_named("at", clamp(at, lines, staged.lines, lines - 1));
    let k = nest.bind_fresh_named("k", clamp(k, depth, tile.depth(), depth - vector));
    let mut env = Env::new();
    let own = nest.fresh_axes(&factor.axes, &mut env);
    nest.bind_axes(&own, &at);
    let (buffer, indices) = rows_in_memory(nest, product, factor).expect("chosen for such factors only");
    env.insert(product.depth[0].var, k);
    let indices = indices.iter().map(|i| nest.inliner().instantiate(i, &env)).collect();
    let stem = if staged.transfer == Transfer::Asynchronous { "cp_async_16" } else { "copy_16" };
    let to = row(staged.buffer, vec![stage.clone(), line, deep], vector);
    let from = row(buffer, indices, vector);
    nest.push(call(&named(stem, tile.dtype), vec![to, from], vec![valid]));
    nest.close();
}

fn fill_elements(
    nest: &mut Nest<'_>,
    product: &Product,
    factor: &Factor,
    (tile, staged): (&Tile, &Staged),
    (stage, step): (&Expr, &Expr),
) -> Result<(), Refusal> {
    let u = nest.var("u", DType::I64);
    nest.open(u, (staged.lines * tile.depth()).div_ceil(tile.block.count).into(), LoopKind::Serial);
    let e = nest.bind_fresh_named("e", var(u) * tile.block.count + var(tile.block.index));
    let (line, deep) = match factor.along_depth {
        true => (e.clone().floor_div(tile.depth()), e.floor_mod(tile.depth())),
        false => (e.clone().floor_mod(staged.lines), e.floor_div(staged.lines)),
    };
    let line = nest.bind_fresh_named("line", line);
    let deep = nest.bind_fresh_named("deep", deep);
    let k = nest.bind_fresh_named("k", step.clone() * tile.depth() + deep.clone());
    let at = nest.bind_fresh_named("at", staged.origin.clone() + line.clone());
    let inside = inside(product, factor, (tile, staged), [&at, &k]);
    let guarded = inside.is_some();
    let put = |value| Stmt::Store {
        buffer: staged.buffer,
        indices: vec![stage.clone(), line.clone(), deep.clone()],
        value,
    };
    inside.into_iter().for_each(|c| nest.open_guard(c));
    let mut env = Env::new();
    let own = nest.fresh_axes(&factor.axes, &mut env);
    nest.bind_axes(&own, &at);
    let depth = nest.fresh_axes(&product.depth, &mut env);
    nest.bind_axes(&depth, &k);
    let value = nest.inliner().instantiate(inner(factor), &env);
    let value = nest.place(&value)?;
    nest.push(put(value));
    if guarded {
        nest.open_else();
        nest.push(put(Expr::int(0).cast(tile.dtype)));
        nest.close();
    }
    nest.close();
    Ok(())
}

/// Where a thread's result lies: its place among the thread's sums, its row and its column.
pub type Places<'p> = dyn Fn(&mut Nest<'_>) -> (usize, Expr, [Expr; 2]) + 'p;

/// Outputs that are computed before the first of them is stored: more would not leave registers for
/// the sums.
const OUTPUTS_AT_ONCE: usize = 2;

/// The results of a thread, after the elementwise body, a few outputs at a time, each computed before
/// the first is stored: so that what rows and columns share is read once. `open` opens the loops over
/// them and gives how many, the place of the sum, and its row and column; columns past the end, and
/// rows, are left out if a tile of this size may have any.
///
/// # Errors
/// If the elementwise body reads what cannot be computed in it.
pub fn emit_results(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    product: &Product,
    sums: (BufferId, usize),
    tile: [usize; 2],
    open: &Places<'_>,
) -> Result<(), Refusal> {
    let Pointwise { axes, bodies, outputs } = rows.pointwise;
    for (bodies, outputs) in bodies.chunks(OUTPUTS_AT_ONCE).zip(outputs.chunks(OUTPUTS_AT_ONCE)) {
        let few = Pointwise { axes: axes.clone(), bodies: bodies.to_vec(), outputs: outputs.to_vec() };
        emit_outputs(nest, &Rows { pointwise: &few, ..*rows }, product, sums, tile, open)?;
    }
    Ok(())
}

/// As [`emit_results`], of so few outputs that all are computed before the first is stored.
fn emit_outputs(
    nest: &mut Nest<'_>,
    rows: &Rows<'_>,
    product: &Product,
    (acc, count): (BufferId, usize),
    tile: [usize; 2],
    open: &Places<'_>,
) -> Result<(), Refusal> {
    let mut kept = Vec::new();
    for output in &rows.pointwise.outputs {
        let dtype = nest.func.buffers[*output].dtype;
        kept.push(nest.local("result", &[count], dtype));
    }
    for stores in [false, true] {
        nest.open_note(if stores { "store the results" } else { "compute the results" });
        let (mut opened, place, at) = open(nest);
        opened += 1;
        let limits = [&product.left.axes, &product.right.axes].map(|axes| extent(axes));
        let checks = limits.iter().zip(tile).zip(&at).filter(|((n, step), _)| !n.is_multiple_of(*step));
        if let Some(c) = checks.map(|((n, _), i)| i.clone().lt(*n)).reduce(Expr::and) {
            nest.open_guard(c);
            opened += 1;
        }
        let unit = rows.pointwise.axes.iter().filter(|a| a.extent == 1);
        let mut env: Env = unit.map(|a| (a.var, Expr::int(0))).collect();
        for (axes, i) in [&product.left.axes, &product.right.axes].into_iter().zip(&at) {
            let own = nest.fresh_axes(axes, &mut env);
            nest.bind_axes(&own, i);
        }
        if stores {
            let values = kept.iter().map(|&kept| nest.element(kept, place.clone())).collect();
            store(nest, rows, &env, values);
        } else {
            let sum = nest.element(acc, place.clone());
            let values = results(nest, rows, product, &env, sum)?;
            kept.iter().zip(values).for_each(|(&kept, v)| nest.store_element(kept, place.clone(), v));
        }
        (0..opened).for_each(|_| nest.close());
    }
    Ok(())
}

/// Closes the threads and the tiles, and gives the kernel.
pub fn close(mut nest: Nest<'_>, rows: &Rows<'_>) -> Scheduled {
    (0..2).for_each(|_| nest.close());
    close_kernel(nest, rows)
}
