//! Products of one input as one product: the queries, keys and values of an attention.
//!
//! What CombineParallelDense does once, where inputs are one expression, holds here for all that
//! the graph knows to be equal, and is chosen where it costs less: the input is read once. Vectors
//! that are added to all parts of a product are added to the whole.

use std::collections::BTreeMap;

use egg::{Id, Subst};
use fermata_ir::op::broadcast::ADD;
use fermata_ir::op::nn::{DENSE, DenseAttrs, MATMUL, MatmulAttrs};
use fermata_ir::op::transform::{STRIDED_SLICE, StridedSliceAttrs};
use fermata_ir::op::{Attrs, OpAttrs, OpDef};
use fermata_ir::tensor::Tensor;

use super::super::facts::Graph;
use super::super::lang::{Head, Node};
use super::When::Constant;
use super::make::{call, variable};
use super::{Rule, To};
use crate::pass::FloatClass::Exact;
use crate::relay::combine_parallel::{on_end, part};

/// The rules.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule { name: "merge-products",    from: "(nn.dense ?x ?w ?a)",            to: To::Together(merge_dense),  when: &[Constant("?w")], float: Exact },
    Rule { name: "merge-by-columns",  from: "(nn.matmul ?x ?w ?a)",           to: To::Together(merge_matmul), when: &[Constant("?w")], float: Exact },
    Rule { name: "merge-sums",        from: "(add (strided_slice ?p ?s) ?b)", to: To::Together(merge_sums),   when: &[Constant("?b")], float: Exact },
];

/// A match that may be merged with others: its class, and the constant that is its own.
struct Member {
    class: Id,
    number: u32,
    tensor: Tensor,
    units: usize,
}

/// The number of a constant of the program itself; what rules made of it is no business of these.
fn own_constant(graph: &Graph, class: Id) -> Option<(u32, Tensor)> {
    let numbers = graph[class].nodes.iter().filter_map(|node| match node.head {
        Head::Const(number) => Some(number),
        _ => None,
    });
    let number = numbers.min().filter(|&number| number < graph.analysis.own_constants)?;
    Some((number, graph[class].data.constant()?.clone()))
}

/// The members' constants on end along an axis, made once for all rounds.
fn joined(graph: &mut Graph, members: &[Member], axis: usize) -> Option<Id> {
    let key = (axis, members.iter().map(|m| m.number).collect());
    let number = match graph.analysis.joined.get(&key) {
        Some(&number) => number,
        None => {
            let parts: Vec<Tensor> = members.iter().map(|m| m.tensor.clone()).collect();
            let Head::Const(number) = graph.analysis.constant(&on_end(&parts, axis)?) else { return None };
            graph.analysis.joined.insert(key, number);
            number
        }
    };
    Some(graph.add(Node::leaf(Head::Const(number))))
}

/// Each member with its part of the whole.
fn parts(graph: &mut Graph, whole: Id, members: &[Member], pairs: &mut Vec<(Id, Id)>) -> Option<()> {
    let axis = graph[whole].data.tensor()?.rank().checked_sub(1)?;
    let mut first = 0;
    for member in members {
        let attrs = part(first, member.units, axis).attrs();
        pairs.push((member.class, call(graph, &STRIDED_SLICE, &[whole], Some(attrs))));
        first += member.units;
    }
    Some(())
}

/// Products of one input by an operator, and the attributes of one with so many units.
struct Products<'a> {
    def: &'static OpDef,
    /// The axis of the weight that has the units.
    axis: usize,
    /// What besides the input and the weight's shape must be equal.
    kind: &'a dyn Fn(&Attrs) -> Option<String>,
    attrs: &'a dyn Fn(&Attrs, i64) -> Attrs,
}

fn merge_dense(graph: &mut Graph, matches: &[(Id, &Subst)]) -> Vec<(Id, Id)> {
    let kind = |attrs: &Attrs| Some(format!("{:?}", attrs.read::<DenseAttrs>().out_dtype));
    let attrs = |attrs: &Attrs, units| DenseAttrs { units: Some(units), ..attrs.read() }.attrs();
    Products { def: &DENSE, axis: 0, kind: &kind, attrs: &attrs }.merge(graph, matches)
}

