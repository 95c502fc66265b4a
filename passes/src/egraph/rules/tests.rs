//! Every rule fires on its example, for each dtype that has one, and both sides evaluate equally.

use fermata_ir::compare::compare;
use fermata_ir::eval::Value;
use fermata_ir::expr::Module;
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::super::convert::{export, import};
use super::super::extract::alternatives;
use super::super::facts::{Graph, Knowledge};
use super::super::saturate::{Limits, saturate};
use super::super::tests::{ALL_KINDS, FINITE, body, evaluate, inputs, parse, random_inputs};
use super::{Rule, all, compile_rule};
use crate::pass::FloatClass;
use crate::relay::elements::scalars;

/// A program for each rule; `T` stands for a dtype, `S` for the suffix of its literals.
#[rustfmt::skip]
const EXAMPLES: &[(&str, &str)] = &[
    ("add-commutes",      "add(%x, %y)"),
    ("mul-commutes",      "multiply(%x, %y)"),
    ("add-nothing",       "add(%x, negative(0S))"),
    ("add-zero",          "add(%x, 0S)"),
    ("mul-one",           "multiply(%x, 1S)"),
    ("div-one",           "divide(%x, 1S)"),
    ("power-one",         "power(%x, 1S)"),
    ("power-two",         "power(%x, 2S)"),
    ("power-half",        "power(%x, divide(1S, 2S))"),
    ("negate-twice",      "negative(negative(%x))"),
    ("subtract-negative", "subtract(%x, negative(%y))"),
    ("add-negative",      "add(%x, negative(%y))"),
    ("subtract-constant", "subtract(%x, 3S)"),
    ("join-sums",         "add(add(%x, 3S), 4S)"),
    ("join-products",     "multiply(multiply(%x, 3S), 5S)"),
    ("join-quotient",     "divide(multiply(%x, 3S), 4S)"),
    ("lift-sum",          "add(add(%x, 3S), %y)"),
    ("scale-of-sum",      "multiply(add(%x, 3S), 2S)"),
    ("factor",            "add(multiply(%x, %z), multiply(%y, %z))"),
    ("factor-quotient",   "add(divide(%x, %z), divide(%y, %z))"),
    ("relu-twice",        "nn.relu(nn.relu(%x))"),
    ("abs-twice",         "abs(abs(%x))"),
    ("abs-of-negative",   "abs(negative(%x))"),
    ("not-twice",         "logical_not(logical_not(%x))"),
    ("max-with-itself",   "maximum(%x, %x)"),
    ("min-with-itself",   "minimum(%x, %x)"),
    ("transpose-twice",   "transpose(transpose(%x, axes=[1, 0]), axes=[0, 1])"),
    ("transpose-nothing", "transpose(%x, axes=[0, 1])"),
    ("reshape-twice",     "reshape(reshape(%x, newshape=[6]), newshape=[3, 2])"),
    ("reshape-nothing",   "reshape(%x, newshape=[2, -1])"),
    ("transpose-relu",    "nn.relu(transpose(%x))"),
    ("transpose-sigmoid", "sigmoid(transpose(%x))"),
    ("transpose-clip",    "clip(transpose(%x), a_min=0f64, a_max=1f64)"),
    ("transpose-add",     "add(transpose(%x), transpose(%y))"),
    ("transpose-multiply","multiply(transpose(%x), transpose(%y))"),
    ("reshape-relu",      "nn.relu(reshape(%x, newshape=[6]))"),
    ("reshape-sigmoid",   "sigmoid(reshape(%x, newshape=[6]))"),
    ("layer-norm",        LAYER_NORM),
    ("layer-norm-rsqrt",  LAYER_NORM_RSQRT),
    ("rms-norm",          RMS_NORM),
    ("rms-norm-rsqrt",    RMS_NORM_RSQRT),
    ("join-difference",   "add(subtract(3S, %x), 4S)"),
    ("divide-constant",   "divide(%x, 3S)"),
    ("lift-product",      "multiply(multiply(%x, 3S), %y)"),
    ("lift-difference",   "subtract(%x, add(%y, 3S))"),
    ("power-three",       "power(%x, 3S)"),
    ("factor-one",        "add(%x, multiply(%x, %y))"),
    ("max-constants",     "maximum(maximum(%x, 3S), 2S)"),
    ("min-constants",     "minimum(minimum(%x, 3S), 0S)"),
    ("rsqrt",             "divide(%x, sqrt(add(multiply(%y, %y), 1S)))"),
    ("binomial",          "add(add(multiply(%x, %x), multiply(multiply(%x, %y), 2S)), multiply(%y, %y))"),
    ("binomial-last",     "add(add(multiply(%x, %x), multiply(%y, %y)), multiply(multiply(%x, %y), 2S))"),
    ("gelu",              "{ %0 = multiply(erf(multiply(%x, cast(0.70710678f, dtype=\"T\"))), divide(1S, 2S)); multiply(%x, add(%0, divide(1S, 2S))) }"),
    ("half-tanh",         "multiply(add(tanh(%x), 1S), divide(1S, 2S))"),
    ("gelu-tanh",         "multiply(multiply(%x, add(tanh(%y), 1S)), divide(1S, 2S))"),
    ("factor-cube",       "add(%x, multiply(multiply(%x, multiply(%x, %x)), 3S))"),
    ("sigmoid",           "divide(1S, add(1S, exp(negative(%x))))"),
    ("softmax",           "{ %0 = exp(subtract(%x, max(%x, axis=[-1], keepdims=True))); divide(%0, sum(%0, axis=[-1], keepdims=True)) }"),
    ("scale-of-scores",   "multiply(nn.batch_matmul(reshape(nn.dense(%x, broadcast_to(2S, shape=[3, 3]), units=None), newshape=[1, 2, 3]), reshape(%y, newshape=[1, 3, 2])), 3S)"),
    ("scale-of-matmul",   "multiply(nn.matmul(%x, broadcast_to(2S, shape=[3, 4]), units=None), 3S)"),
    ("merge-by-columns",  "{ %0 = nn.matmul(%x, broadcast_to(2S, shape=[3, 4]), units=None); (%0, nn.matmul(%x, const(Tensor[(3, 2), float32], [1, 2, 3, 4, 5, 6]), units=None)).1 }"),
    ("scale-of-transpose","multiply(transpose(%x), 3S)"),
    ("scale-of-reshape",  "multiply(reshape(%x, newshape=[6]), 3S)"),
    ("scale-of-bias",     "multiply(nn.bias_add(%x, broadcast_to(2S, shape=[3]), axis=-1), 3S)"),
    ("scale-of-dense",    "multiply(nn.dense(%x, broadcast_to(2S, shape=[4, 3]), units=None), 3S)"),
    ("keys-as-they-lie",  "nn.batch_matmul(reshape(%x, newshape=[1, 2, 3]), transpose(reshape(%y, newshape=[1, 2, 3]), axes=[0, 2, 1]))"),
    ("rows-as-they-lie",  "nn.batch_matmul(transpose(reshape(%x, newshape=[1, 2, 3]), axes=[0, 2, 1]), reshape(%y, newshape=[1, 2, 3]))"),
    ("argmax-of-dequantized",  "cast(argmax(qnn.dequantize(%x, 0.3f, 2, out_dtype=\"float32\"), axis=[1]), dtype=\"T\")"),
    ("argmin-of-dequantized",  "cast(argmin(qnn.dequantize(%x, 0.3f, 2, out_dtype=\"float32\"), axis=[1]), dtype=\"T\")"),
    ("argsort-of-dequantized", "cast(argsort(qnn.dequantize(%x, 0.3f, 2, out_dtype=\"float32\")), dtype=\"T\")"),
    ("merge-products",    "{ %0 = nn.dense(%x, broadcast_to(2S, shape=[4, 3]), units=None); multiply(%0, nn.dense(%x, broadcast_to(3S, shape=[4, 3]), units=None)) }"),
    ("merge-sums",        MERGE_SUMS),
];

