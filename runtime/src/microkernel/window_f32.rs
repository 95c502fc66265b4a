//! Windows that slide over channels: what depthwise convolutions and poolings have in common.
//!
//! The rows of X that some output rows see are copied to a small buffer with what lies outside
//! around them, columns a stride apart next to each other. There no window reaches over an edge, and
//! every stride is 1: what becomes of a few output rows, a vector or two wide, stays in registers
//! while the places of the window go by.

use std::ops::Range;

use super::gather_f32::Window;
use super::vector_f32::Vector;

/// Output rows that are computed together.
const ROWS: usize = 4;

/// Output columns that are computed from one copy.
pub(super) const COLUMNS: usize = 1024;

/// The most places of a window that are computed from a copy.
const TAPS: usize = 256;

/// Elements of the buffer for copies, which stays in the first-level cache.
const COPY: usize = 8192;

/// What becomes of the elements that a window sees, taken place by place.
pub(super) trait Fold<V: Vector> {
    /// What lies outside of X, and what is there before the first element.
    const EDGE: f32;

    /// What is needed at a place of the window.
    type Tap: Copy;

    /// Told which columns of output come next.
    fn columns(&mut self, _columns: Range<usize>) {}

    /// Told which channel comes next.
    fn channel(&mut self, _channel: usize) {}

    /// Elements from what is needed at a place to that one row of the window further.
    fn tap_row(&self) -> usize;

    /// What is needed at a place, which is `tap_row` times its row plus its column.
    fn tap(&self, place: usize) -> Self::Tap;

    /// Takes the elements that windows see at a place.
    fn step(&self, tap: Self::Tap, value: V, so_far: V) -> V;

    /// Ends windows of this row, from this column of those told on.
    fn finish(&self, folded: V, row: usize, column: usize) -> V;
}

/// Channels of X and of Y, and how windows lie over them.
pub(super) struct Channels {
    pub y: *mut f32,
    pub x: *const f32,
    /// Distances between channels and rows of Y, and of X.
    pub y_strides: [usize; 2],
    pub x_strides: [usize; 2],
    pub channels: usize,
    /// Output rows, of all that there are.
    pub out_rows: Range<usize>,
    pub out_columns: usize,
    pub rows: Window,
    pub columns: Window,
}

/// One of the channels.
struct Channel {
    y: *mut f32,
    x: *const f32,
    y_row: usize,
    x_row: usize,
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
struct Seen {
    base: *mut f32,
    phase: usize,
    row: usize,
    /// The most output rows of a block.
    outputs: usize,
    /// Number of places of the window, and what each sees from what the first one sees.
    taps: usize,
    offsets: [usize; TAPS],
}

impl Channels {
    /// Channels of Y and X, each with the distances between its channels and rows, and the sizes that
    /// the catalogue's rows for windows begin with.
    #[inline(always)]
    pub fn new(
        (y, y_strides): (*mut f32, [usize; 2]),
        (x, x_strides): (*const f32, [usize; 2]),
        [channels, oh0, oh_count, ow, h, w, kh, kw, sh, sw, ph, pw, dh, dw]: [usize; 14],
    ) -> Channels {
        Channels {
            y,
            x,
            y_strides,
            x_strides,
            channels,
            out_rows: oh0..oh0 + oh_count,
            out_columns: ow,
            rows: Window { size: h, taps: kh, stride: sh, pad: ph, dilation: dh },
            columns: Window { size: w, taps: kw, stride: sw, pad: pw, dilation: dw },
        }
    }

