//! The executor: walks a plan and runs its launches on a device.
//!
//! A [`Session`] holds a program, its machine code, its constants and the memory of its
//! functions. In steady state a run allocates no tensors but its outputs and takes no lock: frames
//! of called functions are kept and used again, and the pointers of launches are written into
//! memory that is there.
//!
//! A call in the last place, whose results are the caller's, does not nest: loops are tail calls
//! and may turn as often as they like. Other calls nest at most [`MAX_DEPTH`] deep.

mod check;
mod frame;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fermata_codegen::exec_memory::ExecMemory;
use fermata_codegen::kernel::{CompiledKernel, HELPER_PREFIX};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;
use fermata_passes::lower::plan::{BufferId, FuncId, FuncPlan, KernelId, Place, Program, Step};
use fermata_passes::target::CpuFeatures;

use crate::device::cpu::Pool;
use crate::device::{BoundKernel, Device, Launch};
use crate::memory::{ALIGNMENT, AlignedBytes};
use crate::{detect, microkernel};

use frame::{Frame, Frames};

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

/// A program that is ready to run.
pub struct Session {
    program: Arc<Program>,
    entry: FuncId,
    device: Box<dyn Device + Send>,
    kernels: Vec<BoundKernel>,
    constants: Vec<*const u8>,
    frames: Frames,
    scratch: AlignedBytes,
    scratch_stride: usize,
    /// The pointers of the launch that is being made.
    arguments: Vec<*mut u8>,
    /// Owners of what the pointers above point into.
    _code: ExecMemory,
    _imports: Vec<Box<[*const ()]>>,
    _copies: Vec<AlignedBytes>,
}

// SAFETY: the pointers are into memory that the session owns or shares immutably.
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
        let entry = check::program(&program, &kernels)?;
        let code = ExecMemory::new(&kernels)?;
        let mut bound = Vec::new();
        let mut imports = Vec::new();
        for (index, kernel) in kernels.iter().enumerate() {
            let table = bind_imports(kernel, features)?;
            bound.push(BoundKernel {
                function: code.function(index),
                tiles: kernel.tiles,
                imports: table.as_ptr(),
            });
            imports.push(table);
        }
        let (constants, copies) = place_constants(&program, &kernels);
        let scratch_stride =
            kernels.iter().map(|k| k.scratch_bytes).max().unwrap_or(0).next_multiple_of(ALIGNMENT);
        let scratch = AlignedBytes::zeroed(scratch_stride * device.slots());
        let frames = Frames::new(program.funcs.len());
        Ok(Session {
            program: Arc::new(program),
            entry,
            device,
            kernels: bound,
            constants,
            frames,
            scratch,
            scratch_stride,
            arguments: Vec::new(),
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
        let program = self.program.clone();
        let func = &program.funcs[self.entry];
        let mut words: Vec<Vec<u64>> = func
            .outputs
            .iter()
            .map(|port| {
                let fill = if cfg!(debug_assertions) { u64::from_ne_bytes([POISON; 8]) } else { 0 };
                vec![fill; func.buffers[port.buffer].bytes().div_ceil(8)]
            })
            .collect();
        let mut outputs: Vec<&mut [u8]> = Vec::with_capacity(words.len());
        for (port, words) in func.outputs.iter().zip(&mut words) {
            let bytes = func.buffers[port.buffer].bytes();
            outputs.push(&mut as_bytes(words)[..bytes]);
        }
        self.run_into(inputs, &mut outputs, observer)?;
        let tensors = func.outputs.iter().zip(words).map(|(port, words)| {
            let buffer = &func.buffers[port.buffer];
            Tensor::from_words(buffer.dtype, &buffer.shape, words)
        });
        tensors
            .collect::<Result<_, _>>()
            .map_err(|e| Diagnostic::error(Code::RUN, format!("a result is no tensor: {e}")))
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
        let program = self.program.clone();
        let func = &program.funcs[self.entry];
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
        self.device.begin();
        let frame = Walk { session: self, program: &program, observer }.run(frame);
        self.device.end();
        let frame = frame?;
        for (port, bytes) in func.outputs.iter().zip(outputs.iter_mut()) {
            let from = frame.pointers[port.buffer.index()];
            if from != bytes.as_mut_ptr() {
                // SAFETY: the buffer has as many bytes as the output, which was checked; they are
                // different memory, and all launches have ended.
                unsafe { std::ptr::copy(from, bytes.as_mut_ptr(), bytes.len()) };
            }
        }
        self.frames.give_back(frame);
        Ok(())
    }
}

