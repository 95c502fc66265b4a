//! `depthwise_conv2d_f32`: every channel convolved with a window of its own.
//!
//! The rows of X that some output rows see are copied to a small buffer with the zeros around
//! them, columns a stride apart next to each other. There no window reaches over an edge, and
//! every stride is 1: sums of a few output rows, a vector or two wide, stay in registers while
//! the places of the window go by.

use super::gather_f32::Window;
use super::gemm_f32::Args;
use super::vector_f32::{Plain, Vector};

/// Output rows that are summed together.
const ROWS: usize = 4;

/// Output columns that are computed from one copy.
const COLUMNS: usize = 1024;

/// The most places of a window that are computed from a copy.
const TAPS: usize = 256;

/// Elements of the buffer for copies, which stays in the first-level cache.
const COPY: usize = 8192;

/// A convolution of one channel.
struct Channel {
    y: *mut f32,
    x: *const f32,
    weights: *const f32,
    y_row: usize,
    x_row: usize,
    w_row: usize,
    rows: Window,
    columns: Window,
}

/// A block of outputs: rows and columns of Y, counted from the first row of all.
#[derive(Clone, Copy)]
struct Block {
    /// The first row, in Y and of all.
    at: usize,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
}

/// Where copies of what blocks see of X lie: input rows, each in as many phases as columns have
/// a stride, `phase` elements apart.
struct Copy {
    base: *mut f32,
    phase: usize,
    row: usize,
    /// The most output rows of a block.
    outputs: usize,
    /// Number of places of the window, and what each sees from what the first one sees.
    taps: usize,
    offsets: [usize; TAPS],
}

/// All channels.
///
/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn run<V: Vector>(regions: *const *mut u8, params: *const i64) {
    let args = Args::new(regions, params);
    // SAFETY: the catalogue's row has three regions and these numbers.
    let (y, x, weights, [y_channel, y_row, _, x_channel, x_row, _, w_channel, w_row, _]) =
        unsafe { (args.region(0), args.region(1), args.region(2), args.numbers(0)) };
    // SAFETY: as above.
    let [channels, oh0, oh_count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw] = unsafe { args.numbers(9) };
    let rows = Window { size: h, taps: kh, stride: sh, pad: ph, dilation: dh };
    let columns = Window { size: w, taps: kw, stride: sw, pad: pw, dilation: dw };
    let mut buffer = [0f32; COPY];
    for column in (0..ow).step_by(COLUMNS) {
        let copy = Copy::new::<V>(&rows, &columns, COLUMNS.min(ow - column), buffer.as_mut_ptr());
        let copy = copy.filter(|_| w_row == kw);
        let step = copy.as_ref().map_or(usize::MAX, |c| c.outputs).min(oh_count.max(1));
        for c in 0..channels {
            let channel = Channel {
                y: y.wrapping_add(c * y_channel),
                x: x.wrapping_add(c * x_channel),
                weights: weights.wrapping_add(c * w_channel),
                y_row,
                x_row,
                w_row,
                rows,
                columns,
            };
            for at in (0..oh_count).step_by(step) {
                let rows = step.min(oh_count - at);
                let block = Block { at, row: oh0 + at, rows, column, columns: COLUMNS.min(ow - column) };
                // SAFETY: channel c exists in all three regions, with these rows and columns of
                // output.
                unsafe {
                    match &copy {
                        Some(copy) => channel.by_copy::<V>(block, copy),
                        None => channel.singly(block),
                    }
                }
            }
        }
    }
}

impl Copy {
    /// The layout for blocks of so many columns; `None` if the window is too large.
    #[inline(always)]
    fn new<V: Vector>(rows: &Window, columns: &Window, width: usize, base: *mut f32) -> Option<Copy> {
        let (kw, stride) = (columns.taps, columns.stride);
        let phase = width.next_multiple_of(V::LANES) + kw.checked_sub(1)? * columns.dilation / stride;
        // What is written past the last row needs room for a vector.
        let fitting = (COPY - V::LANES) / (phase * stride);
        let more = fitting.checked_sub(rows.taps.checked_sub(1)? * rows.dilation + 1)? / rows.stride;
        let outputs = (more + 1) / ROWS * ROWS;
        let taps = rows.taps * kw;
        if outputs == 0 || taps > TAPS {
            return None;
        }
        let mut offsets = [0; TAPS];
        for (tap, offset) in offsets.iter_mut().enumerate().take(taps) {
            let step = tap % kw * columns.dilation;
            *offset = (tap / kw * rows.dilation * stride + step % stride) * phase + step / stride;
        }
        Some(Copy { base, phase, row: phase * stride, outputs, taps, offsets })
    }
}

