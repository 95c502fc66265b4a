//! What is done for each channel alone: depthwise convolutions, and poolings over windows.

use fermata_ir::op::conv::{CONV2D, Conv2dAttrs};
use fermata_ir::op::pool::{AVG_POOL2D, AvgPool2dAttrs, MAX_POOL2D, MaxPool2dAttrs};
use fermata_ir::tir::{Expr, Region};
use fermata_ir::types::DType;

use super::super::super::checkpoint::Goal;
use super::super::super::nest::Nest;
use super::super::{Origin, range};
use super::{Conv, Form, Place, leading, pair};

/// Bytes of X and Y that a tile should touch. It does little for each, so the elementwise stage behind
/// it should find Y in the second-level cache.
const TILE_BYTES: usize = 128 << 10;

/// How windows lie, and what is done with the elements of a channel that one sees.
#[derive(Clone)]
pub struct Channelwise {
    kernel: [usize; 2],
    strides: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    fold: Fold,
}

#[derive(Clone)]
enum Fold {
    /// The sum of products with the channel's weights.
    Weights,
    /// The largest.
    Max,
    /// The mean, for which rows and columns of padding count: before the data, and behind it.
    Avg { before: [usize; 2], after: [usize; 2] },
}

/// What an operator does for each channel alone, if it is one of those and in the layout of the
/// intrinsics.
pub fn channelwise(origin: &Origin) -> Option<Channelwise> {
    let nchw = |layout: &str, out: &str| layout == "NCHW" && matches!(out, "" | "NCHW");
    if origin.op.is(&CONV2D) {
        let a: Conv2dAttrs = origin.attrs.read();
        let (x, w) = (&origin.args[0].shape, &origin.args[1].shape);
        let fits = nchw(&a.data_layout, &a.out_layout)
            && &*a.kernel_layout == "OIHW"
            && w[1] == 1
            && w[0] == x[1]
            && a.groups as usize == w[0]
            && a.out_dtype.is_none_or(|d| d == DType::F32);
        let window = [&a.strides[..], &a.padding, &a.dilation];
        return fits.then(|| Channelwise::new([w[2], w[3]], window, Fold::Weights));
    }
    // One window a row leaves vectors nothing to do; generic loops take several channels at once.
    let slides = |pool: &[i64]| origin.args[0].shape[3] > pair(pool)[1];
    if origin.op.is(&MAX_POOL2D) {
        let a: MaxPool2dAttrs = origin.attrs.read();
        let window = [&a.strides[..], &a.padding, &a.dilation];
        return (nchw(&a.layout, &a.out_layout) && slides(&a.pool_size))
            .then(|| Channelwise::new(pair(&a.pool_size), window, Fold::Max));
    }
    if origin.op.is(&AVG_POOL2D) {
        let a: AvgPool2dAttrs = origin.attrs.read();
        let window = [&a.strides[..], &a.padding, &a.dilation];
        let (before, after) = match a.count_include_pad {
            true => (leading(&a.padding), trailing(&a.padding)),
            false => ([0; 2], [0; 2]),
        };
        let fold = Fold::Avg { before, after };
        let fits = nchw(&a.layout, &a.out_layout) && slides(&a.pool_size);
        return fits.then(|| Channelwise::new(pair(&a.pool_size), window, fold));
    }
    None
}

/// The padding behind the last row and column.
fn trailing(padding: &[i64]) -> [usize; 2] {
    match padding {
        [_, _, after @ ..] if !after.is_empty() => pair(after),
        _ => leading(padding),
    }
}

/// Rows and channels of a tile.
pub(super) fn tile(conv: &Conv, goal: &Goal<'_>) -> [usize; 2] {
    let bytes = goal.cut(TILE_BYTES);
    let row_bytes = 4 * (conv.in_w * conv.strides[0] + conv.out_w).max(1);
    let rows = (bytes / row_bytes).clamp(1, conv.out_h.max(1));
    let row_tiles = conv.out_h.div_ceil(rows);
    let spread = 4usize.div_ceil((conv.images * row_tiles).max(1));
    let fitting = bytes / (row_bytes * rows);
    [rows, fitting.clamp(1, conv.channels.div_ceil(spread).max(1))]
}

impl Channelwise {
    fn new(kernel: [usize; 2], [strides, padding, dilation]: [&[i64]; 3], fold: Fold) -> Channelwise {
        let (strides, dilation) = (pair(strides), pair(dilation));
        Channelwise { kernel, strides, padding: leading(padding), dilation, fold }
    }

    /// The sizes, from the shapes of data and result.
    pub(super) fn sizes(self, x: &[usize], out: &[usize]) -> Conv {
        Conv {
            images: out[0],
            groups: 1,
            channels: out[1],
            out_h: out[2],
            out_w: out[3],
            line: out[3],
            in_channels: x[1],
            in_h: x[2],
            in_w: x[3],
            kernel: self.kernel,
            strides: self.strides,
            padding: self.padding,
            dilation: self.dilation,
            form: Form::Channelwise(self),
        }
    }

    /// The name of the intrinsic.
    pub fn intrinsic(&self) -> &'static str {
        match self.fold {
            Fold::Weights => "depthwise_conv2d_f32",
            Fold::Max => "max_pool2d_f32",
            Fold::Avg { .. } => "avg_pool2d_f32",
        }
    }

    /// The weights of a tile's channels, where there are some.
    pub(super) fn weights(
        &self,
        nest: &mut Nest<'_>,
        origin: &Origin,
        conv: &Conv,
        at: &Place,
    ) -> Option<Region> {
        let Fold::Weights = self.fold else { return None };
        let buffer = origin.args[1].id;
        nest.func.buffers[buffer].shape = vec![conv.channels, conv.kernel[0], conv.kernel[1]];
        let taps = [range(0i64, conv.kernel[0]), range(0i64, conv.kernel[1])];
        let ranges = [range(&at.channel0, &at.channels)].into_iter().chain(taps).collect();
        Some(Region { buffer, ranges })
    }

    /// The parameters that say what padding counts, where that matters.
    pub fn counted(&self) -> Vec<Expr> {
        match self.fold {
            Fold::Weights | Fold::Max => Vec::new(),
            Fold::Avg { before, after } => [before, after].concat().into_iter().map(Expr::from).collect(),
        }
    }
}
