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

/// The control word of a queue: an epoch and a quota in one atomic `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
