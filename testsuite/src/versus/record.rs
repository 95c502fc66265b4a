//! The sections of BENCHMARKS.md that `versus --update` writes.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use fermata_runtime::detect;

use super::{Args, Peer};

/// Where a section begins and ends.
struct Marks {
    begin: &'static str,
    end: &'static str,
}

const MODELS: Marks = Marks { begin: "<!-- versus: begin -->\n", end: "<!-- versus: end -->\n" };
const INT8: Marks = Marks { begin: "<!-- versus-int8: begin -->\n", end: "<!-- versus-int8: end -->\n" };

/// Writes the tables into BENCHMARKS.md, with what made them.
pub(super) fn update(args: &Args, tables: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
    let text = std::fs::read_to_string(&path)?;
    let marks = if args.int8 { &INT8 } else { &MODELS };
    let replaced = replaced(&text, marks, &format!("{}\n{tables}", heading(args)))
        .ok_or_else(|| io::Error::other("BENCHMARKS.md has no section for this command"))?;
    std::fs::write(path, replaced)
}

/// The text with another section.
fn replaced(text: &str, Marks { begin, end }: &Marks, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{section}{end}{after}"))
}

/// The command, the day and the machine.
fn heading(args: &Args) -> String {
    let packages: Vec<&str> = args.peers.iter().map(|&p| Peer::package(p)).collect();
    let days = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "`cargo run --release -p fermata-testsuite -- {}` on {}: {}; {:?}; against {}.\n",
        words.join(" "),
        date(days),
        fermata::machine(),
        detect::features(),
        packages.join(", "),
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
        let Marks { begin, end } = MODELS;
        let text = format!("a\n{begin}old\n{end}b\n");
        assert_eq!(replaced(&text, &MODELS, "new\n"), Some(format!("a\n{begin}new\n{end}b\n")));
        assert_eq!(replaced(&text, &INT8, "new\n"), None);
    }
}
