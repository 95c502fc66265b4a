//! SimplifyExpr: rewrites that leave less to do and, unless more is asked for, change no result.
//!
//! Identities (`x + 0`, `x * 1`, `x - 0`, `x / 1`), shape changes that change nothing, chains
//! of them that are one, and casts that say nothing. Each rule keeps the type. `x + 0` keeps
//! the sign of a zero only if the zero is negative, so for floats only `x - 0` and the
//! products are identities. Sums and products with several constants take one, of floats only with
//! `class=algebraic`. With `class=approximate`, which is for fast math, `a / sqrt(b)` is
//! `a * rsqrt(b)` and `x * x + 2 * x * y + y * y` the square of `x + y`.

mod approximate;
mod bounds;
mod constants;
mod like;
pub(crate) mod order;

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, DIVIDE, MULTIPLY, SUBTRACT};
use fermata_ir::op::elemwise::convert::{CAST, CastAttrs};
use fermata_ir::op::elemwise::fill::{FULL, ONES, ZEROS};
use fermata_ir::op::transform::{
    LAYOUT_TRANSFORM, LayoutTransformAttrs, RESHAPE, ReshapeAttrs, TRANSPOSE, TransposeAttrs,
};
use fermata_ir::op::{FusePattern, Op, OpAttrs, OpDef};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::elements::one_value;
use super::rewrite::{rebuild_functions, same_type, static_shape};
use crate::fuse::is_reshape;
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "simplify_expr",
    relay_name: "SimplifyExpr",
    level: 2,
    doc: "drop identities, merge chains of reshapes, transposes and casts",
    options: &[OptionDef {
        name: "class",
        doc: "algebraic allows rewrites of floats after which only rounding differs, approximate those of fast math",
        default: OptionValue::Word("exact|algebraic|approximate"),
    }],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

/// A rule: the call in, what stands for it out.
type Rule = fn(&mut Module, ExprId, Op, &Call) -> Option<ExprId>;

/// The rules, tried in order.
const RULES: &[(&str, Rule)] = &[
    ("say the shape or dtype itself", like::without_like),
    ("drop an identity", drop_identity),
    ("take a scalar for a tensor of one value", scalar_operand),
    ("double", constants::double),
    ("drop a reshape to the same shape", drop_same_shape),
    ("merge reshapes", merge_reshapes),
    ("merge transposes", merge_transposes),
    ("merge layouts", merge_layouts),
    ("drop casts of what was clipped", bounds::drop_casts_of_clipped),
    ("merge casts", merge_casts),
    ("drop a clip", bounds::drop_clip),
    ("take places before dequantising", order::of_quantised),
];

/// Rules that change the rounding of floats.
const ALGEBRAIC: &[(&str, Rule)] = &[("join constants", constants::join_constants)];

/// Rules whose results are close to those of floats.
const APPROXIMATE: &[(&str, Rule)] = &[
    ("multiply by a reciprocal root", approximate::reciprocal_root),
    ("square a sum", approximate::binomial),
];

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let (algebraic, approximate) = match context.word("class") {
        "approximate" => (true, true),
        class => (class == "algebraic", false),
    };
    Ok(rebuild_functions(module, |module, _, new| {
        let mut at = new;
        // Each rule leaves a smaller chain, so this ends.
        while let Some((op, call)) = module.as_op_call(at) {
            let call = call.clone();
            let float = module.types[at].as_tensor().is_none_or(|t| t.dtype.is_float());
            let more = if algebraic || !float { ALGEBRAIC } else { &[] };
            // Of integers, which wrap, these are exact, but there only for the sake of floats.
            let most = if approximate { APPROXIMATE } else { &[] };
            let mut rules = RULES.iter().chain(most).chain(more);
            let simpler = rules.find_map(|(name, rule)| Some((*name, rule(module, at, op, &call)?)));
            match simpler {
                Some((name, simpler)) if same_type(module, simpler, at) && context.fire(name, module, at) => {
                    at = simpler;
                }
                _ => break,
            }
        }
        at
    }))
}

