//! The calling thread as a device: once without any protocol, and once as a worker of a queue.
//!
//! [`Unchecked`] runs tiles one after the other: nothing can preempt it. [`Checked`] does what a
//! worker does that may be preempted between any two tiles: it looks at the word and at the
//! clock, claims a tile, and counts it. What the second takes longer is what checkpoints cost.

use std::time::{Duration, Instant};

use super::ring::{Counters, Ring};
use super::{Device, Launch};

/// The calling thread; nothing can preempt it.
#[derive(Debug, Default)]
pub struct Unchecked;

impl Device for Unchecked {
    fn slots(&self) -> usize {
        1
    }

    unsafe fn launch(&mut self, launch: &Launch) {
        for tile in 0..launch.kernel.tiles {
            // SAFETY: the contract of this function; this thread is the only worker.
            unsafe { launch.run_tile(0, tile) };
        }
    }
}

/// The calling thread as the only worker of a queue that nobody preempts.
pub struct Checked {
    ring: Ring,
    start: Instant,
}

impl Default for Checked {
    fn default() -> Self {
        Checked { ring: Ring::new(1), start: Instant::now() }
    }
}

impl Device for Checked {
    fn slots(&self) -> usize {
        1
    }

    unsafe fn launch(&mut self, launch: &Launch) {
        if launch.kernel.tiles == 0 {
            return;
        }
        let number = self.ring.publish(launch, Counters::default(), self.ring.word().epoch);
        // As a worker beside a real-time queue, whose next request is far away.
        let due = Duration::MAX;
        let stay = || self.start.elapsed() < due;
        // SAFETY: the contract of this function; the launch ends before this returns.
        unsafe { self.ring.work(number, 0, stay) };
    }
}
