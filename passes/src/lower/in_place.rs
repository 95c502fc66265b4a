//! Results in the memory of arguments: what segments prove to be safe.
//!
//! A kernel may write over an input that nobody reads afterwards if each tile reads of it
//! nothing but what the tile itself writes, and before it writes it. The plan uses that to
//! let results take over memory; whoever reads a plan proves it again.

use std::collections::BTreeMap;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::tir::segments::{Segments, segments};
use fermata_ir::tir::{LoopKind, Stmt};

use super::memory::Lifetime;
use super::plan::{BufferId, Kernel, KernelId, Step};

/// Proofs about kernels, each made once.
#[derive(Debug, Default)]
pub struct Proofs {
    segments: BTreeMap<KernelId, Option<Segments>>,
    proved: BTreeMap<(KernelId, usize, usize), bool>,
}

impl Proofs {
    /// Whether the buffer of a kernel's parameter number `input` may also be that of number `output`.
    pub fn allow(&mut self, id: KernelId, kernel: &Kernel, input: usize, output: usize) -> bool {
        let func = &kernel.func;
        if let Some(&known) = self.proved.get(&(id, input, output)) {
            return known;
        }
        let segments = self.segments.entry(id).or_insert_with(|| segments(func));
        // The threads of a block read and write in no order that a tile's text would tell.
        let allowed = segments
            .as_ref()
            .filter(|_| !has_threads(&func.body))
            .is_some_and(|s| s.in_place(func, func.params[input], func.params[output]).is_ok());
        self.proved.insert((id, input, output), allowed);
        allowed
    }
}

fn has_threads(body: &Stmt) -> bool {
    let mut found = false;
    body.walk(&mut |s| found |= matches!(s, Stmt::For { kind: LoopKind::ThreadBinding(_), .. }));
    found
}

/// Temporaries of a function while they find their memory.
pub struct Temporaries<'a> {
    /// When each is alive.
    pub lives: Vec<Lifetime>,
    /// The number of the function's result that it is, if it is one.
    pub results: Vec<Option<usize>>,
    /// The temporary that a buffer stands for.
    pub of: &'a dyn Fn(BufferId) -> Option<usize>,
}

impl Temporaries<'_> {
    /// Lets results of launches take over arguments that end there; gives for each temporary
    /// the one whose memory it lies in. That one's lifetime and result number are of all of them,
    /// those of the others are void.
    pub fn take_over(&mut self, steps: &[Step], kernels: &PrimaryMap<KernelId, Kernel>) -> Vec<usize> {
        let mut proofs = Proofs::default();
        let mut owner: Vec<usize> = (0..self.lives.len()).collect();
        for (at, step) in steps.iter().enumerate() {
            let Step::Launch { kernel: id, args } = step else { continue };
            let kernel = &kernels[*id];
            let inputs = args.len() - kernel.func.outputs;
            let mut taken: Vec<usize> = Vec::new();
            let places: Vec<Option<usize>> = args.iter().map(|&a| (self.of)(a).map(|t| owner[t])).collect();
            for output in inputs..args.len() {
                let Some(result) = places[output].filter(|&r| self.lives[r].first == at) else { continue };
                let mut ends = places[..inputs].iter().flatten().copied();
                let found = ends.find(|&t| {
                    let mut readers = (0..inputs).filter(|&i| places[i] == Some(t));
                    let raw = kernel.raw.map(|raw| (raw, &kernels[raw]));
                    let mut allow = |i| {
                        let mut variants = [(*id, kernel)].into_iter().chain(raw);
                        variants.all(|(id, kernel)| proofs.allow(id, kernel, i, output))
                    };
                    !taken.contains(&t) && self.ends_at(t, at, result) && readers.all(&mut allow)
                });
                if let Some(source) = found {
                    taken.push(source);
                    self.merge(source, result);
                    owner[result] = source;
                }
            }
        }
        owner
    }

    /// True if a temporary is last used by the step that first writes `result`, and its memory fits.
    fn ends_at(&self, t: usize, step: usize, result: usize) -> bool {
        let (from, to) = (self.lives[t], self.lives[result]);
        t != result
            && from.last == step
            && from.bytes == to.bytes
            && to.bytes > 0
            && self.results[t].is_none()
    }

    fn merge(&mut self, source: usize, result: usize) {
        // A result that nobody reads still ends the source here.
        self.lives[source].last = self.lives[result].last;
        self.lives[result] = Lifetime { bytes: 0, first: usize::MAX, last: 0 };
        self.results[source] = self.results[result].take();
    }
}
