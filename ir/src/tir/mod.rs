//! TIR: the loop-level language of kernels.

pub mod ir;
pub mod protocol;

pub use ir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Range, Region, Scope,
    Stmt, VarId, VarInfo,
};
