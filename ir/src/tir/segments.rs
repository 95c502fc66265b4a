//! Which part of each parameter a tile reads and writes.
//!
//! For every access the analysis keeps, for each dimension and for the flat (row-major)
//! element offset, a base that depends on the tile only and an interval around it. Where an
//! index is not affine the interval is the whole dimension: a segment never says less than
//! the truth. Scratch memory belongs to one tile and has no segments.

use std::collections::BTreeMap;

use self::digits::Digit;
use super::access::{Access, for_each_access};
use super::facts::Facts;
use super::interval::{Bounds, Interval};
use super::ir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Stmt, VarId};
use super::linear::Linear;
use super::simplify::simplify;
use super::visit::{loads, substitute, vars};

mod digits;

/// Tiles up to which segments are compared one by one where no formula decides.
const MAX_ENUMERATED: i64 = 2048;

/// Whether tiles may run in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TilesIndependent {
    /// Different tiles write disjoint parts, and no tile reads what another writes.
    Proved,
    /// Analysis cannot show it; the reason.
    Unproved(String),
}

/// Indices that a tile touches: `base(tile) + lo ..= base(tile) + hi`.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    /// A sum of atoms that mention no variable but the tile.
    base: Linear,
    around: Interval,
}

/// One access: its dimensions and its flat offsets.
#[derive(Clone, Debug, PartialEq)]
struct Footprint {
    dims: Vec<Span>,
    flat: Span,
}

/// What the tiles of a scheduled function touch.
#[derive(Clone, Debug)]
pub struct Segments {
    tile: VarId,
    tiles: i64,
    reads: BTreeMap<BufferId, Vec<Footprint>>,
    writes: BTreeMap<BufferId, Vec<Footprint>>,
    complete: bool,
}

/// The segments of a function's parameters, if it is scheduled. The function has passed the verifier.
pub fn segments(func: &PrimFunc) -> Option<Segments> {
    let Stmt::For { var, kind: LoopKind::Tiles, .. } = &func.body else { return None };
    let (reads, writes) = (BTreeMap::new(), BTreeMap::new());
    let mut all = Segments { tile: *var, tiles: func.tiles()?, reads, writes, complete: true };
    let complete = for_each_access(func, &mut |facts, access| {
        if func.params.contains(&access.buffer) {
            let footprint = all.footprint(facts, access, &func.buffers[access.buffer].shape);
            let map = if access.write { &mut all.writes } else { &mut all.reads };
            let list = map.entry(access.buffer).or_default();
            if !list.contains(&footprint) {
                list.push(footprint);
            }
        }
    });
    all.complete = complete;
    Some(all)
}

impl Segments {
    fn footprint(&self, facts: &Facts, access: &Access, shape: &[usize]) -> Footprint {
        let mut offset = Expr::int(0);
        let mut beyond = 0i64;
        let mut stride = 1i64;
        let mut dims = Vec::new();
        for (range, &n) in access.ranges.iter().zip(shape).rev() {
            let extent = facts.bounds().of(&range.extent).hi.clamp(0, n as i64);
            let span = self.span(facts.bounds(), &range.min, extent - 1, n as i64);
            offset = range.min.clone() * stride + offset;
            beyond += (extent - 1).max(0) * stride;
            stride = stride.saturating_mul(n as i64);
            dims.push(span);
        }
        dims.reverse();
        let offset = simplify(&offset, facts.bounds());
        Footprint { dims, flat: self.span(facts.bounds(), &offset, beyond, stride) }
    }

    /// The span of `min ..= min + beyond` in `0..n`.
    fn span(&self, bounds: &Bounds, min: &Expr, beyond: i64, n: i64) -> Span {
        let (base, rest) = Linear::of(min)
            .partition(|atom, _| vars([atom]).iter().all(|v| *v == self.tile) && !has_load(atom));
        let around = rest.interval(bounds) + Interval::new(0, beyond);
        if around.is_bounded() {
            Span { base, around }
        } else {
            Span { base: Linear::default(), around: Interval::below(n) }
        }
    }

    /// Whether tiles may run in any order, on any worker, with the same result.
    pub fn independent(&self, func: &PrimFunc) -> TilesIndependent {
        if !self.complete {
            return TilesIndependent::Unproved("there are too many ways through selects".into());
        }
        for (b, writes) in &self.writes {
            let name = &func.buffers[*b].name;
            let shape = &func.buffers[*b].shape;
            if !self.disjoint(writes, writes, shape) {
                return TilesIndependent::Unproved(format!("tiles may write the same part of `{name}`"));
            }
            let reads = self.reads.get(b).map_or(&[][..], Vec::as_slice);
            if !reads.is_empty() && !self.disjoint(reads, writes, shape) {
                return TilesIndependent::Unproved(format!(
                    "a tile may read what another writes of `{name}`"
                ));
            }
        }
        TilesIndependent::Proved
    }

