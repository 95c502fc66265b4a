//! A virtual device: simulated workers run tiles in an order that a seed chooses.
//!
//! Each step of the simulation moves one worker by one step of its loop, which is the protocol's
//! ([`Worker::step`]): look at the word, claim a tile, run it, count it; of some launches the
//! workers claim ahead and park. The word is flipped at random (preemption, another quota,
//! resumption), and at the end every tile must have run exactly once. One thread does all of it,
//! so a seed gives the same interleaving every time. A device that watches a program keeps shadow
//! memory too ([`shadow`]).
//!
//! What a seed cannot show, a search can: [`explore`] tries every interleaving of small kernels
//! under the same loop, and [`model`] holds what broken variants of the protocol do.

pub mod explore;
pub mod model;
pub mod shadow;
mod state;

use std::sync::{Arc, Mutex, MutexGuard};

use fermata_ir::entity::EntityRef;
use fermata_ir::tir::protocol::{LOOK_AHEAD_LOOP, LaunchMemory, Turn, WORKER_LOOP, Word, Worker, WorkerLoop};
use fermata_passes::lower::plan::Program;

use self::model::{Check, Violation, violation};
use self::shadow::{Shadow, Watched};
use super::{Device, Launch};

/// What a virtual device saw.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Launches that ran.
    pub launches: u64,
    /// Tiles that ran.
    pub tiles: u64,
    /// How often the word was flipped.
    pub flips: u64,
    /// Tiles that were parked.
    pub parked: u64,
    /// The first check that did not hold.
    pub violation: Option<Violation>,
}

/// Where a virtual device tells what it saw.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Findings>>);

impl Log {
    /// What was seen so far.
    pub fn findings(&self) -> Findings {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A virtual device.
#[derive(Debug)]
pub struct Simulated {
    workers: usize,
    random: u64,
    epoch: u32,
    /// One in so many steps flips the word; 0 is never.
    flip_every: u64,
    /// What is known of the program's kernels, by their number; nothing if it is not watched.
    watched: Vec<Watched>,
    log: Log,
}

impl Simulated {
    /// A device of some workers whose interleaving the seed decides.
    pub fn new(workers: usize, seed: u64, flip_every: u64) -> Simulated {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let workers = workers.max(1);
        Simulated { workers, random, epoch: 1, flip_every, watched: Vec::new(), log: Log::default() }
    }

    /// Keeps shadow memory of what tiles of this program's kernels write.
    pub fn watching(mut self, program: &Program) -> Simulated {
        self.watched = program.kernels.values().map(|kernel| Watched::new(&kernel.func)).collect();
        self
    }

    /// Where it tells what it saw.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % n.max(1)
    }

    /// Another word: a quota may change under the same epoch, but the epoch ends when all must
    /// leave.
    fn flipped(&mut self, word: Word) -> Word {
        let quota = self.below(self.workers as u64 + 1) as u32;
        let ends = quota == 0 || self.below(2) == 0;
        Word { epoch: word.epoch.wrapping_add(u32::from(ends)), quota }
    }

    /// The word under which a launch goes on: its quota admits every slot with a parked tile.
    fn resumed(&mut self, word: Word, parked: &[Option<u64>]) -> Word {
        let least = parked.iter().rposition(Option::is_some).map_or(1, |slot| slot as u64 + 1);
        let quota = least + self.below(self.workers as u64 - least + 1);
        Word { epoch: word.epoch.wrapping_add(1), quota: quota as u32 }
    }

    /// Moves workers until all tiles are counted; gives how often each tile ran.
    ///
    /// # Safety
    /// As [`Device::launch`].
    unsafe fn interleave(&mut self, launch: &Launch, shadow: &mut Option<Shadow>) -> Vec<u32> {
        let shape = if self.below(2) == 0 { &WORKER_LOOP } else { &LOOK_AHEAD_LOOP };
        let tiles = launch.kernel.tiles;
        let word = Word { epoch: self.epoch, quota: self.workers as u32 };
        let mut memory = Memory { word, epoch: word.epoch, tiles, next: 0, done: 0 };
        let mut ran = vec![0u32; tiles as usize];
        let mut workers = Workers::new(self.workers);
        while memory.done != tiles {
            if self.flip_every > 0 && self.below(self.flip_every) == 0 {
                self.log.lock().flips += 1;
                memory.word = self.flipped(memory.word);
            }
            if workers.inside.iter().all(Option::is_none) {
                memory.word = self.resumed(memory.word, &workers.parked);
                memory.epoch = memory.word.epoch;
                workers.enter();
            }
            let slot = self.below(self.workers as u64) as usize;
            let Some(tile) = workers.step(slot, shape, &mut memory) else { continue };
            // SAFETY: the simulation is one thread, and this slot's worker runs one tile.
            unsafe { launch.run_tile(slot, tile) };
            ran[tile as usize] += 1;
            let seen = shadow.as_mut().map_or(Ok(()), |shadow| shadow.ran(tile));
            self.note(seen);
        }
        self.log.lock().parked += workers.times_parked;
        self.epoch = memory.word.epoch.wrapping_add(1);
        ran
    }

    /// Keeps the first violation.
    fn note(&self, seen: Result<(), Violation>) {
        if let Err(violation) = seen {
            self.log.lock().violation.get_or_insert(violation);
        }
    }
}

impl Device for Simulated {
    fn slots(&self) -> usize {
        self.workers
    }

