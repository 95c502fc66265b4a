//! One file as several programs, and errors that a file expects: `opt --split-input-file` and
//! `--verify-diagnostics`.
//!
//! `// expected-error {{text}}` demands an error whose message has that text on its own line,
//! `@+1` and `@-1` on the line after or before, `@unknown` one without a place. Warnings are
//! demanded by `expected-warning`.

use fermata_ir::diag::{Code, Diagnostic, Diagnostics, Severity, SourceId, SourceMap, Span};

/// The line between programs, behind `//` or `#`.
const BORDER: &str = "-----";

/// The parts of a text, each with as many empty lines before it as keep its line numbers.
pub(crate) fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for (index, line) in text.lines().enumerate() {
        let comment = line.trim().strip_prefix("//").or_else(|| line.trim().strip_prefix('#'));
        if comment.is_some_and(|c| c.trim() == BORDER) {
            parts.push("\n".repeat(index + 1));
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// An expected diagnostic.
#[derive(Debug, PartialEq)]
struct Expected {
    severity: Severity,
    /// The line it is expected on, from 1; none if without a place.
    line: Option<usize>,
    text: String,
    /// Where the comment stands.
    at: std::ops::Range<usize>,
}

/// Holds the diagnostics of a text against those that its comments expect.
///
/// # Errors
/// Every one that was expected and did not come, and every one that came unexpectedly.
pub(crate) fn verify(text: &str, found: &[Diagnostic], sources: &SourceMap) -> Result<(), Diagnostics> {
    let mut expected = expectations(text)?;
    let mut wrong = Vec::new();
    for diagnostic in found {
        let line = line_of(diagnostic, sources);
        let met = expected.iter().position(|e| {
            e.severity == diagnostic.severity && e.line == line && diagnostic.message.contains(&e.text)
        });
        match met {
            Some(place) => drop(expected.remove(place)),
            None => {
                let what = format!("this was not expected: {}", diagnostic.message);
                wrong.push(Diagnostic::error(Code::EXPECTED, what).at(diagnostic.span.clone()));
            }
        }
    }
    let source = sources.iter().next().map(|(id, _)| id);
    for Expected { text, at, .. } in expected {
        let error = Diagnostic::error(Code::EXPECTED, format!("there is no such diagnostic: {text}"));
        wrong.push(error.at(source.map_or(Span::None, |source| Span::Text { source, range: at })));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Diagnostics(wrong)) }
}

fn line_of(diagnostic: &Diagnostic, sources: &SourceMap) -> Option<usize> {
    let Span::Text { source, range } = &diagnostic.span else { return None };
    let text = &sources.get(*source)?.text;
    Some(1 + text.as_bytes()[..range.start.min(text.len())].iter().filter(|&&b| b == b'\n').count())
}

fn expectations(text: &str) -> Result<Vec<Expected>, Diagnostics> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let mut at = 0;
        while let Some(place) = line[at..].find("expected-") {
            at += place + "expected-".len();
            let (severity, rest) = if let Some(rest) = line[at..].strip_prefix("error") {
                (Severity::Error, rest)
            } else if let Some(rest) = line[at..].strip_prefix("warning") {
                (Severity::Warning, rest)
            } else {
                continue;
            };
            let range = start + at..start + line.trim_end().len();
            let (place, text) = parse(rest, index + 1).ok_or_else(|| malformed(range.clone()))?;
            found.push(Expected { severity, line: place, text, at: range });
        }
        start += line.len();
    }
    Ok(found)
}

/// `@+1 {{text}}` behind `expected-error` on a line: the line and the text.
fn parse(rest: &str, line: usize) -> Option<(Option<usize>, String)> {
    let (place, text) = rest.split_once("{{")?;
    let text = text.split_once("}}")?.0.to_owned();
    let place = match place.trim().strip_prefix('@') {
        None if place.trim().is_empty() => Some(line),
        None => return None,
        Some("unknown") => None,
        Some(offset) if offset.starts_with(['+', '-']) => {
            Some(line.checked_add_signed(offset.parse::<isize>().ok()?)?)
        }
        Some(absolute) => Some(absolute.parse().ok()?),
    };
    Some((place, text))
}

fn malformed(range: std::ops::Range<usize>) -> Diagnostic {
    let span = Span::Text { source: SourceId::from_u32(0), range };
    Diagnostic::error(Code::EXPECTED, "this expectation is malformed")
        .at(span)
        .help("write `expected-error@+1 {{text}}`: the line relative to this one, then the text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fermata_ir::diag::Source;

    #[test]
    fn parts_keep_their_line_numbers() {
        assert_eq!(parts("a\n// -----\n\n// -----\nb\n"), ["a\n", "\n\n\n\nb\n"]);
        assert_eq!(parts("a\n# -----\nb"), ["a\n", "\n\nb\n"]);
    }

    #[test]
    fn expectations_are_met_line_by_line() {
        let text = "x // expected-error {{no x}}\n// expected-error@+1 {{no y}}\ny\n";
        let mut sources = SourceMap::new();
        let source = sources.push(Source { name: "a".into(), text: text.into() });
        let error = |message: &str, at: usize| {
            Diagnostic::error(Code::TEXT_NAME, message).at(Span::Text { source, range: at..at + 1 })
        };
        let y = text.rfind('y').expect("it is there");
        let both = [error("there is no x", 0), error("no y here", y)];
        assert_eq!(verify(text, &both, &sources), Ok(()));
        let missing = verify(text, &both[..1], &sources).expect_err("one is missing");
        assert_eq!(missing.0[0].message, "there is no such diagnostic: no y");
        let more = [both[0].clone(), both[0].clone(), both[1].clone()];
        let unexpected = verify(text, &more, &sources).expect_err("one too many");
        assert_eq!(unexpected.0[0].message, "this was not expected: there is no x");
    }

    #[test]
    fn malformed_expectations_are_told() {
        for text in ["// expected-error no braces", "// expected-error@x {{a}}", "// expected-error@-9 {{a}}"]
        {
            verify(text, &[], &SourceMap::new()).expect_err(text);
        }
    }
}
