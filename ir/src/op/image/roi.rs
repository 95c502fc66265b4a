//! `vision.roi_align`: means or maxima of bilinear samples over regions of images.

use std::sync::Arc;

use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, one_of, ranked, same_dim, shape_of, sizes};
use crate::op::num::{Real, larger, read, with_real, write};
use crate::op::util::{FLOAT, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::types::Type;

op_attrs! {
    /// Attributes of [`ROI_ALIGN`].
    pub struct RoiAlignAttrs {
        /// Height and width of the result.
        pooled_size: Vec<i64>,
        /// The images' size over that which the regions are measured in.
        spatial_scale: f64,
        /// Samples along each side of a bin; 0 or less adapts to the region's size.
        sample_ratio: i64 = -1,
        /// Order of the data's dimensions; only `NCHW`.
        layout: Arc<str> = "NCHW".into(),
        /// `avg` or `max`.
        mode: Arc<str> = "avg".into(),
        /// Regions are shifted by half an element, as centres of elements are.
        aligned: bool = false,
    }
}

/// Regions (batch, x1, y1, x2, y2) of images at a fixed size.
pub static ROI_ALIGN: OpDef = OpDef {
    name: "vision.roi_align",
    doc: "Regions [n, 5] (batch, x1, y1, x2, y2) of images [b, c, h, w] at a fixed size.",
    args: &["data", "rois"],
    optional: 0,
    attrs: RoiAlignAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer,
    backward: no_backward,
    eval: |args, attrs, ty| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => eval::<F>(args, attrs, ty))
    },
    lower: Lower::None("its places depend on the data; a kernel for it is not built yet"),
    onnx: &["RoiAlign"],
};

/// The most samples along a side of a bin; a hostile region must not keep the evaluator forever.
const MAX_SAMPLES: f64 = 4096.0;

fn infer(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: RoiAlignAttrs = attrs.read();
    one_of("layout", &a.layout, &["NCHW"])?;
    one_of("mode", &a.mode, &["avg", "max"])?;
    let dtype = dtype_in(args, 0, FLOAT)?;
    has_dtype(args, 1, dtype)?;
    let (data, rois) = (ranked(args, 0, 4)?, ranked(args, 1, 2)?);
    same_dim(1, "the width of a region", &rois.shape[1], &5.into())?;
    let size = sizes("pooled_size", &a.pooled_size, 2, 1)?;
    if a.sample_ratio as f64 > MAX_SAMPLES {
        return Err(OpError::new(format!("sample_ratio is more than {MAX_SAMPLES}")));
    }
    tensor_type(vec![rois.shape[0].clone(), data.shape[1].clone(), size[0].into(), size[1].into()], dtype)
}

/// Bilinear taps of a coordinate in `n` elements; none further than one element outside.
fn taps(x: f64, n: usize) -> Vec<(usize, f64)> {
    if !(-1.0..=n as f64).contains(&x) || n == 0 {
        return Vec::new();
    }
    let x = x.clamp(0.0, n as f64 - 1.0);
    let (low, t) = (x.floor() as usize, x - x.floor());
    vec![(low, 1.0 - t), ((low + 1).min(n - 1), t)]
}

/// The coordinates of the samples of each bin along an axis.
fn samples(start: f64, end: f64, bins: usize, ratio: i64, aligned: bool) -> Vec<Vec<f64>> {
    let size = if aligned { end - start } else { (end - start).max(1.0) };
    let bin = size / bins as f64;
    let count = if ratio > 0 { ratio as f64 } else { bin.ceil().clamp(0.0, MAX_SAMPLES) };
    let of_bin = |b: usize| {
        (0..count as usize).map(|i| start + b as f64 * bin + (i as f64 + 0.5) * bin / count).collect()
    };
    (0..bins).map(of_bin).collect()
}

fn eval<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let a: RoiAlignAttrs = attrs.read();
    let (shape, dtype) = shape_of(ty)?;
    let x = args[0].tensor()?;
    let [batch, channels, h, w] = [0, 1, 2, 3].map(|d| x.shape()[d]);
    let (data, rois) = (read::<F>(x), read::<F>(args[1].tensor()?));
    let shift = if a.aligned { 0.5 } else { 0.0 };
    let mut y = Vec::with_capacity(shape.iter().product());
    for roi in rois.chunks_exact(5) {
        let b = roi[0].to_f64();
        if !(0.0..batch as f64).contains(&b) {
            return Err(OpError::arg(1, format!("a region lies in image {b}, but there are {batch}")));
        }
        let side = |k: usize| roi[k].to_f64() * a.spatial_scale - shift;
        let rows = samples(side(2), side(4), shape[2], a.sample_ratio, a.aligned);
        let columns = samples(side(1), side(3), shape[3], a.sample_ratio, a.aligned);
        let image = &data[b as usize * channels * h * w..][..channels * h * w];
        for plane in image.chunks_exact((h * w).max(1)) {
            for rows in &rows {
                y.extend(columns.iter().map(|columns| bin(plane, (h, w), rows, columns, &a.mode)));
            }
        }
    }
    y.resize(shape.iter().product(), F::ZERO);
    Ok(write(dtype, &shape, &y)?.into())
}

/// The mean or maximum of the samples of a bin. As ONNX has it, a maximum is over the weighted
/// corners of each sample.
fn bin<F: Real>(plane: &[F], (h, w): (usize, usize), rows: &[f64], columns: &[f64], mode: &str) -> F {
    let (mut sum, mut max) = (F::ZERO, None);
    for &r in rows {
        for &c in columns {
            for (i, wi) in taps(r, h) {
                for (j, wj) in taps(c, w) {
                    let v = F::of(wi * wj) * plane[i * w + j];
                    sum = sum + v;
                    max = Some(max.map_or(v, |m| larger(m, v)));
                }
            }
        }
    }
    let count = (rows.len() * columns.len()).max(1);
    if mode == "max" { max.unwrap_or(F::ZERO) } else { sum / F::of(count as f64) }
}
