//! Matrix multiplication on packed operands, and the packing.

use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::types::DType;

const fn region(name: &'static str, dims: &'static [&'static str], access: Access) -> RegionDef {
    RegionDef { name, dtype: DType::F32, dims, access }
}

/// Sizes may be 0, panel widths must not.
fn check(params: &[i64], names: &[&str]) -> Result<(), String> {
    at_least(params, names, |name| matches!(name, "mr" | "nr") as i64)
}

/// `C = A * B`, with B in panels of `nr` columns.
pub static GEMM_F32: Intrinsic = Intrinsic {
    name: "gemm_f32",
    doc: "C[m, n] = A[m, k] * B[k, n], where Bp[j, p, c] = B[p, j * nr + c] and columns past n are ignored; \
          C is overwritten.",
    regions: &[
        region("C", &["m", "n"], Access::Write),
        region("A", &["m", "k"], Access::Read),
        region("Bp", &["ceil(n / nr)", "k", "nr"], Access::Read),
    ],
    params: &["m", "n", "k", "nr"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, GEMM_F32.params)?;
        let (m, n, k, nr) = (p[0], p[1], p[2], p[3]);
        Ok(vec![vec![m, n], vec![m, k], vec![(n + nr - 1) / nr, k, nr]])
    },
    meaning: |call| {
        let [m, n, k, nr] = call.sizes();
        product(call, [m, n, k], |call, p, j| call.inputs[1].f32(&[j / nr, p, j % nr]));
    },
    scratch_bytes: |_| 0,
};

/// Elements of B that implementations of `gemm_f32_nn` and `gemm_f32_nt` pack at a time in their
/// scratch memory.
pub const GEMM_PANEL: usize = 512 * 48;

/// `C = A * B`, with B as it is.
pub static GEMM_F32_NN: Intrinsic = Intrinsic {
    name: "gemm_f32_nn",
    doc: "C[m, n] = A[m, k] * B[k, n]; C is overwritten. For operands that are used once, such as values of attention.",
    regions: &[
        region("C", &["m", "n"], Access::Write),
        region("A", &["m", "k"], Access::Read),
        region("B", &["k", "n"], Access::Read),
    ],
    params: &["m", "n", "k"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, GEMM_F32_NN.params)?;
        Ok(vec![vec![p[0], p[1]], vec![p[0], p[2]], vec![p[2], p[1]]])
    },
    meaning: |call| {
        let sizes = call.sizes();
        product(call, sizes, |call, p, j| call.inputs[1].f32(&[p, j]));
    },
    scratch_bytes: |_| GEMM_PANEL * 4,
};

/// `C = A * B^T`, with B as it is.
pub static GEMM_F32_NT: Intrinsic = Intrinsic {
    name: "gemm_f32_nt",
    doc: "C[m, n] = A[m, k] * B[n, k]^T; C is overwritten. For operands that are used once, such as keys of attention.",
    regions: &[
        region("C", &["m", "n"], Access::Write),
        region("A", &["m", "k"], Access::Read),
        region("B", &["n", "k"], Access::Read),
    ],
    params: &["m", "n", "k"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, GEMM_F32_NT.params)?;
        Ok(vec![vec![p[0], p[1]], vec![p[0], p[2]], vec![p[1], p[2]]])
    },
    meaning: |call| {
        let sizes = call.sizes();
        product(call, sizes, |call, p, j| call.inputs[1].f32(&[j, p]));
    },
    scratch_bytes: |_| GEMM_PANEL * 4,
};

