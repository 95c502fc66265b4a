//! `testsuite fuzz`: a minute for every reader.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use super::{Corpus, Reader, input, minimise, worker};

/// How many readers are tried at a time.
const AT_A_TIME: usize = 2;

/// How many faults of one reader are looked for before it is given up.
const MAX_FAULTS: usize = 5;

/// What is tried.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long each reader is tried
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides the inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only these readers
    #[arg(long, value_enum)]
    reader: Vec<Reader>,
    /// Where inputs at fault are saved
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz"))]
    out: PathBuf,
    /// Try one file with the reader that is named
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Be the process that tries the inputs; seeds go to this file
    #[arg(long, value_name = "PATH", hide = true)]
    worker: Option<PathBuf>,
}

/// How the trial of a reader ended.
#[derive(Default)]
struct Tally {
    tried: u64,
    accepted: u64,
    faults: Vec<String>,
}

/// Runs the command; whether nothing is at fault.
///
/// # Errors
/// If a file or process cannot be made.
pub fn command(args: &Args) -> io::Result<bool> {
    if args.worker.is_some() || args.input.is_some() {
        std::panic::set_hook(Box::new(|info| {
            if let Some(place) = info.location() {
                eprintln!("at {place}");
            }
        }));
    }
    match (&args.worker, &args.input, &args.reader[..]) {
        (Some(status), _, [reader]) => worker::run(*reader, args.seed, args.seconds, status),
        (None, Some(path), [reader]) => worker::single(*reader, path),
        (None, None, _) => all(args),
        (_, _, _) => Err(io::Error::other("--input needs one --reader")),
    }
}

fn all(args: &Args) -> io::Result<bool> {
    std::fs::create_dir_all(&args.out)?;
    let readers = if args.reader.is_empty() { &Reader::ALL[..] } else { &args.reader };
    let left = Mutex::new(readers.iter().rev().copied().collect::<Vec<_>>());
    let failed = Mutex::new(false);
    std::thread::scope(|scope| -> io::Result<()> {
        let trial = || -> io::Result<()> {
            loop {
                let next = left.lock().expect("no thread panics").pop();
                let Some(reader) = next else { return Ok(()) };
                let tally = one(args, reader)?;
                println!(
                    "{:<12} {:>9} inputs, {:>9} accepted, {} faults",
                    reader.name(),
                    tally.tried,
                    tally.accepted,
                    tally.faults.len()
                );
                for fault in &tally.faults {
                    println!("FAILED {}: {fault}", reader.name());
                }
                *failed.lock().expect("no thread panics") |= !tally.faults.is_empty();
            }
        };
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(trial)).collect();
        threads.into_iter().try_for_each(|t| t.join().expect("a trial does not panic"))
    })?;
    let failed = *failed.lock().expect("no thread panics");
    Ok(!failed)
}

/// Tries a reader for its time, going on with other seeds after a fault.
fn one(args: &Args, reader: Reader) -> io::Result<Tally> {
    let started = Instant::now();
    let mut tally = Tally::default();
    while tally.faults.len() < MAX_FAULTS {
        let seconds = args.seconds.saturating_sub(started.elapsed().as_secs());
        if seconds == 0 {
            break;
        }
        let status = args.out.join(format!("{}.seed", reader.name()));
        let run = args.seed.wrapping_add(tally.faults.len() as u64);
        let ended = Command::new(std::env::current_exe()?)
            .args(["fuzz", "--reader", reader.name(), "--seed", &run.to_string()])
            .args(["--seconds", &seconds.to_string(), "--worker"])
            .arg(&status)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&ended.stdout);
        let mut counts = said.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        tally.tried += counts.next().unwrap_or(0);
        tally.accepted += counts.next().unwrap_or(0);
        if ended.status.success() {
            break;
        }
        let seed = std::fs::read(&status)?;
        let seed = u64::from_le_bytes(seed.try_into().map_err(|_| io::Error::other("no input was tried"))?);
        let why = format!("{} ({})", String::from_utf8_lossy(&ended.stderr).trim(), ended.status);
        tally.faults.push(saved(args, reader, seed, &why)?);
    }
    Ok(tally)
}

/// Saves the input of a seed, and a small one with the same fault.
fn saved(args: &Args, reader: Reader, seed: u64, why: &str) -> io::Result<String> {
    let bytes = input(&Corpus::new(reader)?, seed);
    let path = args.out.join(format!("{}-{seed:016x}.bin", reader.name()));
    std::fs::write(&path, &bytes)?;
    let small = args.out.join(format!("{}-{seed:016x}.min.bin", reader.name()));
    let length = minimise::minimise(reader, &bytes, &small)?;
    let place = Path::new(&small).display();
    Ok(format!("seed {seed:#x}: {why}\n  saved as {}, {length} bytes of it as {place}", path.display()))
}
