//! Operators that arrange elements: shapes, order, joining, slicing, and tensors made from nothing.

mod dims;
pub mod join;
mod layout;
pub mod order;
mod reindex;
pub mod repeat;
pub mod shape;
pub mod slice;

pub use join::{CONCATENATE, ConcatenateAttrs, SPLIT, STACK, Sections, SplitAttrs, StackAttrs};
pub use order::{
    LAYOUT_TRANSFORM, LayoutTransformAttrs, REVERSE, REVERSE_SEQUENCE, ReverseAttrs, ReverseSequenceAttrs,
    TRANSPOSE, TransposeAttrs,
};
pub use repeat::{MESHGRID, MeshgridAttrs, REPEAT, RepeatAttrs, TILE, TileAttrs};
pub use shape::{
    BATCH_FLATTEN, EXPAND_DIMS, EXPAND_LIKE, ExpandDimsAttrs, ExpandLikeAttrs, RESHAPE, RESHAPE_LIKE,
    REVERSE_RESHAPE, ReshapeAttrs, ReshapeLikeAttrs, SQUEEZE, SqueezeAttrs,
};
pub use slice::{
    SLICE_LIKE, SLIDING_WINDOW, STRIDED_SET, STRIDED_SLICE, SliceLikeAttrs, SlidingWindowAttrs,
    StridedSliceAttrs,
};

pub(super) use reindex::unflatten;

use super::OpDef;

/// The rows of this family.
pub static OPS: &[&OpDef] = &[
    &BATCH_FLATTEN,
    &CONCATENATE,
    &EXPAND_DIMS,
    &EXPAND_LIKE,
    &LAYOUT_TRANSFORM,
    &MESHGRID,
    &REPEAT,
    &RESHAPE,
    &RESHAPE_LIKE,
    &REVERSE,
    &REVERSE_RESHAPE,
    &REVERSE_SEQUENCE,
    &SLICE_LIKE,
    &SLIDING_WINDOW,
    &SPLIT,
    &SQUEEZE,
    &STACK,
    &STRIDED_SET,
    &STRIDED_SLICE,
    &TILE,
    &TRANSPOSE,
];

#[cfg(test)]
mod tests;
