//! `fermata colocate`: a real-time model beside best-effort ones, policy by policy.

mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::KernelId;
use fermata_passes::target::CpuFeatures;
use fermata_runtime::exec::calibrate::longest_tiles;
use fermata_runtime::exec::{Instance, Session, SessionOptions};
use fermata_runtime::sched::group::{Options, run};
use fermata_runtime::sched::load::{Distribution, arrivals};
use fermata_runtime::sched::policy::Policy;
use fermata_runtime::sched::queue::Job;
use fermata_runtime::sched::report::Report;
use fermata_runtime::sched::trace::to_json;
use serde_json::json;

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

/// How often requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many a second.
    Hertz(f64),
    /// This share of what the real-time model alone can serve.
    OfPeak(f64),
}

/// `100` or `50%`.
fn rate(text: &str) -> Result<Rate, String> {
    let (number, of_peak) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    match number.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 && of_peak => Ok(Rate::OfPeak(n / 100.0)),
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(Rate::Hertz(n)),
        _ => Err("write requests a second, as 100, or a share of the peak rate, as 50%".into()),
    }
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
    /// Requests a second for the real-time model, or a share of what it can serve alone: `50%`
    #[arg(long, default_value = "100", value_name = "HZ|N%", value_parser = rate)]
    pub rate: Rate,
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
    /// The kernels that have no certificate under the bound.
    uncertified: Vec<KernelId>,
    /// The kernels that break their certificate on this machine, and nanoseconds of a tile.
    demoted: Vec<(KernelId, u64)>,
}

/// Requests of the run that finds the peak rate.
const PEAK_REQUESTS: usize = 64;

/// What models show alone.
struct Alone {
    /// The mean latency of requests.
    mean_ns: f64,
    /// The share of the time in which requests are being served.
    busy: f64,
    /// Runs a second of each best-effort model, without requests.
    best_effort: Vec<f64>,
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
    let (rt_of, be_of) = ((&args.rt_dim[..], &args.rt_shape[..]), (&args.be_dim[..], &args.be_shape[..]));
    let rt = load(driver, args, &args.rt, rt_of, false, streams)?;
    let be = args.be.iter().map(|path| load(driver, args, path, be_of, true, streams));
    let be: Vec<Loaded> = be.collect::<Result<_, _>>()?;
    let dist = match args.dist {
        Dist::Constant => Distribution::Constant,
        Dist::Poisson => Distribution::Poisson,
    };
    let rate = match args.rate {
        Rate::Hertz(rate) => rate,
        Rate::OfPeak(share) => share * peak_rate(&rt, args, workers)?,
    };
    let times = arrivals(rate, dist, duration_ns, args.seed);
    let options =
        Options { workers, policy: Policy::Alone, arrivals: times, duration_ns, trace: args.trace.is_some() };
    if !args.json {
        table::headline(args, &options, rate, &be, streams)?;
    }
    be.iter().try_for_each(|loaded| loaded.report_demoted(streams))?;
    let mut code = 0;
    let mut lines = Vec::new();
    let mut alone = None;
    for (i, &name) in args.policy.iter().enumerate() {
        let policy = policy(name);
        let traced = args.trace.as_ref().filter(|_| i + 1 == args.policy.len());
        let options = Options { policy, trace: traced.is_some(), ..options.clone() };
        let (report, spans) = run(Some(rt.job(args, workers, false)?), jobs(&be, args, &options)?, &options);
        if let Some(path) = traced {
            let names = std::iter::once(&rt).chain(&be).map(|loaded| loaded.name.clone()).collect::<Vec<_>>();
            output::write(path, to_json(&spans, &names).as_bytes(), streams)?;
        }
        if policy == Policy::Alone {
            alone = Some(measure_alone(&report, &be, args, &options)?);
        }
        let row =
            table::Row { policy, report: &report, seconds: duration_ns as f64 / 1e9, alone: alone.as_ref() };
        match args.json {
            true => writeln!(streams.stdout, "{}", row.json())?,
            false => row.print(streams)?,
        }
        code = code.max(table::faults(&report, streams)?);
        lines.push(row.json());
    }
    if args.json {
        let result = json!({
            "reason": "result",
            "schema": "fermata.colocate/1",
            "machine": machine(),
            "workers": workers,
            "seed": args.seed,
            "rate": rate,
            "requests": options.arrivals.len(),
            "policies": lines,
            "demoted": table::demoted_json(&be),
            "certificates": table::certificates_json(&be),
        });
        writeln!(streams.stdout, "{result}")?;
    } else if let Some(alone) = &alone {
        table::explain(alone, &be, streams)?;
    }
    Ok(code)
}

