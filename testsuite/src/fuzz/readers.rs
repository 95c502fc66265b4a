//! The readers, and what must hold of what they read.

use std::path::Path;

use fermata_codegen::artifact;
use fermata_ir::equal::structurally_equal;
use fermata_ir::expr::Module;
use fermata_ir::front::onnx::{self, ImportOptions};
use fermata_ir::front::{npy, sniff};
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{self, LargeConstants, ParseOptions, PrintOptions};
use fermata_ir::tir;
use fermata_ir::verify::verify;
use fermata_ir::weights;
use fermata_passes::pipeline;
use fermata_passes::table::PassTable;
use fermata_runtime::exec::Session;

/// A reader of bytes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reader {
    /// ONNX models
    Onnx,
    /// Relay text
    Relay,
    /// Relay text with constants in TVM's metadata
    Metadata,
    /// TIR as TVMScript
    Tir,
    /// Archives of arrays
    Npz,
    /// Arrays
    Npy,
    /// Weights
    Safetensors,
    /// Compiled programs
    Artifact,
    /// Pass pipelines
    Pipeline,
}

impl Reader {
    /// All of them.
    pub const ALL: [Reader; 9] = [
        Reader::Onnx,
        Reader::Relay,
        Reader::Metadata,
        Reader::Tir,
        Reader::Npz,
        Reader::Npy,
        Reader::Safetensors,
        Reader::Artifact,
        Reader::Pipeline,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Reader::Onnx => "onnx",
            Reader::Relay => "relay",
            Reader::Metadata => "metadata",
            Reader::Tir => "tir",
            Reader::Npz => "npz",
            Reader::Npy => "npy",
            Reader::Safetensors => "safetensors",
            Reader::Artifact => "artifact",
            Reader::Pipeline => "pipeline",
        }
    }

    /// Reads an input, and does with the value what the program would; `folder` is for files.
    /// Says whether it was accepted.
    ///
    /// # Errors
    /// If what was read does not hold what the reader promises.
    pub(super) fn read(self, bytes: &[u8], folder: &Path) -> Result<bool, String> {
        // Whatever a file is, its kind is asked first.
        let _ = sniff(bytes);
        match self {
            Reader::Onnx => read_onnx(bytes, folder),
            Reader::Relay | Reader::Metadata => read_relay(bytes),
            Reader::Tir => read_tir(bytes),
            Reader::Npz => Ok(npy::read_npz(bytes).is_ok()),
            Reader::Npy => read_npy(bytes),
            Reader::Safetensors => read_weights(bytes),
            Reader::Artifact => read_artifact(bytes, folder),
            Reader::Pipeline => read_pipeline(bytes),
        }
    }
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> Result<std::path::PathBuf, String> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|e| format!("the input cannot be written: {e}"))?;
    Ok(path)
}

fn read_onnx(bytes: &[u8], folder: &Path) -> Result<bool, String> {
    let path = file(folder, "model.onnx", bytes)?;
    let named = onnx::input_names(bytes).is_ok();
    let _ = onnx::shape_inputs(bytes);
    let _ = onnx::read_tensor(bytes);
    let dims = [("batch".to_owned(), 2), ("N".to_owned(), 1)].into_iter().collect();
    let bound = ImportOptions { dims, ..ImportOptions::default() };
    let imported = onnx::import_file(&path, &bound);
    let Ok(module) = onnx::import_file(&path, &ImportOptions::default()) else {
        return Ok(imported.is_ok());
    };
    if !named {
        return Err("a model whose inputs have no names was imported".into());
    }
    well_formed(module)
}

fn read_relay(bytes: &[u8]) -> Result<bool, String> {
    let Ok(source) = std::str::from_utf8(bytes) else { return Ok(false) };
    let ops = OpTable::standard();
    let _ = text::parse_type("fuzz", source);
    match text::parse_module("fuzz", source, &ParseOptions::new(&ops)) {
        Ok(module) => well_formed(module),
        Err(refused) => {
            let _ = refused.render(&text::sources("fuzz", source), false);
            Ok(false)
        }
    }
}

