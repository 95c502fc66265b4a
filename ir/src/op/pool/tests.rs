//! What poolings make of small tensors, by numpy's account.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Dim, TensorType, Type};

fn f32s(shape: &[usize]) -> Value {
    let n = shape.iter().product();
    tensor(shape, &(0..n).map(|i: usize| ((i * 7) % 11) as f32 - 5.0).collect::<Vec<_>>())
}

fn pooled(op: &OpDef, x: Value, given: &[(&str, AttrValue)]) -> Vec<f32> {
    data(&run(op, &[x], &attrs(op, given)).unwrap())
}

#[test]
fn windows_of_one_axis() {
    let x = || tensor(&[1, 1, 5], &[1f32, 2.0, 3.0, 4.0, 5.0]);
    let window = |k| ("pool_size", ints(&[k]));
    let stride = |s| ("strides", ints(&[s]));
    assert_eq!(pooled(&MAX_POOL1D, x(), &[window(2), stride(2)]), [2.0, 4.0]);
    let ceil = ("ceil_mode", AttrValue::Bool(true));
    assert_eq!(pooled(&MAX_POOL1D, x(), &[window(2), stride(2), ceil.clone()]), [2.0, 4.0, 5.0]);
    assert_eq!(pooled(&AVG_POOL1D, x(), &[window(2), stride(2), ceil.clone()]), [1.5, 3.5, 5.0]);
    let around = ("padding", ints(&[1]));
    assert_eq!(pooled(&AVG_POOL1D, x(), &[window(3), stride(2), around.clone()]), [1.5, 3.0, 4.5]);
    let include = ("count_include_pad", AttrValue::Bool(true));
    assert_eq!(
        pooled(&AVG_POOL1D, x(), &[window(3), stride(2), around.clone(), include.clone()]),
        [1.0, 3.0, 3.0]
    );
    // The last window has one element and one zero; what is past the padding is not counted.
    let after = ("padding", ints(&[0, 1]));
    assert_eq!(pooled(&AVG_POOL1D, x(), &[window(3), stride(4), after, include, ceil]), [2.0, 2.5]);
    let dilated = ("dilation", ints(&[2]));
    assert_eq!(
        pooled(&MAX_POOL1D, x(), &[window(2), dilated.clone(), around.clone()]),
        [2.0, 3.0, 4.0, 5.0, 4.0]
    );
    assert_eq!(pooled(&AVG_POOL1D, x(), &[window(2), dilated, around]), [2.0, 2.0, 3.0, 4.0, 4.0]);
}

