//! Tests of the micro-kernels against their reference functions.

use super::*;
use crate::detect;
use crate::memory::AlignedBytes;
use fermata_ir::tir::intrin::{self, Call, Execution, View, ViewMut};

/// Numbers in [-1, 1) from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() % 2000) as f32 / 1000.0 - 1.0).collect()
    }

    fn below(&mut self, n: u64) -> i64 {
        (self.next() % n) as i64
    }
}

fn variants() -> Vec<CpuFeatures> {
    let all = detect::features();
    vec![CpuFeatures::default(), CpuFeatures { avx2: all.avx2, ..CpuFeatures::default() }, all]
}

/// Runs an intrinsic on random operands, in buffers wider than its regions where they may be,
/// by its meaning and by every implementation.
fn check(name: &str, params: &[i64], random: &mut Random) {
    check_changed(name, params, random, |_| {});
}

/// As [`check`], with operands that `change` changed.
fn check_changed(name: &str, params: &[i64], random: &mut Random, change: impl Fn(&mut [Vec<f32>])) {
    let row = intrin::lookup(name).expect("a row of the catalogue");
    let extents = (row.extents)(params).expect("good parameters");
    let outputs = row.outputs();
    let (mut data, mut strides) = (Vec::new(), Vec::new());
    for (region, extent) in extents.iter().enumerate() {
        // A gap after each innermost row, except in panels, whose vectors may be read whole.
        let panels = match name {
            "avg_pool2d_f32" | "depthwise_conv2d_f32" | "max_pool2d_f32" => false,
            "conv2d_f32" => region == 2,
            "conv2d_windows_f32" => region == 0,
            _ => extent.len() == 3,
        };
        let gap = if panels { 0 } else { random.below(3) };
        let mut stride = vec![1i64; extent.len()];
        for d in (0..extent.len() - 1).rev() {
            stride[d] = stride[d + 1] * extent[d + 1] + if d + 2 == extent.len() { gap } else { 0 };
        }
        data.push(random.floats((stride[0] * extent[0]) as usize));
        strides.push(stride);
    }
    change(&mut data);
    let mut want = data[..outputs].to_vec();
    let views = |d: &[f32]| d.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let inputs: Vec<Vec<u8>> = data[outputs..].iter().map(|d| views(d)).collect();
    let mut results: Vec<Vec<u8>> = want.iter().map(|d| views(d)).collect();
    let sizes = |s: &Vec<i64>| s.iter().map(|&s| s as usize).collect::<Vec<_>>();
    let mut call = Call {
        outputs: results
            .iter_mut()
            .zip(&strides)
            .map(|(b, s)| ViewMut { bytes: b, strides: sizes(s) })
            .collect(),
        inputs: inputs
            .iter()
            .zip(&strides[outputs..])
            .map(|(b, s)| View { bytes: b, strides: sizes(s) })
            .collect(),
        params,
    };
    (row.meaning)(&mut call);
    for (want, bytes) in want.iter_mut().zip(&results) {
        *want = bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().expect("four bytes"))).collect();
    }
    let numbers: Vec<i64> = strides.iter().flatten().copied().chain(params.iter().copied()).collect();
    for features in variants() {
        let mut copy = data.clone();
        let pointers: Vec<*mut u8> = copy.iter_mut().map(|d| d.as_mut_ptr().cast()).collect();
        let scratch = AlignedBytes::zeroed((row.scratch_bytes)(params));
        let function = lookup(name, features).expect("implemented");
        // SAFETY: regions, numbers and scratch memory are what the row asks for.
        unsafe { function(pointers.as_ptr(), numbers.as_ptr(), scratch.as_ptr()) };
        for (got, want) in copy.iter().zip(&want) {
            for (at, (g, w)) in got.iter().zip(want).enumerate() {
                assert!(
                    g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= 1e-4 * w.abs().max(1.0),
                    "{name} {params:?} {features:?}: [{at}] {g} not {w}"
                );
            }
        }
        let bits = |d: &[Vec<f32>]| d.iter().flatten().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert!(bits(&copy[outputs..]) == bits(&data[outputs..]), "{name} leaves its inputs alone");
    }
}

