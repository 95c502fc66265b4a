//! Operators that arrange elements: shapes, order, joining, slicing, and tensors made from nothing.

mod dims;
mod layout;
pub mod order;
mod reindex;
pub mod shape;

pub use order::{
    LAYOUT_TRANSFORM, LayoutTransformAttrs, REVERSE, REVERSE_SEQUENCE, ReverseAttrs, ReverseSequenceAttrs,
    TRANSPOSE, TransposeAttrs,
};
pub use shape::{
    BATCH_FLATTEN, EXPAND_DIMS, EXPAND_LIKE, ExpandDimsAttrs, ExpandLikeAttrs, RESHAPE, RESHAPE_LIKE,
    REVERSE_RESHAPE, ReshapeAttrs, ReshapeLikeAttrs, SQUEEZE, SqueezeAttrs,
};

use super::OpDef;

/// The rows of this family.
pub static OPS: &[&OpDef] = &[
    &BATCH_FLATTEN,
    &EXPAND_DIMS,
    &EXPAND_LIKE,
    &LAYOUT_TRANSFORM,
    &RESHAPE,
    &RESHAPE_LIKE,
    &REVERSE,
    &REVERSE_RESHAPE,
    &REVERSE_SEQUENCE,
    &SQUEEZE,
    &TRANSPOSE,
];

#[cfg(test)]
mod tests;