/// The bytes of words.
fn as_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: any bytes are words and the other way round; the length is that of the words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
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

/// A list of steps on its way.
struct Cursor<'p> {
    steps: &'p [Step],
    at: usize,
}

/// A function on its way: its frame, the lists of steps it is in, and where its results go.
struct Active<'p> {
    func: FuncId,
    frame: Frame,
    cursors: Vec<Cursor<'p>>,
}

/// One run of a program.
struct Walk<'s, 'p, 'o> {
    session: &'s mut Session,
    program: &'p Program,
    observer: Option<&'o mut dyn FnMut(StepTime)>,
}

impl<'p> Walk<'_, 'p, '_> {
    /// Runs the entry in a frame and gives the frame back.
    fn run(mut self, frame: Frame) -> Result<Frame, Diagnostic> {
        let mut stack: Vec<Active<'p>> = Vec::new();
        let mut active = self.enter(self.session.entry, frame);
        loop {
            let Some(cursor) = active.cursors.last_mut() else {
                // The function is done.
                self.copy_results(&active);
                match stack.pop() {
                    None => return Ok(active.frame),
                    Some(caller) => {
                        let finished = std::mem::replace(&mut active, caller);
                        self.session.frames.give_back(finished.frame);
                        continue;
                    }
                }
            };
            let Some(step) = cursor.steps.get(cursor.at) else {
                active.cursors.pop();
                continue;
            };
            cursor.at += 1;
            match step {
                Step::Launch { kernel, args } => self.launch(&active, *kernel, args),
                Step::Copy { src, dst } => self.copy(&active, *src, *dst),
                Step::If { cond, then, els } => {
                    let from = active.frame.pointers[cond.index()];
                    // SAFETY: the condition is one byte that an earlier step wrote.
                    let steps = if unsafe { *from } != 0 { then } else { els };
                    active.cursors.push(Cursor { steps, at: 0 });
                }
                Step::Call { func, args, results } => {
                    let callee = self.prepare_call(&active, *func, args, results);
                    if self.is_tail(&active, results) {
                        let replaced = self.replace(active, callee, *func);
                        active = replaced;
                    } else {
                        if stack.len() >= MAX_DEPTH {
                            return Err(too_deep(&self.program.funcs[*func].name));
                        }
                        let callee = self.enter(*func, callee);
                        stack.push(std::mem::replace(&mut active, callee));
                    }
                }
            }
        }
    }

