//! Workers that serve a real-time queue and any number of best-effort queues.
//!
//! One pinned worker a core takes tiles from the queues in the order of priority. Between two
//! tiles it looks at the word of its queue and, if the policy interrupts, for a request that is
//! due: so a request waits for at most one tile, and for no operating system. Whoever ends the
//! last tile of a launch publishes the next one, so no thread is woken between two kernels.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use fermata_ir::tir::protocol::Left;
use fermata_passes::lower::plan::KernelId;

use super::policy::{Policy, State};
use super::queue::{Job, Queue, Run, Step};
use super::report::{BestEffort, Depths, Report, Samples};
use super::trace::Span;
use crate::device::cores::{allowed_cores, pin};
use crate::device::ring::pause;

/// No request is due.
const NEVER: u64 = u64::MAX;

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads, pinned to a core each if there are enough.
    pub workers: usize,
    /// How the device is shared.
    pub policy: Policy,
    /// When requests for the real-time model arrive, in nanoseconds from the start.
    pub arrivals: Vec<u64>,
    /// How long best-effort queues run; requests that came before are all served.
    pub duration_ns: u64,
    /// Whether spans are kept.
    pub trace: bool,
}

/// Runs the jobs together and says what happened; with the spans of each worker if asked for.
pub fn run(rt: Option<Job>, best_effort: Vec<Job>, options: &Options) -> (Report, Vec<Vec<Span>>) {
    let group = Group::new(rt, best_effort, options);
    let cores = allowed_cores();
    let logs = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers)
            .map(|slot| {
                let (group, core) = (&group, cores.get(slot).copied());
                scope.spawn(move || {
                    if let Some(core) = core {
                        pin(core);
                    }
                    Worker { group, slot, log: Log::new(group.be.len()), turn: slot }.serve()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).collect::<Vec<Log>>()
    });
    group.report(logs)
}

/// What the workers share.
struct Group<'o> {
    options: &'o Options,
    start: Instant,
    rt: Option<Queue>,
    be: Vec<Queue>,
    /// When the next request that is not being served arrives.
    due: AtomicU64,
    /// The request that is being served, as its place among the arrivals.
    serving: AtomicUsize,
    requests: Mutex<Requests>,
    /// When each worker last left a best-effort launch because it had to.
    left_at: Vec<AtomicU64>,
    /// The queues in order of arrival, for first-in-first-out; the first is served.
    line: Mutex<VecDeque<usize>>,
    /// Whether best-effort queues may still run.
    open: AtomicBool,
}

/// What was seen of requests.
#[derive(Default)]
struct Requests {
    next: usize,
    latency: Samples,
    first_tile: Samples,
    preemption: Samples,
    depths: Depths,
    /// When the request that is being served was begun, and nanoseconds that earlier ones took.
    begun: u64,
    busy: u64,
    /// When the word was last written, and the workers that were in a tile then.
    word: Option<(u64, Vec<usize>)>,
    waits_for_tile: bool,
}

/// What a worker did.
#[derive(Default)]
struct Log {
    tiles: Vec<u64>,
    entries: Vec<Entry>,
}

/// A worker's stay in a launch; without a kernel it is the moment when it wrote the words.
struct Entry {
    queue: usize,
    kernel: Option<KernelId>,
    start: u64,
    end: u64,
    tiles: u64,
    preempted: bool,
}

impl Log {
    fn new(queues: usize) -> Log {
        Log { tiles: vec![0; queues], entries: Vec::new() }
    }
}

