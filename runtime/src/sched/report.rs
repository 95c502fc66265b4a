//! What a co-located run showed.

/// Nanoseconds of many events, in no order.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<u64>);

impl Samples {
    /// The mean; 0 of no events.
    pub fn mean(&self) -> f64 {
        let count = self.0.len().max(1) as f64;
        self.0.iter().fold(0.0, |sum, &ns| sum + ns as f64) / count
    }

    /// The smallest event that at least so many percent of them do not exceed; 0 of no events.
    pub fn percentile(&self, percent: f64) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        // A hair less, so that 99.9 % of 1000 is 999 whatever the product rounds to.
        let rank = (percent * sorted.len() as f64 / 100.0 - 1e-9).ceil().max(1.0) as usize;
        sorted.get(rank.min(sorted.len()).saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// What became of a best-effort queue.
#[derive(Clone, Debug)]
pub struct BestEffort {
    /// The model.
    pub name: String,
    /// Runs that were completed in the time.
    pub completed: u64,
    /// Tiles that were run in the time, in runs: what a run has of them counts as one.
    pub runs: f64,
    /// Runs with other results than an undisturbed one.
    pub wrong: u64,
    /// Why it ended early.
    pub failure: Option<String>,
}

/// Where a queue was when a request preempted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Between two kernels, or before the first tile of one.
    pub before: u64,
    /// By quarters of the tiles that had ended.
    pub inside: [u64; 4],
}

impl Depths {
    /// Counts a preemption after `done` of `tiles`.
    pub fn add(&mut self, done: u64, tiles: u64) {
        match done {
            0 => self.before += 1,
            done if done >= tiles => self.before += 1,
            done => self.inside[(done * 4 / tiles) as usize] += 1,
        }
    }

    /// The share of preemptions in the middle of a kernel.
    pub fn inside_share(&self) -> f64 {
        let inside: u64 = self.inside.iter().sum();
        inside as f64 / (inside + self.before).max(1) as f64
    }
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From a request's scheduled arrival to its last result.
    pub latency: Samples,
    /// From a request's scheduled arrival to its first tile.
    pub first_tile: Samples,
    /// From the word being written to the last best-effort worker out, where one was in a tile.
    pub preemption: Samples,
    /// How far preempted kernels were.
    pub depths: Depths,
    /// Nanoseconds in which a request was being served.
    pub busy_ns: u64,
    /// Requests with other results than an undisturbed run.
    pub wrong: u64,
    /// Why the real-time queue ended early.
    pub failure: Option<String>,
    /// The best-effort queues.
    pub best_effort: Vec<BestEffort>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_events() {
        let samples = Samples((1..=1000).rev().collect());
        assert_eq!([50.0, 99.0, 99.9, 100.0].map(|p| samples.percentile(p)), [500, 990, 999, 1000]);
        assert_eq!((samples.percentile(0.0), samples.mean()), (1, 500.5));
        assert_eq!((Samples::default().percentile(99.0), Samples::default().mean()), (0, 0.0));
    }

    #[test]
    fn depths_count_quarters() {
        let mut depths = Depths::default();
        [(0, 8), (1, 8), (3, 8), (7, 8), (8, 8)]
            .into_iter()
            .for_each(|(done, tiles)| depths.add(done, tiles));
        assert_eq!(depths, Depths { before: 2, inside: [1, 1, 0, 1] });
        assert_eq!(depths.inside_share(), 0.6);
    }
}
