//! Worker threads, one a core, that run launches together with the calling thread.
//!
//! The caller is the worker in slot 0. It publishes each launch in a ring of launch records;
//! workers follow the number of the newest. While a model runs they spin between launches, so
//! that a step costs no system call; when no model has run for a while they park, and the next
//! run wakes them once.
//!
//! A record is used again only when no worker is in it: each worker announces the launch it is
//! about to enter and then looks whether the ring has moved past it. Either the worker sees that
//! and stays out, or the caller sees the announcement and waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::{JoinHandle, Thread};

use fermata_ir::tir::protocol::Word;

use super::{BoundKernel, Device, Launch};

/// Launch records; a power of two.
const RING: u64 = 64;

/// How often an idle worker looks for work before it parks.
const SPINS_IDLE: u32 = 20_000;

/// How often a waiting thread looks before it lets others have the core.
const SPINS_YIELD: u32 = 4_000;

/// A value on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A launch as workers see it.
#[derive(Default)]
struct Record {
    next: Line<AtomicU64>,
    done: Line<AtomicU64>,
    epoch: AtomicU32,
    tiles: AtomicU64,
    function: AtomicPtr<()>,
    imports: AtomicPtr<()>,
    buffers: AtomicPtr<()>,
    scratch: AtomicPtr<u8>,
    scratch_stride: AtomicUsize,
}

/// What the caller and the workers share.
struct Shared {
    /// The control word.
    word: Line<AtomicU64>,
    /// The number of the newest launch; the first is 1.
    published: Line<AtomicU64>,
    records: Box<[Record]>,
    /// The launch that each worker is in, 0 for none; slot 0 is the caller's and stays 0.
    inside: Box<[Line<AtomicU64>]>,
    /// Whether each worker is parked or about to be.
    parked: Box<[Line<AtomicBool>]>,
    /// A model is running: do not park.
    active: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn record(&self, number: u64) -> &Record {
        &self.records[(number % RING) as usize]
    }

    /// The loop of the protocol: runs tiles of a launch until none is left or the word says stop.
    ///
    /// # Safety
    /// The record is that of a launch whose pointers are valid, and it is not used again meanwhile.
    unsafe fn work(&self, record: &Record, slot: usize) {
        let tiles = record.tiles.load(Ordering::Relaxed);
        let epoch = record.epoch.load(Ordering::Relaxed);
        let launch = record.launch();
        loop {
            let word = Word::unpack(self.word.0.load(Ordering::Relaxed));
            if !word.admits(epoch, slot as u32) {
                return;
            }
            let tile = record.next.0.fetch_add(1, Ordering::Relaxed);
            if tile >= tiles {
                return;
            }
            // SAFETY: this thread alone claimed the tile, and it alone has the slot.
            unsafe { launch.run_tile(slot, tile) };
            record.done.0.fetch_add(1, Ordering::Release);
        }
    }

    /// The life of a worker.
    fn follow(&self, slot: usize) {
        let mut last = 0;
        let mut spins = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.published.0.load(Ordering::Acquire);
            if number == last {
                spins += 1;
                self.wait(slot, last, &mut spins);
                continue;
            }
            spins = 0;
            self.inside[slot].0.store(number, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.published.0.load(Ordering::SeqCst) < number + RING - 1 {
                // SAFETY: announced before the look at the ring, so the caller keeps the record.
                unsafe { self.work(self.record(number), slot) };
                last = number;
            }
            self.inside[slot].0.store(0, Ordering::Release);
        }
    }

    /// Waits a little for a launch after `last`; parks if nothing comes.
    fn wait(&self, slot: usize, last: u64, spins: &mut u32) {
        std::hint::spin_loop();
        if *spins < SPINS_IDLE || self.active.load(Ordering::Relaxed) {
            if (*spins).is_multiple_of(SPINS_YIELD) {
                std::thread::yield_now();
            }
            return;
        }
        // Whoever publishes looks at the flag after publishing; so either it sees the flag, or
        // this sees what it published.
        self.parked[slot].0.store(true, Ordering::SeqCst);
        let idle = self.published.0.load(Ordering::SeqCst) == last
            && !self.active.load(Ordering::SeqCst)
            && !self.stop.load(Ordering::SeqCst);
        if idle {
            std::thread::park();
        }
        self.parked[slot].0.store(false, Ordering::SeqCst);
        *spins = 0;
    }

    /// Waits until no worker is in a launch up to `number`.
    fn wait_until_left(&self, number: u64) {
        fence(Ordering::SeqCst);
        for inside in &self.inside {
            let mut spins = 0;
            while (1..=number).contains(&inside.0.load(Ordering::SeqCst)) {
                pause(&mut spins);
            }
        }
    }
}

