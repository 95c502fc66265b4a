//! The launches of one queue as its workers see them: the control word, and records in a ring.
//!
//! A record is used again only when no worker is in it: each worker announces the launch it is
//! about to enter and then looks whether the ring has moved past it. Either the worker sees that
//! and stays out, or whoever publishes sees the announcement and waits.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use fermata_codegen::kernel::TileFn;
use fermata_ir::tir::protocol::Word;

use super::{BoundKernel, Launch};

/// Launch records; a power of two.
pub const RING: u64 = 64;

/// How often a waiting thread looks before it lets others have the core.
const SPINS_YIELD: u32 = 4_000;

/// A value on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
pub struct Line<T>(pub T);

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

/// The counters of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tiles that were claimed.
    pub next: u64,
    /// Tiles that have ended.
    pub done: u64,
}

/// Why a worker left a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It ran the last tile to end: the launch is over.
    Finished,
    /// All tiles are claimed.
    Exhausted,
    /// The word does not admit it, or it was asked away.
    Stopped,
    /// The ring had moved past the launch.
    Gone,
}

/// A worker's stay in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Why it left.
    pub left: Left,
    /// The tiles that it ran.
    pub tiles: u64,
}

/// The launches of a queue.
pub struct Ring {
    /// The control word.
    word: Line<AtomicU64>,
    /// The number of the newest launch; the first is 1.
    published: Line<AtomicU64>,
    records: Box<[Record]>,
    /// The launch that each worker is in, 0 for none.
    inside: Box<[Line<AtomicU64>]>,
}

impl Ring {
    /// A queue for so many slots, which admits all.
    pub fn new(slots: usize) -> Ring {
        Ring {
            word: Line(AtomicU64::new(Word { epoch: 1, quota: u32::MAX }.pack())),
            published: Line::default(),
            records: (0..RING).map(|_| Record::default()).collect(),
            inside: (0..slots).map(|_| Line::default()).collect(),
        }
    }

    /// The word.
    pub fn word(&self) -> Word {
        Word::unpack(self.word.0.load(Ordering::Acquire))
    }

    /// Lets workers in slots below `quota` run, under a new epoch.
    pub fn set_quota(&self, quota: u32) {
        let _ = self.word.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |bits| {
            let epoch = Word::unpack(bits).epoch.wrapping_add(1);
            Some(Word { epoch, quota }.pack())
        });
    }

    /// Lets workers in slots below `quota` run, under the same epoch.
    pub fn change_quota(&self, quota: u32) {
        let _ = self.word.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |bits| {
            Some(Word { quota, ..Word::unpack(bits) }.pack())
        });
    }

    /// The number of the newest launch, 0 before the first.
    pub fn newest(&self) -> u64 {
        self.published.0.load(Ordering::Acquire)
    }

    fn record(&self, number: u64) -> &Record {
        &self.records[(number % RING) as usize]
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
            && self.word().admits(record.epoch.load(Ordering::Relaxed), slot as u32)
    }

    /// Publishes a launch that goes on from these counters under an epoch, and gives its number.
    /// Only one thread publishes at a time.
    pub fn publish(&self, launch: &Launch, from: Counters, epoch: u32) -> u64 {
        let number = self.published.0.load(Ordering::Relaxed) + 1;
        self.wait_until_left(number.saturating_sub(RING));
        let record = self.record(number);
        record.next.0.store(from.next, Ordering::Relaxed);
        record.done.0.store(from.done, Ordering::Relaxed);
        record.epoch.store(epoch, Ordering::Relaxed);
        record.tiles.store(launch.kernel.tiles, Ordering::Relaxed);
        record.function.store(launch.kernel.function as *mut (), Ordering::Relaxed);
        record.imports.store(launch.kernel.imports.cast_mut().cast(), Ordering::Relaxed);
        record.buffers.store(launch.buffers.cast_mut().cast(), Ordering::Relaxed);
        record.scratch.store(launch.scratch, Ordering::Relaxed);
        record.scratch_stride.store(launch.scratch_stride, Ordering::Relaxed);
        self.published.0.store(number, Ordering::SeqCst);
        number
    }

    /// Waits until no worker is in a launch up to `number`.
    pub fn wait_until_left(&self, number: u64) {
        fence(Ordering::SeqCst);
        for inside in &self.inside {
            let mut spins = 0;
            while (1..=number).contains(&inside.0.load(Ordering::SeqCst)) {
                pause(&mut spins);
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
    pub unsafe fn work(&self, number: u64, slot: usize, mut stay: impl FnMut() -> bool) -> Visit {
        self.inside[slot].0.store(number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let visit = match self.published.0.load(Ordering::SeqCst) < number + RING - 1 {
            // SAFETY: announced before the look at the ring, so the record is kept.
            true => unsafe { self.record(number).work(&self.word.0, slot, &mut stay) },
            false => Visit { left: Left::Gone, tiles: 0 },
        };
        self.inside[slot].0.store(0, Ordering::Release);
        visit
    }
}

impl Record {
    /// # Safety
    /// As [`Ring::work`]; the record is not used again meanwhile.
    unsafe fn work(&self, word: &AtomicU64, slot: usize, stay: &mut impl FnMut() -> bool) -> Visit {
        let tiles = self.tiles.load(Ordering::Relaxed);
        let epoch = self.epoch.load(Ordering::Relaxed);
        let launch = self.launch();
        let mut ran = 0;
        let left = loop {
            if !Word::unpack(word.load(Ordering::Relaxed)).admits(epoch, slot as u32) || !stay() {
                break Left::Stopped;
            }
            let tile = self.next.0.fetch_add(1, Ordering::Relaxed);
            if tile >= tiles {
                break Left::Exhausted;
            }
            // SAFETY: this thread alone claimed the tile, and it alone has the slot.
            unsafe { launch.run_tile(slot, tile) };
            ran += 1;
            // Whoever ends the last tile has seen what all others wrote.
            if self.done.0.fetch_add(1, Ordering::AcqRel) + 1 == tiles {
                break Left::Finished;
            }
        };
        Visit { left, tiles: ran }
    }

    fn launch(&self) -> Launch {
        let function = self.function.load(Ordering::Relaxed);
        // SAFETY: the pointer was made from a tile function when the launch was published.
        let function = unsafe { std::mem::transmute::<*mut (), TileFn>(function) };
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

/// Waits a moment; lets others have the core from time to time.
pub fn pause(spins: &mut u32) {
    std::hint::spin_loop();
    *spins += 1;
    if spins.is_multiple_of(SPINS_YIELD) {
        std::thread::yield_now();
    }
}
