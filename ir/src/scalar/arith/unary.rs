//! Functions of one scalar.

use half::{bf16, f16};

use super::Convert;
use super::erf::erf;
use crate::scalar::UnaryOp;
use crate::tensor::Bool8;

/// Hands the functions that keep the dtype to a macro: each with its variant of [`UnaryOp`].
macro_rules! with_functions {
    ($macro:ident) => {
        $macro! {
            Neg neg, Abs abs, Sign sign, Floor floor, Ceil ceil, Round round, Trunc trunc, Sqrt sqrt,
            Rsqrt rsqrt, Exp exp, Log log, Log2 log2, Log10 log10, Sin sin, Cos cos, Tan tan, Asin asin,
            Acos acos, Atan atan, Sinh sinh, Cosh cosh, Tanh tanh, Asinh asinh, Acosh acosh, Atanh atanh,
            Erf erf, Sigmoid sigmoid, Not not
        }
    };
}

macro_rules! declare {
    ($($op:ident $f:ident),*) => {
        /// An element with the functions of [`UnaryOp`].
        ///
        /// Functions of real numbers are also defined on integers and bools, through f64.
        pub trait Unary: Convert {
            $(#[doc = concat!("[`UnaryOp::", stringify!($op), "`]")]
            fn $f(self) -> Self;)*
            /// [`UnaryOp::IsNan`]
            fn is_nan(self) -> bool;
            /// [`UnaryOp::IsInf`]
            fn is_inf(self) -> bool;
            /// [`UnaryOp::IsFinite`]
            fn is_finite(self) -> bool;
        }

        /// The function of an operation.
        pub fn unary_fn<T: Unary>(op: UnaryOp) -> UnaryFn<T> {
            match op {
                $(UnaryOp::$op => UnaryFn::Value(T::$f),)*
                UnaryOp::IsNan => UnaryFn::Predicate(T::is_nan),
                UnaryOp::IsInf => UnaryFn::Predicate(T::is_inf),
                UnaryOp::IsFinite => UnaryFn::Predicate(T::is_finite),
            }
        }
    };
}
with_functions!(declare);

/// A function of one scalar.
#[derive(Clone, Copy, Debug)]
pub enum UnaryFn<T> {
    /// It keeps the dtype.
    Value(fn(T) -> T),
    /// It gives bool.
    Predicate(fn(T) -> bool),
}

/// Methods that are Rust's function of another or the same name.
macro_rules! inherent {
    ($t:ident: $($f:ident is $rust:ident),*) => { $(
        fn $f(self) -> Self {
            $t::$rust(self)
        }
    )* };
}

macro_rules! floats {
    ($($t:ident),*) => { $(
        impl Unary for $t {
            inherent!($t: abs is abs, floor is floor, ceil is ceil, round is round_ties_even, trunc is trunc,
                sqrt is sqrt, exp is exp, log is ln, log2 is log2, log10 is log10, sin is sin, cos is cos,
                tan is tan, asin is asin, acos is acos, atan is atan, sinh is sinh, cosh is cosh,
                tanh is tanh, asinh is asinh, acosh is acosh, atanh is atanh);
            fn neg(self) -> Self {
                -self
            }
            fn sign(self) -> Self {
                if self > 0.0 {
                    1.0
                } else if self < 0.0 {
                    -1.0
                } else {
                    // 0 for both zeros, and NaN for NaN.
                    self + 0.0
                }
            }
            fn rsqrt(self) -> Self {
                1.0 / $t::sqrt(self)
            }
            fn erf(self) -> Self {
                erf(self as f64) as $t
            }
            fn sigmoid(self) -> Self {
                1.0 / (1.0 + $t::exp(-self))
            }
            fn not(self) -> Self {
                Self::of_i64(!self.to_i64())
            }
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            fn is_inf(self) -> bool {
                $t::is_infinite(self)
            }
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
        }
    )* };
}
floats!(f32, f64);

macro_rules! through_f32 {
    ($($op:ident $f:ident),*) => {
        small_floats!(f16: $($f),*);
        small_floats!(bf16: $($f),*);
    };
}

macro_rules! small_floats {
    ($t:ident: $($f:ident),*) => {
        impl Unary for $t {
            $(fn $f(self) -> Self {
                $t::from_f32(Unary::$f(self.to_f32()))
            })*
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            fn is_inf(self) -> bool {
                $t::is_infinite(self)
            }
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
        }
    };
}
with_functions!(through_f32);

/// Functions of real numbers on integers and bools, and predicates that never vary there.
macro_rules! through_f64 {
    ($($f:ident)*) => {
        $(fn $f(self) -> Self {
            Self::of_f64(Unary::$f(self.to_f64()))
        })*
        fn is_nan(self) -> bool {
            false
        }
        fn is_inf(self) -> bool {
            false
        }
        fn is_finite(self) -> bool {
            true
        }
    };
}

macro_rules! identities {
    ($($f:ident)*) => { $(
        fn $f(self) -> Self {
            self
        }
    )* };
}

macro_rules! integers {
    ($($t:ident, $abs:expr, $sign:expr;)*) => { $(
        impl Unary for $t {
            through_f64!(sqrt rsqrt exp log log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh
                atanh erf sigmoid);
            identities!(floor ceil round trunc);
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            fn abs(self) -> Self {
                $abs(self)
            }
            fn sign(self) -> Self {
                $sign(self)
            }
            fn not(self) -> Self {
                !self
            }
        }
    )* };
}
integers! {
    i8, i8::wrapping_abs, i8::signum;
    i16, i16::wrapping_abs, i16::signum;
    i32, i32::wrapping_abs, i32::signum;
    i64, i64::wrapping_abs, i64::signum;
    u8, u8::from, |x: u8| x.min(1);
    u16, u16::from, |x: u16| x.min(1);
    u32, u32::from, |x: u32| x.min(1);
    u64, u64::from, |x: u64| x.min(1);
}

impl Unary for Bool8 {
    through_f64!(sqrt rsqrt exp log log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh
        atanh erf sigmoid);
    identities!(neg abs sign floor ceil round trunc);
    fn not(self) -> Self {
        Bool8::from(!bool::from(self))
    }
}
