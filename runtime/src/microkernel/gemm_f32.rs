//! `gemm_f32`, `gemm_f32_nn`, `gemm_f32_nt` and the packing of their operands.
//!
//! Blocks of [`KC`] steps of `k` keep a block of A in the first-level cache and a panel of B in
//! the second. Sums go in the order of `k` in every block, so the split changes no more than
//! where a sum rounds. A product of one row is bound by memory, and reads B once from end to end.

use fermata_ir::tir::intrin::GEMM_PANEL;

use super::tile_f32::{Portable, Tile, Tiles};

/// Columns of an unpacked B that are packed at a time.
const PANEL: usize = 48;

/// Steps of `k` in a block.
const KC: usize = GEMM_PANEL / PANEL;

/// The arguments of an intrinsic, read in order.
pub(super) struct Args {
    regions: *const *mut u8,
    params: *const i64,
}

impl Args {
    /// The arguments at these addresses.
    pub fn new(regions: *const *mut u8, params: *const i64) -> Args {
        Args { regions, params }
    }

    /// The address of a region's first element.
    ///
    /// # Safety
    /// The call has such a region.
    pub unsafe fn region(&self, index: usize) -> *mut f32 {
        // SAFETY: by the contract.
        unsafe { (*self.regions.add(index)).cast() }
    }

    /// So many numbers from the `first`: strides of the regions, then parameters.
    ///
    /// # Safety
    /// The call has as many numbers.
    pub unsafe fn numbers<const N: usize>(&self, first: usize) -> [usize; N] {
        // SAFETY: by the contract; strides and sizes are not negative.
        std::array::from_fn(|i| unsafe { *self.params.add(first + i) } as usize)
    }
}

/// Sets rows of C to zero: the product over no `k`.
///
/// # Safety
/// C has these rows and columns.
unsafe fn clear(c: *mut f32, c_row: usize, m: usize, n: usize) {
    for i in 0..m {
        // SAFETY: row i is within C.
        unsafe { std::ptr::write_bytes(c.add(i * c_row), 0, n) };
    }
}

/// `C = A * B` with B in panels: the intrinsic `gemm_f32`.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `S`.
pub(super) unsafe extern "C" fn gemm<S: Tiles>(
    regions: *const *mut u8,
    params: *const i64,
    _scratch: *mut u8,
) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (c, a, b, [c_row, _, a_row, _, panel, b_step, _, m, n, k, nr]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    if k == 0 {
        // SAFETY: C is m x n.
        return unsafe { clear(c, c_row, m, n) };
    }
    if !nr.is_multiple_of(S::LANES) {
        // Reading whole vectors would reach past the panel.
        // SAFETY: the contract of this function; the intrinsic uses no scratch memory.
        return unsafe { gemm::<Portable>(regions, params, std::ptr::null_mut()) };
    }
    // One row reads each panel once, so it does that in the order of memory.
    let (depth, width) = if m == 1 { (k, S::LINE_COLUMNS) } else { (KC, S::COLUMNS) };
    for p in (0..k).step_by(depth) {
        for j in (0..n).step_by(nr) {
            for column in (0..nr.min(n - j)).step_by(width) {
                let tile = Tile {
                    k: depth.min(k - p),
                    a: a.wrapping_add(p),
                    a_row,
                    a_step: 1,
                    b: b.wrapping_add(j / nr * panel + p * b_step + column),
                    b_step,
                    c: c.wrapping_add(j + column),
                    c_row,
                    accumulate: p > 0,
                };
                // SAFETY: within C and A by the loops' bounds, and panels hold whole vectors.
                unsafe { rows::<S>(&tile, m, width.min(nr - column).min(n - j - column)) };
            }
        }
    }
}

/// All rows of some columns of C.
///
/// # Safety
/// As [`Tiles::tile`], for `m` rows.
unsafe fn rows<S: Tiles>(tile: &Tile, m: usize, columns: usize) {
    for i in (0..m).step_by(S::ROWS) {
        let tile =
            Tile { a: tile.a.wrapping_add(i * tile.a_row), c: tile.c.wrapping_add(i * tile.c_row), ..*tile };
        // SAFETY: these rows are among the m.
        unsafe { S::tile(&tile, S::ROWS.min(m - i), columns) };
    }
}

/// How an unpacked right operand lies.
pub(super) trait Unpacked {
    /// Its rows are rows of the product's right operand, so whole vectors can be read where they are.
    const BY_ROWS: bool;

    /// The address of element `(p, j)`.
    fn at(b: *const f32, b_row: usize, p: usize, j: usize) -> *const f32;

    /// Writes `steps` rows of `width` columns to rows of [`PANEL`].
    ///
    /// # Safety
    /// B has these elements, and the panel has as many rows.
    unsafe fn pack(b: *const f32, b_row: usize, width: usize, steps: usize, panel: *mut f32);
}

/// `B[k, n]`.
pub(super) struct ByRows;

/// `B[n, k]`.
pub(super) struct ByColumns;

impl Unpacked for ByRows {
    const BY_ROWS: bool = true;

    fn at(b: *const f32, b_row: usize, p: usize, j: usize) -> *const f32 {
        b.wrapping_add(p * b_row + j)
    }

