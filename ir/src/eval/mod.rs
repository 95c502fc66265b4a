//! The reference evaluator: the meaning of a program.

mod value;

pub use value::{Closure, Value};
