//! Broken variants, each of which a check must catch. Only checks build them.

use fermata_ir::tir::protocol::{
    BLOCK_LOOP, BlockLoop, BlockStep, LOOK_AHEAD_LOOP, WORKER_LOOP, WorkerLoop, WorkerStep,
};
use fermata_passes::lower::plan::{Place, Step};
use fermata_runtime::device::simulated::explore::explore;
use fermata_runtime::device::simulated::model::{Fault, Feed, Model, Protocol, Stream};
use fermata_runtime::exec::Session;

use super::blocks::{self, COPY, Kernel, REVERSE};
use super::models::Compiled;
use super::small::RING;

/// A broken variant.
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// What a check says of it; `None` if none says anything.
    pub killed_by: fn() -> Option<String>,
}

/// All of them.
pub const MUTANTS: [Mutant; 16] = [
    Mutant { name: "a worker claims before it checks", killed_by: claim_before_check },
    Mutant { name: "a tile counts as done when it is claimed", killed_by: counted_at_claim },
    Mutant { name: "counters are used again while an old worker runs", killed_by: reused_counters },
    Mutant { name: "a queued launch ignores the epoch", killed_by: ignored_epoch },
    Mutant { name: "a quota of 0 keeps the epoch of queued launches", killed_by: epoch_at_zero },
    Mutant { name: "a launch begins when the tiles before are claimed", killed_by: starts_at_claimed },
    Mutant { name: "a tile that was claimed ahead is not parked", killed_by: dropped_tile },
    Mutant { name: "a parked tile is taken twice", killed_by: kept_tile },
    Mutant { name: "a worker does not see that its quota is back", killed_by: stays_away },
    Mutant { name: "a tile reads in place what another writes", killed_by: in_place },
    Mutant { name: "a plan that lets a product write over its operand", killed_by: plan_in_place },
    Mutant { name: "each thread of a block reads the word", killed_by: word_apart },
    Mutant { name: "no barrier in the block's loop", killed_by: loop_without_barrier },
    Mutant { name: "one slot for the block's decisions", killed_by: one_slot },
    Mutant { name: "a missing barrier in a kernel, each in turn", killed_by: kernel_without_barrier },
    Mutant { name: "a tile that a block took is not counted", killed_by: uncounted },
];

/// What the search says of two workers under a protocol.
fn search(protocol: Protocol, stream: Stream) -> Option<String> {
    let model = Model { workers: 2, stream, protocol, flips: 2 };
    explore(&model).err().map(|violation| violation.to_string())
}

fn with_loop(worker: WorkerLoop, feed: Feed) -> Option<String> {
    search(Protocol { worker, ..Protocol::new(feed) }, Stream::chain(&[2, 2]))
}

fn with_fault(fault: Fault, worker: WorkerLoop, feed: Feed, tiles: &[usize]) -> Option<String> {
    search(Protocol { worker, fault: Some(fault), ..Protocol::new(feed) }, Stream::chain(tiles))
}

fn claim_before_check() -> Option<String> {
    use WorkerStep::{Check, Claim, Count, Run};
    with_loop(WorkerLoop { steps: &[Claim, Check, Run, Count], parks: false }, Feed::Queued)
}

fn counted_at_claim() -> Option<String> {
    use WorkerStep::{Check, Claim, Count, Run};
    with_loop(WorkerLoop { steps: &[Check, Claim, Count, Run], parks: false }, RING)
}

fn reused_counters() -> Option<String> {
    with_fault(Fault::ReusesRecord, WORKER_LOOP, RING, &[1, 1, 2])
}

fn ignored_epoch() -> Option<String> {
    with_fault(Fault::IgnoresEpoch, WORKER_LOOP, Feed::Queued, &[2, 2])
}

fn epoch_at_zero() -> Option<String> {
    with_fault(Fault::KeepsEpochAtZero, WORKER_LOOP, Feed::Queued, &[2, 2])
}

