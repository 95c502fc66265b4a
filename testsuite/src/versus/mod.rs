//! `testsuite versus`: how fast models run here, on ONNX Runtime and on OpenVINO, in one run.
//!
//! For each model and number of threads every runtime gets a process of its own, pinned to the
//! same cores. They make ready one after the other; then they run the model in turn, a quarter of
//! a second each, several rounds of it, all of it twice. A turn counts as its fastest run, and a
//! ratio is the median over the rounds of the two turns' ratio, so that whatever else the machine
//! does hits all alike or not at all. The results must agree by the rule of tolerance.
//!
//! With `--int8` it is an encoder and the products of one, quantised by each runtime in its own
//! way: with a scale a row and an output channel here, by `quantize_dynamic` for ONNX Runtime, and
//! not at all for OpenVINO, whose results in float32 the others are compared with by their cosine.
//!
//! Memory is the peak of the resident set that the system reports of each process (VmHWM), whole
//! and less what was resident before the model was opened: interpreter, libraries, program.

mod contender;
mod int8;
mod ours;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::Command;

use fermata::inputs::Random;
use fermata_ir::compare::compare;
use fermata_ir::front::npy::{Arrays, write_npz};
use fermata_ir::front::onnx::input_names;
use fermata_ir::tensor::Tensor;
use fermata_ir::weights::map_file;

use crate::zoo::{self, Timed};
use crate::{record, venv};
use contender::{Contender, Task};
pub(crate) use ours::{OursArgs, ours};
use report::{Measured, Row};

/// What is timed, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only models whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// The other runtimes
    #[arg(long, value_delimiter = ',', default_value = "onnxruntime,openvino")]
    peers: Vec<Peer>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Rounds of turns, in each of two sets of processes
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Time an encoder and products in int8 instead
    #[arg(long)]
    int8: bool,
    /// Write the tables into BENCHMARKS.md
    #[arg(long)]
    update: bool,
}

/// Something to time.
struct Job {
    name: String,
    /// The model's file for each runtime.
    files: Vec<PathBuf>,
    /// What it is run with.
    inputs: Vec<(String, Tensor)>,
    /// How the results of all runtimes compare: a word, or what is wrong.
    verdict: fn(&[Arrays], &[Runtime]) -> Result<String, String>,
}

/// A runtime that we are compared with.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    /// ONNX Runtime
    #[value(alias = "ort")]
    Onnxruntime,
    /// OpenVINO
    Openvino,
}

impl Peer {
    /// Its package.
    fn package(self) -> &'static str {
        match self {
            Peer::Onnxruntime => "onnxruntime==1.31.1",
            Peer::Openvino => "openvino==2026.4.1",
        }
    }

    /// What people call it.
    fn title(self) -> &'static str {
        match self {
            Peer::Onnxruntime => "ONNX Runtime",
            Peer::Openvino => "OpenVINO",
        }
    }

    /// What starts its process, the task left out.
    fn command(self) -> io::Result<Command> {
        let mut command = venv::script("peer.py", &[self.package(), "numpy"])?;
        command.arg(match self {
            Peer::Onnxruntime => "onnxruntime",
            Peer::Openvino => "openvino",
        });
        Ok(command)
    }
}

/// Fresh processes so many times.
const SITTINGS: usize = 2;

/// How long a turn is.
const TURN_SECONDS: f64 = 0.25;

/// A runtime's name and what starts its process.
struct Runtime {
    title: &'static str,
    command: Command,
}

