//! Scalar operations on registers: the bits of a value, zero-extended.

use crate::dispatch;
use crate::scalar::{Binary, BinaryOp, CmpOp, Convert, Scalar};
use crate::tensor::Bool8;
use crate::types::DType;

/// A function of two registers.
pub type Fn2 = fn(u64, u64) -> u64;

fn value<T: Convert>(bits: u64) -> T {
    bytemuck::pod_read_unaligned(&bits.to_le_bytes()[..size_of::<T>()])
}

fn bits<T: Convert>(value: T) -> u64 {
    let mut bytes = [0u8; 8];
    bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value));
    u64::from_le_bytes(bytes)
}

macro_rules! functions {
    ($op:expr, $t:ident, $($variant:ident $f:ident),*) => {
        match $op {
            $(BinaryOp::$variant => |a, b| bits(<$t as Binary>::$f(value::<$t>(a), value::<$t>(b))),)*
        }
    };
}

/// The function of a binary operation on a dtype.
pub fn binary(op: BinaryOp, dtype: DType) -> Fn2 {
    dispatch!(dtype, T => functions!(op, T,
        Add add, Sub sub, Mul mul, Div div, FloorDiv floor_div, Mod rem, FloorMod floor_mod, Min lesser,
        Max greater, Pow power, Atan2 atan2, And and, Or or, Xor xor, Shl shl, Shr shr))
}

macro_rules! comparisons {
    ($op:expr, $t:ident, $($variant:ident $f:tt),*) => {
        match $op {
            $(CmpOp::$variant => |a, b| (value::<$t>(a).key() $f value::<$t>(b).key()) as u64,)*
        }
    };
}

/// The function of a comparison on a dtype.
pub fn compare(op: CmpOp, dtype: DType) -> Fn2 {
    dispatch!(dtype, T => comparisons!(op, T, Eq ==, Ne !=, Lt <, Le <=, Gt >, Ge >=))
}

/// `a * b + c`, rounded once.
pub fn fma(dtype: DType, a: u64, b: u64, c: u64) -> u64 {
    let of = |v: u64| Scalar::from_bits(dtype, v).as_f64();
    match dtype {
        DType::F32 => bits(value::<f32>(a).mul_add(value(b), value(c))),
        DType::F64 => bits(value::<f64>(a).mul_add(value(b), value(c))),
        DType::F16 | DType::BF16 => {
            Scalar::from_f64(dtype, f64::from((of(a) as f32).mul_add(of(b) as f32, of(c) as f32))).bits()
        }
        _ => binary(BinaryOp::Add, dtype)(binary(BinaryOp::Mul, dtype)(a, b), c),
    }
}

/// The same bits as another dtype of equal width.
pub fn reinterpret(to: DType, a: u64) -> u64 {
    match to {
        DType::Bool => bits(Bool8::from(a != 0)),
        _ => a,
    }
}
