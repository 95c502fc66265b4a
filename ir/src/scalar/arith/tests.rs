//! Numbers that numpy, `math.erf` and arithmetic by hand give.

use half::{bf16, f16};

use super::*;

fn bin<T: Arith>(op: BinaryOp, a: T, b: T) -> T {
    let through_scalar: T = binary(op, Scalar::of(a), Scalar::of(b)).get().expect("keeps the dtype");
    let direct = binary_fn::<T>(op)(a, b);
    assert_eq!(bytemuck::bytes_of(&direct), bytemuck::bytes_of(&through_scalar));
    direct
}

fn un<T: Arith>(op: UnaryOp, a: T) -> T {
    unary(op, Scalar::of(a)).get().expect("keeps the dtype")
}

#[test]
fn integer_division_is_total() {
    use BinaryOp::*;
    for (a, b, div, floor_div, rem, floor_mod) in [
        (7i8, 2i8, 3, 3, 1, 1),
        (-7, 2, -3, -4, -1, 1),
        (7, -2, -3, -4, 1, -1),
        (-7, -2, 3, 3, -1, -1),
        (5, 0, 0, 0, 0, 0),
        (i8::MIN, -1, i8::MIN, i8::MIN, 0, 0),
        (i8::MIN, 1, i8::MIN, i8::MIN, 0, 0),
        (i8::MIN, i8::MAX, -1, -2, -1, 126),
    ] {
        assert_eq!(bin(Div, a, b), div, "{a} / {b}");
        assert_eq!(bin(FloorDiv, a, b), floor_div, "{a} // {b}");
        assert_eq!(bin(Mod, a, b), rem, "{a} rem {b}");
        assert_eq!(bin(FloorMod, a, b), floor_mod, "{a} mod {b}");
    }
    assert_eq!(bin(Div, 200u8, 7), 28);
    assert_eq!(bin(FloorMod, 200u8, 7), 4);
    assert_eq!(bin(Div, 200u8, 0), 0);
    assert_eq!(bin(Div, i64::MIN, -1), i64::MIN);
}

#[test]
fn integers_wrap() {
    assert_eq!(bin(BinaryOp::Add, 127i8, 1), -128);
    assert_eq!(bin(BinaryOp::Sub, 0u16, 1), 65535);
    assert_eq!(bin(BinaryOp::Mul, i64::MAX, 2), -2);
    assert_eq!(un(UnaryOp::Neg, i32::MIN), i32::MIN);
    assert_eq!(un(UnaryOp::Abs, i32::MIN), i32::MIN);
    assert_eq!(un(UnaryOp::Neg, 1u8), 255);
    assert_eq!(un(UnaryOp::Abs, 200u8), 200);
    assert_eq!(un(UnaryOp::Sign, 200u8), 1);
    assert_eq!(un(UnaryOp::Sign, -5i64), -1);
    assert_eq!(un(UnaryOp::Not, 0i8), -1);
}

#[test]
fn shifts_are_total() {
    use BinaryOp::{Shl, Shr};
    assert_eq!(bin(Shl, 1i8, 7), -128);
    assert_eq!(bin(Shl, 1i8, 8), 0);
    assert_eq!(bin(Shl, 1i32, -1), 0);
    assert_eq!(bin(Shr, -8i32, 1), -4);
    assert_eq!(bin(Shr, -8i32, 40), -1);
    assert_eq!(bin(Shr, -8i32, -1), -1);
    assert_eq!(bin(Shr, 8i32, 40), 0);
    assert_eq!(bin(Shr, 0x80u8, 7), 1);
    assert_eq!(bin(Shr, 0x80u8, 255), 0);
    assert_eq!(bin(Shl, 1u64, u64::MAX), 0);
}

#[test]
fn integer_powers() {
    use BinaryOp::Pow;
    assert_eq!(bin(Pow, 3i32, 4), 81);
    assert_eq!(bin(Pow, -2i8, 7), -128);
    assert_eq!(bin(Pow, 2i8, 7), -128);
    assert_eq!(bin(Pow, 0i32, 0), 1);
    assert_eq!(bin(Pow, 0i32, -1), 0);
    assert_eq!(bin(Pow, 2i32, -1), 0);
    assert_eq!(bin(Pow, -1i32, -3), -1);
    assert_eq!(bin(Pow, -1i32, -4), 1);
    assert_eq!(bin(Pow, 3u64, 41), 3u64.wrapping_pow(41));
    assert_eq!(bin(Pow, 1u8, 255), 1);
}

