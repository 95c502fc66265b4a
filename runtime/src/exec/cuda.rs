//! Programs on a GPU: the steps of a plan in device memory.
//!
//! Branches and calls of other functions, which decide on the host, are refused. See
//! [`crate::device::cuda`] for what has been tried of it.

use cudarc::driver::CudaSlice;
use fermata_codegen::cuda::CudaKernel;
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::{FuncId, FuncPlan, Place, Program, Step};
use fermata_passes::target::CudaTarget;

use super::{Runnable, check};
use crate::device::cuda::{Control, Gpu, Loaded};

/// A program that is ready to run on a GPU.
pub struct CudaSession {
    program: Program,
    entry: FuncId,
    gpu: Gpu,
    kernels: Vec<Loaded>,
    constants: Vec<CudaSlice<u8>>,
    arena: CudaSlice<u8>,
}

impl CudaSession {
    /// A session on the device of a number: `kernels` and their machine code, one each of the plan.
    ///
    /// # Errors
    /// If the plan contradicts itself or its kernels or has control flow, or the machine has no such
    /// device, another one than the target, or too little memory.
    pub fn new(
        program: Program,
        kernels: &[CudaKernel],
        cubins: &[Vec<u8>],
        target: CudaTarget,
        ordinal: usize,
    ) -> Result<CudaSession, Diagnostic> {
        let gpu = Gpu::open(ordinal)?;
        let entry = check::plan(&program)?;
        let func = &program.funcs[entry];
        refuse_control_flow(func)?;
        let capability = gpu.capability()?;
        if capability / 10 != target.sm / 10 || capability < target.sm {
            let message =
                format!("the program is for {target}, but cuda:{ordinal} is a cuda:sm_{capability}");
            return Err(Diagnostic::error(Code::RUN, message).help("compile it for this GPU with --target"));
        }
        let code = kernels.iter().zip(cubins);
        let loaded = code.map(|(kernel, cubin)| gpu.load(kernel, cubin)).collect::<Result<Vec<_>, _>>()?;
        if loaded.len() != program.kernels.len() {
            return Err(Diagnostic::error(Code::ARTIFACT, "the program and its code have different kernels"));
        }
        let constants = program.constants.iter().map(|c| gpu.upload(c.bytes())).collect::<Result<_, _>>()?;
        let arena = gpu.reserve(func.arena_bytes)?;
        Ok(CudaSession { entry, gpu, kernels: loaded, constants, arena, program })
    }

    /// The control word of the device's queue.
    pub fn control(&self) -> Control {
        self.gpu.control()
    }
}

impl Runnable for CudaSession {
    fn entry(&self) -> &FuncPlan {
        &self.program.funcs[self.entry]
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut [&mut [u8]]) -> Result<(), Diagnostic> {
        let func = &self.program.funcs[self.entry];
        check::inputs(func, inputs)?;
        check::outputs(func, outputs)?;
        let gpu = &self.gpu;
        let inputs = inputs.iter().map(|t| gpu.upload(t.bytes())).collect::<Result<Vec<_>, _>>()?;
        let results = func.result_bytes.iter().map(|&n| gpu.reserve(n)).collect::<Result<Vec<_>, _>>()?;
        let address = |place| match place {
            Place::Input(i) => gpu.address(&inputs[i]),
            Place::Output(i) => gpu.address(&results[i]),
            Place::Constant(i) => gpu.address(&self.constants[i]),
            Place::Arena(offset) => gpu.address(&self.arena) + offset as u64,
        };
        let addresses: Vec<u64> = func.buffers.values().map(|b| address(b.place)).collect();
        for step in &func.steps {
            match step {
                Step::Launch { kernel, args } => {
                    let args: Vec<u64> = args.iter().map(|a| addresses[a.index()]).collect();
                    // SAFETY: the plan was checked: the buffers have the sizes that the kernel was
                    // compiled for, and nothing else runs on the device's queue.
                    unsafe { gpu.launch(&self.kernels[kernel.index()], &args) }?;
                }
                Step::Copy { src, dst } => {
                    let (from, to) = (addresses[src.index()], addresses[dst.index()]);
                    if from != to {
                        // SAFETY: the plan was checked: both buffers have as many bytes.
                        unsafe { gpu.copy(from, to, func.buffers[*dst].bytes()) }?;
                    }
                }
                Step::If { .. } | Step::Call { .. } => return Err(control_flow(func)),
            }
        }
        for (port, output) in func.outputs.iter().zip(outputs) {
            let bytes = match func.buffers[port.buffer].place {
                Place::Output(i) => gpu.download(&results[i])?,
                Place::Input(i) => gpu.download(&inputs[i])?,
                Place::Constant(i) => self.program.constants[i].bytes().to_vec(),
                Place::Arena(offset) => gpu.download(&self.arena)?.split_off(offset),
            };
            // Memory of no bytes has one, so that it has an address.
            output.copy_from_slice(&bytes[..output.len()]);
        }
        Ok(())
    }
}

/// Only launches and copies need no decision of the host.
fn refuse_control_flow(func: &FuncPlan) -> Result<(), Diagnostic> {
    let decides = |s: &Step| matches!(s, Step::If { .. } | Step::Call { .. });
    if func.steps.iter().any(decides) { Err(control_flow(func)) } else { Ok(()) }
}

fn control_flow(func: &FuncPlan) -> Diagnostic {
    let message = format!("`{}` branches or calls a function, which programs on a GPU cannot yet", func.name);
    Diagnostic::error(Code::RUN, message).help("run it on the CPU")
}
