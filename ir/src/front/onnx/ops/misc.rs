//! Padding, grids, columns, determinants, and features of classical models.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::index::{SCATTER_ELEMENTS, ScatterElementsAttrs};
use crate::types::DType;

/// The domain of classical machine learning.
const ML: &str = "ai.onnx.ml";

/// What has no other family.
pub(super) const ROWS: &[Row] = &[
    one!("AffineGrid", affine_grid).known(&[1]),
    one!("ArrayFeatureExtractor", array_feature_extractor).of(ML),
    one!("Binarizer", binarizer).of(ML),
    one!("Col2Im", col_to_image).known(&[1, 2]),
    one!("Det", determinant),
    one!("Pad", pad).known(&[1, 3]),
];

/// Pads are an attribute in old opsets, an operand since; they may be about some axes only.
fn pad(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let (given, value) = match cx.opset {
        ..2 => (cx.ints_opt("paddings")?, None),
        2..11 => (cx.ints_opt("pads")?, None),
        11.. => (cx.const_ints_opt(1, "the pads")?, cx.opt(2)?),
    };
    let Some(given) = given else { return wrong("Pad needs pads") };
    let value = match value {
        Some(value) => cx.reshape(value, &[])?,
        None => cx.scalar(cx.dtype(x)?, cx.float("value", 0.0)?),
    };
    let axes: Vec<usize> = match cx.opset {
        ..18 => (0..rank).collect(),
        18.. => match cx.const_ints_opt(3, "the axes")? {
            Some(axes) => axes.iter().map(|&a| cx.axis(a, rank)).collect::<Step<_>>()?,
            None => (0..rank).collect(),
        },
    };
    if given.len() != 2 * axes.len() {
        return wrong(format!("pads {given:?} do not fit {} dimensions", axes.len()));
    }
    let mut pads = vec![0; 2 * rank];
    for (k, &axis) in axes.iter().enumerate() {
        pads[axis] = given[k];
        pads[rank + axis] = given[axes.len() + k];
    }
    match cx.text("mode", "constant")? {
        mode @ ("constant" | "edge" | "reflect" | "wrap") => cx.pad(x, &pads, mode, value),
        other => refuse(format!("mode `{other}` of Pad is not supported")),
    }
}

/// The places of the result's elements in the data, by an affine map of each sample.
fn affine_grid(cx: &mut Cx<'_, '_>) -> Step {
    let theta = cx.arg(0)?;
    let size = cx.const_ints(1, "the size")?;
    let spatial: Vec<usize> = size
        .iter()
        .skip(2)
        .map(|&n| usize::try_from(n).or_else(|_| wrong("AffineGrid of a negative size")))
        .collect::<Step<_>>()?;
    let n = spatial.len();
    let points: usize = spatial.iter().product();
    if !(2..=3).contains(&n) || points > 1 << 26 {
        return refuse(format!("AffineGrid of size {size:?} is not supported"));
    }
    let align = cx.flag("align_corners", false)?;
    let at = |i: usize, n: usize| match align {
        true if n > 1 => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
        true => -1.0,
        false => (2 * i + 1) as f64 / n as f64 - 1.0,
    };
    let mut base = Vec::with_capacity(points * (n + 1));
    for p in 0..points {
        // Coordinates are listed from the innermost dimension outwards.
        let mut rest = p;
        for &size in spatial.iter().rev() {
            base.push(at(rest % size, size));
            rest /= size;
        }
        base.push(1.0);
    }
    let dtype = cx.dtype(theta)?;
    let base = cx.floats_const(&[1, points, n + 1], &base, dtype)?;
    let grid = cx.batch_matmul(base, theta, true)?;
    let mut shape = spatial;
    shape.push(n);
    cx.reshape_batch(grid, &shape)
}

