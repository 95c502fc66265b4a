//! Grouping: union-find over a dataflow graph, in the three phases of Relay's FuseOps, the first
//! of them in two halves.
//!
//! 1. Complex operators take the elementwise operators behind them, before anything else: which
//!    operand comes first then decides nothing, and a complex operator never ends in a chain that
//!    was closed beyond the shape of its result.
//! 2. Elementwise and broadcast chains close up to their post-dominator.
//! 3. Injective chains and tuples join.
//! 4. What feeds a tuple that was joined follows it.

use fermata_ir::entity::{EntityRef, EntitySet, PrimaryMap};
use fermata_ir::op::FusePattern;

use super::dominator::{DomTree, post_dominators};
use super::graph::{DataflowGraph, NodeId};

/// The state of a node in the union-find forest.
#[derive(Clone, Debug)]
struct Group {
    parent: Option<NodeId>,
    pattern: FusePattern,
    /// The complex operator of the group, if it has one.
    anchor: Option<NodeId>,
    nodes: u32,
}

/// The phases, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Complex,
    Elementwise,
    Injective,
    Tuples,
}

/// A partition of a graph's nodes.
pub struct Groups {
    groups: PrimaryMap<NodeId, Group>,
}

impl Groups {
    /// Every node alone.
    pub fn singletons(graph: &DataflowGraph) -> Groups {
        let group = |(id, pattern): (NodeId, FusePattern)| Group {
            parent: None,
            pattern,
            anchor: (pattern == FusePattern::OutElemwiseFusable).then_some(id),
            nodes: 1,
        };
        Groups { groups: graph.nodes.iter().map(|(id, n)| group((id, n.pattern))).collect() }
    }

    /// The partition that the phases make; no group has more than `max_depth` nodes.
    pub fn partition(graph: &DataflowGraph, max_depth: u32) -> Groups {
        let mut groups = Groups::singletons(graph);
        let tree = post_dominators(graph);
        for phase in [Phase::Complex, Phase::Elementwise, Phase::Injective, Phase::Tuples] {
            for index in 0..graph.nodes.len() {
                Step { graph, tree: &tree, groups: &mut groups, max_depth }.fuse(NodeId::new(index), phase);
            }
        }
        groups
    }

    /// The root of a node's group: the node whose value the group gives.
    pub fn root(&self, node: NodeId) -> NodeId {
        let mut at = node;
        while let Some(parent) = self.groups[at].parent {
            at = parent;
        }
        at
    }

    fn root_of(&mut self, node: NodeId) -> NodeId {
        let root = self.root(node);
        let mut at = node;
        while let Some(parent) = self.groups[at].parent {
            self.groups[at].parent = Some(root).filter(|&r| r != at);
            at = parent;
        }
        root
    }

    fn merge(&mut self, child: NodeId, parent: NodeId) {
        let (child, parent) = (self.root_of(child), self.root_of(parent));
        if child == parent {
            return;
        }
        let Group { pattern, anchor, nodes, .. } = self.groups[child].clone();
        self.groups[child].parent = Some(parent);
        let into = &mut self.groups[parent];
        into.nodes += nodes;
        if let Some(anchor) = anchor {
            into.anchor = Some(anchor);
            into.pattern = into.pattern.max(pattern);
        }
    }
}

/// One look at one node.
struct Step<'a> {
    graph: &'a DataflowGraph,
    tree: &'a DomTree,
    groups: &'a mut Groups,
    max_depth: u32,
}

