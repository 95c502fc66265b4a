//! Case files: command lines with expectations, run in-process.
//!
//! A line `// RUN: fermata ..` (`# RUN:` in TIR) is a command line; the checks below it, up to
//! the next, are of its output, in the dialect of [`filecheck`](crate::filecheck).
//!
//! - `RUN: not fermata ..` expects exit code 1 or 2, and checks see standard error, then
//!   standard output; otherwise the exit code must be 0 and checks see standard output.
//!   `2>&1` at the end appends standard error to it.
//! - `RUN(NAME): ..` takes its checks from lines `NAME: ..`, `NAME-NEXT: ..` in the whole file.
//! - `%s` is the file, `%S` its folder, `%t` a file that is gone afterwards. Paths are relative
//!   to the package, so outputs are the same on every machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fermata::{Driver, Streams};

use crate::filecheck::{self, Check, Kind};

/// The prefix of checks that a `RUN` line does not name.
const PREFIX: &str = "CHECK";

/// A case file.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it is, relative to the package.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its command lines.
    pub runs: Vec<Run>,
}

/// A command line with its expectations.
#[derive(Clone, Debug)]
pub struct Run {
    /// The line it stands on, from 1.
    pub line: usize,
    /// The words after the program's name, `%s` and its kind not yet replaced.
    pub words: Vec<String>,
    /// Whether it must fail.
    pub fails: bool,
    /// Whether checks see standard error behind standard output.
    pub merged: bool,
    /// Its checks.
    pub checks: Vec<Check>,
}

/// What a command line left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Case {
    /// Reads a case file, `path` being relative to `root`.
    ///
    /// # Errors
    /// If it cannot be read or has no `RUN` line, or one that is malformed.
    pub fn read(root: &Path, path: &Path) -> Result<Case, String> {
        let text = std::fs::read_to_string(root.join(path)).map_err(|e| e.to_string())?;
        Case::parse(path, text)
    }

    /// A case of this text.
    ///
    /// # Errors
    /// As [`Case::read`].
    pub fn parse(path: &Path, text: String) -> Result<Case, String> {
        let mut runs: Vec<(Run, String)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if let Some((prefix, command)) = run_line(line) {
                let prefix = prefix.unwrap_or(PREFIX).to_owned();
                runs.push((parse_run(index + 1, command)?, prefix));
            }
        }
        if runs.is_empty() {
            return Err("the file has no `RUN:` line".into());
        }
        let ends: Vec<usize> = runs.iter().skip(1).map(|r| r.0.line).chain([usize::MAX]).collect();
        for ((run, prefix), end) in runs.iter_mut().zip(ends) {
            let own = if *prefix == PREFIX { run.line..end } else { 0..usize::MAX };
            let mut defined = BTreeSet::new();
            for (index, line) in text.lines().enumerate().filter(|(i, _)| own.contains(&(i + 1))) {
                let check = filecheck::parse_line(prefix, index + 1, line, &mut defined);
                run.checks.extend(check.map_err(|e| e.to_string())?);
            }
        }
        Ok(Case { path: path.into(), text, runs: runs.into_iter().map(|r| r.0).collect() })
    }

    /// The words of a command line with the paths in their places.
    pub fn words(&self, run: &Run, temp: &Path) -> Vec<String> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let replaced = run.words.iter().map(|word| {
            let word = word.replace("%s", &self.path.display().to_string());
            word.replace("%S", &folder.display().to_string()).replace("%t", &temp.display().to_string())
        });
        replaced.collect()
    }
}

/// The prefix, if it names one, and the command of a `RUN` line.
fn run_line(line: &str) -> Option<(Option<&str>, &str)> {
    let line = line.trim_start();
    let rest = line.strip_prefix("//").or_else(|| line.strip_prefix('#'))?;
    let rest = rest.trim_start().strip_prefix("RUN")?;
    if let Some(command) = rest.strip_prefix(':') {
        return Some((None, command.trim()));
    }
    let (prefix, command) = rest.strip_prefix('(')?.split_once("):")?;
    Some((Some(prefix), command.trim()))
}

fn parse_run(line: usize, command: &str) -> Result<Run, String> {
    let mut words = split(command).map_err(|m| format!("line {line}: {m}"))?;
    let fails = words.first().is_some_and(|w| w == "not");
    words.drain(..usize::from(fails));
    let merged = words.last().is_some_and(|w| w == "2>&1");
    words.truncate(words.len() - usize::from(merged));
    if words.first().is_none_or(|w| w != "fermata") {
        return Err(format!("line {line}: a RUN line reads `fermata ..` or `not fermata ..`"));
    }
    words.remove(0);
    Ok(Run { line, words, fails, merged, checks: Vec::new() })
}

/// The words of a command line: blanks separate, quotes of both kinds keep together.
///
/// # Errors
/// If a quote is not closed.
pub fn split(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote is not closed".into()) } else { Ok(words) }
}

/// Runs a command line, the program's name left out.
pub fn run(driver: &Driver, words: &[String]) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        stdin: &mut std::io::empty(),
        stdout: &mut stdout,
        stderr: &mut stderr,
        color: false,
        terminal: false,
    };
    let args = std::iter::once("fermata").chain(words.iter().map(|w| &**w));
    let code = driver.run(args.map(Into::into), &mut streams);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { code, stdout: text(stdout), stderr: text(stderr) }
}

