//! Products with matrices.

use crate::eval::Value;
use crate::op::nn::*;
use crate::op::testing::{attrs, data, infer, run, tensor};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

fn f32s(shape: &[usize]) -> Value {
    let n = shape.iter().product();
    tensor(shape, &(0..n).map(|i: usize| ((i * 7) % 11) as f32 - 5.0).collect::<Vec<_>>())
}

const NO_UNITS: (&str, AttrValue) = ("units", AttrValue::None);

fn dims(names: &[&str]) -> Vec<Dim> {
    names
        .iter()
        .map(|n| match n.parse() {
            Ok(n) => Dim::Static(n),
            Err(_) if *n == "?" => Dim::Any,
            Err(_) => Dim::Sym((*n).into()),
        })
        .collect()
}

#[test]
fn dense() {
    let y = run(&DENSE, &[f32s(&[2, 3]), f32s(&[4, 3])], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(data::<f32>(&y), [33., -17., -12., -7., -17., 35., 32., 29.]);
    // The last dimension of data of any rank is replaced.
    let ty = |shape: &[usize]| Type::tensor(shape, DType::F32);
    let found = infer(&DENSE, &[ty(&[2, 3, 4, 5]), ty(&[7, 5])], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(found, ty(&[2, 3, 4, 7]));
    let y = run(&DENSE, &[f32s(&[3]), f32s(&[2, 3])], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [2]);
}

#[test]
fn dense_infers_its_weight_from_units() {
    let x: Type = TensorType::new(dims(&["n", "w"]), DType::F32).into();
    let units = attrs(&DENSE, &[("units", AttrValue::Int(2))]);
    let found = (DENSE.backward)(&[x.clone(), Type::Unknown], &units);
    assert_eq!(found, [(1, TensorType::new(dims(&["2", "w"]), DType::F32).into())]);
    let y = infer(&DENSE, &[x, found[0].1.clone()], &units).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape, dims(&["n", "2"]));
    let wrong = Type::tensor(&[3, 4], DType::F32);
    assert!(infer(&DENSE, &[Type::tensor(&[1, 4], DType::F32), wrong], &units).is_err());
}

#[test]
fn matmul_in_every_orientation() {
    let expected = [19., 6., -30., 24.];
    let (a, at) =
        (tensor(&[2, 3], &[-5f32, 2., -2., 5., 1., -3.]), tensor(&[3, 2], &[-5f32, 5., 2., 1., -2., -3.]));
    let (b, bt) =
        (tensor(&[3, 2], &[-5f32, 2., -2., 5., 1., 3.]), tensor(&[2, 3], &[-5f32, -2., 1., 2., 5., 3.]));
    let want: Vec<f32> = vec![19., -6., -30., 6.];
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        let args = [if ta { at.clone() } else { a.clone() }, if tb { bt.clone() } else { b.clone() }];
        let given = [NO_UNITS, ("transpose_a", AttrValue::Bool(ta)), ("transpose_b", AttrValue::Bool(tb))];
        assert_eq!(data::<f32>(&run(&MATMUL, &args, &attrs(&MATMUL, &given)).unwrap()), want, "{ta} {tb}");
    }
    let y = run(&BATCH_MATMUL, &[f32s(&[2, 2, 3]), f32s(&[1, 3, 2])], &attrs(&BATCH_MATMUL, &[])).unwrap();
    assert_eq!(data::<f32>(&y)[..4], expected);
    assert_eq!(data::<f32>(&y)[4..], [-24., 20., -18., 16.]);
}

#[test]
fn batches_broadcast_and_transpose() {
    let (x, y) = (f32s(&[2, 1, 3, 4]), f32s(&[1, 3, 5, 4]));
    let given = [("transpose_b", AttrValue::Bool(true))];
    let z = run(&BATCH_MATMUL, &[x.clone(), y.clone()], &attrs(&BATCH_MATMUL, &given)).unwrap();
    assert_eq!(z.as_tensor().unwrap().shape(), [2, 3, 3, 5]);
    let (x, y, z) = (data::<f32>(&x), data::<f32>(&y), data::<f32>(&z));
    let want: f32 = (0..4).map(|k| x[(3 + 2) * 4 + k] * y[(5 + 4) * 4 + k]).sum();
    assert_eq!(z[((3 + 1) * 3 + 2) * 5 + 4], want);
    let given = [("transpose_a", AttrValue::Bool(true))];
    run(&BATCH_MATMUL, &[f32s(&[2, 3, 4]), f32s(&[2, 3, 5])], &attrs(&BATCH_MATMUL, &given)).unwrap();
    let ty = |shape: &[usize]| Type::tensor(shape, DType::F32);
    for (a, b) in [(&[2, 3, 4][..], &[3, 4, 5][..]), (&[2, 3, 4], &[2, 5, 5]), (&[3, 4], &[4, 5])] {
        assert!(infer(&BATCH_MATMUL, &[ty(a), ty(b)], &attrs(&BATCH_MATMUL, &[])).is_err());
    }
    let n: Type = TensorType::new(dims(&["n", "s", "4"]), DType::F32).into();
    let m: Type = TensorType::new(dims(&["1", "4", "?"]), DType::F32).into();
    let z = infer(&BATCH_MATMUL, &[n, m], &attrs(&BATCH_MATMUL, &[])).unwrap();
    assert_eq!(z.as_tensor().unwrap().shape, dims(&["n", "s", "?"]));
}

