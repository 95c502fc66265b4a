//! What image operators make of small tensors, by hand and by ONNX's reference.

use super::*;
use crate::eval::Value;
use crate::op::testing::{attrs, data, infer, ints, run, tensor, text};
use crate::op::{AttrValue, OpDef};
use crate::types::{DType, Type};

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{found:?} {expected:?}");
    }
}

fn line(values: &[f32]) -> Value {
    tensor(&[1, 1, values.len()], values)
}

fn floats(list: &[f64]) -> AttrValue {
    AttrValue::List(list.iter().map(|&v| AttrValue::Float(v)).collect())
}

fn resized(x: Value, size: i64, given: &[(&str, AttrValue)]) -> Vec<f32> {
    let all = [&[("size", ints(&[size]))], given].concat();
    data(&run(&RESIZE1D, &[x], &attrs(&RESIZE1D, &all)).unwrap())
}

const fn mode(name: &'static str) -> (&'static str, &'static str) {
    ("coordinate_transformation_mode", name)
}

fn with(given: &[(&'static str, &'static str)]) -> Vec<(&'static str, AttrValue)> {
    given.iter().map(|&(k, v)| (k, text(v))).collect()
}

#[test]
fn linear() {
    let x = || line(&[1.0, 2.0, 4.0]);
    close(&resized(x(), 6, &[]), &[1.0, 1.25, 1.75, 2.5, 3.5, 4.0]);
    close(&resized(x(), 5, &with(&[mode("align_corners")])), &[1.0, 1.5, 2.0, 3.0, 4.0]);
    close(&resized(x(), 6, &with(&[mode("asymmetric")])), &[1.0, 1.5, 2.0, 3.0, 4.0, 4.0]);
    close(&resized(x(), 1, &with(&[mode("pytorch_half_pixel")])), &[1.0]);
    close(&resized(x(), 1, &[]), &[2.0]);
    close(&resized(x(), 3, &[]), &[1.0, 2.0, 4.0]);
}

