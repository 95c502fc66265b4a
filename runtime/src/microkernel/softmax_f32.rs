//! `softmax_f32`: rows in three passes, for the maximum, for the exponentials and their sum, and
//! for the quotients.
//!
//! The code is the same on every machine; compiled for AVX2 its loops become vectors. Sums are
//! kept in [`LANES`] parts whatever the machine, so every machine gives the same bits.

use super::functions::exp;

/// Partial maxima and sums.
const LANES: usize = 16;

/// The intrinsic in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn portable(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the contract of this function.
    unsafe { run(regions, params) }
}

/// The intrinsic on AVX2.
///
/// # Safety
/// As the catalogue's row says, on a machine with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe extern "C" fn avx2(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn with_features(regions: *const *mut u8, params: *const i64) {
        // SAFETY: the contract of the caller.
        unsafe { run(regions, params) }
    }
    // SAFETY: the contract of this function.
    unsafe { with_features(regions, params) }
}

/// # Safety
/// As the catalogue's row says.
#[inline(always)]
unsafe fn run(regions: *const *mut u8, params: *const i64) {
    // SAFETY: the row has a region, two strides and two parameters.
    let (x, number) = unsafe { (*regions.cast::<*mut f32>(), &*params.cast::<[i64; 4]>()) };
    let [row, _, m, n] = number.map(|n| n as usize);
    for i in 0..m {
        // SAFETY: row i is within the region.
        softmax(unsafe { std::slice::from_raw_parts_mut(x.add(i * row), n) });
    }
}

/// The softmax of a row.
#[inline(always)]
fn softmax(row: &mut [f32]) {
    // A NaN is no maximum, but makes the sum one.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (max, &v) in maxima.iter_mut().zip(chunk) {
            *max = larger(*max, v);
        }
    }
    let max = maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &v| larger(max, v));
    let mut sums = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (v, sum) in chunk.iter_mut().zip(&mut sums) {
            *v = exp(*v - max);
            *sum += *v;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for v in rest {
        *v = exp(*v - max);
        sum += *v;
    }
    for v in row {
        *v /= sum;
    }
}
