//! What `versus` measured, as tables in Markdown.

use std::fmt::Write as _;

use super::Runtime;

/// What was measured of a runtime on a model.
#[derive(Clone, Default)]
pub(super) struct Measured {
    /// The fastest run of each turn, in ns.
    pub(super) turns: Vec<u64>,
    /// The shortest time to be ready, in ns.
    ready: Option<u64>,
    /// The lowest peak of memory, in bytes, and what of it is not there without a model.
    peak: Option<u64>,
    own: Option<u64>,
}

/// A model on so many threads.
pub(super) struct Row {
    pub(super) model: String,
    pub(super) threads: usize,
    /// One a runtime, ours first.
    pub(super) measured: Vec<Measured>,
    /// How the results compare, or what is wrong with them.
    pub(super) results: Result<String, String>,
}

/// The lower of two, where there are two.
fn lower(a: Option<u64>, b: u64) -> Option<u64> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl Measured {
    /// Takes what a process told: machines only ever add to it, so the lowest counts.
    pub(super) fn take(&mut self, ready: u64, base: u64, peak: u64) {
        self.ready = lower(self.ready, ready);
        self.peak = lower(self.peak, peak);
        self.own = lower(self.own, peak.saturating_sub(base));
    }

    fn fastest(&self) -> f64 {
        self.turns.iter().min().map_or(f64::NAN, |&t| t as f64)
    }

    /// How many times another's time we take: the median over the rounds.
    fn ratio(&self, other: &Measured) -> f64 {
        let mut ratios: Vec<f64> =
            self.turns.iter().zip(&other.turns).map(|(&a, &b)| a as f64 / b as f64).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        match ratios.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => ratios[middle],
            _ => (ratios[middle - 1] + ratios[middle]) / 2.0,
        }
    }
}

/// The geometric mean.
fn mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = ratios.map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

fn ms(ns: f64) -> String {
    match ns / 1e6 {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

fn mb(bytes: Option<u64>) -> String {
    bytes.map_or("?".into(), |bytes| format!("{:.0}", bytes as f64 / 1e6))
}

/// A row in one line, for whoever waits.
pub(super) fn line(row: &Row, runtimes: &[Runtime]) -> String {
    let mut text = format!("{}, {} thread(s):", row.model, row.threads);
    for (runtime, measured) in runtimes.iter().zip(&row.measured) {
        let _ = write!(text, " {} {} ms", runtime.title, ms(measured.fastest()));
    }
    if let Err(what) = &row.results {
        let _ = write!(text, "; FAILED {what}");
    }
    text
}

/// A table in Markdown.
fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_string(); header.len()];
    let mut text = line(header) + &line(&rule);
    for row in rows {
        text += &line(row);
    }
    text
}

/// All tables: the times for each number of threads, and what making ready costs.
pub(super) fn tables(rows: &[Row], threads: &[usize], runtimes: &[Runtime]) -> String {
    let mut text = String::new();
    for &threads in threads {
        let here: Vec<&Row> = rows.iter().filter(|r| r.threads == threads).collect();
        let plural = if threads == 1 { "" } else { "s" };
        let _ = writeln!(text, "Milliseconds a run, {threads} thread{plural}\n\n{}", times(&here, runtimes));
    }
    let first: Vec<&Row> = rows.iter().filter(|r| threads.first() == Some(&r.threads)).collect();
    let _ = writeln!(text, "Milliseconds until a run is possible\n\n{}", ready(&first, runtimes));
    let _ = write!(
        text,
        "Megabytes at the peak (of these, since the model was opened)\n\n{}",
        memory(&first, runtimes)
    );
    text
}

/// The times of rows and their ratios.
pub(super) fn times(rows: &[&Row], runtimes: &[Runtime]) -> String {
    let peers = 1..runtimes.len();
    let mut header = vec!["model".into(), runtimes[0].title.into()];
    header.extend(runtimes[1..].iter().flat_map(|r| [r.title.to_string(), "ratio".into()]));
    header.push("results".into());
    let line = |row: &&Row| {
        let mut cells = vec![row.model.clone(), ms(row.measured[0].fastest())];
        for peer in peers.clone() {
            let theirs = &row.measured[peer];
            cells.extend([ms(theirs.fastest()), format!("{:.2}", row.measured[0].ratio(theirs))]);
        }
        cells.push(row.results.clone().unwrap_or_else(|_| "differ".into()));
        cells
    };
    let mut lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    let mut last = vec!["geometric mean".into(), String::new()];
    for peer in peers {
        let all = mean(rows.iter().map(|r| r.measured[0].ratio(&r.measured[peer])));
        last.extend([String::new(), format!("**{all:.2}**")]);
    }
    last.push(String::new());
    lines.push(last);
    table(&header, &lines)
}

/// The times until a run is possible.
pub(super) fn ready(rows: &[&Row], runtimes: &[Runtime]) -> String {
    let mut header = vec!["model".to_string()];
    header.extend(runtimes.iter().map(|r| r.title.to_string()));
    let line = |row: &&Row| {
        let times = row.measured.iter().map(|m| ms(m.ready.map_or(f64::NAN, |t| t as f64)));
        std::iter::once(row.model.clone()).chain(times).collect()
    };
    table(&header, &rows.iter().map(line).collect::<Vec<_>>())
}

/// The peaks of memory.
pub(super) fn memory(rows: &[&Row], runtimes: &[Runtime]) -> String {
    let mut header = vec!["model".to_string()];
    header.extend(runtimes.iter().map(|r| r.title.to_string()));
    let line = |row: &&Row| {
        let peaks = row.measured.iter().map(|m| format!("{} ({})", mb(m.peak), mb(m.own)));
        std::iter::once(row.model.clone()).chain(peaks).collect()
    };
    let mut lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    let mut last = vec!["geometric mean of our share".to_string(), String::new()];
    let share = |of: fn(&Measured) -> Option<u64>, peer: usize| {
        mean(rows.iter().filter_map(|r| Some(of(&r.measured[0])? as f64 / of(&r.measured[peer])? as f64)))
    };
    for peer in 1..runtimes.len() {
        last.push(format!("**{:.2}** ({:.2})", share(|m| m.peak, peer), share(|m| m.own, peer)));
    }
    lines.push(last);
    table(&header, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(turns: &[u64]) -> Measured {
        Measured { turns: turns.to_vec(), ..Measured::default() }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        assert_eq!(turns(&[10, 90, 20]).ratio(&turns(&[10, 10, 10])), 2.0);
        assert_eq!(turns(&[10, 30]).ratio(&turns(&[10, 10])), 2.0);
        assert!(turns(&[]).ratio(&turns(&[])).is_nan());
    }

    #[test]
    fn the_lowest_of_what_processes_told_counts() {
        let mut measured = Measured::default();
        measured.take(5, 10, 100);
        measured.take(7, 20, 90);
        assert_eq!((measured.ready, measured.peak, measured.own), (Some(5), Some(90), Some(70)));
    }

    #[test]
    fn means_are_geometric() {
        assert!((mean([1.0, 4.0].into_iter()) - 2.0).abs() < 1e-12);
    }
}
