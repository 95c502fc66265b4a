//! `fermata demo`: a small network that comes with the program, compiled, checked and timed.
//!
//! The network reads handwritten digits. What it must answer was computed by an independent
//! implementation (`testsuite/scripts/make_demo.py`, which also trained it), so the demo shows
//! on this machine that compiled code, the reference evaluator and that implementation agree.

use std::io::Write;
use std::time::{Duration, Instant};

use fermata_ir::compare::{Comparison, compare};
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::expr::{Expr, Module};
use fermata_ir::front::npy::read_npz;
use fermata_ir::front::onnx::{ImportOptions, import_bytes};
use fermata_ir::infer::infer_module;
use fermata_ir::tensor::Tensor;
use fermata_ir::walk;
use fermata_passes::lower::plan::Program;
use fermata_runtime::exec::Session;

use crate::args::{DemoArgs, PipelineArgs, WatchArgs};
use crate::bench::machine;
use crate::compile::{compile, pipeline};
use crate::run::{interpret, session};
use crate::{Driver, Failure, Streams};

/// The network.
const MODEL: &[u8] = include_bytes!("../demo/digits.onnx");

/// Images, what they show, and the probabilities that the network must give.
const SAMPLE: &[u8] = include_bytes!("../demo/sample.npz");

/// What `make_demo.py` printed when it trained the network.
const UNSEEN: &str = "98.3 % of 360 images held back";

/// How long runs are measured.
const MEASURED: Duration = Duration::from_millis(100);

/// Shades of grey, dark to light.
const SHADES: [char; 5] = [' ', '.', 'o', 'O', '@'];

/// Side of an image.
const SIDE: usize = 8;

/// The sample.
struct Sample {
    images: Tensor,
    labels: Vec<i64>,
    expected: Tensor,
}

/// `fermata demo`.
pub(crate) fn command(driver: &Driver, args: &DemoArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let sample = sample()?;
    let flags = PipelineArgs::default();
    let passes = pipeline(driver, &flags, &WatchArgs::default())?.steps.len();

    let start = Instant::now();
    let module = network(sample.labels.len())?;
    let read = start.elapsed();
    let ops = operators(&module);
    let compiled = compile(driver, module.clone(), &flags, streams)?;
    let lines = kernel_lines(&compiled.program);
    let mut session = session(compiled, &flags, usize::from(args.threads))?;
    let ready = start.elapsed();

    let images = std::slice::from_ref(&sample.images);
    let found = only(session.run(images)?)?;
    let evaluated = only(interpret(&module, images.to_vec())?.into_iter().map(|(_, t)| t).collect())?;
    let per_image = measure(&mut session, images)? / sample.labels.len() as u32;

    let out = &mut streams.stdout;
    writeln!(
        out,
        "A convolutional network that reads handwritten digits, from its ONNX file to machine code.\n"
    )?;
    writeln!(out, "  machine   {}, {} thread(s)", machine(), args.threads)?;
    writeln!(out, "  read      {} operators in {}", ops, time(read))?;
    writeln!(
        out,
        "  compiled  {passes} passes, {} kernels; ready {} after the start",
        lines.len(),
        time(ready)
    )?;
    for line in lines {
        writeln!(out, "            {line}")?;
    }
    writeln!(out, "  ran       {} an image (median, batches of {})\n", time(per_image), sample.labels.len())?;
    predictions(out, &sample, &found)?;
    writeln!(out)?;
    let agrees = [
        agreement(out, "compiled code and the reference evaluator", &compare(&found, &evaluated))?,
        agreement(out, "compiled code and an implementation in numpy", &compare(&found, &sample.expected))?,
    ];
    if agrees.contains(&false) {
        writeln!(
            out,
            "\nSomething disagrees: this is a fault of fermata. `fermata doctor` says what to report."
        )?;
        return Ok(1);
    }
    writeln!(out, "\nEverything agrees. To see the kernels of this network, as loops over tiles, try")?;
    writeln!(out, "  fermata compile cli/demo/digits.onnx --dim batch=1 --emit=tir -o -")?;
    Ok(0)
}

/// The embedded files are part of the program; a fault in them is ours.
fn broken(what: &str) -> Diagnostic {
    Diagnostic::error(
        Code::IMPORT_FORMAT,
        format!("the demo's {what} is broken: this program was built wrongly"),
    )
}

