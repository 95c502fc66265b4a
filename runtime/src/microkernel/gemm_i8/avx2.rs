//! Products on AVX2, by Winograd's inner products.
//!
//! Without VNNI an instruction multiplies sixteen pairs of 16-bit numbers and adds neighbours,
//! two of the four vector pipes can do that, and the sums need an addition each, so straight
//! products stand still where these pipes are busy. (`vpmaddubsw` would multiply bytes, but
//! its sums saturate.) Winograd's identity,
//!
//! ```text
//! a0 b0 + a1 b1 = (a0 + b1) (a1 + b0) - a0 a1 - b0 b1,
//! ```
//!
//! takes half of the multiplications for two additions each, which all four pipes do; what is
//! too much depends on a row or on a column alone and is taken off at the end. Integers wrap,
//! so nothing is lost: the sums are the exact ones. Bytes are -128 to 127, so their sums fit in
//! 16 bits.
//!
//! A block of A's rows is widened once, or was before the call; a panel of B once a block of rows.
//! Both stay in the caches while the tiles of four rows and sixteen columns pass.

use std::arch::x86_64::*;

use fermata_ir::tir::intrin::{GEMM_I8_COLUMNS, GEMM_I8_DEPTH, GEMM_I8_ROWS, widened_row};

use super::tile_avx2::{self, Columns, STEPS, TILE_ROWS, Tile};
use super::{KR, NR, Operands};

/// The intrinsic on AVX2.
///
/// # Safety
/// As the catalogue's row says, on a machine with AVX2 and FMA.
pub(in super::super) unsafe extern "C" fn avx2(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    // SAFETY: the contract of this function.
    unsafe { run(&Operands::read(regions, params), scratch, false) }
}

/// The intrinsic `gemm_i8_widened` on AVX2.
///
/// # Safety
/// As the catalogue's row says, on a machine with AVX2 and FMA.
pub(in super::super) unsafe extern "C" fn avx2_widened(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    // SAFETY: the contract of this function.
    unsafe { run(&Operands::read(regions, params), scratch, true) }
}

/// The intrinsic `widen_i8` on AVX2.
///
/// # Safety
/// As the catalogue's row says, on a machine with AVX2.
pub(in super::super) unsafe extern "C" fn avx2_widen(
    regions: *const *mut u8,
    params: *const i64,
    _scratch: *mut u8,
) {
    // SAFETY: the row has two regions, four strides and two parameters.
    let (region, number) = unsafe { (&*regions.cast::<[*mut u8; 2]>(), &*params.cast::<[i64; 6]>()) };
    let [w_row, _, a_row, _, m, k] = number.map(|n| n as usize);
    let steps = k.next_multiple_of(STEPS);
    for row in 0..m {
        // SAFETY: both matrices have the row; a widened one has its steps in whole vectors, and as
        // many numbers again as two vectors hold.
        unsafe {
            let to = region[0].cast::<i16>().add(row * w_row);
            let sum = widen_row(region[1].cast::<i8>().add(row * a_row), k, to.cast());
            to.add(steps).write_bytes(0, widened_row(k) - steps);
            to.add(steps).cast::<i32>().write_unaligned(sum);
        }
    }
}

/// The parts of the scratch memory.
struct Scratch {
    /// The widened rows of A, `a_row` bytes apart.
    a: *mut u8,
    a_row: usize,
    /// What is too much in the sums of each row.
    a_surplus: *mut i32,
    /// A widened panel.
    b: *mut u8,
    /// Sums of the steps of k so far, rows of [`GEMM_I8_COLUMNS`].
    sums: *mut i32,
}

impl Scratch {
    /// The parts at an address, for blocks of so many rows.
    fn at(scratch: *mut u8, rows: usize, k: usize) -> Scratch {
        let depth = GEMM_I8_DEPTH.min(k).max(1).next_multiple_of(STEPS);
        let b = scratch;
        let a = b.wrapping_add(depth * 2 * NR);
        let a_row = depth * 2;
        let a_surplus = a.wrapping_add(rows * a_row);
        let sums = a_surplus.wrapping_add((rows * 4).next_multiple_of(64));
        Scratch { a, a_row, a_surplus: a_surplus.cast(), b, sums: sums.cast() }
    }
}

