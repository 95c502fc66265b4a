//! Every access to a buffer in a function, with what is known where it happens.

use std::collections::HashSet;

use super::facts::Facts;
use super::interval::Interval;
use super::intrin;
use super::ir::{BufferId, Expr, ExprKind, LoopKind, PrimFunc, Range, Region, Stmt};

/// Nodes that are visited in the expressions of one statement. Selects make a node appear
/// once for each way to it; past this many, the rest is taken as unknown.
const MAX_VISITS: usize = 1 << 14;

/// One access: a load, a store, or a region of an intrinsic.
#[derive(Clone, Debug)]
pub struct Access {
    /// The buffer.
    pub buffer: BufferId,
    /// The box, in terms of loop variables.
    pub ranges: Vec<Range>,
    /// Whether it writes.
    pub write: bool,
}

/// Calls `f` for each access in the order of the text. Returns false if there were too many
/// ways through selects to look at all of them.
pub fn for_each_access(func: &PrimFunc, f: &mut dyn FnMut(&Facts, &Access)) -> bool {
    let mut walk = Walk { f, complete: true };
    walk.stmt(&func.body, &mut Facts::default());
    walk.complete
}

struct Walk<'f> {
    f: &'f mut dyn FnMut(&Facts, &Access),
    complete: bool,
}

impl Walk<'_> {
    fn stmt(&mut self, s: &Stmt, facts: &mut Facts) {
        match s {
            Stmt::Seq(stmts) => stmts.iter().for_each(|s| self.stmt(s, facts)),
            Stmt::For { var, extent, kind, body } => {
                self.loads(extent, facts);
                let mut inside = facts.clone();
                inside.bind_loop(*var, extent);
                if *kind == LoopKind::Tiles
                    && let Some(n) = extent.as_int()
                {
                    inside.bind_bounds(*var, Interval::below(n));
                }
                self.stmt(body, &mut inside);
            }
            Stmt::Block(block) => {
                let mut inside = facts.clone();
                for it in &block.iters {
                    self.loads(&it.binding, facts);
                    inside.bind_value(it.var, &it.binding);
                }
                if let Some(predicate) = &block.predicate {
                    self.loads(predicate, &inside);
                    inside.assume(predicate, true);
                }
                for s in block.init.iter().chain([&block.body]) {
                    self.stmt(s, &mut inside.clone());
                }
            }
            Stmt::Let { var, value } => {
                self.loads(value, facts);
                facts.bind_value(*var, value);
            }
            Stmt::If { cond, then, els } => {
                self.loads(cond, facts);
                let mut inside = facts.clone();
                inside.assume(cond, true);
                self.stmt(then, &mut inside);
                if let Some(els) = els {
                    let mut inside = facts.clone();
                    inside.assume(cond, false);
                    self.stmt(els, &mut inside);
                }
            }
            Stmt::Store { buffer, indices, value } => {
                indices.iter().for_each(|i| self.loads(i, facts));
                self.loads(value, facts);
                self.element(*buffer, indices, true, facts);
            }
            Stmt::Intrin { name, regions, params } => {
                params.iter().for_each(|p| self.loads(p, facts));
                let known = intrin::lookup(name);
                for (i, r) in regions.iter().enumerate() {
                    let access = known.and_then(|def| def.regions.get(i)).map(|def| def.access);
                    // What is not in the catalogue may do anything.
                    let (reads, writes) = match access {
                        Some(intrin::Access::Read) => (true, false),
                        Some(intrin::Access::Write) => (false, true),
                        Some(intrin::Access::Update) | None => (true, true),
                    };
                    [(reads, false), (writes, true)].iter().filter(|(does, _)| *does).for_each(
                        |(_, write)| {
                            self.region(r, *write, facts);
                        },
                    );
                }
            }
            Stmt::Checkpoint | Stmt::Barrier => {}
        }
    }

    fn region(&mut self, region: &Region, write: bool, facts: &Facts) {
        let expand = |r: &Range| Range { min: facts.expand(&r.min), extent: facts.expand(&r.extent) };
        let ranges = region.ranges.iter().map(expand).collect();
        (self.f)(facts, &Access { buffer: region.buffer, ranges, write });
    }

    fn element(&mut self, buffer: BufferId, indices: &[Expr], write: bool, facts: &Facts) {
        let range = |i: &Expr| Range { min: facts.expand(i), extent: Expr::int(1) };
        (self.f)(facts, &Access { buffer, ranges: indices.iter().map(range).collect(), write });
    }

    /// The loads of an expression; the sides of a select know its condition.
    fn loads(&mut self, root: &Expr, facts: &Facts) {
        let mut contexts: Vec<Facts> = vec![facts.clone()];
        let mut seen: HashSet<(usize, usize)> = HashSet::new();
        let mut stack = vec![(root, 0usize)];
        while let Some((e, context)) = stack.pop() {
            if !seen.insert((e.key(), context)) {
                continue;
            }
            if seen.len() > MAX_VISITS {
                self.complete = false;
                return;
            }
            match e.kind() {
                ExprKind::Select(c, a, b) => {
                    stack.push((c, context));
                    for (side, holds) in [(a, true), (b, false)] {
                        if side.kind().children().is_empty() {
                            continue;
                        }
                        let mut inside = contexts[context].clone();
                        inside.assume(c, holds);
                        stack.push((side, contexts.len()));
                        contexts.push(inside);
                    }
                }
                ExprKind::Load(buffer, indices) => {
                    stack.extend(indices.iter().map(|i| (i, context)));
                    self.element(*buffer, indices, false, &contexts[context]);
                }
                _ => stack.extend(e.kind().children().into_iter().map(|c| (c, context))),
            }
        }
    }
}
