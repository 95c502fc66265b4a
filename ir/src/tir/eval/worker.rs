//! Preemptible launches of GPU blocks: the loop of [`protocol`](crate::tir::protocol) around tiles.
//!
//! Blocks run one after the other, each from its first decision until it leaves. The threads
//! of a block go through the steps of the loop from barrier to barrier, as they go through a
//! tile, and the slots of the loop are watched for races as shared buffers are.

use super::Program;
use super::calls::by_warp;
use super::run::Stop;
use super::threads::{Block, Describe, Shadow, Thread, common_call, meet};
use crate::diag::Diagnostic;
use crate::tensor::Tensor;
use crate::tir::intrin::WARP;
use crate::tir::protocol::{BlockLoop, BlockStep, Word};

/// A launch: its counters outlast the blocks that work on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// The epoch that it was launched in.
    pub epoch: u32,
    /// The next tile to be claimed.
    pub next: u64,
    /// Tiles that are finished.
    pub done: u64,
}

/// Has one block a slot, for as long as `word` lets it work on the launch. `word` gives the
/// control word at every read. Outputs hold what was computed so far, so that a launch can be
/// taken on later with the same arguments.
///
/// # Errors
/// As [`super::run`]; if threads race, or leave the block at different times.
pub fn run_persistent(
    program: &Program,
    args: &mut [Tensor],
    launch: &mut Launch,
    slot: u32,
    shape: &BlockLoop,
    word: &mut dyn FnMut() -> Word,
) -> Result<(), Diagnostic> {
    let mut memory = program.memory(args)?;
    let mut shadow = Shadow::new(program);
    let slots_id = shadow.add(shape.slots);
    let slots = vec![None; shape.slots];
    let mut worker =
        Worker { program, launch, slot, shape, word, memory: &mut memory, shadow, slots, slots_id };
    let mut block = Block::new(program);
    let mut places =
        vec![
            Place { step: 0, turn: 0, tile: None, ran: false, gone: false, inside: None, call: None };
            block.threads.len()
        ];
    loop {
        let warps = block.threads.chunks_mut(WARP).zip(places.chunks_mut(WARP));
        for (i, (warp, places)) in warps.enumerate() {
            worker.warp(warp, places, i * WARP)?;
        }
        worker.shadow.barrier();
        meet(program, &places)?;
        if places[0].gone {
            break;
        }
    }
    program.take_outputs(args, &memory)
}

/// Where a thread is in the loop.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next step: those before the first turn, then those of a turn, over and over.
    step: usize,
    turn: usize,
    /// The tile that it took.
    tile: Option<u64>,
    /// Whether a tile was run that is not counted yet.
    ran: bool,
    gone: bool,
    /// The barrier inside the tile where it waits.
    inside: Option<usize>,
    /// The call inside the tile that it waits to make with its warp.
    call: Option<usize>,
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        (self.gone, self.step, self.inside, self.call) == (other.gone, other.step, other.inside, other.call)
    }
}

impl Describe for Place {
    fn describe(&self) -> String {
        match (self.gone, self.inside) {
            (true, _) => "has left".into(),
            (false, _) if self.call.is_some() => "waits for its warp".into(),
            (false, Some(at)) => format!("waits at the barrier at {at} of its tile"),
            (false, None) => "waits at the barrier between tiles".into(),
        }
    }
}

struct Worker<'a, 'w> {
    program: &'a Program,
    launch: &'w mut Launch,
    slot: u32,
    shape: &'w BlockLoop,
    word: &'w mut dyn FnMut() -> Word,
    memory: &'w mut [Vec<u64>],
    shadow: Shadow,
    /// What was decided: the tile to run, or that the block leaves.
    slots: Vec<Option<u64>>,
    slots_id: u32,
}

impl Worker<'_, '_> {
    /// Takes the threads of a warp, the first of which has the number `first`, to their next
    /// barriers, or out, with the calls that they make together on the way.
    fn warp(
        &mut self,
        warp: &mut [Thread<'_>],
        places: &mut [Place],
        first: usize,
    ) -> Result<(), Diagnostic> {
        loop {
            for (i, (thread, place)) in warp.iter_mut().zip(places.iter_mut()).enumerate() {
                self.shadow.thread = (first + i) as u32;
                self.advance(thread, place, first + i == 0)?;
            }
            let Some(call) = common_call(self.program, places, first, |p| p.call)? else { return Ok(()) };
            let lanes = warp.iter_mut().collect();
            by_warp(self.program, call, lanes, first, self.memory, &mut self.shadow)?;
        }
    }

    /// Takes a thread to its next barrier or call of its warp, or out.
    fn advance(
        &mut self,
        thread: &mut Thread<'_>,
        place: &mut Place,
        leader: bool,
    ) -> Result<(), Diagnostic> {
        let before = self.shape.before.len();
        while !place.gone {
            if place.step == before + self.shape.turn.len() {
                place.step = before;
                place.turn += 1;
            }
            let turn = place.step.checked_sub(before);
            let step = turn.map_or_else(|| self.shape.before[place.step], |i| self.shape.turn[i]);
            let next = place.turn + turn.is_some() as usize;
            match step {
                BlockStep::Barrier => {
                    place.step += 1;
                    return Ok(());
                }
                BlockStep::Decide if leader => self.decide(next)?,
                BlockStep::Decide => {}
                BlockStep::CountDone if leader && place.ran => self.launch.done += 1,
                BlockStep::CountDone => {}
                BlockStep::Take => {
                    let at = place.turn % self.slots.len();
                    self.touch(at, false)?;
                    place.tile = self.slots[at];
                    place.gone = place.tile.is_none();
                    if let Some(tile) = place.tile {
                        thread.begin(self.program, tile);
                    }
                }
                BlockStep::RunTile => {
                    let stop = thread.run(self.program, self.memory, &mut self.shadow)?;
                    (place.inside, place.call) = match stop {
                        Stop::Barrier(at) => (Some(at), None),
                        Stop::Warp(at) => (None, Some(at)),
                        Stop::End => (None, None),
                    };
                    if stop != Stop::End {
                        return Ok(());
                    }
                    place.ran = true;
                }
                BlockStep::AdmitEach => place.gone = !(self.word)().admits(self.launch.epoch, self.slot),
            }
            place.step += 1;
        }
        Ok(())
    }

    /// The leader reads the word and, if it is admitted, claims a tile for a turn.
    fn decide(&mut self, turn: usize) -> Result<(), Diagnostic> {
        let at = turn % self.slots.len();
        self.touch(at, true)?;
        let tiles = self.program.tiles.map_or(1, |(_, n)| n);
        self.slots[at] = None;
        if (self.word)().admits(self.launch.epoch, self.slot) {
            let tile = self.launch.next;
            self.launch.next += 1;
            self.slots[at] = (tile < tiles).then_some(tile);
        }
        Ok(())
    }

    fn touch(&mut self, slot: usize, write: bool) -> Result<(), Diagnostic> {
        let seen = self.shadow.access(self.slots_id, slot, write);
        seen.map_err(|race| race.describe_as(self.program, &format!("slot {slot} of the block's loop")))
    }
}