impl Record {
    fn launch(&self) -> Launch {
        let function = self.function.load(Ordering::Relaxed);
        // SAFETY: the pointer was made from a tile function when the launch was published.
        let function = unsafe { std::mem::transmute::<*mut (), fermata_codegen::kernel::TileFn>(function) };
        Launch {
            kernel: BoundKernel {
                function,
                tiles: self.tiles.load(Ordering::Relaxed),
                imports: self.imports.load(Ordering::Relaxed).cast_const().cast(),
            },
            buffers: self.buffers.load(Ordering::Relaxed).cast_const().cast(),
            scratch: self.scratch.load(Ordering::Relaxed),
            scratch_stride: self.scratch_stride.load(Ordering::Relaxed),
        }
    }
}

fn pause(spins: &mut u32) {
    std::hint::spin_loop();
    *spins += 1;
    if spins.is_multiple_of(SPINS_YIELD) {
        std::thread::yield_now();
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
        let word = &self.0.word.0;
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |bits| {
            let epoch = Word::unpack(bits).epoch.wrapping_add(1);
            Some(Word { epoch, quota }.pack())
        });
    }

    /// The word as it is now.
    pub fn word(&self) -> Word {
        Word::unpack(self.0.word.0.load(Ordering::Acquire))
    }
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
            word: Line(AtomicU64::new(Word { epoch: 1, quota: u32::MAX }.pack())),
            published: Line::default(),
            records: (0..RING).map(|_| Record::default()).collect(),
            inside: (0..slots).map(|_| Line::default()).collect(),
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

    /// Publishes a launch that goes on from these counters, and gives its number.
    fn publish(&self, launch: &Launch, next: u64, done: u64, epoch: u32) -> u64 {
        let shared = &*self.shared;
        let number = shared.published.0.load(Ordering::Relaxed) + 1;
        shared.wait_until_left(number.saturating_sub(RING));
        let record = shared.record(number);
        record.next.0.store(next, Ordering::Relaxed);
        record.done.0.store(done, Ordering::Relaxed);
        record.epoch.store(epoch, Ordering::Relaxed);
        record.tiles.store(launch.kernel.tiles, Ordering::Relaxed);
        record.function.store(launch.kernel.function as *mut (), Ordering::Relaxed);
        record.imports.store(launch.kernel.imports.cast_mut().cast(), Ordering::Relaxed);
        record.buffers.store(launch.buffers.cast_mut().cast(), Ordering::Relaxed);
        record.scratch.store(launch.scratch, Ordering::Relaxed);
        record.scratch_stride.store(launch.scratch_stride, Ordering::Relaxed);
        shared.published.0.store(number, Ordering::SeqCst);
        number
    }

    /// The word, once it lets anybody run.
    fn admitted(&self) -> Word {
        let mut spins = 0;
        loop {
            let word = Word::unpack(self.shared.word.0.load(Ordering::Acquire));
            if word.quota > 0 {
                return word;
            }
            pause(&mut spins);
        }
    }

    /// Runs a launch that the caller handles alone, looking at the word before each tile.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn launch_alone(&self, launch: &Launch) {
        for tile in 0..launch.kernel.tiles {
            self.admitted();
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
        if tiles <= 1 || self.workers.is_empty() {
            // SAFETY: the contract of this function.
            return unsafe { self.launch_alone(launch) };
        }
        let shared = self.shared.clone();
        let (mut next, mut done) = (0, 0);
        while done != tiles {
            let word = self.admitted();
            let number = self.publish(launch, next, done, word.epoch);
            if !shared.active.load(Ordering::Relaxed) {
                self.wake();
            }
            let record = shared.record(number);
            // SAFETY: published by this thread, which does not publish again before it returns.
            unsafe { shared.work(record, 0) };
            let mut spins = 0;
            loop {
                done = record.done.0.load(Ordering::Acquire);
                if done == tiles {
                    return;
                }
                if Word::unpack(shared.word.0.load(Ordering::Acquire)).epoch != word.epoch {
                    // Preempted: once all have left, the counters stand still and the launch goes
                    // on from them.
                    shared.wait_until_left(number);
                    next = record.next.0.load(Ordering::Acquire).min(tiles);
                    done = record.done.0.load(Ordering::Acquire);
                    break;
                }
                pause(&mut spins);
            }
        }
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

/// The cores that this process may run on.
#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    // SAFETY: a set of cores is plain data, for which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as the size that is passed.
    let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if failed != 0 {
        return Vec::new();
    }
    // SAFETY: every number below the size of the set may be asked for.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Pins the calling thread to a core; without success it runs anywhere.
#[cfg(target_os = "linux")]
fn pin(core: usize) {
    // SAFETY: a set of cores is plain data, for which zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core is one that the system named, so it is within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is as large as the size that is passed.
    let _ = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
}

/// Elsewhere threads are not pinned.
#[cfg(not(target_os = "linux"))]
fn allowed_cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin(_core: usize) {}
