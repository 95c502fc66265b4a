//! What quantisation costs, layer by layer.
//!
//! The model runs as it is on the evaluator; each product that a scheme would quantise is
//! computed once more from the same data in int8. So every layer's error is its own.

use std::collections::BTreeMap;

use fermata_ir::diag::{Diagnostic, Diagnostics, Span};
use fermata_ir::eval::{EvalOptions, Value, eval_observed};
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::quant::QUANT_DENSE;
use fermata_ir::op::{Attrs, OpAttrs, OpDef, OpError};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::{Layer, Scheme, real};

/// The error of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// Where it stands in the model.
    pub name: String,
    /// Output channels and what is contracted.
    pub shape: [usize; 2],
    /// Signal to quantisation noise: `10 log10(sum of y^2 / sum of (y - q)^2)`; infinite without error.
    pub sqnr_db: f64,
    /// The largest difference of an element.
    pub worst: f64,
}

/// The errors of all layers of `@main` on these inputs, in the order in which they run.
///
/// # Errors
/// If the program has no such function, or it fails on the inputs.
pub fn report(module: &Module, scheme: Scheme, inputs: &[Tensor]) -> Result<Vec<LayerError>, Diagnostics> {
    let layers: Vec<(ExprId, Layer)> =
        walk::reachable(module).into_iter().filter_map(|e| Some((e, Layer::of(module, e)?))).collect();
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    let params = main.map_or(&[][..], |f| &f.params);
    // A parameter is there before anything is computed, and so is not observed.
    let given = |e: ExprId| match module.exprs[e] {
        Expr::Var(v) => params.iter().position(|&p| p == v).and_then(|i| inputs.get(i).cloned()),
        _ => None,
    };
    let mut seen: BTreeMap<ExprId, Option<Tensor>> =
        layers.iter().flat_map(|(e, layer)| [(*e, None), (layer.data, given(layer.data))]).collect();
    let mut observe = |expr: ExprId, value: &Value| {
        if let Some(slot) = seen.get_mut(&expr) {
            *slot = value.as_tensor().cloned();
        }
    };
    let args = inputs.iter().cloned().map(Value::from).collect();
    eval_observed(module, "main", args, &EvalOptions::default(), &mut observe)?;
    let tensor = |e: &ExprId| seen.get(e).and_then(Option::as_ref);
    let mut errors = Vec::new();
    for (expr, layer) in &layers {
        let (Some(data), Some(result)) = (tensor(&layer.data), tensor(expr)) else { continue };
        let found = quantised(scheme, data, layer).map_err(|e| {
            Diagnostic::error(fermata_ir::diag::Code::PASS, e.message).at(module.spans[*expr].clone())
        })?;
        let name = match &module.spans[*expr] {
            Span::Node { path, .. } => path.to_string(),
            Span::Text { .. } | Span::None => format!("product {}", errors.len()),
        };
        let Some(shape) = layer.weight.shape() else { continue };
        let (sqnr_db, worst) = difference(&found, result);
        errors.push(LayerError { name, shape, sqnr_db, worst });
    }
    Ok(errors)
}

/// The product of data with the layer's weight, both quantised.
fn quantised(scheme: Scheme, data: &Tensor, layer: &Layer) -> Result<Tensor, OpError> {
    let call = |op: &'static OpDef, args: &[Value], attrs: &Attrs| {
        let types: Vec<Type> = args.iter().map(Value::ty).collect();
        (op.eval)(args, attrs, &op.result(&types, attrs)?)
    };
    let pair = call(scheme.quantize(), &[data.clone().into()], &Attrs::NONE)?;
    let fields = pair.as_tuple().ok_or_else(|| OpError::new("a quantisation gives two results"))?;
    let weight = scheme.weight(&layer.weight).ok_or_else(|| OpError::new("the weight is not float32"))?;
    let [weight, weight_scale] = weight.map(Value::from);
    let args = [fields[0].clone(), weight, fields[1].clone(), weight_scale];
    Ok(call(&QUANT_DENSE, &args, &real().attrs())?.tensor()?.clone())
}

/// The ratio of signal to noise in decibels, and the largest difference.
fn difference(found: &Tensor, right: &Tensor) -> (f64, f64) {
    let (found, right) = (found.as_slice::<f32>().unwrap_or(&[]), right.as_slice::<f32>().unwrap_or(&[]));
    let (mut signal, mut noise, mut worst) = (0f64, 0f64, 0f64);
    for (&q, &y) in found.iter().zip(right) {
        let error = f64::from(q) - f64::from(y);
        signal += f64::from(y).powi(2);
        noise += error.powi(2);
        worst = worst.max(error.abs());
    }
    (10.0 * (signal / noise).log10(), worst)
}
