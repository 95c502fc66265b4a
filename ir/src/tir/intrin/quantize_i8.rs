//! Quantisation of rows to int8.

use super::{Access, Call, Execution, Intrinsic, RegionDef, at_least};
use crate::op::quant::quantize_rows;
use crate::types::DType;

/// Rows to int8, each with its scale.
pub static QUANTIZE_I8: Intrinsic = Intrinsic {
    name: "quantize_i8",
    doc: "Q[i, p] = clamp(round(X[i, p] / scale[i]), -127, 127), halves to even, where scale[i] is the largest \
          magnitude of the row over 127, 1 if that is 0, and NaN (with zeros in Q) if a number is not finite.",
    regions: &[
        RegionDef { name: "Q", dtype: DType::I8, dims: &["m", "k"], access: Access::Write },
        RegionDef { name: "scale", dtype: DType::F32, dims: &["m"], access: Access::Write },
        RegionDef { name: "X", dtype: DType::F32, dims: &["m", "k"], access: Access::Read },
    ],
    params: &["m", "k"],
    execution: Execution::Worker,
    extents: |p| {
        at_least(p, QUANTIZE_I8.params, |_| 0)?;
        Ok(vec![vec![p[0], p[1]], vec![p[0]], vec![p[0], p[1]]])
    },
    meaning,
    scratch_bytes: |_| 0,
};

fn meaning(call: &mut Call<'_>) {
    let [m, k] = call.sizes();
    for i in 0..m {
        let row: Vec<f32> = (0..k).map(|p| call.inputs[0].f32(&[i, p])).collect();
        let (numbers, scales) = quantize_rows(&row, k);
        numbers.iter().enumerate().for_each(|(p, &v)| call.outputs[0].set_i8(&[i, p], v));
        call.outputs[1].set_f32(&[i], scales.first().copied().unwrap_or(1.0));
    }
}
