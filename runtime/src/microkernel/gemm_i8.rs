//! `gemm_i8`: exact products of int8 numbers, and the real result while the sums are at hand.
//!
//! A block of rows of A is brought into the form that an instruction set multiplies, once for
//! all panels of B; a panel's sums with the block are then exact in int32, whatever the
//! instructions, and one fused multiply-add makes them real. So all implementations, and the
//! evaluator, agree in every bit.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile_avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::amx;
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::{avx2, avx2_widen, avx2_widened};
#[cfg(target_arch = "x86_64")]
pub(super) use vnni::vnni;

use fermata_ir::op::quant::PANEL;
use fermata_ir::tir::intrin::{GEMM_I8_STRIP, widened_place, widened_row};

use super::functions::gelu;

/// Columns of a panel.
const NR: usize = PANEL[0];
/// Steps of k in a group.
const KR: usize = PANEL[1];

/// Steps of k that a block's rows are padded to: a cache line of int8.
const PADDED: usize = 64;

/// Groups of k that are multiplied at a time: this much of a block and of a panel stays in the
/// first-level cache while all rows of the block pass.
const GROUPS: usize = 128;

/// The sums of a block's rows with one panel.
type Sums = [[i32; NR]; GEMM_I8_STRIP];

/// Rows of A in the form that the products take.
struct Block<W> {
    /// The rows, `stride` apart, padded with zeros.
    data: *mut W,
    stride: usize,
    rows: usize,
    /// Groups of [`KR`] steps of k.
    groups: usize,
}

/// The operands of a call.
struct Operands {
    c: *mut f32,
    c_row: usize,
    a: *const i8,
    a_row: usize,
    b: *const i8,
    b_panel: usize,
    b_sums: *const i32,
    a_scale: *const f32,
    b_scale: *const f32,
    bias: *const f32,
    m: usize,
    n: usize,
    k: usize,
    gelu: bool,
}

impl Operands {
    /// The operands at these addresses.
    ///
    /// # Safety
    /// As the catalogue's row says.
    unsafe fn read(regions: *const *mut u8, params: *const i64) -> Operands {
        // SAFETY: the row has seven regions, twelve strides and four parameters.
        let (region, number) = unsafe { (&*regions.cast::<[*mut u8; 7]>(), &*params.cast::<[i64; 16]>()) };
        let size = |i: usize| number[i] as usize;
        Operands {
            c: region[0].cast(),
            c_row: size(0),
            a: region[1].cast(),
            a_row: size(2),
            b: region[2].cast(),
            b_panel: size(4),
            b_sums: region[3].cast(),
            a_scale: region[4].cast(),
            b_scale: region[5].cast(),
            bias: region[6].cast(),
            m: size(12),
            n: size(13),
            k: size(14),
            gelu: size(15) == 1,
        }
    }
}

/// Runs a call block by block. `widen` brings a number of A into its form, `sums` adds the
/// products of a block with a panel, and `surplus` is what that adds to a column's sums too much.
///
/// # Safety
/// As the catalogue's row says; `scratch` holds [`GEMM_I8_STRIP`] padded rows of `W`.
#[inline(always)]
unsafe fn run<W: Copy>(
    operands: &Operands,
    scratch: *mut W,
    widen: impl Fn(i8) -> W,
    sums: impl Fn(&Block<W>, *const i8, &mut Sums),
    surplus: impl Fn(i32) -> i32,
) {
    let bring = |row: usize, to: &mut [W]| {
        // SAFETY: the row is within A.
        let from = unsafe { std::slice::from_raw_parts(operands.a.add(row * operands.a_row), operands.k) };
        to.iter_mut().zip(from).for_each(|(to, &v)| *to = widen(v));
    };
    // SAFETY: the contract of this function.
    unsafe { run_rows(operands, scratch, widen(0), bring, sums, surplus) }
}

/// As [`run`], where `bring` writes the numbers of a row of A in their form.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn run_rows<W: Copy>(
    operands: &Operands,
    scratch: *mut W,
    zero: W,
    bring: impl Fn(usize, &mut [W]),
    sums: impl Fn(&Block<W>, *const i8, &mut Sums),
    surplus: impl Fn(i32) -> i32,
) {
    let &Operands { m, n, k, .. } = operands;
    let stride = k.next_multiple_of(PADDED);
    let groups = k.div_ceil(KR);
    for first in (0..m).step_by(GEMM_I8_STRIP) {
        let rows = GEMM_I8_STRIP.min(m - first);
        for r in 0..rows {
            // SAFETY: the scratch memory holds the row with its padding.
            unsafe {
                let to = scratch.add(r * stride);
                bring(first + r, std::slice::from_raw_parts_mut(to, k));
                (k..stride).for_each(|p| *to.add(p) = zero);
            }
        }
        for j in 0..n.div_ceil(NR) {
            let mut found: Sums = [[0; NR]; GEMM_I8_STRIP];
            for group in (0..groups).step_by(GROUPS) {
                // SAFETY: the groups are within the rows and the panel, which is within B.
                let (data, panel) = unsafe {
                    (scratch.add(group * KR), operands.b.add(j * operands.b_panel + group * NR * KR))
                };
                let block = Block { data, stride, rows, groups: GROUPS.min(groups - group) };
                sums(&block, panel, &mut found);
            }
            // SAFETY: the rows and the columns from `j * NR` on are within C.
            unsafe { store(operands, first, rows, j * NR, &found, &surplus) };
        }
    }
}

