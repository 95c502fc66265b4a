//! `conv2d_f32`: a convolution as a product of packed weights and gathered pixels; and its two
//! halves apart, `conv2d_windows_f32` and `gemm_f32_panels`.
//!
//! Rows of the product are output channels, columns output pixels, and `k` runs over input
//! channels and places of the window. For a block of `k` and a panel of pixels, the elements of
//! X are gathered into scratch memory, where they stay in the first-level cache while every
//! block of output channels goes over them; the weights of the block stay in the second level.

use fermata_ir::tir::intrin::{CONV2D_COLUMNS, CONV2D_ROWS};

use super::gather_f32::{Panel, Source, Steps, Window};
use super::gemm_f32::Args;
use super::tile_f32::{Portable, Tile, Tiles};
use super::vector_f32::{Plain, Vector};

/// The intrinsic `conv2d_f32`.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `S`.
pub(super) unsafe extern "C" fn conv2d<S: Tiles>(
    regions: *const *mut u8,
    params: *const i64,
    scratch: *mut u8,
) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (y, x, weights, [y_channel, y_row, _, channel, row, _, block, _, _]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    // SAFETY: as above.
    let [oc, oh0, x0, line_count, line, ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw, mr] =
        unsafe { args.numbers(9) };
    let rows = Window { size: h, taps: kh, stride: sh, pad: ph, dilation: dh };
    let columns = Window { size: w, taps: kw, stride: sw, pad: pw, dilation: dw };
    let mut source = Source { x, channel, row, rows, columns, width: ow, first_row: oh0 };
    let mut first_pixel = x0;
    if [w, kw, ow, row] == [1; 4] && pw == 0 {
        // A convolution along the rows: neighbouring pixels are neighbouring rows.
        source.rows = columns;
        source.columns = rows;
        (source.width, source.first_row, first_pixel) = (usize::MAX, 0, oh0 + x0);
    }
    let product = Product { source, weights, block, mr, oc, y_channel, scratch: scratch.cast() };
    // Lines of the output that follow each other without a gap are one.
    let (lines, pixels) = if y_row == line { (1, line_count * line) } else { (line_count, line) };
    for i in 0..lines {
        let to = y.wrapping_add(i * y_row);
        // SAFETY: these pixels are among the output's.
        unsafe { product.pixels::<S>(to, first_pixel + i * line, pixels, ic, kh * kw) };
    }
}

/// The intrinsic `conv2d_windows_f32`.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `S`.
pub(super) unsafe extern "C" fn windows<S: Tiles>(
    regions: *const *mut u8,
    params: *const i64,
    _scratch: *mut u8,
) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has two regions and these numbers.
    let (to, x, [panel, step, _, channel, row, _]) =
        unsafe { (args.region(0), args.region(1), args.numbers(0)) };
    // SAFETY: as above.
    let [panel0, panels, pixels, ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw, nr] =
        unsafe { args.numbers(6) };
    if ic * kh * kw == 0 {
        return;
    }
    // Vectors may not reach past a step's lanes.
    let whole = nr.is_multiple_of(S::LANES.max(Plain::LANES));
    if !whole && nr.is_multiple_of(Plain::LANES) && S::LANES > Portable::LANES {
        // SAFETY: the contract of this function; no scratch memory is used.
        return unsafe { windows::<Portable>(regions, params, std::ptr::null_mut()) };
    }
    let rows = Window { size: h, taps: kh, stride: sh, pad: ph, dilation: dh };
    let columns = Window { size: w, taps: kw, stride: sw, pad: pw, dilation: dw };
    let source = Source { x, channel, row, rows, columns, width: ow.max(1), first_row: 0 };
    let steps = Steps { channel: 0, channels: ic, tap: 0, taps: kh * kw };
    for i in 0..panels {
        let (first, to) = ((panel0 + i) * nr, to.wrapping_add(i * panel));
        let len = nr.min(pixels.saturating_sub(first));
        let panel = Panel { first, len, to, width: step };
        // SAFETY: the panel has these steps of `nr` lanes, of whole vectors where those are gathered.
        unsafe {
            if whole {
                S::gather(&source, steps, panel)
            } else {
                source.gather_lanes(steps, panel)
            }
            for p in 0..if len < nr { ic * kh * kw } else { 0 } {
                std::ptr::write_bytes(to.wrapping_add(p * step + len), 0, nr - len);
            }
        }
    }
}

/// The intrinsic `gemm_f32_panels`.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `S`.
pub(super) unsafe extern "C" fn product<S: Tiles>(
    regions: *const *mut u8,
    params: *const i64,
    _scratch: *mut u8,
) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (c, a, b, [c_row, c_step, _, block, _, _, panel, b_step, _, m, n, k, mr, nr]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    if !nr.is_multiple_of(S::LANES) || c_step != 1 && S::LANES > 1 {
        // Vectors would reach past a step's lanes, or past a column.
        // SAFETY: the contract of this function; no scratch memory is used.
        return unsafe { product::<Portable>(regions, params, std::ptr::null_mut()) };
    }
    let widest = if c_step == 1 { S::COLUMNS } else { 1 };
    let mut channels = Channels { weights: a, block, mr, oc: m, y_channel: c_row, steps: 0 };
    for p in (0..k.max(1)).step_by(CONV2D_ROWS) {
        channels.steps = CONV2D_ROWS.min(k - p);
        for j in (0..n).step_by(nr) {
            for lane in (0..nr.min(n - j)).step_by(widest) {
                let pixels = Pixels {
                    y: c.wrapping_add((j + lane) * c_step),
                    b: b.wrapping_add(j / nr * panel + p * b_step + lane),
                    b_step,
                    columns: widest.min(nr - lane).min(n - j - lane),
                };
                // SAFETY: the steps and columns are among the operands', and panels hold whole vectors.
                unsafe { channels.multiply::<S>(&pixels, p) };
            }
        }
    }
}

