//! Parts of the page: pictures, differences side by side, the legend, numbers.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::diff::{hunks, stretches};
use crate::graph::{Family, Picture, svg};

/// Rows of a difference at most; a pass that touches every line would fill the page.
const MAX_ROWS: usize = 1200;

/// Nodes up to which a picture is part of the page.
const MAX_NODES: usize = 20_000;

/// `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 M`.
pub(super) fn quantity(n: u64) -> String {
    match n {
        0 => String::new(),
        1..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// How often rules fired.
pub(super) fn rules(fired: &BTreeMap<&'static str, u64>) -> Markup {
    html! {
        @if !fired.is_empty() {
            span.rules { @for (rule, count) in fired { span { (rule) " ×" (count) } } }
        }
    }
}

/// The colours of the families.
pub(super) fn legend() -> Markup {
    html! {
        ul.legend { @for family in Family::ALL { li { span class={ "swatch " (family.class()) } {} (family.title()) } } }
    }
}

/// A picture that can be moved and zoomed.
pub(super) fn picture(id: &str, title: &str, picture: &Picture) -> Markup {
    let nodes: usize = picture.functions.iter().map(|g| g.nodes.len()).sum();
    let groups: usize = picture.functions.iter().map(|g| g.groups.len()).sum();
    let drawings: Vec<_> = match nodes <= MAX_NODES {
        true => picture.functions.iter().map(|g| (&*g.name, svg::draw(g))).collect(),
        false => Vec::new(),
    };
    let mut y = 0.0;
    let placed: Vec<_> = drawings
        .iter()
        .map(|(name, drawing)| {
            let at = y;
            y += drawing.size.1 + 30.0;
            (*name, drawing, at)
        })
        .collect();
    let width = drawings.iter().map(|(_, d)| d.size.0).fold(100.0, f64::max);
    html! {
        figure.picture id=(id) {
            figcaption {
                b { (title) } " "
                span { (nodes) " nodes" @if groups > 0 { ", " (groups) " groups of several" } }
                span.buttons {
                    button type="button" data-do="out" title="Smaller" { "−" }
                    button type="button" data-do="in" title="Larger" { "+" }
                    button type="button" data-do="fit" title="The whole picture" { "Fit" }
                    button type="button" data-do="wide" title="As large as the window" { "⤢" }
                }
            }
            @if placed.is_empty() {
                p { "A picture of so many nodes helps nobody; " code { "fermata opt --emit=dot" } " writes it for Graphviz." }
            } @else {
                svg.canvas xmlns="http://www.w3.org/2000/svg" data-width=(width.round()) data-height=(y.round())
                    role="img" aria-label=(title) {
                    g.view {
                        @for (name, drawing, at) in &placed {
                            g transform={ "translate(0 " (at.round()) ")" } {
                                @if placed.len() > 1 { text x="16" y="16" style="text-anchor:start;font-weight:600" { "@" (name) } }
                                (drawing.markup)
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Two programs side by side where they differ; how many lines came and went.
pub(super) fn difference(old: &str, new: &str) -> (Markup, usize, usize) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let stretches = stretches(&old, &new);
    let changed = stretches.iter().filter(|s| !s.same);
    let (added, removed) = changed.fold((0, 0), |(a, r), s| (a + s.new.len(), r + s.old.len()));
    let mut rows = Vec::new();
    let hunks = hunks(&stretches);
    let all: usize = hunks.iter().flatten().map(|s| s.old.len().max(s.new.len())).sum();
    for (n, hunk) in hunks.iter().enumerate() {
        if rows.len() > MAX_ROWS {
            break;
        }
        if n > 0 {
            rows.push(html! { tr.gap { td colspan="4" { "⋯" } } });
        }
        for stretch in hunk {
            for i in 0..stretch.old.len().max(stretch.new.len()) {
                if rows.len() > MAX_ROWS {
                    break;
                }
                let (a, b) = (stretch.old.start + i, stretch.new.start + i);
                let (a, b) = ((a < stretch.old.end).then_some(a), (b < stretch.new.end).then_some(b));
                rows.push(row(a.map(|a| (a, old[a])), b.map(|b| (b, new[b])), stretch.same));
            }
        }
    }
    let left = all.saturating_sub(rows.len());
    let table = html! {
        table.diff { tbody { @for row in &rows { (row) } } }
        @if left > 0 { p.hint { (left) " more lines; " code { "fermata opt --print-changed=diff" } " prints them all." } }
    };
    (table, added, removed)
}

type Line<'a> = Option<(usize, &'a str)>;

fn row(old: Line<'_>, new: Line<'_>, same: bool) -> Markup {
    let marked = match (old, new) {
        (Some((_, a)), Some((_, b))) if !same => middles(a, b),
        _ => (0..0, 0..0),
    };
    let cell = |line: Line<'_>, mark: std::ops::Range<usize>, class: &str| {
        html! {
            td.line { @if let Some((n, _)) = line { (n + 1) } }
            td class=(if same || line.is_none() { "" } else { class }) {
                @if let Some((_, text)) = line {
                    (text[..mark.start]) @if !mark.is_empty() { mark { (text[mark.clone()]) } } (text[mark.end..])
                }
            }
        }
    };
    html! { tr { (cell(old, marked.0, "removed")) (cell(new, marked.1, "added")) } }
}

/// What stands between the common beginning and the common end of two lines, if these are most of them.
fn middles(a: &str, b: &str) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let front: usize = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum();
    let (rest_a, rest_b) = (&a[front..], &b[front..]);
    let pairs = rest_a.chars().rev().zip(rest_b.chars().rev());
    let back: usize = pairs.take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum();
    match 2 * (front + back) >= a.len().min(b.len()) {
        true => (front..a.len() - back, front..b.len() - back),
        false => (0..0, 0..0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([quantity(0), quantity(999), quantity(1500)], ["", "999", "1.5 k"]);
        assert_eq!([quantity(2_000_000), quantity(3_100_000_000)], ["2.0 M", "3.10 G"]);
    }

    #[test]
    fn the_part_that_differs_is_marked() {
        assert_eq!(middles("add(%0, 1f)", "add(%0, 22f)"), (8..9, 8..10));
        assert_eq!(middles("é = a", "é = b"), (5..6, 5..6));
        assert_eq!(middles("abc", "xyz"), (0..0, 0..0));
    }

    #[test]
    fn a_difference_counts_its_lines_and_escapes_them() {
        let (table, added, removed) = difference("a\n<b>\n", "a\nc\nd\n");
        assert_eq!((added, removed), (2, 1));
        let text = table.into_string();
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>"), "{text}");
    }
}
