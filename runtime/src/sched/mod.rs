//! Several models on one device: a real-time queue, best-effort queues, and who runs when.
//!
//! ```text
//! load (arrivals) ─► real-time queue ─┐
//!                   best-effort queues ├─ group: workers take tiles by policy ─► report, trace
//! ```
//! Everything is told by the protocol's words and counters ([`fermata_ir::tir::protocol`]): a
//! policy is a function to quotas, preemption a word, resumption a launch that goes on from its
//! counters. No tile is torn, lost or run twice, and results are those of undisturbed runs.

pub mod group;
pub mod load;
pub mod policy;
pub mod queue;
pub mod report;
pub mod trace;

#[cfg(test)]
mod tests;
