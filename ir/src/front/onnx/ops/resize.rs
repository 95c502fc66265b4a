//! Resizing: every mode is, along each dimension for itself, a product with a matrix of
//! weights that is known at compile time; where each row has a single 1, it is a lookup.

use super::{Row, one};
use crate::dispatch;
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, floats, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::nn::{DENSE, DenseAttrs};
use crate::scalar::Scalar;
use crate::tensor::{Bool8, Tensor};
use crate::types::DType;

/// How many weights one dimension may have.
const MAX_WEIGHTS: usize = 1 << 26;

/// Interpolation.
pub(super) const ROWS: &[Row] =
    &[one!("Resize", resize).known(&[1, 2, 3]), one!("Upsample", upsample).known(&[1])];

/// What a node asks for, of all dimensions alike.
struct Mode {
    kind: Kind,
    coordinates: Coordinates,
    nearest: Nearest,
    cubic_a: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfCropAndResize,
    TfHalfPixelForNearest,
}

#[derive(Clone, Copy, PartialEq)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// One dimension that changes.
struct Axis {
    axis: usize,
    from: usize,
    to: usize,
    scale: f64,
    roi: (f64, f64),
}

impl Mode {
    fn new(cx: &Cx<'_, '_>) -> Step<Mode> {
        let default = if cx.opset < 11 { "asymmetric" } else { "half_pixel" };
        let coordinates = match cx.text("coordinate_transformation_mode", default)? {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::TfCropAndResize,
            "tf_half_pixel_for_nn" => Coordinates::TfHalfPixelForNearest,
            other => return refuse(format!("coordinate_transformation_mode `{other}` is not supported")),
        };
        let kind = match cx.text("mode", "nearest")? {
            "nearest" => Kind::Nearest,
            "linear" | "bilinear" => Kind::Linear,
            "cubic" => Kind::Cubic,
            other => return refuse(format!("mode `{other}` of Resize is not supported")),
        };
        let default = if cx.opset < 11 { "floor" } else { "round_prefer_floor" };
        let nearest = match cx.text("nearest_mode", default)? {
            "round_prefer_floor" => Nearest::PreferFloor,
            "round_prefer_ceil" => Nearest::PreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => return refuse(format!("nearest_mode `{other}` is not supported")),
        };
        Ok(Mode {
            kind,
            coordinates,
            nearest,
            cubic_a: cx.float("cubic_coeff_a", -0.75)?,
            exclude_outside: cx.flag("exclude_outside", false)?,
            antialias: cx.flag("antialias", false)?,
            extrapolation: cx.float("extrapolation_value", 0.0)?,
        })
    }

