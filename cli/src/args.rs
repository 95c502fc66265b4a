//! The command line: verbs and flags, by clap.

mod inputs;
mod pipeline;
mod tools;

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Arg, ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use inputs::{Fill, InputArgs, ToleranceArgs};
pub use pipeline::{PipelineArgs, PrintArgs, WatchArgs};
pub use tools::{BisectArgs, CheckArgs, Handed, ReduceArgs, ReportArgs};

/// The command line as clap knows it. Help is short under both its flags: a line a flag.
pub fn command() -> clap::Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).global(true);
    let command = Cli::command().disable_help_flag(true);
    command.arg(help.help("Print help").help_heading("Everywhere")).mut_subcommand("opt", |opt| {
        opt.mut_arg("model", |model| {
            let listing = ArgPredicate::Equals("true".into());
            let model = model.required(false).required_unless_present("list_passes");
            model.default_value_if("list_passes", listing, "-")
        })
    })
}

/// Compile, run, compare and inspect tensor programs whose kernels know how to pause
#[derive(Parser)]
#[command(name = "fermata", version, disable_help_subcommand = true)]
#[command(after_help = "To begin: `fermata demo`, then `fermata run model.onnx --fill random`.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// End with exit code 124 after this long: `30s`, `5m`
    #[arg(long, global = true, value_name = "TIME", help_heading = "Everywhere")]
    pub timeout: Option<String>,
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Compile a model to an artifact or to a stage on the way
    Compile(CompileArgs),
    /// Run passes over a program and print it
    Opt(OptArgs),
    /// Run a model on inputs
    Run(RunArgs),
    /// Compare two ways of running a model, or a run with expected results
    Compare(CompareArgs),
    /// Time a model
    Bench(BenchArgs),
    /// Quantise a model and say what that costs
    Quantize(QuantizeArgs),
    /// Run a real-time model beside best-effort ones, under several policies
    Colocate(crate::colocate::ColocateArgs),
    /// Say which kernels the time of a run goes to
    Profile(ProfileArgs),
    /// Say what is in a model or an artifact
    Inspect(InspectArgs),
    /// Find the rewrite that broke a model
    Bisect(BisectArgs),
    /// Make a failing model small
    Reduce(ReduceArgs),
    /// Write a page on what the passes make of a model
    Report(ReportArgs),
    /// List operators, passes, intrinsics or targets
    List(ListArgs),
    /// Say what this machine offers
    Doctor(DoctorArgs),
    /// Compile, run, check and time a small network that comes with the program
    Demo(DemoArgs),
    /// Explain a diagnostic by its number
    Explain(ExplainArgs),
    /// Print a script of completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page of the program or of a verb
    Man(ManArgs),
}

impl Verb {
    /// Whether standard output is JSON: then nothing is coloured.
    pub fn is_json(&self) -> bool {
        match self {
            Verb::Bench(args) => args.json.is_some(),
            Verb::Inspect(args) => args.json,
            Verb::Doctor(args) => args.json,
            Verb::Colocate(args) => args.json,
            Verb::Bisect(_) | Verb::Reduce(_) | Verb::Report(_) => false,
            Verb::Compile(_)
            | Verb::Opt(_)
            | Verb::Run(_)
            | Verb::Compare(_)
            | Verb::List(_)
            | Verb::Profile(_) => false,
            Verb::Demo(_) | Verb::Explain(_) | Verb::Completions(_) | Verb::Man(_) | Verb::Quantize(_) => {
                false
            }
        }
    }
}

/// What model, with which sizes.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// An ONNX model, the folder of a checkpoint, Relay text or a compiled artifact; `-` reads standard input
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Bind a symbolic dimension: `--dim batch=4`
    #[arg(long = "dim", value_name = "NAME=N")]
    pub dims: Vec<String>,
    /// Give an input its shape: `--shape x=1x3x224x224`
    #[arg(long = "shape", value_name = "NAME=AxBxC")]
    pub shapes: Vec<String>,
    /// Where large constants of Relay text lie
    #[arg(long, value_name = "FILE.safetensors")]
    pub weights: Option<PathBuf>,
    /// Take this function of Relay text as `@main`
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Run the machine code that an artifact holds, instead of making it anew from its TIR
    #[arg(long)]
    pub trust: bool,
}

