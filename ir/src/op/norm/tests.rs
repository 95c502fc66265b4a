//! What norms make of small tensors, by numpy's account.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

/// Whole numbers from -5 to 5 in a fixed order, of shape (2, 4, 3).
fn x() -> Value {
    tensor(&[2, 4, 3], &(0..24).map(|i| ((i * 7) % 11) as f32 - 5.0).collect::<Vec<_>>())
}

fn gamma() -> Value {
    tensor(&[4], &[1f32, 2.0, 3.0, 4.0])
}

fn beta() -> Value {
    tensor(&[4], &[0f32, 1.0, -1.0, 2.0])
}

/// Checks the first elements of a result.
fn starts(found: &Value, expected: &[f32]) {
    for (a, b) in data::<f32>(found).iter().zip(expected) {
        assert!((a - b).abs() <= 2e-6 * (1.0 + b.abs()), "{a} {b}");
    }
}

fn check(op: &OpDef, args: &[Value], given: &[(&str, AttrValue)], expected: &[f32]) {
    starts(&run(op, args, &attrs(op, given)).unwrap(), expected);
}

#[test]
fn layer_instance_and_group() {
    let axis = |a| ("axis", AttrValue::Int(a));
    let args = [x(), gamma(), beta()];
    let expected = [-1.704224, 1.341635, 1.341635, 2.641105, 1.894424, 1.894424, 0.7042243, -2.341635];
    check(&LAYER_NORM, &args, &[axis(1)], &expected);
    check(&LAYER_NORM, &args, &[axis(-2)], &expected);
    let expected = [-1.162476, 1.278723, -0.1162476, 3.449489, 1.0, -1.449489, 2.674233, -1.0];
    check(&INSTANCE_NORM, &args, &[], &expected);
    check(&GROUP_NORM, &args, &[("num_groups", AttrValue::Int(4))], &expected);
    let expected = [-1.393051, 0.6965257, -0.4975184, 4.184118, 1.796029, -0.5920588, 3.085908, -0.5460103];
    check(&GROUP_NORM, &args, &[("num_groups", AttrValue::Int(2))], &expected);
}

#[test]
fn channels_last() {
    let last = tensor(&[2, 3, 4], &data::<f32>(&x()));
    let args = [last, gamma(), beta()];
    let axis = ("axis", AttrValue::Int(-1));
    run(&INSTANCE_NORM, &args, &attrs(&INSTANCE_NORM, std::slice::from_ref(&axis))).unwrap();
    run(&LAYER_NORM, &args, &attrs(&LAYER_NORM, &[])).unwrap();
    let groups = ("num_groups", AttrValue::Int(2));
    run(&GROUP_NORM, &args, &attrs(&GROUP_NORM, &[axis, groups])).unwrap();
}

#[test]
fn scale_and_center_can_be_off() {
    let args = [x(), gamma(), beta()];
    let off =
        [("axis", AttrValue::Int(1)), ("scale", AttrValue::Bool(false)), ("center", AttrValue::Bool(false))];
    check(&LAYER_NORM, &args, &off, &[-1.704224, 1.341635, 1.341635, 0.8205525]);
}

#[test]
fn rms() {
    let rows = tensor(&[2, 4], &[-5f32, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0]);
    let mean = |r: &[f32]| (r.iter().map(|v| v * v).sum::<f32>() / 4.0 + 1e-5).sqrt();
    let all = data::<f32>(&rows);
    let want: Vec<f32> = all
        .chunks(4)
        .flat_map(|r| r.iter().zip([1.0, 2.0, 3.0, 4.0]).map(|(v, g)| v / mean(r) * g))
        .collect();
    check(&RMS_NORM, &[rows, gamma()], &[], &want);
    let half = half::f16::from_f32;
    run(
        &RMS_NORM,
        &[tensor(&[1, 2], &[half(300.0), half(400.0)]), tensor(&[2], &[half(1.0); 2])],
        &attrs(&RMS_NORM, &[]),
    )
    .unwrap();
}

