//! Products of int8 matrices on packed weights, with the real result; of rows as they are, or as
//! they are brought beforehand into the form that machines without dot products of bytes multiply.

use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::op::quant::PANEL;
use crate::scalar::Unary;
use crate::types::DType;

const fn region(name: &'static str, dtype: DType, dims: &'static [&'static str]) -> RegionDef {
    RegionDef { name, dtype, dims, access: Access::Read }
}

/// `C = A * B` as real numbers, with B in panels of 16 columns by 4 steps of k.
pub static GEMM_I8: Intrinsic = Intrinsic {
    name: "gemm_i8",
    doc: "C[i, j] = f(fma(sum over p of A[i, p] * B[p, j], a_scale[i] * b_scale[j], bias[j])), where f(x) is \
          x * (erf(x / sqrt(2)) + 1) / 2 if gelu is 1 and x if it is 0, the sum is exact (it wraps), \
          Bp[j / 16, p / 4, j % 16, p % 4] = B[p, j] with zeros past n and k, and b_sums[j] is the sum over p of \
          B[p, j]; C is overwritten.",
    regions: &[
        RegionDef { name: "C", dtype: DType::F32, dims: &["m", "n"], access: Access::Write },
        region("A", DType::I8, &["m", "k"]),
        region("Bp", DType::I8, &["ceil(n / 16)", "ceil(k / 4)", "16", "4"]),
        region("b_sums", DType::I32, &["n"]),
        region("a_scale", DType::F32, &["m"]),
        region("b_scale", DType::F32, &["n"]),
        region("bias", DType::F32, &["n"]),
    ],
    params: &["m", "n", "k", "gelu"],
    execution: Execution::Worker,
    extents: |p| {
        at_least(p, GEMM_I8.params, |_| 0)?;
        if p[3] > 1 {
            return Err(format!("gelu is {}, but must be 0 or 1", p[3]));
        }
        let (m, n, k, [nr, kr]) = (p[0], p[1], p[2], PANEL.map(|n| n as i64));
        let panels = vec![(n + nr - 1) / nr, (k + kr - 1) / kr, nr, kr];
        Ok(vec![vec![m, n], vec![m, k], panels, vec![n], vec![m], vec![n], vec![n]])
    },
    meaning,
    scratch_bytes,
};

/// Rows of A that an implementation of `gemm_i8` may hold in its scratch memory, widened to 16
/// bits and padded with zeros to 64 steps of k.
pub const GEMM_I8_STRIP: usize = 12;

/// Or else rows, columns and steps of k of a block that it holds there: A and a panel of B
/// widened to 16 bits, the sums of columns in 32 bits, and a number a row.
pub const GEMM_I8_ROWS: usize = 128;
/// Columns of a block.
pub const GEMM_I8_COLUMNS: usize = 256;
/// Steps of k of a block.
pub const GEMM_I8_DEPTH: usize = 512;

/// `gemm_i8` of rows that [`WIDEN_I8`] widened.
pub static GEMM_I8_WIDENED: Intrinsic = Intrinsic {
    name: "gemm_i8_widened",
    doc: "As gemm_i8, of the matrix A that W is by widen_i8.",
    regions: &[
        RegionDef { name: "C", dtype: DType::F32, dims: &["m", "n"], access: Access::Write },
        region("W", DType::I16, &["m", "32 * ceil(k / 32) + 32"]),
        region("Bp", DType::I8, &["ceil(n / 16)", "ceil(k / 4)", "16", "4"]),
        region("b_sums", DType::I32, &["n"]),
        region("a_scale", DType::F32, &["m"]),
        region("b_scale", DType::F32, &["n"]),
        region("bias", DType::F32, &["n"]),
    ],
    params: GEMM_I8.params,
    execution: Execution::Worker,
    extents: |p| {
        let mut extents = (GEMM_I8.extents)(p)?;
        extents[1][1] = widened_row(p[2] as usize) as i64;
        Ok(extents)
    },
    meaning: |call| {
        product(call, |call, i, p| call.inputs[0].i16(&[i, widened_place(p)]).into());
    },
    scratch_bytes,
};

/// Rows of int8 in 16 bits, neighbours apart, with the sum of their products.
pub static WIDEN_I8: Intrinsic = Intrinsic {
    name: "widen_i8",
    doc: "W[i, 16 * (p / 16) + 8 * (p % 2) + p % 16 / 2] = A[i, p] for p < k, then zeros up to K = 32 * ceil(k / 32); \
          W[i, K] and W[i, K + 1] are the lower and the upper half of the sum of A[i, 2 q] * A[i, 2 q + 1] over q in \
          32 bits, and zeros follow.",
    regions: &[
        RegionDef {
            name: "W",
            dtype: DType::I16,
            dims: &["m", "32 * ceil(k / 32) + 32"],
            access: Access::Write,
        },
        region("A", DType::I8, &["m", "k"]),
    ],
    params: &["m", "k"],
    execution: Execution::Worker,
    extents: |p| {
        at_least(p, WIDEN_I8.params, |_| 0)?;
        Ok(vec![vec![p[0], widened_row(p[1] as usize) as i64], vec![p[0], p[1]]])
    },
    meaning: widen,
    scratch_bytes: |_| 0,
};

/// Elements of a widened row of so many steps: those steps in whole vectors, and one for the sum.
pub const fn widened_row(k: usize) -> usize {
    k.next_multiple_of(32) + 32
}

/// The place of a step in a widened row: of each sixteen the even ones, then the odd ones.
pub const fn widened_place(p: usize) -> usize {
    p / 16 * 16 + p % 2 * 8 + p % 16 / 2
}

fn widen(call: &mut Call<'_>) {
    let [m, k] = call.sizes();
    for i in 0..m {
        (0..widened_row(k)).for_each(|p| call.outputs[0].set_i16(&[i, p], 0));
        let mut sum = 0i32;
        for p in 0..k {
            let value = call.inputs[0].i8(&[i, p]);
            call.outputs[0].set_i16(&[i, widened_place(p)], value.into());
            if p % 2 == 1 {
                let pair = i32::from(call.inputs[0].i8(&[i, p - 1])) * i32::from(value);
                sum = sum.wrapping_add(pair);
            }
        }
        let at = k.next_multiple_of(32);
        call.outputs[0].set_i16(&[i, at], sum as i16);
        call.outputs[0].set_i16(&[i, at + 1], (sum >> 16) as i16);
    }
}

fn scratch_bytes(params: &[i64]) -> usize {
    let k = params[2] as usize;
    let strip = GEMM_I8_STRIP * k.next_multiple_of(64) * 2;
    let rows = GEMM_I8_ROWS;
    let depth = k.clamp(1, GEMM_I8_DEPTH).next_multiple_of(64);
    let sums = if k > GEMM_I8_DEPTH { rows * GEMM_I8_COLUMNS * 4 } else { 0 };
    let block = (rows + PANEL[0]) * depth * 2 + rows * 4 + sums;
    strip.max(block)
}

fn meaning(call: &mut Call<'_>) {
    product(call, |call, i, p| call.inputs[0].i8(&[i, p]).into());
}

/// The real product of rows whose numbers `a` gives.
fn product(call: &mut Call<'_>, a: impl Fn(&Call<'_>, usize, usize) -> i32) {
    let [m, n, k, gelu] = call.sizes();
    let [nr, kr] = PANEL;
    for i in 0..m {
        for j in 0..n {
            let product = |p: usize| {
                let b = call.inputs[1].i8(&[j / nr, p / kr, j % nr, p % kr]);
                a(call, i, p) * i32::from(b)
            };
            let sum = (0..k).fold(0i32, |sum, p| sum.wrapping_add(product(p)));
            let vector = |input: usize, at: usize| call.inputs[input].f32(&[at]);
            let value = (sum as f32).mul_add(vector(3, i) * vector(4, j), vector(5, j));
            let erf = |x: f32| Unary::erf(x * std::f32::consts::FRAC_1_SQRT_2);
            let value = if gelu == 1 { value * 0.5 * (erf(value) + 1.0) } else { value };
            call.outputs[0].set_f32(&[i, j], value);
        }
    }
}
