//! Arithmetic on scalars of every dtype, as [`fermata_ir::scalar`] defines it.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use fermata_ir::scalar::{BinaryOp, CmpOp, UnaryOp};
use fermata_ir::types::DType;

use super::convert::{Lanes, clif_type};
use super::lower_stmt::Lower;

/// The name of a function in the names of helpers: `fermata_<name>_f32`.
pub(super) fn unary_name(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Neg => "neg",
        UnaryOp::Abs => "abs",
        UnaryOp::Sign => "sign",
        UnaryOp::Floor => "floor",
        UnaryOp::Ceil => "ceil",
        UnaryOp::Round => "round",
        UnaryOp::Trunc => "trunc",
        UnaryOp::Sqrt => "sqrt",
        UnaryOp::Rsqrt => "rsqrt",
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
        UnaryOp::Sigmoid => "sigmoid",
        UnaryOp::Not => "not",
        UnaryOp::IsNan => "is_nan",
        UnaryOp::IsInf => "is_inf",
        UnaryOp::IsFinite => "is_finite",
    }
}

/// True for functions of real numbers, which integers have only through f64.
pub(super) fn is_real(op: UnaryOp) -> bool {
    use UnaryOp::*;
    match op {
        Sqrt | Rsqrt | Exp | Log | Log2 | Log10 | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh
        | Tanh | Asinh | Acosh | Atanh | Erf | Sigmoid => true,
        Neg | Abs | Sign | Floor | Ceil | Round | Trunc | Not | IsNan | IsInf | IsFinite => false,
    }
}

fn float_suffix(ty: Type) -> &'static str {
    if ty.lane_type() == F32 { "f32" } else { "f64" }
}

impl Lower<'_, '_> {
    /// `op(a)` on a scalar.
    pub(super) fn unary(&mut self, op: UnaryOp, a: Value, dtype: DType) -> Value {
        match dtype {
            DType::F32 | DType::F64 => self.unary_float(op, a, clif_type(dtype)),
            DType::F16 | DType::BF16 => {
                let wide = self.widen(dtype, a);
                let result = self.unary_float(op, wide, F32);
                if self.b.func.dfg.value_type(result) == I8 { result } else { self.narrow(dtype, result) }
            }
            _ if is_real(op) => {
                let wide = self.cast(a, dtype, DType::F64);
                let result = self.unary_float(op, wide, F64);
                self.cast(result, DType::F64, dtype)
            }
            _ => self.unary_int(op, a, dtype),
        }
    }

    /// `op(a)` on f32 or f64; predicates give a bool.
    fn unary_float(&mut self, op: UnaryOp, a: Value, ty: Type) -> Value {
        if ty == F32
            && let Some(result) = self.inline_function(op, Lanes::ONE, a)
        {
            return result;
        }
        match op {
            UnaryOp::IsNan => self.b.ins().fcmp(FloatCC::Unordered, a, a),
            UnaryOp::IsInf | UnaryOp::IsFinite => {
                let infinity = self.float_const(ty, f64::INFINITY);
                let magnitude = self.b.ins().fabs(a);
                let cc = if op == UnaryOp::IsInf { FloatCC::Equal } else { FloatCC::LessThan };
                self.b.ins().fcmp(cc, magnitude, infinity)
            }
            UnaryOp::Not => {
                let bits = self.b.ins().fcvt_to_sint_sat(I64, a);
                let bits = self.b.ins().bnot(bits);
                self.b.ins().fcvt_from_sint(ty, bits)
            }
            _ => match self.simple_float(op, ty, a) {
                Some(result) => result,
                None => self.call_helper(unary_name(op), float_suffix(ty), &[a]),
            },
        }
    }

    /// Functions with a polynomial of our own.
    pub(super) fn inline_function(&mut self, op: UnaryOp, lanes: Lanes, a: Value) -> Option<Value> {
        match op {
            UnaryOp::Exp => Some(self.exp(lanes, a)),
            UnaryOp::Log => Some(self.log(lanes, a)),
            UnaryOp::Tanh => Some(self.tanh(lanes, a)),
            UnaryOp::Erf => Some(self.erf(lanes, a)),
            UnaryOp::Sigmoid => Some(self.sigmoid(lanes, a)),
            _ => None,
        }
    }

