//! Legalize: calls that the target's schedules do badly become equivalent ones that they do well.
//!
//! A rule is a hook of the target for some operators. All of them compute the same sums, perhaps in
//! another order:
//!
//! - On CPUs, *convolutions in other layouts than NCHW* and what follows them go to NCHW, which is how
//!   the micro-kernels read; any other order runs as plain loops.
//! - *`nn.conv1d`* is `nn.conv2d` over a height of 1, for which there is a micro-kernel.
//! - *A left operand that is stored transposed* is transposed first: the micro-kernels read rows.
//! - *float16 and bfloat16* products and convolutions are computed in float32 and rounded once, as their
//!   meaning is anyway: the portable code converts each element each time that it is read.
//! - On GPUs from compute capability 8.0 on, *sums of narrow numbers* whose length is no multiple of 16
//!   bytes get zeros at their end, so that rows are copied in whole vectors and not byte by byte. Only for
//!   constant weights, which are lengthened when compiling, and large products, which are worth a launch
//!   for the data; the gain has not been measured on a GPU.

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::conv::{CONV1D, CONV2D, CONV2D_TRANSPOSE, CONV3D, Conv1dAttrs, Conv2dAttrs};
use fermata_ir::op::elemwise::convert::{CAST, CastAttrs};
use fermata_ir::op::nn::{BATCH_MATMUL, BatchMatmulAttrs, DENSE, MATMUL, MatmulAttrs, PAD, PadAttrs};
use fermata_ir::op::transform::{
    EXPAND_DIMS, ExpandDimsAttrs, SQUEEZE, SqueezeAttrs, TRANSPOSE, TransposeAttrs,
};
use fermata_ir::op::{AttrValue, Op, OpAttrs, OpDef};
use fermata_ir::types::DType;
use fermata_ir::walk;

use super::layout::{self, Layouts, with_attrs};
use super::rewrite::{rebuild_functions, static_shape};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use crate::target::Target;

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "legalize",
    relay_name: "Legalize",
    level: 2,
    doc: "replace calls that the target's schedules do badly by equivalent ones that they do well",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

/// A hook for some operators.
struct Rule {
    name: &'static str,
    ops: &'static [&'static OpDef],
    target: fn(&Target) -> bool,
    /// What a call becomes, if it does.
    apply: fn(&mut Module, ExprId, Op, &Call) -> Option<ExprId>,
}

/// In the order in which they are applied; what one makes, later ones see.
const RULES: &[Rule] = &[
    Rule { name: "convolve one axis as two", ops: &[&CONV1D], target: is_cpu, apply: one_axis },
    Rule {
        name: "transpose a left operand first",
        ops: &[&MATMUL, &BATCH_MATMUL],
        target: is_cpu,
        apply: transposed_left,
    },
    Rule {
        name: "multiply halves in float32",
        ops: &[&DENSE, &MATMUL, &BATCH_MATMUL, &CONV2D, &CONV2D_TRANSPOSE, &CONV3D],
        target: is_cpu,
        apply: halves,
    },
    Rule {
        name: "lengthen sums to whole vectors",
        ops: &[&DENSE, &BATCH_MATMUL],
        target: has_tensor_cores,
        apply: whole_vectors,
    },
];

fn is_cpu(target: &Target) -> bool {
    matches!(target, Target::Cpu(_))
}

fn has_tensor_cores(target: &Target) -> bool {
    matches!(target, Target::Cuda(gpu) if gpu.sm >= 80)
}

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    let target = context.target.clone();
    let other =
        |&e: &ExprId| module.as_op_call(e).is_some_and(|(op, call)| readable(module, op, call).is_some());
    if is_cpu(&target) && walk::reachable(module).iter().any(other) {
        outcome = layout::convert(module, &readable, "convolve in the micro-kernels' layout", context)?;
    }
    for rule in RULES.iter().filter(|r| (r.target)(&target)) {
        if !uses(module, rule.ops) {
            continue;
        }
        let changed = rebuild_functions(module, |module, _, new| {
            let Some((op, call)) = module.as_op_call(new) else { return new };
            if !rule.ops.iter().any(|def| op.is(def)) {
                return new;
            }
            let call = call.clone();
            match (rule.apply)(module, new, op, &call) {
                Some(legal) if context.fire(rule.name, module, new) => legal,
                _ => new,
            }
        });
        if changed == Outcome::Changed {
            outcome = changed;
        }
    }
    Ok(outcome)
}

fn uses(module: &Module, ops: &[&'static OpDef]) -> bool {
    let called = |e: ExprId| module.as_op_call(e).is_some_and(|(op, _)| ops.iter().any(|def| op.is(def)));
    walk::reachable(module).into_iter().any(called)
}

fn dtype(module: &Module, expr: ExprId) -> Option<DType> {
    Some(module.types[expr].as_tensor()?.dtype)
}

/// NCHW for a convolution of real numbers in another layout. Blocks were asked for, and stay.
fn readable(module: &Module, op: Op, call: &Call) -> Option<Layouts> {
    let real =
        |e: &ExprId| dtype(module, *e).is_some_and(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16));
    if !op.is(&CONV2D) || !call.args.iter().all(real) {
        return None;
    }
    let attrs: Conv2dAttrs = call.attrs.read();
    let whole = attrs.data_layout.len() == 4 && attrs.kernel_layout.len() == 4;
    let result = if attrs.out_layout.is_empty() { &attrs.data_layout } else { &attrs.out_layout };
    let is_so = &*attrs.data_layout == "NCHW" && &*attrs.kernel_layout == "OIHW" && &**result == "NCHW";
    (whole && !is_so).then(|| Layouts { data: "NCHW".into(), kernel: "OIHW".into() })
}

