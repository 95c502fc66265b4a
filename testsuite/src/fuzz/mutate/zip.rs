//! Mutations of zip files: what is in an entry, the entries, and what headers say of them.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::INTERESTING;
use crate::generate::Rng;

/// The most bytes of an entry that are looked at.
const MAX_ENTRY: u64 = 1 << 20;

/// Changes an entry and packs all anew, or changes a header in place.
pub(super) fn mutate(input: Vec<u8>, words: &[String], rng: &mut Rng) -> Vec<u8> {
    if rng.chance(1, 3) {
        return header(input, rng);
    }
    match unpack(&input) {
        Some(entries) if !entries.is_empty() => pack(&changed(entries, words, rng), rng).unwrap_or(input),
        _ => super::bytes::mutate(input, rng),
    }
}

type Entry = (String, Vec<u8>);

fn unpack(input: &[u8]) -> Option<Vec<Entry>> {
    let mut archive = ZipArchive::new(Cursor::new(input)).ok()?;
    (0..archive.len().min(64))
        .map(|i| {
            let entry = archive.by_index(i).ok()?;
            let name = entry.name().ok()?.into_owned();
            let mut bytes = Vec::new();
            entry.take(MAX_ENTRY).read_to_end(&mut bytes).ok()?;
            Some((name, bytes))
        })
        .collect()
}

fn changed(mut entries: Vec<Entry>, words: &[String], rng: &mut Rng) -> Vec<Entry> {
    let at = rng.below(entries.len());
    match rng.below(10) {
        0 => drop(entries.remove(at)),
        1 => entries[at].0 = rng.pick(&["../x.npy", "/x.npy", "", "plan.json", "x\\y", "a/b/c"]).to_string(),
        2 => {
            let copy = (format!("{}2", entries[at].0), entries[at].1.clone());
            entries.push(copy);
        }
        3 => {
            let other = rng.below(entries.len());
            entries[at].1 = entries[other].1.clone();
        }
        _ => {
            let (name, bytes) = &mut entries[at];
            let old = std::mem::take(bytes);
            *bytes = match name.rsplit('.').next() {
                Some("npy") => super::npy::mutate(old, words, rng),
                Some("safetensors") => super::safetensors::mutate(old, words, rng),
                Some("json" | "tir" | "relay") => super::text::mutate(old, words, rng),
                _ => super::bytes::mutate(old, rng),
            };
        }
    }
    entries
}

/// Weights are stored as they are, as the reader of artifacts wants them, but for a few.
fn pack(entries: &[Entry], rng: &mut Rng) -> Option<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let stored = name.ends_with("safetensors") != rng.chance(1, 32);
        let method = if stored { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let options = SimpleFileOptions::default().compression_method(method).with_alignment(8);
        zip.start_file(name.clone(), options).ok()?;
        zip.write_all(bytes).ok()?;
    }
    Some(zip.finish().ok()?.into_inner())
}

/// A signature, and the offset and width of each number of the header that it begins.
type Header = (&'static [u8; 4], &'static [(usize, usize)]);

/// Local headers, entries of the directory, its end.
const HEADERS: [Header; 3] = [
    (b"PK\x03\x04", &[(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]),
    (b"PK\x01\x02", &[(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)]),
    (b"PK\x05\x06", &[(4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
];

/// Overwrites a number of a header.
fn header(mut input: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let (signature, numbers) = rng.pick(&HEADERS);
    let places: Vec<usize> =
        input.windows(4).enumerate().filter(|(_, w)| w == signature).map(|(at, _)| at).collect();
    if places.is_empty() {
        return super::bytes::mutate(input, rng);
    }
    let (offset, width) = *rng.pick(numbers);
    let at = *rng.pick(&places) + offset;
    let number = rng.pick(&INTERESTING).to_le_bytes();
    if let Some(place) = input.get_mut(at..at + width) {
        place.copy_from_slice(&number[..width]);
    }
    input
}
