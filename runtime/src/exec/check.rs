//! Checks that make running a plan safe: every size and every place before any code runs.

use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::{Tensor, byte_len};
use fermata_ir::types::{DType, Type};
use fermata_passes::lower::in_place::Proofs;
use fermata_passes::lower::plan::{
    BufferId, FuncId, FuncPlan, Kernel, KernelId, Place, PlanBuffer, Port, Program, Step,
};

use crate::memory::ALIGNMENT;

fn broken(func: &FuncPlan, why: &str) -> Diagnostic {
    Diagnostic::error(Code::ARTIFACT, format!("the plan of `{}` is broken: {why}", func.name))
        .help("compile the model again")
}

/// Calls `f` for every step, those inside of branches too.
pub(super) fn each_step<'p>(steps: &'p [Step], f: &mut dyn FnMut(&'p Step)) {
    let mut stack: Vec<&'p [Step]> = vec![steps];
    while let Some(steps) = stack.pop() {
        for step in steps {
            f(step);
            if let Step::If { then, els, .. } = step {
                stack.push(then);
                stack.push(els);
            }
        }
    }
}

/// Checks a program against its kernels; gives the entry.
pub(super) fn program(program: &Program, kernels: &[CompiledKernel]) -> Result<FuncId, Diagnostic> {
    if kernels.len() != program.kernels.len() {
        return Err(Diagnostic::error(Code::ARTIFACT, "the program and its code have different kernels"));
    }
    plan(program)
}

/// Checks a program, whatever runs its kernels; gives the entry.
///
/// # Errors
/// If its plan contradicts itself: then running it could go wrong.
pub fn plan(program: &Program) -> Result<FuncId, Diagnostic> {
    let entry = program
        .entry
        .filter(|entry| entry.index() < program.funcs.len())
        .ok_or_else(|| Diagnostic::error(Code::ARTIFACT, "the program has no entry"))?;
    // A call looks into the function that it calls, which may come later.
    program.funcs.values().try_for_each(|func| buffers(program, func))?;
    let mut proofs = Proofs::default();
    for func in program.funcs.values() {
        let mut result = Ok(());
        each_step(&func.steps, &mut |s| {
            if result.is_ok() {
                result = step(program, func, s).and_then(|()| aliases(program, func, s, &mut proofs));
            }
        });
        result?;
    }
    Ok(entry)
}

/// Checks the memory that a step writes, whose buffers have been checked: it is no other's of this
/// step, but for a kernel's input that it proves to need no longer when it writes.
fn aliases(program: &Program, func: &FuncPlan, step: &Step, proofs: &mut Proofs) -> Result<(), Diagnostic> {
    match step {
        Step::Launch { kernel, args } => {
            let inputs = args.len() - program.kernels[*kernel].func.outputs;
            let pairs = (inputs..args.len()).flat_map(|out| (0..out).map(move |other| (out, other)));
            for (out, other) in pairs.filter(|&(out, other)| meet(func, args[out], args[other])) {
                let same = func.buffers[args[out]].place == func.buffers[args[other]].place;
                if other >= inputs || !same || !allow(program, proofs, *kernel, other, out) {
                    let name = &program.kernels[*kernel].func.name;
                    let (out, other) = (args[out], args[other]);
                    return Err(broken(func, &format!("`{name}` must not write {out} where {other} lies")));
                }
            }
            Ok(())
        }
        Step::Call { args, results, .. } => {
            let overwritten = |(at, &result): (usize, &BufferId)| {
                args.iter().chain(&results[..at]).any(|&other| meet(func, result, other))
            };
            match results.iter().enumerate().find(|&r| overwritten(r)) {
                Some((_, result)) => {
                    Err(broken(func, &format!("a call must not write {result}, which it uses")))
                }
                None => Ok(()),
            }
        }
        Step::Copy { .. } | Step::If { .. } => Ok(()),
    }
}

