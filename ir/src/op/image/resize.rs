//! `image.resize1d`, `image.resize2d`, `image.resize3d` and `nn.upsampling`.

use std::sync::Arc;

use super::coords::{Method, Nearest, Resize, Taps, Transform, weight_expr};
use crate::eval::Value;
use crate::op::check::{dtype_in, one_of, shape_of, sizes};
use crate::op::layout::Order;
use crate::op::num::{Real, acc_dtype, read, with_acc, write};
use crate::op::util::NUMERIC;
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{CmpOp, Convert, Scalar, UnaryOp};
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

/// Declares the attributes of a resize over `$n` axes.
macro_rules! resize_attrs {
    ($name:ident, $doc:literal, $n:literal, $layout:literal) => {
        op_attrs! {
            #[doc = $doc]
            pub struct $name {
                /// Sizes of the result's spatial axes.
                size: Vec<i64>,
                /// Starts and then ends of the region that `tf_crop_and_resize` takes, as shares.
                roi: Option<Vec<f64>> = None,
                /// Order of the data's dimensions.
                layout: Arc<str> = $layout.into(),
                /// `nearest_neighbor`, `linear` or `cubic`.
                method: Arc<str> = "linear".into(),
                /// How coordinates map.
                coordinate_transformation_mode: Arc<str> = "half_pixel".into(),
                /// How the nearest element is chosen; empty means by the coordinates' mode.
                rounding_method: Arc<str> = "round".into(),
                /// The parameter of the cubic.
                cubic_alpha: f64 = -0.5,
                /// Elements outside have no weight in the cubic.
                cubic_exclude: i64 = 0,
                /// The value outside the region.
                extrapolation_value: f64 = 0.0,
                /// Dtype of the result; the data's where it is `None`.
                out_dtype: Option<DType> = None,
                /// The result's sizes over the data's, where they are not the quotients.
                scales: Option<Vec<f64>> = None,
                /// Weights widen where the result is smaller.
                antialias: bool = false,
            }
        }
        impl ResizeKind for $name {
            fn plan(attrs: &Attrs) -> Result<Plan, OpError> {
                let a: $name = attrs.read();
                let transform = Transform::read(&a.coordinate_transformation_mode)?;
                one_of("method", &a.method, &["nearest_neighbor", "linear", "cubic"])?;
                let method = match &*a.method {
                    "linear" => Method::Linear,
                    "cubic" => Method::Cubic { alpha: a.cubic_alpha, exclude: a.cubic_exclude != 0 },
                    _ => Method::Nearest(Nearest::read(&a.rounding_method, transform)?),
                };
                let many = |v: &Option<Vec<f64>>, n| v.as_ref().is_some_and(|v| v.len() != n);
                if many(&a.roi, 2 * $n) || many(&a.scales, $n) {
                    return Err(OpError::new("roi needs two numbers an axis and scales one"));
                }
                if a.scales.iter().flatten().any(|s| !(s.is_finite() && *s > 0.0)) {
                    return Err(OpError::new("scales must be positive"));
                }
                Ok(Plan {
                    sizes: Sizes::Given(sizes("size", &a.size, $n, 0)?),
                    order: Order::data("layout", &a.layout, $n)?,
                    transform,
                    method,
                    roi: a.roi,
                    scales: a.scales,
                    outside: a.extrapolation_value,
                    out_dtype: a.out_dtype,
                    antialias: a.antialias,
                })
            }
        }
    };
}
resize_attrs!(Resize1dAttrs, "Attributes of `image.resize1d`.", 1, "NCW");
resize_attrs!(Resize2dAttrs, "Attributes of `image.resize2d`.", 2, "NCHW");
resize_attrs!(Resize3dAttrs, "Attributes of `image.resize3d`.", 3, "NCDHW");

op_attrs! {
    /// Attributes of [`UPSAMPLING`].
    pub struct UpsamplingAttrs {
        /// The result's height over the data's.
        scale_h: f64 = 1.0,
        /// The result's width over the data's.
        scale_w: f64 = 1.0,
        /// Order of the data's dimensions.
        layout: Arc<str> = "NCHW".into(),
        /// `nearest_neighbor`, `bilinear` or `bicubic`.
        method: Arc<str> = "nearest_neighbor".into(),
        /// Corners map to corners.
        align_corners: bool = false,
    }
}

