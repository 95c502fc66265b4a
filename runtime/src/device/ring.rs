//! The launches of one queue as its workers see them: the control word, and records in a ring.
//!
//! A record is used again only when no worker is in it: each worker announces the launch it is
//! about to enter and then looks whether the ring has moved past it. Either the worker sees that
//! and stays out, or whoever publishes sees the announcement and waits.
//!
//! The ring is made of [`Atomics`], so that a model checker can run this very code with its own.

use std::sync::atomic::Ordering;

use fermata_ir::tir::protocol::{LaunchMemory, Left, Turn, WORKER_LOOP, Word, Worker};
use fermata_passes::lower::plan::KernelId;

use super::Launch;
use super::atomics::{Atomics, Native, Number, Place};

pub use super::atomics::pause;

/// Launch records of a queue; a power of two.
pub const RING: u64 = 64;

/// A value on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
pub struct Line<T>(pub T);

/// A launch as workers see it.
struct Record<A: Atomics> {
    next: Line<A::Number>,
    done: Line<A::Number>,
    epoch: A::Number,
    tiles: A::Number,
    /// What is launched; written while no worker is in the record.
    launch: A::Place,
}

/// The counters of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tiles that were claimed.
    pub next: u64,
    /// Tiles that have ended.
    pub done: u64,
}

/// A worker's stay in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Why it left; `None` if the ring had moved past the launch before it came.
    pub left: Option<Left>,
    /// The tiles that it ran.
    pub tiles: u64,
    /// What it ran them of.
    pub kernel: Option<KernelId>,
}

/// The launches of a queue.
pub struct Ring<A: Atomics = Native> {
    /// The control word.
    word: Line<A::Number>,
    /// The number of the newest launch; the first is 1.
    published: Line<A::Number>,
    records: Box<[Record<A>]>,
    /// The launch that each worker is in, 0 for none.
    inside: Box<[Line<A::Number>]>,
}

// SAFETY: besides atomics there are the places of launches, which are written only when no worker
// is in their record; whoever publishes launches promises that other threads may use them.
unsafe impl<A: Atomics> Send for Ring<A> {}
// SAFETY: as above.
unsafe impl<A: Atomics> Sync for Ring<A> {}

impl Ring {
    /// A queue for so many slots, which admits all.
    pub fn new(slots: usize) -> Ring {
        Ring::with_records(slots, RING)
    }
}

impl<A: Atomics> Ring<A> {
    /// A queue for so many slots with so many records, a power of two and at least 2.
    pub fn with_records(slots: usize, records: u64) -> Ring<A> {
        let number = |n| A::Number::new(n);
        let record = |_| Record {
            next: Line(number(0)),
            done: Line(number(0)),
            epoch: number(0),
            tiles: number(0),
            launch: A::Place::new(),
        };
        Ring {
            word: Line(number(Word { epoch: 1, quota: u32::MAX }.pack())),
            published: Line(number(0)),
            records: (0..records).map(record).collect(),
            inside: (0..slots).map(|_| Line(number(0))).collect(),
        }
    }

    /// The word.
    pub fn word(&self) -> Word {
        Word::unpack(self.word.0.load(Ordering::Acquire))
    }

    /// Lets workers in slots below `quota` run, under a new epoch.
    pub fn set_quota(&self, quota: u32) {
        self.word.0.update(|bits| {
            let epoch = Word::unpack(bits).epoch.wrapping_add(1);
            Word { epoch, quota }.pack()
        });
    }

    /// Lets workers in slots below `quota` run, under the same epoch.
    pub fn change_quota(&self, quota: u32) {
        self.word.0.update(|bits| Word { quota, ..Word::unpack(bits) }.pack());
    }

    /// The number of the newest launch, 0 before the first.
    pub fn newest(&self) -> u64 {
        self.published.0.load(Ordering::Acquire)
    }

    /// How many launches have a record of their own.
    fn capacity(&self) -> u64 {
        self.records.len() as u64
    }

    fn record(&self, number: u64) -> &Record<A> {
        &self.records[(number & (self.capacity() - 1)) as usize]
    }

    /// The counters of a launch that is not used again meanwhile.
    pub fn counters(&self, number: u64) -> Counters {
        let record = self.record(number);
        let tiles = record.tiles.load(Ordering::Relaxed);
        let next = record.next.0.load(Ordering::Acquire).min(tiles);
        Counters { next, done: record.done.0.load(Ordering::Acquire) }
    }

    /// Whether a worker in a slot would find something to do in the newest launch.
    pub fn open(&self, slot: usize) -> bool {
        let number = self.newest();
        let record = self.record(number);
        number > 0
            && record.next.0.load(Ordering::Relaxed) < record.tiles.load(Ordering::Relaxed)
            && self.word().admits(record.epoch.load(Ordering::Relaxed) as u32, slot as u32)
    }

    /// Publishes a launch that goes on from these counters under an epoch, and gives its number.
    /// Only one thread publishes at a time.
    pub fn publish(&self, launch: &Launch, from: Counters, epoch: u32) -> u64 {
        let number = self.published.0.load(Ordering::Relaxed) + 1;
        self.wait_until_left(number.saturating_sub(self.capacity()));
        let record = self.record(number);
        record.next.0.store(from.next, Ordering::Relaxed);
        record.done.0.store(from.done, Ordering::Relaxed);
        record.epoch.store(u64::from(epoch), Ordering::Relaxed);
        record.tiles.store(launch.kernel.tiles, Ordering::Relaxed);
        // SAFETY: no worker is in the record, and none enters before the launch is published.
        unsafe { record.launch.set(*launch) };
        self.published.0.store(number, Ordering::SeqCst);
        number
    }

