//! `max_pool2d_f32` and `avg_pool2d_f32`: maxima and means of windows.

use std::ops::Range;

use super::gather_f32::Window;
use super::gemm_f32::Args;
use super::vector_f32::Vector;
use super::window_f32::{COLUMNS, Channels, Fold, for_instruction_sets};

/// The most lanes of a vector.
const MAX_LANES: usize = 16;

/// The largest elements; NaN where there is one.
struct Maxima {
    /// Columns of the window.
    kw: usize,
}

impl<V: Vector> Fold<V> for Maxima {
    const EDGE: f32 = f32::NEG_INFINITY;

    type Tap = ();

    #[inline(always)]
    fn tap_row(&self) -> usize {
        self.kw
    }

    #[inline(always)]
    fn tap(&self, _place: usize) {}

    #[inline(always)]
    fn step(&self, _tap: (), value: V, so_far: V) -> V {
        so_far.max(value)
    }

    #[inline(always)]
    fn finish(&self, folded: V, _row: usize, _column: usize) -> V {
        folded
    }
}

/// How many places of windows along an axis count: those over the data and over some padding.
#[derive(Clone, Copy)]
struct Counted {
    window: Window,
    /// Elements of padding that count, before the data and behind it.
    before: usize,
    after: usize,
}

impl Counted {
    /// The places of the window of an output that count.
    fn number(self, out: usize) -> usize {
        let Window { size, taps, pad, dilation, .. } = self.window;
        let first = self.window.place(out, 0);
        let reached = |end: isize| (end - first).max(0).unsigned_abs().div_ceil(dilation).min(taps);
        debug_assert!(self.before <= pad, "no more padding counts than there is");
        reached((size + self.after) as isize) - reached(-(self.before as isize))
    }
}

/// Sums, divided by how many elements count.
struct Means {
    rows: Counted,
    columns: Counted,
    /// How many places count along the columns, for the columns that are computed.
    numbers: [f32; COLUMNS + MAX_LANES],
}

impl<V: Vector> Fold<V> for Means {
    const EDGE: f32 = 0.0;

    type Tap = ();

    fn columns(&mut self, columns: Range<usize>) {
        for (number, column) in self.numbers.iter_mut().zip(columns) {
            *number = self.columns.number(column) as f32;
        }
    }

    #[inline(always)]
    fn tap_row(&self) -> usize {
        self.columns.window.taps
    }

    #[inline(always)]
    fn tap(&self, _place: usize) {}

    #[inline(always)]
    fn step(&self, _tap: (), value: V, so_far: V) -> V {
        so_far.add(value)
    }

    #[inline(always)]
    fn finish(&self, folded: V, row: usize, column: usize) -> V {
        let along_rows = V::splat(self.rows.number(row) as f32);
        let numbers = &self.numbers[column..column + V::LANES];
        // SAFETY: the slice has as many elements as the vector has lanes.
        let along_columns = unsafe { V::load(numbers.as_ptr()) };
        // Where nothing counts the sum is 0, and so is the mean.
        folded.divide(along_rows.multiply_add(along_columns, V::splat(0.0)).max(V::splat(1.0)))
    }
}

/// The channels of a call, and the last `N` of its numbers.
///
/// # Safety
/// As the catalogue's rows say.
#[inline(always)]
unsafe fn channels<const N: usize>(regions: *const *mut u8, params: *const i64) -> (Channels, [usize; N]) {
    let args = Args::new(regions, params);
    // SAFETY: both rows of the catalogue have two regions and begin with these numbers.
    let (y, x, [y_channel, y_row, _, x_channel, x_row, _]) =
        unsafe { (args.region(0), args.region(1), args.numbers(0)) };
    // SAFETY: as above.
    let sizes = unsafe { args.numbers(6) };
    let channels = Channels::new((y, [y_channel, y_row]), (x, [x_channel, x_row]), sizes);
    // SAFETY: the caller says how many numbers the row has behind those.
    (channels, unsafe { args.numbers(20) })
}

/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn maxima<V: Vector>(regions: *const *mut u8, params: *const i64) {
    // SAFETY: by the contract; the row has no more numbers.
    let (channels, []) = unsafe { channels(regions, params) };
    let mut maxima = Maxima { kw: channels.columns.taps };
    // SAFETY: by the contract.
    unsafe { channels.fold::<V, _>(&mut maxima) }
}

/// # Safety
/// As the catalogue's row says; the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn means<V: Vector>(regions: *const *mut u8, params: *const i64) {
    // SAFETY: by the contract; the row has these numbers besides.
    let (channels, [bh, bw, ah, aw]) = unsafe { channels(regions, params) };
    let counted = |window, before, after| Counted { window, before, after };
    let mut means = Means {
        rows: counted(channels.rows, bh, ah),
        columns: counted(channels.columns, bw, aw),
        numbers: [1.0; COLUMNS + MAX_LANES],
    };
    // SAFETY: by the contract.
    unsafe { channels.fold::<V, _>(&mut means) }
}

for_instruction_sets!(maxima => max_portable, max_avx2, max_avx512);
for_instruction_sets!(means => avg_portable, avg_avx2, avg_avx512);
