//! Quantised operators: integers with scales and zero points as arguments.
//!
//! Those named `qnn.` are Relay's. Those named `quant.` are ours: the data's scale is found as
//! the program runs ([`per_token`]), and a product gives real numbers ([`dense`]).
//!
//! ONNX's operators are these: `QuantizeLinear` and `DequantizeLinear` are `qnn.quantize` and
//! `qnn.dequantize`; `MatMulInteger` and `ConvInteger` are `qnn.dense` (or `qnn.batch_matmul`)
//! and `qnn.conv2d` with scales of 1; `QLinearMatMul` and `QLinearConv` are the same followed
//! by the bias and `qnn.requantize` with the operands' scales multiplied and
//! `rounding="TONEVEN"`. Zero points and scales may be computed: they are ordinary tensors.

pub mod arith;
pub mod convert;
pub mod dense;
pub mod packed;
mod param;
pub mod per_token;
pub mod product;

pub use arith::{QNN_ADD, QNN_CONCATENATE, QNN_MUL, QnnBroadcastAttrs, QnnConcatenateAttrs};
pub use convert::{DEQUANTIZE, DequantizeAttrs, QUANTIZE, QuantizeAttrs, REQUANTIZE, RequantizeAttrs};
pub use dense::{QUANT_DENSE, QUANT_MATMUL, QuantDenseAttrs};
pub use packed::{PANEL, QUANT_DENSE_PACK, QUANT_DENSE_PACK_WEIGHT, QuantDensePackAttrs};
pub use per_token::{QUANTIZE_PER_TENSOR, QUANTIZE_PER_TOKEN, quantize_columns, quantize_rows};
pub use product::{QNN_BATCH_MATMUL, QNN_CONV2D, QNN_DENSE};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[
    &DEQUANTIZE,
    &QNN_ADD,
    &QNN_BATCH_MATMUL,
    &QNN_CONCATENATE,
    &QNN_CONV2D,
    &QNN_DENSE,
    &QNN_MUL,
    &QUANTIZE,
    &QUANTIZE_PER_TENSOR,
    &QUANTIZE_PER_TOKEN,
    &QUANT_DENSE,
    &QUANT_DENSE_PACK,
    &QUANT_DENSE_PACK_WEIGHT,
    &QUANT_MATMUL,
    &REQUANTIZE,
];
