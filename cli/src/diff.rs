//! What changed between two printed programs, graph numbers aside.
//!
//! A rewrite that drops one line renumbers all that follow (`%7` becomes `%6`), and a plain
//! difference would show them all. Here lines are matched without their numbers, the numbers of
//! matched lines are paired, and a line counts as unchanged if it reads the same under that
//! pairing: what is left is what the rewrite did.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Lines around a change that a difference shows.
const CONTEXT: usize = 3;

/// A stretch of lines: unchanged, or replaced (either side may be empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Whether both sides say the same.
    pub(crate) same: bool,
    /// Lines before.
    pub(crate) old: std::ops::Range<usize>,
    /// Lines after; as many, if unchanged.
    pub(crate) new: std::ops::Range<usize>,
}

/// The stretches of two texts, in order; unchanged and changed ones alternate.
pub(crate) fn stretches(old: &[&str], new: &[&str]) -> Vec<Stretch> {
    let keys = |lines: &[&str]| lines.iter().map(|line| without_numbers(line)).collect::<Vec<_>>();
    let (old_keys, new_keys) = (keys(old), keys(new));
    let ops = capture_diff_slices(Algorithm::Myers, &old_keys, &new_keys);
    let mut out = Stretches::default();
    let mut paired = BTreeMap::new();
    for op in ops {
        match op {
            DiffOp::Equal { old_index, new_index, len } => {
                for i in 0..len {
                    let (a, b) = (old_index + i, new_index + i);
                    if new_keys[b].starts_with("def ") {
                        paired.clear();
                    }
                    let same = agree(old[a], new[b], &mut paired);
                    out.push(same, a..a + 1, b..b + 1);
                }
            }
            DiffOp::Delete { .. } | DiffOp::Insert { .. } | DiffOp::Replace { .. } => {
                let defined = |lines: &[&str]| lines.iter().rev().find_map(|line| definition(line));
                // What replaces some lines ends in what they ended in.
                if let (Some(a), Some(b)) = (defined(&old[op.old_range()]), defined(&new[op.new_range()])) {
                    paired.insert(a, b);
                }
                out.push(false, op.old_range(), op.new_range());
            }
        }
    }
    out.0
}

#[derive(Default)]
struct Stretches(Vec<Stretch>);

impl Stretches {
    fn push(&mut self, same: bool, old: std::ops::Range<usize>, new: std::ops::Range<usize>) {
        match self.0.last_mut() {
            Some(last) if last.same == same => {
                last.old.end = old.end;
                last.new.end = new.end;
            }
            _ => self.0.push(Stretch { same, old, new }),
        }
    }
}

/// The numbers `%7` of a line: where the digits stand.
fn numbers(line: &str) -> Vec<std::ops::Range<usize>> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(percent) = line[at..].find('%').map(|p| at + p) {
        let digits = bytes[percent + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        at = percent + 1 + digits;
        let ends = bytes.get(at).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
        if digits > 0 && ends {
            found.push(percent + 1..at);
        }
    }
    found
}

fn without_numbers(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut at = 0;
    for range in numbers(line) {
        text.push_str(&line[at..range.start]);
        at = range.end;
    }
    text.push_str(&line[at..]);
    text
}

/// The number that a line defines.
fn definition(line: &str) -> Option<u64> {
    let (number, _) = line.trim_start().strip_prefix('%')?.split_once(" = ")?;
    number.parse().ok()
}

/// Whether two lines that match without numbers read the same: a number that they define is paired,
/// the others must be those that were paired.
fn agree(old: &str, new: &str, paired: &mut BTreeMap<u64, u64>) -> bool {
    let value = |line: &str, range: &std::ops::Range<usize>| line[range.clone()].parse::<u64>().ok();
    if let (Some(a), Some(b)) = (definition(old), definition(new)) {
        paired.insert(a, b);
    }
    numbers(old).iter().zip(&numbers(new)).all(|(a, b)| match (value(old, a), value(new, b)) {
        (Some(a), Some(b)) => paired.get(&a) == Some(&b),
        _ => false,
    })
}