#[test]
fn every_intrinsic_is_implemented() {
    for row in intrin::CATALOGUE.iter().filter(|row| row.execution == Execution::Worker) {
        for features in variants() {
            assert!(lookup(row.name, features).is_some(), "{}", row.name);
        }
    }
    assert!(lookup("nothing", CpuFeatures::default()).is_none());
}

#[test]
fn products_of_any_size() {
    let mut random = Random(7);
    for (m, n, k) in
        [(0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (1, 100, 600), (8, 48, 16), (9, 49, 17), (37, 130, 1100)]
    {
        for nr in [1, 8, 16, 24, 48, 64] {
            check("gemm_f32", &[m, n, k, nr], &mut random);
        }
        check("gemm_f32_nn", &[m, n, k], &mut random);
        check("gemm_f32_nt", &[m, n, k], &mut random);
    }
    for _ in 0..60 {
        let [m, n, k] = std::array::from_fn(|_| random.below(70));
        let nr = [16, 32, 48][random.below(3) as usize];
        check("gemm_f32", &[m, n, k, nr], &mut random);
        check("gemm_f32_nn", &[m, n, k], &mut random);
        check("gemm_f32_nt", &[m, n, k], &mut random);
    }
}

#[test]
fn packings() {
    let mut random = Random(8);
    for _ in 0..40 {
        let [n, k] = std::array::from_fn(|_| random.below(60));
        let width = 1 + random.below(50);
        for name in ["pack_a_f32", "pack_b_f32", "pack_b_f32_nt"] {
            check(name, &[n, k, width], &mut random);
        }
    }
}

#[test]
fn softmax_of_rows() {
    let mut random = Random(10);
    for _ in 0..40 {
        let [m, n] = std::array::from_fn(|_| random.below(70));
        check("softmax_f32", &[m, n], &mut random);
    }
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX, 1e-40] {
        check_changed("softmax_f32", &[2, 37], &mut random, |data| data[0][5] = special);
        check_changed("softmax_f32", &[2, 37], &mut random, |data| data[0][36] = special);
        check_changed("softmax_f32", &[2, 37], &mut random, |data| data[0].fill(special));
    }
}

#[test]
fn softmax_is_the_same_in_every_bit_on_every_machine() {
    let (m, n) = (3, 133);
    let data = Random(11).floats(m * n);
    let mut results = Vec::new();
    for features in variants() {
        let mut found = data.clone();
        let regions: [*mut u8; 1] = [found.as_mut_ptr().cast()];
        let numbers = [n as i64, 1, m as i64, n as i64];
        let function = lookup("softmax_f32", features).expect("implemented");
        // SAFETY: regions and numbers are what the row asks for; it uses no scratch memory.
        unsafe { function(regions.as_ptr(), numbers.as_ptr(), std::ptr::null_mut()) };
        results.push(found.iter().map(|v| v.to_bits()).collect::<Vec<u32>>());
    }
    assert!(results.iter().all(|found| *found == results[0]));
}

