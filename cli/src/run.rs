//! `fermata run`: a model on inputs, compiled or on the evaluator.

use fermata_codegen::artifact::Gpu;
use fermata_ir::compare::{Comparison, Tolerance, compare_by, compare_with};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::front::{hf, output_names};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::TensorType;
use fermata_passes::lower::plan::Program;
use fermata_runtime::exec::{Runnable, Session, SessionOptions, check_plan};

use crate::args::{Device, ModelArgs, PipelineArgs, RunArgs, ToleranceArgs};
use crate::compile::{Compiled, compile, load_compiled, plan, target};
use crate::inputs::{Given, Wanted, collect, read_npz};
use crate::model::{self, Bindings, Model};
use crate::{Driver, Failure, Streams, cuda, output};

/// Named results.
pub type Results = Vec<(String, Tensor)>;

/// `fermata run`.
pub(crate) fn command(driver: &Driver, args: &RunArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let given = Given::new(&args.inputs, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let results = match args.device {
        Device::Interp => {
            let module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
            let wanted = parameters(&module)?;
            let inputs = collect(&args.inputs, &given, &wanted)?;
            interpret(&module, inputs)?
        }
        Device::Cpu => {
            let compiled = load_compiled(driver, &args.model, &bindings, &args.pipeline, streams)?;
            let wanted = ports(&compiled.program);
            let inputs = collect(&args.inputs, &given, &wanted)?;
            execute(&mut session(compiled, &args.pipeline, usize::from(args.threads))?, &inputs)?
        }
        Device::Tir | Device::Cuda => {
            let planned = planned(driver, (&args.model, &args.pipeline), &bindings, streams)?;
            let inputs = collect(&args.inputs, &given, &planned.wanted)?;
            let Planned { program, gpu, .. } = planned;
            match args.device {
                Device::Cuda => execute(&mut cuda::session(program, gpu)?, &inputs)?,
                _ => evaluate_program(&program, &inputs)?,
            }
        }
    };
    if args.output.as_os_str() == "-" {
        // Of texts, the embeddings are asked for; the states of all tokens would hide them.
        let shown = |name: &str| args.inputs.text.is_empty() || name == hf::EMBEDDING;
        for (name, tensor) in results.iter().filter(|(name, _)| shown(name)) {
            let text = match args.print_top {
                Some(count) => output::top_text(name, tensor, count),
                None => output::result_text(name, tensor),
            };
            writeln!(streams.stdout, "{text}")?;
        }
    } else {
        let bytes = output::npz(results.iter().map(|(n, t)| (&**n, t)))?;
        output::write(&args.output, &bytes, streams)?;
    }
    match &args.expect {
        Some(path) => expected(&results, &read_npz(path)?.into_iter().collect(), &args.tolerance, streams),
        None => Ok(0),
    }
}

/// The bindings of the flags, and of an ONNX model or a text with open dimensions the shapes of
/// the inputs that are given, so that the program is specialised to them.
pub fn bindings(
    driver: &Driver,
    args: &ModelArgs,
    given: &Given,
    streams: &mut Streams<'_>,
) -> Result<Bindings, Failure> {
    let mut bindings = Bindings::new(args)?;
    if args.model.as_os_str() == "-" {
        return Ok(bindings);
    }
    let names = match model::onnx_inputs(args)? {
        Some(inputs) => {
            for name in inputs.deciding {
                let place = inputs.names.iter().position(|n| *n == name).unwrap_or(usize::MAX);
                if let Some(value) = given.get(place, &name) {
                    bindings.values.push((name, value.clone()));
                }
            }
            inputs.names
        }
        None if args.model.is_dir() => hf::INPUTS.map(str::to_owned).into(),
        None => open_parameters(driver, args, &bindings, streams)?,
    };
    for (name, shape) in given.shapes(&names) {
        if !bindings.shapes.iter().any(|(n, _)| *n == name) {
            bindings.shapes.push((name, shape));
        }
    }
    Ok(bindings)
}

/// The parameters of a text whose types have open dimensions.
fn open_parameters(
    driver: &Driver,
    args: &ModelArgs,
    bindings: &Bindings,
    streams: &mut Streams<'_>,
) -> Result<Vec<String>, Failure> {
    let Model::Module(module) = model::load(driver, args, bindings, streams)? else {
        return Ok(Vec::new());
    };
    let wanted = parameters(&module).unwrap_or_default();
    Ok(wanted.into_iter().filter(|w| w.ty.static_shape().is_none()).map(|w| w.name).collect())
}

/// The parameters of `@main`.
///
/// # Errors
/// If there is no such function, or a parameter is no tensor.
pub fn parameters(module: &Module) -> Result<Vec<Wanted>, Failure> {
    let func = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    let func = func.ok_or_else(|| no_main(module))?;
    let wanted = func.params.iter().map(|&p| {
        let var = &module.vars[p];
        let ty = var.ty.as_tensor().cloned().ok_or_else(|| {
            Failure::usage(format!("the parameter `%{}` of `@main` is no tensor", var.name))
        })?;
        Ok(Wanted { name: var.name.to_string(), ty })
    });
    wanted.collect()
}

/// There is nothing to begin with.
pub fn no_main(module: &Module) -> Failure {
    let functions = module.functions();
    let names: Vec<&str> = functions.iter().map(|(id, _)| &*module.globals[*id].name).collect();
    let error = Diagnostic::error(Code::USAGE, "the program has no function `@main`");
    Failure::from_usage(match names.first() {
        Some(first) => {
            error.help(format!("choose one with `--entry {first}`; it has: @{}", names.join(", @")))
        }
        None => error.help("it has no functions at all"),
    })
}

/// The parameters of a compiled program.
pub fn ports(program: &Program) -> Vec<Wanted> {
    let Some(entry) = program.entry else { return Vec::new() };
    let plan = &program.funcs[entry];
    let ports = plan.inputs.iter().map(|port| {
        let buffer = &plan.buffers[port.buffer];
        Wanted { name: port.name.to_string(), ty: TensorType::of(&buffer.shape, buffer.dtype) }
    });
    ports.collect()
}

/// Runs `@main` on the evaluator.
///
/// # Errors
/// If an input does not fit or an operator fails.
pub fn interpret(module: &Module, inputs: Vec<Tensor>) -> Result<Results, Failure> {
    let args = inputs.into_iter().map(Value::from).collect();
    let value = eval_global(module, "main", args, &EvalOptions::default())
        .map_err(|d| Failure::refused(d, &module.sources))?;
    let names = module.global("main").and_then(|g| module.globals[g].func.as_ref()).map(output_names);
    let names = names.unwrap_or_default();
    let mut flat = Vec::new();
    flatten(&value, &mut flat)?;
    let named = flat
        .into_iter()
        .enumerate()
        .map(|(i, tensor)| (names.get(i).cloned().unwrap_or_else(|| format!("output{i}")), tensor));
    Ok(named.collect())
}

/// The tensors of a value, tuples flattened.
fn flatten(value: &Value, flat: &mut Vec<Tensor>) -> Result<(), Failure> {
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        match (value.as_tensor(), value.as_tuple()) {
            (Some(tensor), _) => flat.push(tensor.clone()),
            (None, Some(fields)) => stack.extend(fields.iter().rev()),
            (None, None) => return Err(Failure::usage("the result is no tensor and no tuple of tensors")),
        }
    }
    Ok(())
}

