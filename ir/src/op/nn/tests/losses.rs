//! Losses.

use crate::op::AttrValue;
use crate::op::nn::*;
use crate::op::testing::{attrs, data, infer, run, tensor, text};
use crate::types::{DType, Type};

#[test]
fn nll() {
    let predictions = tensor(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let weights = tensor(&[2], &[1f32, 3.0]);
    let of = |targets: &[i64], reduction: &str, ignore: i64| {
        let given = [("reduction", text(reduction)), ("ignore_index", AttrValue::Int(ignore))];
        run(
            &NLL_LOSS,
            &[predictions.clone(), tensor(&[3], targets), weights.clone()],
            &attrs(&NLL_LOSS, &given),
        )
    };
    assert_eq!(data::<f32>(&of(&[0, 1, 1], "none", -100).unwrap()), [-1.0, -12.0, -18.0]);
    assert_eq!(data::<f32>(&of(&[0, 1, 1], "sum", -100).unwrap()), [-31.0]);
    assert_eq!(data::<f32>(&of(&[1, 1, 0], "mean", 0).unwrap()), [-3.0]);
    assert!(of(&[0, 2, 0], "sum", -100).is_err());
}

#[test]
fn nll_over_space() {
    let predictions = tensor(&[1, 2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let given = [("reduction", text("none")), ("ignore_index", AttrValue::Int(-1))];
    let args = [predictions, tensor(&[1, 2], &[1i32, 0]), tensor(&[2], &[1f32, 1.0])];
    let y = run(&NLL_LOSS, &args, &attrs(&NLL_LOSS, &given)).unwrap();
    assert_eq!(data::<f32>(&y), [-3.0, -2.0]);
    let float = Type::tensor(&[1, 2], DType::F32);
    assert!(infer(&NLL_LOSS, &[args[0].ty(), float, args[2].ty()], &attrs(&NLL_LOSS, &given)).is_err());
}

#[test]
fn cross_entropies() {
    let (p, t) = (tensor(&[2, 2], &[1f32, 0.5, 0.25, 1.0]), tensor(&[2, 2], &[1f32, 2.0, 1.0, 0.0]));
    let y = run(&CROSS_ENTROPY_WITH_LOGITS, &[p.clone(), t.clone()], &attrs(&CROSS_ENTROPY_WITH_LOGITS, &[]));
    assert_eq!(data::<f32>(&y.unwrap()), [-1.125]);
    let y = data::<f32>(&run(&CROSS_ENTROPY, &[p, t], &attrs(&CROSS_ENTROPY, &[])).unwrap());
    assert!((y[0] - 2.0 * 2f32.ln()).abs() < 1e-6);
}
