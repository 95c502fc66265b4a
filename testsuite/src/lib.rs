//! What the tests are made of: generated programs, and the means to shrink one that fails.

pub mod generate;
