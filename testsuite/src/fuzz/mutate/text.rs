//! Mutations of texts by tokens: for Relay, TIR, JSON and pipelines alike.

use super::INTERESTING;
use crate::generate::Rng;

/// How deep nests are made.
const DEPTHS: [usize; 5] = [1, 2, 60, 1000, 30_000];

/// The most bytes of a text that is mutated again, and of what a mutation repeats: mutations of
/// mutations must not grow without bound.
const MAX_TEXT: usize = 1 << 20;

/// What opens and what closes a nest.
const NESTS: [(&str, &str); 16] = [
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("((", ",),)"),
    ("-", ""),
    ("if (True) { 1 } else { ", " }"),
    ("let %x = 1; ", ""),
    ("let %x = { ", " }; %x"),
    ("fn () { ", " }"),
    ("add(", ", 1)"),
    ("Tensor[(", "), float32]"),
    ("fn (", ") -> int32"),
    ("/* ", " */"),
    ("{\"a\":", "}"),
    ("1 + ", ""),
    ("T.Select(True, ", ", 0)"),
];

/// Deletes, repeats, swaps, replaces or wraps tokens.
pub(super) fn mutate(input: Vec<u8>, words: &[String], rng: &mut Rng) -> Vec<u8> {
    let Some(text) = String::from_utf8(input.clone()).ok().filter(|text| text.len() <= MAX_TEXT) else {
        return super::bytes::mutate(input, rng);
    };
    let mut tokens = tokens(&text);
    if tokens.is_empty() {
        return rng.pick(words).clone().into_bytes();
    }
    let at = rng.below(tokens.len());
    let other = rng.below(tokens.len());
    let some = (at + 1 + rng.below(8)).min(tokens.len());
    match rng.below(12) {
        0 => drop(tokens.drain(at..some)),
        1 => {
            let piece = tokens[at..some].to_vec();
            let bytes: usize = piece.iter().map(|token| token.len()).sum();
            let times = (*rng.pick(&[1, 1, 2, 5, 300])).min(MAX_TEXT / bytes.max(1));
            let repeated = piece.iter().cycle().take(piece.len() * times).copied();
            tokens.splice(other..other, repeated.collect::<Vec<_>>());
        }
        2 => tokens.swap(at, other),
        3 => tokens[at] = tokens[other],
        4 => return spliced(&tokens, at..at + 1, &rng.pick(words).clone()),
        5 => return spliced(&tokens, at..at, &format!(" {} ", rng.pick(words))),
        6 | 7 => {
            let place = number_near(&tokens, at).unwrap_or(at);
            return spliced(&tokens, place..place + 1, &number(rng));
        }
        8 => {
            let (open, close) = rng.pick(&NESTS);
            let depth = *rng.pick(&DEPTHS);
            let inner = tokens[at..some].concat();
            let close = if rng.chance(1, 4) { String::new() } else { close.repeat(depth) };
            return spliced(&tokens, at..some, &format!("{}{inner}{close}", open.repeat(depth)));
        }
        9 => return lines(&text, rng),
        10 => {
            let times = (*rng.pick(&[2, 100, 20_000])).min(MAX_TEXT / tokens[at].len().max(1));
            let long = tokens[at].repeat(times);
            return spliced(&tokens, at..at + 1, &long);
        }
        _ => tokens.truncate(at),
    }
    tokens.concat().into_bytes()
}

/// The text with another in place of some tokens.
fn spliced(tokens: &[&str], range: std::ops::Range<usize>, text: &str) -> Vec<u8> {
    [&tokens[..range.start].concat(), text, &tokens[range.end..].concat()].concat().into_bytes()
}

/// Repeats, drops or swaps a line.
fn lines(text: &str, rng: &mut Rng) -> Vec<u8> {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (at, other) = (rng.below(lines.len()), rng.below(lines.len()));
    match rng.below(3) {
        0 => lines.insert(other, lines[at]),
        1 => drop(lines.remove(at)),
        _ => lines.swap(at, other),
    }
    lines.concat().into_bytes()
}

/// A number as it should not be.
fn number(rng: &mut Rng) -> String {
    let n = *rng.pick(&INTERESTING);
    match rng.below(6) {
        0 => format!("-{n}"),
        1 => format!("{}", n as i64),
        2 => format!("{n}{n}"),
        3 => format!("{n}.5e{}", rng.below(400)),
        _ => n.to_string(),
    }
}

/// The place of a number among the tokens that follow.
fn number_near(tokens: &[&str], at: usize) -> Option<usize> {
    let is_number = |token: &&str| token.starts_with(|c: char| c.is_ascii_digit());
    let after = tokens[at..].iter().position(is_number).map(|i| at + i);
    after.or_else(|| tokens.iter().position(is_number))
}

/// The pieces of a text: words with what may stand in them, blanks, single signs.
fn tokens(text: &str) -> Vec<&str> {
    let class = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '%' | '@' => 1,
        c if c.is_whitespace() && c != '\n' => 2,
        _ => 0,
    };
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut last = 0;
    for (at, c) in text.char_indices() {
        let this = class(c);
        if at > start && (this == 0 || this != last) {
            tokens.push(&text[start..at]);
            start = at;
        }
        last = this;
    }
    tokens.extend((start < text.len()).then(|| &text[start..]));
    tokens
}
