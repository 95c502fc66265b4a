//! Tests of the elementwise operators; numbers from numpy.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "calls of one argument read like those of several")]
#![allow(clippy::approx_constant, reason = "the numbers are what numpy printed")]

use half::{bf16, f16};

use super::*;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, tuple};
use crate::op::{AttrValue, Attrs, OpAttrs};
use crate::scalar::Convert;
use crate::types::Dim;

fn call<T: crate::tensor::Element>(op: &OpDef, x: &[T]) -> Vec<T> {
    data(&run(op, &[tensor(&[x.len()], x)], &Attrs::NONE).expect("fits"))
}

/// What numpy makes of `ARGUMENTS`.
#[rustfmt::skip]
static FUNCTIONS: &[(&OpDef, [f64; 8])] = &[
    (&ABS, [2.5, 0.5, 0.0, 0.25, 1.0, 3.0, INF, NAN]),
    (&NEGATIVE, [2.5, 0.5, -0.0, -0.25, -1.0, -3.0, -INF, NAN]),
    (&SIGN, [-1.0, -1.0, 0.0, 1.0, 1.0, 1.0, 1.0, NAN]),
    (&FLOOR, [-3.0, -1.0, 0.0, 0.0, 1.0, 3.0, INF, NAN]),
    (&CEIL, [-2.0, -0.0, 0.0, 1.0, 1.0, 3.0, INF, NAN]),
    (&ROUND, [-2.0, -0.0, 0.0, 0.0, 1.0, 3.0, INF, NAN]),
    (&TRUNC, [-2.0, -0.0, 0.0, 0.0, 1.0, 3.0, INF, NAN]),
    (&SQRT, [NAN, NAN, 0.0, 0.5, 1.0, 1.7320508075688772, INF, NAN]),
    (&RSQRT, [NAN, NAN, INF, 2.0, 1.0, 0.5773502691896258, 0.0, NAN]),
    (&EXP, [
        0.0820849986238988, 0.6065306597126334, 1.0, 1.2840254166877414,
        2.718281828459045, 20.085536923187668, INF, NAN,
    ]),
    (&LOG, [NAN, NAN, -INF, -1.3862943611198906, 0.0, 1.0986122886681098, INF, NAN]),
    (&LOG2, [NAN, NAN, -INF, -2.0, 0.0, 1.584962500721156, INF, NAN]),
    (&LOG10, [NAN, NAN, -INF, -0.6020599913279624, 0.0, 0.47712125471966244, INF, NAN]),
    (&SIN, [
        -0.5984721441039565, -0.479425538604203, 0.0, 0.24740395925452294,
        0.8414709848078965, 0.1411200080598672, NAN, NAN,
    ]),
    (&COS, [
        -0.8011436155469337, 0.8775825618903728, 1.0, 0.9689124217106447,
        0.5403023058681398, -0.9899924966004454, NAN, NAN,
    ]),
    (&TAN, [
        0.7470222972386603, -0.5463024898437905, 0.0, 0.25534192122103627,
        1.5574077246549023, -0.1425465430742778, NAN, NAN,
    ]),
    (&ASIN, [NAN, -0.5235987755982989, 0.0, 0.25268025514207865, 1.5707963267948966, NAN, NAN, NAN]),
    (&ACOS, [NAN, 2.0943951023931957, 1.5707963267948966, 1.318116071652818, 0.0, NAN, NAN, NAN]),
    (&ATAN, [
        -1.1902899496825317, -0.4636476090008061, 0.0, 0.24497866312686414,
        0.7853981633974483, 1.2490457723982544, 1.5707963267948966, NAN,
    ]),
    (&SINH, [
        -6.0502044810397875, -0.5210953054937474, 0.0, 0.2526123168081683,
        1.1752011936438014, 10.017874927409903, INF, NAN,
    ]),
    (&COSH, [
        6.132289479663686, 1.1276259652063807, 1.0, 1.0314130998795732,
        1.5430806348152437, 10.067661995777765, INF, NAN,
    ]),
    (&TANH, [
        -0.9866142981514303, -0.46211715726000974, 0.0, 0.24491866240370913,
        0.7615941559557649, 0.9950547536867305, 1.0, NAN,
    ]),
    (&ASINH, [
        -1.6472311463710958, -0.48121182505960347, 0.0, 0.24746646154726346,
        0.881373587019543, 1.8184464592320668, INF, NAN,
    ]),
    (&ACOSH, [NAN, NAN, NAN, NAN, 0.0, 1.762747174039086, INF, NAN]),
    (&ATANH, [NAN, -0.5493061443340549, 0.0, 0.25541281188299536, INF, NAN, NAN, NAN]),
    (&ERF, [
        -0.999593047982555, -0.5204998778130465, 0.0, 0.2763263901682369,
        0.8427007929497149, 0.9999779095030014, 1.0, NAN,
    ]),
    (&SIGMOID, [
        0.07585818002124355, 0.3775406687981454, 0.5, 0.5621765008857981,
        0.7310585786300049, 0.9525741268224334, 1.0, NAN,
    ]),
];