#[test]
fn windows_of_two_and_three_axes() {
    let given = [("pool_size", ints(&[2, 3])), ("strides", ints(&[1, 2])), ("padding", ints(&[1, 0, 0, 2]))];
    let x = f32s(&[1, 2, 3, 4]);
    assert_eq!(
        pooled(&MAX_POOL2D, x.clone(), &given),
        [2.0, 5.0, 4.0, 5.0, 4.0, 4.0, 5.0, 5.0, 5.0, 5.0, 4.0, 2.0]
    );
    assert_eq!(
        pooled(&AVG_POOL2D, x, &given),
        [-5.0 / 3.0, 1.5, -0.5, 1.75, 0.0, -0.5, 5.0 / 3.0, 3.0, 1.0, 0.5, -1.0 / 3.0, -1.75]
    );
    let x = tensor(&[1, 1, 2, 2, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let cube = [("pool_size", ints(&[2]))];
    assert_eq!(pooled(&MAX_POOL3D, x.clone(), &cube), [8.0]);
    assert_eq!(pooled(&AVG_POOL3D, x, &cube), [4.5]);
}

#[test]
fn layouts() {
    let x = tensor(&[1, 2, 2, 2], &[1f32, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
    let given = [("pool_size", ints(&[2, 2])), ("layout", text("NHWC"))];
    assert_eq!(pooled(&MAX_POOL2D, x.clone(), &given), [4.0, 40.0]);
    assert_eq!(pooled(&GLOBAL_AVG_POOL2D, x.clone(), &[("layout", text("NHWC"))]), [2.5, 25.0]);
    let y = run(&GLOBAL_MAX_POOL2D, &[x], &attrs(&GLOBAL_MAX_POOL2D, &[])).unwrap();
    assert_eq!((data::<f32>(&y), y.as_tensor().unwrap().shape()), (vec![20.0, 40.0], &[1, 2, 1, 1][..]));
}

#[test]
fn shares() {
    let x = || tensor(&[1, 1, 5], &[1f32, 2.0, 3.0, 4.0, 5.0]);
    let three = [("output_size", ints(&[3]))];
    assert_eq!(pooled(&ADAPTIVE_AVG_POOL1D, x(), &three), [1.5, 3.0, 4.5]);
    assert_eq!(pooled(&ADAPTIVE_MAX_POOL1D, x(), &three), [2.0, 4.0, 5.0]);
    assert_eq!(pooled(&ADAPTIVE_MAX_POOL1D, x(), &[]), [1.0, 2.0, 3.0, 4.0, 5.0]);
    let square = tensor(&[1, 1, 3, 4], &(0..12).map(|v| v as f32).collect::<Vec<_>>());
    assert_eq!(
        pooled(&ADAPTIVE_AVG_POOL2D, square.clone(), &[("output_size", ints(&[2, 2]))]),
        [2.5, 4.5, 6.5, 8.5]
    );
    assert_eq!(pooled(&ADAPTIVE_MAX_POOL2D, square, &[("output_size", ints(&[1]))]), [11.0]);
    let cube = f32s(&[1, 1, 2, 3, 2]);
    run(
        &ADAPTIVE_AVG_POOL3D,
        std::slice::from_ref(&cube),
        &attrs(&ADAPTIVE_AVG_POOL3D, &[("output_size", ints(&[2, 2, 1]))]),
    )
    .unwrap();
    run(&ADAPTIVE_MAX_POOL3D, &[cube], &attrs(&ADAPTIVE_MAX_POOL3D, &[("output_size", ints(&[1, 2, 2]))]))
        .unwrap();
}

#[test]
fn dtypes_and_edges() {
    let two = [("pool_size", ints(&[2]))];
    let x = tensor(&[1, 1, 3], &[u64::MAX, 1, 2]);
    assert_eq!(data::<u64>(&run(&MAX_POOL1D, &[x], &attrs(&MAX_POOL1D, &two)).unwrap()), [u64::MAX, 2]);
    let x = tensor(&[1, 1, 3], &[-5i8, -3, 2]);
    assert_eq!(data::<i8>(&run(&AVG_POOL1D, &[x], &attrs(&AVG_POOL1D, &two)).unwrap()), [-4, 0]);
    let x = tensor(&[1, 1, 3], &[f32::NAN, 1.0, 2.0]);
    let y = pooled(&MAX_POOL1D, x, &two);
    assert!(y[0].is_nan() && y[1] == 2.0);
    let half = half::f16::from_f32;
    let x = tensor(&[1, 1, 2], &[half(60000.0), half(60000.0)]);
    assert_eq!(
        data::<half::f16>(&run(&AVG_POOL1D, &[x], &attrs(&AVG_POOL1D, &two)).unwrap()),
        [half(60000.0)]
    );
    let y = run(&MAX_POOL1D, &[tensor::<f32>(&[0, 2, 4], &[])], &attrs(&MAX_POOL1D, &two)).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [0, 2, 3]);
    // A window in the padding alone.
    let x = tensor(&[1, 1, 1], &[3i16]);
    let wide = [("pool_size", ints(&[1])), ("padding", ints(&[1]))];
    assert_eq!(
        data::<i16>(&run(&MAX_POOL1D, std::slice::from_ref(&x), &attrs(&MAX_POOL1D, &wide)).unwrap()),
        [i16::MIN, 3, i16::MIN]
    );
    assert_eq!(data::<i16>(&run(&AVG_POOL1D, &[x], &attrs(&AVG_POOL1D, &wide)).unwrap()), [0, 3, 0]);
    let nothing = Type::tensor(&[1, 1, 0], DType::F32);
    assert!(infer(&MAX_POOL1D, std::slice::from_ref(&nothing), &attrs(&MAX_POOL1D, &two)).is_err());
    assert!(
        infer(&ADAPTIVE_AVG_POOL1D, &[nothing], &attrs(&ADAPTIVE_AVG_POOL1D, &[("output_size", ints(&[1]))]))
            .is_err()
    );
}

#[test]
fn indices_of_maxima() {
    let x = tensor(&[1, 1, 3, 3], &[1f32, 9.0, 9.0, 2.0, 3.0, 4.0, 7.0, 5.0, 6.0]);
    let op = &MAX_POOL2D_WITH_INDEX;
    let window = ("pool_size", ints(&[2, 2]));
    let indices = |given: &[(&str, AttrValue)]| {
        let y = run(op, std::slice::from_ref(&x), &attrs(op, given)).unwrap();
        let fields = y.as_tuple().unwrap();
        (data::<f32>(&fields[0]), data::<i64>(&fields[1]))
    };
    assert_eq!(indices(std::slice::from_ref(&window)), (vec![9.0, 9.0, 7.0, 6.0], vec![1, 1, 6, 8]));
    let by_columns = ("column_major", AttrValue::Bool(true));
    assert_eq!(indices(&[window.clone(), by_columns]).1, [3, 3, 2, 8]);
    let (values, at) = indices(&[window, ("padding", ints(&[1])), ("strides", ints(&[3]))]);
    assert_eq!((values, at), (vec![1.0, 9.0, 7.0, 6.0], vec![0, 2, 6, 8]));
}

#[test]
fn symbolic_dimensions() {
    let x: Type = TensorType::new(vec![Dim::Sym("n".into()), 3.into(), Dim::Any], DType::F32).into();
    let y = infer(&MAX_POOL1D, std::slice::from_ref(&x), &attrs(&MAX_POOL1D, &[("pool_size", ints(&[2]))]))
        .unwrap();
    assert_eq!(y.as_tensor().unwrap().shape, [Dim::Sym("n".into()), 3.into(), Dim::Any]);
    let y = infer(&ADAPTIVE_AVG_POOL1D, &[x], &attrs(&ADAPTIVE_AVG_POOL1D, &[("output_size", ints(&[2]))]))
        .unwrap();
    assert_eq!(y.as_tensor().unwrap().shape[2], 2.into());
}