fn sample() -> Result<Sample, Diagnostic> {
    let mut arrays = read_npz(SAMPLE)?;
    let mut take = |name: &str| arrays.shift_remove(name).ok_or_else(|| broken("sample"));
    let (images, labels, expected) = (take("image")?, take("label")?, take("probability")?);
    let labels = labels.as_slice::<i64>().ok_or_else(|| broken("sample"))?.to_vec();
    Ok(Sample { images, labels, expected })
}

/// The network, typed, for a batch of this size.
fn network(batch: usize) -> Result<Module, Failure> {
    let options = ImportOptions { dims: [("batch".to_string(), batch)].into(), ..ImportOptions::default() };
    let mut module = import_bytes("digits.onnx", MODEL, &options)?;
    infer_module(&mut module)?;
    Ok(module)
}

fn operators(module: &Module) -> usize {
    walk::reachable(module).into_iter().filter(|&e| matches!(module.exprs[e], Expr::Call(_))).count()
}

/// A line a kernel: its name and tiles.
fn kernel_lines(program: &Program) -> Vec<String> {
    let width = program.kernels.values().map(|k| k.func.name.len()).max().unwrap_or(0);
    let line = |name: &str, tiles: u64| {
        format!("{name:width$}  {tiles:4} tile{}", if tiles == 1 { "" } else { "s" })
    };
    program.kernels.values().map(|k| line(&k.func.name, k.tiles)).collect()
}

fn only(tensors: Vec<Tensor>) -> Result<Tensor, Diagnostic> {
    match <[Tensor; 1]>::try_from(tensors) {
        Ok([tensor]) => Ok(tensor),
        Err(_) => Err(broken("network")),
    }
}

/// The median time of a run.
fn measure(session: &mut Session, inputs: &[Tensor]) -> Result<Duration, Diagnostic> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || begun.elapsed() < MEASURED {
        let start = Instant::now();
        session.run(inputs)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Prints the images with the network's answers and how many of them are right, which is
/// the network's merit: it is no part of the verdict.
fn predictions(out: &mut dyn Write, sample: &Sample, found: &Tensor) -> Result<(), Failure> {
    let pixels = sample.images.as_slice::<f32>().ok_or_else(|| broken("sample"))?;
    let rows = found.as_slice::<f32>().ok_or_else(|| broken("network"))?;
    let classes = rows.len() / sample.labels.len();
    for y in 0..SIDE {
        let image = |i: usize| &pixels[(i * SIDE + y) * SIDE..][..SIDE];
        let strips: Vec<String> =
            (0..sample.labels.len()).map(|i| image(i).iter().map(|&p| shade(p)).collect()).collect();
        writeln!(out, "  {}", strips.join("  ").trim_end())?;
    }
    let answers: Vec<(i64, f32)> = rows.chunks_exact(classes).map(likeliest).collect();
    let cells: Vec<String> =
        answers.iter().map(|(digit, p)| format!("{:<8}", format!("{digit} {:.0} %", p * 100.0))).collect();
    writeln!(out, "  {}", cells.join("  ").trim_end())?;
    let right = answers.iter().zip(&sample.labels).filter(|((digit, _), label)| digit == *label).count();
    let labels: Vec<String> = sample.labels.iter().map(|l| format!("{:<8}", format!("({l})"))).collect();
    writeln!(out, "  {}", labels.join("  ").trim_end())?;
    writeln!(out, "  {right} of {} read as labelled; in training, {UNSEEN}", sample.labels.len())?;
    Ok(())
}

fn shade(pixel: f32) -> char {
    let level = (pixel * (SHADES.len() - 1) as f32).round() as usize;
    SHADES[level.min(SHADES.len() - 1)]
}

/// The class of the highest probability.
fn likeliest(row: &[f32]) -> (i64, f32) {
    let better = |best: (i64, f32), (i, &p): (usize, &f32)| if p > best.1 { (i as i64, p) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), better)
}

fn agreement(out: &mut dyn Write, who: &str, comparison: &Comparison) -> Result<bool, Failure> {
    let word = if comparison.matches() { "agree" } else { "DISAGREE" };
    let (max, tolerance) = (comparison.max_abs, comparison.tolerance);
    writeln!(out, "  {who} {word}: at most {max:.1e} apart ({tolerance})")?;
    Ok(comparison.matches())
}

fn time(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    if us < 1000.0 { format!("{us:.1} us") } else { format!("{:.1} ms", us / 1e3) }
}
