//! Functions of single-precision numbers, inline, for one lane or four.
//!
//! Error bounds against the correctly rounded result, over all finite inputs, with and without
//! fused multiply-add: `exp`, `log`, `erf` and `tanh` 3 units in the last place, `sigmoid` 4
//! (a result below the least normal number may lose what a subnormal has too few bits for).
//! Infinities, NaN and both zeros give what the functions have there. The polynomials are
//! those of [`polynomial`](super::polynomial).

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::I32;
use cranelift_codegen::ir::{InstBuilder, Value};

use super::convert::Lanes;
use super::lower_stmt::Lower;
use super::polynomial::{ERF_LARGE, ERF_SMALL, EXP, LN2_HIGH, LN2_LOW, LOG, TANH_SMALL};

impl Lower<'_, '_> {
    /// `a * b + c`, rounded once where the machine does that, else twice.
    fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.caps.fma {
            return self.b.ins().fma(a, b, c);
        }
        let product = self.b.ins().fmul(a, b);
        self.b.ins().fadd(product, c)
    }

    fn polynomial(&mut self, lanes: Lanes, coefficients: &[f32], x: Value) -> Value {
        let mut sum = self.float_const(lanes.float, coefficients[0] as f64);
        for &c in &coefficients[1..] {
            let c = self.float_const(lanes.float, c as f64);
            sum = self.mul_add(sum, x, c);
        }
        sum
    }

    fn copysign(&mut self, lanes: Lanes, magnitude: Value, sign: Value) -> Value {
        let mask = self.int_const(lanes.int, i32::MIN as i64);
        let (magnitude, sign) = (self.bits(lanes.int, magnitude), self.bits(lanes.int, sign));
        let sign = self.b.ins().band(sign, mask);
        let rest = self.b.ins().band_not(magnitude, mask);
        let all = self.b.ins().bor(rest, sign);
        self.bits(lanes.float, all)
    }

    /// The exponential.
    pub(super) fn exp(&mut self, lanes: Lanes, x: Value) -> Value {
        // Beyond these bounds the result is 0 or infinite all the same; NaN passes through.
        let (low, high) = (self.float_const(lanes.float, -105.0), self.float_const(lanes.float, 89.0));
        let below = self.b.ins().fcmp(FloatCC::LessThan, x, low);
        let clamped = self.choose(below, low, x);
        let above = self.b.ins().fcmp(FloatCC::GreaterThan, clamped, high);
        let clamped = self.choose(above, high, clamped);
        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
        let magic = self.float_const(lanes.float, 12_582_912.0);
        let log2e = self.float_const(lanes.float, std::f64::consts::LOG2_E);
        let scaled = self.mul_add(clamped, log2e, magic);
        let n = self.b.ins().fsub(scaled, magic);
        let (ln2_high, ln2_low) =
            (self.float_const(lanes.float, -LN2_HIGH as f64), self.float_const(lanes.float, -LN2_LOW as f64));
        let f = self.mul_add(n, ln2_high, clamped);
        let f = self.mul_add(n, ln2_low, f);
        let r = self.polynomial(lanes, &EXP, f);
        // 2^n in two factors, so that neither leaves the normal range and a subnormal result rounds once.
        let magic_bits = self.bits(lanes.int, magic);
        let n = self.bits(lanes.int, scaled);
        let n = self.b.ins().isub(n, magic_bits);
        let n1 = self.sshr(n, 1);
        let n2 = self.b.ins().isub(n, n1);
        let (p1, p2) = (self.power_of_two(lanes, n1), self.power_of_two(lanes, n2));
        let r = self.b.ins().fmul(r, p1);
        let r = self.b.ins().fmul(r, p2);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
        self.choose(is_nan, x, r)
    }

    fn power_of_two(&mut self, lanes: Lanes, n: Value) -> Value {
        let bias = self.int_const(lanes.int, 127);
        let exponent = self.b.ins().iadd(n, bias);
        let bits = self.shl(exponent, 23);
        self.bits(lanes.float, bits)
    }

    /// The natural logarithm.
    pub(super) fn log(&mut self, lanes: Lanes, x: Value) -> Value {
        let least_normal = self.float_const(lanes.float, f32::MIN_POSITIVE as f64);
        let subnormal = self.b.ins().fcmp(FloatCC::LessThan, x, least_normal);
        let scale = self.float_const(lanes.float, 8_388_608.0);
        let scaled = self.b.ins().fmul(x, scale);
        let a = self.choose(subnormal, scaled, x);
        let (lost, none) = (self.float_const(lanes.float, -23.0), self.float_const(lanes.float, 0.0));
        let lost = self.choose(subnormal, lost, none);
        // a = 2^e * (1 + m) with 2/3 <= 1 + m < 4/3.
        let bits = self.bits(lanes.int, a);
        let two_thirds = self.int_const(lanes.int, 0x3f2a_aaab);
        let e = self.b.ins().isub(bits, two_thirds);
        let e = self.and_const(e, 0xff80_0000u32 as i32 as i64);
        let m = self.b.ins().isub(bits, e);
        let m = self.bits(lanes.float, m);
        let e = self.b.ins().fcvt_from_sint(lanes.float, e);
        let ulp = self.float_const(lanes.float, 2f64.powi(-23));
        let e = self.mul_add(e, ulp, lost);
        let one = self.float_const(lanes.float, 1.0);
        let m = self.b.ins().fsub(m, one);
        let square = self.b.ins().fmul(m, m);
        let r = self.polynomial(lanes, &LOG, m);
        let r = self.mul_add(r, square, m);
        let ln2 = self.float_const(lanes.float, std::f32::consts::LN_2 as f64);
        let r = self.mul_add(e, ln2, r);
        self.log_special(lanes, x, r)
    }

    /// `result`, but what the logarithm is at 0, infinity, NaN and negative numbers.
    fn log_special(&mut self, lanes: Lanes, x: Value, result: Value) -> Value {
        let zero = self.float_const(lanes.float, 0.0);
        let infinity = self.float_const(lanes.float, f64::INFINITY);
        let minus_infinity = self.float_const(lanes.float, f64::NEG_INFINITY);
        let nan = self.float_const(lanes.float, f64::NAN);
        let positive = self.b.ins().fcmp(FloatCC::GreaterThan, x, zero);
        let is_zero = self.b.ins().fcmp(FloatCC::Equal, x, zero);
        let is_infinite = self.b.ins().fcmp(FloatCC::Equal, x, infinity);
        let outside = self.choose(is_zero, minus_infinity, nan);
        let result = self.choose(is_infinite, x, result);
        self.choose(positive, result, outside)
    }

    /// The hyperbolic tangent.
    pub(super) fn tanh(&mut self, lanes: Lanes, x: Value) -> Value {
        let square = self.b.ins().fmul(x, x);
        let p = self.polynomial(lanes, &TANH_SMALL, square);
        let p = self.b.ins().fmul(p, square);
        let small = self.mul_add(p, x, x);
        // 1 - 2 / (exp(2 |x|) + 1)
        let magnitude = self.b.ins().fabs(x);
        let double = self.b.ins().fadd(magnitude, magnitude);
        let e = self.exp(lanes, double);
        let one = self.float_const(lanes.float, 1.0);
        let two = self.float_const(lanes.float, 2.0);
        let denominator = self.b.ins().fadd(e, one);
        let quotient = self.b.ins().fdiv(two, denominator);
        let large = self.b.ins().fsub(one, quotient);
        let large = self.copysign(lanes, large, x);
        let bound = self.float_const(lanes.float, 0.599_609_375);
        let is_large = self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, magnitude, bound);
        self.choose(is_large, large, small)
    }

    /// The error function.
    pub(super) fn erf(&mut self, lanes: Lanes, x: Value) -> Value {
        let square = self.b.ins().fmul(x, x);
        let p = self.polynomial(lanes, &ERF_SMALL, square);
        let small = self.mul_add(p, x, x);
        // 1 - exp(polynomial in |x|); past 4 the result is 1.
        let magnitude = self.b.ins().fabs(x);
        let four = self.float_const(lanes.float, 4.0);
        let beyond = self.b.ins().fcmp(FloatCC::GreaterThan, magnitude, four);
        let t = self.choose(beyond, four, magnitude);
        let p = self.polynomial(lanes, &ERF_LARGE, t);
        let minus_t = self.b.ins().fneg(t);
        let exponent = self.mul_add(p, t, minus_t);
        let e = self.exp(lanes, exponent);
        let one = self.float_const(lanes.float, 1.0);
        let large = self.b.ins().fsub(one, e);
        let large = self.copysign(lanes, large, x);
        let bound = self.float_const(lanes.float, 0.927_734_375);
        let is_large = self.b.ins().fcmp(FloatCC::GreaterThan, magnitude, bound);
        self.choose(is_large, large, small)
    }

    /// The logistic function: of `exp(-|x|)`, which cannot overflow.
    pub(super) fn sigmoid(&mut self, lanes: Lanes, x: Value) -> Value {
        let magnitude = self.b.ins().fabs(x);
        let minus = self.b.ins().fneg(magnitude);
        let e = self.exp(lanes, minus);
        let one = self.float_const(lanes.float, 1.0);
        let zero = self.float_const(lanes.float, 0.0);
        let negative = self.b.ins().fcmp(FloatCC::LessThan, x, zero);
        let numerator = self.choose(negative, e, one);
        let denominator = self.b.ins().fadd(one, e);
        let result = self.b.ins().fdiv(numerator, denominator);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
        self.choose(is_nan, x, result)
    }

    /// Lanes shifted left by a constant.
    pub(super) fn shl(&mut self, value: Value, amount: i64) -> Value {
        let amount = self.b.ins().iconst(I32, amount);
        self.b.ins().ishl(value, amount)
    }

    /// Lanes shifted right by a constant, filled with zeros.
    pub(super) fn ushr(&mut self, value: Value, amount: i64) -> Value {
        let amount = self.b.ins().iconst(I32, amount);
        self.b.ins().ushr(value, amount)
    }

    /// Lanes shifted right by a constant, filled with the sign.
    pub(super) fn sshr(&mut self, value: Value, amount: i64) -> Value {
        let amount = self.b.ins().iconst(I32, amount);
        self.b.ins().sshr(value, amount)
    }

    /// The bits that a constant has too, by lane.
    pub(super) fn and_const(&mut self, value: Value, mask: i64) -> Value {
        let ty = self.b.func.dfg.value_type(value);
        let mask = self.int_const(ty, mask);
        self.b.ins().band(value, mask)
    }

    /// Compares integer lanes with a constant.
    pub(super) fn icmp_const(&mut self, cc: IntCC, value: Value, constant: i64) -> Value {
        let ty = self.b.func.dfg.value_type(value);
        let constant = self.int_const(ty, constant);
        self.b.ins().icmp(cc, value, constant)
    }
}
