//! Mutations of `.npy` files: the header's text, its length, the data.

use crate::generate::Rng;

/// The bytes before the header's text.
const FIXED: usize = 10;

/// Changes the header, or lies about its length, or cuts the data.
pub(super) fn mutate(input: Vec<u8>, words: &[String], rng: &mut Rng) -> Vec<u8> {
    let Some((fixed, rest)) = input.split_at_checked(FIXED) else {
        return super::bytes::mutate(input, rng);
    };
    let length = usize::from(u16::from_le_bytes([fixed[8], fixed[9]])).min(rest.len());
    let (header, data) = rest.split_at(length);
    let mut fixed = fixed.to_vec();
    let mut header = header.to_vec();
    let mut data = data.to_vec();
    match rng.below(8) {
        0 => fixed[6] = rng.below(5) as u8,
        1 => fixed[8 + rng.below(2)] = rng.bits() as u8,
        2 => data.truncate(rng.below(data.len() + 1)),
        3 => data.resize(data.len() + rng.below(1000), 7),
        4 => header = String::from_utf8_lossy(&header).replace("False", "True").into_bytes(),
        _ => {
            header = super::text::mutate(header, words, rng);
            if rng.chance(7, 8) {
                let length = header.len().min(usize::from(u16::MAX)) as u16;
                fixed[8..].copy_from_slice(&length.to_le_bytes());
            }
        }
    }
    [fixed, header, data].concat()
}
