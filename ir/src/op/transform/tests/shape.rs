//! Reshaping: types over known, named and unknown dimensions.

use crate::op::testing::{attrs, data, infer, ints, run, tensor};
use crate::op::transform::{
    BATCH_FLATTEN, EXPAND_DIMS, EXPAND_LIKE, RESHAPE, RESHAPE_LIKE, REVERSE_RESHAPE, SQUEEZE,
};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

/// A float32 tensor type with dimensions as they are written.
fn ty(dims: &str) -> Type {
    let dim = |s: &str| match (s, s.parse()) {
        (_, Ok(n)) => Dim::Static(n),
        ("?", _) => Dim::Any,
        _ => Dim::Sym(s.into()),
    };
    TensorType::new(dims.split_whitespace().map(dim).collect(), DType::F32).into()
}

fn check(op: &OpDef, args: &[&str], given: &[(&str, AttrValue)], expected: Option<&str>) {
    let args: Vec<Type> = args.iter().map(|s| ty(s)).collect();
    let found = infer(op, &args, &attrs(op, given));
    assert_eq!(found.clone().ok(), expected.map(ty), "{} {args:?} {given:?} {found:?}", op.name);
}

#[test]
fn reshape_codes() {
    for (input, codes, expected) in [
        ("2 3 4", &[6, 4][..], Some("6 4")),
        ("2 3 4", &[4, 0, 2], Some("4 3 2")),
        ("2 3 4", &[2, 0, 0], Some("2 3 4")),
        ("2 3 4", &[6, 1, -1], Some("6 1 4")),
        ("2 3 4", &[3, -1, 8], Some("3 1 8")),
        ("2 3 4", &[-1], Some("24")),
        ("2 3 4", &[-2], Some("2 3 4")),
        ("2 3 4", &[2, -2], Some("2 3 4")),
        ("2 3 4", &[-2, 1, 1], Some("2 3 4 1 1")),
        ("2 3 4", &[-3, 4], Some("6 4")),
        ("2 3 4 5", &[-3, -3], Some("6 20")),
        ("2 3 4", &[0, -3], Some("2 12")),
        ("2 3 4", &[-3, -2], Some("6 4")),
        ("2 3 4", &[-4, 1, 2, -2], Some("1 2 3 4")),
        ("2 3 4", &[2, -4, -1, 3, -2], Some("2 1 3 4")),
        ("", &[1, 1], Some("1 1")),
        ("1", &[], Some("")),
        ("0 3", &[-1, 3], Some("0 3")),
        ("n 3 4", &[0, -1], Some("n 12")),
        ("n 3 4", &[-1, 12], Some("n 12")),
        ("n 3 4", &[-1, 4], Some("? 4")),
        ("n 3 4", &[-1, 3, 4], Some("n 3 4")),
        ("n m", &[-3], Some("?")),
        ("? 3 4", &[0, -1], Some("? 12")),
        ("? 3 4", &[-1, 6], Some("? 6")),
        ("? 4", &[0, -4, 2, -1], Some("? 2 2")),
        ("n 12", &[-4, 2, -1, -2], Some("2 ? 12")),
        ("2 3", &[7], None),
        ("2 3", &[-1, 4], None),
        ("2 3", &[-1, -1], None),
        ("2 3", &[0, 0, 0], None),
        ("2 3", &[-4, 2], None),
        ("2 3", &[-4, 3, -1, 3], None),
        ("2 3", &[-5], None),
        ("6", &[-3], None),
        ("0", &[0, -1], Some("0 1")),
    ] {
        check(&RESHAPE, &[input], &[("newshape", ints(codes))], expected);
    }
    let zero = |codes: &[i64]| [("newshape", ints(codes)), ("allowzero", AttrValue::Bool(true))];
    check(&RESHAPE, &["3 0 2"], &zero(&[0, 7]), Some("0 7"));
    check(&RESHAPE, &["3 1 2"], &zero(&[0, 7]), None);
}

#[test]
fn reverse_reshape_codes() {
    for (input, codes, expected) in [
        ("10 5 4", &[-1, 0][..], Some("50 4")),
        ("4 8 16 16", &[32, 0, -1], Some("32 16 16")),
        ("2 3 8", &[0, -4, 2, 4], None),
    ] {
        check(&REVERSE_RESHAPE, &[input], &[("newshape", ints(codes))], expected);
    }
    check(&REVERSE_RESHAPE, &["2 3 8"], &[("newshape", ints(&[0, 0, -4, 2, 4]))], Some("2 3 2 4"));
}

