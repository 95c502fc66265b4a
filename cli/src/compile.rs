//! From a module to code: the driver that every verb shares, and `fermata compile`.

use std::path::PathBuf;

use fermata_codegen::artifact;
use fermata_codegen::cpu::{asm_text, clif_text, compile_all};
use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics, nearest};
use fermata_ir::expr::{Expr, Module};
use fermata_ir::{te, tir, walk};
use fermata_passes::fuse::is_primitive;
use fermata_passes::lower::group_to_te::group_to_te;
use fermata_passes::lower::plan::Program;
use fermata_passes::lower::{bound, lower, lower_within};
use fermata_passes::manager;
use fermata_passes::pass::{OptionValue, PassDef};
use fermata_passes::pipeline::{self, Level, Pipeline};
use fermata_passes::target::{CUDA_SMS, CpuTarget, CudaTarget, Target};
use fermata_runtime::detect;

use crate::args::{CompileArgs, Emit, PipelineArgs, PrintArgs, WatchArgs};
use crate::bound::{Bound, of_artifact};
use crate::model::{self, Bindings, Model};
use crate::watch::Watch;
use crate::{Driver, Failure, Streams, crash, cuda, graph, output, quantize};

/// A compiled program.
pub struct Compiled {
    /// The module after the passes.
    pub module: Module,
    /// The plan.
    pub program: Program,
    /// Code, one a kernel of the plan; none if an artifact is for a GPU.
    pub kernels: Vec<CompiledKernel>,
    /// What an artifact has for a GPU.
    pub gpu: Option<artifact::Gpu>,
}

/// The target that the flags name.
///
/// # Errors
/// If there is no such target or feature.
pub fn any_target(args: &PipelineArgs) -> Result<Target, Failure> {
    if args.target == "cpu" {
        return target(args).map(Target::Cpu);
    }
    if let Some(target) = CudaTarget::parse(&args.target) {
        return Ok(Target::Cuda(target));
    }
    let message = format!("there is no target `{}` in this version", args.target);
    let gpus: Vec<String> = CUDA_SMS.iter().map(|&sm| CudaTarget { sm }.to_string()).collect();
    let help = format!("targets are: cpu, {} (`fermata list targets` says more)", gpus.join(", "));
    Err(Failure::from_usage(Diagnostic::error(Code::USAGE, message).help(help)))
}

fn cannot_run(target: &str) -> Failure {
    let message = format!("a program for `{target}` does not run on the CPU");
    let help = "--device cuda:0 runs it on a GPU, and --device tir on the evaluator, without one; \
                `fermata compile` gives its kernels (--emit=cuda,ptx,cubin)";
    Failure::from_usage(Diagnostic::error(Code::USAGE, message).help(help))
}

/// The target that the flags name, to run on.
///
/// # Errors
/// If it is no CPU, or there is no such feature.
pub fn target(args: &PipelineArgs) -> Result<CpuTarget, Failure> {
    if args.target != "cpu" {
        any_target(args)?;
        return Err(cannot_run(&args.target));
    }
    let mut target = detect::host();
    if let Some(list) = &args.target_feature {
        target.features = detect::toggle(target.features, list).map_err(Failure::from_usage)?;
    }
    Ok(target)
}

/// The pipeline that the flags ask for.
///
/// # Errors
/// If a pass is unknown; exit code 2.
pub fn pipeline(driver: &Driver, args: &PipelineArgs, watch: &WatchArgs) -> Result<Pipeline, Failure> {
    let mut chosen = match &args.passes {
        Some(text) => read_files(pipeline::parse(text, &driver.passes).map_err(Failure::from_usage)?)?,
        None => pipeline::standard(Level(args.level)),
    };
    if let Some(scheme) = &args.quantize {
        chosen.steps.splice(0..0, quantize::steps(driver, scheme)?);
    }
    if args.fast_math {
        chosen.allow_approximations();
    }
    let watched = watch.print_ir_before.iter().chain(&watch.print_ir_after);
    for name in args.disable_pass.iter().chain(watched) {
        pass_named(driver, name)?;
    }
    for name in &args.disable_pass {
        chosen.steps.retain(|s| s.pass.name != name && s.pass.relay_name != name);
    }
    if let Some(name) = &watch.stop_after {
        let last = pass_named(driver, name)?;
        let place = chosen.steps.iter().position(|s| s.pass.name == last.name);
        let place = place.ok_or_else(|| {
            let message = format!("`--stop-after {name}`: the pipeline has no such pass");
            let note = format!("the pipeline is: {chosen}");
            Failure::from_usage(Diagnostic::error(Code::USAGE, message).note(note))
        })?;
        chosen.steps.truncate(place + 1);
    }
    Ok(chosen)
}

