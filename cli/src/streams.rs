//! Where a command reads and writes, and how it fails.

use std::io::{ErrorKind, IsTerminal, Read, Write};

use anstream::AutoStream;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics, SourceMap, nearest};

/// The streams of one run of the program.
pub struct Streams<'a> {
    /// Read for `-`.
    pub stdin: &'a mut dyn Read,
    /// Results.
    pub stdout: &'a mut dyn Write,
    /// Everything else.
    pub stderr: &'a mut dyn Write,
    /// Whether diagnostics are coloured.
    pub color: bool,
    /// Whether somebody watches standard error, so that progress is worth telling.
    pub terminal: bool,
}

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code: 1 or 2, or 0 where nobody reads the result any more.
    pub code: i32,
    /// What to say.
    pub diagnostics: Diagnostics,
    /// What the diagnostics' places point into.
    pub sources: SourceMap,
}

impl Failure {
    /// A wrong call: exit code 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::from_usage(Diagnostic::error(Code::USAGE, message))
    }

    /// A wrong call, with a diagnostic of its own.
    pub fn from_usage(diagnostic: Diagnostic) -> Failure {
        Failure { code: 2, diagnostics: diagnostic.into(), sources: SourceMap::new() }
    }

    /// A wrong call that names something which is not there.
    pub fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
        let known: Vec<&str> = known.collect();
        let error = Diagnostic::error(Code::USAGE, format!("there is no {what} `{name}`"));
        Failure::from_usage(match nearest(name, known.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.note(format!("there are: {}", known.join(", "))),
        })
    }

    /// Wrong contents: exit code 1, or 2 where the diagnostics say that the call was wrong.
    pub fn refused(diagnostics: impl Into<Diagnostics>, sources: &SourceMap) -> Failure {
        let diagnostics = diagnostics.into();
        let wrong_call = diagnostics.0.iter().all(|d| d.code == Code::USAGE);
        Failure { code: if wrong_call { 2 } else { 1 }, diagnostics, sources: sources.clone() }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Failure {
        Failure::refused(diagnostic, &SourceMap::new())
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Failure {
        Failure::refused(diagnostics, &SourceMap::new())
    }
}

/// A closed pipe ends the program quietly; any other failed write is a wrong call.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == ErrorKind::BrokenPipe {
            return Failure { code: 0, diagnostics: Diagnostics(Vec::new()), sources: SourceMap::new() };
        }
        Failure::usage(format!("cannot write the result: {error}"))
    }
}

impl Streams<'_> {
    /// Prints the diagnostics; gives the exit code.
    pub fn report(&mut self, failure: &Failure) -> i32 {
        let text = failure.diagnostics.render(&failure.sources, self.color);
        if !text.is_empty() {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(self.stderr, "{}", text.trim_end());
        }
        failure.code
    }

    /// Prints warnings.
    pub fn warn(&mut self, diagnostics: &[Diagnostic], sources: &SourceMap) {
        for diagnostic in diagnostics {
            let _ = writeln!(self.stderr, "{}", diagnostic.render(sources, self.color).trim_end());
        }
    }

    /// What clap has to say: help and versions are results, the rest is a wrong call.
    pub(crate) fn clap_error(&mut self, error: &clap::Error) -> i32 {
        let rendered = error.render();
        let to_stderr = error.use_stderr();
        let color = self.color && (to_stderr || wants_color(AutoStream::choice(&std::io::stdout())));
        let text = if color { rendered.ansi().to_string() } else { rendered.to_string() };
        let (stream, code) = if to_stderr { (&mut self.stderr, 2) } else { (&mut self.stdout, 0) };
        let _ = stream.write_all(text.as_bytes());
        code
    }

    pub(crate) fn clap_color(&self) -> clap::ColorChoice {
        if self.color { clap::ColorChoice::Always } else { clap::ColorChoice::Never }
    }
}

/// Whether a stream is coloured: a terminal is, unless the environment says otherwise (`NO_COLOR`,
/// `CLICOLOR_FORCE`, `TERM=dumb`).
fn wants_color(choice: anstream::ColorChoice) -> bool {
    choice != anstream::ColorChoice::Never
}

/// Calls `f` with this process's streams.
pub(crate) fn with_process_streams(f: impl FnOnce(&mut Streams<'_>) -> i32) -> i32 {
    let color = wants_color(AutoStream::choice(&std::io::stderr()));
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let mut streams = Streams {
        stdin: &mut std::io::stdin().lock(),
        stdout: &mut stdout,
        stderr: &mut std::io::stderr().lock(),
        color,
        terminal: std::io::stderr().is_terminal(),
    };
    let code = f(&mut streams);
    match stdout.flush() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => 2,
        _ => code,
    }
}
