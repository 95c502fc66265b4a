//! Checkpoints in Hugging Face's layout: `config.json` with `model.safetensors` beside it.
//!
//! [`import_dir`] builds the graph that the configuration describes. Encoders of the BERT
//! family (`model_type` `bert`) are supported: `@main` takes `input_ids`, `attention_mask`
//! and `token_type_ids`, all `int64[batch, seq]`, and gives
//!
//! - `last_hidden_state`, `float32[batch, seq, hidden]`: the last layer's output, and
//! - `sentence_embedding`, `float32[batch, hidden]`: what sentence-transformers makes of it
//!   by the `modules.json` beside it, which is the mean over the tokens that the mask keeps,
//!   divided by its length. A folder without `modules.json` gives the mean alone.
//!
//! `batch` and `seq` are symbolic. Weights stay in the mapped file, under their own names.
//! Every expression's span is the path of its module: `encoder.layer.0.attention.self`.
//!
//! Nothing of a checkpoint is trusted: the configuration's sizes are bounded, every tensor is
//! checked against them before a graph is built, and all that does not fit is named at once.

mod bert;
mod checkpoint;
mod config;
mod pooling;
#[cfg(test)]
mod tests;
pub mod tokenizer;

use std::io::Read;
use std::path::Path;

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::expr::Module;

/// The parameters of an imported encoder, in order.
pub const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// The results of an imported encoder, in order; the last is the embedding of the sentence.
const OUTPUTS: [&str; 2] = ["last_hidden_state", EMBEDDING];

/// The result that embeds a sentence.
pub const EMBEDDING: &str = "sentence_embedding";

/// The largest of the small files beside a checkpoint that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Imports the checkpoint of a folder.
///
/// # Errors
/// If a file is missing or malformed, if the architecture is not supported, or if the tensors
/// are not those that the configuration asks for.
pub fn import_dir(dir: &Path) -> Result<Module, Diagnostics> {
    let config = config::Config::read(dir)?;
    let pooling = pooling::Pooling::read(dir)?;
    let weights = checkpoint::read(dir, &config)?;
    Ok(bert::build(dir, &config, pooling, &weights)?)
}

/// The bytes of a small file of a folder; `None` if there is none of this name.
fn small_file(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, Diagnostic> {
    let path = dir.join(name);
    let cannot = |e: std::io::Error| {
        Diagnostic::error(Code::USAGE, format!("cannot read `{}`", path.display())).note(e.to_string())
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        let message = format!("`{}` is larger than 64 MB", path.display());
        return Err(Diagnostic::error(Code::IMPORT_FORMAT, message));
    }
    Ok(Some(bytes))
}

/// A small file of a folder as JSON; `None` if there is none of this name.
fn json_file(dir: &Path, name: &str) -> Result<Option<serde_json::Value>, Diagnostic> {
    let Some(bytes) = small_file(dir, name)? else { return Ok(None) };
    let value =
        serde_json::from_slice(&bytes).map_err(|e| malformed(dir, name, format!("is no JSON: {e}")))?;
    Ok(Some(value))
}

/// The error of a file of a folder that does not say what it should.
fn malformed(dir: &Path, name: &str, what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Code::IMPORT_FORMAT, format!("`{}` {what}", dir.join(name).display()))
}
