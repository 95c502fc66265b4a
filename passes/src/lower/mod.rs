//! From fused modules to plans of TIR kernels.

pub mod bound;
pub mod eval;
pub mod group_to_te;
pub mod in_place;
pub mod kernels;
pub mod memory;
pub mod plan;
pub mod program;
mod tail;

pub use program::{lower, lower_within};
