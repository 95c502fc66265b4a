//! The program as a library: faults, JSON shapes, help, and what a pass author adds.

use std::fmt::Write as _;

use fermata::{Driver, Streams};
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_passes::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use serde_json::Value;

/// A program with a dimension to bind.
const PROGRAM: &str = "#[version = \"0.0.5\"]\ndef @main(%x: Tensor[(batch, 4), float32]) { exp(%x) }\n";

/// What a command line gave: exit code, standard output, standard error.
fn run(driver: &Driver, words: &[&str]) -> (i32, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        stdin: &mut PROGRAM.as_bytes(),
        stdout: &mut stdout,
        stderr: &mut stderr,
        color: false,
        terminal: false,
    };
    let code = driver.run(["fermata"].iter().chain(words).map(Into::into), &mut streams);
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (code, text(stdout), text(stderr))
}

static PANICS: PassDef = PassDef {
    name: "panics",
    relay_name: "Panics",
    level: 0,
    doc: "fail as no pass should",
    options: &[],
    requires: &[],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run: fault,
};

fn fault(_: &mut Module, _: &mut PassContext) -> Result<Outcome, Diagnostics> {
    panic!("a fault of ours")
}

#[test]
fn a_panic_is_reported_and_can_be_reproduced() {
    let driver = Driver::standard().with_passes(&[&PANICS]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fault.relay");
    let file = file.to_str().expect("a name");
    let flag = format!("--crash-reproducer={file}");
    let (code, _, stderr) = run(&driver, &["opt", "-", "--passes=fold_constant,panics,dead_code", &flag]);
    assert_eq!(code, 101);
    assert!(
        stderr.contains("error[E0902]: fermata panicked in the pass `panics`: a fault of ours"),
        "{stderr}"
    );
    let report = stderr.split('`').find(|word| word.contains("fermata-crash-")).expect("a report is named");
    let report = std::fs::read_to_string(report).expect("the report is there");
    assert!(report.contains("command: fermata opt - --passes=fold_constant,panics,dead_code"), "{report}");

    let kept = std::fs::read_to_string(file).expect("the reproducer is there");
    assert!(kept.contains("// pipeline: panics,dead_code\n#[version"), "{kept}");
    assert_eq!(run(&driver, &["opt", file, "--run-reproducer"]).0, 101);
    assert_eq!(run(&driver, &["opt", file, "--passes=dead_code"]).0, 0);
}

/// The names of fields and the kinds of their values, sorted by name.
fn shape(value: &Value, prefix: &str, text: &mut String) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            if let Some(first) = items.first() {
                shape(first, &format!("{prefix}[]"), text);
            }
            return;
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| shape(value, &format!("{prefix}.{name}"), text));
            return;
        }
    };
    let _ = writeln!(text, "{prefix}: {kind}");
}

/// The shape of what a command prints, which is one line.
fn json(words: &[&str]) -> String {
    let (code, stdout, stderr) = run(&Driver::standard(), words);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.lines().count(), 1);
    let mut text = String::new();
    shape(&serde_json::from_str(&stdout).expect("it is JSON"), "", &mut text);
    text
}

#[test]
fn results_in_json_have_the_documented_shape() {
    let bench = json(&[
        "bench",
        "-",
        "--dim",
        "batch=2",
        "--iterations=3",
        "--warmup=0s",
        "--json",
        "--target-feature=-avx2",
    ]);
    let expected = "\
.build: string
.device: string
.first_run_ns: number
.machine: string
.max_ns: number
.mean_ns: number
.min_ns: number
.model: string
.peak_memory_bytes: number
.percentiles.p50_ns: number
.percentiles.p90_ns: number
.percentiles.p95_ns: number
.percentiles.p99.9_ns: number
.percentiles.p99_ns: number
.ready_ns: number
.reason: string
.runs: number
.schema: string
.seed: number
.stable: bool
.threads: number
";
    // Where the system does not tell the memory, it is null.
    assert_eq!(bench.replace("memory_bytes: null", "memory_bytes: number"), expected);
    let expected = "\
.calls: number
.constants: number
.inputs[].name: string
.inputs[].type: string
.ops.exp: number
.reason: string
.result: string
.schema: string
.weight_bytes: number
";
    assert_eq!(json(&["inspect", "-", "--json"]), expected);
    assert!(json(&["doctor", "--json"]).contains(".features.avx2: bool\n"));
}

#[test]
fn every_verb_has_short_help_and_a_manual_page() {
    let driver = Driver::standard();
    for verb in fermata::command_line().get_subcommands() {
        let name = verb.get_name();
        let (code, help, _) = run(&driver, &[name, "--help"]);
        assert_eq!(code, 0);
        assert!(help.lines().count() <= 90, "`{name} --help` has {} lines", help.lines().count());
        let (code, page, _) = run(&driver, &["man", name]);
        assert!(code == 0 && page.contains(".SH NAME"), "{page}");
    }
    assert_eq!(run(&driver, &["man", "complie"]).0, 2);
    assert_eq!(run(&driver, &["completions", "bash"]).0, 0);
}

#[test]
fn passes_are_listed_without_a_model_and_nothing_else_runs_without_one() {
    let driver = Driver::standard();
    let (code, listed, _) = run(&driver, &["opt", "--list-passes"]);
    assert!(code == 0 && listed.contains("fold_constant"));
    assert_eq!(run(&driver, &["opt"]).0, 2);
    assert_eq!(run(&driver, &["run"]).0, 2);
}
