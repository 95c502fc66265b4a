//! The executor: walks a plan and runs its launches on a device.
//!
//! A [`Session`] holds a program, its machine code, its constants and the memory of its
//! functions. In steady state a run allocates no tensors but its outputs and takes no lock: frames
//! of called functions are kept and used again, and the pointers of launches are written into
//! memory that is there.
//!
//! A call in the last place, whose results are the caller's, does not nest: loops are tail calls
//! and may turn as often as they like. Other calls nest at most [`MAX_DEPTH`] deep.

pub mod calibrate;
mod check;
pub mod cuda;
mod frame;
mod instance;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::time::{Duration, Instant};

use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::{FuncPlan, KernelId, Program};
use fermata_passes::target::CpuFeatures;

use crate::detect;
use crate::device::Device;
use crate::device::cpu::Pool;

pub use check::plan as check_plan;
pub use instance::Instance;
pub use walk::{Next, Walk};

/// How deeply calls may nest.
pub const MAX_DEPTH: usize = 1000;

/// What a byte is before a kernel writes it, in debug builds: a NaN of every float dtype.
const POISON: u8 = 0xff;

/// How long a step took.
#[derive(Clone, Copy, Debug)]
pub struct StepTime {
    /// The kernel that ran; `None` for a copy.
    pub kernel: Option<KernelId>,
    /// From before the launch to after its last tile.
    pub time: Duration,
}

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Threads, the caller counted.
    pub threads: usize,
    /// Whether worker threads are pinned to a core each.
    pub pinned: bool,
    /// The extensions that micro-kernels may use.
    pub features: CpuFeatures,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { threads: 1, pinned: true, features: detect::features() }
    }
}

/// A program that is ready to run, on whatever device: [`Session`] on processors, and on anything
/// that runs launches in the host's memory; [`cuda::CudaSession`] on a GPU.
pub trait Runnable {
    /// The function that runs.
    fn entry(&self) -> &FuncPlan;

    /// Runs the program and writes its results, row-major and little-endian, where they should go.
    ///
    /// # Errors
    /// If an input does not fit its parameter, an output has another size than its result, or
    /// the device fails.
    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut [&mut [u8]]) -> Result<(), Diagnostic>;

    /// Runs the program.
    ///
    /// # Errors
    /// As [`Runnable::run_into`].
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        let mut words = results(self.entry());
        let mut outputs = slices(self.entry(), &mut words);
        self.run_into(inputs, &mut outputs)?;
        tensors(self.entry(), words)
    }
}

impl Runnable for Session {
    fn entry(&self) -> &FuncPlan {
        self.entry()
    }

    fn run_into(&mut self, inputs: &[Tensor], outputs: &mut [&mut [u8]]) -> Result<(), Diagnostic> {
        self.run_into(inputs, outputs, None)
    }
}

/// Memory for the results of a function.
fn results(func: &FuncPlan) -> Vec<Vec<u64>> {
    let fill = if cfg!(debug_assertions) { u64::from_ne_bytes([POISON; 8]) } else { 0 };
    let bytes = func.outputs.iter().map(|port| func.buffers[port.buffer].bytes());
    bytes.map(|bytes| vec![fill; bytes.div_ceil(8)]).collect()
}

/// The bytes of the results in it.
fn slices<'a>(func: &FuncPlan, words: &'a mut [Vec<u64>]) -> Vec<&'a mut [u8]> {
    let bytes = func.outputs.iter().map(|port| func.buffers[port.buffer].bytes());
    words.iter_mut().zip(bytes).map(|(words, bytes)| &mut as_bytes(words)[..bytes]).collect()
}

/// The results.
fn tensors(func: &FuncPlan, words: Vec<Vec<u64>>) -> Result<Vec<Tensor>, Diagnostic> {
    let tensors = func.outputs.iter().zip(words).map(|(port, words)| {
        let buffer = &func.buffers[port.buffer];
        Tensor::from_words(buffer.dtype, &buffer.shape, words)
    });
    let tensors = tensors.collect::<Result<_, _>>();
    tensors.map_err(|e| Diagnostic::error(Code::RUN, format!("a result is no tensor: {e}")))
}