/// The pipeline with the contents of the files that its options name.
fn read_files(mut pipeline: Pipeline) -> Result<Pipeline, Failure> {
    for (_, value) in pipeline.steps.iter_mut().flat_map(|s| &mut s.options) {
        if let OptionValue::File { path, contents } = value
            && !path.is_empty()
        {
            let read = std::fs::read_to_string(&**path)
                .map_err(|e| Failure::usage(format!("cannot read `{path}`: {e}")))?;
            *contents = Some(read.into());
        }
    }
    Ok(pipeline)
}

fn pass_named(driver: &Driver, name: &str) -> Result<&'static PassDef, Failure> {
    driver.passes.get(name).ok_or_else(|| {
        let error = Diagnostic::error(Code::USAGE, format!("there is no pass `{name}`"));
        let near = nearest(name, driver.passes.iter().map(|p| p.name));
        Failure::from_usage(match near {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("`fermata list passes` lists them all"),
        })
    })
}

/// Runs the passes that the flags ask for, and shows of them what the flags ask for.
///
/// # Errors
/// If a pass fails.
pub fn optimise(
    driver: &Driver,
    module: &mut Module,
    args: &PipelineArgs,
    watch: &WatchArgs,
    print: &PrintArgs,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let pipeline = pipeline(driver, args, watch)?;
    let options = manager::Options {
        target: any_target(args)?,
        verify_each: args.verify_each,
        remarks: watch.remarks,
        fuel: watch.bisect_limit,
        table: driver.passes.clone(),
    };
    let mut instrument = Watch::new(watch, print, &pipeline);
    let done = manager::run(module, &pipeline, &options, &mut [&mut instrument]);
    let done = done.map_err(|d| Failure::refused(d, &module.sources));
    if let Err(failure) = &done {
        let why = failure.diagnostics.0.first().map_or("", |d| &d.message);
        crash::write_reproducer(why, streams)?;
    }
    instrument.finish(module, streams)?;
    done
}

/// Lowers and generates code for a module that the passes have brought to fused form.
///
/// # Errors
/// If an operator has no code, or a dimension is not bound.
pub fn generate(module: Module, target: &CpuTarget, bound: Option<Bound>) -> Result<Compiled, Failure> {
    crash::enter("lowering and code generation");
    let sources = module.sources.clone();
    let program = lower_within(&module, &target.clone().into(), bound.map(|b| b.time))
        .map_err(|d| Failure::refused(d, &sources))?;
    let funcs: Vec<&tir::PrimFunc> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, target).map_err(|d| Failure::refused(d, &sources))?;
    crash::enter("");
    Ok(Compiled { module, program, kernels, gpu: None })
}

/// As [`generate`], under the bound of the flags; warns of kernels that do not keep it.
///
/// # Errors
/// As [`generate`]; also if a strict bound is not kept.
fn generate_within(
    module: Module,
    target: &CpuTarget,
    args: &PipelineArgs,
    streams: &mut Streams<'_>,
) -> Result<Compiled, Failure> {
    let bound = Bound::of(args)?;
    let compiled = generate(module, target, bound)?;
    if let Some(bound) = bound {
        bound.report(&compiled.program, &compiled.module, streams)?;
    }
    Ok(compiled)
}

/// The plan of a module for whatever target the flags name.
///
/// # Errors
/// If a pass fails, an operator has no kernel or a dimension is not bound.
pub fn plan(
    driver: &Driver,
    mut module: Module,
    args: &PipelineArgs,
    streams: &mut Streams<'_>,
) -> Result<Program, Failure> {
    let target = any_target(args)?;
    let bound = Bound::of(args)?;
    bound::check(&module).map_err(|d| Failure::refused(d, &module.sources))?;
    optimise(driver, &mut module, args, &WatchArgs::default(), &PrintArgs::default(), streams)?;
    lower_within(&module, &target, bound.map(|b| b.time)).map_err(|d| Failure::refused(d, &module.sources))
}

