//! Programs of a size that nobody writes by hand, and nests of a depth that only an enemy does.
//!
//! [`programs`] must go the whole way, from text to a result; [`nests`] must be read or refused
//! with a diagnostic. Both hold on a stack of [`STACK_BYTES`], dropping included.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fermata_codegen::cpu::compile_all;
use fermata_ir::compare::compare;
use fermata_ir::diag::Diagnostics;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, PrintOptions, parse_module, parse_type, print_module};
use fermata_ir::tir;
use fermata_ir::verify::verify;
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_runtime::detect;
use fermata_runtime::exec::Session;

use crate::generate::evaluate;

/// The stack that all of it must do with: that of a program's main thread.
pub const STACK_BYTES: usize = 8 << 20;

/// Elements of the only parameter of [`programs`].
const ELEMENTS: usize = 4;

/// Calls `f` on a thread with [`STACK_BYTES`] of stack.
///
/// # Panics
/// If `f` does.
pub fn on_stack<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, f);
        match thread.expect("the system gives a thread").join() {
            Ok(value) => value,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

fn main_of(lines: &str) -> String {
    format!("#[version = \"0.0.5\"]\ndef @main(%x: Tensor[({ELEMENTS}), float32]) {{\n{lines}}}\n")
}

/// Programs of about `size` operators, each with a name.
pub fn programs(size: usize) -> Vec<(&'static str, String)> {
    vec![
        ("a chain", main_of(&chain(size))),
        ("a chain of lets", main_of(&lets(size))),
        ("a chain of sums with itself", main_of(&doubling(size))),
        ("a diamond", main_of(&diamond(size / 100))),
        ("one operator's operands", main_of(&wide(size / 10))),
        ("closures", main_of(&closures(size / 20))),
        ("functions", functions(size / 20)),
        ("fields of a tuple", main_of(&fields(size / 10))),
    ]
}

/// Operators that keep numbers bounded, each on the result of the last.
fn chain(size: usize) -> String {
    let mut text = "  %0 = tanh(%x);\n".to_owned();
    for i in 1..size {
        let _ = match i % 3 {
            0 => writeln!(text, "  %{i} = tanh(%{});", i - 1),
            1 => writeln!(text, "  %{i} = nn.relu(%{});", i - 1),
            _ => writeln!(text, "  %{i} = subtract(%{}, %x);", i - 1),
        };
    }
    let _ = writeln!(text, "  %{}", size - 1);
    text
}

fn lets(size: usize) -> String {
    let mut text = String::new();
    for i in 0..size {
        let from = if i == 0 { "x".into() } else { format!("v{}", i - 1) };
        let _ = writeln!(text, "  let %v{i} = {}(%{from});", ["tanh", "sin"][i % 2]);
    }
    let _ = writeln!(text, "  %v{}", size - 1);
    text
}

/// As many paths to the parameter as two to the power of the size.
fn doubling(size: usize) -> String {
    let mut text = "  %0 = tanh(%x);\n".to_owned();
    for i in 1..size {
        let _ = match i % 2 {
            0 => writeln!(text, "  %{i} = tanh(%{});", i - 1),
            _ => writeln!(text, "  %{i} = add(%{0}, %{0});", i - 1),
        };
    }
    let _ = writeln!(text, "  %{}", size - 1);
    text
}

/// One value, `ways` values made of it, and their sum.
fn diamond(ways: usize) -> String {
    let mut text = "  %0 = tanh(%x);\n".to_owned();
    for i in 1..=ways {
        let _ = writeln!(text, "  %{i} = {}(%0);", ["sin", "cos", "tan", "exp"][i % 4]);
    }
    let mut sum = 1;
    for (i, at) in (2..=ways).zip(ways + 1..) {
        let _ = writeln!(text, "  %{at} = add(%{sum}, %{i});");
        sum = at;
    }
    let _ = writeln!(text, "  %{sum}");
    text
}

/// An operator with so many operands.
fn wide(operands: usize) -> String {
    let names: Vec<&str> = std::iter::repeat_n("%0", operands).collect();
    format!("  %0 = tanh(%x);\n  concatenate(({}), axis=0)\n", names.join(", "))
}

/// Closures that captured the parameter, each called by the next one of its row, as deep as calls
/// may nest with room to spare; the last ones of the rows are called one after the other.
fn closures(count: usize) -> String {
    const ROW: usize = 500;
    let mut text = String::new();
    for i in 0..count {
        let value = match i % ROW {
            0 => format!("%y{i}"),
            _ => format!("%f{}(%y{i})", i - 1),
        };
        let _ = writeln!(
            text,
            "  let %f{i} = fn (%y{i}: Tensor[({ELEMENTS}), float32]) -> Tensor[({ELEMENTS}), float32] {{\n    \
             tanh(add({value}, %x))\n  }};"
        );
    }
    let mut argument = "%x".to_owned();
    for first in (0..count).step_by(ROW) {
        let last = count.min(first + ROW) - 1;
        let _ = writeln!(text, "  let %c{first} = %f{last}({argument});");
        argument = format!("%c{first}");
    }
    let _ = writeln!(text, "  {argument}");
    text
}

/// Global functions, each called once.
fn functions(count: usize) -> String {
    let mut text = "#[version = \"0.0.5\"]\n".to_owned();
    let mut lines = String::new();
    for i in 0..count {
        let _ = writeln!(
            text,
            "def @f{i}(%y: Tensor[({ELEMENTS}), float32]) -> Tensor[({ELEMENTS}), float32] {{\n  \
             tanh(add(%y, {i}f))\n}}"
        );
        let argument = i.checked_sub(1).map_or("%x".to_owned(), |before| format!("%{before}"));
        let _ = writeln!(lines, "  %{i} = @f{i}({argument});");
    }
    let _ = write!(text, "def @main(%x: Tensor[({ELEMENTS}), float32]) {{\n{lines}  %{}\n}}\n", count - 1);
    text
}

/// A tuple that is bound, and the sum of its fields.
fn fields(count: usize) -> String {
    let names: Vec<&str> = std::iter::repeat_n("%x", count).collect();
    let mut text = format!("  let %t = ({});\n", names.join(", "));
    for i in 0..count {
        let before = i.checked_sub(1).map_or("%x".to_owned(), |before| format!("%a{before}"));
        let _ = writeln!(text, "  let %a{i} = tanh(add({before}, %t.{i}));");
    }
    let _ = writeln!(text, "  %a{}", count - 1);
    text
}

/// How long each step took.
pub type Times = Vec<(&'static str, Duration)>;

/// Takes a text all the way: parses, infers, verifies, prints, evaluates, compiles at a level,
/// runs and compares.
///
/// # Errors
/// If a step refuses the program or the result is not the evaluator's.
pub fn whole_way(text: &str, level: u8) -> Result<Times, String> {
    let said =
        |d: Diagnostics| d.0.first().map_or_else(String::new, |d| format!("{}: {}", d.code, d.message));
    let mut times = Times::new();
    let mut started = Instant::now();
    let mut took = |step| {
        times.push((step, started.elapsed()));
        started = Instant::now();
    };
    let ops = OpTable::standard();
    let mut module = parse_module("scale", text, &ParseOptions::new(&ops)).map_err(said)?;
    took("parse");
    infer_module(&mut module).map_err(said)?;
    took("infer");
    verify(&module).map_err(said)?;
    took("verify");
    let printed = print_module(&module, &PrintOptions::default());
    took("print");
    let again = parse_module("printed", &printed, &ParseOptions::new(&ops)).map_err(said)?;
    if print_module(&again, &PrintOptions::default()) != printed {
        return Err("printing again differs".into());
    }
    drop(again);
    took("parse and print again");
    let input = Tensor::from_slice(&[ELEMENTS], &[0.5f32, -0.25, 1.0, 0.0]).map_err(|e| e.to_string())?;
    let expected = evaluate(&module, std::slice::from_ref(&input)).map_err(|d| d.message)?;
    took("evaluate");
    let target = detect::host();
    let options = Options { target: target.clone().into(), verify_each: false, ..Options::default() };
    manager::run(&mut module, &standard(Level(level)), &options, &mut []).map_err(said)?;
    took("passes");
    let program = lower(&module, &target.clone().into()).map_err(said)?;
    took("lower");
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &target).map_err(|d| said(d.into()))?;
    took("code");
    let mut session = Session::new(program, kernels, 1).map_err(|d| d.message)?;
    let found = session.run(&[input]).map_err(|d| d.message)?;
    took("run");
    drop((module, session));
    took("drop");
    match found.iter().zip(&expected).find(|(found, expected)| !compare(found, expected).matches()) {
        Some((found, expected)) => Err(compare(found, expected).to_string()),
        None => Ok(times),
    }
}

/// What a nested text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A module of Relay.
    Relay,
    /// A type of Relay.
    Type,
    /// TIR.
    Tir,
}

