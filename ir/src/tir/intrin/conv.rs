//! Two-dimensional convolutions of one image.

use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::types::DType;

const fn region(name: &'static str, dims: &'static [&'static str], access: Access) -> RegionDef {
    RegionDef { name, dtype: DType::F32, dims, access }
}

/// Output pixels that an implementation of `conv2d_f32` gathers at a time in its scratch memory.
pub const CONV2D_COLUMNS: usize = 48;

/// Input elements of each pixel that it gathers at a time.
pub const CONV2D_ROWS: usize = 256;

/// Strides, dilations and panel widths are positive; sizes, offsets and padding may be 0.
fn check(params: &[i64], names: &[&str]) -> Result<(), String> {
    at_least(params, names, |name| matches!(name, "sh" | "sw" | "dh" | "dw" | "mr" | "nr") as i64)
}

/// One group of a convolution, or some of its output rows.
pub static CONV2D_F32: Intrinsic = Intrinsic {
    name: "conv2d_f32",
    doc: "Y[o, i, j] = sum over c, r, s of W[o, c, r, s] * X[c, y * sh - ph + r * dh, x * sw - pw + s * dw] \
          for i in 0..rows and j in 0..cols, with y = oh0 + p / ow and x = p % ow of the pixel \
          p = x0 + i * cols + j, elements of X outside h x w being 0; Y is overwritten. \
          Wp[o / mr, (c * kh + r) * kw + s, o % mr] = W[o, c, r, s]; rows past oc are ignored.",
    regions: &[
        region("Y", &["oc", "rows", "cols"], Access::Write),
        region("X", &["ic", "h", "w"], Access::Read),
        region("Wp", &["ceil(oc / mr)", "ic * kh * kw", "mr"], Access::Read),
    ],
    params: &[
        "oc", "oh0", "x0", "rows", "cols", "ow", "ic", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh",
        "dw", "mr",
    ],
    execution: Execution::Worker,
    extents: |p| {
        check(p, CONV2D_F32.params)?;
        let [oc, _, _, rows, cols, _, ic, h, w, kh, kw, .., mr] = p else { return Err(COUNT.into()) };
        Ok(vec![vec![*oc, *rows, *cols], vec![*ic, *h, *w], vec![(oc + mr - 1) / mr, ic * kh * kw, *mr]])
    },
    meaning: conv2d,
    scratch_bytes: |_| CONV2D_ROWS * CONV2D_COLUMNS * 4,
};

/// What the windows of some pixels see, in panels: the right operand of the product that a
/// convolution is.
pub static CONV2D_WINDOWS_F32: Intrinsic = Intrinsic {
    name: "conv2d_windows_f32",
    doc: "P[i, (c * kh + r) * kw + s, l] = X[c, y * sh - ph + r * dh, x * sw - pw + s * dw] with y = p / ow and \
          x = p % ow of the pixel p = (panel0 + i) * nr + l, and 0 for p >= pixels and outside of X; P is overwritten.",
    regions: &[
        region("P", &["panels", "ic * kh * kw", "nr"], Access::Write),
        region("X", &["ic", "h", "w"], Access::Read),
    ],
    params: &[
        "panel0", "panels", "pixels", "ow", "ic", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw",
        "nr",
    ],
    execution: Execution::Worker,
    extents: |p| {
        check(p, CONV2D_WINDOWS_F32.params)?;
        let [_, panels, _, _, ic, h, w, kh, kw, .., nr] = p else { return Err(COUNT.into()) };
        Ok(vec![vec![*panels, ic * kh * kw, *nr], vec![*ic, *h, *w]])
    },
    meaning: conv2d_windows,
    scratch_bytes: |_| 0,
};

/// A depthwise convolution, or some of its output rows.
pub static DEPTHWISE_CONV2D_F32: Intrinsic = Intrinsic {
    name: "depthwise_conv2d_f32",
    doc: "Y[c, y, x] = sum over r, s of W[c, r, s] * X[c, (oh0 + y) * sh - ph + r * dh, x * sw - pw + s * dw] \
          for y in 0..oh_count and x in 0..ow, elements of X outside h x w being 0; Y is overwritten.",
    regions: &[
        region("Y", &["c", "oh_count", "ow"], Access::Write),
        region("X", &["c", "h", "w"], Access::Read),
        region("W", &["c", "kh", "kw"], Access::Read),
    ],
    params: &["c", "oh0", "oh_count", "ow", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, DEPTHWISE_CONV2D_F32.params)?;
        let [c, _, oh_count, ow, h, w, kh, kw, ..] = p else { return Err(COUNT.into()) };
        Ok(vec![vec![*c, *oh_count, *ow], vec![*c, *h, *w], vec![*c, *kh, *kw]])
    },
    meaning: depthwise_conv2d,
    scratch_bytes: |_| 0,
};

