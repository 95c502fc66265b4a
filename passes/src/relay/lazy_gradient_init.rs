//! LazyGradientInit: tensors of ones, of zeros and of any one value are held as that value.
//!
//! Gradients begin with ones and end, where nothing depends on a parameter, with zeros; on the way
//! these are reshaped, spread, summed and multiplied. This pass follows them: a tensor of one value
//! is that value and a shape through operators that move elements, through elementwise operators
//! and reductions, tuples, lets and branches. A sum with zeros is its other operand, a product with
//! ones too, a product with zeros is zero, one with another value takes a scalar, a matrix product
//! is sums of rows. Only where a result, or an operator that knows no better, needs the tensor is it
//! made, by `zeros`, `ones` or `full`.
//!
//! As in Relay, what meets a zero is taken to be finite, and the sign of a zero is not kept; with
//! `finite=False` only what holds for every number is done.

mod facts;
mod uses;

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, Module, VarId};
use fermata_ir::op::OpAttrs;
use fermata_ir::op::elemwise::fill::{FULL, FullAttrs, InitAttrs, ONES, ZEROS};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::TensorType;
use fermata_ir::walk;

use super::rewrite::{rebuild_functions, same_type};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "lazy_gradient_init",
    relay_name: "LazyGradientInit",
    level: 4,
    doc: "hold tensors of zeros, of ones and of any one value as that value until they are needed",
    options: &[OptionDef {
        name: "finite",
        doc: "False keeps products and sums with zeros, which infinities, NaN and -0 show",
        default: OptionValue::Bool(true),
    }],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

/// What is held lazily: the value of all elements of an expression, or of what a variable names.
pub(crate) struct Lazy {
    exprs: SecondaryMap<ExprId, Option<Scalar>>,
    vars: BTreeMap<VarId, Scalar>,
    finite: bool,
}

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut lazy = Lazy { exprs: SecondaryMap::new(), vars: BTreeMap::new(), finite: context.bool("finite") };
    let mut binders: BTreeMap<ExprId, Vec<VarId>> = BTreeMap::new();
    for expr in walk::reachable(module) {
        if let Expr::Let { var, value, .. } = module.exprs[expr] {
            binders.entry(value).or_default().push(var);
        }
    }
    Ok(rebuild_functions(module, |module, old, new| {
        let mut at = new;
        if let Some(value) = lazy.value(module, new) {
            if is_made(module, new) || !is_call(module, new) {
                lazy.exprs[new] = Some(value);
            } else if let Some(filled) = filled(module, new, value)
                && context.fire("hold a tensor of one value", module, new)
            {
                lazy.exprs[filled] = Some(value);
                at = filled;
            }
        } else if let Some((rule, simpler)) = lazy.simplified(module, new)
            && same_type(module, simpler, new)
            && context.fire(rule, module, new)
        {
            at = simpler;
        }
        if let Some(value) = lazy.exprs[at] {
            let named = binders.remove(&old).into_iter().flatten();
            lazy.vars.extend(named.map(|var| (var, value)));
        }
        at
    }))
}

/// True for the operators that a held tensor is made by.
fn is_made(module: &Module, expr: ExprId) -> bool {
    module.as_op_call(expr).is_some_and(|(op, _)| [&ZEROS, &ONES, &FULL].iter().any(|def| op.is(def)))
}

fn is_call(module: &Module, expr: ExprId) -> bool {
    module.as_op_call(expr).is_some()
}

/// A scalar constant.
fn scalar(build: &mut Builder<'_>, value: Scalar) -> Option<ExprId> {
    let width = value.dtype().bytes();
    let tensor = Tensor::from_bytes(value.dtype(), &[], &value.bits().to_le_bytes()[..width]).ok()?;
    Some(build.constant(tensor))
}

/// The tensor of one value that has the type of an expression.
fn filled(module: &mut Module, like: ExprId, value: Scalar) -> Option<ExprId> {
    let ty: TensorType = module.types[like].as_tensor()?.clone();
    let shape: Vec<i64> = ty.static_shape()?.iter().map(|&n| n as i64).collect();
    let span = module.spans[like].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    if ty.shape.is_empty() {
        return scalar(&mut build, value);
    }
    let init = InitAttrs { shape: shape.clone(), dtype: ty.dtype }.attrs();
    if value.bits() == 0 {
        return build.call(&ZEROS, &[], init).ok();
    }
    if value == Scalar::from_i64(ty.dtype, 1) {
        return build.call(&ONES, &[], init).ok();
    }
    let value = scalar(&mut build, value)?;
    build.call(&FULL, &[value], FullAttrs { shape, dtype: Some(ty.dtype) }.attrs()).ok()
}