impl ResizeKind for UpsamplingAttrs {
    fn plan(attrs: &Attrs) -> Result<Plan, OpError> {
        let a: UpsamplingAttrs = attrs.read();
        let transform = if a.align_corners { Transform::AlignCorners } else { Transform::Asymmetric };
        one_of("method", &a.method, &["nearest_neighbor", "bilinear", "bicubic"])?;
        let method = match &*a.method {
            "bilinear" => Method::Linear,
            "bicubic" => Method::Cubic { alpha: -0.5, exclude: false },
            _ => Method::Nearest(Nearest::read("", transform)?),
        };
        if [a.scale_h, a.scale_w].iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(OpError::new("scales must be positive"));
        }
        Ok(Plan {
            sizes: Sizes::Times(vec![a.scale_h, a.scale_w]),
            order: Order::data("layout", &a.layout, 2)?,
            transform,
            method,
            roi: None,
            scales: None,
            outside: 0.0,
            out_dtype: None,
            antialias: false,
        })
    }
}

/// Attributes that describe a resize.
trait ResizeKind: OpAttrs {
    fn plan(attrs: &Attrs) -> Result<Plan, OpError>;
}

/// The sizes of the result.
enum Sizes {
    Given(Vec<usize>),
    /// The data's, times these, rounded.
    Times(Vec<f64>),
}

/// A resize.
struct Plan {
    sizes: Sizes,
    order: Order,
    transform: Transform,
    method: Method,
    roi: Option<Vec<f64>>,
    scales: Option<Vec<f64>>,
    outside: f64,
    out_dtype: Option<DType>,
    antialias: bool,
}

/// A row of a resize whose attributes are `T`.
const fn row<T: ResizeKind>(name: &'static str, doc: &'static str, onnx: &'static [&'static str]) -> OpDef {
    OpDef {
        name,
        doc,
        args: &["data"],
        optional: 0,
        attrs: T::SCHEMA,
        pattern: FusePattern::Injective,
        purity: Purity::Pure,
        dtypes: NUMERIC,
        infer: |args, attrs| infer(args, &T::plan(attrs)?),
        backward: no_backward,
        eval: |args, attrs, ty| eval(args, &T::plan(attrs)?, ty),
        lower: Lower::Te(|g, args, attrs, out| Ok(vec![lower(g, &args[0], &T::plan(attrs)?, &out[0])?])),
        onnx,
    }
}

/// Resizes one axis.
pub static RESIZE1D: OpDef = row::<Resize1dAttrs>("image.resize1d", "Resizes one spatial axis.", &["Resize"]);
/// Resizes two axes.
pub static RESIZE2D: OpDef =
    row::<Resize2dAttrs>("image.resize2d", "Resizes two spatial axes.", &["Resize", "Upsample"]);
/// Resizes three axes.
pub static RESIZE3D: OpDef =
    row::<Resize3dAttrs>("image.resize3d", "Resizes three spatial axes.", &["Resize"]);
/// Resizes by factors.
pub static UPSAMPLING: OpDef =
    row::<UpsamplingAttrs>("nn.upsampling", "Resizes height and width by factors.", &["Upsample"]);

impl Plan {
    /// The spatial sizes of the result.
    fn output(&self, input: &[Dim]) -> Vec<Dim> {
        match &self.sizes {
            Sizes::Given(sizes) => sizes.iter().map(|&n| Dim::Static(n)).collect(),
            Sizes::Times(scales) => input
                .iter()
                .zip(scales)
                .map(|(dim, s)| match dim {
                    Dim::Static(n) => Dim::Static((*n as f64 * s).round() as usize),
                    Dim::Sym(_) | Dim::Any if *s == 1.0 => dim.clone(),
                    Dim::Sym(_) | Dim::Any => Dim::Any,
                })
                .collect(),
        }
    }

    /// The resize of each spatial axis.
    fn axes(&self, input: &[usize], output: &[usize]) -> Vec<Resize> {
        let n = input.len();
        let axis = |d: usize| Resize {
            transform: self.transform,
            method: self.method,
            input: input[d],
            output: output[d],
            scale: self.scales.as_ref().map(|s| s[d]),
            roi: self.roi.as_ref().map_or((0.0, 1.0), |r| (r[d], r[n + d])),
            antialias: self.antialias,
        };
        (0..n).map(axis).collect()
    }

    /// The dtype that a result is computed in.
    fn computing(&self, from: DType, to: DType) -> DType {
        match self.method {
            Method::Nearest(_) => acc_dtype(from, to),
            Method::Linear | Method::Cubic { .. } if from == DType::F64 || to == DType::F64 => DType::F64,
            Method::Linear | Method::Cubic { .. } => DType::F32,
        }
    }
}

fn infer(args: &[Type], plan: &Plan) -> Result<Type, OpError> {
    let dtype = dtype_in(args, 0, NUMERIC)?;
    let data = plan.order.dims(args, 0)?;
    let output = plan.output(&data[2..]);
    for (from, to) in data[2..].iter().zip(&output) {
        if from.as_static() == Some(0) && to.as_static() != Some(0) {
            return Err(OpError::arg(0, "there are no elements to resize"));
        }
    }
    let shape = [&data[..2], &output].concat();
    plan.order.tensor_type(&shape, plan.out_dtype.unwrap_or(dtype))
}

