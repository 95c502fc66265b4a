//! Poolings.

use super::linear::Window;
use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::index::{SCATTER_ELEMENTS, ScatterElementsAttrs};
use crate::op::pool::{
    AVG_POOL1D, AVG_POOL2D, AVG_POOL3D, AvgPool1dAttrs, AvgPool2dAttrs, AvgPool3dAttrs, GLOBAL_AVG_POOL2D,
    GLOBAL_MAX_POOL2D, GlobalPool2dAttrs, MAX_POOL1D, MAX_POOL2D, MAX_POOL2D_WITH_INDEX, MAX_POOL3D,
    MaxPool1dAttrs, MaxPool2dAttrs, MaxPool2dWithIndexAttrs, MaxPool3dAttrs,
};
use crate::op::reduce::{MAX, MEAN, SUM};
use crate::op::{OpAttrs, OpDef};

/// Windows that become one value.
pub(super) const ROWS: &[Row] = &[
    one!("AveragePool", |cx| {
        let x = cx.arg(0)?;
        let include = cx.flag("count_include_pad", false)?;
        average(cx, x, include)
    }),
    one!("GlobalAveragePool", |cx| global(cx, &GLOBAL_AVG_POOL2D, &MEAN)),
    one!("GlobalLpPool", global_lp),
    one!("GlobalMaxPool", |cx| global(cx, &GLOBAL_MAX_POOL2D, &MAX)),
    one!("LpPool", lp),
    Row::new("MaxPool", max),
    one!("MaxUnpool", max_unpool).known(&[2]),
];

/// The window of a pooling; its paddings.
fn window(cx: &Cx<'_, '_>, x: ExprId) -> Step<(Window, Vec<i64>)> {
    let Some(kernel) = cx.ints_opt("kernel_shape")? else { return wrong("a pooling needs kernel_shape") };
    if cx.rank(x)? != kernel.len() + 2 {
        return wrong(format!("kernel_shape {kernel:?} does not fit rank {}", cx.rank(x)?));
    }
    let window = Window::new(cx, kernel)?;
    let padding = window.padding(cx, x)?;
    Ok((window, padding))
}

/// Attributes of a pooling over one, two or three axes, in its struct.
macro_rules! pool {
    ($cx:ident, $x:ident, $op:ident, $attrs:ident, $layout:literal, $window:ident, $padding:ident, $ceil:ident
     $(, $field:ident)?) => {{
        let attrs = $attrs {
            pool_size: $window.kernel,
            strides: $window.strides,
            dilation: $window.dilations,
            padding: $padding,
            layout: $layout.into(),
            out_layout: "".into(),
            ceil_mode: $ceil,
            $(count_include_pad: $field,)?
        };
        $cx.call(&$op, &[$x], attrs.attrs())
    }};
}

fn average(cx: &mut Cx<'_, '_>, x: ExprId, include: bool) -> Step {
    let (window, padding) = window(cx, x)?;
    let ceil = cx.flag("ceil_mode", false)?;
    match window.kernel.len() {
        1 => pool!(cx, x, AVG_POOL1D, AvgPool1dAttrs, "NCW", window, padding, ceil, include),
        2 => pool!(cx, x, AVG_POOL2D, AvgPool2dAttrs, "NCHW", window, padding, ceil, include),
        3 => pool!(cx, x, AVG_POOL3D, AvgPool3dAttrs, "NCDHW", window, padding, ceil, include),
        n => refuse(format!("pooling over {n} dimensions is not supported")),
    }
}

fn max(cx: &mut Cx<'_, '_>) -> Mapped {
    let x = cx.arg(0)?;
    let (window, padding) = window(cx, x)?;
    let ceil = cx.flag("ceil_mode", false)?;
    if cx.node.outputs.get(1).is_some_and(|o| !o.is_empty()) {
        return max_with_index(cx, x, window, padding, ceil);
    }
    let y = match window.kernel.len() {
        1 => pool!(cx, x, MAX_POOL1D, MaxPool1dAttrs, "NCW", window, padding, ceil),
        2 => pool!(cx, x, MAX_POOL2D, MaxPool2dAttrs, "NCHW", window, padding, ceil),
        3 => pool!(cx, x, MAX_POOL3D, MaxPool3dAttrs, "NCDHW", window, padding, ceil),
        n => refuse(format!("pooling over {n} dimensions is not supported")),
    };
    Ok(vec![Value::Tensor(y?)])
}

