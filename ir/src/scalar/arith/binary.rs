//! Functions of two scalars, and comparisons.

use half::{bf16, f16};

use super::Convert;
use crate::scalar::{BinaryOp, CmpOp};
use crate::tensor::Bool8;

/// Runs an expression with the function of a [`BinaryOp`] on a type, statically known in each
/// copy of the expression: a loop in it is compiled for every operation.
#[macro_export]
macro_rules! with_binary {
    ($op:expr, $t:ty, $f:ident => $body:expr) => {
        $crate::with_binary!(@rows $op, $t, $f => $body,
            Add add, Sub sub, Mul mul, Div div, FloorDiv floor_div, Mod rem, FloorMod floor_mod, Min lesser,
            Max greater, Pow power, Atan2 atan2, And and, Or or, Xor xor, Shl shl, Shr shr)
    };
    (@rows $op:expr, $t:ty, $f:ident => $body:expr, $($variant:ident $method:ident),*) => {
        match $op {
            $($crate::scalar::BinaryOp::$variant => {
                let $f = <$t as $crate::scalar::Binary>::$method;
                $body
            })*
        }
    };
}

/// An element with the functions of [`BinaryOp`].
///
/// Bools count as 0 and 1, and a result other than 0 is true: `add` is "or", `mul` is "and",
/// `sub` is "xor". Bitwise functions of floats are those of the integers they truncate to.
pub trait Binary: Convert {
    /// [`BinaryOp::Add`]
    fn add(self, rhs: Self) -> Self;
    /// [`BinaryOp::Sub`]
    fn sub(self, rhs: Self) -> Self;
    /// [`BinaryOp::Mul`]
    fn mul(self, rhs: Self) -> Self;
    /// [`BinaryOp::Div`]
    fn div(self, rhs: Self) -> Self;
    /// [`BinaryOp::FloorDiv`]
    fn floor_div(self, rhs: Self) -> Self;
    /// [`BinaryOp::Mod`]
    fn rem(self, rhs: Self) -> Self;
    /// [`BinaryOp::FloorMod`]
    fn floor_mod(self, rhs: Self) -> Self;
    /// [`BinaryOp::Min`]
    fn lesser(self, rhs: Self) -> Self;
    /// [`BinaryOp::Max`]
    fn greater(self, rhs: Self) -> Self;
    /// [`BinaryOp::Pow`]
    fn power(self, rhs: Self) -> Self;
    /// [`BinaryOp::Atan2`]
    fn atan2(self, rhs: Self) -> Self;
    /// [`BinaryOp::And`]
    fn and(self, rhs: Self) -> Self;
    /// [`BinaryOp::Or`]
    fn or(self, rhs: Self) -> Self;
    /// [`BinaryOp::Xor`]
    fn xor(self, rhs: Self) -> Self;
    /// [`BinaryOp::Shl`]
    fn shl(self, rhs: Self) -> Self;
    /// [`BinaryOp::Shr`]
    fn shr(self, rhs: Self) -> Self;
    /// The value that comparisons look at.
    fn key(self) -> Self {
        self
    }
}

/// The function of an operation.
pub fn binary_fn<T: Binary>(op: BinaryOp) -> fn(T, T) -> T {
    with_binary!(op, T, f => f)
}

/// The function of a comparison.
pub fn compare_fn<T: Binary>(op: CmpOp) -> fn(T, T) -> bool {
    match op {
        CmpOp::Eq => |a, b| a.key() == b.key(),
        CmpOp::Ne => |a, b| a.key() != b.key(),
        CmpOp::Lt => |a, b| a.key() < b.key(),
        CmpOp::Le => |a, b| a.key() <= b.key(),
        CmpOp::Gt => |a, b| a.key() > b.key(),
        CmpOp::Ge => |a, b| a.key() >= b.key(),
    }
}

macro_rules! floats {
    ($($t:ident),*) => { $(
        impl Binary for $t {
            fn add(self, rhs: Self) -> Self {
                self + rhs
            }
            fn sub(self, rhs: Self) -> Self {
                self - rhs
            }
            fn mul(self, rhs: Self) -> Self {
                self * rhs
            }
            fn div(self, rhs: Self) -> Self {
                self / rhs
            }
            fn floor_div(self, rhs: Self) -> Self {
                (self / rhs).floor()
            }
            fn rem(self, rhs: Self) -> Self {
                self % rhs
            }
            fn floor_mod(self, rhs: Self) -> Self {
                let rem = self % rhs;
                if rem == 0.0 {
                    (0 as $t).copysign(rhs)
                } else if (rem < 0.0) != (rhs < 0.0) {
                    rem + rhs
                } else {
                    rem
                }
            }
            fn lesser(self, rhs: Self) -> Self {
                if self < rhs || (self == rhs && self.is_sign_negative()) || self.is_nan() { self } else { rhs }
            }
            fn greater(self, rhs: Self) -> Self {
                if self > rhs || (self == rhs && self.is_sign_positive()) || self.is_nan() { self } else { rhs }
            }
            fn power(self, rhs: Self) -> Self {
                self.powf(rhs)
            }
            fn atan2(self, rhs: Self) -> Self {
                $t::atan2(self, rhs)
            }
            through_i64!(and or xor shl shr);
        }
    )* };
}

