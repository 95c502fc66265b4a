//! `conv2d_f32`: a convolution as a product of packed weights and gathered pixels.
//!
//! Rows of the product are output channels, columns output pixels, and `k` runs over input
//! channels and places of the window. For a group of pixels and a block of `k`, the elements of
//! X are gathered into panels in scratch memory; then every block of output channels goes over
//! the panels, which stay in the second-level cache.

use fermata_ir::tir::intrin::{CONV2D_COLUMNS, CONV2D_ROWS};

use super::gemm_f32::Args;
use super::tile_f32::{Tile, Tiles};

/// One dimension of a convolution.
#[derive(Clone, Copy)]
struct Window {
    size: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
}

impl Window {
    /// The input place of an output and a place of the window, if it is not padding.
    fn place(self, out: usize, tap: usize) -> Option<usize> {
        (out * self.stride + tap * self.dilation).checked_sub(self.pad).filter(|&i| i < self.size)
    }

    /// The outputs from `first` to `first + len` whose input is not padding.
    fn inside(self, first: usize, len: usize, tap: usize) -> std::ops::Range<usize> {
        let offset = tap * self.dilation;
        // out * stride + offset >= pad, and out * stride + offset < size + pad
        let low = self.pad.saturating_sub(offset).div_ceil(self.stride);
        let high = (self.size + self.pad).saturating_sub(offset).div_ceil(self.stride);
        let start = low.clamp(first, first + len);
        start..high.clamp(start, first + len)
    }
}

/// A convolution.
struct Conv {
    x: *const f32,
    channel: usize,
    row: usize,
    kh: usize,
    kw: usize,
    rows: Window,
    columns: Window,
    /// Width of the output.
    ow: usize,
    /// The first output row of all.
    oh0: usize,
}

/// Neighbouring pixels of one output row, and their place in a panel.
#[derive(Clone, Copy)]
struct Segment {
    y: usize,
    x: usize,
    len: usize,
    at: usize,
}

impl Conv {
    /// The rows of output pixels `first..first + len`, counted from row `oh0`.
    fn segments(&self, first: usize, len: usize) -> impl Iterator<Item = Segment> {
        let (ow, oh0) = (self.ow, self.oh0);
        let mut at = 0;
        std::iter::from_fn(move || {
            if at == len {
                return None;
            }
            let (y, x) = ((first + at) / ow, (first + at) % ow);
            let segment = Segment { y: oh0 + y, x, len: (ow - x).min(len - at), at };
            at += segment.len;
            Some(segment)
        })
    }

    /// Gathers steps `k` of pixels into a panel of rows of `width`.
    ///
    /// # Safety
    /// X is as described, and the panel has the steps' rows.
    unsafe fn gather(
        &self,
        k: std::ops::Range<usize>,
        first: usize,
        len: usize,
        panel: *mut f32,
        width: usize,
    ) {
        let area = self.kh * self.kw;
        for (line, p) in k.enumerate() {
            let (channel, r, s) = (p / area, p % area / self.kw, p % self.kw);
            let to = panel.wrapping_add(line * width);
            for segment in self.segments(first, len) {
                let to = to.wrapping_add(segment.at);
                let Some(iy) = self.rows.place(segment.y, r) else {
                    // SAFETY: the segment lies in the panel's row.
                    unsafe { std::ptr::write_bytes(to, 0, segment.len) };
                    continue;
                };
                let from = self.x.wrapping_add(channel * self.channel + iy * self.row);
                let inside = self.columns.inside(segment.x, segment.len, s);
                let (before, count) = (inside.start - segment.x, inside.len());
                // SAFETY: outputs inside have inputs within row iy of X; the rest is padding.
                unsafe {
                    std::ptr::write_bytes(to, 0, before);
                    if count > 0 {
                        let start =
                            inside.start * self.columns.stride + s * self.columns.dilation - self.columns.pad;
                        copy_strided(from.add(start), self.columns.stride, to.add(before), count);
                    }
                    std::ptr::write_bytes(to.add(before + count), 0, segment.len - before - count);
                }
            }
        }
    }
}

/// Copies every `stride`-th element.
///
/// # Safety
/// Both have `count` elements, at least one.
unsafe fn copy_strided(from: *const f32, stride: usize, to: *mut f32, count: usize) {
    if stride == 1 {
        // SAFETY: by the contract; scratch memory is not X.
        return unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
    }
    for i in 0..count {
        // SAFETY: by the contract.
        unsafe { *to.add(i) = *from.add(i * stride) };
    }
}

