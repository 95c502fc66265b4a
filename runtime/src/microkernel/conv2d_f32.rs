//! `conv2d_f32`: a convolution as a product of packed weights and gathered pixels.
//!
//! Rows of the product are output channels, columns output pixels, and `k` runs over input
//! channels and places of the window. For a block of `k` and a panel of pixels, the elements of
//! X are gathered into scratch memory, where they stay in the first-level cache while every
//! block of output channels goes over them; the weights of the block stay in the second level.

use fermata_ir::tir::intrin::{CONV2D_COLUMNS, CONV2D_ROWS};

use super::gather_f32::{Panel, Source, Steps, Window};
use super::gemm_f32::Args;
use super::tile_f32::{Tile, Tiles};

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
    let [oc, oh0, oh_count, ow, ic, h, w, kh, kw, sh, sw, ph, pw, dh, dw, mr] = unsafe { args.numbers(9) };
    let rows = Window { size: h, taps: kh, stride: sh, pad: ph, dilation: dh };
    let columns = Window { size: w, taps: kw, stride: sw, pad: pw, dilation: dw };
    let mut source = Source { x, channel, row, rows, columns, width: ow, first_row: oh0 };
    let mut first_pixel = 0;
    if [w, kw, ow, row, y_row] == [1; 5] && pw == 0 {
        // A convolution along the rows: neighbouring pixels are neighbouring rows.
        source.rows = columns;
        source.columns = rows;
        (source.width, source.first_row, first_pixel) = (usize::MAX, 0, oh0);
    }
    let product = Product { source, weights, block, mr, oc, y_channel, scratch: scratch.cast() };
    // Output rows that follow each other without a gap are one row of pixels.
    let (lines, pixels) = if y_row == ow { (1, oh_count * ow) } else { (oh_count, ow) };
    for line in 0..lines {
        let to = y.wrapping_add(line * y_row);
        // SAFETY: these pixels are among the output's.
        unsafe { product.pixels::<S>(to, first_pixel + line * ow, pixels, ic, kh * kw) };
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
        let mut at = 0;
        while at < len {
            let columns = panel_columns::<S>(len - at);
            let panel = Panel { first: first + at, len: columns, to: self.scratch, width: S::COLUMNS };
            // SAFETY: scratch memory has room for a panel of the catalogue's size.
            unsafe { S::gather(&self.source, steps, panel) };
            let mut o = 0;
            while o < self.oc {
                // A tile may not cross the end of a block of weights.
                let (outer, inner) = (o / self.mr, o % self.mr);
                let rows = S::ROWS.min(self.mr - inner).min(self.oc - o);
                let tile = Tile {
                    k: steps.channels * steps.taps,
                    a: self.weights.wrapping_add(outer * self.block + k * self.mr + inner),
                    a_row: 1,
                    a_step: self.mr,
                    b: self.scratch,
                    b_step: S::COLUMNS,
                    c: y.wrapping_add(o * self.y_channel + at),
                    c_row: self.y_channel,
                    accumulate: k > 0,
                };
                // SAFETY: these rows and pixels are the output's; panels hold whole vectors.
                unsafe { S::tile(&tile, rows, columns) };
                o += rows;
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