    /// Folds what all windows see into Y.
    ///
    /// # Safety
    /// X and Y have the channels, rows and columns; the machine has the instruction set of `V`.
    #[inline(always)]
    pub unsafe fn fold<V: Vector, F: Fold<V>>(&self, fold: &mut F) {
        let (oh0, oh_count) = (self.out_rows.start, self.out_rows.len());
        let mut buffer = [0f32; COPY];
        for column in (0..self.out_columns).step_by(COLUMNS) {
            let columns = COLUMNS.min(self.out_columns - column);
            fold.columns(column..column + columns);
            let copy = Seen::new::<V>(&self.rows, &self.columns, columns, buffer.as_mut_ptr());
            let copy = copy.filter(|_| fold.tap_row() == self.columns.taps);
            let step = copy.as_ref().map_or(usize::MAX, |c| c.outputs).min(oh_count.max(1));
            for c in 0..self.channels {
                fold.channel(c);
                let channel = self.channel(c);
                for at in (0..oh_count).step_by(step) {
                    let block = Block { at, row: oh0 + at, rows: step.min(oh_count - at), column, columns };
                    // SAFETY: channel c exists in X and Y, with these rows and columns of output.
                    unsafe {
                        match &copy {
                            Some(copy) => channel.by_copy::<V, F>(block, copy, fold),
                            None => channel.singly::<V, F>(block, fold),
                        }
                    }
                }
            }
        }
    }

    fn channel(&self, c: usize) -> Channel {
        Channel {
            y: self.y.wrapping_add(c * self.y_strides[0]),
            x: self.x.wrapping_add(c * self.x_strides[0]),
            y_row: self.y_strides[1],
            x_row: self.x_strides[1],
            rows: self.rows,
            columns: self.columns,
        }
    }
}

impl Seen {
    /// The layout for blocks of so many columns; `None` if the window is too large.
    #[inline(always)]
    fn new<V: Vector>(rows: &Window, columns: &Window, width: usize, base: *mut f32) -> Option<Seen> {
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
        Some(Seen { base, phase, row: phase * stride, outputs, taps, offsets })
    }
}

impl Channel {
    /// Computes a block from a copy of what it sees.
    ///
    /// # Safety
    /// Y has the block, which fits the copy.
    #[inline(always)]
    unsafe fn by_copy<V: Vector, F: Fold<V>>(&self, block: Block, copied: &Seen, fold: &F) {
        // SAFETY: by the contract.
        unsafe {
            self.copy::<V, F>(block, copied);
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
                        first: [block.row + at, column],
                        rows: block.rows - at,
                        columns: block.columns - column,
                    };
                    match part.columns > V::LANES {
                        true => part.fold::<V, F, 2>(offsets, fold),
                        false => part.fold::<V, F, 1>(offsets, fold),
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
    unsafe fn copy<V: Vector, F: Fold<V>>(&self, block: Block, copied: &Seen) {
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
                // SAFETY: the elements from start to end are in X. What is outside is whole vectors, which
                // may reach into what is written next.
                unsafe {
                    fill::<V>(to, start, F::EDGE);
                    let count = end - start;
                    copy_strided::<V>(
                        from.wrapping_add(start * stride),
                        stride,
                        to.wrapping_add(start),
                        count,
                    );
                    fill::<V>(to.wrapping_add(end), copied.phase - end, F::EDGE);
                }
            }
        }
    }