impl Step<'_> {
    fn fuse(&mut self, node: NodeId, phase: Phase) {
        let dom = self.tree[node];
        let pattern = self.groups.groups[node].pattern;
        let Some(sink) = dom.parent else { return };
        if phase == Phase::Complex && self.graph.nodes[node].pattern != FusePattern::OutElemwiseFusable {
            return;
        }
        if pattern == FusePattern::Opaque || self.too_large(node, sink) {
            return;
        }
        if phase == Phase::Tuples {
            self.fuse_into_tuple(node, sink, pattern);
            return;
        }
        let same_group = self.groups.root_of(node) == self.groups.root_of(sink);
        if same_group || self.graph.nodes[sink].pattern == FusePattern::Tuple {
            return;
        }
        let joins = match pattern {
            FusePattern::OutElemwiseFusable => {
                matches!(phase, Phase::Complex | Phase::Elementwise)
                    && dom.pattern == FusePattern::Elemwise
                    && self.check_path(node, sink, |p, _| p <= FusePattern::Broadcast)
            }
            FusePattern::Elemwise | FusePattern::Broadcast => {
                let reachable =
                    dom.pattern <= FusePattern::Injective || dom.pattern == FusePattern::CommReduce;
                reachable && self.check_path(node, sink, elementwise_path)
            }
            FusePattern::Injective | FusePattern::Tuple => {
                phase == Phase::Injective && self.check_path(node, sink, |p, _| p <= FusePattern::Injective)
            }
            FusePattern::CommReduce | FusePattern::Opaque => false,
        };
        if joins {
            self.commit(node, sink);
        }
    }

    fn fuse_into_tuple(&mut self, node: NodeId, sink: NodeId, pattern: FusePattern) {
        if pattern > FusePattern::Injective || self.graph.nodes[sink].pattern != FusePattern::Tuple {
            return;
        }
        let root = self.groups.root_of(sink);
        let joined = self.groups.groups[root].pattern;
        if joined <= FusePattern::Injective && self.check_path(node, sink, |p, _| p <= FusePattern::Injective)
        {
            self.commit(node, sink);
        }
    }

    fn too_large(&mut self, node: NodeId, sink: NodeId) -> bool {
        let root = self.groups.root_of(sink);
        let limit = self.max_depth as usize;
        let present = self.groups.groups[root].nodes as usize;
        present > limit || self.count_path(node, sink, limit.saturating_sub(present)) > limit - present
    }

    /// The nodes strictly between `node` and `sink`, and `node` itself, with the sizes of
    /// their groups counted once each; counting stops above `limit`.
    fn count_path(&mut self, node: NodeId, sink: NodeId, limit: usize) -> usize {
        let mut roots = EntitySet::new();
        let sink_root = self.groups.root_of(sink);
        let mut count = 0;
        for member in self.path(node, sink).into_iter().chain([node]) {
            let root = self.groups.root_of(member);
            if root != sink_root && roots.insert(root) {
                count += self.groups.groups[root].nodes as usize;
            }
            if count > limit {
                break;
            }
        }
        count
    }

    /// The nodes strictly between `node` and `sink`.
    fn path(&self, node: NodeId, sink: NodeId) -> Vec<NodeId> {
        let mut seen = EntitySet::new();
        let mut found = Vec::new();
        let mut stack: Vec<NodeId> = self.graph.nodes[node].uses.iter().map(|u| u.user).collect();
        while let Some(at) = stack.pop() {
            if at == sink || !seen.insert(at) {
                continue;
            }
            found.push(at);
            stack.extend(self.graph.nodes[at].uses.iter().map(|u| u.user));
        }
        found
    }

    /// True if `holds(pattern of the node's group, is the sink)` everywhere from the users
    /// of `node` to `sink`.
    fn check_path(&mut self, node: NodeId, sink: NodeId, holds: impl Fn(FusePattern, bool) -> bool) -> bool {
        let path = self.path(node, sink);
        path.into_iter().chain([sink]).all(|at| {
            let root = self.groups.root_of(at);
            holds(self.groups.groups[root].pattern, at == sink)
        })
    }

    fn commit(&mut self, node: NodeId, sink: NodeId) {
        for member in self.path(node, sink).into_iter().chain([node]) {
            self.groups.merge(member, sink);
        }
    }
}

/// Inside, nothing stronger than injective; at the end, a reduction or a complex operator too.
fn elementwise_path(pattern: FusePattern, is_sink: bool) -> bool {
    pattern <= FusePattern::Injective
        || is_sink && matches!(pattern, FusePattern::CommReduce | FusePattern::OutElemwiseFusable)
}
