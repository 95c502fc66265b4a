//! What the rules that make their right side share.

use egg::{Id, Subst};
use fermata_ir::op::{Attrs, Op, OpDef};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;

use super::super::facts::Graph;
use super::super::lang::{Head, Node};

/// The class that a variable of the left side stands for.
pub fn variable(subst: &Subst, name: &str) -> Id {
    subst[name.parse().expect("a variable of the left side")]
}

/// The node of a call.
pub fn node(graph: &mut Graph, def: &'static OpDef, args: &[Id], attrs: Option<Attrs>) -> Node {
    let attrs = attrs.map(|attrs| {
        let leaf = Node::leaf(graph.analysis.attributes(&attrs));
        graph.add(leaf)
    });
    Node { head: Head::Op(Op(def)), children: args.iter().copied().chain(attrs).collect() }
}

/// The class of a call.
pub fn call(graph: &mut Graph, def: &'static OpDef, args: &[Id], attrs: Option<Attrs>) -> Id {
    let node = node(graph, def, args, attrs);
    graph.add(node)
}

/// A constant.
pub fn constant(graph: &mut Graph, tensor: &Tensor) -> Id {
    let leaf = Node::leaf(graph.analysis.constant(tensor));
    graph.add(leaf)
}

/// A scalar of a tensor's dtype.
pub fn number(graph: &mut Graph, like: Id, value: f64) -> Option<Id> {
    let dtype = graph[like].data.tensor()?.dtype;
    let bits = Scalar::from_f64(dtype, value).bits().to_le_bytes();
    let tensor = Tensor::from_bytes(dtype, &[], &bits[..dtype.bytes()]).ok()?;
    Some(constant(graph, &tensor))
}
