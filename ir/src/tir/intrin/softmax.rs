//! The softmax of rows.

use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::types::DType;

/// Rows of exponentials over their sum, in place.
pub static SOFTMAX_F32: Intrinsic = Intrinsic {
    name: "softmax_f32",
    doc: "X[i, j] becomes exp(X[i, j] - max[i]) / sum over q of exp(X[i, q] - max[i]), where max[i] is the largest \
          number of the row.",
    regions: &[RegionDef { name: "X", dtype: DType::F32, dims: &["m", "n"], access: Access::Update }],
    params: &["m", "n"],
    execution: Execution::Worker,
    extents: |p| {
        at_least(p, SOFTMAX_F32.params, |_| 0)?;
        Ok(vec![vec![p[0], p[1]]])
    },
    meaning,
    scratch_bytes: |_| 0,
};

fn meaning(call: &mut Call<'_>) {
    let [m, n] = call.sizes();
    for i in 0..m {
        let row: Vec<f32> = (0..n).map(|j| call.outputs[0].f32(&[i, j])).collect();
        let max = row.iter().fold(f32::NEG_INFINITY, |max, &v| max.max(v));
        let exponentials: Vec<f32> = row.iter().map(|v| (v - max).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        exponentials.iter().enumerate().for_each(|(j, v)| call.outputs[0].set_f32(&[i, j], v / sum));
    }
}
