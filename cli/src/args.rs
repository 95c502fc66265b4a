//! The command line: verbs and flags, by clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Compile, run, compare and inspect tensor programs whose kernels know how to pause.
#[derive(Parser)]
#[command(name = "fermata", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
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
    /// Say what is in a model or an artifact
    Inspect(InspectArgs),
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
}

/// What model, with which sizes.
#[derive(Args, Clone, Default)]
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
}

/// How to compile.
#[derive(Args, Clone)]
pub struct PipelineArgs {
    /// Optimisation level, 0 to 3
    #[arg(short = 'O', default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=3), value_name = "LEVEL")]
    pub level: u8,
    /// Run these passes instead of the standard ones: `fold_constant,fuse_ops{max_depth=64}`
    #[arg(long, visible_alias = "pass-pipeline", value_name = "PASSES")]
    pub passes: Option<String>,
    /// Quantise products with constant weights: `w8a8-int8-per-token` or `w8a8-int8-per-tensor`
    #[arg(long, value_name = "SCHEME")]
    pub quantize: Option<String>,
    /// Leave out a pass
    #[arg(long, value_name = "PASS")]
    pub disable_pass: Vec<String>,
    /// What to compile for: `cpu`, or `cuda:sm_80` and the like
    #[arg(long, default_value = "cpu")]
    pub target: String,
    /// Turn extensions of the target on or off: `-avx512,+avx2`
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub target_feature: Option<String>,
    /// Check the program after every pass
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub verify_each: bool,
    /// Print the pipeline and stop
    #[arg(long)]
    pub print_pipeline: bool,
    /// Print how long each pass took
    #[arg(long, alias = "mlir-timing")]
    pub timing: bool,
    /// Print the program before this pass
    #[arg(long, value_name = "PASS", alias = "mlir-print-ir-before")]
    pub print_ir_before: Vec<String>,
    /// Print the program after this pass
    #[arg(long, value_name = "PASS", alias = "mlir-print-ir-after")]
    pub print_ir_after: Vec<String>,
    /// Print the program after every pass
    #[arg(long, alias = "mlir-print-ir-after-all")]
    pub print_ir_after_all: bool,
    /// Print the program after every pass that changed it
    #[arg(long, alias = "mlir-print-ir-after-change")]
    pub print_ir_after_change: bool,
    /// Run the machine code that an artifact holds, instead of making it anew from its TIR
    #[arg(long)]
    pub trust: bool,
}

impl Default for PipelineArgs {
    fn default() -> Self {
        PipelineArgs {
            level: 2,
            passes: None,
            quantize: None,
            disable_pass: Vec::new(),
            target: "cpu".into(),
            target_feature: None,
            verify_each: true,
            print_pipeline: false,
            timing: false,
            print_ir_before: Vec::new(),
            print_ir_after: Vec::new(),
            print_ir_after_all: false,
            print_ir_after_change: false,
            trust: false,
        }
    }
}

/// What a constant may look like in text.
#[derive(Args, Clone)]
pub struct PrintArgs {
    /// Constants of more elements than this are elided or referenced
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub elide_constants: usize,
    /// Write large constants to this file
    #[arg(long, value_name = "FILE.safetensors")]
    pub weights_out: Option<PathBuf>,
}

/// What `compile` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// The program after the passes
    Relay,
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
    pub print: PrintArgs,
    /// What to give
    #[arg(long, value_enum, value_delimiter = ',', default_value = "artifact")]
    pub emit: Vec<Emit>,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write each emitted form to a file of this folder
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub emit_dir: Option<PathBuf>,
}

/// `fermata opt`.
#[derive(Args)]
pub struct OptArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub print: PrintArgs,
    /// List the passes and stop
    #[arg(long)]
    pub list_passes: bool,
    /// Print types as comments
    #[arg(long)]
    pub show_types: bool,
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// Where inputs come from.
#[derive(Args, Clone, Default)]
pub struct InputArgs {
    /// One input: `NAME=@x.npy`, `NAME=4x8xf32=1.5` or `NAME=2x2xi64=[1,2,3,4]`
    #[arg(short, long = "input", value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub input: Vec<String>,
    /// Inputs by name from a file of arrays
    #[arg(long, value_name = "FILE.npz")]
    pub inputs: Option<PathBuf>,
    /// A text for the tokenizer of a checkpoint; several make a batch
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// A folder of `input_0.pb`, `input_1.pb`, .. (and `output_0.pb`, ..)
    #[arg(long, value_name = "DIR")]
    pub onnx_test_data: Option<PathBuf>,
    /// What inputs that are not given hold
    #[arg(long, value_enum)]
    pub fill: Option<Fill>,
    /// Range of random values: `NAME=lo:hi`
    #[arg(long, value_name = "NAME=LO:HI", allow_hyphen_values = true)]
    pub range: Vec<String>,
    /// Seed of random values
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// What an input that is not given holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fill {
    /// Random values: floats in [0, 1), integers in [0, 10)
    Random,
    /// Zeros
    Zeros,
    /// Ones
    Ones,
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
}

/// How results are compared.
#[derive(Args, Clone, Default)]
pub struct ToleranceArgs {
    /// Absolute part of `|a - b| <= atol + rtol * |b|`; by dtype and reduction length if not given
    #[arg(long)]
    pub atol: Option<f64>,
    /// Relative part
    #[arg(long)]
    pub rtol: Option<f64>,
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
    /// What runs it
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// The function to run (on the evaluator)
    #[arg(long, default_value = "main")]
    pub entry: String,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Write the results to a file of arrays; `-` prints them (of texts, the embeddings)
    #[arg(short, long, value_name = "FILE.npz", default_value = "-")]
    pub output: PathBuf,
    /// Compare the results with these
    #[arg(long, value_name = "FILE.npz")]
    pub expect: Option<PathBuf>,
    /// Print only the largest N values of each result, with their places
    #[arg(long, value_name = "N")]
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
    #[arg(long = "ref", default_value = "interp", value_name = "interp|FILE.npz")]
    pub reference: String,
    /// What is compared with it
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cpu")]
    pub with: Vec<Device>,
    /// Compare the value of every node, in order, and name the first that differs
    #[arg(long)]
    pub all_nodes: bool,
    /// Compare by the cosine of whole results, which must be at least this; the default with
    /// --quantize, and 0.9 then
    #[arg(long, value_name = "COSINE")]
    pub min_cosine: Option<f64>,
    /// Stop at the first difference
    #[arg(long)]
    pub fail_fast: bool,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
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
    #[arg(long, default_value = "200ms", value_name = "TIME")]
    pub warmup: String,
    /// Measure this long
    #[arg(long, default_value = "3s", value_name = "TIME")]
    pub duration: String,
    /// Measure this many runs instead
    #[arg(long, value_name = "N")]
    pub iterations: Option<u32>,
    /// Percentiles to print
    #[arg(long, value_delimiter = ',', default_value = "50,90,95,99")]
    pub percentile: Vec<f64>,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Compare with an earlier result
    #[arg(long, value_name = "FILE.json")]
    pub baseline: Option<PathBuf>,
    /// Exit with 1 if the median is slower than the baseline's by more: `5%`
    #[arg(long, value_name = "PERCENT", requires = "baseline")]
    pub fail_if_slower: Option<String>,
    /// Print the result as JSON, to a file if one is given
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
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

/// `fermata inspect`.
#[derive(Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
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
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
}

/// `fermata explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// A number: `E0203`
    #[arg(value_name = "CODE")]
    pub code: String,
}

/// `fermata completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
