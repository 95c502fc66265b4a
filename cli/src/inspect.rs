//! `fermata inspect`: what is in a model or an artifact.
//!
//! With `--json` the last line says of a program (`fermata.inspect.program/1`) its `inputs` (`name`,
//! `type`), `result`, `calls`, `ops` (calls by operator), `constants` and `weight_bytes`.
//!
//! Of an artifact, or of a program that is compiled for `--kernels`
//! (`fermata.inspect.artifact/2`), it says `steps`, `arena_bytes`, `constant_bytes`, `bound_ns` (null
//! without a bound) and `kernels`, each with
//! - `name`, `launches` (places in the plan), `tiles`, `code_bytes`, `scratch_bytes` (of a worker);
//! - `reads` and `writes`, a list each: `parameter`, its `elements`, `most_of_a_tile` (from the first
//!   element that a tile touches to the last), `first_of_first_tile`, `first_of_last_tile`, and the
//!   `step` of the first element from tile to tile, null if it is not even;
//! - `tiles_are_independent`: whether that is proved;
//! - `certificate`, null where the target has no cost model: `tile_ns` (predicted, of the longest
//!   tile), `lookahead_tiles`, `exit_ns` (from a look at the word to the exit), `bound_ns`, `holds`, and
//!   the `obstacle` if it does not;
//! - `measured_ns`: the longest tile with `--measure`, else null;
//! - `raw`: `tiles` and predicted `tile_ns` of the schedule that knows no bound, null if it is the same.

mod kernels;

use std::collections::BTreeMap;

use fermata_codegen::artifact::Gpu;
use fermata_ir::expr::{Expr, Module};
use fermata_ir::walk;
use fermata_passes::lower::plan::{FuncPlan, Place};
use fermata_passes::target::Target;
use fermata_runtime::exec::calibrate::longest_tiles;
use serde_json::json;

use crate::args::{Fill, InspectArgs, PipelineArgs};
use crate::bound::of_artifact;
use crate::compile::{Compiled, any_target, compile, plan, target};
use crate::inputs::{Given, collect};
use crate::model::{self, Model};
use crate::run::{bindings, parameters, ports};
use crate::{Driver, Failure, Streams, json, output};

/// Runs of a measurement; of each tile the shortest counts.
const RUNS: usize = 10;

/// `fermata inspect`.
pub(crate) fn command(
    driver: &Driver,
    args: &InspectArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let given = Given::new(&args.inputs, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let compiled = match model::load(driver, &args.model, &bindings, streams)? {
        Model::Module(module) if args.kernels || args.measure || args.pipeline.checkpoint_bound.is_some() => {
            on_the_fly(driver, *module, &args.pipeline, streams)?
        }
        Model::Module(module) => return program(&module, args, streams),
        Model::Artifact(path) => {
            let host = target(&PipelineArgs { target: "cpu".into(), ..args.pipeline.clone() })?;
            let compiled = output::read_artifact(&path, &host, args.model.trust)?;
            of_artifact(&compiled.program, &args.pipeline)?;
            compiled
        }
    };
    let measured = match args.measure {
        true => Some(measure(&compiled, &given, args, streams)?),
        false => None,
    };
    compiled_program(&compiled, measured.as_deref(), args, streams)
}

/// A program compiled for whatever target the flags name; for a GPU, its plan.
fn on_the_fly(
    driver: &Driver,
    module: Module,
    args: &PipelineArgs,
    streams: &mut Streams<'_>,
) -> Result<Compiled, Failure> {
    match any_target(args)? {
        Target::Cpu(_) => compile(driver, module, args, streams),
        Target::Cuda(gpu) => {
            let program = plan(driver, module, args, streams)?;
            Ok(Compiled {
                module: Module::new(),
                program,
                kernels: Vec::new(),
                gpu: Some(Gpu::compiled(gpu)),
            })
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
fn compiled_program(
    compiled: &Compiled,
    measured: Option<&[Option<u64>]>,
    args: &InspectArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let program = &compiled.program;
    let Some(entry) = program.entry else {
        return Err(Failure::usage("the artifact has no entry"));
    };
    let plan = &program.funcs[entry];
    let constants: usize = program.constants.iter().map(|c| c.bytes().len()).sum();
    if args.json {
        let result = json!({
            "reason": "result", "schema": "fermata.inspect.artifact/2",
            "kernels": kernels::json(compiled, measured), "steps": plan.steps.len(),
            "arena_bytes": plan.arena_bytes, "constant_bytes": constants,
            "bound_ns": program.bound.map(|b| b.as_nanos() as u64),
        });
        return json::line(&result, streams);
    }
    for port in &plan.inputs {
        writeln!(streams.stdout, "input   {}: {}", port.name, buffer_text(plan, port.buffer))?;
    }
    for port in &plan.outputs {
        writeln!(streams.stdout, "result  {}: {}", port.name, buffer_text(plan, port.buffer))?;
    }
    let (arena, constants) = (bytes_text(plan.arena_bytes), bytes_text(constants));
    writeln!(streams.stdout, "memory  {arena} for temporaries, {constants} of constants")?;
    let count = program.launches().iter().filter(|&&n| n > 0).count();
    writeln!(streams.stdout, "plan    {} steps, {count} kernels", plan.steps.len())?;
    kernels::print(compiled, measured, streams)?;
    Ok(0)
}

/// The longest tile of each kernel on this machine.
fn measure(
    compiled: &Compiled,
    given: &Given,
    args: &InspectArgs,
    streams: &mut Streams<'_>,
) -> Result<Vec<Option<u64>>, Failure> {
    if let Some(gpu) = &compiled.gpu {
        return Err(Failure::usage(format!(
            "kernels for `{}` cannot be measured in this version",
            gpu.target
        )));
    }
    let mut inputs_args = args.inputs.clone();
    inputs_args.fill.get_or_insert(Fill::Random);
    let inputs = collect(&inputs_args, given, &ports(&compiled.program))?;
    let features = target(&args.pipeline)?.features;
    if cfg!(debug_assertions) {
        writeln!(streams.stderr, "warning: this is a debug build, whose micro-kernels are slow")?;
    }
    Ok(longest_tiles(compiled.program.clone(), &compiled.kernels, &inputs, features, RUNS)?)
}

fn buffer_text(plan: &FuncPlan, id: fermata_passes::lower::plan::BufferId) -> String {
    let buffer = &plan.buffers[id];
    let ty = fermata_ir::types::Type::tensor(&buffer.shape, buffer.dtype);
    match buffer.place {
        Place::Constant(_) => format!("{ty}, a constant"),
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => ty.to_string(),
    }
}
