//! Conversion between dtypes, rounding once.

use half::{bf16, f16};

use crate::tensor::{Bool8, Element};

/// An element that converts to and from every other.
///
/// Integers wrap among themselves; floats round to the nearest, ties to even; from float to
/// integer truncates, saturates and takes NaN to 0; to bool, everything but zero is true.
pub trait Convert: Element + PartialOrd {
    /// Zero, or false.
    const ZERO: Self;
    /// One, or true.
    const ONE: Self;
    /// The nearest value of this type.
    fn of_f64(value: f64) -> Self;
    /// The value of an integer: wrapped in an integer type, rounded once in a float type.
    fn of_i64(value: i64) -> Self;
    /// The value of an unsigned integer: wrapped in an integer type, rounded once in a float type.
    fn of_u64(value: u64) -> Self;
    /// The value as an `f64`, which holds all but large 64-bit integers.
    fn to_f64(self) -> f64;
    /// The value as an `i64`: sign-extended, wrapped, or saturated.
    fn to_i64(self) -> i64;
    /// The value in another type.
    fn convert<U: Convert>(self) -> U;
}

macro_rules! integers {
    ($($t:ident via $from:ident as $wide:ident),*) => { $(
        impl Convert for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            fn of_f64(value: f64) -> Self {
                value as $t
            }
            fn of_i64(value: i64) -> Self {
                value as $t
            }
            fn of_u64(value: u64) -> Self {
                value as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_i64(self) -> i64 {
                self as i64
            }
            fn convert<U: Convert>(self) -> U {
                U::$from(self as $wide)
            }
        }
    )* };
}
integers!(i8 via of_i64 as i64, i16 via of_i64 as i64, i32 via of_i64 as i64, i64 via of_i64 as i64,
          u8 via of_u64 as u64, u16 via of_u64 as u64, u32 via of_u64 as u64, u64 via of_u64 as u64);

macro_rules! floats {
    ($($t:ident),*) => { $(
        impl Convert for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of_f64(value: f64) -> Self {
                value as $t
            }
            fn of_i64(value: i64) -> Self {
                value as $t
            }
            fn of_u64(value: u64) -> Self {
                value as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_i64(self) -> i64 {
                self as i64
            }
            fn convert<U: Convert>(self) -> U {
                U::of_f64(self as f64)
            }
        }
    )* };
}
floats!(f32, f64);

macro_rules! small_floats {
    ($($t:ident),*) => { $(
        impl Convert for $t {
            const ZERO: Self = $t::ZERO;
            const ONE: Self = $t::ONE;
            fn of_f64(value: f64) -> Self {
                $t::from_f32(f32_to_odd(value))
            }
            fn of_i64(value: i64) -> Self {
                let magnitude = Self::of_u64(value.unsigned_abs());
                if value < 0 { -magnitude } else { magnitude }
            }
            fn of_u64(value: u64) -> Self {
                Self::of_f64(sticky(value) as f64)
            }
            fn to_f64(self) -> f64 {
                self.to_f32() as f64
            }
            fn to_i64(self) -> i64 {
                self.to_f32() as i64
            }
            fn convert<U: Convert>(self) -> U {
                U::of_f64(self.to_f32() as f64)
            }
        }
    )* };
}
small_floats!(f16, bf16);

impl Convert for Bool8 {
    const ZERO: Self = Bool8(0);
    const ONE: Self = Bool8(1);
    fn of_f64(value: f64) -> Self {
        Bool8::from(value != 0.0)
    }
    fn of_i64(value: i64) -> Self {
        Bool8::from(value != 0)
    }
    fn of_u64(value: u64) -> Self {
        Bool8::from(value != 0)
    }
    fn to_f64(self) -> f64 {
        self.to_i64() as f64
    }
    fn to_i64(self) -> i64 {
        bool::from(self) as i64
    }
    fn convert<U: Convert>(self) -> U {
        U::of_i64(self.to_i64())
    }
}

/// Rounds to odd: exact values stay, others take the neighbour whose last bit is 1. Rounding
/// the result again to a format at least two bits narrower gives what rounding once would.
fn f32_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let error = value - nearest as f64;
    if error == 0.0 || value.is_nan() || value.is_infinite() {
        return nearest;
    }
    let away = (nearest as f64).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - away as u32) | 1)
}

/// An integer that f64 holds exactly and that rounds to 16-bit floats as `value` does: large
/// ones keep their upper half and one bit that tells whether anything was below.
fn sticky(value: u64) -> u64 {
    if value < 1 << 53 { value } else { (value & !0xffff_ffff) | ((value & 0xffff_ffff != 0) as u64) << 32 }
}
