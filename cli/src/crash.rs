//! What is kept of a fault of this program: a file that says what was being done, and, if asked
//! for, the program before the pass that failed.
//!
//! A panic ends a command with exit code 101 and the path of that file, never in silence.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::OsString;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fermata_ir::diag::{Code, Diagnostic, SourceMap};
use fermata_ir::expr::Module;
use fermata_ir::text::{LargeConstants, PrintOptions, print};

use crate::{Failure, Streams, output};

/// The exit code of a fault of ours, as of a panic.
pub(crate) const EXIT_CODE: i32 = 101;

/// The line of a reproducer that names its passes.
const PIPELINE: &str = "// pipeline: ";

/// What is being done, and on what.
#[derive(Default)]
struct Unit {
    what: String,
    kept: Option<Kept>,
}

/// A program before a pass, the passes from that one on, and where a reproducer goes.
struct Kept {
    module: Module,
    pipeline: String,
    path: PathBuf,
}

thread_local! {
    static UNIT: RefCell<Unit> = RefCell::default();
}

/// Where the last panic was, with a backtrace.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Says what is done from now on.
pub(crate) fn enter(what: impl Into<String>) {
    UNIT.with_borrow_mut(|unit| *unit = Unit { what: what.into(), kept: None });
}

/// Keeps the program that is worked on and the passes that it is still to go through, for a
/// reproducer at `path` if one of them fails.
pub(crate) fn keep_program(module: &Module, pipeline: String, path: &Path) {
    let kept = Kept { module: module.clone(), pipeline, path: path.to_owned() };
    UNIT.with_borrow_mut(|unit| unit.kept = Some(kept));
}

/// Keeps the place of a panic for the report instead of printing it.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let at = info.location().map_or("an unknown place".into(), ToString::to_string);
        let trace = std::backtrace::Backtrace::force_capture();
        if let Ok(mut place) = PLACE.lock() {
            *place = Some(format!("{at}\n\n{trace}"));
        }
    }));
}

/// Reports a panic of a command; gives the exit code.
pub(crate) fn report(payload: &(dyn Any + Send), args: &[OsString], streams: &mut Streams<'_>) -> i32 {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    let place = PLACE.lock().ok().and_then(|mut place| place.take()).unwrap_or_default();
    let what = UNIT.with_borrow(|unit| unit.what.clone());
    let during = if what.is_empty() { String::new() } else { format!(" in {what}") };
    let error = Diagnostic::error(Code::INTERNAL, format!("fermata panicked{during}: {message}"));
    let error = match place.lines().next() {
        Some(at) if !at.is_empty() => error.note(format!("at {at}")),
        Some(_) | None => error,
    };
    let command: Vec<String> = args.iter().map(|a| quoted(&a.to_string_lossy())).collect();
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "fermata {version} panicked{during}: {message}\ncommand: {}\nat {place}\n",
        command.join(" ")
    );
    let path = std::env::temp_dir().join(format!("fermata-crash-{}.txt", std::process::id()));
    let help = match std::fs::write(&path, text) {
        Ok(()) => format!("this is a fault of fermata: report it with `{}`", path.display()),
        Err(e) => format!("this is a fault of fermata: report it (`{}`: {e})", path.display()),
    };
    streams.warn(&[error.help(help)], &SourceMap::new());
    if let Err(failure) = write_reproducer(message, streams) {
        streams.report(&failure);
    }
    EXIT_CODE
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Writes the program that was kept, if one was, its large constants beside it; says where.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_reproducer(why: &str, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let Some(Kept { module, pipeline, path }) = UNIT.with_borrow_mut(|unit| unit.kept.take()) else {
        return Ok(());
    };
    let options = PrintOptions { large: LargeConstants::Weights, ..PrintOptions::default() };
    let printed = print(&module, &options);
    let (version, why) = (env!("CARGO_PKG_VERSION"), why.lines().next().unwrap_or_default());
    let text = format!("// fermata {version}: {why}\n{PIPELINE}{pipeline}\n{}", printed.text);
    output::write(&path, text.as_bytes(), streams)?;
    if !printed.weights.is_empty() {
        output::write_weights(&module, &printed, &path.with_extension("safetensors"), streams)?;
    }
    let shown = path.display();
    let _ = writeln!(streams.stderr, "to reproduce it: fermata opt {shown} --run-reproducer");
    Ok(())
}

/// The passes that a reproducer names.
///
/// # Errors
/// If the file cannot be read or names none.
pub(crate) fn pipeline_of(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("cannot read `{}`: {e}", path.display())))?;
    let line = text.lines().find_map(|line| line.strip_prefix(PIPELINE));
    line.map(String::from).ok_or_else(|| {
        Failure::usage(format!("`{}` is no reproducer: it has no line `{PIPELINE}..`", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("--dim=batch=4"), "--dim=batch=4");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
