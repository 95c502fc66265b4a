//! `config.json`: which architecture, and its sizes.

use std::path::Path;

use serde_json::Value;

use super::{json_file, malformed};
use crate::diag::{Code, Diagnostic};

/// The file.
const NAME: &str = "config.json";

/// The largest width, vocabulary or number of positions: products of two stay far below what
/// a tensor may have.
const MAX_SIZE: u64 = 1 << 24;

/// The most layers.
const MAX_LAYERS: u64 = 1024;

/// What a layer does between its two dense products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// The sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub vocab: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub positions: usize,
    pub token_types: usize,
    pub epsilon: f64,
    pub activation: Activation,
}

impl Config {
    /// Reads the configuration of a folder.
    pub fn read(dir: &Path) -> Result<Config, Diagnostic> {
        let Some(json) = json_file(dir, NAME)? else {
            let message = format!("`{}` is no checkpoint: it has no config.json", dir.display());
            return Err(Diagnostic::error(Code::IMPORT_FORMAT, message)
                .help("name a folder with config.json and model.safetensors"));
        };
        let source = Source { dir, json: &json };
        source.check_architecture()?;
        let config = Config {
            vocab: source.size("vocab_size", MAX_SIZE)?,
            hidden: source.size("hidden_size", MAX_SIZE)?,
            layers: source.size("num_hidden_layers", MAX_LAYERS)?,
            heads: source.size("num_attention_heads", MAX_SIZE)?,
            intermediate: source.size("intermediate_size", MAX_SIZE)?,
            positions: source.size("max_position_embeddings", MAX_SIZE)?,
            token_types: source.size("type_vocab_size", MAX_SIZE)?,
            epsilon: source.epsilon()?,
            activation: source.activation()?,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            let what = format!("has {} attention heads, which do not divide {}", config.heads, config.hidden);
            return Err(malformed(dir, NAME, what));
        }
        Ok(config)
    }
}

/// The file's contents, and where they are from.
struct Source<'a> {
    dir: &'a Path,
    json: &'a Value,
}

impl Source<'_> {
    fn unsupported(&self, what: String, supported: &str) -> Diagnostic {
        let message = format!("`{}`: {what} is not supported", self.dir.display());
        Diagnostic::error(Code::IMPORT_UNSUPPORTED, message).help(format!("supported: {supported}"))
    }

    /// The string of a key, or what stands for it where there is none.
    fn text<'v>(&'v self, key: &str, default: &'v str) -> &'v str {
        self.json.get(key).and_then(Value::as_str).unwrap_or(default)
    }

    fn check_architecture(&self) -> Result<(), Diagnostic> {
        let family = self.text("model_type", "");
        if family != "bert" {
            let named = self.json.pointer("/architectures/0").and_then(Value::as_str);
            let named = named.unwrap_or(if family.is_empty() { "without a model_type" } else { family });
            let what = format!("the architecture {named}");
            return Err(self.unsupported(what, "encoders whose model_type is bert"));
        }
        let position = self.text("position_embedding_type", "absolute");
        if position != "absolute" {
            return Err(self.unsupported(format!("position_embedding_type {position}"), "absolute"));
        }
        let is_decoder = self.json.get("is_decoder").and_then(Value::as_bool).unwrap_or(false);
        if is_decoder {
            return Err(self.unsupported("is_decoder".into(), "encoders"));
        }
        Ok(())
    }

    fn activation(&self) -> Result<Activation, Diagnostic> {
        match self.text("hidden_act", "gelu") {
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(self.unsupported(format!("hidden_act {other}"), "gelu, relu")),
        }
    }

    /// A size of at least 1.
    fn size(&self, key: &str, most: u64) -> Result<usize, Diagnostic> {
        let wrong = |found: String| {
            malformed(self.dir, NAME, format!("must give {key} as a number from 1 to {most}; it is {found}"))
        };
        let value = self.json.get(key).ok_or_else(|| wrong("missing".into()))?;
        match value.as_u64().filter(|n| (1..=most).contains(n)) {
            Some(n) => Ok(n as usize),
            None => Err(wrong(shortened(value))),
        }
    }

    fn epsilon(&self) -> Result<f64, Diagnostic> {
        match self.json.get("layer_norm_eps") {
            None => Ok(1e-12),
            Some(value) => value.as_f64().filter(|e| e.is_finite() && *e >= 0.0).ok_or_else(|| {
                let what = format!("must give layer_norm_eps as a number; it is {}", shortened(value));
                malformed(self.dir, NAME, what)
            }),
        }
    }
}

/// A value as text, cut so that a hostile one does not fill the screen.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
