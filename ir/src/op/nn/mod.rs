//! Operators of neural networks that are no convolution, pooling or normalisation:
//! products, activations, softmax, padding and the moves between space and channels.

pub mod activation;
pub mod batch_matmul;
pub mod dense;
pub mod loss;
pub mod pad;
pub mod softmax;
pub mod space;

pub use activation::{
    BIAS_ADD, BiasAddAttrs, DROPOUT, DropoutAttrs, LEAKY_RELU, LeakyReluAttrs, PRELU, PReluAttrs, RELU,
};
pub use batch_matmul::{BATCH_MATMUL, BatchMatmulAttrs};
pub use dense::{
    DENSE, DENSE_PACK, DENSE_PACK_WEIGHT, DenseAttrs, DensePackAttrs, DensePackWeightAttrs, MATMUL,
    MatmulAttrs,
};
pub use loss::{CROSS_ENTROPY, CROSS_ENTROPY_WITH_LOGITS, NLL_LOSS, NllLossAttrs};
pub use pad::{DILATE, DilateAttrs, MIRROR_PAD, MirrorPadAttrs, PAD, PadAttrs};
pub use softmax::{FAST_SOFTMAX, LOG_SOFTMAX, SOFTMAX, SoftmaxAttrs};

pub use space::{
    BATCH_TO_SPACE_ND, BatchToSpaceNdAttrs, DEPTH_TO_SPACE, SPACE_TO_BATCH_ND, SPACE_TO_DEPTH,
    SpaceToBatchNdAttrs, SubPixelAttrs,
};

#[cfg(test)]
mod tests;

use super::OpDef;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[
    &BATCH_MATMUL,
    &BATCH_TO_SPACE_ND,
    &BIAS_ADD,
    &CROSS_ENTROPY,
    &CROSS_ENTROPY_WITH_LOGITS,
    &DENSE,
    &DENSE_PACK,
    &DENSE_PACK_WEIGHT,
    &DEPTH_TO_SPACE,
    &DILATE,
    &DROPOUT,
    &FAST_SOFTMAX,
    &LEAKY_RELU,
    &LOG_SOFTMAX,
    &MATMUL,
    &MIRROR_PAD,
    &NLL_LOSS,
    &PAD,
    &PRELU,
    &RELU,
    &SOFTMAX,
    &SPACE_TO_BATCH_ND,
    &SPACE_TO_DEPTH,
];
