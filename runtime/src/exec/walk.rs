//! A run on its way through a plan: which function is active, where in its steps, and who waits.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_passes::lower::plan::{BufferId, FuncId, FuncPlan, KernelId, Place, Program, Step};

use super::MAX_DEPTH;
use super::frame::Frame;
use super::instance::Instance;

/// A place in a list of steps.
#[derive(Clone, Copy)]
struct Position {
    /// The next step of the list.
    at: usize,
    /// Of the list of a branch, which branch it is of the step before the one above.
    then: bool,
}

/// A function on its way: its frame and, from the outermost list of steps to the innermost, where it is.
struct Active {
    func: FuncId,
    frame: Frame,
    path: Vec<Position>,
}

/// A run on its way. Between two launches it is data, and can be put aside.
pub struct Walk {
    active: Active,
    callers: Vec<Active>,
}

/// What a run does next.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// All tiles of a kernel.
    Launch(KernelId),
    /// A copy of so many bytes; the two places may overlap.
    Copy {
        /// From.
        from: *const u8,
        /// To.
        to: *mut u8,
        /// How many.
        bytes: usize,
    },
    /// Nothing: the run is over.
    End,
}

impl Active {
    fn new(func: FuncId, frame: Frame) -> Active {
        Active { func, frame, path: vec![Position { at: 0, then: false }] }
    }

    /// The lists of steps that it is in, from the outermost.
    fn lists<'p>(&self, plan: &'p FuncPlan) -> impl Iterator<Item = &'p [Step]> {
        let mut steps = &plan.steps[..];
        self.path.iter().enumerate().map(move |(depth, position)| {
            if depth > 0 {
                let Step::If { then, els, .. } = &steps[self.path[depth - 1].at - 1] else {
                    unreachable!("a list inside another is a branch");
                };
                steps = if position.then { then } else { els };
            }
            steps
        })
    }

    /// The next step, lists that are done left behind; `None` at the function's end.
    fn step<'p>(&mut self, plan: &'p FuncPlan) -> Option<&'p Step> {
        while !self.path.is_empty() {
            let steps = self.lists(plan).last().expect("the path is not empty");
            let position = self.path.last_mut().expect("the path is not empty");
            if let Some(step) = steps.get(position.at) {
                position.at += 1;
                return Some(step);
            }
            self.path.pop();
        }
        None
    }

    /// Whether nothing is left to do after a call but to hand its results on.
    fn ends_with(&self, plan: &FuncPlan, results: &[BufferId]) -> bool {
        self.lists(plan).zip(&self.path).all(|(steps, position)| position.at == steps.len())
            && !self.frame.results.is_empty()
            && plan.outputs.len() == results.len()
            && plan.outputs.iter().zip(results).all(|(port, result)| {
                port.buffer == *result && matches!(plan.buffers[*result].place, Place::Output(_))
            })
    }

    /// Copies results that are not written in place: parameters, constants and repeated ones.
    fn copy_results(&self, plan: &FuncPlan) {
        for (port, &to) in plan.outputs.iter().zip(&self.frame.results) {
            let from = self.frame.pointers[port.buffer.index()];
            if from != to {
                // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
                unsafe { std::ptr::copy(from, to, plan.buffers[port.buffer].bytes()) };
            }
        }
    }
}

impl Walk {
    /// A run at the first step of a function.
    pub(super) fn new(func: FuncId, frame: Frame) -> Walk {
        Walk { active: Active::new(func, frame), callers: Vec::new() }
    }

    /// The frame of the entry, once the run is over.
    pub(super) fn into_frame(self) -> Frame {
        self.active.frame
    }

    pub(super) fn advance(
        &mut self,
        instance: &mut Instance,
        program: &Program,
        arguments: &mut Vec<*mut u8>,
    ) -> Result<Next, Diagnostic> {
        loop {
            let plan = &program.funcs[self.active.func];
            match self.active.step(plan) {
                None => {
                    self.active.copy_results(plan);
                    let Some(caller) = self.callers.pop() else { return Ok(Next::End) };
                    let finished = std::mem::replace(&mut self.active, caller);
                    instance.frames.give_back(finished.frame);
                }
                Some(Step::Launch { kernel, args }) => {
                    arguments.clear();
                    arguments.extend(args.iter().map(|arg| self.active.frame.pointers[arg.index()]));
                    return Ok(Next::Launch(*kernel));
                }
                Some(Step::Copy { src, dst }) => {
                    let pointers = &self.active.frame.pointers;
                    let bytes = plan.buffers[*dst].bytes();
                    return Ok(Next::Copy { from: pointers[src.index()], to: pointers[dst.index()], bytes });
                }
                Some(Step::If { cond, .. }) => {
                    let from = self.active.frame.pointers[cond.index()];
                    // SAFETY: the condition is one byte that an earlier step wrote.
                    let then = unsafe { *from } != 0;
                    self.active.path.push(Position { at: 0, then });
                }
                Some(Step::Call { func, args, results }) => {
                    self.call(instance, program, *func, args, results)?
                }
            }
        }
    }

    /// Enters a function: in the caller's place if nothing is left there, else above it.
    fn call(
        &mut self,
        instance: &mut Instance,
        program: &Program,
        func: FuncId,
        args: &[BufferId],
        results: &[BufferId],
    ) -> Result<(), Diagnostic> {
        let mut frame = self.prepare_call(instance, program, func, args, results);
        if self.active.ends_with(&program.funcs[self.active.func], results) {
            self.keep_arguments(&mut frame, &program.funcs[func]);
            let ended = std::mem::replace(&mut self.active, Active::new(func, frame));
            instance.frames.give_back(ended.frame);
            return Ok(());
        }
        if self.callers.len() >= MAX_DEPTH {
            return Err(too_deep(&program.funcs[func].name));
        }
        let caller = std::mem::replace(&mut self.active, Active::new(func, frame));
        self.callers.push(caller);
        Ok(())
    }

    /// A frame for a callee, with its parameters and results bound to buffers of the caller.
    fn prepare_call(
        &self,
        instance: &mut Instance,
        program: &Program,
        func: FuncId,
        args: &[BufferId],
        results: &[BufferId],
    ) -> Frame {
        let plan = &program.funcs[func];
        let mut frame = instance.frames.take(func, plan, &instance.constants);
        for (port, arg) in plan.inputs.iter().zip(args) {
            let bytes = self.active.frame.pointers[arg.index()];
            frame.bind(plan, plan.buffers[port.buffer].place, bytes);
        }
        for (port, result) in plan.outputs.iter().zip(results) {
            let to = self.active.frame.pointers[result.index()];
            frame.results.push(to);
            let place = plan.buffers[port.buffer].place;
            if let Place::Output(_) = place {
                frame.bind(plan, place, to);
            }
        }
        frame
    }

    /// Copies what a callee reads from the frame that ends into its own.
    fn keep_arguments(&self, callee: &mut Frame, plan: &FuncPlan) {
        let mut used = 0;
        for port in &plan.inputs {
            let from = callee.pointers[port.buffer.index()];
            if self.active.frame.owns(from) {
                let kept = callee.keep(from, plan.buffers[port.buffer].bytes(), &mut used, plan);
                callee.bind(plan, plan.buffers[port.buffer].place, kept);
            }
        }
    }
}

fn too_deep(name: &str) -> Diagnostic {
    Diagnostic::error(Code::RUN, format!("calls of `{name}` nest more than {MAX_DEPTH} deep"))
        .help("a recursion in the last place of a function has no such limit")
}
