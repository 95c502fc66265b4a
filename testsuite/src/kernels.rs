//! `testsuite kernels`: how many launches the open models are, grouped as Relay groups them and by us.

use std::io;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::{bind_dims, infer_module};
use fermata_passes::lower::lower;
use fermata_passes::lower::plan::Step;
use fermata_passes::manager::{self, Options};
use fermata_passes::pass::OptionValue;
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::Target;

use crate::cuda_check::{ENCODER_DIMS, SHAPES};
use crate::zoo::OPEN_MODELS;
use crate::{minilm, venv};

/// Nothing to choose.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Prints a row for each model; whether all of them compile.
pub(crate) fn command(_: &Args) -> io::Result<bool> {
    println!("| model | launches, `fuse_ops{{mode=relay}}` | launches, `fuse_ops` |");
    println!("|---|---:|---:|");
    let mut all_good = true;
    for (name, input, shape) in SHAPES {
        let model = OPEN_MODELS.iter().find(|m| m.name == name);
        let path = model.ok_or_else(|| io::Error::other("a shape without a model"))?.file()?;
        let options = ImportOptions {
            shapes: [(input.to_string(), shape.to_vec())].into_iter().collect(),
            ..ImportOptions::default()
        };
        all_good &= row(name, || import_file(&path, &options));
    }
    let [package, folder] = minilm::MODEL;
    let checkpoint = venv::unpacked(package)?.join(folder);
    all_good &= row("minilm", || {
        let mut module = import_dir(&checkpoint)?;
        bind_dims(&mut module, &ENCODER_DIMS)?;
        Ok(module)
    });
    Ok(all_good)
}

/// Prints a row; whether the model compiles.
fn row(name: &str, model: impl Fn() -> Result<Module, Diagnostics>) -> bool {
    let counted = ["relay", "fermata"].map(|mode| model().and_then(|module| launches(module, mode)));
    match counted {
        [Ok(relay), Ok(ours)] => {
            println!("| {name} | {relay} | {ours} |");
            true
        }
        [Err(errors), _] | [_, Err(errors)] => {
            errors.0.iter().for_each(|error| println!("FAILED {name}: {}", error.message));
            false
        }
    }
}

/// The launches of a model at -O2, its groups made in one mode.
fn launches(mut module: Module, mode: &'static str) -> Result<usize, Diagnostics> {
    infer_module(&mut module)?;
    let mut pipeline = standard(Level(2));
    for (name, value) in pipeline.steps.iter_mut().flat_map(|step| &mut step.options) {
        if *name == "mode" {
            *value = OptionValue::Word(mode);
        }
    }
    let options = Options::default();
    manager::run(&mut module, &pipeline, &options, &mut [])?;
    let program = lower(&module, &Target::default())?;
    let mut steps: Vec<&Step> = program.funcs.values().flat_map(|f| &f.steps).collect();
    let mut count = 0;
    while let Some(step) = steps.pop() {
        match step {
            Step::Launch { .. } => count += 1,
            Step::If { then, els, .. } => steps.extend(then.iter().chain(els)),
            Step::Call { .. } | Step::Copy { .. } => {}
        }
    }
    Ok(count)
}
