//! The program `testsuite`: conformance to ONNX's own node tests.
//!
//! What it needs of Python packages it installs, by name and version, into `target/venv`.

mod onnx_node;
mod venv;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks of Fermata that need packages.
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
}

fn main() -> ExitCode {
    let Check::OnnxNode(args) = Cli::parse().check;
    match onnx_node::command(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
