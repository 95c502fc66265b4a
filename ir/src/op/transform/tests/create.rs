//! Ranges, identity matrices, one-hot codes, shapes; triangles, diagonals, masks.

use crate::op::testing::{attrs, data, infer, run, tensor};
use crate::op::transform::*;
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};
use half::f16;

fn int(n: i64) -> AttrValue {
    AttrValue::Int(n)
}

fn float(x: f64) -> AttrValue {
    AttrValue::Float(x)
}

fn dtype(d: DType) -> (&'static str, AttrValue) {
    ("dtype", AttrValue::DType(d))
}

fn grid() -> crate::eval::Value {
    tensor(&[3, 4], &(1..13).collect::<Vec<i32>>())
}

#[test]
fn arange_by_attributes() {
    let range = |start: f64, stop: f64, step: f64, d: DType| {
        run(
            &ARANGE,
            &[],
            &attrs(
                &ARANGE,
                &[("start", float(start)), ("stop", float(stop)), ("step", float(step)), dtype(d)],
            ),
        )
    };
    assert_eq!(data::<i64>(&range(10.0, 4.0, -2.0, DType::I64).expect("fits")), [10, 8, 6]);
    assert_eq!(data::<f32>(&range(0.0, 1.0, 0.3, DType::F32).expect("fits")), [0.0, 0.3, 0.6, 0.3f32 * 3.0]);
    assert_eq!(data::<f16>(&range(1.0, 2.0, 0.5, DType::F16).expect("fits")), [1.0, 1.5].map(f16::from_f32));
    assert!(data::<u8>(&range(5.0, 5.0, 1.0, DType::U8).expect("fits")).is_empty());
    assert!(data::<u8>(&range(5.0, 1.0, 1.0, DType::U8).expect("fits")).is_empty());
    assert!(range(0.0, 0.0, 0.0, DType::I32).is_err() && range(0.0, f64::INFINITY, 1.0, DType::I32).is_err());
    assert!(run(&ARANGE, &[], &attrs(&ARANGE, &[])).is_err());
}

#[test]
fn arange_by_arguments() {
    let args = [tensor(&[], &[2i32]), tensor(&[], &[9i32]), tensor(&[], &[3i32])];
    let given = attrs(&ARANGE, &[dtype(DType::I32)]);
    assert_eq!(data::<i32>(&run(&ARANGE, &args, &given).expect("fits")), [2, 5, 8]);
    let types: Vec<Type> = args.iter().map(|a| a.ty()).collect();
    assert_eq!(infer(&ARANGE, &types, &given), Ok(TensorType::new(vec![Dim::Any], DType::I32).into()));
    assert!(run(&ARANGE, &args[..2], &given).is_err());
}

#[test]
fn eye() {
    let eye = |n: i64, m: i64, k: i64| {
        data::<u8>(
            &run(&EYE, &[], &attrs(&EYE, &[("n", int(n)), ("m", int(m)), ("k", int(k)), dtype(DType::U8)]))
                .expect("fits"),
        )
    };
    assert_eq!(eye(2, 3, 1), [0, 1, 0, 0, 0, 1]);
    assert_eq!(eye(3, 2, -1), [0, 0, 1, 0, 0, 1]);
    assert_eq!(eye(2, 2, 9), [0; 4]);
    assert!(eye(0, 2, 0).is_empty());
    assert!(run(&EYE, &[], &attrs(&EYE, &[("n", int(-1))])).is_err());
}

#[test]
fn one_hot() {
    let code = |d: i64, axis: i64| {
        let args = [tensor(&[3], &[1i64, -1, 2]), tensor(&[], &[5f32]), tensor(&[], &[1f32])];
        run(&ONE_HOT, &args, &attrs(&ONE_HOT, &[("depth", int(d)), ("axis", int(axis)), dtype(DType::I8)]))
            .map(|y| data::<i8>(&y))
    };
    assert_eq!(code(3, -1), Ok(vec![1, 5, 1, 1, 1, 1, 1, 1, 5]));
    assert_eq!(code(2, 0), Ok(vec![1, 1, 1, 5, 1, 1]));
    assert_eq!(code(0, 0), Ok(vec![]));
    assert!(code(-1, 0).is_err() && code(2, 2).is_err());
}

#[test]
fn shapes_as_values() {
    let call = |op: &OpDef, d: DType| {
        run(op, &[tensor::<f32>(&[2, 0, 7], &[])], &attrs(op, &[dtype(d)])).expect("fits")
    };
    assert_eq!(data::<i64>(&call(&SHAPE_OF, DType::I64)), [2, 0, 7]);
    assert_eq!(data::<i32>(&call(&NDARRAY_SIZE, DType::I32)), [0]);
    let scalar = run(&SHAPE_OF, &[tensor(&[], &[1u8])], &attrs(&SHAPE_OF, &[])).expect("fits");
    assert_eq!(scalar.ty(), Type::tensor(&[0], DType::I32));
    assert_eq!(data::<i32>(&run(&NDARRAY_SIZE, &[grid()], &attrs(&NDARRAY_SIZE, &[])).expect("fits")), [12]);
}

