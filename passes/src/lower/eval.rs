//! The meaning of a plan: its steps in order, kernels on the TIR evaluator.
//!
//! Kernels scheduled for a GPU run with the semantics of CUDA, blocks, threads and barriers, so
//! that they are checked where there is no GPU. A call in the last place whose results are the
//! caller's does not nest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_ir::tir;

use super::plan::{BufferId, FuncId, KernelId, Place, Program, Step};

/// How deeply calls may nest.
const MAX_DEPTH: usize = 1000;

/// Runs the entry of a program on its inputs.
///
/// # Errors
/// If an input does not fit, a kernel does something it must not, or calls nest too deeply.
pub fn run(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    let entry = program.entry.ok_or_else(|| error("the plan has no entry"))?;
    let mut machine = Machine { program, kernels: BTreeMap::new() };
    let mut stack = vec![machine.frame(entry, inputs, Vec::new())?];
    loop {
        let Some(frame) = stack.last_mut() else { return Err(error("the plan has no function")) };
        let Some(step) = frame.next() else {
            let done = stack.pop().ok_or_else(|| error("the plan has no function"))?;
            let outputs = machine.outputs(&done)?;
            let Some(caller) = stack.last_mut() else { return Ok(outputs) };
            for (&buffer, value) in done.results.iter().zip(outputs) {
                machine.write(caller, buffer, value);
            }
            continue;
        };
        match step {
            Step::Launch { kernel, args } => machine.launch(frame, *kernel, args)?,
            Step::Copy { src, dst } => {
                let value = machine.read(frame, *src)?;
                machine.write(frame, *dst, value);
            }
            Step::If { cond, then, els } => {
                let holds = machine.read(frame, *cond)?.bytes().iter().any(|b| *b != 0);
                frame.cursors.push((if holds { then } else { els }, 0));
            }
            Step::Call { func, args, results } => {
                let args = args.iter().map(|&a| machine.read(frame, a)).collect::<Result<Vec<_>, _>>()?;
                let outputs = program.funcs[frame.func].outputs.iter().map(|p| p.buffer);
                if frame.is_over() && outputs.eq(results.iter().copied()) {
                    let results = std::mem::take(&mut frame.results);
                    *frame = machine.frame(*func, &args, results)?;
                } else if stack.len() < MAX_DEPTH {
                    let callee = machine.frame(*func, &args, results.clone())?;
                    stack.push(callee);
                } else {
                    return Err(error(format!("calls nest more than {MAX_DEPTH} deep")));
                }
            }
        }
    }
}

fn error(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::EVAL, message)
}

/// A running function.
struct Frame<'p> {
    func: FuncId,
    /// What lies at each place.
    memory: BTreeMap<(u8, usize), Tensor>,
    /// Open lists of steps, with the next of each.
    cursors: Vec<(&'p [Step], usize)>,
    /// Where the results go in the caller.
    results: Vec<BufferId>,
}

impl<'p> Frame<'p> {
    fn next(&mut self) -> Option<&'p Step> {
        loop {
            let (steps, at) = self.cursors.last_mut()?;
            if let Some(step) = steps.get(*at) {
                *at += 1;
                return Some(step);
            }
            self.cursors.pop();
        }
    }

    /// True if no step is left.
    fn is_over(&self) -> bool {
        self.cursors.iter().all(|(steps, at)| *at == steps.len())
    }
}

struct Machine<'p> {
    program: &'p Program,
    /// Kernels that ran already.
    kernels: BTreeMap<usize, tir::eval::Program>,
}

impl<'p> Machine<'p> {
    fn frame(
        &self,
        func: FuncId,
        inputs: &[Tensor],
        results: Vec<BufferId>,
    ) -> Result<Frame<'p>, Diagnostic> {
        let plan = &self.program.funcs[func];
        let mut frame = Frame { func, memory: BTreeMap::new(), cursors: vec![(&plan.steps[..], 0)], results };
        if plan.inputs.len() != inputs.len() {
            let (want, got) = (plan.inputs.len(), inputs.len());
            return Err(error(format!("`{}` takes {want} inputs, not {got}", plan.name)));
        }
        for (port, input) in plan.inputs.iter().zip(inputs) {
            let buffer = &plan.buffers[port.buffer];
            if input.dtype() != buffer.dtype || input.shape() != buffer.shape {
                return Err(error(format!(
                    "input `{}` is {} {:?}, not {} {:?}",
                    port.name,
                    buffer.dtype,
                    buffer.shape,
                    input.dtype(),
                    input.shape()
                )));
            }
            frame.memory.insert(key(buffer.place), input.clone());
        }
        Ok(frame)
    }

    fn read(&self, frame: &Frame<'_>, buffer: BufferId) -> Result<Tensor, Diagnostic> {
        let info = &self.program.funcs[frame.func].buffers[buffer];
        if info.shape.contains(&0) {
            // What takes no room has no place of its own.
            return Tensor::zeros(info.dtype, &info.shape).map_err(|e| error(e.to_string()));
        }
        let stored = match info.place {
            Place::Constant(i) => self.program.constants.get(i),
            place => frame.memory.get(&key(place)),
        };
        stored
            .filter(|t| t.dtype() == info.dtype)
            .and_then(|t| t.reshape(&info.shape).ok())
            .ok_or_else(|| error(format!("{buffer} is read before it is written")))
    }

    /// A buffer's place holds the value from now on, whatever its shape was before; what takes no
    /// room may lie where another buffer does.
    fn write(&self, frame: &mut Frame<'_>, buffer: BufferId, value: Tensor) {
        let place = self.program.funcs[frame.func].buffers[buffer].place;
        if !value.is_empty() {
            frame.memory.insert(key(place), value);
        }
    }

    fn outputs(&self, frame: &Frame<'_>) -> Result<Vec<Tensor>, Diagnostic> {
        let outputs = &self.program.funcs[frame.func].outputs;
        outputs.iter().map(|port| self.read(frame, port.buffer)).collect()
    }

    fn launch(&mut self, frame: &mut Frame<'_>, id: KernelId, args: &[BufferId]) -> Result<(), Diagnostic> {
        let func = &self.program.kernels[id].func;
        let inputs = func.params.len() - func.outputs;
        let mut tensors = Vec::with_capacity(args.len());
        for (i, (&arg, &param)) in args.iter().zip(&func.params).enumerate() {
            let buffer = &func.buffers[param];
            let tensor = if i < inputs {
                // A kernel may see a buffer in another shape of the same size.
                self.read(frame, arg)?.reshape(&buffer.shape)
            } else {
                Tensor::zeros(buffer.dtype, &buffer.shape)
            };
            tensors.push(tensor.map_err(|e| error(format!("in `{}`: {e}", func.name)))?);
        }
        let compiled = match self.kernels.entry(id.index()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(tir::eval::Program::compile(func)?),
        };
        compiled.run(&mut tensors)?;
        for (&arg, tensor) in args.iter().zip(tensors).skip(inputs) {
            self.write(frame, arg, tensor);
        }
        Ok(())
    }
}

fn key(place: Place) -> (u8, usize) {
    match place {
        Place::Input(n) => (0, n),
        Place::Output(n) => (1, n),
        Place::Constant(n) => (2, n),
        Place::Arena(n) => (3, n),
    }
}
