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

#![allow(dead_code, reason = "the parser is not joined to modules yet")]

mod literal;
mod parse;
mod token;
mod tree;

lalrpop_util::lalrpop_mod!(
    #[allow(clippy::all, unused, unused_qualifications, missing_docs, reason = "generated code")]
    grammar,
    "/text/grammar.rs"
);
