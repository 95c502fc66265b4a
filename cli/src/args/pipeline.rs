//! Flags that choose the passes and watch them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How to compile.
#[derive(Args, Clone)]
#[command(next_help_heading = "Compiling")]
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
    /// Allow results that are close, not equal but for rounding: reciprocal roots, approximate exponentials
    #[arg(long)]
    pub fast_math: bool,
    /// Leave out a pass
    #[arg(long, value_name = "PASS")]
    pub disable_pass: Vec<String>,
    /// What to compile for: `cpu`, or `cuda:sm_80` and the like
    #[arg(long, default_value = "cpu")]
    pub target: String,
    /// Turn extensions of the target on or off: `-avx512,+avx2`
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub target_feature: Option<String>,
    /// Choose tiles that take no longer, by the cost model: `20us`; `20us,strict` refuses what takes longer
    #[arg(long, value_name = "TIME")]
    pub checkpoint_bound: Option<String>,
    /// Check the program after every pass
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub verify_each: bool,
}

impl Default for PipelineArgs {
    fn default() -> Self {
        PipelineArgs {
            level: 2,
            passes: None,
            quantize: None,
            fast_math: false,
            disable_pass: Vec::new(),
            target: "cpu".into(),
            target_feature: None,
            checkpoint_bound: None,
            verify_each: true,
        }
    }
}

/// How changes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Changes {
    /// As a unified diff
    Diff,
}

/// What to show of the passes at work.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Watching the passes")]
pub struct WatchArgs {
    /// Print the pipeline and stop
    #[arg(long)]
    pub print_pipeline: bool,
    /// Stop after this pass
    #[arg(long, value_name = "PASS")]
    pub stop_after: Option<String>,
    /// Stop rewriting after N rewrites, counted over all passes
    #[arg(long, value_name = "N")]
    pub bisect_limit: Option<u64>,
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
    /// Print the program as a pass that failed left it
    #[arg(long, alias = "mlir-print-ir-after-failure")]
    pub print_ir_after_failure: bool,
    /// Print what each pass changed
    #[arg(long, value_enum, value_name = "diff", num_args = 0..=1, require_equals = true, default_missing_value = "diff", hide_possible_values = true)]
    pub print_changed: Option<Changes>,
    /// Print these functions only
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub filter_funcs: Vec<String>,
    /// Write the program after every pass that changed it to a numbered file of this folder
    #[arg(long, value_name = "DIR", alias = "mlir-print-ir-tree-dir")]
    pub dump_ir_dir: Option<PathBuf>,
    /// Print why rewrites that could have been done were not
    #[arg(long)]
    pub remarks: bool,
    /// Print how long each pass took
    #[arg(long, alias = "mlir-timing")]
    pub timing: bool,
    /// Print how much each pass rewrote
    #[arg(long, alias = "mlir-pass-statistics")]
    pub stats: bool,
    /// If a pass fails, write the program before it and the passes from it on to this file
    #[arg(long, value_name = "FILE", alias = "mlir-pass-pipeline-crash-reproducer")]
    pub crash_reproducer: Option<PathBuf>,
}

/// What a constant may look like in text.
#[derive(Args, Clone)]
#[command(next_help_heading = "Printing")]
pub struct PrintArgs {
    /// Constants of more elements than this are elided or referenced
    #[arg(long, default_value_t = 16, value_name = "N", alias = "mlir-elide-elementsattrs-if-larger")]
    pub elide_constants: usize,
    /// Write large constants to this file
    #[arg(long, value_name = "FILE.safetensors")]
    pub weights_out: Option<PathBuf>,
}

impl Default for PrintArgs {
    fn default() -> Self {
        PrintArgs { elide_constants: 16, weights_out: None }
    }
}
