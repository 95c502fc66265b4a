//! Text to the inputs of an encoder: BERT's tokenizer.
//!
//! A text is normalised (control characters dropped, accents and case too where the tokenizer
//! says so), split at blanks, punctuation and Chinese characters, and each word is cut into
//! the longest pieces that the vocabulary has (WordPiece). [`Tokenizer::read`] takes what it
//! needs from `tokenizer.json`, or from `vocab.txt` and `tokenizer_config.json` where there is
//! none. A text is only ever text: `[SEP]` in it is three words.

mod load;
mod normalize;
mod wordpiece;

use std::path::Path;

use crate::diag::{Code, Diagnostic};
use crate::front::hf::INPUTS;
use crate::tensor::Tensor;

use normalize::Normalizer;
use wordpiece::WordPiece;

/// The tokenizer of a checkpoint.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    normalizer: Normalizer,
    pieces: WordPiece,
    special: Special,
    max_length: usize,
}

/// The tokens around a text.
#[derive(Clone, Copy, Debug)]
struct Special {
    /// Before a text.
    first: u32,
    /// After it.
    last: u32,
    /// Beyond it, where another text of the batch is longer.
    pad: u32,
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint's folder.
    ///
    /// # Errors
    /// If its files are missing or malformed, or ask for what is not supported.
    pub fn read(dir: &Path) -> Result<Tokenizer, Diagnostic> {
        load::read(dir)
    }

    /// The most tokens that a text is given; what is longer is cut.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The tokens of a text, with those around it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let room = self.max_length.saturating_sub(2);
        let mut tokens = vec![self.special.first];
        for word in normalize::words(&self.normalizer.apply(text)) {
            if tokens.len() > room {
                break;
            }
            self.pieces.split(word, &mut tokens);
        }
        tokens.truncate(room + 1);
        tokens.push(self.special.last);
        tokens
    }

    /// Texts as the encoder's inputs, by name: each of `int64[texts, length]`, where the length
    /// is the longest text's if none is given.
    ///
    /// # Errors
    /// If a text has more tokens than `length`.
    pub fn batch(
        &self,
        texts: &[String],
        length: Option<usize>,
    ) -> Result<Vec<(&'static str, Tensor)>, Diagnostic> {
        let encoded: Vec<Vec<u32>> = texts.iter().map(|text| self.encode(text)).collect();
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(0);
        let length = length.unwrap_or(longest);
        if longest > length {
            let message = format!("a text has {longest} tokens, but `seq` is bound to {length}");
            return Err(Diagnostic::error(Code::USAGE, message)
                .help(format!("give --dim seq={longest} or more, or leave it out")));
        }
        let mut ids = Vec::new();
        let mut mask = Vec::new();
        for tokens in &encoded {
            let padding = length - tokens.len();
            ids.extend(tokens.iter().map(|&t| i64::from(t)));
            ids.extend(std::iter::repeat_n(i64::from(self.special.pad), padding));
            mask.extend(std::iter::repeat_n(1i64, tokens.len()));
            mask.extend(std::iter::repeat_n(0i64, padding));
        }
        let kinds = vec![0i64; ids.len()];
        let shape = [texts.len(), length];
        let tensors = [ids, mask, kinds].map(|data| Tensor::from_slice(&shape, &data));
        let too_large = |e: crate::tensor::TensorError| Diagnostic::error(Code::USAGE, e.to_string());
        INPUTS.into_iter().zip(tensors).map(|(name, tensor)| Ok((name, tensor.map_err(too_large)?))).collect()
    }
}

#[cfg(test)]
mod tests;
