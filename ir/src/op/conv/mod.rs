//! Convolutions: plain, transposed, and on packed weights.
//!
//! They compute cross-correlation, as all frameworks do. Depthwise convolution is one group
//! a channel. Integer data accumulates in the result's dtype, so `out_dtype="int32"` is what
//! quantised models ask for.

mod attrs;
mod geometry;
mod kernel;
pub mod packed;
pub mod plain;
pub mod transpose;

pub use attrs::{
    Conv1dAttrs, Conv1dTransposeAttrs, Conv2dAttrs, Conv2dTransposeAttrs, Conv3dAttrs, Conv3dTransposeAttrs,
};
pub use packed::{CONV2D_PACK_WEIGHT, CONV2D_PACKED, Conv2dPackWeightAttrs, Conv2dPackedAttrs};
pub use plain::{CONV1D, CONV2D, CONV3D};
pub use transpose::{CONV1D_TRANSPOSE, CONV2D_TRANSPOSE, CONV3D_TRANSPOSE};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[
    &CONV1D,
    &CONV1D_TRANSPOSE,
    &CONV2D,
    &CONV2D_PACK_WEIGHT,
    &CONV2D_PACKED,
    &CONV2D_TRANSPOSE,
    &CONV3D,
    &CONV3D_TRANSPOSE,
];