/// A session of a compiled program: with its raw kernels, which nothing preempts, unless the
/// flags ask for a bound.
///
/// # Errors
/// If the plan is broken.
pub fn session(compiled: Compiled, args: &PipelineArgs, threads: usize) -> Result<Session, Failure> {
    let options = SessionOptions { threads, features: target(args)?.features, ..SessionOptions::default() };
    let program = match args.checkpoint_bound {
        Some(_) => compiled.program,
        None => compiled.program.raw(),
    };
    Ok(Session::with_options(program, compiled.kernels, &options)?)
}

/// Runs a program once, on whatever device it is for.
///
/// # Errors
/// If an input does not fit, or the device fails.
pub fn execute(session: &mut dyn Runnable, inputs: &[Tensor]) -> Result<Results, Failure> {
    let tensors = session.run(inputs)?;
    let names = session.entry().outputs.iter().map(|port| port.name.to_string());
    Ok(names.zip(tensors).collect())
}

/// Compiles a module and runs it once.
///
/// # Errors
/// If it cannot be compiled or an input does not fit.
pub fn compile_and_execute(
    driver: &Driver,
    module: Module,
    args: &PipelineArgs,
    threads: usize,
    inputs: &[Tensor],
    streams: &mut Streams<'_>,
) -> Result<Results, Failure> {
    let compiled = compile(driver, module, args, streams)?;
    execute(&mut session(compiled, args, threads)?, inputs)
}

