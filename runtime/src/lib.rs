//! Code to results: tensors in memory, devices, micro-kernels and the executor.

pub mod detect;
pub mod microkernel;
