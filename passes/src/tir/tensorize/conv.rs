//! Convolutions and poolings in NCHW: packed convolutions on `conv2d_f32`, depthwise ones on
//! `depthwise_conv2d_f32`, poolings over windows on `max_pool2d_f32` and `avg_pool2d_f32`.
//!
//! A tile is some output rows of some channels of one image. A convolution of single places, which
//! has no neighbours to see, sees its image as one column of pixels, so that a tile is any of them.

mod channelwise;
mod column;

use fermata_ir::op::conv::{CONV2D_PACKED, Conv2dPackedAttrs};
use fermata_ir::tir::{Expr, LoopKind, Region, Stmt};
use fermata_ir::types::DType;

use super::super::checkpoint::Goal;
use super::super::cost::intrin::{self as model, conv2d};
use super::super::inline::Env;
use super::super::joint::ALONE;
use super::super::nest::{Nest, Refusal};
use super::super::rules_cpu::Scheduled;
use super::{Anchored, Origin, TILE_FLOPS, clipped, close, epilogue, intrin, over_tiles, range, var};
use channelwise::Channelwise;
pub use channelwise::channelwise;

/// Output channels of a tile of a packed convolution, where there are as many.
const MIN_CHANNELS: usize = 256;

/// Output pixels of a tile of a packed convolution, where there are as many: they share the
/// weights, which come from far.
const MIN_PIXELS: usize = 192;

/// The sizes of a convolution.
struct Conv {
    images: usize,
    groups: usize,
    /// Output channels of a group.
    channels: usize,
    out_h: usize,
    out_w: usize,
    /// Input channels of a group.
    in_channels: usize,
    in_h: usize,
    in_w: usize,
    kernel: [usize; 2],
    strides: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    form: Form,
}

/// What is done with what a window sees.
enum Form {
    /// Products with all input channels of a group, by weights in panels of this width.
    Packed { mr: usize },
    /// Something for each channel alone.
    Channelwise(Channelwise),
}

/// How it is cut into tiles.
struct Tiling {
    channels: usize,
    rows: usize,
    channel_tiles: usize,
    row_tiles: usize,
}

fn pair(values: &[i64]) -> [usize; 2] {
    let at = |i: usize| values.get(i).or(values.first()).map_or(1, |&n| n.max(0) as usize);
    [at(0), at(1)]
}

/// The padding before the first row and column.
fn leading(padding: &[i64]) -> [usize; 2] {
    match padding {
        [] => [0, 0],
        _ => pair(padding),
    }
}

impl Conv {
    /// # Panics
    /// If the operator is none of those that [`super::kind`] takes for this.
    fn new(origin: &Origin, out: &[usize]) -> Conv {
        if let Some(alone) = channelwise(origin) {
            return alone.sizes(&origin.args[0].shape, out);
        }
        let (x, w) = (&origin.args[0].shape, &origin.args[1].shape);
        debug_assert!(origin.op.is(&CONV2D_PACKED), "a convolution by panels");
        let a: Conv2dPackedAttrs = origin.attrs.read();
        let groups = a.groups as usize;
        Conv {
            images: out[0],
            groups,
            channels: out[1] / groups,
            out_h: out[2],
            out_w: out[3],
            in_channels: x[1] / groups,
            in_h: x[2],
            in_w: x[3],
            kernel: pair(&a.kernel_size),
            strides: pair(&a.strides),
            padding: leading(&a.padding),
            dilation: pair(&a.dilation),
            form: Form::Packed { mr: w[3] },
        }
    }

    /// Whether every output pixel is made of the input pixel at its place.
    fn is_pointwise(&self) -> bool {
        let same = [self.in_h, self.in_w] == [self.out_h, self.out_w];
        let packed = matches!(self.form, Form::Packed { .. });
        packed && same && self.kernel == [1, 1] && self.strides == [1, 1] && self.padding == [0, 0]
    }

    /// The same of an image that is one column of pixels.
    fn in_one_column(self) -> Conv {
        let pixels = self.out_h * self.out_w;
        Conv { out_h: pixels, out_w: 1, in_h: pixels, in_w: 1, ..self }
    }

    fn flops(&self, channels: usize, rows: usize) -> usize {
        2 * channels * rows * self.out_w * self.in_channels * self.kernel[0] * self.kernel[1]
    }

