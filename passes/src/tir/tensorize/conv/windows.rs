//! What the windows of a convolution see, gathered by a kernel of its own.
//!
//! Tiles of few channels would gather their pixels over and over. Where a short tile cannot hold
//! all channels of a few pixels, the pixels are gathered once into panels, and the tiles multiply
//! panels of weights with panels of pixels. That depends on the convolution and the target alone,
//! so the schedule under a bound and the one without have the same kernels.

use fermata_ir::op::conv::CONV2D_PACKED;
use fermata_ir::te::{Graph, Stage, Tensor};
use fermata_ir::tir::{BufferId, LoopKind, Region, Stmt};
use fermata_ir::types::DType;

use super::super::{Anchored, Origin, clipped, intrin, prepared, range, var};
use super::{Conv, MAX_PIXELS, Place, column, model};
use crate::target::{CpuPeaks, CpuTarget};

/// The argument of a convolution's origin that holds its gathered windows.
pub(super) const WINDOWS_ARG: usize = 2;

/// Nanoseconds of a tile that should hold all channels of two vectors of pixels.
const SHORT_TILE: f64 = 20_000.0;

/// Nanoseconds of a tile that gathers, at most.
const GATHER_TILE: f64 = 8_000.0;

/// The most bytes of gathered windows; more would travel through memory.
const MAX_BYTES: usize = 8 << 20;

/// The windows of a convolution that is better off so, and the stage that gathers them.
pub(in super::super) fn gathered(
    graph: &mut Graph,
    origin: &Origin,
    output: BufferId,
    target: &CpuTarget,
) -> Option<(Tensor, Stage)> {
    let result = &graph.buffers[output];
    let all_f32 = origin.args.iter().all(|a| a.dtype == DType::F32) && result.dtype == DType::F32;
    let conv = origin.op.is(&CONV2D_PACKED).then(|| Conv::new(origin, &result.shape))?;
    let peaks = target.peaks();
    (all_f32 && conv.needs_windows(&peaks)).then(|| gather_stage(graph, &origin.args[0], &conv, &peaks))
}

/// Whether a convolution's windows are there and its stage treats all pixels alike, as its tiles
/// need then; true if they are not there.
pub(in super::super) fn allow(graph: &Graph, anchored: &Anchored<'_>, origin: &Origin) -> bool {
    let images = [anchored.tensor];
    let element = Some(anchored.element.clone());
    origin.args.len() <= WINDOWS_ARG || column::see(&graph.buffers, anchored, &element, &images).is_some()
}

/// The panels of pixels that a tile multiplies.
pub(super) fn region(windows: &Tensor, conv: &Conv, nr: usize, at: &Place) -> Region {
    let panels = (at.rows.clone() + (nr - 1)).floor_div(nr);
    let ranges = vec![
        range(at.image.clone() * conv.groups + at.group.clone(), 1i64),
        range(at.row0.clone().floor_div(nr), panels),
        range(0i64, conv.depth()),
        range(0i64, nr),
    ];
    Region { buffer: windows.id, ranges }
}

impl Conv {
    fn needs_windows(&self, peaks: &CpuPeaks) -> bool {
        let pixels = self.out_h * self.out_w;
        let nr = panel_width(peaks);
        let bytes = 4 * self.images * self.groups * pixels.next_multiple_of(nr) * self.depth();
        self.out_h > 1
            && self.out_w > 1
            && pixels <= MAX_PIXELS
            && self.depth() > 0
            && bytes <= MAX_BYTES
            && self.cycles(2 * peaks.lanes, self.channels, false, peaks) / peaks.clock > SHORT_TILE
    }
}

/// Pixels of a panel: the widest register tile.
fn panel_width(peaks: &CpuPeaks) -> usize {
    peaks.lanes * peaks.tile[1]
}

/// The stage that gathers, some panels of some input channels a tile, and its tensor.
fn gather_stage(graph: &mut Graph, x: &Tensor, conv: &Conv, peaks: &CpuPeaks) -> (Tensor, Stage) {
    let (nr, pixels, taps) = (panel_width(peaks), conv.out_h * conv.out_w, conv.kernel[0] * conv.kernel[1]);
    let panels = pixels.div_ceil(nr);
    let shape = [conv.images * conv.groups, panels, conv.depth(), nr];
    let windows = graph.tensor("windows", &shape, DType::F32);
    let [rows, channels] = gather_tile(conv, panels, nr, peaks);
    let (row_parts, parts) = (panels.div_ceil(rows), conv.in_channels.div_ceil(channels));
    let t = graph.var("t", DType::I64);
    let channel0 = var(t).floor_mod(parts) * channels;
    let count = clipped(channels, conv.in_channels, &channel0);
    let rest = var(t).floor_div(parts);
    let (panel, outer) = (rest.clone().floor_mod(row_parts) * rows, rest.floor_div(row_parts));
    let rows = clipped(rows, panels, &panel);
    let to = Region {
        buffer: windows.id,
        ranges: vec![
            range(&outer, 1i64),
            range(&panel, &rows),
            range(channel0.clone() * taps, count.clone() * taps),
            range(0i64, nr),
        ],
    };
    let (image, group) = (outer.clone().floor_div(conv.groups), outer.floor_mod(conv.groups));
    let from = Region {
        buffer: x.id,
        ranges: vec![
            range(image, 1i64),
            range(group * conv.in_channels + channel0, &count),
            range(0i64, conv.in_h),
            range(0i64, conv.in_w),
        ],
    };
    let head = [panel, rows, pixels.into(), conv.line.into(), count];
    let window = [[conv.in_h, conv.in_w], conv.kernel, conv.strides, conv.padding, conv.dilation].concat();
    let params = head.into_iter().chain(window.into_iter().chain([nr]).map(Into::into)).collect();
    let body = Stmt::For {
        var: t,
        extent: (conv.images * conv.groups * row_parts * parts).into(),
        kind: LoopKind::Parallel,
        body: Box::new(intrin("conv2d_windows_f32", vec![to, from], params)),
    };
    let stage = prepared("windows", x.id, windows.id, body);
    (windows, stage)
}

/// Panels and input channels of a tile that gathers.
fn gather_tile(conv: &Conv, panels: usize, nr: usize, peaks: &CpuPeaks) -> [usize; 2] {
    let window = model::Conv {
        channels: 0,
        pixels: nr,
        width: conv.line,
        depth: conv.kernel[0] * conv.kernel[1],
        places: conv.kernel[1],
        stride: conv.strides[1],
    };
    let one = model::conv2d(&window, peaks) / peaks.clock;
    let parts = |whole: usize, fitting: f64| {
        let fitting = (fitting as usize).clamp(1, whole);
        whole.div_ceil(whole.div_ceil(fitting))
    };
    let channels = parts(conv.in_channels, GATHER_TILE / one);
    [parts(panels, GATHER_TILE / (one * channels as f64)), channels]
}
