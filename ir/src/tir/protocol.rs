//! The preemption protocol: what every device obeys when it runs a kernel's tiles.
//!
//! ```text
//! worker in slot w of a launch:  loop {
//!     if word.epoch != launch.epoch or w >= word.quota   -> leave
//!     t = fetch_add(launch.next, 1) ; if t >= launch.tiles -> leave
//!     run tile t to its end
//!     fetch_add(launch.done, 1, release)
//! }
//! ```
//! `next >= tiles` means claimed, `done == tiles` (read with acquire) means finished: only
//! the latter lets a consumer start. The word belongs to a queue; `next` and `done` belong
//! to one launch and are not used again while a worker of it can still run.
//!
//! Three rules are for whoever writes the word and launches. A quota of 0 comes with a new epoch
//! wherever launches are queued behind each other: else a launch whose workers all left would not
//! be finished when the next one is admitted. A launch goes on under a new epoch once every worker
//! has left, from its counters. And a tile that was claimed but not started is parked in its
//! worker's slot, which the quota admits when the launch goes on.

pub mod worker;

pub use worker::{LOOK_AHEAD_LOOP, LaunchMemory, Left, Turn, WORKER_LOOP, Worker, WorkerLoop, WorkerStep};

use std::sync::Arc;

/// The control word of a queue: an epoch and a quota in one atomic `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// Launches of another epoch leave at their next checkpoint without touching anything.
    pub epoch: u32,
    /// Workers in slots at or above it leave; 0 stops all.
    pub quota: u32,
}

impl Word {
    /// The word as it lies in memory: epoch in the upper half.
    pub const fn pack(self) -> u64 {
        (self.epoch as u64) << 32 | self.quota as u64
    }

    /// Reads the word.
    pub const fn unpack(bits: u64) -> Word {
        Word { epoch: (bits >> 32) as u32, quota: bits as u32 }
    }

    /// The checkpoint: may the worker in `slot` of a launch of `epoch` go on?
    pub const fn admits(self, epoch: u32, slot: u32) -> bool {
        self.epoch == epoch && slot < self.quota
    }
}

/// How long a worker runs between a look at the word and the next, by the estimate of a
/// target's cost model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Nanoseconds that the longest tile is predicted to take.
    pub tile_ns: u64,
    /// Tiles that a worker still begins after a look that told it to leave.
    pub lookahead: u32,
    /// The bound that the schedule was asked to keep, in nanoseconds; none if it was asked for none.
    pub bound_ns: Option<u64>,
    /// What stands in the way, if the bound is not kept or not promised: a clause.
    pub obstacle: Option<Arc<str>>,
}

impl Certificate {
    /// The longest time from a look at the word to the exit: the tile that a worker is in, and
    /// those that it looked ahead to.
    pub fn exit_ns(&self) -> u64 {
        self.tile_ns.saturating_mul(u64::from(self.lookahead) + 1)
    }

    /// Whether the bound is kept, by the estimate; true if there is none.
    pub fn holds(&self) -> bool {
        self.bound_ns.is_none_or(|bound| self.exit_ns() <= bound && self.obstacle.is_none())
    }
}

/// Tiles that a worker of a CPU looks ahead: it claims a tile after it looked, and begins it at once.
pub const CPU_LOOKAHEAD: u32 = 0;

/// The place of `next` among a launch's counters: two `u64` in the memory of its device.
pub const NEXT: usize = 0;

/// The place of `done`.
pub const DONE: usize = 1;

/// One step of the loop that the threads of a GPU block go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockStep {
    /// The leader, thread 0, reads the word and, if it is admitted, claims a tile; the answer
    /// goes to the slot of the next turn (before the first turn: to the first).
    Decide,
    /// All threads of the block meet.
    Barrier,
    /// The leader counts the tile of the turn before, if there was one: every thread has left it.
    CountDone,
    /// Every thread reads the slot of this turn, and leaves if there is no tile in it.
    Take,
    /// The tile runs to its end.
    RunTile,
    /// Every thread reads the word for itself and leaves if it is not admitted. No part of the
    /// protocol: a word that changes between two reads tears the block, which the evaluator shows.
    AdmitEach,
}

/// The loop of a GPU block: the steps before the first turn, and those of each turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLoop {
    /// Slots in shared memory; turn `i` uses slot `i % slots`.
    pub slots: usize,
    /// Steps before the first turn.
    pub before: &'static [BlockStep],
    /// Steps of a turn.
    pub turn: &'static [BlockStep],
}

/// The loop that every CUDA kernel is emitted with. The decision for the next turn is made as
/// soon as the leader is through with its part of the tile, which hides its latency. One
/// barrier a turn is enough because there are two slots: a thread that is slow to read this
/// turn's slot is not overtaken by the leader, who writes the other one.
pub const BLOCK_LOOP: BlockLoop = BlockLoop {
    slots: 2,
    before: &[BlockStep::Decide],
    turn: &[BlockStep::Barrier, BlockStep::CountDone, BlockStep::Take, BlockStep::RunTile, BlockStep::Decide],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_counts_what_a_worker_looks_ahead_to() {
        let mut certificate =
            Certificate { tile_ns: 15_000, lookahead: 0, bound_ns: Some(20_000), obstacle: None };
        assert!(certificate.holds());
        certificate.lookahead = 1;
        assert_eq!((certificate.exit_ns(), certificate.holds()), (30_000, false));
        certificate.bound_ns = None;
        assert!(certificate.holds());
    }
}
