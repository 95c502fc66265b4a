//! What a model asks for that is not there, told at once, and what must be known of it.

use std::collections::{BTreeMap, BTreeSet};

use super::ops;
use super::order::subgraphs;
use super::proto::{Function, Graph, Model, Node};
use super::{SOURCE, wire};
use crate::diag::{Code, Diagnostic, SourceId, Span, nearest};
use crate::entity::EntityRef;

/// The newest opset of the standard domain that is known here.
const NEWEST_OPSET: i64 = 28;

/// The operators that the importer knows: domain (empty for the standard one) and name.
pub fn supported() -> impl Iterator<Item = (&'static str, &'static str)> {
    ops::rows().map(|row| (row.domain, row.name))
}

/// The names of a model's inputs, in order, without those that have a default value.
///
/// # Errors
/// If the bytes are no model.
pub fn input_names(bytes: &[u8]) -> Result<Vec<String>, Diagnostic> {
    let model: Model<'_> = wire::decode(bytes)?;
    let Some(graph) = &model.graph else { return Ok(Vec::new()) };
    let defaults: BTreeSet<&str> = graph.initializers.iter().map(|t| t.name).collect();
    let open = graph.inputs.iter().map(|i| i.name).filter(|n| !defaults.contains(n));
    Ok(open.map(String::from).collect())
}

/// The names of a model's inputs whose values decide shapes or are otherwise needed at
/// compile time: the candidates for [`super::ImportOptions::const_inputs`].
///
/// # Errors
/// If the bytes are no model.
pub fn shape_inputs(bytes: &[u8]) -> Result<Vec<String>, Diagnostic> {
    let model: Model<'_> = wire::decode(bytes)?;
    let Some(graph) = &model.graph else { return Ok(Vec::new()) };
    let mut wanted = wanted_names(graph);
    let inputs: BTreeSet<&str> = graph.inputs.iter().map(|i| i.name).collect();
    // Backwards from what must be known to the inputs that it is computed from.
    let mut producers: BTreeMap<&str, &Node<'_>> = BTreeMap::new();
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        for node in &graph.nodes {
            producers.extend(node.outputs.iter().map(|o| (*o, node)));
            graphs.extend(subgraphs(node));
        }
    }
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name) {
            continue;
        }
        if inputs.contains(name) {
            found.insert(name);
        }
        // A shape is known from the type, whatever the values are.
        let node = producers.get(name).filter(|n| !matches!(n.op_type, "Shape" | "Size"));
        wanted.extend(node.into_iter().flat_map(|n| n.inputs.iter().copied()));
    }
    Ok(graph.inputs.iter().map(|i| i.name).filter(|n| found.contains(n)).map(String::from).collect())
}

/// The operands that must be known, of all nodes, those in subgraphs included.
fn wanted_names<'a>(graph: &'a Graph<'a>) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        for node in &graph.nodes {
            graphs.extend(subgraphs(node));
            let Some(row) = ops::find(ops::domain(node.domain), node.op_type) else { continue };
            names.extend(row.known.iter().filter_map(|&i| node.inputs.get(i)).filter(|n| !n.is_empty()));
        }
    }
    names
}

/// A kind of node that is not supported.
struct Missing {
    count: usize,
    first: String,
}

/// Refuses a model that asks for opsets or operators that are not there; all at once.
pub(super) fn check(model: &Model<'_>, graph: &Graph<'_>) -> Result<(), Diagnostic> {
    let functions: BTreeSet<(&str, &str)> =
        model.functions.iter().map(|f| (ops::domain(f.domain), f.name)).collect();
    let mut missing: BTreeMap<(&str, &str), Missing> = BTreeMap::new();
    collect(&graph.nodes, "main", &functions, &mut missing);
    for f in called(model, graph) {
        collect(&f.nodes, f.name, &functions, &mut missing);
    }
    let opset = model.opset_import.iter().find(|o| ops::domain(o.domain).is_empty()).map_or(1, |o| o.version);
    let newer = opset > NEWEST_OPSET;
    if missing.is_empty() {
        return match newer {
            true => Err(Diagnostic::error(
                Code::IMPORT_UNSUPPORTED,
                format!("the model speaks opset {opset}; this importer knows opsets up to {NEWEST_OPSET}"),
            )),
            false => Ok(()),
        };
    }
    let nodes: usize = missing.values().map(|m| m.count).sum();
    let message = match missing.len() {
        1 => format!("an operator is not supported (in {nodes} nodes)"),
        n => format!("{n} operators are not supported (in {nodes} nodes)"),
    };
    let first = missing.values().next().map(|m| m.first.clone()).unwrap_or_default();
    let mut error = Diagnostic::error(Code::IMPORT_UNSUPPORTED, message)
        .at(Span::Node { source: SourceId::new(SOURCE), path: first.into() });
    for ((domain, name), what) in &missing {
        error = error.note(describe(model, domain, name, what));
    }
    Err(error)
}

fn describe(model: &Model<'_>, domain: &str, name: &str, what: &Missing) -> String {
    let opset = model.opset_import.iter().find(|o| ops::domain(o.domain) == domain).map(|o| o.version);
    let opset = opset.map_or("no opset imported".into(), |v| format!("opset {v}"));
    let full = if domain.is_empty() { name.to_string() } else { format!("{domain}.{name}") };
    let times = if what.count == 1 { String::new() } else { format!(", {} times", what.count) };
    let near = nearest(name, ops::rows().filter(|r| r.domain == domain).map(|r| r.name));
    let near = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
    format!("`{full}` ({opset}){times}, first at {}{near}", what.first)
}

/// The functions of the model that its graph reaches.
fn called<'m, 'a>(model: &'m Model<'a>, graph: &Graph<'a>) -> Vec<&'m Function<'a>> {
    let mut found = vec![false; model.functions.len()];
    let mut lists: Vec<&[Node<'_>]> = vec![&graph.nodes];
    while let Some(nodes) = lists.pop() {
        for node in nodes {
            lists.extend(subgraphs(node).map(|g| g.nodes.as_slice()));
            for (i, f) in model.functions.iter().enumerate() {
                let same = f.name == node.op_type && ops::domain(f.domain) == ops::domain(node.domain);
                if same && !found[i] {
                    found[i] = true;
                    lists.push(&f.nodes);
                }
            }
        }
    }
    model.functions.iter().zip(found).filter(|(_, f)| *f).map(|(f, _)| f).collect()
}

/// Counts the unsupported nodes of a list and of the graphs inside.
fn collect<'a>(
    nodes: &'a [Node<'a>],
    place: &str,
    functions: &BTreeSet<(&str, &str)>,
    missing: &mut BTreeMap<(&'a str, &'a str), Missing>,
) {
    let mut lists = vec![(place.to_string(), nodes)];
    while let Some((place, nodes)) = lists.pop() {
        for (i, node) in nodes.iter().enumerate() {
            let domain = ops::domain(node.domain);
            let here = || {
                let name = if node.name.is_empty() { node.op_type } else { node.name };
                format!("{place} > {name} (node #{i})")
            };
            lists.extend(subgraphs(node).map(|g| (here(), g.nodes.as_slice())));
            if ops::find(domain, node.op_type).is_some() || functions.contains(&(domain, node.op_type)) {
                continue;
            }
            let entry = missing.entry((domain, node.op_type));
            entry.or_insert_with(|| Missing { count: 0, first: here() }).count += 1;
        }
    }
}