/// What `compile` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// The program after the passes
    Relay,
    /// Its graph, for Graphviz
    Dot,
    /// Its graph, as a picture
    Svg,
    /// Tensor Expressions of each group
    Te,
    /// Scheduled kernels as TVMScript
    Tir,
    /// Cranelift's intermediate form
    Clif,
    /// Assembly
    Asm,
    /// CUDA C, a file a kernel
    Cuda,
    /// Assembly for GPUs, by NVRTC
    Ptx,
    /// Machine code for GPUs, by NVRTC
    Cubin,
    /// The compiled artifact
    Artifact,
}

/// `fermata compile`.
#[derive(Args)]
pub struct CompileArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// What to give: one or several of these
    #[arg(long, value_enum, value_delimiter = ',', default_value = "artifact", help_heading = "Output")]
    pub emit: Vec<Emit>,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Write each emitted form to a file of this folder
    #[arg(long, value_name = "DIR", conflicts_with = "output", help_heading = "Output")]
    pub emit_dir: Option<PathBuf>,
}

/// What `opt` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptEmit {
    /// The program
    Relay,
    /// Its graph, for Graphviz
    Dot,
    /// Its graph, as a picture
    Svg,
}

/// `fermata opt`.
#[derive(Args, Clone)]
pub struct OptArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// What to print
    #[arg(long, value_enum, default_value = "relay", help_heading = "Printing")]
    pub emit: OptEmit,
    /// Print types as comments
    #[arg(long, help_heading = "Printing")]
    pub show_types: bool,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Printing")]
    pub output: PathBuf,
    /// List the passes and stop
    #[arg(long, help_heading = "Other")]
    pub list_passes: bool,
    /// Take each part of the file, between lines `// -----`, as a program of its own
    #[arg(long, help_heading = "Other")]
    pub split_input_file: bool,
    /// Demand the errors that `// expected-error@+1 {{..}}` names, and no other
    #[arg(long, help_heading = "Other")]
    pub verify_diagnostics: bool,
    /// Run the passes that a file of --crash-reproducer names
    #[arg(long, help_heading = "Other", conflicts_with = "passes")]
    pub run_reproducer: bool,
}

/// What runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// Compiled code on this machine's cores
    Cpu,
    /// The reference evaluator
    Interp,
    /// The kernels as they are scheduled for the target, on the evaluator of TIR: a GPU's without a GPU
    Tir,
    /// The first NVIDIA GPU (written, but not tried on one yet)
    #[value(name = "cuda:0", alias = "cuda")]
    Cuda,
}

/// `fermata run`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    /// What runs it: compiled code or the reference evaluator
    #[arg(long, value_enum, default_value = "cpu", help_heading = "Running")]
    pub device: Device,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Running")]
    pub threads: u16,
    /// Write the results to a file of arrays; `-` prints them (of texts, the embeddings)
    #[arg(short, long, value_name = "FILE.npz", default_value = "-", help_heading = "Results")]
    pub output: PathBuf,
    /// Compare the results with these
    #[arg(long, value_name = "FILE.npz", help_heading = "Results")]
    pub expect: Option<PathBuf>,
    /// Print only the largest N values of each result, with their places
    #[arg(long, value_name = "N", help_heading = "Results")]
    pub print_top: Option<usize>,
}

