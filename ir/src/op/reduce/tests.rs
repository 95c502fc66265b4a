//! Tests of the reductions; numbers from numpy.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "calls of one argument read like those of several")]
#![allow(clippy::approx_constant, reason = "the numbers are what numpy printed")]

use half::{bf16, f16};

use super::*;
use crate::op::AttrValue;
use crate::op::testing::{attrs, data, infer, ints, run, tensor};
use crate::scalar::Convert;
use crate::tensor::Bool8;
use crate::types::Dim;

fn with(op: &OpDef, axis: Option<&[i64]>, keepdims: bool) -> Attrs {
    attrs(op, &[("axis", axis.map_or(AttrValue::None, ints)), ("keepdims", AttrValue::Bool(keepdims))])
}

fn iota<T: Arith>(n: i64) -> Vec<T> {
    (0..n).map(T::of_i64).collect()
}

/// All rows whose first attributes are those of a reduction.
fn all_rows() -> impl Iterator<Item = &'static OpDef> {
    OPS.iter().chain(arg::OPS).chain(moments::OPS).copied()
}

#[test]
fn every_row_runs_on_every_dtype_and_choice_of_axes() {
    let choices: [Option<&[i64]>; 7] =
        [None, Some(&[]), Some(&[0]), Some(&[-1]), Some(&[1]), Some(&[2, 0]), Some(&[0, 1, 2])];
    for op in all_rows() {
        for &dtype in op.dtypes {
            dispatch!(dtype, T => {
                let x = tensor(&[2, 3, 4], &[-2.0, 7.0, 0.0, 1.0, 3.0, 3.0].repeat(4).into_iter()
                    .map(<T as Convert>::of_f64).collect::<Vec<_>>());
                for axis in choices {
                    for keepdims in [false, true] {
                        let x = std::slice::from_ref(&x);
                        run(op, x, &with(op, axis, keepdims)).expect("fits");
                    }
                }
                run(op, &[tensor(&[], &[T::ONE])], &with(op, None, true)).expect("fits");
            });
        }
    }
}

#[test]
fn shapes() {
    let shape = |shape: &[usize], axis: Option<&[i64]>, keepdims| {
        let ty = infer(&SUM, &[Type::tensor(shape, DType::F32)], &with(&SUM, axis, keepdims)).expect("fits");
        ty.as_tensor().and_then(TensorType::static_shape).expect("static")
    };
    assert_eq!(shape(&[2, 3, 4], Some(&[1]), true), [2, 1, 4]);
    assert_eq!(shape(&[2, 3, 4], Some(&[-1]), true), [2, 3, 1]);
    assert_eq!(shape(&[2, 3, 4], Some(&[0, 1, 2]), false), [0; 0]);
    assert_eq!(shape(&[2, 3, 4], None, true), [1, 1, 1]);
    assert_eq!(shape(&[4, 4, 3], Some(&[0, 2]), false), [4]);
    assert_eq!(shape(&[128, 24, 128], Some(&[0, 1]), true), [1, 1, 128]);
    let names = ["d1", "d2", "d3", "d4"].map(|d| Dim::Sym(d.into()));
    let x: Type = TensorType::new(names.to_vec(), DType::F32).into();
    let kept = [names[0].clone(), names[1].clone(), Dim::Static(1), names[3].clone()];
    let expected = TensorType::new(kept.to_vec(), DType::I32);
    assert_eq!(infer(&ARGMAX, &[x.clone()], &with(&ARGMAX, Some(&[2]), true)), Ok(expected.into()));
    let exclude = attrs(&SUM, &[("axis", ints(&[1])), ("exclude", AttrValue::Bool(true))]);
    assert_eq!(
        infer(&SUM, &[x.clone()], &exclude),
        Ok(TensorType::new(vec![names[1].clone()], DType::F32).into())
    );
    for wrong in [&[4][..], &[-5], &[1, 1], &[0, -4]] {
        assert!(infer(&SUM, &[x.clone()], &with(&SUM, Some(wrong), false)).is_err(), "{wrong:?}");
    }
}

#[test]
fn values() {
    let x = tensor(&[2, 3], &[1i32, -2, 3, 4, 5, -6]);
    for (op, rows, columns, all) in [
        (&SUM, [2, 3], [5, 3, -3], 5),
        (&PROD, [-6, -120], [4, -10, -18], 720),
        (&MAX, [3, 5], [4, 5, 3], 5),
        (&MIN, [-2, -6], [1, -2, -6], -6),
        (&MEAN, [0, 1], [2, 1, -1], 0),
        (&ARGMAX, [2, 1], [1, 1, 0], 4),
        (&ARGMIN, [1, 2], [0, 0, 1], 5),
    ] {
        let result =
            |axis| data::<i32>(&run(op, std::slice::from_ref(&x), &with(op, axis, false)).expect("fits"));
        assert_eq!(result(Some(&[1])), rows, "{}", op.name);
        assert_eq!(result(Some(&[0])), columns, "{}", op.name);
        assert_eq!(result(None), [all], "{}", op.name);
    }
    let x = tensor(&[2, 2], &[Bool8(1), Bool8(0), Bool8(1), Bool8(1)]);
    let truth =
        |op, axis| data::<Bool8>(&run(op, std::slice::from_ref(&x), &with(op, axis, false)).expect("fits"));
    assert_eq!(truth(&ALL_, Some(&[0])), [Bool8(1), Bool8(0)]);
    assert_eq!(truth(&ALL_, None), [Bool8(0)]);
    assert_eq!(truth(&ANY, Some(&[1])), [Bool8(1), Bool8(1)]);
}

