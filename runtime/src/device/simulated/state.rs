//! A state of the explorer, and the moves from it: one worker by one step, or the host.

use fermata_ir::tir::protocol::{LaunchMemory, Turn, Word, Worker};

use super::model::{
    Check, Fault, Feed, MAX_LAUNCHES, MAX_SEGMENTS, MAX_TILES, MAX_WORKERS, Model, Violation, violation,
};
/// No tile is parked.
const NONE: u8 = u8::MAX;

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The worker in a slot takes its next step, or ends its tile.
    Step(usize),
    /// The worker in a slot enters the newest launch.
    Enter(usize),
    /// The next launch is published.
    Publish,
    /// The word is written.
    Flip(Word),
    /// After all have left, the launch goes on under this word.
    Resume(Word),
}

/// A worker's stay in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Visit {
    launch: u8,
    record: u8,
    epoch: u32,
    worker: Worker,
    /// The tile that it is in.
    running: Option<u8>,
}

/// Everything that what happens next depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    word: Word,
    flips: u8,
    /// The newest launch, its epoch and its record.
    launch: u8,
    epoch: u32,
    record: u8,
    records: [(u8, u8); MAX_LAUNCHES],
    /// Tiles of each launch that have begun and ended, as bits.
    begun: [u8; MAX_LAUNCHES],
    ended: [u8; MAX_LAUNCHES],
    parked: [u8; MAX_WORKERS],
    /// Slots whose worker was in the newest launch, as bits.
    visited: u8,
    /// Who wrote each segment: 0 for nobody.
    memory: [u8; MAX_SEGMENTS],
    slots: [Option<Visit>; MAX_WORKERS],
}

/// Who writes: a tile of a launch as one number.
fn writer(launch: usize, tile: usize) -> u8 {
    (1 + launch * MAX_TILES + tile) as u8
}

/// A set of segments, one by one.
fn segments(set: u16) -> impl Iterator<Item = usize> {
    (0..MAX_SEGMENTS).filter(move |s| set >> s & 1 == 1)
}

/// A model with what an undisturbed run has in memory before each launch and at the end.
pub struct Run<'m> {
    model: &'m Model,
    before: Vec<[u8; MAX_SEGMENTS]>,
}