#[test]
fn integer_products() {
    let (a, b) = (tensor(&[1, 2], &[100i8, 100]), tensor(&[1, 2], &[2i8, 1]));
    let y = run(&DENSE, &[a.clone(), b.clone()], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(data::<i8>(&y), [44]);
    let wide = [NO_UNITS, ("out_dtype", AttrValue::DType(DType::I32))];
    let y = run(&DENSE, &[a, b.clone()], &attrs(&DENSE, &wide)).unwrap();
    assert_eq!(data::<i32>(&y), [300]);
    let y = run(&DENSE, &[tensor(&[1, 2], &[255u8, 255]), b.clone()], &attrs(&DENSE, &wide)).unwrap();
    assert_eq!(data::<i32>(&y), [765]);
    // Mixed dtypes need out_dtype, and floats stay floats.
    let types = [Type::tensor(&[1, 2], DType::U8), b.ty()];
    assert!(infer(&DENSE, &types, &attrs(&DENSE, &[NO_UNITS])).is_err());
    let types = [Type::tensor(&[1, 2], DType::F32), Type::tensor(&[1, 2], DType::F32)];
    assert!(infer(&DENSE, &types, &attrs(&DENSE, &wide)).is_err());
    let types = [Type::tensor(&[1, 2], DType::Bool), Type::tensor(&[1, 2], DType::Bool)];
    assert!(infer(&DENSE, &types, &attrs(&DENSE, &[NO_UNITS])).is_err());
}

#[test]
fn small_floats_accumulate_in_f32() {
    let half = half::f16::from_f32;
    // In f16 the sum 2048 + 1 + 1 would stay 2048.
    let (a, b) = (tensor(&[1, 3], &[half(2048.0), half(1.0), half(1.0)]), tensor(&[1, 3], &[half(1.0); 3]));
    let y = run(&DENSE, &[a, b], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(data::<half::f16>(&y), [half(2050.0)]);
    let bf = half::bf16::from_f32;
    let (a, b) = (tensor(&[1, 2], &[bf(1.5), bf(2.0)]), tensor(&[1, 2], &[bf(2.0), bf(0.5)]));
    let y = run(&DENSE, &[a, b], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(data::<half::bf16>(&y), [bf(4.0)]);
}

#[test]
fn empty_products_are_zero() {
    let y = run(&DENSE, &[f32s(&[2, 0]), f32s(&[3, 0])], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert_eq!(data::<f32>(&y), [0.0; 6]);
    let y = run(&DENSE, &[f32s(&[0, 4]), f32s(&[3, 4])], &attrs(&DENSE, &[NO_UNITS])).unwrap();
    assert!(y.as_tensor().unwrap().is_empty());
    let y = run(&BATCH_MATMUL, &[f32s(&[0, 2, 3]), f32s(&[1, 3, 2])], &attrs(&BATCH_MATMUL, &[])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [0, 2, 2]);
}

#[test]
fn packed_weights_agree_with_plain_ones() {
    for (m, n, k, nr) in [(2, 5, 3, 4), (1, 8, 7, 8), (3, 1, 2, 16)] {
        let (x, w) = (f32s(&[m, k]), f32s(&[n, k]));
        let plain = run(&DENSE, &[x.clone(), w.clone()], &attrs(&DENSE, &[NO_UNITS])).unwrap();
        let row: &OpDef = &DENSE_PACK_WEIGHT;
        let panels = run(row, &[w], &attrs(row, &[("nr", AttrValue::Int(nr))])).unwrap();
        let units = [("units", AttrValue::Int(n as i64))];
        let packed = run(&DENSE_PACK, &[x, panels], &attrs(&DENSE_PACK, &units)).unwrap();
        assert!(packed.as_tensor().unwrap().bitwise_eq(plain.as_tensor().unwrap()));
    }
    let types = [Type::tensor(&[1, 3], DType::F32), Type::tensor(&[2, 3, 4], DType::F32)];
    assert!(infer(&DENSE_PACK, &types, &attrs(&DENSE_PACK, &[("units", AttrValue::Int(9))])).is_err());
}