    /// Functions that are an instruction or a few, for one lane or several.
    pub(super) fn simple_float(&mut self, op: UnaryOp, ty: Type, a: Value) -> Option<Value> {
        Some(match op {
            UnaryOp::Neg => self.b.ins().fneg(a),
            UnaryOp::Abs => self.b.ins().fabs(a),
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Rsqrt => {
                let one = self.float_const(ty, 1.0);
                let root = self.b.ins().sqrt(a);
                self.b.ins().fdiv(one, root)
            }
            UnaryOp::Sign => {
                let (zero, one) = (self.float_const(ty, 0.0), self.float_const(ty, 1.0));
                let minus_one = self.float_const(ty, -1.0);
                let neither = self.b.ins().fadd(a, zero);
                let below = self.b.ins().fcmp(FloatCC::LessThan, a, zero);
                let above = self.b.ins().fcmp(FloatCC::GreaterThan, a, zero);
                let result = self.choose(below, minus_one, neither);
                self.choose(above, one, result)
            }
            UnaryOp::Floor if self.caps.rounding => self.b.ins().floor(a),
            UnaryOp::Ceil if self.caps.rounding => self.b.ins().ceil(a),
            UnaryOp::Round if self.caps.rounding => self.b.ins().nearest(a),
            UnaryOp::Trunc if self.caps.rounding => self.b.ins().trunc(a),
            _ => return None,
        })
    }

    fn unary_int(&mut self, op: UnaryOp, a: Value, dtype: DType) -> Value {
        match op {
            UnaryOp::IsNan | UnaryOp::IsInf => self.b.ins().iconst(I8, 0),
            UnaryOp::IsFinite => self.b.ins().iconst(I8, 1),
            UnaryOp::Not if dtype == DType::Bool => self.b.ins().bxor_imm_s(a, 1),
            UnaryOp::Not => self.b.ins().bnot(a),
            UnaryOp::Neg if dtype != DType::Bool => self.b.ins().ineg(a),
            UnaryOp::Abs if dtype.is_signed_int() => self.b.ins().iabs(a),
            UnaryOp::Sign if dtype != DType::Bool => {
                let ty = clif_type(dtype);
                let cc = if dtype.is_signed_int() { IntCC::SignedGreaterThan } else { IntCC::NotEqual };
                let above = self.b.ins().icmp_imm_s(cc, a, 0);
                let sign = if ty == I8 { above } else { self.b.ins().uextend(ty, above) };
                if !dtype.is_signed_int() {
                    return sign;
                }
                let all = self.b.ins().sshr_imm_u(a, ty.bits() as i64 - 1);
                self.b.ins().bor(sign, all)
            }
            // Integers are their own floor, and bools and unsigned numbers their own magnitude.
            _ => a,
        }
    }

    /// `op(a, b)` on scalars.
    pub(super) fn binary(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        match dtype {
            DType::F32 | DType::F64 => self.binary_float(op, a, b, clif_type(dtype)),
            DType::F16 | DType::BF16 => {
                let (a, b) = (self.widen(dtype, a), self.widen(dtype, b));
                let result = self.binary_float(op, a, b, F32);
                self.narrow(dtype, result)
            }
            DType::Bool => match op {
                BinaryOp::And | BinaryOp::Mul | BinaryOp::Min => self.b.ins().band(a, b),
                BinaryOp::Or | BinaryOp::Add | BinaryOp::Max => self.b.ins().bor(a, b),
                BinaryOp::Xor | BinaryOp::Sub => self.b.ins().bxor(a, b),
                _ => {
                    let result = self.binary_int(op, a, b, DType::U8);
                    self.is_nonzero(result, DType::U8)
                }
            },
            _ => self.binary_int(op, a, b, dtype),
        }
    }

    fn binary_float(&mut self, op: BinaryOp, a: Value, b: Value, ty: Type) -> Value {
        if let Some(result) = self.simple_float_binary(op, a, b) {
            return result;
        }
        match op {
            BinaryOp::FloorDiv => {
                let quotient = self.b.ins().fdiv(a, b);
                self.unary_float(UnaryOp::Floor, quotient, ty)
            }
            BinaryOp::Mod => self.call_helper("mod", float_suffix(ty), &[a, b]),
            BinaryOp::FloorMod => self.call_helper("floor_mod", float_suffix(ty), &[a, b]),
            BinaryOp::Pow => self.call_helper("pow", float_suffix(ty), &[a, b]),
            BinaryOp::Atan2 => self.call_helper("atan2", float_suffix(ty), &[a, b]),
            _ => {
                // Bitwise functions of floats are those of the integers that they truncate to.
                let a = self.b.ins().fcvt_to_sint_sat(I64, a);
                let b = self.b.ins().fcvt_to_sint_sat(I64, b);
                let result = self.binary_int(op, a, b, DType::I64);
                self.b.ins().fcvt_from_sint(ty, result)
            }
        }
    }

    /// Functions that are an instruction or a few, for one lane or several.
    pub(super) fn simple_float_binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Value> {
        Some(match op {
            BinaryOp::Add => self.b.ins().fadd(a, b),
            BinaryOp::Sub => self.b.ins().fsub(a, b),
            BinaryOp::Mul => self.b.ins().fmul(a, b),
            BinaryOp::Div => self.b.ins().fdiv(a, b),
            BinaryOp::Min => self.b.ins().fmin(a, b),
            BinaryOp::Max => self.b.ins().fmax(a, b),
            _ => return None,
        })
    }

