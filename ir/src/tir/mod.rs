//! TIR: the loop-level language of kernels.

pub mod access;
mod build;
pub mod equal;
pub mod eval;
pub mod facts;
pub mod interval;
pub mod intrin;
pub mod ir;
pub mod linear;
pub mod names;
pub mod parse;
pub mod print;
pub mod protocol;
pub mod region;
pub mod segments;
pub mod simplify;
pub mod verify;
pub mod visit;

pub use ir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Range, Region, Scope,
    Stmt, VarId, VarInfo,
};
