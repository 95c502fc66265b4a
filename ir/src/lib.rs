//! The language of Fermata: types, expressions, operators, their meaning and their text.

pub mod build;
mod compact;
pub mod compare;
pub mod diag;
pub mod entity;
pub mod equal;
pub mod eval;
pub mod expr;
pub mod front;
pub mod infer;
pub mod op;
pub mod scalar;
pub mod te;
pub mod tensor;
#[cfg(test)]
mod test_ops;
pub mod text;
pub mod tir;
pub mod types;
pub mod verify;
pub mod walk;
pub mod weights;

pub use cranelift_entity;
pub use half;
