//! Small kernels of which every interleaving is tried.

use fermata_ir::tir::protocol::{LOOK_AHEAD_LOOP, WorkerLoop};
use fermata_runtime::device::simulated::model::{Feed, Model, Protocol, Stream};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What a test has time for.
    Quick,
    /// What a machine tries in seconds.
    Full,
}

/// Launches whose interleavings are tried.
#[derive(Clone, Debug)]
pub struct Small {
    /// How launches come to workers, and how these go about it.
    pub title: &'static str,
    /// The tiles of the launches.
    pub tiles: Vec<usize>,
    /// The rest.
    pub model: Model,
}

/// A ring of the fewest records that it may have.
pub(super) const RING: Feed = Feed::Published { records: 2 };

/// The kernels: each way of feeding and each loop.
pub fn kernels(size: Size) -> Vec<Small> {
    let mut found = Vec::new();
    let look_ahead = LOOK_AHEAD_LOOP;
    for (title, feed, worker) in [
        ("queued in a stream", Feed::Queued, None),
        ("queued in a stream, claiming ahead", Feed::Queued, Some(&look_ahead)),
        ("published in a ring", RING, None),
        ("published in a ring, claiming ahead", RING, Some(&look_ahead)),
    ] {
        for &(workers, tiles, flips) in shapes(size) {
            found.push(small(title, workers, Stream::chain(tiles), feed, worker, flips));
        }
        found.push(small(title, 2, Stream::in_place(3, 0), feed, worker, 2));
    }
    found
}

/// Workers, tiles of each launch, and flips.
fn shapes(size: Size) -> &'static [(usize, &'static [usize], u8)] {
    match size {
        Size::Quick => &[(1, &[2, 2], 3), (2, &[3], 2), (2, &[2, 2], 2), (3, &[2, 1], 1)],
        Size::Full => &[
            (1, &[3, 3, 3], 4),
            (2, &[4], 3),
            (2, &[3, 3], 3),
            (2, &[2, 2, 2], 3),
            (3, &[3], 2),
            (3, &[2, 2], 2),
            (3, &[3, 2], 2),
        ],
    }
}

fn small(
    title: &'static str,
    workers: usize,
    stream: Stream,
    feed: Feed,
    worker: Option<&WorkerLoop>,
    flips: u8,
) -> Small {
    let mut protocol = Protocol::new(feed);
    if let Some(worker) = worker {
        protocol.worker = worker.clone();
    }
    Small { title, tiles: stream.tiles(), model: Model { workers, stream, protocol, flips } }
}
