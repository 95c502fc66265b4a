//! What convolutions make of small tensors, by numpy's account.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::{AttrValue, OpDef};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

/// Whole numbers from -5 to 5 in a fixed order.
fn seq(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product::<usize>()).map(|i| ((i * 7) % 11) as f32 - 5.0).collect()
}

fn f32s(shape: &[usize]) -> Value {
    tensor(shape, &seq(shape))
}

/// Runs a convolution of `seq`s and checks the shape and the elements.
fn check(
    op: &OpDef,
    x: &[usize],
    w: &[usize],
    given: &[(&str, AttrValue)],
    shape: &[usize],
    expected: &[f32],
) {
    let y = run(op, &[f32s(x), f32s(w)], &attrs(op, given)).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), shape);
    assert_eq!(data::<f32>(&y), expected);
}

#[test]
fn strides_dilation_and_uneven_padding() {
    let given = [("strides", ints(&[2, 1])), ("padding", ints(&[1, 0, 2, 1])), ("dilation", ints(&[1, 2]))];
    check(
        &CONV2D,
        &[1, 2, 4, 5],
        &[3, 2, 3, 2],
        &given,
        &[1, 3, 3, 4],
        &[
            -20., 26., 17., -26., 46., -44., 20., 63., -5., 35., -24., -12., -35., -15., 5., 23., 17., -35.,
            -21., -18., -10., 6., 0., 0., 27., -12., 4., -5., -23., 7., 15., -11., 29., -23., -20., 12.,
        ],
    );
}

#[test]
fn groups() {
    let expected = [
        38., -25., -19., -60., 32., 3., -11., -18., 15., 20., -14., 13., 7., 13., -30., 20., 41., -18., 18.,
        3., 64., -60., 55., -25.,
    ];
    check(&CONV2D, &[1, 4, 3, 3], &[6, 2, 2, 2], &[("groups", AttrValue::Int(2))], &[1, 6, 2, 2], &expected);
}

#[test]
fn depthwise_with_a_multiplier() {
    let given = [("groups", AttrValue::Int(2)), ("strides", ints(&[1, 2])), ("padding", ints(&[1, 1, 0, 1]))];
    let expected = [
        -11., -7., -4., -35., -5., 52., -5., -17., 6., -25., 1., 23., -14., -13., 11., -21., 13., 10., -14.,
        -21., 9., -29., 7., 18.,
    ];
    check(&CONV2D, &[1, 2, 3, 4], &[4, 1, 2, 3], &given, &[1, 4, 3, 2], &expected);
}

#[test]
fn transposed() {
    let given =
        [("strides", ints(&[2, 1])), ("padding", ints(&[1, 0, 1, 1])), ("output_padding", ints(&[1, 0]))];
    let expected = [
        30., -25., -6., -36., 30., 13., 5., 21., -15., -4., 1., 5., 32., -27., 2., 5., 23., 4., -11., 5., 1.,
        -20., -15., 21.,
    ];
    check(&CONV2D_TRANSPOSE, &[1, 2, 2, 3], &[2, 2, 3, 2], &given, &[1, 2, 4, 3], &expected);
}

#[test]
fn transposed_in_groups_with_dilation() {
    let given = [("strides", ints(&[2, 2])), ("dilation", ints(&[2, 1])), ("groups", AttrValue::Int(2))];
    let expected = [
        26., -13., -13., 13., 0., 0., 0., 0., 28., -41., -41., 20., 0., 0., 0., 0., 20., -10., -10., 25.,
        20., -16., -16., 13., 0., 0., 0., 0., 28., 9., 9., -34., 0., 0., 0., 0., 26., 10., 10., 26.,
    ];
    check(&CONV2D_TRANSPOSE, &[1, 4, 2, 2], &[4, 1, 2, 2], &given, &[1, 2, 5, 4], &expected);
}

