//! Mutations of safetensors files: the header's JSON, its length, the data.

use super::INTERESTING;
use crate::generate::Rng;

/// Changes the header, or lies about its length, or cuts the data.
pub(super) fn mutate(input: Vec<u8>, words: &[String], rng: &mut Rng) -> Vec<u8> {
    let Some((length, rest)) = input.split_first_chunk::<8>() else {
        return super::bytes::mutate(input, rng);
    };
    let claimed = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
    let (header, data) = rest.split_at(claimed);
    let mut length = *length;
    let mut header = header.to_vec();
    let mut data = data.to_vec();
    match rng.below(8) {
        0 => length = rng.pick(&INTERESTING).to_le_bytes(),
        1 => data.truncate(rng.below(data.len() + 1)),
        2 => data.resize(data.len() + rng.below(1000), 7),
        _ => {
            header = super::text::mutate(header, words, rng);
            if rng.chance(15, 16) {
                length = (header.len() as u64).to_le_bytes();
            }
        }
    }
    [&length[..], &header, &data].concat()
}
