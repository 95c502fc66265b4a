//! PartialEval on programs with closures, data and cells, and on those that nest deeply.

use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::types::TensorType;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::parse;
use fermata_passes::table::PassTable;
use fermata_testsuite::scale::{Format, nests, on_stack, programs};

/// The program, if it is read and typed.
fn module(text: &str) -> Option<Module> {
    let mut module = parse_module("program", text, &ParseOptions::new(&OpTable::standard())).ok()?;
    infer_module(&mut module).ok()?;
    Some(module)
}

fn partially_evaluated(module: &Module) -> Module {
    let mut module = module.clone();
    let pipeline = parse("partial_eval", &PassTable::standard()).expect("a pipeline");
    manager::run(&mut module, &pipeline, &Options::default(), &mut [])
        .unwrap_or_else(|d| panic!("{}: {:?}", d.0[0].message, d.0[0].notes));
    module
}

/// What `@main` gives for parameters filled with 3, or that it fails; `None` where a parameter is no
/// tensor.
fn result(module: &Module) -> Option<Result<String, ()>> {
    let main = module.globals[module.global("main")?].func.as_ref()?;
    let filled = |ty: &TensorType| {
        let shape: Vec<usize> = ty.shape.iter().map(|d| d.as_static().unwrap_or(2)).collect();
        let bits = Scalar::from_i64(ty.dtype, 3).bits().to_le_bytes();
        let bytes = bits[..ty.dtype.bytes()].repeat(shape.iter().product());
        Tensor::from_bytes(ty.dtype, &shape, &bytes).ok().map(Value::from)
    };
    let args =
        main.params.iter().map(|&p| filled(module.vars[p].ty.as_tensor()?)).collect::<Option<Vec<_>>>()?;
    let options = EvalOptions { max_steps: 1 << 20, ..EvalOptions::default() };
    Some(eval_global(module, "main", args, &options).map(|v| format!("{v:?}")).map_err(|_| ()))
}

#[test]
fn the_cases_of_the_evaluator_mean_the_same() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/eval");
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).expect("there are cases") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let Some(before) = module(&text) else { continue };
        let after = partially_evaluated(&before);
        if let Some(expected) = result(&before) {
            assert_eq!(result(&after), Some(expected), "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared} cases are compared");
}

/// Closures that are called by who does not know them, recursion through two functions, cells that
/// closures write, and values that are taken apart where nothing is known of them.
const PROGRAMS: [&str; 7] = [
    "def @main(%x: float32) {
       let %k = 2f;
       let %f = if (%x < 4f) { fn (%a: float32) -> float32 { multiply(%a, %k) } }
                else { fn (%a: float32) -> float32 { add(%a, %x) } };
       add(%f(%x), %f(1f)) }",
    "def @even(%n: int32) -> bool { if (%n == 0) { True } else { @odd(%n - 1) } }
     def @odd(%n: int32) -> bool { if (%n == 0) { False } else { @even(%n - 1) } }
     def @main(%n: int32) { (@even(7), @odd(%n)) }",
    "def @main(%x: float32) {
       let %cell = ref(0f);
       let %bump = fn (%by: float32) -> float32 {
         let %u = ref_write(%cell, add(ref_read(%cell), %by));
         ref_read(%cell) };
       let %a = %bump(%x);
       let %b = if (%x < 2f) { %bump(1f) } else { %bump(10f) };
       let %c = %bump(100f);
       (%a, %b, %c, ref_read(%cell)) }",
    "type Shape { Dot, Line(float32), Box(float32, Shape) }
     def @size(%s: Shape) -> float32 {
       match (%s) { Dot => 0f, Line(%l) => %l, Box(%w, %in) => multiply(%w, add(1f, @size(%in))) } }
     def @main(%x: float32) {
       let %s = if (%x < 2f) { Dot } else { Box(%x, Line(2f)) };
       (@size(%s), @size(Box(2f, Box(%x, Dot)))) }",
    "def @apply(%f: fn (float32) -> float32, %n: int32, %x: float32) -> float32 {
       if (%n == 0) { %x } else { @apply(%f, %n - 1, %f(%x)) } }
     def @main(%n: int32, %x: float32) {
       let %shift = fn (%a: float32) -> float32 { add(%a, %x) };
       (@apply(%shift, 2, 1f), @apply(%shift, %n, 1f)) }",
    "def @id[A](%x: A) -> A { %x }
     def @pair[A](%x: A) { (fn (%y: A) -> A { %x }, %x) }
     def @main(%x: float32) { let %p = @pair(%x); (@id(3), @id((%x, 2f)).0, (%p.0)(%x)) }",
    "def @make(%x: float32) { let %c = ref(%x); (fn () { ref_read(%c) }, fn (%v: float32) { ref_write(%c, %v) }) }
     def @main(%x: float32) {
       let %two = @make(1f); let %get = %two.0; let %set = %two.1;
       let %before = %get(); let %u = %set(%x); (%before, %get()) }",
];

#[test]
fn what_is_not_known_means_the_same() {
    for program in PROGRAMS {
        let before = module(&format!("#[version = \"0.0.5\"]\n{program}")).expect("a program");
        let expected = result(&before).expect("tensors");
        assert!(expected.is_ok(), "{program}");
        assert_eq!(result(&partially_evaluated(&before)), Some(expected), "{program}");
    }
}

#[test]
fn deep_programs_are_run_in_proportion() {
    let nested = nests(3000).into_iter().filter(|(_, format, _)| *format == Format::Relay);
    let texts = programs(3000).into_iter().chain(nested.map(|(name, _, text)| (name, text)));
    let mut run = 0;
    for (name, text) in texts {
        on_stack(|| {
            let Some(before) = module(&text) else { return };
            let made = partially_evaluated(&before).exprs.len();
            assert!(made <= 12 * (before.exprs.len() + 100), "{name}: {made} of {}", before.exprs.len());
        });
        run += 1;
    }
    assert!(run >= 5);
}

#[test]
fn calls_that_multiply_stay_within_the_steps() {
    // Each function calls the next twice: two to the power of forty calls.
    let mut text = String::from("#[version = \"0.0.5\"]\ndef @f0(%x: float32) -> float32 { tanh(%x) }\n");
    for i in 1..=40 {
        let before = i - 1;
        text += &format!("def @f{i}(%x: float32) -> float32 {{ @f{before}(@f{before}(%x)) }}\n");
    }
    text += "def @main(%x: float32) { @f40(%x) }";
    let before = module(&text).expect("a program");
    let made = partially_evaluated(&before).exprs.len();
    assert!(made < 2_000_000, "{made}");
}
