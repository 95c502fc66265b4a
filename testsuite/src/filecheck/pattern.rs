//! One check's pattern: literal text, `{{regex}}`, `[[NAME:regex]]` and `[[NAME]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use regex::Regex;

/// Variables and the texts they are bound to.
pub(super) type Bindings = BTreeMap<String, String>;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Segment {
    /// Text that matches itself; runs of blanks match any run of blanks.
    Literal(String),
    /// `{{regex}}`
    Regex(String),
    /// `[[NAME:regex]]`
    Define(String, String),
    /// `[[NAME]]`
    Use(String),
}

/// The pattern of one check.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
}

/// Where a pattern matched, and what it binds.
pub(super) struct Match {
    pub range: Range<usize>,
    pub bound: Bindings,
}

impl Pattern {
    /// Reads a pattern. `defined` holds the variables of earlier checks and gains this one's:
    /// `[[1, 2]]` and `[[nan]]` are nested lists and stand for themselves, so `[[NAME]]` refers
    /// to a variable only where there is one of that name.
    pub(super) fn parse(text: &str, defined: &mut BTreeSet<String>) -> Result<Pattern, String> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut new = BTreeSet::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(body) = rest.strip_prefix("{{") {
                let end = regex_end(body, "}}").ok_or("`{{` without `}}`")?;
                push_literal(&mut segments, &mut literal);
                segments.push(Segment::Regex(valid(&body[..end])?));
                rest = &body[end + 2..];
            } else if let Some((segment, after)) = variable(rest, defined)? {
                if let Segment::Use(name) = &segment
                    && new.contains(name)
                {
                    return Err(format!("`{name}` is bound by this very check; bind it by an earlier one"));
                }
                if let Segment::Define(name, _) = &segment {
                    new.insert(name.clone());
                    defined.insert(name.clone());
                }
                push_literal(&mut segments, &mut literal);
                segments.push(segment);
                rest = after;
            } else {
                literal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        push_literal(&mut segments, &mut literal);
        Ok(Pattern { segments })
    }

    /// Whether the pattern refers to variables or binds any.
    pub(super) fn has_variables(&self) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Define(..) | Segment::Use(_)))
    }

    /// The regular expression of the pattern, with the variables' values in it, and the
    /// variables it binds, in the order of its groups `v0`, `v1`, ..
    fn regex(&self, bindings: &Bindings) -> Result<(Regex, Vec<&str>), String> {
        let mut source = String::from("(?m)");
        let mut names = Vec::new();
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => push_escaped(&mut source, text),
                Segment::Regex(regex) => source.push_str(&format!("(?:{regex})")),
                Segment::Define(name, regex) => {
                    source.push_str(&format!("(?P<v{}>{regex})", names.len()));
                    names.push(&**name);
                }
                Segment::Use(name) => {
                    let value = bindings.get(name).ok_or_else(|| format!("`{name}` is not bound yet"))?;
                    source.push_str(&regex::escape(value));
                }
            }
        }
        let regex = Regex::new(&source).map_err(|e| format!("not a regular expression: {e}"))?;
        Ok((regex, names))
    }

    /// The first match in `text[from..to]`.
    pub(super) fn find(
        &self,
        text: &str,
        within: Range<usize>,
        bindings: &Bindings,
    ) -> Result<Option<Match>, String> {
        let (regex, names) = self.regex(bindings)?;
        let Some(captures) = regex.captures_at(&text[..within.end], within.start) else {
            return Ok(None);
        };
        let range = captures.get_match().range();
        let bound = names.iter().enumerate().filter_map(|(i, name)| {
            let value = captures.name(&format!("v{i}"))?;
            Some(((*name).to_owned(), value.as_str().to_owned()))
        });
        Ok(Some(Match { range, bound: bound.collect() }))
    }
}

fn push_literal(segments: &mut Vec<Segment>, literal: &mut String) {
    if !literal.is_empty() {
        segments.push(Segment::Literal(std::mem::take(literal)));
    }
}

/// Escapes a literal; a run of blanks matches any run of blanks.
fn push_escaped(source: &mut String, text: &str) {
    let is_blank = |c: char| c == ' ' || c == '\t';
    let mut rest = text;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        if blanks > 0 {
            source.push_str("[ \\t]+");
        }
        rest = &rest[blanks..];
        let end = rest.find(is_blank).unwrap_or(rest.len());
        source.push_str(&regex::escape(&rest[..end]));
        rest = &rest[end..];
    }
}

/// `[[NAME:regex]]` or `[[NAME]]` of a known name, and what follows it.
fn variable<'t>(rest: &'t str, defined: &BTreeSet<String>) -> Result<Option<(Segment, &'t str)>, String> {
    let Some(body) = rest.strip_prefix("[[") else { return Ok(None) };
    let end = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
    let (name, after) = body.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    if let Some(regex) = after.strip_prefix(':') {
        let end = regex_end(regex, "]]").ok_or_else(|| format!("`[[{name}:` without `]]`"))?;
        let segment = Segment::Define(name.into(), valid(&regex[..end])?);
        return Ok(Some((segment, &regex[end + 2..])));
    }
    match after.strip_prefix("]]") {
        Some(after) if defined.contains(name) => Ok(Some((Segment::Use(name.into()), after))),
        Some(_) | None => Ok(None),
    }
}

/// Where a regular expression ends: at `close`, or later if `close` is followed by more of its
/// own character, as in `[[X:[a-z]]]`.
fn regex_end(body: &str, close: &str) -> Option<usize> {
    let mut end = body.find(close)?;
    while body[end + close.len()..].starts_with(&close[..1]) {
        end += 1;
    }
    Some(end)
}

fn valid(regex: &str) -> Result<String, String> {
    Regex::new(regex).map_err(|e| format!("not a regular expression: {e}"))?;
    Ok(regex.into())
}
