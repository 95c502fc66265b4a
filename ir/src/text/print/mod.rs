//! Programs to text, in the strict subset that 0.0.5 reads wherever it has one.
//!
//! `plan` decides which expression stands where, `emit` writes, with a stack of its own.
//! Types are sorted by name, then functions; every function counts its `%n` from 0. What
//! is printed reads back as the same program, and printing that gives the same bytes.

mod attrs;
mod constant;
mod emit;
mod names;
mod plan;
mod scopes;

use std::sync::Arc;

use crate::expr::{Adt, ConstId, ExprId, Module};
use crate::types::Type;
use emit::Emitter;

use super::parse::VERSION;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct PrintOptions {
    /// Writes the type of every expression behind it, as a comment.
    pub types: bool,
    /// Tensors of at most so many elements stand in the text.
    pub inline_elements: usize,
    /// What stands for larger ones.
    pub large: LargeConstants,
}

impl Default for PrintOptions {
    fn default() -> Self {
        PrintOptions { types: false, inline_elements: 16, large: LargeConstants::Weights }
    }
}

/// What stands for a constant that is too large for the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargeConstants {
    /// `weights["name"]`: a tensor of the file beside the text.
    Weights,
    /// `elided`, which cannot be read back.
    Elide,
    /// All its elements.
    Inline,
}

/// A text and what the weights file beside it must hold.
#[derive(Clone, Debug)]
pub struct Printed {
    /// The text.
    pub text: String,
    /// The tensors that the text refers to as `weights["name"]`.
    pub weights: Vec<(Arc<str>, ConstId)>,
}

/// Prints a module and says which weights it refers to.
pub fn print(module: &Module, options: &PrintOptions) -> Printed {
    let mut emitter = Emitter::new(module, options);
    emitter.text(&format!("#[version = \"{VERSION}\"]\n"));
    let mut adts: Vec<&Adt> = module.adts.values().collect();
    adts.sort_by(|a, b| a.name.cmp(&b.name));
    for adt in adts {
        emitter.text(&type_definition(adt));
    }
    for (i, (id, func)) in module.functions().into_iter().enumerate() {
        if i > 0 || !module.adts.is_empty() {
            emitter.text("\n");
        }
        emitter.global(id, func);
    }
    emitter.finish()
}

/// Prints a module.
pub fn print_module(module: &Module, options: &PrintOptions) -> String {
    print(module, options).text
}

/// Prints an expression; its free variables come first, as `free_var %x: t;` lines.
pub fn print_expr(module: &Module, expr: ExprId, options: &PrintOptions) -> String {
    let mut emitter = Emitter::new(module, options);
    emitter.lone(expr);
    emitter.finish().text
}

/// Prints a type.
pub fn print_type(ty: &Type) -> String {
    ty.to_string()
}

/// `type List[A] { Nil, Cons(A, List[A]) }`
fn type_definition(adt: &Adt) -> String {
    let mut text = if adt.is_extern { "extern type ".to_owned() } else { "type ".to_owned() };
    text.push_str(&adt.name);
    if !adt.params.is_empty() {
        text.push_str(&format!("[{}]", adt.params.join(", ")));
    }
    if adt.is_extern {
        text.push('\n');
        return text;
    }
    text.push_str(" {\n");
    for ctor in &adt.ctors {
        let fields: Vec<String> = ctor.fields.iter().map(Type::to_string).collect();
        let fields = if fields.is_empty() { String::new() } else { format!("({})", fields.join(", ")) };
        text.push_str(&format!("  {}{fields},\n", ctor.name));
    }
    text.push_str("}\n");
    text
}