    /// Where an index of the result lies in the data.
    fn source(&self, a: &Axis, i: usize) -> f64 {
        let (x, from, to) = (i as f64, a.from as f64, a.to as f64);
        match self.coordinates {
            Coordinates::HalfPixel => (x + 0.5) / a.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = to / (a.scale * from);
                from / 2.0 * (1.0 - adjustment) + (x + 0.5) / a.scale - 0.5
            }
            Coordinates::PytorchHalfPixel if a.to > 1 => (x + 0.5) / a.scale - 0.5,
            Coordinates::PytorchHalfPixel => 0.0,
            // The target's length counts before it is rounded down to an integer.
            Coordinates::AlignCorners if a.scale * from != 1.0 => x * (from - 1.0) / (a.scale * from - 1.0),
            Coordinates::AlignCorners => 0.0,
            Coordinates::Asymmetric => x / a.scale,
            Coordinates::TfCropAndResize => {
                let (start, end) = a.roi;
                match a.to > 1 {
                    true => start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0),
                    false => 0.5 * (start + end) * (from - 1.0),
                }
            }
            Coordinates::TfHalfPixelForNearest => (x + 0.5) / a.scale,
        }
    }

    /// The neighbours of a place with their weights; neighbours may lie outside.
    fn weights(&self, a: &Axis, at: f64) -> Vec<(i64, f64)> {
        let floor = at.floor();
        let mut taps: Vec<(i64, f64)> = match self.kind {
            Kind::Nearest => {
                let place = match self.nearest {
                    Nearest::Floor => floor,
                    Nearest::Ceil => at.ceil(),
                    Nearest::PreferFloor => (at - 0.5).ceil(),
                    Nearest::PreferCeil => (at + 0.5).floor(),
                };
                return vec![(place as i64, 1.0)];
            }
            Kind::Linear | Kind::Cubic => {
                let reach = if self.kind == Kind::Linear { 1.0 } else { 2.0 };
                let shrink = if self.antialias { a.scale.min(1.0) } else { 1.0 };
                let reach = reach / shrink;
                let first = (at - reach).floor() as i64 + 1;
                let last = (at + reach).ceil() as i64 - 1;
                (first..=last).map(|n| (n, self.kernel((at - n as f64) * shrink))).collect()
            }
        };
        if self.exclude_outside {
            for (n, w) in &mut taps {
                if !(0..a.from as i64).contains(n) {
                    *w = 0.0;
                }
            }
        }
        let sum: f64 = taps.iter().map(|(_, w)| w).sum();
        if (self.exclude_outside || self.antialias) && sum != 0.0 {
            taps.iter_mut().for_each(|(_, w)| *w /= sum);
        }
        taps
    }

    /// The interpolation kernel at a distance.
    fn kernel(&self, distance: f64) -> f64 {
        let (d, a) = (distance.abs(), self.cubic_a);
        match self.kind {
            Kind::Nearest | Kind::Linear => (1.0 - d).max(0.0),
            Kind::Cubic if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Kind::Cubic if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            Kind::Cubic => 0.0,
        }
    }

    /// The matrix of weights: a row for each index of the result.
    fn matrix(&self, a: &Axis) -> Vec<f64> {
        let mut matrix = vec![0.0; a.to * a.from];
        for i in 0..a.to {
            let at = self.source(a, i);
            for (n, w) in self.weights(a, at) {
                let n = n.clamp(0, a.from as i64 - 1) as usize;
                matrix[i * a.from + n] += w;
            }
        }
        matrix
    }

    /// Whether an index of the result lies outside of the data, where that has a value of its own.
    fn outside(&self, a: &Axis, i: usize) -> bool {
        let at = self.source(a, i);
        self.coordinates == Coordinates::TfCropAndResize && !(0.0..=(a.from - 1) as f64).contains(&at)
    }
}

fn resize(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let axes = match cx.ints_opt("axes")? {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, rank)).collect::<Step<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let numbers = |i: usize, what: &str| -> Step<Option<Vec<f64>>> {
        Ok(cx.const_opt(i, what)?.map(|t| floats(&t)).filter(|v| !v.is_empty()))
    };
    let (roi, scales, sizes) = match cx.opset {
        ..11 => (None, numbers(1, "the scales")?, None),
        11.. => (numbers(1, "the region")?, numbers(2, "the scales")?, numbers(3, "the sizes")?),
    };
    let mode = Mode::new(cx)?;
    let targets = targets(cx, x, &axes, scales, sizes, roi)?;
    cx.resized(x, &mode, &targets)
}

/// The dimensions that change, and how.
fn targets(
    cx: &Cx<'_, '_>,
    x: ExprId,
    axes: &[usize],
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<f64>>,
    roi: Option<Vec<f64>>,
) -> Step<Vec<Axis>> {
    let given = scales.as_ref().or(sizes.as_ref()).map_or(0, Vec::len);
    if given != axes.len() || roi.as_ref().is_some_and(|r| r.len() != 2 * axes.len()) {
        return wrong("scales, sizes or roi of Resize do not fit the axes");
    }
    let crop = cx.text("coordinate_transformation_mode", "")? == "tf_crop_and_resize";
    let mut found = Vec::new();
    let policy = cx.text("keep_aspect_ratio_policy", "stretch")?;
    let mut common: Option<f64> = None;
    if let Some(sizes) = &sizes {
        for (&axis, &size) in axes.iter().zip(sizes) {
            let scale = size / cx.size(x, axis)? as f64;
            common = match policy {
                "stretch" => None,
                "not_larger" => Some(common.map_or(scale, |c| c.min(scale))),
                "not_smaller" => Some(common.map_or(scale, |c| c.max(scale))),
                other => return refuse(format!("keep_aspect_ratio_policy `{other}` is not supported")),
            };
        }
    }
    for (k, &axis) in axes.iter().enumerate() {
        let unchanged = match (&scales, &sizes) {
            (Some(s), _) => s[k] == 1.0,
            (None, Some(s)) => cx.ty(x)?.shape[axis].as_static().is_some_and(|n| n as f64 == s[k]),
            (None, None) => true,
        };
        if unchanged && !crop && common.is_none() {
            continue;
        }
        let from = cx.size(x, axis)?;
        let region = roi.as_ref().filter(|_| crop).map(|r| (r[k], r[axes.len() + k]));
        let (to, scale) = match (&scales, &sizes) {
            (Some(s), _) => {
                let span = region.map_or(1.0, |(start, end)| end - start);
                ((from as f64 * span * s[k]).floor(), s[k])
            }
            (None, Some(s)) => match common {
                Some(c) => ((c * from as f64 + 0.5).floor(), c),
                None => (s[k], s[k] / from as f64),
            },
            (None, None) => (from as f64, 1.0),
        };
        if !(0.0..1e9).contains(&to) || scale <= 0.0 || from == 0 || to * from as f64 > MAX_WEIGHTS as f64 {
            return wrong(format!("Resize from {from} to {to} by {scale}"));
        }
        found.push(Axis { axis, from, to: to as usize, scale, roi: region.unwrap_or((0.0, 1.0)) });
    }
    Ok(found)
}

