//! Every rule fires on its example, for each dtype that has one, and both sides evaluate equally.

use fermata_ir::compare::compare;
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::super::convert::{export, import};
use super::super::extract::alternatives;
use super::super::facts::{Graph, Knowledge};
use super::super::saturate::{Limits, saturate};
use super::super::tests::{ALL_KINDS, FINITE, body, evaluate, inputs, parse};
use super::{all, compile_rule};
use crate::pass::FloatClass;

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
];

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
    let scalars = |t: &Tensor| {
        let element = |bytes: &[u8]| {
            let mut bits = [0u8; 8];
            bits[..bytes.len()].copy_from_slice(bytes);
            Scalar::from_bits(t.dtype(), u64::from_le_bytes(bits))
        };
        t.bytes().chunks(t.dtype().bytes()).map(element).collect::<Vec<_>>()
    };
    let same = |(x, y): (&Scalar, &Scalar)| x == y || (x.as_f64().is_nan() && y.as_f64().is_nan());
    scalars(a).iter().zip(&scalars(b)).all(same)
}

/// How many alternatives a rule gave that agree with its example.
fn check(rule: &'static super::Rule, example: &str, dtype: DType) -> usize {
    let Ok(mut module) = parse(&program(example, dtype)) else { return 0 };
    let numbers = if rule.float == FloatClass::Exact { ALL_KINDS } else { FINITE };
    let args = inputs(&module, dtype, numbers);
    let expected = evaluate(&module, &args);
    let imported = import(&module, body(&module), Graph::new(Knowledge::default()));
    let limits = Limits { iterations: 1, nodes: 1000 };
    let mut saturated = imported;
    let (graph, _) = saturate(saturated.graph, &[compile_rule(rule, true)], limits);
    saturated.graph = graph;
    if !saturated.graph.analysis.fired.contains_key(rule.name) {
        return 0;
    }
    let programs = alternatives(&saturated);
    for chosen in &programs {
        let root = export(&mut module, &saturated, chosen);
        let main = module.global("main").expect("the program has it");
        module.globals[main].func.as_mut().expect("a live function").body = root;
        let actual = evaluate(&module, &args);
        let comparison = compare(&actual, &expected);
        assert!(comparison.matches(), "{} on {dtype}: {comparison}", rule.name);
        let exact = rule.float == FloatClass::Exact || !dtype.is_float();
        assert!(!exact || same_bits(&actual, &expected), "{} on {dtype} is not exact", rule.name);
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