fn allow(program: &Program, proofs: &mut Proofs, id: KernelId, input: usize, output: usize) -> bool {
    proofs.allow(id, &program.kernels[id], input, output)
}

/// True if two buffers share memory.
fn meet(func: &FuncPlan, a: BufferId, b: BufferId) -> bool {
    let (a, b) = (&func.buffers[a], &func.buffers[b]);
    match (a.place, b.place) {
        (Place::Arena(x), Place::Arena(y)) => x < y + b.bytes() && y < x + a.bytes(),
        (x, y) => x == y,
    }
}

fn buffers(program: &Program, func: &FuncPlan) -> Result<(), Diagnostic> {
    for (id, buffer) in func.buffers.iter() {
        let bytes = byte_len(buffer.dtype, &buffer.shape).map_err(|e| broken(func, &e.to_string()))?;
        let fits = match buffer.place {
            Place::Input(index) => {
                let port =
                    func.inputs.get(index).map(|p| p.buffer).filter(|b| b.index() < func.buffers.len());
                port.is_some_and(|b| func.buffers[b].bytes() == bytes)
            }
            Place::Output(index) => func.result_bytes.get(index) == Some(&bytes),
            Place::Constant(index) => program.constants.get(index).is_some_and(|c| c.bytes().len() == bytes),
            Place::Arena(offset) => {
                offset.is_multiple_of(ALIGNMENT)
                    && offset.checked_add(bytes).is_some_and(|end| end <= func.arena_bytes)
            }
        };
        if !fits {
            return Err(broken(func, &format!("{id} does not fit its place")));
        }
    }
    let known = |id: BufferId| id.index() < func.buffers.len();
    let is_input =
        |(i, p): (usize, &Port)| known(p.buffer) && func.buffers[p.buffer].place == Place::Input(i);
    if !func.inputs.iter().enumerate().all(is_input) {
        return Err(broken(func, "a parameter is no input"));
    }
    if !func.outputs.iter().all(|p| known(p.buffer)) {
        return Err(broken(func, "a result does not exist"));
    }
    let is_bound =
        |index: usize| func.outputs.iter().any(|p| func.buffers[p.buffer].place == Place::Output(index));
    match (0..func.result_bytes.len()).find(|&index| !is_bound(index)) {
        Some(index) => Err(broken(func, &format!("result memory {index} is bound to nothing"))),
        None => Ok(()),
    }
}

fn step(program: &Program, func: &FuncPlan, step: &Step) -> Result<(), Diagnostic> {
    let buffer = |id: BufferId| -> Result<&PlanBuffer, Diagnostic> {
        if id.index() < func.buffers.len() {
            Ok(&func.buffers[id])
        } else {
            Err(broken(func, &format!("{id} does not exist")))
        }
    };
    let writable = |id: BufferId| -> Result<&PlanBuffer, Diagnostic> {
        let found = buffer(id)?;
        match found.place {
            Place::Output(_) | Place::Arena(_) => Ok(found),
            Place::Input(_) | Place::Constant(_) => Err(broken(func, &format!("{id} must not be written"))),
        }
    };
    match step {
        Step::Launch { kernel, args } => {
            let Some(kernel) = (kernel.index() < program.kernels.len()).then(|| &program.kernels[*kernel])
            else {
                return Err(broken(func, &format!("{kernel} does not exist")));
            };
            launch(func, kernel, args, &buffer, &writable)
        }
        Step::Copy { src, dst } => {
            if buffer(*src)?.bytes() != writable(*dst)?.bytes() {
                return Err(broken(func, &format!("{src} and {dst} have different sizes")));
            }
            Ok(())
        }
        Step::If { cond, .. } => {
            let cond = buffer(*cond)?;
            if cond.dtype != DType::Bool || cond.bytes() != 1 {
                return Err(broken(func, "a condition is no bool"));
            }
            Ok(())
        }
        Step::Call { func: callee, args, results } => {
            let Some(plan) = (callee.index() < program.funcs.len()).then(|| &program.funcs[*callee]) else {
                return Err(broken(func, &format!("{callee} does not exist")));
            };
            let fits = |ports: &[Port], sizes: Vec<usize>| {
                ports.iter().map(|p| plan.buffers[p.buffer].bytes()).eq(sizes)
            };
            let args = args.iter().map(|&id| buffer(id).map(PlanBuffer::bytes)).collect::<Result<_, _>>()?;
            let results =
                results.iter().map(|&id| writable(id).map(PlanBuffer::bytes)).collect::<Result<_, _>>()?;
            if fits(&plan.inputs, args) && fits(&plan.outputs, results) {
                Ok(())
            } else {
                Err(broken(func, &format!("a call of `{}` does not fit it", plan.name)))
            }
        }
    }
}

