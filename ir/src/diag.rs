//! Diagnostics: numbered, located messages, rendered in rustc's manner.
//!
//! Every error a user can meet is a [`Diagnostic`] with a code (`E0203`), a place, the
//! reason and, where there is one, the fix. Places are [`Span`]s: a byte range of a text,
//! or the path of a node in a binary model. Rendering happens at the edge only
//! ([`Diagnostic::render`]).

use std::ops::Range;
use std::sync::Arc;

use crate::entity::PrimaryMap;
use crate::entity_id;

mod code;
mod render;
mod suggest;

pub use code::{CODES, Code, CodeInfo};
pub use suggest::nearest;

entity_id!(/// A file or text that a program was read from.
    SourceId, "src");

/// A text or binary file that spans point into.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name to print: a path as the user gave it, or `<stdin>`.
    pub name: Arc<str>,
    /// The text; empty for a binary file.
    pub text: Arc<str>,
}

/// The sources of a module.
pub type SourceMap = PrimaryMap<SourceId, Source>;

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// Nowhere: the compiler made it.
    #[default]
    None,
    /// A byte range of a text.
    Text {
        /// Which text.
        source: SourceId,
        /// Bytes.
        range: Range<usize>,
    },
    /// A node of a binary model, printed `model.onnx > main > /enc/0/MatMul (node #41)`.
    Node {
        /// Which file.
        source: SourceId,
        /// The path inside the file, without the file name: `main > /enc/0/MatMul (node #41)`.
        path: Arc<str>,
    },
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The program or the call is refused.
    Error,
    /// Something that the user should know; work goes on.
    Warning,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its number; `fermata explain` knows each.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one line without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to write at the caret; may be empty.
    pub label: String,
    /// Further facts, a line each.
    pub notes: Vec<String>,
    /// The fix: what to write or which flag to give.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with no place yet.
    pub fn error(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: Span::None,
            label: String::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// A warning with no place yet.
    pub fn warning(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, span: Span) -> Diagnostic {
        self.span = span;
        self
    }

    /// Writes something at the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

/// Some diagnostics, at least one of which is an error: the failure of a whole step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl From<Diagnostic> for Diagnostics {
    fn from(d: Diagnostic) -> Self {
        Diagnostics(vec![d])
    }
}