fn starts_at_claimed() -> Option<String> {
    with_fault(Fault::StartsAtClaimed, WORKER_LOOP, RING, &[2, 2])
}

fn dropped_tile() -> Option<String> {
    with_loop(WorkerLoop { parks: false, ..LOOK_AHEAD_LOOP }, Feed::Queued)
}

fn kept_tile() -> Option<String> {
    with_fault(Fault::KeepsParked, LOOK_AHEAD_LOOP, Feed::Queued, &[2, 2])
}

fn stays_away() -> Option<String> {
    with_fault(Fault::StaysAway, WORKER_LOOP, RING, &[2, 2])
}

fn in_place() -> Option<String> {
    search(Protocol::new(Feed::Queued), Stream::in_place(3, 1))
}

/// Three products in a row; the plan of the second has its result lie where its operand does.
fn plan_in_place() -> Option<String> {
    let text = "#[version = \"0.0.5\"]
def @main(%x: Tensor[(64, 64), float32], %w: Tensor[(64, 64), float32]) {
  %0 = nn.dense(%x, %w, units=64);
  %1 = nn.dense(%0, %w, units=64);
  nn.dense(%1, %w, units=64)
}
";
    let Compiled { mut program, kernels, .. } = Compiled::of_text(text).ok()?;
    let func = program.entry.map(|entry| &mut program.funcs[entry])?;
    let arena = |b| matches!(func.buffers[b].place, Place::Arena(_));
    let (read, written) = func.steps.iter().find_map(|step| match step {
        Step::Launch { args, .. } => {
            let read = args.iter().copied().find(|&b| arena(b))?;
            let written = args.last().copied().filter(|&b| arena(b) && b != read)?;
            Some((read, written))
        }
        Step::If { .. } | Step::Call { .. } | Step::Copy { .. } => None,
    })?;
    func.buffers[written].place = func.buffers[read].place;
    let error = Session::new(program, kernels, 1).err()?;
    Some(format!("proof of the plan: {}", error.message))
}

/// What the evaluator says of a block's loop, preempted at each read of the word.
fn block(text: &str, shape: BlockLoop) -> Option<String> {
    let kernel = blocks::kernel(text).ok()?;
    kernel.preempted_everywhere(&shape).err().map(|why| format!("evaluator: {why}"))
}

fn word_apart() -> Option<String> {
    use BlockStep::{AdmitEach, Barrier, CountDone, Decide, RunTile, Take};
    let turn = &[Barrier, CountDone, AdmitEach, Take, RunTile, Decide];
    // The leader reads once; then the word changes while the eight threads read it.
    let kernel = blocks::kernel(REVERSE).ok()?;
    let torn = kernel.preempted(&BlockLoop { turn, ..BLOCK_LOOP }, 5);
    torn.err().map(|why| format!("evaluator: {why}"))
}

fn loop_without_barrier() -> Option<String> {
    use BlockStep::{CountDone, Decide, RunTile, Take};
    block(COPY, BlockLoop { turn: &[CountDone, Take, RunTile, Decide], ..BLOCK_LOOP })
}

fn one_slot() -> Option<String> {
    block(COPY, BlockLoop { slots: 1, ..BLOCK_LOOP })
}

fn uncounted() -> Option<String> {
    use BlockStep::{Barrier, Decide, RunTile, Take};
    block(COPY, BlockLoop { turn: &[Barrier, Take, RunTile, Decide], ..BLOCK_LOOP })
}

/// Leaves out each barrier of each compiled kernel; what the evaluator says of the first, if it
/// says something of all.
fn kernel_without_barrier() -> Option<String> {
    let mut said = Vec::new();
    for kernel in blocks::compiled().ok()? {
        for missing in 0..blocks::barriers(&kernel.func) {
            let broken = Kernel::new(blocks::without_barrier(&kernel.func, missing)).ok()?;
            said.push(broken.undisturbed().err()?);
        }
    }
    let count = said.len();
    said.into_iter().next().map(|first| format!("evaluator, {count} times: {first}"))
}
