//! Grouping: union-find over a dataflow graph, in the three phases of Relay's FuseOps, and, unless
//! exactly its groups are wanted, one before them.
//!
//! 1. Complex operators take the elementwise operators behind them, before anything else: which
//!    operand comes first then decides nothing, and a complex operator never ends in a chain that
//!    was closed beyond the shape of its result. Relay does this along with the next.
//! 2. Elementwise and broadcast chains close up to their post-dominator.
//! 3. Injective chains and tuples join.
//! 4. What feeds a tuple that was joined follows it.

use std::collections::BTreeSet;

use fermata_ir::entity::{EntitySet, PrimaryMap, SecondaryMap};
use fermata_ir::expr::Module;
use fermata_ir::op::FusePattern;

use super::dominator::{DomTree, post_dominators};
use super::graph::{DataflowGraph, NodeId};
use crate::pass::PassContext;

/// The only rule there is.
const JOIN: &str = "join an operator with what uses it";

/// How large a group may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes of the graph.
    pub nodes: u32,
    /// Arguments and results; 0 is no limit.
    pub args: u32,
}

/// What became of a node.
#[derive(Clone, Copy, Debug)]
pub enum Decision {
    /// It was fused with everything up to this node.
    Joined(NodeId),
    /// It gives its group's result, for this reason.
    Ends(&'static str),
}

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
    /// The values from outside that each node comes of, where Relay's limit counts them.
    sources: SecondaryMap<NodeId, BTreeSet<NodeId>>,
    decisions: SecondaryMap<NodeId, Option<Decision>>,
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
        let groups = graph.nodes.iter().map(|(id, n)| group((id, n.pattern))).collect();
        Groups { groups, sources: SecondaryMap::new(), decisions: SecondaryMap::new() }
    }

    /// The partition that the phases make, within the limits, as Relay makes it if that is wanted.
    pub fn partition(
        module: &Module,
        graph: &DataflowGraph,
        limits: Limits,
        relay: bool,
        context: &mut PassContext,
    ) -> Groups {
        let mut groups = Groups::singletons(graph);
        if relay && limits.args > 0 {
            groups.sources = sources(graph, limits.args as usize);
        }
        let tree = post_dominators(graph);
        let all = [Phase::Complex, Phase::Elementwise, Phase::Injective, Phase::Tuples];
        for &phase in &all[usize::from(relay)..] {
            for node in graph.nodes.keys() {
                let mut step = Step { graph, tree: &tree, groups: &mut groups, limits };
                match step.goal(node, phase) {
                    Some(Ok(sink)) if context.fire(JOIN, module, graph.nodes[node].expr) => {
                        step.commit(node, sink);
                        groups.decisions[node] = Some(Decision::Joined(sink));
                    }
                    Some(Ok(_)) => return groups,
                    Some(Err(why)) => groups.decisions[node] = Some(Decision::Ends(why)),
                    None => {}
                }
            }
        }
        groups
    }

    /// What became of a node, if anything was tried.
    pub fn decision(&self, node: NodeId) -> Option<Decision> {
        self.decisions[node]
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
    limits: Limits,
}