/// Makes sums real and writes them.
///
/// # Safety
/// `rows` rows from `first` on and a column from `column` on are within C.
#[inline(always)]
unsafe fn store(
    operands: &Operands,
    first: usize,
    rows: usize,
    column: usize,
    sums: &[[i32; NR]],
    surplus: impl Fn(i32) -> i32,
) {
    let width = NR.min(operands.n - column);
    let (mut excess, mut scale, mut bias) = ([0i32; NR], [0f32; NR], [0f32; NR]);
    for j in 0..width {
        // SAFETY: the column is within the vectors along n.
        unsafe {
            excess[j] = surplus(*operands.b_sums.add(column + j));
            scale[j] = *operands.b_scale.add(column + j);
            bias[j] = *operands.bias.add(column + j);
        }
    }
    for (r, sums) in sums.iter().enumerate().take(rows) {
        let row = first + r;
        // SAFETY: the row is within A's scales.
        let a_scale = unsafe { *operands.a_scale.add(row) };
        let mut real = [0f32; NR];
        for j in 0..NR {
            real[j] = (sums[j].wrapping_sub(excess[j]) as f32).mul_add(a_scale * scale[j], bias[j]);
        }
        if operands.gelu {
            real.iter_mut().for_each(|v| *v = gelu(*v));
        }
        // SAFETY: `width` columns of the row are within C.
        unsafe {
            let to = operands.c.add(row * operands.c_row + column);
            std::ptr::copy_nonoverlapping(real.as_ptr(), to, width);
        }
    }
}

/// The intrinsic `gemm_i8` in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn portable(regions: *const *mut u8, params: *const i64, scratch: *mut u8) {
    // SAFETY: the contract of this function; the scratch memory holds rows of twice the width.
    unsafe { run(&Operands::read(regions, params), scratch.cast::<i8>(), |v| v, plain_sums, |_| 0) }
}

/// The intrinsic `gemm_i8_widened` in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn portable_widened(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    // SAFETY: the contract of this function.
    let operands = unsafe { Operands::read(regions, params) };
    let bring = |row: usize, to: &mut [i8]| {
        let from = operands.a.cast::<i16>().wrapping_add(row * operands.a_row);
        // SAFETY: the widened row has a place for each step.
        to.iter_mut().enumerate().for_each(|(p, to)| *to = unsafe { *from.add(widened_place(p)) } as i8);
    };
    // SAFETY: the contract of this function; the scratch memory holds rows of twice the width.
    unsafe { run_rows(&operands, scratch.cast::<i8>(), 0, bring, plain_sums, |_| 0) }
}

/// Adds the products of a block with a panel, number by number.
fn plain_sums(block: &Block<i8>, panel: *const i8, sums: &mut Sums) {
    let len = block.groups * KR;
    // SAFETY: a panel has so many groups, and a block's rows have their padding.
    let panel = unsafe { std::slice::from_raw_parts(panel, len * NR) };
    for (r, sums) in sums.iter_mut().enumerate().take(block.rows) {
        // SAFETY: as above.
        let row = unsafe { std::slice::from_raw_parts(block.data.add(r * block.stride), len) };
        for (group, a) in panel.chunks_exact(NR * KR).zip(row.chunks_exact(KR)) {
            for (sum, b) in sums.iter_mut().zip(group.chunks_exact(KR)) {
                let product = |(a, b): (&i8, &i8)| i32::from(*a) * i32::from(*b);
                *sum = sum.wrapping_add(a.iter().zip(b).map(product).sum::<i32>());
            }
        }
    }
}

/// The intrinsic `widen_i8` in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn widen(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the row has two regions, four strides and two parameters.
    let (region, number) = unsafe { (&*regions.cast::<[*mut u8; 2]>(), &*params.cast::<[i64; 6]>()) };
    let [w_row, _, a_row, _, m, k] = number.map(|n| n as usize);
    for row in 0..m {
        // SAFETY: both matrices have the row.
        let (from, to) = unsafe {
            let to = region[0].cast::<i16>().add(row * w_row);
            let from = region[1].cast::<i8>().add(row * a_row);
            (std::slice::from_raw_parts(from, k), std::slice::from_raw_parts_mut(to, widened_row(k)))
        };
        to.fill(0);
        from.iter().enumerate().for_each(|(p, &v)| to[widened_place(p)] = v.into());
        let pair = |pair: &[i8]| i32::from(pair[0]) * i32::from(pair[1]);
        let sum = from.chunks_exact(2).fold(0i32, |sum, p| sum.wrapping_add(pair(p)));
        to[k.next_multiple_of(32)..][..2].copy_from_slice(&[sum as i16, (sum >> 16) as i16]);
    }
}