/// A program that is ready to run on a device of its own.
pub struct Session {
    instance: Instance,
    device: Box<dyn Device + Send>,
    /// The parameters of the launch that is being made.
    arguments: Vec<*mut u8>,
}

// SAFETY: the pointers are to memory of the instance, of inputs and of outputs, and are not used
// between runs.
unsafe impl Send for Session {}

impl Session {
    /// A session on this machine's processor.
    ///
    /// # Errors
    /// If the plan contradicts itself or its kernels, or the machine gives no executable memory.
    pub fn new(
        program: Program,
        kernels: Vec<CompiledKernel>,
        threads: usize,
    ) -> Result<Session, Diagnostic> {
        Session::with_options(program, kernels, &SessionOptions { threads, ..SessionOptions::default() })
    }

    /// A session on this machine's processor.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_options(
        program: Program,
        kernels: Vec<CompiledKernel>,
        options: &SessionOptions,
    ) -> Result<Session, Diagnostic> {
        let pool = Pool::new(options.threads, options.pinned);
        Session::on_device(program, kernels, Box::new(pool), options.features)
    }

    /// A session on any device.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn on_device(
        program: Program,
        kernels: Vec<CompiledKernel>,
        device: Box<dyn Device + Send>,
        features: CpuFeatures,
    ) -> Result<Session, Diagnostic> {
        let instance = Instance::new(program, &kernels, device.slots(), features)?;
        Ok(Session { instance, device, arguments: Vec::new() })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        self.instance.program()
    }

    /// The function that runs.
    pub fn entry(&self) -> &FuncPlan {
        self.instance.entry()
    }

    /// Runs the program.
    ///
    /// # Errors
    /// If an input does not fit its parameter, or calls nest too deeply.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
        self.run_observed(inputs, None)
    }

    /// Runs the program and tells how long each step took.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_observed(
        &mut self,
        inputs: &[Tensor],
        observer: Option<&mut dyn FnMut(StepTime)>,
    ) -> Result<Vec<Tensor>, Diagnostic> {
        let program = self.instance.program.clone();
        let func = &program.funcs[self.instance.entry];
        let mut words = results(func);
        let mut outputs = slices(func, &mut words);
        self.run_into(inputs, &mut outputs, observer)?;
        tensors(func, words)
    }

    /// Runs the program and writes its results, row-major and little-endian, where they should go.
    ///
    /// # Errors
    /// As [`Session::run`]; also if an output has another size than its result.
    pub fn run_into(
        &mut self,
        inputs: &[Tensor],
        outputs: &mut [&mut [u8]],
        observer: Option<&mut dyn FnMut(StepTime)>,
    ) -> Result<(), Diagnostic> {
        let mut walk = self.instance.start(inputs, outputs)?;
        self.device.begin();
        let done = self.walk(&mut walk, observer);
        self.device.end();
        done?;
        self.instance.finish(walk, outputs);
        Ok(())
    }

    /// Runs every launch and copy of a run.
    fn walk(
        &mut self,
        walk: &mut Walk,
        mut observer: Option<&mut dyn FnMut(StepTime)>,
    ) -> Result<(), Diagnostic> {
        loop {
            let next = self.instance.advance(walk, &mut self.arguments)?;
            let start = observer.is_some().then(Instant::now);
            let kernel = match next {
                Next::End => return Ok(()),
                Next::Launch(kernel) => {
                    let launch = self.instance.launch(kernel, &self.arguments);
                    // SAFETY: the plan was checked: arguments are buffers of the sizes that the
                    // kernel was compiled for, and outputs are memory of this run alone.
                    unsafe { self.device.launch(&launch) };
                    Some(kernel)
                }
                Next::Copy { from, to, bytes } => {
                    // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
                    unsafe { std::ptr::copy(from, to, bytes) };
                    None
                }
            };
            if let (Some(observer), Some(start)) = (&mut observer, start) {
                observer(StepTime { kernel, time: start.elapsed() });
            }
        }
    }
}

/// The bytes of words.
fn as_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: any bytes are words and the other way round; the length is that of the words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}
