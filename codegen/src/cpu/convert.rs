//! How dtypes are held in values, and conversion between them.
//!
//! A scalar of an integer dtype is an integer of its width, a bool one byte that is 0 or 1;
//! f16 and bf16 are held as their 16 bits and computed with as f32. In a vector of four lanes
//! everything of up to 32 bits takes a 32-bit lane: narrow integers are extended, 16-bit
//! floats are their bits, bools are masks of all ones. In a vector of two lanes only 64-bit
//! numbers and masks occur.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8, I16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value};
use fermata_ir::scalar::Scalar;
use fermata_ir::types::DType;

use super::lower_stmt::Lower;

/// The type that holds a scalar of a dtype.
pub(super) fn clif_type(dtype: DType) -> Type {
    match dtype {
        DType::Bool | DType::I8 | DType::U8 => I8,
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => I16,
        DType::I32 | DType::U32 => I32,
        DType::I64 | DType::U64 => I64,
        DType::F32 => F32,
        DType::F64 => F64,
    }
}

/// The type that holds a vector of a dtype, if there is one with this many lanes.
pub(super) fn vector_type(dtype: DType, lanes: u32) -> Option<Type> {
    match (lanes, dtype) {
        (4, DType::F32) => Some(F32X4),
        (4, DType::F64 | DType::I64 | DType::U64) => None,
        (4, _) => Some(I32X4),
        (2, DType::F64) => Some(F64X2),
        (2, DType::I64 | DType::U64 | DType::Bool) => Some(I64X2),
        _ => None,
    }
}

/// A float type and the integer type of its bits: one lane or several, so that code which is
/// the same for both is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lanes {
    /// The floats.
    pub float: Type,
    /// The integers.
    pub int: Type,
}

impl Lanes {
    /// One f32.
    pub const ONE: Lanes = Lanes { float: F32, int: I32 };
    /// Four f32.
    pub const FOUR: Lanes = Lanes { float: F32X4, int: I32X4 };
}

impl Lower<'_, '_> {
    /// The same bits as another type.
    pub(super) fn bits(&mut self, to: Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == to {
            return value;
        }
        let flags = MemFlagsData::new();
        let flags = if to.is_vector() { flags.with_endianness(Endianness::Little) } else { flags };
        self.b.ins().bitcast(to, flags, value)
    }

