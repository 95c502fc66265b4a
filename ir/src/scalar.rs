//! Scalars and the meaning of arithmetic on them.
//!
//! The enums here name every elementwise operation once: the op table, Tensor
//! Expressions, TIR and the back ends all speak of the same [`UnaryOp`] and
//! [`BinaryOp`], and [`crate::scalar`] says what each one computes.
//!
//! Integers wrap. Integer division truncates, and division or remainder by zero is 0;
//! `MIN / -1` is `MIN` and its remainder 0. Shifts by the width or more (or by a negative
//! amount) give 0, or the sign for `>>` of a negative number. An integer to a negative power is
//! 1 divided by the positive one. f16 and bf16 compute in f32 and round once. `minimum` and
//! `maximum` propagate NaN, as numpy's do, and order -0 before 0; `round` is half to even.
//! Division of floats rounded down is `floor(a / b)`; remainders of floats are exact, those with
//! the sign of the divisor up to the one addition that brings the sign.
//! Conversions from float to integer saturate and take NaN to 0, and all round once.

mod arith;

pub use arith::{Arith, Binary, Convert, Unary, UnaryFn};
pub use arith::{binary, binary_fn, cast, compare, compare_fn, unary, unary_fn};

use std::fmt;

use half::{bf16, f16};

use crate::dispatch;
use crate::tensor::Element;
use crate::types::DType;

/// A function of one scalar that keeps the dtype (predicates give `bool`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the function of its name")]
pub enum UnaryOp {
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Trunc,
    Sqrt,
    Rsqrt,
    Exp,
    Log,
    Log2,
    Log10,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Sigmoid,
    /// Bitwise complement of an integer, logical negation of a bool.
    Not,
    /// Gives bool.
    IsNan,
    /// Gives bool.
    IsInf,
    /// Gives bool.
    IsFinite,
}

/// A function of two scalars of one dtype that gives the same dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the function of its name")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// True division of floats, truncating division of integers.
    Div,
    /// Division rounded towards negative infinity.
    FloorDiv,
    /// Remainder with the sign of the dividend.
    Mod,
    /// Remainder with the sign of the divisor.
    FloorMod,
    Min,
    Max,
    Pow,
    Atan2,
    /// Bitwise on integers, logical on bools.
    And,
    /// Bitwise on integers, logical on bools.
    Or,
    /// Bitwise on integers, logical on bools.
    Xor,
    Shl,
    /// Arithmetic for signed, logical for unsigned integers.
    Shr,
}

/// A comparison of two scalars of one dtype; gives bool, and false for NaN except `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each variant is the comparison of its name")]
pub enum CmpOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One value of a dtype, held as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scalar {
    dtype: DType,
    bits: u64,
}

impl Scalar {
    /// The scalar with these little-endian bits; bits past the dtype's width are dropped.
    pub fn from_bits(dtype: DType, bits: u64) -> Scalar {
        let width = dtype.bytes() * 8;
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let bits = if dtype == DType::Bool { (bits & mask != 0) as u64 } else { bits & mask };
        Scalar { dtype, bits }
    }

    /// A scalar from its Rust value.
    pub fn of<T: Element>(value: T) -> Scalar {
        let mut bytes = [0u8; 8];
        let src = bytemuck::bytes_of(&value);
        bytes[..src.len()].copy_from_slice(src);
        Scalar::from_bits(T::DTYPE, u64::from_le_bytes(bytes))
    }

    /// The Rust value, if the dtype is this one.
    pub fn get<T: Element>(self) -> Option<T> {
        (T::DTYPE == self.dtype)
            .then(|| bytemuck::pod_read_unaligned(&self.bits.to_le_bytes()[..self.dtype.bytes()]))
    }

    /// The number `value` in a dtype: floats round, integers saturate.
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        dispatch!(dtype, T => Scalar::of(T::of_f64(value)))
    }

    /// The integer `value` in a dtype: integers wrap, floats round.
    pub fn from_i64(dtype: DType, value: i64) -> Scalar {
        dispatch!(dtype, T => Scalar::of(T::of_i64(value)))
    }

    /// The dtype.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// The bits, zero-extended.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// The value as an f64; 64-bit integers past 2^53 round.
    pub fn as_f64(self) -> f64 {
        match self.dtype {
            DType::F16 => f16::from_bits(self.bits as u16).to_f64(),
            DType::BF16 => bf16::from_bits(self.bits as u16).to_f64(),
            DType::F32 => f32::from_bits(self.bits as u32) as f64,
            DType::F64 => f64::from_bits(self.bits),
            d if d.is_signed_int() => self.as_i64() as f64,
            _ => self.bits as f64,
        }
    }

    /// The value as an i64: sign-extended for signed integers; floats saturate; u64 wraps.
    pub fn as_i64(self) -> i64 {
        match self.dtype {
            DType::I8 => self.bits as i8 as i64,
            DType::I16 => self.bits as i16 as i64,
            DType::I32 => self.bits as i32 as i64,
            d if d.is_float() => self.as_f64() as i64,
            _ => self.bits as i64,
        }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dtype.is_float() {
            write!(f, "{}{:?}", self.dtype, self.as_f64())
        } else {
            write!(f, "{}({})", self.dtype, self.as_i64())
        }
    }
}
