//! The cost model: how long one tile of a kernel takes on one core, predicted.
//!
//! A tile is walked once, every loop at its longest. What its statements and expressions cost is
//! counted in clock cycles ([`ops`]), calls of tensor intrinsics by their sizes ([`intrin`]), and
//! bytes by the distinct elements of each parameter that a tile touches and the cache that holds
//! what all tiles touch. Computing and moving overlap: the longer of the two counts, and a part
//! of the other. It depends on the function and the target alone, so the same program always
//! gives the same kernels.
//!
//! It is meant to be right within a factor of two. BENCHMARKS.md says how good it is.

pub mod intrin;
mod ops;

use std::collections::BTreeMap;

use fermata_ir::tir::interval::{Bounds, Interval};
use fermata_ir::tir::visit::{post_order, vars};
use fermata_ir::tir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Range, Scope, Stmt, VarId};

use crate::target::{CpuPeaks, CpuTarget};

/// Cycles to call the tile function, claim a tile and count it.
const TILE: f64 = 60.0;

/// Cycles that a turn of a loop costs besides its body.
const TURN: f64 = 1.0;

/// Elements of the accumulators that stay in registers.
const REGISTERS: usize = 16;

/// Cycles between two additions to the same accumulator.
const CHAIN: f64 = 4.0;

/// The part of the shorter of computing and moving that is not hidden by the longer.
const EXPOSED: f64 = 0.3;

/// What a tile costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds in all.
    pub ns: f64,
    /// Where most of it goes.
    pub heaviest: Heaviest,
}

/// The costliest statement of a tile.
#[derive(Clone, Debug, PartialEq)]
pub enum Heaviest {
    /// A call of a tensor intrinsic: its name and the largest parameters.
    Intrinsic(String, Vec<i64>),
    /// Loops around a store: their variables and extents, outermost first.
    Loops(Vec<(String, i64)>),
}

/// Cycles for an element of a loop along `lane` that stores a value, what stands still in it left out.
pub fn element(value: &Expr, buffers: &ops::Buffers, lane: VarId) -> f64 {
    let vector = ops::is_vector_value(value, buffers, lane);
    let moving = post_order([value]).into_iter().filter(|e| vars([*e]).contains(&lane));
    let cycles = moving.map(|e| ops::cycles(e, buffers, vector.then_some(lane))).sum::<f64>() + ops::STORE;
    if vector { cycles / ops::VECTOR } else { cycles }
}

/// Computing and moving at once: the longer of the two, and a part of the other.
pub fn overlapped(computing: f64, moving: f64) -> f64 {
    computing.max(moving) + EXPOSED * computing.min(moving)
}

/// Bytes a nanosecond where all that a kernel works on is so many bytes.
pub fn rate(target: &CpuTarget, all: f64) -> f64 {
    let peaks = target.peaks();
    match all {
        all if all <= target.l2_bytes as f64 => peaks.l2,
        all if all <= peaks.l3_bytes as f64 => peaks.l3,
        _ => peaks.memory,
    }
}

/// The cost of the longest tile of a scheduled kernel on one core.
pub fn tile(func: &PrimFunc, target: &CpuTarget) -> Cost {
    let peaks = target.peaks();
    let mut model = Model {
        func,
        peaks,
        bounds: Bounds::new(),
        loops: Vec::new(),
        depths: BTreeMap::new(),
        cycles: TILE,
        touched: BTreeMap::new(),
        heaviest: (0.0, Heaviest::Loops(Vec::new())),
    };
    let body = match &func.body {
        Stmt::For { var, extent, kind: LoopKind::Tiles, body } => {
            model.bounds.set(*var, Interval::below(extent.as_int().unwrap_or(1).max(1)));
            model.depths.insert(*var, 0);
            body
        }
        body => body,
    };
    model.stmt(body);
    let computing = model.cycles / peaks.clock;
    let moving = model.moving(target);
    Cost { ns: overlapped(computing, moving), heaviest: model.heaviest.1 }
}

/// A loop on the way to a statement.
struct Loop {
    var: VarId,
    extent: f64,
    vector: bool,
}

struct Model<'f> {
    func: &'f PrimFunc,
    peaks: CpuPeaks,
    bounds: Bounds,
    loops: Vec<Loop>,
    /// How many loops a variable needs to be inside of: its value is computed once for each of
    /// their turns.
    depths: BTreeMap<VarId, usize>,
    cycles: f64,
    /// Bytes of each parameter that the tile touches.
    touched: BTreeMap<BufferId, f64>,
    heaviest: (f64, Heaviest),
}