/// `C = A * B`, with A in panels of `mr` rows and B in panels of `nr` columns.
pub static GEMM_F32_PANELS: Intrinsic = Intrinsic {
    name: "gemm_f32_panels",
    doc: "C[i, j, 0] = sum over p of A[i, p] * B[p, j], where Ap[i / mr, p, i % mr] = A[i, p] and \
          Bp[j / nr, p, j % nr] = B[p, j]; rows past m and columns past n are ignored; C is overwritten.",
    regions: &[
        region("C", &["m", "n", "1"], Access::Write),
        region("Ap", &["ceil(m / mr)", "k", "mr"], Access::Read),
        region("Bp", &["ceil(n / nr)", "k", "nr"], Access::Read),
    ],
    params: &["m", "n", "k", "mr", "nr"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, GEMM_F32_PANELS.params)?;
        let (m, n, k, mr, nr) = (p[0], p[1], p[2], p[3], p[4]);
        Ok(vec![vec![m, n, 1], vec![(m + mr - 1) / mr, k, mr], vec![(n + nr - 1) / nr, k, nr]])
    },
    meaning: |call| {
        let [m, n, k, mr, nr] = call.sizes();
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let a = |call: &Call<'_>, p| call.inputs[0].f32(&[i / mr, p, i % mr]);
            let b = |call: &Call<'_>, p| call.inputs[1].f32(&[j / nr, p, j % nr]);
            let sum = (0..k).fold(0f32, |sum, p| sum + a(call, p) * b(call, p));
            call.outputs[0].set_f32(&[i, j, 0], sum);
        }
    },
    scratch_bytes: |_| 0,
};

/// A in panels of `mr` rows.
pub static PACK_A_F32: Intrinsic = Intrinsic {
    name: "pack_a_f32",
    doc: "Ap[i, p, r] = A[i * mr + r, p]; rows past m are zero.",
    regions: &[
        region("Ap", &["ceil(m / mr)", "k", "mr"], Access::Write),
        region("A", &["m", "k"], Access::Read),
    ],
    params: &["m", "k", "mr"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, PACK_A_F32.params)?;
        Ok(vec![vec![(p[0] + p[2] - 1) / p[2], p[1], p[2]], vec![p[0], p[1]]])
    },
    meaning: |call| pack(call, |call, p, i| call.inputs[0].f32(&[i, p])),
    scratch_bytes: |_| 0,
};

/// B in panels of `nr` columns.
pub static PACK_B_F32: Intrinsic = Intrinsic {
    name: "pack_b_f32",
    doc: "Bp[j, p, c] = B[p, j * nr + c]; columns past n are zero.",
    regions: &[
        region("Bp", &["ceil(n / nr)", "k", "nr"], Access::Write),
        region("B", &["k", "n"], Access::Read),
    ],
    params: &["n", "k", "nr"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, PACK_B_F32.params)?;
        Ok(vec![vec![(p[0] + p[2] - 1) / p[2], p[1], p[2]], vec![p[1], p[0]]])
    },
    meaning: |call| pack(call, |call, p, j| call.inputs[0].f32(&[p, j])),
    scratch_bytes: |_| 0,
};

/// The transpose of B in panels of `nr` of its rows.
pub static PACK_B_F32_NT: Intrinsic = Intrinsic {
    name: "pack_b_f32_nt",
    doc: "Bp[j, p, c] = B[j * nr + c, p]; rows of B past n are zero.",
    regions: &[
        region("Bp", &["ceil(n / nr)", "k", "nr"], Access::Write),
        region("B", &["n", "k"], Access::Read),
    ],
    params: &["n", "k", "nr"],
    execution: Execution::Worker,
    extents: |p| {
        check(p, PACK_B_F32_NT.params)?;
        Ok(vec![vec![(p[0] + p[2] - 1) / p[2], p[1], p[2]], vec![p[0], p[1]]])
    },
    meaning: |call| pack(call, |call, p, j| call.inputs[0].f32(&[j, p])),
    scratch_bytes: |_| 0,
};

/// Sums in the order of `k`, one rounding for the product and one for the sum.
fn product(call: &mut Call<'_>, [m, n, k]: [usize; 3], b: impl Fn(&Call<'_>, usize, usize) -> f32) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0f32;
            for p in 0..k {
                sum += call.inputs[0].f32(&[i, p]) * b(call, p, j);
            }
            call.outputs[0].set_f32(&[i, j], sum);
        }
    }
}

/// Panels `[i, p, r]` of element `(p, i * width + r)`, zero past the end.
fn pack(call: &mut Call<'_>, at: impl Fn(&Call<'_>, usize, usize) -> f32) {
    let [len, k, width] = call.sizes();
    for i in 0..len.div_ceil(width) {
        for p in 0..k {
            for r in 0..width {
                let j = i * width + r;
                let value = if j < len { at(call, p, j) } else { 0.0 };
                call.outputs[0].set_f32(&[i, p, r], value);
            }
        }
    }
}
