//! Printing what was read, and reading what is wrong.

use super::*;
use crate::diag::Diagnostics;
use crate::tir::equal::equal;
use crate::tir::print::print_all;
use crate::tir::verify::verify;

/// A text with every construct, as the printer writes it.
const EVERYTHING: &str = r#"# from tvm.script import tir as T

@T.prim_func
def main(A: T.Buffer((128, 128), "float32"), B: T.Buffer((128, 128), "float32"), C: T.Buffer((128, 128), "float32")):
    T.func_attr({"tir.noalias": T.bool(True), "n": [1, -2, T.float64(0.5)], "s": "a\"b\n", "d": T.dtype("int8"), "o": None})
    # with T.block("root"):
    D = T.alloc_buffer((128,), "int64")
    S = T.alloc_buffer(())
    for x, y, k in T.grid(128, 128, 128):
        with T.block("C"):
            v_x, v_y, v_k = T.axis.remap("SSR", [x, y, k])
            T.reads(A[v_x, v_k], B[v_y, v_k])
            T.writes(C[v_x, v_y])
            with T.init():
                C[v_x, v_y] = T.float32(0)
            C[v_x, v_y] = C[v_x, v_y] + A[v_x, v_k] * B[v_y, v_k]
    for x in range(4):
        for y in T.parallel(x + 1):
            with T.block("D"):
                v_x = T.axis.spatial(16, x * 4 + y)
                v_y = T.axis.scan(4, y)
                T.where(x * 4 + y < 10 and not y == 3)
                T.reads()
                T.writes(D[v_x:v_x + 4], S[()])
                T.block_attr({"kind": "row"})
                L = T.alloc_buffer((4,), "uint8", scope="local")
                n: T.int64 = T.min(v_x, 7) - (v_y - -3) // 2 % 5
                L[0] = T.Cast("uint8", n)
                D[v_x] = T.if_then_else(n < 3 or n >= 5, D[n], -n)
                if T.isnan(S[()]):
                    S[()] = T.fma(S[()], T.float32("nan"), T.float32(-1.5))
                else:
                    T.evaluate(0)

@T.prim_func
def kernel(X: T.Buffer((4, 8), "float32"), n: T.Buffer((1,), "int64"), Y: T.Buffer((2, 8, 2), "float32")):
    T.func_attr({"num_outputs": 2})
    # with T.block("root"):
    for t in T.tiles(2):
        T.checkpoint()
        T.tensor_intrin("pack_a_f32", Y[t, 0:8, 0:2], X[t * 2:t * 2 + 2, 0:8], 2, (n[0]), n[0] + 1)
        for i in T.thread_binding(4, thread="threadIdx.x"):
            for j in T.vectorized(4):
                for u in T.unroll(2):
                    Y[t, i * 2 + u, 1] = T.reinterpret("float32", T.shift_left(T.int32(-7), T.Cast("int32", j)))
"#;

fn diagnostic(text: &str) -> (String, String) {
    let Err(Diagnostics(found)) = parse("test", text) else { panic!("should not parse") };
    let at = match &found[0].span {
        Span::Text { range, .. } => text[range.clone()].to_string(),
        Span::None | Span::Node { .. } => String::new(),
    };
    (found[0].message.clone(), at)
}

#[test]
fn printing_what_was_read_gives_the_same_bytes() {
    let funcs = match parse("test", EVERYTHING) {
        Ok(funcs) => funcs,
        Err(Diagnostics(found)) => panic!("{found:?}"),
    };
    assert_eq!(print_all(&funcs), EVERYTHING);
    let again = parse("again", &print_all(&funcs)).expect("its own text");
    assert!(funcs.iter().zip(&again).all(|(a, b)| equal(a, b)));
    assert!(!equal(&funcs[0], &funcs[1]));
    assert_eq!((funcs[0].outputs, funcs[1].outputs), (1, 2));
    verify(&funcs[0]).expect("a valid function");
}

