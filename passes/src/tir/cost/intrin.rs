//! Clock cycles of tensor intrinsics, by their sizes and the register tiles that compute them.

use fermata_ir::op::quant::PANEL;
use fermata_ir::tir::intrin::{CONV2D_ROWS, GEMM_I8_ROWS, GEMM_I8_STRIP, lookup};

use crate::target::CpuPeaks;

/// The part of a core's peak that the inner loops of products reach.
const EFFICIENCY: f64 = 0.95;

/// Steps of `k` that products of f32 go at a time.
const BLOCK: f64 = 512.0;

/// Cycles to begin a register tile and to store it.
const TILE: f64 = 20.0;

/// Cycles to gather a vector of a convolution's input: of one row, of two or with padding, and at
/// another stride than 1. They wait for lines that lie far apart.
const GATHER: f64 = 4.0;
const GATHER_ACROSS: f64 = 8.0;
const GATHER_STRIDED: f64 = 12.0;

/// Cycles for a place of a window of a row that is shorter than a vector, channel by channel.
const NARROW: f64 = 10.0;

/// Columns of a panel of an unpacked right operand, and cycles to pack an element of one.
const UNPACKED: usize = 48;
const PACK_ROWS: f64 = 0.3;
const PACK_COLUMNS: f64 = 1.6;

/// Cycles to widen a number of an int8 operand, and to make a sum real.
const WIDEN: f64 = 0.25;
const REAL: f64 = 0.9;

/// Cycles to quantise a number, and of any other intrinsic for an element that it writes.
const QUANTIZE: f64 = 1.3;
const OTHER: f64 = 2.0;

/// Cycles of a call with these parameters. An intrinsic without a model of its own costs what
/// its regions' elements do.
pub fn cycles(name: &str, params: &[i64], peaks: &CpuPeaks) -> f64 {
    let Some(intrinsic) = lookup(name) else { return 0.0 };
    if params.len() != intrinsic.params.len() {
        return 0.0;
    }
    let size = |name: &str| intrinsic.param(params, name).max(0) as usize;
    match name {
        "gemm_f32" => product(size("m"), size("n"), size("k"), peaks),
        "gemm_f32_nn" => {
            let [m, n, k] = [size("m"), size("n"), size("k")];
            let packs = m > 2 * peaks.tile[0] || !n.is_multiple_of(peaks.lanes);
            product(m, n, k, peaks) + if packs { (n * k) as f64 * PACK_ROWS } else { 0.0 }
        }
        "gemm_f32_nt" => {
            let [m, n, k] = [size("m"), size("n"), size("k")];
            product(m, n, k, peaks)
                + (n.next_multiple_of(UNPACKED).min(n + UNPACKED) * k) as f64 * PACK_COLUMNS
        }
        "gemm_i8" => product_i8(size("m"), size("n"), size("k"), peaks),
        "gemm_i8_widened" => product_widened_i8(size("m"), size("n"), size("k"), peaks),
        "widen_i8" => (size("m") * size("k")) as f64 * WIDEN,
        "conv2d_f32" => {
            let window = Conv {
                channels: size("oc"),
                pixels: size("rows") * size("cols"),
                width: size("ow"),
                depth: size("ic") * size("kh") * size("kw"),
                places: size("kw"),
                stride: size("sw"),
            };
            conv2d(&window, peaks)
        }
        "conv2d_windows_f32" => {
            let depth = size("ic") * size("kh") * size("kw");
            let vectors = size("panels") * size("nr").div_ceil(peaks.lanes);
            let (pixels, width, places, stride) = (0, size("ow"), size("kw"), size("sw"));
            let window = Conv { channels: 0, pixels, width, depth, places, stride };
            window.gather(peaks.lanes) * (vectors * depth) as f64
        }
        "gemm_f32_panels" => panels(size("m"), size("n"), size("k"), peaks),
        "avg_pool2d_f32" | "depthwise_conv2d_f32" | "max_pool2d_f32" => {
            let (rows, taps) = (size("c") * size("oh_count"), size("kh") * size("kw"));
            let lanes = if size("sw") == 1 { peaks.lanes as f64 } else { 2.0 };
            let whole = (rows * size("ow") * (taps + 3)) as f64 / lanes;
            whole.max(if size("ow") < peaks.lanes { (rows * taps) as f64 * NARROW } else { 0.0 })
        }
        "quantize_i8" => (size("m") * size("k")) as f64 * QUANTIZE * 4.0 / peaks.lanes as f64,
        _ => {
            let extents = intrinsic.check(params).unwrap_or_default();
            let elements = extents.first().map_or(0.0, |e| e.iter().map(|&n| n as f64).product());
            elements * OTHER
        }
    }
}

/// The elements that a call reads of a region which is larger than that: of a convolution's image
/// the rows that its output rows see.
pub fn read_elements(name: &str, region: usize, params: &[i64]) -> Option<f64> {
    let intrinsic = lookup(name).filter(|i| params.len() == i.params.len())?;
    let size = |name: &str| intrinsic.param(params, name).max(0);
    let (channels, rows) = match (name, region) {
        ("conv2d_f32", 1) => ("ic", (size("rows") * size("cols") - 1) / size("ow").max(1) + 1),
        ("conv2d_windows_f32", 1) => ("ic", size("panels") * size("nr") / size("ow").max(1) + 1),
        ("avg_pool2d_f32" | "depthwise_conv2d_f32" | "max_pool2d_f32", 1) => ("c", size("oh_count")),
        _ => return None,
    };
    let rows = (rows - 1).max(0) * size("sh") + (size("kh") - 1).max(0) * size("dh") + 1;
    Some((size(channels) * rows.min(size("h")) * size("w")) as f64)
}

