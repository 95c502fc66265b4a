//! Blocks of GPU threads, and who accessed what since the last barrier.

use super::calls::by_warp;
use super::run::{State, Stop};
use super::{Program, Reg};
use crate::diag::Diagnostic;
use crate::tir::intrin::WARP;

/// No thread.
const NONE: u32 = u32::MAX;

/// More than one thread.
const MANY: u32 = u32::MAX - 1;

/// Who accessed an element in the interval between two barriers.
#[derive(Clone, Copy, Debug)]
struct Cell {
    interval: u32,
    writer: u32,
    reader: u32,
    /// The thread whose asynchronous copy will write it, whatever the interval.
    copier: u32,
}

impl Cell {
    /// An element that nobody has accessed.
    const UNTOUCHED: Cell = Cell { interval: 0, writer: NONE, reader: NONE, copier: NONE };
}

/// Shadow memory: the accesses to every element that threads share and write.
#[derive(Debug, Default)]
pub struct Shadow {
    cells: Vec<Vec<Cell>>,
    /// The number of the interval between barriers; never used again.
    interval: u32,
    /// The thread that runs.
    pub thread: u32,
}

/// Two threads accessed an element between the same barriers, one of them to write it; or a
/// copy into it had not been waited for.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    here: u32,
    other: u32,
    write: bool,
    copy: bool,
}

impl Shadow {
    /// Nothing was accessed yet.
    pub fn new(program: &Program) -> Shadow {
        let sizes = program.buffers.iter().zip(&program.watched).map(|(b, watched)| match watched {
            true => b.shape.iter().product(),
            false => 0,
        });
        Shadow { cells: sizes.map(|n: usize| vec![Cell::UNTOUCHED; n]).collect(), interval: 1, thread: 0 }
    }

    /// One more buffer, of `size` elements, that is no buffer of the program; gives its number.
    pub fn add(&mut self, size: usize) -> u32 {
        self.cells.push(vec![Cell::UNTOUCHED; size]);
        (self.cells.len() - 1) as u32
    }

    /// All threads have met at a barrier, or another block begins.
    pub fn barrier(&mut self) {
        self.interval += 1;
    }

    /// The running thread accesses an element, which lies in its buffer.
    pub fn access(&mut self, buffer: u32, at: usize, write: bool) -> Result<(), Race> {
        let here = self.thread;
        let cell = &mut self.cells[buffer as usize][at];
        if cell.interval != self.interval {
            *cell = Cell { interval: self.interval, writer: NONE, reader: NONE, copier: cell.copier };
        }
        if cell.copier != NONE {
            return Err(Race { here, other: cell.copier, write, copy: true });
        }
        let foreign = |who: u32| who != NONE && who != here;
        if foreign(cell.writer) {
            return Err(Race { here, other: cell.writer, write, copy: false });
        }
        if write && foreign(cell.reader) {
            return Err(Race { here, other: cell.reader, write, copy: false });
        }
        match write {
            true => cell.writer = here,
            false if foreign(cell.reader) => cell.reader = MANY,
            false => cell.reader = here,
        }
        Ok(())
    }

    /// The running thread begins a copy that will write an element.
    pub fn begin_copy(&mut self, buffer: u32, at: usize) -> Result<(), Race> {
        self.access(buffer, at, true)?;
        self.cells[buffer as usize][at].copier = self.thread;
        Ok(())
    }

    /// The running thread has waited for its copy: it counts as written now.
    pub fn end_copy(&mut self, buffer: u32, at: usize) -> Result<(), Race> {
        self.cells[buffer as usize][at].copier = NONE;
        self.access(buffer, at, true)
    }
}

impl Race {
    /// The error, for an element of a program's buffer.
    pub fn describe(self, program: &Program, buffer: u32, at: usize) -> Diagnostic {
        self.describe_as(program, &format!("element {at} of `{}`", program.buffers[buffer as usize].name))
    }

    /// The error, for something that is called `what`.
    pub fn describe_as(self, program: &Program, what: &str) -> Diagnostic {
        let how = if self.write { "writes" } else { "reads" };
        if self.copy {
            let (here, other) = (self.here, self.other);
            let message =
                format!("thread {here} {how} {what}, into which thread {other} copies without having waited");
            return program
                .error(message)
                .help("put cp_async_wait, and a barrier if it is another's, before it");
        }
        let other = match self.other {
            MANY => "other threads access".to_string(),
            thread => format!("thread {thread} accesses"),
        };
        program
            .error(format!("thread {} {how} {what}, which {other} without a barrier between", self.here))
            .help("put T.tvm_storage_sync(\"shared\") between the two")
    }
}

/// The threads of one block.
pub struct Block<'a> {
    program: &'a Program,
    pub threads: Vec<Thread<'a>>,
}

/// A thread: its registers and its own memory.
pub struct Thread<'a> {
    pub state: State<'a>,
    /// Its own memory, a buffer each.
    pub private: Vec<Vec<u64>>,
}

