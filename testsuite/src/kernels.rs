//! `testsuite kernels`: how many launches the open models are, grouped as Relay groups them and by us.
//!
//! With `--time`, also what that is worth: both groupings of a model are compiled for this machine,
//! the encoder in int8 too, and run in turn in one process, many short turns of a few runs. A turn
//! counts as its fastest run, since whatever else the machine does only adds, and the ratio is the
//! median over the rounds of the two turns' ratio. The results of both must agree.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fermata_ir::compare::compare;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::{bind_dims, infer_module};
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::lower;
use fermata_passes::lower::plan::Program;
use fermata_passes::manager::{self, Options};
use fermata_passes::pass::OptionValue;
use fermata_passes::pipeline::Pipeline;
use fermata_passes::relay::quantize::Scheme;
use fermata_passes::target::{CUDA_SMS, CudaTarget, Target};
use fermata_runtime::exec::Session;
use fermata_testsuite::preempt::models::random_inputs;

use crate::cuda_check::{ENCODER_DIMS, SHAPES};
use crate::zoo::OPEN_MODELS;
use crate::{minilm, program, record, venv};

/// The section of BENCHMARKS.md.
const SECTION: &str = "kernels";

/// The two groupings, as `fuse_ops` names them.
const MODES: [&str; 2] = ["relay", "fermata"];

/// A turn has at least so many runs, and lasts so long.
const MIN_RUNS: usize = 3;
const TURN: Duration = Duration::from_millis(60);

/// What is counted or timed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only models whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Run both groupings in turn on this machine
    #[arg(long)]
    time: bool,
    /// Rounds of turns
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Threads that run tiles
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write the table into BENCHMARKS.md
    #[arg(long, requires = "time")]
    update: bool,
    /// Count for a GPU instead: `cuda:sm_90`
    #[arg(long, value_name = "TARGET", conflicts_with = "time", value_parser = gpu)]
    target: Option<CudaTarget>,
}

/// The GPU of a text.
fn gpu(text: &str) -> Result<CudaTarget, String> {
    let names = || CUDA_SMS.map(|sm| CudaTarget { sm }.to_string()).join(", ");
    CudaTarget::parse(text).ok_or_else(|| format!("expected one of {}", names()))
}

/// A model to group twice.
struct Subject {
    name: &'static str,
    source: Source,
    scheme: Option<Scheme>,
}

/// Where a model comes from.
enum Source {
    /// An ONNX file, and the shape of its only input.
    Onnx(PathBuf, &'static str, &'static [usize]),
    /// An encoder's checkpoint.
    Checkpoint(PathBuf),
}

impl Subject {
    /// The typed program, its sizes bound.
    fn module(&self) -> Result<Module, Diagnostics> {
        let mut module = match &self.source {
            Source::Onnx(path, input, shape) => {
                let shapes = [((*input).to_string(), shape.to_vec())].into_iter().collect();
                import_file(path, &ImportOptions { shapes, ..ImportOptions::default() })?
            }
            Source::Checkpoint(folder) => {
                let mut module = import_dir(folder)?;
                bind_dims(&mut module, &ENCODER_DIMS)?;
                module
            }
        };
        infer_module(&mut module)?;
        Ok(module)
    }

    /// The passes of the default level with the groups made in one mode.
    fn pipeline(&self, mode: &'static str) -> Result<Pipeline, Diagnostics> {
        let mut pipeline = program::pipeline(self.scheme)?;
        for (name, value) in pipeline.steps.iter_mut().flat_map(|step| &mut step.options) {
            if *name == "mode" {
                *value = OptionValue::Word(mode);
            }
        }
        Ok(pipeline)
    }
}

