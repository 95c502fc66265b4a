//! Preemptions of a model on worker threads, by another thread at random times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fermata_runtime::device::cpu::{Control, Pool, Progress};
use fermata_testsuite::generate::Rng;
use fermata_testsuite::preempt::models::Compiled;

/// The longest wait between two preemptions, in microseconds.
const LONGEST_WAIT: usize = 100;

/// Looks at the counters after which whoever looks lets others have the core.
const LOOKS: u64 = 50;

/// Where launches stood when they were stopped.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stops {
    /// Before the first tile.
    pub(super) before: u64,
    /// In the middle, by tenths of the tiles that were done.
    pub(super) tenths: [u64; 10],
    /// After the last tile.
    pub(super) after: u64,
}

impl Stops {
    fn add(&mut self, at: Progress) {
        let done = at.counters.done;
        match done {
            0 => self.before += 1,
            _ if done == at.tiles => self.after += 1,
            _ => self.tenths[(done * 10 / at.tiles) as usize] += 1,
        }
    }

    /// All stops.
    pub(super) fn all(&self) -> u64 {
        self.before + self.tenths.iter().sum::<u64>() + self.after
    }

    /// The share of those in the middle.
    pub(super) fn inside_share(&self) -> f64 {
        self.tenths.iter().sum::<u64>() as f64 / self.all().max(1) as f64
    }
}

/// What came of it.
pub(super) struct Preempted {
    /// Where launches stood.
    pub(super) stops: Stops,
    /// Runs of the model meanwhile.
    pub(super) runs: u64,
    /// Runs whose results were not the bits of an undisturbed one.
    pub(super) wrong: u64,
}

/// Runs a model on a pool until it was preempted so many times.
///
/// # Errors
/// What the runtime says.
pub(super) fn preempt(
    compiled: &Compiled,
    workers: usize,
    preemptions: u64,
    seed: u64,
) -> Result<Preempted, String> {
    let expected = compiled.undisturbed()?;
    let pool = Pool::new(workers, false);
    let control = pool.control();
    let mut session = compiled.on(Box::new(pool))?;
    let over = AtomicBool::new(false);
    let (mut runs, mut wrong) = (0, 0);
    std::thread::scope(|scope| {
        let preempting = scope.spawn(|| {
            let stops = stop_at_random(&control, workers, preemptions, Rng::new(seed), &over);
            over.store(true, Ordering::Relaxed);
            stops
        });
        let mut failure = None;
        while failure.is_none() && !over.load(Ordering::Relaxed) {
            match session.run(&compiled.inputs) {
                Ok(found) => {
                    let same = found.iter().zip(&expected).all(|(a, b)| a.bitwise_eq(b));
                    wrong += u64::from(!same);
                    runs += 1;
                }
                Err(error) => failure = Some(error.message.to_string()),
            }
        }
        over.store(true, Ordering::Relaxed);
        let stops = preempting.join().map_err(|_| "the thread that preempts panicked".to_string())?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Preempted { stops, runs, wrong }),
        }
    })
}

/// Stops launches at random times in their middle, and lets them go on, some under a smaller quota.
fn stop_at_random(
    control: &Control,
    workers: usize,
    preemptions: u64,
    mut rng: Rng,
    over: &AtomicBool,
) -> Stops {
    let mut stops = Stops::default();
    let mut last = None;
    while stops.all() < preemptions && !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(rng.below(LONGEST_WAIT) as u64));
        if !wait_until_inside(control, last, over) {
            break;
        }
        if let Some(at) = control.stop() {
            stops.add(at);
            last = Some(at);
        }
        let some = 1 + rng.below(workers) as u32;
        control.set_quota(if rng.chance(1, 4) { some } else { u32::MAX });
    }
    control.set_quota(u32::MAX);
    stops
}

/// Waits until a launch has some tiles done and some left to claim, and workers have claimed more
/// of it since it was last stopped; false if there will be none.
fn wait_until_inside(control: &Control, last: Option<Progress>, over: &AtomicBool) -> bool {
    // A launch that goes on after a stop is the next one, with the counters that it had.
    let stands = |at: Progress| {
        last.is_some_and(|last| at.number <= last.number + 1 && at.counters.next <= last.counters.next)
    };
    for look in 1u64.. {
        if over.load(Ordering::Relaxed) {
            return false;
        }
        if let Some(at) = control.progress()
            && at.counters.done > 0
            && at.counters.next < at.tiles
            && !stands(at)
        {
            return true;
        }
        match look % LOOKS {
            0 => std::thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
    false
}
