//! The artifact: a compiled program in one file, a plain zip.
//!
//! | entry | what it holds |
//! | --- | --- |
//! | `manifest.json` | format, version, compiler, target |
//! | `plan.json` | functions, buffers, steps, and what each kernel imports |
//! | `graph.relay` | the program that was compiled, as text |
//! | `kernels/*.tir` | the kernels as TVMScript |
//! | `kernels/*.bin` | their machine code, for a CPU |
//! | `kernels/*.cu`, `kernels/*.cubin` | their CUDA C, and machine code where NVRTC was found, for a GPU |
//! | `weights.safetensors` | the constants, uncompressed, so that they can be mapped |
//!
//! The same program gives the same bytes. An artifact may come from anyone, so its TIR is the
//! truth: it is parsed and verified, every access is proved to stay inside its buffer, and
//! machine code is made anew, unless the reader says that it trusts the file. Certificates are
//! always made anew, for the reader's machine, so none can lie. What else the plan says is
//! checked by whoever runs it. A file is written beside its place and then moved there, so
//! that nobody sees half of one.

mod dto;
mod gpu;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fermata_ir::diag::{Code as Number, Diagnostic, Diagnostics};
use fermata_ir::entity::{EntityRef, PrimaryMap};
use fermata_ir::tensor::Tensor;
use fermata_ir::tir::{self, PrimFunc};
use fermata_ir::weights;
use fermata_passes::lower::plan::{FuncId, Kernel, KernelId, Program};
use fermata_passes::target::{CpuTarget, CudaTarget};
use fermata_passes::tir::checkpoint;
use memmap2::Mmap;
use rayon::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::cpu;
use crate::cuda::CudaKernel;
use crate::cuda::nvrtc::Binary;
use crate::kernel::CompiledKernel;

pub use gpu::Gpu;

/// The version that is written; the first number is the major one.
pub const VERSION: [u32; 2] = [1, 1];

/// Bytes of text that are read from an entry.
const MAX_TEXT: u64 = 1 << 28;

/// A program with its code.
#[derive(Debug)]
pub struct Artifact {
    /// The program that was compiled, as Relay text.
    pub graph: String,
    /// The plan, with kernels as TIR, and constants.
    pub program: Program,
    /// The code of each kernel; none if the artifact is for a GPU.
    pub kernels: Vec<CompiledKernel>,
    /// What it has for a GPU, if it is for one.
    pub gpu: Option<Gpu>,
}

/// The code that an artifact is written with, one a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Code<'a> {
    /// For a CPU.
    Cpu(&'a [CompiledKernel], &'a CpuTarget),
    /// For a GPU: sources, and binaries where they could be made.
    Cuda(&'a [CudaKernel], Option<&'a [Binary]>, CudaTarget),
}

impl Code<'_> {
    fn target(&self) -> String {
        match self {
            Code::Cpu(_, target) => target_text(target),
            Code::Cuda(.., target) => target.to_string(),
        }
    }

    /// The row of a kernel, without the name of its files.
    fn row(&self, i: usize) -> dto::Kernel {
        let mut row = dto::Kernel::default();
        if let Code::Cpu(kernels, _) = self {
            let code = &kernels[i];
            row.scratch_bytes = code.scratch_bytes;
            row.imports = code.imports.clone();
            row.provenance = code.provenance.iter().map(|(at, origin)| (*at, origin.to_string())).collect();
        }
        row
    }

    /// The files of a kernel besides its TIR: extension and content.
    fn files(&self, i: usize) -> Vec<(&'static str, &[u8])> {
        match self {
            Code::Cpu(kernels, _) => vec![("bin", &kernels[i].code)],
            Code::Cuda(kernels, binaries, _) => {
                let source = [("cu", kernels[i].source.as_bytes())];
                let cubin = binaries.map(|b| ("cubin", b[i].cubin.as_slice()));
                source.into_iter().chain(cubin).collect()
            }
        }
    }
}

/// How an artifact is read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Run the machine code that the file holds, if it was made for this target.
    pub trust: bool,
    /// What code is made for.
    pub target: CpuTarget,
}

fn malformed(why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Number::ARTIFACT, format!("the artifact is malformed: {why}"))
        .help("compile the model again")
}

fn not_written(path: &Path, e: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(Number::USAGE, format!("`{}` cannot be written: {e}", path.display()))
}