fn one_axis(module: &mut Module, expr: ExprId, _: Op, call: &Call) -> Option<ExprId> {
    let attrs: Conv1dAttrs = call.attrs.read();
    let plain = &*attrs.data_layout == "NCW"
        && &*attrs.kernel_layout == "OIW"
        && matches!(&*attrs.out_layout, "" | "NCW");
    if !plain || !dtype(module, expr)?.is_float() || dtype(module, expr)? == DType::F64 {
        return None;
    }
    let first = |list: &[i64]| list.first().copied();
    let padding = match attrs.padding[..] {
        [both] => vec![0, both],
        [before, after] => vec![0, before, 0, after],
        _ => return None,
    };
    let wide = Conv2dAttrs {
        strides: vec![1, first(&attrs.strides)?],
        padding,
        dilation: vec![1, first(&attrs.dilation)?],
        groups: attrs.groups,
        channels: attrs.channels,
        kernel_size: attrs.kernel_size.map(|k| [&[1], &k[..]].concat()),
        data_layout: "NCHW".into(),
        kernel_layout: "OIHW".into(),
        out_layout: "".into(),
        out_dtype: attrs.out_dtype,
    };
    let mut build = builder(module, expr);
    let mut high =
        |e: ExprId| build.call(&EXPAND_DIMS, &[e], ExpandDimsAttrs { axis: 2, num_newaxis: 1 }.attrs()).ok();
    let operands = [high(call.args[0])?, high(call.args[1])?];
    let result = build.call(&CONV2D, &operands, wide.attrs()).ok()?;
    build.call(&SQUEEZE, &[result], SqueezeAttrs { axis: Some(vec![2]) }.attrs()).ok()
}

/// A builder of what stands for an expression.
fn builder(module: &mut Module, expr: ExprId) -> Builder<'_> {
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    build
}

fn transposed_left(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let (transposed, attrs) = match op.is(&MATMUL) {
        true => {
            let attrs: MatmulAttrs = call.attrs.read();
            (attrs.transpose_a, MatmulAttrs { transpose_a: false, ..attrs }.attrs())
        }
        false => {
            let attrs: BatchMatmulAttrs = call.attrs.read();
            (attrs.transpose_a, BatchMatmulAttrs { transpose_a: false, ..attrs }.attrs())
        }
    };
    let result = dtype(module, expr)?;
    if !transposed || !matches!(result, DType::F32 | DType::F16 | DType::BF16) {
        return None;
    }
    let rank = module.types[call.args[0]].as_tensor()?.rank() as i64;
    let axes = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let mut build = builder(module, expr);
    let left = build.call(&TRANSPOSE, &[call.args[0]], TransposeAttrs { axes: Some(axes) }.attrs()).ok()?;
    build.call(op.0, &[left, call.args[1]], attrs).ok()
}

fn halves(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let half = |d: DType| matches!(d, DType::F16 | DType::BF16);
    let result = dtype(module, expr)?;
    let narrow = call.args.iter().all(|&a| dtype(module, a).is_some_and(half));
    if !narrow || !half(result) && result != DType::F32 {
        return None;
    }
    let attrs = with_attrs(op, &call.attrs, &[("out_dtype", AttrValue::DType(DType::F32))]);
    let mut build = builder(module, expr);
    let mut cast = |e: ExprId, dtype: DType| build.call(&CAST, &[e], CastAttrs { dtype }.attrs()).ok();
    let operands = [cast(call.args[0], DType::F32)?, cast(call.args[1], DType::F32)?];
    let wide = builder(module, expr).call(op.0, &operands, attrs).ok()?;
    if result == DType::F32 {
        return Some(wide);
    }
    builder(module, expr).call(&CAST, &[wide], CastAttrs { dtype: result }.attrs()).ok()
}

/// Products and sums that are worth a launch that lengthens the data.
const LARGE: usize = 1 << 24;

/// Bytes of the vectors that rows are copied in.
const VECTOR_BYTES: usize = 16;

fn whole_vectors(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let (narrow, wide) = (dtype(module, call.args[0])?, dtype(module, expr)?);
    let fits = match narrow {
        DType::I8 => wide == DType::I32,
        DType::F16 | DType::BF16 => wide.is_float(),
        _ => false,
    };
    let rows = !op.is(&BATCH_MATMUL) || {
        let attrs: BatchMatmulAttrs = call.attrs.read();
        attrs.transpose_b && !attrs.transpose_a
    };
    let length = *static_shape(module, call.args[0])?.last()?;
    let step = VECTOR_BYTES / narrow.bytes();
    if !fits
        || !rows
        || dtype(module, call.args[1])? != narrow
        || length.is_multiple_of(step)
        || length < step
    {
        return None;
    }
    let results = module.types[expr].as_tensor()?.elements()?;
    if module.as_const(call.args[1]).is_none() || results.saturating_mul(length) < LARGE {
        return None;
    }
    let missing = (length.next_multiple_of(step) - length) as i64;
    let mut operands = Vec::new();
    for &arg in &call.args {
        let rank = module.types[arg].as_tensor()?.rank();
        let mut pad_width = vec![vec![0, 0]; rank];
        *pad_width.last_mut()? = vec![0, missing];
        let zero = fermata_ir::tensor::Tensor::zeros(narrow, &[]).ok()?;
        let mut build = builder(module, expr);
        let zero = build.constant(zero);
        let attrs = PadAttrs { pad_width, pad_mode: "constant".into() }.attrs();
        operands.push(build.call(&PAD, &[arg, zero], attrs).ok()?);
    }
    builder(module, expr).call(op.0, &operands, call.attrs.clone()).ok()
}
