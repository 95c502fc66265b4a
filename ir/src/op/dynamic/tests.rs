//! Shapes that come as values.

use super::*;
use crate::op::AttrValue;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::types::TensorType;

fn vector(list: &[i64]) -> Value {
    tensor(&[list.len()], list)
}

fn scalar(n: i32) -> Value {
    tensor(&[], &[n])
}

fn grid() -> Value {
    tensor(&[2, 3], &[0i32, 1, 2, 3, 4, 5])
}

/// Sizes and elements of the result; the inferred type must allow it.
fn call(op: &OpDef, args: &[Value], given: &[(&str, AttrValue)]) -> Result<(Vec<usize>, Vec<i32>), OpError> {
    let attrs = attrs(op, given);
    let types: Vec<Type> = args.iter().map(Value::ty).collect();
    let ty = infer(op, &types, &attrs)?;
    let y = run(op, args, &attrs)?;
    let (found, inferred) = (y.tensor()?, ty.as_tensor().expect("a tensor").clone());
    assert_eq!((found.rank(), found.dtype()), (inferred.rank(), inferred.dtype), "{}", op.name);
    for (n, dim) in found.shape().iter().zip(&inferred.shape) {
        assert!(dim.as_static().is_none_or(|d| d == *n), "{}: {n} is not {dim}", op.name);
    }
    Ok((found.shape().to_vec(), data(&y)))
}

#[test]
fn reshaping() {
    let flat: Vec<i32> = (0..6).collect();
    assert_eq!(call(&DYN_RESHAPE, &[grid(), vector(&[3, -1])], &[]), Ok((vec![3, 2], flat.clone())));
    assert_eq!(call(&DYN_RESHAPE, &[grid(), vector(&[0, 3, 1])], &[]), Ok((vec![2, 3, 1], flat.clone())));
    assert!(call(&DYN_RESHAPE, &[grid(), vector(&[4])], &[]).is_err());
    assert!(call(&DYN_RESHAPE, &[grid(), vector(&[-3])], &[]).is_err());
    assert!(call(&DYN_RESHAPE, &[grid(), scalar(6)], &[]).is_err());
    assert_eq!(call(&DYN_EXPAND_DIMS, &[grid(), scalar(-1)], &[]), Ok((vec![2, 3, 1], flat.clone())));
    let tall = tensor(&[1, 2, 3, 1], &flat);
    assert_eq!(call(&DYN_SQUEEZE, &[tall.clone(), vector(&[-1, 0])], &[]), Ok((vec![2, 3], flat)));
    assert!(call(&DYN_SQUEEZE, &[tall, vector(&[1])], &[]).is_err());
}

#[test]
fn filling_and_repeating() {
    let int32 = ("dtype", AttrValue::DType(DType::I32));
    assert_eq!(
        call(&DYN_FULL, &[scalar(7), vector(&[2, 1])], std::slice::from_ref(&int32)),
        Ok((vec![2, 1], vec![7, 7]))
    );
    assert_eq!(call(&DYN_ZEROS, &[vector(&[0, 2])], std::slice::from_ref(&int32)), Ok((vec![0, 2], vec![])));
    assert_eq!(call(&DYN_ONES, &[vector(&[])], std::slice::from_ref(&int32)), Ok((vec![], vec![1])));
    assert!(call(&DYN_ONES, &[vector(&[-1])], &[int32]).is_err());
    assert_eq!(
        call(&DYN_TILE, &[vector_i32(&[1, 2]), vector(&[2, 2])], &[]),
        Ok((vec![2, 4], [1, 2].repeat(4)))
    );
    assert_eq!(
        call(&DYN_BROADCAST_TO, &[vector_i32(&[1, 2]), vector(&[2, 2])], &[]),
        Ok((vec![2, 2], [1, 2].repeat(2)))
    );
    assert!(call(&DYN_BROADCAST_TO, &[vector_i32(&[1, 2]), vector(&[3])], &[]).is_err());
}

fn vector_i32(list: &[i32]) -> Value {
    tensor(&[list.len()], list)
}

#[test]
fn ranges_and_codes() {
    let int32 = ("dtype", AttrValue::DType(DType::I32));
    let three = [scalar(5), scalar(0), scalar(-2)];
    assert_eq!(call(&DYN_ARANGE, &three, std::slice::from_ref(&int32)), Ok((vec![3], vec![5, 3, 1])));
    let code = [vector(&[1, 0]), scalar(9), scalar(-1), scalar(2)];
    assert_eq!(call(&DYN_ONE_HOT, &code, &[int32]), Ok((vec![2, 2], vec![-1, 9, 9, -1])));
}

#[test]
fn slicing() {
    let slice = |b: &[i64], e: &[i64], s: &[i64], given: &[(&str, AttrValue)]| {
        call(&DYN_STRIDED_SLICE, &[grid(), vector(b), vector(e), vector(s)], given)
    };
    assert_eq!(slice(&[-1, 2], &[-9, 0], &[-1, -1], &[]), Ok((vec![2, 2], vec![5, 4, 2, 1])));
    assert_eq!(slice(&[1], &[2], &[1], &[]), Ok((vec![1, 3], vec![3, 4, 5])));
    assert_eq!(slice(&[1], &[2], &[1], &[("axes", ints(&[1]))]), Ok((vec![2, 1], vec![1, 4])));
    assert_eq!(slice(&[0, 1], &[-1, 1], &[], &[("slice_mode", text("size"))]), Ok((vec![2, 1], vec![1, 4])));
    let types = [grid().ty(), vector(&[0]).ty(), vector(&[0]).ty()];
    let found = infer(&DYN_STRIDED_SLICE, &types, &attrs(&DYN_STRIDED_SLICE, &[]));
    assert_eq!(found, Ok(TensorType::new(vec![Dim::Any, 3.into()], DType::I32).into()));
}

#[test]
fn padding() {
    let widths = tensor(&[2, 2], &[0i64, 1, 1, -1]);
    let padded = vec![9, 0, 1, 9, 3, 4, 9, 9, 9];
    assert_eq!(call(&DYN_PAD, &[grid(), widths.clone(), scalar(9)], &[]), Ok((vec![3, 3], padded)));
    let edges = vec![0, 0, 1, 3, 3, 4, 3, 3, 4];
    assert_eq!(
        call(&DYN_PAD, &[grid(), widths, scalar(9)], &[("pad_mode", text("edge"))]),
        Ok((vec![3, 3], edges))
    );
    assert!(call(&DYN_PAD, &[grid(), vector(&[1, 1]), scalar(9)], &[]).is_err());
}

#[test]
fn ranks_must_be_known() {
    let unknown: Type = TensorType::new(vec![Dim::Any], DType::I64).into();
    assert!(infer(&DYN_RESHAPE, &[grid().ty(), unknown], &attrs(&DYN_RESHAPE, &[])).is_err());
}