#[test]
fn axes_in_the_middle() {
    let x = tensor(&[2, 3, 4], &iota::<f64>(24));
    let sum = |axis: &[i64]| {
        data::<f64>(&run(&SUM, std::slice::from_ref(&x), &with(&SUM, Some(axis), false)).expect("fits"))
    };
    assert_eq!(sum(&[1]), [12.0, 15.0, 18.0, 21.0, 48.0, 51.0, 54.0, 57.0]);
    assert_eq!(sum(&[0, 2]), [60.0, 92.0, 124.0]);
    assert_eq!(sum(&[2, 0]), [60.0, 92.0, 124.0]);
}

#[test]
fn nothing_and_everything() {
    let nothing = tensor::<f32>(&[0, 2], &[]);
    let of = |op| {
        data::<f32>(&run(op, std::slice::from_ref(&nothing), &with(op, Some(&[0]), false)).expect("fits"))
    };
    assert_eq!(of(&SUM), [0.0, 0.0]);
    assert_eq!(of(&PROD), [1.0, 1.0]);
    assert_eq!(of(&MAX), [f32::NEG_INFINITY; 2]);
    assert_eq!(of(&MIN), [f32::INFINITY; 2]);
    assert_eq!(of(&LOGSUMEXP), [f32::NEG_INFINITY; 2]);
    assert!(of(&MEAN).iter().all(|x| x.is_nan()));
    assert!(run(&ARGMAX, &[nothing], &with(&ARGMAX, Some(&[0]), false)).is_err());
    let none = run(&MAX, &[tensor::<i8>(&[0], &[])], &with(&MAX, None, false)).expect("fits");
    assert_eq!(data::<i8>(&none), [i8::MIN]);
    let none = run(&ALL_, &[tensor::<Bool8>(&[0], &[])], &with(&ALL_, None, false)).expect("fits");
    assert_eq!(data::<Bool8>(&none), [Bool8(1)]);
    let empty = run(&SUM, &[tensor::<u8>(&[3, 0], &[])], &with(&SUM, Some(&[0]), true)).expect("fits");
    assert_eq!(empty.ty(), Type::tensor(&[1, 0], DType::U8));
}

#[test]
fn nan_propagates_and_is_found_first() {
    let x = tensor(&[6], &[1f32, f32::INFINITY, f32::NAN, 5.0, f32::NAN, f32::NEG_INFINITY]);
    for op in [&MAX, &MIN, &SUM, &MEAN, &VARIANCE, &LOGSUMEXP] {
        let result = run(op, std::slice::from_ref(&x), &with(op, None, false)).expect("fits");
        assert!(data::<f32>(&result)[0].is_nan(), "{}", op.name);
    }
    for op in [&ARGMAX, &ARGMIN] {
        let last = attrs(op, &[("select_last_index", AttrValue::Bool(true))]);
        assert_eq!(
            data::<i32>(&run(op, std::slice::from_ref(&x), &with(op, None, false)).expect("fits")),
            [2]
        );
        assert_eq!(data::<i32>(&run(op, std::slice::from_ref(&x), &last).expect("fits")), [4]);
    }
}

#[test]
fn ties_go_to_the_first_or_the_last() {
    let x = tensor(&[2, 4], &[3u8, 7, 7, 3, 0, 0, 0, 0]);
    let places = |op: &OpDef, last| {
        let attrs = attrs(op, &[("axis", ints(&[1])), ("select_last_index", AttrValue::Bool(last))]);
        data::<i32>(&run(op, std::slice::from_ref(&x), &attrs).expect("fits"))
    };
    assert_eq!(places(&ARGMAX, false), [1, 0]);
    assert_eq!(places(&ARGMAX, true), [2, 3]);
    assert_eq!(places(&ARGMIN, false), [0, 0]);
    assert_eq!(places(&ARGMIN, true), [3, 3]);
    let lowest = tensor(&[3], &[f64::NEG_INFINITY; 3]);
    assert_eq!(data::<i32>(&run(&ARGMAX, &[lowest], &with(&ARGMAX, None, false)).expect("fits")), [0]);
}

