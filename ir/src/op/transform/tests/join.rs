//! Joining, splitting, repeating.

use crate::op::testing::{attrs, data, infer, ints, run, tensor, text, tuple};
use crate::op::transform::{CONCATENATE, MESHGRID, REPEAT, SPLIT, STACK, TILE};
use crate::op::{AttrValue, Attrs, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

fn axis(op: &OpDef, n: i64) -> Attrs {
    attrs(op, &[("axis", AttrValue::Int(n))])
}

fn named(dims: &[Dim]) -> Type {
    TensorType::new(dims.to_vec(), DType::F32).into()
}

fn sym(name: &str) -> Dim {
    Dim::Sym(name.into())
}

#[test]
fn concatenate() {
    let (a, b) = (tensor(&[2, 1], &[1i8, 2]), tensor(&[2, 2], &[3i8, 4, 5, 6]));
    let empty = tensor::<i8>(&[2, 0], &[]);
    let y = run(&CONCATENATE, &[tuple(&[a.clone(), empty.clone(), b.clone()])], &axis(&CONCATENATE, -1))
        .expect("fits");
    assert_eq!(data::<i8>(&y), [1, 3, 4, 2, 5, 6]);
    let y = run(&CONCATENATE, &[tuple(&[b.clone(), b.clone(), b])], &axis(&CONCATENATE, 0)).expect("fits");
    assert_eq!(data::<i8>(&y), [3, 4, 5, 6].repeat(3));
    let y = run(&CONCATENATE, &[tuple(&[empty.clone(), empty])], &axis(&CONCATENATE, 1)).expect("fits");
    assert!(data::<i8>(&y).is_empty());
    assert!(run(&CONCATENATE, &[tuple(&[])], &axis(&CONCATENATE, 0)).is_err());
    assert!(
        run(&CONCATENATE, &[tuple(&[a.clone(), tensor(&[3, 1], &[0i8; 3])])], &axis(&CONCATENATE, 1))
            .is_err()
    );
    assert!(
        run(&CONCATENATE, &[tuple(&[a.clone(), tensor(&[2, 1], &[0u8; 2])])], &axis(&CONCATENATE, 1))
            .is_err()
    );
    assert!(run(&CONCATENATE, &[tuple(&[a, tensor(&[2], &[0i8; 2])])], &axis(&CONCATENATE, 1)).is_err());
}

#[test]
fn concatenate_of_unknown_dims() {
    let join = |fields: &[&[Dim]], d: i64| {
        let fields = Type::tuple(fields.iter().map(|f| named(f)));
        infer(&CONCATENATE, &[fields], &axis(&CONCATENATE, d))
    };
    assert_eq!(join(&[&[sym("n"), 3.into()], &[sym("n"), 4.into()]], 1), Ok(named(&[sym("n"), 7.into()])));
    assert_eq!(join(&[&[sym("n"), 3.into()], &[2.into(), 3.into()]], 0), Ok(named(&[Dim::Any, 3.into()])));
    assert_eq!(join(&[&[sym("n"), 3.into()], &[0.into(), 3.into()]], 0), Ok(named(&[sym("n"), 3.into()])));
    assert_eq!(join(&[&[Dim::Any, 3.into()], &[2.into(), Dim::Any]], 1), Ok(named(&[2.into(), Dim::Any])));
}

#[test]
fn stack() {
    let fields = tuple(&[tensor(&[2], &[1u64, 2]), tensor(&[2], &[3u64, 4]), tensor(&[2], &[5u64, 6])]);
    let y = run(&STACK, std::slice::from_ref(&fields), &axis(&STACK, 0)).expect("fits");
    assert_eq!((data::<u64>(&y), y.ty()), (vec![1, 2, 3, 4, 5, 6], Type::tensor(&[3, 2], DType::U64)));
    let y = run(&STACK, &[fields], &axis(&STACK, -1)).expect("fits");
    assert_eq!((data::<u64>(&y), y.ty()), (vec![1, 3, 5, 2, 4, 6], Type::tensor(&[2, 3], DType::U64)));
    let y = run(&STACK, &[tuple(&[tensor(&[], &[7f32])])], &axis(&STACK, 0)).expect("fits");
    assert_eq!(y.ty(), Type::tensor(&[1], DType::F32));
}

#[test]
fn split() {
    let x = tensor(&[2, 4], &[0i32, 1, 2, 3, 4, 5, 6, 7]);
    let cut =
        |v: AttrValue, d: i64| attrs(&SPLIT, &[("indices_or_sections", v), ("axis", AttrValue::Int(d))]);
    let parts = |v: AttrValue, d: i64| -> Vec<Vec<i32>> {
        let y = run(&SPLIT, std::slice::from_ref(&x), &cut(v, d)).expect("fits");
        y.as_tuple().expect("a tuple").iter().map(data::<i32>).collect()
    };
    assert_eq!(parts(AttrValue::Int(2), 1), [[0, 1, 4, 5], [2, 3, 6, 7]]);
    assert_eq!(parts(ints(&[1]), -1), [vec![0, 4], vec![1, 2, 3, 5, 6, 7]]);
    assert_eq!(parts(ints(&[0, 2, 2]), 0), [vec![], (0..8).collect(), vec![], vec![]]);
    assert_eq!(parts(ints(&[]), 0), [(0..8).collect::<Vec<i32>>()]);
    for bad in
        [AttrValue::Int(3), AttrValue::Int(0), AttrValue::Int(-1), ints(&[3, 2]), ints(&[5]), ints(&[-1])]
    {
        assert!(run(&SPLIT, std::slice::from_ref(&x), &cut(bad, 1)).is_err());
    }
    let unknown = infer(&SPLIT, &[named(&[sym("n")])], &cut(ints(&[2]), 0)).expect("may fit");
    assert_eq!(unknown, Type::tuple([named(&[2.into()]), named(&[Dim::Any])]));
}

#[test]
fn repeat() {
    let x = tensor(&[2, 2], &[0f64, 1.0, 2.0, 3.0]);
    let times = |n: i64, d: Option<i64>| {
        attrs(&REPEAT, &[("repeats", AttrValue::Int(n)), ("axis", d.map_or(AttrValue::None, AttrValue::Int))])
    };
    let y = |n, d| data::<f64>(&run(&REPEAT, std::slice::from_ref(&x), &times(n, d)).expect("fits"));
    assert_eq!(y(2, Some(1)), [0., 0., 1., 1., 2., 2., 3., 3.]);
    assert_eq!(y(2, Some(-2)), [0., 1., 0., 1., 2., 3., 2., 3.]);
    assert_eq!(y(2, None), [0., 0., 1., 1., 2., 2., 3., 3.]);
    assert!(y(0, Some(0)).is_empty());
    assert!(run(&REPEAT, std::slice::from_ref(&x), &times(-1, Some(0))).is_err());
    assert!(run(&REPEAT, std::slice::from_ref(&x), &times(i64::MAX, Some(0))).is_err());
    assert_eq!(
        infer(&REPEAT, &[named(&[sym("n"), 2.into()])], &times(1, Some(0))),
        Ok(named(&[sym("n"), 2.into()]))
    );
}

#[test]
fn tile() {
    let x = tensor(&[2, 2], &[0u16, 1, 2, 3]);
    let y = |reps: &[i64]| {
        data::<u16>(
            &run(&TILE, std::slice::from_ref(&x), &attrs(&TILE, &[("reps", ints(reps))])).expect("fits"),
        )
    };
    assert_eq!(y(&[2, 1, 2]), [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]);
    assert_eq!(y(&[2]), [0, 1, 0, 1, 2, 3, 2, 3]);
    assert_eq!(y(&[]), [0, 1, 2, 3]);
    assert!(y(&[0, 1]).is_empty());
    assert!(run(&TILE, std::slice::from_ref(&x), &attrs(&TILE, &[("reps", ints(&[1; 17]))])).is_err());
    let scalar = run(&TILE, &[tensor(&[], &[5i64])], &attrs(&TILE, &[("reps", ints(&[3]))])).expect("fits");
    assert_eq!(data::<i64>(&scalar), [5, 5, 5]);
}

#[test]
fn meshgrid() {
    let fields = tuple(&[tensor(&[2], &[1i32, 2]), tensor(&[3], &[3i32, 4, 5]), tensor(&[], &[6i32])]);
    let grid = |indexing: &str| {
        let y = run(
            &MESHGRID,
            std::slice::from_ref(&fields),
            &attrs(&MESHGRID, &[("indexing", text(indexing))]),
        )?;
        Ok::<_, crate::op::OpError>(
            y.as_tuple().expect("a tuple").iter().map(data::<i32>).collect::<Vec<_>>(),
        )
    };
    assert_eq!(grid("ij").expect("fits"), [[1, 1, 1, 2, 2, 2], [3, 4, 5, 3, 4, 5], [6; 6]]);
    assert_eq!(grid("xy").expect("fits"), [[1, 2, 1, 2, 1, 2], [3, 3, 4, 4, 5, 5], [6; 6]]);
    assert!(grid("yx").is_err());
}