impl Step<'_> {
    /// The node up to which this one is fused in a phase, or why it is not; `None` where this
    /// phase has nothing to say of it.
    fn goal(&mut self, node: NodeId, phase: Phase) -> Option<Result<NodeId, &'static str>> {
        let dom = self.tree[node];
        let pattern = self.groups.groups[node].pattern;
        let is_complex = self.graph.nodes[node].pattern == FusePattern::OutElemwiseFusable;
        if phase == Phase::Complex && !is_complex {
            return None;
        }
        let Some(sink) = dom.parent else {
            return Some(Err("it is used by something that is no operator, or its uses meet nowhere"));
        };
        if pattern == FusePattern::Opaque {
            return Some(Err("it fuses with nothing"));
        }
        if phase != Phase::Tuples && self.groups.root_of(node) == self.groups.root_of(sink) {
            return None;
        }
        if self.too_large(node, sink) {
            return Some(Err("the group would have more than `max_depth` nodes"));
        }
        if self.too_many_arguments(node, sink) {
            return Some(Err("the group would have more than `max_function_args` arguments and results"));
        }
        if phase == Phase::Tuples {
            return self.joins_tuple(node, sink, pattern).then_some(Ok(sink));
        }
        if self.graph.nodes[sink].pattern == FusePattern::Tuple {
            return Some(Err("a tuple takes its value"));
        }
        let reason = self.obstacle(node, sink, pattern, phase)?;
        Some(if reason.is_empty() { Ok(sink) } else { Err(reason) })
    }

    /// Why a node is not fused up to its post-dominator; empty if it is.
    fn obstacle(
        &mut self,
        node: NodeId,
        sink: NodeId,
        pattern: FusePattern,
        phase: Phase,
    ) -> Option<&'static str> {
        let dom = self.tree[node].pattern;
        let says = |holds: bool, otherwise: &'static str| Some(if holds { "" } else { otherwise });
        match pattern {
            FusePattern::OutElemwiseFusable => match phase {
                Phase::Complex | Phase::Elementwise if dom != FusePattern::Elemwise => {
                    Some("what follows this complex operator is not element by element")
                }
                Phase::Complex | Phase::Elementwise => says(
                    self.check_path(node, sink, |p, _| p <= FusePattern::Broadcast),
                    "behind this complex operator stands more than elementwise operators",
                ),
                Phase::Injective | Phase::Tuples => None,
            },
            FusePattern::Elemwise | FusePattern::Broadcast => {
                let reachable = dom <= FusePattern::Injective || dom == FusePattern::CommReduce;
                says(
                    reachable && self.check_path(node, sink, elementwise_path),
                    "on the way to where its uses meet is more than elementwise and injective operators",
                )
            }
            FusePattern::Injective | FusePattern::Tuple => match phase {
                Phase::Injective => says(
                    self.check_path(node, sink, |p, _| p <= FusePattern::Injective),
                    "what follows this injective operator is neither elementwise nor injective",
                ),
                Phase::Complex | Phase::Elementwise | Phase::Tuples => None,
            },
            FusePattern::CommReduce => Some("a reduction ends its group"),
            FusePattern::Opaque => Some("it fuses with nothing"),
        }
    }

    fn joins_tuple(&mut self, node: NodeId, sink: NodeId, pattern: FusePattern) -> bool {
        if pattern > FusePattern::Injective || self.graph.nodes[sink].pattern != FusePattern::Tuple {
            return false;
        }
        let root = self.groups.root_of(sink);
        let joined = self.groups.groups[root].pattern;
        joined <= FusePattern::Injective && self.check_path(node, sink, |p, _| p <= FusePattern::Injective)
    }

    /// True if the values that the group of all between `node` and `sink` reads, and its result,
    /// are more than a group may have.
    fn too_many_arguments(&mut self, node: NodeId, sink: NodeId) -> bool {
        if self.limits.args == 0 {
            return false;
        }
        // Relay counts what all groups before the sink read too, so nothing joins behind a full one.
        if !self.groups.sources[sink].is_empty() {
            return self.groups.sources[sink].len() + 1 > self.limits.args as usize;
        }
        let together = self.path(node, sink).into_iter().chain([node, sink]);
        let roots: BTreeSet<NodeId> = together.map(|at| self.groups.root_of(at)).collect();
        let inside = |at: NodeId| roots.contains(&self.groups.root(at));
        let read = self
            .graph
            .nodes
            .iter()
            .filter(|(id, n)| !n.inlined && !inside(*id) && n.uses.iter().any(|u| inside(u.user)));
        let values: BTreeSet<NodeId> = read.map(|(_, n)| n.value).collect();
        values.len() + 1 > self.limits.args as usize
    }

    fn too_large(&mut self, node: NodeId, sink: NodeId) -> bool {
        let root = self.groups.root_of(sink);
        let limit = self.limits.nodes as usize;
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

/// The values from outside that each node comes of, directly or not; of more than `most` some.
fn sources(graph: &DataflowGraph, most: usize) -> SecondaryMap<NodeId, BTreeSet<NodeId>> {
    let mut found: SecondaryMap<NodeId, BTreeSet<NodeId>> = SecondaryMap::new();
    for (id, node) in graph.nodes.iter() {
        let is_source = node.pattern == FusePattern::Opaque;
        let own = if is_source { BTreeSet::from([node.value]) } else { found[id].clone() };
        for to in node.uses.iter().filter(|_| !node.inlined) {
            let all = &mut found[to.user];
            for &source in &own {
                if all.len() > most {
                    break;
                }
                all.insert(source);
            }
        }
    }
    found
}

/// Inside, nothing stronger than injective; at the end, a reduction or a complex operator too.
fn elementwise_path(pattern: FusePattern, is_sink: bool) -> bool {
    pattern <= FusePattern::Injective
        || is_sink && matches!(pattern, FusePattern::CommReduce | FusePattern::OutElemwiseFusable)
}