impl Run {
    /// What the checks of this command line see.
    pub fn seen(&self, output: &Output) -> String {
        if self.fails {
            return format!("{}{}", output.stderr, output.stdout);
        }
        if self.merged { format!("{}{}", output.stdout, output.stderr) } else { output.stdout.clone() }
    }

    /// Whether an output is what is expected.
    ///
    /// # Errors
    /// With what is not, and the output.
    pub fn judge(&self, output: &Output) -> Result<(), String> {
        let wrong_code = match (self.fails, output.code) {
            (true, 1 | 2) | (false, 0) => None,
            (true, code) => Some(format!("exit code {code}, expected 1 or 2")),
            (false, code) => Some(format!("exit code {code}, expected 0")),
        };
        let wrong = match wrong_code {
            Some(message) => Some(format!("line {}: {message}", self.line)),
            None => filecheck::check(&self.checks, &self.seen(output)).err().map(|e| e.to_string()),
        };
        wrong.map_or(Ok(()), |message| Err(format!("{message}\n{}", output.shown())))
    }
}

/// The most bytes of an output that a message shows.
const MAX_SHOWN: usize = 4000;

impl Output {
    /// The output as a message shows it.
    fn shown(&self) -> String {
        let mut text = String::new();
        for (name, stream) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            if !stream.is_empty() {
                let end = stream.floor_char_boundary(MAX_SHOWN);
                let _ = write!(text, "--- {name}\n{}", &stream[..end]);
            }
        }
        text
    }
}

/// The text of a case with the checks of each run that no longer holds made anew from its
/// output: `CHECK` for the first line, `CHECK-NEXT` for the others, where the first check was.
/// Runs with other kinds of checks stay as they are: somebody chose what they look for.
pub fn bless(case: &Case, outputs: &[Output]) -> String {
    let mut lines: Vec<Option<String>> = case.text.lines().map(|l| Some(l.to_owned())).collect();
    for (run, output) in case.runs.iter().zip(outputs) {
        let plain = run.checks.iter().all(|c| matches!(c.kind, Kind::Plain | Kind::Next | Kind::Empty));
        if !plain || run.judge(output).is_ok() {
            continue;
        }
        for check in &run.checks {
            lines[check.line - 1] = None;
        }
        let sign = if case.path.extension().is_some_and(|e| e == "tir") { "#" } else { "//" };
        let place = run.checks.first().map_or(run.line, |c| c.line);
        let blessed = blessed(sign, &run.seen(output));
        match run.checks.is_empty() {
            true => lines[place - 1].get_or_insert_default().push_str(&format!("\n{blessed}")),
            false => lines[place - 1] = Some(blessed),
        }
    }
    lines.into_iter().flatten().fold(String::new(), |text, line| text + line.trim_end_matches('\n') + "\n")
}

/// Checks that say that an output is exactly this.
fn blessed(sign: &str, seen: &str) -> String {
    let lines = seen.lines().enumerate().map(|(i, line)| match (i, line.trim()) {
        (0, line) => format!("{sign} CHECK: {}", filecheck::escape(line)),
        (_, "") => format!("{sign} CHECK-EMPTY:"),
        (_, line) => format!("{sign} CHECK-NEXT: {}", filecheck::escape(line)),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The case files below a folder, sorted, relative to `root`.
pub fn files(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if root.join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "relay" || e == "tir") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Case {
        Case::parse(Path::new("cases/a.relay"), text.into()).expect("a case")
    }

    fn output(stdout: &str) -> Output {
        Output { code: 0, stdout: stdout.into(), stderr: String::new() }
    }

    #[test]
    fn checks_belong_to_the_run_above_them() {
        let case =
            case("// RUN: fermata a %s\n// CHECK: 1\n// RUN: not fermata b\n// CHECK: 2\n// CHECK: 3\n");
        assert_eq!(case.runs.iter().map(|r| r.checks.len()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(case.runs.iter().map(|r| r.fails).collect::<Vec<_>>(), [false, true]);
        assert_eq!(case.words(&case.runs[0], Path::new("t")), ["a", "cases/a.relay"]);
    }

    #[test]
    fn a_named_prefix_takes_its_checks_from_the_whole_file() {
        let case = case("// RUN(A): fermata a\n// RUN(B): fermata b\n// A: 1\n// B: 2\n// A-NEXT: 3\n");
        let lines = |i: usize| case.runs[i].checks.iter().map(|c| c.line).collect::<Vec<_>>();
        assert_eq!((lines(0), lines(1)), (vec![3, 5], vec![4]));
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(split("a 'b c' d\"e f\"").unwrap(), ["a", "b c", "de f"]);
        split("a 'b").unwrap_err();
    }

    #[test]
    fn a_run_line_names_the_program() {
        Case::parse(Path::new("a"), "// RUN: rm -r %s".into()).unwrap_err();
        Case::parse(Path::new("a"), "// CHECK: a".into()).unwrap_err();
    }

    #[test]
    fn blessing_replaces_what_no_longer_holds() {
        let case = case("// RUN: fermata a\n// CHECK: old\n// keep\n// RUN: fermata b\n// CHECK: 2\ntext\n");
        let text = bless(&case, &[output("new\n\n{{\n"), output("2\n")]);
        let expected = "// RUN: fermata a\n// CHECK: new\n// CHECK-EMPTY:\n// CHECK-NEXT: {{[{][{]}}\n// keep\n// RUN: fermata b\n// CHECK: 2\ntext\n";
        assert_eq!(text, expected);
    }
}
