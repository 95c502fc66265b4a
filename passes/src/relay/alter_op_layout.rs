//! AlterOpLayout: products and convolutions take their weights in panels.
//!
//! The panels are what the micro-kernels of the target read in order. FoldConstant packs constant
//! weights when compiling, so nothing is rearranged when the program runs. A weight that is computed
//! is packed each time, for convolutions, which have no kernel that reads one as it is; products have.

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::conv::{
    CONV2D, CONV2D_PACK_WEIGHT, CONV2D_PACKED, CONV2D_TRANSPOSE, Conv2dAttrs, Conv2dPackWeightAttrs,
    Conv2dPackedAttrs, Conv2dTransposeAttrs,
};
use fermata_ir::op::nn::{
    DENSE, DENSE_PACK, DENSE_PACK_WEIGHT, DensePackAttrs, DensePackWeightAttrs, MATMUL, MatmulAttrs,
};
use fermata_ir::op::quant::{
    QUANT_DENSE, QUANT_DENSE_PACK, QUANT_DENSE_PACK_WEIGHT, QuantDenseAttrs, QuantDensePackAttrs,
};
use fermata_ir::op::transform::{RESHAPE, ReshapeAttrs, TRANSPOSE, TransposeAttrs};
use fermata_ir::op::{Attrs, Op, OpAttrs};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::rewrite::{rebuild_functions, static_shape};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use crate::target::{CpuTarget, Target};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "alter_op_layout",
    relay_name: "AlterOpLayout",
    level: 2,
    doc: "pack constant weights into the panels that the target's micro-kernels read",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    // Kernels for GPUs rearrange their operands themselves, in shared memory.
    let Target::Cpu(target) = context.target.clone() else { return Ok(Outcome::Unchanged) };
    Ok(rebuild_functions(module, |module, _, new| match alter(module, new, &target) {
        Some(altered) if context.fire("pack a weight", module, new) => altered,
        _ => new,
    }))
}

fn alter(module: &mut Module, expr: ExprId, target: &CpuTarget) -> Option<ExprId> {
    let (op, call) = module.as_op_call(expr)?;
    if op.is(&QUANT_DENSE) {
        let call = call.clone();
        return pack_quantised(module, expr, &call);
    }
    let is_product = op.is(&DENSE) || op.is(&MATMUL);
    if !is_product && !op.is(&CONV2D) && !op.is(&CONV2D_TRANSPOSE) {
        return None;
    }
    let call = call.clone();
    let is_f32 = |e: ExprId| module.types[e].as_tensor().is_some_and(|t| t.dtype == DType::F32);
    let constant = module.as_const(call.args[1]).is_some_and(|w| !w.is_empty());
    let computed = op.is(&CONV2D) && static_shape(module, call.args[1]).is_some_and(|s| !s.contains(&0));
    if !(is_f32(expr) && call.args.iter().all(|&a| is_f32(a)) && (constant || computed)) {
        return None;
    }
    if is_product {
        pack_product(module, expr, op, &call, target)
    } else if op.is(&CONV2D) {
        pack_conv(module, expr, &call, target)
    } else {
        spread_transposed(module, expr, &call, target)
    }
}

/// `nn.dense(x, w)` and `nn.matmul(x, w)` as `nn.contrib_dense_pack(x, panels of w)`.
fn pack_product(
    module: &mut Module,
    expr: ExprId,
    op: Op,
    call: &Call,
    target: &CpuTarget,
) -> Option<ExprId> {
    let mut transposed = op.is(&DENSE);
    if op.is(&MATMUL) {
        let attrs: MatmulAttrs = call.attrs.read();
        if attrs.transpose_a {
            return None;
        }
        transposed = attrs.transpose_b;
    }
    let shape = static_shape(module, call.args[1])?;
    let [a, b] = shape[..] else { return None };
    let units = if transposed { a } else { b };
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let rows = match transposed {
        true => call.args[1],
        false => build.call(&TRANSPOSE, &[call.args[1]], TransposeAttrs { axes: None }.attrs()).ok()?,
    };
    let pack = DensePackWeightAttrs { nr: target.gemm_panel() as i64 }.attrs();
    let panels = build.call(&DENSE_PACK_WEIGHT, &[rows], pack).ok()?;
    let attrs = DensePackAttrs { units: units as i64, out_dtype: None }.attrs();
    build.call(&DENSE_PACK, &[call.args[0], panels], attrs).ok()
}

/// `quant.dense` with a scale a row and a channel, on panels and the sums of the weight's rows.
/// Zero points, other results and activations stay with the generic loops.
fn pack_quantised(module: &mut Module, expr: ExprId, call: &Call) -> Option<ExprId> {
    let attrs: QuantDenseAttrs = call.attrs.read();
    let [data, weight, data_scale, weight_scale, ref bias @ ..] = call.args[..] else { return None };
    let shape = static_shape(module, weight)?;
    let (_, rows) = module.types[data].as_tensor()?.shape.split_last()?;
    let plain = &*attrs.activation == "none" && attrs.out_dtype == DType::F32 && bias.len() <= 1;
    let a_row_each = !rows.is_empty() && module.types[data_scale].as_tensor()?.shape == rows;
    let is_vector = |e: ExprId| static_shape(module, e).is_some_and(|s| s == shape[..1]);
    let a_channel_each = is_vector(weight_scale) && bias.iter().all(|&b| is_vector(b));
    if !plain || !a_row_each || !a_channel_each || module.as_const(weight)?.is_empty() {
        return None;
    }
    let units = shape[0];
    let sums = row_sums(module.as_const(weight)?)?;
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let bias = match bias.first() {
        Some(&bias) => bias,
        None => build.constant(Tensor::zeros(DType::F32, &[units]).ok()?),
    };
    let panels = build.call(&QUANT_DENSE_PACK_WEIGHT, &[weight], Attrs::NONE).ok()?;
    let sums = build.constant(sums);
    let packed = QuantDensePackAttrs { units: units as i64 }.attrs();
    build.call(&QUANT_DENSE_PACK, &[data, panels, sums, data_scale, weight_scale, bias], packed).ok()
}

