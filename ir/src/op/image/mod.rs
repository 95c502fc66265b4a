//! Images: resizing, sampling on grids, and regions of interest.

mod coords;
pub mod grid;
pub mod resize;
pub mod roi;

pub use grid::{AFFINE_GRID, AffineGridAttrs, GRID_SAMPLE, GridSampleAttrs};
pub use resize::{
    RESIZE1D, RESIZE2D, RESIZE3D, Resize1dAttrs, Resize2dAttrs, Resize3dAttrs, UPSAMPLING, UpsamplingAttrs,
};
pub use roi::{ROI_ALIGN, RoiAlignAttrs};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] =
    &[&AFFINE_GRID, &GRID_SAMPLE, &RESIZE1D, &RESIZE2D, &RESIZE3D, &ROI_ALIGN, &UPSAMPLING];