    /// The flat elements of a parameter that any tile touches: first and last. A superset.
    pub fn whole(&self, func: &PrimFunc, buffer: BufferId, write: bool) -> Option<(i64, i64)> {
        let len = func.buffers[buffer].shape.iter().product::<usize>() as i64;
        let map = if write { &self.writes } else { &self.reads };
        let mut bounds = Bounds::new();
        bounds.set(self.tile, Interval::below(self.tiles));
        let spans = map.get(&buffer)?.iter().map(|f| f.flat.base.interval(&bounds) + f.flat.around);
        let all = spans.fold(Interval::new(1, 0), Interval::hull).intersect(Interval::below(len));
        (!all.is_empty()).then_some((all.lo, all.hi))
    }

    /// The flat elements of a parameter that one tile touches: first and last. A superset.
    pub fn of_tile(&self, func: &PrimFunc, buffer: BufferId, write: bool, tile: i64) -> Option<(i64, i64)> {
        let len = func.buffers[buffer].shape.iter().product::<usize>() as i64;
        let map = if write { &self.writes } else { &self.reads };
        let spans = map.get(&buffer)?.iter().map(|f| self.at(&f.flat, tile));
        let all = spans.fold(Interval::new(1, 0), Interval::hull).intersect(Interval::below(len));
        (!all.is_empty()).then_some((all.lo, all.hi))
    }

    /// Whether the buffer of an input may also be that of an output: a tile reads of it only
    /// what this tile writes, and before it writes it.
    ///
    /// # Errors
    /// Why not, or why analysis cannot tell.
    pub fn in_place(&self, func: &PrimFunc, input: BufferId, output: BufferId) -> Result<(), String> {
        let (from, to) = (&func.buffers[input], &func.buffers[output]);
        if !self.complete || from.dtype.bytes() != to.dtype.bytes() {
            return Err("the elements have different sizes".into());
        }
        if from.shape.iter().product::<usize>() != to.shape.iter().product::<usize>() {
            return Err("the buffers have different sizes".into());
        }
        let Some(reads) = self.reads.get(&input) else { return Ok(()) };
        let writes = self.writes.get(&output).map_or(&[][..], Vec::as_slice);
        // Dimensions are comparable only between equal shapes.
        let shape: &[usize] = if from.shape == to.shape { &from.shape } else { &[] };
        if !self.disjoint(reads, writes, shape) {
            return Err("a tile may read what another writes".into());
        }
        order_in_tile(func, input, output)
    }

    /// True if no tile's part of `a` meets another tile's part of `b`. Dimensions count only
    /// where a shape is given.
    fn disjoint(&self, a: &[Footprint], b: &[Footprint], shape: &[usize]) -> bool {
        if self.tiles <= 1 {
            return true;
        }
        let dim = |d: usize| move |f: &Footprint| f.dims[d].clone();
        let by_formula =
            self.apart(a, b, &|f| f.flat.clone()) || (0..shape.len()).any(|d| self.apart(a, b, &dim(d)));
        by_formula
            || self.apart_in_grid(a, b, shape.len())
            || (self.tiles <= MAX_ENUMERATED && self.apart_one_by_one(a, b, shape.len()))
    }

    /// True if all spans move by the same step from tile to tile, and none is wider than it.
    fn apart(&self, a: &[Footprint], b: &[Footprint], span: &dyn Fn(&Footprint) -> Span) -> bool {
        let is_tile = |atom: Expr| matches!(atom.kind(), ExprKind::Var(v) if *v == self.tile);
        a.is_empty() && b.is_empty() || moving(a, b, span).is_some_and(is_tile)
    }

    /// True if the dimensions in which all spans move by the same step, and none is wider than it,
    /// say together which tile it is: two tiles then lie apart in one of them.
    fn apart_in_grid(&self, a: &[Footprint], b: &[Footprint], rank: usize) -> bool {
        let digit = |d: usize| {
            let atom = moving(a, b, &|f: &Footprint| f.dims[d].clone())?;
            Digit::of(&atom, self.tile, self.tiles)
        };
        digits::tell_apart((0..rank).filter_map(digit).collect(), self.tiles)
    }