fn max_with_index(
    cx: &mut Cx<'_, '_>,
    x: ExprId,
    window: Window,
    padding: Vec<i64>,
    ceil_mode: bool,
) -> Mapped {
    if window.kernel.len() != 2 {
        return refuse("the indices of MaxPool are supported over two dimensions only");
    }
    let attrs = MaxPool2dWithIndexAttrs {
        pool_size: window.kernel,
        strides: window.strides,
        dilation: window.dilations,
        padding,
        ceil_mode,
        column_major: cx.flag("storage_order", false)?,
    };
    let fields = cx.call_multi(&MAX_POOL2D_WITH_INDEX, &[x], attrs.attrs())?;
    Ok(fields.into_iter().map(Value::Tensor).collect())
}

fn global(cx: &mut Cx<'_, '_>, op: &'static OpDef, reduction: &'static OpDef) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    if rank == 4 {
        let attrs = GlobalPool2dAttrs { layout: "NCHW".into(), out_layout: "".into() };
        return cx.call(op, &[x], attrs.attrs());
    }
    let axes: Vec<usize> = (2..rank).collect();
    cx.reduce(reduction, x, &axes, true)
}

fn global_lp(cx: &mut Cx<'_, '_>) -> Step {
    let (x, p) = (cx.arg(0)?, cx.int("p", 2)? as f64);
    let axes: Vec<usize> = (2..cx.rank(x)?).collect();
    let y = cx.un(&e::ABS, x)?;
    let y = cx.num(&b::POWER, y, p)?;
    let y = cx.reduce(&SUM, y, &axes, true)?;
    cx.num(&b::POWER, y, 1.0 / p)
}

/// The p-norm of each window; the sum is the mean times the number of elements.
fn lp(cx: &mut Cx<'_, '_>) -> Step {
    let (x, p) = (cx.arg(0)?, cx.int("p", 2)? as f64);
    if cx.flag("ceil_mode", false)? {
        return refuse("LpPool with ceil_mode is not supported");
    }
    let count: i64 = cx.ints_opt("kernel_shape")?.unwrap_or_default().iter().product();
    let y = cx.un(&e::ABS, x)?;
    let y = cx.num(&b::POWER, y, p)?;
    let y = average(cx, y, true)?;
    let y = cx.num(&b::MULTIPLY, y, count as f64)?;
    cx.num(&b::POWER, y, 1.0 / p)
}

/// Values put back where `MaxPool` found them, zeros elsewhere.
fn max_unpool(cx: &mut Cx<'_, '_>) -> Step {
    let (x, places) = (cx.arg(0)?, cx.arg(1)?);
    let (window, padding) = window(cx, x)?;
    let mut shape = cx.shape(x)?;
    let n = window.kernel.len();
    for d in 0..n {
        let size =
            (shape[d + 2] as i64 - 1) * window.strides[d] + window.kernel[d] - padding[d] - padding[n + d];
        shape[d + 2] = usize::try_from(size).or_else(|_| wrong("MaxUnpool to a negative size"))?;
    }
    let total: usize = shape.iter().product();
    let zeros = cx.filled(&[total], cx.dtype(x)?, 0.0)?;
    let (x, places) = (cx.reshape(x, &[-1])?, cx.reshape(places, &[-1])?);
    let attrs = ScatterElementsAttrs { axis: 0, reduction: "update".into() };
    let y = cx.call(&SCATTER_ELEMENTS, &[zeros, places, x], attrs.attrs())?;
    let y = cx.reshape_to(y, &shape)?;
    match cx.const_ints_opt(2, "the output shape")? {
        None => Ok(y),
        Some(wanted) => {
            let mut pads = vec![0; shape.len()];
            pads.extend(wanted.iter().zip(&shape).map(|(&w, &s)| w - s as i64));
            cx.pad_zeros(y, &pads)
        }
    }
}