impl<'m> Run<'m> {
    /// # Panics
    /// If the model is larger than the explorer's states.
    pub fn new(model: &'m Model) -> Run<'m> {
        let tiles = model.stream.tiles();
        let fits = (1..=MAX_WORKERS).contains(&model.workers)
            && (1..=MAX_LAUNCHES).contains(&tiles.len())
            && tiles.iter().all(|n| (1..=MAX_TILES).contains(n));
        assert!(fits, "the model is no small one");
        let mut memory = [0; MAX_SEGMENTS];
        let mut before = vec![memory];
        for (l, launch) in model.stream.launches.iter().enumerate() {
            for (t, tile) in launch.iter().enumerate() {
                segments(tile.writes).for_each(|s| memory[s] = writer(l, t));
            }
            before.push(memory);
        }
        Run { model, before }
    }

    /// Before anything happens: the first launch, or all of them, stand ready.
    pub fn start(&self) -> State {
        let word = Word { epoch: 1, quota: self.model.workers as u32 };
        let mut state = State {
            word,
            flips: self.model.flips,
            launch: 0,
            epoch: word.epoch,
            record: 0,
            records: [(0, 0); MAX_LAUNCHES],
            begun: [0; MAX_LAUNCHES],
            ended: [0; MAX_LAUNCHES],
            parked: [NONE; MAX_WORKERS],
            visited: 0,
            memory: [0; MAX_SEGMENTS],
            slots: [None; MAX_WORKERS],
        };
        self.settle(&mut state);
        state
    }

    fn tiles(&self, launch: usize) -> usize {
        self.model.stream.launches[launch].len()
    }

    fn queued(&self) -> bool {
        self.model.protocol.feed == Feed::Queued
    }

    fn has(&self, fault: Fault) -> bool {
        self.model.protocol.has(fault)
    }

    fn is_finished(&self, state: &State) -> bool {
        usize::from(state.records[usize::from(state.record)].1) >= self.tiles(state.launch.into())
    }

    fn all_out(&self, state: &State) -> bool {
        state.slots.iter().all(Option::is_none)
    }

    /// Whether everything is over.
    pub fn is_over(&self, state: &State) -> bool {
        let last = usize::from(state.launch) + 1 == self.model.stream.launches.len();
        last && self.all_out(state) && self.first_unfinished(state).is_none()
    }

    /// The first launch that is not finished; of published ones only the newest can be.
    fn first_unfinished(&self, state: &State) -> Option<usize> {
        match self.model.protocol.feed {
            Feed::Published { .. } => (!self.is_finished(state)).then_some(state.launch.into()),
            Feed::Queued => (0..=usize::from(state.launch))
                .find(|&launch| usize::from(state.records[launch].1) < self.tiles(launch)),
        }
    }

    /// What the bits at the end must be.
    ///
    /// # Errors
    /// If they are others.
    pub fn check_end(&self, state: &State) -> Result<(), Violation> {
        let full = (0..self.model.stream.launches.len()).all(|l| state.ended[l] == self.all_tiles(l));
        if !full {
            return Err(violation(Check::Done, "at the end a tile has not run".into()));
        }
        match self.before.last() == Some(&state.memory) {
            true => Ok(()),
            false => Err(violation(Check::Result, "memory is not that of an undisturbed run".into())),
        }
    }

    fn all_tiles(&self, launch: usize) -> u8 {
        ((1u16 << self.tiles(launch)) - 1) as u8
    }

    /// Moves that must lead to the end, whatever the host does besides.
    pub fn moves(&self, state: &State) -> Vec<Move> {
        let mut moves = Vec::new();
        for slot in 0..self.model.workers {
            match state.slots[slot] {
                Some(_) => moves.push(Move::Step(slot)),
                None if self.may_enter(state, slot) => moves.push(Move::Enter(slot)),
                None => {}
            }
        }
        if self.may_publish(state) {
            moves.push(Move::Publish);
        }
        moves.extend(self.resumptions(state).into_iter().map(Move::Resume));
        moves
    }

    /// Writes of the word that the host may make at any time.
    pub fn flips(&self, state: &State) -> Vec<Move> {
        if state.flips == 0 {
            return Vec::new();
        }
        let workers = self.model.workers as u32;
        let least = u32::from(self.queued() && !self.has(Fault::KeepsEpochAtZero));
        let same = (least..=workers).filter(|&q| q != state.word.quota);
        let same = same.map(|quota| Word { quota, ..state.word });
        let other = (0..=workers).map(|quota| Word { epoch: state.word.epoch + 1, quota });
        same.chain(other).map(Move::Flip).collect()
    }

    /// Published launches are entered whenever there is something to do.
    fn may_enter(&self, state: &State, slot: usize) -> bool {
        let open = usize::from(state.records[usize::from(state.record)].0) < self.tiles(state.launch.into());
        !self.queued()
            && (open || state.parked[slot] != NONE)
            && state.word.admits(state.epoch, slot as u32)
            && !(self.has(Fault::StaysAway) && state.visited >> slot & 1 == 1)
    }

    /// The next record of the ring, if it may be used.
    fn next_record(&self, state: &State) -> Option<u8> {
        let Feed::Published { records } = self.model.protocol.feed else { return None };
        let next = (state.record + 1) % records;
        let inside = state.slots.iter().flatten().any(|visit| visit.record == next);
        (!inside || self.has(Fault::ReusesRecord)).then_some(next)
    }

    fn may_publish(&self, state: &State) -> bool {
        let (next, _) = state.records[usize::from(state.record)];
        let claimed = usize::from(next) >= self.tiles(state.launch.into());
        let over = self.is_finished(state) || (self.has(Fault::StartsAtClaimed) && claimed);
        over && usize::from(state.launch) + 1 < self.model.stream.launches.len()
            && self.next_record(state).is_some()
    }

    /// The words under which an unfinished launch may go on, once all have left.
    fn resumptions(&self, state: &State) -> Vec<Word> {
        let all_begun = usize::from(state.launch) + 1 == self.model.stream.launches.len();
        let Some(launch) = self.first_unfinished(state) else { return Vec::new() };
        if !self.all_out(state) || (self.queued() && !all_begun) {
            return Vec::new();
        }
        let parked = (0..self.model.workers).rev().find(|&slot| state.parked[slot] != NONE);
        let record = if self.queued() { launch } else { state.record.into() };
        if parked.is_none() && usize::from(state.records[record].0) >= self.tiles(launch) {
            // Nobody would find a tile, however often the launch goes on.
            return Vec::new();
        }
        let least = parked.map_or(1, |slot| slot as u32 + 1);
        let quotas = least..=self.model.workers as u32;
        let fresh = quotas.clone().map(|quota| Word { epoch: state.word.epoch + 1, quota });
        if self.queued() {
            return fresh.collect();
        }
        let same_epoch = state.word.epoch == state.epoch;
        if state.word.quota >= least {
            return if same_epoch { Vec::new() } else { vec![state.word] };
        }
        let same = quotas.filter(|_| same_epoch).map(|quota| Word { quota, ..state.word });
        fresh.chain(same).collect()
    }

    /// Does a move.
    ///
    /// # Errors
    /// If a check does not hold.
    pub fn apply(&self, state: &mut State, step: Move) -> Result<(), Violation> {
        match step {
            Move::Step(slot) => self.step(state, slot)?,
            Move::Enter(slot) => self.enter(state, slot),
            Move::Publish => {
                let Some(record) = self.next_record(state) else { return Ok(()) };
                state.launch += 1;
                self.publish(state, record, (0, 0));
            }
            Move::Flip(word) => {
                state.flips -= 1;
                self.write(state, word);
            }
            Move::Resume(word) => self.resume(state, word),
        }
        self.settle(state);
        Ok(())
    }

    /// A launch in a record under the word's epoch.
    fn publish(&self, state: &mut State, record: u8, from: (u8, u8)) {
        state.record = record;
        state.records[usize::from(record)] = from;
        state.epoch = state.word.epoch;
        state.visited = 0;
    }

    /// The word is written; of a launch that is queued, free slots get their workers back.
    fn write(&self, state: &mut State, word: Word) {
        let raised = word.epoch == state.word.epoch && word.quota > state.word.quota;
        state.word = word;
        if self.queued() && raised && word.epoch == state.epoch {
            for slot in 0..self.model.workers.min(word.quota as usize) {
                if state.slots[slot].is_none() {
                    self.enter(state, slot);
                }
            }
        }
    }

    fn resume(&self, state: &mut State, word: Word) {
        let goes_on = word.epoch == state.epoch;
        state.word = word;
        if goes_on {
            return;
        }
        let Some(launch) = self.first_unfinished(state) else { return };
        if self.queued() {
            state.launch = launch as u8;
            state.record = launch as u8;
            state.epoch = word.epoch;
            (0..self.model.workers).for_each(|slot| self.enter(state, slot));
        } else if let Some(record) = self.next_record(state) {
            let (next, done) = state.records[usize::from(state.record)];
            self.publish(state, record, (next.min(self.tiles(launch) as u8), done));
        }
    }

    /// Of queued launches the next begins when all workers have left.
    fn settle(&self, state: &mut State) {
        if !self.queued() || !self.all_out(state) {
            return;
        }
        let begun = state.visited != 0;
        if begun && usize::from(state.launch) + 1 == self.model.stream.launches.len() {
            return;
        }
        state.launch += u8::from(begun);
        state.record = state.launch;
        (0..self.model.workers).for_each(|slot| self.enter(state, slot));
    }

    /// The worker in a slot begins its loop, with what is parked there.
    fn enter(&self, state: &mut State, slot: usize) {
        state.visited |= 1 << slot;
        let unfinished = self.first_unfinished(state) == Some(state.launch.into());
        let parked = Some(state.parked[slot]).filter(|&tile| tile != NONE && unfinished);
        if parked.is_some() && !self.has(Fault::KeepsParked) {
            state.parked[slot] = NONE;
        }
        state.slots[slot] = Some(Visit {
            launch: state.launch,
            record: state.record,
            epoch: state.epoch,
            worker: Worker::new(slot as u32, parked.map(u64::from)),
            running: None,
        });
    }

    fn step(&self, state: &mut State, slot: usize) -> Result<(), Violation> {
        let Some(mut visit) = state.slots[slot] else { return Ok(()) };
        if let Some(tile) = visit.running.take() {
            state.slots[slot] = Some(visit);
            return self.end_tile(state, visit.launch.into(), tile.into());
        }
        let shape = &self.model.protocol.worker;
        let mut view = View {
            word: state.word,
            epoch: visit.epoch,
            tiles: self.tiles(visit.launch.into()) as u64,
            counters: &mut state.records[usize::from(visit.record)],
            ignores_epoch: self.has(Fault::IgnoresEpoch),
        };
        match visit.worker.step(shape, &mut view) {
            Turn::Went => {}
            Turn::Run(tile) => {
                visit.running = Some(tile as u8);
                self.begin_tile(state, visit.launch.into(), tile as usize)?;
            }
            Turn::Left(_) => {
                if let Some(tile) = visit.worker.parked(shape) {
                    state.parked[slot] = tile as u8;
                }
                state.slots[slot] = None;
                return self.check_done(state, visit);
            }
        }
        state.slots[slot] = Some(visit);
        self.check_done(state, visit)
    }

    /// Once a launch counts as finished, all of its tiles have ended.
    fn check_done(&self, state: &State, visit: Visit) -> Result<(), Violation> {
        let launch = usize::from(visit.launch);
        let (_, done) = state.records[usize::from(visit.record)];
        if visit.launch != state.launch || visit.record != state.record {
            return Ok(());
        }
        match usize::from(done) >= self.tiles(launch) && state.ended[launch] != self.all_tiles(launch) {
            true => Err(violation(Check::Done, format!("launch {launch} counts as finished before it is"))),
            false => Ok(()),
        }
    }

    fn begin_tile(&self, state: &mut State, launch: usize, tile: usize) -> Result<(), Violation> {
        if state.begun[launch] >> tile & 1 == 1 {
            return Err(violation(
                Check::ExactlyOnce,
                format!("tile {tile} of launch {launch} begins a second time"),
            ));
        }
        state.begun[launch] |= 1 << tile;
        let reads = self.model.stream.launches[launch][tile].reads;
        segments(reads).try_for_each(|s| self.check_access(state, launch, tile, s, "reads"))
    }

    fn end_tile(&self, state: &mut State, launch: usize, tile: usize) -> Result<(), Violation> {
        for s in segments(self.model.stream.launches[launch][tile].writes) {
            self.check_access(state, launch, tile, s, "writes")?;
            state.memory[s] = writer(launch, tile);
        }
        state.ended[launch] |= 1 << tile;
        Ok(())
    }

    /// A segment holds what it holds before the launch in an undisturbed run.
    fn check_access(
        &self,
        state: &State,
        launch: usize,
        tile: usize,
        segment: usize,
        does: &str,
    ) -> Result<(), Violation> {
        let (found, expected) = (state.memory[segment], self.before[launch][segment]);
        if found == expected {
            return Ok(());
        }
        let own = (writer(launch, 0)..=writer(launch, MAX_TILES - 1)).contains(&found);
        let (check, why) = match own {
            true => (Check::Overlap, "another tile of the launch wrote"),
            false => (Check::Stale, "holds what another launch left there"),
        };
        let message = format!("tile {tile} of launch {launch} {does} segment {segment}, which {why}");
        Err(violation(check, message))
    }
}

/// The memory of a launch as a worker of the explorer sees it.
struct View<'s> {
    word: Word,
    epoch: u32,
    tiles: u64,
    counters: &'s mut (u8, u8),
    ignores_epoch: bool,
}

impl LaunchMemory for View<'_> {
    fn word(&mut self) -> Word {
        match self.ignores_epoch {
            true => Word { epoch: self.epoch, ..self.word },
            false => self.word,
        }
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn tiles(&self) -> u64 {
        self.tiles
    }

    fn claim(&mut self) -> u64 {
        self.counters.0 += 1;
        u64::from(self.counters.0 - 1)
    }

    fn count(&mut self) -> u64 {
        self.counters.1 += 1;
        u64::from(self.counters.1)
    }
}
