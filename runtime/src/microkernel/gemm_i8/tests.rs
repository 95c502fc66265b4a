//! Every implementation against the catalogue's meaning, bit for bit.

use fermata_ir::tensor::Tensor;
use fermata_ir::tir::intrin::{self, Call, View, ViewMut};
use fermata_passes::target::CpuFeatures;

use super::super::lookup;
use super::{KR, NR};
use crate::detect;
use crate::memory::AlignedBytes;

/// Rows of C and A are this much longer than they need to be.
const GAP: usize = 3;

/// A product of these sizes whose numbers `number` gives.
fn check(m: usize, n: usize, k: usize, number: impl FnMut() -> i8) {
    check_with(m, n, k, false, number);
}

/// As [`check`]; with GELU implementations agree with each other, and nearly with the meaning.
fn check_with(m: usize, n: usize, k: usize, gelu: bool, mut number: impl FnMut() -> i8) {
    let mut numbers = |len: usize| -> Vec<i8> { (0..len).map(|_| number()).collect() };
    let (a, b) = (numbers(m * (k + GAP)), numbers(n * k));
    let groups = k.div_ceil(KR);
    let mut panels = vec![0i8; n.div_ceil(NR) * groups * NR * KR];
    for (i, v) in b.iter().enumerate() {
        let (j, p) = (i / k, i % k);
        panels[((j / NR * groups + p / KR) * NR + j % NR) * KR + p % KR] = *v;
    }
    let sum = |j: usize| b[j * k..(j + 1) * k].iter().map(|&v| i32::from(v)).sum();
    let sums: Vec<i32> = (0..n).map(sum).collect();
    let floats = |len: usize, step: f32| -> Vec<f32> { (0..len).map(|i| 0.5 + i as f32 * step).collect() };
    let (a_scale, b_scale, bias) = (floats(m, 0.25), floats(n, 0.125), floats(n, -3.0));
    let c = vec![7f32; m * (n + GAP)];
    let params = [m as i64, n as i64, k as i64, i64::from(gelu)];
    let strides = [vec![n + GAP, 1], vec![k + GAP, 1], vec![groups * NR * KR, NR * KR, KR, 1]];
    let strides: Vec<Vec<usize>> = strides.into_iter().chain(vec![vec![1]; 4]).collect();
    let row = intrin::lookup("gemm_i8").expect("a row of the catalogue");
    let tensors = [
        Tensor::from_slice(&[a.len()], &a),
        Tensor::from_slice(&[panels.len()], &panels),
        Tensor::from_slice(&[n], &sums),
        Tensor::from_slice(&[m], &a_scale),
        Tensor::from_slice(&[n], &b_scale),
        Tensor::from_slice(&[n], &bias),
    ];
    let tensors = tensors.map(|t| t.expect("small"));
    let bytes: Vec<&[u8]> = tensors.iter().map(Tensor::bytes).collect();
    let mut expected: Vec<u8> = c.iter().flat_map(|v| v.to_le_bytes()).collect();
    let inputs =
        bytes.iter().zip(&strides[1..]).map(|(b, s)| View { bytes: b, strides: s.clone() }).collect();
    let output = ViewMut { bytes: &mut expected, strides: strides[0].clone() };
    (row.meaning)(&mut Call { outputs: vec![output], inputs, params: &params });
    let flat: Vec<i64> = strides.iter().flatten().map(|&s| s as i64).chain(params).collect();
    let all = detect::features();
    let none = CpuFeatures::default();
    let without_tiles = CpuFeatures { amx_int8: false, ..all };
    for features in [none, CpuFeatures { avx2: all.avx2, ..none }, without_tiles, all] {
        let mut found = c.clone();
        let regions: Vec<*mut u8> = std::iter::once(found.as_mut_ptr().cast())
            .chain(bytes.iter().map(|b| b.as_ptr().cast_mut()))
            .collect();
        let scratch = AlignedBytes::zeroed((row.scratch_bytes)(&params));
        let function = lookup("gemm_i8", features).expect("implemented");
        // SAFETY: regions, numbers and scratch memory are what the row asks for; inputs are read only.
        unsafe { function(regions.as_ptr(), flat.as_ptr(), scratch.as_ptr()) };
        let found: Vec<u8> = found.iter().flat_map(|v| v.to_le_bytes()).collect();
        if gelu && features == CpuFeatures::default() {
            for (found, expected) in found.chunks_exact(4).zip(expected.chunks_exact(4)) {
                let [found, expected] =
                    [found, expected].map(|b| f32::from_le_bytes(b.try_into().expect("four")));
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs().max(0.1),
                    "{found}, not {expected}"
                );
            }
            expected.clone_from(&found);
        }
        assert!(found == expected, "{m}x{n}x{k} {features:?}");
        let w = widened(&a, m, k, features);
        let mut found = c.clone();
        let mut regions = regions;
        (regions[0], regions[1]) = (found.as_mut_ptr().cast(), w.as_ptr().cast_mut().cast());
        let mut numbers = flat.clone();
        numbers[2] = intrin::widened_row(k) as i64;
        let function = lookup("gemm_i8_widened", features).expect("implemented");
        // SAFETY: as above.
        unsafe { function(regions.as_ptr(), numbers.as_ptr(), scratch.as_ptr()) };
        let found: Vec<u8> = found.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(found == expected, "{m}x{n}x{k} {features:?}, widened");
    }
}