/// Cycles of one step of `k` in a register tile: additions, operands to load, and the wait for
/// the last addition to the same sums.
fn step(rows: usize, vectors: usize) -> f64 {
    let (additions, loads) = ((rows * vectors) as f64 / 2.0, (rows + vectors) as f64 / 2.0);
    additions.max(loads).max(4.0)
}

/// Cycles of all register tiles of one strip of so many vectors, over `k` steps.
fn strip(m: usize, vectors: usize, k: usize, tile_rows: usize) -> f64 {
    let blocks = (k as f64 / BLOCK).ceil();
    let tiles =
        |rows: usize| step(rows, vectors) * k as f64 / EFFICIENCY + blocks * (TILE + (rows * vectors) as f64);
    let rest = m % tile_rows;
    (m / tile_rows) as f64 * tiles(tile_rows) + if rest > 0 { tiles(rest) } else { 0.0 }
}

/// A product of f32 matrices, its right operand packed.
pub fn product(m: usize, n: usize, k: usize, peaks: &CpuPeaks) -> f64 {
    let [rows, vectors] = peaks.tile;
    let columns = n.div_ceil(peaks.lanes);
    let rest = columns % vectors;
    let whole = (columns / vectors) as f64 * strip(m, vectors, k, rows);
    whole + if rest > 0 { strip(m, rest, k, rows) } else { 0.0 }
}

/// A product of int8 matrices: rows are widened a block at a time for all panels.
pub fn product_i8(m: usize, n: usize, k: usize, peaks: &CpuPeaks) -> f64 {
    let [nr, kr] = PANEL;
    let (n, k) = (n.next_multiple_of(nr), k.next_multiple_of(kr));
    // A block that is not full loads as many weights for fewer rows.
    let (whole, rest) = (m / GEMM_I8_STRIP, m % GEMM_I8_STRIP);
    let rows = (whole * GEMM_I8_STRIP) as f64 + if rest > 0 { (rest as f64).max(4.0) } else { 0.0 };
    2.0 * rows * (n * k) as f64 / peaks.i8_ops + (m * k) as f64 * WIDEN + (m * n) as f64 * REAL
}

/// A product of int8 matrices whose left operand was widened before: a panel of the right one is
/// widened once a block of rows.
pub fn product_widened_i8(m: usize, n: usize, k: usize, peaks: &CpuPeaks) -> f64 {
    let [nr, kr] = PANEL;
    let (n, k) = (n.next_multiple_of(nr), k.next_multiple_of(kr));
    let blocks = m.div_ceil(GEMM_I8_ROWS);
    2.0 * (m.next_multiple_of(4) * n * k) as f64 / peaks.i8_ops
        + (blocks * n * k) as f64 * WIDEN
        + (m * n) as f64 * REAL
}

/// The sizes of a convolution of one group that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Output channels.
    pub channels: usize,
    /// Output pixels.
    pub pixels: usize,
    /// Pixels of an output row.
    pub width: usize,
    /// Products of one sum: input channels times the places of the window.
    pub depth: usize,
    /// Places of the window along the columns.
    pub places: usize,
    /// Step of the window along the columns.
    pub stride: usize,
}

impl Conv {
    /// Cycles to gather a vector of pixels for one step.
    fn gather(&self, lanes: usize) -> f64 {
        if self.stride > 1 {
            return GATHER_STRIDED;
        }
        if self.width == 1 {
            return GATHER;
        }
        // Vectors that end a row, and with a window those that begin one, are put together.
        let ends = if self.places > 1 { 1.5 } else { 1.0 };
        let across = (ends * lanes as f64 / self.width as f64).min(1.0);
        GATHER * (1.0 - across) + GATHER_ACROSS * across
    }
}

/// A convolution: panels of pixels are gathered once for all channels, block of steps by block.
pub fn conv2d(conv: &Conv, peaks: &CpuPeaks) -> f64 {
    let widest = peaks.tile[1];
    let mut vectors = conv.pixels.div_ceil(peaks.lanes);
    let mut cycles = 0.0;
    while vectors > 0 {
        // As the implementation does: the last two panels of equal width.
        let take =
            if vectors == widest + 1 && widest > 1 { vectors.div_ceil(2) } else { vectors.min(widest) };
        let mut count = 1;
        if vectors > 2 * widest + 1 {
            count = (vectors - widest - 1) / widest;
        }
        let gather = conv.gather(peaks.lanes) * (take * conv.depth) as f64;
        cycles += count as f64 * (gather + channels(conv.channels, take, conv.depth, peaks));
        vectors -= count * take;
    }
    cycles
}

/// The product of packed weights with gathered pixels.
pub fn panels(m: usize, n: usize, k: usize, peaks: &CpuPeaks) -> f64 {
    let (vectors, widest) = (n.div_ceil(peaks.lanes), peaks.tile[1]);
    let rest = vectors % widest;
    let whole = (vectors / widest) as f64 * channels(m, widest, k, peaks);
    whole + if rest > 0 { channels(m, rest, k, peaks) } else { 0.0 }
}

/// All channels of some vectors of pixels.
fn channels(m: usize, vectors: usize, k: usize, peaks: &CpuPeaks) -> f64 {
    // A single vector leaves registers for more rows.
    let rows = if vectors == 1 { peaks.tile[0].max(8) } else { peaks.tile[0] };
    let blocks = (k as f64 / CONV2D_ROWS as f64).ceil();
    let tile =
        |rows: usize| step(rows, vectors) * k as f64 / EFFICIENCY + blocks * (TILE + (rows * vectors) as f64);
    let rest = m % rows;
    (m / rows) as f64 * tile(rows) + if rest > 0 { tile(rest) } else { 0.0 }
}
