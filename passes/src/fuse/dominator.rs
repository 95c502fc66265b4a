//! Post-dominators of a dataflow graph, in one reverse sweep.
//!
//! The parent of a node is the nearest node that every path from it to an output goes
//! through; with it stands the strongest pattern met on the way. External nodes have none.

use fermata_ir::entity::{EntityRef, PrimaryMap};
use fermata_ir::op::FusePattern;

use super::graph::{DataflowGraph, NodeId};

/// A node of the post-dominator tree.
#[derive(Clone, Copy, Debug)]
pub struct DomNode {
    /// The immediate post-dominator.
    pub parent: Option<NodeId>,
    /// Distance from the root, from 1.
    pub depth: u32,
    /// The strongest pattern on the paths to the parent.
    pub pattern: FusePattern,
}

/// The post-dominator tree, indexed by node.
pub type DomTree = PrimaryMap<NodeId, DomNode>;

/// Builds the tree.
pub fn post_dominators(graph: &DataflowGraph) -> DomTree {
    let root = DomNode { parent: None, depth: 1, pattern: FusePattern::Opaque };
    let mut tree: DomTree = graph.nodes.values().map(|_| root).collect();
    for index in (0..graph.nodes.len()).rev() {
        let id = NodeId::new(index);
        let node = &graph.nodes[id];
        if node.external {
            continue;
        }
        let mut pattern = FusePattern::Elemwise;
        let mut parent = None;
        for (i, edge) in node.uses.iter().enumerate() {
            pattern = pattern.max(edge.pattern);
            parent = match i {
                0 => Some(edge.user),
                _ => parent.and_then(|p| common_ancestor(&tree, p, edge.user, &mut pattern)),
            };
        }
        let depth = parent.map_or(1, |p| tree[p].depth + 1);
        tree[id] = DomNode { parent, depth, pattern };
    }
    tree
}

/// The least common ancestor; `pattern` takes in what is climbed over on the way.
fn common_ancestor(tree: &DomTree, a: NodeId, b: NodeId, pattern: &mut FusePattern) -> Option<NodeId> {
    let (mut a, mut b) = (a, b);
    while a != b {
        let (da, db) = (tree[a].depth, tree[b].depth);
        if da >= db {
            *pattern = (*pattern).max(tree[a].pattern);
            let up = tree[a].parent;
            if db >= da {
                *pattern = (*pattern).max(tree[b].pattern);
                b = tree[b].parent?;
            }
            a = up?;
        } else {
            *pattern = (*pattern).max(tree[b].pattern);
            b = tree[b].parent?;
        }
    }
    Some(a)
}
