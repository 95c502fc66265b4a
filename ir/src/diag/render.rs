//! Diagnostics as text, in rustc's manner, through annotate-snippets.
//!
//! Only the lines around the place are handed to the renderer, and of a very long line
//! only a window, so that a message about a text of any size costs one scan for newlines.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use super::{Diagnostic, Diagnostics, Severity, Source, SourceMap, Span};

/// How many diagnostics of one step are printed; the rest is counted.
const SHOWN: usize = 20;

/// How many lines of a place are shown.
const LINES: usize = 4;

/// How many bytes of a line around the place are handed to the renderer.
const WINDOW: usize = 400;

impl Diagnostic {
    /// The message as text, ending in a newline; `color` adds terminal escapes.
    pub fn render(&self, sources: &SourceMap, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&self.message).id(self.code.to_string()));
        match &self.span {
            Span::None => {}
            Span::Text { source, range } => {
                if let Some(source) = sources.get(*source) {
                    group = place(group, source, range.clone(), &self.label);
                }
            }
            Span::Node { source, path } => {
                let file = sources.get(*source).map_or("", |s| &*s.name);
                group = group.element(Origin::path(format!("{file} > {path}")));
                if !self.label.is_empty() {
                    group = group.element(Level::NOTE.message(normalize_untrusted_str(&self.label)));
                }
            }
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = renderer.render(&[group]);
        if !matches!(self.span, Span::Text { .. }) {
            // Without line numbers nothing is indented; these lines belong to the first all the same.
            text = text.replace('\n', "\n ");
        }
        text.push('\n');
        text
    }
}

impl Diagnostics {
    /// All messages as text with an empty line between them; past a number of them, the rest is counted.
    pub fn render(&self, sources: &SourceMap, color: bool) -> String {
        let shown: Vec<_> = self.0.iter().take(SHOWN).map(|d| d.render(sources, color)).collect();
        let mut text = shown.join("\n");
        let rest = self.0.len().saturating_sub(SHOWN);
        if rest > 0 {
            text.push_str(&format!("\n... and {rest} more\n"));
        }
        text
    }
}

/// Adds file, line, column and the source lines with the place underlined.
fn place<'a>(group: Group<'a>, source: &'a Source, range: Range<usize>, label: &'a str) -> Group<'a> {
    let text = &*source.text;
    let start = floor_char(text, range.start);
    let end = floor_char(text, range.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let line = 1 + text.as_bytes()[..line_start].iter().filter(|&&b| b == b'\n').count();
    let lines_end = end_of_lines(text, line_start, end);
    let label = (!label.is_empty()).then_some(label);

    let window_start = ceil_char(text, start.saturating_sub(WINDOW).max(line_start));
    let window_end = floor_char(text, lines_end.min(start + WINDOW));
    let window = window_start..window_end.max(start);
    let span = start - window.start..end.min(window.end) - window.start;
    let snippet = Snippet::source(&text[window.clone()])
        .line_start(line)
        .annotation(AnnotationKind::Primary.span(span).label(label));
    if window.start == line_start {
        return group.element(snippet.path(&*source.name));
    }
    // The renderer would count columns from the cut.
    let column = text[line_start..start].chars().count() + 1;
    group.element(Origin::path(&*source.name).line(line).char_column(column)).element(snippet)
}

/// The end of the last line to show of a place that starts in the line at `line_start`.
fn end_of_lines(text: &str, line_start: usize, end: usize) -> usize {
    let mut at = line_start;
    for _ in 0..LINES {
        at = text[at..].find('\n').map_or(text.len(), |n| at + n);
        if at >= end || at == text.len() {
            return at;
        }
        at += 1;
    }
    at - 1
}

/// The last character boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// The first character boundary at or after `at`.
fn ceil_char(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn text(name: &str, text: &str) -> (SourceMap, super::super::SourceId) {
        let mut sources = SourceMap::new();
        let id = sources.push(Source { name: name.into(), text: text.into() });
        (sources, id)
    }

    #[test]
    fn a_place_in_a_text_has_line_column_and_caret() {
        let (sources, source) = text("a.relay", "let %x = 1;\n%y + 2\n");
        let d = Diagnostic::error(Code::TEXT_NAME, "no variable `%y`")
            .at(Span::Text { source, range: 12..14 })
            .label("not in scope")
            .note("a fact")
            .help("write `%x`");
        assert_eq!(
            d.render(&sources, false),
            "error[E0103]: no variable `%y`
 --> a.relay:2:1
  |
2 | %y + 2
  | ^^ not in scope
  |
  = note: a fact
  = help: write `%x`
"
        );
        assert!(d.render(&sources, true).contains('\u{1b}'));
    }

    #[test]
    fn a_node_of_a_model_is_a_path() {
        let (sources, source) = text("model.onnx", "");
        let d = Diagnostic::error(Code::IMPORT_UNSUPPORTED, "no such op")
            .at(Span::Node { source, path: "main > /enc/0/MatMul (node #41)".into() })
            .note("a fact");
        assert_eq!(
            d.render(&sources, false),
            "error[E0502]: no such op\n --> model.onnx > main > /enc/0/MatMul (node #41)\n  = note: a fact\n"
        );
    }

    #[test]
    fn long_lines_keep_their_column() {
        let line = format!("{}%y{}", "é".repeat(50_000), " ".repeat(50_000));
        let (sources, source) = text("long.relay", &line);
        let at = line.find('%').expect("it is there");
        let d =
            Diagnostic::error(Code::TEXT_NAME, "no variable").at(Span::Text { source, range: at..at + 2 });
        let shown = d.render(&sources, false);
        assert!(shown.contains("long.relay:1:50001"), "{shown}");
        assert!(shown.len() < 2000, "{shown}");
    }

    #[test]
    fn any_range_renders() {
        let (sources, source) = text("a", "é\n\nb\nc\nd\ne\nf\n");
        for start in 0..20 {
            for end in [0, start, start + 1, start + 9, usize::MAX] {
                Diagnostic::error(Code::EVAL, "m")
                    .at(Span::Text { source, range: start..end })
                    .render(&sources, false);
            }
        }
    }

    #[test]
    fn many_are_counted() {
        let one = Diagnostic::warning(Code::EVAL, "m");
        let shown = Diagnostics(vec![one; 25]).render(&SourceMap::new(), false);
        assert!(shown.starts_with("warning[E0401]: m\n\nwarning"), "{shown}");
        assert!(shown.ends_with("\n... and 5 more\n"), "{shown}");
    }
}
