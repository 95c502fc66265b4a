//! Which part of each buffer a statement reads and writes.

use indexmap::IndexMap;

use super::interval::{Bounds, Interval};
use super::ir::{BufferId, Expr, ExprKind, IterVar, PrimFunc, Range, Region, Stmt, VarId};
use super::linear::{Linear, difference};
use super::visit::{has_load, loads, vars};

/// The whole buffer.
pub fn full_region(func: &PrimFunc, buffer: BufferId) -> Region {
    let shape = &func.buffers[buffer].shape;
    let ranges = shape.iter().map(|&n| Range { min: Expr::int(0), extent: Expr::from(n) }).collect();
    Region { buffer, ranges }
}

/// What a block with these variables and this body reads and writes, one region a buffer in
/// order of first access. Variables bound inside the body are widened to all their values;
/// a dimension whose index is not affine in them is taken whole. A buffer that the body
/// writes is not among the reads.
pub fn access_regions(func: &PrimFunc, iters: &[IterVar], body: &Stmt) -> (Vec<Region>, Vec<Region>) {
    let mut access = Access { func, inner: Bounds::new(), reads: IndexMap::new(), writes: IndexMap::new() };
    body.walk(&mut |s| {
        if let Stmt::For { var, extent, .. } = s {
            let all = access.inner.of(extent);
            access.inner.set(*var, Interval::new(0, all.hi.saturating_sub(1)));
        } else if let Stmt::Let { var, .. } = s {
            access.inner.set(*var, Interval::ALL);
        } else if let Stmt::Block(b) = s {
            for it in &b.iters {
                access.inner.set(it.var, Interval::below(it.extent));
            }
        }
    });
    debug_assert!(iters.iter().all(|it| !access.inner.knows(it.var)), "a variable is bound once");
    body.walk(&mut |s| access.statement(s));
    let Access { reads, writes, .. } = access;
    let region = |(buffer, ranges)| Region { buffer, ranges };
    let read = reads.into_iter().filter(|(b, _)| !writes.contains_key(b)).map(region).collect();
    (read, writes.into_iter().map(region).collect())
}

struct Access<'a> {
    func: &'a PrimFunc,
    /// Variables bound inside.
    inner: Bounds,
    reads: IndexMap<BufferId, Vec<Range>>,
    writes: IndexMap<BufferId, Vec<Range>>,
}

impl Access<'_> {
    fn statement(&mut self, s: &Stmt) {
        let exprs = match s {
            // A block's own regions are declarations, not accesses.
            Stmt::Block(b) => b.predicate.iter().collect(),
            _ => s.exprs(),
        };
        for (buffer, indices) in loads(exprs) {
            let ranges = self.ranges(buffer, indices.iter().map(|i| (i.clone(), Expr::int(1))));
            self.add(buffer, ranges, false);
        }
        match s {
            Stmt::Store { buffer, indices, .. } => {
                let ranges = self.ranges(*buffer, indices.iter().map(|i| (i.clone(), Expr::int(1))));
                self.add(*buffer, ranges, true);
            }
            Stmt::Intrin { name, regions, .. } => {
                let outputs = super::intrin::lookup(name).map_or(regions.len(), |i| i.outputs());
                for (i, region) in regions.iter().enumerate() {
                    let boxes = region.ranges.iter().map(|r| (r.min.clone(), r.extent.clone()));
                    let ranges = self.ranges(region.buffer, boxes);
                    self.add(region.buffer, ranges, i < outputs);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, buffer: BufferId, ranges: Vec<Range>, write: bool) {
        let shape = &self.func.buffers[buffer].shape;
        let map = if write { &mut self.writes } else { &mut self.reads };
        match map.entry(buffer) {
            indexmap::map::Entry::Vacant(entry) => {
                entry.insert(ranges);
            }
            indexmap::map::Entry::Occupied(mut entry) => {
                for ((old, new), &n) in entry.get_mut().iter_mut().zip(ranges).zip(shape) {
                    *old = hull(old, &new, n);
                }
            }
        }
    }

    fn ranges(&self, buffer: BufferId, boxes: impl Iterator<Item = (Expr, Expr)>) -> Vec<Range> {
        let shape = &self.func.buffers[buffer].shape;
        shape.iter().zip(boxes).map(|(&n, (min, extent))| self.widen(min, extent, n)).collect()
    }

    /// `min .. min + extent` over all values of the inner variables.
    fn widen(&self, min: Expr, extent: Expr, n: usize) -> Range {
        let is_inner = |v: &VarId| self.inner.knows(*v);
        if has_load(&min) || has_load(&extent) || vars([&extent]).iter().any(is_inner) {
            return whole(n);
        }
        if !vars([&min]).iter().any(is_inner) {
            return Range { min, extent };
        }
        let sum = Linear::of(&min);
        let (inner, outer) = sum.partition(|atom, _| vars([atom]).iter().any(is_inner));
        let mixed = inner.terms.iter().any(|(atom, _)| !vars([atom]).iter().all(is_inner));
        let span = inner.interval(&self.inner);
        match extent.as_int() {
            Some(e) if span.is_bounded() && !span.is_empty() && !mixed => {
                let extent = Expr::int(span.hi - span.lo + e);
                let start = outer.plus(&Linear { terms: Vec::new(), constant: span.lo }, 1);
                start.map_or_else(|| whole(n), |s| Range { min: s.to_expr(), extent })
            }
            _ => whole(n),
        }
    }
}

fn whole(n: usize) -> Range {
    Range { min: Expr::int(0), extent: Expr::from(n) }
}

/// The smallest range with both, if they lie a constant apart; else the whole dimension.
fn hull(a: &Range, b: &Range, n: usize) -> Range {
    if a == b {
        return a.clone();
    }
    let sizes = (a.extent.as_int(), b.extent.as_int());
    let shift = difference(&b.min, &a.min).and_then(|d| d.as_const());
    match (sizes, shift) {
        ((Some(na), Some(nb)), Some(shift)) => {
            let extent = na.max(shift + nb) - shift.min(0);
            Range { min: if shift < 0 { b.min.clone() } else { a.min.clone() }, extent: Expr::int(extent) }
        }
        _ => whole(n),
    }
}

/// True if an expression is exactly this variable.
pub fn is_var(e: &Expr, var: VarId) -> bool {
    matches!(e.kind(), ExprKind::Var(v) if *v == var)
}
