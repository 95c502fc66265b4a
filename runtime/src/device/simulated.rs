//! A virtual device: simulated workers run tiles in an order that a seed chooses.
//!
//! Each step of the simulation moves one worker by one transition of the protocol: look at the
//! word, claim a tile, run it, count it. The scheduler flips the word at random (preemption, a
//! smaller quota, resumption), and at the end every tile must have run exactly once. One thread
//! does all of it, so a seed gives the same interleaving every time.

use fermata_ir::tir::protocol::Word;

use super::{Device, Launch};

/// What a simulated worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in the launch.
    Left,
    /// Looks at the word.
    Check,
    /// Claims a tile.
    Claim,
    /// Runs its tile.
    Run(u64),
    /// Counts its tile.
    Count,
}

/// A virtual device.
#[derive(Debug)]
pub struct Simulated {
    workers: usize,
    random: u64,
    epoch: u32,
    /// One in so many steps flips the word; 0 is never.
    flip_every: u64,
    /// How often the word was flipped.
    pub flips: u64,
}

impl Simulated {
    /// A device of some workers whose interleaving the seed decides.
    pub fn new(workers: usize, seed: u64, flip_every: u64) -> Simulated {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Simulated { workers: workers.max(1), random, epoch: 1, flip_every, flips: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % n.max(1)
    }
}

impl Device for Simulated {
    fn slots(&self) -> usize {
        self.workers
    }

    /// # Panics
    /// If the protocol let a tile run twice or not at all.
    unsafe fn launch(&mut self, launch: &Launch) {
        let tiles = launch.kernel.tiles;
        let (mut next, mut done) = (0u64, 0u64);
        let mut ran = vec![0u32; tiles as usize];
        let mut word = Word { epoch: self.epoch, quota: self.workers as u32 };
        let mut epoch = word.epoch;
        let mut states = vec![State::Check; self.workers];
        while done != tiles {
            if self.flip_every > 0 && self.below(self.flip_every) == 0 {
                self.flips += 1;
                let quota = self.below(self.workers as u64 + 1) as u32;
                // A quota may change under the same epoch; an epoch ends when all must leave.
                let ends = quota == 0 || self.below(2) == 0;
                word = Word { epoch: word.epoch.wrapping_add(ends as u32), quota };
            }
            if states.iter().all(|state| *state == State::Left) {
                word = Word {
                    epoch: word.epoch.wrapping_add(1),
                    quota: 1 + self.below(self.workers as u64) as u32,
                };
                epoch = word.epoch;
                states.fill(State::Check);
            }
            let slot = self.below(self.workers as u64) as usize;
            states[slot] = match states[slot] {
                State::Left => State::Left,
                State::Check if word.admits(epoch, slot as u32) => State::Claim,
                State::Check => State::Left,
                State::Claim => {
                    next += 1;
                    if next > tiles { State::Left } else { State::Run(next - 1) }
                }
                State::Run(tile) => {
                    // SAFETY: the simulation is one thread, and this slot's worker runs one tile.
                    unsafe { launch.run_tile(slot, tile) };
                    ran[tile as usize] += 1;
                    State::Count
                }
                State::Count => {
                    done += 1;
                    State::Check
                }
            };
        }
        self.epoch = word.epoch.wrapping_add(1);
        assert!(ran.iter().all(|&n| n == 1), "the protocol runs every tile exactly once");
    }
}
