//! Mutations that know no format.

use super::INTERESTING;
use crate::generate::Rng;

/// Flips, overwrites, inserts, removes, repeats or cuts off bytes.
pub(super) fn mutate(mut input: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    if input.is_empty() {
        return vec![rng.bits() as u8];
    }
    let at = rng.below(input.len());
    let end = (at + 1 + rng.below(16)).min(input.len());
    match rng.below(8) {
        0 => input[at] ^= 1 << rng.below(8),
        1 => input[at] = rng.bits() as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => input.insert(at, rng.bits() as u8),
        5 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece.repeat(1 + rng.below(64)));
        }
        6 => {
            let number = rng.pick(&INTERESTING).to_le_bytes();
            let width = [1, 2, 4, 8][rng.below(4)].min(input.len() - at);
            input[at..at + width].copy_from_slice(&number[..width]);
        }
        _ => {
            let from = rng.below(input.len());
            let piece = input[from..(from + 64).min(input.len())].to_vec();
            input.splice(at..end, piece);
        }
    }
    input
}
