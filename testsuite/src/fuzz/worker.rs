//! One input, and the process that tries many.

use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Corpus, Reader, SECONDS_PER_INPUT, STACK_BYTES, input, limits, seed_of};

/// Reads an input on a stack of its own; says whether it was accepted.
///
/// # Errors
/// If the reader panics, takes too much memory or breaks a promise.
pub fn attempt(reader: Reader, bytes: &[u8], folder: &Path) -> Result<bool, String> {
    let read = || {
        let read = AssertUnwindSafe(|| reader.read(bytes, folder));
        catch_unwind(read).unwrap_or_else(|payload| {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", message.unwrap_or("no message")))
        })
    };
    let (result, peak) = limits::peak_bytes(read);
    match result {
        Ok(_) if peak > limits::allowed(bytes.len()) => {
            Err(format!("{peak} bytes of memory for an input of {} bytes", bytes.len()))
        }
        result => result,
    }
}

/// Calls `f` on a thread with the stack that readers have.
pub(super) fn on_stack<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, f)?;
        thread.join().map_err(|_| io::Error::other("the reader's thread panicked"))
    })
}

/// Tries the inputs of a run until the time is over. The seed of each is written to `status`
/// before it is tried; an input at fault ends the process with code 1.
pub(super) fn run(reader: Reader, run_seed: u64, seconds: u64, status: &Path) -> io::Result<bool> {
    let corpus = Corpus::new(reader)?;
    let status = std::fs::File::create(status)?;
    let folder = scratch()?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let clock = AtomicU64::new(0);
    let tries = || -> io::Result<(u64, u64, Option<String>)> {
        let (mut tried, mut accepted) = (0, 0);
        while Instant::now() < end {
            let seed = seed_of(run_seed, tried);
            status.write_all_at(&seed.to_le_bytes(), 0)?;
            let bytes = input(&corpus, seed);
            clock.fetch_add(1, Relaxed);
            match attempt(reader, &bytes, folder.path()) {
                Ok(took) => accepted += u64::from(took),
                Err(fault) => return Ok((tried, accepted, Some(fault))),
            }
            tried += 1;
        }
        Ok((tried, accepted, None))
    };
    let (tried, accepted, fault) = watched(&clock, || on_stack(tries))??;
    println!("{tried} {accepted}");
    fault.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(fault.is_none())
}

/// Tries one file.
pub(super) fn single(reader: Reader, path: &Path) -> io::Result<bool> {
    let bytes = std::fs::read(path)?;
    let folder = scratch()?;
    let clock = AtomicU64::new(0);
    let outcome = watched(&clock, || on_stack(|| attempt(reader, &bytes, folder.path())))?;
    match &outcome {
        Ok(accepted) => println!("{}", if *accepted { "accepted" } else { "refused" }),
        Err(fault) => eprintln!("{fault}"),
    }
    Ok(outcome.is_ok())
}

/// A folder for files, with the external data that models of the corpus name.
pub(super) fn scratch() -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(super::models::EXTERNAL), [0u8; 64])?;
    Ok(folder)
}

/// Calls `f`, and ends the process with code 1 if the count stands still for too long.
fn watched<T>(clock: &AtomicU64, f: impl FnOnce() -> T) -> T {
    let over = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut seen, mut since) = (clock.load(Relaxed), Instant::now());
            while over.load(Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(50));
                let now = clock.load(Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed().as_secs() >= SECONDS_PER_INPUT {
                    eprintln!("the input takes more than {SECONDS_PER_INPUT} seconds");
                    std::process::exit(1);
                }
            }
        });
        let result = f();
        over.store(1, Relaxed);
        result
    })
}