    unsafe fn pack(b: *const f32, b_row: usize, width: usize, steps: usize, panel: *mut f32) {
        for p in 0..steps {
            // SAFETY: row p is within both, by the contract.
            unsafe { std::ptr::copy_nonoverlapping(b.add(p * b_row), panel.add(p * PANEL), width) };
        }
    }
}

impl Unpacked for ByColumns {
    const BY_ROWS: bool = false;

    fn at(b: *const f32, b_row: usize, p: usize, j: usize) -> *const f32 {
        b.wrapping_add(j * b_row + p)
    }

    unsafe fn pack(b: *const f32, b_row: usize, width: usize, steps: usize, panel: *mut f32) {
        // Blocks of 16 steps keep the lines that are written in the cache.
        for p0 in (0..steps).step_by(16) {
            for column in 0..width {
                for p in p0..steps.min(p0 + 16) {
                    // SAFETY: within both by the loops' bounds.
                    unsafe { *panel.add(p * PANEL + column) = *b.add(column * b_row + p) };
                }
            }
        }
    }
}

/// `C = A * B` with B as it is: the intrinsics `gemm_f32_nn` and `gemm_f32_nt`.
///
/// # Safety
/// As the catalogue's rows say; the machine has the instruction set of `S`.
pub(super) unsafe extern "C" fn gemm_unpacked<S: Tiles, B: Unpacked>(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (c, a, b, [c_row, _, a_row, _, b_row, _, m, n, k]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    if k == 0 {
        // SAFETY: C is m x n.
        return unsafe { clear(c, c_row, m, n) };
    }
    let packed: *mut f32 = scratch.cast();
    // A panel that few rows of A use is not worth packing.
    let as_it_is = B::BY_ROWS && m <= 2 * S::ROWS;
    for p in (0..k).step_by(KC) {
        let steps = KC.min(k - p);
        for j in (0..n).step_by(PANEL) {
            let width = PANEL.min(n - j);
            let read = if as_it_is { width - width % S::LANES } else { 0 };
            if read < width {
                // SAFETY: B has these elements; scratch memory has KC x PANEL.
                unsafe { B::pack(B::at(b, b_row, p, j + read), b_row, width - read, steps, packed) };
            }
            let (a, c) = (a.wrapping_add(p), c.wrapping_add(j));
            let tile =
                Tile { k: steps, a, a_row, a_step: 1, b: packed, b_step: PANEL, c, c_row, accumulate: p > 0 };
            let direct = Tile { b: B::at(b, b_row, p, j), b_step: b_row, ..tile };
            let rest = Tile { c: c.wrapping_add(read), ..tile };
            // SAFETY: within C and A by the loops' bounds; what is read directly is whole vectors,
            // and rows of the panel have all the vectors of their columns.
            unsafe {
                strips::<S>(&direct, m, read);
                strips::<S>(&rest, m, width - read);
            }
        }
    }
}

/// All rows of C, in strips of columns.
///
/// # Safety
/// As [`Tiles::tile`], for `m` rows and these columns.
unsafe fn strips<S: Tiles>(tile: &Tile, m: usize, columns: usize) {
    for column in (0..columns).step_by(S::COLUMNS) {
        let strip = Tile { b: tile.b.wrapping_add(column), c: tile.c.wrapping_add(column), ..*tile };
        // SAFETY: these columns are among all.
        unsafe { rows::<S>(&strip, m, S::COLUMNS.min(columns - column)) };
    }
}

/// The shape of a packing: rows of the source that become lanes, or columns.
#[derive(Clone, Copy)]
enum Lanes {
    Rows,
    Columns,
}

/// Panels `[i, p, r]` of element `i * width + r` along the lanes and `p` along `k`.
///
/// # Safety
/// As the catalogue's rows for packing say.
unsafe fn pack(regions: *const *mut u8, params: *const i64, lanes: Lanes) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's rows have two regions and these numbers.
    let (to, from, [panel, step, _, row, _, len, k, width]) =
        unsafe { (args.region(0), args.region(1), args.numbers(0)) };
    let (lane, along) = match lanes {
        Lanes::Rows => (row, 1),
        Lanes::Columns => (1, row),
    };
    for i in 0..len.div_ceil(width) {
        let valid = width.min(len - i * width);
        for p in 0..k {
            let line = to.wrapping_add(i * panel + p * step);
            let source = from.wrapping_add(i * width * lane + p * along);
            for r in 0..width {
                // SAFETY: lane r is within the panel, and within the source if it is valid.
                unsafe { *line.add(r) = if r < valid { *source.add(r * lane) } else { 0.0 } };
            }
        }
    }
}

/// The intrinsics `pack_a_f32` and `pack_b_f32_nt`: rows become lanes.
///
/// # Safety
/// As the catalogue's rows say.
pub(super) unsafe extern "C" fn pack_rows(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the contract of this function.
    unsafe { pack(regions, params, Lanes::Rows) }
}

/// The intrinsic `pack_b_f32`: columns stay lanes.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn pack_columns(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the contract of this function.
    unsafe { pack(regions, params, Lanes::Columns) }
}
