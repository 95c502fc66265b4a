//! Norms: over given statistics (batch), over the data's own (layer, group, instance, RMS),
//! over neighbouring channels (LRN), and to unit length (L2).
//!
//! ONNX's layer norm over several axes is one over their product, with reshapes around it.

pub mod batch;
pub mod local;
mod lower;
pub mod rows;

pub use batch::{BATCH_NORM, BatchNormAttrs};
pub use local::{L2_NORMALIZE, L2NormalizeAttrs, LRN, LrnAttrs};
pub use rows::{
    GROUP_NORM, GroupNormAttrs, INSTANCE_NORM, InstanceNormAttrs, LAYER_NORM, LayerNormAttrs, RMS_NORM,
    RmsNormAttrs,
};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] =
    &[&BATCH_NORM, &GROUP_NORM, &INSTANCE_NORM, &L2_NORMALIZE, &LAYER_NORM, &LRN, &RMS_NORM];