/// Schedules a module for the target and runs its kernels on the evaluator of TIR.
///
/// # Errors
/// If it has no kernels, an input does not fit, or a kernel does what it must not, such as a race.
pub fn evaluate_kernels(
    driver: &Driver,
    module: Module,
    args: &PipelineArgs,
    inputs: &[Tensor],
    streams: &mut Streams<'_>,
) -> Result<Results, Failure> {
    evaluate_program(&plan(driver, module, args, streams)?, inputs)
}

/// A plan with its kernels, what it has for a GPU if it is for one, and the inputs that it wants.
pub struct Planned {
    pub program: Program,
    pub gpu: Option<Gpu>,
    pub wanted: Vec<Wanted>,
}

/// What the user named, planned and not compiled for this machine.
///
/// # Errors
/// If it cannot be read or planned, or an artifact's plan contradicts itself.
pub fn planned(
    driver: &Driver,
    (model, pipeline): (&ModelArgs, &PipelineArgs),
    bindings: &Bindings,
    streams: &mut Streams<'_>,
) -> Result<Planned, Failure> {
    match model::load(driver, model, bindings, streams)? {
        Model::Artifact(path) => {
            let read = output::read_artifact(&path, &target(&PipelineArgs::default())?, model.trust)?;
            check_plan(&read.program)?;
            let wanted = ports(&read.program);
            Ok(Planned { program: read.program, gpu: read.gpu, wanted })
        }
        Model::Module(module) => {
            let wanted = parameters(&module)?;
            let gpu = cuda::compiled(pipeline)?;
            Ok(Planned { program: plan(driver, *module, pipeline, streams)?, gpu, wanted })
        }
    }
}

/// Runs a plan's kernels on the evaluator of TIR, which checks every access.
///
/// # Errors
/// If an input does not fit, or a kernel does what it must not, such as a race.
fn evaluate_program(program: &Program, inputs: &[Tensor]) -> Result<Results, Failure> {
    let tensors = fermata_passes::lower::eval::run(program, inputs)?;
    let entry = program.entry.map(|f| &program.funcs[f]);
    let names = entry.into_iter().flat_map(|f| f.outputs.iter().map(|port| port.name.to_string()));
    Ok(names.zip(tensors).collect())
}

/// Compares a result with the expected one as the flags say: with the tolerance of the dtype
/// where they give none.
pub fn judge(args: &ToleranceArgs, found: &Tensor, want: &Tensor) -> Comparison {
    let default = Tolerance::of(want.dtype());
    let tolerance =
        Tolerance { atol: args.atol.unwrap_or(default.atol), rtol: args.rtol.unwrap_or(default.rtol) };
    match args.error_stat.statistic() {
        Some(stat) => compare_by(found, want, tolerance, stat),
        None => compare_with(found, want, tolerance),
    }
}

/// Compares results with expected ones and prints a line each; 1 if any differs.
pub fn expected(
    results: &Results,
    expected: &Results,
    args: &ToleranceArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let mut code = 0;
    for (place, (name, want)) in expected.iter().enumerate() {
        let by_name = results.iter().find(|(n, _)| n == name);
        let Some((_, found)) =
            by_name.or_else(|| results.get(place).filter(|_| results.len() == expected.len()))
        else {
            let names: Vec<&str> = results.iter().map(|(n, _)| &**n).collect();
            writeln!(streams.stderr, "{name}: there is no such result, only {}", names.join(", "))?;
            code = 1;
            continue;
        };
        let outcome = judge(args, found, want);
        writeln!(streams.stderr, "{name}: {outcome}")?;
        code = if outcome.matches() { code } else { 1 };
    }
    Ok(code)
}
