//! TIR to machine code, and the artifact.

pub mod kernel;
