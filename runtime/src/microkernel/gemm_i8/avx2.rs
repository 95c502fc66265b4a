//! Products by `vpmaddwd`: pairs of 16-bit numbers, whose sums of two are exact in 32 bits.
//! `vpmaddubsw` would be twice as wide, but its sums saturate.

use std::arch::x86_64::*;

use super::{Block, KR, NR, Operands, Sums, run};

/// Rows of a register tile.
const ROWS: usize = 3;

/// Vectors of a panel's group: four columns each, four steps of k in 16 bits.
const VECTORS: usize = NR / 4;

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
    unsafe { with_features(&Operands::read(regions, params), scratch.cast()) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn with_features(operands: &Operands, scratch: *mut i16) {
    // SAFETY: the contract of the caller; the tiles read within the block and the panel.
    unsafe { run(operands, scratch, i16::from, |block, panel, sums| block_sums(block, panel, sums), |_| 0) }
}

/// # Safety
/// The panel has the block's groups.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn block_sums(block: &Block<i16>, panel: *const i8, sums: &mut Sums) {
    let mut first = 0;
    while first < block.rows {
        // SAFETY: the rows are within the block.
        unsafe {
            match block.rows - first {
                1 => tile::<1>(block, first, panel, sums),
                2 => tile::<2>(block, first, panel, sums),
                _ => tile::<ROWS>(block, first, panel, sums),
            }
        }
        first += ROWS;
    }
}

/// # Safety
/// `R` rows from `first` on are within the block, and the panel has its groups.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(block: &Block<i16>, first: usize, panel: *const i8, sums: &mut Sums) {
    let mut acc = [[_mm256_setzero_si256(); VECTORS]; R];
    for group in 0..block.groups {
        let mut b = [_mm256_setzero_si256(); VECTORS];
        for (v, b) in b.iter_mut().enumerate() {
            // SAFETY: the group's 64 bytes are within the panel.
            *b = unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(panel.add(group * NR * KR + v * 16).cast())) };
        }
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the group's four numbers are within the padded row.
            let a = unsafe {
                block.data.add((first + r) * block.stride + group * KR).cast::<i64>().read_unaligned()
            };
            let a = _mm256_set1_epi64x(a);
            for (acc, b) in acc.iter_mut().zip(&b) {
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(a, *b));
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for half in 0..VECTORS / 2 {
            // Each column has two sums side by side; adding them leaves the columns of the two
            // vectors in turns of two.
            let pairs = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
            let columns = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: eight columns of the row are within the sums.
            unsafe {
                let to = sums[first + r].as_mut_ptr().add(8 * half).cast();
                _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), columns));
            }
        }
    }
}
