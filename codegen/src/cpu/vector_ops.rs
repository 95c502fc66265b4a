//! Arithmetic on vectors: by instructions where there are some, else lane by lane.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, F64X2, I32X4};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::tir::{Expr, ExprKind};
use fermata_ir::types::DType;

use super::arith::{float_cc, int_cc};
use super::convert::{Lanes, vector_type};
use super::lower_expr::squares;
use super::lower_stmt::Lower;

impl<'f> Lower<'f, '_> {
    /// The vector of an expression from those of its operands.
    pub(super) fn apply_vector(&mut self, expr: &'f Expr, args: &[Value]) -> Value {
        let dtype = expr.dtype();
        match expr.kind() {
            ExprKind::Const(_) | ExprKind::Var(_) | ExprKind::Load(..) => {
                unreachable!("these are evaluated without operands")
            }
            ExprKind::Unary(op, a) => self.vector_unary(*op, args[0], a.dtype()),
            ExprKind::Binary(op, _, b) if squares(*op, b) => {
                self.vector_binary(BinaryOp::Mul, args[0], args[0], dtype)
            }
            ExprKind::Binary(op, ..) => self.vector_binary(*op, args[0], args[1], dtype),
            ExprKind::Cast(a) => self.vector_cast(args[0], a.dtype(), dtype),
            ExprKind::Reinterpret(a) => {
                let from = a.dtype();
                let same_lane = dtype.bytes() >= 4 && dtype != DType::Bool;
                if same_lane {
                    let ty = vector_type(dtype, self.analysis.lanes).expect("it has a vector form");
                    return self.bits(ty, args[0]);
                }
                self.by_lane(args, &[from], dtype, |lower, s| lower.reinterpret(s[0], dtype))
            }
            ExprKind::Cmp(op, a, _) => {
                let operand = a.dtype();
                match operand {
                    DType::F32 | DType::F64 => self.b.ins().fcmp(float_cc(*op), args[0], args[1]),
                    DType::F16 | DType::BF16 => {
                        let a = self.widen_lanes(Lanes::FOUR, operand, args[0]);
                        let b = self.widen_lanes(Lanes::FOUR, operand, args[1]);
                        self.b.ins().fcmp(float_cc(*op), a, b)
                    }
                    DType::Bool | DType::U64 => self.by_lane(args, &[operand; 2], DType::Bool, |lower, s| {
                        lower.compare(*op, s[0], s[1], operand)
                    }),
                    _ => self.b.ins().icmp(int_cc(*op, operand.is_signed_int()), args[0], args[1]),
                }
            }
            ExprKind::Fma(..) => match dtype {
                DType::F32 | DType::F64 if self.caps.fma => self.b.ins().fma(args[0], args[1], args[2]),
                _ => self.by_lane(args, &[dtype; 3], dtype, |lower, s| lower.fma(s[0], s[1], s[2], dtype)),
            },
            ExprKind::Select(..) => self.choose(args[0], args[1], args[2]),
        }
    }

    /// Applies a scalar function to each lane.
    fn by_lane(
        &mut self,
        args: &[Value],
        from: &[DType],
        to: DType,
        f: impl Fn(&mut Self, &[Value]) -> Value,
    ) -> Value {
        let mut vector = None;
        for lane in 0..self.analysis.lanes {
            let scalars: Vec<Value> =
                args.iter().zip(from).map(|(&arg, &dtype)| self.extract(arg, lane, dtype)).collect();
            let result = f(self, &scalars);
            vector = Some(self.insert(vector, lane, result, to));
        }
        vector.expect("a vector has lanes")
    }

    fn vector_unary(&mut self, op: UnaryOp, a: Value, dtype: DType) -> Value {
        let predicate = matches!(op, UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite);
        let to = if predicate { DType::Bool } else { dtype };
        let result = match dtype {
            DType::F32 | DType::F64 => self.vector_unary_float(op, a, vector_float(dtype)),
            DType::F16 | DType::BF16 => {
                let wide = self.widen_lanes(Lanes::FOUR, dtype, a);
                match self.vector_unary_float(op, wide, F32X4) {
                    Some(result) if predicate => Some(result),
                    Some(result) => Some(self.narrow_lanes(Lanes::FOUR, dtype, result)),
                    None => None,
                }
            }
            DType::Bool => (op == UnaryOp::Not).then(|| self.b.ins().bnot(a)),
            DType::I32 | DType::I64 | DType::I8 | DType::I16 | DType::U32 | DType::U64 => match op {
                UnaryOp::Neg => {
                    let negated = self.b.ins().ineg(a);
                    Some(self.wrap(negated, dtype))
                }
                UnaryOp::Not => {
                    let inverted = self.b.ins().bnot(a);
                    Some(self.wrap(inverted, dtype))
                }
                _ => None,
            },
            DType::U8 | DType::U16 => None,
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[a], &[dtype], to, |lower, s| lower.unary(op, s[0], dtype)),
        }
    }

    fn vector_unary_float(&mut self, op: UnaryOp, a: Value, ty: Type) -> Option<Value> {
        if ty == F32X4
            && let Some(result) = self.inline_function(op, Lanes::FOUR, a)
        {
            return Some(result);
        }
        if let Some(result) = self.simple_float(op, ty, a) {
            return Some(result);
        }
        match op {
            UnaryOp::IsNan => Some(self.b.ins().fcmp(FloatCC::Unordered, a, a)),
            UnaryOp::IsInf | UnaryOp::IsFinite => {
                let infinity = self.float_const(ty, f64::INFINITY);
                let magnitude = self.b.ins().fabs(a);
                let cc = if op == UnaryOp::IsInf { FloatCC::Equal } else { FloatCC::LessThan };
                Some(self.b.ins().fcmp(cc, magnitude, infinity))
            }
            _ => None,
        }
    }

    fn vector_binary(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        let result = match dtype {
            DType::F32 | DType::F64 => self.vector_binary_float(op, a, b),
            DType::F16 | DType::BF16 => {
                let a = self.widen_lanes(Lanes::FOUR, dtype, a);
                let b = self.widen_lanes(Lanes::FOUR, dtype, b);
                let wide = self.vector_binary_float(op, a, b);
                wide.map(|wide| self.narrow_lanes(Lanes::FOUR, dtype, wide))
            }
            DType::Bool => match op {
                BinaryOp::And | BinaryOp::Mul | BinaryOp::Min => Some(self.b.ins().band(a, b)),
                BinaryOp::Or | BinaryOp::Add | BinaryOp::Max => Some(self.b.ins().bor(a, b)),
                BinaryOp::Xor | BinaryOp::Sub => Some(self.b.ins().bxor(a, b)),
                _ => None,
            },
            _ => self.vector_binary_int(op, a, b, dtype),
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[a, b], &[dtype; 2], dtype, |lower, s| lower.binary(op, s[0], s[1], dtype)),
        }
    }

    fn vector_binary_float(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Value> {
        match op {
            BinaryOp::FloorDiv => {
                let quotient = self.b.ins().fdiv(a, b);
                Some(self.b.ins().floor(quotient))
            }
            _ => self.simple_float_binary(op, a, b),
        }
    }

    fn vector_binary_int(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Option<Value> {
        let narrow = self.analysis.lanes == 4;
        // Narrow unsigned lanes are never negative, so all but 32 bits compare as signed.
        let signed = dtype != DType::U32;
        let result = match op {
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul => self.b.ins().imul(a, b),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            BinaryOp::Min if narrow && signed => self.b.ins().smin(a, b),
            BinaryOp::Min if narrow => self.b.ins().umin(a, b),
            BinaryOp::Max if narrow && signed => self.b.ins().smax(a, b),
            BinaryOp::Max if narrow => self.b.ins().umax(a, b),
            _ => return None,
        };
        Some(self.wrap(result, dtype))
    }

    /// The low bits of each lane, extended as the dtype is.
    fn wrap(&mut self, value: Value, dtype: DType) -> Value {
        match dtype {
            DType::I8 | DType::I16 => {
                let unused = 32 - dtype.bits() as i64;
                let high = self.shl(value, unused);
                self.sshr(high, unused)
            }
            DType::U8 | DType::U16 => self.and_const(value, (1 << dtype.bits()) - 1),
            _ => value,
        }
    }

    fn vector_cast(&mut self, value: Value, from: DType, to: DType) -> Value {
        if from == to {
            return value;
        }
        let result = if self.analysis.lanes == 4 {
            self.vector_cast_four(value, from, to)
        } else {
            match (from, to) {
                (DType::I64, DType::U64) | (DType::U64, DType::I64) => Some(value),
                (DType::Bool, DType::I64 | DType::U64) => Some(self.and_const(value, 1)),
                (DType::F64, DType::Bool) => {
                    let zero = self.float_const(F64X2, 0.0);
                    Some(self.b.ins().fcmp(FloatCC::NotEqual, value, zero))
                }
                _ => None,
            }
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[value], &[from], to, |lower, s| lower.cast(s[0], from, to)),
        }
    }

    fn vector_cast_four(&mut self, value: Value, from: DType, to: DType) -> Option<Value> {
        match (from, to) {
            (DType::F16 | DType::BF16, _) => {
                let wide = self.widen_lanes(Lanes::FOUR, from, value);
                Some(if to == DType::F32 { wide } else { self.vector_cast(wide, DType::F32, to) })
            }
            (DType::F32, DType::F16 | DType::BF16) => Some(self.narrow_lanes(Lanes::FOUR, to, value)),
            (DType::F32, DType::Bool) => {
                let zero = self.float_const(F32X4, 0.0);
                Some(self.b.ins().fcmp(FloatCC::NotEqual, value, zero))
            }
            (DType::F32, DType::I32) => Some(self.b.ins().fcvt_to_sint_sat(I32X4, value)),
            (DType::F32, DType::I8 | DType::I16 | DType::U8 | DType::U16) => {
                let wide = self.b.ins().fcvt_to_sint_sat(I32X4, value);
                let top = 1i64 << (to.bits() as i64 - to.is_signed_int() as i64);
                Some(self.clamp(wide, if to.is_signed_int() { -top } else { 0 }, top - 1))
            }
            (DType::F32, _) => None,
            (DType::Bool, DType::F32) => {
                let one = self.int_const(I32X4, 1f32.to_bits() as i64);
                let bits = self.b.ins().band(value, one);
                Some(self.bits(F32X4, bits))
            }
            (DType::Bool, DType::F16 | DType::BF16) => {
                let one = self.vector_cast(value, DType::Bool, DType::F32);
                Some(self.narrow_lanes(Lanes::FOUR, to, one))
            }
            (DType::Bool, _) => Some(self.and_const(value, 1)),
            (_, DType::Bool) => Some(self.icmp_const(IntCC::NotEqual, value, 0)),
            (DType::U32, DType::F32) => None,
            (_, DType::F32) => Some(self.b.ins().fcvt_from_sint(F32X4, value)),
            (DType::I8 | DType::U8 | DType::I16 | DType::U16, DType::F16 | DType::BF16) => {
                let float = self.b.ins().fcvt_from_sint(F32X4, value);
                Some(self.narrow_lanes(Lanes::FOUR, to, float))
            }
            (_, DType::F16 | DType::BF16) => None,
            _ => Some(self.wrap(value, to)),
        }
    }
}

fn vector_float(dtype: DType) -> Type {
    if dtype == DType::F32 { F32X4 } else { F64X2 }
}
