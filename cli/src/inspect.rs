//! `fermata inspect`: what is in a model or an artifact.

use std::collections::BTreeMap;

use fermata_ir::expr::{Expr, Module};
use fermata_ir::walk;
use fermata_passes::lower::plan::{FuncPlan, Place, Program, Step};
use serde_json::json;

use crate::args::{InspectArgs, PipelineArgs};
use crate::compile::{Compiled, target};
use crate::model::{self, Bindings, Model};
use crate::run::parameters;
use crate::{Driver, Failure, Streams, json, output};

/// `fermata inspect`.
pub(crate) fn command(
    driver: &Driver,
    args: &InspectArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let bindings = Bindings::new(&args.model)?;
    match model::load(driver, &args.model, &bindings, streams)? {
        Model::Module(module) => program(&module, args, streams),
        Model::Artifact(path) => {
            let compiled =
                output::read_artifact(&path, &target(&PipelineArgs::default())?, args.model.trust)?;
            artifact(&compiled, args, streams)
        }
    }
}

/// Inputs, results, operators and weights of a program.
fn program(module: &Module, args: &InspectArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let inputs = parameters(module)?;
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    let result = main.map_or(String::new(), |f| module.types[f.body].to_string());
    let mut ops: BTreeMap<&str, usize> = BTreeMap::new();
    let mut weight_bytes = 0;
    let reachable = walk::reachable(module);
    let mut constants = std::collections::BTreeSet::new();
    for &expr in &reachable {
        if let Some((op, _)) = module.as_op_call(expr) {
            *ops.entry(op.name()).or_default() += 1;
        }
        if let Expr::Const(c) = module.exprs[expr]
            && constants.insert(c)
        {
            weight_bytes += module.consts[c].tensor.bytes().len();
        }
    }
    let calls: usize = ops.values().sum();
    if args.json {
        let inputs: Vec<_> = inputs.iter().map(|w| json!({"name": w.name, "type": ty_text(w)})).collect();
        let result = json!({
            "reason": "result", "schema": "fermata.inspect.program/1", "inputs": inputs, "result": result,
            "calls": calls, "ops": ops, "constants": constants.len(), "weight_bytes": weight_bytes,
        });
        return json::line(&result, streams);
    }
    for input in &inputs {
        writeln!(streams.stdout, "input    {}: {}", input.name, ty_text(input))?;
    }
    writeln!(streams.stdout, "result   {result}")?;
    writeln!(streams.stdout, "weights  {} constants, {}", constants.len(), bytes_text(weight_bytes))?;
    writeln!(streams.stdout, "calls    {calls} of {} operators", ops.len())?;
    for (op, count) in &ops {
        writeln!(streams.stdout, "  {count:>6}  {op}")?;
    }
    Ok(0)
}

fn ty_text(input: &crate::inputs::Wanted) -> String {
    fermata_ir::types::Type::from(input.ty.clone()).to_string()
}

/// `12.3 MB` and the like.
pub fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Kernels, steps and memory of a compiled program.
fn artifact(compiled: &Compiled, args: &InspectArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let program = &compiled.program;
    let Some(entry) = program.entry else {
        return Err(Failure::usage("the artifact has no entry"));
    };
    let plan = &program.funcs[entry];
    let constants: usize = program.constants.iter().map(|c| c.bytes().len()).sum();
    if args.json {
        let kernels: Vec<_> = program
            .kernels
            .iter()
            .map(|(id, k)| {
                let code = compiled.kernels.get(id.as_u32() as usize);
                json!({"name": &*k.func.name, "tiles": k.tiles,
                       "code_bytes": code.map_or(0, |c| c.code.len()),
                       "scratch_bytes": code.map_or(0, |c| c.scratch_bytes)})
            })
            .collect();
        let result = json!({
            "reason": "result", "schema": "fermata.inspect.artifact/1", "kernels": kernels,
            "steps": plan.steps.len(), "arena_bytes": plan.arena_bytes, "constant_bytes": constants,
        });
        return json::line(&result, streams);
    }
    for port in &plan.inputs {
        writeln!(streams.stdout, "input   {}: {}", port.name, buffer_text(plan, port.buffer))?;
    }
    for port in &plan.outputs {
        writeln!(streams.stdout, "result  {}: {}", port.name, buffer_text(plan, port.buffer))?;
    }
    writeln!(
        streams.stdout,
        "memory  {} for temporaries, {} of constants",
        bytes_text(plan.arena_bytes),
        bytes_text(constants)
    )?;
    writeln!(streams.stdout, "plan    {} steps, {} kernels", plan.steps.len(), program.kernels.len())?;
    let launches = launches(program, plan);
    for (id, kernel) in program.kernels.iter() {
        let code = compiled.kernels.get(id.as_u32() as usize).map_or(0, |c| c.code.len());
        writeln!(
            streams.stdout,
            "  {:<48} {:>4} launches {:>6} tiles {:>9} code",
            kernel.func.name,
            launches.get(&id.as_u32()).copied().unwrap_or(0),
            kernel.tiles,
            bytes_text(code)
        )?;
    }
    Ok(0)
}

fn buffer_text(plan: &FuncPlan, id: fermata_passes::lower::plan::BufferId) -> String {
    let buffer = &plan.buffers[id];
    let ty = fermata_ir::types::Type::tensor(&buffer.shape, buffer.dtype);
    match buffer.place {
        Place::Constant(_) => format!("{ty}, a constant"),
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => ty.to_string(),
    }
}

/// How often each kernel stands in a plan, branches included.
fn launches(_: &Program, plan: &FuncPlan) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    let mut stack: Vec<&Step> = plan.steps.iter().collect();
    while let Some(step) = stack.pop() {
        match step {
            Step::Launch { kernel, .. } => *counts.entry(kernel.as_u32()).or_default() += 1,
            Step::If { then, els, .. } => stack.extend(then.iter().chain(els)),
            Step::Call { .. } | Step::Copy { .. } => {}
        }
    }
    counts
}
