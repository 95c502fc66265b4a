//! Two-dimensional poolings of one image.

use super::conv::Window;
use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::types::DType;

const fn region(name: &'static str, dims: &'static [&'static str], access: Access) -> RegionDef {
    RegionDef { name, dtype: DType::F32, dims, access }
}

const REGIONS: &[RegionDef] =
    &[region("Y", &["c", "oh_count", "ow"], Access::Write), region("X", &["c", "h", "w"], Access::Read)];

/// Strides and dilations are positive; sizes, offsets and padding may be 0.
fn check(params: &[i64], names: &[&str]) -> Result<Vec<Vec<i64>>, String> {
    at_least(params, names, |name| matches!(name, "sh" | "sw" | "dh" | "dw") as i64)?;
    let [c, _, oh_count, ow, h, w, ..] = params else {
        return Err("the number of parameters is wrong".into());
    };
    Ok(vec![vec![*c, *oh_count, *ow], vec![*c, *h, *w]])
}

/// Maxima of windows, or some rows of them.
pub static MAX_POOL2D_F32: Intrinsic = Intrinsic {
    name: "max_pool2d_f32",
    doc: "Y[c, y, x] = the largest X[c, (oh0 + y) * sh - ph + r * dh, x * sw - pw + s * dw] over r and s, NaN if one \
          is, for y in 0..oh_count and x in 0..ow; elements of X outside h x w are -inf. Y is overwritten.",
    regions: REGIONS,
    params: &["c", "oh0", "oh_count", "ow", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"],
    execution: Execution::Worker,
    extents: |p| check(p, MAX_POOL2D_F32.params),
    meaning: max_pool2d,
    scratch_bytes: |_| 0,
};

/// Means of windows, or some rows of them.
pub static AVG_POOL2D_F32: Intrinsic = Intrinsic {
    name: "avg_pool2d_f32",
    doc: "Y[c, y, x] = the sum of X[c, (oh0 + y) * sh - ph + r * dh, x * sw - pw + s * dw] over r and s, divided by how \
          many of these places count, at least 1, for y in 0..oh_count and x in 0..ow; elements of X outside h x w are \
          0. Places count from bh before the first row to ah behind the last, likewise bw and aw of columns; no more \
          count before than the padding. Y is overwritten.",
    regions: REGIONS,
    params: &[
        "c", "oh0", "oh_count", "ow", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw", "bh", "bw",
        "ah", "aw",
    ],
    execution: Execution::Worker,
    extents: |p| {
        let extents = check(p, AVG_POOL2D_F32.params)?;
        let value = |name: &str| AVG_POOL2D_F32.param(p, name);
        if value("bh") > value("ph") || value("bw") > value("pw") {
            return Err("more counts before the data than there is padding".into());
        }
        Ok(extents)
    },
    meaning: avg_pool2d,
    scratch_bytes: |_| 0,
};

/// Calls `f` with every place of Y and the elements of X that its window sees.
fn each_window(call: &mut Call<'_>, f: impl Fn(&[f32], [usize; 2]) -> f32) {
    let p = |i: usize| call.params[i] as usize;
    let [channels, oh0, oh_count, ow, h, w, kh, kw] = std::array::from_fn(p);
    let [sh, sw, ph, pw, dh, dw] = std::array::from_fn(|i| p(8 + i));
    let rows = Window { size: h, kernel: kh, stride: sh, pad: ph, dilation: dh };
    let cols = Window { size: w, kernel: kw, stride: sw, pad: pw, dilation: dw };
    let mut seen = Vec::new();
    for c in 0..channels {
        for y in 0..oh_count {
            for x in 0..ow {
                seen.clear();
                for (_, iy) in rows.taps(oh0 + y) {
                    seen.extend(cols.taps(x).map(|(_, ix)| call.inputs[0].f32(&[c, iy, ix])));
                }
                call.outputs[0].set_f32(&[c, y, x], f(&seen, [oh0 + y, x]));
            }
        }
    }
}

fn max_pool2d(call: &mut Call<'_>) {
    let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
    each_window(call, |seen, _| seen.iter().copied().fold(f32::NEG_INFINITY, larger));
}

fn avg_pool2d(call: &mut Call<'_>) {
    let value = |name: &str| AVG_POOL2D_F32.param(call.params, name);
    let along = |size: &str, taps: &str, [stride, pad, dilation]: [&str; 3], [before, after]: [&str; 2]| {
        let [size, taps, stride, pad, dilation] = [size, taps, stride, pad, dilation].map(value);
        let counted = -value(before)..size + value(after);
        move |out: usize| {
            let first = out as i64 * stride - pad;
            (0..taps).filter(|k| counted.contains(&(first + k * dilation))).count()
        }
    };
    let rows = along("h", "kh", ["sh", "ph", "dh"], ["bh", "ah"]);
    let columns = along("w", "kw", ["sw", "pw", "dw"], ["bw", "aw"]);
    each_window(call, |seen, [y, x]| seen.iter().sum::<f32>() / (rows(y) * columns(x)).max(1) as f32);
}
