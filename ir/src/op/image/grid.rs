//! `image.grid_sample` and `image.affine_grid`: sampling two-dimensional images at computed places.

use std::sync::Arc;

use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, one_of, ranked, same_dim, shape_of, sizes};
use crate::op::num::{Real, read, with_real, write};
use crate::op::util::{FLOAT, accumulator, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of [`AFFINE_GRID`].
    pub struct AffineGridAttrs {
        /// Height and width of the grid.
        target_shape: Vec<i64>,
        /// The outermost places are the centres of the corners, not their edges.
        align_corners: bool = true,
    }
}

op_attrs! {
    /// Attributes of [`GRID_SAMPLE`].
    pub struct GridSampleAttrs {
        /// `bilinear`, `nearest` or `bicubic`.
        method: Arc<str> = "bilinear".into(),
        /// Order of the data's dimensions; only `NCHW`.
        layout: Arc<str> = "NCHW".into(),
        /// What lies outside: `zeros`, `border` or `reflection`.
        padding_mode: Arc<str> = "zeros".into(),
        /// -1 and 1 are the centres of the corners, not their edges.
        align_corners: bool = true,
    }
}

/// Places (x, y) of a regular grid under an affine map.
pub static AFFINE_GRID: OpDef = OpDef {
    name: "image.affine_grid",
    doc: "Places (x, y) in [n, 2, h, w] of a regular grid on [-1, 1]^2 under affine maps [n, 2, 3].",
    args: &["data"],
    optional: 0,
    attrs: AffineGridAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: infer_affine,
    backward: no_backward,
    eval: |args, attrs, ty| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => affine::<F>(args, attrs, ty))
    },
    lower: Lower::Te(lower_affine),
    onnx: &["AffineGrid"],
};

/// The data at places of a grid.
pub static GRID_SAMPLE: OpDef = OpDef {
    name: "image.grid_sample",
    doc: "The images [n, c, h, w] at places (x, y) in [n, 2, oh, ow], -1 and 1 being their borders.",
    args: &["data", "grid"],
    optional: 0,
    attrs: GridSampleAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: infer_sample,
    backward: no_backward,
    eval: |args, attrs, ty| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => sample::<F>(args, attrs, ty))
    },
    lower: Lower::None("its places depend on the data; a kernel for it is not built yet"),
    onnx: &["GridSample"],
};

fn infer_affine(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let dtype = dtype_in(args, 0, FLOAT)?;
    let maps = ranked(args, 0, 3)?;
    same_dim(0, "the maps' height", &maps.shape[1], &2.into())?;
    same_dim(0, "the maps' width", &maps.shape[2], &3.into())?;
    let size = sizes("target_shape", &attrs.read::<AffineGridAttrs>().target_shape, 2, 1)?;
    tensor_type(vec![maps.shape[0].clone(), 2.into(), size[0].into(), size[1].into()], dtype)
}

/// The place of index `i` of `n` on [-1, 1], as `i * step + start`.
fn regular(n: usize, align_corners: bool) -> (f64, f64) {
    match (n, align_corners) {
        (1, true) => (0.0, -1.0),
        (_, true) => (2.0 / (n as f64 - 1.0), -1.0),
        (_, false) => (2.0 / n as f64, 1.0 / n as f64 - 1.0),
    }
}

fn affine<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (shape, dtype) = shape_of(ty)?;
    let align = attrs.read::<AffineGridAttrs>().align_corners;
    let maps = read::<F>(args[0].tensor()?);
    let (h, w) = (shape[2], shape[3]);
    let place = |i: usize, n: usize| {
        let (step, start) = regular(n, align);
        F::of(i as f64 * step + start)
    };
    let mut grid = Vec::with_capacity(shape.iter().product());
    for row in maps.chunks_exact(3) {
        for i in 0..h {
            grid.extend((0..w).map(|j| row[0] * place(j, w) + row[1] * place(i, h) + row[2]));
        }
    }
    Ok(write(dtype, &shape, &grid)?.into())
}

fn lower_affine(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let shape = out[0].static_shape().ok_or_else(|| OpError::new("the result's shape is not known"))?;
    let align = attrs.read::<AffineGridAttrs>().align_corners;
    let acc = accumulator(args[0].dtype);
    Ok(vec![g.compute("affine_grid", "injective", &out[0], |i| {
        let place = |i: &Expr, n: usize| {
            let (step, start) = regular(n, align);
            let number = |v: f64| Expr::float(v, DType::F64);
            (i.clone().cast(DType::F64) * number(step) + number(start)).cast(acc)
        };
        let entry = |k: i64| stages::widen(args[0].at(&[i[0].clone(), i[1].clone(), Expr::int(k)]));
        (entry(0) * place(&i[3], shape[3]) + entry(1) * place(&i[2], shape[2]) + entry(2)).cast(out[0].dtype)
    })])
}