#[test]
fn reshape_like_parts() {
    let int = AttrValue::Int;
    let part = [("lhs_begin", int(2)), ("rhs_begin", int(1))];
    check(&RESHAPE_LIKE, &["2 3 4", "6 2 2"], &part, Some("2 3 2 2"));
    check(&RESHAPE_LIKE, &["1 2 3 4", "6 4"], &[], Some("6 4"));
    let middle = [("lhs_begin", int(1)), ("lhs_end", int(3)), ("rhs_begin", int(0)), ("rhs_end", int(1))];
    check(&RESHAPE_LIKE, &["2 3 4 5", "12 7"], &middle, Some("2 12 5"));
    check(&RESHAPE_LIKE, &["2 3", "7"], &[], None);
    check(&RESHAPE_LIKE, &["2 3", "6"], &[("lhs_begin", int(3))], None);
    check(&RESHAPE_LIKE, &["n 6", "n 2 3"], &[("lhs_begin", int(-1)), ("rhs_begin", int(1))], Some("n 2 3"));
}

#[test]
fn squeeze_and_expand() {
    let int = AttrValue::Int;
    check(&SQUEEZE, &["1 4 1"], &[("axis", ints(&[2]))], Some("1 4"));
    check(&SQUEEZE, &["1 4 1"], &[], Some("4"));
    check(&SQUEEZE, &["1 4 1"], &[("axis", ints(&[-1, 0]))], Some("4"));
    check(&SQUEEZE, &["1 4 1"], &[("axis", ints(&[1]))], None);
    check(&SQUEEZE, &["1 ? n"], &[("axis", ints(&[1]))], Some("1 n"));
    check(&SQUEEZE, &["1 ?"], &[], None);
    check(&EXPAND_DIMS, &["3 4"], &[("axis", int(-1))], Some("3 4 1"));
    check(&EXPAND_DIMS, &["3 4"], &[("axis", int(1)), ("num_newaxis", int(2))], Some("3 1 1 4"));
    check(&EXPAND_DIMS, &[""], &[("axis", int(0))], Some("1"));
    check(&EXPAND_DIMS, &["3"], &[("axis", int(2))], None);
    check(&EXPAND_DIMS, &["3"], &[("axis", int(0)), ("num_newaxis", int(17))], None);
    check(&EXPAND_DIMS, &["3"], &[("axis", int(i64::MIN))], None);
    check(&BATCH_FLATTEN, &["n 3 4"], &[], Some("n 12"));
    check(&BATCH_FLATTEN, &["2"], &[], Some("2 1"));
    check(&BATCH_FLATTEN, &[""], &[], None);
    check(&EXPAND_LIKE, &["3", "2 3"], &[("axis", ints(&[0]))], Some("2 3"));
    check(&EXPAND_LIKE, &["4", "2 3"], &[("axis", ints(&[0]))], None);
}

#[test]
fn values_keep_their_order() {
    let x: Vec<i16> = (0..24).collect();
    let to = |codes: &[i64]| attrs(&RESHAPE, &[("newshape", ints(codes))]);
    for codes in [&[6, 4][..], &[24], &[4, 6], &[2, 2, 2, 3], &[1, 24, 1], &[8, 3]] {
        let y = run(&RESHAPE, &[tensor(&[2, 3, 4], &x)], &to(codes)).expect("fits");
        assert_eq!(data::<i16>(&y), x);
    }
    let y = run(
        &EXPAND_LIKE,
        &[tensor(&[2], &[1u8, 2]), tensor(&[2, 3], &[0f32; 6])],
        &attrs(&EXPAND_LIKE, &[("axis", ints(&[1]))]),
    );
    assert_eq!(data::<u8>(&y.expect("fits")), [1, 1, 1, 2, 2, 2]);
    let empty = run(&RESHAPE, &[tensor::<f32>(&[0, 3], &[])], &to(&[3, -1])).expect("fits");
    assert_eq!(empty.ty(), Type::tensor(&[3, 0], DType::F32));
}