/// The open models, and the encoder in float32 and int8.
fn subjects(wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Subject>> {
    let mut found = Vec::new();
    for (name, input, shape) in SHAPES.into_iter().filter(|(name, ..)| wanted(name)) {
        let model = OPEN_MODELS.iter().find(|m| m.name == name);
        let path = model.ok_or_else(|| io::Error::other("a shape without a model"))?.file()?;
        found.push(Subject { name, source: Source::Onnx(path, input, shape), scheme: None });
    }
    for (name, scheme) in [("minilm", None), ("minilm-w8a8", Some(Scheme::PerToken))] {
        if wanted(name) {
            let [package, folder] = minilm::MODEL;
            let source = Source::Checkpoint(venv::unpacked(package)?.join(folder));
            found.push(Subject { name, source, scheme });
        }
    }
    Ok(found)
}

/// Prints a row for each model; whether all of them compile and agree.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let wanted = |name: &str| args.models.is_empty() || args.models.iter().any(|m| name.contains(&**m));
    let mut table = String::from("| model | launches, `fuse_ops{mode=relay}` | launches, `fuse_ops` |");
    table.push_str(if args.time {
        " ms | ms | ratio |\n|---|---:|---:|---:|---:|---:|\n"
    } else {
        "\n|---|---:|---:|\n"
    });
    print!("{table}");
    let mut all_good = true;
    for subject in subjects(wanted)? {
        let row = match args.time {
            true => timed(&subject, args),
            false => counted(&subject, &args.target.map_or_else(Target::default, Target::from)),
        };
        match row {
            Ok(row) => {
                print!("{row}");
                table.push_str(&row);
            }
            Err(errors) => {
                errors.iter().for_each(|error| println!("FAILED {}: {error}", subject.name));
                all_good = false;
            }
        }
    }
    if args.update && all_good {
        let threads = if args.threads == 1 { "1 thread".into() } else { format!("{} threads", args.threads) };
        record::update(SECTION, &format!("; {threads}"), &table)?;
    }
    Ok(all_good)
}

fn messages(errors: Diagnostics) -> Vec<String> {
    errors.0.into_iter().map(|error| error.message).collect()
}

/// The row of a model that is only counted, for a target that does not depend on this machine.
fn counted(subject: &Subject, target: &Target) -> Result<String, Vec<String>> {
    let options = Options { target: target.clone(), ..Options::default() };
    let mut row = format!("| {} |", subject.name);
    for mode in MODES {
        let mut module = subject.module().map_err(messages)?;
        let pipeline = subject.pipeline(mode).map_err(messages)?;
        let count =
            manager::run(&mut module, &pipeline, &options, &mut []).and_then(|_| lower(&module, target));
        let _ = write!(row, " {} |", launches(&count.map_err(messages)?));
    }
    row.push('\n');
    Ok(row)
}

/// The launches of a program.
fn launches(program: &Program) -> usize {
    program.launches().iter().sum()
}

/// The row of a model that is compiled for this machine and run.
fn timed(subject: &Subject, args: &Args) -> Result<String, Vec<String>> {
    let mut sessions = Vec::new();
    for mode in MODES {
        let module = subject.module().map_err(messages)?;
        let pipeline = subject.pipeline(mode).map_err(messages)?;
        sessions.push(program::compile_by(module, &pipeline, args.threads).map_err(messages)?);
    }
    let inputs = random_inputs(sessions[0].program()).map_err(|e| vec![e])?;
    let failed = |e: fermata_ir::diag::Diagnostic| vec![e.message];
    let results: Vec<Vec<Tensor>> =
        sessions.iter_mut().map(|s| s.run(&inputs)).collect::<Result<_, _>>().map_err(failed)?;
    let compared = results[1].iter().zip(&results[0]).map(|(ours, theirs)| compare(ours, theirs));
    let differ: Vec<String> = compared.filter(|c| !c.matches()).map(|c| c.to_string()).collect();
    if !differ.is_empty() {
        return Err(differ);
    }
    let (mut times, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..args.rounds.max(1) {
        let mut here = [0.0; 2];
        // Who begins changes from round to round.
        for at in [round % 2, 1 - round % 2] {
            here[at] = turn(&mut sessions[at], &inputs).map_err(failed)?;
            times[at].push(here[at]);
        }
        ratios.push(here[1] / here[0]);
    }
    let counts: Vec<usize> = sessions.iter().map(|s| launches(s.program())).collect();
    let [theirs, ours] = times.map(|times| median(times) * 1e3);
    let ratio = median(ratios);
    Ok(format!(
        "| {} | {} | {} | {theirs:.3} | {ours:.3} | {ratio:.3} |\n",
        subject.name, counts[0], counts[1]
    ))
}

/// The time of the fastest run of a turn, in seconds.
fn turn(session: &mut Session, inputs: &[Tensor]) -> Result<f64, fermata_ir::diag::Diagnostic> {
    let begun = Instant::now();
    let (mut runs, mut fastest) = (0, f64::INFINITY);
    while runs < MIN_RUNS || begun.elapsed() < TURN {
        let start = Instant::now();
        session.run(inputs)?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(fastest)
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
