//! TIR to machine code, and the artifact.

pub mod artifact;
pub mod cpu;
pub mod cuda;
pub mod exec_memory;
pub mod kernel;