/// A function of one statement.
fn with(statement: &str) -> String {
    format!(
        "@T.prim_func\ndef f(A: T.Buffer((8,), \"float32\"), b: T.Buffer((8,), \"int64\")):\n    {statement}\n"
    )
}

#[test]
fn mistakes_are_located() {
    let cases = [
        ("A[0] = B[0]", "`B` is not defined here", "B"),
        ("A[0] = 1", "this is int64, but should be float32", "1"),
        ("A[0, 1] = T.float32(1)", "the buffer has 1 dimensions, but 2 indices", "A"),
        ("A[0] = A[0] + b[0]", "the operands are float32 and int64", "+"),
        ("A[0] = T.frobnicate(A[0])", "`T.frobnicate` is not known", "("),
        ("A[0] = 0.5", "a float names its dtype, as in `T.float32(0.5)`", "0.5"),
        ("b[0] = 99999999999999999999", "this integer does not fit `int64`", "99999999999999999999"),
        ("b[0] = T.Cast(\"int64\", T.int8(200))", "this integer does not fit `int8`", "200"),
        ("b[0] = 1 if 2 else 3", "expected the end of the line, found `if`", "if"),
        ("b[0] = (1 + 2", "a bracket is not closed", ""),
        ("b[0] = 1 < 2 < 3", "comparisons do not chain", "<"),
        ("for i in T.grid(2, 3):\n        b[i] = 1", "1 loop variables, but 2 extents", ":"),
        ("for i in range(3):\n    b[0] = 1", "expected an indented statement", "b"),
        ("b[0] = 1\n      b[1] = 2", "unexpected indentation", "b"),
        ("hello", "expected a statement, found `hello`", "hello"),
        ("b[0] = 1 $ 2", "this is no token of the script", "$"),
    ];
    for (statement, message, at) in cases {
        assert_eq!(diagnostic(&with(statement)), (message.to_string(), at.to_string()), "{statement}");
    }
    assert_eq!(diagnostic("").0, "there is no function in `test`");
    assert_eq!(diagnostic("@T.prim_func\n").0, "expected `def`");
    assert_eq!(diagnostic("@T.prim_func\ndef f():\n").0, "expected the body of the function");
}

#[test]
fn hostile_nesting_is_refused() {
    let deep = [
        format!("b[0] = {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("b[0] = {}b[0]", "-".repeat(100_000)),
        format!("b[0] = {}0{}", "b[".repeat(100_000), "]".repeat(100_000)),
        format!("b[0] = 1{}", " + 1".repeat(100_000)),
        format!("b[0] = {}", "1 + (".repeat(100_000)),
    ];
    for statement in deep {
        assert_eq!(diagnostic(&with(&statement)).0, "the expression nests too deeply");
    }
    let mut nested = String::new();
    for i in 0..1000 {
        nested.push_str(&format!("{}if 1 < 2:\n", " ".repeat(4 + i)));
    }
    nested.push_str(&format!("{}T.checkpoint()\n", " ".repeat(1004)));
    assert_eq!(diagnostic(&with(nested.trim_start())).0, "statements nest too deeply");
    assert_eq!(
        diagnostic("@T.prim_func\ndef f(A: T.Buffer((4294967296, 4294967296), \"float32\")):\n    A[0, 0] = A[0, 0]\n").0,
        "a tensor of shape [4294967296, 4294967296] is larger than 2^40 bytes"
    );
}

/// Cutting or changing any byte gives a function or a diagnostic.
#[test]
fn damaged_text_never_panics() {
    let mut state = 1u64;
    for i in 0..400 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let at = (state >> 33) as usize % EVERYTHING.len();
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        match i % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] = b"()[]:,.-0aT\n \"@"[(state >> 20) as usize % 15],
            _ => drop(bytes.drain(at..(at + 5).min(EVERYTHING.len()))),
        }
        let text = String::from_utf8(bytes).expect("ASCII stays ASCII");
        if let Ok(funcs) = parse("damaged", &text) {
            funcs.iter().for_each(|f| drop(verify(f)));
        }
    }
}
