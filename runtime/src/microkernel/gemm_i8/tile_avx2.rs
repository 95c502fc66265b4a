//! The register tile of [`avx2`](super::avx2): four rows by sixteen columns.
//!
//! On Zen 3, which runs four vector operations a cycle, four steps of k of a row and eight
//! columns take two 16-bit additions, a multiplication and a 32-bit addition: a cycle. The rest
//! (two broadcasts a row, four loads of B, three scalar instructions each 32 steps) fits
//! beside them, six instructions a cycle; compilers spill, so the loop is written down.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::functions::gelu;
use super::{NR, Operands};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 4;

/// Steps of k that a turn of the loop takes.
pub(super) const STEPS: usize = 32;

/// Bytes of such steps in a widened row of A: of each half even pairs, then odd pairs.
pub(super) const A_STEP: usize = STEPS * 2;

/// Bytes of such steps in a widened panel of B.
pub(super) const B_STEP: usize = STEPS * 2 * NR;

/// Vectors of a row of the tile.
const VECTORS: usize = NR / 8;

/// A tile's operands.
pub(super) struct Tile {
    /// Widened rows of A, `a_row` bytes apart.
    pub(super) a: *const u8,
    pub(super) a_row: usize,
    /// The widened panel of B.
    pub(super) b: *const u8,
    /// Turns of the loop.
    pub(super) steps: usize,
    /// What is too much in the sums of each row.
    pub(super) a_surplus: *const i32,
    /// Sums of the steps before, in rows of the scratch memory.
    pub(super) before: Option<*const i32>,
    /// Where the sums go.
    pub(super) sums: *mut i32,
    /// Rows of the tile that are there.
    pub(super) rows: usize,
}

/// What all tiles of a panel share.
pub(super) struct Columns {
    /// Where the sums of each column begin: less what will be too much in them.
    start: [__m256i; VECTORS],
    /// The columns' scales and biases; zeros past the last.
    scale: [__m256; VECTORS],
    bias: [__m256; VECTORS],
    /// How many columns there are.
    width: usize,
}

impl Columns {
    /// Those of a panel that begins at a column, with what is too much in each column's sums.
    ///
    /// # Safety
    /// The column is within the operands.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn read(o: &Operands, column: usize, surplus: [__m256i; VECTORS]) -> Columns {
        let width = NR.min(o.n - column);
        let vectors = |from: *const f32| {
            let mut values = [0f32; NR];
            // SAFETY: so many columns are within the vectors along n.
            unsafe { std::ptr::copy_nonoverlapping(from.wrapping_add(column), values.as_mut_ptr(), width) };
            // SAFETY: a vector is eight numbers.
            std::array::from_fn(|v| unsafe { _mm256_loadu_ps(values.as_ptr().add(v * 8)) })
        };
        let start = surplus.map(|v| _mm256_sub_epi32(_mm256_setzero_si256(), v));
        Columns { start, scale: vectors(o.b_scale), bias: vectors(o.bias), width }
    }
}

type Sums<const R: usize> = [[__m256i; VECTORS]; R];

/// Columns of a row of sums in the scratch memory.
const SUMS_ROW: usize = fermata_ir::tir::intrin::GEMM_I8_COLUMNS;

/// Writes the tile's sums of all steps so far.
///
/// # Safety
/// The tile's operands are there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn partial(t: &Tile, c: &Columns) {
    // SAFETY: the contract of this function.
    unsafe {
        match t.rows {
            1 => keep(t, &sums::<1>(t, c)),
            2 => keep(t, &sums::<2>(t, c)),
            3 => keep(t, &sums::<3>(t, c)),
            _ => keep(t, &sums_of_four(t, c)),
        }
    }
}

/// Writes the tile's real results, whose first row and column of C these are.
///
/// # Safety
/// The tile's operands are there, and its rows and its first column are within C.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn real(t: &Tile, c: &Columns, o: &Operands, row: usize, column: usize) {
    // SAFETY: the contract of this function.
    unsafe {
        match t.rows {
            1 => store(&sums::<1>(t, c), c, o, row, column),
            2 => store(&sums::<2>(t, c), c, o, row, column),
            3 => store(&sums::<3>(t, c), c, o, row, column),
            _ => store(&sums_of_four(t, c), c, o, row, column),
        }
    }
}