#[test]
fn minimum_and_maximum_propagate_nan_and_order_zeros() {
    use BinaryOp::{Max, Min};
    for op in [Min, Max] {
        assert!(bin(op, f32::NAN, 1.0).is_nan());
        assert!(bin(op, 1.0, f64::NAN).is_nan());
        assert!(bin(op, f16::NAN, f16::ONE).is_nan());
    }
    for (a, b) in [(0.0f32, -0.0), (-0.0, 0.0)] {
        assert!(bin(Min, a, b).is_sign_negative());
        assert!(bin(Max, a, b).is_sign_positive());
    }
    assert_eq!(bin(Min, f64::NEG_INFINITY, 3.0), f64::NEG_INFINITY);
}

#[test]
fn float_remainders() {
    use BinaryOp::{FloorDiv, FloorMod, Mod};
    assert_eq!(bin(Mod, -7.5f64, 2.0), -1.5);
    assert_eq!(bin(FloorMod, -7.5f64, 2.0), 0.5);
    assert_eq!(bin(FloorMod, 7.5f32, -2.0), -0.5);
    assert!(bin(FloorMod, 4.0f32, -2.0).is_sign_negative());
    assert_eq!(bin(FloorMod, -1.0f64, f64::INFINITY), f64::INFINITY);
    assert!(bin(FloorMod, 1.0f64, 0.0).is_nan());
    assert_eq!(bin(FloorDiv, -7.0f32, 2.0), -4.0);
    assert_eq!(bin(FloorDiv, 1.0f32, 0.0), f32::INFINITY);
}

#[test]
fn rounding_is_half_to_even_and_sign_keeps_nan() {
    for (x, round) in [(0.5f32, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-2.5, -2.0), (0.49999997, 0.0)] {
        assert_eq!(un(UnaryOp::Round, x).to_bits(), f32::to_bits(round), "{x}");
    }
    assert!(un(UnaryOp::Sign, f32::NAN).is_nan());
    assert!(un(UnaryOp::Sign, -0.0f32).is_sign_positive());
    assert_eq!(un(UnaryOp::Sign, -3.0f64), -1.0);
    assert_eq!(un(UnaryOp::Sigmoid, -1000f32), 0.0);
    assert_eq!(un(UnaryOp::Sigmoid, 1000f32), 1.0);
    assert_eq!(un(UnaryOp::Rsqrt, f16_of(4.0)), f16_of(0.5));
}

#[test]
fn erf_is_accurate_to_the_last_places() {
    // From mpmath with 40 digits.
    for (x, expected) in [
        (0.0, 0.0),
        (1e-300, 1.1283791670955126e-300),
        (0.1, 0.1124629160182849),
        (0.5, 0.5204998778130465),
        (0.9999999, 0.842700751438961),
        (1.0, 0.8427007929497149),
        (1.5, 0.9661051464753108),
        (2.5, 0.999593047982555),
        (4.0, 0.9999999845827421),
        (5.5, 0.9999999999999927),
        (6.0, 1.0),
        (f64::INFINITY, 1.0),
    ] {
        for (x, expected) in [(x, expected), (-x, -expected)] {
            let found = un(UnaryOp::Erf, x);
            assert!((found - expected).abs() <= 2.0 * f64::EPSILON * expected.abs(), "erf({x}) = {found}");
        }
    }
    assert!(un(UnaryOp::Erf, f64::NAN).is_nan());
    assert_eq!(un(UnaryOp::Erf, 0.5f32), 0.5204999);
}

#[test]
fn predicates_give_bool() {
    for (op, expected) in [
        (UnaryOp::IsNan, [true, false, false]),
        (UnaryOp::IsInf, [false, true, false]),
        (UnaryOp::IsFinite, [false, false, true]),
    ] {
        for (x, want) in [f64::NAN, f64::NEG_INFINITY, 0.0].into_iter().zip(expected) {
            for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
                let got = unary(op, Scalar::from_f64(dtype, x));
                assert_eq!(got, Scalar::of(Bool8::from(want)), "{op:?} {x} {dtype}");
            }
        }
    }
    assert_eq!(unary(UnaryOp::IsFinite, Scalar::of(3i8)), Scalar::of(Bool8(1)));
}