    /// # Panics
    /// If a program that is not watched has a tile run twice or not at all.
    unsafe fn launch(&mut self, launch: &Launch) {
        let watched = self.watched.get(launch.kernel.id.index());
        // SAFETY: the launch's buffers are those of its kernel, by the contract.
        let mut shadow = watched.map(|kernel| unsafe { kernel.shadow(launch) });
        // SAFETY: the contract of this function.
        let ran = unsafe { self.interleave(launch, &mut shadow) };
        let once = match ran.iter().position(|&n| n != 1) {
            None => Ok(()),
            Some(tile) => Err(violation(Check::ExactlyOnce, format!("tile {tile} ran {} times", ran[tile]))),
        };
        assert!(shadow.is_some() || once.is_ok(), "the protocol runs every tile exactly once");
        self.note(once);
        drop(shadow);
        let mut log = self.log.lock();
        log.launches += 1;
        log.tiles += launch.kernel.tiles;
    }
}

/// The workers of a launch, by slot.
struct Workers {
    inside: Vec<Option<Worker>>,
    parked: Vec<Option<u64>>,
    times_parked: u64,
}

impl Workers {
    fn new(slots: usize) -> Workers {
        let mut workers = Workers { inside: vec![None; slots], parked: vec![None; slots], times_parked: 0 };
        workers.enter();
        workers
    }

    /// Every slot has a worker, which takes what is parked there.
    fn enter(&mut self) {
        for (slot, (inside, parked)) in self.inside.iter_mut().zip(&mut self.parked).enumerate() {
            *inside = Some(Worker::new(slot as u32, parked.take()));
        }
    }

    /// One worker takes a step; the tile that it is to run.
    fn step(&mut self, slot: usize, shape: &WorkerLoop, memory: &mut Memory) -> Option<u64> {
        let worker = self.inside[slot].as_mut()?;
        match worker.step(shape, memory) {
            Turn::Went => None,
            Turn::Run(tile) => Some(tile),
            Turn::Left(_) => {
                self.parked[slot] = worker.parked(shape);
                self.times_parked += u64::from(self.parked[slot].is_some());
                self.inside[slot] = None;
                None
            }
        }
    }
}

/// The word and the counters of a launch.
struct Memory {
    word: Word,
    epoch: u32,
    tiles: u64,
    next: u64,
    done: u64,
}

impl LaunchMemory for Memory {
    fn word(&mut self) -> Word {
        self.word
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn tiles(&self) -> u64 {
        self.tiles
    }

    fn claim(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn count(&mut self) -> u64 {
        self.done += 1;
        self.done
    }
}