/// The best-effort models for a run.
fn jobs(be: &[Loaded], args: &ColocateArgs, options: &Options) -> Result<Vec<Job>, Failure> {
    let preemptible = options.policy.interrupts();
    be.iter().map(|loaded| loaded.job(args, options.workers, preemptible)).collect()
}

/// Requests a second that the real-time model alone serves when the next is always there.
fn peak_rate(rt: &Loaded, args: &ColocateArgs, workers: usize) -> Result<f64, Failure> {
    let arrivals = vec![0; PEAK_REQUESTS];
    let options = Options { workers, policy: Policy::Alone, arrivals, duration_ns: 0, trace: false };
    let (report, _) = run(Some(rt.job(args, workers, false)?), Vec::new(), &options);
    let last = report.latency.percentile(100.0).max(1);
    Ok(report.latency.0.len() as f64 / (last as f64 / 1e9))
}

/// What the requests took alone, and what the best-effort models do without them.
fn measure_alone(
    report: &Report,
    be: &[Loaded],
    args: &ColocateArgs,
    options: &Options,
) -> Result<Alone, Failure> {
    let options = Options { policy: Policy::None, arrivals: Vec::new(), trace: false, ..options.clone() };
    let (idle, _) = run(None, jobs(be, args, &options)?, &options);
    let seconds = options.duration_ns as f64 / 1e9;
    Ok(Alone {
        mean_ns: report.latency.mean(),
        busy: (report.busy_ns as f64 / 1e9 / seconds).min(1.0),
        best_effort: idle.best_effort.iter().map(|queue| queue.runs / seconds).collect(),
    })
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

/// Compiles a model, makes inputs for it and runs it once undisturbed. A best-effort model that
/// fails there does so again beside the real-time one, which must not notice.
fn load(
    driver: &Driver,
    args: &ColocateArgs,
    path: &Path,
    (dims, shapes): (&[String], &[String]),
    may_fail: bool,
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
    let undisturbed = Session::with_options(raw, compiled.kernels.clone(), &options)?.run(&inputs);
    let (expected, demoted) = match undisturbed {
        Ok(expected) => (expected, demoted(&compiled, &inputs, features)?),
        Err(_) if may_fail => (Vec::new(), Vec::new()),
        Err(failure) => return Err(failure.into()),
    };
    let launches = compiled.program.launches();
    let uncertified = compiled.program.kernels.iter().filter(|(id, kernel)| {
        launches[id.index()] > 0 && !kernel.certificate.as_ref().is_some_and(|c| c.holds())
    });
    let uncertified = uncertified.map(|(id, _)| id).collect();
    let name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    Ok(Loaded { name, compiled, inputs, expected, uncertified, demoted })
}

/// The kernels whose longest tile takes longer here than the bound that they are certified for.
fn demoted(
    compiled: &Compiled,
    inputs: &[Tensor],
    features: CpuFeatures,
) -> Result<Vec<(KernelId, u64)>, Failure> {
    if compiled.program.bound.is_none() {
        return Ok(Vec::new());
    }
    let (program, kernels) = (compiled.program.clone(), &compiled.kernels);
    let measured = longest_tiles(program, kernels, inputs, features, CALIBRATION)?;
    let broken = compiled.program.kernels.iter().zip(measured).filter_map(|((id, kernel), measured)| {
        let certificate = kernel.certificate.as_ref().filter(|c| c.holds())?;
        let longest = measured.filter(|ns| certificate.bound_ns.is_some_and(|bound| *ns > bound))?;
        Some((id, longest))
    });
    Ok(broken.collect())
}

impl Loaded {
    /// The name of a kernel.
    fn kernel(&self, kernel: KernelId) -> &str {
        &self.compiled.program.kernels[kernel].func.name
    }

    /// Names on standard error what broke its bound.
    fn report_demoted(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        for (kernel, ns) in &self.demoted {
            let (name, kernel, time) = (&self.name, self.kernel(*kernel), ns_text(*ns));
            writeln!(
                streams.stderr,
                "warning: {name}: `{kernel}` is demoted: its tile takes {time} here, longer than the bound"
            )?;
        }
        Ok(())
    }

    /// The kernels that may run longer than the bound.
    fn broken(&self) -> BTreeSet<KernelId> {
        self.uncertified.iter().copied().chain(self.demoted.iter().map(|(id, _)| *id)).collect()
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
            uncertified: self.broken(),
        })
    }
}
