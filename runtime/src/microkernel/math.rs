//! Functions of numbers that generated code calls: `fermata_<operation>_<type>`.
//!
//! Each is the operation of [`fermata_ir::scalar`] in the C calling convention, so a call gives
//! exactly what the evaluator gives.

use fermata_ir::scalar::{Binary, Unary};

/// Declares the wrappers of a type's unary functions and the table that finds them by name.
macro_rules! unary_table {
    ($table:ident, $t:ident: $($name:literal $f:ident),*) => {
        /// The functions of one number of a type, by operation.
        pub(super) fn $table(name: &str) -> Option<*const ()> {
            match name {
                $($name => {
                    extern "C" fn wrapper(x: $t) -> $t {
                        Unary::$f(x)
                    }
                    Some(wrapper as extern "C" fn($t) -> $t as *const ())
                })*
                _ => None,
            }
        }
    };
}

macro_rules! unary_tables {
    ($($table:ident $t:ident),*) => { $(
        unary_table!($table, $t: "floor" floor, "ceil" ceil, "round" round, "trunc" trunc, "exp" exp, "log" log,
            "log2" log2, "log10" log10, "sin" sin, "cos" cos, "tan" tan, "asin" asin, "acos" acos, "atan" atan,
            "sinh" sinh, "cosh" cosh, "tanh" tanh, "asinh" asinh, "acosh" acosh, "atanh" atanh, "erf" erf,
            "sigmoid" sigmoid);
    )* };
}
unary_tables!(unary_f32 f32, unary_f64 f64);

/// Declares the wrappers of a type's binary functions and the table that finds them by name.
macro_rules! binary_table {
    ($table:ident, $t:ident: $($name:literal $f:ident),*) => {
        /// The functions of two numbers of a type, by operation.
        pub(super) fn $table(name: &str) -> Option<*const ()> {
            match name {
                $($name => {
                    extern "C" fn wrapper(x: $t, y: $t) -> $t {
                        Binary::$f(x, y)
                    }
                    Some(wrapper as extern "C" fn($t, $t) -> $t as *const ())
                })*
                _ => None,
            }
        }
    };
}
binary_table!(binary_f32, f32: "mod" rem, "floor_mod" floor_mod, "pow" power, "atan2" atan2);
binary_table!(binary_f64, f64: "mod" rem, "floor_mod" floor_mod, "pow" power, "atan2" atan2);
binary_table!(binary_i64, i64: "pow" power);
binary_table!(binary_u64, u64: "pow" power);

extern "C" fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

extern "C" fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    a.mul_add(b, c)
}

/// The address of a helper function by the part of its name after the prefix: `sin_f32`.
pub(super) fn helper(name: &str) -> Option<*const ()> {
    let (operation, ty) = name.rsplit_once('_')?;
    match (operation, ty) {
        ("fma", "f32") => Some(fma_f32 as extern "C" fn(f32, f32, f32) -> f32 as *const ()),
        ("fma", "f64") => Some(fma_f64 as extern "C" fn(f64, f64, f64) -> f64 as *const ()),
        (_, "f32") => unary_f32(operation).or_else(|| binary_f32(operation)),
        (_, "f64") => unary_f64(operation).or_else(|| binary_f64(operation)),
        (_, "i64") => binary_i64(operation),
        (_, "u64") => binary_u64(operation),
        _ => None,
    }
}