fn infer_sample(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: GridSampleAttrs = attrs.read();
    one_of("method", &a.method, &["bilinear", "nearest", "bicubic"])?;
    one_of("layout", &a.layout, &["NCHW"])?;
    one_of("padding_mode", &a.padding_mode, &["zeros", "border", "reflection"])?;
    let dtype = dtype_in(args, 0, FLOAT)?;
    has_dtype(args, 1, dtype)?;
    let (data, grid) = (ranked(args, 0, 4)?, ranked(args, 1, 4)?);
    let batch = same_dim(1, "the batch", &grid.shape[0], &data.shape[0])?;
    same_dim(1, "the number of coordinates", &grid.shape[1], &2.into())?;
    if data.shape[2..].iter().any(|d| d.as_static() == Some(0)) {
        return Err(OpError::arg(0, "there are no elements to sample"));
    }
    tensor_type(vec![batch, data.shape[1].clone(), grid.shape[2].clone(), grid.shape[3].clone()], dtype)
}

/// How places outside of an image are treated.
#[derive(Clone, Copy)]
struct Outside<'a> {
    mode: &'a str,
    align_corners: bool,
}

impl Outside<'_> {
    /// The coordinate in `n` elements of a place on [-1, 1], brought inside where the mode says so.
    fn coordinate(self, place: f64, n: usize) -> f64 {
        let n = n as f64;
        if self.align_corners { (place + 1.0) / 2.0 * (n - 1.0) } else { ((place + 1.0) * n - 1.0) / 2.0 }
    }

    /// A coordinate brought inside, or as it is if what is outside is zero.
    fn inside(self, x: f64, n: usize) -> f64 {
        match self.mode {
            "border" => x.clamp(0.0, n as f64 - 1.0),
            "reflection" => {
                let (low, high) =
                    if self.align_corners { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) };
                let span = high - low;
                if span <= 0.0 {
                    return 0.0;
                }
                let t = (x - low).abs().rem_euclid(2.0 * span);
                (low + if t > span { 2.0 * span - t } else { t }).clamp(0.0, n as f64 - 1.0)
            }
            _ => x,
        }
    }

    /// The elements and weights along an axis for a coordinate.
    fn taps(self, method: &str, x: f64, n: usize) -> Vec<(usize, f64)> {
        let at = |j: f64| (j >= 0.0 && j < n as f64).then_some(j as usize);
        if !x.is_finite() {
            return Vec::new();
        }
        match method {
            "nearest" => at(self.inside(x, n).round_ties_even()).map(|j| (j, 1.0)).into_iter().collect(),
            "bicubic" => {
                let t = x - x.floor();
                (-1..=2)
                    .filter_map(|o| {
                        let j = self.inside(x.floor() + f64::from(o), n);
                        at(j.round_ties_even()).map(|j| (j, cubic((f64::from(o) - t).abs())))
                    })
                    .collect()
            }
            _ => {
                let x = self.inside(x, n);
                let t = x - x.floor();
                let both = [(x.floor(), 1.0 - t), (x.floor() + 1.0, t)];
                both.into_iter().filter(|&(_, w)| w != 0.0).filter_map(|(j, w)| Some((at(j)?, w))).collect()
            }
        }
    }
}

/// The cubic convolution kernel with parameter -0.75.
fn cubic(t: f64) -> f64 {
    let a = -0.75;
    match t {
        t if t <= 1.0 => ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
        t if t < 2.0 => ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a,
        _ => 0.0,
    }
}

fn sample<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let a: GridSampleAttrs = attrs.read();
    let outside = Outside { mode: &a.padding_mode, align_corners: a.align_corners };
    let (shape, dtype) = shape_of(ty)?;
    let x = args[0].tensor()?;
    let (h, w) = (x.shape()[2], x.shape()[3]);
    let (places, channels) = (shape[2] * shape[3], shape[1]);
    let (data, grid) = (read::<F>(x), read::<F>(args[1].tensor()?));
    let mut y = vec![F::ZERO; shape.iter().product()];
    for b in 0..shape[0] {
        for p in 0..places {
            let place = |k: usize| grid[(b * 2 + k) * places + p].to_f64();
            let columns = outside.taps(&a.method, outside.coordinate(place(0), w), w);
            let rows = outside.taps(&a.method, outside.coordinate(place(1), h), h);
            for c in 0..channels {
                let plane = &data[(b * channels + c) * h * w..][..h * w];
                let sum = &mut y[(b * channels + c) * places + p];
                for &(i, wi) in &rows {
                    for &(j, wj) in &columns {
                        *sum = sum.mac(F::of(wi * wj), plane[i * w + j]);
                    }
                }
            }
        }
    }
    Ok(write(dtype, &shape, &y)?.into())
}
