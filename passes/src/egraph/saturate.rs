//! Running the rules: bounded by counts, never by the clock, and the reason for stopping is told.

use std::time::Duration;

use egg::{BackoffScheduler, Rewrite, Runner, StopReason};

use super::facts::{Graph, Knowledge};
use super::lang::Node;

/// How far the rules may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rounds of all rules.
    pub iterations: usize,
    /// Nodes of the e-graph.
    pub nodes: usize,
}

/// A time that no run reaches: limits are counts.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Applies the rules until nothing is new or a limit is reached, and says which.
pub fn saturate<'r>(
    graph: Graph,
    rules: impl IntoIterator<Item = &'r Rewrite<Node, Knowledge>>,
    limits: Limits,
) -> (Graph, String) {
    // A rule that finds far more than there are nodes would breed on what it has bred: it waits.
    let matches = 1000 + 4 * graph.total_number_of_nodes();
    let scheduler = BackoffScheduler::default().with_initial_match_limit(matches);
    let runner = Runner::<Node, Knowledge, ()>::new(Knowledge::default())
        .with_egraph(graph)
        .with_scheduler(scheduler)
        .with_iter_limit(limits.iterations)
        .with_node_limit(limits.nodes)
        .with_time_limit(NEVER)
        .run(rules);
    let reason = match &runner.stop_reason {
        Some(StopReason::Saturated) | None => "saturated".to_string(),
        Some(StopReason::IterationLimit(n)) => format!("stopped after {n} iterations"),
        Some(StopReason::NodeLimit(n)) => format!("stopped at the limit of {n} nodes"),
        Some(StopReason::TimeLimit(_)) => "stopped by the clock".to_string(),
        Some(StopReason::Other(why)) => why.clone(),
    };
    (runner.egraph, reason)
}
