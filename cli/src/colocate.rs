//! `fermata colocate`: a real-time model beside best-effort ones, policy by policy.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fermata_ir::tensor::Tensor;
use fermata_passes::target::CpuFeatures;
use fermata_runtime::exec::calibrate::longest_tiles;
use fermata_runtime::exec::{Instance, Session, SessionOptions};
use fermata_runtime::sched::group::{Options, run};
use fermata_runtime::sched::load::{Distribution, arrivals};
use fermata_runtime::sched::policy::Policy;
use fermata_runtime::sched::queue::Job;
use fermata_runtime::sched::report::{Report, Samples};
use fermata_runtime::sched::trace::to_json;
use serde_json::{Value, json};

use crate::args::{Fill, InputArgs, ModelArgs, PipelineArgs};
use crate::bench::{duration, machine};
use crate::bound::ns_text;
use crate::compile::{Compiled, load_compiled, target};
use crate::inputs::{Given, collect};
use crate::run::{bindings, ports};
use crate::{Driver, Failure, Streams, output};

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dist {
    /// Evenly
    Constant,
    /// As a Poisson process
    Poisson,
}

/// How the cores are shared between models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// The real-time model alone
    Alone,
    /// No priorities
    None,
    /// One run after the other
    Fifo,
    /// Requests preempt best-effort kernels between tiles
    Preempt,
    /// As preempt, with best-effort kernels on the cores that requests leave
    Padding,
}

/// `fermata colocate`.
#[derive(Args)]
pub struct ColocateArgs {
    /// The real-time model: ONNX, Relay text or an artifact
    #[arg(long, value_name = "MODEL")]
    pub rt: PathBuf,
    /// A best-effort model; may be given several times
    #[arg(long, value_name = "MODEL", required = true)]
    pub be: Vec<PathBuf>,
    /// Bind a symbolic dimension of the real-time model: `batch=1`
    #[arg(long, value_name = "NAME=N")]
    pub rt_dim: Vec<String>,
    /// Give an input of the real-time model its shape
    #[arg(long, value_name = "NAME=AxBxC")]
    pub rt_shape: Vec<String>,
    /// Bind a symbolic dimension of the best-effort models
    #[arg(long, value_name = "NAME=N")]
    pub be_dim: Vec<String>,
    /// Give an input of the best-effort models its shape
    #[arg(long, value_name = "NAME=AxBxC")]
    pub be_shape: Vec<String>,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Requests a second for the real-time model
    #[arg(long, default_value_t = 100.0, value_name = "HZ")]
    pub rate: f64,
    /// How they are spread over time
    #[arg(long, value_enum, default_value = "poisson")]
    pub dist: Dist,
    /// How long requests arrive, under each policy
    #[arg(long, default_value = "3s", value_name = "TIME")]
    pub duration: String,
    /// How the cores are shared
    #[arg(long, value_enum, value_delimiter = ',', default_value = "alone,none,fifo,preempt,padding")]
    pub policy: Vec<PolicyName>,
    /// Worker threads, pinned to a core each; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Seed of the arrivals and of random inputs
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write what the last policy's workers did as a trace that Perfetto opens
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Print a line of JSON for each policy
    #[arg(long)]
    pub json: bool,
}

/// A model, compiled once and loaded anew for each policy.
struct Loaded {
    name: String,
    compiled: Compiled,
    inputs: Vec<Tensor>,
    expected: Vec<Tensor>,
    /// The kernels that break their bound on this machine: name and nanoseconds of a tile.
    demoted: Vec<(String, u64)>,
}

/// Runs of the calibration that holds certificates against this machine.
const CALIBRATION: usize = 5;