/// The sums of a matrix's rows, which are not left to folding: widened, the matrix would be larger
/// than what that computes.
fn row_sums(weight: &Tensor) -> Option<Tensor> {
    let (data, &[n, k]) = (weight.as_slice::<i8>()?, weight.shape()) else { return None };
    let sums = data.chunks_exact(k).map(|row| row.iter().fold(0i32, |sum, &v| sum.wrapping_add(v.into())));
    Tensor::from_slice(&[n], &sums.collect::<Vec<_>>()).ok()
}

/// `nn.conv2d` in NCHW with groups of more than one channel, on packed weights. A depthwise
/// convolution reads its weights as they are.
fn pack_conv(module: &mut Module, expr: ExprId, call: &Call, target: &CpuTarget) -> Option<ExprId> {
    let attrs: Conv2dAttrs = call.attrs.read();
    let plain_layout = &*attrs.data_layout == "NCHW"
        && &*attrs.kernel_layout == "OIHW"
        && matches!(&*attrs.out_layout, "" | "NCHW");
    let weight = static_shape(module, call.args[1])?;
    let [channels, per_group, kh, kw] = weight[..] else { return None };
    let depthwise = per_group == 1 && attrs.groups as usize == channels;
    if !plain_layout || depthwise {
        return None;
    }
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let packed = Conv2dPackedAttrs {
        channels: channels as i64,
        kernel_size: vec![kh as i64, kw as i64],
        mr: target.conv_panel() as i64,
        strides: attrs.strides,
        padding: attrs.padding,
        dilation: attrs.dilation,
        groups: attrs.groups,
        out_dtype: attrs.out_dtype,
    };
    let id = packed_conv(&mut build, call.args[0], call.args[1], packed)?;
    matches!(module.exprs[id], Expr::Call(_)).then_some(id)
}

/// A convolution that packs its weight first.
fn packed_conv(
    build: &mut Builder<'_>,
    data: ExprId,
    weight: ExprId,
    attrs: Conv2dPackedAttrs,
) -> Option<ExprId> {
    let pack = Conv2dPackWeightAttrs { mr: attrs.mr, groups: attrs.groups }.attrs();
    let panels = build.call(&CONV2D_PACK_WEIGHT, &[weight], pack).ok()?;
    build.call(&CONV2D_PACKED, &[data, panels], attrs.attrs()).ok()
}

/// `nn.conv2d_transpose` whose windows lie side by side: each input pixel makes a window of the
/// result by itself, so it is a convolution of one tap, an output channel for each place of the
/// window, and a rearrangement.
fn spread_transposed(module: &mut Module, expr: ExprId, call: &Call, target: &CpuTarget) -> Option<ExprId> {
    let attrs: Conv2dTransposeAttrs = call.attrs.read();
    let plain_layout = &*attrs.data_layout == "NCHW"
        && &*attrs.kernel_layout == "IOHW"
        && matches!(&*attrs.out_layout, "" | "NCHW");
    let plain = attrs.groups == 1
        && attrs.padding.iter().all(|&p| p == 0)
        && attrs.output_padding.iter().all(|&p| p == 0)
        && attrs.dilation.iter().all(|&d| d == 1);
    let weight = static_shape(module, call.args[1])?;
    let data = static_shape(module, call.args[0])?;
    let ([i, o, kh, kw], [n, _, h, w]) = (weight[..].as_array()?, data[..].as_array()?);
    let size = |n: &usize| *n as i64;
    let stride = |axis: usize| attrs.strides.get(axis).or(attrs.strides.first()).copied();
    if !plain_layout || !plain || stride(0) != Some(size(kh)) || stride(1) != Some(size(kw)) {
        return None;
    }
    let [i, o, kh, kw, n, h, w] = [i, o, kh, kw, n, h, w].map(size);
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let shape = |newshape: Vec<i64>| ReshapeAttrs { newshape, allowzero: true }.attrs();
    let order = |axes: &[i64]| TransposeAttrs { axes: Some(axes.to_vec()) }.attrs();
    let by_output = build.call(&TRANSPOSE, &[call.args[1]], order(&[1, 2, 3, 0])).ok()?;
    let taps = build.call(&RESHAPE, &[by_output], shape(vec![o * kh * kw, i, 1, 1])).ok()?;
    let packed = Conv2dPackedAttrs {
        channels: o * kh * kw,
        kernel_size: vec![1; 2],
        mr: target.conv_panel() as i64,
        strides: vec![1; 2],
        padding: vec![0; 2],
        dilation: vec![1; 2],
        groups: 1,
        out_dtype: attrs.out_dtype,
    };
    let windows = packed_conv(&mut build, call.args[0], taps, packed)?;
    let apart = build.call(&RESHAPE, &[windows], shape(vec![n, o, kh, kw, h, w])).ok()?;
    let rows = build.call(&TRANSPOSE, &[apart], order(&[0, 1, 4, 2, 5, 3])).ok()?;
    build.call(&RESHAPE, &[rows], shape(vec![n, o, h * kh, w * kw])).ok()
}
