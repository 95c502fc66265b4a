//! `depthwise_conv2d_f32`: every channel convolved with a window of its own.

use super::gemm_f32::Args;

/// The numbers of a call.
struct Call {
    y: *mut f32,
    x: *const f32,
    weights: *const f32,
    strides: [usize; 9],
    sizes: [usize; 14],
}

/// All channels: for each output row and each place of the window, one row of products. The loop
/// over a row has no branches, so the compiler turns it into vectors of the caller's instruction set.
///
/// # Safety
/// As the catalogue's row says.
#[inline(always)]
unsafe fn run(call: &Call) {
    let [y_channel, y_row, _, x_channel, x_row, _, w_channel, w_row, _] = call.strides;
    let [channels, oh0, oh_count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw] = call.sizes;
    for c in 0..channels {
        for line in 0..oh_count {
            // SAFETY: row `line` of channel c has ow elements.
            let out = unsafe { std::slice::from_raw_parts_mut(call.y.add(c * y_channel + line * y_row), ow) };
            out.fill(0.0);
            for r in 0..kh {
                let Some(iy) = ((oh0 + line) * sh + r * dh).checked_sub(ph).filter(|&iy| iy < h) else {
                    continue;
                };
                // SAFETY: row iy of channel c has w elements.
                let from = unsafe { std::slice::from_raw_parts(call.x.add(c * x_channel + iy * x_row), w) };
                for s in 0..kw {
                    // SAFETY: place (r, s) is within the window.
                    let weight = unsafe { *call.weights.add(c * w_channel + r * w_row + s) };
                    let offset = s * dw;
                    let low = pw.saturating_sub(offset).div_ceil(sw).min(ow);
                    let high = (w + pw).saturating_sub(offset).div_ceil(sw).clamp(low, ow);
                    if low == high {
                        continue;
                    }
                    let from = &from[low * sw + offset - pw..];
                    accumulate(&mut out[low..high], from, sw, weight);
                }
            }
        }
    }
}

/// Adds `weight` times every `stride`-th element.
#[inline(always)]
fn accumulate(out: &mut [f32], from: &[f32], stride: usize, weight: f32) {
    match stride {
        1 => out.iter_mut().zip(from).for_each(|(y, x)| *y += weight * x),
        2 => out.iter_mut().zip(from.chunks(2)).for_each(|(y, x)| *y += weight * x[0]),
        _ => out.iter_mut().zip(from.iter().step_by(stride)).for_each(|(y, x)| *y += weight * x),
    }
}

/// # Safety
/// As the catalogue's row says.
unsafe fn read(regions: *const *mut u8, params: *const i64) -> Call {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    unsafe {
        Call {
            y: args.region(0),
            x: args.region(1),
            weights: args.region(2),
            strides: args.numbers(0),
            sizes: args.numbers(9),
        }
    }
}

/// The intrinsic in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn portable(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the contract of this function.
    unsafe { run(&read(regions, params)) }
}

/// Declares the intrinsic for an instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! with_features {
    ($name:ident, $inner:ident, $features:literal) => {
        /// # Safety
        /// As the catalogue's row says; the machine has the features.
        #[target_feature(enable = $features)]
        unsafe fn $inner(call: &Call) {
            // SAFETY: the contract of this function.
            unsafe { run(call) }
        }

        /// The intrinsic for an instruction set.
        ///
        /// # Safety
        /// As the catalogue's row says; the machine has the features.
        pub(super) unsafe extern "C" fn $name(
            regions: *const *mut u8,
            params: *const i64,
            _scratch: *mut u8,
        ) {
            // SAFETY: the contract of this function.
            unsafe { $inner(&read(regions, params)) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
with_features!(avx2, run_avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
with_features!(avx512, run_avx512, "avx512f,avx512vl,avx2,fma");