const MERGE_SUMS: &str = "
    %0 = add(strided_slice(%x, begin=[0], end=[1], slice_mode=\"size\", axes=[1]), broadcast_to(2S, shape=[1]));
    %1 = add(strided_slice(%x, begin=[1], end=[2], slice_mode=\"size\", axes=[1]), broadcast_to(3S, shape=[2]));
    multiply(%0, %1)";

const LAYER_NORM_RSQRT: &str = "
    %0 = subtract(%x, mean(%x, axis=[-1], keepdims=True));
    %1 = mean(multiply(%0, %0), axis=[-1], keepdims=True);
    %2 = multiply(%0, rsqrt(add(%1, cast(0.001f, dtype=\"T\"))));
    add(multiply(%2, cast(full(2f, shape=[3], dtype=\"float32\"), dtype=\"T\")), cast(full(1f, shape=[3], dtype=\"float32\"), dtype=\"T\"))";

const RMS_NORM: &str = "
    %0 = mean(multiply(%x, %x), axis=[-1], keepdims=True);
    %1 = divide(%x, sqrt(add(%0, cast(0.001f, dtype=\"T\"))));
    multiply(%1, broadcast_to(3S, shape=[3]))";

const RMS_NORM_RSQRT: &str = "
    %0 = mean(multiply(%x, %x), axis=[-1], keepdims=True);
    %1 = multiply(%x, rsqrt(add(%0, cast(0.001f, dtype=\"T\"))));
    multiply(%1, broadcast_to(3S, shape=[3]))";

const LAYER_NORM: &str = "
    %0 = subtract(%x, mean(%x, axis=[-1], keepdims=True));
    %1 = mean(multiply(%0, %0), axis=[-1], keepdims=True);
    %2 = divide(%0, sqrt(add(%1, cast(0.001f, dtype=\"T\"))));
    add(multiply(%2, cast(full(2f, shape=[3], dtype=\"float32\"), dtype=\"T\")), cast(full(1f, shape=[3], dtype=\"float32\"), dtype=\"T\"))";

/// The suffix of a dtype's literals.
fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f",
        DType::F64 => "f64",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::U8 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
        DType::Bool => "",
    }
}

fn program(expression: &str, dtype: DType) -> String {
    let params: Vec<String> = ["x", "y", "z"].iter().map(|n| format!("%{n}: Tensor[(2, 3), T]")).collect();
    let expression = numbers(expression, suffix(dtype));
    format!("def @main({}) {{ {expression} }}", params.join(", "))
        .replace("T]", &format!("{dtype}]"))
        .replace("\"T\"", &format!("\"{dtype}\""))
}

/// The expression with `S` behind digits replaced.
fn numbers(expression: &str, suffix: &str) -> String {
    (0..10).fold(expression.to_string(), |text, digit| {
        text.replace(&format!("{digit}S"), &format!("{digit}{suffix}"))
    })
}

/// Whether two tensors have the same bits, whatever the sign and payload of a NaN.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let same = |(x, y): (Scalar, Scalar)| x == y || (x.as_f64().is_nan() && y.as_f64().is_nan());
    scalars(a).zip(scalars(b)).all(same)
}

/// A program for which a rule fires, and what it gives for some inputs.
struct Round {
    args: Vec<Value>,
    expected: Tensor,
}

/// Inputs with their results: numbers that show every difference, and random ones.
fn rounds(module: &Module, rule: &Rule, dtype: DType) -> Vec<Round> {
    let numbers = if rule.float == FloatClass::Exact { ALL_KINDS } else { FINITE };
    // Where terms cancel, what is approximate is far off.
    let positive = rule.float == FloatClass::Approximate;
    let random = (1..8).map(|seed| random_inputs(module, dtype, seed, positive));
    let all = std::iter::once(inputs(module, dtype, numbers)).chain(random);
    all.map(|args| Round { expected: evaluate(module, &args), args }).collect()
}

/// How many alternatives a rule gave that agree with its example.
fn check(rule: &'static Rule, example: &str, dtype: DType) -> usize {
    let Ok(mut module) = parse(&program(example, dtype)) else { return 0 };
    let rounds = rounds(&module, rule, dtype);
    let mut saturated = import(&module, body(&module), Graph::new(Knowledge::default()));
    let limits = Limits { iterations: 1, nodes: 1000 };
    let rules = [compile_rule(rule, FloatClass::Approximate)];
    let (graph, _) = saturate(saturated.graph, &rules, limits);
    saturated.graph = graph;
    if !saturated.graph.analysis.fired.contains_key(rule.name) {
        return 0;
    }
    let programs = alternatives(&saturated);
    for chosen in &programs {
        let root = export(&mut module, &saturated, chosen);
        let main = module.global("main").expect("the program has it");
        module.globals[main].func.as_mut().expect("a live function").body = root;
        for Round { args, expected } in &rounds {
            let actual = evaluate(&module, args);
            let comparison = compare(&actual, expected);
            assert!(comparison.matches(), "{} on {dtype}: {comparison}", rule.name);
            let exact = rule.float == FloatClass::Exact || !dtype.is_float();
            assert!(!exact || same_bits(&actual, expected), "{} on {dtype} is not exact", rule.name);
        }
    }
    programs.len()
}

#[test]
fn both_sides_of_every_rule_are_equal_on_every_dtype() {
    for rule in all() {
        let (_, example) =
            EXAMPLES.iter().find(|(name, _)| *name == rule.name).expect("every rule has an example");
        let fired: usize = DType::ALL.iter().map(|&dtype| check(rule, example, dtype)).sum();
        assert!(fired > 0, "{} never fires on its example", rule.name);
    }
    assert_eq!(EXAMPLES.len(), all().count(), "an example names no rule");
}
