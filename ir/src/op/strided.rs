//! Copying boxes of elements between arrays of any strides: the one kernel behind
//! transposition, slicing, joining, repetition and broadcasting.
//!
//! Elements are moved as words of their width, so one kernel serves every dtype. Dimensions
//! that lie consecutively in both arrays are merged first: most copies become a few `memcpy`s.

use smallvec::SmallVec;

use super::OpError;
use crate::tensor::Tensor;

/// Where the elements of a box lie in an array, in elements: the place of the first one, and
/// how far apart neighbours of each dimension are (0 repeats, negative reverses).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The place of the first element.
    pub offset: isize,
    /// The step of each dimension.
    pub strides: Vec<isize>,
}

impl Layout {
    /// A whole row-major array of this shape.
    pub fn dense(shape: &[usize]) -> Layout {
        let mut strides = vec![1isize; shape.len()];
        for d in (1..shape.len()).rev() {
            strides[d - 1] = strides[d].saturating_mul(shape[d] as isize);
        }
        Layout { offset: 0, strides }
    }

    /// A row-major array of shape `from` read as if it had been broadcast to `to`.
    ///
    /// `from` must broadcast to `to` by numpy's rules.
    pub fn broadcast(from: &[usize], to: &[usize]) -> Layout {
        let dense = Layout::dense(from);
        let lead = to.len() - from.len();
        let own = |d: usize| if from[d] == 1 { 0 } else { dense.strides[d] };
        let strides = (0..to.len()).map(|d| if d < lead { 0 } else { own(d - lead) }).collect();
        Layout { offset: 0, strides }
    }

    /// The same box with dimension `d` starting at index `start` and going in steps of `step`.
    #[must_use]
    pub fn sliced(mut self, d: usize, start: isize, step: isize) -> Layout {
        self.offset += start * self.strides[d];
        self.strides[d] *= step;
        self
    }

    /// The same box with its dimensions in another order.
    #[must_use]
    pub fn permuted(self, axes: &[usize]) -> Layout {
        Layout { offset: self.offset, strides: axes.iter().map(|&a| self.strides[a]).collect() }
    }
}

/// Runs a body with `T` bound to the unsigned word of a dtype's width.
macro_rules! words {
    ($width:expr, $t:ident => $body:expr) => {
        match $width {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = u16;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            8 => {
                type $t = u64;
                $body
            }
            other => unreachable!("no dtype has elements of {other} bytes"),
        }
    };
}

pub(super) use words;

/// The box of `shape` that `layout` picks out of a tensor, as a tensor.
///
/// # Errors
/// If the result is larger than a tensor may be.
pub fn pick(src: &Tensor, layout: &Layout, shape: &[usize]) -> Result<Tensor, OpError> {
    pick_as(src, layout, shape, shape)
}

/// As [`pick`], giving the elements another shape of as many; the box may have any rank.
///
/// # Errors
/// If the result is larger than a tensor may be.
pub fn pick_as(src: &Tensor, layout: &Layout, shape: &[usize], result: &[usize]) -> Result<Tensor, OpError> {
    let width = src.dtype().bytes();
    let dense = Layout::dense(shape);
    Ok(Tensor::filled(src.dtype(), result, |out| copy(width, shape, src.bytes(), layout, out, &dense))?)
}

/// Copies a box of `shape` from one array of `width`-byte elements to another.
///
/// Every element of the box must lie within both arrays.
pub fn copy(width: usize, shape: &[usize], src: &[u8], from: &Layout, dst: &mut [u8], to: &Layout) {
    words!(width, T => {
        let (src, dst) = (bytemuck::cast_slice::<u8, T>(src), bytemuck::cast_slice_mut::<u8, T>(dst));
        copy_words(shape, src, from, dst, to);
    });
}

/// Calls `f` with the place of every element of a box, in row-major order.
pub fn each_place(shape: &[usize], layout: &Layout, mut f: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let steps = merged(shape, layout, &Layout::dense(shape));
    let (outer, inner) = steps.split_at(steps.len().saturating_sub(1));
    let row = inner.first().copied().unwrap_or(Step { len: 1, src: 0, dst: 0 });
    for_each_place(outer, layout.offset, 0, |place, _| {
        for i in 0..row.len as isize {
            f((place + i * row.src) as usize);
        }
    });
}

/// A dimension of a box: its size and its step in both arrays.
#[derive(Clone, Copy)]
struct Step {
    len: usize,
    src: isize,
    dst: isize,
}

type Steps = SmallVec<[Step; 8]>;

fn copy_words<T: Copy>(shape: &[usize], src: &[T], from: &Layout, dst: &mut [T], to: &Layout) {
    if shape.contains(&0) {
        return;
    }
    let mut steps = merged(shape, from, to);
    // A transposed read is done in small squares, so that cache lines of both sides are used up.
    let squares = square_dims(&mut steps);
    let (outer, inner) = steps.split_at(steps.len().saturating_sub(if squares { 2 } else { 1 }));
    for_each_place(outer, from.offset, to.offset, |s, d| match inner {
        [] => dst[d as usize] = src[s as usize],
        [row] => copy_row(src, s, dst, d, *row),
        [a, b] => copy_squares(src, s, dst, d, *a, *b),
        _ => unreachable!("at most two dimensions are inner ones"),
    });
}

