//! The Relay text format, both ways: a superset of TVM's `#[version = "0.0.5"]`.
//!
//! `token` and the grammar make a flat syntax tree ([`parse_module`] ends there on a syntax
//! error), `resolve` looks up names, operators, attributes and types and makes a
//! [`Module`]. Nothing recurses over the program, so nesting costs memory only.
//! Types, patterns and attribute lists nest at most 64 deep.
//!
//! # What is read beyond 0.0.5
//! - Quoted names (`%"layer.weight"`, `@"f:0"`) and escapes in strings.
//! - A minus as a token: `1-1` subtracts. `%t.0.1` projects twice. `else if`.
//! - Literals of every dtype: `1i8`, `2u8`, `1bf16`, `nanf`, `inff64`.
//! - `fn [A](%x: A) -> A` as a type, `ref(t)`, and `match` or a block wherever an operand
//!   may stand. Parentheses and braces may hold statements.
//! - Symbolic dimensions as words: `Tensor[(batch, 384), float32]`, or quoted.
//! - Graph numbers (`%0 = ..`) belong to one global function; a second definition of a
//!   number, a global, a type, a constructor or a parameter is refused.
//! - A let is visible in its own value only if that is a function, so `let %x = %x + 1;`
//!   refers to an outer `%x`, and always shadows it.
//!
//! # Constants
//! A scalar is a literal. A tensor of a few elements stands in the text, with its type and
//! its elements in row-major order, nested or flat; `0x..` gives the bits of an element:
//! ```text
//! const(Tensor[(2, 2), float32], [[1, 0.5], [-inf, 1e-05]])
//! ```
//! A larger one is `weights["name"]`, an entry of the safetensors file beside the text.
//! `elided` stands for one that was left out of a dump, and is refused. TVM's
//! `meta[relay.Constant][0]` with its `#[metadata]` section is read, never written.

mod literal;
mod metadata;
mod parse;
mod print;
mod resolve;
mod token;
mod tree;

lalrpop_util::lalrpop_mod!(
    #[allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unused,
        unused_qualifications,
        reason = "generated code"
    )]
    grammar,
    "/text/grammar.rs"
);

use crate::diag::{Code, Diagnostic, Diagnostics, Source, SourceId, SourceMap, Span};
use crate::expr::{ExprId, Module, VarId};
use crate::op::OpTable;
use crate::types::Type;
use crate::weights::Weights;
pub use print::{LargeConstants, PrintOptions, Printed, print, print_expr, print_module, print_type};
use resolve::Resolver;
use token::Token;

/// What a text may refer to.
#[derive(Clone, Copy)]
pub struct ParseOptions<'a> {
    /// The operators there are.
    pub ops: &'a OpTable,
    /// The tensors that `weights["name"]` means.
    pub weights: Option<&'a Weights>,
}

impl<'a> ParseOptions<'a> {
    /// These operators, no weights.
    pub fn new(ops: &'a OpTable) -> ParseOptions<'a> {
        ParseOptions { ops, weights: None }
    }
}

/// A lone expression.
#[derive(Clone, Debug)]
pub struct ParsedExpr {
    /// The tables it lives in, with the globals and types of the text.
    pub module: Module,
    /// The expression.
    pub root: ExprId,
    /// Variables declared with `free_var`, in order.
    pub free_vars: Vec<VarId>,
}

/// The sources that the diagnostics of parsing one text point into.
pub fn sources(name: &str, text: &str) -> SourceMap {
    let mut sources = SourceMap::new();
    sources.push(Source { name: name.into(), text: text.into() });
    sources
}

/// The id of the only source of [`sources`].
fn source() -> SourceId {
    SourceId::from_u32(0)
}

/// Reads a module. Types are not inferred.
///
/// # Errors
/// If the text is no module; the places are in [`sources`] of the same name and text.
pub fn parse_module(name: &str, text: &str, options: &ParseOptions) -> Result<Module, Diagnostics> {
    let tree = parse::parse(text, Token::StartModule, source())?;
    if tree.version.is_none() {
        let header = format!("#[version = \"{}\"]", parse::VERSION);
        let message = format!("a module starts with its version: `{header}`");
        let span = Span::Text { source: source(), range: 0..0 };
        return Err(Diagnostic::error(Code::TEXT_SYNTAX, message).at(span).into());
    }
    Resolver::new(&tree, options, empty(name, text), source()).module().map_err(Diagnostics)
}

/// Reads a lone expression; the version may be left out.
///
/// # Errors
/// If the text is no expression; the places are in [`sources`] of the same name and text.
pub fn parse_expr(name: &str, text: &str, options: &ParseOptions) -> Result<ParsedExpr, Diagnostics> {
    let tree = parse::parse(text, Token::StartExpr, source())?;
    let value = tree.value.expect("the grammar gave a value");
    let resolver = Resolver::new(&tree, options, empty(name, text), source());
    let (module, root, free_vars) = resolver.expr(value).map_err(Diagnostics)?;
    Ok(ParsedExpr { module, root, free_vars })
}

/// Reads a lone type.
///
/// # Errors
/// If the text is no type; the places are in [`sources`] of the same name and text.
pub fn parse_type(name: &str, text: &str) -> Result<Type, Diagnostics> {
    let tree = parse::parse(text, Token::StartType, source())?;
    let ty = tree.lone_type.expect("the grammar gave a type");
    let ops = OpTable::standard();
    let options = ParseOptions::new(&ops);
    Resolver::new(&tree, &options, empty(name, ""), source()).lone_type(ty).map_err(Diagnostics)
}

/// A word of the text format: a name that is an identifier as it is, any other in quotes.
pub(crate) fn word(name: &str) -> std::borrow::Cow<'_, str> {
    if token::is_plain_ident(name) { name.into() } else { literal::quote(name).into() }
}

/// A module without anything but its source.
fn empty(name: &str, text: &str) -> Module {
    Module { sources: sources(name, text), ..Module::default() }
}

#[cfg(test)]
mod tests;
