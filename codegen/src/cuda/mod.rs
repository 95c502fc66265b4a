//! TIR to CUDA C that a person would want to read, and to cubins where NVRTC is found.
//!
//! A scheduled function becomes a tile function and two kernels around it:
//! - `NAME`: block `i` of the grid runs tile `i`; for when nothing can preempt it;
//! - `NAME_preemptible`: a grid of resident blocks whose threads go through the loop of
//!   [`protocol::BLOCK_LOOP`]. After the buffers it takes the queue's control word, the
//!   launch's counters (`next` and `done`), the launch's epoch, and the slot of its first block.
//!
//! The source needs no header: what is not built into NVRTC it defines itself, and only what
//! it uses. The way of a kernel: `stmt` walks statements, `expr` and `ops` write expressions
//! with the device functions of `helpers` and `intrin`, `wrap` puts the two kernels around.

mod convert;
mod expr;
mod helpers;
mod intrin;
mod names;
pub mod nvrtc;
mod ops;
mod stmt;
#[cfg(test)]
mod tests;
mod wrap;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::op::AttrValue;
use fermata_ir::tir::{LoopKind, PrimFunc, Stmt};
use rayon::prelude::*;

/// Bytes of shared memory that a kernel may have without asking the driver for more.
const MAX_SHARED: usize = 48 << 10;

/// A kernel as CUDA C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaKernel {
    /// The name of the kernel that runs one tile a block; the other's ends in `_preemptible`.
    pub name: String,
    /// Number of tiles.
    pub tiles: u64,
    /// Threads of a block along x, y and z.
    pub threads: [u32; 3],
    /// Bytes of shared memory of the tile function.
    pub shared_bytes: usize,
    /// The source.
    pub source: String,
}

/// Writes the kernels of a function.
///
/// # Errors
/// If it breaks a rule of TIR, or has something that no CUDA kernel can have.
pub fn emit(func: &PrimFunc) -> Result<CudaKernel, Diagnostic> {
    fermata_ir::tir::verify::verify(func).map_err(|mut d| d.0.swap_remove(0))?;
    let mut names = names::Names::new();
    let name = names.take_kernel(&func.name);
    let written = stmt::write(func, names)?;
    if written.shared_bytes > MAX_SHARED {
        let message =
            format!("it needs {} bytes of shared memory, more than {MAX_SHARED}", written.shared_bytes);
        return Err(failed(func, &message));
    }
    let threads = ["threadIdx.x", "threadIdx.y", "threadIdx.z"].map(|axis| threads_of(func, axis));
    let tiles = func.tiles().map_or(1, |n| n.max(0) as u64);
    let relay = match func.attrs.get("relay") {
        Some(AttrValue::Str(text)) => stmt::comment(text),
        _ => String::new(),
    };
    let source = wrap::source(func, &written, &wrap::Kernel { name: &name, relay: &relay, tiles, threads });
    Ok(CudaKernel { name, tiles, threads, shared_bytes: written.shared_bytes, source })
}

/// Writes the kernels of many functions in parallel; the first that fails, in order, decides the error.
///
/// # Errors
/// As [`emit`].
pub fn emit_all(funcs: &[&PrimFunc]) -> Result<Vec<CudaKernel>, Diagnostic> {
    let results: Vec<_> = funcs.par_iter().map(|func| emit(func)).collect();
    results.into_iter().collect()
}

fn failed(func: &PrimFunc, why: &str) -> Diagnostic {
    Diagnostic::error(Code::CODEGEN, format!("no CUDA code for kernel `{}`: {why}", func.name))
}

/// The extent of the loops over an axis of threads; 1 if there is none.
fn threads_of(func: &PrimFunc, axis: &str) -> u32 {
    let mut threads = 1;
    func.body.walk(&mut |s| {
        if let Stmt::For { extent, kind: LoopKind::ThreadBinding(a), .. } = s
            && **a == *axis
        {
            threads = extent.as_int().map_or(1, |n| n as u32);
        }
    });
    threads
}
