//! `testsuite models`: the open models against ONNX Runtime, on real and random inputs.
//!
//! Every case runs the model as it was published, and the model with ten of its values as further
//! outputs, compiled and on the evaluator; all must be ONNX Runtime's by the one rule of tolerance:
//! the outputs by its plain defaults, the ten values by those for the number of products that they
//! sum. The ten are spread evenly over the values on which ONNX Runtime, with its optimisations and
//! without, and OpenVINO agree to half of that: where these round so differently (large terms that
//! cancel, a norm of what is nearly constant), none can judge another. The model's text must read
//! back as the same program.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use comfy_table::{Table, presets};
use fermata_ir::compare::{Comparison, Tolerance, compare_with};
use fermata_ir::equal::structurally_equal;
use fermata_ir::expr::Module;
use fermata_ir::front::npy::Arrays;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{LargeConstants, ParseOptions, PrintOptions, Printed, parse_module, print};
use fermata_ir::weights;
use serde::Deserialize;

use crate::program::{self, Imported};
use crate::venv;
use crate::zoo::OPEN_MODELS;

/// What the script that makes the cases needs.
const PACKAGES: [&str; 6] =
    ["onnx==1.23.2", "onnxruntime==1.31.1", "openvino==2026.4.1", "magika==1.0.3", "numpy", "pillow"];

/// Where the photographs and the page are.
const PICTURES: &str = "scikit-image==0.26.0";

/// What is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only models whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
}

/// What `case.json` holds.
#[derive(Deserialize)]
struct Facts {
    model: String,
    /// What the input is, for people.
    input: String,
    nodes: usize,
    /// How many values were considered as probes, and on how many of them the peers agree.
    candidates: usize,
    agreed: usize,
    /// The probes, and how many products each sums.
    probes: BTreeMap<String, usize>,
    /// What magika itself says of each file, and what its results stand for.
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    label_space: Vec<String>,
}

/// What a case showed.
struct Outcome {
    kernels: usize,
    /// The distances of the published model's outputs and of the probes, compiled.
    outputs: Distance,
    probes: Distance,
    /// The largest on the evaluator.
    evaluator: Distance,
    /// What is wrong; nothing if the model agrees.
    faults: Vec<String>,
}

/// The largest distance from what is expected, as a share of what the tolerance allows.
#[derive(Clone, Default)]
struct Distance {
    share: f64,
    at: String,
}

impl Distance {
    fn take(&mut self, name: &str, comparison: &Comparison) {
        let share = share(comparison);
        if share > self.share {
            *self = Distance { share, at: name.into() };
        }
    }
}

/// The worst element's distance as a share of what is allowed.
fn share(comparison: &Comparison) -> f64 {
    if comparison.types.is_some() {
        return f64::INFINITY;
    }
    let tolerance = comparison.tolerance;
    comparison.worst.as_ref().map_or(0.0, |worst| {
        let (a, b) = (worst.actual.as_f64(), worst.expected.as_f64());
        (a - b).abs() / (tolerance.atol + tolerance.rtol * b.abs())
    })
}

/// Runs the cases; whether all models agree.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let folder = venv::target_dir().join("models");
    std::fs::create_dir_all(&folder)?;
    let mut script_args = vec![venv::unpacked(PICTURES)?];
    for model in &OPEN_MODELS {
        script_args.push(format!("{}={}", model.name, model.file()?.display()).into());
    }
    let names = venv::export("export_models.py", &PACKAGES, &script_args, &folder)?;
    let names: Vec<String> = serde_json::from_slice(&names)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEADER);
    let mut faults = Vec::new();
    let mut cases = 0;
    for name in &names {
        let facts = std::fs::read(folder.join(name).join("case.json"))?;
        let facts: Facts = serde_json::from_slice(&facts)?;
        if !facts.model.contains(&args.filter) {
            continue;
        }
        let outcome = check(&folder.join(name), &facts)?;
        table.add_row(row(&facts, &outcome));
        let place = |fault: &String| format!("{}, {}: {fault}", facts.model, facts.input);
        faults.extend(outcome.faults.iter().map(place));
        cases += 1;
    }
    println!(
        "Distances from ONNX Runtime as shares of what |a - b| <= atol + rtol * |b| allows.\n\n{table}\n"
    );
    for fault in &faults {
        println!("FAILED {fault}");
    }
    println!("{cases} cases, {} faults", faults.len());
    Ok(faults.is_empty() && cases > 0)
}

