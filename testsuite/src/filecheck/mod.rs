//! The FileCheck dialect: expectations on a text, line by line.
//!
//! | check | the text has |
//! | --- | --- |
//! | `CHECK: p` | `p` somewhere after the match before |
//! | `CHECK-NEXT: p` | `p` on the next line |
//! | `CHECK-SAME: p` | `p` further on in the same line |
//! | `CHECK-DAG: p` | `p`, in any order among neighbouring `-DAG` checks, without overlap |
//! | `CHECK-NOT: p` | no `p` between the matches before and after |
//! | `CHECK-LABEL: p` | `p`, cutting the text: checks before it match before it |
//! | `CHECK-COUNT-n: p` | `p` n times, one after another |
//! | `CHECK-EMPTY:` | an empty next line |
//!
//! In a pattern `{{regex}}` is a regular expression, `[[X:regex]]` binds what it matches to a
//! variable and `[[X]]` is what an earlier check bound. A run of blanks matches any run of
//! blanks; blanks around the pattern do not count.

mod pattern;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use pattern::Pattern;

/// How a check relates to the match before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somewhere after.
    Plain,
    /// On the next line.
    Next,
    /// On the same line.
    Same,
    /// In any order.
    Dag,
    /// Absent.
    Not,
    /// Cuts the text.
    Label,
    /// This many times.
    Count(usize),
    /// The next line is empty.
    Empty,
}

/// A check.
#[derive(Clone, Debug)]
pub struct Check {
    /// The line of the case file it stands on, from 1.
    pub line: usize,
    /// How it relates to the match before.
    pub kind: Kind,
    /// The pattern as written.
    pub text: String,
    pattern: Pattern,
}

/// A check that does not hold, or is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the check.
    pub line: usize,
    /// What is wrong, where the search began and what came nearest.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads the check of a line, if it is one: blanks, the comment sign, the prefix with its suffix,
/// a colon. `defined` are the variables that earlier checks bind.
///
/// # Errors
/// If the suffix is unknown or the pattern malformed.
pub fn parse_line(
    prefix: &str,
    line: usize,
    text: &str,
    defined: &mut BTreeSet<String>,
) -> Result<Option<Check>, Failure> {
    let failure = |message: String| Failure { line, message };
    let Some((suffix, pattern)) = split(prefix, text) else { return Ok(None) };
    let kind = kind(suffix).ok_or_else(|| failure(format!("there is no check `{prefix}{suffix}`")))?;
    let pattern = pattern.trim();
    match (kind == Kind::Empty, pattern.is_empty()) {
        (true, false) => return Err(failure(format!("`{prefix}-EMPTY` takes no pattern"))),
        (false, true) => return Err(failure(format!("`{prefix}{suffix}` has no pattern"))),
        (true, true) | (false, false) => {}
    }
    let parsed = Pattern::parse(pattern, defined).map_err(failure)?;
    if kind == Kind::Label && parsed.has_variables() {
        return Err(failure(format!("`{prefix}-LABEL` has no variables: labels are found first")));
    }
    Ok(Some(Check { line, kind, text: pattern.into(), pattern: parsed }))
}

/// The suffix and the pattern of a check line.
fn split<'t>(prefix: &str, text: &'t str) -> Option<(&'t str, &'t str)> {
    let text = text.trim_start();
    let comment = text.strip_prefix("//").or_else(|| text.strip_prefix('#'))?;
    let rest = comment.trim_start().strip_prefix(prefix)?;
    let (suffix, pattern) = rest.split_once(':')?;
    let is_suffix = suffix.chars().all(|c| c == '-' || c.is_ascii_uppercase() || c.is_ascii_digit());
    (is_suffix && (suffix.is_empty() || suffix.starts_with('-'))).then_some((suffix, pattern))
}

fn kind(suffix: &str) -> Option<Kind> {
    match suffix {
        "" => Some(Kind::Plain),
        "-NEXT" => Some(Kind::Next),
        "-SAME" => Some(Kind::Same),
        "-DAG" => Some(Kind::Dag),
        "-NOT" => Some(Kind::Not),
        "-LABEL" => Some(Kind::Label),
        "-EMPTY" => Some(Kind::Empty),
        _ => suffix.strip_prefix("-COUNT-")?.parse().ok().filter(|n| *n > 0).map(Kind::Count),
    }
}

/// Whether the checks hold of a text.
///
/// # Errors
/// The first check that does not hold.
pub fn check(checks: &[Check], text: &str) -> Result<(), Failure> {
    search::run(checks, text)
}

/// The text of a line as a pattern that matches it.
pub fn escape(line: &str) -> String {
    line.replace("{{", "{{[{][{]}}")
}