/// Packed weights, some steps of which are multiplied with some pixels.
struct Channels {
    weights: *const f32,
    /// Distance between blocks of `mr` output channels.
    block: usize,
    mr: usize,
    oc: usize,
    y_channel: usize,
    /// Steps of `k`.
    steps: usize,
}

/// Pixels: where their results go, and a row of vectors for each step of `k`.
struct Pixels {
    y: *mut f32,
    b: *const f32,
    b_step: usize,
    columns: usize,
}

impl Channels {
    /// The product of all channels with some pixels over the steps from `k` on.
    ///
    /// # Safety
    /// The channels have these steps, and Y the pixels; rows of B hold whole vectors.
    #[inline(always)]
    unsafe fn multiply<S: Tiles>(&self, pixels: &Pixels, k: usize) {
        let tallest = if pixels.columns <= S::LANES { S::LINE_ROWS } else { S::ROWS };
        let mut o = 0;
        while o < self.oc {
            // A tile may not cross the end of a block of weights.
            let (outer, inner) = (o / self.mr, o % self.mr);
            let rows = tallest.min(self.mr - inner).min(self.oc - o);
            let tile = Tile {
                k: self.steps,
                a: self.weights.wrapping_add(outer * self.block + k * self.mr + inner),
                a_row: 1,
                a_step: self.mr,
                b: pixels.b,
                b_step: pixels.b_step,
                c: pixels.y.wrapping_add(o * self.y_channel),
                c_row: self.y_channel,
                accumulate: k > 0,
            };
            // SAFETY: by the contract.
            unsafe { S::tile(&tile, rows, pixels.columns) };
            o += rows;
        }
    }
}

/// The product that a convolution is.
struct Product {
    source: Source,
    weights: *const f32,
    /// Distance between blocks of `mr` output channels.
    block: usize,
    mr: usize,
    oc: usize,
    y_channel: usize,
    scratch: *mut f32,
}

impl Product {
    /// All output channels of some pixels; `y` is the first of them in channel 0.
    ///
    /// # Safety
    /// The pixels exist.
    unsafe fn pixels<S: Tiles>(&self, y: *mut f32, first: usize, len: usize, ic: usize, taps: usize) {
        if ic * taps == 0 {
            for o in 0..self.oc {
                // SAFETY: channel o has these pixels.
                unsafe { std::ptr::write_bytes(y.wrapping_add(o * self.y_channel), 0, len) };
            }
        }
        let channels = (CONV2D_ROWS / taps.max(1)).max(1);
        for channel in (0..ic).step_by(channels) {
            for tap in (0..taps).step_by(CONV2D_ROWS) {
                let steps = Steps {
                    channel,
                    channels: channels.min(ic - channel),
                    tap,
                    taps: CONV2D_ROWS.min(taps - tap),
                };
                // SAFETY: by the contract; the steps are among the convolution's.
                unsafe { self.block::<S>(y, first, len, steps, channel * taps + tap) };
            }
        }
    }

    /// Some steps of `k`, the first of which is `k`, of some pixels.
    ///
    /// # Safety
    /// As [`Product::pixels`].
    unsafe fn block<S: Tiles>(&self, y: *mut f32, first: usize, len: usize, steps: Steps, k: usize) {
        const { assert!(S::COLUMNS <= CONV2D_COLUMNS) };
        let channels = Channels {
            weights: self.weights,
            block: self.block,
            mr: self.mr,
            oc: self.oc,
            y_channel: self.y_channel,
            steps: steps.channels * steps.taps,
        };
        let mut at = 0;
        while at < len {
            let columns = panel_columns::<S>(len - at);
            let panel = Panel { first: first + at, len: columns, to: self.scratch, width: S::COLUMNS };
            let y = y.wrapping_add(at);
            let pixels = Pixels { y, b: self.scratch, b_step: S::COLUMNS, columns };
            // SAFETY: scratch memory has room for a panel of the catalogue's size, which holds whole
            // vectors; the channels and pixels are the output's.
            unsafe {
                S::gather(&self.source, steps, panel);
                channels.multiply::<S>(&pixels, k);
            }
            at += columns;
        }
    }
}

/// The width of the next panel: as wide as registers allow, but the last two of equal width
/// rather than one of a single vector.
fn panel_columns<S: Tiles>(left: usize) -> usize {
    let (vectors, widest) = (left.div_ceil(S::LANES), S::COLUMNS / S::LANES);
    let take = if vectors == widest + 1 && widest > 1 { vectors.div_ceil(2) } else { vectors.min(widest) };
    (take * S::LANES).min(left)
}
