//! Operators of neural networks that are no convolution, pooling or normalisation:
//! products, activations, softmax, padding and the moves between space and channels.

pub mod activation;
pub mod batch_matmul;
pub mod dense;
pub mod softmax;

pub use activation::{
    BIAS_ADD, BiasAddAttrs, DROPOUT, DropoutAttrs, LEAKY_RELU, LeakyReluAttrs, PRELU, PReluAttrs, RELU,
};
pub use batch_matmul::{BATCH_MATMUL, BatchMatmulAttrs};
pub use dense::{
    DENSE, DENSE_PACK, DENSE_PACK_WEIGHT, DenseAttrs, DensePackAttrs, DensePackWeightAttrs, MATMUL,
    MatmulAttrs,
};
pub use softmax::{FAST_SOFTMAX, LOG_SOFTMAX, SOFTMAX, SoftmaxAttrs};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[
    &BATCH_MATMUL,
    &BIAS_ADD,
    &DENSE,
    &DENSE_PACK,
    &DENSE_PACK_WEIGHT,
    &DROPOUT,
    &FAST_SOFTMAX,
    &LEAKY_RELU,
    &LOG_SOFTMAX,
    &MATMUL,
    &PRELU,
    &RELU,
    &SOFTMAX,
];
