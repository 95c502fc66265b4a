//! Gathering of a convolution's input: the pixels of a panel, a row of vectors for each step of `k`.
//!
//! A vector holds neighbouring output pixels, which end one row and may begin the next. For one
//! place of the window its elements lie in the same places of every input channel, so what is
//! padding and what is not is found once and the loop over channels copies vectors.

use super::vector_f32::Vector;

/// One dimension of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// Elements of the input.
    pub size: usize,
    /// Places of the window.
    pub taps: usize,
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
}

impl Window {
    /// The input place of an output and a place of the window; outside `0..size` it is padding.
    #[inline(always)]
    pub fn place(self, out: usize, tap: usize) -> isize {
        (out * self.stride + tap * self.dilation) as isize - self.pad as isize
    }

    /// The outputs of `0..count` whose input is not padding.
    #[inline(always)]
    pub fn inside(self, count: usize, tap: usize) -> std::ops::Range<usize> {
        // out * stride + offset >= pad, and out * stride + offset < size + pad
        let offset = tap * self.dilation;
        let low = self.pad.saturating_sub(offset).div_ceil(self.stride).min(count);
        let high = (self.size + self.pad).saturating_sub(offset).div_ceil(self.stride);
        low..high.clamp(low, count)
    }
}

/// What is gathered from.
pub(super) struct Source {
    /// Element (0, 0, 0) of X, and the distances between its channels and rows.
    pub x: *const f32,
    pub channel: usize,
    pub row: usize,
    pub rows: Window,
    pub columns: Window,
    /// Width of the output.
    pub width: usize,
    /// The row of the output that pixel 0 begins.
    pub first_row: usize,
}

/// Steps of `k`: places of the window of some channels. They are all of the places, or there is
/// one channel.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub channel: usize,
    pub channels: usize,
    pub tap: usize,
    pub taps: usize,
}

/// Pixels that follow each other, and where they go: a step's row has `width` elements.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub first: usize,
    pub len: usize,
    pub to: *mut f32,
    pub width: usize,
}

/// A column of a panel, a vector wide, for one place of the window: element `(c, lane)` is
/// `x[c * channel + ...]` and goes to `to[c * step + lane]`.
struct Column {
    x: *const f32,
    channel: usize,
    channels: usize,
    to: *mut f32,
    step: usize,
}

/// Pixels of one output row in a vector.
#[derive(Clone, Copy)]
struct Run {
    row: usize,
    column: usize,
    len: usize,
}

impl Source {
    /// Gathers the steps of the pixels of a panel.
    ///
    /// # Safety
    /// X is as described, and the panel has the rows of the steps, of whole vectors.
    #[inline(always)]
    pub unsafe fn gather<V: Vector>(&self, steps: Steps, panel: Panel) {
        let (first_r, first_s) = (steps.tap / self.columns.taps, steps.tap % self.columns.taps);
        let whole = self.whole_rows::<V>(panel);
        if let Some(run) = whole {
            let (mut r, mut s) = (first_r, first_s);
            for tap in 0..steps.taps {
                if let Some(from) = self.row_at::<V>(run, r, s) {
                    let x = self.x.wrapping_add(steps.channel * self.channel).wrapping_offset(from);
                    let to = panel.to.wrapping_add(tap * panel.width);
                    // SAFETY: the vectors are elements of X, and the panel has the row of each step.
                    unsafe { self.copy_rows::<V>(x, to, run.len, steps, panel.width) };
                }
                (r, s) = self.after(r, s);
            }
        }
        for lane in (0..panel.len).step_by(V::LANES) {
            let lanes = V::LANES.min(panel.len - lane);
            let pixel = panel.first + lane;
            let (row, column) = (self.first_row + pixel / self.width, pixel % self.width);
            let here = Run { row, column, len: lanes.min(self.width - column) };
            let next = Run { row: row + 1, column: 0, len: lanes - here.len };
            let (mut r, mut s) = (first_r, first_s);
            for tap in 0..steps.taps {
                let column = Column {
                    x: self.x.wrapping_add(steps.channel * self.channel),
                    channel: self.channel,
                    channels: steps.channels,
                    to: panel.to.wrapping_add(tap * panel.width + lane),
                    step: steps.taps * panel.width,
                };
                if whole.is_none_or(|run| self.row_at::<V>(run, r, s).is_none()) {
                    // SAFETY: the column's elements are those of the steps, and the panel has them.
                    unsafe { self.column::<V>(&column, here, next, r, s) };
                }
                (r, s) = self.after(r, s);
            }
        }
    }

