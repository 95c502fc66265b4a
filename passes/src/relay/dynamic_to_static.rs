//! DynamicToStatic: operators whose shape comes as a tensor, where that tensor is a constant.
//!
//! Each round makes shapes known, which may make more of them constants: constants are folded and
//! types inferred between the rounds, until nothing more is found.

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::infer::infer_module;
use fermata_ir::op::broadcast::shape::{BROADCAST_TO, BroadcastToAttrs};
use fermata_ir::op::dynamic::{
    DYN_BROADCAST_TO, DYN_EXPAND_DIMS, DYN_FULL, DYN_ONE_HOT, DYN_ONES, DYN_PAD, DYN_RESHAPE, DYN_SQUEEZE,
    DYN_STRIDED_SLICE, DYN_TILE, DYN_ZEROS, DynExpandDimsAttrs, DynInitAttrs, DynOneHotAttrs, DynPadAttrs,
    DynReshapeAttrs, DynStridedSliceAttrs,
};
use fermata_ir::op::elemwise::fill::{FULL, FullAttrs, InitAttrs, ONES, ZEROS};
use fermata_ir::op::nn::{PAD, PadAttrs};
use fermata_ir::op::transform::{
    EXPAND_DIMS, ExpandDimsAttrs, ONE_HOT, OneHotAttrs, RESHAPE, ReshapeAttrs, SQUEEZE, STRIDED_SLICE,
    SqueezeAttrs, StridedSliceAttrs, TILE, TileAttrs,
};
use fermata_ir::op::util::integers;
use fermata_ir::op::{Attrs, Op, OpAttrs, OpDef};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::fold_constant;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use crate::pipeline::Step;

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "dynamic_to_static",
    relay_name: "DynamicToStatic",
    level: 4,
    doc: "give operators whose shape is a constant tensor that shape as an attribute",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    loop {
        if fold(module, context)? == Outcome::Changed {
            outcome = Outcome::Changed;
        }
        if !walk::reachable(module).into_iter().any(|e| fixed(module, e).is_some()) {
            break;
        }
        let before = module.clone();
        let changed = walk::rewrite_module(module, &mut |module, expr| {
            let (def, args, attrs) = fixed(module, expr)?;
            if !context.fire("give a shape as an attribute", module, expr) {
                return None;
            }
            let span = module.spans[expr].clone();
            let mut build = Builder::new(module);
            build.with_span(span);
            build.call(def, &args, attrs).ok()
        });
        if !changed {
            break;
        }
        for global in module.globals.values_mut() {
            if let Some(func) = &mut global.func {
                func.ret = Type::Unknown;
            }
        }
        // A closure whose declared type says otherwise leaves the program as it was.
        if infer_module(module).is_err() {
            *module = before;
            break;
        }
        outcome = Outcome::Changed;
    }
    tell(module, context);
    Ok(outcome)
}

/// Folds constants, by that pass with its defaults.
fn fold(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let options = Step::new(&fold_constant::PASS).options;
    let mut own = PassContext {
        target: context.target.clone(),
        options,
        fuel: context.fuel,
        rewrites: context.rewrites,
        ..PassContext::default()
    };
    let outcome = (fold_constant::PASS.run)(module, &mut own)?;
    context.fuel = own.fuel;
    context.rewrites = own.rewrites;
    context.last_rewrite = own.last_rewrite.or(context.last_rewrite.take());
    own.fired.into_iter().for_each(|(rule, n)| *context.fired.entry(rule).or_default() += n);
    Ok(outcome)
}

/// The operator with a known shape that a call is, with its arguments and attributes.
fn fixed(module: &Module, expr: ExprId) -> Option<(&'static OpDef, Vec<ExprId>, Attrs)> {
    let (op, call) = module.as_op_call(expr)?;
    let list = |i: usize| integers(module.as_const(*call.args.get(i)?)?).ok();
    let number = |i: usize| list(i)?.first().copied();
    let data = call.args[..1.min(call.args.len())].to_vec();
    Some(if op.is(&DYN_RESHAPE) {
        let allowzero = call.attrs.read::<DynReshapeAttrs>().allowzero;
        (&RESHAPE, data, ReshapeAttrs { newshape: list(1)?, allowzero }.attrs())
    } else if op.is(&DYN_BROADCAST_TO) {
        (&BROADCAST_TO, data, BroadcastToAttrs { shape: list(1)? }.attrs())
    } else if op.is(&DYN_TILE) {
        (&TILE, data, TileAttrs { reps: list(1)? }.attrs())
    } else if op.is(&DYN_SQUEEZE) {
        (&SQUEEZE, data, SqueezeAttrs { axis: Some(list(1)?) }.attrs())
    } else if op.is(&DYN_EXPAND_DIMS) {
        let num_newaxis = call.attrs.read::<DynExpandDimsAttrs>().num_newaxis;
        (&EXPAND_DIMS, data, ExpandDimsAttrs { axis: number(1)?, num_newaxis }.attrs())
    } else if op.is(&DYN_FULL) {
        let dtype = Some(call.attrs.read::<DynInitAttrs>().dtype);
        (&FULL, data, FullAttrs { shape: list(1)?, dtype }.attrs())
    } else if op.is(&DYN_ZEROS) || op.is(&DYN_ONES) {
        let dtype = call.attrs.read::<DynInitAttrs>().dtype;
        let def = if op.is(&DYN_ZEROS) { &ZEROS } else { &ONES };
        (def, Vec::new(), InitAttrs { shape: list(0)?, dtype }.attrs())
    } else if op.is(&DYN_ONE_HOT) {
        let DynOneHotAttrs { axis, dtype } = call.attrs.read();
        (&ONE_HOT, call.args[..3].to_vec(), OneHotAttrs { depth: number(3)?, axis, dtype }.attrs())
    } else if op.is(&DYN_PAD) {
        let pad_width = list(1)?.chunks_exact(2).map(<[i64]>::to_vec).collect();
        let pad_mode = call.attrs.read::<DynPadAttrs>().pad_mode;
        let args = [&call.args[..1], &call.args[2..]].concat();
        (&PAD, args, PadAttrs { pad_width, pad_mode }.attrs())
    } else if op.is(&DYN_STRIDED_SLICE) {
        let DynStridedSliceAttrs { slice_mode, axes } = call.attrs.read();
        let strides = if call.args.len() > 3 { Some(list(3)?) } else { None };
        let (begin, end) = (Some(list(1)?), Some(list(2)?));
        (&STRIDED_SLICE, data, StridedSliceAttrs { begin, end, strides, slice_mode, axes }.attrs())
    } else {
        return None;
    })
}

/// Says which operators still take their shape from a tensor.
fn tell(module: &Module, context: &mut PassContext) {
    if !context.want_remarks {
        return;
    }
    for expr in walk::reachable(module) {
        if let Some((op, _)) = module.as_op_call(expr).filter(|(op, _)| is_dynamic(*op)) {
            let message = format!("`{op}` stays: its shape is no constant");
            context.remarks.push(Diagnostic::warning(Code::PASS, message).at(module.spans[expr].clone()));
        }
    }
}

fn is_dynamic(op: Op) -> bool {
    op.name().starts_with("dyn.")
}
