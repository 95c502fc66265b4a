//! From places of a resized axis to places and weights of the original one.
//!
//! All of it is known when shapes are, so a resize is a weighted sum of elements at constant
//! places: [`Taps`] holds them, one list of (element, weight) a place of the result.

use crate::op::OpError;
use crate::op::check::one_of;
use crate::scalar::{CmpOp, UnaryOp};
use crate::tir::Expr;
use crate::types::DType;

/// How a coordinate of the result becomes one of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    HalfPixel,
    AlignCorners,
    Asymmetric,
    PytorchHalfPixel,
    TfHalfPixelForNn,
    TfCropAndResize,
    HalfPixelSymmetric,
}

impl Transform {
    /// Reads the attribute.
    pub fn read(name: &str) -> Result<Transform, OpError> {
        const NAMES: [(&str, Transform); 7] = [
            ("half_pixel", Transform::HalfPixel),
            ("align_corners", Transform::AlignCorners),
            ("asymmetric", Transform::Asymmetric),
            ("pytorch_half_pixel", Transform::PytorchHalfPixel),
            ("tf_half_pixel_for_nn", Transform::TfHalfPixelForNn),
            ("tf_crop_and_resize", Transform::TfCropAndResize),
            ("half_pixel_symmetric", Transform::HalfPixelSymmetric),
        ];
        one_of("coordinate_transformation_mode", name, &NAMES.map(|(n, _)| n))?;
        Ok(NAMES.iter().find(|(n, _)| *n == name).map_or(Transform::HalfPixel, |&(_, t)| t))
    }
}

/// How the nearest element is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearest {
    /// Halves to even.
    Round,
    Floor,
    Ceil,
    RoundPreferFloor,
    RoundPreferCeil,
}

impl Nearest {
    /// Reads the attribute; empty means Relay's choice for the transformation.
    pub fn read(name: &str, transform: Transform) -> Result<Nearest, OpError> {
        one_of(
            "rounding_method",
            name,
            &["", "round", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"],
        )?;
        Ok(match name {
            "round" => Nearest::Round,
            "ceil" => Nearest::Ceil,
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "" if transform == Transform::AlignCorners => Nearest::Round,
            _ => Nearest::Floor,
        })
    }

    fn choose(self, x: f64) -> f64 {
        match self {
            Nearest::Round => x.round_ties_even(),
            Nearest::Floor => (x + NEARLY).floor(),
            Nearest::Ceil => (x - NEARLY).ceil(),
            Nearest::RoundPreferFloor => (x - 0.5).ceil(),
            Nearest::RoundPreferCeil => (x + 0.5).floor(),
        }
    }

    /// The same as an expression.
    pub fn expr(self, x: Expr) -> Expr {
        let number = |v: f64| Expr::float(v, DType::F64);
        match self {
            Nearest::Round => x.unary(UnaryOp::Round),
            Nearest::Floor => (x + number(NEARLY)).unary(UnaryOp::Floor),
            Nearest::Ceil => (x - number(NEARLY)).unary(UnaryOp::Ceil),
            Nearest::RoundPreferFloor => (x - number(0.5)).unary(UnaryOp::Ceil),
            Nearest::RoundPreferCeil => (x + number(0.5)).unary(UnaryOp::Floor),
        }
    }
}

/// Coordinates that should be whole are so only nearly.
const NEARLY: f64 = 1e-5;

/// How elements combine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    Nearest(Nearest),
    Linear,
    /// A cubic with this parameter; `exclude` gives elements outside no weight.
    Cubic {
        alpha: f64,
        exclude: bool,
    },
}

/// An axis to resize.
#[derive(Clone, Debug)]
pub(super) struct Resize {
    pub transform: Transform,
    pub method: Method,
    /// Elements of the data.
    pub input: usize,
    /// Elements of the result.
    pub output: usize,
    /// The result's size over the data's, where it is not the quotient.
    pub scale: Option<f64>,
    /// The region of the data that is resized, as shares of it.
    pub roi: (f64, f64),
    /// Linear weights widen where the result is smaller.
    pub antialias: bool,
}

/// `(i + add) * times / over + plus`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    add: f64,
    times: f64,
    over: f64,
    plus: f64,
}

impl Map {
    fn at(self, i: usize) -> f64 {
        (i as f64 + self.add) * self.times / self.over + self.plus
    }

    /// The coordinate as an expression in float64.
    pub fn expr(self, i: &Expr) -> Expr {
        let number = |v: f64| Expr::float(v, DType::F64);
        (i.clone().cast(DType::F64) + number(self.add)) * number(self.times) / number(self.over)
            + number(self.plus)
    }
}

/// The elements that one place of the result is made of, with their weights. Empty means
/// that the place lies outside the region and takes the extrapolation value.
pub(super) type Taps = Vec<(usize, f64)>;