const ARGUMENTS: [f64; 8] = [-2.5, -0.5, 0.0, 0.25, 1.0, 3.0, INF, NAN];
const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[test]
fn functions_of_floats() {
    for (op, expected) in FUNCTIONS {
        let found = call(op, &ARGUMENTS);
        for ((x, found), expected) in ARGUMENTS.iter().zip(found).zip(expected) {
            let close = (found - expected).abs() <= 4.0 * f64::EPSILON * expected.abs();
            assert!(
                close || found == *expected || found.is_nan() && expected.is_nan(),
                "{}({x}) = {found}",
                op.name
            );
        }
    }
}

#[test]
fn every_row_runs_on_every_dtype_of_its_column_and_on_nothing() {
    let numbers = [-3.0, -0.0, 0.5, 1.0, 100.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for op in OPS {
        for &dtype in op.dtypes {
            dispatch!(dtype, T => {
                let x = numbers.map(<T as Convert>::of_f64);
                let result = run(op, &[tensor(&[2, 1, 4], &x)], &Attrs::NONE).expect("fits");
                assert_eq!(result.as_tensor().expect("a tensor").shape(), [2, 1, 4]);
                run(op, &[tensor::<T>(&[0, 3], &[])], &Attrs::NONE).expect("fits");
                run(op, &[tensor::<T>(&[], &x[..1])], &Attrs::NONE).expect("fits");
            });
        }
    }
}

#[test]
fn functions_of_integers_and_bools() {
    assert_eq!(call(&ABS, &[i8::MIN, -3, 3]), [i8::MIN, 3, 3]);
    assert_eq!(call(&NEGATIVE, &[1u8, 0]), [255, 0]);
    assert_eq!(call(&SIGN, &[-9i64, 0, 9]), [-1, 0, 1]);
    assert_eq!(call(&FLOOR, &[-9i32]), [-9]);
    assert_eq!(call(&BITWISE_NOT, &[0u16, 0xff00]), [0xffff, 0x00ff]);
    assert_eq!(call(&LOGICAL_NOT, &[Bool8(0), Bool8(1)]), [Bool8(1), Bool8(0)]);
    let finite = run(&ISFINITE, &[tensor(&[2], &[1i32, 2])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<Bool8>(&finite), [Bool8(1), Bool8(1)]);
}

#[test]
fn predicates() {
    let x = tensor(&[4], &[f16::NAN, f16::INFINITY, f16::NEG_INFINITY, f16::ONE]);
    for (op, expected) in [(&ISNAN, [1, 0, 0, 0]), (&ISINF, [0, 1, 1, 0]), (&ISFINITE, [0, 0, 0, 1])] {
        let result = run(op, std::slice::from_ref(&x), &Attrs::NONE).expect("fits");
        assert_eq!(data::<Bool8>(&result), expected.map(Bool8), "{}", op.name);
    }
}

#[test]
fn types_keep_symbolic_and_unknown_dims() {
    let shape = vec![Dim::Sym("n".into()), Dim::Any, Dim::Static(3)];
    let x: Type = TensorType::new(shape.clone(), DType::F32).into();
    assert_eq!(infer(&EXP, std::slice::from_ref(&x), &Attrs::NONE), Ok(x.clone()));
    assert_eq!(infer(&ISNAN, &[x], &Attrs::NONE), Ok(TensorType::new(shape, DType::Bool).into()));
    assert!(infer(&EXP, &[Type::tuple([])], &Attrs::NONE).is_err());
}

#[test]
fn cast_between_all_dtypes() {
    for from in DType::ALL {
        for to in DType::ALL {
            dispatch!(from, T => {
                let x = [0.0, 1.0, -1.5, 300.0, f64::NAN].map(<T as Convert>::of_f64);
                run(&CAST, &[tensor(&[5], &x)], &CastAttrs { dtype: to }.attrs()).expect("fits");
            });
        }
    }
    let to_i8 = CastAttrs { dtype: DType::I8 }.attrs();
    let x = tensor(&[5], &[1.9f32, -1.9, 300.0, f32::NAN, f32::NEG_INFINITY]);
    assert_eq!(data::<i8>(&run(&CAST, &[x], &to_i8).expect("fits")), [1, -1, 127, 0, -128]);
    let x = tensor(&[2], &[300i32, -129]);
    assert_eq!(data::<i8>(&run(&CAST, &[x.clone()], &to_i8).expect("fits")), [44, 127]);
    let like = run(&CAST_LIKE, &[x, tensor(&[1, 1], &[bf16::ZERO])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<bf16>(&like), [bf16::from_f32(300.0), bf16::from_f32(-129.0)]);
}

#[test]
fn reinterpret_keeps_the_bits() {
    let x = tensor(&[2], &[1.0f32, -0.0]);
    let bits = run(&REINTERPRET, &[x.clone()], &CastAttrs { dtype: DType::U32 }.attrs()).expect("fits");
    assert_eq!(data::<u32>(&bits), [0x3f80_0000, 0x8000_0000]);
    for wrong in [DType::F64, DType::U8, DType::Bool] {
        assert!(run(&REINTERPRET, &[x.clone()], &CastAttrs { dtype: wrong }.attrs()).is_err());
    }
    let byte = tensor(&[1], &[2u8]);
    assert!(
        run(&REINTERPRET, &[byte], &CastAttrs { dtype: DType::Bool }.attrs()).is_err(),
        "a bool is one bit"
    );
}

#[test]
fn fills() {
    let shape =
        |op, shape: &[i64], dtype| attrs(op, &[("shape", ints(shape)), ("dtype", AttrValue::DType(dtype))]);
    let value = tensor(&[], &[2.6f32]);
    let full = run(&FULL, &[value.clone()], &shape(&FULL, &[2, 1], DType::I16)).expect("fits");
    assert_eq!((data::<i16>(&full), full.ty()), (vec![2, 2], Type::tensor(&[2, 1], DType::I16)));
    let own = run(&FULL, &[value.clone()], &attrs(&FULL, &[("shape", ints(&[]))])).expect("fits");
    assert_eq!((data::<f32>(&own), own.ty()), (vec![2.6], Type::scalar(DType::F32)));
    let like = run(&FULL_LIKE, &[tensor(&[0, 2], &[0u8; 0]), value], &Attrs::NONE).expect("fits");
    assert_eq!(like.ty(), Type::tensor(&[0, 2], DType::U8));
    for dtype in DType::ALL {
        for (op, number) in [(&ZEROS, 0.0), (&ONES, 1.0)] {
            let result = run(op, &[], &shape(op, &[2], dtype)).expect("fits");
            dispatch!(dtype, T => assert_eq!(data::<T>(&result), [<T as Convert>::of_f64(number); 2]));
        }
    }
    let ones = run(&ONES_LIKE, &[tensor(&[1], &[7i64])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<i64>(&ones), [1]);
    assert!(run(&ZEROS, &[], &shape(&ZEROS, &[-1], DType::I8)).is_err());
    assert!(run(&ZEROS, &[], &shape(&ZEROS, &[1 << 30, 1 << 30], DType::I8)).is_err());
    let vector = tensor(&[1], &[1f32]);
    assert!(run(&FULL, &[vector], &shape(&FULL, &[2], DType::F32)).is_err(), "the value is a scalar");
}

#[test]
fn clip() {
    let bounds = |a_min, a_max| ClipAttrs { a_min, a_max }.attrs();
    let x = tensor(&[5], &[-1.0f32, 0.5, 7.0, f32::NAN, f32::INFINITY]);
    let y = data::<f32>(&run(&CLIP, &[x.clone()], &bounds(0.0, 6.0)).expect("fits"));
    assert_eq!((&y[..3], y[4], y[3].is_nan()), (&[0.0, 0.5, 6.0][..], 6.0, true));
    let crossed = data::<f32>(&run(&CLIP, &[x], &bounds(6.0, 0.0)).expect("fits"));
    assert_eq!(crossed[..3], [0.0, 0.0, 0.0]);
    let bytes = tensor(&[3], &[-128i8, 0, 127]);
    assert_eq!(data::<i8>(&run(&CLIP, &[bytes], &bounds(-5.0, 1e9)).expect("fits")), [-5, 0, 127]);
    for &dtype in CLIP.dtypes {
        dispatch!(dtype, T => {
            let x = tensor(&[3], &[0.0, 2.0, 9.0].map(<T as Convert>::of_f64));
            run(&CLIP, &[x], &bounds(-1.5, 3.5)).expect("fits");
        });
    }
}

#[test]
fn ceil_log2() {
    assert_eq!(call(&CEIL_LOG2, &[0i8, -5, 1, 2, 3, 64, 65, 127]), [0, 0, 0, 1, 2, 6, 7, 7]);
    assert_eq!(call(&CEIL_LOG2, &[u64::MAX, 1 << 63, (1 << 62) + 1, 0]), [64, 63, 63, 0]);
    assert_eq!(call(&CEIL_LOG2, &[i64::MAX, i64::MIN]), [63, 0]);
}

#[test]
fn sums_of_tuples() {
    let x = tensor(&[2], &[1f32, 2.0]);
    let sum = run(&ELEMWISE_SUM, &[tuple(&[x.clone(), x.clone(), x.clone()])], &Attrs::NONE).expect("fits");
    assert_eq!(data::<f32>(&sum), [3.0, 6.0]);
    assert!(run(&ELEMWISE_SUM, &[tuple(&[])], &Attrs::NONE).is_err());
    let other = tensor(&[1], &[1f32]);
    assert!(run(&ELEMWISE_SUM, &[tuple(&[x, other])], &Attrs::NONE).is_err(), "no broadcasting");
}

#[test]
fn fixed_point_products() {
    let with = |multiplier, shift| {
        attrs(
            &FIXED_POINT_MULTIPLY,
            &[("multiplier", AttrValue::Int(multiplier)), ("shift", AttrValue::Int(shift))],
        )
    };
    let x = tensor(&[5], &[0i32, 1, -1, 1000, i32::MIN]);
    // A half times 1: halves go up.
    let half = run(&FIXED_POINT_MULTIPLY, &[x.clone()], &with(1 << 30, 0)).expect("fits");
    assert_eq!(data::<i32>(&half), [0, 1, 0, 500, -(1 << 30)]);
    let scaled = run(&FIXED_POINT_MULTIPLY, &[x.clone()], &with(1395864371, 2)).expect("fits");
    assert_eq!(data::<i32>(&scaled)[..4], [0, 3, -3, 2600]);
    let small = run(&FIXED_POINT_MULTIPLY, &[x], &with(1 << 30, -3)).expect("fits");
    assert_eq!(data::<i32>(&small), [0, 0, 0, 63, -(1 << 27)]);
}

#[test]
fn fixed_point_products_along_axes() {
    let op = &FIXED_POINT_MULTIPLY_PER_AXIS;
    let x = tensor(&[2, 3], &[100i32, 200, 300, 400, 500, 600]);
    let y = tensor(&[3], &[1i32 << 30, 1 << 30, 1 << 29]);
    let (left, right) = (tensor(&[3], &[0i32, 1, 2]), tensor(&[3], &[0i32, 0, 1]));
    let flags = |l, r, axes: &[i64]| {
        let flag = AttrValue::Bool;
        let given = [("is_lshift_required", flag(l)), ("is_rshift_required", flag(r)), ("axes", ints(axes))];
        attrs(op, &given)
    };
    let args = [x, y, left, right];
    let both = run(op, &args, &flags(true, true, &[1])).expect("fits");
    assert_eq!(data::<i32>(&both), [50, 200, 150, 200, 500, 300]);
    let none = run(op, &args, &flags(false, false, &[-1])).expect("fits");
    assert_eq!(data::<i32>(&none), [50, 100, 75, 200, 250, 150]);
    assert!(run(op, &args, &flags(true, true, &[0])).is_err(), "the shape is that of the other axis");
    let grid: Vec<i32> = (0..6).map(|i| (i + 1) << 28).collect();
    let crossed = tensor(&[3, 2], &grid);
    let zero = tensor(&[3, 2], &[0i32; 6]);
    let args = [args[0].clone(), crossed, zero.clone(), zero];
    let result = run(op, &args, &flags(true, true, &[1, 0])).expect("fits");
    // The multipliers in the data's order: 1, 3, 5; 2, 4, 6 eighths.
    assert_eq!(data::<i32>(&result), [13, 75, 188, 100, 250, 450]);
}
