//! Quantised operators in Relay's manner: integers with scales and zero points as arguments.
//!
//! ONNX's operators are these: `QuantizeLinear` and `DequantizeLinear` are `qnn.quantize` and
//! `qnn.dequantize`; `MatMulInteger` and `ConvInteger` are `qnn.dense` (or `qnn.batch_matmul`)
//! and `qnn.conv2d` with scales of 1; `QLinearMatMul` and `QLinearConv` are the same followed
//! by the bias and `qnn.requantize` with the operands' scales multiplied and
//! `rounding="TONEVEN"`. Zero points and scales may be computed: they are ordinary tensors.

pub mod arith;
pub mod convert;
mod param;
pub mod product;

pub use arith::{QNN_ADD, QNN_CONCATENATE, QNN_MUL, QnnBroadcastAttrs, QnnConcatenateAttrs};
pub use convert::{DEQUANTIZE, DequantizeAttrs, QUANTIZE, QuantizeAttrs, REQUANTIZE, RequantizeAttrs};
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
    &REQUANTIZE,
];
