//! Functions of one and two scalars as C.

use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::types::DType;

use super::convert::{cast, from_compute, to_compute};
use super::helpers::{Helpers, compute_type};

/// `op(a, b)` of a dtype; operands are C expressions that bind as tightly as a call.
pub fn binary(h: &mut Helpers, op: BinaryOp, dtype: DType, a: String, b: String) -> String {
    match dtype {
        DType::Bool => bool_binary(op, &a, &b),
        d if d.is_float() => {
            let (a, b) = (to_compute(h, dtype, a), to_compute(h, dtype, b));
            let value = float_binary(h, op, compute_type(dtype), a, b);
            from_compute(h, dtype, value)
        }
        _ => int_binary(h, op, dtype, a, b),
    }
}

fn float_binary(h: &mut Helpers, op: BinaryOp, dtype: DType, a: String, b: String) -> String {
    let f = if dtype == DType::F64 { "" } else { "f" };
    match op {
        BinaryOp::Add => format!("({a} + {b})"),
        BinaryOp::Sub => format!("({a} - {b})"),
        BinaryOp::Mul => format!("({a} * {b})"),
        BinaryOp::Div => format!("({a} / {b})"),
        BinaryOp::FloorDiv => format!("floor{f}({a} / {b})"),
        BinaryOp::Mod => format!("fmod{f}({a}, {b})"),
        BinaryOp::FloorMod => format!("{}({a}, {b})", h.float_floor_mod(dtype)),
        BinaryOp::Min => format!("{}({a}, {b})", h.extreme("<", dtype)),
        BinaryOp::Max => format!("{}({a}, {b})", h.extreme(">", dtype)),
        BinaryOp::Pow => format!("pow{f}({a}, {b})"),
        BinaryOp::Atan2 => format!("atan2{f}({a}, {b})"),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
            let (a, b) = (cast(h, dtype, DType::I64, a), cast(h, dtype, DType::I64, b));
            let value = int_binary(h, op, DType::I64, a, b);
            cast(h, DType::I64, dtype, value)
        }
    }
}

fn int_binary(h: &mut Helpers, op: BinaryOp, dtype: DType, a: String, b: String) -> String {
    let infix = |op: &str| format!("(({})({a} {op} {b}))", super::helpers::c_type(dtype));
    let name = match op {
        BinaryOp::Add => h.wrapping("add", "+", dtype),
        BinaryOp::Sub => h.wrapping("sub", "-", dtype),
        BinaryOp::Mul => h.wrapping("mul", "*", dtype),
        BinaryOp::Div => h.quotient("/", dtype),
        BinaryOp::Mod => h.quotient("%", dtype),
        BinaryOp::FloorDiv => h.floor_div(dtype),
        BinaryOp::FloorMod => h.floor_mod(dtype),
        BinaryOp::Pow => h.int_power(dtype),
        BinaryOp::Shl => h.shift(true, dtype),
        BinaryOp::Shr => h.shift(false, dtype),
        BinaryOp::Min => return format!("({a} < {b} ? {a} : {b})"),
        BinaryOp::Max => return format!("({a} > {b} ? {a} : {b})"),
        BinaryOp::And => return infix("&"),
        BinaryOp::Or => return infix("|"),
        BinaryOp::Xor => return infix("^"),
        BinaryOp::Atan2 => {
            return cast(h, DType::F64, dtype, format!("atan2((double){a}, (double){b})"));
        }
    };
    format!("{name}({a}, {b})")
}

/// Bools count as 0 and 1, and a result other than 0 is true.
fn bool_binary(op: BinaryOp, a: &str, b: &str) -> String {
    match op {
        BinaryOp::Add | BinaryOp::Or | BinaryOp::Max => format!("({a} || {b})"),
        BinaryOp::Mul | BinaryOp::And | BinaryOp::Min | BinaryOp::Div | BinaryOp::FloorDiv => {
            format!("({a} && {b})")
        }
        BinaryOp::Sub | BinaryOp::Xor => format!("({a} != {b})"),
        BinaryOp::Mod | BinaryOp::FloorMod => "false".into(),
        BinaryOp::Pow => format!("({a} || !{b})"),
        BinaryOp::Shl => a.into(),
        BinaryOp::Shr | BinaryOp::Atan2 => format!("({a} && !{b})"),
    }
}