/// Resizes one axis of a dense array of `outer` by `n` by `inner` elements.
fn along<F: Real>(x: &[F], taps: &[Taps], n: usize, inner: usize, outside: F) -> Vec<F> {
    let mut y = Vec::with_capacity(x.len() / n.max(1) * taps.len());
    for block in x.chunks_exact((n * inner).max(1)) {
        for taps in taps {
            let start = y.len();
            y.resize(start + inner, if taps.is_empty() { outside } else { F::ZERO });
            for &(at, w) in taps {
                let w = F::of(w);
                let row = &block[at * inner..(at + 1) * inner];
                y[start..].iter_mut().zip(row).for_each(|(y, &v)| *y = y.mac(w, v));
            }
        }
    }
    y
}

fn eval(args: &[Value], plan: &Plan, ty: &Type) -> Result<Value, OpError> {
    let x = plan.order.canonical_tensor(args[0].tensor()?)?;
    let (shape, dtype) = shape_of(ty)?;
    let out = plan.order.canonical(&shape);
    let axes = plan.axes(&x.shape()[2..], &out[2..]);
    let taps: Vec<Vec<Taps>> = axes.iter().map(Resize::taps).collect();
    let y = match plan.method {
        Method::Nearest(_) => picked(&x, &taps, &out, dtype, plan.outside)?,
        Method::Linear | Method::Cubic { .. } => match plan.computing(x.dtype(), dtype) {
            DType::F64 => blended::<f64>(&x, &taps, &out, dtype, plan.outside)?,
            _ => blended::<f32>(&x, &taps, &out, dtype, plan.outside)?,
        },
    };
    Ok(plan.order.arrange_tensor(&y)?.into())
}

fn blended<F: Real>(
    x: &Tensor,
    taps: &[Vec<Taps>],
    out: &[usize],
    dtype: DType,
    outside: f64,
) -> Result<Tensor, OpError> {
    let mut data = read::<F>(x).into_owned();
    for (d, taps) in taps.iter().enumerate() {
        let inner = x.shape()[2 + d + 1..].iter().product();
        // Axes before this one are resized already; those after it are not.
        data = along(&data, taps, x.shape()[2 + d], inner, F::of(outside));
    }
    write(dtype, out, &data)
}

/// Elements as they are: the accumulators hold every dtype's values or bits.
fn picked(
    x: &Tensor,
    taps: &[Vec<Taps>],
    out: &[usize],
    dtype: DType,
    outside: f64,
) -> Result<Tensor, OpError> {
    let mut places: Vec<Option<usize>> = (0..out[0] * out[1]).map(Some).collect();
    for (taps, &n) in taps.iter().zip(&x.shape()[2..]) {
        let next = |at: Option<usize>| taps.iter().map(move |t| Some(at? * n + t.first()?.0));
        places = places.into_iter().flat_map(next).collect();
    }
    with_acc!(acc_dtype(x.dtype(), dtype), A => {
        let (data, fill) = (read::<A>(x), A::of_f64(outside));
        let y: Vec<A> = places.iter().map(|at| at.map_or(fill, |at| data[at])).collect();
        write(dtype, out, &y)
    })
}

fn lower(g: &mut Graph, x: &te::Tensor, plan: &Plan, out: &TensorType) -> Result<te::Tensor, OpError> {
    let shape = out.static_shape().ok_or_else(|| OpError::new("the result's shape is not known"))?;
    let (input, output) = (plan.order.canonical(&x.shape), plan.order.canonical(&shape));
    let axes = plan.axes(&input[2..], &output[2..]);
    let acc = plan.computing(x.dtype, out.dtype);
    let mut current = x.clone();
    for (d, axis) in axes.iter().enumerate() {
        let place = plan.order.place(2 + d);
        let mut shape = current.shape.clone();
        shape[place] = axis.output;
        let dtype = match plan.method {
            _ if d + 1 == axes.len() => out.dtype,
            Method::Nearest(_) => x.dtype,
            Method::Linear | Method::Cubic { .. } => acc,
        };
        let ty = TensorType::of(&shape, dtype);
        let acc = if matches!(plan.method, Method::Nearest(_)) { x.dtype } else { acc };
        let (from, outside) = (current.clone(), Expr::float(plan.outside, acc));
        current = g.compute("resize", "injective", &ty, |i| {
            let element = |at: Expr| {
                let mut index = i.to_vec();
                index[place] = at;
                from.at(&index).cast(acc)
            };
            axis_value(axis, &i[place], acc, outside, element).cast(dtype)
        });
    }
    Ok(current)
}