const HEADER: [&str; 9] =
    ["model", "input", "nodes", "kernels", "outputs", "ten values", "furthest", "evaluator", "verdict"];

fn row(facts: &Facts, outcome: &Outcome) -> Vec<String> {
    let share = |d: &Distance| format!("{:.2}", d.share);
    let values = format!("{} ({} of {} fit)", share(&outcome.probes), facts.agreed, facts.candidates);
    let verdict = match (outcome.faults.is_empty(), facts.labels.is_empty()) {
        (true, true) => "agrees".into(),
        (true, false) => format!("agrees: {}", facts.labels.join(", ")),
        (false, _) => "FAILED".into(),
    };
    vec![
        facts.model.clone(),
        facts.input.clone(),
        facts.nodes.to_string(),
        outcome.kernels.to_string(),
        share(&outcome.outputs),
        values,
        shortened(&outcome.probes.at),
        share(&outcome.evaluator),
        verdict,
    ]
}

/// The last part of a name that is a path.
fn shortened(name: &str) -> String {
    let parts: Vec<&str> = name.rsplitn(3, '/').collect();
    parts.iter().take(2).rev().copied().collect::<Vec<_>>().join("/")
}

/// Runs a case. What the model does wrong is a fault of the outcome, not an error.
fn check(folder: &Path, facts: &Facts) -> io::Result<Outcome> {
    let mut outcome = Outcome {
        kernels: 0,
        outputs: Distance::default(),
        probes: Distance::default(),
        evaluator: Distance::default(),
        faults: Vec::new(),
    };
    let inputs = venv::npz(&folder.join("inputs.npz"))?;
    for kind in ["plain", "probed"] {
        let path = folder.join(format!("{kind}.onnx"));
        let expected = venv::npz(&folder.join(format!("{kind}.npz")))?;
        let imported = match program::import(&path, inputs.clone()) {
            Ok(imported) => imported,
            Err(errors) => {
                outcome.faults.extend(errors.0.iter().map(|e| e.message.to_string()));
                continue;
            }
        };
        if kind == "plain" {
            outcome.faults.extend(text_fault(&imported.module));
        }
        outcome.compiled(&imported, &expected, facts, kind);
        outcome.evaluated(&imported, &expected, facts);
    }
    Ok(outcome)
}

impl Outcome {
    fn compiled(&mut self, imported: &Imported, expected: &Arrays, facts: &Facts, kind: &str) {
        let session = program::compile(imported.module.clone(), 1);
        let run = session.and_then(|mut session| {
            let found = session.run(&imported.inputs)?;
            Ok((session, found))
        });
        let (session, found) = match run {
            Ok(done) => done,
            Err(errors) => {
                self.faults.extend(errors.0.iter().map(|e| e.message.to_string()));
                return;
            }
        };
        let mut distance = Distance::default();
        self.faults.extend(
            compared(&found, expected, facts, &mut distance).map(|f| format!("{kind}, compiled: {f}")),
        );
        if kind == "plain" {
            self.kernels = session.program().kernels.len();
            self.outputs = distance;
            self.faults.extend(label_fault(&found, facts));
        } else {
            self.probes = distance;
        }
    }

    fn evaluated(&mut self, imported: &Imported, expected: &Arrays, facts: &Facts) {
        match program::evaluate(&imported.module, &imported.inputs) {
            Ok(found) => {
                let wrong = compared(&found, expected, facts, &mut self.evaluator);
                self.faults.extend(wrong.map(|f| format!("on the evaluator: {f}")));
            }
            Err(errors) => self.faults.extend(errors.0.iter().map(|e| e.message.to_string())),
        }
    }
}

