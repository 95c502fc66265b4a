//! What these operators make of small tensors, by numpy's account.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text, tuple};
use crate::op::{AttrValue, OpDef, OpError};
use crate::types::{DType, Dim, TensorType, Type};
use half::f16;

fn int(n: i64) -> AttrValue {
    AttrValue::Int(n)
}

fn grid() -> Value {
    tensor(&[3, 4], &(0..12).collect::<Vec<i32>>())
}

fn call(op: &OpDef, args: &[Value], given: &[(&str, AttrValue)]) -> Result<(Vec<usize>, Vec<i32>), OpError> {
    let y = run(op, args, &attrs(op, given))?;
    Ok((y.tensor()?.shape().to_vec(), data(&y)))
}

#[test]
fn take_modes() {
    let indices = tensor(&[5], &[-9i64, -1, 0, 3, 9]);
    let mode = |m: &str| {
        call(&TAKE, &[grid(), indices.clone()], &[("axis", int(0)), ("mode", text(m))]).map(|y| y.1)
    };
    let rows = |list: [i32; 5]| list.iter().flat_map(|r| r * 4..r * 4 + 4).collect::<Vec<i32>>();
    assert_eq!(mode("clip"), Ok(rows([0, 0, 0, 2, 2])));
    assert_eq!(mode("wrap"), Ok(rows([0, 2, 0, 0, 0])));
    assert_eq!(mode("fast"), Ok(rows([0, 2, 0, 2, 2])));
    assert!(mode("raise").is_err());
}

#[test]
fn take_shapes() {
    let take = |indices: Value, given: &[(&str, AttrValue)]| call(&TAKE, &[grid(), indices], given);
    assert_eq!(take(tensor(&[], &[1u8]), &[("axis", int(-1))]), Ok((vec![3], vec![1, 5, 9])));
    assert_eq!(
        take(tensor(&[2, 1], &[3i32, 0]), &[("axis", int(1))]),
        Ok((vec![3, 2, 1], vec![3, 0, 7, 4, 11, 8]))
    );
    assert_eq!(take(tensor(&[2], &[11u64, u64::MAX]), &[]), Ok((vec![2], vec![11, 11])));
    let batch = [("axis", int(1)), ("batch_dims", int(1))];
    assert_eq!(
        take(tensor(&[3, 2], &[0i64, 1, 1, 2, 2, 3]), &batch),
        Ok((vec![3, 2], vec![0, 1, 5, 6, 10, 11]))
    );
    assert_eq!(take(tensor::<i64>(&[0], &[]), &[("axis", int(0))]), Ok((vec![0, 4], vec![])));
    assert!(take(tensor(&[1], &[0f32]), &[]).is_err());
    assert!(take(tensor(&[2, 2], &[0i64; 4]), &batch).is_err());
    assert!(take(tensor(&[1], &[0i64]), &[("axis", int(2))]).is_err());
    let empty = [tensor::<i32>(&[0, 2], &[]), tensor(&[1], &[5i64])];
    assert_eq!(call(&TAKE, &empty, &[("axis", int(0))]), Ok((vec![1, 2], vec![0, 0])));
    let n = |dims: &[Dim], dtype| Type::from(TensorType::new(dims.to_vec(), dtype));
    let found = infer(
        &TAKE,
        &[n(&[30.into(), 8.into()], DType::F32), n(&[Dim::Sym("b".into()), Dim::Any], DType::I64)],
        &attrs(&TAKE, &[("axis", int(0))]),
    );
    assert_eq!(found, Ok(n(&[Dim::Sym("b".into()), Dim::Any, 8.into()], DType::F32)));
}

#[test]
fn gather_elements() {
    let gather =
        |shape: &[usize], i: &[i64], d: i64| call(&GATHER, &[grid(), tensor(shape, i)], &[("axis", int(d))]);
    assert_eq!(
        gather(&[2, 4], &[0, 1, 2, -1, -3, 9, -9, 0], 0),
        Ok((vec![2, 4], vec![0, 5, 10, 11, 0, 9, 2, 3]))
    );
    assert_eq!(gather(&[3, 1], &[3, 0, -2], -1), Ok((vec![3, 1], vec![3, 4, 10])));
    assert_eq!(gather(&[1, 2], &[1, 1], 1), Ok((vec![1, 2], vec![1, 1])));
    assert!(gather(&[4, 1], &[0; 4], 1).is_err() && gather(&[3], &[0; 3], 0).is_err());
    let empty = [tensor::<i32>(&[0], &[]), tensor(&[2], &[5i64, 0])];
    assert_eq!(call(&GATHER, &empty, &[("axis", int(0))]), Ok((vec![2], vec![0, 0])));
}

