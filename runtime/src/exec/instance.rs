//! An instance of a program: its code, its constants and the memory that its functions run in.

use std::sync::Arc;

use fermata_codegen::exec_memory::ExecMemory;
use fermata_codegen::kernel::{CompiledKernel, HELPER_PREFIX};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::{FuncId, FuncPlan, KernelId, Place, Program, Step};
use fermata_passes::target::CpuFeatures;

use super::check;
use super::frame::Frames;
use super::walk::{Next, Walk};
use crate::device::{BoundKernel, Launch};
use crate::memory::{ALIGNMENT, AlignedBytes};
use crate::microkernel;

/// The most scratch memory that a kernel may ask for, in bytes a worker.
const MAX_SCRATCH: usize = 256 << 20;

/// A program that is ready to run on some number of slots.
///
/// A run is a [`Walk`] that [`Instance::advance`] carries from launch to launch; whoever holds
/// the instance decides where and when the tiles of a launch run.
pub struct Instance {
    pub(super) program: Arc<Program>,
    pub(super) entry: FuncId,
    kernels: Vec<BoundKernel>,
    pub(super) constants: Vec<*const u8>,
    pub(super) frames: Frames,
    scratch: AlignedBytes,
    scratch_stride: usize,
    /// Owners of what the pointers above point into.
    _code: ExecMemory,
    _imports: Vec<Box<[*const ()]>>,
    _copies: Vec<AlignedBytes>,
}

// SAFETY: the pointers are into memory that the instance owns or shares immutably.
unsafe impl Send for Instance {}

impl Instance {
    /// An instance for devices of so many slots.
    ///
    /// # Errors
    /// If the plan contradicts itself or its kernels, or the machine gives no executable memory.
    pub fn new(
        program: Program,
        kernels: &[CompiledKernel],
        slots: usize,
        features: CpuFeatures,
    ) -> Result<Instance, Diagnostic> {
        let entry = check::program(&program, kernels)?;
        let code = ExecMemory::new(kernels)?;
        let mut bound = Vec::new();
        let mut imports = Vec::new();
        for (index, kernel) in kernels.iter().enumerate() {
            let table = bind_imports(kernel, features)?;
            bound.push(BoundKernel {
                id: KernelId::new(index),
                function: code.function(index),
                tiles: kernel.tiles,
                imports: table.as_ptr(),
            });
            imports.push(table);
        }
        let (constants, copies) = place_constants(&program, kernels);
        if let Some(kernel) = kernels.iter().find(|k| k.scratch_bytes > MAX_SCRATCH) {
            let (name, bytes) = (&kernel.name, kernel.scratch_bytes);
            let message = format!("kernel `{name}` asks for {bytes} bytes of scratch memory a worker");
            return Err(Diagnostic::error(Code::ARTIFACT, message)
                .help(format!("a worker has {MAX_SCRATCH}; compile the model again")));
        }
        let scratch_stride =
            kernels.iter().map(|k| k.scratch_bytes).max().unwrap_or(0).next_multiple_of(ALIGNMENT);
        Ok(Instance {
            entry,
            kernels: bound,
            constants,
            frames: Frames::new(program.funcs.len()),
            scratch: AlignedBytes::zeroed(scratch_stride * slots),
            scratch_stride,
            program: Arc::new(program),
            _code: code,
            _imports: imports,
            _copies: copies,
        })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The function that runs.
    pub fn entry(&self) -> &FuncPlan {
        &self.program.funcs[self.entry]
    }

    /// Begins a run whose results go to `outputs`, row-major and little-endian. The memory of both
    /// must live until the run is finished.
    ///
    /// # Errors
    /// If an input does not fit its parameter, or an output has another size than its result.
    pub fn start(&mut self, inputs: &[Tensor], outputs: &mut [&mut [u8]]) -> Result<Walk, Diagnostic> {
        let func = &self.program.funcs[self.entry];
        check::inputs(func, inputs)?;
        check::outputs(func, outputs)?;
        let mut frame = self.frames.take(self.entry, func, &self.constants);
        for (port, tensor) in func.inputs.iter().zip(inputs) {
            frame.bind(func, func.buffers[port.buffer].place, tensor.bytes().as_ptr().cast_mut());
        }
        for (port, bytes) in func.outputs.iter().zip(outputs.iter_mut()) {
            let place = func.buffers[port.buffer].place;
            if let Place::Output(_) = place {
                frame.bind(func, place, bytes.as_mut_ptr());
            }
        }
        Ok(Walk::new(self.entry, frame))
    }

    /// Goes on to the next launch or copy. The addresses of a launch's parameters replace what
    /// `arguments` holds; they must stay there until its last tile has ended.
    ///
    /// # Errors
    /// If calls nest too deeply.
    pub fn advance(&mut self, walk: &mut Walk, arguments: &mut Vec<*mut u8>) -> Result<Next, Diagnostic> {
        let program = self.program.clone();
        walk.advance(self, &program, arguments)
    }

    /// A launch of a kernel on these parameters.
    pub fn launch(&self, kernel: KernelId, arguments: &[*mut u8]) -> Launch {
        Launch {
            kernel: self.kernels[kernel.index()],
            buffers: arguments.as_ptr(),
            scratch: self.scratch.as_ptr(),
            scratch_stride: self.scratch_stride,
        }
    }

    /// Ends a run of which nothing is left: copies the results that were not written in place.
    pub fn finish(&mut self, walk: Walk, outputs: &mut [&mut [u8]]) {
        let frame = walk.into_frame();
        let func = &self.program.funcs[self.entry];
        for (port, bytes) in func.outputs.iter().zip(outputs.iter_mut()) {
            let from = frame.pointers[port.buffer.index()];
            if from != bytes.as_mut_ptr() {
                // SAFETY: the buffer has as many bytes as the output, which was checked; they are
                // different memory, and all launches have ended.
                unsafe { std::ptr::copy(from, bytes.as_mut_ptr(), bytes.len()) };
            }
        }
        self.frames.give_back(frame);
    }
}

fn bind_imports(kernel: &CompiledKernel, features: CpuFeatures) -> Result<Box<[*const ()]>, Diagnostic> {
    let find = |name: &String| {
        microkernel::resolve(name, features).ok_or_else(|| {
            let message =
                format!("kernel `{}` calls `{name}`, which this runtime does not have", kernel.name);
            Diagnostic::error(Code::RUN, message).help("compile the model again with this version")
        })
    };
    kernel.imports.iter().map(find).collect()
}

/// The addresses of the constants. What tensor intrinsics read is copied to aligned memory where
/// it lies badly; everything else stays where it is, mapped files included.
fn place_constants(program: &Program, kernels: &[CompiledKernel]) -> (Vec<*const u8>, Vec<AlignedBytes>) {
    let mut wanted = vec![false; program.constants.len()];
    for func in program.funcs.values() {
        check::each_step(&func.steps, &mut |step| {
            let Step::Launch { kernel, args } = step else { return };
            if kernels[kernel.index()].imports.iter().all(|name| name.starts_with(HELPER_PREFIX)) {
                return;
            }
            for arg in args {
                if let Place::Constant(index) = func.buffers[*arg].place {
                    wanted[index] = true;
                }
            }
        });
    }
    let mut copies = Vec::new();
    let place = |(tensor, wanted): (&Tensor, bool)| {
        let bytes = tensor.bytes();
        if wanted && !(bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            copies.push(AlignedBytes::copy_of(bytes));
            return copies[copies.len() - 1].as_ptr().cast_const();
        }
        bytes.as_ptr()
    };
    let addresses = program.constants.iter().zip(wanted).map(place).collect();
    (addresses, copies)
}
