//! Tensor Expressions: what an operator computes, as stages over tensors of static shape.

pub mod expr;
pub mod primfunc;
pub mod print;

pub use expr::{Axis, Combiner, Compute, Graph, KEPT, Reduce, Stage, StageKind, Tensor};
pub use primfunc::create_prim_func;