    /// `op(a, b)` on scalars of an integer dtype.
    pub(super) fn binary_int(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        let signed = dtype.is_signed_int();
        match op {
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul => self.narrow_mul(a, b, dtype),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            BinaryOp::Min if signed => self.b.ins().smin(a, b),
            BinaryOp::Min => self.b.ins().umin(a, b),
            BinaryOp::Max if signed => self.b.ins().smax(a, b),
            BinaryOp::Max => self.b.ins().umax(a, b),
            BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod | BinaryOp::FloorMod => {
                self.divide(op, a, b, dtype)
            }
            BinaryOp::Shl | BinaryOp::Shr => self.shift(op, a, b, dtype),
            BinaryOp::Pow => {
                let (a, b) = (self.resize(a, dtype, I64), self.resize(b, dtype, I64));
                let result = self.call_helper("pow", if signed { "i64" } else { "u64" }, &[a, b]);
                self.resize(result, DType::I64, clif_type(dtype))
            }
            BinaryOp::Atan2 => {
                let (a, b) = (self.cast(a, dtype, DType::F64), self.cast(b, dtype, DType::F64));
                let result = self.call_helper("atan2", "f64", &[a, b]);
                self.cast(result, DType::F64, dtype)
            }
        }
    }

    fn narrow_mul(&mut self, a: Value, b: Value, dtype: DType) -> Value {
        let ty = clif_type(dtype);
        if ty == I8 || ty == I16 {
            let (a, b) = (self.resize(a, dtype, I32), self.resize(b, dtype, I32));
            let product = self.b.ins().imul(a, b);
            return self.b.ins().ireduce(ty, product);
        }
        self.b.ins().imul(a, b)
    }

    /// Division and remainder: by zero both are 0; `MIN / -1` is `MIN` and leaves 0.
    fn divide(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        let ty = clif_type(dtype);
        let work = if ty.bits() < 32 { I32 } else { ty };
        let (a, b) = (self.resize(a, dtype, work), self.resize(b, dtype, work));
        let result = if dtype.is_signed_int() {
            self.divide_signed(op, a, b, work)
        } else {
            self.divide_unsigned(op, a, b, work)
        };
        if work == ty { result } else { self.b.ins().ireduce(ty, result) }
    }