/// `fermata colocate`.
pub(crate) fn command(
    driver: &Driver,
    args: &ColocateArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let duration_ns = duration(&args.duration)?.as_nanos().min(u128::from(u64::MAX)) as u64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.threads.map_or(cores, usize::from);
    let rt = load(driver, args, &args.rt, &args.rt_dim, &args.rt_shape, streams)?;
    let be = args.be.iter().map(|path| load(driver, args, path, &args.be_dim, &args.be_shape, streams));
    let be: Vec<Loaded> = be.collect::<Result<_, _>>()?;
    let dist = match args.dist {
        Dist::Constant => Distribution::Constant,
        Dist::Poisson => Distribution::Poisson,
    };
    let times = arrivals(args.rate, dist, duration_ns, args.seed);
    if !args.json {
        headline(args, workers, times.len(), streams)?;
    }
    be.iter().try_for_each(|loaded| loaded.report_demoted(streams))?;
    let mut code = 0;
    let mut lines = Vec::new();
    for (i, &name) in args.policy.iter().enumerate() {
        let policy = policy(name);
        let traced = args.trace.as_ref().filter(|_| i + 1 == args.policy.len());
        let options =
            Options { workers, policy, arrivals: times.clone(), duration_ns, trace: traced.is_some() };
        let preemptible = policy.interrupts();
        let jobs =
            be.iter().map(|loaded| loaded.job(args, workers, preemptible)).collect::<Result<_, _>>()?;
        let (report, spans) = run(Some(rt.job(args, workers, false)?), jobs, &options);
        if let Some(path) = traced {
            let names = std::iter::once(&rt).chain(&be).map(|loaded| loaded.name.clone()).collect::<Vec<_>>();
            output::write(path, to_json(&spans, &names).as_bytes(), streams)?;
        }
        let seconds = duration_ns as f64 / 1e9;
        match args.json {
            true => writeln!(streams.stdout, "{}", policy_json(policy, &report, seconds))?,
            false => print(policy, &report, seconds, streams)?,
        }
        code = code.max(faults(&report, streams)?);
        lines.push(policy_json(policy, &report, seconds));
    }
    if args.json {
        let result = json!({
            "reason": "result",
            "schema": "fermata.colocate/1",
            "machine": machine(),
            "workers": workers,
            "seed": args.seed,
            "requests": times.len(),
            "policies": lines,
            "demoted": demoted_json(&be),
        });
        writeln!(streams.stdout, "{result}")?;
    }
    Ok(code)
}

fn policy(name: PolicyName) -> Policy {
    match name {
        PolicyName::Alone => Policy::Alone,
        PolicyName::None => Policy::None,
        PolicyName::Fifo => Policy::Fifo,
        PolicyName::Preempt => Policy::Preempt,
        PolicyName::Padding => Policy::Padding,
    }
}

/// Compiles a model, makes inputs for it and runs it once undisturbed.
fn load(
    driver: &Driver,
    args: &ColocateArgs,
    path: &Path,
    dims: &[String],
    shapes: &[String],
    streams: &mut Streams<'_>,
) -> Result<Loaded, Failure> {
    let model = ModelArgs {
        model: PathBuf::from(path),
        dims: dims.to_vec(),
        shapes: shapes.to_vec(),
        ..ModelArgs::default()
    };
    let inputs = InputArgs { fill: Some(Fill::Random), seed: args.seed, ..InputArgs::default() };
    let given = Given::new(&inputs, &model)?;
    let bindings = bindings(driver, &model, &given, streams)?;
    let compiled = load_compiled(driver, &model, &bindings, &args.pipeline, streams)?;
    let inputs = collect(&inputs, &given, &ports(&compiled.program))?;
    let features = target(&args.pipeline)?.features;
    let options = SessionOptions { features, ..SessionOptions::default() };
    let raw = compiled.program.raw();
    let expected = Session::with_options(raw, compiled.kernels.clone(), &options)?.run(&inputs)?;
    let demoted = demoted(&compiled, &inputs, features)?;
    let name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    Ok(Loaded { name, compiled, inputs, expected, demoted })
}

/// The kernels whose longest tile takes longer here than the bound that they are certified for.
fn demoted(
    compiled: &Compiled,
    inputs: &[Tensor],
    features: CpuFeatures,
) -> Result<Vec<(String, u64)>, Failure> {
    if compiled.program.bound.is_none() {
        return Ok(Vec::new());
    }
    let (program, kernels) = (compiled.program.clone(), &compiled.kernels);
    let measured = longest_tiles(program, kernels, inputs, features, CALIBRATION)?;
    let broken = compiled.program.kernels.values().zip(measured).filter_map(|(kernel, measured)| {
        let certificate = kernel.certificate.as_ref().filter(|c| c.holds())?;
        let longest = measured.filter(|ns| certificate.bound_ns.is_some_and(|bound| *ns > bound))?;
        Some((kernel.func.name.to_string(), longest))
    });
    Ok(broken.collect())
}

fn demoted_json(best_effort: &[Loaded]) -> Vec<Value> {
    let of = |loaded: &Loaded| {
        let name = loaded.name.clone();
        loaded
            .demoted
            .iter()
            .map(move |(kernel, ns)| json!({"model": name, "kernel": kernel, "measured_ns": ns}))
            .collect::<Vec<_>>()
    };
    best_effort.iter().flat_map(of).collect()
}

impl Loaded {
    /// Names on standard error what broke its bound.
    fn report_demoted(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        for (kernel, ns) in &self.demoted {
            let (name, time) = (&self.name, ns_text(*ns));
            writeln!(
                streams.stderr,
                "warning: {name}: `{kernel}` is demoted: its tile takes {time} here, longer than the bound"
            )?;
        }
        Ok(())
    }

