//! A tokenizer from the files of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::normalize::Normalizer;
use super::wordpiece::WordPiece;
use super::{Special, Tokenizer};
use crate::diag::{Code, Diagnostic};
use crate::front::hf::config::Config;
use crate::front::hf::{json_file, malformed, small_file};

const JSON: &str = "tokenizer.json";
const VOCAB: &str = "vocab.txt";

/// The longest word that a vocabulary without `tokenizer.json` cuts.
const MAX_CHARS: usize = 100;

/// Reads the tokenizer of a folder.
pub(super) fn read(dir: &Path) -> Result<Tokenizer, Diagnostic> {
    let config = Config::read(dir)?;
    let json = json_file(dir, JSON)?;
    let (name, normalizer, vocab, rest) = match &json {
        Some(json) => {
            let model = model(dir, json)?;
            (JSON, normalizer(dir, json)?, json_vocab(dir, model)?, Rest::of(model))
        }
        None => (VOCAB, config_normalizer(dir)?, text_vocab(dir)?, Rest::default()),
    };
    if let Some((piece, token)) = vocab.iter().find(|(_, token)| **token as usize >= config.vocab) {
        let what = format!("gives `{piece}` the token {token}, but there are {} embeddings", config.vocab);
        return Err(malformed(dir, name, what));
    }
    let token = |piece: &str| {
        vocab.get(piece).copied().ok_or_else(|| malformed(dir, name, format!("has no token `{piece}`")))
    };
    let special = Special { first: token("[CLS]")?, last: token("[SEP]")?, pad: token("[PAD]")? };
    let unknown = token(&rest.unknown)?;
    let max_length = max_length(dir, json.as_ref(), &config)?;
    let pieces = WordPiece { vocab, prefix: rest.prefix.into(), unknown, max_chars: rest.max_chars };
    Ok(Tokenizer { normalizer, pieces, special, max_length })
}

/// What a model of `tokenizer.json` says beside its vocabulary.
struct Rest {
    prefix: String,
    unknown: String,
    max_chars: usize,
}

impl Default for Rest {
    fn default() -> Self {
        Rest { prefix: "##".into(), unknown: "[UNK]".into(), max_chars: MAX_CHARS }
    }
}

impl Rest {
    fn of(model: &Value) -> Rest {
        let default = Rest::default();
        let text = |key: &str, default: String| model[key].as_str().map_or(default, str::to_owned);
        Rest {
            prefix: text("continuing_subword_prefix", default.prefix),
            unknown: text("unk_token", default.unknown),
            max_chars: model["max_input_chars_per_word"].as_u64().map_or(MAX_CHARS, |n| n as usize),
        }
    }
}

/// A part of `tokenizer.json` that must be of a kind.
fn part<'j>(dir: &Path, json: &'j Value, key: &str, kind: &str) -> Result<&'j Value, Diagnostic> {
    let part = &json[key];
    match part["type"].as_str() {
        Some(found) if found == kind => Ok(part),
        found => {
            let found = found.unwrap_or("none");
            let message = format!("`{}`: a {key} of type {found} is not supported", dir.join(JSON).display());
            Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message).help(format!("supported: {kind}")))
        }
    }
}

fn model<'j>(dir: &Path, json: &'j Value) -> Result<&'j Value, Diagnostic> {
    part(dir, json, "pre_tokenizer", "BertPreTokenizer")?;
    part(dir, json, "model", "WordPiece")
}

fn normalizer(dir: &Path, json: &Value) -> Result<Normalizer, Diagnostic> {
    let part = part(dir, json, "normalizer", "BertNormalizer")?;
    let flag = |key: &str| part[key].as_bool();
    let lowercase = flag("lowercase").unwrap_or(true);
    Ok(Normalizer {
        clean: flag("clean_text").unwrap_or(true),
        chinese: flag("handle_chinese_chars").unwrap_or(true),
        strip_accents: flag("strip_accents").unwrap_or(lowercase),
        lowercase,
    })
}

fn json_vocab(dir: &Path, model: &Value) -> Result<BTreeMap<Box<str>, u32>, Diagnostic> {
    let entries = model["vocab"].as_object().ok_or_else(|| malformed(dir, JSON, "has no vocabulary"))?;
    let token = |(piece, token): (&String, &Value)| match token.as_u64().and_then(|n| u32::try_from(n).ok()) {
        Some(token) => Ok((piece.as_str().into(), token)),
        None => Err(malformed(dir, JSON, format!("gives `{piece}` no number as its token"))),
    };
    entries.iter().map(token).collect()
}

/// A line a piece, in the order of their tokens.
fn text_vocab(dir: &Path) -> Result<BTreeMap<Box<str>, u32>, Diagnostic> {
    let Some(bytes) = small_file(dir, VOCAB)? else {
        let message = format!("`{}` has no tokenizer: neither {JSON} nor {VOCAB} is there", dir.display());
        return Err(Diagnostic::error(Code::IMPORT_FORMAT, message));
    };
    let text = String::from_utf8(bytes).map_err(|_| malformed(dir, VOCAB, "is not UTF-8"))?;
    Ok(text.lines().zip(0u32..).map(|(piece, token)| (piece.into(), token)).collect())
}

/// The normaliser of a vocabulary without `tokenizer.json`.
fn config_normalizer(dir: &Path) -> Result<Normalizer, Diagnostic> {
    let json = json_file(dir, "tokenizer_config.json")?.unwrap_or(Value::Null);
    let lowercase = json["do_lower_case"].as_bool().unwrap_or(true);
    Ok(Normalizer {
        clean: true,
        chinese: json["tokenize_chinese_chars"].as_bool().unwrap_or(true),
        strip_accents: json["strip_accents"].as_bool().unwrap_or(lowercase),
        lowercase,
    })
}

/// Where texts are cut: sentence-transformers' own limit, then the tokenizer's, never past the
/// places that have an embedding.
fn max_length(dir: &Path, json: Option<&Value>, config: &Config) -> Result<usize, Diagnostic> {
    let sentence = json_file(dir, "sentence_bert_config.json")?;
    let own = sentence.as_ref().and_then(|s| s["max_seq_length"].as_u64());
    let truncated = json.and_then(|j| j["truncation"]["max_length"].as_u64());
    let limit = own.or(truncated).map_or(config.positions, |n| n as usize).min(config.positions);
    if limit < 2 {
        let what = format!("leaves room for {limit} tokens, and two stand around every text");
        return Err(malformed(dir, "config.json", what));
    }
    Ok(limit)
}
