//! A Python environment of our own under `target/venv`, made when it is first needed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of this crate's scripts.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// The workspace's build folder.
pub(crate) fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?} ended with {status}"))),
    }
}

/// The interpreter of an environment that has these packages.
fn python(packages: &[&str]) -> io::Result<PathBuf> {
    let dir = target_dir().join("venv");
    let python = dir.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    Ok(python)
}

/// Runs one of this crate's scripts with packages.
pub(crate) fn script(name: &str, packages: &[&str], args: &[&Path]) -> io::Result<()> {
    let python = python(packages)?;
    run(Command::new(python).arg(Path::new(SCRIPTS).join(name)).args(args))
}