    fn tiling(&self, goal: &Goal<'_>) -> Tiling {
        let [rows, channels] = match self.form {
            Form::Channelwise(_) => channelwise::tile(self, goal),
            Form::Packed { mr } => self.packed_tile(mr, goal),
        };
        let (channel_tiles, row_tiles) = (self.channels.div_ceil(channels), self.out_h.div_ceil(rows));
        Tiling { channels, rows, channel_tiles, row_tiles }
    }

    /// Rows and channels of a tile of a packed convolution.
    fn packed_tile(&self, mr: usize, goal: &Goal<'_>) -> [usize; 2] {
        let peaks = goal.target.peaks();
        // Pixels of a column come in whole vectors.
        let step = if self.out_w == 1 { peaks.lanes } else { 1 };
        let heights = (1..).map(|i| i * step).take_while(|&r| r < self.out_h).chain([self.out_h.max(1)]);
        let widths = || (1..=self.channels.div_ceil(mr)).map(|c| c * mr);
        let candidates = heights.flat_map(|r| widths().map(move |c| [r, c]));
        goal.choose(self.raw_tile(mr), candidates, |[rows, channels]| {
            let cost = |rows: usize, channels: usize| {
                let depth = self.in_channels * self.kernel[0] * self.kernel[1];
                let (places, stride) = (self.kernel[1], self.strides[1]);
                let (channels, width) = (channels.min(self.channels), self.out_w);
                conv2d(&model::Conv { channels, rows, width, depth, places, stride }, &peaks)
            };
            (cost(rows, channels), over_tiles([self.out_h, self.channels], [rows, channels], cost))
        })
    }

    /// Rows and channels of a tile of the fastest packed convolution.
    fn raw_tile(&self, mr: usize) -> [usize; 2] {
        let rows = (TILE_FLOPS / self.flops(self.channels, 1).max(1)).max(1);
        let rows = rows.max(MIN_PIXELS.div_ceil(self.out_w.max(1))).clamp(1, self.out_h.max(1));
        let row_tiles = self.out_h.div_ceil(rows);
        // Few rows leave the channels to be shared out.
        let spread = 4usize.div_ceil(self.images * self.groups * row_tiles.max(1));
        // Every tile gathers its part of the input anew: many channels share the work.
        let fitting = (TILE_FLOPS / self.flops(1, rows).max(1)).max(MIN_CHANNELS);
        let channels = fitting.clamp(1, self.channels.div_ceil(spread).max(1)).next_multiple_of(mr);
        let channels = channels.min(self.channels.next_multiple_of(mr)).max(1);
        [rows, channels]
    }
}

/// Emits the kernel.
pub fn emit(
    mut nest: Nest<'_>,
    anchored: &Anchored<'_>,
    origin: &Origin,
    goal: &Goal<'_>,
) -> Result<Scheduled, Refusal> {
    let output = anchored.root.outputs[0];
    let mut conv = Conv::new(origin, &nest.func.buffers[output].shape);
    let indices: Vec<Expr> = anchored.axes.iter().map(|a| a.expr()).collect();
    let mut element = epilogue(anchored, &nest, indices);
    if conv.is_pointwise()
        && let Some(column) = column::see(&nest.func.buffers, anchored, &element, [origin.args[0].id, output])
    {
        column.buffers.iter().for_each(|&b| column::reshape(&mut nest.func.buffers[b].shape));
        element = column.element;
        conv = conv.in_one_column();
    }
    let tiling = conv.tiling(goal);
    let tiles = conv.images * conv.groups * tiling.channel_tiles * tiling.row_tiles;
    let tile = nest.var("t", DType::I64);
    nest.open(tile, tiles.into(), LoopKind::Tiles);
    let rows_in = tiling.row_tiles.max(1);
    let row0 = nest.bind_fresh_named("row0", var(tile).floor_mod(rows_in) * tiling.rows);
    let rest = var(tile).floor_div(rows_in);
    let channel0 = rest.clone().floor_mod(tiling.channel_tiles.max(1)) * tiling.channels;
    let channel0 = nest.bind_fresh_named("channel0", channel0);
    let rest = rest.floor_div(tiling.channel_tiles.max(1));
    let group = nest.bind_fresh_named("group", rest.clone().floor_mod(conv.groups));
    let image = nest.bind_fresh_named("image", rest.floor_div(conv.groups));
    let rows = nest.bind_fresh_named("rows", clipped(tiling.rows, conv.out_h, &row0));
    let channels = nest.bind_fresh_named("channels", clipped(tiling.channels, conv.channels, &channel0));
    let place = Place { image, group, channel0, channels, row0, rows };
    let call = call(&mut nest, anchored, origin, &conv, &place);
    nest.push(call);
    if let Some(element) = element {
        emit_epilogue(&mut nest, anchored, &conv, &element, &place)?;
    }
    nest.close();
    Ok(close(nest, anchored.root, &ALONE))
}