const COUNT: &str = "the number of parameters is wrong";

/// Where a window lies: one dimension of a convolution or a pooling.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub size: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
}

impl Window {
    /// The places `(kernel, input)` that output `o` reads.
    pub fn taps(self, o: usize) -> impl Iterator<Item = (usize, usize)> {
        let place = move |k: usize| (o * self.stride + k * self.dilation).checked_sub(self.pad);
        (0..self.kernel).filter_map(move |k| place(k).filter(|&i| i < self.size).map(|i| (k, i)))
    }
}

fn conv2d(call: &mut Call<'_>) {
    let [oc, oh0, x0, rows, cols, ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw, mr] = call.sizes();
    let row = Window { size: h, kernel: kh, stride: sh, pad: ph, dilation: dh };
    let column = Window { size: w, kernel: kw, stride: sw, pad: pw, dilation: dw };
    for o in 0..oc {
        for pixel in 0..rows * cols {
            let (y, x) = place(x0 + pixel, ow);
            let mut sum = 0f32;
            for c in 0..ic {
                for (r, iy) in row.taps(oh0 + y) {
                    for (s, ix) in column.taps(x) {
                        let weight = call.inputs[1].f32(&[o / mr, (c * kh + r) * kw + s, o % mr]);
                        sum += weight * call.inputs[0].f32(&[c, iy, ix]);
                    }
                }
            }
            call.outputs[0].set_f32(&[o, pixel / cols, pixel % cols], sum);
        }
    }
}

/// Row and column of a pixel; images without columns have no pixels.
fn place(pixel: usize, width: usize) -> (usize, usize) {
    (pixel / width.max(1), pixel % width.max(1))
}

fn conv2d_windows(call: &mut Call<'_>) {
    let [panel0, panels, pixels, ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw, nr] = call.sizes();
    let rows = Window { size: h, kernel: kh, stride: sh, pad: ph, dilation: dh };
    let columns = Window { size: w, kernel: kw, stride: sw, pad: pw, dilation: dw };
    for (i, lane) in (0..panels).flat_map(|i| (0..nr).map(move |lane| (i, lane))) {
        let pixel = (panel0 + i) * nr + lane;
        let (y, x) = place(pixel, ow);
        for c in 0..ic {
            (0..kh * kw).for_each(|tap| call.outputs[0].set_f32(&[i, c * kh * kw + tap, lane], 0.0));
            for (r, iy) in rows.taps(y).filter(|_| pixel < pixels) {
                for (s, ix) in columns.taps(x) {
                    let value = call.inputs[0].f32(&[c, iy, ix]);
                    call.outputs[0].set_f32(&[i, (c * kh + r) * kw + s, lane], value);
                }
            }
        }
    }
}

fn depthwise_conv2d(call: &mut Call<'_>) {
    let [channels, oh0, oh_count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw] = call.sizes();
    let rows = Window { size: h, kernel: kh, stride: sh, pad: ph, dilation: dh };
    let cols = Window { size: w, kernel: kw, stride: sw, pad: pw, dilation: dw };
    for c in 0..channels {
        for y in 0..oh_count {
            for x in 0..ow {
                let mut sum = 0f32;
                for (r, iy) in rows.taps(oh0 + y) {
                    for (s, ix) in cols.taps(x) {
                        sum += call.inputs[1].f32(&[c, r, s]) * call.inputs[0].f32(&[c, iy, ix]);
                    }
                }
                call.outputs[0].set_f32(&[c, y, x], sum);
            }
        }
    }
}
