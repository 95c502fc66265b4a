//! Operators that read and write where index tensors say.
//!
//! Indices are defined for every value. Reading operators bring an index within the
//! dimension ([`Bounds`]); writing operators count negative ones from the end and drop what
//! lies outside. Reading from a dimension of size 0 gives zeros.

mod bounds;
pub mod gather;
pub mod scatter;
pub mod take;

pub use bounds::Bounds;
pub use gather::{ADV_INDEX, GATHER, GATHER_ND, GatherAttrs, GatherNdAttrs};
pub use scatter::{
    SCATTER_ELEMENTS, SCATTER_ND, SPARSE_TO_DENSE, ScatterElementsAttrs, ScatterNdAttrs, SparseToDenseAttrs,
};
pub use take::{TAKE, TakeAttrs};

use super::OpDef;

/// The rows of this family.
pub static OPS: &[&OpDef] =
    &[&ADV_INDEX, &GATHER, &GATHER_ND, &SCATTER_ELEMENTS, &SCATTER_ND, &SPARSE_TO_DENSE, &TAKE];

#[cfg(test)]
mod tests;