    /// The model for a run: its kernels under the bound if something may preempt them, else raw.
    fn job(&self, args: &ColocateArgs, workers: usize, preemptible: bool) -> Result<Job, Failure> {
        let features = target(&args.pipeline)?.features;
        let (program, kernels) = (&self.compiled.program, &self.compiled.kernels);
        let program = if preemptible { program.clone() } else { program.raw() };
        Ok(Job {
            name: self.name.clone(),
            instance: Instance::new(program, kernels, workers, features)?,
            inputs: self.inputs.clone(),
            expected: self.expected.clone(),
        })
    }
}

fn headline(
    args: &ColocateArgs,
    workers: usize,
    requests: usize,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let dist = if args.dist == Dist::Constant { "constant" } else { "poisson" };
    writeln!(streams.stdout, "machine  {}; {workers} workers", machine())?;
    writeln!(
        streams.stdout,
        "load     {requests} requests in {}, {} a second ({dist}), seed {}\n",
        args.duration, args.rate, args.seed
    )?;
    writeln!(
        streams.stdout,
        "{:<8} {:>9} {:>9} {:>9} {:>9}   {:>17}   {:>9} {:>19}   {:>19}  best effort, runs/s",
        "policy",
        "rt mean",
        "p50",
        "p99",
        "p99.9",
        "first tile p50/99",
        "preempted",
        "p50/99 to last out",
        "in mid-kernel"
    )?;
    Ok(())
}

/// One line of the table: milliseconds for requests, microseconds for events.
fn print(policy: Policy, report: &Report, seconds: f64, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let ms = |ns: f64| format!("{:.3} ms", ns / 1e6);
    let us = |samples: &Samples| match samples.0.is_empty() {
        true => "-".to_string(),
        false => {
            let at = |p| samples.percentile(p) as f64 / 1e3;
            format!("{:.1} / {:.1} us", at(50.0), at(99.0))
        }
    };
    let latency = |p| ms(report.latency.percentile(p) as f64);
    let preempted = report.depths.before + report.depths.inside.iter().sum::<u64>();
    let inside = match preempted {
        0 => "-".to_string(),
        _ => format!("{:.0} %", report.depths.inside_share() * 100.0),
    };
    let best_effort: Vec<String> =
        report.best_effort.iter().map(|q| format!("{} {:.1}", q.name, q.runs / seconds)).collect();
    writeln!(
        streams.stdout,
        "{:<8} {:>9} {:>9} {:>9} {:>9}   {:>17}   {:>9} {:>19}   {:>19}  {}",
        policy.name(),
        ms(report.latency.mean()),
        latency(50.0),
        latency(99.0),
        latency(99.9),
        us(&report.first_tile),
        preempted,
        us(&report.preemption),
        inside,
        best_effort.join(", "),
    )?;
    Ok(())
}

/// Says on standard error what went wrong; 1 if anything did.
fn faults(report: &Report, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let mut faults = Vec::new();
    if report.wrong > 0 {
        faults.push(format!("{} requests had other results than an undisturbed run", report.wrong));
    }
    faults.extend(report.failure.iter().map(|why| format!("the real-time model failed: {why}")));
    for queue in &report.best_effort {
        if queue.wrong > 0 {
            faults.push(format!(
                "{}: {} runs had other results than an undisturbed one",
                queue.name, queue.wrong
            ));
        }
        faults.extend(queue.failure.iter().map(|why| format!("{} failed: {why}", queue.name)));
    }
    for fault in &faults {
        writeln!(streams.stderr, "error: {fault}")?;
    }
    Ok(i32::from(!faults.is_empty()))
}

fn samples_json(samples: &Samples) -> Value {
    json!({
        "count": samples.0.len(),
        "mean_ns": samples.mean(),
        "p50_ns": samples.percentile(50.0),
        "p90_ns": samples.percentile(90.0),
        "p99_ns": samples.percentile(99.0),
        "p99.9_ns": samples.percentile(99.9),
        "max_ns": samples.percentile(100.0),
    })
}

fn policy_json(policy: Policy, report: &Report, seconds: f64) -> Value {
    let best_effort = report.best_effort.iter().map(|queue| {
        json!({
            "model": queue.name,
            "completed": queue.completed,
            "runs_per_second": queue.runs / seconds,
            "wrong": queue.wrong,
        })
    });
    json!({
        "reason": "policy",
        "policy": policy.name(),
        "latency": samples_json(&report.latency),
        "first_tile": samples_json(&report.first_tile),
        "preemption": samples_json(&report.preemption),
        "preempted_before_kernel": report.depths.before,
        "preempted_in_kernel_quarters": report.depths.inside,
        "wrong": report.wrong,
        "best_effort": best_effort.collect::<Vec<_>>(),
    })
}
