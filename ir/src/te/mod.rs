//! Tensor Expressions: what an operator computes, as stages over tensors of static shape.

pub mod expr;

pub use expr::{Axis, Combiner, Compute, Graph, Stage, StageKind, Tensor};