    /// Gathers all places of the window of some channels one by one, and nothing past the panel's length.
    ///
    /// # Safety
    /// X is as described, and the panel has the rows of the steps.
    pub unsafe fn gather_lanes(&self, steps: Steps, panel: Panel) {
        for lane in 0..panel.len {
            let pixel = panel.first + lane;
            let (row, column) = (self.first_row + pixel / self.width, pixel % self.width);
            for tap in 0..steps.taps {
                let iy = self.rows.place(row, tap / self.columns.taps);
                let ix = self.columns.place(column, tap % self.columns.taps);
                let inside = (iy as usize) < self.rows.size && (ix as usize) < self.columns.size;
                let from = self.x.wrapping_offset(iy * self.row as isize + ix);
                for c in 0..steps.channels {
                    let to = panel.to.wrapping_add((c * steps.taps + tap) * panel.width + lane);
                    let from = from.wrapping_add((steps.channel + c) * self.channel);
                    // SAFETY: the element is read where it exists, and the panel has the lane.
                    unsafe { *to = if inside { *from } else { 0.0 } };
                }
            }
        }
    }

    /// The place of the window after another.
    #[inline(always)]
    fn after(&self, r: usize, s: usize) -> (usize, usize) {
        if s + 1 == self.columns.taps { (r + 1, 0) } else { (r, s + 1) }
    }

    /// The pixels of a panel as a run of whole vectors, if they are of one row at a stride of 1.
    #[inline(always)]
    fn whole_rows<V: Vector>(&self, panel: Panel) -> Option<Run> {
        let (row, column) = (self.first_row + panel.first / self.width, panel.first % self.width);
        let of_one_row = self.columns.stride == 1 && panel.len <= self.width - column;
        of_one_row.then_some(Run { row, column, len: panel.len.next_multiple_of(V::LANES) })
    }

    /// Where a run of whole vectors begins in a channel of X at a place of the window, if none of it
    /// is padding.
    #[inline(always)]
    fn row_at<V: Vector>(&self, run: Run, r: usize, s: usize) -> Option<isize> {
        let (iy, ix) = (self.rows.place(run.row, r), self.columns.place(run.column, s));
        let inside = (iy as usize) < self.rows.size && ix >= 0 && ix as usize + run.len <= self.columns.size;
        inside.then_some(iy * self.row as isize + ix)
    }

    /// Copies `len` elements of every channel, a channel after the other: their lines lie far apart,
    /// so each is brought once.
    ///
    /// # Safety
    /// The elements are whole vectors of X, and the panel has the rows of the steps.
    #[inline(always)]
    unsafe fn copy_rows<V: Vector>(
        &self,
        x: *const f32,
        to: *mut f32,
        len: usize,
        steps: Steps,
        width: usize,
    ) {
        for c in 0..steps.channels {
            let (from, to) = (x.wrapping_add(c * self.channel), to.wrapping_add(c * steps.taps * width));
            for at in (0..len).step_by(V::LANES) {
                // SAFETY: by the contract.
                unsafe { V::load(from.wrapping_add(at)).store(to.wrapping_add(at)) };
            }
        }
    }

    /// Gathers a column at place `(r, s)` of the window.
    ///
    /// # Safety
    /// The panel has the column.
    #[inline(always)]
    unsafe fn column<V: Vector>(&self, column: &Column, here: Run, next: Run, r: usize, s: usize) {
        let (iy, ix) = (self.rows.place(here.row, r), self.columns.place(here.column, s));
        let stride = self.columns.stride;
        let row_inside = (iy as usize) < self.rows.size;
        // SAFETY: the contract of this function; elements of X are read only where they exist.
        unsafe {
            if here.len == V::LANES && !row_inside {
                column.clear::<V>();
            } else if here.len == V::LANES
                && ix >= 0
                && ix as usize + (V::LANES - 1) * stride < self.columns.size
            {
                let x = column.x.wrapping_offset(iy * self.row as isize + ix);
                match stride {
                    1 => column.copy::<V>(x),
                    2 => column.copy_even::<V>(x),
                    _ => column.copy_strided::<V>(x, stride),
                }
            } else if stride == 1 && next.len <= self.width {
                let (a, b) = (self.lanes::<V>(here, 0, r, s), self.lanes::<V>(next, here.len, r, s));
                column.copy_two::<V>(a, b);
            } else {
                column.clear::<V>();
                self.copy_runs(column, here, here.len + next.len, r, s);
            }
        }
    }