#[test]
fn small_floats_accumulate_in_f32_and_integers_wrap() {
    let ones = tensor(&[5000], &[f16::ONE; 5000]);
    assert_eq!(
        data::<f16>(&run(&SUM, &[ones], &with(&SUM, None, false)).expect("fits")),
        [f16::from_f32(5000.0)]
    );
    let x = tensor(&[3], &[bf16::from_f32(3e38), bf16::from_f32(-3e38), bf16::ONE]);
    assert_eq!(data::<bf16>(&run(&SUM, &[x], &with(&SUM, None, false)).expect("fits")), [bf16::ONE]);
    let x = tensor(&[4], &[100i8; 4]);
    assert_eq!(data::<i8>(&run(&SUM, &[x.clone()], &with(&SUM, None, false)).expect("fits")), [-112]);
    assert_eq!(data::<i8>(&run(&MEAN, &[x], &with(&MEAN, None, false)).expect("fits")), [100]);
    let long = vec![0.1f32; 1 << 20];
    assert!((sum(&long) - 104857.6).abs() < 0.1, "rounding errors stay small: {}", sum(&long));
}

#[test]
fn moments_and_logsumexp() {
    let x = tensor(&[2, 3], &[1f64, 2.0, 4.0, -1.0, 0.0, 1000.0]);
    let of = |op, given: &[(&str, AttrValue)]| {
        data::<f64>(&run(op, std::slice::from_ref(&x), &attrs(op, given)).expect("fits"))
    };
    let axis = ("axis", ints(&[-1]));
    let close = |found: Vec<f64>, expected: [f64; 2]| {
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs()),
            "{found:?} {expected:?}"
        );
    };
    close(of(&MEAN, &[axis.clone()]), [2.3333333333333335, 333.0]);
    close(of(&VARIANCE, &[axis.clone()]), [1.5555555555555556, 222444.66666666666]);
    let unbiased = ("unbiased", AttrValue::Bool(true));
    close(of(&VARIANCE, &[axis.clone(), unbiased.clone()]), [2.333333333333333, 333667.0]);
    close(of(&STD, &[axis.clone()]), [1.247219128924647, 471.6403997397452]);
    close(of(&STD, &[axis.clone(), unbiased.clone()]), [1.5275252316519465, 577.6391607223319]);
    close(of(&LOGSUMEXP, &[axis]), [4.169846019556285, 1000.0]);
    let mean = tensor(&[2, 1], &[0f64, 0.0]);
    let attrs_of = attrs(&VARIANCE, &[("axis", ints(&[1]))]);
    close(data(&run(&VARIANCE, &[x.clone(), mean], &attrs_of).expect("fits")), [7.0, 333333.6666666667]);
    let wrong = tensor(&[3, 1], &[0f64; 3]);
    assert!(run(&VARIANCE, &[x, wrong], &attrs_of).is_err());
    let one = run(&VARIANCE, &[tensor(&[1], &[3f32])], &attrs(&VARIANCE, &[unbiased])).expect("fits");
    assert!(data::<f32>(&one)[0].is_nan(), "0 divided by 0");
    let inf = tensor(&[2], &[f32::INFINITY, 0.0]);
    let sum = run(&LOGSUMEXP, &[inf], &with(&LOGSUMEXP, None, false)).expect("fits");
    assert_eq!(data::<f32>(&sum), [f32::INFINITY]);
}

#[test]
fn collapsing_sums() {
    let x = tensor(&[2, 2, 3], &iota::<i32>(12));
    let to = |shape: &[i64]| {
        run(&COLLAPSE_SUM_TO, std::slice::from_ref(&x), &attrs(&COLLAPSE_SUM_TO, &[("shape", ints(shape))]))
    };
    assert_eq!(data::<i32>(&to(&[3]).expect("fits")), [18, 22, 26]);
    assert_eq!(data::<i32>(&to(&[2, 1]).expect("fits")), [24, 42]);
    assert_eq!(data::<i32>(&to(&[1, 2, 1]).expect("fits")), [24, 42]);
    assert_eq!(data::<i32>(&to(&[]).expect("fits")), [66]);
    assert_eq!(data::<i32>(&to(&[2, 2, 3]).expect("fits")), iota::<i32>(12));
    assert!(to(&[2]).is_err() && to(&[1, 2, 2, 3]).is_err() && to(&[4, 3]).is_err());
    let like =
        run(&COLLAPSE_SUM_LIKE, &[x.clone(), tensor(&[1, 3], &[0f32; 3])], &Attrs::NONE).expect("fits");
    assert_eq!(like.ty(), Type::tensor(&[1, 3], DType::I32));
    let nothing = tensor::<f32>(&[0, 2], &[]);
    let zeros = run(&COLLAPSE_SUM_LIKE, &[nothing, tensor(&[1, 2], &[0f32; 2])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<f32>(&zeros), [0.0, 0.0]);
    for &dtype in COLLAPSE_SUM_TO.dtypes {
        dispatch!(dtype, T => {
            let x = tensor(&[2, 3], &iota::<T>(6));
            let sum = run(&COLLAPSE_SUM_TO, &[x], &attrs(&COLLAPSE_SUM_TO, &[("shape", ints(&[3]))])).expect("fits");
            assert_eq!(data::<T>(&sum), [3, 5, 7].map(T::of_i64));
        });
    }
}