/// Texts that nest so deeply, each with a name.
pub fn nests(depth: usize) -> Vec<(&'static str, Format, String)> {
    let around = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let relay = |open, inner, close| main_of(&around(open, inner, close));
    let metadata = format!("{}\n#[metadata]\n{}", main_of("1"), around("[", "", "]"));
    vec![
        ("parentheses", Format::Relay, relay("(", "%x", ")")),
        ("blocks", Format::Relay, relay("{ ", "%x", " }")),
        ("lets", Format::Relay, relay("let %y = %x; ", "%x", "")),
        ("lets in values", Format::Relay, relay("let %y = { ", "%x", " }; %x")),
        ("ifs", Format::Relay, relay("if (True) { ", "%x", " } else { %x }")),
        ("else ifs", Format::Relay, relay("if (True) { %x } else ", "{ %x }", "")),
        ("conditions", Format::Relay, relay("if (", "True", ") { True } else { False }")),
        ("tuples", Format::Relay, relay("(", "%x", ",)")),
        ("projections", Format::Relay, relay("(", "%x", ",).0")),
        ("functions", Format::Relay, relay("fn () { ", "%x", " }")),
        ("calls", Format::Relay, relay("tanh(", "%x", ")")),
        ("calls of calls", Format::Relay, relay("", "%x", "()")),
        ("signs", Format::Relay, relay("-", "%x", "")),
        ("parts of a name", Format::Relay, relay("", "nn", ".nn")),
        ("sums", Format::Relay, relay("%x + ", "%x", "")),
        ("references", Format::Relay, relay("ref(", "%x", ")")),
        ("matches", Format::Relay, relay("match (%x) { _ => ", "%x", " }")),
        ("patterns", Format::Relay, main_of(&format!("match (%x) {{ {} => 1 }}", around("(", "_", ",)")))),
        ("attributes", Format::Relay, main_of(&format!("sum(%x, axis={})", around("[", "0", "]")))),
        ("comments", Format::Relay, main_of(&format!("{} %x", around("/* ", "", " */")))),
        (
            "constants",
            Format::Relay,
            main_of(&format!("const(Tensor[(1), float32], {})", around("[", "0", "]"))),
        ),
        ("metadata", Format::Relay, metadata),
        ("tuple types", Format::Type, around("(", "int32", ",)")),
        ("function types", Format::Type, around("fn (", "int32", ") -> int32")),
        ("results of function types", Format::Type, around("fn () -> ", "int32", "")),
        ("reference types", Format::Type, around("ref(", "int32", ")")),
        ("TIR parentheses", Format::Tir, store(&around("(", "T.float32(0)", ")"))),
        ("TIR sums", Format::Tir, store(&around("T.float32(1) + ", "T.float32(0)", ""))),
        (
            "TIR selections",
            Format::Tir,
            store(&around("T.Select(T.bool(True), ", "T.float32(0)", ", T.float32(0))")),
        ),
        ("TIR loops", Format::Tir, loops(depth.min(3000))),
    ]
}

