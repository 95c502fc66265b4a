//! `testsuite onnx-node`: the node test cases of the `onnx` package.
//!
//! Every case runs on the evaluator and compiled for this machine, and ends on each in one of
//! three ways: *passed*, *refused* with a diagnostic, or *failed*, which is wrong numbers or a
//! panic. Only the last is a fault.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fermata_codegen::cpu::compile_all;
use fermata_ir::compare::{Tolerance, compare_with};
use fermata_ir::diag::Diagnostics;
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::front::onnx::{ImportOptions, import_file, read_tensor, shape_inputs};
use fermata_ir::infer::infer_module;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_runtime::detect;
use fermata_runtime::exec::Session;
use serde::{Deserialize, Serialize};

use crate::venv;

/// What the cases come from.
const PACKAGES: [&str; 2] = ["onnx==1.23.2", "numpy"];

/// What is run, and how it is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only cases whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
    /// Print a line of JSON a case and device
    #[arg(long)]
    json: bool,
    /// Print the names of failures only
    #[arg(long)]
    list_failures: bool,
    /// Where the cases lie, or are written to if they are not there
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
}

/// How a case ended.
enum End {
    Passed,
    Refused(String),
    Failed(String),
}

/// A stop before the comparison.
impl From<Diagnostics> for End {
    fn from(diagnostics: Diagnostics) -> End {
        End::Refused(diagnostics.0.first().map_or_else(String::new, |d| d.message.to_string()))
    }
}

impl From<fermata_ir::diag::Diagnostic> for End {
    fn from(diagnostic: fermata_ir::diag::Diagnostic) -> End {
        Diagnostics::from(diagnostic).into()
    }
}

/// What `case.json` holds.
#[derive(Deserialize)]
struct Facts {
    rtol: f64,
    atol: f64,
    inputs: usize,
    outputs: usize,
    input_names: Vec<String>,
}

/// A case that was read.
struct Case {
    model: PathBuf,
    facts: Facts,
    inputs: Vec<(String, Tensor)>,
    expected: Vec<Tensor>,
}

#[derive(Serialize)]
struct Line<'a> {
    reason: &'static str,
    case: &'a str,
    device: &'static str,
    end: &'static str,
    detail: &'a str,
}

/// The devices.
const DEVICES: [(&str, Runner); 2] = [("evaluator", evaluate), ("cpu", compiled)];

type Runner = fn(&Module, &[Tensor]) -> Result<Vec<Tensor>, Diagnostics>;

/// Runs the cases; whether none failed.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let folder = args.cases.clone().unwrap_or_else(|| venv::target_dir().join("onnx-node"));
    let index = folder.join("index.json");
    if !index.exists() {
        venv::script("export_onnx_node.py", &PACKAGES, &[&folder])?;
    }
    let names: Vec<String> = serde_json::from_slice(&std::fs::read(index)?)?;
    let mut table = Table::default();
    std::panic::set_hook(Box::new(|_| {}));
    for name in names.iter().filter(|n| n.contains(&args.filter)) {
        for (device, runner) in DEVICES {
            let end = run_case(&folder.join(name), runner);
            table.take(args, name, device, end);
        }
    }
    if !args.json {
        table.print(args);
    }
    Ok(table.failures.is_empty())
}

fn run_case(folder: &Path, runner: Runner) -> End {
    let attempt = catch_unwind(AssertUnwindSafe(|| check(folder, runner)));
    match attempt {
        Ok(Ok(())) => End::Passed,
        Ok(Err(end)) => end,
        Err(payload) => {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            End::Failed(format!("panic: {message}"))
        }
    }
}

fn read_case(folder: &Path) -> Result<Case, End> {
    let broken = |e: io::Error| End::Failed(format!("the case cannot be read: {e}"));
    let facts = std::fs::read(folder.join("case.json")).map_err(broken)?;
    let facts: Facts = serde_json::from_slice(&facts).map_err(|e| broken(e.into()))?;
    let tensor = |kind: &str, place: usize| -> Result<Tensor, End> {
        let path = folder.join(format!("{kind}_{place}.pb"));
        let bytes = std::fs::read(path).map_err(|_| End::Refused(format!("an {kind} is no tensor")))?;
        Ok(read_tensor(&bytes)?)
    };
    let names = facts.input_names.iter().take(facts.inputs).enumerate();
    let inputs = names.map(|(i, n)| Ok((n.clone(), tensor("input", i)?))).collect::<Result<_, End>>()?;
    let expected = (0..facts.outputs).map(|i| tensor("output", i)).collect::<Result<_, End>>()?;
    Ok(Case { model: folder.join("model.onnx"), facts, inputs, expected })
}

