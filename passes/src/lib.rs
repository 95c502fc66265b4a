//! Programs to programs: the pass table, rewriting, fusion, lowering and schedules.

pub mod lower;
pub mod pass;
pub mod target;