impl Channel {
    /// Computes a block from a copy of what it sees.
    ///
    /// # Safety
    /// Y has the block, which fits the copy, and rows of weights follow each other.
    #[inline(always)]
    unsafe fn by_copy<V: Vector>(&self, block: Block, copied: &Copy) {
        // SAFETY: by the contract; the weights of a channel follow each other.
        unsafe {
            self.copy::<V>(block, copied);
            let weights = std::slice::from_raw_parts(self.weights, copied.taps);
            let offsets = &copied.offsets[..copied.taps];
            for at in (0..block.rows).step_by(ROWS) {
                let mut column = 0;
                while column < block.columns {
                    let from = copied.base.wrapping_add(at * self.rows.stride * copied.row + column);
                    let to = self.y.wrapping_add((block.at + at) * self.y_row + block.column + column);
                    let part = Part {
                        from,
                        from_row: self.rows.stride * copied.row,
                        to,
                        to_row: self.y_row,
                        rows: block.rows - at,
                        columns: block.columns - column,
                    };
                    match part.columns > V::LANES {
                        true => part.sums::<V, 2>(offsets, weights),
                        false => part.sums::<V, 1>(offsets, weights),
                    }
                    column += if part.columns > V::LANES { 2 * V::LANES } else { V::LANES };
                }
            }
        }
    }

    /// Copies what a block sees.
    ///
    /// # Safety
    /// As [`Channel::by_copy`].
    #[inline(always)]
    unsafe fn copy<V: Vector>(&self, block: Block, copied: &Copy) {
        let count = (block.rows - 1) * self.rows.stride + (self.rows.taps - 1) * self.rows.dilation + 1;
        let (first_row, stride) = (self.rows.place(block.row, 0), self.columns.stride);
        for i in 0..count {
            let iy = first_row + i as isize;
            for phase in 0..stride {
                let to = copied.base.wrapping_add(i * copied.row + phase * copied.phase);
                let first = self.columns.place(block.column, 0) + phase as isize;
                let row_inside = (iy as usize) < self.rows.size;
                let start = ((-first).max(0) as usize).div_ceil(stride).min(copied.phase);
                let end = (self.columns.size as isize - first).max(0).unsigned_abs().div_ceil(stride);
                let end = if row_inside { end.clamp(start, copied.phase) } else { start };
                let from = self.x.wrapping_offset(iy * self.x_row as isize + first);
                // SAFETY: the elements from start to end are in X. Zeros are whole vectors, which
                // may reach into what is written next.
                unsafe {
                    zero::<V>(to, start);
                    let count = end - start;
                    copy_strided::<V>(
                        from.wrapping_add(start * stride),
                        stride,
                        to.wrapping_add(start),
                        count,
                    );
                    zero::<V>(to.wrapping_add(end), copied.phase - end);
                }
            }
        }
    }

    /// Computes a block, an output at a time.
    ///
    /// # Safety
    /// Y has the block.
    unsafe fn singly(&self, block: Block) {
        for (i, x) in (0..block.rows).flat_map(|i| (0..block.columns).map(move |x| (i, x))) {
            let mut sum = 0.0;
            for (r, s) in (0..self.rows.taps).flat_map(|r| (0..self.columns.taps).map(move |s| (r, s))) {
                let (iy, ix) = (self.rows.place(block.row + i, r), self.columns.place(block.column + x, s));
                if (iy as usize) < self.rows.size && (ix as usize) < self.columns.size {
                    let from = self.x.wrapping_offset(iy * self.x_row as isize + ix);
                    // SAFETY: the element is within X and the place within the window.
                    sum += unsafe { *self.weights.wrapping_add(r * self.w_row + s) * *from };
                }
            }
            // SAFETY: Y has this row and column.
            unsafe { *self.y.wrapping_add((block.at + i) * self.y_row + block.column + x) = sum };
        }
    }
}