#[test]
fn one_and_three_spatial_axes() {
    // [1, 2, 3] slid over [-5, 2, -2, 5] and its transpose.
    let x = tensor(&[1, 1, 4], &[-5f32, 2.0, -2.0, 5.0]);
    let w = tensor(&[1, 1, 3], &[1f32, 2.0, 3.0]);
    let y = run(&CONV1D, &[x.clone(), w.clone()], &attrs(&CONV1D, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [-7.0, 13.0]);
    let y = run(&CONV1D_TRANSPOSE, &[x, w], &attrs(&CONV1D_TRANSPOSE, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [-5.0, -8.0, -13.0, 7.0, 4.0, 15.0]);

    let ones = tensor(&[1, 1, 2, 2, 2], &[1f32; 8]);
    let x = tensor(&[1, 1, 2, 3, 2], &(0..12).map(|v| v as f32).collect::<Vec<_>>());
    let y = run(&CONV3D, &[x.clone(), ones.clone()], &attrs(&CONV3D, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [36.0, 52.0]);
    let y = run(&CONV3D_TRANSPOSE, &[x, ones], &attrs(&CONV3D_TRANSPOSE, &[])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [1, 1, 3, 4, 3]);
    assert_eq!(data::<f32>(&y).iter().sum::<f32>(), 8.0 * 66.0);
}

/// The data of one order in another, through the evaluator's own permutation.
fn permuted(value: &Value, axes: &[usize]) -> Value {
    let t = value.as_tensor().unwrap();
    let shape: Vec<usize> = axes.iter().map(|&a| t.shape()[a]).collect();
    let layout = crate::op::strided::Layout::dense(t.shape()).permuted(axes);
    crate::op::strided::pick(t, &layout, &shape).unwrap().into()
}

#[test]
fn layouts_agree() {
    let (x, w) = (f32s(&[2, 3, 4, 5]), f32s(&[4, 3, 2, 3]));
    let plain =
        run(&CONV2D, &[x.clone(), w.clone()], &attrs(&CONV2D, &[("padding", ints(&[1, 0]))])).unwrap();
    let given = [
        ("padding", ints(&[1, 0])),
        ("data_layout", text("NHWC")),
        ("kernel_layout", text("HWIO")),
        ("out_layout", text("NCHW")),
    ];
    let args = [permuted(&x, &[0, 2, 3, 1]), permuted(&w, &[2, 3, 1, 0])];
    let other = run(&CONV2D, &args, &attrs(&CONV2D, &given)).unwrap();
    assert!(plain.as_tensor().unwrap().bitwise_eq(other.as_tensor().unwrap()));
    let y = run(&CONV2D, &args, &attrs(&CONV2D, &given[..3])).unwrap();
    assert!(permuted(&y, &[0, 3, 1, 2]).as_tensor().unwrap().bitwise_eq(plain.as_tensor().unwrap()));
    assert!(infer(&CONV2D, &[x.ty(), w.ty()], &attrs(&CONV2D, &[("data_layout", text("NCHW16c"))])).is_err());
}

#[test]
fn integers_and_small_floats() {
    let x = tensor(&[1, 1, 1, 3], &[100i8, 100, -100]);
    let w = tensor(&[1, 1, 1, 2], &[2i8, 1]);
    let y = run(&CONV2D, &[x.clone(), w.clone()], &attrs(&CONV2D, &[])).unwrap();
    assert_eq!(data::<i8>(&y), [44, 100]);
    let wide = [("out_dtype", AttrValue::DType(DType::I32))];
    let y = run(&CONV2D, &[x, w.clone()], &attrs(&CONV2D, &wide)).unwrap();
    assert_eq!(data::<i32>(&y), [300, 100]);
    let unsigned = tensor(&[1, 1, 1, 3], &[255u8, 1, 0]);
    let y = run(&CONV2D, &[unsigned, w], &attrs(&CONV2D, &wide)).unwrap();
    assert_eq!(data::<i32>(&y), [511, 2]);
    let half = half::f16::from_f32;
    let x = tensor(&[1, 1, 1, 2], &[half(2048.0), half(1.0)]);
    let w = tensor(&[1, 1, 1, 2], &[half(1.0), half(1.0)]);
    let y = run(&CONV2D, &[x, w], &attrs(&CONV2D, &[])).unwrap();
    assert_eq!(data::<half::f16>(&y), [half(2048.0)]);
}

#[test]
fn empty_batches_and_no_input_channels() {
    let y = run(&CONV2D, &[f32s(&[0, 2, 3, 3]), f32s(&[4, 2, 2, 2])], &attrs(&CONV2D, &[])).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [0, 4, 2, 2]);
    let y = run(&CONV2D, &[f32s(&[1, 0, 3, 3]), f32s(&[1, 0, 2, 2])], &attrs(&CONV2D, &[])).unwrap();
    assert_eq!(data::<f32>(&y), [0.0; 4]);
}

#[test]
fn packed_weights_agree_with_plain_ones() {
    for (x, w, groups, mr) in [
        ([2, 4, 5, 6], [6, 4, 3, 2], 1, 4),
        ([1, 4, 3, 3], [6, 2, 1, 1], 2, 2),
        ([1, 3, 4, 4], [3, 1, 3, 3], 3, 8),
    ] {
        let (x, w) = (f32s(&x), f32s(&w));
        let shape = w.as_tensor().unwrap().shape().to_vec();
        let common = [("padding", ints(&[1, 0, 0, 1])), ("groups", AttrValue::Int(groups))];
        let plain = run(&CONV2D, &[x.clone(), w.clone()], &attrs(&CONV2D, &common)).unwrap();
        let given = [("mr", AttrValue::Int(mr)), ("groups", AttrValue::Int(groups))];
        let panels = run(&CONV2D_PACK_WEIGHT, &[w], &attrs(&CONV2D_PACK_WEIGHT, &given)).unwrap();
        let given = [
            &common[..],
            &[
                ("mr", AttrValue::Int(mr)),
                ("channels", AttrValue::Int(shape[0] as i64)),
                ("kernel_size", ints(&[shape[2] as i64, shape[3] as i64])),
            ],
        ];
        let packed = run(&CONV2D_PACKED, &[x, panels], &attrs(&CONV2D_PACKED, &given.concat())).unwrap();
        assert!(packed.as_tensor().unwrap().bitwise_eq(plain.as_tensor().unwrap()));
    }
}

#[test]
fn symbolic_dimensions_pass_where_they_can() {
    let (n, h) = (Dim::Sym("n".into()), Dim::Sym("h".into()));
    let x: Type = TensorType::new(vec![n.clone(), 3.into(), h.clone(), Dim::Any], DType::F32).into();
    let w = Type::tensor(&[8, 3, 3, 3], DType::F32);
    let same = infer(&CONV2D, &[x.clone(), w.clone()], &attrs(&CONV2D, &[("padding", ints(&[1]))])).unwrap();
    assert_eq!(same.as_tensor().unwrap().shape, [n.clone(), 8.into(), h, Dim::Any]);
    let halved = infer(&CONV2D, &[x, w], &attrs(&CONV2D, &[("strides", ints(&[2]))])).unwrap();
    assert_eq!(halved.as_tensor().unwrap().shape, [n, 8.into(), Dim::Any, Dim::Any]);
}

#[test]
fn weights_follow_from_channels_and_kernel_size() {
    let x = Type::tensor(&[1, 6, 8, 8], DType::F32);
    let given =
        [("channels", AttrValue::Int(4)), ("kernel_size", ints(&[3, 2])), ("groups", AttrValue::Int(2))];
    let found = (CONV2D.backward)(&[x.clone(), Type::Unknown], &attrs(&CONV2D, &given));
    assert_eq!(found, [(1, Type::tensor(&[4, 3, 3, 2], DType::F32))]);
    let found = (CONV2D_TRANSPOSE.backward)(&[x.clone(), Type::Unknown], &attrs(&CONV2D_TRANSPOSE, &given));
    assert_eq!(found, [(1, Type::tensor(&[6, 2, 3, 2], DType::F32))]);
    assert!((CONV2D.backward)(&[x, Type::Unknown], &attrs(&CONV2D, &[])).is_empty());
}

#[test]
fn mistakes_are_refused() {
    let ty = |shape: &[usize]| Type::tensor(shape, DType::F32);
    let refused = |x: &[usize], w: &[usize], given: &[(&str, AttrValue)]| {
        infer(&CONV2D, &[ty(x), ty(w)], &attrs(&CONV2D, given)).unwrap_err().message
    };
    assert_eq!(
        refused(&[1, 4, 3, 3], &[2, 3, 1, 1], &[]),
        "1 groups of 3 channels do not match 4 channels of data"
    );
    assert_eq!(refused(&[1, 1, 3, 3], &[2, 1, 4, 1], &[]), "a window of 4 does not fit 3 padded elements");
    refused(&[1, 1, 3, 3], &[2, 1, 0, 1], &[]);
    refused(&[1, 3, 3], &[2, 1, 1, 1], &[]);
    refused(&[1, 2, 3, 3], &[3, 1, 1, 1], &[("groups", AttrValue::Int(2))]);
    for (name, value) in [
        ("strides", ints(&[0, 1])),
        ("strides", ints(&[1, 1, 1])),
        ("dilation", ints(&[-1])),
        ("padding", ints(&[-1, 0])),
        ("padding", ints(&[i64::MAX])),
        ("groups", AttrValue::Int(0)),
        ("channels", AttrValue::Int(3)),
        ("kernel_size", ints(&[2, 2])),
        ("out_dtype", AttrValue::DType(DType::F16)),
    ] {
        refused(&[1, 1, 3, 3], &[2, 1, 1, 1], &[(name, value)]);
    }
    let cut = [("padding", ints(&[3]))];
    assert!(
        infer(&CONV2D_TRANSPOSE, &[ty(&[1, 1, 2, 2]), ty(&[1, 1, 2, 2])], &attrs(&CONV2D_TRANSPOSE, &cut))
            .is_err()
    );
}

#[test]
fn large_sizes_are_blocked_the_same() {
    // More columns than one block of panels holds, and rows that do not fill a register tile.
    let x: Vec<i32> = (0..70 * 40 * 40).map(|v| v % 13 - 6).collect();
    let w: Vec<i32> = (0..5 * 70 * 9).map(|v| v % 7 - 3).collect();
    let args: [Value; 2] = [
        Tensor::from_slice(&[1, 70, 40, 40], &x).unwrap().into(),
        Tensor::from_slice(&[5, 70, 3, 3], &w).unwrap().into(),
    ];
    let a = attrs(&CONV2D, &[("padding", ints(&[1]))]);
    let ty = (CONV2D.infer)(&[args[0].ty(), args[1].ty()], &a).unwrap();
    let y = data::<i32>(&(CONV2D.eval)(&args, &a, &ty).unwrap());
    for (o, i, j) in [(0, 0, 0), (4, 39, 39), (2, 20, 17), (3, 39, 0), (1, 5, 38)] {
        let mut want = 0;
        for c in 0..70usize {
            for (t, (a, b)) in (0..3usize).flat_map(|a| (0..3usize).map(move |b| (a, b))).enumerate() {
                let (Some(h), Some(v)) = ((i + a).checked_sub(1), (j + b).checked_sub(1)) else { continue };
                if h < 40 && v < 40 {
                    want += x[(c * 40 + h) * 40 + v] * w[(o * 70 + c) * 9 + t];
                }
            }
        }
        assert_eq!(y[(o * 40 + i) * 40 + j], want, "{o} {i} {j}");
    }
}
