//! The repository's rules as functions over its texts; `tests/rules.rs` applies them.
//!
//! A line-based reading of Rust is enough here: the sources are formatted, so a function ends
//! at the closing brace of its own indentation.

mod matches;

pub use matches::{MAX_NAMED, wildcards};

use std::path::{Path, PathBuf};

/// A source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The most lines of a file.
pub const MAX_FILE_LINES: usize = 600;

/// The most lines of a function.
pub const MAX_FUNCTION_LINES: usize = 80;

/// The Rust files below the folders, sorted by path.
pub fn sources(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if root.join(&path).is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs")
                && let Ok(text) = std::fs::read_to_string(root.join(&path))
            {
                found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// Whether the file holds tests only.
    pub fn is_test(&self) -> bool {
        let path = &self.path;
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
    }

    /// The lines that are shipped, numbered from 1: without comments and without the unit tests,
    /// which end a file.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.lines().position(|l| l.trim() == "mod tests {").unwrap_or(usize::MAX);
        let end = if self.is_test() { 0 } else { end };
        let lines = self.text.lines().enumerate().take(end).map(|(i, line)| (i + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Files that do not begin with a `//!` doc.
pub fn without_doc(sources: &[Source]) -> Vec<String> {
    let bare = sources.iter().filter(|s| !s.text.starts_with("//!"));
    bare.map(|s| format!("{}: begins with no `//!` that says what the file is for", s.path)).collect()
}

/// Files that are too long and whose own doc does not say why: `//! Longer than 600 lines: ..`.
pub fn long_files(sources: &[Source]) -> Vec<String> {
    let excuse = format!("//! Longer than {MAX_FILE_LINES} lines: ");
    let long = sources.iter().filter(|s| !s.text.lines().any(|l| l.starts_with(&excuse)));
    let counted = long.map(|s| (s, s.text.lines().count())).filter(|(_, n)| *n > MAX_FILE_LINES);
    counted.map(|(s, n)| format!("{}: {n} lines, at most {MAX_FILE_LINES}", s.path)).collect()
}

/// Functions that are too long and of which their file's doc does not say why: ``//! `name` is
/// longer than 80 lines: ..``.
pub fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let excused = |name: &str| {
            let excuse = format!("//! `{name}` is longer than {MAX_FUNCTION_LINES} lines: ");
            source.text.lines().any(|line| line.starts_with(&excuse))
        };
        let mut open: Option<(usize, usize, String)> = None;
        for (index, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match &open {
                None if !is_whole(line) => open = function_name(line).map(|name| (index, indent, name)),
                None => {}
                Some((start, at, name)) if indent == *at && ends_function(line) => {
                    let lines = index - start + 1;
                    if lines > MAX_FUNCTION_LINES && !excused(name) {
                        let place = format!("{}::{name}", source.path);
                        found.push(format!("{place}: {lines} lines, at most {MAX_FUNCTION_LINES}"));
                    }
                    open = None;
                }
                Some(_) => {}
            }
        }
    }
    found
}

/// The name of the function that a line begins.
fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    loop {
        let word = rest.split_once(' ')?;
        rest = match word.0 {
            "fn" => {
                let end = word.1.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
                return Some(word.1[..end].into());
            }
            "pub" | "const" | "unsafe" | "async" | "extern" | "\"C\"" | "pub(crate)" | "pub(super)" => word.1,
            _ => return None,
        };
    }
}

/// Whether a line that begins a function also ends it.
fn is_whole(line: &str) -> bool {
    line.ends_with('}') || line.ends_with(';')
}

/// Whether a line at a function's own indentation ends it: a closing brace, or `;` after a
/// signature without a body.
fn ends_function(line: &str) -> bool {
    let line = line.trim();
    line.ends_with('}') && line.starts_with('}') || line.starts_with(')') && line.ends_with(';')
}

/// The command lines of `fermata` between backticks, or in a block of code, of a Markdown text;
/// those with a word in capitals, which stands for any, are left out.
pub fn commands(markdown: &str) -> Vec<String> {
    let spans = markdown.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let indented = markdown.lines().map(str::trim);
    let any = |text: &&str| text.split(' ').any(|word| word.chars().all(|c| c.is_ascii_uppercase()));
    let lines = spans.chain(indented).filter(|text| text.starts_with("fermata ") && !any(text));
    lines.map(String::from).collect()
}

/// Lines of shipped code with a text that must not be there.
pub fn forbidden(sources: &[Source], text: &str, why: &str, exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| !exceptions.iter().any(|e| e.0 == s.path)) {
        let lines = source.shipped().filter(|(_, line)| line.contains(text));
        found.extend(lines.map(|(line, _)| format!("{}:{line}: `{text}`: {why}", source.path)));
    }
    found
}

/// The crates of the workspace that a manifest's `[dependencies]` name.
pub fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" && line.starts_with("fermata") {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(line[..end].into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: String) -> Vec<Source> {
        vec![Source { path: path.into(), text }]
    }

    #[test]
    fn a_long_function_is_found_and_a_short_one_is_not() {
        let body = "    x();\n".repeat(79);
        let long = source("a.rs", format!("pub(crate) fn f(\n    a: u8,\n) {{\n{body}}}\n"));
        assert_eq!(long_functions(&long), ["a.rs::f: 83 lines, at most 80"]);
        let said = format!("//! `f` is longer than 80 lines: a table.\n{}", long[0].text);
        assert!(long_functions(&source("a.rs", said)).is_empty());
        let two = source("a.rs", format!("fn f() {{ 1 }}\n{body}fn g() {{\n}}\n"));
        assert!(long_functions(&two).is_empty());
    }

    #[test]
    fn comments_and_tests_are_not_shipped() {
        let text = "//! doc\n// a.unwrap()\nfn f() {}\n#[cfg(test)]\nmod tests {\n    a.unwrap();\n}\n";
        assert!(forbidden(&source("a.rs", text.into()), ".unwrap()", "no", &[]).is_empty());
        let shipped = source("a.rs", "//! doc\nb.unwrap();\n".into());
        assert_eq!(forbidden(&shipped, ".unwrap()", "no", &[]), ["a.rs:2: `.unwrap()`: no"]);
    }

    #[test]
    fn commands_stand_between_backticks_or_alone() {
        let text =
            "| a | `fermata run m.onnx` |\n```\nfermata demo\n```\n`fermata VERB --help`, fermata here\n";
        assert_eq!(commands(text), ["fermata run m.onnx", "fermata demo"]);
    }

    #[test]
    fn manifests_name_their_crates() {
        let manifest =
            "[dependencies]\nfermata-ir.workspace = true\nclap = \"4\"\n[dev-dependencies]\nfermata = 1";
        assert_eq!(dependencies(manifest), ["fermata-ir"]);
    }
}
