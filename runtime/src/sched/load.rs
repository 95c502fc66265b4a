//! Load: when requests arrive. Open-loop and decided by a seed, so that a slow answer never thins
//! the requests behind it out.

/// How the times between requests are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// All equal.
    Constant,
    /// Exponential: arrivals are a Poisson process.
    Poisson,
}

/// The times of all requests of a run in nanoseconds from its start, in order.
///
/// `rate` is requests a second; without a positive one there are none.
pub fn arrivals(rate: f64, distribution: Distribution, duration_ns: u64, seed: u64) -> Vec<u64> {
    if rate.is_nan() || rate <= 0.0 {
        return Vec::new();
    }
    let mean = 1e9 / rate;
    let mut random = Random::new(seed);
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        at += match distribution {
            Distribution::Constant => mean,
            Distribution::Poisson => -mean * (1.0 - random.unit()).ln(),
        };
        if at >= duration_ns as f64 || times.len() >= MAX_REQUESTS {
            return times;
        }
        times.push(at as u64);
    }
}

/// The most requests of a run.
const MAX_REQUESTS: usize = 10_000_000;

/// A sequence of pseudo-random numbers (xorshift64*; Vigna, 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        assert_eq!(
            arrivals(1000.0, Distribution::Constant, 5_000_001, 1),
            [1, 2, 3, 4, 5].map(|i| i * 1_000_000)
        );
        assert!(arrivals(0.0, Distribution::Constant, 1_000_000_000, 1).is_empty());
        assert!(arrivals(f64::NAN, Distribution::Poisson, 1_000_000_000, 1).is_empty());
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_seed_decides_them() {
        let times = arrivals(1000.0, Distribution::Poisson, 10_000_000_000, 7);
        assert!(times.is_sorted() && (9_500..10_500).contains(&times.len()), "{}", times.len());
        assert_eq!(times, arrivals(1000.0, Distribution::Poisson, 10_000_000_000, 7));
        assert_ne!(times, arrivals(1000.0, Distribution::Poisson, 10_000_000_000, 8));
    }
}