/// The value of a tensor all of whose elements are equal: a constant, or an operator that fills one.
fn splat(module: &Module, expr: ExprId) -> Option<Scalar> {
    if let Some((op, call)) = module.as_op_call(expr) {
        let dtype = module.types[expr].as_tensor()?.dtype;
        return match op {
            op if op.is(&ZEROS) => Some(Scalar::from_i64(dtype, 0)),
            op if op.is(&ONES) => Some(Scalar::from_i64(dtype, 1)),
            op if op.is(&FULL) => splat(module, call.args[0]).filter(|s| s.dtype() == dtype),
            _ => None,
        };
    }
    one_value(module.as_const(expr)?)
}

fn drop_identity(module: &mut Module, _: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let is = |defs: &[&'static OpDef]| defs.iter().any(|d| op.is(d));
    if !is(&[&ADD, &SUBTRACT, &MULTIPLY, &DIVIDE]) {
        return None;
    }
    let (a, b) = (call.args[0], call.args[1]);
    let is_one = |s: Scalar| s.as_f64() == 1.0;
    let is_positive_zero = |s: Scalar| s.bits() == 0;
    let is_negative_zero =
        |s: Scalar| s.dtype().is_float() && s.as_f64() == 0.0 && s.as_f64().is_sign_negative();
    let adds_nothing = |s: Scalar| if s.dtype().is_float() { is_negative_zero(s) } else { s.bits() == 0 };
    let right = splat(module, b);
    let left = splat(module, a);
    if is(&[&MULTIPLY, &DIVIDE]) && right.is_some_and(is_one) {
        return Some(a);
    }
    if op.is(&MULTIPLY) && left.is_some_and(is_one) {
        return Some(b);
    }
    if op.is(&SUBTRACT) && right.is_some_and(is_positive_zero)
        || op.is(&ADD) && right.is_some_and(adds_nothing)
    {
        return Some(a);
    }
    (op.is(&ADD) && left.is_some_and(adds_nothing)).then_some(b)
}

/// A filled tensor as an operand of an operator that broadcasts, as a scalar, if no dimension comes
/// from it.
fn scalar_operand(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let &[a, b] = &call.args[..] else { return None };
    if op.pattern != FusePattern::Broadcast {
        return None;
    }
    let filled = |module: &Module, e: ExprId| {
        let (maker, _) = module.as_op_call(e)?;
        let fills = maker.is(&ZEROS) || maker.is(&ONES) || maker.is(&FULL);
        splat(module, e).filter(|_| fills)
    };
    let (place, value) = match (filled(module, a), filled(module, b)) {
        (_, Some(value)) if same_shape(module, a, expr) => (1, value),
        (Some(value), _) if same_shape(module, b, expr) => (0, value),
        _ => return None,
    };
    let width = value.dtype().bytes();
    let tensor = Tensor::from_bytes(value.dtype(), &[], &value.bits().to_le_bytes()[..width]).ok()?;
    let mut build = located(module, expr);
    let scalar = build.constant(tensor);
    let args = if place == 0 { [scalar, b] } else { [a, scalar] };
    build.call(op.0, &args, call.attrs.clone()).ok()
}

fn same_shape(module: &Module, a: ExprId, b: ExprId) -> bool {
    let shape = |e: ExprId| module.types[e].as_tensor().map(|t| &t.shape);
    shape(a).is_some() && shape(a) == shape(b)
}

fn drop_same_shape(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    (is_reshape(op) && same_type(module, expr, call.args[0])).then(|| call.args[0])
}

fn merge_reshapes(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !is_reshape(op) {
        return None;
    }
    let (inner, inner_call) = module.as_op_call(call.args[0])?;
    if !is_reshape(inner) {
        return None;
    }
    let source = inner_call.args[0];
    let shape = static_shape(module, expr)?;
    let newshape = shape.iter().map(|&n| n as i64).collect();
    let attrs = ReshapeAttrs { newshape, allowzero: shape.contains(&0) }.attrs();
    located(module, expr).call(&RESHAPE, &[source], attrs).ok()
}

fn located(module: &mut Module, origin: ExprId) -> Builder<'_> {
    let span = module.spans[origin].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    build
}