#[test]
fn gather_coordinates() {
    let nd = |shape: &[usize], i: &[i32], b: i64| {
        call(&GATHER_ND, &[grid(), tensor(shape, i)], &[("batch_dims", int(b))])
    };
    assert_eq!(nd(&[2, 3], &[0, 2, -1, 3, 1, -4], 0), Ok((vec![3], vec![3, 9, 8])));
    assert_eq!(nd(&[1, 2], &[2, 0], 0), Ok((vec![2, 4], vec![8, 9, 10, 11, 0, 1, 2, 3])));
    assert_eq!(nd(&[1, 3], &[3, 0, 1], 1), Ok((vec![3], vec![3, 4, 9])));
    assert_eq!(nd(&[1, 3, 2], &[3, 0, 1, 0, 0, 2], 1), Ok((vec![3, 2], vec![3, 0, 5, 4, 8, 10])));
    assert_eq!(nd(&[0, 2], &[], 0), Ok((vec![2, 3, 4], (0..12).chain(0..12).collect())));
    assert!(
        nd(&[3, 1], &[0; 3], 0).is_err() && nd(&[1, 2], &[0; 2], 1).is_err() && nd(&[1], &[0], 1).is_err()
    );
}

#[test]
fn adv_index() {
    let call = |fields: &[Value]| call(&ADV_INDEX, &[tuple(fields)], &[]);
    let (rows, columns) = (tensor(&[2, 1], &[0i64, 2]), tensor(&[2], &[1i64, -1]));
    assert_eq!(call(&[grid(), rows.clone(), columns]), Ok((vec![2, 2], vec![1, 3, 9, 11])));
    assert_eq!(call(&[grid(), rows]), Ok((vec![2, 1, 4], vec![0, 1, 2, 3, 8, 9, 10, 11])));
    assert!(call(&[grid()]).is_err() && call(&[grid(), tensor(&[1], &[0f32])]).is_err());
}

