//! The search itself: it meets every interleaving, and sees what is wrong.

use fermata_ir::tir::protocol::LOOK_AHEAD_LOOP;

use super::super::model::{Feed, Protocol, Stream};
use super::*;

fn model(workers: usize, tiles: &[usize], feed: Feed, flips: u8) -> Model {
    Model { workers, stream: Stream::chain(tiles), protocol: Protocol::new(feed), flips }
}

/// Interleavings counted one by one, without memory of states.
fn count(run: &Run<'_>, state: State) -> u128 {
    let mut moves = run.moves(&state);
    moves.extend(run.flips(&state));
    let after = moves.into_iter().map(|step| {
        let mut next = state;
        run.apply(&mut next, step).expect("all is well");
        if run.is_over(&next) { 1 } else { count(run, next) }
    });
    after.sum()
}

#[test]
fn interleavings_are_counted_as_if_one_by_one() {
    for (workers, tiles, feed, flips) in [
        (1, &[2][..], Feed::Queued, 1),
        (2, &[1], Feed::Queued, 1),
        (1, &[1, 1], Feed::Queued, 2),
        (2, &[1, 1], Feed::Published { records: 2 }, 0),
        (1, &[2], Feed::Published { records: 2 }, 2),
    ] {
        let model = model(workers, tiles, feed, flips);
        let run = Run::new(&model);
        let explored = explore(&model).expect("the protocol is sound");
        assert_eq!(explored.interleavings, count(&run, run.start()), "{workers} workers, {tiles:?}");
        assert!(explored.states <= explored.moves);
    }
}

#[test]
fn one_worker_without_flips_has_one_way() {
    let explored = explore(&model(1, &[3], Feed::Queued, 0)).expect("the protocol is sound");
    // Check, claim, begin, end and count of each tile.
    assert_eq!((explored.moves, explored.interleavings), (15, 1));
}

#[test]
fn parked_tiles_are_taken_first_and_once() {
    let mut model = model(2, &[2, 1], Feed::Queued, 2);
    model.protocol.worker = LOOK_AHEAD_LOOP;
    explore(&model).expect("the protocol is sound");
}
