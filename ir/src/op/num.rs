//! Elements as numbers: reading a tensor in the dtype that a kernel computes in, and rounding back.
//!
//! Sums of f16, bf16 and f32 accumulate in f32, of f64 in f64; integers are added in 32 or 64
//! bits, which wraps to the same result as their own width. So four accumulators serve
//! every dtype ([`acc_dtype`], [`with_acc!`]).

use std::borrow::Cow;
use std::ops::{Add, Div, Mul, Sub};

use super::OpError;
use super::elemwise::convert::{convert_slice, convert_tensor};
use crate::dispatch;
use crate::scalar::Convert;
use crate::tensor::Tensor;
use crate::types::DType;

/// A type that kernels compute in: f32, f64, i32 or i64. Integer arithmetic wraps.
pub(super) trait Acc: Convert {
    /// `self + a * b`, each rounded or wrapped.
    fn mac(self, a: Self, b: Self) -> Self;
    /// `self + b`.
    fn plus(self, b: Self) -> Self;
    /// `self / b`, truncating and 0 for `b == 0` on integers.
    fn over(self, b: Self) -> Self;
}

macro_rules! float_acc {
    ($($t:ty),*) => { $(
        impl Acc for $t {
            #[inline(always)]
            fn mac(self, a: Self, b: Self) -> Self {
                self + a * b
            }
            fn plus(self, b: Self) -> Self {
                self + b
            }
            fn over(self, b: Self) -> Self {
                self / b
            }
        }
    )* };
}
float_acc!(f32, f64);

/// A floating-point accumulator: f32 or f64.
pub(super) trait Real:
    Acc + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The exponential.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// `self` to a power.
    fn powf(self, b: Self) -> Self;
    /// The number, rounded.
    fn of(v: f64) -> Self;
}

macro_rules! real {
    ($($t:ty),*) => { $(
        impl Real for $t {
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn powf(self, b: Self) -> Self {
                self.powf(b)
            }
            fn of(v: f64) -> Self {
                v as $t
            }
        }
    )* };
}
real!(f32, f64);

macro_rules! int_acc {
    ($($t:ty),*) => { $(
        impl Acc for $t {
            #[inline(always)]
            fn mac(self, a: Self, b: Self) -> Self {
                self.wrapping_add(a.wrapping_mul(b))
            }
            fn plus(self, b: Self) -> Self {
                self.wrapping_add(b)
            }
            fn over(self, b: Self) -> Self {
                if b == 0 { 0 } else { self.wrapping_div(b) }
            }
        }
    )* };
}
int_acc!(i32, i64);

/// The larger of two, NaN if either is. Unsigned integers must come in their own type.
pub(super) fn larger<T: PartialOrd + Copy>(a: T, b: T) -> T {
    let b_is_nan = b.partial_cmp(&b).is_none();
    if b > a || b_is_nan { b } else { a }
}

/// The dtype that a sum or product of `from` with a result in `to` is computed in.
pub(super) fn acc_dtype(from: DType, to: DType) -> DType {
    match (from, to) {
        (DType::F64, _) | (_, DType::F64) => DType::F64,
        (a, b) if a.is_float() || b.is_float() => DType::F32,
        (_, b) if b.bytes() <= 4 => DType::I32,
        _ => DType::I64,
    }
}

/// Runs `body` with `$t` bound to the accumulator type of an [`acc_dtype`].
macro_rules! with_acc {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::types::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::types::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::types::DType::I64 => {
                type $t = i64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}
pub(super) use with_acc;

/// Runs `body` with `$t` bound to f64 for f64 and to f32 for the other floats.
macro_rules! with_real {
    ($dtype:expr, $t:ident => $body:expr) => {
        if $dtype == $crate::types::DType::F64 {
            type $t = f64;
            $body
        } else {
            type $t = f32;
            $body
        }
    };
}
pub(super) use with_real;

/// The elements in the accumulator's type; no copy if they have it.
pub(super) fn read<A: Acc>(tensor: &Tensor) -> Cow<'_, [A]> {
    if let Some(data) = tensor.as_slice::<A>() {
        return Cow::Borrowed(data);
    }
    let mut data = vec![A::ZERO; tensor.len()];
    convert_tensor(tensor, &mut data);
    Cow::Owned(data)
}

/// A tensor of a dtype from accumulated elements.
pub(super) fn write<A: Acc>(dtype: DType, shape: &[usize], data: &[A]) -> Result<Tensor, OpError> {
    if dtype == A::DTYPE {
        return Ok(Tensor::from_slice(shape, data)?);
    }
    dispatch!(dtype, T => {
        let mut converted = vec![T::ZERO; data.len()];
        convert_slice(data, &mut converted);
        Ok(Tensor::from_slice(shape, &converted)?)
    })
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn accumulators() {
        assert_eq!(acc_dtype(DType::F16, DType::F16), DType::F32);
        assert_eq!(acc_dtype(DType::F16, DType::F64), DType::F64);
        assert_eq!(acc_dtype(DType::I8, DType::I32), DType::I32);
        assert_eq!(acc_dtype(DType::U64, DType::U64), DType::I64);
    }

    #[test]
    fn integers_wrap_through_the_wider_accumulator() {
        let t = Tensor::from_slice(&[2], &[200u8, 100]).unwrap();
        let v = read::<i32>(&t);
        let sum = v[0].plus(v[1]);
        assert_eq!(write(DType::U8, &[1], &[sum]).unwrap().as_slice::<u8>(), Some(&[44u8][..]));
    }

    #[test]
    fn maximum_propagates_nan() {
        assert!(larger(f32::NAN, 1.0).is_nan());
        assert!(larger(1f32, f32::NAN).is_nan());
        assert_eq!(larger(-1i32, 3), 3);
    }

    #[test]
    fn half_rounds_once() {
        let t = write(DType::F16, &[1], &[1.0f32 + 1.0 / 4096.0]).unwrap();
        assert_eq!(t.as_slice::<f16>(), Some(&[f16::from_f32(1.0)][..]));
    }
}
