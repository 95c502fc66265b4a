//! The pass as a whole: it finds what it should, is never costlier, and is deterministic.

use fermata_ir::compare::compare;
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, PrintOptions, parse_module, print_module};
use fermata_ir::types::DType;
use fermata_ir::walk;

mod limits;
mod recognition;

use super::convert::import;
use super::extract::extract;
use super::facts::{Graph, Knowledge};
use super::rules;
use super::saturate::{Limits, saturate};
use crate::pass::{FloatClass, Outcome, PassContext};
use crate::pipeline::Step;

/// Parses a program and infers its types.
pub fn parse(text: &str) -> Result<Module, String> {
    let ops = OpTable::standard();
    let text = format!("#[version = \"0.0.5\"]\n{text}");
    let mut module =
        parse_module("test.relay", &text, &ParseOptions::new(&ops)).map_err(|d| format!("{:?}", d.0))?;
    infer_module(&mut module).map_err(|d| format!("{:?}", d.0))?;
    Ok(module)
}

/// The body of `@main`.
pub fn body(module: &Module) -> ExprId {
    let main = module.global("main").expect("the program has it");
    module.globals[main].func.as_ref().expect("a live function").body
}

/// Numbers that show every difference: both zeros, NaN and infinity.
pub const ALL_KINDS: [f64; 8] = [-0.0, 2.5, -3.0, f64::NAN, f64::INFINITY, 7.0, 0.0, 1.0];

/// Numbers whose sums, products and quotients are finite: what rules may round anew.
pub const FINITE: [f64; 8] = [-1.0, 2.5, -3.0, 0.5, 4.0, 7.0, 2.0, 1.0];

/// Matrices of these numbers for the parameters of `@main`.
pub fn inputs(module: &Module, dtype: DType, numbers: [f64; 8]) -> Vec<Value> {
    matrices(module, dtype, |i, k| numbers[(i * 3 + k * (i + 1)) % numbers.len()])
}

/// Matrices of random numbers from -4 to 4, never quite 0.
pub fn random_inputs(module: &Module, dtype: DType, seed: u64, positive: bool) -> Vec<Value> {
    let mut state = seed;
    matrices(module, dtype, |_, _| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let number = (state >> 40) as f64 / (1u64 << 21) as f64 - 4.0;
        let number = if dtype.is_float() { number + 0.001 } else { number.signum() * number.abs().ceil() };
        if positive { number.abs() } else { number }
    })
}

fn matrices(module: &Module, dtype: DType, mut number: impl FnMut(usize, usize) -> f64) -> Vec<Value> {
    let main = module.global("main").expect("the program has it");
    let params = module.globals[main].func.as_ref().expect("a live function").params.len();
    let tensor = |i: usize| {
        let bytes: Vec<u8> = (0..6)
            .flat_map(|k| {
                let bits = Scalar::from_f64(dtype, number(i, k)).bits().to_le_bytes();
                bits[..dtype.bytes()].to_vec()
            })
            .collect();
        Value::from(Tensor::from_bytes(dtype, &[2, 3], &bytes).expect("six elements"))
    };
    (0..params).map(tensor).collect()
}

/// The tensor that `@main` gives.
pub fn evaluate(module: &Module, args: &[Value]) -> Tensor {
    let value = eval_global(module, "main", args.to_vec(), &EvalOptions::default());
    value.expect("evaluates").as_tensor().expect("a tensor").clone()
}

/// Runs the pass with its default options.
pub fn run(module: &mut Module) -> (Outcome, PassContext) {
    let options = Step::new(&super::PASS).options;
    let mut context = PassContext { options, want_remarks: true, ..PassContext::default() };
    let outcome = (super::PASS.run)(module, &mut context).expect("the pass has no errors");
    infer_module(module).expect("the types hold");
    (outcome, context)
}

/// The operators of the program, operands first.
pub fn operators(module: &Module) -> Vec<&'static str> {
    let order = walk::post_order(module, &[body(module)]);
    order.iter().filter_map(|&e| Some(module.as_op_call(e)?.0.name())).collect()
}

