//! Schedules: from Tensor Expression graphs to kernels of tiles.

mod collapse;
pub mod inline;
mod nest;
mod rows;
pub mod rules_cpu;
pub mod rules_cuda;
pub mod tensorize;
pub mod walk;