/// A block of the product: its first row, column and step of k, and how many there are of each.
#[derive(Clone, Copy)]
struct Block {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    step: usize,
    steps: usize,
}

/// # Safety
/// As the catalogue's row says.
#[target_feature(enable = "avx2,fma")]
unsafe fn run(o: &Operands, scratch: *mut u8, widened: bool) {
    let mut scratch = Scratch::at(scratch, GEMM_I8_ROWS.min(o.m), o.k);
    for row in (0..o.m).step_by(GEMM_I8_ROWS) {
        let rows = GEMM_I8_ROWS.min(o.m - row);
        for column in (0..o.n).step_by(GEMM_I8_COLUMNS) {
            let columns = GEMM_I8_COLUMNS.min(o.n - column);
            // A product over nothing is a step of no products.
            for step in (0..o.k.max(1)).step_by(GEMM_I8_DEPTH) {
                let steps = GEMM_I8_DEPTH.min(o.k - step);
                let block = Block { row, rows, column, columns, step, steps };
                // SAFETY: the block is within the operands, and the scratch memory holds it.
                unsafe {
                    match column == 0 || o.k > GEMM_I8_DEPTH {
                        true if widened => find_rows(o, &block, &mut scratch),
                        true => widen_rows(o, &block, &scratch),
                        false => {}
                    }
                    multiply(o, &block, &scratch);
                }
            }
        }
    }
}

/// # Safety
/// The block is within the operands, the scratch memory holds it, and its rows are there.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply(o: &Operands, block: &Block, scratch: &Scratch) {
    let (first, last) = (block.step == 0, block.step + block.steps == o.k);
    for column in (0..block.columns).step_by(NR) {
        // SAFETY: the panel is within B; the rows and columns of a tile are within the block.
        unsafe {
            let surplus = widen_panel(o, block, block.column + column, scratch.b);
            let columns = Columns::read(o, block.column + column, surplus);
            for r in (0..block.rows).step_by(TILE_ROWS) {
                prefetch(o, block, column + NR, r);
                let sums = scratch.sums.add(r * GEMM_I8_COLUMNS + column);
                let tile = Tile {
                    a: scratch.a.add(r * scratch.a_row),
                    a_row: scratch.a_row,
                    b: scratch.b,
                    steps: block.steps.div_ceil(STEPS),
                    a_surplus: scratch.a_surplus.add(r),
                    before: (!first).then_some(sums),
                    sums,
                    rows: TILE_ROWS.min(block.rows - r),
                };
                if last {
                    tile_avx2::real(&tile, &columns, o, block.row + r, block.column + column);
                } else {
                    tile_avx2::partial(&tile, &columns);
                }
            }
        }
    }
}

/// Brings the next panel nearer, a part of it before each tile of this one.
#[inline]
#[target_feature(enable = "avx2")]
fn prefetch(o: &Operands, block: &Block, column: usize, row: usize) {
    /// Bytes of a cache line.
    const LINE: usize = 64;
    let lines = block.steps * NR / LINE;
    let part = lines.div_ceil(block.rows.div_ceil(TILE_ROWS));
    let first = row / TILE_ROWS * part;
    let panel = o.b.wrapping_add((block.column + column) / NR * o.b_panel + block.step * NR);
    for line in first..lines.min(first + part) {
        _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(line * LINE));
    }
}

/// The numbers at even and at odd places of each four, widened: places 0 and 2, 1 and 3.
#[inline]
#[target_feature(enable = "avx2")]
fn even_and_odd(bytes: __m256i) -> [__m256i; 2] {
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes)]
}

