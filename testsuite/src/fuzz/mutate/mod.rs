//! Mutations: every format has its own, and all share those of bytes.

mod bytes;
mod npy;
mod proto;
mod safetensors;
mod text;
mod zip;

use super::{Corpus, Reader};
use crate::generate::Rng;

/// Integers at which sizes, indices and lengths go wrong.
const INTERESTING: [u64; 22] = [
    0,
    1,
    2,
    7,
    64,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    1_000_000,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes one thing.
pub(super) fn mutate(corpus: &Corpus, input: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    if rng.chance(1, 8) {
        return bytes::mutate(input, rng);
    }
    match corpus.reader {
        Reader::Onnx => proto::mutate(input, &corpus.words, rng),
        Reader::Relay | Reader::Metadata | Reader::Tir | Reader::Pipeline => {
            text::mutate(input, &corpus.words, rng)
        }
        Reader::Npz | Reader::Artifact => zip::mutate(input, &corpus.words, rng),
        Reader::Npy => npy::mutate(input, &corpus.words, rng),
        Reader::Safetensors => safetensors::mutate(input, &corpus.words, rng),
    }
}