fn merge_matmul(graph: &mut Graph, matches: &[(Id, &Subst)]) -> Vec<(Id, Id)> {
    let kind = |attrs: &Attrs| {
        let attrs: MatmulAttrs = attrs.read();
        (!attrs.transpose_b).then(|| format!("{:?} {}", attrs.out_dtype, attrs.transpose_a))
    };
    let attrs = |attrs: &Attrs, units| MatmulAttrs { units: Some(units), ..attrs.read() }.attrs();
    Products { def: &MATMUL, axis: 1, kind: &kind, attrs: &attrs }.merge(graph, matches)
}

impl Products<'_> {
    /// Products of one input with weights of the program become parts of one product.
    fn merge(&self, graph: &mut Graph, matches: &[(Id, &Subst)]) -> Vec<(Id, Id)> {
        let mut families: BTreeMap<(Id, String), (Attrs, BTreeMap<u32, Member>)> = BTreeMap::new();
        for &(class, subst) in matches {
            let Some((number, tensor)) = own_constant(graph, variable(subst, "?w")) else { continue };
            let Some(attrs) = graph[variable(subst, "?a")].data.attrs().cloned() else { continue };
            let Some(kind) = (self.kind)(&attrs).filter(|_| tensor.rank() == 2) else { continue };
            let (units, depth) = (tensor.shape()[self.axis], tensor.shape()[1 - self.axis]);
            let key = (graph.find(variable(subst, "?x")), format!("{kind} {} {depth}", tensor.dtype()));
            let (_, members) = families.entry(key).or_insert((attrs, BTreeMap::new()));
            members.entry(number).or_insert(Member { class, number, tensor, units });
        }
        let mut pairs = Vec::new();
        for ((x, _), (attrs, members)) in families.into_iter().filter(|(_, (_, members))| members.len() > 1) {
            let members: Vec<Member> = members.into_values().collect();
            let units = members.iter().map(|m| m.units as i64).sum();
            let Some(weight) = joined(graph, &members, self.axis) else { continue };
            let whole = call(graph, self.def, &[x, weight], Some((self.attrs)(&attrs, units)));
            parts(graph, whole, &members, &mut pairs);
        }
        pairs
    }
}

/// Vectors that are added to the parts of a value, all of them and in order, are added to the whole.
fn merge_sums(graph: &mut Graph, matches: &[(Id, &Subst)]) -> Vec<(Id, Id)> {
    let mut families: BTreeMap<Id, BTreeMap<i64, Member>> = BTreeMap::new();
    for &(class, subst) in matches {
        let whole = graph.find(variable(subst, "?p"));
        let Some((number, tensor)) = own_constant(graph, variable(subst, "?b")) else { continue };
        let Some(first) = beginning(graph, whole, variable(subst, "?s"), &tensor) else { continue };
        let units = tensor.len();
        let member = Member { class, number, tensor, units };
        families.entry(whole).or_default().entry(first).or_insert(member);
    }
    let mut pairs = Vec::new();
    for (whole, members) in families {
        let last = graph[whole].data.tensor().and_then(|t| t.shape.last()?.as_static());
        let mut next = 0;
        let complete = members.iter().all(|(&first, member)| {
            let follows = first == next;
            next = first + member.units as i64;
            follows
        });
        if members.len() < 2 || !complete || last != usize::try_from(next).ok() {
            continue;
        }
        let members: Vec<Member> = members.into_values().collect();
        let Some(vector) = joined(graph, &members, 0) else { continue };
        let sum = call(graph, &ADD, &[whole, vector], None);
        parts(graph, sum, &members, &mut pairs);
    }
    pairs
}

/// Where a part of a value begins along its last axis, if it is as long as a vector.
fn beginning(graph: &Graph, whole: Id, attrs: Id, vector: &Tensor) -> Option<i64> {
    let tensor = graph[whole].data.tensor()?;
    let &[units] = vector.shape() else { return None };
    let slice: StridedSliceAttrs = graph[attrs].data.attrs()?.read();
    let first = *slice.begin.as_ref()?.first()?;
    let alike = part(usize::try_from(first).ok()?, units, tensor.rank().checked_sub(1)?);
    (slice.attrs() == alike.attrs() && tensor.dtype == vector.dtype()).then_some(first)
}