/// Finds the block's rows of A, which were widened before. What is too much in the sums over all
/// steps is taken off with the first ones.
///
/// # Safety
/// The block is within A.
unsafe fn find_rows(o: &Operands, block: &Block, scratch: &mut Scratch) {
    let rows = o.a.cast::<i16>().wrapping_add(block.row * o.a_row);
    scratch.a = rows.wrapping_add(block.step).cast_mut().cast();
    scratch.a_row = o.a_row * 2;
    for r in 0..block.rows {
        let sum = rows.wrapping_add(r * o.a_row + o.k.next_multiple_of(STEPS));
        // SAFETY: behind the steps of the row is their sum.
        unsafe {
            let sum = sum.cast::<i32>().read_unaligned();
            *scratch.a_surplus.add(r) = if block.step == 0 { sum } else { 0 };
        }
    }
}

/// Widens the block's rows of A.
///
/// # Safety
/// The block is within A, and the scratch memory holds it.
#[target_feature(enable = "avx2")]
unsafe fn widen_rows(o: &Operands, block: &Block, scratch: &Scratch) {
    for r in 0..block.rows {
        // SAFETY: the row is within A from `step` on, `steps` of it, and the scratch memory has it.
        unsafe {
            let from = o.a.add((block.row + r) * o.a_row + block.step);
            *scratch.a_surplus.add(r) = widen_row(from, block.steps, scratch.a.add(r * scratch.a_row));
        }
    }
}

/// Widens steps of a row: of each sixteen the even ones, then the odd ones. Gives the sum of the
/// products of neighbours.
///
/// # Safety
/// The row has so many steps, and there is room for whole vectors of them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn widen_row(from: *const i8, steps: usize, to: *mut u8) -> i32 {
    let mut surplus = _mm256_setzero_si256();
    let full = steps / STEPS * STEPS;
    // SAFETY: by the contract; the last numbers are copied to a full vector first.
    unsafe {
        let mut widen = |bytes: __m256i, p: usize| {
            let [even, odd] = even_and_odd(bytes);
            surplus = _mm256_add_epi32(surplus, _mm256_madd_epi16(even, odd));
            let to = to.add(p * 2).cast::<__m256i>();
            _mm256_storeu_si256(to, _mm256_permute2x128_si256::<0x20>(even, odd));
            _mm256_storeu_si256(to.add(1), _mm256_permute2x128_si256::<0x31>(even, odd));
        };
        for p in (0..full).step_by(STEPS) {
            widen(_mm256_loadu_si256(from.add(p).cast()), p);
        }
        if full < steps {
            let mut rest = [0i8; STEPS];
            std::ptr::copy_nonoverlapping(from.add(full), rest.as_mut_ptr(), steps - full);
            widen(_mm256_loadu_si256(rest.as_ptr().cast()), full);
        }
    }
    lanes_sum(surplus)
}

/// The sum of a vector's lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes_sum(v: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let pair = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<1>(pair)))
}

/// Widens the block's steps of a panel: for each four steps the odd pairs of eight columns, the
/// even ones, and both of the other eight. Gives what is too much in the sums of each column.
///
/// # Safety
/// The panel is within B, and the block's steps are within the panel; the scratch memory holds it.
#[target_feature(enable = "avx2")]
unsafe fn widen_panel(o: &Operands, block: &Block, column: usize, to: *mut u8) -> [__m256i; 2] {
    let groups = block.steps.div_ceil(KR);
    let mut surplus = [_mm256_setzero_si256(); 2];
    let to = to.cast::<__m256i>();
    // SAFETY: by the contract; a padded step is at most `STEPS / KR` groups.
    unsafe {
        let from = o.b.add(column / NR * o.b_panel + block.step * NR).cast::<__m256i>();
        for group in 0..groups {
            for (half, surplus) in surplus.iter_mut().enumerate() {
                let [even, odd] = even_and_odd(_mm256_loadu_si256(from.add(2 * group + half)));
                *surplus = _mm256_add_epi32(*surplus, _mm256_madd_epi16(even, odd));
                _mm256_store_si256(to.add(4 * group + 2 * half), odd);
                _mm256_store_si256(to.add(4 * group + 2 * half + 1), even);
            }
        }
        let padding = groups.next_multiple_of(STEPS / KR) - groups;
        to.add(4 * groups).write_bytes(0, 4 * padding);
    }
    surplus
}
