//! Programs reduced to what still has some operator.

use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, PrintOptions, parse_module, print_module};

use super::*;
use crate::pass::PassContext;
use crate::pipeline::Step;
use crate::relay::remove_unused_functions;

const EVERYTHING: Options = Options { fresh_params: true, sizes: true, max_checks: 10_000 };

fn parse(text: &str) -> Module {
    let ops = OpTable::standard();
    let text = format!("#[version = \"0.0.5\"]\n{text}");
    let mut module = parse_module("test", &text, &ParseOptions::new(&ops)).expect("it parses");
    infer_module(&mut module).expect("it is typed");
    module
}

fn calls(module: &Module, name: &str) -> usize {
    let all = walk::reachable(module).into_iter();
    all.filter(|&id| module.as_op_call(id).is_some_and(|(op, _)| op.name() == name)).count()
}

/// Whether `@main` or what it calls has a call of an operator.
fn main_calls(module: &Module, op: &str) -> bool {
    let mut module = module.clone();
    let options = Step::new(&remove_unused_functions::PASS).options;
    let mut context = PassContext { options, ..PassContext::default() };
    (remove_unused_functions::PASS.run)(&mut module, &mut context).expect("it cannot fail");
    calls(&module, op) > 0
}

/// Reduces to what still has a call of an operator; the text without its version, and the checks.
fn reduced(text: &str, options: &Options, op: &str) -> (String, usize) {
    let module = parse(text);
    let mut fails = |candidate: &Candidate| Ok::<_, ()>(main_calls(&candidate.module, op));
    let (small, done) = reduce(&module, options, &mut fails, &mut |_| {}).expect("no check fails");
    let printed = print_module(&small.module, &PrintOptions::default());
    (printed.lines().skip(1).map(|l| format!("{l}\n")).collect(), done.checks)
}

#[test]
fn one_call_is_left_of_a_long_chain() {
    let mut text = String::from("def @main(%x: Tensor[(4, 6), float32]) {\n  %0 = tanh(%x);\n");
    for i in 1..300 {
        let op = if i == 213 { "sin" } else { ["nn.relu", "exp", "tanh"][i % 3] };
        text.push_str(&format!("  %{i} = {op}(%{});\n", i - 1));
    }
    text.push_str("  %299\n}\n");
    let (small, checks) = reduced(&text, &EVERYTHING, "sin");
    assert_eq!(
        small,
        "def @main(%in_0: Tensor[(1, 1), float32]) -> Tensor[(1, 1), float32] {\n  sin(%in_0)\n}\n"
    );
    assert!(checks < 60, "{checks} checks");
}

#[test]
fn scopes_functions_and_tuples_are_opened() {
    let text = "
def @helper(%a: Tensor[(8), float32]) { let %t = exp(%a); (sin(%t), %t) }
def @idle(%a: float32) { %a }
def @main(%x: Tensor[(8), float32], %c: bool) {
  let %pair = @helper(%x);
  let %f = fn (%y: Tensor[(8), float32]) { add(%y, %pair.0) };
  if (%c) { (%f(%x), tanh(%x)) } else { (%pair.1, %x) }
}";
    let (small, _) = reduced(text, &EVERYTHING, "sin");
    assert_eq!(calls(&parse(&small), "sin"), 1, "{small}");
    assert!(small.lines().count() <= 3 && !small.contains("@helper"), "{small}");
}

#[test]
fn without_new_parameters_there_are_zeros() {
    let text = "def @main(%x: Tensor[(8), float32]) { tanh(sin(exp(exp(%x)))) }";
    let options = Options { fresh_params: false, sizes: false, max_checks: 1000 };
    let (small, _) = reduced(text, &options, "sin");
    assert!(small.contains("sin(") && !small.contains("exp") && !small.contains("tanh"), "{small}");
}

#[test]
fn parameters_are_known_by_their_place() {
    let module =
        parse("def @main(%a: float32, %b: float32, %c: float32) { subtract(exp(%c), multiply(%a, %b)) }");
    let options = Options { fresh_params: false, ..EVERYTHING };
    let mut fails = |candidate: &Candidate| {
        let main = candidate.module.global("main").expect("it stays");
        let params = &candidate.module.globals[main].func.as_ref().expect("it lives").params;
        assert_eq!(params.len(), candidate.origins.len());
        let has_c = params.iter().any(|&p| &*candidate.module.vars[p].name == "c");
        Ok::<_, ()>(calls(&candidate.module, "exp") > 0 && has_c)
    };
    let (small, _) = reduce(&module, &options, &mut fails, &mut |_| {}).expect("no check fails");
    assert_eq!(small.origins, [Some(2)]);
}

#[test]
fn large_constants_and_sizes_go() {
    let values = vec!["0.5"; 64].join(", ");
    let text = format!(
        "def @main(%x: Tensor[(32, 8), float32]) {{
  nn.dense(reshape(%x, newshape=[4, 8, 8]), const(Tensor[(8, 8), float32], [{values}]), units=8)
}}"
    );
    let (small, _) = reduced(&text, &EVERYTHING, "nn.dense");
    assert!(small.contains("(1, 1)") && !small.contains("const("), "{small}");
}

#[test]
fn the_number_of_checks_is_bounded() {
    let module = parse("def @main(%x: float32) { tanh(sin(exp(%x))) }");
    let options = Options { max_checks: 2, ..EVERYTHING };
    let mut checks = 0;
    let mut fails = |_: &Candidate| {
        checks += 1;
        Ok::<_, ()>(false)
    };
    let (_, done) = reduce(&module, &options, &mut fails, &mut |_| {}).expect("no check fails");
    assert!(checks <= 2 && done.checks <= 2);
}
