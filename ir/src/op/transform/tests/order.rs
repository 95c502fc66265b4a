//! Transposition, reversal and layouts.

use crate::op::AttrValue;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::transform::{LAYOUT_TRANSFORM, REVERSE, REVERSE_SEQUENCE, TRANSPOSE};
use crate::types::{DType, Dim, TensorType, Type};

fn iota(n: i32) -> Vec<i32> {
    (0..n).collect()
}

#[test]
fn transpose() {
    let x = tensor(&[2, 3, 2], &iota(12));
    let y = run(&TRANSPOSE, std::slice::from_ref(&x), &attrs(&TRANSPOSE, &[])).expect("fits");
    assert_eq!(data::<i32>(&y), [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]);
    let y = run(&TRANSPOSE, &[x], &attrs(&TRANSPOSE, &[("axes", ints(&[-2, 0, 2]))])).expect("fits");
    assert_eq!(data::<i32>(&y), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    let bad = |axes: &[i64]| {
        infer(&TRANSPOSE, &[Type::tensor(&[2, 3], DType::F32)], &attrs(&TRANSPOSE, &[("axes", ints(axes))]))
    };
    assert!(bad(&[0]).is_err() && bad(&[0, 0]).is_err() && bad(&[0, 2]).is_err());
    let scalar = run(&TRANSPOSE, &[tensor(&[], &[1f64])], &attrs(&TRANSPOSE, &[])).expect("fits");
    assert_eq!(data::<f64>(&scalar), [1.0]);
}

#[test]
fn reverse() {
    let axis = |n| attrs(&REVERSE, &[("axis", AttrValue::Int(n))]);
    let x = tensor(&[2, 3], &iota(6));
    assert_eq!(
        data::<i32>(&run(&REVERSE, std::slice::from_ref(&x), &axis(-1)).expect("fits")),
        [2, 1, 0, 5, 4, 3]
    );
    assert_eq!(data::<i32>(&run(&REVERSE, &[x], &axis(0)).expect("fits")), [3, 4, 5, 0, 1, 2]);
    assert!(run(&REVERSE, &[tensor(&[], &[1u8])], &axis(0)).is_err());
    assert!(data::<u8>(&run(&REVERSE, &[tensor::<u8>(&[2, 0], &[])], &axis(1)).expect("fits")).is_empty());
}

#[test]
fn reverse_sequence() {
    let x = tensor(&[3, 4], &iota(12));
    let y =
        run(&REVERSE_SEQUENCE, &[x.clone(), tensor(&[3], &[1i32, 2, 99])], &attrs(&REVERSE_SEQUENCE, &[]))
            .expect("fits");
    assert_eq!(data::<i32>(&y), [0, 1, 2, 3, 5, 4, 6, 7, 11, 10, 9, 8]);
    let other =
        attrs(&REVERSE_SEQUENCE, &[("seq_axis", AttrValue::Int(0)), ("batch_axis", AttrValue::Int(1))]);
    let y = run(&REVERSE_SEQUENCE, &[x, tensor(&[4], &[3i64, 2, 0, -5])], &other).expect("fits");
    assert_eq!(data::<i32>(&y), [8, 5, 2, 3, 4, 1, 6, 7, 0, 9, 10, 11]);
}

#[test]
fn layouts() {
    let to = |src: &str, dst: &str| {
        attrs(&LAYOUT_TRANSFORM, &[("src_layout", text(src)), ("dst_layout", text(dst))])
    };
    let x = tensor(&[1, 4, 1, 2], &iota(8));
    let packed = run(&LAYOUT_TRANSFORM, std::slice::from_ref(&x), &to("NCHW", "NCHW2c")).expect("fits");
    assert_eq!(packed.ty(), Type::tensor(&[1, 2, 1, 2, 2], DType::I32));
    assert_eq!(data::<i32>(&packed), [0, 2, 1, 3, 4, 6, 5, 7]);
    let back = run(&LAYOUT_TRANSFORM, std::slice::from_ref(&packed), &to("NCHW2c", "NCHW")).expect("fits");
    assert_eq!(data::<i32>(&back), iota(8));
    let last = run(&LAYOUT_TRANSFORM, std::slice::from_ref(&packed), &to("NCHW2c", "NHWC")).expect("fits");
    assert_eq!(data::<i32>(&last), [0, 2, 4, 6, 1, 3, 5, 7]);
    let wider = run(&LAYOUT_TRANSFORM, &[packed], &to("NCHW2c", "NCHW4c")).expect("fits");
    assert_eq!(data::<i32>(&wider), [0, 2, 4, 6, 1, 3, 5, 7]);
    let nhwc = run(&LAYOUT_TRANSFORM, &[x], &to("NCHW", "NHWC")).expect("fits");
    assert_eq!(data::<i32>(&nhwc), [0, 2, 4, 6, 1, 3, 5, 7]);
    let n = TensorType::new(
        vec![Dim::Sym("n".into()), Dim::Static(8), Dim::Static(2), Dim::Static(2)],
        DType::F32,
    );
    let found = infer(&LAYOUT_TRANSFORM, &[n.clone().into()], &to("NCHW", "NCHW4c")).expect("fits");
    assert_eq!(
        found.as_tensor().map(|t| t.shape.clone()),
        Some(vec![Dim::Sym("n".into()), 2.into(), 2.into(), 2.into(), 4.into()])
    );
    assert!(infer(&LAYOUT_TRANSFORM, &[n.clone().into()], &to("NCHW", "NCHW3c")).is_err());
    assert!(infer(&LAYOUT_TRANSFORM, &[n.into()], &to("NCHW", "NCDHW")).is_err());
}
