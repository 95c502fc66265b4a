//! Recognition of norms that an exporter wrote out.

use egg::{Id, Subst};
use fermata_ir::op::OpAttrs;
use fermata_ir::op::norm::{LAYER_NORM, LayerNormAttrs, RMS_NORM, RmsNormAttrs};
use fermata_ir::op::reduce::ReduceAttrs;

use super::super::facts::{Graph, splat};
use super::make::{call, variable};
use super::{Rule, To, When};
use crate::pass::FloatClass::Algebraic;

const fn rule(name: &'static str, from: &'static str, to: To, when: &'static [When]) -> Rule {
    Rule { name, from, to, when, float: Algebraic }
}

/// The rules: a variance is a mean of squares, which `power-two` makes products.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("layer-norm",
         "(add (multiply (divide (subtract ?x (mean ?x ?m)) \
            (sqrt (add (mean (multiply (subtract ?x (mean ?x ?m)) (subtract ?x (mean ?x ?m))) ?m) ?e))) ?g) ?b)",
         To::Made(layer_norm), &[When::Constant("?g"), When::Constant("?b")]),
    rule("layer-norm-rsqrt",
         "(add (multiply (multiply (subtract ?x (mean ?x ?m)) \
            (rsqrt (add (mean (multiply (subtract ?x (mean ?x ?m)) (subtract ?x (mean ?x ?m))) ?m) ?e))) ?g) ?b)",
         To::Made(layer_norm), &[When::Constant("?g"), When::Constant("?b")]),
    rule("rms-norm", "(multiply (divide ?x (sqrt (add (mean (multiply ?x ?x) ?m) ?e))) ?g)",
         To::Made(rms_norm), &[When::Constant("?g")]),
    rule("rms-norm-rsqrt", "(multiply (multiply ?x (rsqrt (add (mean (multiply ?x ?x) ?m) ?e))) ?g)",
         To::Made(rms_norm), &[When::Constant("?g")]),
];

/// The epsilon of a norm over the last axis, if that is what the means are over, each vector has an
/// element for each of a line, and all are floats.
fn epsilon(graph: &Graph, subst: &Subst, vectors: &[Id]) -> Option<f64> {
    let tensor = graph[variable(subst, "?x")].data.tensor()?;
    let (rank, dtype) = (tensor.rank() as i64, tensor.dtype);
    let line = tensor.shape.last()?.as_static()?;
    let mean: ReduceAttrs = graph[variable(subst, "?m")].data.attrs()?.read();
    let last = [-1, rank - 1];
    let over_last = mean.axis.as_deref().is_some_and(|a| a.len() == 1 && last.contains(&a[0]));
    let plain = mean.keepdims && !mean.exclude && over_last && dtype.is_float();
    let vector = |&id: &Id| graph[id].data.tensor().and_then(|t| t.static_shape()) == Some(vec![line]);
    let epsilon = splat(&graph[variable(subst, "?e")].data)?.as_f64();
    (plain && vectors.iter().all(vector)).then_some(epsilon)
}

fn layer_norm(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let [x, gamma, beta] = ["?x", "?g", "?b"].map(|name| variable(subst, name));
    let epsilon = epsilon(graph, subst, &[gamma, beta])?;
    let attrs = LayerNormAttrs { axis: -1, epsilon, center: true, scale: true }.attrs();
    Some(call(graph, &LAYER_NORM, &[x, gamma, beta], Some(attrs)))
}

fn rms_norm(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let [x, weight] = ["?x", "?g"].map(|name| variable(subst, name));
    let epsilon = epsilon(graph, subst, &[weight])?;
    Some(call(graph, &RMS_NORM, &[x, weight], Some(RmsNormAttrs { axis: -1, epsilon }.attrs())))
}
