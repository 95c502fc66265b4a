//! Programs to programs: the pass table, rewriting, fusion, lowering and schedules.

pub mod bisect;
mod egraph;
pub mod fuse;
pub mod lower;
pub mod manager;
pub mod pass;
pub mod pipeline;
pub mod reduce;
pub mod relay;
pub mod table;
pub mod target;
pub mod tir;
