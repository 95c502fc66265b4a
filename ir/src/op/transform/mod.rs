//! Operators that arrange elements: shapes, order, joining, slicing, and tensors made from nothing.

pub mod create;
mod dims;
pub mod einsum;
pub mod join;
pub(super) mod layout;
pub mod mask;
pub mod order;
mod reindex;
pub mod repeat;
pub mod shape;
pub mod slice;

pub use create::{
    ARANGE, ArangeAttrs, EYE, EyeAttrs, NDARRAY_SIZE, ONE_HOT, OneHotAttrs, SHAPE_OF, ShapeOfAttrs,
};
pub use einsum::{EINSUM, EinsumAttrs};
pub use join::{CONCATENATE, ConcatenateAttrs, SPLIT, STACK, Sections, SplitAttrs, StackAttrs};
pub use mask::{
    INVERT_PERMUTATION, MATRIX_SET_DIAG, MatrixSetDiagAttrs, SEQUENCE_MASK, SequenceMaskAttrs, TRILU,
    TriluAttrs, UNRAVEL_INDEX,
};
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
    &ARANGE,
    &BATCH_FLATTEN,
    &CONCATENATE,
    &EINSUM,
    &EXPAND_DIMS,
    &EXPAND_LIKE,
    &EYE,
    &INVERT_PERMUTATION,
    &LAYOUT_TRANSFORM,
    &MATRIX_SET_DIAG,
    &MESHGRID,
    &NDARRAY_SIZE,
    &ONE_HOT,
    &REPEAT,
    &RESHAPE,
    &RESHAPE_LIKE,
    &REVERSE,
    &REVERSE_RESHAPE,
    &REVERSE_SEQUENCE,
    &SEQUENCE_MASK,
    &SHAPE_OF,
    &SLICE_LIKE,
    &SLIDING_WINDOW,
    &SPLIT,
    &SQUEEZE,
    &STACK,
    &STRIDED_SET,
    &STRIDED_SLICE,
    &TILE,
    &TRANSPOSE,
    &TRILU,
    &UNRAVEL_INDEX,
];

#[cfg(test)]
mod tests;
