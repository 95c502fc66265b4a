//! The program `testsuite`: conformance to ONNX's own node tests, the open models against ONNX
//! Runtime, and how fast they run on both; a sentence encoder, generated programs, fuzzing,
//! programs of great size, preemption and what it costs, and kernels for GPUs compiled where there
//! is none.
//!
//! What it needs of Python packages it fetches, by name and version, to below `target`.

mod cuda_check;
mod generated;
mod kernels;
mod minilm;
mod models;
mod onnx_node;
mod overhead;
mod preempting;
mod program;
mod record;
mod scaling;
mod snapshot;
mod venv;
mod versus;
mod zoo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fermata_testsuite::fuzz;

#[global_allocator]
static ALLOCATOR: fuzz::limits::Counting = fuzz::limits::Counting;

/// Checks of Fermata that take longer than a test, or need packages.
#[derive(Parser)]
#[command(name = "testsuite")]
struct Cli {
    #[command(subcommand)]
    check: Check,
}

#[derive(Subcommand)]
enum Check {
    /// Run ONNX's node test cases on the evaluator and compiled
    OnnxNode(onnx_node::Args),
    /// Compile every kernel of the open models and of the operators' cases for GPUs
    #[command(name = "cuda-check")]
    Gpu(cuda_check::Args),
    /// Run the open models against ONNX Runtime, on real and random inputs
    Models(models::Args),
    /// Compile generated programs and compare them with the evaluator
    Generated(generated::Args),
    /// Try every reader with mutated inputs
    Fuzz(fuzz::Args),
    /// Take programs of 100,000 operators from text to a result
    Scale(scaling::Args),
    /// Count the launches of the open models, grouped as Relay groups operators and as we do
    Kernels(kernels::Args),
    /// Compare what the passes change in an open model with a text that was reviewed
    Snapshot(snapshot::Args),
    /// Try to make preemption lose, tear or repeat something
    Preempt(preempting::Args),
    /// Compare an encoder's checkpoint with a forward pass in numpy, in float32 and int8
    Minilm(minilm::Args),
    /// Time the open models and the light graphs here and on other runtimes, in turn
    Versus(versus::Args),
    /// Time kernels with checkpoints under a bound against the best that know none, in turn
    CheckpointOverhead(overhead::Args),
    /// Run a model when told to, for `versus`
    #[command(hide = true)]
    VersusOurs(versus::OursArgs),
}

fn main() -> ExitCode {
    let held = match Cli::parse().check {
        Check::OnnxNode(args) => onnx_node::command(&args),
        Check::Gpu(args) => cuda_check::command(&args),
        Check::Models(args) => models::command(&args),
        Check::Generated(args) => generated::command(&args),
        Check::Fuzz(args) => fuzz::command(&args),
        Check::Scale(args) => scaling::command(&args),
        Check::Kernels(args) => kernels::command(&args),
        Check::Snapshot(args) => snapshot::command(&args),
        Check::Preempt(args) => preempting::command(&args),
        Check::Minilm(args) => minilm::command(&args),
        Check::Versus(args) => versus::command(&args),
        Check::CheckpointOverhead(args) => overhead::command(&args),
        Check::VersusOurs(args) => versus::ours(&args),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
