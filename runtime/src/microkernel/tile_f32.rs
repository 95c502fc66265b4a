//! Register tiles of f32 products: the inner loop that GEMM and convolution share.
//!
//! A tile of C stays in vector registers while `k` advances: one row of B in vectors, times one
//! element of A for each row of C. A's rows and steps have any distance, so both packed weights
//! (rows next to each other) and plain row-major operands serve.

use super::gather_f32::{Panel, Source, Steps};
use super::vector_f32::Plain;

/// What a register tile works on: `C[i, j] = sum over p of A[i, p] * B[p, j]`, or `+=`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Number of products a sum.
    pub k: usize,
    /// Element (0, 0) of A, and its distances between rows and between steps of `k`.
    pub a: *const f32,
    pub a_row: usize,
    pub a_step: usize,
    /// Element (0, 0) of B, and its distance between steps of `k`; whole vectors are read.
    pub b: *const f32,
    pub b_step: usize,
    /// Element (0, 0) of C, and its distance between rows; only elements of C are touched.
    pub c: *mut f32,
    pub c_row: usize,
    /// Add to what C holds.
    pub accumulate: bool,
}

/// Register tiles of one instruction set.
pub(super) trait Tiles {
    /// Lanes of a vector.
    const LANES: usize;
    /// Largest number of rows.
    const ROWS: usize;
    /// Largest number of columns; a multiple of the lanes.
    const COLUMNS: usize;
    /// Largest number of columns of a tile of one row, which has registers left for more.
    const LINE_COLUMNS: usize;
    /// Largest number of rows of a tile of one vector, likewise.
    const LINE_ROWS: usize;

    /// Computes a tile of so many rows and columns, at least one each.
    ///
    /// # Safety
    /// The machine has the instruction set. A and C have `rows` rows, C has `columns` columns,
    /// and B's rows have as many elements as the vectors that hold `columns`.
    unsafe fn tile(tile: &Tile, rows: usize, columns: usize);

    /// Gathers a panel for a convolution; see [`Source::gather`].
    ///
    /// # Safety
    /// As there, and the machine has the instruction set.
    unsafe fn gather(source: &Source, steps: Steps, panel: Panel);
}

/// Plain Rust.
pub(super) struct Portable;

impl Tiles for Portable {
    const LANES: usize = 1;
    const ROWS: usize = 4;
    const COLUMNS: usize = 16;
    const LINE_COLUMNS: usize = 16;
    const LINE_ROWS: usize = 4;

    unsafe fn tile(t: &Tile, rows: usize, columns: usize) {
        // SAFETY: the contract of this function, with as many rows.
        unsafe {
            match (rows, columns) {
                (4, 16) => portable::<4, 16>(t),
                (3, 16) => portable::<3, 16>(t),
                (2, 16) => portable::<2, 16>(t),
                (1, 16) => portable::<1, 16>(t),
                _ => {
                    for i in 0..rows {
                        for j in 0..columns {
                            let (a, c) = (t.a.wrapping_add(i * t.a_row), t.c.wrapping_add(i * t.c_row + j));
                            portable::<1, 1>(&Tile { a, b: t.b.wrapping_add(j), c, ..*t });
                        }
                    }
                }
            }
        }
    }

    unsafe fn gather(source: &Source, steps: Steps, panel: Panel) {
        // SAFETY: the contract of this function.
        unsafe { source.gather::<Plain>(steps, panel) };
    }
}