fn upsample(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let scales = match cx.opset {
        ..9 => cx.floats_opt("scales")?.map(|s| s.into_iter().map(f64::from).collect()),
        9.. => cx.const_floats_opt(1, "the scales")?,
    };
    let mode = Mode { coordinates: Coordinates::Asymmetric, nearest: Nearest::Floor, ..Mode::new(cx)? };
    let axes: Vec<usize> = (0..cx.rank(x)?).collect();
    let targets = targets(cx, x, &axes, scales, None, None)?;
    cx.resized(x, &mode, &targets)
}

impl Cx<'_, '_> {
    fn resized(&mut self, x: ExprId, mode: &Mode, targets: &[Axis]) -> Step {
        let out = self.dtype(x)?;
        if mode.kind == Kind::Nearest {
            let mut y = x;
            for a in targets {
                let place = |i| mode.weights(a, mode.source(a, i))[0].0.clamp(0, a.from as i64 - 1) as usize;
                let places: Vec<usize> = (0..a.to).map(place).collect();
                y = self.take_known(y, &places, a.axis)?;
            }
            return self.extrapolated(y, mode, targets);
        }
        // Integers are interpolated as floats and rounded at the end.
        let float = if out.is_float() { out } else { DType::F32 };
        let mut y = self.cast(x, float)?;
        for a in targets {
            y = self.weighted(y, a, &mode.matrix(a), float)?;
        }
        let y = self.extrapolated(y, mode, targets)?;
        if out.is_float() {
            return Ok(y);
        }
        let y = self.un(&crate::op::elemwise::ROUND, y)?;
        self.cast(y, out)
    }

    /// One dimension multiplied with a matrix.
    fn weighted(&mut self, x: ExprId, a: &Axis, matrix: &[f64], dtype: DType) -> Step {
        let matrix = dispatch!(dtype, T => {
            let data: Vec<T> = matrix
                .iter()
                .map(|&w| Scalar::from_f64(dtype, w).get::<T>().expect("made in this dtype"))
                .collect();
            Tensor::from_slice(&[a.to, a.from], &data)
        });
        let matrix = matrix.or_else(|e| wrong(e.to_string()))?;
        let matrix = self.constant(matrix);
        let rank = self.rank(x)?;
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(a.axis, rank - 1);
        let y = self.transpose(x, &order)?;
        let y = self.call(&DENSE, &[y, matrix], DenseAttrs { units: None, out_dtype: None }.attrs())?;
        self.transpose(y, &order)
    }

    /// Puts the extrapolation value where the region leaves the data.
    fn extrapolated(&mut self, y: ExprId, mode: &Mode, targets: &[Axis]) -> Step {
        let rank = self.rank(y)?;
        let value = self.scalar(self.dtype(y)?, mode.extrapolation);
        let mut y = y;
        for a in targets {
            let outside: Vec<Bool8> = (0..a.to).map(|i| Bool8::from(mode.outside(a, i))).collect();
            if outside.iter().any(|&o| bool::from(o)) {
                let mask = Tensor::from_slice(&[a.to], &outside).or_else(|e| wrong(e.to_string()))?;
                let mask = self.constant(mask);
                let mask = self.along(mask, a.axis, rank)?;
                y = self.select(mask, value, y)?;
            }
        }
        Ok(y)
    }
}
