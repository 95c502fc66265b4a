//! Convolutions and poolings in NCHW: packed convolutions on `conv2d_f32`, depthwise ones on
//! `depthwise_conv2d_f32`, poolings over windows on `max_pool2d_f32` and `avg_pool2d_f32`.
//!
//! A tile is some pixels of some channels of one image: where the stage behind a packed convolution
//! treats pixels alike, the result is seen as one column of them, else they are whole rows. A tile
//! gathers what its pixels' windows see, which few channels do not make good: where a short tile
//! could not hold them all, a kernel of its own gathers once for all tiles ([`windows`]).

mod channelwise;
mod column;
pub(super) mod windows;

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
use crate::target::CpuPeaks;
use channelwise::Channelwise;
pub use channelwise::channelwise;
use windows::WINDOWS_ARG;

/// Output channels of a tile of a packed convolution, where there are as many.
const MIN_CHANNELS: usize = 256;

/// Output pixels of a tile of a packed convolution, where there are as many: they share the
/// weights, which come from far.
const MIN_PIXELS: usize = 192;

/// The most pixels of an image that is seen as one column: the largest size that intrinsics take.
const MAX_PIXELS: usize = 1 << 20;

/// Cycles that a byte of packed operands adds to what a tile computes meanwhile.
const BYTE_CYCLES: f64 = 0.036;

/// The sizes of a convolution.
struct Conv {
    images: usize,
    groups: usize,
    /// Output channels of a group.
    channels: usize,
    /// Rows and columns of the result as tiles see it.
    out_h: usize,
    out_w: usize,
    /// Pixels of a row of the result.
    line: usize,
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
    /// Products with all input channels of a group.
    Packed(Widths),
    /// Something for each channel alone.
    Channelwise(Channelwise),
}