fn check(folder: &Path, runner: Runner) -> Result<(), End> {
    let case = read_case(folder)?;
    let bytes = std::fs::read(&case.model).map_err(|e| End::Failed(e.to_string()))?;
    let constant = shape_inputs(&bytes)?;
    let (fixed, free): (Vec<_>, Vec<_>) = case.inputs.into_iter().partition(|(n, _)| constant.contains(n));
    let options = ImportOptions {
        shapes: free.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect(),
        const_inputs: fixed.into_iter().collect(),
        ..ImportOptions::default()
    };
    let mut module = import_file(&case.model, &options)?;
    infer_module(&mut module)?;
    let inputs: Vec<Tensor> = free.into_iter().map(|(_, t)| t).collect();
    let found = runner(&module, &inputs)?;
    if found.len() != case.expected.len() {
        return Err(End::Failed(format!("{} results, not {}", found.len(), case.expected.len())));
    }
    for (place, (found, expected)) in found.iter().zip(&case.expected).enumerate() {
        // The suite has one pair for all dtypes, narrower than an f16 or a bf16 can tell apart:
        // what the one rule allows a dtype holds here too.
        let default = Tolerance::of(expected.dtype());
        let tolerance =
            Tolerance { atol: case.facts.atol.max(default.atol), rtol: case.facts.rtol.max(default.rtol) };
        let comparison = compare_with(found, expected, tolerance);
        if !comparison.matches() {
            return Err(End::Failed(format!("output {place}: {comparison}")));
        }
    }
    Ok(())
}

fn evaluate(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let args = inputs.iter().cloned().map(Value::from).collect();
    let value = eval_global(module, "main", args, &EvalOptions::default())?;
    let mut found = Vec::new();
    let mut stack = vec![&value];
    while let Some(value) = stack.pop() {
        found.extend(value.as_tensor().cloned());
        stack.extend(value.as_tuple().into_iter().flatten().rev());
    }
    Ok(found)
}

fn compiled(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let target = detect::host();
    let mut module = module.clone();
    let options = Options { target: target.clone(), ..Options::default() };
    manager::run(&mut module, &standard(Level(2)), &options, &mut [])?;
    let program = lower(&module, &target)?;
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &target)?;
    Ok(Session::new(program, kernels, 1)?.run(inputs)?)
}

/// The counts of a device.
#[derive(Default)]
struct Counts {
    passed: usize,
    refused: usize,
    failed: usize,
}

/// What is printed at the end.
#[derive(Default)]
struct Table {
    counts: BTreeMap<&'static str, Counts>,
    reasons: BTreeMap<(&'static str, String), usize>,
    failures: Vec<String>,
}

impl Table {
    fn take(&mut self, args: &Args, case: &str, device: &'static str, end: End) {
        let counts = self.counts.entry(device).or_default();
        let (word, detail) = match end {
            End::Passed => {
                counts.passed += 1;
                ("passed", String::new())
            }
            End::Refused(why) => {
                counts.refused += 1;
                *self.reasons.entry((device, why.clone())).or_default() += 1;
                ("refused", why)
            }
            End::Failed(why) => {
                counts.failed += 1;
                self.failures.push(format!("{case} ({device}): {why}"));
                ("failed", why)
            }
        };
        if args.json {
            let line = Line { reason: "case", case, device, end: word, detail: &detail };
            println!("{}", serde_json::json!(line));
        }
    }

    fn print(&self, args: &Args) {
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        if args.list_failures {
            return;
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((device, why), count) in reasons {
            println!("{count:5} refused ({device}): {why}");
        }
        println!("\n{:<10} {:>7} {:>7} {:>7}", "device", "passed", "refused", "failed");
        for (device, c) in &self.counts {
            println!("{device:<10} {:>7} {:>7} {:>7}", c.passed, c.refused, c.failed);
        }
    }
}
