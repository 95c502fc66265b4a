//! Tests of the cost model: what is larger costs more, and what depends on nothing stays.

use fermata_ir::tir::parse::parse;

use super::*;

fn func(text: &str) -> PrimFunc {
    parse("test.tir", text).expect("it parses").pop().expect("a function")
}

/// `y = f(x)` over rows of 256, so many rows a tile.
fn rows(rows: usize, value: &str) -> f64 {
    let text = format!(
        "@T.prim_func\n\
         def f(x: T.Buffer((1024, 256), \"float32\"), y: T.Buffer((1024, 256), \"float32\")):\n    \
             for t in T.tiles({}):\n        \
                 for r in range({rows}):\n            \
                     for j in T.vectorized(256):\n                \
                         y[t * {rows} + r, j] = {value}\n",
        1024 / rows
    );
    tile(&func(&text), &CpuTarget::default()).ns
}

#[test]
fn more_rows_and_costlier_functions_cost_more() {
    let (x, exp) = ("x[t * 4 + r, j]", "T.exp(x[t * 4 + r, j])");
    assert!(rows(4, exp) > 2.0 * rows(4, x), "{} {}", rows(4, exp), rows(4, x));
    let [one, four] = [1, 4].map(|n| rows(n, &format!("T.exp(x[t * {n} + r, j])")));
    assert!((3.0..4.5).contains(&(four / one)), "{four} {one}");
}

#[test]
fn what_a_loop_does_not_change_is_counted_once() {
    let inside = rows(4, "x[t * 4 + r, j] * T.exp(T.Cast(\"float32\", j))");
    let outside = rows(4, "x[t * 4 + r, j] * T.exp(T.Cast(\"float32\", t))");
    assert!(inside > 3.0 * outside, "{inside} {outside}");
}

#[test]
fn wider_machines_are_faster() {
    let features = |avx2, avx512| crate::target::CpuFeatures { avx2, avx512, ..Default::default() };
    let time = |features| {
        let target = CpuTarget { features, ..CpuTarget::default() };
        intrin::cycles("gemm_f32", &[128, 96, 384, 48], &target.peaks()) / target.peaks().clock
    };
    let [portable, avx2, avx512] =
        [time(features(false, false)), time(features(true, false)), time(features(true, true))];
    assert!(portable > avx2 && avx2 > avx512, "{portable} {avx2} {avx512}");
}