fn launch<'p>(
    func: &FuncPlan,
    kernel: &Kernel,
    args: &[BufferId],
    buffer: &dyn Fn(BufferId) -> Result<&'p PlanBuffer, Diagnostic>,
    writable: &dyn Fn(BufferId) -> Result<&'p PlanBuffer, Diagnostic>,
) -> Result<(), Diagnostic> {
    let params = &kernel.func.params;
    let inputs = params.len().saturating_sub(kernel.func.outputs);
    if args.len() != params.len() {
        return Err(broken(
            func,
            &format!("a launch of `{}` has too few or too many buffers", kernel.func.name),
        ));
    }
    for (at, (&arg, &param)) in args.iter().zip(params).enumerate() {
        let found = if at < inputs { buffer(arg)? } else { writable(arg)? };
        let wanted = &kernel.func.buffers[param];
        let bytes = byte_len(wanted.dtype, &wanted.shape).map_err(|e| broken(func, &e.to_string()))?;
        if found.dtype != wanted.dtype || found.bytes() != bytes {
            let name = &kernel.func.name;
            return Err(broken(func, &format!("{arg} does not fit parameter {at} of `{name}`")));
        }
    }
    Ok(())
}

/// Checks the inputs of a run.
pub(super) fn inputs(func: &FuncPlan, inputs: &[Tensor]) -> Result<(), Diagnostic> {
    if inputs.len() != func.inputs.len() {
        let names: Vec<&str> = func.inputs.iter().map(|port| &*port.name).collect();
        let message = format!("the model has {} inputs, but {} were given", func.inputs.len(), inputs.len());
        return Err(Diagnostic::error(Code::RUN, message)
            .help(format!("give each with `-i NAME=VALUE`; the inputs are {}", names.join(", "))));
    }
    for (port, tensor) in func.inputs.iter().zip(inputs) {
        let wanted = &func.buffers[port.buffer];
        if tensor.dtype() != wanted.dtype || tensor.shape() != wanted.shape {
            let expected = Type::tensor(&wanted.shape, wanted.dtype);
            let found = tensor.ty();
            let mut spec: Vec<String> = wanted.shape.iter().map(usize::to_string).collect();
            spec.push(wanted.dtype.name().to_owned());
            return Err(Diagnostic::error(Code::RUN, format!("input `{}` has the wrong type", port.name))
                .note(format!("expected {expected}"))
                .note(format!("found {found}"))
                .help(format!(
                    "give `-i {}={}=..`, or compile for this shape with `--dim`",
                    port.name,
                    spec.join("x")
                )));
        }
    }
    Ok(())
}

/// Checks the sizes of the memory for outputs.
pub(super) fn outputs(func: &FuncPlan, outputs: &[&mut [u8]]) -> Result<(), Diagnostic> {
    let wanted = func.outputs.iter().map(|port| func.buffers[port.buffer].bytes());
    if wanted.eq(outputs.iter().map(|bytes| bytes.len())) {
        return Ok(());
    }
    Err(Diagnostic::error(Code::RUN, "the memory for the outputs has other sizes than the results"))
}
