//! `testsuite checkpoint-overhead`: what it costs that kernels can pause, when nobody makes them.
//!
//! A network and a quantised encoder are compiled under a bound, which gives every kernel and,
//! beside it, the best schedule that knows no bound. Both run on one thread, in turn, whole runs
//! of the model: the one through the protocol (a look at the word and at the clock, a claim and a
//! count a tile), the other tile after tile. Of each step the shortest time of all turns counts.
//! The ratio of a kernel is that of the sums over its launches; kernels that take less time than
//! the clock can tell apart are left out of the mean and listed as such.

use std::collections::BTreeMap;
use std::io;

use fermata::inputs::Random;
use fermata_codegen::cpu::compile_all;
use fermata_codegen::kernel::CompiledKernel;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::infer::{bind_dims, infer_module};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;
use fermata_passes::lower::lower_within;
use fermata_passes::lower::plan::{KernelId, Program};
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, Pipeline, parse, standard};
use fermata_passes::table::PassTable;
use fermata_runtime::detect;
use fermata_runtime::device::Device;
use fermata_runtime::device::single::{Checked, Unchecked};
use fermata_runtime::exec::calibrate::longest_tiles;
use fermata_runtime::exec::{Session, StepTime};

use crate::program::{Imported, import};
use crate::zoo::OPEN_MODELS;
use crate::{minilm, venv};

/// The network, and the name of its input.
const NETWORK: (&str, &str) = ("open-nsfw", "input:0");

/// The encoder's name in the table, its sizes, and the pass that quantises it.
const ENCODER: &str = "MiniLM W8A8, S=128";
const ENCODER_DIMS: [(&str, usize); 2] = [("batch", 1), ("seq", 128)];
const QUANTIZE: &str = "quantize{scheme=w8a8-int8-per-token}";

/// Kernels that take less are not told apart from the clock: nanoseconds of all launches.
const SHORTEST: u64 = 2_000;

/// The mean that must be reached.
const AT_WORST: f64 = 1.02;

/// `testsuite checkpoint-overhead`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bound, in microseconds
    #[arg(long, default_value_t = 20)]
    bound: u64,
    /// Turns of each variant
    #[arg(long, default_value_t = 40)]
    turns: usize,
    /// Only this model: `open-nsfw` or `minilm`
    #[arg(long)]
    model: Option<String>,
}

/// A compiled model with inputs.
struct Model {
    name: &'static str,
    program: Program,
    kernels: Vec<CompiledKernel>,
    inputs: Vec<Tensor>,
}

/// What was measured of a kernel: nanoseconds of all its launches.
#[derive(Clone, Copy, Default)]
struct Times {
    launches: u64,
    raw: u64,
    checked: u64,
}

impl Times {
    fn ratio(&self) -> f64 {
        self.checked as f64 / self.raw.max(1) as f64
    }
}

fn other(diagnostics: impl Into<Diagnostics>) -> io::Error {
    let messages: Vec<String> = diagnostics.into().0.into_iter().map(|d| d.message).collect();
    io::Error::other(messages.join("; "))
}

/// Measures; whether the mean is good enough.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let wanted = |name: &str| args.model.as_deref().is_none_or(|m| m == name);
    let mut models = Vec::new();
    if wanted("open-nsfw") {
        models.push(network(args)?);
    }
    if wanted("minilm") {
        models.push(encoder(args)?);
    }
    println!("machine  {}; {:?}", fermata::machine(), detect::features());
    println!("bound    {} us, {} turns, 1 thread\n", args.bound, args.turns);
    let mut ratios = Vec::new();
    for model in &models {
        ratios.extend(measure(model, args.turns)?);
    }
    let mean = geometric_mean(&ratios);
    let worst = ratios.iter().copied().fold(1.0, f64::max);
    println!("geometric mean over {} kernels: **{}**, worst {}", ratios.len(), percent(mean), percent(worst));
    Ok(!ratios.is_empty() && mean <= AT_WORST)
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp()
}

/// `+1.2 %`.
fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

fn network(args: &Args) -> io::Result<Model> {
    let (name, input) = NETWORK;
    let found = OPEN_MODELS.iter().find(|m| m.name == name);
    let model = found.ok_or_else(|| io::Error::other("the network is not among the open models"))?;
    let (dtype, shape) = model.input();
    let tensor = Random::new(0).tensor(dtype, shape, -1.0, 1.0).map_err(io::Error::other)?;
    let Imported { module, inputs } = import(&model.file()?, [(input.to_owned(), tensor)]).map_err(other)?;
    compile(name, module, inputs, "", args)
}

fn encoder(args: &Args) -> io::Result<Model> {
    let [package, folder] = minilm::MODEL;
    let mut module = import_dir(&venv::unpacked(package)?.join(folder)).map_err(other)?;
    infer_module(&mut module).and_then(|()| bind_dims(&mut module, &ENCODER_DIMS)).map_err(other)?;
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    let params = main.map_or(&[][..], |f| &f.params).iter();
    let types: Vec<(DType, Vec<usize>)> = params
        .filter_map(|&p| module.vars[p].ty.as_tensor())
        .map(|ty| (ty.dtype, ty.static_shape().unwrap_or_default()))
        .collect();
    let random = |(dtype, shape): &(DType, Vec<usize>)| Random::new(0).tensor(*dtype, shape, 0.0, 2.0);
    let inputs = types.iter().map(random).collect::<Result<_, _>>().map_err(io::Error::other)?;
    compile(ENCODER, module, inputs, QUANTIZE, args)
}