    fn divide_unsigned(&mut self, op: BinaryOp, a: Value, b: Value, ty: Type) -> Value {
        let zero = self.int_const(ty, 0);
        let one = self.int_const(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let divisor = self.b.ins().select(by_zero, one, b);
        let result = match op {
            BinaryOp::Div | BinaryOp::FloorDiv => self.b.ins().udiv(a, divisor),
            // The remainder by one is 0, as wanted.
            _ => return self.b.ins().urem(a, divisor),
        };
        self.b.ins().select(by_zero, zero, result)
    }

    fn divide_signed(&mut self, op: BinaryOp, a: Value, b: Value, ty: Type) -> Value {
        let zero = self.int_const(ty, 0);
        let one = self.int_const(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let by_minus_one = self.icmp_const(IntCC::Equal, b, -1);
        let special = self.b.ins().bor(by_zero, by_minus_one);
        let divisor = self.b.ins().select(special, one, b);
        let quotient = self.b.ins().sdiv(a, divisor);
        let product = self.b.ins().imul(quotient, divisor);
        let rem = self.b.ins().isub(a, product);
        let differ = self.b.ins().bxor(rem, b);
        let opposite = self.icmp_const(IntCC::SignedLessThan, differ, 0);
        let some = self.icmp_const(IntCC::NotEqual, rem, 0);
        let adjust = self.b.ins().band(opposite, some);
        match op {
            BinaryOp::Mod => rem,
            BinaryOp::FloorMod => {
                let adjusted = self.b.ins().iadd(rem, b);
                self.b.ins().select(adjust, adjusted, rem)
            }
            _ => {
                let floored = self.b.ins().isub(quotient, one);
                let quotient = if op == BinaryOp::FloorDiv {
                    self.b.ins().select(adjust, floored, quotient)
                } else {
                    quotient
                };
                let negated = self.b.ins().ineg(a);
                let result = self.b.ins().select(by_minus_one, negated, quotient);
                self.b.ins().select(by_zero, zero, result)
            }
        }
    }

    /// Division by a positive constant, where the dividend may be known not to be negative.
    pub(super) fn divide_const(&mut self, op: BinaryOp, a: Value, divisor: i64, nonneg: bool) -> Value {
        debug_assert!(divisor > 0);
        let floor = matches!(op, BinaryOp::FloorDiv | BinaryOp::FloorMod);
        let quotient_wanted = matches!(op, BinaryOp::Div | BinaryOp::FloorDiv);
        if (nonneg || floor) && divisor & (divisor - 1) == 0 {
            return if quotient_wanted {
                self.b.ins().sshr_imm_u(a, divisor.trailing_zeros() as i64)
            } else {
                self.b.ins().band_imm_s(a, divisor - 1)
            };
        }
        let d = self.b.ins().iconst(I64, divisor);
        if nonneg {
            return if quotient_wanted { self.b.ins().udiv(a, d) } else { self.b.ins().urem(a, d) };
        }
        if !floor {
            return if quotient_wanted { self.b.ins().sdiv(a, d) } else { self.b.ins().srem(a, d) };
        }
        let quotient = self.b.ins().sdiv(a, d);
        let product = self.b.ins().imul(quotient, d);
        let rem = self.b.ins().isub(a, product);
        let sign = self.b.ins().sshr_imm_u(rem, 63);
        if quotient_wanted {
            self.b.ins().iadd(quotient, sign)
        } else {
            let add = self.b.ins().band(sign, d);
            self.b.ins().iadd(rem, add)
        }
    }

    /// Shifts: by the width or more, or by a negative amount, everything goes.
    fn shift(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        let ty = clif_type(dtype);
        let width = ty.bits() as i64;
        let outside = self.icmp_const(IntCC::UnsignedGreaterThanOrEqual, b, width);
        if op == BinaryOp::Shr && dtype.is_signed_int() {
            let last = self.int_const(ty, width - 1);
            let amount = self.b.ins().select(outside, last, b);
            return self.b.ins().sshr(a, amount);
        }
        let shifted = if op == BinaryOp::Shl { self.b.ins().ishl(a, b) } else { self.b.ins().ushr(a, b) };
        let zero = self.int_const(ty, 0);
        self.b.ins().select(outside, zero, shifted)
    }

    /// A comparison of scalars; a bool.
    pub(super) fn compare(&mut self, op: CmpOp, a: Value, b: Value, dtype: DType) -> Value {
        match dtype {
            DType::F32 | DType::F64 => self.b.ins().fcmp(float_cc(op), a, b),
            DType::F16 | DType::BF16 => {
                let (a, b) = (self.widen(dtype, a), self.widen(dtype, b));
                self.b.ins().fcmp(float_cc(op), a, b)
            }
            _ => self.b.ins().icmp(int_cc(op, dtype.is_signed_int()), a, b),
        }
    }

    /// `a * b + c` on scalars, rounded once.
    pub(super) fn fma(&mut self, a: Value, b: Value, c: Value, dtype: DType) -> Value {
        match dtype {
            DType::F32 | DType::F64 if self.caps.fma => self.b.ins().fma(a, b, c),
            DType::F32 => self.call_helper("fma", "f32", &[a, b, c]),
            DType::F64 => self.call_helper("fma", "f64", &[a, b, c]),
            DType::F16 | DType::BF16 => {
                let (a, b, c) = (self.widen(dtype, a), self.widen(dtype, b), self.widen(dtype, c));
                let result = self.fma(a, b, c, DType::F32);
                self.narrow(dtype, result)
            }
            _ => {
                let product = self.binary(BinaryOp::Mul, a, b, dtype);
                self.binary(BinaryOp::Add, product, c, dtype)
            }
        }
    }
}

/// The condition of a comparison of floats: all are false for NaN but "not equal".
pub(super) fn float_cc(op: CmpOp) -> FloatCC {
    match op {
        CmpOp::Eq => FloatCC::Equal,
        CmpOp::Ne => FloatCC::NotEqual,
        CmpOp::Lt => FloatCC::LessThan,
        CmpOp::Le => FloatCC::LessThanOrEqual,
        CmpOp::Gt => FloatCC::GreaterThan,
        CmpOp::Ge => FloatCC::GreaterThanOrEqual,
    }
}

/// The condition of a comparison of integers.
pub(super) fn int_cc(op: CmpOp, signed: bool) -> IntCC {
    match (op, signed) {
        (CmpOp::Eq, _) => IntCC::Equal,
        (CmpOp::Ne, _) => IntCC::NotEqual,
        (CmpOp::Lt, true) => IntCC::SignedLessThan,
        (CmpOp::Le, true) => IntCC::SignedLessThanOrEqual,
        (CmpOp::Gt, true) => IntCC::SignedGreaterThan,
        (CmpOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (CmpOp::Lt, false) => IntCC::UnsignedLessThan,
        (CmpOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (CmpOp::Gt, false) => IntCC::UnsignedGreaterThan,
        (CmpOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}