impl Resize {
    /// The taps of every place of the result.
    pub fn taps(&self) -> Vec<Taps> {
        (0..self.output).map(|i| self.tap(i)).collect()
    }

    /// The coordinate in the data of a place of the result, as a map that the evaluator and
    /// generated code compute in the same steps.
    pub fn map(&self) -> Map {
        let (input, output) = (self.input as f64, self.output as f64);
        let scale = self.scale.unwrap_or(output / input);
        let (start, end) = self.roi;
        let single = self.output <= 1;
        let (add, times, over, plus) = match self.transform {
            Transform::PytorchHalfPixel | Transform::AlignCorners if single => (0.0, 0.0, 1.0, 0.0),
            Transform::HalfPixel | Transform::PytorchHalfPixel => (0.5, 1.0, scale, -0.5),
            // An explicit scale says how large the result was to be before rounding.
            Transform::AlignCorners => {
                (0.0, input - 1.0, self.scale.map_or(output, |s| s * input) - 1.0, 0.0)
            }
            Transform::Asymmetric => (0.0, 1.0, scale, 0.0),
            Transform::TfHalfPixelForNn => (0.5, 1.0, scale, 0.0),
            Transform::TfCropAndResize if single => (0.0, 0.0, 1.0, 0.5 * (start + end) * (input - 1.0)),
            Transform::TfCropAndResize => {
                (0.0, (end - start) * (input - 1.0), output - 1.0, start * (input - 1.0))
            }
            Transform::HalfPixelSymmetric => {
                let offset = input / 2.0 * (1.0 - output / (scale * input));
                (0.5, 1.0, scale, offset - 0.5)
            }
        };
        Map { add, times, over, plus }
    }

    fn tap(&self, i: usize) -> Taps {
        let x = self.map().at(i);
        if self.crops() && !(0.0..=self.input as f64 - 1.0).contains(&x) {
            return Vec::new();
        }
        match self.method {
            Method::Nearest(nearest) => vec![(self.clamp(nearest.choose(x)), 1.0)],
            Method::Linear => self.weighted(x, 1.0, false, |t| (1.0 - t.abs()).max(0.0)),
            Method::Cubic { alpha, exclude } => self.weighted(x, 2.0, exclude, |t| cubic(t.abs(), alpha)),
        }
    }

    /// True if places outside the data take the extrapolation value.
    pub fn crops(&self) -> bool {
        self.transform == Transform::TfCropAndResize
    }

    fn clamp(&self, at: f64) -> usize {
        at.clamp(0.0, self.input as f64 - 1.0) as usize
    }

    /// The elements within `radius` of a coordinate, weighted by their distance.
    fn weighted(&self, x: f64, radius: f64, exclude: bool, weight: impl Fn(f64) -> f64) -> Taps {
        let scale = self.scale.unwrap_or(self.output as f64 / self.input as f64);
        let widen = if self.antialias { scale.min(1.0) } else { 1.0 };
        let reach = radius / widen;
        let first = (x - reach).floor() as i64 + 1;
        let last =
            if self.antialias { (x + reach).ceil() as i64 - 1 } else { x.floor() as i64 + radius as i64 };
        let mut taps: Taps = Vec::new();
        for j in first.min(x.floor() as i64)..=last {
            let outside = j < 0 || j >= self.input as i64;
            let w = weight((j as f64 - x) * widen);
            if w == 0.0 || outside && exclude {
                continue;
            }
            let at = self.clamp(j as f64);
            match taps.iter_mut().find(|(a, _)| *a == at) {
                Some((_, sum)) => *sum += w,
                None => taps.push((at, w)),
            }
        }
        if exclude || self.antialias {
            let sum: f64 = taps.iter().map(|(_, w)| w).sum();
            taps.iter_mut().for_each(|(_, w)| *w /= sum);
        }
        taps
    }
}

/// The cubic convolution kernel at a distance.
fn cubic(t: f64, a: f64) -> f64 {
    match t {
        t if t <= 1.0 => ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
        t if t < 2.0 => ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a,
        _ => 0.0,
    }
}

/// The weight of an element at a distance, as an expression in float64.
pub(super) fn weight_expr(method: Method, t: Expr) -> Expr {
    let number = |v: f64| Expr::float(v, DType::F64);
    let t = t.unary(UnaryOp::Abs);
    match method {
        Method::Nearest(_) => number(1.0),
        Method::Linear => (number(1.0) - t).max(number(0.0)),
        Method::Cubic { alpha: a, .. } => {
            let near = (t.clone() * number(a + 2.0) - number(a + 3.0)) * t.clone() * t.clone() + number(1.0);
            let far = ((t.clone() * number(a) - number(5.0 * a)) * t.clone() + number(8.0 * a)) * t.clone()
                - number(4.0 * a);
            let outer = t.clone().lt(number(2.0)).select(far, number(0.0));
            t.cmp(CmpOp::Le, number(1.0)).select(near, outer)
        }
    }
}
