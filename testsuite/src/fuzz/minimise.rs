//! Making an input at fault small.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Reader;

/// How long one input is worked on.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes to `path` what is left of an input when everything that its fault does not need is
/// cut out, pieces of half the input first, single bytes last; gives its length. Each attempt is
/// a process of its own, because a fault may end it.
pub(super) fn minimise(reader: Reader, bytes: &[u8], path: &Path) -> io::Result<usize> {
    let started = Instant::now();
    let mut best = bytes.to_vec();
    let mut piece = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.len() && started.elapsed() < PATIENCE {
            let mut shorter = best.clone();
            shorter.drain(at..(at + piece).min(best.len()));
            match fails(reader, &shorter, path)? {
                true => best = shorter,
                false => at += piece,
            }
        }
        if piece == 1 {
            break;
        }
        piece = piece.div_ceil(2);
    }
    std::fs::write(path, &best)?;
    Ok(best.len())
}

fn fails(reader: Reader, bytes: &[u8], path: &Path) -> io::Result<bool> {
    std::fs::write(path, bytes)?;
    let status = Command::new(std::env::current_exe()?)
        .args(["fuzz", "--reader", reader.name(), "--input"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(!status.success())
}
