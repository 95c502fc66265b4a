//! Sampling of images at places that are computed.

use super::{Row, one};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::image::{GRID_SAMPLE, GridSampleAttrs, ROI_ALIGN, RoiAlignAttrs};

/// Images.
pub(super) const ROWS: &[Row] = &[one!("GridSample", grid_sample), one!("RoiAlign", roi_align)];

fn grid_sample(cx: &mut Cx<'_, '_>) -> Step {
    let (x, grid) = (cx.arg(0)?, cx.arg(1)?);
    if cx.rank(x)? != 4 || cx.rank(grid)? != 4 {
        return refuse("GridSample is supported over two dimensions only");
    }
    let method = match cx.text("mode", "bilinear")? {
        "bilinear" | "linear" => "bilinear",
        "bicubic" | "cubic" => "bicubic",
        "nearest" => "nearest",
        other => return refuse(format!("mode `{other}` of GridSample is not supported")),
    };
    let padding_mode = match cx.text("padding_mode", "zeros")? {
        mode @ ("zeros" | "border" | "reflection") => mode,
        other => return refuse(format!("padding_mode `{other}` is not supported")),
    };
    let grid = cx.cast(grid, cx.dtype(x)?)?;
    let grid = cx.transpose(grid, &[0, 3, 1, 2])?;
    let attrs = GridSampleAttrs {
        method: method.into(),
        layout: "NCHW".into(),
        padding_mode: padding_mode.into(),
        align_corners: cx.flag("align_corners", false)?,
    };
    cx.call(&GRID_SAMPLE, &[x, grid], attrs.attrs())
}

fn roi_align(cx: &mut Cx<'_, '_>) -> Step {
    let (x, rois, batch) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let mode = match cx.text("mode", "avg")? {
        "avg" => "avg",
        // The maximum is taken of weighted neighbours there, of interpolated samples here.
        other => return refuse(format!("mode `{other}` of RoiAlign is not supported")),
    };
    let default = if cx.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let aligned = match cx.text("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return wrong(format!("coordinate_transformation_mode `{other}` does not exist")),
    };
    let batch = cx.cast(batch, cx.dtype(rois)?)?;
    let batch = cx.expand_dims(batch, 1, 1)?;
    let rois = cx.concat(&[batch, rois], 1)?;
    let attrs = RoiAlignAttrs {
        pooled_size: vec![cx.int("output_height", 1)?, cx.int("output_width", 1)?],
        spatial_scale: cx.float("spatial_scale", 1.0)?,
        sample_ratio: cx.int("sampling_ratio", 0)?,
        layout: "NCHW".into(),
        mode: mode.into(),
        aligned,
    };
    cx.call(&ROI_ALIGN, &[x, rois], attrs.attrs())
}