/// Where a tile lies.
struct Place {
    image: Expr,
    group: Expr,
    channel0: Expr,
    channels: Expr,
    row0: Expr,
    rows: Expr,
}

/// The call of the intrinsic for a tile.
fn call(nest: &mut Nest<'_>, anchored: &Anchored<'_>, origin: &Origin, conv: &Conv, at: &Place) -> Stmt {
    let first = at.group.clone() * conv.channels + at.channel0.clone();
    let y = Region {
        buffer: anchored.root.outputs[0],
        ranges: vec![
            range(&at.image, 1i64),
            range(&first, &at.channels),
            range(&at.row0, &at.rows),
            range(0i64, conv.out_w),
        ],
    };
    let image = |channel0: Expr, channels: Expr| Region {
        buffer: origin.args[0].id,
        ranges: vec![
            range(&at.image, 1i64),
            range(channel0, channels),
            range(0i64, conv.in_h),
            range(0i64, conv.in_w),
        ],
    };
    let sizes = [conv.in_h, conv.in_w, conv.kernel[0], conv.kernel[1]];
    let window = [conv.strides, conv.padding, conv.dilation].concat();
    let tail = sizes.into_iter().chain(window).map(Expr::from);
    let mr = match &conv.form {
        Form::Packed { mr } => *mr,
        Form::Channelwise(alone) => {
            let head = [at.channels.clone(), at.row0.clone(), at.rows.clone(), conv.out_w.into()];
            let mut regions = vec![y, image(at.channel0.clone(), at.channels.clone())];
            regions.extend(alone.weights(nest, origin, conv, at));
            let params = head.into_iter().chain(tail).chain(alone.counted()).collect();
            return intrin(alone.intrinsic(), regions, params);
        }
    };
    let depth = conv.in_channels * conv.kernel[0] * conv.kernel[1];
    let panels = (at.channels.clone() + (mr - 1)).floor_div(mr);
    let weight = Region {
        buffer: origin.args[1].id,
        ranges: vec![
            range(&at.group, 1i64),
            range(at.channel0.clone().floor_div(mr), panels),
            range(0i64, depth),
            range(0i64, mr),
        ],
    };
    let group_channels = at.group.clone() * conv.in_channels;
    let regions = vec![y, image(group_channels, conv.in_channels.into()), weight];
    let head =
        [at.channels.clone(), at.row0.clone(), at.rows.clone(), conv.out_w.into(), conv.in_channels.into()];
    let params = head.into_iter().chain(tail).chain([mr.into()]).collect();
    intrin("conv2d_f32", regions, params)
}

/// The elementwise stage over the tile, in place.
fn emit_epilogue(
    nest: &mut Nest<'_>,
    anchored: &Anchored<'_>,
    conv: &Conv,
    element: &Expr,
    at: &Place,
) -> Result<(), Refusal> {
    let c = nest.var("c", DType::I64);
    nest.open(c, at.channels.clone(), LoopKind::Serial);
    let first = at.group.clone() * conv.channels + at.channel0.clone();
    let channel = nest.bind_fresh_named("channel", first + var(c));
    let y = nest.var("y", DType::I64);
    let (row, x) = if conv.out_w == 1 {
        nest.open(y, at.rows.clone(), LoopKind::Vectorized);
        (at.row0.clone() + var(y), Expr::int(0))
    } else {
        nest.open(y, at.rows.clone(), LoopKind::Serial);
        let row = nest.bind_fresh_named("row", at.row0.clone() + var(y));
        let x = nest.var("x", DType::I64);
        nest.open(x, conv.out_w.into(), LoopKind::Vectorized);
        (row, var(x))
    };
    let indices = vec![at.image.clone(), channel, row, x];
    let env: Env = anchored.axes.iter().map(|a| a.var).zip(indices.iter().cloned()).collect();
    let element = nest.inliner().instantiate(element, &env);
    let value = nest.place(&element)?;
    nest.push(Stmt::Store { buffer: anchored.root.outputs[0], indices, value });
    (0..if conv.out_w == 1 { 2 } else { 3 }).for_each(|_| nest.close());
    Ok(())
}
