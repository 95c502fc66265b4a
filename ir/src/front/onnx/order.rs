//! The order in which a graph's nodes can be imported.
//!
//! ONNX asks for sorted nodes, but not every writer obeys; what is really wrong is a
//! value that nobody makes, one that two nodes make, and a cycle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::proto::{AttrData, Graph, Node};

/// What is wrong with a graph: the message, the node, and the values that it could mean.
pub(super) struct OrderError<'a> {
    /// What is wrong.
    pub message: String,
    /// At which node.
    pub node: usize,
    /// The name that was not found, to look for similar ones.
    pub missing: Option<&'a str>,
}

/// The nodes in an order in which every input is made before it is used, otherwise as in
/// the file. `known` tells which values exist before the first node.
pub(super) fn order<'a>(
    nodes: &'a [Node<'a>],
    known: &dyn Fn(&str) -> bool,
) -> Result<Vec<usize>, OrderError<'a>> {
    let producers = producers(nodes, known)?;
    let mut waiting = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for name in node.inputs.iter().copied().filter(|n| !n.is_empty()) {
            match producers.get(name) {
                Some(&p) => {
                    users[p].push(i);
                    waiting[i] += 1;
                }
                None if known(name) => {}
                None => {
                    let message = format!("no node, input or initializer makes value `{name}`");
                    return Err(OrderError { message, node: i, missing: Some(name) });
                }
            }
        }
        for name in names_in_subgraphs(node) {
            if let Some(&p) = producers.get(name).filter(|&&p| p != i) {
                users[p].push(i);
                waiting[i] += 1;
            }
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..nodes.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        sorted.push(i);
        for &user in &users[i] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    match (0..nodes.len()).find(|&i| waiting[i] > 0) {
        Some(node) => {
            let message = "the graph has a cycle: this node needs its own result".to_string();
            Err(OrderError { message, node, missing: None })
        }
        None => Ok(sorted),
    }
}

/// Which node makes which value.
fn producers<'a>(
    nodes: &'a [Node<'a>],
    known: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<&'a str, usize>, OrderError<'a>> {
    let mut producers = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for name in node.outputs.iter().copied().filter(|n| !n.is_empty()) {
            if producers.insert(name, i).is_some() || known(name) {
                let message = format!("value `{name}` is made twice");
                return Err(OrderError { message, node: i, missing: None });
            }
        }
    }
    Ok(producers)
}

/// Every name that the graphs inside a node use, their own values included.
fn names_in_subgraphs<'a>(node: &'a Node<'a>) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut graphs: Vec<&'a Graph<'a>> = subgraphs(node).collect();
    while let Some(graph) = graphs.pop() {
        for node in &graph.nodes {
            names.extend(node.inputs.iter().copied().filter(|n| !n.is_empty()));
            graphs.extend(subgraphs(node));
        }
        names.extend(graph.outputs.iter().map(|o| o.name));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The graphs that a node holds.
pub(super) fn subgraphs<'a>(node: &'a Node<'a>) -> impl Iterator<Item = &'a Graph<'a>> {
    node.attrs.iter().filter_map(|a| match &a.data {
        AttrData::Graph(graph) => Some(&**graph),
        AttrData::Empty
        | AttrData::Float(_)
        | AttrData::Int(_)
        | AttrData::Str(_)
        | AttrData::Tensor(_)
        | AttrData::Floats(_)
        | AttrData::Ints(_)
        | AttrData::Strs(_)
        | AttrData::Other(_) => None,
    })
}
