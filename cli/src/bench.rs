//! `fermata bench`: how long a run takes.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fermata_runtime::detect;
use fermata_runtime::exec::Runnable;
use serde_json::{Value, json};

use crate::args::{BenchArgs, Device, Fill};
use crate::compile::{load_compiled, target};
use crate::inputs::{Given, Wanted, collect};
use crate::model::Bindings;
use crate::run::{bindings, planned, ports, session};
use crate::{Driver, Failure, Streams, cuda, output};

/// At most so many runs are kept; a longer measurement stops there.
const MAX_RUNS: usize = 1_000_000;

/// Medians of the two halves that differ by more than this share say that the machine was not quiet.
const STABLE: f64 = 0.05;

/// `fermata bench`.
pub(crate) fn command(driver: &Driver, args: &BenchArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let warmup = duration(&args.warmup)?;
    let limit = duration(&args.duration)?;
    let mut inputs_args = args.inputs.clone();
    inputs_args.fill.get_or_insert(Fill::Random);
    let given = Given::new(&inputs_args, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let start = Instant::now();
    let (mut session, wanted) = ready(driver, args, &bindings, streams)?;
    let ready = start.elapsed();
    let inputs = collect(&inputs_args, &given, &wanted)?;
    let plan = session.entry();
    let sizes: Vec<usize> = plan.outputs.iter().map(|p| plan.buffers[p.buffer].bytes()).collect();
    let mut results: Vec<Vec<u8>> = sizes.iter().map(|&n| vec![0; n]).collect();
    let mut once = || -> Result<Duration, Failure> {
        let mut outputs: Vec<&mut [u8]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        let start = Instant::now();
        session.run_into(&inputs, &mut outputs)?;
        Ok(start.elapsed())
    };
    let begun = Instant::now();
    let first = once()?;
    while begun.elapsed() < warmup {
        once()?;
    }
    let mut times = Vec::new();
    let begun = Instant::now();
    loop {
        times.push(once()?.as_nanos() as u64);
        let enough = match args.iterations {
            Some(n) => times.len() >= n.max(1) as usize,
            None => begun.elapsed() >= limit,
        };
        if enough || times.len() >= MAX_RUNS {
            break;
        }
    }
    let report = report(args, ready, first, times)?;
    print(args, &report, streams)?;
    match &args.baseline {
        Some(path) => against(path, args, &report, streams),
        None => Ok(0),
    }
}

/// The program, ready to run on the device that the flags name, and the inputs that it wants.
fn ready(
    driver: &Driver,
    args: &BenchArgs,
    bindings: &Bindings,
    streams: &mut Streams<'_>,
) -> Result<(Box<dyn Runnable>, Vec<Wanted>), Failure> {
    match args.device {
        Device::Cpu => {
            let compiled = load_compiled(driver, &args.model, bindings, &args.pipeline, streams)?;
            let wanted = ports(&compiled.program);
            Ok((Box::new(session(compiled, &args.pipeline, usize::from(args.threads))?), wanted))
        }
        Device::Cuda => {
            let planned = planned(driver, (&args.model, &args.pipeline), bindings, streams)?;
            Ok((Box::new(cuda::session(planned.program, planned.gpu)?), planned.wanted))
        }
        Device::Interp | Device::Tir => {
            Err(Failure::usage("bench times compiled kernels: --device is cpu or cuda:0"))
        }
    }
}

/// `200ms`, `3s`, `50us`.
///
/// # Errors
/// If it is no time.
pub(crate) fn duration(text: &str) -> Result<Duration, Failure> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failure::usage(format!("`{text}` is not a time: write 200ms or 3s")))
}

