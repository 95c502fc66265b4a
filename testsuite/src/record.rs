//! The sections of BENCHMARKS.md that `--update` writes.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use fermata_runtime::detect;

/// Writes a command's table into its section of BENCHMARKS.md, with what made it: the command
/// line, the day, the machine, and whatever `more` there is to say.
///
/// # Errors
/// If there is no such section between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
pub(crate) fn update(section: &str, more: &str, tables: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
    let text = std::fs::read_to_string(&path)?;
    let replaced = replaced(&text, section, &format!("{}\n{tables}", heading(more)))
        .ok_or_else(|| io::Error::other(format!("BENCHMARKS.md has no section `{section}`")))?;
    std::fs::write(path, replaced)
}

/// The text with another section.
fn replaced(text: &str, section: &str, content: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {section}: {edge} -->\n"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{content}{end}{after}"))
}

/// The command, the day and the machine.
fn heading(more: &str) -> String {
    let days = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "`cargo run --release -p fermata-testsuite -- {}` on {}: {}; {:?}{more}.\n",
        words.join(" "),
        date(days),
        fermata::machine(),
        detect::features(),
    )
}

/// The date of a day since 1970 in the Gregorian calendar (Hinnant's `civil_from_days`).
fn date(days: u64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_782), "2026-11-25");
    }

    #[test]
    fn only_the_section_is_replaced() {
        let text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n";
        assert_eq!(replaced(text, "x", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(text, "y", "new\n"), None);
    }
}
