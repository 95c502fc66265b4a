//! Functions of single-precision numbers in plain Rust, which compilers turn into vectors.
//!
//! They have no branches and round once in every multiply-add on every machine, so that a
//! vector of any width and a lone number give the same bits. Error bounds: `exp` 3 units in the
//! last place, as in generated code; `erf` 8, so `gelu` 5e-7 times its argument.

use std::f32::consts::FRAC_2_SQRT_PI;

use fermata_codegen::cpu::polynomial::{EXP, LN2_HIGH, LN2_LOW};

#[inline(always)]
fn polynomial<const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut sum = coefficients[0];
    for &c in &coefficients[1..] {
        sum = sum.mul_add(x, c);
    }
    sum
}

#[inline(always)]
fn power_of_two(n: u32) -> f32 {
    f32::from_bits(n.wrapping_add(127) << 23)
}

/// The exponential.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // Beyond these bounds the result is 0 or infinite all the same; NaN passes through.
    let clamped = if x < -105.0 { -105.0 } else { x };
    let clamped = if clamped > 89.0 { 89.0 } else { clamped };
    let scaled = clamped.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = scaled - MAGIC;
    let f = n.mul_add(-LN2_HIGH, clamped);
    let f = n.mul_add(-LN2_LOW, f);
    let r = polynomial(&EXP, f);
    // 2^n in two factors, so that neither leaves the normal range and a subnormal result rounds once.
    let n = scaled.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = n >> 1;
    let r = r * power_of_two(half as u32) * power_of_two(n.wrapping_sub(half) as u32);
    if x.is_nan() { x } else { r }
}

/// `erf(x) / x` as a quotient of polynomials in `x^2` on `|x| <= 3.9`, from the highest power.
const ERF_NUMERATOR: [f32; 6] =
    [2.066_671_5e-6, 2.850_495e-4, 3.737_569e-3, 5.266_567e-2, 1.896_480_3e-1, FRAC_2_SQRT_PI];
const ERF_DENOMINATOR: [f32; 6] =
    [3.827_143e-5, 1.157_197_5e-3, 1.491_270_6e-2, 1.138_112_6e-1, 5.014_04e-1, 1.0];

/// The error function: a quotient, since it is a fifth of the operations of [`exp`]'s way.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let square = x * x;
    let inner = x * polynomial(&ERF_NUMERATOR, square) / polynomial(&ERF_DENOMINATOR, square);
    if x.abs() > 3.9 { 1f32.copysign(x) } else { inner }
}

/// `x` times the share of a normal distribution below it.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    x * 0.5 * (erf(x * std::f32::consts::FRAC_1_SQRT_2) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many representable numbers lie between two.
    fn distance(a: f32, b: f32) -> u64 {
        let place =
            |v: f32| if v < 0.0 { -i64::from(v.to_bits() & 0x7fff_ffff) } else { i64::from(v.to_bits()) };
        place(a).abs_diff(place(b))
    }

    #[test]
    fn exponentials_are_within_three_units() {
        for bits in (0..u32::MAX).step_by(99_991) {
            let x = f32::from_bits(bits);
            let (found, exact) = (exp(x), f64::from(x).exp() as f32);
            let close = found.is_nan() && exact.is_nan() || distance(found, exact) <= 3;
            // Of a subnormal result too few bits are left.
            let tiny = exact.abs() < f32::MIN_POSITIVE && (found - exact).abs() <= f32::from_bits(3);
            assert!(close || tiny, "exp({x}) = {found}, not {exact}");
        }
    }

    #[test]
    fn error_functions_are_within_eight_units() {
        for bits in (0..u32::MAX).step_by(99_991) {
            let x = f32::from_bits(bits);
            let exact = fermata_ir::scalar::Unary::erf(f64::from(x)) as f32;
            let found = erf(x);
            assert!(found.is_nan() && exact.is_nan() || distance(found, exact) <= 8, "erf({x}) = {found}");
        }
    }

    #[test]
    fn gelu_is_within_its_bound() {
        for bits in (0..0x4300_0000).step_by(19_997) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let wide = f64::from(x);
                let exact = wide / 2.0
                    * (fermata_ir::scalar::Unary::erf(wide * std::f64::consts::FRAC_1_SQRT_2) + 1.0);
                assert!(
                    (f64::from(gelu(x)) - exact).abs() <= 5e-7 * wide.abs() + 1e-45,
                    "gelu({x}) = {}",
                    gelu(x)
                );
            }
        }
    }

    #[test]
    fn gelu_has_its_limits() {
        assert_eq!(gelu(0.0).to_bits(), 0);
        assert_eq!((gelu(20.0), gelu(-20.0)), (20.0, 0.0));
        assert!(gelu(f32::NAN).is_nan());
        assert!((gelu(1.0) - 0.841_344_8).abs() < 1e-6);
    }
}
