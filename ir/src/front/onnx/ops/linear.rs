//! Products and convolutions.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::conv::{
    CONV1D, CONV1D_TRANSPOSE, CONV2D, CONV2D_TRANSPOSE, CONV3D, CONV3D_TRANSPOSE, Conv1dAttrs,
    Conv1dTransposeAttrs, Conv2dAttrs, Conv2dTransposeAttrs, Conv3dAttrs, Conv3dTransposeAttrs,
};
use crate::op::nn::{
    BATCH_MATMUL, BIAS_ADD, BatchMatmulAttrs, BiasAddAttrs, DENSE, DenseAttrs, MATMUL, MatmulAttrs,
};
use crate::op::transform::{EINSUM, EinsumAttrs};
use crate::types::DType;

/// What contracts a dimension.
pub(super) const ROWS: &[Row] = &[
    one!("Conv", |cx| {
        let (x, w) = (cx.arg(0)?, cx.arg(1)?);
        let y = cx.conv(x, w, None)?;
        match cx.opt(2)? {
            Some(bias) => cx.bias_add(y, bias),
            None => Ok(y),
        }
    }),
    one!("ConvTranspose", conv_transpose),
    one!("Einsum", |cx| {
        let args = cx.tensors()?;
        let Some(equation) = cx.text_opt("equation")? else { return wrong("Einsum needs an equation") };
        let tuple = cx.tuple(&args);
        cx.call(&EINSUM, &[tuple], EinsumAttrs { equation: equation.into() }.attrs())
    }),
    one!("Gemm", gemm),
    one!("MatMul", |cx| {
        let (x, y) = (cx.arg(0)?, cx.arg(1)?);
        cx.matmul(x, y)
    }),
];

impl Cx<'_, '_> {
    /// numpy's `matmul`.
    pub(in crate::front::onnx) fn matmul(&mut self, x: ExprId, y: ExprId) -> Step {
        let (rx, ry) = (self.rank(x)?, self.rank(y)?);
        if rx == 0 || ry == 0 {
            return wrong("MatMul of a scalar");
        }
        let x2 = if rx == 1 { self.expand_dims(x, 0, 1)? } else { x };
        let y2 = if ry == 1 { self.expand_dims(y, 1, 1)? } else { y };
        let product = if ry <= 2 {
            let attrs = MatmulAttrs { units: None, out_dtype: None, transpose_a: false, transpose_b: false };
            self.call(&MATMUL, &[x2, y2], attrs.attrs())?
        } else {
            self.batch_matmul(x2, y2, false)?
        };
        let rank = self.rank(product)?;
        let mut gone = Vec::new();
        if rx == 1 {
            gone.push(rank - 2);
        }
        if ry == 1 {
            gone.push(rank - 1);
        }
        self.squeeze(product, &gone)
    }

    /// A product of matrices for every leading index; the operands' ranks may differ.
    pub(in crate::front::onnx) fn batch_matmul(&mut self, x: ExprId, y: ExprId, transpose_b: bool) -> Step {
        let (rx, ry) = (self.rank(x)?, self.rank(y)?);
        let rank = rx.max(ry);
        let x = self.expand_dims(x, 0, rank - rx)?;
        let y = self.expand_dims(y, 0, rank - ry)?;
        let attrs = BatchMatmulAttrs { out_dtype: None, transpose_a: false, transpose_b };
        self.call(&BATCH_MATMUL, &[x, y], attrs.attrs())
    }

    /// A bias for each channel.
    pub(in crate::front::onnx) fn bias_add(&mut self, x: ExprId, bias: ExprId) -> Step {
        self.call(&BIAS_ADD, &[x, bias], BiasAddAttrs { axis: 1 }.attrs())
    }

