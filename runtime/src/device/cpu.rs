//! Worker threads, one a core, that run launches together with the calling thread.
//!
//! The caller is the worker in slot 0. It publishes each launch in a [`Ring`]; workers follow the
//! number of the newest. While a model runs they spin between launches, so that a step costs no
//! system call; when no model has run for a while they park, and the next run wakes them once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{JoinHandle, Thread};

use fermata_ir::tir::protocol::Word;

use super::cores::{allowed_cores, pin};
use super::ring::{Counters, Line, Ring, pause};
use super::{Device, Launch};

/// How often an idle worker looks for work before it parks.
const SPINS_IDLE: u32 = 20_000;

/// What the caller and the workers share.
struct Shared {
    ring: Ring,
    /// Whether each worker is parked or about to be.
    parked: Box<[Line<AtomicBool>]>,
    /// A model is running: do not park.
    active: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    /// The life of a worker.
    fn follow(&self, slot: usize) {
        let mut last = 0;
        let mut spins = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.ring.newest();
            if number == last {
                self.wait(slot, last, &mut spins);
                continue;
            }
            spins = 0;
            // SAFETY: the caller waits for the last tile of what it publishes, and this thread
            // alone has the slot.
            unsafe { self.ring.work(number, slot, || true) };
            last = number;
        }
    }

    /// Waits a little for a launch after `last`; parks if nothing comes.
    fn wait(&self, slot: usize, last: u64, spins: &mut u32) {
        pause(spins);
        if *spins < SPINS_IDLE || self.active.load(Ordering::Relaxed) {
            return;
        }
        // Whoever publishes looks at the flag after publishing; so either it sees the flag, or
        // this sees what it published.
        self.parked[slot].0.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let idle = self.ring.newest() == last
            && !self.active.load(Ordering::SeqCst)
            && !self.stop.load(Ordering::SeqCst);
        if idle {
            std::thread::park();
        }
        self.parked[slot].0.store(false, Ordering::SeqCst);
        *spins = 0;
    }
}

/// The control word of a pool, to preempt what it runs and to let it go on.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

impl Control {
    /// Stops all workers after the tile that each is in.
    pub fn preempt(&self) {
        self.set_quota(0);
    }

    /// Lets workers in slots below `quota` run, under a new epoch.
    pub fn set_quota(&self, quota: u32) {
        self.0.ring.set_quota(quota);
    }

    /// The word as it is now.
    pub fn word(&self) -> Word {
        self.0.ring.word()
    }

    /// How far the newest launch is; `None` before the first.
    pub fn progress(&self) -> Option<Progress> {
        let ring = &self.0.ring;
        let number = ring.newest();
        let counters = ring.counters(number);
        (number > 0).then(|| Progress { number, tiles: ring.tiles(number), counters })
    }

    /// Stops all workers and waits until they have left; says where the newest launch then stands.
    /// Until the quota is set again nothing runs.
    pub fn stop(&self) -> Option<Progress> {
        self.preempt();
        self.0.ring.wait_until_left(u64::MAX);
        self.progress()
    }
}

/// How far a launch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its number among the pool's.
    pub number: u64,
    /// Its tiles.
    pub tiles: u64,
    /// Its counters.
    pub counters: Counters,
}

/// Worker threads and the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

impl Pool {
    /// A pool of `threads` threads, the caller counted; workers are pinned to a core each if
    /// asked and if there are enough cores.
    pub fn new(threads: usize, pinned: bool) -> Pool {
        let slots = threads.max(1);
        let shared = Arc::new(Shared {
            ring: Ring::new(slots),
            parked: (0..slots).map(|_| Line::default()).collect(),
            active: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let cores = if pinned { allowed_cores() } else { Vec::new() };
        let mut workers = Vec::new();
        for slot in 1..slots {
            let core = cores.get(slot).copied();
            let shared = shared.clone();
            let body = move || {
                if let Some(core) = core {
                    pin(core);
                }
                shared.follow(slot);
            };
            // A thread that the system refuses is one slot less; the protocol needs no fixed number.
            match std::thread::Builder::new().name(format!("fermata-{slot}")).spawn(body) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool { shared, workers, handles }
    }

    /// The control word.
    pub fn control(&self) -> Control {
        Control(self.shared.clone())
    }

    /// Wakes the workers that are parked.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        for (slot, handle) in self.handles.iter().enumerate() {
            if self.shared.parked[slot + 1].0.load(Ordering::SeqCst) {
                handle.unpark();
            }
        }
    }

    /// Runs a launch of one tile, which cannot be preempted in the middle.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn launch_alone(&self, launch: &Launch) {
        for tile in 0..launch.kernel.tiles {
            self.shared.ring.admitted();
            // SAFETY: the caller is the only worker of this launch.
            unsafe { launch.run_tile(0, tile) };
        }
    }
}

impl Device for Pool {
    fn slots(&self) -> usize {
        self.workers.len() + 1
    }

    fn begin(&mut self) {
        self.shared.active.store(true, Ordering::SeqCst);
        self.wake();
    }

    unsafe fn launch(&mut self, launch: &Launch) {
        let tiles = launch.kernel.tiles;
        if tiles <= 1 {
            // SAFETY: the contract of this function.
            return unsafe { self.launch_alone(launch) };
        }
        let awake = || {
            if !self.shared.active.load(Ordering::Relaxed) {
                self.wake();
            }
        };
        // SAFETY: the contract of this function; the caller has slot 0 and is the one who publishes.
        unsafe { self.shared.ring.run(launch, awake) };
    }

    fn end(&mut self) {
        self.shared.active.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for handle in &self.handles {
            handle.unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker runs no code of ours that panics; there is nothing to do if it did.
            let _ = worker.join();
        }
    }
}
