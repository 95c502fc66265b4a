//! `testsuite preempt`: what was tried to make preemption lose, tear or repeat something.
//!
//! Small kernels in every interleaving, the loop of a GPU's block preempted at each read of the
//! word, whole models in random interleavings on the virtual device, broken variants that the
//! checks must catch, and two models on the CPU pool while another thread writes the word.

mod pool;

use std::io;
use std::path::Path;
use std::time::Instant;

use comfy_table::{Table, presets};
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::front::hf::import_dir;
use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_ir::infer::bind_dims;
use fermata_passes::relay::quantize::Scheme;
use fermata_runtime::device::simulated::explore::explore;
use fermata_testsuite::preempt::blocks;
use fermata_testsuite::preempt::models::Compiled;
use fermata_testsuite::preempt::mutants::MUTANTS;
use fermata_testsuite::preempt::small::{Size, kernels};

use crate::{minilm, venv, zoo};

/// The least share of preemptions that must hit in the middle of a kernel.
const LEAST_INSIDE: f64 = 0.9;

/// Workers of the CPU pool.
const POOLS: [usize; 2] = [2, 1];

/// What is tried.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Preemptions of each model on CPU pools, the same number on each
    #[arg(long, default_value_t = 10_000)]
    preemptions: u64,
    /// The seed of interleavings and of the times of preemptions
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Tries all of it; whether everything holds.
pub(crate) fn command(args: &Args) -> io::Result<bool> {
    let mut held = small_kernels();
    held &= block_loops();
    held &= mutants();
    let models = [
        ("digits", digits()?, 64),
        ("open-nsfw", open_nsfw()?, 4),
        ("minilm, w8a8-int8-per-token", encoder()?, 4),
    ];
    held &= interleaved(&models, args.seed);
    held &= preempted(&models[1..], args)?;
    Ok(held)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// A count that may be astronomic.
fn count(n: u128) -> String {
    match n {
        u128::MAX => "more than 1e38".into(),
        n if n < 10_000_000 => n.to_string(),
        n => format!("{:.1e}", n as f64),
    }
}

/// Every interleaving of small kernels.
fn small_kernels() -> bool {
    println!("Every interleaving of small kernels, the word written at any time\n");
    let header = ["launches", "workers", "tiles", "flips", "states", "moves", "interleavings", "verdict"];
    let mut table = table(&header);
    let mut held = true;
    for small in kernels(Size::Full) {
        let tiles: Vec<String> = small.tiles.iter().map(usize::to_string).collect();
        let mut row = vec![
            small.title.to_string(),
            small.model.workers.to_string(),
            tiles.join("+"),
            small.model.flips.to_string(),
        ];
        match explore(&small.model) {
            Ok(found) => row.extend([
                found.states.to_string(),
                found.moves.to_string(),
                count(found.interleavings),
                "holds".into(),
            ]),
            Err(violation) => {
                row.extend([String::new(), String::new(), String::new(), format!("FAILED {violation}")]);
                held = false;
            }
        }
        table.add_row(row);
    }
    println!("{table}\n");
    held
}

fn block_loops() -> bool {
    match blocks::all_hold() {
        Ok(reads) => {
            println!(
                "Blocks of a GPU on the evaluator, preempted at each of {reads} reads of the word: hold\n"
            );
            true
        }
        Err(why) => {
            println!("FAILED blocks of a GPU on the evaluator: {why}\n");
            false
        }
    }
}

/// Every mutant, and what killed it.
fn mutants() -> bool {
    println!("Mutants\n");
    let mut table = table(&["mutant", "killed by"]);
    let mut alive = 0;
    for mutant in &MUTANTS {
        let said = (mutant.killed_by)();
        alive += usize::from(said.is_none());
        table.add_row([mutant.name.to_string(), said.unwrap_or_else(|| "FAILED: it is alive".into())]);
    }
    println!("{table}\n{} mutants, {alive} alive\n", MUTANTS.len());
    alive == 0
}

/// A model, and how many seeds the virtual device runs it with.
type Named = (&'static str, Compiled, u64);

/// Random interleavings of whole models.
fn interleaved(models: &[Named], seed: u64) -> bool {
    println!("Random interleavings of whole models on the virtual device, with shadow memory\n");
    let header = ["model", "interleavings", "workers", "launches", "tiles", "flips", "parked", "verdict"];
    let mut table = table(&header);
    let mut held = true;
    for (name, compiled, seeds) in models {
        let mut row = vec![(*name).to_string(), seeds.to_string(), "1 to 4".into()];
        match compiled.interleaved(seed..seed + seeds) {
            Ok(found) => {
                let figures = [found.launches, found.tiles, found.flips, found.parked];
                row.extend(figures.map(|n| n.to_string()));
                row.push("same bits, each tile once".into());
            }
            Err(why) => {
                row.extend([String::new(), String::new(), String::new(), String::new()]);
                row.push(format!("FAILED {why}"));
                held = false;
            }
        }
        table.add_row(row);
    }
    println!("{table}\n");
    held
}

/// Random preemptions on the CPU pool.
fn preempted(models: &[Named], args: &Args) -> io::Result<bool> {
    println!("Random preemptions on the CPU pool, by where the kernel stood: done / tiles\n");
    let tenths: Vec<String> = (0..10).map(|i| format!("<.{}", i + 1).replace("<.10", "<1")).collect();
    let mut header = vec!["model", "workers", "preemptions", "runs", "0"];
    header.extend(tenths.iter().map(String::as_str));
    header.extend(["1", "inside", "s", "verdict"]);
    let mut table = table(&header);
    let mut held = true;
    let each = args.preemptions.div_ceil(POOLS.len() as u64);
    for (name, compiled, _) in models {
        for workers in POOLS {
            let start = Instant::now();
            let found = pool::preempt(compiled, workers, each, args.seed);
            let found = found.map_err(io::Error::other)?;
            let inside = found.stops.inside_share();
            let good = found.wrong == 0 && inside >= LEAST_INSIDE && found.stops.all() == each;
            held &= good;
            let mut row = vec![(*name).to_string(), workers.to_string(), found.stops.all().to_string()];
            row.extend([found.runs.to_string(), found.stops.before.to_string()]);
            row.extend(found.stops.tenths.map(|n| n.to_string()));
            row.extend([found.stops.after.to_string(), format!("{:.1} %", inside * 100.0)]);
            row.push(format!("{:.1}", start.elapsed().as_secs_f64()));
            row.push(match (good, found.wrong) {
                (true, _) => "same bits".into(),
                (false, 0) => "FAILED: too few inside".into(),
                (false, wrong) => format!("FAILED: {wrong} runs gave other bits"),
            });
            table.add_row(row);
        }
    }
    println!("{table}");
    Ok(held)
}

fn compiled(module: Result<Module, Diagnostics>, scheme: Option<Scheme>) -> io::Result<Compiled> {
    let said = |d: Diagnostics| d.0.into_iter().next().map_or_else(String::new, |d| d.message.to_string());
    let module = module.map_err(|d| io::Error::other(said(d)))?;
    Compiled::new(module, scheme).map_err(io::Error::other)
}

/// The network that comes with the program.
fn digits() -> io::Result<Compiled> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/demo/digits.onnx");
    let dims = [("batch".to_string(), 16)].into();
    compiled(import_file(&path, &ImportOptions { dims, ..ImportOptions::default() }), None)
}

fn open_nsfw() -> io::Result<Compiled> {
    let model = zoo::timed(|name| name == "open-nsfw")?.pop();
    let model = model.ok_or_else(|| io::Error::other("open-nsfw is no open model"))?;
    let shapes = [("input:0".to_string(), model.shape)].into();
    compiled(import_file(&model.file, &ImportOptions { shapes, ..ImportOptions::default() }), None)
}

/// The sentence encoder in int8, for one text of 128 tokens.
fn encoder() -> io::Result<Compiled> {
    let [package, folder] = minilm::MODEL;
    let path = venv::unpacked(package)?.join(folder);
    let module = import_dir(&path).and_then(|mut module| {
        bind_dims(&mut module, &[("batch", 1), ("seq", 128)])?;
        Ok(module)
    });
    compiled(module, Some(Scheme::PerToken))
}
