//! The polynomials of functions of single-precision numbers: minimax fits on reduced ranges.
//!
//! Generated code and micro-kernels compute with the same ones.

/// `exp(f)` on `|f| <= ln(2) / 2`, from the highest power.
pub const EXP: [f32; 7] =
    [1.378_059_4e-3, 8.373_124_5e-3, 4.166_953_6e-2, 1.666_647_2e-1, 4.999_998_5e-1, 1.0, 1.0];

/// ln(2) in two parts, the first with few enough bits that its multiples are exact.
pub const LN2_HIGH: f32 = 6.931_457_5e-1;
/// The rest of ln(2).
pub const LN2_LOW: f32 = 1.428_606_8e-6;

/// `(log(1 + m) - m) / m^2` on `2/3 <= 1 + m < 4/3`, from the highest power.
pub const LOG: [f32; 9] = [
    -1.303_100_6e-1,
    1.408_691_4e-1,
    -1.214_835_1e-1,
    1.398_148_5e-1,
    -1.668_461_3e-1,
    2.001_203_4e-1,
    -2.499_962e-1,
    3.333_319_7e-1,
    -0.5,
];

/// `erf(x) / x - 1` in `x^2` on `|x| <= 0.93`, from the highest power.
pub const ERF_SMALL: [f32; 6] =
    [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1];

/// `log(1 - erf(t)) + t` in `t` beyond, from the highest power, without the constant.
pub const ERF_LARGE: [f32; 7] = [
    -1.728_534_7e-5,
    3.831_979_7e-4,
    -3.883_964_4e-3,
    2.425_462_2e-2,
    -1.067_777_9e-1,
    -6.348_468_7e-1,
    -1.287_175_1e-1,
];

/// `tanh(x) / x - 1` over `x^2` on `|x| < 0.6`, from the highest power.
pub const TANH_SMALL: [f32; 4] = [1.573_944e-2, -5.230_255_8e-2, 1.331_524_7e-1, -3.333_276_8e-1];
