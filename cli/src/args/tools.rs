//! Flags of the verbs that look into compiling: bisect, reduce, report.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Device, InputArgs, ModelArgs, PipelineArgs, PrintArgs, ToleranceArgs};

/// What judges a program.
#[derive(Args, Clone)]
#[command(next_help_heading = "Judging")]
pub struct CheckArgs {
    /// A shell command, the program's path in place of `{}`: exit code 0 is good, 125 cannot say, others to 127 are bad; or `compare`: are the results the evaluator's?
    #[arg(long, value_name = "CMD|compare")]
    pub check: String,
    /// What runs the program of `--check compare`
    #[arg(long, value_enum, default_value = "interp")]
    pub with: Device,
}

/// What a command is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Handed {
    /// Relay text, its large constants in a file beside it
    Relay,
    /// The compiled artifact
    Artifact,
}

/// `fermata bisect`.
#[derive(Args)]
pub struct BisectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub check: CheckArgs,
    /// What stands in place of `{}`
    #[arg(long, value_enum, default_value = "relay", help_heading = "Judging")]
    pub emit: Handed,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    #[command(flatten)]
    pub print: PrintArgs,
}

/// `fermata reduce`.
#[derive(Args)]
pub struct ReduceArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub check: CheckArgs,
    /// Hand the command the program after the passes, as `bisect` does
    #[arg(long, help_heading = "Judging")]
    pub after_passes: bool,
    /// Check this many programs at most
    #[arg(long, default_value_t = 10_000, value_name = "N", help_heading = "Judging")]
    pub max_checks: usize,
    /// Where to, large constants beside it; `-` is standard output
    #[arg(short, long, value_name = "FILE.relay", default_value = "-", help_heading = "Output")]
    pub output: PathBuf,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
}

/// `fermata report`.
#[derive(Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE.html", default_value = "report.html", help_heading = "Output")]
    pub output: PathBuf,
}
