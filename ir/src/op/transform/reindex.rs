//! Index arithmetic of reshaping: where an element of the result lies in the source.

use crate::tir::Expr;

/// The index into shape `from` of the element that has `index` in shape `to`, both row-major
/// and of as many elements, of which there is at least one.
///
/// Dimensions are taken in the smallest groups of equal size on both sides, so an index that
/// only moves stays as it is, and merging or splitting dimensions costs no division it does
/// not need.
pub(super) fn reindex(index: &[Expr], to: &[usize], from: &[usize]) -> Vec<Expr> {
    let mut out = Vec::with_capacity(from.len());
    let (mut t, mut f) = (0, 0);
    while f < from.len() || t < to.len() {
        let (t0, f0) = (t, f);
        let (mut a, mut b) = (1usize, 1usize);
        // Grow the side that is behind until both groups have one size.
        loop {
            if f < from.len() && (f == f0 || b < a) {
                b *= from[f];
                f += 1;
            } else if t < to.len() && (t == t0 || a < b) {
                a *= to[t];
                t += 1;
            } else {
                break;
            }
        }
        let flat = flatten(&index[t0..t], &to[t0..t]);
        unflatten(flat, &from[f0..f], &mut out);
    }
    out
}

/// The row-major position of an index.
pub(super) fn flatten(index: &[Expr], shape: &[usize]) -> Expr {
    index.iter().zip(shape).fold(Expr::int(0), |flat, (i, &n)| flat * n + i)
}

/// Appends the index of a row-major position.
pub(in crate::op) fn unflatten(flat: Expr, shape: &[usize], out: &mut Vec<Expr>) {
    let mut stride: usize = shape.iter().product();
    for (d, &n) in shape.iter().enumerate() {
        stride /= n;
        let place = flat.clone().floor_div(stride);
        // The outermost quotient is within bounds by itself.
        out.push(match (n, d) {
            (1, _) => Expr::int(0),
            (_, 0) => place,
            _ => place.floor_mod(n),
        });
    }
}