#[test]
fn batch() {
    let (mean, var) = (tensor(&[4], &[1f32, 0.0, -1.0, 2.0]), tensor(&[4], &[4f32, 1.0, 0.25, 9.0]));
    let args = [x(), gamma(), beta(), mean.clone(), var];
    let y = run(&BATCH_NORM, &args, &attrs(&BATCH_NORM, &[])).unwrap();
    let fields = y.as_tuple().unwrap();
    starts(&fields[0], &[-2.999996, 0.4999994, -1.499998, 10.99995, 2.99999, -4.99997, 28.9994, 4.99988]);
    assert_eq!(data::<f32>(&fields[1]), data::<f32>(&mean));
    let types: Vec<Type> = [x().ty()].into_iter().chain(vec![Type::Unknown; 4]).collect();
    let found = (BATCH_NORM.backward)(&types, &attrs(&BATCH_NORM, &[]));
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|(_, t)| *t == Type::tensor(&[4], DType::F32)));
}

#[test]
fn neighbours_and_unit_length() {
    let given = [
        ("size", AttrValue::Int(3)),
        ("bias", AttrValue::Float(2.0)),
        ("alpha", AttrValue::Float(0.1)),
        ("beta", AttrValue::Float(0.75)),
    ];
    let expected = [-1.886976, 1.119917, -1.026547, 1.704249, 0.5599586, -1.327149, 1.509581, 0.0];
    check(&LRN, &[x()], &given, &expected);
    let given = [
        ("size", AttrValue::Int(2)),
        ("bias", AttrValue::Float(1.0)),
        ("alpha", AttrValue::Float(0.5)),
        ("beta", AttrValue::Float(0.5)),
    ];
    let expected = [-1.360828, 1.333333, -0.9701425, 1.490712, 0.8944272, -1.114172, 1.485563, 0.0];
    check(&LRN, &[x()], &given, &expected);
    let given = |axes: &[i64]| [("eps", AttrValue::Float(1e-3)), ("axis", ints(axes))];
    let expected = [-0.5773503, 0.8164966, -0.2721655, 0.5773503, 0.4082483, -0.4082483, 0.4618802];
    check(&L2_NORMALIZE, &[x()], &given(&[1]), &expected);
    let expected = [-0.6154575, 0.246183, -0.246183, 0.6401844, 0.1280369, -0.3841106, 0.5298129];
    check(&L2_NORMALIZE, &[x()], &given(&[0, 2]), &expected);
    check(&L2_NORMALIZE, &[x()], &given(&[]), &[-0.3168621, 0.1267449, -0.1267449, 0.3168621, 0.06337243]);
    check(&L2_NORMALIZE, &[tensor(&[2], &[0f32; 2])], &given(&[0]), &[0.0, 0.0]);
}

#[test]
fn empty_data_and_wrong_parameters() {
    let empty = tensor::<f32>(&[0, 4, 3], &[]);
    for op in [&LAYER_NORM, &INSTANCE_NORM] {
        let y =
            run(op, &[empty.clone(), gamma(), beta()], &attrs(op, &[("axis", AttrValue::Int(1))])).unwrap();
        assert_eq!(y.as_tensor().unwrap().shape(), [0, 4, 3]);
    }
    let short = Type::tensor(&[3], DType::F32);
    assert!(infer(&LAYER_NORM, &[x().ty(), short.clone(), gamma().ty()], &attrs(&LAYER_NORM, &[])).is_err());
    let groups = attrs(&GROUP_NORM, &[("num_groups", AttrValue::Int(3))]);
    assert!(infer(&GROUP_NORM, &[x().ty(), gamma().ty(), beta().ty()], &groups).is_err());
    let first = attrs(&INSTANCE_NORM, &[("axis", AttrValue::Int(0))]);
    let two = Type::tensor(&[2], DType::F32);
    assert!(infer(&INSTANCE_NORM, &[x().ty(), two.clone(), two], &first).is_err());
    // A dimension that only the parameters know.
    let n: Type = TensorType::new(vec![Dim::Sym("n".into()), Dim::Any], DType::F32).into();
    let y = infer(&LAYER_NORM, &[n, short.clone(), short], &attrs(&LAYER_NORM, &[])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape, [Dim::Sym("n".into()), 3.into()]);
}
