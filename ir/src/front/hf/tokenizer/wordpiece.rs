//! WordPiece: a word as the longest pieces of a vocabulary (Wu et al., 2016).

use std::collections::BTreeMap;

/// A vocabulary of pieces.
#[derive(Clone, Debug)]
pub(super) struct WordPiece {
    /// Token by piece; pieces inside of words have the prefix.
    pub vocab: BTreeMap<Box<str>, u32>,
    /// What is in front of a piece that does not begin a word: `##`.
    pub prefix: Box<str>,
    /// The token of a word that cannot be cut.
    pub unknown: u32,
    /// Words of more characters are unknown.
    pub max_chars: usize,
}

impl WordPiece {
    /// Appends the tokens of a word.
    pub fn split(&self, word: &str, tokens: &mut Vec<u32>) {
        let before = tokens.len();
        let mut rest = word;
        let mut piece = String::new();
        let too_long = word.chars().nth(self.max_chars).is_some();
        while !rest.is_empty() {
            let prefix = if rest.len() == word.len() { "" } else { &*self.prefix };
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
            let longest = ends.map(|end| (end, &rest[..end])).find_map(|(end, text)| {
                piece.clear();
                piece.extend([prefix, text]);
                Some((end, *self.vocab.get(&*piece)?))
            });
            match longest.filter(|_| !too_long) {
                Some((end, token)) => {
                    tokens.push(token);
                    rest = &rest[end..];
                }
                None => {
                    tokens.truncate(before);
                    tokens.push(self.unknown);
                    return;
                }
            }
        }
    }
}