const FUNCTION: &str = "@T.prim_func\ndef main(A: T.Buffer((1,), \"float32\")):\n";

fn store(value: &str) -> String {
    format!("{FUNCTION}    A[0] = {value}\n")
}

/// Loops, each one blank further in: the text grows with the square of the depth.
fn loops(depth: usize) -> String {
    let mut text = FUNCTION.to_owned();
    for i in 0..depth {
        let _ = writeln!(text, "{}for i{i} in range(1):", " ".repeat(i + 1));
    }
    let _ = writeln!(text, "{}A[0] = T.float32(0)", " ".repeat(depth + 1));
    text
}

/// Reads a nest and, if it is read, infers, verifies and prints it; says whether it was read.
///
/// # Errors
/// If something was refused without a diagnostic's text.
pub fn read_nest(format: Format, text: &str) -> Result<bool, String> {
    let refused = |d: Diagnostics| match d.0.first() {
        Some(first) if !first.message.is_empty() => Ok(false),
        _ => Err("refused without a word".to_owned()),
    };
    match format {
        Format::Relay => {
            let ops = OpTable::standard();
            let mut module = match parse_module("nest", text, &ParseOptions::new(&ops)) {
                Ok(module) => module,
                Err(d) => return refused(d),
            };
            if let Err(d) = infer_module(&mut module) {
                return refused(d);
            }
            if let Err(d) = verify(&module) {
                return refused(d);
            }
            let _ = print_module(&module, &PrintOptions::default());
            Ok(true)
        }
        Format::Type => parse_type("nest", text).map(|_| true).or_else(refused),
        Format::Tir => match tir::parse::parse("nest", text) {
            Ok(funcs) => {
                let _ = tir::print::print_all(&funcs);
                Ok(funcs.iter().all(|func| tir::verify::verify(func).is_ok()))
            }
            Err(d) => refused(d),
        },
    }
}