impl<'o> Group<'o> {
    fn new(rt: Option<Job>, best_effort: Vec<Job>, options: &'o Options) -> Group<'o> {
        let queue = |job| Queue::new(job, options.workers);
        let be: Vec<Queue> = best_effort.into_iter().map(queue).collect();
        let group = Group {
            options,
            rt: rt.map(queue),
            due: AtomicU64::new(options.arrivals.first().copied().unwrap_or(NEVER)),
            serving: AtomicUsize::new(usize::MAX),
            requests: Mutex::default(),
            left_at: (0..options.workers).map(|_| AtomicU64::new(0)).collect(),
            line: Mutex::new((1..=be.len()).collect()),
            open: AtomicBool::new(true),
            be,
            start: Instant::now(),
        };
        let quota = group.quota(None, true);
        for (i, queue) in group.be.iter().enumerate() {
            queue.ring.change_quota(quota);
            group.begin_run(i + 1, queue, &mut queue.lock());
        }
        group
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Begins a run of a best-effort queue. One that has nothing to run, or fails, stands in
    /// nobody's way.
    fn begin_run(&self, number: usize, queue: &Queue, run: &mut Run) {
        if queue.start(run) == Step::Ended {
            self.line().retain(|&other| other != number);
        }
    }

    fn quota(&self, rt_tiles: Option<u64>, certified: bool) -> u32 {
        let workers = self.options.workers as u32;
        match self.open.load(Ordering::Relaxed) {
            true => self.options.policy.quota(State { workers, rt_tiles, certified }),
            false => 0,
        }
    }

    /// Sets a queue's quota by its kernel and the request's. Whoever changes either does so before:
    /// a change in the meantime is seen here, or comes with a quota of its own.
    fn pad(&self, queue: &Queue) {
        loop {
            let state = || {
                let served = self.serving.load(Ordering::SeqCst) != usize::MAX;
                let rt = self.rt.as_ref().filter(|_| served);
                (rt.map(|rt| rt.ring.tiles(rt.ring.newest())), queue.is_certified())
            };
            let (rt_tiles, certified) = state();
            queue.ring.change_quota(self.quota(rt_tiles, certified));
            if state() == (rt_tiles, certified) {
                return;
            }
        }
    }

    /// Begins to serve a request that is due, if nobody else does; whether words were written for it.
    fn begin_request(&self) -> bool {
        let Some(rt) = &self.rt else { return false };
        let Some(mut run) = rt.try_lock() else { return false };
        if run.is_running() || run.failure.is_some() || self.due.load(Ordering::Acquire) > self.now() {
            return false;
        }
        if self.options.policy == Policy::Fifo {
            let mut line = self.line();
            if !line.contains(&0) {
                line.push_back(0);
            }
            // Once the time is over, whoever stands before a request stands there for ever.
            if line.front() != Some(&0) && self.open.load(Ordering::Relaxed) {
                return false;
            }
        }
        self.take_request();
        let preempts = self.options.policy == Policy::Preempt;
        if preempts {
            self.preempt();
        }
        self.serve(rt, &mut run, Queue::start);
        preempts
    }

    /// Makes the request that is due the one that is served.
    fn take_request(&self) {
        let mut requests = self.requests();
        self.serving.store(requests.next, Ordering::SeqCst);
        requests.begun = self.now();
        requests.next += 1;
        requests.waits_for_tile = true;
        self.due.store(NEVER, Ordering::Release);
    }

    /// Writes the words of all best-effort queues and notes who is still in a tile.
    fn preempt(&self) {
        let now = self.now();
        let mut requests = self.requests();
        for queue in &self.be {
            queue.ring.set_quota(0);
            let (number, counters) = (queue.ring.newest(), queue.ring.counters(queue.ring.newest()));
            requests.depths.add(counters.done, queue.ring.tiles(number));
        }
        let inside: Vec<usize> = (0..self.options.workers)
            .filter(|&slot| self.be.iter().any(|q| q.ring.is_inside(slot)))
            .collect();
        requests.word = Some((now, inside));
    }

    /// Carries the real-time run on; at its end goes on with the next request or lets the others run.
    fn serve(&self, rt: &Queue, run: &mut Run, mut step: impl FnMut(&Queue, &mut Run) -> Step) {
        let mut state = step(rt, run);
        while state == Step::Ended {
            self.end_request();
            let due = self.due.load(Ordering::Acquire) <= self.now();
            if !due || run.failure.is_some() || self.options.policy == Policy::Fifo {
                return self.release();
            }
            self.take_request();
            state = rt.start(run);
        }
        if self.options.policy == Policy::Padding {
            self.be.iter().for_each(|queue| self.pad(queue));
        }
    }

    fn end_request(&self) {
        let now = self.now();
        let mut requests = self.requests();
        let served = self.serving.swap(usize::MAX, Ordering::SeqCst);
        requests.busy += now.saturating_sub(requests.begun);
        let arrival = self.options.arrivals.get(served).copied().unwrap_or(now);
        requests.latency.0.push(now.saturating_sub(arrival));
        let next = self.options.arrivals.get(requests.next).copied().unwrap_or(NEVER);
        self.due.store(next, Ordering::Release);
        if self.options.policy == Policy::Fifo {
            self.line().retain(|&queue| queue != 0);
        }
    }

    /// Lets the best-effort queues go on.
    fn release(&self) {
        match self.options.policy {
            Policy::Preempt => {
                for queue in &self.be {
                    let mut run = queue.lock();
                    queue.ring.set_quota(self.quota(None, queue.is_certified()));
                    queue.resume(&mut run);
                }
                self.note_preemption();
            }
            Policy::Padding => self.be.iter().for_each(|queue| self.pad(queue)),
            Policy::Alone | Policy::None | Policy::Fifo => {}
        }
    }

    /// After all have left: how long that took from the word.
    fn note_preemption(&self) {
        let mut requests = self.requests();
        if let Some((written, inside)) = requests.word.take() {
            let left = inside.iter().map(|&slot| self.left_at[slot].load(Ordering::Acquire));
            if let Some(last) = left.filter(|&at| at >= written).max() {
                requests.preemption.0.push(last - written);
            }
        }
    }

    /// A worker is about to run the first tile of a request.
    fn note_first_tile(&self) {
        let now = self.now();
        let mut requests = self.requests();
        if std::mem::take(&mut requests.waits_for_tile) {
            let arrival = self.options.arrivals.get(self.serving.load(Ordering::Relaxed)).copied();
            requests.first_tile.0.push(now.saturating_sub(arrival.unwrap_or(now)));
        }
    }

    /// Whether all requests are served and the time is over.
    fn is_over(&self) -> bool {
        if self.now() < self.options.duration_ns {
            return false;
        }
        if self.open.swap(false, Ordering::Relaxed) {
            self.be.iter().for_each(|queue| queue.ring.set_quota(0));
        }
        let served =
            self.serving.load(Ordering::Relaxed) == usize::MAX && self.due.load(Ordering::Acquire) == NEVER;
        self.rt.as_ref().is_none_or(|rt| served || rt.lock().failure.is_some())
    }

    fn report(self, logs: Vec<Log>) -> (Report, Vec<Vec<Span>>) {
        let requests = self.requests.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let text = |run: &Run| run.failure.as_ref().map(|d| d.message.to_string());
        let best_effort = self.be.iter().enumerate().map(|(i, queue)| {
            let run = queue.lock();
            let tiles: u64 = logs.iter().map(|log| log.tiles.get(i).copied().unwrap_or(0)).sum();
            BestEffort {
                name: run.name().to_string(),
                completed: run.completed,
                runs: tiles as f64 / run.tiles().max(1) as f64,
                wrong: run.wrong,
                failure: text(&run),
            }
        });
        let report = Report {
            latency: requests.latency,
            first_tile: requests.first_tile,
            preemption: requests.preemption,
            depths: requests.depths,
            busy_ns: requests.busy,
            wrong: self.rt.as_ref().map_or(0, |rt| rt.lock().wrong),
            failure: self.rt.as_ref().and_then(|rt| text(&rt.lock())),
            best_effort: best_effort.collect(),
        };
        let queues: Vec<Option<&Queue>> =
            std::iter::once(self.rt.as_ref()).chain(self.be.iter().map(Some)).collect();
        let spans = |log: Log| log.entries.into_iter().map(|entry| entry.span(&queues)).collect();
        (report, logs.into_iter().map(spans).collect())
    }
}

impl Entry {
    fn span(self, queues: &[Option<&Queue>]) -> Span {
        let Entry { queue, kernel, start, end, tiles, preempted } = self;
        let name = match (kernel, queues[queue]) {
            (Some(kernel), Some(queue)) => queue.lock().kernel_name(kernel).to_string(),
            _ => "preempt".to_string(),
        };
        Span { queue, name, start, end, tiles, preempted }
    }
}

/// A worker thread.
struct Worker<'g, 'o> {
    group: &'g Group<'o>,
    slot: usize,
    log: Log,
    /// The queue that comes next where all are equal.
    turn: usize,
}

impl Worker<'_, '_> {
    fn serve(mut self) -> Log {
        let mut spins = 0;
        while !self.group.is_over() {
            let now = self.group.now();
            if self.group.due.load(Ordering::Relaxed) <= now
                && self.group.begin_request()
                && self.group.options.trace
            {
                let entry =
                    Entry { queue: 0, kernel: None, start: now, end: now, tiles: 0, preempted: false };
                self.log.entries.push(entry);
            }
            if self.work() { spins = 0 } else { pause(&mut spins) }
        }
        self.log
    }

    /// Runs tiles of the first queue that has some; false if none has.
    fn work(&mut self) -> bool {
        let queues = self.group.be.len();
        match self.group.options.policy {
            Policy::Fifo if !self.group.open.load(Ordering::Relaxed) => self.work_on(0),
            Policy::Fifo => {
                let front = self.group.line().front().copied();
                front.is_some_and(|queue| self.work_on(queue))
            }
            Policy::None => {
                self.turn += 1;
                (0..=queues).any(|i| self.work_on((self.turn + i) % (queues + 1)))
            }
            Policy::Alone | Policy::Preempt | Policy::Padding => {
                self.turn += 1;
                self.work_on(0) || (0..queues).any(|i| self.work_on(1 + (self.turn + i) % queues))
            }
        }
    }

    /// Runs tiles of a queue, 0 being the real-time one; false if it has none for this worker.
    fn work_on(&mut self, queue: usize) -> bool {
        let group = self.group;
        let Some(served) = (if queue == 0 { group.rt.as_ref() } else { group.be.get(queue - 1) }) else {
            return false;
        };
        if !served.ring.open(self.slot) {
            return false;
        }
        let number = served.ring.newest();
        let begun = group.now();
        if queue == 0 {
            group.note_first_tile();
        }
        let interrupts = queue > 0 && group.options.policy.interrupts();
        let stay = || !interrupts || group.due.load(Ordering::Relaxed) > group.now();
        // SAFETY: a launch's memory is that of its queue's job, which outlives the workers; this
        // thread alone has the slot.
        let visit = unsafe { served.ring.work(number, self.slot, stay) };
        if queue > 0 {
            self.log.tiles[queue - 1] += visit.tiles;
            if visit.left == Some(Left::Stopped) {
                group.left_at[self.slot].store(group.now(), Ordering::Release);
            }
        }
        if group.options.trace && visit.tiles > 0 {
            let preempted = visit.left == Some(Left::Stopped);
            let (kernel, tiles, end) = (visit.kernel, visit.tiles, group.now());
            self.log.entries.push(Entry { queue, kernel, start: begun, end, tiles, preempted });
        }
        if visit.left == Some(Left::Finished) {
            self.finish(queue, number);
        }
        visit.tiles > 0 || visit.left == Some(Left::Finished)
    }

    /// Goes on after the last tile of a launch, unless somebody already did.
    fn finish(&self, queue: usize, number: u64) {
        let group = self.group;
        let Some(served) = (if queue == 0 { group.rt.as_ref() } else { group.be.get(queue - 1) }) else {
            return;
        };
        let mut run = served.lock();
        if served.ring.newest() != number {
            return;
        }
        if queue == 0 {
            return group.serve(served, &mut run, Queue::advance);
        }
        if served.advance(&mut run) == Step::Published {
            if group.options.policy == Policy::Padding {
                group.pad(served);
            }
            return;
        }
        group.line().retain(|&other| other != queue);
        if run.failure.is_none() {
            // The next run of this model stands behind whoever arrived meanwhile.
            group.line().push_back(queue);
            group.begin_run(queue, served, &mut run);
            if group.options.policy == Policy::Padding {
                group.pad(served);
            }
        }
    }
}
