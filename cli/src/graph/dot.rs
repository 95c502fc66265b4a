//! Pictures in the language of Graphviz: a cluster for each function and each group.

use std::fmt::Write as _;

use super::{Graph, Picture};

/// A picture as a digraph.
pub(crate) fn file(picture: &Picture) -> String {
    let mut text = String::from(
        "digraph fermata {\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11];\n",
    );
    for (f, graph) in picture.functions.iter().enumerate() {
        function(&mut text, f, graph);
    }
    text.push_str("}\n");
    text
}

fn function(text: &mut String, f: usize, graph: &Graph) {
    let _ =
        writeln!(text, "  subgraph \"cluster_{f}\" {{\n    label={};", quoted(&format!("@{}", graph.name)));
    let mut members = vec![Vec::new(); graph.groups.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        match node.group {
            Some(group) => members[group].push(n),
            None => line(text, "    ", f, graph, n),
        }
    }
    for (g, (group, members)) in graph.groups.iter().zip(members).enumerate() {
        let title = quoted(&group.title);
        let _ =
            writeln!(text, "    subgraph \"cluster_{f}_{g}\" {{\n      label={title};\n      style=dashed;");
        members.into_iter().for_each(|n| line(text, "      ", f, graph, n));
        text.push_str("    }\n");
    }
    for (from, to) in &graph.edges {
        let _ = writeln!(text, "    n{f}_{from} -> n{f}_{to};");
    }
    text.push_str("  }\n");
}

fn line(text: &mut String, indent: &str, f: usize, graph: &Graph, n: usize) {
    let node = &graph.nodes[n];
    let label =
        if node.detail.is_empty() { node.title.clone() } else { format!("{}\n{}", node.title, node.detail) };
    let (label, facts) = (quoted(&label), quoted(&node.facts));
    let color = node.family.light();
    let _ = writeln!(text, "{indent}n{f}_{n} [label={label}, tooltip={facts}, fillcolor=\"{color}\"];");
}

/// A string of DOT.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
