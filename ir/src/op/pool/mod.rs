//! Poolings: maxima and means of windows, of even shares (adaptive), and of whole channels (global).
//!
//! In ceil mode a last window may reach past the padding after the data, if it starts before
//! it; elements past the padding are never counted. ONNX's `LpPool` is a composition:
//! the power's mean over windows, times their size, to the inverse power.

mod attrs;
pub mod index;
mod lower;
mod rows;
mod span;

pub use attrs::{
    AdaptivePool1dAttrs, AdaptivePool2dAttrs, AdaptivePool3dAttrs, AvgPool1dAttrs, AvgPool2dAttrs,
    AvgPool3dAttrs, GlobalPool2dAttrs, MaxPool1dAttrs, MaxPool2dAttrs, MaxPool3dAttrs,
};
pub use index::{MAX_POOL2D_WITH_INDEX, MaxPool2dWithIndexAttrs};
pub use rows::{
    ADAPTIVE_AVG_POOL1D, ADAPTIVE_AVG_POOL2D, ADAPTIVE_AVG_POOL3D, ADAPTIVE_MAX_POOL1D, ADAPTIVE_MAX_POOL2D,
    ADAPTIVE_MAX_POOL3D, AVG_POOL1D, AVG_POOL2D, AVG_POOL3D, GLOBAL_AVG_POOL2D, GLOBAL_MAX_POOL2D,
    MAX_POOL1D, MAX_POOL2D, MAX_POOL3D,
};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[
    &ADAPTIVE_AVG_POOL1D,
    &ADAPTIVE_AVG_POOL2D,
    &ADAPTIVE_AVG_POOL3D,
    &ADAPTIVE_MAX_POOL1D,
    &ADAPTIVE_MAX_POOL2D,
    &ADAPTIVE_MAX_POOL3D,
    &AVG_POOL1D,
    &AVG_POOL2D,
    &AVG_POOL3D,
    &GLOBAL_AVG_POOL2D,
    &GLOBAL_MAX_POOL2D,
    &MAX_POOL1D,
    &MAX_POOL2D,
    &MAX_POOL2D_WITH_INDEX,
    &MAX_POOL3D,
];
