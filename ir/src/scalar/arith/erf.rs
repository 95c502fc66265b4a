//! The error function.
//!
//! Below 1 it is its Maclaurin series. From there on it is `1 - exp(-x^2) * w(x)`, where `w`,
//! the scaled complement, is smooth enough for one polynomial in `1 / (x + 3)`; the one used
//! here is its Chebyshev interpolant of degree 15 on [1, 6], whose error is below 1e-17.

use std::f64::consts::FRAC_2_SQRT_PI;

/// Past this, the complement is less than half a unit in the last place of 1.
const SATURATED: f64 = 6.0;

/// `(-1)^n / (n! (2n + 1))`; the first term left out is below 1e-17.
const SERIES: [f64; 18] = series();

const fn series() -> [f64; 18] {
    let mut terms = [0.0; 18];
    let mut factorial = 1.0;
    let mut n = 0;
    while n < terms.len() {
        if n > 0 {
            factorial *= -(n as f64);
        }
        terms[n] = 1.0 / (factorial * (2 * n + 1) as f64);
        n += 1;
    }
    terms
}

/// Coefficients of the scaled complement in `14.4 / (x + 3) - 2.6`, which is in [-1, 1].
const SCALED_COMPLEMENT: [f64; 16] = [
    0.20798329133342885,
    0.15436117429436919,
    0.04969844540339414,
    0.012713147695691918,
    0.002479314697086253,
    0.0003316029605792838,
    1.956358319778174e-5,
    -2.425557485042923e-6,
    -5.54127309801664e-7,
    4.5267318133461335e-9,
    1.133933573114706e-8,
    2.637756022974126e-10,
    -2.5700407551346905e-10,
    -6.02173256030324e-12,
    6.043792147788813e-12,
    -6.697645564790815e-15,
];

/// `c[0] + c[1] x + c[2] x^2 + ..`
fn polynomial(c: &[f64], x: f64) -> f64 {
    c.iter().rev().fold(0.0, |acc, &c| acc * x + c)
}

/// `2 / sqrt(pi)` times the integral of `exp(-t^2)` from 0 to `x`.
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 1.0 {
        return FRAC_2_SQRT_PI * x * polynomial(&SERIES, x * x);
    }
    if x.is_nan() || a >= SATURATED {
        return if x.is_nan() { x } else { 1f64.copysign(x) };
    }
    let w = polynomial(&SCALED_COMPLEMENT, 14.4 / (a + 3.0) - 2.6);
    (1.0 - (-a * a).exp() * w).copysign(x)
}