#[test]
fn scatter_elements() {
    let scatter = |i: &[i64], u: &[i32], shape: &[usize], d: i64, how: &str| {
        let args = [grid(), tensor(shape, i), tensor(shape, u)];
        call(&SCATTER_ELEMENTS, &args, &[("axis", int(d)), ("reduction", text(how))]).map(|y| y.1)
    };
    assert_eq!(
        scatter(&[1, 2, -3, 7], &[20, 21, 22, 23], &[1, 4], 0, "update"),
        Ok(vec![0, 1, 22, 3, 20, 5, 6, 7, 8, 21, 10, 11])
    );
    assert_eq!(
        scatter(&[0, 0, -1, 1], &[5, 6, 7, 8], &[2, 2], 1, "add"),
        Ok(vec![11, 1, 2, 3, 4, 13, 6, 14, 8, 9, 10, 11])
    );
    assert_eq!(scatter(&[1, 1], &[5, 6], &[1, 2], 1, "mul"), Ok(vec![0, 30, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
    assert_eq!(
        scatter(&[1, 2], &[5, -6], &[1, 2], 1, "min"),
        Ok(vec![0, 1, -6, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    );
    assert_eq!(scatter(&[1, 2], &[5, -6], &[1, 2], 1, "max"), Ok(vec![0, 5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
    assert_eq!(scatter(&[], &[], &[0, 2], 1, "add"), Ok((0..12).collect()));
    assert!(scatter(&[0], &[0], &[1, 1], 1, "div").is_err());
    assert!(scatter(&[0; 4], &[0; 4], &[4, 1], 1, "update").is_err());
}

#[test]
fn scatter_in_other_dtypes() {
    let half =
        |list: &[f32]| tensor(&[list.len()], &list.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
    let given = attrs(&SCATTER_ELEMENTS, &[("reduction", text("add"))]);
    let args = [half(&[1.0, 2048.0]), tensor(&[2], &[1i32, 0]), half(&[1.0, 0.5])];
    let y = run(&SCATTER_ELEMENTS, &args, &given).expect("fits");
    assert_eq!(data::<f16>(&y), [1.5, 2048.0].map(f16::from_f32));
    let bytes = [tensor(&[1], &[250u8]), tensor(&[1], &[0i8]), tensor(&[1], &[10u8])];
    assert_eq!(data::<u8>(&run(&SCATTER_ELEMENTS, &bytes, &given).expect("fits")), [4]);
}

#[test]
fn scatter_coordinates() {
    let scatter = |ishape: &[usize], i: &[i64], ushape: &[usize], u: &[i32], how: &str| {
        let args = [grid(), tensor(ishape, i), tensor(ushape, u)];
        call(&SCATTER_ND, &args, &[("mode", text(how))]).map(|y| y.1)
    };
    assert_eq!(
        scatter(&[2, 3], &[0, -1, 9, 3, 0, 0], &[3], &[20, 21, 22], "update"),
        Ok(vec![0, 1, 2, 20, 4, 5, 6, 7, 21, 9, 10, 11])
    );
    assert_eq!(
        scatter(&[1, 2], &[1, 1], &[2, 4], &[1, 2, 3, 4, 10, 20, 30, 40], "add"),
        Ok(vec![0, 1, 2, 3, 15, 27, 39, 51, 8, 9, 10, 11])
    );
    assert_eq!(
        scatter(&[1, 1], &[2], &[1, 4], &[9, 8, 11, 10], "max"),
        Ok(vec![0, 1, 2, 3, 4, 5, 6, 7, 9, 9, 11, 11])
    );
    assert!(scatter(&[3, 1], &[0; 3], &[1], &[0], "update").is_err());
    assert!(scatter(&[1, 1], &[0], &[1, 3], &[0; 3], "update").is_err());
}

#[test]
fn sparse_to_dense() {
    let shape = |list: &[i64]| [("output_shape", ints(list))];
    let call = |args: &[Value], list: &[i64]| call(&SPARSE_TO_DENSE, args, &shape(list));
    let nine = tensor(&[], &[9i32]);
    assert_eq!(call(&[tensor(&[], &[1i32]), nine.clone()], &[3]), Ok((vec![3], vec![0, 9, 0])));
    let vector = [tensor(&[3], &[0i64, -1, 7]), tensor(&[3], &[1i32, 2, 3]), nine.clone()];
    assert_eq!(call(&vector, &[4]), Ok((vec![4], vec![1, 9, 9, 2])));
    let matrix = [tensor(&[2, 2], &[0i64, 1, 1, 0]), nine];
    assert_eq!(call(&matrix, &[2, 2]), Ok((vec![2, 2], vec![0, 9, 9, 0])));
    assert!(call(&matrix, &[2]).is_err() && call(&matrix, &[-2, 2]).is_err());
}

#[test]
fn every_dtype_moves_unchanged() {
    for dtype in DType::ALL {
        let bytes: Vec<u8> = (0..4 * dtype.bytes() as u8).map(|b| b % 2).collect();
        let x = crate::tensor::Tensor::from_bytes(dtype, &[4], &bytes).expect("fits");
        let back = tensor(&[4], &[3i32, 2, 1, 0]);
        let once =
            run(&TAKE, &[x.clone().into(), back.clone()], &attrs(&TAKE, &[("axis", int(0))])).expect("fits");
        let twice = run(&GATHER, &[once, back.clone()], &attrs(&GATHER, &[("axis", int(0))])).expect("fits");
        assert!(twice.as_tensor().expect("a tensor").bitwise_eq(&x), "{dtype}");
        let set = run(&SCATTER_ELEMENTS, &[x.clone().into(), back, x.into()], &attrs(&SCATTER_ELEMENTS, &[]))
            .expect("fits");
        assert_eq!(set.as_tensor().map(|t| t.dtype()), Some(dtype));
    }
}
