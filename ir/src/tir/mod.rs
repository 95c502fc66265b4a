//! TIR: the loop-level language of kernels.

mod build;
pub mod ir;
pub mod protocol;

pub use ir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Range, Region, Scope,
    Stmt, VarId, VarInfo,
};
