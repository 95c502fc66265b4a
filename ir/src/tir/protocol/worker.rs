//! The loop of a worker, step by step: what the pseudocode of [`super`] says, as data.
//!
//! Whoever runs tiles takes [`Worker::step`] on memory of its own kind: atomics that threads
//! share, or the state of a simulation that tries every interleaving.

use super::Word;

/// One step of a worker's loop. Each touches shared memory once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerStep {
    /// Reads the word, and leaves if it does not admit the worker. A worker that holds a tile
    /// leaves only if the epoch is another: a smaller quota lets it finish what it holds.
    Check,
    /// Claims the next tile, unless the worker holds one, and leaves if there is none.
    Claim,
    /// Runs the tile to its end.
    Run,
    /// Counts the tile as finished.
    Count,
}

/// The loop of a worker: its steps, over and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLoop {
    /// The steps of a turn.
    pub steps: &'static [WorkerStep],
    /// Whether a worker that leaves with a tile in its hands parks it in its slot. Whoever
    /// resumes the launch gives the slot a worker that holds the tile, under a quota that
    /// admits the slot.
    pub parks: bool,
}

/// The loop of the protocol: nothing is claimed that does not run at once.
pub const WORKER_LOOP: WorkerLoop = WorkerLoop {
    steps: &[WorkerStep::Check, WorkerStep::Claim, WorkerStep::Run, WorkerStep::Count],
    parks: false,
};

/// The loop of a worker that claims early, to hide what a claim takes, and looks at the word
/// once more before it starts the tile.
pub const LOOK_AHEAD_LOOP: WorkerLoop = WorkerLoop {
    steps: &[WorkerStep::Check, WorkerStep::Claim, WorkerStep::Check, WorkerStep::Run, WorkerStep::Count],
    parks: true,
};

/// What a worker shares with others: the word of its queue and the counters of its launch.
pub trait LaunchMemory {
    /// Reads the word; one relaxed read that is never hoisted.
    fn word(&mut self) -> Word;

    /// The epoch of the launch.
    fn epoch(&self) -> u32;

    /// The tiles of the launch.
    fn tiles(&self) -> u64;

    /// Adds one to `next` and gives what it was.
    fn claim(&mut self) -> u64;

    /// Adds one to `done`, after everything that the tile wrote, and gives what it is now.
    fn count(&mut self) -> u64;
}

/// Why a worker left a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// It ran the last tile to end: the launch is over.
    Finished,
    /// All tiles are claimed.
    Exhausted,
    /// The word does not admit it.
    Stopped,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The worker goes on to its next step.
    Went,
    /// Its tile is to be run to its end before the next step.
    Run(u64),
    /// It leaves; [`Worker::parked`] says what it leaves in its slot.
    Left(Left),
}

/// A worker on its way through its loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    slot: u32,
    at: u8,
    finished: bool,
    tile: Option<u64>,
}

impl Worker {
    /// A worker before its first step, with the tile that was parked in its slot.
    pub fn new(slot: u32, parked: Option<u64>) -> Worker {
        Worker { slot, at: 0, finished: false, tile: parked }
    }

    /// The tile that it holds when it leaves a launch, if it parks.
    pub fn parked(&self, shape: &WorkerLoop) -> Option<u64> {
        self.tile.filter(|_| shape.parks)
    }

    /// Takes the next step.
    #[inline(always)]
    pub fn step(&mut self, shape: &WorkerLoop, memory: &mut impl LaunchMemory) -> Turn {
        let step = shape.steps[usize::from(self.at)];
        self.at += 1;
        match step {
            WorkerStep::Check => {
                let word = memory.word();
                let stays = match self.tile {
                    Some(_) => word.epoch == memory.epoch(),
                    None => word.admits(memory.epoch(), self.slot),
                };
                if !stays {
                    return Turn::Left(Left::Stopped);
                }
            }
            WorkerStep::Claim if self.tile.is_none() => {
                let tile = memory.claim();
                if tile >= memory.tiles() {
                    return Turn::Left(Left::Exhausted);
                }
                self.tile = Some(tile);
            }
            WorkerStep::Claim => {}
            WorkerStep::Run => {
                if let Some(tile) = self.tile {
                    self.turn_over(shape);
                    return Turn::Run(tile);
                }
            }
            WorkerStep::Count => self.finished = memory.count() == memory.tiles(),
        }
        match self.turn_over(shape) && self.finished {
            true => Turn::Left(Left::Finished),
            false => Turn::Went,
        }
    }