/// The rows of A widened, the same in every bit as by the meaning.
fn widened(a: &[i8], m: usize, k: usize, features: CpuFeatures) -> Vec<i16> {
    let (row, params) = (intrin::widened_row(k), [m as i64, k as i64]);
    let strides = [vec![row, 1], vec![k + GAP, 1]];
    let mut expected = vec![0u8; m * row * 2];
    let bytes: Vec<u8> = a.iter().map(|&v| v as u8).collect();
    let inputs = vec![View { bytes: &bytes, strides: strides[1].clone() }];
    let outputs = vec![ViewMut { bytes: &mut expected, strides: strides[0].clone() }];
    let meaning = intrin::lookup("widen_i8").expect("a row of the catalogue").meaning;
    meaning(&mut Call { outputs, inputs, params: &params });
    let mut found = vec![7i16; m * row];
    let regions: [*mut u8; 2] = [found.as_mut_ptr().cast(), a.as_ptr().cast_mut().cast()];
    let numbers: Vec<i64> = strides.iter().flatten().map(|&s| s as i64).chain(params).collect();
    let function = lookup("widen_i8", features).expect("implemented");
    // SAFETY: regions and numbers are what the row asks for; it uses no scratch memory.
    unsafe { function(regions.as_ptr(), numbers.as_ptr(), std::ptr::null_mut()) };
    let bytes: Vec<u8> = found.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(bytes == expected, "{m}x{k} {features:?}");
    found
}

#[test]
fn products_of_any_size_agree_in_every_bit() {
    let mut state = 5u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as i8
    };
    for (m, n, k) in
        [(0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (2, 16, 4), (3, 17, 5), (13, 33, 63), (30, 50, 130)]
    {
        check(m, n, k, &mut random);
    }
    for i in 0..40 {
        check(1 + i % 27, 1 + (i * 7) % 40, 1 + (i * 13) % 150, &mut random);
    }
}

#[test]
fn blocks_of_rows_columns_and_steps_agree_in_every_bit() {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as i8
    };
    for (m, n, k) in [
        (131, 40, 70),
        (5, 300, 1_030),
        (130, 270, 520),
        (4, 16, 512),
        (1, 33, 1_537),
        (50, 47, 63),
        (33, 16, 200),
    ] {
        check(m, n, k, &mut random);
    }
}

#[test]
fn gelu_of_results_agrees_in_every_bit() {
    let mut state = 9i8;
    for (m, n, k) in [(7, 35, 6), (4, 16, 8), (3, 5, 600), (18, 20, 70)] {
        check_with(m, n, k, true, || {
            state = state.wrapping_mul(29).wrapping_add(17);
            state
        });
    }
}

#[test]
fn extreme_numbers_neither_saturate_nor_overflow() {
    for value in [-128, -127, 127] {
        check(4, 5, 65_536, || value);
    }
    let mut even = false;
    check(5, 18, 1_000, || {
        even = !even;
        if even { -128 } else { 127 }
    });
}