/// A tile of known size, whose loops the compiler turns into whatever vectors there are.
///
/// # Safety
/// As [`Tiles::tile`], for `R` rows and `C` columns.
unsafe fn portable<const R: usize, const C: usize>(t: &Tile) {
    let mut sums = [[0f32; C]; R];
    for p in 0..t.k {
        // SAFETY: step p of B has C elements, by the contract.
        let b = unsafe { *t.b.add(p * t.b_step).cast::<[f32; C]>() };
        for (i, row) in sums.iter_mut().enumerate() {
            // SAFETY: row i and step p are within A, by the contract.
            let a = unsafe { *t.a.add(i * t.a_row + p * t.a_step) };
            for (sum, b) in row.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    for (i, row) in sums.iter().enumerate() {
        // SAFETY: row i of C has C elements, by the contract.
        let c = unsafe { &mut *t.c.add(i * t.c_row).cast::<[f32; C]>() };
        for (c, sum) in c.iter_mut().zip(row) {
            *c = if t.accumulate { *c + sum } else { *sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector_f32::{Wide, Widest};
    use super::{Panel, Source, Steps, Tile, Tiles};
    use std::arch::{asm, x86_64::*};

    /// Declares the choice of a monomorphic kernel by rows and vectors.
    macro_rules! choose {
        ($kernel:ident, $t:expr, $rows:expr, $vectors:expr, $last:expr; $($r:literal),*; $vs:tt) => {
            match $rows {
                $($r => choose!(@vectors $kernel, $t, $r, $vectors, $last; $vs),)*
                _ => debug_assert!(false, "a tile has at most the rows of its instruction set"),
            }
        };
        (@vectors $kernel:ident, $t:expr, $r:literal, $vectors:expr, $last:expr; [$($v:literal),*]) => {
            match $vectors {
                // SAFETY: the contract of the tile is that of the kernel.
                $($v => unsafe { $kernel::<$r, $v>($t, $last) },)*
                _ => debug_assert!(false, "a tile has at most the vectors of its instruction set"),
            }
        };
    }

    /// 8 rows of 3 vectors of 16: 24 sums, 3 of B and one broadcast in 32 registers.
    pub struct Avx512;

    impl Tiles for Avx512 {
        const LANES: usize = 16;
        const ROWS: usize = 8;
        const COLUMNS: usize = 48;
        const LINE_COLUMNS: usize = 48;
        const LINE_ROWS: usize = 8;

        unsafe fn tile(t: &Tile, rows: usize, columns: usize) {
            let last = columns - (columns - 1) / 16 * 16;
            let mask = (u32::MAX >> (32 - last)) as __mmask16;
            choose!(avx512, t, rows, columns.div_ceil(16), mask; 1, 2, 3, 4, 5, 6, 7, 8; [1, 2, 3]);
        }

        unsafe fn gather(source: &Source, steps: Steps, panel: Panel) {
            // SAFETY: the contract of this function.
            unsafe { gather_avx512(source, steps, panel) };
        }
    }

    /// # Safety
    /// As [`Source::gather`].
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
    unsafe fn gather_avx512(source: &Source, steps: Steps, panel: Panel) {
        // SAFETY: the contract of this function.
        unsafe { source.gather::<Widest>(steps, panel) };
    }

    /// # Safety
    /// As [`Tiles::tile`], with `R` rows and `V` vectors, the last of which `last` masks.
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const R: usize, const V: usize>(t: &Tile, last: __mmask16) {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k {
            let mut row = [_mm512_setzero_ps(); V];
            for (v, vector) in row.iter_mut().enumerate() {
                // SAFETY: B's rows hold whole vectors, by the contract.
                *vector = unsafe { _mm512_loadu_ps(b.add(v * 16)) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row i of A at this step, by the contract.
                let x = _mm512_set1_ps(unsafe { *a.add(i * t.a_row) });
                for (sum, vector) in sums.iter_mut().zip(row) {
                    *sum = _mm512_fmadd_ps(x, vector, *sum);
                }
            }
            a = a.wrapping_add(t.a_step);
            b = b.wrapping_add(t.b_step);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let mask = if v + 1 == V { last } else { !0 };
                // SAFETY: row i and vector v are within C where the mask is set, by the contract.
                unsafe {
                    let c = t.c.add(i * t.c_row + v * 16);
                    let sum =
                        if t.accumulate { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), sum) } else { sum };
                    _mm512_mask_storeu_ps(c, mask, sum);
                }
            }
        }
    }

    /// 4 rows of 3 vectors of 8: 12 sums, 3 of B and one broadcast in 16 registers.
    pub struct Avx2;

    impl Tiles for Avx2 {
        const LANES: usize = 8;
        const ROWS: usize = 4;
        const COLUMNS: usize = 24;
        const LINE_COLUMNS: usize = 48;
        const LINE_ROWS: usize = 8;

        unsafe fn tile(t: &Tile, rows: usize, columns: usize) {
            let last = columns - (columns - 1) / 8 * 8;
            match (rows, columns.div_ceil(8)) {
                // SAFETY: the contract of the tile is that of the kernel.
                (4, 3) if t.k > 0 => unsafe { avx2_full(t, last) },
                // SAFETY: as above.
                (1, 4) => unsafe { avx2::<1, 4>(t, last) },
                // SAFETY: as above.
                (1, 5) => unsafe { avx2::<1, 5>(t, last) },
                // SAFETY: as above.
                (1, 6) => unsafe { avx2::<1, 6>(t, last) },
                // SAFETY: as above.
                (8, 1) => unsafe { avx2::<8, 1>(t, last) },
                // SAFETY: as above.
                (7, 1) => unsafe { avx2::<7, 1>(t, last) },
                // SAFETY: as above.
                (6, 1) => unsafe { avx2::<6, 1>(t, last) },
                // SAFETY: as above.
                (5, 1) => unsafe { avx2::<5, 1>(t, last) },
                (rows, vectors) => choose!(avx2, t, rows, vectors, last; 1, 2, 3, 4; [1, 2, 3]),
            }
        }

        unsafe fn gather(source: &Source, steps: Steps, panel: Panel) {
            // SAFETY: the contract of this function.
            unsafe { gather_avx2(source, steps, panel) };
        }
    }

    /// # Safety
    /// As [`Source::gather`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn gather_avx2(source: &Source, steps: Steps, panel: Panel) {
        // SAFETY: the contract of this function.
        unsafe { source.gather::<Wide>(steps, panel) };
    }

    /// # Safety
    /// As [`Tiles::tile`], with `R` rows and `V` vectors, the last of which has `last` lanes.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const R: usize, const V: usize>(t: &Tile, last: usize) {
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k {
            let mut row = [_mm256_setzero_ps(); V];
            for (v, vector) in row.iter_mut().enumerate() {
                // SAFETY: B's rows hold whole vectors, by the contract.
                *vector = unsafe { _mm256_loadu_ps(b.add(v * 8)) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row i of A at this step, by the contract.
                let x = _mm256_set1_ps(unsafe { *a.add(i * t.a_row) });
                for (sum, vector) in sums.iter_mut().zip(row) {
                    *sum = _mm256_fmadd_ps(x, vector, *sum);
                }
            }
            a = a.wrapping_add(t.a_step);
            b = b.wrapping_add(t.b_step);
        }
        // SAFETY: the contract of this function.
        unsafe { store_avx2(t, &sums, last) };
    }

    /// The full tile. It fills all sixteen registers, of which compilers spill some, so its loop
    /// is written down.
    ///
    /// # Safety
    /// As [`avx2`], for at least one product a sum.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_full(t: &Tile, last: usize) {
        let mut sums = [[_mm256_setzero_ps(); 3]; 4];
        let [[c00, c01, c02], [c10, c11, c12], [c20, c21, c22], [c30, c31, c32]] = &mut sums;
        // SAFETY: reads row i of A and three vectors of B at each of the `k` steps, by the contract.
        unsafe {
            asm!(
                "2:",
                "vmovups {b0}, [{b}]",
                "vmovups {b1}, [{b} + 32]",
                "vmovups {b2}, [{b} + 64]",
                "vbroadcastss {x}, [{a}]",
                "vfmadd231ps {c00}, {b0}, {x}",
                "vfmadd231ps {c01}, {b1}, {x}",
                "vfmadd231ps {c02}, {b2}, {x}",
                "vbroadcastss {x}, [{a} + {row}]",
                "vfmadd231ps {c10}, {b0}, {x}",
                "vfmadd231ps {c11}, {b1}, {x}",
                "vfmadd231ps {c12}, {b2}, {x}",
                "vbroadcastss {x}, [{a} + 2*{row}]",
                "vfmadd231ps {c20}, {b0}, {x}",
                "vfmadd231ps {c21}, {b1}, {x}",
                "vfmadd231ps {c22}, {b2}, {x}",
                "vbroadcastss {x}, [{last_row}]",
                "vfmadd231ps {c30}, {b0}, {x}",
                "vfmadd231ps {c31}, {b1}, {x}",
                "vfmadd231ps {c32}, {b2}, {x}",
                "add {a}, {a_step}",
                "add {last_row}, {a_step}",
                "add {b}, {b_step}",
                "dec {k}",
                "jnz 2b",
                a = inout(reg) t.a => _,
                last_row = inout(reg) t.a.wrapping_add(3 * t.a_row) => _,
                b = inout(reg) t.b => _,
                k = inout(reg) t.k => _,
                row = in(reg) t.a_row * 4,
                a_step = in(reg) t.a_step * 4,
                b_step = in(reg) t.b_step * 4,
                c00 = inout(ymm_reg) *c00, c01 = inout(ymm_reg) *c01, c02 = inout(ymm_reg) *c02,
                c10 = inout(ymm_reg) *c10, c11 = inout(ymm_reg) *c11, c12 = inout(ymm_reg) *c12,
                c20 = inout(ymm_reg) *c20, c21 = inout(ymm_reg) *c21, c22 = inout(ymm_reg) *c22,
                c30 = inout(ymm_reg) *c30, c31 = inout(ymm_reg) *c31, c32 = inout(ymm_reg) *c32,
                b0 = out(ymm_reg) _, b1 = out(ymm_reg) _, b2 = out(ymm_reg) _, x = out(ymm_reg) _,
                options(nostack, readonly),
            );
            store_avx2(t, &sums, last);
        }
    }

    /// Writes the sums of a tile, or adds them.
    ///
    /// # Safety
    /// As [`avx2`].
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store_avx2<const R: usize, const V: usize>(t: &Tile, sums: &[[__m256; V]; R], last: usize) {
        for (i, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let lanes = if v + 1 == V { last } else { 8 };
                let c = t.c.wrapping_add(i * t.c_row + v * 8);
                // SAFETY: row i and these lanes of vector v are within C, by the contract.
                unsafe { store_lanes(c, sum, lanes, t.accumulate) };
            }
        }
    }

    /// Writes the first lanes of a vector, or adds them. Masked stores are slow on some machines.
    ///
    /// # Safety
    /// C has these lanes.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store_lanes(c: *mut f32, sum: __m256, lanes: usize, accumulate: bool) {
        if lanes < 8 {
            let mut whole = [0f32; 8];
            // SAFETY: the array has eight elements.
            unsafe { _mm256_storeu_ps(whole.as_mut_ptr(), sum) };
            for (i, sum) in whole.into_iter().enumerate().take(lanes) {
                // SAFETY: by the contract.
                unsafe { *c.add(i) = if accumulate { *c.add(i) + sum } else { sum } };
            }
            return;
        }
        // SAFETY: by the contract.
        unsafe {
            let sum = if accumulate { _mm256_add_ps(_mm256_loadu_ps(c), sum) } else { sum };
            _mm256_storeu_ps(c, sum);
        }
    }
}
