//! Products by `vpdpbusd`: four unsigned by four signed bytes a lane, added without saturation.
//!
//! The instruction wants one side unsigned: A is taken as `a + 128`, whose sums are too large
//! by 128 times the sum of B's column.
//!
//! An emulated processor (Bochs with the model of Sapphire Rapids) has run the tests of all
//! implementations on this, bit for bit; no real one has, so its speed is not known.

use std::arch::x86_64::*;

use super::{Block, KR, NR, Operands, Sums, run};

/// Rows of a register tile.
const ROWS: usize = fermata_ir::tir::intrin::GEMM_I8_STRIP;

/// What turns an int8 number into itself plus 128.
const BIAS: u8 = 0x80;

/// The intrinsic on AVX-512 with VNNI.
///
/// # Safety
/// As the catalogue's row says, on a machine with these extensions.
pub(in super::super) unsafe extern "C" fn vnni(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    // SAFETY: the contract of this function.
    unsafe { with_features(&Operands::read(regions, params), scratch) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn with_features(operands: &Operands, scratch: *mut u8) {
    let widen = |v: i8| v as u8 ^ BIAS;
    let surplus = |b_sum: i32| b_sum.wrapping_mul(i32::from(BIAS));
    // SAFETY: the contract of the caller; the tiles read within the block and the panel.
    unsafe { run(operands, scratch, widen, |block, panel, sums| block_sums(block, panel, sums), surplus) }
}

/// # Safety
/// The panel has the block's groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn block_sums(block: &Block<u8>, panel: *const i8, sums: &mut Sums) {
    // SAFETY: the rows are within the block.
    unsafe {
        match block.rows {
            1 => tile::<1>(block, 0, panel, sums),
            2 => tile::<2>(block, 0, panel, sums),
            ROWS => tile::<ROWS>(block, 0, panel, sums),
            rows => {
                for first in (0..rows).step_by(4) {
                    match rows - first {
                        1 => tile::<1>(block, first, panel, sums),
                        2 => tile::<2>(block, first, panel, sums),
                        3 => tile::<3>(block, first, panel, sums),
                        _ => tile::<4>(block, first, panel, sums),
                    }
                }
            }
        }
    }
}

/// # Safety
/// `R` rows from `first` on are within the block, and the panel has its groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn tile<const R: usize>(block: &Block<u8>, first: usize, panel: *const i8, sums: &mut Sums) {
    let mut acc = [_mm512_setzero_si512(); R];
    for group in 0..block.groups {
        // SAFETY: the group's 64 bytes are within the panel.
        let b = unsafe { _mm512_loadu_si512(panel.add(group * NR * KR).cast()) };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the group's four numbers are within the padded row.
            let a = unsafe {
                block.data.add((first + r) * block.stride + group * KR).cast::<i32>().read_unaligned()
            };
            *acc = _mm512_dpbusd_epi32(*acc, _mm512_set1_epi32(a), b);
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        // SAFETY: the row of sums has sixteen columns.
        unsafe {
            let to = sums[first + r].as_mut_ptr().cast();
            _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), *acc));
        }
    }
}
