//! What a pass is: a named, documented, optioned function over a module.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{ExprId, Module};

use crate::target::Target;

/// The form a program is in; a pass says which it takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Any tensor-level program.
    Relay,
    /// Tensor-level, no lets around pure values: sharing only.
    Graph,
    /// Tensor-level, every step let-bound.
    ANormal,
    /// Calls of primitive functions: the groups that become kernels.
    Fused,
}

/// The rounding that a pass may change (DESIGN section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FloatClass {
    /// Bitwise the same results.
    Exact,
    /// Only rounding changes; at -O2 and above.
    Algebraic,
    /// Results change within a stated error; only by flag.
    Approximate,
}

/// A typed option of a pass: `--passes=fold_constant{max_elements=1000}`.
#[derive(Clone, Debug)]
pub struct OptionDef {
    /// The name.
    pub name: &'static str,
    /// One line.
    pub doc: &'static str,
    /// The default, whose kind is the option's kind.
    pub default: OptionValue,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// One of some words; the first of a default is the default.
    Word(&'static str),
    /// Any text without quotation marks.
    Text(Cow<'static, str>),
    /// A file that is read before the passes run; no file where the path is empty.
    File {
        /// Its path.
        path: Cow<'static, str>,
        /// What it holds, once somebody has read it: passes read no files.
        contents: Option<Arc<str>>,
    },
}

impl OptionValue {
    /// No text, as a default.
    pub const NO_TEXT: OptionValue = OptionValue::Text(Cow::Borrowed(""));

    /// No file, as a default.
    pub const NO_FILE: OptionValue = OptionValue::File { path: Cow::Borrowed(""), contents: None };
}

/// A file that an option names.
pub struct OptionFile {
    /// Its path.
    pub path: Cow<'static, str>,
    /// What it holds.
    pub contents: Arc<str>,
}

/// The highest `-O` level.
pub const MAX_LEVEL: u8 = 3;

/// A row of the pass table.
pub struct PassDef {
    /// The name on the command line: `fold_constant`.
    pub name: &'static str,
    /// Relay's name: `FoldConstant`.
    pub relay_name: &'static str,
    /// The lowest `-O` level at which the standard pipelines run it; above [`MAX_LEVEL`] where only
    /// a flag asks for it.
    pub level: u8,
    /// One line.
    pub doc: &'static str,
    /// Options.
    pub options: &'static [OptionDef],
    /// Passes that must have run since the program last changed.
    pub requires: &'static [&'static str],
    /// The forms that it takes: this one or, where it is [`Stage::Relay`], any.
    pub takes: Stage,
    /// The form that it gives; `None` leaves it.
    pub gives: Option<Stage>,
    /// What it may do to floating-point results.
    pub float: FloatClass,
    /// Does it.
    pub run: fn(&mut Module, &mut PassContext) -> Result<Outcome, Diagnostics>,
}

/// Whether a pass changed the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing changed.
    Unchanged,
    /// Something did.
    Changed,
}

/// What a pass is given besides the program, and what it tells of its work.
#[derive(Debug, Default)]
pub struct PassContext {
    /// What the program is compiled for.
    pub target: Target,
    /// The values of all options of the pass, by name.
    pub options: Vec<(&'static str, OptionValue)>,
    /// Rewrites left before the pass must stop; `None` is no limit.
    pub fuel: Option<u64>,
    /// How many rewrites fired.
    pub rewrites: u64,
    /// How often each rule fired that has a name.
    pub fired: BTreeMap<&'static str, u64>,
    /// The rewrite that took the last of the fuel, if its rule has a name.
    pub last_rewrite: Option<Diagnostic>,
    /// Remarks: what fired, what did not and why.
    pub remarks: Vec<Diagnostic>,
    /// Whether remarks are wanted; a pass need not build them otherwise.
    pub want_remarks: bool,
}

impl PassContext {
    /// The value of an integer option.
    ///
    /// # Panics
    /// If the pass has declared no integer option of this name.
    pub fn int(&self, name: &str) -> i64 {
        match self.option(name) {
            OptionValue::Int(n) => *n,
            _ => unreachable!("`{name}` is declared an integer"),
        }
    }

    /// The value of a truth-valued option.
    ///
    /// # Panics
    /// If the pass has declared no such option of this name.
    pub fn bool(&self, name: &str) -> bool {
        match self.option(name) {
            OptionValue::Bool(b) => *b,
            _ => unreachable!("`{name}` is declared a truth value"),
        }
    }

    /// The value of an option that is one of some words.
    ///
    /// # Panics
    /// If the pass has declared no such option of this name.
    pub fn word(&self, name: &str) -> &'static str {
        match self.option(name) {
            OptionValue::Word(word) => word,
            _ => unreachable!("`{name}` is declared a word"),
        }
    }

    /// The value of an option that is any text.
    ///
    /// # Panics
    /// If the pass has declared no such option of this name.
    pub fn text(&self, name: &str) -> Cow<'static, str> {
        match self.option(name) {
            OptionValue::Text(text) => text.clone(),
            _ => unreachable!("`{name}` is declared a text"),
        }
    }

    /// A file that an option names, `None` if it names none.
    ///
    /// # Errors
    /// If nobody has read the file.
    ///
    /// # Panics
    /// If the pass has declared no such option of this name.
    pub fn file(&self, name: &str) -> Result<Option<OptionFile>, Diagnostic> {
        match self.option(name) {
            OptionValue::File { path, .. } if path.is_empty() => Ok(None),
            OptionValue::File { path, contents: Some(contents) } => {
                Ok(Some(OptionFile { path: path.clone(), contents: contents.clone() }))
            }
            OptionValue::File { path, contents: None } => {
                Err(Diagnostic::error(Code::PASS, format!("the file `{path}` has not been read")))
            }
            _ => unreachable!("`{name}` is declared a file"),
        }
    }

    fn option(&self, name: &str) -> &OptionValue {
        let found = self.options.iter().find(|(n, _)| *n == name);
        &found.expect("the manager sets every declared option").1
    }

    fn take_fuel(&mut self) -> bool {
        match &mut self.fuel {
            Some(0) => return false,
            Some(n) => *n -= 1,
            None => {}
        }
        self.rewrites += 1;
        true
    }

    /// Takes one rewrite's worth of fuel for a rewrite of an expression by a rule, which is counted
    /// and, if it is the last one that may be done, remembered; false if there is none left, and
    /// the rewrite must not be done.
    pub fn fire(&mut self, rule: &'static str, module: &Module, at: ExprId) -> bool {
        let of = || module.as_op_call(at).map_or_else(String::new, |(op, _)| format!(", of `{op}`"));
        self.fire_named(rule, module, at, of)
    }

    /// As [`PassContext::fire`], with what the rewrite is of in words: `, of `@f``.
    pub fn fire_named(
        &mut self,
        rule: &'static str,
        module: &Module,
        at: ExprId,
        of: impl FnOnce() -> String,
    ) -> bool {
        if !self.take_fuel() {
            return false;
        }
        *self.fired.entry(rule).or_default() += 1;
        if self.fuel == Some(0) {
            let rewrite = Diagnostic::warning(Code::PASS, format!("{rule}{}", of()));
            self.last_rewrite = Some(rewrite.at(module.spans[at].clone()));
        }
        true
    }

    /// Remarks on an expression, in words that are only made where remarks are wanted.
    pub fn remark(&mut self, module: &Module, at: ExprId, message: impl FnOnce() -> String) {
        if self.want_remarks {
            let remark = Diagnostic::warning(Code::PASS, message());
            self.remarks.push(remark.at(module.spans[at].clone()));
        }
    }
}
