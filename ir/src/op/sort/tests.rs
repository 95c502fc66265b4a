//! Tests of sorting, searching and running sums; numbers from numpy.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "calls of one argument read like those of several")]

use half::f16;

use super::*;
use crate::dispatch;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, run, tensor, text};
use crate::op::{AttrValue, Attrs};
use crate::scalar::Convert;
use crate::tensor::{Bool8, Element};
use crate::types::{DType, Dim, TensorType, Type};

fn call(op: &OpDef, x: &Value, given: &[(&str, AttrValue)]) -> Value {
    run(op, &[x.clone()], &attrs(op, given)).expect("fits")
}

fn int(name: &str, value: i64) -> (&str, AttrValue) {
    (name, AttrValue::Int(value))
}

fn flag(name: &str, value: bool) -> (&str, AttrValue) {
    (name, AttrValue::Bool(value))
}

fn dtype(value: DType) -> (&'static str, AttrValue) {
    ("dtype", AttrValue::DType(value))
}

fn field<T: Element>(value: &Value, index: usize) -> Vec<T> {
    data(&value.as_tuple().expect("a tuple")[index])
}

#[test]
fn every_row_runs_on_every_dtype() {
    for dt in DType::ALL {
        dispatch!(dt, T => {
            let numbers = [2.0, -1.0, f64::NAN, 0.5, f64::INFINITY, 2.0].map(<T as Convert>::of_f64);
            for x in [tensor(&[6], &numbers), tensor(&[2, 3], &numbers), tensor::<T>(&[0], &[]), tensor::<T>(&[2, 0, 3], &[])] {
                for op in [&SORT, &ARGSORT] {
                    for ascending in [false, true] {
                        call(op, &x, &[int("axis", 0), flag("is_ascend", ascending)]);
                        call(op, &x, &[flag("is_ascend", ascending)]);
                    }
                }
                call(&TOPK, &x, &[int("k", 0)]);
                call(&CUMSUM, &x, &[int("axis", -1), dtype(DType::F32)]);
                call(&CUMPROD, &x, &[dtype(DType::I64), flag("exclusive", true)]);
                call(&ARGWHERE, &x, &[]);
                run(&SEARCHSORTED, &[call(&SORT, &x, &[]), x.clone()], &attrs(&SEARCHSORTED, &[])).expect("fits");
            }
            let distinct = call(&UNIQUE, &tensor(&[6], &numbers), &[flag("return_counts", true)]);
            assert_eq!(field::<i32>(&distinct, 4).iter().sum::<i32>(), 6);
        });
    }
}

#[test]
fn sorting_is_stable_both_ways() {
    let x = tensor(&[2, 4], &[3i32, 1, 2, 1, 0, -5, 9, 9]);
    assert_eq!(data::<i32>(&call(&SORT, &x, &[])), [1, 1, 2, 3, -5, 0, 9, 9]);
    assert_eq!(data::<i32>(&call(&SORT, &x, &[flag("is_ascend", false)])), [3, 2, 1, 1, 9, 9, 0, -5]);
    assert_eq!(data::<i32>(&call(&SORT, &x, &[int("axis", 0)])), [0, -5, 2, 1, 3, 1, 9, 9]);
    assert_eq!(data::<i32>(&call(&ARGSORT, &x, &[])), [1, 3, 2, 0, 1, 0, 2, 3]);
    assert_eq!(data::<i32>(&call(&ARGSORT, &x, &[flag("is_ascend", false)])), [0, 2, 1, 3, 2, 3, 0, 1]);
    assert_eq!(
        data::<i64>(&call(&ARGSORT, &x, &[int("axis", 0), dtype(DType::I64)])),
        [1, 1, 0, 0, 0, 0, 1, 1]
    );
    assert!(run(&SORT, &[x.clone()], &attrs(&SORT, &[int("axis", 2)])).is_err());
    assert!(run(&SORT, &[tensor(&[], &[1i8])], &attrs(&SORT, &[])).is_err(), "a scalar has no axis");
    assert!(run(&ARGSORT, &[x], &attrs(&ARGSORT, &[dtype(DType::Bool)])).is_err());
}

#[test]
fn nan_is_larger_than_every_number() {
    let x = tensor(&[5], &[f32::NAN, 1.0, f32::INFINITY, f32::NAN, -0.0]);
    assert_eq!(data::<i32>(&call(&ARGSORT, &x, &[])), [4, 1, 2, 0, 3]);
    assert_eq!(data::<i32>(&call(&ARGSORT, &x, &[flag("is_ascend", false)])), [0, 3, 2, 1, 4]);
    let zeros = tensor(&[3], &[0f64, -0.0, 0.0]);
    assert_eq!(data::<i32>(&call(&ARGSORT, &zeros, &[])), [0, 1, 2], "both zeros are equal");
}

