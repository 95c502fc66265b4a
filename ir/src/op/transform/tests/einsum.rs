//! Sums of products.

use crate::eval::Value;
use crate::op::OpError;
use crate::op::testing::{attrs, data, infer, run, tensor, text, tuple};
use crate::op::transform::EINSUM;
use crate::tensor::Bool8;
use crate::types::{DType, Dim, TensorType, Type};
use half::bf16;

fn einsum(equation: &str, fields: &[Value]) -> Result<Value, OpError> {
    run(&EINSUM, &[tuple(fields)], &attrs(&EINSUM, &[("equation", text(equation))]))
}

fn grid(shape: &[usize]) -> Value {
    tensor(shape, &(0..shape.iter().product::<usize>() as i32).collect::<Vec<_>>())
}

fn ints(equation: &str, shapes: &[&[usize]]) -> Vec<i32> {
    data(&einsum(equation, &shapes.iter().map(|s| grid(s)).collect::<Vec<_>>()).expect("fits"))
}

#[test]
fn products_sums_and_diagonals() {
    assert_eq!(ints("ij,jk->ik", &[&[2, 3], &[3, 2]]), [10, 13, 28, 40]);
    assert_eq!(ints("ij, jk", &[&[2, 3], &[3, 2]]), [10, 13, 28, 40]);
    assert_eq!(ints("ij->ji", &[&[2, 3]]), [0, 3, 1, 4, 2, 5]);
    assert_eq!(ints("ba", &[&[2, 3]]), [0, 3, 1, 4, 2, 5]);
    assert_eq!(ints("ii->i", &[&[3, 3]]), [0, 4, 8]);
    assert_eq!(ints("ii", &[&[3, 3]]), [12]);
    assert_eq!(ints("ij->", &[&[2, 3]]), [15]);
    assert_eq!(ints("i,i->i", &[&[3], &[3]]), [0, 1, 4]);
    assert_eq!(ints("i,j->ij", &[&[2], &[3]]), [0, 0, 0, 0, 1, 2]);
    assert_eq!(ints("i,i,i->", &[&[3], &[3], &[3]]), [9]);
    assert_eq!(ints("...ij,...jk->...ik", &[&[2, 1, 2], &[2, 2]]), [2, 3, 6, 11]);
    assert_eq!(ints("...->...", &[&[2, 2]]), [0, 1, 2, 3]);
    assert_eq!(ints("ij,ij->ij", &[&[1, 2], &[2, 2]]), [0, 1, 0, 3]);
    assert_eq!(ints(",->", &[&[], &[]]), [0]);
    assert_eq!(ints("ij,jk->ik", &[&[2, 0], &[0, 2]]), [0; 4]);
}

#[test]
fn dtypes() {
    let half = tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0].map(bf16::from_f32));
    assert_eq!(
        data::<bf16>(&einsum("ij,kj->ik", &[half.clone(), half]).expect("fits")),
        [5., 11., 11., 25.].map(bf16::from_f32)
    );
    let bytes = tensor(&[2], &[200u8, 100]);
    assert_eq!(data::<u8>(&einsum("i,i->", &[bytes.clone(), bytes]).expect("fits")), [80]);
    let bits = tensor(&[2, 2], &[Bool8(1), Bool8(0), Bool8(1), Bool8(1)]);
    assert_eq!(
        data::<Bool8>(&einsum("ij,jk->ik", &[bits.clone(), bits]).expect("fits")),
        [1, 0, 1, 1].map(Bool8)
    );
    let x = tensor(&[2], &[0.5f64, f64::NAN]);
    assert!(data::<f64>(&einsum("i->", &[x]).expect("fits"))[0].is_nan());
}

#[test]
fn wrong_equations() {
    for (equation, shapes) in [
        ("ij", &[&[2][..]][..]),
        ("i,j", &[&[2]]),
        ("i->ii", &[&[2]]),
        ("i->j", &[&[2]]),
        ("i1", &[&[2, 2]]),
        ("i.j", &[&[2, 2]]),
        ("ij,jk->ik", &[&[2, 3], &[2, 3]]),
        ("......", &[&[2]]),
        ("", &[&[2]]),
    ] {
        let fields: Vec<Value> = shapes.iter().map(|s| grid(s)).collect();
        assert!(einsum(equation, &fields).is_err(), "{equation}");
    }
    assert!(einsum("", &[]).is_err());
}

#[test]
fn unknown_dims() {
    let ty = |dims: &[Dim]| Type::from(TensorType::new(dims.to_vec(), DType::F32));
    let n = || Dim::Sym("n".into());
    let args = Type::tuple([ty(&[n(), 3.into()]), ty(&[Dim::Any, 4.into()])]);
    let found = infer(&EINSUM, &[args], &attrs(&EINSUM, &[("equation", text("ij,jk->ik"))]));
    assert_eq!(found, Ok(ty(&[n(), 4.into()])));
}