#[test]
fn nearest() {
    let x = || line(&[1.0, 2.0, 3.0]);
    let near = ("method", "nearest_neighbor");
    let round = |r| ("rounding_method", r);
    let of =
        |size, given: &[(&'static str, &'static str)]| resized(x(), size, &with(&[&[near], given].concat()));
    assert_eq!(of(6, &[mode("asymmetric"), round("floor")]), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    assert_eq!(of(6, &[mode("asymmetric"), round("ceil")]), [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
    // Coordinates 0, 0.5, 1, ...: halves show the rounding.
    assert_eq!(of(6, &[mode("asymmetric"), round("round_prefer_floor")]), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    assert_eq!(of(6, &[mode("asymmetric"), round("round_prefer_ceil")]), [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
    assert_eq!(of(6, &[mode("half_pixel"), round("round_prefer_floor")]), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
    assert_eq!(of(2, &[mode("tf_half_pixel_for_nn"), round("floor")]), [1.0, 3.0]);
    assert_eq!(of(5, &[mode("align_corners")]), [1.0, 1.0, 2.0, 3.0, 3.0]);
    assert_eq!(of(4, &[mode("half_pixel"), round("floor")]), [1.0, 1.0, 2.0, 3.0]);
    let bytes = tensor(&[1, 1, 2], &[200u8, 100]);
    let given = [vec![("size", ints(&[4]))], with(&[near, mode("asymmetric")])].concat();
    assert_eq!(
        data::<u8>(&run(&RESIZE1D, &[bytes], &attrs(&RESIZE1D, &given)).unwrap()),
        [200, 200, 100, 100]
    );
}

#[test]
fn scales_that_are_no_quotients() {
    // ONNX: 4 elements by a scale of 0.6 give 2, at (i + 0.5) / 0.6 - 0.5.
    let x = line(&[1.0, 2.0, 3.0, 4.0]);
    let scales = [("scales", floats(&[0.6]))];
    close(&resized(x.clone(), 2, &scales), &[1.0 + 1.0 / 3.0, 3.0]);
    let symmetric = [scales[0].clone(), ("coordinate_transformation_mode", text("half_pixel_symmetric"))];
    close(&resized(x, 2, &symmetric), &[1.6666666, 3.3333333]);
    let wrong = [("size", ints(&[2])), ("scales", floats(&[0.0]))];
    assert!(infer(&RESIZE1D, &[Type::tensor(&[1, 1, 4], DType::F32)], &attrs(&RESIZE1D, &wrong)).is_err());
}

#[test]
fn cubic() {
    let x = || line(&[1.0, 2.0, 3.0, 4.0]);
    let method = |exclude| {
        [
            ("method", text("cubic")),
            ("cubic_alpha", AttrValue::Float(-0.75)),
            ("cubic_exclude", AttrValue::Int(exclude)),
        ]
    };
    let scaled = [("scales", floats(&[2.0]))];
    // One row of ONNX's resize_upsample_scales_cubic.
    let found = resized(x(), 8, &[&method(0)[..], &scaled].concat());
    close(&found, &[0.89453125, 1.1914062, 1.6679688, 2.296875, 2.703125, 3.3320312, 3.8085938, 4.1054688]);
    // Weights of elements outside go to those inside, so that constants stay.
    close(&resized(line(&[3.0; 4]), 6, &method(1)), &[3.0; 6]);
}

#[test]
fn crops_and_extrapolation() {
    let x = line(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let given = [
        ("coordinate_transformation_mode", text("tf_crop_and_resize")),
        ("roi", floats(&[0.25, 1.5])),
        ("extrapolation_value", AttrValue::Float(-1.0)),
    ];
    close(&resized(x, 3, &given), &[2.0, 4.5, -1.0]);
}

#[test]
fn antialias() {
    // Two elements of four: each is a triangle of twice the width.
    let x = line(&[1.0, 2.0, 3.0, 4.0]);
    close(&resized(x, 2, &[("antialias", AttrValue::Bool(true))]), &[1.625, 3.375]);
}

#[test]
fn planes_layouts_and_volumes() {
    let x = tensor(&[1, 1, 2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let given = [("size", ints(&[3, 3])), ("coordinate_transformation_mode", text("align_corners"))];
    let y = run(&RESIZE2D, std::slice::from_ref(&x), &attrs(&RESIZE2D, &given)).unwrap();
    close(&data(&y), &[1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0]);
    let last = tensor(&[1, 2, 2, 1], &[1f32, 2.0, 3.0, 4.0]);
    let given = [&given[..], &[("layout", text("NHWC"))]].concat();
    let y = run(&RESIZE2D, &[last], &attrs(&RESIZE2D, &given)).unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [1, 3, 3, 1]);
    close(&data(&y), &[1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0]);
    let cube = tensor(&[1, 1, 1, 2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let y = run(&RESIZE3D, &[cube], &attrs(&RESIZE3D, &[("size", ints(&[2, 2, 4]))])).unwrap();
    close(&data::<f32>(&y)[..4], &[1.0, 1.25, 1.75, 2.0]);
    let up = |method: &str| {
        [("scale_h", AttrValue::Float(2.0)), ("scale_w", AttrValue::Float(1.0)), ("method", text(method))]
    };
    let y = run(&UPSAMPLING, std::slice::from_ref(&x), &attrs(&UPSAMPLING, &up("nearest_neighbor"))).unwrap();
    assert_eq!(data::<f32>(&y), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    let y = run(&UPSAMPLING, &[x], &attrs(&UPSAMPLING, &up("bilinear"))).unwrap();
    assert_eq!(data::<f32>(&y), [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn grids() {
    let maps = tensor(&[1, 2, 3], &[1f32, 0.0, 0.0, 0.0, 1.0, 0.5]);
    let given = [("target_shape", ints(&[2, 3]))];
    let y = run(&AFFINE_GRID, std::slice::from_ref(&maps), &attrs(&AFFINE_GRID, &given)).unwrap();
    assert_eq!(data::<f32>(&y), [-1.0, 0.0, 1.0, -1.0, 0.0, 1.0, -0.5, -0.5, -0.5, 1.5, 1.5, 1.5]);
    let given = [given[0].clone(), ("align_corners", AttrValue::Bool(false))];
    let y = run(&AFFINE_GRID, &[maps], &attrs(&AFFINE_GRID, &given)).unwrap();
    close(&data::<f32>(&y)[..3], &[-2.0 / 3.0, 0.0, 2.0 / 3.0]);
}

#[test]
fn samples() {
    let x = tensor(&[1, 1, 2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let grid = tensor(&[1, 2, 1, 4], &[0f32, -1.0, 2.0, 1.0, 0.0, 1.0, 0.0, -1.0]);
    let of = |given: &[(&str, AttrValue)]| {
        data::<f32>(&run(&GRID_SAMPLE, &[x.clone(), grid.clone()], &attrs(&GRID_SAMPLE, given)).unwrap())
    };
    close(&of(&[]), &[2.5, 3.0, 1.5, 2.0]);
    close(&of(&[("padding_mode", text("border"))]), &[2.5, 3.0, 3.0, 2.0]);
    close(&of(&[("padding_mode", text("reflection"))]), &[2.5, 3.0, 2.5, 2.0]);
    close(&of(&[("align_corners", AttrValue::Bool(false))]), &[2.5, 0.75, 0.0, 0.5]);
    close(&of(&[("method", text("nearest"))]), &[1.0, 3.0, 0.0, 2.0]);
    let flat = tensor(&[1, 1, 4, 4], &[7f32; 16]);
    let center = tensor(&[1, 2, 1, 1], &[0.1f32, -0.2]);
    let y = run(&GRID_SAMPLE, &[flat, center], &attrs(&GRID_SAMPLE, &[("method", text("bicubic"))])).unwrap();
    close(&data::<f32>(&y), &[7.0]);
}

#[test]
fn regions() {
    let op: &OpDef = &ROI_ALIGN;
    let x = tensor(&[1, 1, 4, 4], &(0..16).map(|v| v as f32).collect::<Vec<_>>());
    let roi = |b: f32| tensor(&[1, 5], &[b, 0.0, 0.0, 2.0, 2.0]);
    let given = [
        ("pooled_size", ints(&[2, 2])),
        ("spatial_scale", AttrValue::Float(1.0)),
        ("sample_ratio", AttrValue::Int(1)),
    ];
    let y = run(op, &[x.clone(), roi(0.0)], &attrs(op, &given)).unwrap();
    assert_eq!(data::<f32>(&y), [2.5, 3.5, 6.5, 7.5]);
    let aligned = [&given[..], &[("aligned", AttrValue::Bool(true))]].concat();
    let y = run(op, &[x.clone(), roi(0.0)], &attrs(op, &aligned)).unwrap();
    assert_eq!(data::<f32>(&y), [0.0, 1.0, 4.0, 5.0]);
    let max = [&given[..], &[("mode", text("max"))]].concat();
    let y = run(op, &[x.clone(), roi(0.0)], &attrs(op, &max)).unwrap();
    assert_eq!(data::<f32>(&y), [1.25, 1.5, 2.25, 2.5]);
    assert!(run(op, &[x, roi(1.0)], &attrs(op, &given)).is_err());
}

#[test]
fn empty_images() {
    let none = Type::tensor(&[1, 1, 0], DType::F32);
    assert!(infer(&RESIZE1D, &[none], &attrs(&RESIZE1D, &[("size", ints(&[2]))])).is_err());
    let y = run(&RESIZE1D, &[tensor::<f32>(&[0, 2, 3], &[])], &attrs(&RESIZE1D, &[("size", ints(&[2]))]))
        .unwrap();
    assert_eq!(y.as_tensor().unwrap().shape(), [0, 2, 2]);
}