    /// Begins the next turn after the last step of one, with empty hands; whether it did.
    #[inline(always)]
    fn turn_over(&mut self, shape: &WorkerLoop) -> bool {
        let over = usize::from(self.at) == shape.steps.len();
        if over {
            self.at = 0;
            self.tile = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A launch of three tiles whose word is what the test says.
    struct Memory {
        word: Word,
        next: u64,
        done: u64,
    }

    impl LaunchMemory for Memory {
        fn word(&mut self) -> Word {
            self.word
        }

        fn epoch(&self) -> u32 {
            1
        }

        fn tiles(&self) -> u64 {
            3
        }

        fn claim(&mut self) -> u64 {
            self.next += 1;
            self.next - 1
        }

        fn count(&mut self) -> u64 {
            self.done += 1;
            self.done
        }
    }

    fn memory() -> Memory {
        Memory { word: Word { epoch: 1, quota: 1 }, next: 0, done: 0 }
    }

    /// Steps until something comes of it.
    fn until_event(worker: &mut Worker, shape: &WorkerLoop, memory: &mut Memory) -> Turn {
        let mut turns = std::iter::from_fn(|| Some(worker.step(shape, memory)));
        turns.find(|turn| *turn != Turn::Went).expect("a loop comes to an event")
    }

    #[test]
    fn a_worker_runs_all_tiles_and_counts_them() {
        let (mut memory, mut worker) = (memory(), Worker::new(0, None));
        for tile in 0..3 {
            assert_eq!(until_event(&mut worker, &WORKER_LOOP, &mut memory), Turn::Run(tile));
        }
        assert_eq!(until_event(&mut worker, &WORKER_LOOP, &mut memory), Turn::Left(Left::Finished));
        assert_eq!((memory.next, memory.done), (3, 3));
        let mut late = Worker::new(0, None);
        assert_eq!(until_event(&mut late, &WORKER_LOOP, &mut memory), Turn::Left(Left::Exhausted));
    }

    #[test]
    fn what_was_claimed_early_is_parked_and_comes_first() {
        let (mut memory, mut worker) = (memory(), Worker::new(0, None));
        assert_eq!(worker.step(&LOOK_AHEAD_LOOP, &mut memory), Turn::Went);
        assert_eq!(worker.step(&LOOK_AHEAD_LOOP, &mut memory), Turn::Went);
        memory.word = Word { epoch: 2, quota: 0 };
        assert_eq!(worker.step(&LOOK_AHEAD_LOOP, &mut memory), Turn::Left(Left::Stopped));
        assert_eq!((worker.parked(&LOOK_AHEAD_LOOP), memory.next), (Some(0), 1));
        memory.word = Word { epoch: 1, quota: 1 };
        let mut again = Worker::new(0, Some(0));
        assert_eq!(until_event(&mut again, &LOOK_AHEAD_LOOP, &mut memory), Turn::Run(0));
        assert_eq!(until_event(&mut again, &LOOK_AHEAD_LOOP, &mut memory), Turn::Run(1));
    }

    #[test]
    fn a_smaller_quota_lets_a_worker_finish_what_it_holds() {
        let (mut memory, mut worker) = (memory(), Worker::new(0, None));
        worker.step(&LOOK_AHEAD_LOOP, &mut memory);
        worker.step(&LOOK_AHEAD_LOOP, &mut memory);
        memory.word = Word { epoch: 1, quota: 0 };
        assert_eq!(until_event(&mut worker, &LOOK_AHEAD_LOOP, &mut memory), Turn::Run(0));
        assert_eq!(until_event(&mut worker, &LOOK_AHEAD_LOOP, &mut memory), Turn::Left(Left::Stopped));
        assert_eq!((worker.parked(&LOOK_AHEAD_LOOP), memory.done), (None, 1));
    }
}