/// The dimensions of a copy, without those of size 1, neighbours merged where both sides allow.
fn merged(shape: &[usize], from: &Layout, to: &Layout) -> Steps {
    let mut steps = Steps::new();
    for (d, &len) in shape.iter().enumerate().filter(|&(_, &len)| len != 1) {
        let (src, dst) = (from.strides[d], to.strides[d]);
        match steps.last_mut() {
            Some(last) if last.src == src * len as isize && last.dst == dst * len as isize => {
                *last = Step { len: last.len * len, src, dst };
            }
            _ => steps.push(Step { len, src, dst }),
        }
    }
    steps
}

/// If the rows written are not read consecutively but another dimension is, moves that one
/// beside the innermost and says so.
fn square_dims(steps: &mut Steps) -> bool {
    let Some(last) = steps.last().filter(|s| s.dst == 1 && s.src.abs() > 1 && s.len > 1) else {
        return false;
    };
    let worthwhile = last.len >= 4;
    let Some(other) = steps.iter().position(|s| s.src.abs() == 1 && s.len >= 4).filter(|_| worthwhile) else {
        return false;
    };
    let step = steps.remove(other);
    steps.insert(steps.len() - 1, step);
    true
}

/// Calls `f` with the place on both sides for every index over `steps`.
fn for_each_place(steps: &[Step], src: isize, dst: isize, mut f: impl FnMut(isize, isize)) {
    let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, steps.len());
    let (mut s, mut d) = (src, dst);
    loop {
        f(s, d);
        let mut dim = steps.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            let step = steps[dim];
            index[dim] += 1;
            if index[dim] < step.len {
                s += step.src;
                d += step.dst;
                break;
            }
            index[dim] = 0;
            s -= step.src * (step.len as isize - 1);
            d -= step.dst * (step.len as isize - 1);
        }
    }
}

fn copy_row<T: Copy>(src: &[T], s: isize, dst: &mut [T], d: isize, row: Step) {
    let (s0, d0) = (s as usize, d as usize);
    match (row.src, row.dst) {
        (1, 1) => dst[d0..d0 + row.len].copy_from_slice(&src[s0..s0 + row.len]),
        (0, 1) => dst[d0..d0 + row.len].fill(src[s0]),
        (step, 1) => {
            let out = &mut dst[d0..d0 + row.len];
            for (i, x) in out.iter_mut().enumerate() {
                *x = src[(s + i as isize * step) as usize];
            }
        }
        (from, to) => {
            for i in 0..row.len as isize {
                dst[(d + i * to) as usize] = src[(s + i * from) as usize];
            }
        }
    }
}

/// The side of the squares in which transposed data is moved.
const SQUARE: usize = 16;

fn copy_squares<T: Copy>(src: &[T], s: isize, dst: &mut [T], d: isize, a: Step, b: Step) {
    for a0 in (0..a.len).step_by(SQUARE) {
        for b0 in (0..b.len).step_by(SQUARE) {
            let row = Step { len: SQUARE.min(b.len - b0), ..b };
            for i in a0..a.len.min(a0 + SQUARE) {
                let from = s + i as isize * a.src + b0 as isize * b.src;
                let to = d + i as isize * a.dst + b0 as isize * b.dst;
                copy_row(src, from, dst, to, row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iota(shape: &[usize]) -> Tensor {
        let data: Vec<i32> = (0..shape.iter().product::<usize>() as i32).collect();
        Tensor::from_slice(shape, &data).expect("small")
    }

    fn picked(src: &Tensor, layout: &Layout, shape: &[usize]) -> Vec<i32> {
        pick(src, layout, shape).expect("small").as_slice::<i32>().expect("i32").to_vec()
    }

    #[test]
    fn dense_copies_everything() {
        let t = iota(&[2, 3, 4]);
        assert_eq!(picked(&t, &Layout::dense(&[2, 3, 4]), &[2, 3, 4]), t.as_slice::<i32>().expect("i32"));
    }

    #[test]
    fn scalar_and_empty() {
        assert_eq!(picked(&iota(&[]), &Layout::dense(&[]), &[]), [0]);
        assert!(picked(&iota(&[0, 3]), &Layout::dense(&[0, 3]), &[0, 3]).is_empty());
    }

    #[test]
    fn reversed_and_stepped() {
        let t = iota(&[5]);
        assert_eq!(picked(&t, &Layout::dense(&[5]).sliced(0, 4, -2), &[3]), [4, 2, 0]);
    }

    #[test]
    fn broadcast_repeats() {
        let layout = Layout::broadcast(&[2, 1], &[2, 2, 3]);
        assert_eq!(picked(&iota(&[2, 1]), &layout, &[2, 2, 3]), [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn large_transposes_agree_with_the_definition() {
        let shape = [3, 37, 21];
        let t = iota(&shape);
        let src = t.as_slice::<i32>().expect("i32");
        for axes in [[0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1], [1, 0, 2]] {
            let out: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
            let got = picked(&t, &Layout::dense(&shape).permuted(&axes), &out);
            let mut at = 0;
            for i in 0..out[0] {
                for j in 0..out[1] {
                    for k in 0..out[2] {
                        let mut index = [0; 3];
                        (index[axes[0]], index[axes[1]], index[axes[2]]) = (i, j, k);
                        let want = src[(index[0] * shape[1] + index[1]) * shape[2] + index[2]];
                        assert_eq!(got[at], want, "{axes:?} at {i} {j} {k}");
                        at += 1;
                    }
                }
            }
        }
    }
}