/// Compares results, in the order of the model's outputs; gives the first that does not match.
fn compared(found: &[Tensor], expected: &Arrays, facts: &Facts, distance: &mut Distance) -> Option<String> {
    let mut fault = None;
    if found.len() != expected.len() {
        fault = Some(format!("{} results, not {}", found.len(), expected.len()));
    }
    for (found, (name, expected)) in found.iter().zip(expected) {
        let length = facts.probes.get(name).copied().unwrap_or(0);
        let tolerance = Tolerance::of(expected.dtype()).for_reduction(length);
        let comparison = compare_with(found, expected, tolerance);
        distance.take(name, &comparison);
        if !comparison.matches() {
            fault.get_or_insert(format!("{name}: {comparison}"));
        }
    }
    fault
}

/// Whether the largest of each row of results has another label than magika gave the file.
fn label_fault(found: &[Tensor], facts: &Facts) -> Option<String> {
    if facts.labels.is_empty() {
        return None;
    }
    let scores = found.first().and_then(|t| t.as_slice::<f32>()).unwrap_or(&[]);
    let labels = scores.chunks(facts.label_space.len()).map(|row| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or("", |(place, _)| facts.label_space[place].as_str())
    });
    let labels: Vec<&str> = labels.collect();
    (labels != facts.labels)
        .then(|| format!("magika says {}, we say {}", facts.labels.join(", "), labels.join(", ")))
}

/// What is wrong with a program's text: it must read back as the same program, and print as the
/// same bytes.
fn text_fault(module: &Module) -> Option<String> {
    let options = PrintOptions { large: LargeConstants::Weights, ..PrintOptions::default() };
    let Printed { text, weights: names } = print(module, &options);
    let mut bytes = Vec::new();
    let tensors = names.iter().map(|(name, id)| (&**name, &module.consts[*id].tensor));
    if let Err(error) = weights::write(&mut bytes, tensors) {
        return Some(format!("its weights cannot be written: {error}"));
    }
    let ops = OpTable::standard();
    let read = weights::read_bytes("weights", &bytes).map_err(Into::into).and_then(|weights| {
        parse_module("text", &text, &ParseOptions { ops: &ops, weights: Some(&weights) })
    });
    match read {
        Err(errors) => errors.0.first().map(|e| format!("its text is refused: {}", e.message)),
        Ok(read) if !structurally_equal(module, &read) => Some("its text is another program".into()),
        Ok(read) if print(&read, &options).text != text => Some("its text prints differently again".into()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(json: &str) -> Facts {
        let common = r#""model": "m", "input": "i", "nodes": 1, "candidates": 1, "agreed": 1"#;
        serde_json::from_str(&format!("{{{common}, {json}}}")).expect("facts")
    }

    fn f32s(data: &[f32]) -> Tensor {
        Tensor::from_slice(&[data.len()], data).expect("small")
    }

    #[test]
    fn a_value_that_is_off_or_missing_is_a_fault() {
        let facts = facts(r#""probes": {"deep": 4096}"#);
        let expected: Arrays =
            [("out", 1.0), ("deep", 1.0)].map(|(n, x)| (n.to_string(), f32s(&[x]))).into_iter().collect();
        let judged = |out: f32, deep: f32| {
            let mut distance = Distance::default();
            let fault = compared(&[f32s(&[out]), f32s(&[deep])], &expected, &facts, &mut distance);
            (fault.is_some(), distance.at)
        };
        assert_eq!(judged(1.0, 1.0), (false, String::new()));
        assert_eq!(judged(1.0 + 2e-4, 1.0), (true, "out".into()));
        assert_eq!(judged(1.0, 1.0 + 2e-4), (false, "deep".into()));
        assert_eq!(judged(1.0, 1.0 + 3e-4), (true, "deep".into()));
        assert!(compared(&[f32s(&[1.0])], &expected, &facts, &mut Distance::default()).is_some());
        let shape = [f32s(&[1.0, 1.0]), f32s(&[1.0])];
        assert!(compared(&shape, &expected, &facts, &mut Distance::default()).is_some());
    }

    #[test]
    fn labels_must_be_those_of_magika() {
        let facts = facts(r#""probes": {}, "labels": ["rust", "c"], "label_space": ["c", "rust"]"#);
        assert_eq!(label_fault(&[f32s(&[0.1, 0.9, 0.7, 0.3])], &facts), None);
        assert!(label_fault(&[f32s(&[0.9, 0.1, 0.7, 0.3])], &facts).is_some());
        assert!(label_fault(&[], &facts).is_some());
    }
}
