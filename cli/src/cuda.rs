//! What `fermata compile` gives for GPUs (CUDA C, PTX and cubins, a file a kernel), and running it there.

use std::path::PathBuf;

use fermata_codegen::artifact::Gpu;
use fermata_codegen::cuda::nvrtc::{self, Binary};
use fermata_codegen::cuda::{CudaKernel, emit_all};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tir::PrimFunc;
use fermata_passes::lower::plan::Program;
use fermata_passes::target::{CudaTarget, Target};
use fermata_runtime::exec::cuda::CudaSession;

use crate::args::{CompileArgs, Emit, PipelineArgs};
use crate::{Failure, Streams, compile, output};

/// The kernels of a program as CUDA C.
///
/// # Errors
/// If one has no CUDA code.
pub fn kernels(program: &Program) -> Result<Vec<CudaKernel>, Failure> {
    let funcs: Vec<&PrimFunc> = program.kernels.values().map(|k| &*k.func).collect();
    Ok(emit_all(&funcs)?)
}

/// Writes one form of all kernels: a file each to the folder that was named, or their text.
///
/// # Errors
/// If there is no NVRTC where one is needed, or a file cannot be written.
pub fn write(
    args: &CompileArgs,
    emit: Emit,
    kernels: &[CudaKernel],
    binaries: Option<&[Binary]>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let content = |i: usize| match (emit, binaries) {
        (Emit::Ptx, Some(b)) => b[i].ptx.as_bytes(),
        (Emit::Cubin, Some(b)) => b[i].cubin.as_slice(),
        _ => kernels[i].source.as_bytes(),
    };
    if let Some(dir) = &args.emit_dir {
        std::fs::create_dir_all(dir)
            .map_err(|e| Failure::usage(format!("cannot make `{}`: {e}", dir.display())))?;
        let extension = if emit == Emit::Cuda { "cu" } else { compile::extension(emit) };
        for (i, kernel) in kernels.iter().enumerate() {
            output::write(&dir.join(format!("{}.{extension}", kernel.name)), content(i), streams)?;
        }
        return Ok(());
    }
    if emit == Emit::Cubin {
        return Err(Failure::usage("a cubin is a file a kernel; name a folder with --emit-dir"));
    }
    let all: Vec<&[u8]> = (0..kernels.len()).map(content).collect();
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from("-"));
    output::write(&path, &all.join(&b'\n'), streams)
}

/// PTX and cubins of all kernels, if one of these forms was asked for, or an artifact that may
/// carry them and there is an NVRTC.
///
/// # Errors
/// If there is no NVRTC for a form that needs it, or it refuses a kernel.
pub fn binaries(
    emit: &[Emit],
    kernels: &[CudaKernel],
    target: CudaTarget,
) -> Result<Option<Vec<Binary>>, Failure> {
    let needed = emit.iter().any(|e| matches!(e, Emit::Ptx | Emit::Cubin));
    if !needed && (!emit.contains(&Emit::Artifact) || nvrtc::probe().is_err()) {
        return Ok(None);
    }
    Ok(Some(nvrtc::compile_all(kernels, target)?))
}

/// What the flags make of a program for a GPU; nothing if they name a CPU.
///
/// # Errors
/// If there is no such target.
pub fn compiled(args: &PipelineArgs) -> Result<Option<Gpu>, Failure> {
    match compile::any_target(args)? {
        Target::Cpu(_) => Ok(None),
        Target::Cuda(target) => Ok(Some(Gpu::compiled(target))),
    }
}

/// A session of a program on the first GPU.
///
/// # Errors
/// If it is for a CPU, there is no GPU here, or a kernel cannot be made.
pub fn session(program: Program, gpu: Option<Gpu>) -> Result<CudaSession, Failure> {
    let Some(gpu) = gpu else {
        let error = Diagnostic::error(
            Code::USAGE,
            "--device cuda:0 runs programs for GPUs, and this one is for the CPU",
        );
        return Err(Failure::from_usage(error.help("give --target cuda:sm_80, or what the GPU is")));
    };
    // Without a device nothing else needs to be said.
    fermata_runtime::device::cuda::require(&fermata_runtime::detect::cuda(), 0)?;
    let (kernels, cubins) = gpu.code(&program)?;
    Ok(CudaSession::new(program, &kernels, &cubins, gpu.target, 0)?)
}