/// Writes an artifact.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, graph: &str, program: &Program, code: Code<'_>) -> Result<(), Diagnostic> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .map_err(|e| not_written(path, e))
        .and_then(|file| {
            let file =
                write_to(BufWriter::new(file), graph, program, code).map_err(|e| not_written(path, e))?;
            file.into_inner().map_err(|e| not_written(path, e))?.sync_all().map_err(|e| not_written(path, e))
        })
        .and_then(|()| std::fs::rename(&part, path).map_err(|e| not_written(path, e)));
    if written.is_err() {
        // What is left of a failed attempt helps nobody; that it cannot be removed is no news.
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn write_to<W: Write + std::io::Seek>(
    out: W,
    graph: &str,
    program: &Program,
    code: Code<'_>,
) -> zip::result::ZipResult<W> {
    let mut zip = ZipWriter::new(out);
    let packed = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default());
    let plain = packed.compression_method(CompressionMethod::Stored);
    let manifest = dto::Manifest {
        format: "fermata".to_owned(),
        version: VERSION,
        compiler: env!("CARGO_PKG_VERSION").to_owned(),
        target: code.target(),
    };
    let rows = program.kernels.iter().map(|(id, kernel)| dto::Kernel {
        file: dto::kernel_file(id, &kernel.func.name),
        certificate: kernel.certificate.as_ref().map(dto::CertificateRow::of),
        raw: kernel.raw.map(EntityRef::index),
        ..code.row(id.index())
    });
    let plan = dto::Plan {
        entry: program.entry.map_or(usize::MAX, EntityRef::index),
        constants: program.constants.len(),
        bound_ns: program.bound.map(|bound| u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)),
        kernels: rows.collect(),
        functions: dto::functions_out(program),
    };
    for (name, text) in
        [("manifest.json", json(&manifest)?), ("plan.json", json(&plan)?), ("graph.relay", graph.into())]
    {
        zip.start_file(name, packed)?;
        zip.write_all(text.as_bytes())?;
    }
    for (row, (id, kernel)) in plan.kernels.iter().zip(program.kernels.iter()) {
        zip.start_file(format!("kernels/{}.tir", row.file), packed)?;
        zip.write_all(tir::print::print(&kernel.func).as_bytes())?;
        for (extension, content) in code.files(id.index()) {
            zip.start_file(format!("kernels/{}.{extension}", row.file), packed)?;
            zip.write_all(content)?;
        }
    }
    zip.start_file("weights.safetensors", plain.large_file(true).with_alignment(64))?;
    let names: Vec<String> = (0..program.constants.len()).map(constant_name).collect();
    weights::write(&mut zip, names.iter().map(String::as_str).zip(&program.constants))?;
    zip.finish()
}

fn json(value: &impl serde::Serialize) -> std::io::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

fn constant_name(index: usize) -> String {
    format!("c{index}")
}

/// What code was made for, as far as it matters for whether it runs here.
fn target_text(target: &CpuTarget) -> String {
    let named = target.features.named().into_iter();
    let on: Vec<String> = named.filter(|(_, on)| *on).map(|(name, _)| format!("+{name}")).collect();
    format!("cpu:{}:{}", std::env::consts::ARCH, on.join(","))
}

/// Reads an artifact.
///
/// # Errors
/// If the file cannot be opened, is malformed or of another major version, or breaks a rule of TIR.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Artifact, Diagnostics> {
    let file = Arc::new(weights::map_file(path)?);
    read_mapped(&file, options)
}

/// An archive in memory.
type Zip<'a> = ZipArchive<Cursor<&'a [u8]>>;

fn read_mapped(file: &Arc<Mmap>, options: &ReadOptions) -> Result<Artifact, Diagnostics> {
    let mut zip = ZipArchive::new(Cursor::new(&file[..])).map_err(malformed)?;
    let manifest: dto::Manifest = parse_json(&text(&mut zip, "manifest.json")?, "manifest.json")?;
    if manifest.format != "fermata" || manifest.version[0] != VERSION[0] {
        let [major, minor] = manifest.version;
        return Err(Diagnostic::error(
            Number::ARTIFACT,
            format!("the artifact has version {major}.{minor}; this program reads version {}", VERSION[0]),
        )
        .help("compile the model again")
        .into());
    }
    let plan: dto::Plan = parse_json(&text(&mut zip, "plan.json")?, "plan.json")?;
    let graph = text(&mut zip, "graph.relay")?;
    let mut sources = Vec::with_capacity(plan.kernels.len().min(zip.len()));
    for row in &plan.kernels {
        sources.push(text(&mut zip, &format!("kernels/{}.tir", row.file))?);
    }
    let trusted = options.trust && manifest.target == target_text(&options.target);
    let gpu = CudaTarget::parse(&manifest.target);
    // Whoever runs a GPU's kernels from an artifact is told what is not proved.
    let unproved = trusted || gpu.is_some();
    let funcs: Vec<PrimFunc> = sources
        .par_iter()
        .zip(&plan.kernels)
        .map(|(source, row)| kernel(&row.file, source, unproved))
        .collect::<Result<_, Diagnostics>>()?;
    let kernels = if gpu.is_some() {
        Vec::new()
    } else if trusted {
        let rows = plan.kernels.iter().zip(&funcs);
        rows.map(|(row, func)| stored_code(&mut zip, row, func)).collect::<Result<_, _>>()?
    } else {
        cpu::compile_all(&funcs.iter().collect::<Vec<_>>(), &options.target)?
    };
    let gpu =
        gpu.map(|target| gpu::read(&mut zip, &plan.kernels, &funcs, target, options.trust)).transpose()?;
    let constants = constants(file, &mut zip, plan.constants)?;
    let bound = plan.bound_ns.map(Duration::from_nanos);
    let model = gpu.is_none().then_some((&options.target, bound));
    let table = kernel_table(funcs, &plan.kernels, model)?;
    let funcs = dto::functions_in(&plan.functions)
        .ok_or_else(|| malformed("plan.json has an impossible function"))?;
    let entry = (plan.entry < funcs.len()).then(|| FuncId::new(plan.entry));
    let program = Program { kernels: table, funcs, entry, constants, bound };
    Ok(Artifact { graph, program, kernels, gpu })
}

