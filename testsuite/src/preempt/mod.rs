//! Correct under preemption: every interleaving of small kernels, random ones of whole models,
//! and broken variants of the protocol that the checks must catch.
//!
//! - [`small`]: kernels of a few tiles whose interleavings are all tried, the word flipped
//!   wherever it is read.
//! - [`blocks`]: the loop of a GPU's block under the evaluator, the word flipped at each of its reads.
//! - [`models`]: whole models on the virtual device, with shadow memory.
//! - [`mutants`]: what each broken variant does, and which check catches it.

pub mod blocks;
pub mod models;
pub mod mutants;
pub mod small;