#[test]
fn long_lines_sort_in_every_length() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as i16
    };
    for n in [1, 2, 3, 7, 8, 9, 31, 33, 100] {
        let x: Vec<i16> = (0..n).map(|_| random()).collect();
        let mut expected = x.clone();
        expected.sort();
        assert_eq!(data::<i16>(&call(&SORT, &tensor(&[n], &x), &[])), expected);
        expected.reverse();
        assert_eq!(
            data::<i16>(&call(&SORT, &tensor(&[n, 1], &x), &[int("axis", 0), flag("is_ascend", false)])),
            expected
        );
    }
}

#[test]
fn topk() {
    let x = tensor(&[2, 4], &[3f32, 1.0, 2.0, 3.0, 0.0, -5.0, 9.0, 8.0]);
    let both = call(&TOPK, &x, &[int("k", 2)]);
    assert_eq!(field::<f32>(&both, 0), [3.0, 3.0, 9.0, 8.0]);
    assert_eq!(field::<i32>(&both, 1), [0, 3, 2, 3]);
    let smallest = [int("k", 1), int("axis", 0), flag("is_ascend", true), ("ret_type", text("values"))];
    assert_eq!(data::<f32>(&call(&TOPK, &x, &smallest)), [0.0, -5.0, 2.0, 3.0]);
    let places = [int("k", 3), ("ret_type", text("indices")), dtype(DType::I64)];
    assert_eq!(data::<i64>(&call(&TOPK, &x, &places)), [0, 3, 2, 2, 3, 0]);
    let all = call(&TOPK, &x, &[int("k", -1)]);
    assert_eq!(field::<i32>(&all, 1), [0, 3, 2, 1, 2, 3, 0, 1]);
    assert!(run(&TOPK, &[x.clone()], &attrs(&TOPK, &[int("k", 5)])).is_err());
    assert!(run(&TOPK, &[x], &attrs(&TOPK, &[("ret_type", text("some"))])).is_err());
    let symbolic: Type = TensorType::new(vec![Dim::Sym("n".into()), Dim::Any], DType::F32).into();
    let indices = attrs(&TOPK, &[int("k", 7), ("ret_type", text("indices"))]);
    let expected = TensorType::new(vec![Dim::Sym("n".into()), Dim::Static(7)], DType::I32);
    assert_eq!(infer(&TOPK, &[symbolic], &indices), Ok(expected.into()));
}

#[test]
fn running_sums_and_products() {
    let x = tensor(&[2, 4], &[3i32, 1, 2, 1, 0, -5, 9, 9]);
    assert_eq!(data::<i32>(&call(&CUMSUM, &x, &[int("axis", 1)])), [3, 4, 6, 7, 0, -5, 4, 13]);
    assert_eq!(data::<i32>(&call(&CUMPROD, &x, &[int("axis", 0)])), [3, 1, 2, 1, 0, -5, 18, 9]);
    let flat = call(&CUMSUM, &x, &[]);
    assert_eq!(
        (data::<i32>(&flat), flat.ty()),
        (vec![3, 4, 6, 7, 7, 2, 11, 20], Type::tensor(&[8], DType::I32))
    );
    assert_eq!(data::<i32>(&call(&CUMSUM, &x, &[flag("exclusive", true)])), [0, 3, 4, 6, 7, 7, 2, 11]);
    assert_eq!(
        data::<i32>(&call(&CUMPROD, &x, &[int("axis", -1), flag("exclusive", true)])),
        [1, 3, 3, 6, 1, 0, 0, 0]
    );
    assert_eq!(data::<i8>(&call(&CUMSUM, &tensor(&[2], &[100i8, 100]), &[])), [100, -56]);
    assert_eq!(data::<i64>(&call(&CUMSUM, &tensor(&[2], &[100i8, 100]), &[dtype(DType::I64)])), [100, 200]);
    let ones = call(&CUMSUM, &tensor(&[5000], &[f16::ONE; 5000]), &[]);
    assert_eq!(data::<f16>(&ones)[4999], f16::from_f32(5000.0), "f16 accumulates in f32");
    let truths = tensor(&[2], &[Bool8(1), Bool8(1)]);
    assert_eq!(data::<i32>(&call(&CUMSUM, &truths, &[dtype(DType::I32)])), [1, 2]);
    let error = run(&CUMSUM, &[truths], &attrs(&CUMSUM, &[])).expect_err("a bool cannot count");
    assert_eq!(error.help.as_deref(), Some("give a dtype for the result"));
    let scalar = call(&CUMSUM, &tensor(&[], &[4u8]), &[]);
    assert_eq!((data::<u8>(&scalar), scalar.ty()), (vec![4], Type::tensor(&[1], DType::U8)));
}