#[test]
fn convolutions() {
    let mut random = Random(9);
    for _ in 0..150 {
        let [oc, ic] = std::array::from_fn(|_| 1 + random.below(20));
        let [kh, kw, sh, sw, dh, dw] = std::array::from_fn(|_| 1 + random.below(3));
        let [ph, pw] = std::array::from_fn(|_| random.below(3));
        let [h, w] = std::array::from_fn(|_| 8 + random.below(17));
        let [oh, ow] = [(h, ph, kh, dh, sh), (w, pw, kw, dw, sw)]
            .map(|(n, p, k, d, s)| (n + 2 * p - d * (k - 1) - 1) / s + 1);
        let oh0 = random.below(oh as u64);
        let count = 1 + random.below((oh - oh0) as u64);
        let mr = [1, 4, 6, 8, 12, 16][random.below(6) as usize];
        let window = [ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw];
        check("conv2d_f32", &[&[oc, oh0, 0, count, ow][..], &window, &[mr]].concat(), &mut random);
        // Pixels from anywhere, and the two halves of a convolution.
        let x0 = random.below((oh * ow) as u64);
        let pixels = 1 + random.below((oh * ow - x0) as u64);
        check("conv2d_f32", &[&[oc, 0, x0, pixels, 1][..], &window, &[mr]].concat(), &mut random);
        let nr = [1, 8, 16, 24, 48][random.below(5) as usize];
        let panels = (oh * ow + nr - 1) / nr;
        let panel0 = random.below(panels as u64);
        let of = [panel0, 1 + random.below((panels - panel0) as u64), oh * ow];
        check("conv2d_windows_f32", &[&of[..], &window, &[nr]].concat(), &mut random);
        check("gemm_f32_panels", &[oc, pixels, ic * kh * kw, mr, nr], &mut random);
        check(
            "depthwise_conv2d_f32",
            &[ic, oh0, count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw],
            &mut random,
        );
    }
    // More steps than one block, and pixels of several panels.
    check("conv2d_f32", &[9, 0, 0, 14, 14, 14, 40, 14, 14, 3, 3, 1, 1, 1, 1, 1, 1, 8], &mut random);
    check("conv2d_f32", &[64, 0, 0, 7, 7, 7, 70, 7, 7, 1, 1, 1, 1, 0, 0, 1, 1, 8], &mut random);
    // A window of more places than a block has steps, and long strides.
    check("conv2d_f32", &[5, 1, 0, 3, 4, 4, 2, 24, 24, 17, 17, 2, 3, 0, 1, 1, 1, 8], &mut random);
    check("conv2d_f32", &[5, 0, 0, 6, 6, 6, 3, 27, 27, 5, 5, 4, 4, 1, 1, 1, 1, 8], &mut random);
    check("conv2d_f32", &[5, 0, 0, 3, 50, 50, 3, 3, 253, 1, 5, 1, 5, 0, 1, 1, 1, 8], &mut random);
    // Along the rows of a single column.
    for (stride, pad, dilation) in [(1, 0, 1), (1, 2, 1), (2, 1, 1), (3, 0, 2)].repeat(10) {
        let out = (100 + 2 * pad - 4 * dilation - 1) / stride + 1;
        let sizes = [9, 3, 0, out - 3, 1, 1, 6, 100, 1, 5, 1];
        let window = [stride, 1, pad, 0, dilation, 1, 8];
        check("conv2d_f32", &[&sizes[..], &window].concat(), &mut random);
    }
    // Depthwise: maps of several vectors and rows, wide ones, and windows too large to copy for.
    for (h, w, k, stride, pad, dilation) in [
        (37, 41, 5, 1, 2, 1),
        (9, 1500, 3, 1, 1, 1),
        (40, 40, 3, 2, 1, 1),
        (30, 70, 3, 3, 1, 2),
        (20, 20, 17, 1, 8, 1),
    ] {
        let [oh, ow] = [h, w].map(|n: i64| (n + 2 * pad - dilation * (k - 1) - 1) / stride + 1);
        let sizes = [3, 1, oh - 1, ow, h, w, k, k, stride, stride, pad, pad, dilation, dilation];
        check("depthwise_conv2d_f32", &sizes, &mut random);
    }
}