    /// The word, once it lets anybody run.
    pub fn admitted(&self) -> Word {
        let mut spins = 0;
        loop {
            let word = self.word();
            if word.quota > 0 {
                return word;
            }
            A::pause(&mut spins);
        }
    }

    /// Runs a launch to its end, the calling thread being the worker in slot 0: publishes it, and
    /// after each preemption again from its counters. `published` is told each time.
    ///
    /// # Safety
    /// The launch's pointers are valid, and this thread alone publishes and works in slot 0.
    pub unsafe fn run(&self, launch: &Launch, published: impl Fn()) {
        let tiles = launch.kernel.tiles;
        let mut from = Counters::default();
        while from.done != tiles {
            let epoch = self.admitted().epoch;
            let number = self.publish(launch, from, epoch);
            published();
            // SAFETY: published by this thread, which waits for the last tile before it returns.
            unsafe { self.work(number, 0, || true) };
            from = self.wait_for(number, tiles, epoch);
        }
    }

    /// Waits until a launch is over or preempted, and gives its counters.
    fn wait_for(&self, number: u64, tiles: u64, epoch: u32) -> Counters {
        let mut spins = 0;
        loop {
            let counters = self.counters(number);
            if counters.done == tiles {
                return counters;
            }
            if self.word().epoch != epoch {
                // Preempted: once all have left, the counters stand still and the launch goes on
                // from them.
                self.wait_until_left(number);
                return self.counters(number);
            }
            A::pause(&mut spins);
        }
    }

    /// Waits until no worker is in a launch up to `number`.
    pub fn wait_until_left(&self, number: u64) {
        A::fence();
        for inside in &self.inside {
            let mut spins = 0;
            while (1..=number).contains(&inside.0.load(Ordering::SeqCst)) {
                A::pause(&mut spins);
            }
        }
    }

    /// Whether the worker in a slot is in a launch.
    pub fn is_inside(&self, slot: usize) -> bool {
        self.inside[slot].0.load(Ordering::SeqCst) != 0
    }

    /// The number of tiles of a launch that is not used again meanwhile.
    pub fn tiles(&self, number: u64) -> u64 {
        self.record(number).tiles.load(Ordering::Relaxed)
    }

    /// The loop of the protocol: a worker enters a launch and runs tiles until none is left, the
    /// word says stop, or `stay` does; it looks at both before each tile.
    ///
    /// # Safety
    /// The pointers of the newest launches are valid until their last tile has ended, and no other
    /// thread works in this slot.
    pub unsafe fn work(&self, number: u64, slot: usize, stay: impl FnMut() -> bool) -> Visit {
        self.inside[slot].0.store(number, Ordering::SeqCst);
        A::fence();
        let visit = match self.published.0.load(Ordering::SeqCst) < number + self.capacity() - 1 {
            // SAFETY: announced before the look at the ring, so the record is kept.
            true => unsafe { self.record(number).work(&self.word.0, slot, stay) },
            false => Visit { left: None, tiles: 0, kernel: None },
        };
        self.inside[slot].0.store(0, Ordering::Release);
        visit
    }
}

impl<A: Atomics> Record<A> {
    /// # Safety
    /// As [`Ring::work`]; the record is not used again meanwhile.
    unsafe fn work(&self, word: &A::Number, slot: usize, stay: impl FnMut() -> bool) -> Visit {
        let tiles = self.tiles.load(Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed) as u32;
        // SAFETY: the record is not written while a worker is in it.
        let launch = unsafe { self.launch.get() };
        let mut memory = Shared { record: self, word, stay, tiles, epoch };
        let mut worker = Worker::new(slot as u32, None);
        let mut ran = 0;
        loop {
            match worker.step(&WORKER_LOOP, &mut memory) {
                Turn::Went => {}
                Turn::Run(tile) => {
                    // SAFETY: this thread alone claimed the tile, and it alone has the slot.
                    unsafe { launch.run_tile(slot, tile) };
                    ran += 1;
                }
                Turn::Left(left) => {
                    return Visit { left: Some(left), tiles: ran, kernel: Some(launch.kernel.id) };
                }
            }
        }
    }
}

/// A launch and the word as a worker thread shares them with others.
struct Shared<'r, A: Atomics, F> {
    record: &'r Record<A>,
    word: &'r A::Number,
    stay: F,
    tiles: u64,
    epoch: u32,
}

impl<A: Atomics, F: FnMut() -> bool> LaunchMemory for Shared<'_, A, F> {
    #[inline(always)]
    fn word(&mut self) -> Word {
        let word = Word::unpack(self.word.load(Ordering::Relaxed));
        // Whoever asks the worker away leaves no quota to it.
        if (self.stay)() { word } else { Word { quota: 0, ..word } }
    }

    #[inline(always)]
    fn epoch(&self) -> u32 {
        self.epoch
    }

    #[inline(always)]
    fn tiles(&self) -> u64 {
        self.tiles
    }

    #[inline(always)]
    fn claim(&mut self) -> u64 {
        self.record.next.0.add(1, Ordering::Relaxed)
    }

    #[inline(always)]
    fn count(&mut self) -> u64 {
        // Whoever ends the last tile has seen what all others wrote.
        self.record.done.0.add(1, Ordering::AcqRel) + 1
    }
}

#[cfg(test)]
mod tests;