/// A panel of pixels in scratch memory.
#[derive(Clone, Copy, Default)]
struct Panel {
    first: usize,
    len: usize,
}

/// Splits pixels into panels of whole vectors: as wide as registers allow, but the last two of
/// equal width rather than one of a single vector.
fn panels<S: Tiles>(first: usize, len: usize, out: &mut [Panel; 64]) -> usize {
    let widest = S::COLUMNS / S::LANES;
    let (mut at, mut count) = (0, 0);
    while at < len {
        let vectors = (len - at).div_ceil(S::LANES);
        let take =
            if vectors == widest + 1 && widest > 1 { vectors.div_ceil(2) } else { vectors.min(widest) };
        let width = (take * S::LANES).min(len - at);
        out[count] = Panel { first: first + at, len: width };
        at += width;
        count += 1;
    }
    count
}

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
    let conv = Conv {
        x,
        channel,
        row,
        kh,
        kw,
        rows: Window { size: h, stride: sh, pad: ph, dilation: dh },
        columns: Window { size: w, stride: sw, pad: pw, dilation: dw },
        ow,
        oh0,
    };
    let product =
        Product { conv, weights, block, mr, oc, k: ic * kh * kw, y_channel, scratch: scratch.cast() };
    // Output rows that follow each other without a gap are one row of pixels.
    let (lines, pixels) = if y_row == ow { (1, oh_count * ow) } else { (oh_count, ow) };
    for line in 0..lines {
        for first in (0..pixels).step_by(CONV2D_COLUMNS) {
            let start = line * ow * (lines > 1) as usize + first;
            let to = y.wrapping_add(line * y_row + first);
            // SAFETY: these pixels are among the output's.
            unsafe { product.group::<S>(to, start, CONV2D_COLUMNS.min(pixels - first)) };
        }
    }
}

/// The product that a convolution is.
struct Product {
    conv: Conv,
    weights: *const f32,
    /// Distance between blocks of `mr` output channels.
    block: usize,
    mr: usize,
    oc: usize,
    k: usize,
    y_channel: usize,
    scratch: *mut f32,
}

impl Product {
    /// All output channels of some pixels.
    ///
    /// # Safety
    /// The pixels exist, and `y` is the first of them in channel 0.
    unsafe fn group<S: Tiles>(&self, y: *mut f32, first: usize, len: usize) {
        let mut list = [Panel::default(); 64];
        let count = panels::<S>(first, len, &mut list);
        if self.k == 0 {
            for o in 0..self.oc {
                // SAFETY: channel o has these pixels.
                unsafe { std::ptr::write_bytes(y.add(o * self.y_channel), 0, len) };
            }
        }
        for p in (0..self.k).step_by(CONV2D_ROWS) {
            let steps = CONV2D_ROWS.min(self.k - p);
            for (i, panel) in list[..count].iter().enumerate() {
                let to = self.scratch.wrapping_add(i * CONV2D_ROWS * S::COLUMNS);
                // SAFETY: scratch memory has room for the panels of a group.
                unsafe { self.conv.gather(p..p + steps, panel.first, panel.len, to, S::COLUMNS) };
            }
            let mut o = 0;
            while o < self.oc {
                // A tile may not cross the end of a block of weights.
                let (outer, inner) = (o / self.mr, o % self.mr);
                let rows = S::ROWS.min(self.mr - inner).min(self.oc - o);
                let a = self.weights.wrapping_add(outer * self.block + p * self.mr + inner);
                for (i, panel) in list[..count].iter().enumerate() {
                    let tile = Tile {
                        k: steps,
                        a,
                        a_row: 1,
                        a_step: self.mr,
                        b: self.scratch.wrapping_add(i * CONV2D_ROWS * S::COLUMNS),
                        b_step: S::COLUMNS,
                        c: y.wrapping_add(o * self.y_channel + (panel.first - first)),
                        c_row: self.y_channel,
                        accumulate: p > 0,
                    };
                    // SAFETY: these rows and pixels are the output's; panels hold whole vectors.
                    unsafe { S::tile(&tile, rows, panel.len) };
                }
                o += rows;
            }
        }
    }
}
