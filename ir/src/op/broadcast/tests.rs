//! Tests of the broadcasting operators; numbers from numpy.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "calls of one argument read like those of several")]
#![allow(clippy::approx_constant, reason = "the numbers are what numpy printed")]

use half::{bf16, f16};

use super::*;
use crate::op::testing::{attrs, data, infer, ints, run, tensor};
use crate::op::{Attrs, OpAttrs};
use crate::scalar::Convert;
use crate::types::Dim;

fn call<T: Element, U: Element>(op: &OpDef, a: &[T], b: &[T]) -> Vec<U> {
    data(&run(op, &[tensor(&[a.len()], a), tensor(&[b.len()], b)], &Attrs::NONE).expect("fits"))
}

fn bools<const N: usize>(values: [u8; N]) -> [Bool8; N] {
    values.map(Bool8)
}

#[test]
fn every_row_runs_on_every_dtype_of_its_column_and_on_nothing() {
    let numbers = [-3.0, -0.0, 0.5, 1.0, 100.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for op in OPS.iter().chain(select::OPS).filter(|op| op.args.len() == 2) {
        for &dtype in op.dtypes {
            dispatch!(dtype, T => {
                let x = numbers.map(<T as Convert>::of_f64);
                let result = run(op, &[tensor(&[8, 1], &x), tensor(&[8], &x)], &Attrs::NONE).expect("fits");
                assert_eq!(result.as_tensor().expect("a tensor").shape(), [8, 8]);
                run(op, &[tensor::<T>(&[0, 3], &[]), tensor(&[1], &x[..1])], &Attrs::NONE).expect("fits");
                run(op, &[tensor::<T>(&[], &x[..1]), tensor::<T>(&[], &x[3..4])], &Attrs::NONE).expect("fits");
            });
        }
    }
}

#[test]
fn integer_arithmetic() {
    let (a, b) = ([7i32, -7, 7, -7, 5, i32::MIN], [2, 2, -2, -2, 0, -1]);
    for (op, expected) in [
        (&ADD, [9, -5, 5, -9, 5, i32::MAX]),
        (&SUBTRACT, [5, -9, 9, -5, 5, i32::MIN + 1]),
        (&MULTIPLY, [14, -14, -14, 14, 0, i32::MIN]),
        (&DIVIDE, [3, -3, -3, 3, 0, i32::MIN]),
        (&TRUNC_DIVIDE, [3, -3, -3, 3, 0, i32::MIN]),
        (&FLOOR_DIVIDE, [3, -4, -4, 3, 0, i32::MIN]),
        (&MOD, [1, -1, 1, -1, 0, 0]),
        (&TRUNC_MOD, [1, -1, 1, -1, 0, 0]),
        (&FLOOR_MOD, [1, 1, -1, -1, 0, 0]),
        (&MAXIMUM, [7, 2, 7, -2, 5, -1]),
        (&MINIMUM, [2, -7, -2, -7, 0, i32::MIN]),
        (&BITWISE_AND, [2, 0, 6, -8, 0, i32::MIN]),
        (&BITWISE_OR, [7, -5, -1, -1, 5, -1]),
        (&BITWISE_XOR, [5, -5, -7, 7, 5, i32::MAX]),
    ] {
        assert_eq!(call::<i32, i32>(op, &a, &b), expected, "{}", op.name);
    }
    assert_eq!(call::<i64, i64>(&POWER, &[2, -3, 7], &[10, 3, 0]), [1024, -27, 1]);
    assert_eq!(call::<u8, u8>(&LEFT_SHIFT, &[1, 3, 255], &[7, 7, 8]), [128, 128, 0]);
    assert_eq!(call::<i8, i8>(&RIGHT_SHIFT, &[-128, 127, -1], &[7, 1, 100]), [-1, 63, -1]);
}

#[test]
fn float_arithmetic() {
    let (a, b) = ([7.5f64, -7.5, 1.0, 0.0, f64::INFINITY], [2.0, 2.0, 0.0, 0.0, 1.0]);
    let quotient: Vec<f64> = call(&DIVIDE, &a, &b);
    assert_eq!((&quotient[..3], quotient[4]), (&[3.75, -3.75, f64::INFINITY][..], f64::INFINITY));
    assert!(quotient[3].is_nan());
    assert_eq!(call::<f64, f64>(&FLOOR_DIVIDE, &a, &b)[..2], [3.0, -4.0]);
    assert_eq!(call::<f64, f64>(&MOD, &a, &b)[..2], [1.5, -1.5]);
    assert_eq!(call::<f64, f64>(&FLOOR_MOD, &a, &b)[..2], [1.5, 0.5]);
    assert_eq!(call::<f32, f32>(&POWER, &[2.0, 0.0, -8.0], &[0.5, 0.0, 2.0]), [1.4142135, 1.0, 64.0]);
    assert_eq!(
        call::<f64, f64>(&ATAN2, &[1.0, -1.0], &[-1.0, 0.0]),
        [2.356194490192345, -1.5707963267948966]
    );
    assert_eq!(call::<f16, f16>(&ADD, &[f16::MAX], &[f16::MAX]), [f16::INFINITY]);
    assert_eq!(call::<bf16, bf16>(&ADD, &[bf16::from_f32(256.0)], &[bf16::ONE]), [bf16::from_f32(256.0)]);
    let nan = call::<f32, f32>(&MAXIMUM, &[f32::NAN, 1.0], &[1.0, f32::NAN]);
    assert!(nan.iter().all(|x| x.is_nan()));
}

#[test]
fn log_add_exp() {
    let inf = f64::INFINITY;
    let found: Vec<f64> =
        call(&LOG_ADD_EXP, &[0.0, 1.0, 1000.0, -inf, inf, -inf], &[0.0, 2.0, 0.0, 3.0, inf, -inf]);
    assert_eq!(found, [0.6931471805599453, 2.313261687518223, 1000.0, 3.0, inf, -inf]);
}

#[test]
fn comparisons_and_logic() {
    let (a, b) = ([1.0f32, 2.0, f32::NAN, -0.0], [2.0, 1.0, f32::NAN, 0.0]);
    for (op, expected) in [
        (&EQUAL, [0, 0, 0, 1]),
        (&NOT_EQUAL, [1, 1, 1, 0]),
        (&LESS, [1, 0, 0, 0]),
        (&LESS_EQUAL, [1, 0, 0, 1]),
        (&GREATER, [0, 1, 0, 0]),
        (&GREATER_EQUAL, [0, 1, 0, 1]),
    ] {
        assert_eq!(call::<f32, Bool8>(op, &a, &b), bools(expected), "{}", op.name);
    }
    let (a, b) = (bools([0, 0, 1, 1]), bools([0, 1, 0, 1]));
    for (op, expected) in [
        (&LOGICAL_AND, [0, 0, 0, 1]),
        (&LOGICAL_OR, [0, 1, 1, 1]),
        (&LOGICAL_XOR, [0, 1, 1, 0]),
        (&BITWISE_AND, [0, 0, 0, 1]),
        (&EQUAL, [1, 0, 0, 1]),
        (&LESS, [0, 1, 0, 0]),
    ] {
        assert_eq!(call::<Bool8, Bool8>(op, &a, &b), bools(expected), "{}", op.name);
    }
    assert_eq!(call::<u64, Bool8>(&LESS, &[u64::MAX, 1], &[1, u64::MAX]), bools([0, 1]));
}

#[test]
fn shapes_broadcast() {
    let column = tensor(&[2, 1], &[10i32, 20]);
    let row = tensor(&[3], &[1i32, 2, 3]);
    let sum = run(&ADD, &[column, row], &Attrs::NONE).expect("fits");
    assert_eq!(
        (data::<i32>(&sum), sum.ty()),
        (vec![11, 12, 13, 21, 22, 23], Type::tensor(&[2, 3], DType::I32))
    );
    let error = |a: &[usize], b: &[usize]| {
        infer(&ADD, &[Type::tensor(a, DType::F32), Type::tensor(b, DType::F32)], &Attrs::NONE)
            .expect_err("differ")
    };
    assert!(error(&[3], &[4]).message.contains("3 and 4"));
    assert!(error(&[0], &[4]).message.contains("0 and 4"));
    let mixed = infer(&ADD, &[Type::scalar(DType::F32), Type::scalar(DType::F64)], &Attrs::NONE);
    assert_eq!(mixed.expect_err("dtypes").message, "the operands have different dtypes, float32 and float64");
    let symbolic: Type = TensorType::new(vec![Dim::Sym("n".into()), Dim::Any], DType::I8).into();
    let known = Type::tensor(&[1, 5], DType::I8);
    let result = TensorType::new(vec![Dim::Sym("n".into()), Dim::Static(5)], DType::Bool);
    assert_eq!(infer(&LESS, &[symbolic, known], &Attrs::NONE), Ok(result.into()));
}

#[test]
fn where_chooses() {
    let condition = tensor(&[2, 1], &bools([1, 0]));
    let (x, y) = (tensor(&[3], &[1i64, 2, 3]), tensor(&[], &[9i64]));
    let chosen = run(&WHERE, &[condition, x.clone(), y.clone()], &Attrs::NONE).expect("fits");
    assert_eq!(
        (data::<i64>(&chosen), chosen.ty()),
        (vec![1, 2, 3, 9, 9, 9], Type::tensor(&[2, 3], DType::I64))
    );
    let numbers = tensor(&[3], &[0.0f32, -0.0, f32::NAN]);
    assert_eq!(data::<i64>(&run(&WHERE, &[numbers, x, y], &Attrs::NONE).expect("fits")), [9, 9, 3]);
    for dtype in DType::ALL {
        dispatch!(dtype, T => {
            let (a, b) = (<T as Convert>::ONE, <T as Convert>::ZERO);
            let args = [tensor(&[2], &[5i8, 0]), tensor(&[2], &[a, a]), tensor(&[1], &[b])];
            assert_eq!(data::<T>(&run(&WHERE, &args, &Attrs::NONE).expect("fits")), [a, b]);
        });
    }
}

#[test]
fn broadcast_to() {
    let to = |shape: &[i64]| attrs(&BROADCAST_TO, &[("shape", ints(shape))]);
    let x = tensor(&[2, 1], &[1u8, 2]);
    let y = run(&BROADCAST_TO, &[x.clone()], &to(&[2, 2, 3])).expect("fits");
    assert_eq!(data::<u8>(&y), [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
    let nothing = run(&BROADCAST_TO, &[x.clone()], &to(&[2, 0])).expect("fits");
    assert_eq!(nothing.ty(), Type::tensor(&[2, 0], DType::U8));
    for wrong in [&[2][..], &[1, 3], &[3, 1], &[2, -1], &[1 << 40, 2, 1]] {
        assert!(run(&BROADCAST_TO, &[x.clone()], &to(wrong)).is_err(), "{wrong:?}");
    }
    let like = run(&BROADCAST_TO_LIKE, &[x, tensor(&[2, 2], &[0f32; 4])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<u8>(&like), [1, 1, 2, 2]);
    let unknown: Type = TensorType::new(vec![Dim::Any], DType::F32).into();
    let attrs = BroadcastToAttrs { shape: vec![4] }.attrs();
    assert_eq!(infer(&BROADCAST_TO, &[unknown], &attrs), Ok(Type::tensor(&[4], DType::F32)));
}
