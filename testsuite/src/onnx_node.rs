//! `testsuite onnx-node`: the node test cases of the `onnx` package.
//!
//! Every case runs on the evaluator and compiled for this machine, and ends on each in one of
//! three ways: *passed*, *refused* with a diagnostic, or *failed*, which is wrong numbers or a
//! panic. Only the last is a fault.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fermata_ir::compare::{Tolerance, compare_with};
use fermata_ir::diag::{Code, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::front::onnx::read_tensor;
use fermata_ir::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::program::{self, Imported};
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
    /// Where the cases lie, or are written to if they are not there or out of date
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
        // Of operators that are not supported, only the notes say which.
        let why = diagnostics.0.first().map(|d| match d.notes.first() {
            Some(note) if d.code == Code::IMPORT_UNSUPPORTED => format!("{}: {note}", d.message),
            _ => d.message.clone(),
        });
        End::Refused(why.unwrap_or_default())
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

/// The devices, and how many cases passed when this was last looked at: it must not be fewer.
const DEVICES: [(&str, Runner, usize); 2] = [("evaluator", program::evaluate, 1606), ("cpu", compiled, 1577)];

type Runner = fn(&Module, &[Tensor]) -> Result<Vec<Tensor>, Diagnostics>;

/// Runs the cases; whether none failed and no fewer passed than did before.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let folder = args.cases.clone().unwrap_or_else(|| venv::target_dir().join("onnx-node"));
    let names = venv::export("export_onnx_node.py", &PACKAGES, &[] as &[&str], &folder)?;
    let names: Vec<String> = serde_json::from_slice(&names)?;
    let mut table = Table::default();
    std::panic::set_hook(Box::new(|_| {}));
    for name in names.iter().filter(|n| n.contains(&args.filter)) {
        for (device, runner, _) in DEVICES {
            let end = run_case(&folder.join(name), runner);
            table.take(args, name, device, end);
        }
    }
    let fallen = if args.filter.is_empty() { table.fallen() } else { Vec::new() };
    if !args.json {
        table.print(args);
        for (device, passed, bound) in &fallen {
            println!("FAILED {device}: {passed} cases pass, and {bound} did");
        }
    }
    Ok(table.failures.is_empty() && fallen.is_empty())
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
    let Imported { module, inputs } = program::import(&case.model, case.inputs)?;
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

fn compiled(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    Ok(program::compile(module.clone(), 1)?.run(inputs)?)
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
    reasons: BTreeMap<String, Refused>,
    failures: Vec<String>,
}

/// The cases that were refused for one reason.
#[derive(Default)]
struct Refused {
    /// How many, on each device.
    counts: [usize; DEVICES.len()],
    /// The first of them.
    example: String,
}

impl Table {
    /// The devices on which fewer cases passed than did before: how many, and how many did.
    fn fallen(&self) -> Vec<(&'static str, usize, usize)> {
        let passed = |device| self.counts.get(device).map_or(0, |c| c.passed);
        let all = DEVICES.iter().map(|&(device, _, bound)| (device, passed(device), bound));
        all.filter(|(_, passed, bound)| passed < bound).collect()
    }

    fn take(&mut self, args: &Args, case: &str, device: &'static str, end: End) {
        let counts = self.counts.entry(device).or_default();
        let (word, detail) = match end {
            End::Passed => {
                counts.passed += 1;
                ("passed", String::new())
            }
            End::Refused(why) => {
                counts.refused += 1;
                let new = || Refused { example: case.into(), ..Refused::default() };
                let place = DEVICES.iter().position(|d| d.0 == device).unwrap_or(0);
                self.reasons.entry(why.clone()).or_insert_with(new).counts[place] += 1;
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
        reasons.sort_by_key(|(_, refused)| std::cmp::Reverse(refused.counts.iter().sum::<usize>()));
        let devices = DEVICES.map(|(device, ..)| device);
        println!("{:>10} {:>10}  refused because", devices[0], devices[1]);
        for (why, Refused { counts, example }) in reasons {
            println!("{:>10} {:>10}  {why} ({example})", counts[0], counts[1]);
        }
        println!("\n{:<10} {:>7} {:>7} {:>7}", "device", "passed", "refused", "failed");
        for (device, c) in &self.counts {
            println!("{device:<10} {:>7} {:>7} {:>7}", c.passed, c.refused, c.failed);
        }
    }
}
