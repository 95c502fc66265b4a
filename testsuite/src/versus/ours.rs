//! Our side of `versus`: a process that runs a model when it is told to.
//!
//! It speaks as `scripts/peer.py` does, and does what a user of the library does: the time to be
//! ready is from the file to the session, and a run makes the tensors of its results.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fermata_ir::diag::Diagnostics;
use fermata_ir::front::npy::write_npz;
use fermata_ir::tensor::Tensor;
use fermata_passes::relay::quantize::Scheme;
use fermata_runtime::detect;
use serde_json::json;

use crate::program::{self, Imported};
use crate::venv;

/// A turn has at least so many runs.
const MIN_RUNS: usize = 5;

/// What is run.
#[derive(clap::Args)]
pub(crate) struct OursArgs {
    model: PathBuf,
    inputs: PathBuf,
    out: PathBuf,
    threads: usize,
    /// With products in int8
    #[arg(long)]
    quantize: bool,
}

fn other(diagnostics: impl Into<Diagnostics>) -> io::Error {
    let messages: Vec<String> = diagnostics.into().0.into_iter().map(|d| d.message).collect();
    io::Error::other(messages.join("; "))
}

/// Serves until `end`.
pub(crate) fn ours(args: &OursArgs) -> io::Result<bool> {
    let inputs = venv::npz(&args.inputs)?;
    let base = detect::resident_memory();
    let start = Instant::now();
    let Imported { module, inputs } = program::import(&args.model, inputs).map_err(other)?;
    let scheme = args.quantize.then_some(Scheme::PerToken);
    let mut session = program::compile_quantised(module, scheme, args.threads).map_err(other)?;
    println!("{}", json!({"ready_ns": start.elapsed().as_nanos() as u64, "base_bytes": base}));
    let mut run = || -> io::Result<(Vec<Tensor>, Duration)> {
        let start = Instant::now();
        let results = session.run(&inputs).map_err(other)?;
        Ok((results, start.elapsed()))
    };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some(seconds) = line.strip_prefix("turn ") else { break };
        let limit: f64 = seconds.parse().map_err(io::Error::other)?;
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.len() < MIN_RUNS || begun.elapsed().as_secs_f64() < limit {
            times.push(run()?.1.as_nanos() as u64);
        }
        println!("{}", json!({"times_ns": times}));
    }
    let results = run()?.0;
    let names: Vec<String> = (0..results.len()).map(|i| format!("output{i}")).collect();
    let arrays = names.iter().map(String::as_str).zip(&results);
    write_npz(std::fs::File::create(&args.out)?, arrays)?;
    println!("{}", json!({"peak_bytes": detect::peak_memory()}));
    Ok(true)
}