/// The kernels with their certificates, made anew where the target has a cost model, and their raw variants.
fn kernel_table(
    funcs: Vec<PrimFunc>,
    rows: &[dto::Kernel],
    model: Option<(&CpuTarget, Option<Duration>)>,
) -> Result<PrimaryMap<KernelId, Kernel>, Diagnostic> {
    let count = funcs.len();
    let mut table = PrimaryMap::new();
    for (func, row) in funcs.into_iter().zip(rows) {
        let mut kernel = Kernel::new(func);
        if let Some((target, bound)) = model {
            let bound = bound.filter(|_| checkpoint::is_inserted(&kernel.func));
            kernel.certificate = Some(checkpoint::certify(&kernel.func, target, bound));
        }
        if let Some(raw) = row.raw {
            let there = dto::id(raw).filter(|_| raw < count);
            kernel.raw =
                Some(there.ok_or_else(|| {
                    malformed(format!("`{}` has a raw variant that is not there", row.file))
                })?);
        }
        table.push(kernel);
    }
    Ok(table)
}

/// A kernel's TIR, checked; a trusted one may reach where no proof follows.
fn kernel(name: &str, source: &str, trusted: bool) -> Result<PrimFunc, Diagnostics> {
    let mut funcs = tir::parse::parse(name, source)?;
    let (Some(func), true) = (funcs.pop(), funcs.is_empty()) else {
        return Err(malformed(format!("`{name}` is not one kernel")).into());
    };
    tir::verify::verify(&func)?;
    let unproved = if trusted { Vec::new() } else { tir::verify::unproved_accesses(&func) };
    if let Some(first) = unproved.into_iter().next() {
        return Err(Diagnostic::error(
            Number::ARTIFACT,
            format!("kernel `{name}` might reach outside a buffer"),
        )
        .note(first)
        .help("compile the model again, or give `--trust` if you know where the file comes from")
        .into());
    }
    Ok(func)
}

fn stored_code(zip: &mut Zip<'_>, row: &dto::Kernel, func: &PrimFunc) -> Result<CompiledKernel, Diagnostic> {
    Ok(CompiledKernel {
        name: func.name.to_string(),
        tiles: func.tiles().map_or(1, |n| n.max(0) as u64),
        code: bytes(zip, &format!("kernels/{}.bin", row.file))?,
        scratch_bytes: row.scratch_bytes,
        imports: row.imports.clone(),
        provenance: row.provenance.iter().map(|(at, origin)| (*at, origin.as_str().into())).collect(),
    })
}

/// The constants, as slices of the mapped file.
fn constants(file: &Arc<Mmap>, zip: &mut Zip<'_>, count: usize) -> Result<Vec<Tensor>, Diagnostic> {
    let entry = zip.by_name("weights.safetensors").map_err(malformed)?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(malformed("the weights are compressed"));
    }
    let start = entry.data_start().ok_or_else(|| malformed("the weights have no place"))?;
    let range = usize::try_from(start)
        .ok()
        .zip(usize::try_from(entry.size()).ok())
        .and_then(|(start, len)| Some(start..start.checked_add(len)?))
        .filter(|range| range.end <= file.len())
        .ok_or_else(|| malformed("the weights end past the file"))?;
    let tensors = weights::read_mapped("weights.safetensors", file, range)?;
    if tensors.len() != count {
        return Err(malformed(format!("there are {} constants, not {count}", tensors.len())));
    }
    (0..count)
        .map(|i| {
            tensors
                .get(&constant_name(i))
                .cloned()
                .ok_or_else(|| malformed(format!("constant {i} is missing")))
        })
        .collect()
}

fn bytes(zip: &mut Zip<'_>, name: &str) -> Result<Vec<u8>, Diagnostic> {
    let entry = zip.by_name(name).map_err(|e| malformed(format!("{name}: {e}")))?;
    let mut bytes = Vec::new();
    entry.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(|e| malformed(format!("{name}: {e}")))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(malformed(format!("{name} is too large")));
    }
    Ok(bytes)
}

fn text(zip: &mut Zip<'_>, name: &str) -> Result<String, Diagnostic> {
    String::from_utf8(bytes(zip, name)?).map_err(|_| malformed(format!("{name} is no text")))
}

fn parse_json<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, Diagnostic> {
    serde_json::from_str(text).map_err(|e| malformed(format!("{name}: {e}")))
}