    /// The convolution that the node's attributes describe.
    pub(in crate::front::onnx) fn conv(&mut self, x: ExprId, w: ExprId, out_dtype: Option<DType>) -> Step {
        let window = Window::of_weight(self, x, w)?;
        let padding = window.padding(self, x)?;
        let groups = self.int("group", 1)?;
        let Window { kernel, strides, dilations } = window;
        macro_rules! conv {
            ($op:ident, $attrs:ident, $data:literal, $weight:literal) => {{
                let attrs = $attrs {
                    strides,
                    padding,
                    dilation: dilations,
                    groups,
                    channels: None,
                    kernel_size: Some(kernel),
                    data_layout: $data.into(),
                    kernel_layout: $weight.into(),
                    out_layout: "".into(),
                    out_dtype,
                };
                self.call(&$op, &[x, w], attrs.attrs())
            }};
        }
        match kernel.len() {
            1 => conv!(CONV1D, Conv1dAttrs, "NCW", "OIW"),
            2 => conv!(CONV2D, Conv2dAttrs, "NCHW", "OIHW"),
            3 => conv!(CONV3D, Conv3dAttrs, "NCDHW", "OIDHW"),
            n => refuse(format!("convolution over {n} dimensions is not supported")),
        }
    }
}

/// Sizes, steps and spacings of windows.
pub(super) struct Window {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
}

impl Window {
    /// The window of a convolution, whose kernel may be known from the weight alone.
    fn of_weight(cx: &Cx<'_, '_>, x: ExprId, w: ExprId) -> Step<Window> {
        let rank = cx.rank(x)?;
        if rank < 3 || cx.rank(w)? != rank {
            return wrong(format!("`{}` wants data and weight of one rank, 3 or more", cx.node.op_type));
        }
        let shape = cx.shape(w)?;
        let kernel = shape[2..].iter().map(|&n| n as i64).collect();
        match cx.ints_opt("kernel_shape")? {
            Some(given) if given != kernel => {
                wrong(format!("kernel_shape {given:?} is not the weight's {kernel:?}"))
            }
            _ => Window::new(cx, kernel),
        }
    }

    /// The window of a node with this kernel.
    pub(super) fn new(cx: &Cx<'_, '_>, kernel: Vec<i64>) -> Step<Window> {
        let n = kernel.len();
        let strides = cx.ints_opt("strides")?.unwrap_or_else(|| vec![1; n]);
        let dilations = cx.ints_opt("dilations")?.unwrap_or_else(|| vec![1; n]);
        let positive = |list: &[i64]| list.iter().all(|&v| (1..1 << 31).contains(&v));
        if strides.len() != n
            || dilations.len() != n
            || ![&kernel, &strides, &dilations].iter().all(|l| positive(l))
        {
            return wrong(format!(
                "kernel {kernel:?}, strides {strides:?} and dilations {dilations:?} do not fit"
            ));
        }
        Ok(Window { kernel, strides, dilations })
    }

    /// The extent of the window along a dimension, its gaps included.
    pub(super) fn extent(&self, d: usize) -> i64 {
        (self.kernel[d] - 1) * self.dilations[d] + 1
    }

    /// All paddings before, then all after, as `pads` or `auto_pad` say.
    pub(super) fn padding(&self, cx: &Cx<'_, '_>, x: ExprId) -> Step<Vec<i64>> {
        let n = self.kernel.len();
        let lower = match cx.text("auto_pad", "NOTSET")? {
            "VALID" => return Ok(vec![0; 2 * n]),
            "NOTSET" | "" => return explicit_pads(cx, n),
            "SAME_UPPER" => false,
            "SAME_LOWER" => true,
            other => return wrong(format!("auto_pad `{other}` does not exist")),
        };
        let mut pads = vec![0; 2 * n];
        for d in 0..n {
            let (size, stride) = (cx.size(x, d + 2)? as i64, self.strides[d]);
            let out = (size + stride - 1) / stride;
            let total = ((out - 1) * stride + self.extent(d) - size).max(0);
            let small = total / 2;
            (pads[d], pads[n + d]) = if lower { (total - small, small) } else { (small, total - small) };
        }
        Ok(pads)
    }
}

/// The attribute `pads` for so many dimensions; zeros by default.
pub(super) fn explicit_pads(cx: &Cx<'_, '_>, n: usize) -> Step<Vec<i64>> {
    let pads = cx.ints_opt("pads")?.unwrap_or_else(|| vec![0; 2 * n]);
    match pads.len() == 2 * n {
        true => Ok(pads),
        false => wrong(format!("pads {pads:?} do not fit {n} dimensions")),
    }
}