#[test]
fn poolings() {
    let mut random = Random(12);
    for round in 0..200 {
        let [kh, kw] = std::array::from_fn(|_| 1 + random.below(if round < 180 { 4 } else { 20 }));
        let [sh, sw, dh, dw] = std::array::from_fn(|_| 1 + random.below(3));
        let [ph, pw, ah, aw] = std::array::from_fn(|_| random.below(3));
        let [h, w] = [(kh, dh), (kw, dw)].map(|(k, d)| d * (k - 1) + 1 + random.below(40));
        // The last windows may reach past the padding.
        let [oh, ow] = [(h, ph, ah, kh, dh, sh), (w, pw, aw, kw, dw, sw)]
            .map(|(n, p, a, k, d, s)| (n + p + a - d * (k - 1) - 1 + random.below(2)) / s + 1);
        let oh0 = random.below(oh as u64);
        let count = 1 + random.below((oh - oh0) as u64);
        let window = [1 + random.below(5), oh0, count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw];
        check("max_pool2d_f32", &window, &mut random);
        let counted = if round % 2 == 0 { [0; 4] } else { [ph, pw, ah, aw] };
        check("avg_pool2d_f32", &[&window[..], &counted].concat(), &mut random);
    }
    // More columns than one copy has, of several phases.
    let wide = [2, 0, 3, 1500, 7, 3001, 3, 3, 2, 2, 0, 0, 1, 1];
    check("max_pool2d_f32", &wide, &mut random);
    check("avg_pool2d_f32", &[&wide[..], &[0; 4]].concat(), &mut random);
}

#[test]
fn poolings_of_nothing_and_of_specials() {
    let mut random = Random(13);
    for (c, oh, ow, k) in [(0, 3, 3, 1), (2, 0, 3, 2), (2, 3, 0, 2), (2, 3, 3, 0)] {
        let window = [c, 0, oh, ow, 3, 3, k, k, 1, 1, 0, 0, 1, 1];
        check("max_pool2d_f32", &window, &mut random);
        check("avg_pool2d_f32", &[&window[..], &[0; 4]].concat(), &mut random);
    }
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let window = [2, 0, 6, 6, 12, 12, 3, 3, 2, 2, 1, 1, 1, 1];
        let some = |data: &mut [Vec<f32>]| [0, 13, 40, 99].iter().for_each(|&i| data[1][i] = special);
        check_changed("max_pool2d_f32", &window, &mut random, some);
        check_changed("max_pool2d_f32", &window, &mut random, |data| data[1].fill(special));
        check_changed("avg_pool2d_f32", &[&window[..], &[0; 4]].concat(), &mut random, some);
    }
}

#[test]
fn convolutions_of_nothing() {
    let mut random = Random(10);
    for (oc, oh, ow, ic, k) in
        [(0, 3, 3, 2, 1), (2, 0, 3, 2, 1), (2, 3, 0, 2, 1), (2, 3, 3, 0, 1), (2, 3, 3, 2, 0)]
    {
        let window = [ow, ic, 3, 3, k, k, 1, 1, 0, 0, 1, 1];
        check("conv2d_f32", &[&[oc, 0, 0, oh, ow][..], &window, &[8]].concat(), &mut random);
        check("conv2d_windows_f32", &[&[0, 2, oh * ow][..], &window, &[8]].concat(), &mut random);
        check("gemm_f32_panels", &[oc, oh * ow, ic * k * k, 8, 24], &mut random);
        check("depthwise_conv2d_f32", &[oc, 0, oh, ow, 3, 3, k, k, 1, 1, 0, 0, 1, 1], &mut random);
    }
}

#[test]
fn convolutions_of_infinities() {
    let mut random = Random(11);
    for stride in [1, 2] {
        let out = (12 - 1) / stride + 1;
        let change = |data: &mut [Vec<f32>]| {
            data[1][0] = f32::INFINITY;
            data[1][40] = f32::NAN;
            *data[1].last_mut().expect("X has elements") = f32::NEG_INFINITY;
        };
        let window = [12, 12, 3, 3, stride, stride, 1, 1, 1, 1];
        let sizes = [&[4, 0, 0, out, out, out, 2][..], &window, &[8]].concat();
        check_changed("conv2d_f32", &sizes, &mut random, change);
        let sizes = [&[0, 3, out * out, out, 2][..], &window, &[48]].concat();
        check_changed("conv2d_windows_f32", &sizes, &mut random, change);
        let sizes = [&[2, 0, out, out][..], &window].concat();
        check_changed("depthwise_conv2d_f32", &sizes, &mut random, change);
    }
}
