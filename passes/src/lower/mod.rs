//! From fused modules to plans of TIR kernels.

pub mod plan;
