//! `model.safetensors` against `config.json`: every tensor that there must be, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use super::config::Config;
use crate::diag::{Code, Diagnostic};
use crate::dispatch;
use crate::scalar::Convert;
use crate::tensor::Tensor;
use crate::types::DType;
use crate::weights::{self, Weights};

/// The file.
const NAME: &str = "model.safetensors";

/// What heads prefix the encoder's tensors with.
const PREFIX: &str = "bert.";

/// Tensors that a checkpoint may have beside the encoder's: a buffer of old versions, the
/// pooler, and the heads of pre-training.
const IGNORED: [&str; 3] = ["embeddings.position_ids", "pooler.", "cls."];

/// How many problems a message lists.
const MAX_LISTED: usize = 40;

/// The tensors of an encoder, by their names without a head's prefix.
pub(super) struct Checkpoint {
    weights: Weights,
    prefix: &'static str,
}

impl Checkpoint {
    /// The full name and the value of a tensor that the configuration asks for.
    ///
    /// # Panics
    /// If it is none of these.
    pub fn tensor(&self, name: &str) -> (String, Tensor) {
        let full = format!("{}{name}", self.prefix);
        let tensor = self.weights.get(&full).expect("every tensor was checked");
        (full, tensor.clone())
    }
}

/// Maps the checkpoint of a folder and checks it.
pub(super) fn read(dir: &Path, config: &Config) -> Result<Checkpoint, Diagnostic> {
    let path = dir.join(NAME);
    if !path.exists() {
        let message = format!("`{}` has no model.safetensors", dir.display());
        let sharded = dir.join("model.safetensors.index.json").exists();
        let help = match sharded {
            true => "the checkpoint is sharded; save it as one file",
            false => "other formats are not read: save the model with safetensors",
        };
        return Err(Diagnostic::error(Code::IMPORT_FORMAT, message).help(help));
    }
    let weights = weights::read(&path)?;
    let prefixed = weights.iter().any(|(name, _)| name.starts_with(PREFIX));
    let checkpoint = Checkpoint { weights, prefix: if prefixed { PREFIX } else { "" } };
    let problems = checkpoint.problems(config);
    if problems.is_empty() {
        return Ok(checkpoint);
    }
    let message =
        format!("`{}` does not fit its config.json: {} tensors are wrong", path.display(), problems.len());
    let mut error = Diagnostic::error(Code::WEIGHTS, message);
    let left_out = problems.len().saturating_sub(MAX_LISTED);
    for problem in problems.into_iter().take(MAX_LISTED) {
        error = error.note(problem);
    }
    Err(if left_out > 0 { error.note(format!("and {left_out} more")) } else { error })
}

impl Checkpoint {
    /// What is wrong with each tensor that is missing, too many, mis-shaped or not of numbers.
    fn problems(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        let mut known = BTreeSet::new();
        for (name, shape) in expected(config) {
            let full = format!("{}{name}", self.prefix);
            problems.extend(match self.weights.get(&full) {
                None => Some(format!("`{full}` is missing; it should be {shape:?}")),
                Some(tensor) => wrong(tensor, &shape).map(|what| format!("`{full}` {what}")),
            });
            known.insert(full);
        }
        for (name, _) in self.weights.iter().filter(|(name, _)| !known.contains(&***name)) {
            let own = name.strip_prefix(self.prefix).unwrap_or(name);
            if !IGNORED.iter().any(|ignored| own.starts_with(ignored)) {
                problems.push(format!("`{name}` is none of this architecture"));
            }
        }
        problems
    }
}

/// What is wrong with a tensor that should have this shape.
fn wrong(tensor: &Tensor, shape: &[usize]) -> Option<String> {
    if tensor.shape() != shape {
        return Some(format!("is {:?}; it should be {shape:?}", tensor.shape()));
    }
    match tensor.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => {}
        other => return Some(format!("is of {other}; it should be float32, float16 or bfloat16")),
    }
    (!all_finite(tensor)).then(|| "holds NaN or infinity".into())
}

fn all_finite(tensor: &Tensor) -> bool {
    // The exponent's bits are all set in what is not finite; this form has no branch, so that
    // the largest tensors are read at the speed of memory.
    if let Some(data) = tensor.as_slice::<f32>() {
        const EXPONENT: u32 = 0x7f80_0000;
        return !data.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT));
    }
    dispatch!(tensor.dtype(), T => {
        let data = tensor.as_slice::<T>().expect("dispatched on the dtype");
        data.iter().all(|v| v.to_f64().is_finite())
    })
}

/// The tensors of an encoder with their shapes.
fn expected(config: &Config) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden;
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
    for (table, rows) in
        [("word", config.vocab), ("position", config.positions), ("token_type", config.token_types)]
    {
        list.push((format!("embeddings.{table}_embeddings.weight"), vec![rows, hidden]));
    }
    let pair = |list: &mut Vec<_>, name: &str, weight: Vec<usize>| {
        list.push((format!("{name}.bias"), vec![weight[0]]));
        list.push((format!("{name}.weight"), weight));
    };
    pair(&mut list, "embeddings.LayerNorm", vec![hidden]);
    for layer in 0..config.layers {
        let at = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            pair(&mut list, &at(&format!("attention.{part}")), vec![hidden, hidden]);
        }
        pair(&mut list, &at("attention.output.LayerNorm"), vec![hidden]);
        pair(&mut list, &at("intermediate.dense"), vec![config.intermediate, hidden]);
        pair(&mut list, &at("output.dense"), vec![hidden, config.intermediate]);
        pair(&mut list, &at("output.LayerNorm"), vec![hidden]);
    }
    list
}