/// `op(a)` of a dtype.
pub fn unary(h: &mut Helpers, op: UnaryOp, dtype: DType, a: String) -> String {
    match dtype {
        DType::Bool => bool_unary(op, a),
        d if d.is_float() => {
            let a = to_compute(h, dtype, a);
            let value = float_unary(h, op, compute_type(dtype), a);
            match op {
                UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite => value,
                _ => from_compute(h, dtype, value),
            }
        }
        _ => int_unary(h, op, dtype, a),
    }
}

/// The function of the C library, without the `f` of single precision, if it is one.
fn library(op: UnaryOp) -> Option<&'static str> {
    Some(match op {
        UnaryOp::Abs => "fabs",
        UnaryOp::Floor => "floor",
        UnaryOp::Ceil => "ceil",
        UnaryOp::Round => "rint",
        UnaryOp::Trunc => "trunc",
        UnaryOp::Sqrt => "sqrt",
        UnaryOp::Exp => "exp",
        UnaryOp::Log => "log",
        UnaryOp::Log2 => "log2",
        UnaryOp::Log10 => "log10",
        UnaryOp::Sin => "sin",
        UnaryOp::Cos => "cos",
        UnaryOp::Tan => "tan",
        UnaryOp::Asin => "asin",
        UnaryOp::Acos => "acos",
        UnaryOp::Atan => "atan",
        UnaryOp::Sinh => "sinh",
        UnaryOp::Cosh => "cosh",
        UnaryOp::Tanh => "tanh",
        UnaryOp::Asinh => "asinh",
        UnaryOp::Acosh => "acosh",
        UnaryOp::Atanh => "atanh",
        UnaryOp::Erf => "erf",
        UnaryOp::Neg
        | UnaryOp::Sign
        | UnaryOp::Rsqrt
        | UnaryOp::Sigmoid
        | UnaryOp::Not
        | UnaryOp::IsNan
        | UnaryOp::IsInf
        | UnaryOp::IsFinite => return None,
    })
}

fn float_unary(h: &mut Helpers, op: UnaryOp, dtype: DType, a: String) -> String {
    let f = if dtype == DType::F64 { "" } else { "f" };
    if let Some(name) = library(op) {
        return format!("{name}{f}({a})");
    }
    match op {
        UnaryOp::Neg => format!("(-{a})"),
        UnaryOp::Sign => format!("{}({a})", h.sign(dtype)),
        UnaryOp::Rsqrt => format!("(1.0{f} / sqrt{f}({a}))"),
        UnaryOp::Sigmoid => format!("{}({a})", h.sigmoid(dtype)),
        UnaryOp::IsNan => format!("(bool)isnan({a})"),
        UnaryOp::IsInf => format!("(bool)isinf({a})"),
        UnaryOp::IsFinite => format!("(bool)isfinite({a})"),
        _ => {
            let whole = cast(h, dtype, DType::I64, a);
            cast(h, DType::I64, dtype, format!("(~{whole})"))
        }
    }
}

fn int_unary(h: &mut Helpers, op: UnaryOp, dtype: DType, a: String) -> String {
    let t = super::helpers::c_type(dtype);
    match op {
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => a,
        UnaryOp::Neg => format!("{}(({t})0, {a})", h.wrapping("sub", "-", dtype)),
        UnaryOp::Abs if dtype.is_unsigned_int() => a,
        UnaryOp::Abs => {
            let negated = format!("{}(({t})0, {a})", h.wrapping("sub", "-", dtype));
            format!("({a} < 0 ? {negated} : {a})")
        }
        UnaryOp::Sign => format!("{}({a})", h.sign(dtype)),
        UnaryOp::Not => format!("(({t})~{a})"),
        UnaryOp::IsNan | UnaryOp::IsInf => "false".into(),
        UnaryOp::IsFinite => "true".into(),
        _ => {
            let value = float_unary(h, op, DType::F64, format!("((double){a})"));
            cast(h, DType::F64, dtype, value)
        }
    }
}

fn bool_unary(op: UnaryOp, a: String) -> String {
    match op {
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Sign
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Trunc => a,
        UnaryOp::Not => format!("(!{a})"),
        UnaryOp::IsNan | UnaryOp::IsInf => "false".into(),
        UnaryOp::IsFinite => "true".into(),
        // A function of 0 and 1 is known at both.
        _ => {
            let at = |x: bool| {
                let x = fermata_ir::scalar::Scalar::from_bits(DType::Bool, x as u64);
                fermata_ir::scalar::unary(op, x).bits() != 0
            };
            match (at(false), at(true)) {
                (false, false) => "false".into(),
                (true, true) => "true".into(),
                (false, true) => a,
                (true, false) => format!("(!{a})"),
            }
        }
    }
}