/// Columns added up where their windows lie in an image.
fn col_to_image(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let sizes = |list: Vec<i64>| -> Step<Vec<usize>> {
        list.iter().map(|&n| usize::try_from(n).or_else(|_| wrong("Col2Im of a negative size"))).collect()
    };
    let image = sizes(cx.const_ints(1, "the image's shape")?)?;
    let block = sizes(cx.const_ints(2, "the block's shape")?)?;
    let n = image.len();
    let strides = sizes(cx.ints_opt("strides")?.unwrap_or_else(|| vec![1; n]))?;
    let dilations = sizes(cx.ints_opt("dilations")?.unwrap_or_else(|| vec![1; n]))?;
    let pads = sizes(super::linear::explicit_pads(cx, n)?)?;
    let shape = cx.shape(x)?;
    let elements: usize = block.iter().product();
    if block.len() != n || strides.len() != n || dilations.len() != n || shape.len() != 3 || elements == 0 {
        return wrong("the shapes of Col2Im do not fit");
    }
    let padded: Vec<usize> = (0..n).map(|d| image[d] + pads[d] + pads[n + d]).collect();
    let mut counts = Vec::new();
    for d in 0..n {
        let extent = dilations[d] * (block[d].max(1) - 1) + 1;
        match padded[d].checked_sub(extent) {
            Some(room) if strides[d] > 0 => counts.push(room / strides[d] + 1),
            _ => return wrong("the block of Col2Im is larger than the image"),
        }
    }
    let windows: usize = counts.iter().product();
    if windows != shape[2] {
        return wrong(format!("Col2Im has {} columns, the image has {windows} windows", shape[2]));
    }
    let place = |e: usize, w: usize| {
        let (mut e, mut w, mut at, mut step) = (e, w, 0, 1);
        for d in (0..n).rev() {
            at += step * (w % counts[d] * strides[d] + e % block[d] * dilations[d]);
            (e, w, step) = (e / block[d], w / counts[d], step * padded[d]);
        }
        at as i64
    };
    let places: Vec<i64> =
        (0..elements).flat_map(|e| (0..windows).map(move |w| (e, w))).map(|(e, w)| place(e, w)).collect();
    let (batch, channels) = (shape[0], shape[1] / elements);
    let places = cx.ints_const(&places);
    let places = cx.broadcast_to(places, &[batch, channels, elements * windows])?;
    let x = cx.reshape_to(x, &[batch, channels, elements * windows])?;
    let area: usize = padded.iter().product();
    let zeros = cx.filled(&[batch, channels, area], cx.dtype(x)?, 0.0)?;
    let attrs = ScatterElementsAttrs { axis: 2, reduction: "add".into() };
    let y = cx.call(&SCATTER_ELEMENTS, &[zeros, places, x], attrs.attrs())?;
    let mut full = vec![batch, channels];
    full.extend(&padded);
    let mut y = cx.reshape_to(y, &full)?;
    for d in 0..n {
        y = cx.part(y, d + 2, pads[d], pads[d] + image[d])?;
    }
    Ok(y)
}

/// Determinants of small matrices, by Leibniz' formula.
fn determinant(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    if rank < 2 {
        return wrong("Det wants matrices");
    }
    let n = cx.size(x, rank - 1)?;
    let terms: &[(&[usize], f64)] = match n {
        1 => &[(&[0], 1.0)],
        2 => &[(&[0, 1], 1.0), (&[1, 0], -1.0)],
        3 => &[
            (&[0, 1, 2], 1.0),
            (&[1, 2, 0], 1.0),
            (&[2, 0, 1], 1.0),
            (&[2, 1, 0], -1.0),
            (&[1, 0, 2], -1.0),
            (&[0, 2, 1], -1.0),
        ],
        _ => return refuse(format!("Det of {n} x {n} matrices is not supported")),
    };
    let mut sum = None;
    for &(columns, sign) in terms {
        let mut product = cx.scalar(cx.dtype(x)?, sign);
        for (row, &column) in columns.iter().enumerate() {
            let e = cx.part(x, rank - 2, row, row + 1)?;
            let e = cx.part(e, rank - 1, column, column + 1)?;
            let e = cx.squeeze(e, &[rank - 2, rank - 1])?;
            product = cx.mul(product, e)?;
        }
        sum = Some(match sum {
            Some(sum) => cx.add(sum, product)?,
            None => product,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => wrong("Det of nothing"),
    }
}

fn array_feature_extractor(cx: &mut Cx<'_, '_>) -> Step {
    let (x, places) = (cx.arg(0)?, cx.arg(1)?);
    let rank = cx.rank(x)?;
    let places = cx.reshape(places, &[-1])?;
    let y = cx.take(x, places, rank.saturating_sub(1))?;
    if rank == 1 { cx.expand_dims(y, 0, 1) } else { Ok(y) }
}

fn binarizer(cx: &mut Cx<'_, '_>) -> Step {
    let (x, threshold): (ExprId, f64) = (cx.arg(0)?, cx.float("threshold", 0.0)?);
    let above = cx.num(&b::GREATER, x, threshold)?;
    let dtype: DType = cx.dtype(x)?;
    cx.cast(above, dtype)
}