    /// Computes a block, an output at a time.
    ///
    /// # Safety
    /// Y has the block.
    #[inline(always)]
    unsafe fn singly<V: Vector, F: Fold<V>>(&self, block: Block, fold: &F) {
        for (i, x) in (0..block.rows).flat_map(|i| (0..block.columns).map(move |x| (i, x))) {
            let mut folded = V::splat(F::EDGE);
            for (r, s) in (0..self.rows.taps).flat_map(|r| (0..self.columns.taps).map(move |s| (r, s))) {
                let (iy, ix) = (self.rows.place(block.row + i, r), self.columns.place(block.column + x, s));
                if (iy as usize) < self.rows.size && (ix as usize) < self.columns.size {
                    let from = self.x.wrapping_offset(iy * self.x_row as isize + ix);
                    // SAFETY: the element is within X.
                    let value = V::splat(unsafe { *from });
                    folded = fold.step(fold.tap(r * fold.tap_row() + s), value, folded);
                }
            }
            let to = self.y.wrapping_add((block.at + i) * self.y_row + block.column + x);
            // SAFETY: Y has this row and column.
            unsafe { fold.finish(folded, block.row + i, x).store_first(to, 1) };
        }
    }
}

/// Writes a number at least so many times, in whole vectors.
///
/// # Safety
/// There is room for them.
#[inline(always)]
unsafe fn fill<V: Vector>(to: *mut f32, count: usize, value: f32) {
    for i in (0..count).step_by(V::LANES) {
        // SAFETY: by the contract.
        unsafe { V::splat(value).store(to.wrapping_add(i)) };
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
    /// The row of the first output, and its column among those of the copy.
    first: [usize; 2],
    /// How many rows and columns there are from the first output on.
    rows: usize,
    columns: usize,
}

impl Part {
    /// Folds into `W` vectors of each row.
    ///
    /// # Safety
    /// The offsets from what is seen stay within the copy for whole vectors, and Y has the rows
    /// and columns.
    #[inline(always)]
    unsafe fn fold<V: Vector, F: Fold<V>, const W: usize>(&self, offsets: &[usize], fold: &F) {
        let mut folded = [[V::splat(F::EDGE); W]; ROWS];
        for (place, &offset) in offsets.iter().enumerate() {
            let (from, tap) = (self.from.wrapping_add(offset), fold.tap(place));
            for (i, row) in folded.iter_mut().enumerate() {
                for (j, so_far) in row.iter_mut().enumerate() {
                    // SAFETY: by the contract.
                    let value = unsafe { V::load(from.wrapping_add(i * self.from_row + j * V::LANES)) };
                    *so_far = fold.step(tap, value, *so_far);
                }
            }
        }
        for (i, row) in folded.into_iter().enumerate() {
            // A shorter loop would index what is folded by a variable, and it would live in memory.
            if i < self.rows {
                for (j, folded) in row.into_iter().enumerate() {
                    let lanes = (self.columns - j * V::LANES).min(V::LANES);
                    let folded = fold.finish(folded, self.first[0] + i, self.first[1] + j * V::LANES);
                    // SAFETY: Y has so many columns in this row.
                    unsafe {
                        folded.store_first(self.to.wrapping_add(i * self.to_row + j * V::LANES), lanes)
                    };
                }
            }
        }
    }
}

/// Declares an intrinsic for every instruction set: `run::<V>(regions, params)`, where V are its vectors.
macro_rules! for_instruction_sets {
    ($run:ident => $portable:ident, $avx2:ident, $avx512:ident) => {
        /// The intrinsic in plain Rust.
        ///
        /// # Safety
        /// As the catalogue's row says.
        pub(super) unsafe extern "C" fn $portable(
            regions: *const *mut u8,
            params: *const i64,
            _scratch: *mut u8,
        ) {
            // SAFETY: the contract of this function.
            unsafe { $run::<$crate::microkernel::vector_f32::Plain>(regions, params) }
        }

        $crate::microkernel::window_f32::for_instruction_sets!(
            @with $run => $avx2, $crate::microkernel::vector_f32::Wide, "avx2,fma"
        );
        $crate::microkernel::window_f32::for_instruction_sets!(
            @with $run => $avx512, $crate::microkernel::vector_f32::Widest, "avx512f,avx512vl,avx2,fma"
        );
    };
    (@with $run:ident => $name:ident, $vector:ty, $features:literal) => {
        /// The intrinsic for an instruction set.
        ///
        /// # Safety
        /// As the catalogue's row says; the machine has the features.
        #[cfg(target_arch = "x86_64")]
        pub(super) unsafe extern "C" fn $name(
            regions: *const *mut u8,
            params: *const i64,
            _scratch: *mut u8,
        ) {
            /// # Safety
            /// As of the function around it.
            #[target_feature(enable = $features)]
            unsafe fn with_features(regions: *const *mut u8, params: *const i64) {
                // SAFETY: the contract of this function.
                unsafe { $run::<$vector>(regions, params) }
            }
            // SAFETY: the contract of this function.
            unsafe { with_features(regions, params) }
        }
    };
}
pub(super) use for_instruction_sets;