/// Compiles a module.
///
/// # Errors
/// As [`optimise`] and [`generate`].
pub fn compile(
    driver: &Driver,
    mut module: Module,
    args: &PipelineArgs,
    streams: &mut Streams<'_>,
) -> Result<Compiled, Failure> {
    bound::check(&module).map_err(|d| Failure::refused(d, &module.sources))?;
    optimise(driver, &mut module, args, &WatchArgs::default(), &PrintArgs::default(), streams)?;
    generate_within(module, &target(args)?, args, streams)
}

/// Loads what the user named, compiled: an artifact is read, a program compiled.
///
/// # Errors
/// If it cannot be read or compiled.
pub fn load_compiled(
    driver: &Driver,
    model: &crate::args::ModelArgs,
    bindings: &Bindings,
    args: &PipelineArgs,
    streams: &mut Streams<'_>,
) -> Result<Compiled, Failure> {
    match model::load(driver, model, bindings, streams)? {
        Model::Module(module) => compile(driver, *module, args, streams),
        Model::Artifact(_) if args.quantize.is_some() => {
            Err(Failure::usage("an artifact is compiled already; give --quantize to `fermata compile`"))
        }
        Model::Artifact(path) => {
            let compiled = output::read_artifact(&path, &target(args)?, model.trust)?;
            of_artifact(&compiled.program, args)?;
            match compiled.gpu {
                Some(gpu) => Err(cannot_run(&gpu.target.to_string())),
                None => Ok(compiled),
            }
        }
    }
}

/// `fermata compile`.
pub(crate) fn command(
    driver: &Driver,
    args: &CompileArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    if args.watch.print_pipeline {
        writeln!(streams.stdout, "{}", pipeline(driver, &args.pipeline, &args.watch)?)?;
        return Ok(0);
    }
    let same_file = args.output.as_ref().filter(|path| path.as_os_str() != "-" && args.emit.len() > 1);
    if let Some(path) = same_file {
        let message =
            format!("several forms cannot all go to `{}`; name a folder with --emit-dir", path.display());
        return Err(Failure::usage(message));
    }
    let bindings = Bindings::new(&args.model)?;
    let target = any_target(&args.pipeline)?;
    Bound::of(&args.pipeline)?;
    let mut module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    let needs_sizes = args.emit.iter().any(|e| !matches!(e, Emit::Relay | Emit::Dot | Emit::Svg));
    if needs_sizes {
        bound::check(&module).map_err(|d| Failure::refused(d, &module.sources))?;
    }
    optimise(driver, &mut module, &args.pipeline, &args.watch, &args.print, streams)?;
    let sources = module.sources.clone();
    let te = match args.emit.contains(&Emit::Te) {
        true => te_text(&module).map_err(|d| Failure::refused(d, &sources))?,
        false => String::new(),
    };
    let relay = output::module_text(&module, &args.print, false);
    let drawn = |emit: Emit, draw: fn(&graph::Picture) -> String| match args.emit.contains(&emit) {
        true => draw(&graph::build(&module)),
        false => String::new(),
    };
    let (dot, svg) = (drawn(Emit::Dot, graph::dot::file), drawn(Emit::Svg, graph::svg::file));
    for (emit, text) in [(Emit::Relay, relay), (Emit::Te, te), (Emit::Dot, dot), (Emit::Svg, svg)] {
        if args.emit.contains(&emit) {
            output::write(&emitted_path(args, emit)?, text.as_bytes(), streams)?;
        }
    }
    if args.emit.iter().all(|e| matches!(e, Emit::Relay | Emit::Te | Emit::Dot | Emit::Svg)) {
        return Ok(0);
    }
    match target {
        Target::Cpu(target) => emit_cpu(args, module, &target, streams)?,
        Target::Cuda(target) => emit_cuda(args, &module, target, streams)?,
    }
    Ok(0)
}

/// Writes the forms of a program for a CPU that were asked for.
fn emit_cpu(
    args: &CompileArgs,
    module: Module,
    target: &CpuTarget,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if let Some(emit) = args.emit.iter().find(|e| matches!(e, Emit::Cuda | Emit::Ptx | Emit::Cubin)) {
        return Err(not_of(*emit, "cpu", "--target cuda:sm_80"));
    }
    let c = generate_within(module, target, &args.pipeline, streams)?;
    for &emit in &args.emit {
        let content = match emit {
            Emit::Tir => tir_text(&c.program),
            Emit::Clif => all(c.program.kernels.values(), |k| clif_text(&k.func, target))?,
            Emit::Asm => all(c.kernels.iter(), asm_text)?,
            Emit::Artifact => {
                let code = artifact::Code::Cpu(&c.kernels, target);
                output::write_artifact(&c.module, &c.program, code, &emitted_path(args, emit)?)?;
                continue;
            }
            Emit::Relay | Emit::Te | Emit::Dot | Emit::Svg | Emit::Cuda | Emit::Ptx | Emit::Cubin => continue,
        };
        output::write(&emitted_path(args, emit)?, &content, streams)?;
    }
    Ok(())
}