/// Times the models; whether all results agree.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let mut ours = Command::new(std::env::current_exe()?);
    ours.arg("versus-ours");
    if args.int8 {
        ours.arg("--quantize");
    }
    let mut runtimes = vec![Runtime { title: "Fermata", command: ours }];
    for peer in &args.peers {
        runtimes.push(Runtime { title: peer.title(), command: peer.command()? });
    }
    let wanted = |name: &str| args.models.is_empty() || args.models.iter().any(|m| name.contains(&**m));
    let jobs = match args.int8 {
        true => int8::jobs(wanted, &args.peers)?,
        false => zoo::timed(wanted)?.iter().map(|m| job(m, runtimes.len())).collect::<io::Result<_>>()?,
    };
    let mut rows = Vec::new();
    for job in &jobs {
        for &threads in &args.threads {
            let row = time(job, threads, args.rounds, &runtimes)?;
            println!("{}", report::line(&row, &runtimes));
            rows.push(row);
        }
    }
    let text = match args.int8 {
        true => int8::tables(&rows, &args.threads, &runtimes),
        false => report::tables(&rows, &args.threads, &runtimes),
    };
    println!("\n{text}");
    if args.update {
        let section = if args.int8 { "versus-int8" } else { "versus" };
        let packages: Vec<&str> = args.peers.iter().map(|&p| Peer::package(p)).collect();
        record::update(section, &format!("; against {}", packages.join(", ")), &text)?;
    }
    Ok(!rows.is_empty() && rows.iter().all(|row| row.results.is_ok()))
}

/// Times a model on all runtimes.
fn time(job: &Job, threads: usize, rounds: usize, runtimes: &[Runtime]) -> io::Result<Row> {
    let folder = tempfile::tempdir()?;
    let inputs = folder.path().join("inputs.npz");
    let named = job.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_npz(std::fs::File::create(&inputs)?, named)?;
    let results: Vec<_> = runtimes.iter().map(|r| folder.path().join(format!("{}.npz", r.title))).collect();
    let mut measured = vec![Measured::default(); runtimes.len()];
    for _ in 0..SITTINGS {
        let mut sitting = Vec::new();
        for ((runtime, results), model) in runtimes.iter().zip(&results).zip(&job.files) {
            let task = Task { model, inputs: &inputs, results, threads };
            sitting.push(Contender::start(&runtime.command, task)?);
        }
        for _ in 0..rounds {
            for (contender, measured) in sitting.iter_mut().zip(&mut measured) {
                measured.turns.push(contender.turn(TURN_SECONDS)?);
            }
        }
        for (contender, measured) in sitting.into_iter().zip(&mut measured) {
            measured.take(contender.ready, contender.base, contender.end()?);
        }
    }
    let results = results.iter().map(|path| venv::npz(path)).collect::<io::Result<Vec<_>>>()?;
    let results = (job.verdict)(&results, runtimes);
    Ok(Row { model: job.name.clone(), threads, measured, results })
}

/// A model of one input, with random values, the same file for all.
fn job(model: &Timed, runtimes: usize) -> io::Result<Job> {
    let other = |e: fermata_ir::diag::Diagnostic| io::Error::other(e.message);
    let names = input_names(&map_file(&model.file).map_err(other)?).map_err(other)?;
    let (low, high) = if model.dtype.is_float() { (-1.0, 1.0) } else { (0.0, 256.0) };
    let tensor = Random::new(0).tensor(model.dtype, &model.shape, low, high).map_err(io::Error::other)?;
    let inputs = names.first().map(|name| (name.to_string(), tensor)).into_iter().collect();
    Ok(Job { name: model.name.clone(), files: vec![model.file.clone(); runtimes], inputs, verdict })
}

/// Results agree with each peer's by the rule of tolerance.
fn verdict(results: &[Arrays], runtimes: &[Runtime]) -> Result<String, String> {
    let differs = results.iter().zip(runtimes).skip(1).find_map(|(theirs, runtime)| {
        difference(&results[0], theirs).map(|what| format!("{}: {what}", runtime.title))
    });
    differs.map_or_else(|| Ok("agree".into()), Err)
}

/// The first of our results that is not theirs.
fn difference(ours: &Arrays, theirs: &Arrays) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} results, not {}", ours.len(), theirs.len()));
    }
    let comparisons = ours.values().zip(theirs).map(|(ours, (name, theirs))| (name, compare(ours, theirs)));
    comparisons.filter(|(_, c)| !c.matches()).map(|(name, c)| format!("{name}: {c}")).next()
}
