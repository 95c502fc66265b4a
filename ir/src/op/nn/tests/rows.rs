//! Activations, softmax and what acts along an axis.

use crate::op::nn::*;
use crate::op::testing::{attrs, data, infer, run, tensor};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Type};

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{found:?} {expected:?}");
    }
}

#[test]
fn relu_of_every_kind() {
    let x = tensor(&[4], &[-1.5f32, 0.0, 2.0, f32::NAN]);
    let y = data::<f32>(&run(&RELU, &[x], &attrs(&RELU, &[])).unwrap());
    assert_eq!(y[..3], [0.0, 0.0, 2.0]);
    assert!(y[3].is_nan());
    let x = tensor(&[3], &[-128i8, 0, 127]);
    assert_eq!(data::<i8>(&run(&RELU, &[x], &attrs(&RELU, &[])).unwrap()), [0, 0, 127]);
    let x = tensor(&[2], &[u64::MAX, 0]);
    assert_eq!(data::<u64>(&run(&RELU, &[x], &attrs(&RELU, &[])).unwrap()), [u64::MAX, 0]);
    let x = tensor(&[2], &[u32::MAX, 1]);
    assert_eq!(data::<u32>(&run(&RELU, &[x], &attrs(&RELU, &[])).unwrap()), [u32::MAX, 1]);
    let x = tensor(&[3], &[-2f32, 0.0, 3.0]);
    let y = run(&LEAKY_RELU, &[x], &attrs(&LEAKY_RELU, &[("alpha", AttrValue::Float(0.5))])).unwrap();
    assert_eq!(data::<f32>(&y), [-1.0, 0.0, 3.0]);
    let x = tensor(&[2, 2, 1], &[-2f32, -3.0, 4.0, -1.0]);
    let y = run(&PRELU, &[x, tensor(&[2], &[0.5f32, 2.0])], &attrs(&PRELU, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [-1.0, -6.0, 4.0, -2.0]);
}

#[test]
fn bias_along_an_axis() {
    let x = tensor(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let b = tensor(&[2], &[10f32, 20.0]);
    let y = run(&BIAS_ADD, &[x.clone(), b.clone()], &attrs(&BIAS_ADD, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [11.0, 22.0, 13.0, 24.0]);
    let y = run(&BIAS_ADD, &[x.clone(), b], &attrs(&BIAS_ADD, &[("axis", AttrValue::Int(-2))])).unwrap();
    assert_eq!(data::<f32>(&y), [11.0, 12.0, 23.0, 24.0]);
    let y = run(&BIAS_ADD, &[tensor::<i8>(&[0, 2], &[]), tensor(&[2], &[1i8, 2])], &attrs(&BIAS_ADD, &[]))
        .unwrap();
    assert!(y.as_tensor().unwrap().is_empty());
    let found = (BIAS_ADD.backward)(&[x.ty(), Type::Unknown], &attrs(&BIAS_ADD, &[]));
    assert_eq!(found, [(1, Type::tensor(&[2], DType::F32))]);
    // There is no axis in a scalar, whichever is asked for.
    for axis in [0, -1, -3, 1] {
        let scalars = [Type::scalar(DType::I32), Type::scalar(DType::I32)];
        assert!(infer(&BIAS_ADD, &scalars, &attrs(&BIAS_ADD, &[("axis", AttrValue::Int(axis))])).is_err());
    }
}

#[test]
fn softmax_along_axes() {
    let x = tensor(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 1.0, 1.0]);
    let y = run(&SOFTMAX, std::slice::from_ref(&x), &attrs(&SOFTMAX, &[])).unwrap();
    close(&data(&y), &[0.09003057, 0.24472846, 0.66524094, 0.909443, 0.0452785, 0.0452785]);
    let y = run(&LOG_SOFTMAX, std::slice::from_ref(&x), &attrs(&LOG_SOFTMAX, &[])).unwrap();
    close(&data(&y), &[-2.4076061, -1.407606, -0.407606, -0.09492291, -3.094923, -3.094923]);
    let y = run(&FAST_SOFTMAX, &[x], &attrs(&FAST_SOFTMAX, &[("axis", AttrValue::Int(0))])).unwrap();
    close(&data(&y), &[0.04742587, 0.7310586, 0.880797, 0.95257413, 0.26894143, 0.11920292]);
}

#[test]
fn softmax_at_the_edges() {
    let rows: [&OpDef; 2] = [&SOFTMAX, &LOG_SOFTMAX];
    for op in rows {
        // Large values do not overflow, and -inf is a masked place.
        let y = run(op, &[tensor(&[1, 3], &[1e30f32, 1e30, f32::NEG_INFINITY])], &attrs(op, &[])).unwrap();
        let y = data::<f32>(&y);
        assert!(y[0] == y[1] && !y[0].is_nan() && !y[2].is_nan(), "{y:?}");
        let y = run(op, &[tensor(&[2], &[f32::NEG_INFINITY; 2])], &attrs(op, &[])).unwrap();
        assert!(data::<f32>(&y).iter().all(|v| v.is_nan()));
        let y = run(op, &[tensor::<f32>(&[2, 0], &[])], &attrs(op, &[])).unwrap();
        assert_eq!(y.as_tensor().unwrap().shape(), [2, 0]);
        let half = half::f16::from_f32;
        run(op, &[tensor(&[1, 2], &[half(1.0), half(3.0)])], &attrs(op, &[])).unwrap();
        run(op, &[tensor(&[2, 2], &[1f64, 3.0, -1.0, 2.0])], &attrs(op, &[])).unwrap();
        assert!(infer(op, &[Type::tensor(&[2], DType::I32)], &attrs(op, &[])).is_err());
        assert!(infer(op, &[Type::scalar(DType::F32)], &attrs(op, &[])).is_err());
    }
}

#[test]
fn dropout_keeps_everything() {
    let y = run(&DROPOUT, &[tensor(&[2], &[1f32, 2.0])], &attrs(&DROPOUT, &[])).unwrap();
    let fields = y.as_tuple().unwrap();
    assert_eq!((data::<f32>(&fields[0]), data::<f32>(&fields[1])), (vec![1.0, 2.0], vec![1.0, 1.0]));
}