#[test]
fn searching() {
    let sequence = tensor(&[5], &[1i32, 3, 3, 5, 9]);
    let values = tensor(&[5], &[0i32, 3, 4, 9, 10]);
    let find = |given: &[(&str, AttrValue)]| {
        run(&SEARCHSORTED, &[sequence.clone(), values.clone()], &attrs(&SEARCHSORTED, given)).expect("fits")
    };
    assert_eq!(data::<i32>(&find(&[])), [0, 1, 3, 4, 5]);
    assert_eq!(data::<i64>(&find(&[flag("right", true), dtype(DType::I64)])), [0, 3, 3, 5, 5]);
    let rows = tensor(&[2, 2], &[0f32, 10.0, f32::NAN, f32::NAN]);
    let values = tensor(&[2, 3], &[-1f32, 5.0, 10.0, f32::INFINITY, f32::NAN, 0.0]);
    let found = run(&SEARCHSORTED, &[rows.clone(), values], &attrs(&SEARCHSORTED, &[flag("right", true)]))
        .expect("fits");
    assert_eq!(data::<i32>(&found), [0, 1, 2, 0, 2, 0]);
    let grid = tensor(&[2, 2], &[0i32, 9, 3, 4]);
    let found = run(&SEARCHSORTED, &[sequence.clone(), grid], &attrs(&SEARCHSORTED, &[])).expect("fits");
    assert_eq!((data::<i32>(&found), found.ty()), (vec![0, 4, 1, 3], Type::tensor(&[2, 2], DType::I32)));
    let nothing =
        run(&SEARCHSORTED, &[tensor::<i8>(&[0], &[]), tensor(&[1], &[1i8])], &attrs(&SEARCHSORTED, &[]));
    assert_eq!(data::<i32>(&nothing.expect("fits")), [0]);
    for wrong in [tensor(&[3, 1], &[0f32; 3]), tensor(&[2], &[0f32; 2])] {
        assert!(run(&SEARCHSORTED, &[rows.clone(), wrong], &attrs(&SEARCHSORTED, &[])).is_err());
    }
    assert!(run(&SEARCHSORTED, &[sequence, rows], &attrs(&SEARCHSORTED, &[])).is_err(), "dtypes differ");
}

#[test]
fn distinct_elements() {
    let x = tensor(&[6], &[3i64, 1, 2, 1, 3, 7]);
    let sorted = call(&UNIQUE, &x, &[flag("return_counts", true)]);
    assert_eq!(field::<i64>(&sorted, 0), [1, 2, 3, 7]);
    assert_eq!(field::<i32>(&sorted, 1), [1, 2, 0, 5]);
    assert_eq!(field::<i32>(&sorted, 2), [2, 0, 1, 0, 2, 3]);
    assert_eq!(field::<i32>(&sorted, 3), [4]);
    assert_eq!(field::<i32>(&sorted, 4), [2, 1, 2, 1]);
    let by_place = call(&UNIQUE, &x, &[flag("sorted", false)]);
    assert_eq!(by_place.as_tuple().expect("a tuple").len(), 4);
    assert_eq!(field::<i64>(&by_place, 0), [3, 1, 2, 7]);
    assert_eq!(field::<i32>(&by_place, 1), [0, 1, 2, 5]);
    assert_eq!(field::<i32>(&by_place, 2), [0, 1, 2, 1, 0, 3]);
    let nan = call(&UNIQUE, &tensor(&[3], &[f32::NAN, 1.0, f32::NAN]), &[]);
    assert_eq!(field::<i32>(&nan, 1), [1, 0], "one NaN is like another");
    assert!(run(&UNIQUE, &[tensor(&[1, 1], &[1i8])], &attrs(&UNIQUE, &[])).is_err());
    let ty = infer(&UNIQUE, &[x.ty()], &attrs(&UNIQUE, &[])).expect("fits");
    let some: Type = TensorType::new(vec![Dim::Any], DType::I32).into();
    assert_eq!(ty.as_tuple().expect("a tuple")[1..3], [some, Type::tensor(&[6], DType::I32)]);
}

#[test]
fn places_that_are_not_zero() {
    let x = tensor(&[3, 2], &[0i8, 1, 2, 0, 0, -1]);
    let found = call(&ARGWHERE, &x, &[]);
    assert_eq!(
        (data::<i32>(&found), found.ty()),
        (vec![0, 1, 1, 0, 2, 1], Type::tensor(&[3, 2], DType::I32))
    );
    let ty: Type = TensorType::new(vec![Dim::Any, Dim::Static(2)], DType::I32).into();
    assert_eq!(infer(&ARGWHERE, &[x.ty()], &Attrs::NONE), Ok(ty));
    assert_eq!(call(&ARGWHERE, &tensor(&[], &[f32::NAN]), &[]).ty(), Type::tensor(&[1, 0], DType::I32));
    assert_eq!(call(&ARGWHERE, &tensor(&[2], &[-0.0f64, 0.0]), &[]).ty(), Type::tensor(&[0, 1], DType::I32));
}