/// The value at an index of a resized axis, from the elements of the data's.
fn axis_value(
    axis: &Resize,
    index: &Expr,
    acc: DType,
    outside: Expr,
    element: impl Fn(Expr) -> Expr,
) -> Expr {
    if axis.antialias {
        return from_table(&axis.taps(), index, acc, outside, element);
    }
    if let (Method::Nearest(_), Some(at)) = (axis.method, repeated(axis, index)) {
        return element(at);
    }
    let last = axis.input.saturating_sub(1);
    let x = axis.map().expr(index);
    let at = |j: Expr| j.max(0i64).min(last);
    let value = match axis.method {
        Method::Nearest(nearest) => element(at(nearest.expr(x.clone()).cast(DType::I64))),
        Method::Linear | Method::Cubic { .. } => {
            let base = x.clone().unary(UnaryOp::Floor).cast(DType::I64);
            let (exclude, offsets) = match axis.method {
                Method::Cubic { exclude, .. } => (exclude, -1..=2),
                Method::Linear | Method::Nearest(_) => (false, 0..=1),
            };
            let zero = Expr::float(0.0, DType::F64);
            let taps: Vec<(Expr, Expr)> = offsets
                .map(|o| {
                    let j = &base + o;
                    let weight = weight_expr(axis.method, j.clone().cast(DType::F64) - x.clone());
                    let inside = j.clone().ge(0i64).and(j.clone().lt(axis.input));
                    (at(j), if exclude { inside.select(weight, zero.clone()) } else { weight })
                })
                .collect();
            let total = taps.iter().fold(zero.clone(), |sum, (_, w)| sum + w.clone());
            let term = |(at, w): &(Expr, Expr)| {
                let share = if exclude { w.clone() / total.clone() } else { w.clone() };
                // An element without weight may be infinite.
                let none = w.clone().equal(zero.clone());
                none.select(Expr::float(0.0, acc), share.cast(acc) * element(at.clone()))
            };
            taps.iter().map(term).reduce(|a, b| a + b).unwrap_or_else(|| outside.clone())
        }
    };
    if !axis.crops() {
        return value;
    }
    let end = Expr::float(last as f64, DType::F64);
    let inside = x.clone().ge(Expr::float(0.0, DType::F64)).and(x.cmp(CmpOp::Le, end));
    inside.select(value, outside)
}

/// The element that an index takes, where each is taken a whole number of times in turn.
fn repeated(axis: &Resize, index: &Expr) -> Option<Expr> {
    let times = axis.output.checked_div(axis.input).filter(|&t| t > 0 && t * axis.input == axis.output)?;
    let in_turn = axis.taps().iter().enumerate().all(|(i, taps)| taps[..] == [(i / times, 1.0)]);
    in_turn.then(|| index.clone().floor_div(times))
}

/// The sum of elements at tabled places with tabled weights.
fn from_table(
    taps: &[Taps],
    index: &Expr,
    acc: DType,
    outside: Expr,
    element: impl Fn(Expr) -> Expr,
) -> Expr {
    let flag = |v: bool| Expr::constant(Scalar::from_i64(DType::Bool, v.into()));
    let term = |k: usize| {
        let at = chosen(index, taps.len(), |p| Expr::from(taps[p].get(k).map_or(0, |t| t.0)));
        let weight = chosen(index, taps.len(), |p| Expr::float(taps[p].get(k).map_or(0.0, |t| t.1), acc));
        let present = chosen(index, taps.len(), |p| flag(k < taps[p].len()));
        present.select(weight * element(at), Expr::float(0.0, acc))
    };
    let count = taps.iter().map(Vec::len).max().unwrap_or(0);
    let sum = (0..count).map(term).reduce(|a, b| a + b);
    let inside = chosen(index, taps.len(), |p| flag(!taps[p].is_empty()));
    sum.map_or(outside.clone(), |sum| inside.select(sum, outside))
}

/// The value of a table at an index: a balanced tree of comparisons, equal neighbours joined.
fn chosen(index: &Expr, n: usize, value: impl Fn(usize) -> Expr) -> Expr {
    let mut runs: Vec<(usize, Expr)> = Vec::new();
    for p in 0..n {
        let v = value(p);
        if runs.last().is_none_or(|(_, last)| *last != v) {
            runs.push((p, v));
        }
    }
    while runs.len() > 1 {
        let merge = |pair: &[(usize, Expr)]| match pair {
            [(start, a), (bound, b)] => (*start, index.clone().lt(*bound).select(a.clone(), b.clone())),
            other => other[0].clone(),
        };
        runs = runs.chunks(2).map(merge).collect();
    }
    runs.pop().map_or_else(|| Expr::float(0.0, DType::F64), |(_, v)| v)
}
