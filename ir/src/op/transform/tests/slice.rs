//! Slices and windows.

use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::transform::{SLICE_LIKE, SLIDING_WINDOW, STRIDED_SET, STRIDED_SLICE};
use crate::op::{AttrValue, OpError};
use crate::types::{DType, Dim, TensorType, Type};

fn grid() -> crate::eval::Value {
    tensor(&[3, 4], &(0..12).collect::<Vec<i32>>())
}

/// What slicing a 3x4 grid gives: sizes and elements.
fn slice(given: &[(&str, AttrValue)]) -> Result<(Vec<usize>, Vec<i32>), OpError> {
    let y = run(&STRIDED_SLICE, &[grid()], &attrs(&STRIDED_SLICE, given))?;
    Ok((y.tensor()?.shape().to_vec(), data(&y)))
}

#[test]
fn strided_slice() {
    let by = |b: &[i64], e: &[i64], s: &[i64]| {
        slice(&[("begin", ints(b)), ("end", ints(e)), ("strides", ints(s))])
    };
    assert_eq!(by(&[-1, 3], &[-9, 0], &[-1, -2]), Ok((vec![3, 2], vec![11, 9, 7, 5, 3, 1])));
    assert_eq!(by(&[-2, 1], &[9, -1], &[1]), Ok((vec![2, 2], vec![5, 6, 9, 10])));
    assert_eq!(by(&[2], &[0], &[-1]), Ok((vec![2, 4], vec![8, 9, 10, 11, 4, 5, 6, 7])));
    assert_eq!(by(&[5], &[1], &[]), Ok((vec![0, 4], vec![])));
    assert_eq!(by(&[i64::MAX], &[i64::MIN], &[-2]), Ok((vec![2, 4], vec![8, 9, 10, 11, 0, 1, 2, 3])));
    assert_eq!(by(&[0, 0], &[3, 4], &[i64::MAX, 3]), Ok((vec![1, 2], vec![0, 3])));
    assert_eq!(slice(&[]), Ok((vec![3, 4], (0..12).collect())));
    assert!(by(&[0], &[1], &[0]).is_err() && by(&[0, 0, 0], &[], &[]).is_err());
}

#[test]
fn strided_slice_by_size_and_axes() {
    let size =
        |b: &[i64], e: &[i64]| slice(&[("begin", ints(b)), ("end", ints(e)), ("slice_mode", text("size"))]);
    assert_eq!(size(&[1, 1], &[1, 2]), Ok((vec![1, 2], vec![5, 6])));
    assert_eq!(size(&[2, -1], &[-1, 1]), Ok((vec![1, 1], vec![11])));
    let axes = |a: &[i64]| slice(&[("begin", ints(&[1])), ("end", ints(&[2])), ("axes", ints(a))]);
    assert_eq!(axes(&[-1]), Ok((vec![3, 1], vec![1, 5, 9])));
    assert!(axes(&[2]).is_err() && slice(&[("slice_mode", text("x")), ("begin", ints(&[0]))]).is_err());
}

#[test]
fn strided_slice_of_unknown_dims() {
    let n = || Dim::Sym("n".into());
    let data: Type = TensorType::new(vec![n(), n(), Dim::Any, 4.into()], DType::F32).into();
    let given = [
        ("begin", ints(&[0, -1, 0, 1])),
        ("end", ints(&[i64::MAX, i64::MIN, 2, -1])),
        ("strides", ints(&[1, -1, 1, 1])),
    ];
    let found = infer(&STRIDED_SLICE, &[data], &attrs(&STRIDED_SLICE, &given)).expect("fits");
    assert_eq!(found.as_tensor().map(|t| t.shape.clone()), Some(vec![n(), n(), Dim::Any, 2.into()]));
}

#[test]
fn strided_set() {
    let set = |v: &[i32], shape: &[usize], lists: [&[i64]; 3]| {
        let lists = lists.map(|l| tensor(&[l.len()], l));
        data::<i32>(
            &run(
                &STRIDED_SET,
                &[&[grid(), tensor(shape, v)], &lists[..]].concat(),
                &attrs(&STRIDED_SET, &[]),
            )
            .expect("fits"),
        )
    };
    let v = [100, 101, 102, 103];
    assert_eq!(set(&v, &[2, 2], [&[1, 3], &[3, 0], &[1, -2]]), [0, 1, 2, 3, 4, 101, 6, 100, 8, 103, 10, 102]);
    assert_eq!(set(&v, &[1, 4], [&[-1], &[9], &[1]]), [0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103]);
    assert_eq!(set(&v, &[1, 4], [&[], &[], &[-1]]), [0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103]);
    let untouched: Vec<i32> = (0..12).collect();
    assert_eq!(set(&v, &[2, 2], [&[0], &[3], &[0]]), untouched);
    assert_eq!(set(&v, &[2, 2], [&[i64::MAX], &[i64::MIN], &[1]]), untouched);
    assert_eq!(set(&[], &[0, 4], [&[0], &[3], &[1]]), untouched);
}

#[test]
fn slice_like() {
    let like = tensor(&[2, 3], &[0u8; 6]);
    let y = run(&SLICE_LIKE, &[grid(), like.clone()], &attrs(&SLICE_LIKE, &[])).expect("fits");
    assert_eq!(data::<i32>(&y), [0, 1, 2, 4, 5, 6]);
    let y = run(&SLICE_LIKE, &[grid(), like], &attrs(&SLICE_LIKE, &[("axes", ints(&[-1]))])).expect("fits");
    assert_eq!(data::<i32>(&y), [0, 1, 2, 4, 5, 6, 8, 9, 10]);
    assert!(run(&SLICE_LIKE, &[grid(), tensor(&[4, 4], &[0u8; 16])], &attrs(&SLICE_LIKE, &[])).is_err());
}

#[test]
fn sliding_window() {
    let given = |shape: &[i64], strides: &[i64]| {
        attrs(
            &SLIDING_WINDOW,
            &[
                ("axis", AttrValue::Int(2 - shape.len() as i64)),
                ("window_shape", ints(shape)),
                ("strides", ints(strides)),
            ],
        )
    };
    let y = run(&SLIDING_WINDOW, &[grid()], &given(&[2, 3], &[1, 1])).expect("fits");
    assert_eq!(y.ty(), Type::tensor(&[2, 2, 2, 3], DType::I32));
    assert_eq!(data::<i32>(&y)[..12], [0, 1, 2, 4, 5, 6, 1, 2, 3, 5, 6, 7]);
    let y = run(&SLIDING_WINDOW, &[grid()], &given(&[2], &[2])).expect("fits");
    assert_eq!(data::<i32>(&y), (0..12).collect::<Vec<_>>());
    assert!(run(&SLIDING_WINDOW, &[grid()], &given(&[5], &[1])).is_err());
    assert!(run(&SLIDING_WINDOW, &[grid()], &given(&[2], &[0])).is_err());
}
