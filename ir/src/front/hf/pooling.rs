//! `modules.json`: what sentence-transformers makes of the token embeddings.

use std::path::Path;

use serde_json::Value;

use super::{json_file, malformed};
use crate::diag::{Code, Diagnostic};

/// The file.
const NAME: &str = "modules.json";

/// Which tokens the sentence's embedding is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    /// The mean of those that the mask keeps.
    Mean,
    /// The first one.
    First,
}

/// How token embeddings become a sentence's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pooling {
    pub tokens: Tokens,
    /// Whether the result is divided by its length.
    pub normalize: bool,
}

impl Pooling {
    /// Reads the pooling of a folder; without `modules.json` it is the mean.
    pub fn read(dir: &Path) -> Result<Pooling, Diagnostic> {
        let mut pooling = Pooling { tokens: Tokens::Mean, normalize: false };
        let Some(json) = json_file(dir, NAME)? else { return Ok(pooling) };
        let modules = json.as_array().ok_or_else(|| malformed(dir, NAME, "is no list of modules"))?;
        for module in modules {
            let kind = module.get("type").and_then(Value::as_str).unwrap_or("");
            match kind.rsplit('.').next() {
                Some("Transformer") => {}
                Some("Pooling") => pooling.tokens = tokens(dir, module)?,
                Some("Normalize") => pooling.normalize = true,
                _ => {
                    let message = format!("`{}`: the module `{kind}` is not supported", dir.display());
                    return Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message)
                        .help("supported: Transformer, Pooling, Normalize"));
                }
            }
        }
        Ok(pooling)
    }
}

/// The pooling that a module's own folder describes.
fn tokens(dir: &Path, module: &Value) -> Result<Tokens, Diagnostic> {
    let folder = module.get("path").and_then(Value::as_str).unwrap_or("");
    let plain = folder.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !plain {
        return Err(malformed(dir, NAME, format!("names the folder `{folder}`, which is no plain name")));
    }
    let folder = dir.join(folder);
    let Some(json) = json_file(&folder, "config.json")? else {
        return Err(malformed(dir, NAME, "names a folder of Pooling without config.json"));
    };
    let modes = json.as_object().into_iter().flatten();
    let on = modes.filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    let on: Vec<&str> = on.map(|(key, _)| &**key).collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(Tokens::Mean),
        ["pooling_mode_cls_token"] => Ok(Tokens::First),
        _ => {
            let message = format!("`{}`: pooling by [{}] is not supported", folder.display(), on.join(", "));
            Err(Diagnostic::error(Code::IMPORT_UNSUPPORTED, message)
                .help("supported: one of pooling_mode_mean_tokens, pooling_mode_cls_token"))
        }
    }
}
