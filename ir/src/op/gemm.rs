//! Matrix multiplication for the reference evaluator: packed panels and a register tile.
//!
//! The right operand is packed into panels of [`NR`] columns, `[ceil(n / NR)][k][NR]` with
//! zeros past `n`, so that the inner loop runs over fixed-size arrays, which the compiler
//! turns into vectors. Products are added in the order of k.

use super::num::Acc;

/// Columns of a panel.
pub(super) const NR: usize = 8;
/// Rows of a register tile.
const MR: usize = 4;

/// Where the element `(p, j)` of a right operand lies: `p * row + j * col`.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    /// Step of k.
    pub row: usize,
    /// Step of a column.
    pub col: usize,
}

/// Packs a `[k, n]` operand into panels.
pub(super) fn pack<A: Acc>(b: &[A], k: usize, n: usize, at: Strides) -> Vec<A> {
    let mut panels = vec![A::ZERO; n.div_ceil(NR) * k * NR];
    if k == 0 {
        return panels;
    }
    for (j0, panel) in panels.chunks_exact_mut(k * NR).enumerate() {
        let columns = NR.min(n - j0 * NR);
        for (p, row) in panel.chunks_exact_mut(NR).enumerate() {
            for (j, v) in row[..columns].iter_mut().enumerate() {
                *v = b[p * at.row + (j0 * NR + j) * at.col];
            }
        }
    }
    panels
}

/// `c[i * ldc + j] = sum over p of a[i, p] * b[p, j]` for a dense `[m, k]` left operand and
/// a packed right one of `n` columns.
pub(super) fn gemm<A: Acc>(m: usize, n: usize, k: usize, a: &[A], panels: &[A], c: &mut [A], ldc: usize) {
    for i0 in (0..m).step_by(MR) {
        // The last tile may repeat a row; its surplus results are dropped.
        let rows: [&[A]; MR] = std::array::from_fn(|r| {
            let i = (i0 + r).min(m - 1);
            &a[i * k..(i + 1) * k]
        });
        for (j0, j) in (0..n).step_by(NR).enumerate() {
            let tile = tile(rows, &panels[j0 * k * NR..(j0 + 1) * k * NR]);
            let columns = NR.min(n - j);
            for (r, row) in tile.iter().enumerate().take(m - i0) {
                let at = (i0 + r) * ldc + j;
                c[at..at + columns].copy_from_slice(&row[..columns]);
            }
        }
    }
}

/// The products of [`MR`] rows with one panel.
fn tile<A: Acc>(rows: [&[A]; MR], panel: &[A]) -> [[A; NR]; MR] {
    let mut acc = [[A::ZERO; NR]; MR];
    let [a0, a1, a2, a3] = rows;
    let (panel, _) = panel.as_chunks::<NR>();
    for ((((b, &x0), &x1), &x2), &x3) in panel.iter().zip(a0).zip(a1).zip(a2).zip(a3) {
        for (row, x) in acc.iter_mut().zip([x0, x1, x2, x3]) {
            for (c, &y) in row.iter_mut().zip(b) {
                *c = c.mac(x, y);
            }
        }
    }
    acc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_three_loops_on_odd_sizes() {
        for (m, n, k) in [(1, 1, 1), (5, 9, 3), (4, 8, 7), (7, 17, 2), (3, 4, 0)] {
            let a: Vec<i32> = (0..m * k).map(|v| v as i32 % 7 - 3).collect();
            let b: Vec<i32> = (0..k * n).map(|v| v as i32 % 5 - 2).collect();
            let mut c = vec![-1; m * n];
            gemm(m, n, k, &a, &pack(&b, k, n, Strides { row: n, col: 1 }), &mut c, n);
            for i in 0..m {
                for j in 0..n {
                    let want: i32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                    assert_eq!(c[i * n + j], want, "{m}x{n}x{k} at {i},{j}");
                }
            }
        }
    }

    #[test]
    fn transposed_operand() {
        // B is stored as [n, k].
        let b = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut c = [0f32; 2];
        gemm(1, 2, 3, &[1f32, 1.0, 1.0], &pack(&b, 3, 2, Strides { row: 1, col: 3 }), &mut c, 2);
        assert_eq!(c, [6.0, 15.0]);
    }
}