/// `fermata compare`.
#[derive(Args)]
pub struct CompareArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    #[command(flatten)]
    pub tolerance: ToleranceArgs,
    /// What is right: `interp` or a file of arrays
    #[arg(
        long = "ref",
        default_value = "interp",
        value_name = "interp|FILE.npz",
        help_heading = "What to compare"
    )]
    pub reference: String,
    /// What is compared with it
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cpu", help_heading = "What to compare")]
    pub with: Vec<Device>,
    /// Compare the value of every node, in order, and name the first that differs
    #[arg(long, help_heading = "What to compare")]
    pub all_nodes: bool,
    /// Compare by the cosine of whole results, which must be at least this; the default with
    /// --quantize, and 0.9 then
    #[arg(long, value_name = "COSINE", help_heading = "What to compare")]
    pub min_cosine: Option<f64>,
    /// Stop at the first difference
    #[arg(long, help_heading = "What to compare")]
    pub fail_fast: bool,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Running")]
    pub threads: u16,
}

/// `fermata bench`.
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Run this long before measuring: `200ms`, `1s`
    #[arg(long, default_value = "200ms", value_name = "TIME", help_heading = "Measuring")]
    pub warmup: String,
    /// Measure this long
    #[arg(long, default_value = "3s", value_name = "TIME", help_heading = "Measuring")]
    pub duration: String,
    /// Measure this many runs instead
    #[arg(long, value_name = "N", help_heading = "Measuring")]
    pub iterations: Option<u32>,
    /// Percentiles to print
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "50,90,95,99,99.9",
        value_name = "LIST",
        help_heading = "Measuring"
    )]
    pub percentile: Vec<f64>,
    /// What runs it: compiled code, or the first GPU
    #[arg(long, value_enum, default_value = "cpu", help_heading = "Running")]
    pub device: Device,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Running")]
    pub threads: u16,
    /// Compare with an earlier result
    #[arg(long, value_name = "FILE.json", help_heading = "Measuring")]
    pub baseline: Option<PathBuf>,
    /// Exit with 1 if the median is slower than the baseline's by more: `5%`
    #[arg(long, value_name = "PERCENT", requires = "baseline", help_heading = "Measuring")]
    pub fail_if_slower: Option<String>,
    /// Print the result as JSON, to a file if one is given
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", help_heading = "Measuring")]
    pub json: Option<PathBuf>,
}

/// `fermata quantize`.
#[derive(Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// How: `w8a8-int8-per-token` or `w8a8-int8-per-tensor`
    #[arg(long, default_value = "w8a8-int8-per-token")]
    pub scheme: String,
    /// Run the model on the inputs and print each layer's error
    #[arg(long)]
    pub report: bool,
    /// Write the quantised program here and its weights beside it
    #[arg(short, long, value_name = "FILE.relay")]
    pub output: Option<PathBuf>,
}

/// `fermata profile`.
#[derive(Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Take the best time of each step in this many runs
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub iterations: u32,
    /// Print only the N kernels that took longest
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
}

/// `fermata inspect`.
#[derive(Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Compile a program and list its kernels, as is done of an artifact
    #[arg(long, help_heading = "Kernels")]
    pub kernels: bool,
    /// Run it on these or random inputs and say how long the longest tile of each kernel takes
    #[arg(long, help_heading = "Kernels")]
    pub measure: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `fermata list` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Operators: dtypes and where they run
    Ops,
    /// Passes
    Passes,
    /// Tensor intrinsics
    Intrinsics,
    /// ONNX operators
    Onnx,
    /// Targets and their features
    Targets,
}

/// `fermata list`.
#[derive(Args)]
pub struct ListArgs {
    /// What to list
    #[arg(value_enum)]
    pub what: Listing,
    /// Print Markdown
    #[arg(long)]
    pub markdown: bool,
}

/// `fermata doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `fermata demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Worker threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Running")]
    pub threads: u16,
}

/// `fermata explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// A number: `E0203`; all of them without one
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// `fermata completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `fermata man`.
#[derive(Args)]
pub struct ManArgs {
    /// A verb; the program's own page without one
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
}
