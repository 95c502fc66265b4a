//! What a device does: it runs all tiles of a kernel, each once, as the protocol says
//! ([`fermata_ir::tir::protocol`]).
//!
//! [`cpu::Pool`] runs tiles on pinned worker threads; [`simulated::Simulated`] runs them in any
//! order that a seed chooses, with preemption at any checkpoint, to test that nothing depends on
//! it, and searches every order for small kernels.
//! [`cuda::Gpu`] has the blocks of a GPU run tiles; its launches are of kernels that are loaded there.

mod atomics;
pub mod cores;
pub mod cpu;
pub mod cuda;
pub mod ring;
pub mod simulated;
pub mod single;

use fermata_codegen::kernel::TileFn;
use fermata_passes::lower::plan::KernelId;

/// A kernel with everything bound that its calls share.
#[derive(Clone, Copy, Debug)]
pub struct BoundKernel {
    /// Which kernel of its program it is.
    pub id: KernelId,
    /// The tile function; the memory it lies in outlives every launch.
    pub function: TileFn,
    /// Number of tiles.
    pub tiles: u64,
    /// The addresses of what the kernel imports.
    pub imports: *const *const (),
}

/// A kernel and the memory that one launch works on.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: BoundKernel,
    /// The addresses of its parameters.
    pub buffers: *const *mut u8,
    /// Scratch memory of the worker in slot 0; 64-byte aligned.
    pub scratch: *mut u8,
    /// Bytes from the scratch memory of one slot to that of the next.
    pub scratch_stride: usize,
}

impl Launch {
    /// Runs one tile with the scratch memory of a slot.
    ///
    /// # Safety
    /// The buffers and imports are those that the kernel was compiled for, the scratch memory
    /// has room for the slot, and no other thread runs a tile in this slot or this tile.
    pub unsafe fn run_tile(&self, slot: usize, tile: u64) {
        // SAFETY: within the scratch memory of this launch, by the contract.
        let scratch = unsafe { self.scratch.add(slot * self.scratch_stride) };
        // SAFETY: the contract of the tile function is that of this function.
        unsafe { (self.kernel.function)(self.buffers, scratch, self.kernel.imports, tile) }
    }
}

/// Something that runs launches.
pub trait Device {
    /// How many slots may run at a time; each needs scratch memory of its own.
    fn slots(&self) -> usize;

    /// Told before the first launch of a model run.
    fn begin(&mut self) {}

    /// Runs all tiles of a launch and returns when the last has ended.
    ///
    /// # Safety
    /// The launch's pointers are valid for its kernel, the scratch memory for [`Device::slots`]
    /// slots, and nothing else uses what the kernel writes.
    unsafe fn launch(&mut self, launch: &Launch);

    /// Told after the last launch of a model run.
    fn end(&mut self) {}
}