/// Compiles a program under the bound, with some passes before the standard ones.
fn compile(
    name: &'static str,
    mut module: Module,
    inputs: Vec<Tensor>,
    before: &str,
    args: &Args,
) -> io::Result<Model> {
    let target = detect::host();
    let options = Options { target: target.clone().into(), ..Options::default() };
    let mut pipeline: Pipeline = standard(Level(2));
    if !before.is_empty() {
        let first = parse(before, &PassTable::standard()).map_err(other)?;
        pipeline.steps.splice(0..0, first.steps);
    }
    manager::run(&mut module, &pipeline, &options, &mut []).map_err(other)?;
    let bound = std::time::Duration::from_micros(args.bound);
    let program = lower_within(&module, &target.clone().into(), Some(bound)).map_err(other)?;
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &target).map_err(other)?;
    Ok(Model { name, program, kernels, inputs })
}

/// Runs both variants in turn and prints a row a kernel; gives the ratios that count.
fn measure(model: &Model, turns: usize) -> io::Result<Vec<f64>> {
    let session = |program: Program, device: Box<dyn Device + Send>| {
        Session::on_device(program, model.kernels.clone(), device, detect::features()).map_err(other)
    };
    let mut raw = session(model.program.raw(), Box::new(Unchecked))?;
    let looks = Checked::default();
    let mut checked = session(model.program.clone(), Box::new(looks))?;
    let (mut raw_steps, mut checked_steps) = (Vec::new(), Vec::new());
    for turn in 0..turns.max(1) {
        // Whoever goes second finds the caches as the other left them; so both go second.
        if turn % 2 == 0 {
            run(&mut raw, &model.inputs, &mut raw_steps)?;
            run(&mut checked, &model.inputs, &mut checked_steps)?;
        } else {
            run(&mut checked, &model.inputs, &mut checked_steps)?;
            run(&mut raw, &model.inputs, &mut raw_steps)?;
        }
    }
    let features = detect::features();
    let (program, kernels) = (model.program.clone(), &model.kernels);
    let longest = longest_tiles(program, kernels, &model.inputs, features, turns.min(20)).map_err(other)?;
    let mut times: BTreeMap<KernelId, Times> = BTreeMap::new();
    for (raw, checked) in raw_steps.iter().zip(&checked_steps) {
        let Some(kernel) = checked.kernel else { continue };
        let times = times.entry(kernel).or_default();
        times.launches += 1;
        times.raw += raw.time.as_nanos() as u64;
        times.checked += checked.time.as_nanos() as u64;
    }
    Ok(print(model, &times, &longest))
}

/// A run; the shortest time of each step is kept.
fn run(session: &mut Session, inputs: &[Tensor], best: &mut Vec<StepTime>) -> io::Result<()> {
    let mut at = 0;
    let mut observe = |step: StepTime| {
        match best.get_mut(at) {
            Some(known) => known.time = known.time.min(step.time),
            None => best.push(step),
        }
        at += 1;
    };
    session.run_observed(inputs, Some(&mut observe)).map_err(other)?;
    Ok(())
}

/// Prints a table of a model's kernels, those that take longest first.
fn print(model: &Model, times: &BTreeMap<KernelId, Times>, longest: &[Option<u64>]) -> Vec<f64> {
    let mut order: Vec<(&KernelId, &Times)> = times.iter().collect();
    order.sort_by_key(|(id, times)| (std::cmp::Reverse(times.raw), **id));
    println!("### {}\n", model.name);
    println!(
        "| kernel | launches | tiles | unbounded | us | with checkpoints, us | overhead | predicted tile, us | measured tile, us |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
    let mut ratios = Vec::new();
    let mut all = Times::default();
    for (&id, times) in order {
        let kernel = &model.program.kernels[id];
        let raw = kernel.raw.map_or(kernel, |raw| &model.program.kernels[raw]);
        let counts = times.raw >= SHORTEST;
        if counts {
            ratios.push(times.ratio());
        }
        all = Times {
            launches: all.launches + times.launches,
            raw: all.raw + times.raw,
            checked: all.checked + times.checked,
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            kernel.func.name,
            times.launches,
            kernel.tiles,
            raw.tiles,
            us(times.raw),
            us(times.checked),
            if counts { percent(times.ratio()) } else { "too short".into() },
            kernel.certificate.as_ref().map_or("-".into(), |c| us(c.exit_ns())),
            longest[fermata_ir::entity::EntityRef::index(id)].map_or("-".into(), us),
        );
    }
    let (raw, checked) = (us(all.raw), us(all.checked));
    println!("| all | {} | | | {raw} | {checked} | {} | | |", all.launches, percent(all.ratio()));
    println!("| geometric mean | | | | | | **{}** | | |\n", percent(geometric_mean(&ratios)));
    ratios
}
