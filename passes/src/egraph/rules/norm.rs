//! Recognition of norms that an exporter wrote out.

use egg::{Id, Subst};
use fermata_ir::op::norm::{LAYER_NORM, LayerNormAttrs};
use fermata_ir::op::reduce::ReduceAttrs;
use fermata_ir::op::{Op, OpAttrs};

use super::super::facts::{Graph, splat};
use super::super::lang::{Head, Node};
use super::{Rule, To, When};
use crate::pass::FloatClass::Algebraic;

/// The rules: the variance is a mean of squares, which `power-two` makes products.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule {
        name: "layer-norm",
        from: "(add (multiply (divide (subtract ?x (mean ?x ?m)) \
                 (sqrt (add (mean (multiply (subtract ?x (mean ?x ?m)) (subtract ?x (mean ?x ?m))) ?m) ?e))) ?g) ?b)",
        to: To::Made(layer_norm),
        when: &[When::Constant("?g"), When::Constant("?b")],
        float: Algebraic,
    },
];

/// `nn.layer_norm` over the last axis, if that is what the means are over.
fn layer_norm(graph: &mut Graph, subst: &Subst) -> Option<Id> {
    let variable = |name: &str| subst[name.parse().expect("a variable of the left side")];
    let (x, gamma, beta) = (variable("?x"), variable("?g"), variable("?b"));
    let tensor = graph[x].data.tensor()?;
    let (rank, dtype) = (tensor.rank() as i64, tensor.dtype);
    let line = tensor.shape.last()?.as_static()?;
    let mean: ReduceAttrs = graph[variable("?m")].data.attrs()?.read();
    let last = [-1, rank - 1];
    let over_last = mean.axis.as_deref().is_some_and(|a| a.len() == 1 && last.contains(&a[0]));
    let plain = mean.keepdims && !mean.exclude && over_last && dtype.is_float();
    let vector = |id: Id| graph[id].data.tensor().and_then(|t| t.static_shape()) == Some(vec![line]);
    let epsilon = splat(&graph[variable("?e")].data)?.as_f64();
    if !plain || !vector(gamma) || !vector(beta) {
        return None;
    }
    let attrs = LayerNormAttrs { axis: -1, epsilon, center: true, scale: true }.attrs();
    let attrs = Node::leaf(graph.analysis.attributes(&attrs));
    let attrs = graph.add(attrs);
    let children = [x, gamma, beta, attrs].into_iter().collect();
    Some(graph.add(Node { head: Head::Op(Op(&LAYER_NORM)), children }))
}