#[test]
fn triangles() {
    let tri = |k: i64, upper: bool| {
        data::<i32>(
            &run(&TRILU, &[grid(), tensor(&[], &[k])], &attrs(&TRILU, &[("upper", AttrValue::Bool(upper))]))
                .expect("fits"),
        )
    };
    assert_eq!(tri(0, true), [1, 2, 3, 4, 0, 6, 7, 8, 0, 0, 11, 12]);
    assert_eq!(tri(1, false), [1, 2, 0, 0, 5, 6, 7, 0, 9, 10, 11, 12]);
    assert_eq!(tri(-1, false), [0, 0, 0, 0, 5, 0, 0, 0, 9, 10, 0, 0]);
    assert_eq!((tri(i64::MAX, true), tri(i64::MIN, true)), (vec![0; 12], (1..13).collect()));
    assert_eq!((tri(i64::MAX, false), tri(i64::MIN, false)), ((1..13).collect(), vec![0; 12]));
    let plain = run(&TRILU, &[grid()], &attrs(&TRILU, &[])).expect("fits");
    assert_eq!(data::<i32>(&plain), tri(0, true));
    assert!(run(&TRILU, &[tensor(&[2], &[0f32; 2])], &attrs(&TRILU, &[])).is_err());
}

#[test]
fn diagonals() {
    let set = |shape: &[usize], v: &[i32], k1: i64, k2: i64| {
        let args = [tensor(&[3, 3], &[0i32; 9]), tensor(shape, v)];
        run(&MATRIX_SET_DIAG, &args, &attrs(&MATRIX_SET_DIAG, &[("k1", int(k1)), ("k2", int(k2))]))
            .map(|y| data::<i32>(&y))
    };
    assert_eq!(set(&[3], &[1, 2, 3], 0, 0), Ok(vec![1, 0, 0, 0, 2, 0, 0, 0, 3]));
    assert_eq!(set(&[2], &[1, 2], -1, -1), Ok(vec![0, 0, 0, 1, 0, 0, 0, 2, 0]));
    assert_eq!(set(&[3, 3], &[9, 1, 2, 3, 4, 5, 6, 7, 9], -1, 1), Ok(vec![3, 1, 0, 6, 4, 2, 0, 7, 5]));
    assert!(
        set(&[2], &[1, 2], 0, 0).is_err()
            && set(&[1], &[1], 3, 3).is_err()
            && set(&[3], &[0; 3], 1, 0).is_err()
    );
    let left = attrs(
        &MATRIX_SET_DIAG,
        &[("k1", int(0)), ("k2", int(1)), ("super_diag_right_align", AttrValue::Bool(false))],
    );
    let args = [tensor(&[1, 2, 3], &[0u8; 6]), tensor(&[1, 2, 2], &[1u8, 2, 3, 4])];
    assert_eq!(data::<u8>(&run(&MATRIX_SET_DIAG, &args, &left).expect("fits")), [3, 1, 0, 0, 4, 2]);
}

#[test]
fn sequence_mask() {
    let mask = |lengths: &[i32], axis: i64| {
        let args = [grid(), tensor(&[lengths.len()], lengths)];
        run(
            &SEQUENCE_MASK,
            &args,
            &attrs(&SEQUENCE_MASK, &[("mask_value", float(-1.0)), ("axis", int(axis))]),
        )
        .map(|y| data::<i32>(&y))
    };
    assert_eq!(mask(&[0, 2, 9], 1), Ok(vec![-1, -1, -1, -1, 5, 6, -1, -1, 9, 10, 11, 12]));
    assert_eq!(mask(&[1, 2, 3, -4], 0), Ok(vec![1, 2, 3, -1, -1, 6, 7, -1, -1, -1, 11, -1]));
    assert!(mask(&[1, 2], 0).is_err() && mask(&[1, 2, 3], 2).is_err());
}

#[test]
fn coordinates_and_permutations() {
    let args = [tensor(&[3], &[22i64, 41, 37]), tensor(&[2], &[7i32, 6])];
    assert_eq!(
        data::<i64>(&run(&UNRAVEL_INDEX, &args, &attrs(&UNRAVEL_INDEX, &[])).expect("fits")),
        [3, 6, 6, 4, 5, 1]
    );
    let args = [tensor(&[], &[1621i32]), tensor(&[4], &[6i32, 7, 8, 9])];
    assert_eq!(
        data::<i32>(&run(&UNRAVEL_INDEX, &args, &attrs(&UNRAVEL_INDEX, &[])).expect("fits")),
        [3, 1, 4, 1]
    );
    let odd = [tensor(&[2], &[-1i32, 5]), tensor(&[2], &[2i32, 0])];
    assert_eq!(data::<i32>(&run(&UNRAVEL_INDEX, &odd, &attrs(&UNRAVEL_INDEX, &[])).expect("fits")).len(), 4);
    let invert = |list: &[i16]| {
        data::<i16>(
            &run(&INVERT_PERMUTATION, &[tensor(&[list.len()], list)], &attrs(&INVERT_PERMUTATION, &[]))
                .expect("fits"),
        )
    };
    assert_eq!(invert(&[3, 4, 0, 2, 1]), [2, 4, 3, 0, 1]);
    assert_eq!(invert(&[9, -1, 1]), [0, 2, 0]);
    assert!(invert(&[]).is_empty());
}