/// A pseudo-random program over three matrices, sums and products mostly.
pub fn random_program(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let mut names = vec!["%x".to_string(), "%y".to_string(), "%z".to_string()];
    let mut text = String::new();
    for i in 0..length {
        let (a, b) = (names[next(names.len())].clone(), names[next(names.len())].clone());
        let call = match next(8) {
            0 => format!("add({a}, {b})"),
            1 => format!("multiply({a}, {b})"),
            2 => format!("multiply({a}, 2f)"),
            3 => format!("add({a}, 3f)"),
            4 => format!("negative({a})"),
            5 => format!("subtract({a}, {b})"),
            6 => format!("nn.relu({a})"),
            _ => format!("add({a}, 0f)"),
        };
        text += &format!("%{i} = {call};\n");
        names.push(format!("%{i}"));
    }
    let last = &names[names.len() - 1];
    format!(
        "def @main(%x: Tensor[(2, 3), float32], %y: Tensor[(2, 3), float32], %z: Tensor[(2, 3), float32]) {{ {text} add({last}, %x) }}"
    )
}

#[test]
fn results_hold_and_never_cost_more() {
    for seed in 0..60 {
        let text = random_program(seed, 4 + seed as usize % 30);
        let mut module = parse(&text).expect("a program");
        let args: Vec<Value> = (0..3)
            .map(|i| Value::from(Tensor::from_slice(&[2, 3], &[0.5f32 * i as f32; 6]).expect("six elements")))
            .collect();
        let expected = evaluate(&module, &args);
        let imported = import(&module, body(&module), Graph::new(Knowledge::default()));
        let mut saturated = imported;
        let limits = Limits { iterations: 4, nodes: 2000 };
        saturated.graph = saturate(saturated.graph, rules::compiled(FloatClass::Algebraic), limits).0;
        let extraction = extract(&saturated);
        assert!(extraction.cost <= extraction.input_cost, "seed {seed}");
        run(&mut module);
        let comparison = compare(&evaluate(&module, &args), &expected);
        assert!(comparison.matches(), "seed {seed}: {comparison}\n{text}");
    }
}

#[test]
fn constants_come_together_across_a_chain() {
    let mut module =
        parse("def @main(%x: Tensor[(4, 4), float32]) { multiply(multiply(multiply(%x, 2f), 3f), 4f) }")
            .expect("a program");
    let (outcome, context) = run(&mut module);
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(operators(&module), ["multiply"]);
    assert!(context.rewrites > 0 && context.remarks[0].message.contains("join-products"));
}

#[test]
fn transposes_meet_and_cancel() {
    let text = "def @main(%x: Tensor[(2, 3, 4), float32]) { transpose(nn.relu(transpose(%x, axes=[0, 2, 1])), axes=[0, 2, 1]) }";
    let mut module = parse(text).expect("a program");
    run(&mut module);
    assert_eq!(operators(&module), ["nn.relu"]);
}

#[test]
fn a_norm_whose_shift_is_no_vector_stays_written_out() {
    let text = "def @main(%x: Tensor[(2, 3), float32], %y: Tensor[(2, 3), float32]) {
        %0 = subtract(%x, mean(%x, axis=[1], keepdims=True));
        %1 = mean(power(%0, 2f), axis=[1], keepdims=True);
        %2 = divide(%0, sqrt(add(%1, 0.001f)));
        add(multiply(%2, 2f), %y) }";
    let mut module = parse(text).expect("a program");
    run(&mut module);
    assert!(!operators(&module).contains(&"nn.layer_norm"));
}

#[test]
fn equal_inputs_give_equal_programs() {
    let text = random_program(7, 40);
    let once = |_| {
        let mut module = parse(&text).expect("a program");
        run(&mut module);
        print_module(&module, &PrintOptions::default())
    };
    let (first, second) = (once(0), once(1));
    assert_eq!(first, second);
}

#[test]
fn fuel_ends_the_rewriting() {
    let mut module = parse("def @main(%x: Tensor[(4, 4), float32]) { multiply(multiply(%x, 2f), 3f) }")
        .expect("a program");
    let options = Step::new(&super::PASS).options;
    let mut context = PassContext { options, fuel: Some(0), ..PassContext::default() };
    let outcome = (super::PASS.run)(&mut module, &mut context).expect("the pass has no errors");
    assert_eq!((outcome, context.rewrites), (Outcome::Unchanged, 0));
}
