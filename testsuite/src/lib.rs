//! What the tests are made of: case files and their checks, the rules of the repository,
//! generated programs and the means to shrink one that fails, fuzzing of every reader,
//! and programs of great size.

pub mod case;
pub mod filecheck;
pub mod fuzz;
pub mod generate;
pub mod onnx;
pub mod rules;
pub mod scale;
