//! Mutations of protobuf messages, by their fields.
//!
//! Which fields are messages is ONNX's schema; everything else is numbers and bytes.

use super::INTERESTING;
use crate::generate::Rng;
use crate::onnx::{Field, Payload, encode};

/// The messages of a model, with the fields that are messages: number and kind.
const SCHEMA: [(Kind, &[(u64, Kind)]); 10] = [
    (Kind::Model, &[(7, Kind::Graph), (8, Kind::Leaf), (25, Kind::Function), (14, Kind::Leaf)]),
    (
        Kind::Graph,
        &[(1, Kind::Node), (5, Kind::Tensor), (11, Kind::Value), (12, Kind::Value), (13, Kind::Value)],
    ),
    (Kind::Node, &[(5, Kind::Attribute)]),
    (Kind::Attribute, &[(5, Kind::Tensor), (6, Kind::Graph), (11, Kind::Graph)]),
    (Kind::Tensor, &[(13, Kind::Leaf), (3, Kind::Leaf)]),
    (Kind::Value, &[(2, Kind::Type)]),
    (Kind::Type, &[(1, Kind::TensorType), (4, Kind::Leaf), (9, Kind::Leaf)]),
    (Kind::TensorType, &[(2, Kind::Shape)]),
    (Kind::Shape, &[(1, Kind::Leaf)]),
    (Kind::Function, &[(7, Kind::Node), (9, Kind::Leaf), (11, Kind::Attribute)]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Function,
    Leaf,
}

/// How deep messages are taken apart.
const MAX_DEPTH: usize = 16;

/// Changes a field and writes all anew.
pub(super) fn mutate(input: Vec<u8>, words: &[String], rng: &mut Rng) -> Vec<u8> {
    let Some(mut fields) = decode(&input, Kind::Model, 0) else {
        return super::bytes::mutate(input, rng);
    };
    let names = texts(&fields);
    let depth = 1 + rng.below(8);
    change(&mut fields, &names, words, depth, rng);
    encode(&fields)
}

/// Changes a field of the message, or one deeper in it.
fn change(fields: &mut Vec<Field>, names: &[Vec<u8>], words: &[String], depth: usize, rng: &mut Rng) {
    if fields.is_empty() {
        fields.push(Field { number: 1 + rng.below(14) as u64, payload: Payload::Varint(1) });
        return;
    }
    // Which number first, so that a thousand nodes do not hide the rest.
    let mut numbers: Vec<u64> = fields.iter().map(|f| f.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let number = *rng.pick(&numbers);
    let places: Vec<usize> = (0..fields.len()).filter(|&i| fields[i].number == number).collect();
    let at = *rng.pick(&places);
    if let (Payload::Message(inner), true) = (&mut fields[at].payload, depth > 0) {
        return change(inner, names, words, depth - 1, rng);
    }
    let other = rng.below(fields.len());
    match rng.below(10) {
        0 => drop(fields.remove(at)),
        1 => {
            let copies = vec![fields[at].clone(); *rng.pick(&[1, 1, 2, 200])];
            fields.splice(other..other, copies);
        }
        2 => fields.swap(at, other),
        3 => fields[at].payload = fields[other].payload.clone(),
        4 if rng.chance(1, 2) => fields[at].number = *rng.pick(&[0, 1, 2, 4, 5, 6, 7, 9, 13, 14, 1 << 29]),
        5 if rng.chance(1, 4) => nest(&mut fields[at], *rng.pick(&[1, 10, 200, 3000])),
        _ => value(&mut fields[at].payload, names, words, rng),
    }
}

/// Gives a field another value.
fn value(payload: &mut Payload, names: &[Vec<u8>], words: &[String], rng: &mut Rng) {
    match payload {
        Payload::Varint(n) if rng.chance(1, 3) => *n = n.wrapping_add(rng.between(-2, 2) as u64),
        Payload::Varint(n) => *n = *rng.pick(&INTERESTING),
        Payload::Fixed32(bytes) => *bytes = (rng.bits() as u32).to_le_bytes(),
        Payload::Fixed64(bytes) => *bytes = rng.pick(&INTERESTING).to_le_bytes(),
        Payload::Bytes(bytes) => match rng.below(6) {
            0 | 1 if !names.is_empty() => bytes.clone_from(rng.pick(names)),
            2 | 3 => *bytes = rng.pick(words).clone().into_bytes(),
            4 if bytes.len() >= 8 => {
                let at = rng.below(bytes.len() / 8) * 8;
                bytes[at..at + 8].copy_from_slice(&rng.pick(&INTERESTING).to_le_bytes());
            }
            _ => *bytes = super::bytes::mutate(std::mem::take(bytes), rng),
        },
        Payload::Message(fields) => fields.clear(),
    }
}

/// Puts a message inside messages of its own number.
fn nest(field: &mut Field, depth: usize) {
    for _ in 0..depth {
        let inner = encode(std::slice::from_ref(field));
        field.payload = Payload::Bytes(inner);
    }
}

/// Some short texts of a message: the names that its parts call one another by.
fn texts(fields: &[Field]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut stack: Vec<&Field> = fields.iter().collect();
    while let Some(field) = stack.pop() {
        match &field.payload {
            Payload::Bytes(bytes) if bytes.len() < 40 => found.push(bytes.clone()),
            Payload::Message(inner) => stack.extend(inner),
            Payload::Bytes(_) | Payload::Varint(_) | Payload::Fixed32(_) | Payload::Fixed64(_) => {}
        }
        if found.len() >= 256 {
            break;
        }
    }
    found
}

fn decode(mut input: &[u8], kind: Kind, depth: usize) -> Option<Vec<Field>> {
    let messages = SCHEMA.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, fields)| fields);
    let mut fields = Vec::new();
    while !input.is_empty() {
        let tag = take_varint(&mut input)?;
        let number = tag >> 3;
        let payload = match tag & 7 {
            0 => Payload::Varint(take_varint(&mut input)?),
            1 => Payload::Fixed64(*take_chunk(&mut input)?),
            5 => Payload::Fixed32(*take_chunk(&mut input)?),
            2 => {
                let length = usize::try_from(take_varint(&mut input)?).ok()?;
                let (bytes, rest) = input.split_at_checked(length)?;
                input = rest;
                let inner = messages.iter().find(|(n, _)| *n == number && depth < MAX_DEPTH);
                let inner = inner.and_then(|(_, kind)| decode(bytes, *kind, depth + 1));
                inner.map_or_else(|| Payload::Bytes(bytes.to_vec()), Payload::Message)
            }
            _ => return None,
        };
        fields.push(Field { number, payload });
    }
    Some(fields)
}

fn take_chunk<'a, const N: usize>(input: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(chunk)
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
