//! Padding and the moves between space, channels and batch.

use crate::eval::Value;
use crate::op::nn::*;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

fn pairs(list: &[[i64; 2]]) -> AttrValue {
    AttrValue::List(list.iter().map(|p| ints(p)).collect())
}

fn i32s(shape: &[usize]) -> Value {
    tensor(shape, &(0..shape.iter().product::<usize>() as i32).collect::<Vec<_>>())
}

fn padded(op: &OpDef, args: &[Value], given: &[(&str, AttrValue)]) -> Vec<i32> {
    data(&run(op, args, &attrs(op, given)).unwrap())
}

#[test]
fn pad_modes() {
    let x = || tensor(&[3], &[1, 2, 3]);
    let width = |b, a| ("pad_width", pairs(&[[b, a]]));
    let mode = |m| ("pad_mode", text(m));
    assert_eq!(padded(&PAD, &[x()], &[width(1, 2)]), [0, 1, 2, 3, 0, 0]);
    assert_eq!(padded(&PAD, &[x(), tensor(&[], &[7.9f32])], &[width(1, 2)]), [7, 1, 2, 3, 7, 7]);
    assert_eq!(padded(&PAD, &[x()], &[width(-1, 1)]), [2, 3, 0]);
    assert_eq!(padded(&PAD, &[x()], &[width(4, -5)]), [0, 0]);
    assert_eq!(padded(&PAD, &[x()], &[width(2, 1), mode("edge")]), [1, 1, 1, 2, 3, 3]);
    assert_eq!(padded(&PAD, &[x()], &[width(2, 3), mode("reflect")]), [3, 2, 1, 2, 3, 2, 1, 2]);
    assert_eq!(padded(&PAD, &[x()], &[width(2, 4), mode("wrap")]), [2, 3, 1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(padded(&MIRROR_PAD, &[x()], &[width(2, 4)]), [2, 1, 1, 2, 3, 3, 2, 1, 1]);
    assert_eq!(padded(&MIRROR_PAD, &[x()], &[width(1, 1), ("mode", text("REFLECT"))]), [2, 1, 2, 3, 2]);
    assert_eq!(padded(&PAD, &[tensor(&[1], &[5])], &[width(2, 1), mode("reflect")]), [5; 4]);
    assert_eq!(padded(&PAD, &[tensor::<i32>(&[0], &[])], &[width(1, 1)]), [0, 0]);
}

#[test]
fn pad_of_matrices_and_types() {
    let x = i32s(&[2, 2]);
    let given = [("pad_width", pairs(&[[0, 1], [1, 0]])), ("pad_mode", text("edge"))];
    assert_eq!(padded(&PAD, std::slice::from_ref(&x), &given), [0, 0, 1, 2, 2, 3, 2, 2, 3]);
    let given = [("pad_width", pairs(&[[0, 1], [1, 0]]))];
    assert_eq!(padded(&PAD, &[x.clone(), tensor(&[1], &[9])], &given), [9, 0, 1, 9, 2, 3, 9, 9, 9]);
    let n: Type = TensorType::new(vec![Dim::Sym("n".into()), 2.into()], DType::F32).into();
    let y = infer(&PAD, &[n], &attrs(&PAD, &[("pad_width", pairs(&[[0, 0], [1, 1]]))])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape, [Dim::Sym("n".into()), 4.into()]);
    for bad in [pairs(&[[0, 0]]), pairs(&[[-3, 0], [0, 0]]), pairs(&[[i64::MAX, 0], [0, 0]])] {
        assert!(infer(&PAD, &[x.ty()], &attrs(&PAD, &[("pad_width", bad)])).is_err());
    }
    let edge = [("pad_width", pairs(&[[1, 0]])), ("pad_mode", text("edge"))];
    assert!(infer(&PAD, &[Type::tensor(&[0], DType::F32)], &attrs(&PAD, &edge)).is_err());
}

#[test]
fn dilate() {
    let given = [("strides", ints(&[1, 2])), ("dilation_value", AttrValue::Float(9.0))];
    assert_eq!(padded(&DILATE, &[i32s(&[2, 2])], &given), [0, 9, 1, 2, 9, 3]);
    assert_eq!(padded(&DILATE, &[tensor::<i32>(&[0], &[])], &[("strides", ints(&[3]))]), [0; 0]);
}

#[test]
fn depth_and_space() {
    // By numpy: reshape (1, 2, 2, 2, 1, 2) and transpose (0, 3, 4, 1, 5, 2) for DCR.
    let b = ("block_size", AttrValue::Int(2));
    let x = i32s(&[1, 8, 1, 2]);
    let expected = [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15];
    assert_eq!(padded(&DEPTH_TO_SPACE, std::slice::from_ref(&x), std::slice::from_ref(&b)), expected);
    let expected = [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15];
    let crd = ("mode", text("CRD"));
    assert_eq!(padded(&DEPTH_TO_SPACE, std::slice::from_ref(&x), &[b.clone(), crd.clone()]), expected);
    for given in [vec![b.clone()], vec![b.clone(), crd], vec![b.clone(), ("layout", text("NHWC"))]] {
        let shape: &[usize] =
            if given.len() == 2 && given[1].0 == "layout" { &[1, 1, 2, 8] } else { &[1, 8, 1, 2] };
        let x = i32s(shape);
        let y = run(&DEPTH_TO_SPACE, std::slice::from_ref(&x), &attrs(&DEPTH_TO_SPACE, &given)).unwrap();
        let back = run(&SPACE_TO_DEPTH, &[y], &attrs(&SPACE_TO_DEPTH, &given)).unwrap();
        assert!(back.as_tensor().unwrap().bitwise_eq(x.as_tensor().unwrap()));
    }
    let y = padded(&SPACE_TO_DEPTH, &[i32s(&[1, 1, 2, 4])], std::slice::from_ref(&b));
    assert_eq!(y, [0, 2, 1, 3, 4, 6, 5, 7]);
    assert!(
        infer(&SPACE_TO_DEPTH, &[Type::tensor(&[1, 1, 3, 4], DType::F32)], &attrs(&SPACE_TO_DEPTH, &[b]))
            .is_err()
    );
}

#[test]
fn batch_and_space() {
    let x = tensor(&[1, 2, 2, 1], &[1, 2, 3, 4]);
    let block = ("block_shape", ints(&[2, 2]));
    let none = pairs(&[[0, 0], [0, 0]]);
    let y = run(
        &SPACE_TO_BATCH_ND,
        &[x],
        &attrs(&SPACE_TO_BATCH_ND, &[block.clone(), ("paddings", none.clone())]),
    )
    .unwrap();
    assert_eq!((y.as_tensor().unwrap().shape(), data::<i32>(&y)), (&[4, 1, 1, 1][..], vec![1, 2, 3, 4]));
    let back = padded(&BATCH_TO_SPACE_ND, &[y], &[block.clone(), ("crops", none)]);
    assert_eq!(back, [1, 2, 3, 4]);
    let uneven =
        [("block_shape", ints(&[2])), ("paddings", pairs(&[[1, 0]])), ("pad_value", AttrValue::Float(-1.0))];
    let y = run(&SPACE_TO_BATCH_ND, &[i32s(&[2, 3, 2])], &attrs(&SPACE_TO_BATCH_ND, &uneven)).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [4, 2, 2]);
    assert_eq!(data::<i32>(&y), [-1, -1, 2, 3, -1, -1, 8, 9, 0, 1, 4, 5, 6, 7, 10, 11]);
    let crop = [("block_shape", ints(&[2])), ("crops", pairs(&[[1, 0]]))];
    let back = run(&BATCH_TO_SPACE_ND, &[y], &attrs(&BATCH_TO_SPACE_ND, &crop)).unwrap();
    assert!(back.as_tensor().unwrap().bitwise_eq(i32s(&[2, 3, 2]).as_tensor().unwrap()));
    let n: Type = TensorType::new(vec![Dim::Sym("n".into()), 4.into(), Dim::Any], DType::F32).into();
    let y = infer(
        &SPACE_TO_BATCH_ND,
        &[n],
        &attrs(&SPACE_TO_BATCH_ND, &[("block_shape", ints(&[2])), ("paddings", pairs(&[[0, 0]]))]),
    );
    assert_eq!(y.unwrap().as_tensor().unwrap().shape, [Dim::Any, 2.into(), Dim::Any]);
}