/// Writes the forms of a program for a GPU that were asked for.
fn emit_cuda(
    args: &CompileArgs,
    module: &Module,
    target: CudaTarget,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    if let Some(emit) = args.emit.iter().find(|e| matches!(e, Emit::Clif | Emit::Asm)) {
        return Err(not_of(*emit, &target.to_string(), "--emit=cuda, ptx or cubin"));
    }
    let program = lower(module, &target.into()).map_err(|d| Failure::refused(d, &module.sources))?;
    let kernels = cuda::kernels(&program)?;
    let binaries = cuda::binaries(&args.emit, &kernels, target)?;
    for &emit in &args.emit {
        match emit {
            Emit::Tir => output::write(&emitted_path(args, emit)?, &tir_text(&program), streams)?,
            Emit::Cuda | Emit::Ptx | Emit::Cubin => {
                cuda::write(args, emit, &kernels, binaries.as_deref(), streams)?;
            }
            Emit::Artifact => {
                let code = artifact::Code::Cuda(&kernels, binaries.as_deref(), target);
                output::write_artifact(module, &program, code, &emitted_path(args, emit)?)?;
            }
            Emit::Relay | Emit::Te | Emit::Dot | Emit::Svg | Emit::Clif | Emit::Asm => {}
        }
    }
    Ok(())
}

fn not_of(emit: Emit, target: &str, instead: &str) -> Failure {
    let message = format!("--emit={} has no meaning for the target `{target}`", extension(emit));
    Failure::from_usage(Diagnostic::error(Code::USAGE, message).help(format!("give {instead}")))
}

fn tir_text(program: &Program) -> Vec<u8> {
    tir::print::print_all(program.kernels.values().map(|k| &*k.func)).into_bytes()
}

/// The texts of all kernels.
fn all<T>(
    items: impl Iterator<Item = T>,
    text: impl Fn(T) -> Result<String, Diagnostic>,
) -> Result<Vec<u8>, Failure> {
    let texts: Result<Vec<String>, Diagnostic> = items.map(text).collect();
    Ok(texts?.join("\n").into_bytes())
}

/// The extension of the files of an emitted form.
pub(crate) fn extension(emit: Emit) -> &'static str {
    match emit {
        Emit::Relay => "relay",
        Emit::Te => "te",
        Emit::Dot => "dot",
        Emit::Svg => "svg",
        Emit::Tir => "tir",
        Emit::Clif => "clif",
        Emit::Asm => "asm",
        Emit::Cuda => "cuda",
        Emit::Ptx => "ptx",
        Emit::Cubin => "cubin",
        Emit::Artifact => "fermata",
    }
}

/// Where an emitted form goes: the folder or file that was named, or, of an artifact, beside the
/// user.
fn emitted_path(args: &CompileArgs, emit: Emit) -> Result<PathBuf, Failure> {
    let stem =
        args.model.model.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let name = format!("{stem}.{}", extension(emit));
    match (&args.emit_dir, &args.output) {
        (Some(dir), _) => {
            std::fs::create_dir_all(dir)
                .map_err(|e| Failure::usage(format!("cannot make `{}`: {e}", dir.display())))?;
            Ok(dir.join(name))
        }
        (None, Some(path)) => Ok(path.clone()),
        (None, None) if emit == Emit::Artifact => Ok(name.into()),
        (None, None) => Ok("-".into()),
    }
}

/// The Tensor Expressions of every group.
fn te_text(module: &Module) -> Result<String, Diagnostics> {
    let mut text = String::new();
    for expr in walk::reachable(module) {
        if let Expr::Func(func) = &module.exprs[expr]
            && is_primitive(func)
        {
            let group = group_to_te(module, func)?;
            text.push_str(&format!("// {}\n{}\n", group.name, te::print::print(&group.graph)));
        }
    }
    Ok(text)
}
