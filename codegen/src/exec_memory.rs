//! Executable memory: the code of all kernels of a program in one region.

use fermata_ir::diag::{Code, Diagnostic};
use memmap2::{Mmap, MmapMut};

use crate::kernel::{CompiledKernel, TileFn};

/// Functions start at multiples of this, so that none shares its first cache line.
const ALIGNMENT: usize = 64;

/// The code of some kernels, ready to run.
#[derive(Debug)]
pub struct ExecMemory {
    code: Mmap,
    offsets: Vec<usize>,
}

impl ExecMemory {
    /// Copies the kernels' code into fresh memory and makes that executable, and no longer writable.
    ///
    /// # Errors
    /// If the system gives no executable memory.
    pub fn new(kernels: &[CompiledKernel]) -> Result<ExecMemory, Diagnostic> {
        let mut offsets = Vec::with_capacity(kernels.len());
        let mut size = 0usize;
        for kernel in kernels {
            offsets.push(size);
            size = (size + kernel.code.len()).next_multiple_of(ALIGNMENT);
        }
        let refused = |e| {
            Diagnostic::error(Code::CODEGEN, format!("no executable memory of {size} bytes: {e}"))
                .help("allow this process to map executable pages, or run with the evaluator")
        };
        let mut memory = MmapMut::map_anon(size.max(1)).map_err(refused)?;
        for (kernel, &offset) in kernels.iter().zip(&offsets) {
            memory[offset..offset + kernel.code.len()].copy_from_slice(&kernel.code);
        }
        Ok(ExecMemory { code: memory.make_exec().map_err(refused)?, offsets })
    }

    /// The function of kernel number `index`; valid while this memory is.
    ///
    /// # Panics
    /// If there is no such kernel.
    pub fn function(&self, index: usize) -> TileFn {
        let start = self.code[self.offsets[index]..].as_ptr();
        // SAFETY: the code at a kernel's offset is that of a `TileFn`, by the contract of `CompiledKernel`.
        unsafe { std::mem::transmute::<*const u8, TileFn>(start) }
    }
}
