//! What quantised operators make of small tensors, by hand and by Relay's golden values.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text, tuple};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Type};

fn f(v: f32) -> Value {
    tensor(&[], &[v])
}

fn z(v: i32) -> Value {
    tensor(&[], &[v])
}

const fn dtype(d: DType) -> (&'static str, AttrValue) {
    ("out_dtype", AttrValue::DType(d))
}

#[test]
fn quantize_rounds_halves_to_even_and_clamps() {
    let x = tensor(&[7], &[-1.25f32, -0.75, 0.25, 0.75, 100.0, f32::NEG_INFINITY, 0.0]);
    let y = run(&QUANTIZE, &[x.clone(), f(0.5), z(1)], &attrs(&QUANTIZE, &[])).unwrap();
    assert_eq!(data::<i8>(&y), [-1, -1, 1, 3, 127, -128, 1]);
    let y =
        run(&QUANTIZE, &[x, f(0.5), tensor(&[], &[128u8])], &attrs(&QUANTIZE, &[dtype(DType::U8)])).unwrap();
    assert_eq!(data::<u8>(&y), [126, 126, 128, 130, 255, 0, 128]);
    let x = tensor(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let (s, zero) = (tensor(&[2], &[1f32, 0.5]), tensor(&[2], &[0, 10]));
    let y = run(
        &QUANTIZE,
        &[x.clone(), s.clone(), zero.clone()],
        &attrs(&QUANTIZE, &[("axis", AttrValue::Int(0))]),
    );
    assert_eq!(data::<i8>(&y.unwrap()), [1, 2, 16, 18]);
    let y = run(&QUANTIZE, &[x, s, zero], &attrs(&QUANTIZE, &[])).unwrap();
    assert_eq!(data::<i8>(&y), [1, 14, 3, 18]);
}

#[test]
fn dequantize() {
    let x = tensor(&[3], &[0u8, 128, 255]);
    let y = run(&DEQUANTIZE, &[x, f(0.5), tensor(&[], &[128u8])], &attrs(&DEQUANTIZE, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [-64.0, 0.0, 63.5]);
    let x = tensor(&[1, 2], &[-128i8, 127]);
    let args = [x, tensor(&[2], &[2f32, 1.0]), tensor(&[2], &[-1i8, 0])];
    let y = run(&DEQUANTIZE, &args, &attrs(&DEQUANTIZE, &[dtype(DType::F16)])).unwrap();
    assert_eq!(data::<half::f16>(&y).iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [-254.0, 127.0]);
    let types = [Type::tensor(&[2], DType::F32), f(1.0).ty(), z(0).ty()];
    assert!(infer(&DEQUANTIZE, &types, &attrs(&DEQUANTIZE, &[])).is_err());
}

#[test]
fn requantize_ties() {
    // 1/16 of 0..31 and of 0..-31: which result comes how often, by rounding mode.
    let counts = |sign: i32, rounding: &str| {
        let x: Vec<i32> = (0..32).map(|v| v * sign).collect();
        let args = [tensor(&[32], &x), f(1.0), z(0), f(16.0), z(0)];
        let y = data::<i8>(
            &run(&REQUANTIZE, &args, &attrs(&REQUANTIZE, &[("rounding", text(rounding))])).unwrap(),
        );
        [0, 1, 2].map(|v| y.iter().filter(|&&n| i32::from(n) == v * sign).count())
    };
    assert_eq!(counts(1, "UPWARD"), [8, 16, 8]);
    assert_eq!(counts(1, "TONEAREST"), [8, 16, 8]);
    assert_eq!(counts(-1, "UPWARD"), [9, 16, 7]);
    assert_eq!(counts(-1, "TONEAREST"), [8, 16, 8]);
    assert_eq!(counts(1, "TONEVEN"), [9, 15, 8]);
    assert_eq!(counts(-1, "None"), counts(-1, "UPWARD"));
    let bad = attrs(&REQUANTIZE, &[("rounding", text("DOWN"))]);
    let types = [z(0).ty(), f(1.0).ty(), z(0).ty(), f(1.0).ty(), z(0).ty()];
    assert!(infer(&REQUANTIZE, &types, &bad).is_err());
}

#[test]
fn requantize_along_an_axis() {
    let x = tensor(&[2, 2], &[100, 100, -100, 1000]);
    let args = [x, tensor(&[2], &[0.5f32, 0.25]), z(2), f(1.0), z(-3)];
    let y = run(&REQUANTIZE, &args, &attrs(&REQUANTIZE, &[("axis", AttrValue::Int(1))])).unwrap();
    assert_eq!(data::<i8>(&y), [46, 22, -54, 127]);
}

#[test]
fn dense_with_zero_points() {
    let a = [1i8, 3, 5, 7, 9, 11, 13, 15, -19, -21, 1, 3, 5, 7, 9, 11, 13, -17, 17, -21];
    let w: Vec<i8> = (0..30).map(|i| 2 * (i % 10) + 1).collect();
    let args = [tensor(&[2, 10], &a), tensor(&[3, 10], &w), f(0.5), z(-1), f(0.5), z(-1)];
    let given = [("units", AttrValue::Int(3)), dtype(DType::I32)];
    let y = run(&QNN_DENSE, &args, &attrs(&QNN_DENSE, &given)).unwrap();
    assert_eq!(data::<i32>(&y), [92, 92, 92, 228, 228, 228]);
    // A zero point for each unit.
    let mut args = args.to_vec();
    args[4] = tensor(&[3], &[0.5f32, 0.3, 0.4]);
    args[5] = tensor(&[3], &[-1, 0, 1]);
    let y = data::<i32>(&run(&QNN_DENSE, &args, &attrs(&QNN_DENSE, &given)).unwrap());
    let sum = |r: usize| a[r * 10..(r + 1) * 10].iter().map(|&v| i32::from(v) + 1).sum::<i32>();
    assert_eq!(y, [92, 92 - sum(0), 92 - 2 * sum(0), 228, 228 - sum(1), 228 - 2 * sum(1)]);
}

#[test]
fn batch_matmul_and_mixed_signs() {
    let x = tensor(&[1, 1, 2], &[255u8, 0]);
    let y = tensor(&[1, 2, 1], &[-128i8, 127]);
    let args = [x, y, f(1.0), tensor(&[1], &[128u8]), f(1.0), z(0)];
    let z = run(&QNN_BATCH_MATMUL, &args, &attrs(&QNN_BATCH_MATMUL, &[])).unwrap();
    assert_eq!(data::<i32>(&z), [127 * -128 - 128 * 127]);
}

#[test]
fn conv2d_pads_with_the_zero_point() {
    let x = tensor(&[1, 1, 1, 2], &[5u8, 7]);
    let w = tensor(&[1, 1, 1, 3], &[1i8, 1, 1]);
    let args = [x, w, f(1.0), z(4), f(1.0), z(0)];
    let given = [("padding", ints(&[0, 1])), dtype(DType::I32)];
    let y = run(&QNN_CONV2D, &args, &attrs(&QNN_CONV2D, &given)).unwrap();
    assert_eq!(data::<i32>(&y), [4, 4]);
    // Four ones by four ones, then times ten.
    let ones = tensor(&[1, 1, 2, 2], &[1i8; 4]);
    let args = [ones.clone(), ones, f(1.0), z(0), f(1.0), z(0)];
    let y = run(&QNN_CONV2D, &args, &attrs(&QNN_CONV2D, &[dtype(DType::I32)])).unwrap();
    let args = [y, tensor(&[], &[10]), f(1.0), z(0), f(1.0), z(0), f(1.0), z(0)];
    assert_eq!(data::<i32>(&run(&QNN_MUL, &args, &attrs(&QNN_MUL, &[])).unwrap()), [40]);
}

#[test]
fn add_mul_and_concatenate() {
    let (a, b) = (tensor(&[2, 2], &[140u8, 153, 0, 255]), tensor(&[2], &[128u8, 130]));
    let args = [a.clone(), b.clone(), f(0.5), z(128), f(0.25), z(128), f(1.0), z(128)];
    let run_of = |op: &OpDef| data::<u8>(&run(op, &args, &attrs(op, &[])).unwrap());
    // Reals: [6, 12.5; -64, 63.5] and [0, 0.5]; halves of the sums round upward.
    assert_eq!(run_of(&QNN_ADD), [134, 141, 64, 192]);
    assert_eq!(run_of(&QNN_MUL), [128, 134, 128, 160]);
    let op: &OpDef = &QNN_CONCATENATE;
    let args = [
        tuple(&[a, tensor(&[2, 1], &[1u8, 2])]),
        tuple(&[f(0.5), f(1.0)]),
        tuple(&[z(128), z(0)]),
        f(1.0),
        z(100),
    ];
    let y = run(op, &args, &attrs(op, &[("axis", AttrValue::Int(1))])).unwrap();
    assert_eq!(data::<u8>(&y), [106, 113, 101, 36, 164, 102]);
}

#[test]
fn quantize_per_token_scales_each_row() {
    let x = tensor(&[4, 3], &[127f32, -2.5, 3.5, 0.0, -0.0, 0.0, 1.0, f32::NAN, 2.0, 1e-45, -1e-45, 0.0]);
    let y = run(&QUANTIZE_PER_TOKEN, std::slice::from_ref(&x), &attrs(&QUANTIZE_PER_TOKEN, &[])).unwrap();
    let fields = y.as_tuple().unwrap();
    assert_eq!(data::<i8>(&fields[0]), [127, -2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let scales = data::<f32>(&fields[1]);
    assert_eq!(scales[..2], [1.0, 1.0]);
    assert!(scales[2].is_nan());
    assert_eq!(scales[3], 1.0);
    let x = tensor(&[2, 2], &[1f32, -4.0, f32::INFINITY, 2.0]);
    let y = run(&QUANTIZE_PER_TOKEN, &[x], &attrs(&QUANTIZE_PER_TOKEN, &[])).unwrap();
    assert!(data::<f32>(&y.as_tuple().unwrap()[1])[1].is_nan());
    let x = tensor(&[2, 2], &[1f32, -4.0, 2.0, 0.0]);
    let y = run(&QUANTIZE_PER_TENSOR, &[x], &attrs(&QUANTIZE_PER_TENSOR, &[])).unwrap();
    let fields = y.as_tuple().unwrap();
    assert_eq!(data::<i8>(&fields[0]), [32, -127, 64, 0]);
    assert_eq!(data::<f32>(&fields[1]), [4f32 / 127.0]);
    let empty = tensor(&[2, 0], &[0f32; 0]);
    let y = run(&QUANTIZE_PER_TOKEN, &[empty], &attrs(&QUANTIZE_PER_TOKEN, &[])).unwrap();
    assert_eq!(data::<f32>(&y.as_tuple().unwrap()[1]), [1.0, 1.0]);
    infer(&QUANTIZE_PER_TOKEN, &[f(1.0).ty()], &attrs(&QUANTIZE_PER_TOKEN, &[])).unwrap_err();
}

#[test]
fn columns_quantise_as_the_rows_of_the_transpose() {
    // Ties to even, the smallest numbers, and columns that have no scale.
    let rows = [
        [127f32, 0.5, 1.5, -2.5, 126.5, -0.49999997],
        [1e-45, -4e-45, 9e-44, 3e-42, -1e-40, 1.1e-43],
        [0.0, -0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, f32::NAN, 2.0, 3.0, -4.0, 5.0],
        [f32::MAX, f32::MIN, 1e38, -2e36, 0.0, 1.3e36],
        [1.0, 2.0, f32::INFINITY, f32::NEG_INFINITY, 4.0, 5.0],
    ];
    let columns: Vec<f32> = (0..36).map(|i| rows[i % 6][i / 6]).collect();
    let (by_rows, row_scales) = quantize_rows(rows.as_flattened(), 6);
    let (by_columns, column_scales) = quantize_columns(&columns, 6);
    let bits = |scales: &[f32]| -> Vec<u32> { scales.iter().map(|s| s.to_bits()).collect() };
    assert_eq!(bits(&row_scales), bits(&column_scales));
    for (i, (v, &scale)) in rows.as_flattened().iter().zip(row_scales.iter().flat_map(|s| [s; 6])).enumerate()
    {
        let expected = (v / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
        assert_eq!([by_rows[i], by_columns[i % 6 * 6 + i / 6]], [expected; 2], "{v} of scale {scale}");
    }
    assert_eq!(quantize_columns(&[], 0), (vec![], vec![]));
    assert_eq!(quantize_columns(&[], 2), (vec![], vec![1.0, 1.0]));
}

#[test]
fn a_quantised_dense_gives_real_numbers() {
    let (x, w) = (tensor(&[2, 3], &[1i8, 2, -3, 127, -127, 0]), tensor(&[2, 3], &[1i8, 1, 1, -127, 127, 2]));
    let scales = [tensor(&[2], &[0.5f32, 2.0]), tensor(&[2], &[1f32, 0.25])];
    let bias = tensor(&[2], &[10f32, -1.0]);
    let args = [x.clone(), w, scales[0].clone(), scales[1].clone(), bias];
    // Sums: [0, 121] and [0, -32258].
    let expected = [10.0, 121.0 * 0.125 - 1.0, 10.0, -32258.0 * 0.5 - 1.0];
    let of = |op: &OpDef, args: &[Value], given: &[(&str, AttrValue)]| {
        data::<f32>(&run(op, args, &attrs(op, given)).unwrap())
    };
    assert_eq!(of(&QUANT_DENSE, &args, &[]), expected);
    assert_eq!(of(&QUANT_DENSE, &args, &[("activation", text("relu"))])[3], 0.0);
    let gelu = of(&QUANT_DENSE, &args, &[("activation", text("gelu"))]);
    assert!((gelu[0] - 10.0).abs() < 1e-5 && gelu[3] == 0.0, "{gelu:?}");
    let mut transposed = args.clone();
    transposed[1] = tensor(&[3, 2], &[1i8, -127, 1, 127, 1, 2]);
    assert_eq!(of(&QUANT_MATMUL, &transposed, &[]), expected);
    // One scale for everything, no bias, and zero points: sums of (x - 1) * (w - [0, 1]).
    let zeros = [tensor(&[], &[0f32]), tensor(&[2], &[1, 1]), tensor(&[2], &[0, 1])];
    let args = [&[x, args[1].clone(), f(1.0), f(0.5)], &zeros[..]].concat();
    let sum = |x: [i32; 3], w: [i32; 3]| x.iter().zip(w).map(|(x, w)| x * w).sum::<i32>() as f32 * 0.5;
    let rows = [[0, 1, -4], [126, -128, -1]];
    let expected: Vec<f32> = rows.iter().flat_map(|&r| [sum(r, [1; 3]), sum(r, [-128, 126, 1])]).collect();
    assert_eq!(of(&QUANT_DENSE, &args, &[]), expected);
}

#[test]
fn a_packed_quantised_dense_is_the_plain_one() {
    for (m, n, k) in [(1, 1, 1), (3, 17, 5), (2, 16, 8), (0, 3, 4), (2, 3, 0)] {
        let numbers =
            |len: usize, step: usize| -> Vec<i8> { (0..len).map(|i| (i * step % 255) as u8 as i8).collect() };
        let floats = |len: usize| -> Vec<f32> { (0..len).map(|i| 0.25 + i as f32).collect() };
        let (x, w) = (tensor(&[m, k], &numbers(m * k, 37)), tensor(&[n, k], &numbers(n * k, 91)));
        let rest = [tensor(&[m], &floats(m)), tensor(&[n], &floats(n)), tensor(&[n], &floats(n))];
        let plain = [&[x.clone(), w.clone()], &rest[..]].concat();
        let expected = run(&QUANT_DENSE, &plain, &attrs(&QUANT_DENSE, &[])).unwrap();
        let panels =
            run(&QUANT_DENSE_PACK_WEIGHT, std::slice::from_ref(&w), &attrs(&QUANT_DENSE_PACK_WEIGHT, &[]));
        let sums: Vec<i32> = data::<i8>(&w)
            .chunks(k.max(1))
            .map(|row| row.iter().map(|&v| i32::from(v)).sum())
            .chain(std::iter::repeat(0))
            .take(n)
            .collect();
        let packed = [&[x, panels.unwrap(), tensor(&[n], &sums)], &rest[..]].concat();
        let given = [("units", AttrValue::Int(n as i64))];
        let found = run(&QUANT_DENSE_PACK, &packed, &attrs(&QUANT_DENSE_PACK, &given)).unwrap();
        assert_eq!(data::<f32>(&found), data::<f32>(&expected), "{m}x{n}x{k}");
    }
}