/// Bitwise functions of floats.
macro_rules! through_i64 {
    ($($f:ident)*) => { $(
        fn $f(self, rhs: Self) -> Self {
            Self::of_i64(Binary::$f(self.to_i64(), rhs.to_i64()))
        }
    )* };
}
floats!(f32, f64);

macro_rules! small_floats {
    ($t:ident: $($f:ident)*) => {
        impl Binary for $t {
            $(fn $f(self, rhs: Self) -> Self {
                $t::from_f32(Binary::$f(self.to_f32(), rhs.to_f32()))
            })*
        }
    };
}
small_floats!(f16: add sub mul div floor_div rem floor_mod lesser greater power atan2 and or xor shl shr);
small_floats!(bf16: add sub mul div floor_div rem floor_mod lesser greater power atan2 and or xor shl shr);

macro_rules! integers {
    ($($t:ident)*) => { $(
        impl Binary for $t {
            fn add(self, rhs: Self) -> Self {
                self.wrapping_add(rhs)
            }
            fn sub(self, rhs: Self) -> Self {
                self.wrapping_sub(rhs)
            }
            fn mul(self, rhs: Self) -> Self {
                self.wrapping_mul(rhs)
            }
            fn div(self, rhs: Self) -> Self {
                if rhs == 0 { 0 } else { self.wrapping_div(rhs) }
            }
            fn floor_div(self, rhs: Self) -> Self {
                let quotient = Binary::div(self, rhs);
                let rem = Binary::rem(self, rhs);
                if rem != 0 && (rem ^ rhs) < Self::ZERO { quotient - 1 } else { quotient }
            }
            fn rem(self, rhs: Self) -> Self {
                if rhs == 0 { 0 } else { self.wrapping_rem(rhs) }
            }
            fn floor_mod(self, rhs: Self) -> Self {
                let rem = Binary::rem(self, rhs);
                if rem != 0 && (rem ^ rhs) < Self::ZERO { rem + rhs } else { rem }
            }
            fn lesser(self, rhs: Self) -> Self {
                Ord::min(self, rhs)
            }
            fn greater(self, rhs: Self) -> Self {
                Ord::max(self, rhs)
            }
            fn power(self, rhs: Self) -> Self {
                int_power(self, rhs)
            }
            fn atan2(self, rhs: Self) -> Self {
                Self::of_f64(self.to_f64().atan2(rhs.to_f64()))
            }
            fn and(self, rhs: Self) -> Self {
                self & rhs
            }
            fn or(self, rhs: Self) -> Self {
                self | rhs
            }
            fn xor(self, rhs: Self) -> Self {
                self ^ rhs
            }
            fn shl(self, rhs: Self) -> Self {
                u32::try_from(rhs).ok().and_then(|n| self.checked_shl(n)).unwrap_or(0)
            }
            fn shr(self, rhs: Self) -> Self {
                // Shifting by all but one bit leaves the sign, and 0 of an unsigned number's rest.
                let sign = if self < Self::ZERO { Self::ZERO.wrapping_sub(1) } else { 0 };
                u32::try_from(rhs).ok().and_then(|n| self.checked_shr(n)).unwrap_or(sign)
            }
        }
    )* };
}
integers!(i8 i16 i32 i64 u8 u16 u32 u64);

/// `base` to the power of `exponent`, by squaring; a negative exponent divides 1, so that
/// only 1 and -1 have a result other than 0.
fn int_power<T: Binary>(base: T, exponent: T) -> T {
    let minus_one = T::ZERO.sub(T::ONE);
    let odd = |n: T| n.and(T::ONE) == T::ONE;
    if exponent < T::ZERO {
        return match base {
            b if b == T::ONE || (b == minus_one && !odd(exponent)) => T::ONE,
            b if b == minus_one => minus_one,
            _ => T::ZERO,
        };
    }
    let (mut result, mut square, mut left) = (T::ONE, base, exponent);
    while left != T::ZERO {
        if odd(left) {
            result = result.mul(square);
        }
        square = square.mul(square);
        left = left.shr(T::ONE);
    }
    result
}

macro_rules! bools {
    ($($f:ident)*) => {
        impl Binary for Bool8 {
            $(fn $f(self, rhs: Self) -> Self {
                Bool8::from(Binary::$f(self.key().0, rhs.key().0) != 0)
            })*
            fn key(self) -> Self {
                Bool8::from(bool::from(self))
            }
        }
    };
}
bools!(add sub mul div floor_div rem floor_mod lesser greater power atan2 and or xor shl shr);