impl Model<'_> {
    fn stmt(&mut self, s: &Stmt) {
        match s {
            Stmt::Seq(stmts) => stmts.iter().for_each(|s| self.stmt(s)),
            Stmt::For { var, extent, kind, body } => self.turns(*var, extent, kind, body),
            Stmt::Block(block) => {
                for it in &block.iters {
                    self.bind(it.var, &it.binding);
                }
                block.predicate.iter().for_each(|p| {
                    self.exprs(&[p]);
                });
                block.init.iter().for_each(|s| self.stmt(s));
                self.stmt(&block.body);
            }
            Stmt::Let { var, value } => {
                self.exprs(&[value]);
                self.bind(*var, value);
            }
            Stmt::If { cond, then, els } => {
                self.exprs(&[cond]);
                self.stmt(then);
                els.iter().for_each(|s| self.stmt(s));
            }
            Stmt::Store { buffer, indices, value } => self.store(*buffer, indices, value),
            Stmt::Intrin { name, regions, params } => {
                let params: Vec<i64> = params.iter().map(|p| self.largest(p)).collect();
                let cycles = intrin::cycles(name, &params, &self.peaks) * self.times(self.loops.len());
                self.spend(cycles, || Heaviest::Intrinsic(name.to_string(), params.clone()));
                for (at, region) in regions.iter().enumerate() {
                    let all = || region.ranges.iter().map(|r| self.range(r)).product();
                    let elements = intrin::read_elements(name, at, &params).unwrap_or_else(all);
                    self.touch(region.buffer, elements);
                }
            }
            Stmt::Checkpoint | Stmt::Barrier => {}
        }
    }

    /// The largest value of an index expression, 0 if nothing is known.
    fn largest(&self, e: &Expr) -> i64 {
        let bounds = self.bounds.of(e);
        if bounds.hi == i64::MAX { bounds.lo.max(0) } else { bounds.hi.max(0) }
    }

    fn range(&self, range: &Range) -> f64 {
        self.largest(&range.extent) as f64
    }

    fn bind(&mut self, var: VarId, value: &Expr) {
        self.bounds.set(var, self.bounds.of(value));
        let depth = match fermata_ir::tir::visit::has_load(value) {
            true => self.loops.len(),
            false => self.depth(value),
        };
        self.depths.insert(var, depth);
    }

    /// How many of the loops around it an expression changes with.
    fn depth(&self, e: &Expr) -> usize {
        vars([e]).into_iter().map(|v| self.depths.get(&v).copied().unwrap_or(0)).max().unwrap_or(0)
    }

    /// How often what stands inside so many loops runs; lanes of a vector are one run.
    fn times(&self, depth: usize) -> f64 {
        let turns = |l: &Loop| if l.vector { (l.extent / ops::VECTOR).max(1.0) } else { l.extent };
        self.loops[..depth].iter().map(turns).product()
    }

    fn spend(&mut self, cycles: f64, what: impl FnOnce() -> Heaviest) {
        self.cycles += cycles;
        if cycles > self.heaviest.0 {
            self.heaviest = (cycles, what());
        }
    }

    fn turns(&mut self, var: VarId, extent: &Expr, kind: &LoopKind, body: &Stmt) {
        let turns = self.largest(extent);
        self.bounds.set(var, Interval::below(turns.max(1)));
        self.depths.insert(var, self.loops.len() + 1);
        let vector = *kind == LoopKind::Vectorized && ops::is_vector(body, &self.func.buffers, var);
        self.loops.push(Loop { var, extent: turns as f64, vector });
        self.cycles += TURN * self.times(self.loops.len());
        self.stmt(body);
        self.loops.pop();
    }

    /// Counts the nodes of expressions, each where the innermost loop that it changes with is.
    fn exprs(&mut self, roots: &[&Expr]) -> f64 {
        let mut cycles = 0.0;
        let here = self.loops.len();
        let mut depths: BTreeMap<usize, usize> = BTreeMap::new();
        for e in post_order(roots.iter().copied()) {
            let children = e.kind().children();
            let below = children.iter().map(|c| depths[&c.key()]).max().unwrap_or(0);
            let depth = match e.kind() {
                ExprKind::Var(v) => self.depths.get(v).copied().unwrap_or(0),
                ExprKind::Load(..) => here,
                _ => below,
            };
            depths.insert(e.key(), depth.min(here));
            let lane = self.loops[..depth.min(here)].last().filter(|l| l.vector).map(|l| l.var);
            let mut own = ops::cycles(e, &self.func.buffers, lane);
            if let ExprKind::Load(buffer, indices) = e.kind() {
                self.access(*buffer, indices);
                own = if self.in_registers(*buffer) { 0.0 } else { own };
            }
            cycles += own * self.times(depth.min(here));
        }
        self.cycles += cycles;
        cycles
    }

    fn store(&mut self, buffer: BufferId, indices: &[Expr], value: &Expr) {
        let roots: Vec<&Expr> = indices.iter().chain([value]).collect();
        let storing = if self.in_registers(buffer) { 0.0 } else { ops::STORE * self.times(self.loops.len()) };
        let mut cycles = self.exprs(&roots) + storing;
        self.cycles += storing;
        self.access(buffer, indices);
        let accumulates = post_order([value])
            .iter()
            .any(|e| matches!(e.kind(), ExprKind::Load(b, at) if *b == buffer && at == indices));
        if accumulates {
            // Additions to one element wait for each other.
            let own: usize = indices.iter().map(|i| self.depth(i)).max().unwrap_or(0);
            let chained = (0..self.loops.len()).rev().find(|&d| d >= own || !self.mentions(indices, d));
            let chain = chained.map_or(0.0, |d| ops::chain(value) * CHAIN * self.times(d + 1));
            let waiting = (chain - cycles).max(0.0);
            self.cycles += waiting;
            cycles += waiting;
        }
        if cycles > self.heaviest.0 {
            let loops = self.loops.iter().map(|l| (self.func.vars[l.var].name.to_string(), l.extent as i64));
            self.heaviest = (cycles, Heaviest::Loops(loops.collect()));
        }
    }

    /// Whether a buffer is one that the code generator keeps in registers.
    fn in_registers(&self, buffer: BufferId) -> bool {
        let info = &self.func.buffers[buffer];
        info.scope == Scope::Local && info.shape.iter().product::<usize>() <= REGISTERS
    }

    /// Whether indices change with the loop at this depth.
    fn mentions(&self, indices: &[Expr], loop_at: usize) -> bool {
        indices.iter().any(|i| vars([i]).contains(&self.loops[loop_at].var))
    }

    /// Notes the elements that an access reaches in one tile: a turn of every loop that it changes with.
    fn access(&mut self, buffer: BufferId, indices: &[Expr]) {
        let deep = indices.iter().flat_map(|i| vars([i])).collect::<std::collections::BTreeSet<_>>();
        let depths: Vec<usize> = deep.iter().map(|v| self.depths.get(v).copied().unwrap_or(0)).collect();
        let direct = |l: &Loop| deep.contains(&l.var);
        // A let's value stands for the loops up to its own.
        let bound = deep.iter().zip(&depths).filter(|(v, _)| self.loops.iter().all(|l| l.var != **v));
        let through = bound.map(|(_, d)| *d).max().unwrap_or(0);
        let counted = self.loops.iter().enumerate().filter(|(at, l)| direct(l) || *at < through);
        let elements: f64 = counted.map(|(_, l)| l.extent.max(1.0)).product();
        self.touch(buffer, elements);
    }

    fn touch(&mut self, buffer: BufferId, elements: f64) {
        if self.func.params.contains(&buffer) {
            let info = &self.func.buffers[buffer];
            let all = info.shape.iter().map(|&n| n as f64).product::<f64>();
            let bytes = elements.min(all) * info.dtype.bytes() as f64;
            let known = self.touched.entry(buffer).or_default();
            *known = known.max(bytes);
        }
    }

    /// Nanoseconds to bring a tile's bytes from where all that the kernel works on fits.
    fn moving(&self, target: &CpuTarget) -> f64 {
        let size = |b: &BufferId| {
            let info = &self.func.buffers[*b];
            info.shape.iter().map(|&n| n as f64).product::<f64>() * info.dtype.bytes() as f64
        };
        let all: f64 = self.func.params.iter().map(size).sum();
        self.touched.values().sum::<f64>() / rate(target, all)
    }
}

#[cfg(test)]
mod tests;
