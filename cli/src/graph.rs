//! A program as a picture: what computes, what reads what, and which operators are one group.
//!
//! A node is an operator, an input or a result; what is shared is one node. Lets are seen
//! through, tuples that one reader takes apart too, constants are facts of their readers, and a
//! call of a primitive function is a group with the operators in it.

mod build;
mod columns;
pub(crate) mod dot;
mod family;
pub(crate) mod layout;
pub(crate) mod svg;

pub(crate) use build::{build, short_type};
pub(crate) use family::Family;

/// A program, one graph for each global function, `@main` first.
pub(crate) struct Picture {
    /// The graphs.
    pub(crate) functions: Vec<Graph>,
}

/// A function's graph. An edge's source stands before its target, except into recursive closures.
#[derive(Default)]
pub(crate) struct Graph {
    /// The function's name without `@`.
    pub(crate) name: String,
    /// What computes.
    pub(crate) nodes: Vec<Node>,
    /// Who reads whom, each pair once.
    pub(crate) edges: Vec<(usize, usize)>,
    /// Groups of at least two nodes.
    pub(crate) groups: Vec<Group>,
}

/// A node.
pub(crate) struct Node {
    /// The operator's name, or that of an input or result.
    pub(crate) title: String,
    /// The type of its value, short: `1×64×56×56 f32`.
    pub(crate) detail: String,
    /// All there is to say: types, attributes, constants, where it came from.
    pub(crate) facts: String,
    /// What it is like.
    pub(crate) family: Family,
    /// The group that it is in.
    pub(crate) group: Option<usize>,
}

/// Operators that become kernels together.
pub(crate) struct Group {
    /// What it is called.
    pub(crate) title: String,
}