/// The value below which a share of sorted numbers lies.
fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn median(times: &[u64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    percentile(&sorted, 50.0) as f64
}

fn report(args: &BenchArgs, ready: Duration, first: Duration, times: Vec<u64>) -> Result<Value, Failure> {
    let (early, late) = times.split_at(times.len() / 2);
    let stable = early.is_empty() || (median(late) / median(early).max(1.0) - 1.0).abs() <= STABLE;
    let mean = times.iter().sum::<u64>() as f64 / times.len() as f64;
    let runs = times.len();
    let mut sorted = times;
    sorted.sort_unstable();
    if let Some(bad) = args.percentile.iter().find(|p| !(0.0..=100.0).contains(*p)) {
        return Err(Failure::usage(format!("`--percentile {bad}` is not between 0 and 100")));
    }
    let percentiles: serde_json::Map<String, Value> =
        args.percentile.iter().map(|&p| (format!("p{p}_ns"), percentile(&sorted, p).into())).collect();
    let features = target(&args.pipeline)?.features.named();
    let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    Ok(json!({
        "reason": "result",
        "schema": "fermata.bench/1",
        "model": args.model.model.display().to_string(),
        "machine": machine(),
        "features": features,
        "build": build(),
        "device": args.device.to_possible_value().expect("every device has a name").get_name(),
        "threads": args.threads,
        "seed": args.inputs.seed,
        "runs": runs,
        "stable": stable,
        "ready_ns": ready.as_nanos() as u64,
        "first_run_ns": first.as_nanos() as u64,
        "mean_ns": mean.round() as u64,
        "min_ns": sorted[0],
        "max_ns": sorted[runs - 1],
        "percentiles": percentiles,
        "peak_memory_bytes": detect::peak_memory(),
    }))
}

/// The program's version and how it was built.
pub(crate) fn build() -> String {
    let profile = if cfg!(debug_assertions) { "debug: times mean little" } else { "release" };
    format!("fermata {}, {profile}", env!("CARGO_PKG_VERSION"))
}

/// The processor's name and cores, as the system tells them.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, n)| n.trim()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", name.unwrap_or(std::env::consts::ARCH))
}

fn ms(value: &Value) -> String {
    format!("{:.3} ms", value.as_u64().unwrap_or(0) as f64 / 1e6)
}

fn print(args: &BenchArgs, report: &Value, streams: &mut Streams<'_>) -> Result<(), Failure> {
    if let Some(path) = &args.json {
        return output::write(path, format!("{report}\n").as_bytes(), streams);
    }
    let text = |key: &str| report[key].as_str().unwrap_or("").to_string();
    let features = report["features"].as_array().cloned().unwrap_or_default();
    let features: Vec<&str> = features.iter().filter_map(Value::as_str).collect();
    let features = if features.is_empty() { "portable code".into() } else { features.join(", ") };
    writeln!(streams.stdout, "machine  {} ({features})", text("machine"))?;
    writeln!(streams.stdout, "build    {}", text("build"))?;
    writeln!(
        streams.stdout,
        "run      {} thread(s), seed {}, {} runs, {}",
        report["threads"],
        report["seed"],
        report["runs"],
        if report["stable"] == true { "stable" } else { "not stable: the machine was busy" }
    )?;
    writeln!(
        streams.stdout,
        "ready    {} after start, first run {}",
        ms(&report["ready_ns"]),
        ms(&report["first_run_ns"])
    )?;
    writeln!(
        streams.stdout,
        "time     mean {}, min {}, max {}",
        ms(&report["mean_ns"]),
        ms(&report["min_ns"]),
        ms(&report["max_ns"])
    )?;
    let percentiles = report["percentiles"].as_object().cloned().unwrap_or_default();
    let list: Vec<String> = percentiles
        .iter()
        .map(|(name, value)| format!("{} {}", name.trim_end_matches("_ns"), ms(value)))
        .collect();
    writeln!(streams.stdout, "         {}", list.join(", "))?;
    let peak = report["peak_memory_bytes"].as_u64().unwrap_or(0) as usize;
    writeln!(streams.stdout, "memory   {} at the peak", crate::inspect::bytes_text(peak))?;
    Ok(())
}

/// Compares the median with an earlier result's.
fn against(path: &Path, args: &BenchArgs, report: &Value, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("cannot read `{}`: {e}", path.display())))?;
    let earlier: Option<Value> =
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|v| v["reason"] == "result");
    let before = earlier.as_ref().and_then(|e| e["percentiles"]["p50_ns"].as_f64());
    let now = report["percentiles"]["p50_ns"].as_f64();
    let (Some(before), Some(now)) = (before, now) else {
        return Err(Failure::usage(format!(
            "`{}` holds no result with a p50 to compare with",
            path.display()
        )));
    };
    let change = (now / before - 1.0) * 100.0;
    writeln!(streams.stderr, "median {change:+.1} % against the baseline")?;
    let Some(allowed) = &args.fail_if_slower else { return Ok(0) };
    let allowed: f64 = allowed
        .trim_end_matches('%')
        .parse()
        .map_err(|_| Failure::usage(format!("`--fail-if-slower {allowed}` is not a percentage")))?;
    Ok(i32::from(change > allowed))
}
