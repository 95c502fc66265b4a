//! Searching a text for checks in order.

use std::ops::Range;

use super::pattern::{Bindings, Match};
use super::{Check, Failure, Kind};

/// The text, the variables, and where the last match ended.
struct Search<'a> {
    text: &'a str,
    bindings: Bindings,
    at: usize,
    /// The end of the block that a label closes.
    end: usize,
    /// Checks that the text up to the next match must not satisfy.
    absent: Vec<&'a Check>,
}

/// Runs the checks of each block between labels within that block.
pub(super) fn run(checks: &[Check], text: &str) -> Result<(), Failure> {
    let mut search = Search { text, bindings: Bindings::new(), at: 0, end: text.len(), absent: Vec::new() };
    let mut rest = checks;
    loop {
        let label = rest.iter().position(|c| c.kind == Kind::Label);
        let Some(place) = label else {
            search.end = text.len();
            search.block(rest)?;
            return search.absent_before(search.end);
        };
        search.end = text.len();
        let found = search.find(&rest[place], search.at..search.end)?.range;
        search.end = found.start;
        search.block(&rest[..place])?;
        search.absent_before(found.start)?;
        search.at = found.end;
        rest = &rest[place + 1..];
    }
}

impl<'a> Search<'a> {
    fn block(&mut self, checks: &'a [Check]) -> Result<(), Failure> {
        let mut rest = checks;
        while let Some((check, after)) = rest.split_first() {
            rest = after;
            match check.kind {
                Kind::Not => self.absent.push(check),
                Kind::Dag => {
                    let more = after.iter().take_while(|c| c.kind == Kind::Dag).count();
                    self.any_order(check, &after[..more])?;
                    rest = &after[more..];
                }
                Kind::Count(times) => {
                    for _ in 0..times {
                        self.advance(check, self.at..self.end)?;
                    }
                }
                Kind::Same => {
                    let line = self.at..self.line_end(self.at);
                    self.advance(check, line)?;
                }
                Kind::Next => {
                    let line = self.next_line(check)?;
                    self.advance(check, line)?;
                }
                Kind::Empty => {
                    let line = self.next_line(check)?;
                    if !self.text[line.clone()].is_empty() {
                        let found = &self.text[line];
                        return Err(fail(check, format!("the next line is not empty: {found}")));
                    }
                    self.absent_before(line.start)?;
                    self.at = line.end;
                }
                Kind::Plain | Kind::Label => self.advance(check, self.at..self.end)?,
            }
        }
        Ok(())
    }

    /// Finds a check and goes on behind its match.
    fn advance(&mut self, check: &Check, within: Range<usize>) -> Result<(), Failure> {
        let found = self.find(check, within)?;
        self.absent_before(found.range.start)?;
        self.at = found.range.end;
        self.bindings.extend(found.bound);
        Ok(())
    }

    /// Finds checks in any order, each where no other of them matched.
    fn any_order(&mut self, first: &Check, more: &[Check]) -> Result<(), Failure> {
        let mut taken: Vec<Range<usize>> = Vec::new();
        for check in std::iter::once(first).chain(more) {
            let mut from = self.at;
            let found = loop {
                let found = self.find(check, from..self.end)?;
                match taken.iter().find(|t| t.start < found.range.end && found.range.start < t.end) {
                    Some(overlap) => from = overlap.end,
                    None => break found,
                }
            };
            self.bindings.extend(found.bound);
            taken.push(found.range);
        }
        let start = taken.iter().map(|t| t.start).min().unwrap_or(self.at);
        self.absent_before(start)?;
        self.at = taken.iter().map(|t| t.end).max().unwrap_or(self.at);
        Ok(())
    }

    /// Fails if a pending `-NOT` matches before `end`.
    fn absent_before(&mut self, end: usize) -> Result<(), Failure> {
        for check in std::mem::take(&mut self.absent) {
            let found = check.pattern.find(self.text, self.at..end.max(self.at), &self.bindings);
            if let Some(found) = found.map_err(|m| fail(check, m))? {
                let place = self.place(found.range.start);
                return Err(fail(check, format!("`{}` must not be there, and is: {place}", check.text)));
            }
        }
        Ok(())
    }

    fn find(&self, check: &Check, within: Range<usize>) -> Result<Match, Failure> {
        let found = check.pattern.find(self.text, within.clone(), &self.bindings);
        found.map_err(|m| fail(check, m))?.ok_or_else(|| self.missing(check, within))
    }

    fn missing(&self, check: &Check, within: Range<usize>) -> Failure {
        let mut message = format!("`{}` is not there", check.text);
        message.push_str(&format!("\n  searched from {}", self.place(within.start)));
        if let Some(near) = nearest(&check.text, self.text, within) {
            message.push_str(&format!("\n  nearest is    {}", self.place(near)));
        }
        for (name, value) in &self.bindings {
            message.push_str(&format!("\n  with {name} = {value}"));
        }
        fail(check, message)
    }

    /// The line that follows the last match.
    fn next_line(&self, check: &Check) -> Result<Range<usize>, Failure> {
        let end = self.line_end(self.at);
        if end >= self.end {
            return Err(fail(check, format!("`{}`: the text has no further line", check.text)));
        }
        Ok(end + 1..self.line_end(end + 1))
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..self.end].find('\n').map_or(self.end, |n| at + n)
    }

    /// A place of the text as `line N: text`.
    fn place(&self, at: usize) -> String {
        let line = self.text[..at].matches('\n').count() + 1;
        let start = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |n| at + n);
        format!("output line {line}: {}", &self.text[start..end])
    }
}

fn fail(check: &Check, message: String) -> Failure {
    Failure { line: check.line, message }
}

/// The most lines that are compared to find the nearest.
const MAX_NEAR: usize = 200;

/// The start of the line that looks most like a pattern.
fn nearest(pattern: &str, text: &str, within: Range<usize>) -> Option<usize> {
    let mut at = within.start;
    let mut best: Option<(f32, usize)> = None;
    for line in text[within].split_inclusive('\n').take(MAX_NEAR) {
        let ratio = similar::TextDiff::from_chars(pattern, line.trim()).ratio();
        if ratio > best.map_or(0.4, |b| b.0) {
            best = Some((ratio, at));
        }
        at += line.len();
    }
    best.map(|b| b.1)
}
