//! FoldConstant: what is known when compiling is computed when compiling.
//!
//! A pure operator whose arguments are all constants (or tuples of them) is run on the
//! reference evaluator. `shape_of` and `ndarray_size` need only the static type. A let of a
//! constant is substituted, an `if` on a constant takes its branch, a projection of a tuple
//! takes its field; a call of a pure global function that calls no other, with constants, is run
//! whole. Operators without arguments stay: `zeros` is smaller than what it makes.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::eval::{Value, eval_expr};
use fermata_ir::expr::{Call, Callee, Expr, ExprId, Module, VarId};
use fermata_ir::op::Purity;
use fermata_ir::op::quant::DEQUANTIZE;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;
use fermata_ir::walk;

use super::dead_code::Purities;
use super::rewrite::{rebuild_functions, static_shape, use_counts};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "fold_constant",
    relay_name: "FoldConstant",
    level: 1,
    doc: "compute what depends on constants only; take known branches and fields",
    options: &[
        OptionDef {
            name: "growth_bytes",
            doc: "leave a call whose result would be larger than its arguments by more than this and an eighth",
            default: OptionValue::Int(1 << 20),
        },
        OptionDef {
            name: "fold_qnn",
            doc: "fold operators of the qnn dialect too",
            default: OptionValue::Bool(true),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut binders = let_values(module);
    let mut known: BTreeMap<VarId, ExprId> = BTreeMap::new();
    let purity = Purities::of(module);
    let mut steps = Steps { uses: use_counts(module), bound: binders.keys().copied().collect() };
    Ok(rebuild_functions(module, |module, old, new| {
        let folded = match fold(module, new, &known, context) {
            None if purity.is_pure(old) => fold_function_call(module, new, context),
            found => found,
        };
        let folded = match folded {
            Some(folded) if context.fire("evaluate what is constant", module, new) => {
                steps.release(module, old, new);
                folded
            }
            _ => new,
        };
        if let Expr::Const(_) = module.exprs[folded] {
            known.extend(binders.remove(&old).into_iter().flatten().map(|var| (var, folded)));
        }
        folded
    }))
}

/// Constants on the way to others: a weight that is transposed and then packed should be there
/// once in the end, not three times.
struct Steps {
    uses: SecondaryMap<ExprId, u32>,
    bound: BTreeSet<ExprId>,
}

impl Steps {
    /// Lets go of the arguments of a call that was folded, if this pass made them for it alone.
    fn release(&mut self, module: &mut Module, old: ExprId, new: ExprId) {
        let (Expr::Call(before), Expr::Call(after)) = (&module.exprs[old], &module.exprs[new]) else {
            return;
        };
        let pairs: Vec<(ExprId, ExprId)> =
            before.args.iter().copied().zip(after.args.iter().copied()).collect();
        for (was, is) in pairs {
            let alone = self.uses[was] == 1 && !self.bound.contains(&was);
            if let (Expr::Call(_), &Expr::Const(c), true) = (&module.exprs[was], &module.exprs[is], alone)
                && let Ok(nothing) = Tensor::zeros(module.consts[c].tensor.dtype(), &[0])
            {
                module.consts[c].tensor = nothing;
            }
        }
    }
}

/// The variables that lets bind to each expression.
fn let_values(module: &Module) -> BTreeMap<ExprId, Vec<VarId>> {
    let mut binders: BTreeMap<ExprId, Vec<VarId>> = BTreeMap::new();
    for expr in walk::reachable(module) {
        if let Expr::Let { var, value, .. } = module.exprs[expr] {
            binders.entry(value).or_default().push(var);
        }
    }
    binders
}

fn fold(
    module: &mut Module,
    expr: ExprId,
    known: &BTreeMap<VarId, ExprId>,
    context: &mut PassContext,
) -> Option<ExprId> {
    match &module.exprs[expr] {
        Expr::Var(v) => known.get(v).copied(),
        Expr::Let { var, body, .. } => known.contains_key(var).then_some(*body),
        Expr::If { cond, then, els } => {
            let (then, els) = (*then, *els);
            let taken = module.as_const(*cond)?.bytes().first()? != &0;
            Some(if taken { then } else { els })
        }
        Expr::Proj { tuple, index } => match &module.exprs[*tuple] {
            Expr::Tuple(fields) => fields.get(*index as usize).copied(),
            _ => None,
        },
        Expr::Call(_) => fold_call(module, expr, context),
        Expr::Const(_)
        | Expr::Global(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Func(_)
        | Expr::Tuple(_)
        | Expr::Match { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => None,
    }
}

/// A call of a global function with constants. Only leaves are run: functions that call others could
/// take exponentially long.
fn fold_function_call(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let Expr::Call(Call { callee: Callee::Expr(callee), args, .. }) = &module.exprs[expr] else {
        return None;
    };
    let Expr::Global(global) = module.exprs[*callee] else { return None };
    let body = module.globals[global].func.as_ref()?.body;
    let argument_bytes = args.iter().map(|&a| constant_bytes(module, a)).sum::<Option<usize>>()?;
    let calls = |e: ExprId| matches!(module.exprs[e], Expr::Global(_));
    if args.is_empty() || walk::post_order(module, &[body]).into_iter().any(calls) {
        return None;
    }
    let most = argument_bytes.saturating_add(context.int("growth_bytes").max(0) as usize);
    if type_bytes(module, expr)? > most {
        remark(module, expr, "a function", "its result is larger than `growth_bytes` allows", context);
        return None;
    }
    match eval_expr(module, expr) {
        Ok(value) => constant_of(module, &value, expr),
        Err(error) => {
            remark(module, expr, "a function", &error.message, context);
            None
        }
    }
}

fn fold_call(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let (op, call) = module.as_op_call(expr)?;
    if op.purity != Purity::Pure || call.args.is_empty() {
        return None;
    }
    if matches!(op.name(), "shape_of" | "ndarray_size")
        && let Some(folded) = shape_query(module, op.name(), expr)
    {
        return Some(module.constant(folded));
    }
    if op.name().starts_with("qnn.") && !context.bool("fold_qnn") {
        return None;
    }
    let argument_bytes = call.args.iter().map(|&a| constant_bytes(module, a)).sum::<Option<usize>>()?;
    let result_bytes = type_bytes(module, expr).unwrap_or(0);
    // Panels of a large weight have more padding than a small program should grow by.
    let growth = (argument_bytes / 8).max(context.int("growth_bytes").max(0) as usize);
    let most = argument_bytes.saturating_add(growth);
    if result_bytes > most {
        let why = format!("the result has {result_bytes} bytes, and `growth_bytes` allows {most}");
        remark(module, expr, op.name(), &why, context);
        return None;
    }
    let (name, bytes) = (op.name(), [result_bytes, argument_bytes]);
    match eval_expr(module, expr) {
        Ok(value) => {
            if op.is(&DEQUANTIZE) {
                tell_dequantised(module, expr, bytes, context);
            }
            constant_of(module, &value, expr)
        }
        Err(error) => {
            remark(module, expr, name, &error.message, context);
            None
        }
    }
}

/// Says why a call of constants is not folded, if somebody wants to know.
fn remark(module: &Module, expr: ExprId, op: &str, why: &str, context: &mut PassContext) {
    if context.want_remarks {
        let remark = Diagnostic::warning(Code::PASS, format!("`{op}` is not folded: {why}"));
        context.remarks.push(remark.at(module.spans[expr].clone()));
    }
}

/// Says that a constant is dequantised for good, so that no product does it when running.
fn tell_dequantised(module: &Module, expr: ExprId, [floats, given]: [usize; 2], context: &mut PassContext) {
    if context.want_remarks {
        let bytes = format!("{floats} bytes of floats stand for {given} bytes");
        let why =
            format!("`qnn.dequantize` is folded: {bytes}, and no product dequantises them when running");
        context.remarks.push(Diagnostic::warning(Code::PASS, why).at(module.spans[expr].clone()));
    }
}

/// `shape_of` and `ndarray_size` of a value whose type is static.
fn shape_query(module: &Module, op: &str, expr: ExprId) -> Option<Tensor> {
    let (_, call) = module.as_op_call(expr)?;
    let shape = static_shape(module, call.args[0])?;
    let ty = module.types[expr].as_tensor()?.clone();
    let numbers: Vec<i64> = match op {
        "shape_of" => shape.iter().map(|&n| n as i64).collect(),
        _ => vec![shape.iter().product::<usize>() as i64],
    };
    let result_shape = ty.static_shape()?;
    let tensor = Tensor::from_slice(&result_shape, &numbers).ok()?;
    match ty.dtype {
        DType::I64 => Some(tensor),
        DType::I32 => {
            let narrow: Vec<i32> = numbers.iter().map(|&n| n as i32).collect();
            Tensor::from_slice(&result_shape, &narrow).ok()
        }
        DType::F32 => {
            let floats: Vec<f32> = numbers.iter().map(|&n| n as f32).collect();
            Tensor::from_slice(&result_shape, &floats).ok()
        }
        _ => None,
    }
}

/// Bytes of a constant or a tuple of constants; `None` for anything else.
fn constant_bytes(module: &Module, expr: ExprId) -> Option<usize> {
    match &module.exprs[expr] {
        Expr::Const(c) => Some(module.consts[*c].tensor.bytes().len()),
        Expr::Tuple(fields) => fields.iter().map(|&f| Some(module.as_const(f)?.bytes().len())).sum(),
        _ => None,
    }
}

fn type_bytes(module: &Module, expr: ExprId) -> Option<usize> {
    let flat = crate::lower::group_to_te::flatten(&module.types[expr])?;
    flat.iter().map(|t| t.elements()?.checked_mul(t.dtype.bytes())).sum()
}

/// The value as an expression: a constant, or a tuple of constants.
fn constant_of(module: &mut Module, value: &Value, origin: ExprId) -> Option<ExprId> {
    match value {
        Value::Tensor(tensor) => Some(module.constant(tensor.clone())),
        Value::Tuple(fields) => {
            let fields: Option<Vec<ExprId>> =
                fields.iter().map(|field| Some(module.constant(field.as_tensor()?.clone()))).collect();
            let ty = module.types[origin].clone();
            let tuple = module.add_like(Expr::Tuple(fields?.into()), origin);
            module.types[tuple] = ty;
            Some(tuple)
        }
        _ => None,
    }
}
