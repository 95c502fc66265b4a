//! Convolution of canonical arrays for the reference evaluator.
//!
//! A group is a product of its weights `[ocg, icg * taps]` with the columns that the windows
//! read, packed a block of windows at a time. Depthwise groups go row by row instead.

use super::geometry::Geometry;
use crate::op::gemm::{NR, Strides, gemm, pack};
use crate::op::num::Acc;

/// Elements of a block of packed columns: it should stay in the cache while all rows pass.
const BLOCK: usize = 1 << 16;

/// `x [batch, groups * icg, ..]` with `w [groups * ocg, icg, ..]` to `[batch, groups * ocg, ..]`.
pub(in crate::op) fn forward<A: Acc>(geo: &Geometry, x: &[A], w: &[A]) -> Vec<A> {
    let (xs, ws, ys) = (geo.icg * geo.wide(), geo.ocg * geo.icg * geo.taps(), geo.ocg * geo.count());
    let mut y = vec![A::ZERO; geo.batch * geo.groups * ys];
    if y.is_empty() || ws == 0 {
        return y;
    }
    for (i, y) in y.chunks_exact_mut(ys).enumerate() {
        let (x, w) = (&x[i * xs..(i + 1) * xs], &w[i % geo.groups * ws..(i % geo.groups + 1) * ws]);
        if geo.icg == 1 {
            depthwise(geo, x, w, y);
        } else {
            by_columns(geo, x, w, y);
        }
    }
    y
}

/// One group as products with blocks of columns.
fn by_columns<A: Acc>(geo: &Geometry, x: &[A], w: &[A], y: &mut [A]) {
    let (k, count) = (geo.icg * geo.taps(), geo.count());
    let block = (BLOCK / k / NR).max(1) * NR;
    let mut panels = vec![A::ZERO; block.min(count.next_multiple_of(NR)) * k];
    for first in (0..count).step_by(block) {
        let n = block.min(count - first);
        for (p, panel) in panels.chunks_exact_mut(k * NR).enumerate().take(n.div_ceil(NR)) {
            columns(geo, x, first + p * NR, panel);
        }
        gemm(geo.ocg, n, k, w, &panels, &mut y[first..], count);
    }
}

/// Packs the elements that [`NR`] windows read into a panel, zeros for padding.
fn columns<A: Acc>(geo: &Geometry, x: &[A], first: usize, panel: &mut [A]) {
    let (taps, wide) = (geo.taps(), geo.wide());
    let windows: [Option<[usize; 3]>; NR] =
        std::array::from_fn(|j| (first + j < geo.count()).then(|| geo.window(first + j)));
    for t in 0..taps {
        let tap = geo.tap(t);
        let at = windows.map(|w| w.and_then(|w| geo.under(w, tap)));
        for c in 0..geo.icg {
            let row = &mut panel[(c * taps + t) * NR..][..NR];
            for (v, at) in row.iter_mut().zip(at) {
                *v = at.map_or(A::ZERO, |at| x[c * wide + at]);
            }
        }
    }
}

/// One group with one input channel: rows of windows, a tap at a time.
fn depthwise<A: Acc>(geo: &Geometry, x: &[A], w: &[A], y: &mut [A]) {
    let [d, h, wd] = geo.axes;
    for (w, y) in w.chunks_exact(geo.taps()).zip(y.chunks_exact_mut(geo.count())) {
        for (row, y) in y.chunks_exact_mut(wd.count).enumerate() {
            for (t, &weight) in w.iter().enumerate() {
                let [kd, kh, kw] = geo.tap(t);
                let (Some(id), Some(ih)) =
                    (d.window.tap(row / h.count, kd, d.wide), h.window.tap(row % h.count, kh, h.wide))
                else {
                    continue;
                };
                let range = wd.window.inside(kw, wd.wide, wd.count);
                let Some(start) = wd.window.tap(range.start, kw, wd.wide) else { continue };
                let x = &x[(id * h.wide + ih) * wd.wide..][..wd.wide];
                for (v, &a) in y[range].iter_mut().zip(x[start..].iter().step_by(wd.window.stride)) {
                    *v = v.mac(weight, a);
                }
            }
        }
    }
}

/// The transpose of [`forward`]: `x [batch, groups * icg, ..]`, an element a window, with
/// `w [groups * icg, ocg, ..]` to the side that windows slide over.
pub(in crate::op) fn transposed<A: Acc>(geo: &Geometry, x: &[A], w: &[A]) -> Vec<A> {
    let (count, wide, taps) = (geo.count(), geo.wide(), geo.taps());
    let (xs, ws, ys) = (geo.icg * count, geo.icg * geo.ocg * taps, geo.ocg * wide);
    let mut y = vec![A::ZERO; geo.batch * geo.groups * ys];
    if y.is_empty() || xs == 0 {
        return y;
    }
    let rows = geo.ocg * taps;
    let mut spread = vec![A::ZERO; rows * count];
    for (i, y) in y.chunks_exact_mut(ys).enumerate() {
        let (x, w) = (&x[i * xs..(i + 1) * xs], &w[i % geo.groups * ws..(i % geo.groups + 1) * ws]);
        let by_output: Vec<A> = (0..rows).flat_map(|r| w[r..].iter().step_by(rows).copied()).collect();
        let panels = pack(x, geo.icg, count, Strides { row: count, col: 1 });
        gemm(rows, count, geo.icg, &by_output, &panels, &mut spread, count);
        for (r, spread) in spread.chunks_exact(count).enumerate() {
            let tap = geo.tap(r % taps);
            for (i, &v) in spread.iter().enumerate() {
                if let Some(at) = geo.under(geo.window(i), tap) {
                    let to = &mut y[r / taps * wide + at];
                    *to = to.plus(v);
                }
            }
        }
    }
    y
}