    fn enter(&mut self, func: FuncId, frame: Frame) -> Active<'p> {
        Active { func, frame, cursors: vec![Cursor { steps: &self.program.funcs[func].steps, at: 0 }] }
    }

    fn launch(&mut self, active: &Active<'p>, kernel: KernelId, args: &[BufferId]) {
        let session = &mut *self.session;
        session.arguments.clear();
        session.arguments.extend(args.iter().map(|arg| active.frame.pointers[arg.index()]));
        let launch = Launch {
            kernel: session.kernels[kernel.index()],
            buffers: session.arguments.as_ptr(),
            scratch: session.scratch.as_ptr(),
            scratch_stride: session.scratch_stride,
        };
        let start = self.observer.is_some().then(Instant::now);
        // SAFETY: the plan was checked: arguments are buffers of the sizes that the kernel was
        // compiled for, and outputs are memory of this run alone.
        unsafe { session.device.launch(&launch) };
        self.observe(Some(kernel), start);
    }

    fn copy(&mut self, active: &Active<'p>, src: BufferId, dst: BufferId) {
        let start = self.observer.is_some().then(Instant::now);
        let bytes = self.program.funcs[active.func].buffers[dst].bytes();
        let (from, to) = (active.frame.pointers[src.index()], active.frame.pointers[dst.index()]);
        // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
        unsafe { std::ptr::copy(from, to, bytes) };
        self.observe(None, start);
    }

    fn observe(&mut self, kernel: Option<KernelId>, start: Option<Instant>) {
        if let (Some(observer), Some(start)) = (&mut self.observer, start) {
            observer(StepTime { kernel, time: start.elapsed() });
        }
    }

    /// A frame for a callee, with its parameters and results bound to buffers of the caller.
    fn prepare_call(
        &mut self,
        active: &Active<'p>,
        func: FuncId,
        args: &[BufferId],
        results: &[BufferId],
    ) -> Frame {
        let plan = &self.program.funcs[func];
        let mut frame = self.session.frames.take(func, plan, &self.session.constants);
        for (port, arg) in plan.inputs.iter().zip(args) {
            let bytes = active.frame.pointers[arg.index()];
            frame.bind(plan, plan.buffers[port.buffer].place, bytes);
        }
        for (port, result) in plan.outputs.iter().zip(results) {
            let to = active.frame.pointers[result.index()];
            frame.results.push(to);
            let place = plan.buffers[port.buffer].place;
            if let Place::Output(_) = place {
                frame.bind(plan, place, to);
            }
        }
        frame
    }

    /// Whether nothing is left to do after a call but to hand its results on.
    fn is_tail(&self, active: &Active<'p>, results: &[BufferId]) -> bool {
        let plan = &self.program.funcs[active.func];
        active.cursors.iter().all(|cursor| cursor.at == cursor.steps.len())
            && !active.frame.results.is_empty()
            && plan.outputs.len() == results.len()
            && plan.outputs.iter().zip(results).all(|(port, result)| {
                port.buffer == *result && matches!(plan.buffers[*result].place, Place::Output(_))
            })
    }

    /// Ends a function whose last step is a call. What the callee reads from the frame that ends
    /// is copied into its own.
    fn replace(&mut self, active: Active<'p>, mut callee: Frame, func: FuncId) -> Active<'p> {
        let plan = &self.program.funcs[func];
        let mut used = 0;
        for port in &plan.inputs {
            let from = callee.pointers[port.buffer.index()];
            if active.frame.owns(from) {
                let bytes = plan.buffers[port.buffer].bytes();
                let kept = callee.keep(from, bytes, &mut used, plan);
                callee.bind(plan, plan.buffers[port.buffer].place, kept);
            }
        }
        self.session.frames.give_back(active.frame);
        self.enter(func, callee)
    }

    /// Copies results that are not written in place: parameters, constants and repeated ones.
    fn copy_results(&self, active: &Active<'p>) {
        let plan = &self.program.funcs[active.func];
        for (port, &to) in plan.outputs.iter().zip(&active.frame.results) {
            let from = active.frame.pointers[port.buffer.index()];
            if from != to {
                // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
                unsafe { std::ptr::copy(from, to, plan.buffers[port.buffer].bytes()) };
            }
        }
    }
}

fn too_deep(name: &str) -> Diagnostic {
    Diagnostic::error(Code::RUN, format!("calls of `{name}` nest more than {MAX_DEPTH} deep"))
        .help("a recursion in the last place of a function has no such limit")
}

/// The name of a dtype and shape as Relay writes the type.
fn type_text(dtype: DType, shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    match dims.as_slice() {
        [one] => format!("Tensor[({one},), {}]", dtype.name()),
        dims => format!("Tensor[({}), {}]", dims.join(", "), dtype.name()),
    }
}