    /// Compares the segments of all pairs of tiles: flat, or as boxes.
    fn apart_one_by_one(&self, a: &[Footprint], b: &[Footprint], rank: usize) -> bool {
        let flat = |f: &Footprint| vec![f.flat.clone()];
        let dims = |f: &Footprint| f.dims.clone();
        self.pairs_apart(&self.boxes(a, &flat), &self.boxes(b, &flat))
            || (rank > 0 && self.pairs_apart(&self.boxes(a, &dims), &self.boxes(b, &dims)))
    }

    /// For each tile the smallest box with all its spans.
    fn boxes(&self, footprints: &[Footprint], spans: &dyn Fn(&Footprint) -> Vec<Span>) -> Vec<Vec<Interval>> {
        let parts: Vec<Vec<Span>> = footprints.iter().map(spans).collect();
        let of_tile = |t: i64| {
            let mut hull: Vec<Interval> = Vec::new();
            for part in &parts {
                let here = part.iter().map(|s| self.at(s, t));
                hull = if hull.is_empty() {
                    here.collect()
                } else {
                    hull.iter().zip(here).map(|(h, s)| h.hull(s)).collect()
                };
            }
            hull
        };
        (0..self.tiles).map(of_tile).collect()
    }

    fn at(&self, span: &Span, tile: i64) -> Interval {
        let mut bounds = Bounds::new();
        bounds.set(self.tile, Interval::point(tile));
        span.base.interval(&bounds) + span.around
    }

    fn pairs_apart(&self, a: &[Vec<Interval>], b: &[Vec<Interval>]) -> bool {
        let meet = |x: &[Interval], y: &[Interval]| x.iter().zip(y).all(|(p, q)| !p.intersect(*q).is_empty());
        a.iter().enumerate().all(|(t, x)| b.iter().enumerate().all(|(u, y)| t == u || !meet(x, y)))
    }
}

/// What all spans move with by the same step, if none is wider than that.
fn moving(a: &[Footprint], b: &[Footprint], span: &dyn Fn(&Footprint) -> Span) -> Option<Expr> {
    let spans: Vec<Span> = a.iter().chain(b).map(span).collect();
    let terms = &spans.first()?.base.terms;
    let [(atom, step)] = terms.as_slice() else { return None };
    let around = |s: &Span| s.around + Interval::point(s.base.constant);
    let hull = spans.iter().map(around).fold(Interval::new(1, 0), Interval::hull);
    let narrow = hull.hi.checked_sub(hull.lo).is_some_and(|width| width < step.saturating_abs());
    (narrow && spans.iter().all(|s| s.base.terms == *terms)).then(|| atom.clone())
}

fn has_load(e: &Expr) -> bool {
    super::visit::has_load(e)
}

/// Within a tile every read of the input comes before the first write of the output, or all
/// of both is one store, of each element once, from the same element.
fn order_in_tile(func: &PrimFunc, input: BufferId, output: BufferId) -> Result<(), String> {
    let Stmt::For { body, .. } = &func.body else { return Err("the function has no tiles".into()) };
    let steps = body.flatten();
    let first_write = steps.iter().position(|s| writes(s, output)).unwrap_or(steps.len());
    let late: Vec<&Stmt> = steps[first_write..].iter().copied().filter(|s| reads(s, input)).collect();
    if late.is_empty() {
        return Ok(());
    }
    let stores: usize = steps.iter().map(|s| count(s, &|s| writes_here(s, output))).sum();
    let readers: usize = late.iter().map(|s| count(s, &|s| reads_here(s, input))).sum();
    if stores != 1 || readers != 1 {
        return Err("the input is read after a part of the output was written".into());
    }
    let mut values = Vec::new();
    match elementwise(late[0], func, input, output, &mut values) {
        Some(true) => Ok(()),
        _ => Err("an element is not computed from the same element alone, once".into()),
    }
}

fn writes_here(s: &Stmt, b: BufferId) -> bool {
    match s {
        Stmt::Store { buffer, .. } => *buffer == b,
        Stmt::Intrin { regions, .. } => regions.iter().any(|r| r.buffer == b),
        Stmt::Seq(_)
        | Stmt::For { .. }
        | Stmt::Block(_)
        | Stmt::Let { .. }
        | Stmt::If { .. }
        | Stmt::Checkpoint
        | Stmt::Barrier => false,
    }
}

fn reads_here(s: &Stmt, b: BufferId) -> bool {
    let exprs = match s {
        // Declared regions are no accesses.
        Stmt::Block(block) => block.iters.iter().map(|it| &it.binding).chain(&block.predicate).collect(),
        _ => s.exprs(),
    };
    let region = matches!(s, Stmt::Intrin { regions, .. } if regions.iter().any(|r| r.buffer == b));
    region || loads(exprs).iter().any(|(l, _)| *l == b)
}

