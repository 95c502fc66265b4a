//! `quantize_i8`: rows to int8 in two passes, one for the largest magnitude and one for the numbers.
//!
//! The code is the same on every machine; compiled for AVX2 its loops become vectors.

/// The largest quantised number.
const LARGEST: f32 = fermata_ir::op::quant::per_token::LARGEST;

/// The bits of a float without its sign, and those of infinity.
const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITY: u32 = 0x7f80_0000;

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
/// As the catalogue's row says, on a machine with AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe extern "C" fn avx2(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    #[target_feature(enable = "avx2")]
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
    // SAFETY: the row has three regions, five strides and two parameters.
    let (region, number) = unsafe { (&*regions.cast::<[*mut u8; 3]>(), &*params.cast::<[i64; 7]>()) };
    let [q_row, _, _, x_row, _, m, k] = number.map(|n| n as usize);
    let (q, scales, x) = (region[0].cast::<i8>(), region[1].cast::<f32>(), region[2].cast::<f32>());
    for i in 0..m {
        // SAFETY: row i is within each region, and regions of a call do not overlap.
        unsafe {
            let row = std::slice::from_raw_parts(x.add(i * x_row), k);
            let to = std::slice::from_raw_parts_mut(q.add(i * q_row), k);
            *scales.add(i) = quantize(row, to);
        }
    }
}

/// Quantises a row; gives its scale.
#[inline(always)]
fn quantize(row: &[f32], to: &mut [i8]) -> f32 {
    // As integers, magnitudes are in the order of the numbers, and NaN is past infinity.
    let largest = row.iter().fold(0, |m: u32, v| m.max(v.to_bits() & MAGNITUDE));
    if largest >= INFINITY {
        to.fill(0);
        return f32::NAN;
    }
    let scale = f32::from_bits(largest) / LARGEST;
    let scale = if scale == 0.0 { 1.0 } else { scale };
    for (to, v) in to.iter_mut().zip(row) {
        let number = (v / scale).round_ties_even().clamp(-LARGEST, LARGEST);
        // SAFETY: the number is finite and within i32.
        *to = unsafe { number.to_int_unchecked::<i32>() } as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use fermata_passes::target::CpuFeatures;

    use super::super::lookup;
    use crate::detect;

    #[test]
    fn rows_quantise_as_the_operator_says() {
        let (m, k) = (7, 37);
        let mut data: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 2003) as f32 / 501.0 - 2.0).collect();
        data[0] = 1e-45;
        data[k..2 * k].fill(-0.0);
        data[2 * k + 5] = f32::NAN;
        data[3 * k + 6] = f32::NEG_INFINITY;
        data[4 * k..5 * k].fill(0.0);
        data[4 * k] = 2e-43;
        let (numbers, scales) = fermata_ir::op::quant::quantize_rows(&data, k);
        let all = detect::features();
        for features in [CpuFeatures::default(), all] {
            let (mut found, mut found_scales) = (vec![9i8; m * k], vec![9f32; m]);
            let regions: [*mut u8; 3] =
                [found.as_mut_ptr().cast(), found_scales.as_mut_ptr().cast(), data.as_mut_ptr().cast()];
            let params = [k as i64, 1, 1, k as i64, 1, m as i64, k as i64];
            let function = lookup("quantize_i8", features).expect("implemented");
            // SAFETY: regions and numbers are what the row asks for.
            unsafe { function(regions.as_ptr(), params.as_ptr(), std::ptr::null_mut()) };
            assert_eq!(found, numbers, "{features:?}");
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found_scales), bits(&scales), "{features:?}");
        }
    }
}
