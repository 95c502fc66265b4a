//! Flags that say what goes in and how results are judged.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fermata_ir::compare::ErrorStat;

/// Where inputs come from.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Inputs")]
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
    /// What inputs that are not given hold: `random` is [0, 1) of floats and 0 to 9 of integers
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

/// How results are compared: `|a - b| <= atol + rtol * |b|`, as numpy's `allclose`.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Comparing: |a - b| <= atol + rtol * |b|, as numpy's allclose")]
pub struct ToleranceArgs {
    /// Absolute tolerance; by dtype if not given (1e-5 of float32)
    #[arg(long, value_name = "X")]
    pub atol: Option<f64>,
    /// Relative tolerance; by dtype if not given (1e-4 of float32)
    #[arg(long, value_name = "X")]
    pub rtol: Option<f64>,
    /// Hold a statistic of the errors against the tolerance instead of each
    #[arg(long, value_enum, value_name = "STAT", default_value = "elementwise")]
    pub error_stat: Stat,
}

/// What is held against the tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stat {
    /// Each error
    #[default]
    Elementwise,
    /// The largest error, against the largest expected value
    Max,
    /// The mean error, against the mean expected size
    Mean,
    /// The median error, against the median expected size
    Median,
}

impl Stat {
    /// The statistic; `None` if each error counts.
    pub fn statistic(self) -> Option<ErrorStat> {
        match self {
            Stat::Elementwise => None,
            Stat::Max => Some(ErrorStat::Max),
            Stat::Mean => Some(ErrorStat::Mean),
            Stat::Median => Some(ErrorStat::Median),
        }
    }
}