fn count(root: &Stmt, pick: &dyn Fn(&Stmt) -> bool) -> usize {
    let mut n = 0;
    root.walk(&mut |s| n += pick(s) as usize);
    n
}

fn writes(root: &Stmt, b: BufferId) -> bool {
    count(root, &|s| writes_here(s, b)) > 0
}

fn reads(root: &Stmt, b: BufferId) -> bool {
    count(root, &|s| reads_here(s, b)) > 0
}

/// What a variable is bound to on the way to a statement.
enum Bound {
    Loop(VarId, Option<i64>),
    Value(VarId, Expr),
}

/// Finds the one store; true if it writes each element once, from the same element.
fn elementwise(
    s: &Stmt,
    func: &PrimFunc,
    input: BufferId,
    output: BufferId,
    way: &mut Vec<Bound>,
) -> Option<bool> {
    match s {
        Stmt::Store { buffer, indices, .. } if *buffer == output => {
            let flat = |b: BufferId, at: &[Expr]| {
                let mut offset = Expr::int(0);
                for (i, &n) in at.iter().zip(&func.buffers[b].shape) {
                    offset = offset * n + i.clone();
                }
                expand(&offset, way)
            };
            let target = flat(output, indices);
            // The reader is this store or a value that was bound on the way to it; one that runs
            // in a loop beside, as a sum does, reads other elements too.
            let bound = way.iter().filter_map(|b| match b {
                Bound::Value(_, value) => Some(value),
                Bound::Loop(..) => None,
            });
            let read = loads(s.exprs().into_iter().chain(bound));
            let mut own = read.iter().filter(|(b, _)| *b == input).peekable();
            let found = own.peek().is_some();
            let same = own.all(|(_, at)| flat(input, at) == target);
            Some(found && same && once(&target, way))
        }
        Stmt::For { var, extent, body, .. } => {
            way.push(Bound::Loop(*var, extent.as_int()));
            elementwise(body, func, input, output, way)
        }
        Stmt::Block(block) => {
            way.extend(block.iters.iter().map(|it| Bound::Value(it.var, it.binding.clone())));
            elementwise(&block.body, func, input, output, way)
        }
        Stmt::If { then, els, .. } => {
            let side = if writes(then, output) { Some(then) } else { els.as_ref() };
            side.and_then(|s| elementwise(s, func, input, output, way))
        }
        Stmt::Seq(_) => {
            for s in s.flatten() {
                match s {
                    Stmt::Let { var, value } => way.push(Bound::Value(*var, value.clone())),
                    s if writes(s, output) => return elementwise(s, func, input, output, way),
                    _ => {}
                }
            }
            None
        }
        Stmt::Store { .. } | Stmt::Let { .. } | Stmt::Intrin { .. } | Stmt::Checkpoint | Stmt::Barrier => {
            None
        }
    }
}

/// The expression in terms of loop variables, simplified.
fn expand(e: &Expr, way: &[Bound]) -> Expr {
    let mut bounds = Bounds::new();
    let mut expanded = e.clone();
    for b in way.iter().rev() {
        match b {
            Bound::Value(var, value) => {
                expanded = substitute(&expanded, &|v| (v == *var).then(|| value.clone()));
            }
            Bound::Loop(var, Some(n)) => bounds.set(*var, Interval::below(*n)),
            Bound::Loop(var, None) => bounds.set(*var, Interval::new(0, i64::MAX)),
        }
    }
    simplify(&expanded, &bounds)
}

/// True if no two iterations of the loops around it give the same offset: each coefficient
/// is larger than what the smaller ones can add up to.
fn once(offset: &Expr, way: &[Bound]) -> bool {
    let sum = Linear::of(offset);
    let mut steps = Vec::new();
    for b in way {
        match b {
            Bound::Loop(_, Some(0 | 1)) | Bound::Value(..) => {}
            Bound::Loop(var, Some(n)) => steps.push((sum.coefficient(*var).abs(), n - 1)),
            Bound::Loop(_, None) => return false,
        }
    }
    let loops = |v: VarId| way.iter().any(|b| matches!(b, Bound::Loop(l, _) if *l == v));
    let plain = sum
        .terms
        .iter()
        .all(|(atom, _)| matches!(atom.kind(), ExprKind::Var(_)) || !vars([atom]).into_iter().any(loops));
    steps.sort_unstable();
    let mut reach = 0i64;
    plain
        && steps.into_iter().all(|(step, count)| {
            let clear = step > reach;
            reach = reach.saturating_add(step.saturating_mul(count));
            clear
        })
}

#[cfg(test)]
mod tests;