impl<'a> Block<'a> {
    /// Threads that have not run yet.
    pub fn new(program: &'a Program) -> Block<'a> {
        let count: u64 = program.threads.iter().map(|a| a.extent).product();
        let thread = |index: u64| Thread {
            state: at_index(program, index),
            private: program.private.iter().map(|b| vec![u64::MAX; words(program, b.as_u32())]).collect(),
        };
        Block { program, threads: (0..count).map(thread).collect() }
    }

    /// Runs a tile to its end: every thread, from barrier to barrier.
    pub fn run(&mut self, tile: u64, memory: &mut [Vec<u64>], shadow: &mut Shadow) -> Result<(), Diagnostic> {
        self.threads.iter_mut().for_each(|t| t.begin(self.program, tile));
        loop {
            let mut stops = Vec::with_capacity(self.threads.len());
            for (i, warp) in self.threads.chunks_mut(WARP).enumerate() {
                stops.extend(run_warp(self.program, warp, i * WARP, memory, shadow)?);
            }
            shadow.barrier();
            meet(self.program, &stops)?;
            if stops[0] == Stop::End {
                return Ok(());
            }
        }
    }
}

/// Runs the threads of a warp, the first of which has the number `first`, each to its next barrier
/// or end, with the calls that they make together on the way.
fn run_warp(
    program: &Program,
    warp: &mut [Thread<'_>],
    first: usize,
    memory: &mut [Vec<u64>],
    shadow: &mut Shadow,
) -> Result<Vec<Stop>, Diagnostic> {
    loop {
        let mut stops = Vec::with_capacity(warp.len());
        for (i, thread) in warp.iter_mut().enumerate() {
            shadow.thread = (first + i) as u32;
            stops.push(thread.run(program, memory, shadow)?);
        }
        match common_call(program, &stops, first, |stop| stop.call())? {
            Some(place) => by_warp(program, place, warp.iter_mut().collect(), first, memory, shadow)?,
            None => return Ok(stops),
        }
    }
}

/// The call that all threads of a warp wait to make, if one of them waits for any.
pub fn common_call<T: PartialEq + Describe>(
    program: &Program,
    places: &[T],
    first: usize,
    call: impl Fn(&T) -> Option<usize>,
) -> Result<Option<usize>, Diagnostic> {
    if places.iter().all(|p| call(p).is_none()) {
        return Ok(None);
    }
    let Some(other) = places.iter().position(|p| *p != places[0]) else { return Ok(call(&places[0])) };
    let (a, b) = (places[0].describe(), places[other].describe());
    let message = format!("a warp is torn: thread {first} {a}, but thread {} {b}", first + other);
    Err(program.error(message).help("all threads of a warp must come to what they do together"))
}

/// All threads must have come to one place.
pub fn meet<T: PartialEq + Describe>(program: &Program, places: &[T]) -> Result<(), Diagnostic> {
    let Some(other) = places.iter().position(|p| *p != places[0]) else { return Ok(()) };
    let (a, b) = (places[0].describe(), places[other].describe());
    Err(program
        .error(format!("the block is torn: thread 0 {a}, but thread {other} {b}"))
        .help("whatever a barrier stands under must be the same for all threads of the block"))
}

/// What a thread does, for people.
pub trait Describe {
    /// `waits at a barrier`
    fn describe(&self) -> String;
}

impl Describe for Stop {
    fn describe(&self) -> String {
        match self {
            Stop::End => "has ended".into(),
            Stop::Barrier(at) => format!("waits at the barrier at {at}"),
            Stop::Warp(at) => format!("waits for its warp at {at}"),
        }
    }
}

impl Stop {
    /// The place of the call that the thread waits to make with its warp.
    fn call(&self) -> Option<usize> {
        match self {
            Stop::Warp(place) => Some(*place),
            Stop::End | Stop::Barrier(_) => None,
        }
    }
}

impl Thread<'_> {
    /// Starts a tile: what is the thread's own has no value yet.
    pub fn begin(&mut self, program: &Program, tile: u64) {
        self.private.iter_mut().for_each(|words| words.fill(u64::MAX));
        self.state.copies.clear();
        if let Some((reg, _)) = program.tiles {
            self.state.set(reg, tile);
        }
    }

    /// Runs to the next barrier, call of its warp, or the end of the tile.
    pub fn run(
        &mut self,
        program: &Program,
        memory: &mut [Vec<u64>],
        shadow: &mut Shadow,
    ) -> Result<Stop, Diagnostic> {
        self.exchange(program, memory);
        let stop = self.state.run(memory, shadow);
        self.exchange(program, memory);
        stop
    }

    /// Puts the thread's own memory in its place, or takes it out again.
    fn exchange(&mut self, program: &Program, memory: &mut [Vec<u64>]) {
        for (words, b) in self.private.iter_mut().zip(&program.private) {
            std::mem::swap(words, &mut memory[b.as_u32() as usize]);
        }
    }
}

fn words(program: &Program, buffer: u32) -> usize {
    let info = &program.buffers[buffer as usize];
    (info.shape.iter().product::<usize>() * info.dtype.bytes()).div_ceil(8)
}

/// Registers of the thread with a number: `x` changes fastest.
fn at_index(program: &Program, mut index: u64) -> State<'_> {
    let mut state = State::new(program);
    let mut axes: Vec<(&str, Reg, u64)> =
        program.threads.iter().map(|a| (&*a.name, a.reg, a.extent)).collect();
    axes.sort_unstable();
    for (_, reg, extent) in axes {
        state.set(reg, index % extent);
        index /= extent;
    }
    state
}

#[cfg(test)]
mod tests;