/// Widths of panels.
#[derive(Clone, Copy)]
struct Widths {
    /// Output channels in a panel of weights.
    mr: usize,
    /// Pixels in a panel of what their windows see; 0 if tiles gather that themselves.
    nr: usize,
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
        let nr = origin.args.get(WINDOWS_ARG).map_or(0, |windows| windows.shape[3]);
        Conv {
            images: out[0],
            groups,
            channels: out[1] / groups,
            out_h: out[2],
            out_w: out[3],
            line: out[3],
            in_channels: x[1] / groups,
            in_h: x[2],
            in_w: x[3],
            kernel: pair(&a.kernel_size),
            strides: pair(&a.strides),
            padding: leading(&a.padding),
            dilation: pair(&a.dilation),
            form: Form::Packed(Widths { mr: w[3], nr }),
        }
    }

    /// Whether every output pixel is made of the input pixel at its place.
    fn is_pointwise(&self) -> bool {
        let same = [self.in_h, self.in_w] == [self.out_h, self.out_w];
        same && self.kernel == [1, 1] && self.strides == [1, 1] && self.padding == [0, 0]
    }

    /// The same with a result that is one column of pixels; the image too, if it may be.
    fn in_one_column(self, image: bool) -> Conv {
        let pixels = self.out_h * self.out_w;
        let (in_h, in_w, line) = if image { (pixels, 1, 1) } else { (self.in_h, self.in_w, self.line) };
        Conv { out_h: pixels, out_w: 1, line, in_h, in_w, ..self }
    }

    /// Products of a sum.
    fn depth(&self) -> usize {
        self.in_channels * self.kernel[0] * self.kernel[1]
    }

    fn flops(&self, channels: usize, rows: usize) -> usize {
        2 * channels * rows * self.out_w * self.depth()
    }

    fn tiling(&self, goal: &Goal<'_>) -> Tiling {
        let [rows, channels] = match self.form {
            Form::Channelwise(_) => channelwise::tile(self, goal),
            Form::Packed(widths) => self.packed_tile(widths, goal),
        };
        let (channel_tiles, row_tiles) = (self.channels.div_ceil(channels), self.out_h.div_ceil(rows));
        Tiling { channels, rows, channel_tiles, row_tiles }
    }

    /// Rows and channels of a tile of a packed convolution.
    fn packed_tile(&self, widths: Widths, goal: &Goal<'_>) -> [usize; 2] {
        let peaks = goal.target.peaks();
        // Pixels of a column come in whole panels, or in whole vectors.
        let step = match widths.nr {
            0 if self.out_w == 1 => peaks.lanes,
            0 => 1,
            nr => nr,
        };
        let heights = (1..).map(|i| i * step).take_while(|&r| r < self.out_h).chain([self.out_h.max(1)]);
        let channels = || (1..=self.channels.div_ceil(widths.mr)).map(|c| c * widths.mr);
        let candidates = heights.flat_map(|r| channels().map(move |c| [r, c]));
        goal.choose(self.raw_tile(step, widths.mr), candidates, |[rows, channels]| {
            let cost = |rows: usize, channels: usize| {
                self.cycles(rows * self.out_w, channels.min(self.channels), widths.nr > 0, &peaks)
            };
            (cost(rows, channels), over_tiles([self.out_h, self.channels], [rows, channels], cost))
        })
    }

    /// Cycles of some pixels of some channels, whose windows are there or not.
    fn cycles(&self, pixels: usize, channels: usize, gathered: bool, peaks: &CpuPeaks) -> f64 {
        let depth = self.depth();
        if gathered {
            let bytes = 4 * depth * (channels + pixels);
            return model::panels(channels, pixels, depth, peaks) + BYTE_CYCLES * bytes as f64;
        }
        let (places, stride, width) = (self.kernel[1], self.strides[1], self.line);
        conv2d(&model::Conv { channels, pixels, width, depth, places, stride }, peaks)
    }

    /// Rows, a multiple of `step`, and channels of a tile of the fastest packed convolution.
    fn raw_tile(&self, step: usize, mr: usize) -> [usize; 2] {
        let rows = (TILE_FLOPS / self.flops(self.channels, 1).max(1)).max(1);
        let rows = rows.max(MIN_PIXELS.div_ceil(self.out_w.max(1)));
        let rows = rows.next_multiple_of(step).clamp(1, self.out_h.max(1));
        let row_tiles = self.out_h.div_ceil(rows);
        // Few rows leave the channels to be shared out.
        let spread = 4usize.div_ceil((self.images * self.groups * row_tiles).max(1));
        // Every tile brings its pixels near, which many channels share.
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
    if let Form::Packed(Widths { nr, .. }) = conv.form
        && conv.out_h * conv.out_w <= MAX_PIXELS
    {
        let whole = conv.is_pointwise() && nr == 0;
        let images = [output, origin.args[0].id];
        let images = if whole { &images[..] } else { &images[..1] };
        // What the convolution sees the neighbours in is no column, even if the stage behind reads it too.
        let square = |c: &column::Column| !whole && nr == 0 && c.buffers.contains(&origin.args[0].id);
        if let Some(column) = column::see(&nest.func.buffers, anchored, &element, images)
            && !square(&column)
        {
            column.buffers.iter().for_each(|&b| column::reshape(&mut nest.func.buffers[b].shape));
            element = column.element;
            conv = conv.in_one_column(whole);
        }
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
    let Widths { mr, nr } = match &conv.form {
        Form::Packed(widths) => *widths,
        Form::Channelwise(alone) => {
            let head = [at.channels.clone(), at.row0.clone(), at.rows.clone(), conv.out_w.into()];
            let mut regions = vec![y, image(at.channel0.clone(), at.channels.clone())];
            regions.extend(alone.weights(nest, origin, conv, at));
            let params = head.into_iter().chain(tail).chain(alone.counted()).collect();
            return intrin(alone.intrinsic(), regions, params);
        }
    };
    let panels = (at.channels.clone() + (mr - 1)).floor_div(mr);
    let weight = Region {
        buffer: origin.args[1].id,
        ranges: vec![
            range(&at.group, 1i64),
            range(at.channel0.clone().floor_div(mr), panels),
            range(0i64, conv.depth()),
            range(0i64, mr),
        ],
    };
    if let Some(windows) = origin.args.get(WINDOWS_ARG) {
        let b = windows::region(windows, conv, nr, at);
        let sizes = [at.channels.clone(), at.rows.clone(), conv.depth().into(), mr.into(), nr.into()];
        return intrin("gemm_f32_panels", vec![y, weight, b], sizes.into());
    }
    let group_channels = at.group.clone() * conv.in_channels;
    let regions = vec![y, image(group_channels, conv.in_channels.into()), weight];
    // Rows of the result, or pixels of one column.
    let [row0, pixel0] = match conv.out_w == conv.line {
        true => [at.row0.clone(), 0i64.into()],
        false => [0i64.into(), at.row0.clone()],
    };
    let head = [at.channels.clone(), row0, pixel0, at.rows.clone(), conv.out_w.into(), conv.line.into()];
    let params = head.into_iter().chain([conv.in_channels.into()]).chain(tail).chain([mr.into()]).collect();
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