/// The permutation of a transpose.
fn permutation(module: &Module, call: &Call) -> Option<Vec<usize>> {
    let rank = module.types[call.args[0]].as_tensor()?.rank();
    let axes = call.attrs.read::<TransposeAttrs>().axes;
    match axes {
        None => Some((0..rank).rev().collect()),
        Some(axes) if axes.is_empty() => Some((0..rank).rev().collect()),
        Some(axes) => {
            axes.iter().map(|&a| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok()).collect()
        }
    }
}

fn merge_transposes(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&TRANSPOSE) {
        return None;
    }
    let mut axes = permutation(module, call)?;
    let mut source = call.args[0];
    let merged = module.as_op_call(source).filter(|(inner, _)| inner.is(&TRANSPOSE));
    if let Some((_, inner)) = merged {
        let first = permutation(module, inner)?;
        axes = axes.iter().map(|&a| first[a]).collect();
        source = inner.args[0];
    } else if !axes.iter().enumerate().all(|(i, &a)| i == a) {
        return None;
    }
    if axes.iter().enumerate().all(|(i, &a)| i == a) {
        return Some(source);
    }
    let axes = Some(axes.iter().map(|&a| a as i64).collect());
    located(module, expr).call(&TRANSPOSE, &[source], TransposeAttrs { axes }.attrs()).ok()
}

/// A change of layout after another: one, or none. Elements are only moved, so what was padded by the
/// first is cut off by the second only if the layouts say so: then the types differ.
fn merge_layouts(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&LAYOUT_TRANSFORM) {
        return None;
    }
    let (inner_op, inner) = module.as_op_call(call.args[0])?;
    if !inner_op.is(&LAYOUT_TRANSFORM) {
        return None;
    }
    let source = inner.args[0];
    let (first, second): (LayoutTransformAttrs, LayoutTransformAttrs) =
        (inner.attrs.read(), call.attrs.read());
    if first.dst_layout != second.src_layout || elements(module, source) != elements(module, call.args[0]) {
        return None;
    }
    if first.src_layout == second.dst_layout {
        return Some(source);
    }
    let attrs = LayoutTransformAttrs { src_layout: first.src_layout, dst_layout: second.dst_layout };
    located(module, expr).call(&LAYOUT_TRANSFORM, &[source], attrs.attrs()).ok()
}

/// The number of elements of a tensor whose shape is static.
fn elements(module: &Module, expr: ExprId) -> Option<usize> {
    Some(static_shape(module, expr)?.iter().product())
}

fn merge_casts(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&CAST) {
        return None;
    }
    let dtype = |module: &Module, e: ExprId| module.types[e].as_tensor().map(|t| t.dtype);
    let to = dtype(module, expr)?;
    let middle = dtype(module, call.args[0])?;
    if middle == to {
        return Some(call.args[0]);
    }
    let (inner, inner_call) = module.as_op_call(call.args[0])?;
    let source = inner_call.args[0];
    let from = dtype(module, source)?;
    if !inner.is(&CAST) || !widens(from, middle) {
        return None;
    }
    located(module, expr).call(&CAST, &[source], CastAttrs { dtype: to }.attrs()).ok()
}

/// True if every value of `from` is a value of `to`.
fn widens(from: DType, to: DType) -> bool {
    let digits = |d: DType| match d {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        DType::F64 => 53,
        d if d.is_signed_int() => d.bits() - 1,
        d => d.bits(),
    };
    match (from.is_float(), to.is_float()) {
        (true, true) => digits(from) <= digits(to) && !matches!((from, to), (DType::BF16, DType::F16)),
        (true, false) => false,
        (false, true) => digits(from) <= digits(to) && !(to == DType::F16 && from.bits() > 8),
        (false, false) => {
            let sign_kept = !from.is_signed_int() || to.is_signed_int();
            sign_kept && digits(from) <= digits(to)
        }
    }
}
