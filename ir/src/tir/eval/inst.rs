//! The register code that functions are compiled to.

use super::ops::Fn2;
use crate::scalar::{Scalar, UnaryOp};
use crate::tir::intrin::Intrinsic;
use crate::types::DType;

/// The number of a register.
pub type Reg = u32;

/// A buffer, as running needs it.
#[derive(Clone, Debug)]
pub struct BufferInfo {
    /// For messages.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
}

/// One instruction. Jumps are relative to the next instruction.
#[derive(Clone, Copy, Debug)]
pub enum Inst {
    /// `dst = f(a, b)`.
    Binary { f: Fn2, dst: Reg, a: Reg, b: Reg },
    /// `dst = op(a)`.
    Unary { op: UnaryOp, dtype: DType, dst: Reg, a: Reg },
    /// `dst = a` converted.
    Cast { from: DType, to: DType, dst: Reg, a: Reg },
    /// `dst = a` as another dtype.
    Reinterpret { to: DType, dst: Reg, a: Reg },
    /// `dst = a * b + c`.
    Fma { dtype: DType, dst: Reg, a: Reg, b: Reg, c: Reg },
    /// `dst = if c then a else b`.
    Select { dst: Reg, c: Reg, a: Reg, b: Reg },
    /// `dst = a`.
    Move { dst: Reg, a: Reg },
    /// `dst = a + b`, of indices.
    Add { dst: Reg, a: Reg, b: Reg },
    /// `dst = a * by`, of indices.
    Scale { dst: Reg, a: Reg, by: i64 },
    /// Fails unless the index lies in `0..size`; the buffer and dimension are for the message.
    Check { index: Reg, size: u64, buffer: u32, dim: u32 },
    /// `dst = buffer[at]`.
    Load { dst: Reg, buffer: u32, at: Reg, dtype: DType },
    /// `buffer[at] = a`.
    Store { a: Reg, buffer: u32, at: Reg, dtype: DType },
    /// Says that the thread is about to access `buffer[at]`.
    Watch { buffer: u32, at: Reg, write: bool },
    /// Waits for the other threads of the block.
    Barrier,
    /// Goes on elsewhere.
    Jump { by: i32 },
    /// Goes on elsewhere if the register is 0.
    JumpIfNot { c: Reg, by: i32 },
    /// Sets `var` to 0; goes on after the loop if there is no iteration.
    Enter { var: Reg, extent: Reg, by: i32 },
    /// Adds 1 to `var`; goes back to the body if there are more iterations.
    Next { var: Reg, extent: Reg, by: i32 },
    /// Forgets which shared parts were evaluated.
    Forget,
    /// Evaluates a shared part unless that was done since the last `Forget`.
    Sub { sub: u32 },
    /// The end of a shared part.
    Return { sub: u32 },
    /// A tensor intrinsic.
    Intrin { call: u32 },
    /// The end.
    End,
}

/// The call of a tensor intrinsic.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which.
    pub def: &'static Intrinsic,
    /// Buffers, with the registers of first index and extent of each dimension.
    pub regions: Vec<(u32, Vec<(Reg, Reg)>)>,
    /// Registers of the parameters.
    pub params: Vec<Reg>,
}

/// What makes two pure instructions equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PureKey {
    /// A constant.
    Const(Scalar),
    /// An operation, its dtype and its operands.
    Op(u16, DType, [Reg; 3]),
    /// A multiple of an index.
    Scale(Reg, i64),
}