    /// An integer constant in every lane.
    pub(super) fn int_const(&mut self, ty: Type, value: i64) -> Value {
        let lane = ty.lane_type();
        let masked = if lane == I64 { value } else { value & ((1i64 << lane.bits()) - 1) };
        let scalar = self.b.ins().iconst(lane, masked);
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    /// A float constant in every lane.
    pub(super) fn float_const(&mut self, ty: Type, value: f64) -> Value {
        let scalar = if ty.lane_type() == F32 {
            self.b.ins().f32const(value as f32)
        } else {
            self.b.ins().f64const(value)
        };
        if ty.is_vector() { self.b.ins().splat(ty, scalar) } else { scalar }
    }

    /// A literal as a scalar.
    pub(super) fn constant(&mut self, value: Scalar) -> Value {
        match value.dtype() {
            DType::F32 => self.b.ins().f32const(f32::from_bits(value.bits() as u32)),
            DType::F64 => self.b.ins().f64const(f64::from_bits(value.bits())),
            dtype => self.int_const(clif_type(dtype), value.bits() as i64),
        }
    }

    /// `if mask then a else b`, by lane where the mask has lanes.
    pub(super) fn choose(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let mask_type = self.b.func.dfg.value_type(mask);
        if !mask_type.is_vector() {
            return self.b.ins().select(mask, a, b);
        }
        let ty = self.b.func.dfg.value_type(a);
        let mask = self.bits(ty, mask);
        self.b.ins().bitselect(mask, a, b)
    }

    /// f16 or bf16 bits, zero-extended to 32-bit lanes, as f32.
    pub(super) fn widen_lanes(&mut self, lanes: Lanes, dtype: DType, bits: Value) -> Value {
        if dtype == DType::BF16 {
            let high = self.shl(bits, 16);
            return self.bits(lanes.float, high);
        }
        // The exponent and the significand move to their places and the exponent's bias changes;
        // infinities need it changed twice, subnormals are normalised by a subtraction.
        let rest = self.and_const(bits, 0x7fff);
        let shifted = self.shl(rest, 13);
        let exponent = self.and_const(shifted, 0x0f80_0000);
        let bias = self.int_const(lanes.int, 112 << 23);
        let normal = self.b.ins().iadd(shifted, bias);
        let infinite = self.b.ins().iadd(normal, bias);
        let one = self.int_const(lanes.int, 1 << 23);
        let scaled = self.b.ins().iadd(normal, one);
        let scaled = self.bits(lanes.float, scaled);
        let offset = self.float_const(lanes.float, 2f64.powi(-14));
        let subnormal = self.b.ins().fsub(scaled, offset);
        let subnormal = self.bits(lanes.int, subnormal);
        let top = self.int_const(lanes.int, 0x0f80_0000);
        let zero = self.int_const(lanes.int, 0);
        let is_top = self.b.ins().icmp(IntCC::Equal, exponent, top);
        let is_low = self.b.ins().icmp(IntCC::Equal, exponent, zero);
        let magnitude = self.choose(is_low, subnormal, normal);
        let magnitude = self.choose(is_top, infinite, magnitude);
        let sign = self.and_const(bits, 0x8000);
        let sign = self.shl(sign, 16);
        let all = self.b.ins().bor(magnitude, sign);
        self.bits(lanes.float, all)
    }

    /// f32 rounded to f16 or bf16, half to even: the bits in 32-bit lanes.
    pub(super) fn narrow_lanes(&mut self, lanes: Lanes, dtype: DType, value: Value) -> Value {
        let bits = self.bits(lanes.int, value);
        if dtype == DType::BF16 { self.narrow_bf16(lanes, bits) } else { self.narrow_f16(lanes, bits) }
    }

    fn narrow_bf16(&mut self, lanes: Lanes, bits: Value) -> Value {
        let half = self.int_const(lanes.int, 0x7fff);
        let shifted = self.ushr(bits, 16);
        let odd = self.and_const(shifted, 1);
        let rounding = self.b.ins().iadd(half, odd);
        let rounded = self.b.ins().iadd(bits, rounding);
        let rounded = self.ushr(rounded, 16);
        let quiet = self.int_const(lanes.int, 0x40);
        let nan = self.b.ins().bor(shifted, quiet);
        let magnitude = self.and_const(bits, 0x7fff_ffff);
        let infinity = self.int_const(lanes.int, 0x7f80_0000);
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, infinity);
        self.choose(is_nan, nan, rounded)
    }