/// Infers and verifies a program, prints it and reads it again.
fn well_formed(mut module: Module) -> Result<bool, String> {
    if let Err(refused) = infer_module(&mut module) {
        let _ = refused.render(&module.sources, false);
        return Ok(false);
    }
    if let Err(refused) = verify(&module) {
        let _ = refused.render(&module.sources, false);
        return Ok(false);
    }
    let options = PrintOptions { types: false, inline_elements: usize::MAX, large: LargeConstants::Elide };
    let printed = text::print_module(&module, &options);
    let ops = OpTable::standard();
    let again = text::parse_module("printed", &printed, &ParseOptions::new(&ops))
        .map_err(|d| format!("the printed program is refused: {}", d.0[0].message))?;
    match structurally_equal(&module, &again) {
        true => Ok(true),
        false => Err("the printed program is another".into()),
    }
}

fn read_tir(bytes: &[u8]) -> Result<bool, String> {
    let Ok(source) = std::str::from_utf8(bytes) else { return Ok(false) };
    let funcs = match tir::parse::parse("fuzz", source) {
        Ok(funcs) => funcs,
        Err(refused) => {
            let _ = refused.render(&text::sources("fuzz", source), false);
            return Ok(false);
        }
    };
    let printed = tir::print::print_all(&funcs);
    for func in &funcs {
        if tir::verify::verify(func).is_ok() {
            let _ = tir::verify::unproved_accesses(func);
        }
    }
    let again = tir::parse::parse("printed", &printed)
        .map_err(|d| format!("the printed kernels are refused: {}", d.0[0].message))?;
    match tir::print::print_all(&again) == printed {
        true => Ok(true),
        false => Err("printing the printed kernels differs".into()),
    }
}

fn read_npy(bytes: &[u8]) -> Result<bool, String> {
    let Ok(tensor) = npy::read_npy(bytes) else { return Ok(false) };
    let again = npy::read_npy(&npy::write_npy(&tensor)).map_err(|d| d.message)?;
    if again.bitwise_eq(&tensor) { Ok(true) } else { Err("the written array is another".into()) }
}

fn read_weights(bytes: &[u8]) -> Result<bool, String> {
    let Ok(read) = weights::read_bytes("fuzz", bytes) else { return Ok(false) };
    let mut written = Vec::new();
    weights::write(&mut written, read.iter().map(|(name, tensor)| (&**name, tensor)))
        .map_err(|e| e.to_string())?;
    let again = weights::read_bytes("written", &written).map_err(|d| d.message)?;
    let same = read.len() == again.len()
        && read.iter().all(|(name, tensor)| again.get(name).is_some_and(|t| t.bitwise_eq(tensor)));
    if same { Ok(true) } else { Err("the written weights are others".into()) }
}

/// Reads an artifact and makes it ready to run; what is in it was proved, so small ones also run.
fn read_artifact(bytes: &[u8], folder: &Path) -> Result<bool, String> {
    let path = file(folder, "program.fermata", bytes)?;
    let Ok(read) = artifact::read(&path, &artifact::ReadOptions::default()) else { return Ok(false) };
    let small = read.program.kernels.values().all(|kernel| work(&kernel.func) < 1 << 16);
    let Ok(mut session) = Session::new(read.program, read.kernels, 1) else { return Ok(false) };
    let plan = session.entry();
    let inputs = plan.inputs.iter().map(|port| {
        let buffer = &plan.buffers[port.buffer];
        Tensor::zeros(buffer.dtype, &buffer.shape).ok()
    });
    if let (true, Some(inputs)) = (small, inputs.collect::<Option<Vec<_>>>()) {
        let _ = session.run(&inputs);
    }
    Ok(true)
}

/// At least as many steps as the loops of a kernel make.
fn work(func: &tir::PrimFunc) -> u64 {
    let printed = tir::print::print(func);
    let numbers = printed.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
    numbers.max().unwrap_or(u64::MAX).saturating_mul(printed.lines().count() as u64)
}

fn read_pipeline(bytes: &[u8]) -> Result<bool, String> {
    let Ok(source) = std::str::from_utf8(bytes) else { return Ok(false) };
    let table = PassTable::standard();
    let Ok(read) = pipeline::parse(source, &table) else { return Ok(false) };
    let printed = read.to_string();
    let again = pipeline::parse(&printed, &table).map_err(|d| format!("`{printed}`: {}", d.message))?;
    match again.to_string() == printed {
        true => Ok(true),
        false => Err(format!("`{printed}` prints as `{again}`")),
    }
}