    /// Gathers the first lanes of a column one by one, from as many output rows as they span.
    ///
    /// # Safety
    /// As [`Source::column`].
    unsafe fn copy_runs(&self, column: &Column, mut run: Run, lanes: usize, r: usize, s: usize) {
        let (inside, mut lane) = (self.columns.inside(self.width, s), 0);
        while lane < lanes {
            let iy = self.rows.place(run.row, r);
            for i in 0..run.len {
                if (iy as usize) < self.rows.size && inside.contains(&(run.column + i)) {
                    let ix = self.columns.place(run.column + i, s);
                    // SAFETY: the element exists, and the panel has the lane.
                    unsafe { column.copy_lane(lane + i, iy * self.row as isize + ix) };
                }
            }
            lane += run.len;
            run = Run { row: run.row + 1, column: 0, len: self.width.min(lanes - lane) };
        }
    }

    /// The lanes of a run at a stride of 1 that are not padding: where lane 0 would lie from the
    /// channel's first element, and the mask. The run's first lane is `at`.
    #[inline(always)]
    fn lanes<V: Vector>(&self, run: Run, at: usize, r: usize, s: usize) -> (isize, V::Mask) {
        let (iy, ix) = (self.rows.place(run.row, r), self.columns.place(run.column, s));
        let low = (-ix).clamp(0, run.len as isize) as usize;
        let high = (self.columns.size as isize - ix).clamp(low as isize, run.len as isize) as usize;
        let high = if (iy as usize) < self.rows.size { high } else { low };
        (iy * self.row as isize + ix - at as isize, V::mask(at + low, at + high))
    }
}

impl Column {
    #[inline(always)]
    unsafe fn each<V: Vector>(&self, mut vector: impl FnMut(usize) -> V) {
        for c in 0..self.channels {
            // SAFETY: the panel has this vector of each channel's step.
            unsafe { vector(c * self.channel).store(self.to.wrapping_add(c * self.step)) };
        }
    }

    #[inline(always)]
    unsafe fn clear<V: Vector>(&self) {
        // SAFETY: the contract of this function.
        unsafe { self.each(|_| V::splat(0.0)) };
    }

    #[inline(always)]
    unsafe fn copy<V: Vector>(&self, x: *const f32) {
        // SAFETY: all lanes are elements of X.
        unsafe { self.each(|c| V::load(x.wrapping_add(c))) };
    }

    #[inline(always)]
    unsafe fn copy_even<V: Vector>(&self, x: *const f32) {
        // SAFETY: all lanes are elements of X, and so is what lies between them.
        unsafe { self.each(|c| V::load_even(x.wrapping_add(c))) };
    }

    #[inline(always)]
    unsafe fn copy_strided<V: Vector>(&self, x: *const f32, stride: usize) {
        for c in 0..self.channels {
            let (from, to) = (x.wrapping_add(c * self.channel), self.to.wrapping_add(c * self.step));
            for lane in 0..V::LANES {
                // SAFETY: all lanes are elements of X, and the panel has the vector.
                unsafe { *to.wrapping_add(lane) = *from.wrapping_add(lane * stride) };
            }
        }
    }

    #[inline(always)]
    unsafe fn copy_two<V: Vector>(&self, a: (isize, V::Mask), b: (isize, V::Mask)) {
        let (from_a, from_b) = (self.x.wrapping_offset(a.0), self.x.wrapping_offset(b.0));
        // SAFETY: the lanes of the masks are elements of X.
        unsafe {
            self.each(|c| {
                let first = V::load_masked(from_a.wrapping_add(c), a.1);
                first.merge(V::load_masked(from_b.wrapping_add(c), b.1))
            });
        }
    }

    #[inline(always)]
    unsafe fn copy_lane(&self, lane: usize, from: isize) {
        let (from, to) = (self.x.wrapping_offset(from), self.to.wrapping_add(lane));
        for c in 0..self.channels {
            // SAFETY: the element exists in every channel, and the panel has the lane in every step.
            unsafe { *to.wrapping_add(c * self.step) = *from.wrapping_add(c * self.channel) };
        }
    }
}
