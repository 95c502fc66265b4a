//! Fuzzing of every reader by mutations that know the formats.
//!
//! An input is a function of the reader and a seed: a file that is well formed (a case, the
//! demo's model, one that is made here), changed in one to eight places by mutations of its
//! format. Whatever a reader makes of it must be a value or diagnostics: no panic, no abort, and
//! bounds on stack ([`STACK_BYTES`]), memory ([`limits`]) and time ([`SECONDS_PER_INPUT`]). A
//! value must pass on: what was read is inferred, verified, printed and read again.
//!
//! `testsuite fuzz` runs each reader in a process of its own, so that an input which ends the
//! process is known too, makes that input small and saves it. [`worker`] is that process.

mod command;
mod corpus;
pub mod limits;
mod minimise;
mod models;
mod mutate;
mod readers;
mod worker;

pub use command::{Args, command};
pub use corpus::Corpus;
pub use readers::Reader;
pub use worker::attempt;

use crate::generate::Rng;

/// The stack that a reader has, as a program's main thread does.
pub const STACK_BYTES: usize = 8 << 20;

/// How long a reader may take for one input.
pub const SECONDS_PER_INPUT: u64 = 10;

/// The largest input; mutations that copy stop there.
const MAX_INPUT: usize = 4 << 20;

/// The input of a seed.
pub fn input(corpus: &Corpus, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = rng.pick(&corpus.seeds).clone();
    // Now and then the seed itself: that it is read is what makes the others worth trying.
    for _ in 0..rng.below(6) {
        bytes = mutate::mutate(corpus, bytes, &mut rng);
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

/// The seed of an input of a run.
fn seed_of(run: u64, count: u64) -> u64 {
    Rng::new(run ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bits()
}