/// Changed stretches with lines around them; what is near each other is together.
pub(crate) fn hunks(stretches: &[Stretch]) -> Vec<Vec<Stretch>> {
    let mut hunks: Vec<Vec<Stretch>> = Vec::new();
    let mut open = false;
    for (i, stretch) in stretches.iter().enumerate() {
        if !stretch.same {
            match hunks.last_mut().filter(|_| open) {
                Some(hunk) => hunk.push(stretch.clone()),
                None => hunks.push(vec![stretch.clone()]),
            }
            open = true;
            continue;
        }
        let (len, is_last) = (stretch.old.len(), i + 1 == stretches.len());
        let part = |from: usize, to: usize| Stretch {
            same: true,
            old: stretch.old.start + from..stretch.old.start + to,
            new: stretch.new.start + from..stretch.new.start + to,
        };
        if open && !is_last && len <= 2 * CONTEXT {
            hunks.last_mut().expect("it is open").push(stretch.clone());
            continue;
        }
        if let Some(hunk) = hunks.last_mut().filter(|_| open) {
            hunk.push(part(0, len.min(CONTEXT)));
        }
        open = !is_last;
        if open {
            hunks.push(vec![part(len.saturating_sub(CONTEXT), len)]);
        }
    }
    hunks
}

fn add(text: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "{sign}{line}");
    }
}

/// Both texts as one, in the manner of `diff -u`; what only has other numbers shows those of the
/// new text. Empty if nothing changed.
pub(crate) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut text = String::new();
    for hunk in hunks(&stretches(&old, &new)) {
        if text.is_empty() {
            text.push_str("--- before\n+++ after\n");
        }
        let (first, last) = (&hunk[0], &hunk[hunk.len() - 1]);
        let place =
            |start: usize, end: usize| format!("{},{}", start + usize::from(end > start), end - start);
        let (a, b) = (place(first.old.start, last.old.end), place(first.new.start, last.new.end));
        let _ = writeln!(text, "@@ -{a} +{b} @@");
        for stretch in &hunk {
            if stretch.same {
                add(&mut text, ' ', &new[stretch.new.clone()]);
            } else {
                add(&mut text, '-', &old[stretch.old.clone()]);
                add(&mut text, '+', &new[stretch.new.clone()]);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_numbers_are_no_change() {
        let old = "def @main(%x) {\n  %0 = exp(%x);\n  %1 = add(%0, 0f);\n  %2 = tanh(%1);\n  sin(%2)\n}\n";
        let new = "def @main(%x) {\n  %0 = exp(%x);\n  %1 = tanh(%0);\n  sin(%1)\n}\n";
        // The line that reads the dropped value reads another one now.
        let shown = "--- before\n+++ after\n@@ -1,6 +1,5 @@\n def @main(%x) {\n   %0 = exp(%x);\n-  %1 = add(%0, 0f);\n-  %2 = tanh(%1);\n+  %1 = tanh(%0);\n   sin(%1)\n }\n";
        assert_eq!(unified(old, new), shown);
        assert_eq!(unified(old, old), "");
    }

    #[test]
    fn another_operand_is_a_change() {
        let old = "  %0 = exp(%x);\n  %1 = exp(%x);\n  add(%0, %1)\n";
        let new = "  %0 = exp(%x);\n  %1 = exp(%x);\n  add(%0, %0)\n";
        assert!(unified(old, new).contains("-  add(%0, %1)\n+  add(%0, %0)\n"));
    }

    #[test]
    fn distant_changes_are_apart() {
        let lines = |marks: [&str; 2]| {
            let body = (0..30).map(|i| match i {
                0 => marks[0].to_owned(),
                29 => marks[1].to_owned(),
                i => format!("line {i}"),
            });
            body.map(|l| l + "\n").collect::<String>()
        };
        let shown = unified(&lines(["a", "b"]), &lines(["c", "d"]));
        assert_eq!(shown.matches("@@ -").count(), 2, "{shown}");
        assert!(shown.contains("@@ -1,4 +1,4 @@") && shown.contains("@@ -27,4 +27,4 @@"), "{shown}");
    }

    #[test]
    fn only_numbers_are_numbers() {
        assert_eq!(without_numbers("%12 = add(%3.0, %x1, %4a)"), "% = add(%.0, %x1, %4a)");
    }
}
