//! What the explorer explores: a few small kernels, and the protocol by which they run.

use std::fmt;

use fermata_ir::tir::protocol::{WORKER_LOOP, WorkerLoop};

/// The most workers of a model.
pub const MAX_WORKERS: usize = 3;

/// The most launches.
pub const MAX_LAUNCHES: usize = 3;

/// The most tiles of a launch.
pub const MAX_TILES: usize = 4;

/// The most segments of memory.
pub const MAX_SEGMENTS: usize = 12;

/// What a tile touches: sets of segments, bit `s` for segment `s`. It reads first, and writes
/// when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TileAccess {
    /// What it reads.
    pub reads: u16,
    /// What it writes.
    pub writes: u16,
}

/// Launches that follow each other, each with what its tiles touch.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The launches: their tiles.
    pub launches: Vec<Vec<TileAccess>>,
}

impl Stream {
    /// Launches with so many tiles. Each writes a buffer of its own, a segment a tile, and every
    /// tile reads all that the launch before wrote.
    pub fn chain(tiles: &[usize]) -> Stream {
        let mut read = 0u16;
        let mut first = 0;
        let mut launches = Vec::new();
        for &n in tiles {
            let tile = |t: usize| TileAccess { reads: read, writes: 1 << (first + t) };
            launches.push((0..n).map(tile).collect());
            read = ((1 << n) - 1) << first;
            first += n;
        }
        Stream { launches }
    }

    /// Two launches on one buffer of so many segments: the second writes over what the first
    /// wrote. Its tile `t` reads the segment `t + off`, so it may do so only with `off` 0.
    pub fn in_place(tiles: usize, off: usize) -> Stream {
        let first = (0..tiles).map(|t| TileAccess { reads: 0, writes: 1 << t });
        let second = (0..tiles).map(|t| TileAccess { reads: 1 << ((t + off) % tiles), writes: 1 << t });
        Stream { launches: vec![first.collect(), second.collect()] }
    }

    /// The tiles of each launch.
    pub fn tiles(&self) -> Vec<usize> {
        self.launches.iter().map(Vec::len).collect()
    }
}

/// How launches come to the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// All are queued at once under one epoch, as in a stream of a GPU: a launch begins when the
    /// workers of the one before have left, whatever they left undone.
    Queued,
    /// A launch is published when the one before is finished, as on the pool: in the next record
    /// of a ring, which is used again once nobody is in it.
    Published {
        /// Records of the ring.
        records: u8,
    },
}

/// What a broken variant of the protocol does. The checks build these to see them caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The checkpoint looks at the quota only.
    IgnoresEpoch,
    /// The quota goes to 0 and comes back under one epoch, with launches queued behind.
    KeepsEpochAtZero,
    /// The next launch begins when all tiles are claimed.
    StartsAtClaimed,
    /// A record is used again while an old worker is in it.
    ReusesRecord,
    /// A tile that was parked stays in the slot when it is taken.
    KeepsParked,
    /// A worker whose quota comes back does not look again.
    StaysAway,
}

/// How workers and whoever launches go about it.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The loop of each worker.
    pub worker: WorkerLoop,
    /// How launches come to them.
    pub feed: Feed,
    /// What is broken.
    pub fault: Option<Fault>,
}

impl Protocol {
    /// The protocol as it is.
    pub fn new(feed: Feed) -> Protocol {
        Protocol { worker: WORKER_LOOP, feed, fault: None }
    }

    /// Whether it has a fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// Workers, launches and the protocol by which they run.
#[derive(Clone, Debug)]
pub struct Model {
    /// Number of workers.
    pub workers: usize,
    /// The launches.
    pub stream: Stream,
    /// The protocol.
    pub protocol: Protocol,
    /// How often the word is written besides what resumption needs.
    pub flips: u8,
}

/// What is demanded of every interleaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// No tile runs twice.
    ExactlyOnce,
    /// No tile reads or writes what another tile of the same launch writes.
    Overlap,
    /// A tile finds in memory what it would find in an undisturbed run.
    Stale,
    /// Once `done` is the number of tiles, all of them have ended.
    Done,
    /// Launches come to an end whenever the word lets them.
    Progress,
    /// The bits are those of an undisturbed run.
    Result,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::ExactlyOnce => "exactly once",
            Check::Overlap => "shadow memory: overlap",
            Check::Stale => "shadow memory: stale",
            Check::Done => "done means done",
            Check::Progress => "progress",
            Check::Result => "result",
        })
    }
}

/// A check that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// Who did what.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.message)
    }
}

/// A violation, with a message about a tile.
pub(super) fn violation(check: Check, message: String) -> Violation {
    Violation { check, message }
}
