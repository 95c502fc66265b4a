//! What `fermata colocate` prints: a row a policy, and what stands around the rows.

use fermata_runtime::sched::group::Options;
use fermata_runtime::sched::policy::Policy;
use fermata_runtime::sched::report::{BestEffort, Report, Samples};
use serde_json::{Value, json};

use super::{Alone, ColocateArgs, Dist, Loaded, Rate};
use crate::bench::machine;
use crate::bound::time_text;
use crate::{Failure, Streams};

/// The lines above the rows.
pub fn headline(
    args: &ColocateArgs,
    options: &Options,
    rate: f64,
    be: &[Loaded],
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let dist = if args.dist == Dist::Constant { "constant" } else { "poisson" };
    let of_peak = match args.rate {
        Rate::OfPeak(share) => format!(", {} % of what the model serves alone", share * 100.0),
        Rate::Hertz(_) => String::new(),
    };
    let out = &mut *streams.stdout;
    writeln!(out, "machine  {}; {} workers", machine(), options.workers)?;
    let requests = options.arrivals.len();
    let rate = if rate.fract() == 0.0 { format!("{rate}") } else { format!("{rate:.1}") };
    writeln!(
        out,
        "load     {requests} requests in {}, {rate} a second ({dist}){of_peak}, seed {}",
        args.duration, args.seed
    )?;
    for loaded in be {
        if let Some(bound) = loaded.compiled.program.bound {
            let (name, bound) = (&loaded.name, time_text(bound));
            let [all, without, demoted] = loaded.certificates();
            writeln!(
                out,
                "bound    {name}: {without} of {all} kernels without certificate under {bound}, {demoted} more break it here"
            )?;
        }
    }
    writeln!(
        out,
        "\n{:<8} {:>9} {:>8} {:>9} {:>9} {:>9}   {:>17}   {:>9} {:>19}   {:>13}  best effort, runs/s",
        "policy",
        "rt mean",
        "to alone",
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

/// A policy's row.
pub struct Row<'a> {
    /// The policy.
    pub policy: Policy,
    /// What its run showed.
    pub report: &'a Report,
    /// How long best-effort models ran.
    pub seconds: f64,
    /// What the models show alone, once that is measured.
    pub alone: Option<&'a Alone>,
}

impl Row<'_> {
    /// The mean latency of requests over that alone.
    fn to_alone(&self) -> Option<f64> {
        let alone = self.alone.filter(|alone| alone.mean_ns > 0.0)?;
        Some(self.report.latency.mean() / alone.mean_ns)
    }

    /// What a best-effort model keeps of the runs that it would have alone in the time that
    /// requests leave.
    fn kept(&self, number: usize, queue: &BestEffort) -> Option<f64> {
        let alone = self.alone.filter(|_| self.policy != Policy::Alone)?;
        let idle = alone.best_effort.get(number)? * (1.0 - alone.busy);
        (idle > 0.0).then(|| queue.runs / self.seconds / idle)
    }

    /// Prints the row: milliseconds for requests, microseconds for events.
    pub fn print(&self, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let report = self.report;
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
        let best_effort = report.best_effort.iter().enumerate().map(|(number, queue)| {
            let kept = self.kept(number, queue).map(|k| format!(" ({:.0} %)", k * 100.0)).unwrap_or_default();
            format!("{} {:.1}{kept}", queue.name, queue.runs / self.seconds)
        });
        writeln!(
            streams.stdout,
            "{:<8} {:>9} {:>8} {:>9} {:>9} {:>9}   {:>17}   {:>9} {:>19}   {:>13}  {}",
            self.policy.name(),
            ms(report.latency.mean()),
            self.to_alone().map_or("-".into(), |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0)),
            latency(50.0),
            latency(99.0),
            latency(99.9),
            us(&report.first_tile),
            preempted,
            us(&report.preemption),
            inside,
            best_effort.collect::<Vec<_>>().join(", "),
        )?;
        Ok(())
    }

    /// The row for programs.
    pub fn json(&self) -> Value {
        let report = self.report;
        let best_effort = report.best_effort.iter().enumerate().map(|(number, queue)| {
            json!({
                "model": queue.name,
                "completed": queue.completed,
                "runs_per_second": queue.runs / self.seconds,
                "kept": self.kept(number, queue),
                "wrong": queue.wrong,
                "failure": queue.failure,
            })
        });
        let mut row = json!({
            "reason": "policy",
            "policy": self.policy.name(),
            "latency": samples_json(&report.latency),
            "mean_to_alone": self.to_alone(),
            "first_tile": samples_json(&report.first_tile),
            "preemption": samples_json(&report.preemption),
            "preempted_before_kernel": report.depths.before,
            "preempted_in_kernel_quarters": report.depths.inside,
            "best_effort": best_effort.collect::<Vec<_>>(),
            "wrong": report.wrong,
        });
        if let Some(alone) = self.alone.filter(|_| self.policy == Policy::Alone) {
            row["busy"] = json!(alone.busy);
            row["best_effort_alone"] = json!(alone.best_effort);
        }
        row
    }
}

/// The line below the rows: what the shares are of.
pub fn explain(alone: &Alone, be: &[Loaded], streams: &mut Streams<'_>) -> Result<(), Failure> {
    let runs = be.iter().zip(&alone.best_effort).map(|(be, runs)| format!("{} {runs:.1}", be.name));
    writeln!(
        streams.stdout,
        "\nalone    requests are served {:.1} % of the time; without them, runs/s: {}",
        alone.busy * 100.0,
        runs.collect::<Vec<_>>().join(", ")
    )?;
    writeln!(
        streams.stdout,
        "         (%): of the runs that a best-effort model would have alone in the time that requests leave"
    )?;
    Ok(())
}

/// Says on standard error what went wrong; 1 if anything did.
pub fn faults(report: &Report, streams: &mut Streams<'_>) -> Result<i32, Failure> {
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

impl Loaded {
    /// Kernels that are launched, those of them without certificate, and those that break theirs.
    fn certificates(&self) -> [usize; 3] {
        let launched = self.compiled.program.launches().into_iter().filter(|n| *n > 0).count();
        [launched, self.uncertified.len(), self.demoted.len()]
    }
}

/// The kernels that break their bound on this machine.
pub fn demoted_json(best_effort: &[Loaded]) -> Vec<Value> {
    let of = |loaded: &Loaded| {
        let kernels = loaded.demoted.iter();
        let json = kernels.map(
            |(kernel, ns)| json!({"model": loaded.name, "kernel": loaded.kernel(*kernel), "measured_ns": ns}),
        );
        json.collect::<Vec<_>>()
    };
    best_effort.iter().flat_map(of).collect()
}

/// How many kernels of each model keep the bound that they were compiled for.
pub fn certificates_json(best_effort: &[Loaded]) -> Vec<Value> {
    let of = |loaded: &Loaded| {
        let [kernels, without, demoted] = loaded.certificates();
        let bound = loaded.compiled.program.bound.map(|b| b.as_nanos() as u64);
        let names: Vec<&str> = loaded.uncertified.iter().map(|id| loaded.kernel(*id)).collect();
        json!({
            "model": loaded.name,
            "bound_ns": bound,
            "kernels": kernels,
            "without_certificate": without,
            "demoted": demoted,
            "uncertified": names,
        })
    };
    best_effort.iter().map(of).collect()
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
