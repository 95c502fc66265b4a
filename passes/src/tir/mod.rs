//! Schedules: from Tensor Expression graphs to kernels of tiles.

pub mod checkpoint;
mod collapse;
pub mod cost;
mod held;
pub mod inline;
mod joint;
mod nest;
mod rows;
pub mod rules_cpu;
pub mod rules_cuda;
mod split;
pub mod tensorize;
pub mod walk;
pub mod work;
