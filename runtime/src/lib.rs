//! Code to results: tensors in memory, devices, micro-kernels and the executor.

pub mod detect;
pub mod device;
pub mod exec;
pub mod memory;
pub mod microkernel;
pub mod sched;