/// # Safety
/// The tile has these rows in the scratch memory.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn keep<const R: usize>(t: &Tile, sums: &Sums<R>) {
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe { _mm256_storeu_si256(t.sums.add(r * SUMS_ROW + v * 8).cast(), sum) };
        }
    }
}

/// # Safety
/// The tile's rows from `row` on and `column` are within C.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const R: usize>(sums: &Sums<R>, c: &Columns, o: &Operands, row: usize, column: usize) {
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: the row is within A's scales and C, and in it so many columns.
        unsafe {
            let a_scale = _mm256_set1_ps(*o.a_scale.add(row + r));
            let real: [__m256; VECTORS] = std::array::from_fn(|v| {
                let scale = _mm256_mul_ps(a_scale, c.scale[v]);
                _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[v]), scale, c.bias[v])
            });
            let to = o.c.add((row + r) * o.c_row + column);
            if c.width == NR && !o.gelu {
                real.iter().enumerate().for_each(|(v, &real)| _mm256_storeu_ps(to.add(v * 8), real));
            } else {
                store_some(real, to, c.width, o.gelu);
            }
        }
    }
}

/// Writes the first numbers of a row, or their GELU.
///
/// # Safety
/// So many can be written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_some(real: [__m256; VECTORS], to: *mut f32, width: usize, is_gelu: bool) {
    let mut values = [0f32; NR];
    for (to, &real) in values.as_chunks_mut::<8>().0.iter_mut().zip(&real) {
        // SAFETY: a vector is eight numbers.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), real) };
    }
    if is_gelu {
        for v in &mut values {
            *v = gelu(*v);
        }
    }
    // SAFETY: by the contract; the whole row has a known size.
    unsafe {
        match width {
            NR => to.cast::<[f32; NR]>().write_unaligned(values),
            _ => std::ptr::copy_nonoverlapping(values.as_ptr(), to, width),
        }
    }
}

/// The sums without what is too much in each row's, and with those before.
///
/// # Safety
/// The tile has these rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn corrected<const R: usize>(t: &Tile, mut sums: Sums<R>) -> Sums<R> {
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: by the contract.
        let surplus = _mm256_set1_epi32(unsafe { *t.a_surplus.add(r) });
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_sub_epi32(*sum, surplus);
            if let Some(before) = t.before {
                // SAFETY: by the contract.
                let before = unsafe { _mm256_loadu_si256(before.add(r * SUMS_ROW + v * 8).cast()) };
                *sum = _mm256_add_epi32(*sum, before);
            }
        }
    }
    sums
}

/// The sums of a tile of fewer rows than a full one.
///
/// # Safety
/// The tile's operands are there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums<const R: usize>(t: &Tile, c: &Columns) -> Sums<R> {
    let mut sums = [c.start; R];
    for step in 0..t.steps {
        for group in 0..STEPS / 4 {
            // SAFETY: the group is within the steps.
            let b = unsafe { t.b.add(step * B_STEP).cast::<__m256i>().add(group * 2 * VECTORS) };
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let [even, odd] = unsafe {
                    let a = t.a.add(r * t.a_row + step * A_STEP).cast::<i32>();
                    let a = a.add(group / 4 * 8 + group % 4);
                    [*a, *a.add(4)].map(|pair| _mm256_set1_epi32(pair))
                };
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let [b_odd, b_even] = unsafe { [*b.add(2 * v), *b.add(2 * v + 1)] };
                    let product =
                        _mm256_madd_epi16(_mm256_add_epi16(even, b_odd), _mm256_add_epi16(odd, b_even));
                    *sum = _mm256_add_epi32(*sum, product);
                }
            }
        }
    }
    // SAFETY: the contract of this function.
    unsafe { corrected(t, sums) }
}