#[test]
fn comparisons_with_nan_are_false_except_ne() {
    for op in [CmpOp::Eq, CmpOp::Ne, CmpOp::Lt, CmpOp::Le, CmpOp::Gt, CmpOp::Ge] {
        let got = compare(op, Scalar::of(f32::NAN), Scalar::of(f32::NAN));
        assert_eq!(got, Scalar::of(Bool8::from(op == CmpOp::Ne)));
    }
    assert_eq!(compare(CmpOp::Lt, Scalar::of(u64::MAX), Scalar::of(0u64)), Scalar::of(Bool8(0)));
    assert!(compare_fn::<Bool8>(CmpOp::Eq)(Bool8(1), Bool8(7)), "every true is one truth");
}

#[test]
fn bools_are_logical() {
    use BinaryOp::*;
    let table = |op| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| bin(op, Bool8(a), Bool8(b)).0);
    assert_eq!(table(Add), [0, 1, 1, 1]);
    assert_eq!(table(Mul), [0, 0, 0, 1]);
    assert_eq!(table(Sub), [0, 1, 1, 0]);
    assert_eq!(table(And), [0, 0, 0, 1]);
    assert_eq!(table(Xor), [0, 1, 1, 0]);
    assert_eq!(bin(And, Bool8(1), Bool8(2)), Bool8(1));
    assert_eq!(un(UnaryOp::Not, Bool8(5)), Bool8(0));
}

#[test]
fn conversions_round_once_and_saturate() {
    fn to<U: Arith>(a: impl Arith) -> U {
        cast(Scalar::of(a), U::DTYPE).get().expect("the dtype asked for")
    }
    assert_eq!(to::<i8>(300.7f32), 127);
    assert_eq!(to::<u8>(-1.5f64), 0);
    assert_eq!(to::<i32>(f32::NAN), 0);
    assert_eq!(to::<i32>(-2.9f64), -2);
    assert_eq!(to::<i64>(f16_of(-3.5)), -3);
    assert_eq!(to::<u64>(f64::INFINITY), u64::MAX);
    assert_eq!(to::<u8>(-1i32), 255);
    assert_eq!(to::<i8>(200u64), -56);
    assert_eq!(to::<Bool8>(f32::NAN), Bool8(1));
    assert_eq!(to::<Bool8>(0.0f32), Bool8(0));
    assert_eq!(to::<f32>(Bool8(3)), 1.0);
    assert_eq!(to::<f32>(u64::MAX), 18446744073709551616.0);
    // 2^24 + 1 and a little: a detour through f64 would lose the little and tie to even.
    assert_eq!(to::<f32>((1i64 << 60) + (1 << 36) + 1), ((1i64 << 60) + (1 << 37)) as f32);
    // Just above a tie of f16, in bits that f32 does not have.
    assert_eq!(to::<f16>(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), f16_of(1.0 + 2f64.powi(-10)));
    assert_eq!(to::<f16>(1.0 + 2f64.powi(-11)), f16::ONE);
    assert_eq!(to::<f16>(-(1.0 + 2f64.powi(-11) + 2f64.powi(-40))), f16_of(-(1.0 + 2f64.powi(-10))));
    assert_eq!(to::<f16>(65519.999), f16::MAX);
    assert_eq!(to::<f16>(65520.0f64), f16::INFINITY);
    assert_eq!(to::<f16>(1e300), f16::INFINITY);
    assert_eq!(to::<f16>(2f64.powi(-25) * 1.0000000001), f16::from_bits(1));
    assert_eq!(to::<bf16>((1i64 << 62) + (1 << 54) + 1), bf16::from_f32(2f32.powi(62) + 2f32.powi(55)));
    assert_eq!(to::<bf16>(-(1i64 << 62) - (1 << 54) - 1), -bf16::from_f32(2f32.powi(62) + 2f32.powi(55)));
    assert!(to::<bf16>(f64::NAN).is_nan());
}

#[test]
fn small_floats_compute_in_f32_and_round_once() {
    assert_eq!(bin(BinaryOp::Add, f16_of(2048.0), f16::ONE), f16_of(2048.0));
    assert_eq!(bin(BinaryOp::Mul, f16_of(300.0), f16_of(300.0)), f16::INFINITY);
    assert_eq!(bin(BinaryOp::Div, bf16::ONE, bf16::from_f32(3.0)), bf16::from_f32(1.0 / 3.0));
}

fn f16_of(x: f64) -> f16 {
    f16::from_f64(x)
}
