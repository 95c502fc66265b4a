//! What generated code calls: functions of numbers, and the tensor intrinsics of the catalogue.
//!
//! Every intrinsic has an implementation in plain Rust and, where the machine's features allow
//! it, faster ones; all take any sizes and panel widths. The tiles of products are widest with
//! panels of [`PANEL_COLUMNS`] columns of B and [`PANEL_ROWS`] rows of packed weights.

mod conv2d_f32;
mod depthwise_conv2d_f32;
mod functions;
mod gather_f32;
mod gemm_f32;
mod gemm_i8;
mod math;
mod pool2d_f32;
mod quantize_i8;
mod softmax_f32;
mod tile_f32;
mod vector_f32;
mod window_f32;

#[cfg(test)]
mod tests;

use fermata_codegen::kernel::{HELPER_PREFIX, IntrinsicFn};
use fermata_passes::target::CpuFeatures;

use tile_f32::{Portable, Tiles};

/// The best width of B's panels for `gemm_f32`, for every instruction set.
pub const PANEL_COLUMNS: usize = 48;

/// The best number of output channels in a block of packed weights for `conv2d_f32`.
pub const PANEL_ROWS: usize = 8;

/// The implementation of a tensor intrinsic for a machine with these features.
pub fn lookup(name: &str, features: CpuFeatures) -> Option<IntrinsicFn> {
    match name {
        "gemm_i8" => return Some(product_i8(features)),
        "gemm_i8_widened" => return Some(product_widened_i8(features)),
        "widen_i8" => return Some(widening_i8(features)),
        "quantize_i8" => return Some(quantisation_i8(features)),
        "softmax_f32" => return Some(softmax(features)),
        "avg_pool2d_f32" | "depthwise_conv2d_f32" | "max_pool2d_f32" => return windows(name, features),
        _ => {}
    }
    #[cfg(target_arch = "x86_64")]
    {
        use tile_f32::{Avx2, Avx512};
        if features.avx512 {
            return products::<Avx512>(name);
        }
        if features.avx2 {
            return products::<Avx2>(name);
        }
    }
    let _ = features;
    products::<Portable>(name)
}

/// The intrinsics of windows that slide over channels, on an instruction set.
fn windows(name: &str, features: CpuFeatures) -> Option<IntrinsicFn> {
    #[cfg(target_arch = "x86_64")]
    {
        let (wide, widest) = (features.avx2, features.avx512);
        let found: Option<IntrinsicFn> = match name {
            "avg_pool2d_f32" if widest => Some(pool2d_f32::avg_avx512),
            "avg_pool2d_f32" if wide => Some(pool2d_f32::avg_avx2),
            "depthwise_conv2d_f32" if widest => Some(depthwise_conv2d_f32::avx512),
            "depthwise_conv2d_f32" if wide => Some(depthwise_conv2d_f32::avx2),
            "max_pool2d_f32" if widest => Some(pool2d_f32::max_avx512),
            "max_pool2d_f32" if wide => Some(pool2d_f32::max_avx2),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    let _ = features;
    match name {
        "avg_pool2d_f32" => Some(pool2d_f32::avg_portable),
        "depthwise_conv2d_f32" => Some(depthwise_conv2d_f32::portable),
        "max_pool2d_f32" => Some(pool2d_f32::max_portable),
        _ => None,
    }
}

/// The intrinsics on register tiles of an instruction set.
fn products<S: Tiles>(name: &str) -> Option<IntrinsicFn> {
    Some(match name {
        "conv2d_f32" => conv2d_f32::conv2d::<S>,
        "conv2d_windows_f32" => conv2d_f32::windows::<S>,
        "gemm_f32" => gemm_f32::gemm::<S>,
        "gemm_f32_nn" => gemm_f32::gemm_unpacked::<S, gemm_f32::ByRows>,
        "gemm_f32_nt" => gemm_f32::gemm_unpacked::<S, gemm_f32::ByColumns>,
        "gemm_f32_panels" => conv2d_f32::product::<S>,
        "pack_a_f32" | "pack_b_f32_nt" => gemm_f32::pack_rows,
        "pack_b_f32" => gemm_f32::pack_columns,
        _ => return None,
    })
}

/// The product of int8 numbers on an instruction set.
fn product_i8(features: CpuFeatures) -> IntrinsicFn {
    #[cfg(target_arch = "x86_64")]
    {
        if features.amx_int8 && features.avx512vnni {
            return gemm_i8::amx;
        }
        if features.avx512vnni {
            return gemm_i8::vnni;
        }
        if features.avx2 {
            return gemm_i8::avx2;
        }
    }
    let _ = features;
    gemm_i8::portable
}

/// The product of int8 numbers that were widened, on an instruction set.
fn product_widened_i8(features: CpuFeatures) -> IntrinsicFn {
    #[cfg(target_arch = "x86_64")]
    if features.avx2 {
        return gemm_i8::avx2_widened;
    }
    let _ = features;
    gemm_i8::portable_widened
}

/// The widening of int8 numbers on an instruction set.
fn widening_i8(features: CpuFeatures) -> IntrinsicFn {
    #[cfg(target_arch = "x86_64")]
    if features.avx2 {
        return gemm_i8::avx2_widen;
    }
    let _ = features;
    gemm_i8::widen
}

/// The quantisation of rows on an instruction set.
fn quantisation_i8(features: CpuFeatures) -> IntrinsicFn {
    #[cfg(target_arch = "x86_64")]
    if features.avx2 {
        return quantize_i8::avx2;
    }
    let _ = features;
    quantize_i8::portable
}

/// The softmax of rows on an instruction set.
fn softmax(features: CpuFeatures) -> IntrinsicFn {
    #[cfg(target_arch = "x86_64")]
    if features.avx2 {
        return softmax_f32::avx2;
    }
    let _ = features;
    softmax_f32::portable
}

/// The address of anything that generated code imports, by the name in
/// [`CompiledKernel::imports`](fermata_codegen::kernel::CompiledKernel::imports).
pub fn resolve(name: &str, features: CpuFeatures) -> Option<*const ()> {
    match name.strip_prefix(HELPER_PREFIX) {
        Some(helper) => math::helper(helper),
        None => lookup(name, features).map(|f| f as *const ()),
    }
}