fn conv_transpose(cx: &mut Cx<'_, '_>) -> Step {
    let (x, w) = (cx.arg(0)?, cx.arg(1)?);
    let window = Window::of_weight(cx, x, w)?;
    let (padding, output_padding) = transposed_padding(cx, &window, x)?;
    let groups = cx.int("group", 1)?;
    let Window { kernel, strides, dilations } = window;
    macro_rules! conv {
        ($op:ident, $attrs:ident, $data:literal, $weight:literal) => {{
            let attrs = $attrs {
                channels: None,
                kernel_size: Some(kernel),
                strides,
                output_padding,
                padding,
                dilation: dilations,
                groups,
                data_layout: $data.into(),
                kernel_layout: $weight.into(),
                out_layout: "".into(),
                out_dtype: None,
            };
            cx.call(&$op, &[x, w], attrs.attrs())?
        }};
    }
    let y = match kernel.len() {
        1 => conv!(CONV1D_TRANSPOSE, Conv1dTransposeAttrs, "NCW", "IOW"),
        2 => conv!(CONV2D_TRANSPOSE, Conv2dTransposeAttrs, "NCHW", "IOHW"),
        3 => conv!(CONV3D_TRANSPOSE, Conv3dTransposeAttrs, "NCDHW", "IODHW"),
        n => return refuse(format!("convolution over {n} dimensions is not supported")),
    };
    match cx.opt(2)? {
        Some(bias) => cx.bias_add(y, bias),
        None => Ok(y),
    }
}

/// What is cut off around the result of `ConvTranspose`, and what is added after it.
fn transposed_padding(cx: &Cx<'_, '_>, window: &Window, x: ExprId) -> Step<(Vec<i64>, Vec<i64>)> {
    let n = window.kernel.len();
    let mut added = cx.ints_opt("output_padding")?.unwrap_or_else(|| vec![0; n]);
    let auto = cx.text("auto_pad", "NOTSET")?;
    let shape = cx.ints_opt("output_shape")?;
    if added.len() != n || shape.as_ref().is_some_and(|s| s.len() < n) {
        return wrong("output_padding or output_shape of ConvTranspose is of the wrong length");
    }
    if shape.is_none() && matches!(auto, "NOTSET" | "" | "VALID") {
        let pads = if auto == "VALID" { vec![0; 2 * n] } else { explicit_pads(cx, n)? };
        return Ok((pads, added));
    }
    let mut pads = vec![0; 2 * n];
    for d in 0..n {
        let (size, stride) = (cx.size(x, d + 2)? as i64, window.strides[d]);
        let wanted = shape.as_ref().map_or(size * stride, |s| s[s.len() - n + d]);
        let total = stride * (size - 1) + added[d] + window.extent(d) - wanted;
        added[d] += (-total).max(0);
        let total = total.max(0);
        let small = total / 2;
        (pads[d], pads[n + d]) =
            if auto == "SAME_UPPER" { (small, total - small) } else { (total - small, small) };
    }
    Ok((pads, added))
}

fn gemm(cx: &mut Cx<'_, '_>) -> Step {
    let (x, y) = (cx.arg(0)?, cx.arg(1)?);
    let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
    let (transpose_a, transpose_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let mut z = if transpose_b && !transpose_a {
        cx.call(&DENSE, &[x, y], DenseAttrs { units: None, out_dtype: None }.attrs())?
    } else {
        let attrs = MatmulAttrs { units: None, out_dtype: None, transpose_a, transpose_b };
        cx.call(&MATMUL, &[x, y], attrs.attrs())?
    };
    if alpha != 1.0 {
        z = cx.num(&b::MULTIPLY, z, alpha)?;
    }
    let Some(mut c) = cx.opt(2)? else { return Ok(z) };
    if beta != 1.0 {
        c = cx.num(&b::MULTIPLY, c, beta)?;
    }
    cx.add(z, c)
}