    fn narrow_f16(&mut self, lanes: Lanes, bits: Value) -> Value {
        let magnitude = self.and_const(bits, 0x7fff_ffff);
        // Adding a number whose unit in the last place is that of f16's subnormals rounds to it.
        let float = self.bits(lanes.float, magnitude);
        let half = self.float_const(lanes.float, 0.5);
        let sum = self.b.ins().fadd(float, half);
        let sum = self.bits(lanes.int, sum);
        let half_bits = self.int_const(lanes.int, 0x3f00_0000);
        let subnormal = self.b.ins().isub(sum, half_bits);
        let shifted = self.ushr(magnitude, 13);
        let odd = self.and_const(shifted, 1);
        let rebias = self.int_const(lanes.int, -(112 << 23) + 0xfff);
        let biased = self.b.ins().iadd(magnitude, rebias);
        let rounded = self.b.ins().iadd(biased, odd);
        let normal = self.ushr(rounded, 13);
        let least_normal = self.int_const(lanes.int, 113 << 23);
        let is_low = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, least_normal);
        let finite = self.choose(is_low, subnormal, normal);
        let infinity = self.int_const(lanes.int, 0x7c00);
        let overflow = self.int_const(lanes.int, 143 << 23);
        let is_high = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, magnitude, overflow);
        let number = self.choose(is_high, infinity, finite);
        let payload = self.and_const(shifted, 0x3ff);
        let quiet = self.int_const(lanes.int, 0x7e00);
        let nan = self.b.ins().bor(payload, quiet);
        let f32_infinity = self.int_const(lanes.int, 0x7f80_0000);
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, f32_infinity);
        let result = self.choose(is_nan, nan, number);
        let sign = self.ushr(bits, 16);
        let sign = self.and_const(sign, 0x8000);
        self.b.ins().bor(result, sign)
    }

    /// A 16-bit float scalar as f32.
    pub(super) fn widen(&mut self, dtype: DType, bits: Value) -> Value {
        let wide = self.b.ins().uextend(I32, bits);
        self.widen_lanes(Lanes::ONE, dtype, wide)
    }

    /// An f32 scalar rounded to a 16-bit float.
    pub(super) fn narrow(&mut self, dtype: DType, value: Value) -> Value {
        let bits = self.narrow_lanes(Lanes::ONE, dtype, value);
        self.b.ins().ireduce(I16, bits)
    }

    /// A scalar in another dtype, as [`fermata_ir::scalar::cast`] does it.
    pub(super) fn cast(&mut self, value: Value, from: DType, to: DType) -> Value {
        if from == to {
            return value;
        }
        match (from, to) {
            (DType::F16 | DType::BF16, _) => {
                let wide = self.widen(from, value);
                self.cast(wide, DType::F32, to)
            }
            (_, DType::Bool) => self.is_nonzero(value, from),
            (DType::F32 | DType::F64, _) => self.cast_float(value, from, to),
            (_, DType::F16 | DType::BF16) => self.int_to_small_float(value, from, to),
            (_, DType::F32 | DType::F64) => self.int_to_float(value, from, clif_type(to)),
            _ => self.resize(value, from, clif_type(to)),
        }
    }

    /// An integer or bool extended or cut to another width.
    pub(super) fn resize(&mut self, value: Value, from: DType, to: Type) -> Value {
        match to.bits().cmp(&clif_type(from).bits()) {
            std::cmp::Ordering::Less => self.b.ins().ireduce(to, value),
            std::cmp::Ordering::Equal => value,
            std::cmp::Ordering::Greater if from.is_signed_int() => self.b.ins().sextend(to, value),
            std::cmp::Ordering::Greater => self.b.ins().uextend(to, value),
        }
    }

    /// Whether a number is other than zero; NaN is.
    pub(super) fn is_nonzero(&mut self, value: Value, dtype: DType) -> Value {
        if !dtype.is_float() {
            return self.b.ins().icmp_imm_s(IntCC::NotEqual, value, 0);
        }
        let (value, ty) = match dtype {
            DType::F16 | DType::BF16 => (self.widen(dtype, value), F32),
            _ => (value, clif_type(dtype)),
        };
        let zero = self.zero(ty);
        self.b.ins().fcmp(FloatCC::NotEqual, value, zero)
    }

    fn cast_float(&mut self, value: Value, from: DType, to: DType) -> Value {
        match to {
            DType::F32 => self.b.ins().fdemote(F32, value),
            DType::F64 => self.b.ins().fpromote(F64, value),
            DType::F16 | DType::BF16 => {
                let single = if from == DType::F64 { self.demote_to_odd(value) } else { value };
                self.narrow(to, single)
            }
            DType::I64 | DType::I32 => self.b.ins().fcvt_to_sint_sat(clif_type(to), value),
            DType::U64 => self.b.ins().fcvt_to_uint_sat(I64, value),
            DType::U32 => {
                let wide = self.b.ins().fcvt_to_sint_sat(I64, value);
                let clamped = self.clamp(wide, 0, u32::MAX as i64);
                self.b.ins().ireduce(I32, clamped)
            }
            DType::I8 => self.cast_float_small(value, i8::MIN as i64, i8::MAX as i64, I8),
            DType::U8 => self.cast_float_small(value, 0, u8::MAX as i64, I8),
            DType::I16 => self.cast_float_small(value, i16::MIN as i64, i16::MAX as i64, I16),
            DType::U16 => self.cast_float_small(value, 0, u16::MAX as i64, I16),
            DType::Bool => self.is_nonzero(value, from),
        }
    }

    fn cast_float_small(&mut self, value: Value, min: i64, max: i64, to: Type) -> Value {
        let wide = self.b.ins().fcvt_to_sint_sat(I32, value);
        let clamped = self.clamp(wide, min, max);
        self.b.ins().ireduce(to, clamped)
    }

    /// A signed integer within bounds.
    pub(super) fn clamp(&mut self, value: Value, min: i64, max: i64) -> Value {
        let ty = self.b.func.dfg.value_type(value);
        let (min, max) = (self.int_const(ty, min), self.int_const(ty, max));
        let low = self.b.ins().smax(value, min);
        self.b.ins().smin(low, max)
    }

    /// An f64 as an f32 rounded to odd, so that rounding again gives what rounding once would.
    fn demote_to_odd(&mut self, value: Value) -> Value {
        let nearest = self.b.ins().fdemote(F32, value);
        let back = self.b.ins().fpromote(F64, nearest);
        let (magnitude, back_magnitude) = (self.b.ins().fabs(value), self.b.ins().fabs(back));
        let away = self.b.ins().fcmp(FloatCC::GreaterThan, back_magnitude, magnitude);
        let away = self.b.ins().uextend(I32, away);
        let bits = self.bits(I32, nearest);
        let truncated = self.b.ins().isub(bits, away);
        let odd = self.b.ins().bor_imm_s(truncated, 1);
        let inexact = self.b.ins().fcmp(FloatCC::OrderedNotEqual, value, back);
        let bits = self.b.ins().select(inexact, odd, bits);
        self.bits(F32, bits)
    }

    fn int_to_float(&mut self, value: Value, from: DType, to: Type) -> Value {
        match from {
            DType::U64 => self.b.ins().fcvt_from_uint(to, value),
            DType::U32 => {
                let wide = self.b.ins().uextend(I64, value);
                self.b.ins().fcvt_from_sint(to, wide)
            }
            DType::I64 => self.b.ins().fcvt_from_sint(to, value),
            _ => {
                let wide = self.resize(value, from, I32);
                self.b.ins().fcvt_from_sint(to, wide)
            }
        }
    }

    /// An integer as f16 or bf16, rounded once: through f64, which holds all but the low bits of
    /// large integers, and those count only as "more than nothing".
    fn int_to_small_float(&mut self, value: Value, from: DType, to: DType) -> Value {
        let wide = self.resize(value, from, I64);
        let magnitude = if from.is_signed_int() { self.b.ins().iabs(wide) } else { wide };
        let high = self.b.ins().band_imm_s(magnitude, !0xffff_ffff);
        let low = self.b.ins().band_imm_s(magnitude, 0xffff_ffff);
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, low, 0);
        let some = self.b.ins().uextend(I64, some);
        let some = self.b.ins().ishl_imm_u(some, 32);
        let sticky = self.b.ins().bor(high, some);
        let large = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, magnitude, 1 << 53);
        let chosen = self.b.ins().select(large, sticky, magnitude);
        let double = self.b.ins().fcvt_from_uint(F64, chosen);
        let single = self.demote_to_odd(double);
        let bits = self.narrow(to, single);
        if !from.is_signed_int() {
            return bits;
        }
        let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, wide, 0);
        let negated = self.b.ins().bor_imm_u(bits, 0x8000);
        self.b.ins().select(negative, negated, bits)
    }

    /// The same bits as another dtype of equal width.
    pub(super) fn reinterpret(&mut self, value: Value, to: DType) -> Value {
        let value = self.bits(clif_type(to), value);
        if to == DType::Bool { self.is_nonzero(value, DType::U8) } else { value }
    }
}