/// Four steps of k of a row at this address: where its pairs lie, and its sums.
macro_rules! row {
    ($a:literal, $even:literal, $odd:literal, $c0:literal, $c1:literal) => {
        concat!(
            "vpbroadcastd {even}, [",
            $a,
            " + ",
            $even,
            "]\n",
            "vpbroadcastd {odd}, [",
            $a,
            " + ",
            $odd,
            "]\n",
            "vpaddw {x}, {even}, {odd0}\n",
            "vpaddw {y}, {odd}, {even0}\n",
            "vpmaddwd {x}, {x}, {y}\n",
            "vpaddw {even}, {even}, {odd1}\n",
            "vpaddw {odd}, {odd}, {even1}\n",
            "vpmaddwd {even}, {even}, {odd}\n",
            "vpaddd {",
            $c0,
            "}, {",
            $c0,
            "}, {x}\n",
            "vpaddd {",
            $c1,
            "}, {",
            $c1,
            "}, {even}\n",
        )
    };
}

/// Four steps of k of all rows: where the pairs lie in a row, and the vectors in the panel.
macro_rules! group {
    ($even:literal, $odd:literal, [$b0:literal, $b1:literal, $b2:literal, $b3:literal]) => {
        concat!(
            "vmovdqa {odd0}, [{b} + ",
            $b0,
            "]\n",
            "vmovdqa {even0}, [{b} + ",
            $b1,
            "]\n",
            "vmovdqa {odd1}, [{b} + ",
            $b2,
            "]\n",
            "vmovdqa {even1}, [{b} + ",
            $b3,
            "]\n",
            row!("{a}", $even, $odd, "c00", "c01"),
            row!("{a} + {a_row}", $even, $odd, "c10", "c11"),
            row!("{a} + 2*{a_row}", $even, $odd, "c20", "c21"),
            row!("{last_row}", $even, $odd, "c30", "c31"),
        )
    };
}

/// The sums of a full tile.
///
/// # Safety
/// The tile's operands are there; the panel is aligned to 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sums_of_four(t: &Tile, c: &Columns) -> Sums<TILE_ROWS> {
    let mut sums = [c.start; TILE_ROWS];
    if t.steps == 0 {
        // SAFETY: the contract of this function.
        return unsafe { corrected(t, sums) };
    }
    let [[c00, c01], [c10, c11], [c20, c21], [c30, c31]] = &mut sums;
    // SAFETY: each turn reads a step of four rows of A and of the panel, by the contract.
    unsafe {
        asm!(
            "2:",
            group!("0", "16", ["0", "32", "64", "96"]),
            group!("4", "20", ["128", "160", "192", "224"]),
            group!("8", "24", ["256", "288", "320", "352"]),
            group!("12", "28", ["384", "416", "448", "480"]),
            group!("32", "48", ["512", "544", "576", "608"]),
            group!("36", "52", ["640", "672", "704", "736"]),
            group!("40", "56", ["768", "800", "832", "864"]),
            group!("44", "60", ["896", "928", "960", "992"]),
            "add {a}, {a_step}",
            "add {last_row}, {a_step}",
            "add {b}, {b_step}",
            "dec {turns}",
            "jnz 2b",
            a = inout(reg) t.a => _,
            last_row = inout(reg) t.a.wrapping_add((TILE_ROWS - 1) * t.a_row) => _,
            b = inout(reg) t.b => _,
            turns = inout(reg) t.steps => _,
            a_row = in(reg) t.a_row,
            a_step = const A_STEP,
            b_step = const B_STEP,
            c00 = inout(ymm_reg) *c00, c01 = inout(ymm_reg) *c01,
            c10 = inout(ymm_reg) *c10, c11 = inout(ymm_reg) *c11,
            c20 = inout(ymm_reg) *c20, c21 = inout(ymm_reg) *c21,
            c30 = inout(ymm_reg) *c30, c31 = inout(ymm_reg) *c31,
            even0 = out(ymm_reg) _, odd0 = out(ymm_reg) _, even1 = out(ymm_reg) _, odd1 = out(ymm_reg) _,
            even = out(ymm_reg) _, odd = out(ymm_reg) _, x = out(ymm_reg) _, y = out(ymm_reg) _,
            options(nostack, readonly),
        );
        corrected(t, sums)
    }
}
