//! A queue: a model whose launches workers run, and the run that it is in.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use fermata_ir::diag::Diagnostic;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::KernelId;

use crate::device::ring::{Counters, RING, Ring};
use crate::exec::{Instance, Next, Walk};
use crate::memory::AlignedBytes;

/// A model to be run again and again on the same inputs.
pub struct Job {
    /// The name in tables and traces.
    pub name: String,
    /// The program, for as many slots as there are workers.
    pub instance: Instance,
    /// Its inputs.
    pub inputs: Vec<Tensor>,
    /// What it must give, bit for bit.
    pub expected: Vec<Tensor>,
    /// The kernels that may run longer than their bound between two checkpoints.
    pub uncertified: BTreeSet<KernelId>,
}

/// Where a result goes.
struct Output {
    memory: AlignedBytes,
    len: usize,
}

impl Output {
    fn new(len: usize) -> Output {
        Output { memory: AlignedBytes::zeroed(len), len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory.as_mut_slice()[..self.len]
    }
}

/// A queue of launches with the job that they come from.
pub struct Queue {
    /// What workers see.
    pub ring: Ring,
    /// Whether the kernel of the newest launch keeps its bound.
    certified: AtomicBool,
    run: Mutex<Run>,
}

/// The state that whoever ends a launch carries on.
pub struct Run {
    job: Job,
    walk: Option<Walk>,
    outputs: Vec<Output>,
    /// The parameters of the launches in the ring.
    arguments: Vec<Vec<*mut u8>>,
    kernel: Option<KernelId>,
    /// Runs that are over.
    pub completed: u64,
    /// Runs whose results were not what they must be.
    pub wrong: u64,
    /// What went wrong in a run, which ends the queue.
    pub failure: Option<Diagnostic>,
}

// SAFETY: the pointers are to memory of the job and of the outputs, which move with the run.
unsafe impl Send for Run {}

/// What a queue does after a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another launch was published.
    Published,
    /// The run is over.
    Ended,
}

impl Queue {
    /// A queue of a job for so many workers.
    pub fn new(job: Job, workers: usize) -> Queue {
        let entry = job.instance.entry();
        let outputs =
            entry.outputs.iter().map(|port| Output::new(entry.buffers[port.buffer].bytes())).collect();
        let run = Run {
            job,
            walk: None,
            outputs,
            arguments: vec![Vec::new(); RING as usize],
            kernel: None,
            completed: 0,
            wrong: 0,
            failure: None,
        };
        Queue { ring: Ring::new(workers), certified: AtomicBool::new(true), run: Mutex::new(run) }
    }

    /// Whether the kernel of the newest launch keeps its bound.
    pub fn is_certified(&self) -> bool {
        self.certified.load(Ordering::SeqCst)
    }

    /// The run.
    pub fn lock(&self) -> MutexGuard<'_, Run> {
        // A worker that panicked left the run at a place between two of its steps.
        self.run.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The run, if nobody else carries it on right now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Run>> {
        self.run.try_lock().ok()
    }

    /// Begins a run and publishes its first launch.
    pub fn start(&self, run: &mut Run) -> Step {
        let mut outputs: Vec<&mut [u8]> = run.outputs.iter_mut().map(Output::bytes).collect();
        match run.job.instance.start(&run.job.inputs, &mut outputs) {
            Ok(walk) => {
                run.walk = Some(walk);
                self.advance(run)
            }
            Err(failure) => run.fail(failure),
        }
    }

    /// Goes on after a launch that is over: copies, and publishes the next launch.
    pub fn advance(&self, run: &mut Run) -> Step {
        let Some(walk) = &mut run.walk else { return Step::Ended };
        let number = self.ring.newest() + 1;
        // The parameters lie where those of a launch long ago did.
        self.ring.wait_until_left(number.saturating_sub(RING));
        let arguments = &mut run.arguments[(number % RING) as usize];
        loop {
            match run.job.instance.advance(walk, arguments) {
                Ok(Next::Launch(kernel)) => {
                    let launch = run.job.instance.launch(kernel, arguments);
                    if launch.kernel.tiles == 0 {
                        continue;
                    }
                    run.kernel = Some(kernel);
                    self.certified.store(!run.job.uncertified.contains(&kernel), Ordering::SeqCst);
                    self.ring.publish(&launch, Counters::default(), self.ring.word().epoch);
                    return Step::Published;
                }
                // SAFETY: both buffers have this many bytes, which was checked; they may overlap.
                Ok(Next::Copy { from, to, bytes }) => unsafe { std::ptr::copy(from, to, bytes) },
                Ok(Next::End) => return run.end(),
                Err(failure) => return run.fail(failure),
            }
        }
    }

    /// Publishes the launch that was preempted again, under the word's new epoch, from its counters.
    pub fn resume(&self, run: &mut Run) -> Option<Step> {
        run.walk.as_ref()?;
        let number = self.ring.newest();
        self.ring.wait_until_left(number);
        let (kernel, from) = (run.kernel?, self.ring.counters(number));
        let again = number + 1;
        self.ring.wait_until_left(again.saturating_sub(RING));
        run.arguments[(again % RING) as usize] = run.arguments[(number % RING) as usize].clone();
        let launch = run.job.instance.launch(kernel, &run.arguments[(again % RING) as usize]);
        if from.done == launch.kernel.tiles {
            return Some(self.advance(run));
        }
        self.ring.publish(&launch, from, self.ring.word().epoch);
        Some(Step::Published)
    }
}

impl Run {
    /// The job's name.
    pub fn name(&self) -> &str {
        &self.job.name
    }

    /// Whether a run is on its way.
    pub fn is_running(&self) -> bool {
        self.walk.is_some()
    }

    /// The name of a kernel.
    pub fn kernel_name(&self, kernel: KernelId) -> &str {
        &self.job.instance.program().kernels[kernel].func.name
    }

    /// How many tiles a run has, if none of it is conditional.
    pub fn tiles(&self) -> u64 {
        let program = self.job.instance.program();
        let steps = &self.job.instance.entry().steps;
        let tiles = steps.iter().map(|step| match step {
            fermata_passes::lower::plan::Step::Launch { kernel, .. } => program.kernels[*kernel].tiles,
            _ => 0,
        });
        tiles.sum()
    }

    /// Ends a run and looks at its results.
    fn end(&mut self) -> Step {
        if let Some(walk) = self.walk.take() {
            let mut outputs: Vec<&mut [u8]> = self.outputs.iter_mut().map(Output::bytes).collect();
            self.job.instance.finish(walk, &mut outputs);
        }
        self.completed += 1;
        let right =
            self.outputs.iter_mut().zip(&self.job.expected).all(|(got, want)| got.bytes() == want.bytes());
        self.wrong += u64::from(!right);
        Step::Ended
    }

    fn fail(&mut self, failure: Diagnostic) -> Step {
        self.walk = None;
        self.failure = Some(failure);
        Step::Ended
    }
}
