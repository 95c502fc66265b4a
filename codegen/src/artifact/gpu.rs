//! What an artifact for a GPU has besides its plan: machine code that may be kept, and what could
//! not be proved of its kernels.
//!
//! Its TIR is the truth, as for a CPU. Whoever runs it on the evaluator, which checks every
//! access, needs nothing else. Whoever runs it on a GPU has machine code made anew from kernels
//! all of which are proved, or says that the file is to be trusted.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tir::segments::{TilesIndependent, segments};
use fermata_ir::tir::{self, PrimFunc};
use fermata_passes::lower::plan::Program;
use fermata_passes::target::CudaTarget;

use super::{Zip, bytes, dto};
use crate::cuda::{CudaKernel, emit_all, nvrtc};

/// The part of an artifact, or of a program that was just compiled, that is for a GPU.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// What it is for.
    pub target: CudaTarget,
    /// Machine code of each kernel, if the file has it and is trusted.
    pub cubins: Option<Vec<Vec<u8>>>,
    /// What could not be proved, a sentence each: that a kernel stays inside its buffers, and that
    /// its tiles may run in any order.
    pub unproved: Vec<String>,
}

impl Gpu {
    /// What a program that this compiler has just made runs with.
    pub fn compiled(target: CudaTarget) -> Gpu {
        Gpu { target, cubins: None, unproved: Vec::new() }
    }

    /// The kernels of a program and the machine code to run: the file's if it is trusted, or else
    /// made anew.
    ///
    /// # Errors
    /// If a kernel is not proved and the file not trusted, or there is no NVRTC to make code with.
    pub fn code(&self, program: &Program) -> Result<(Vec<CudaKernel>, Vec<Vec<u8>>), Diagnostic> {
        let funcs: Vec<&PrimFunc> = program.kernels.values().map(|k| &*k.func).collect();
        let kernels = emit_all(&funcs)?;
        if let Some(cubins) = &self.cubins {
            return Ok((kernels, cubins.clone()));
        }
        if let Some(first) = self.unproved.first() {
            let help = "compile the model again, or give `--trust` if you know where the file comes from; \
                        --device tir checks every access";
            return Err(Diagnostic::error(Code::ARTIFACT, first.clone()).help(help));
        }
        let binaries = nvrtc::compile_all(&kernels, self.target)?;
        Ok((kernels, binaries.into_iter().map(|b| b.cubin).collect()))
    }
}

/// Reads what an artifact has for a GPU; `trust` takes its machine code, and proves nothing.
pub(super) fn read(
    zip: &mut Zip<'_>,
    rows: &[dto::Kernel],
    funcs: &[PrimFunc],
    target: CudaTarget,
    trust: bool,
) -> Result<Gpu, Diagnostic> {
    if !trust {
        let unproved = funcs.iter().filter_map(unproved).collect();
        return Ok(Gpu { target, cubins: None, unproved });
    }
    let names: Vec<String> = rows.iter().map(|row| format!("kernels/{}.cubin", row.file)).collect();
    let there = names.iter().all(|name| zip.index_for_name(name).is_some());
    let cubins = there.then(|| names.iter().map(|name| bytes(zip, name)).collect::<Result<_, _>>());
    Ok(Gpu { target, cubins: cubins.transpose()?, unproved: Vec::new() })
}

/// What cannot be proved of a kernel, if there is anything.
fn unproved(func: &PrimFunc) -> Option<String> {
    if let Some(access) = tir::verify::unproved_accesses(func).into_iter().next() {
        return Some(format!("kernel `{}` might reach outside a buffer: {access}", func.name));
    }
    match segments(func)?.independent(func) {
        TilesIndependent::Proved => None,
        TilesIndependent::Unproved(why) => Some(format!("kernel `{}`: {why}", func.name)),
    }
}