/// Writes at least so many zeros, in whole vectors.
///
/// # Safety
/// There is room for them.
#[inline(always)]
unsafe fn zero<V: Vector>(to: *mut f32, count: usize) {
    for i in (0..count).step_by(V::LANES) {
        // SAFETY: by the contract.
        unsafe { V::splat(0.0).store(to.wrapping_add(i)) };
    }
}

/// Copies every `stride`-th element.
///
/// # Safety
/// There are `count` of them, and room for them in whole vectors.
#[inline(always)]
unsafe fn copy_strided<V: Vector>(from: *const f32, stride: usize, to: *mut f32, count: usize) {
    let mut i = 0;
    // SAFETY: by the contract; a vector of every other element ends with one that is copied.
    unsafe {
        while stride <= 2 && i + V::LANES <= count {
            let vector = if stride == 1 { V::load(from.add(i)) } else { V::load_even(from.add(2 * i)) };
            vector.store(to.add(i));
            i += V::LANES;
        }
        if stride == 1 && i < count {
            V::load_masked(from.add(i), V::mask(0, count - i)).store(to.add(i));
            return;
        }
        for i in i..count {
            *to.add(i) = *from.add(i * stride);
        }
    }
}

/// Up to [`ROWS`] rows of outputs, a vector or two wide.
struct Part {
    /// What the first place of the window sees for the first output, and the distance to what it
    /// sees for the next row.
    from: *const f32,
    from_row: usize,
    to: *mut f32,
    to_row: usize,
    /// How many rows and columns there are from the first output on.
    rows: usize,
    columns: usize,
}

impl Part {
    /// Sums `W` vectors of each row.
    ///
    /// # Safety
    /// The offsets from what is seen stay within the copy for whole vectors, and Y has the rows
    /// and columns.
    #[inline(always)]
    unsafe fn sums<V: Vector, const W: usize>(&self, offsets: &[usize], weights: &[f32]) {
        let mut sums = [[V::splat(0.0); W]; ROWS];
        for (&offset, &weight) in offsets.iter().zip(weights) {
            let (from, weight) = (self.from.wrapping_add(offset), V::splat(weight));
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    // SAFETY: by the contract.
                    let value = unsafe { V::load(from.wrapping_add(i * self.from_row + j * V::LANES)) };
                    *sum = value.multiply_add(weight, *sum);
                }
            }
        }
        for (i, row) in sums.into_iter().enumerate() {
            // A shorter loop would index the sums by a variable, and they would live in memory.
            if i < self.rows {
                for (j, sum) in row.into_iter().enumerate() {
                    let lanes = (self.columns - j * V::LANES).min(V::LANES);
                    // SAFETY: Y has so many columns in this row.
                    unsafe { sum.store_first(self.to.wrapping_add(i * self.to_row + j * V::LANES), lanes) };
                }
            }
        }
    }
}

/// The intrinsic in plain Rust.
///
/// # Safety
/// As the catalogue's row says.
pub(super) unsafe extern "C" fn portable(regions: *const *mut u8, params: *const i64, _scratch: *mut u8) {
    // SAFETY: the contract of this function.
    unsafe { run::<Plain>(regions, params) }
}

/// Declares the intrinsic for an instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! with_features {
    ($name:ident, $inner:ident, $vector:ty, $features:literal) => {
        /// # Safety
        /// As the catalogue's row says; the machine has the features.
        #[target_feature(enable = $features)]
        unsafe fn $inner(regions: *const *mut u8, params: *const i64) {
            // SAFETY: the contract of this function.
            unsafe { run::<$vector>(regions, params) }
        }

        /// The intrinsic for an instruction set.
        ///
        /// # Safety
        /// As the catalogue's row says; the machine has the features.
        pub(super) unsafe extern "C" fn $name(
            regions: *const *mut u8,
            params: *const i64,
            _scratch: *mut u8,
        ) {
            // SAFETY: the contract of this function.
            unsafe { $inner(regions, params) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
with_features!(avx2, run_avx2, super::vector_f32::Wide, "avx2,fma");
#[cfg(target_arch = "x86_64")]
with_features!(avx512, run_avx512, super::vector_f32::Widest, "avx512f,avx512vl,avx2,fma");
