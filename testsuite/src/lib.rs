//! What the tests are made of: case files and their checks, the rules of the repository,
//! generated programs and the means to shrink one that fails, fuzzing of every reader,
//! programs of great size, and interleavings of kernels that are preempted.

pub mod case;
pub mod filecheck;
pub mod fuzz;
pub mod generate;
pub mod networks;
pub mod onnx;
pub mod preempt;
pub mod rules;
pub mod scale;
