//! Walking and rewriting scalar expressions and statements.
//!
//! Expressions are DAGs of any depth: they are walked with explicit stacks, and a shared
//! node is visited once. Statements nest only as deep as [`super::verify`] allows, so
//! rewriting them may recurse.

use std::collections::BTreeSet;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::ir::{Block, BufferId, Expr, ExprKind, IterVar, Range, Region, Stmt, VarId};

/// What is known of nodes, by [`Expr::key`]. Keys are addresses: no enemy chooses them, and most
/// expressions have a handful of nodes, so hashing is nearly all that looking one up takes.
pub(crate) type NodeMap<T> = FxHashMap<usize, T>;

/// A map with room for so many nodes.
pub(crate) fn node_map<T>(nodes: usize) -> NodeMap<T> {
    NodeMap::with_capacity_and_hasher(nodes, FxBuildHasher)
}

/// The nodes of some expressions, operands first, each shared node once.
pub fn post_order<'a>(roots: impl IntoIterator<Item = &'a Expr>) -> Vec<&'a Expr> {
    let mut order = Vec::new();
    let mut seen: FxHashSet<usize> = FxHashSet::default();
    let mut stack = Vec::new();
    for root in roots {
        stack.push((root, false));
        while let Some((e, operands_done)) = stack.pop() {
            if operands_done {
                order.push(e);
            } else if seen.insert(e.key()) {
                let children = e.kind().children();
                if children.is_empty() {
                    order.push(e);
                } else {
                    stack.push((e, true));
                    stack.extend(children.into_iter().rev().map(|c| (c, false)));
                }
            }
        }
    }
    order
}

/// The same operation on other operands, folded where it became constant.
pub fn with_children(e: &Expr, mut children: impl Iterator<Item = Expr>) -> Expr {
    let mut next = || children.next().expect("as many operands as before");
    match e.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => e.clone(),
        ExprKind::Cast(_) => next().cast(e.dtype()),
        ExprKind::Reinterpret(_) => Expr::new(ExprKind::Reinterpret(next()), e.dtype()),
        ExprKind::Unary(op, _) => next().unary(*op),
        ExprKind::Binary(op, ..) => {
            let a = next();
            a.binary(*op, next())
        }
        ExprKind::Cmp(op, ..) => {
            let a = next();
            a.cmp(*op, next())
        }
        ExprKind::Fma(..) => {
            let (a, b) = (next(), next());
            a.fma(b, next())
        }
        ExprKind::Select(..) => {
            let (c, a) = (next(), next());
            c.select(a, next())
        }
        ExprKind::Load(buffer, indices) => {
            let indices = indices.iter().map(|_| next()).collect();
            Expr::new(ExprKind::Load(*buffer, indices), e.dtype())
        }
    }
}

/// Rewrites an expression from the leaves up. `f` sees each node with its operands already
/// rewritten and may replace it; nodes below which nothing changed stay shared.
pub fn map_expr(root: &Expr, f: &mut dyn FnMut(&Expr) -> Option<Expr>) -> Expr {
    if root.kind().children().is_empty() {
        return f(root).unwrap_or_else(|| root.clone());
    }
    let order = post_order([root]);
    let mut done: NodeMap<Expr> = node_map(order.len());
    for e in order {
        let children = e.kind().children();
        let changed = children.iter().any(|c| done[&c.key()].key() != c.key());
        let rebuilt = if changed {
            with_children(e, children.iter().map(|c| done[&c.key()].clone()))
        } else {
            e.clone()
        };
        let new = f(&rebuilt).unwrap_or(rebuilt);
        done.insert(e.key(), new);
    }
    done.remove(&root.key()).expect("the root is its own last node")
}

/// The expression with variables replaced.
pub fn substitute(root: &Expr, replacement: &dyn Fn(VarId) -> Option<Expr>) -> Expr {
    map_expr(root, &mut |e| match e.kind() {
        ExprKind::Var(v) => replacement(*v),
        _ => None,
    })
}

/// The variables that some expressions mention.
pub fn vars<'a>(roots: impl IntoIterator<Item = &'a Expr>) -> BTreeSet<VarId> {
    let vars = post_order(roots).into_iter().filter_map(|e| match e.kind() {
        ExprKind::Var(v) => Some(*v),
        _ => None,
    });
    vars.collect()
}

/// The loads of some expressions, operands first: buffer and indices.
pub fn loads<'a>(roots: impl IntoIterator<Item = &'a Expr>) -> Vec<(BufferId, &'a [Expr])> {
    let loads = post_order(roots).into_iter().filter_map(|e| match e.kind() {
        ExprKind::Load(b, indices) => Some((*b, indices.as_slice())),
        _ => None,
    });
    loads.collect()
}

/// True if the expression reads a buffer.
pub fn has_load(root: &Expr) -> bool {
    post_order([root]).into_iter().any(|e| matches!(e.kind(), ExprKind::Load(..)))
}

fn region_exprs(regions: &[Region]) -> impl Iterator<Item = &Expr> {
    regions.iter().flat_map(|r| &r.ranges).flat_map(|r| [&r.min, &r.extent])
}

impl Stmt {
    /// The expressions that stand in this statement itself, not in statements inside it.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Stmt::Seq(_) | Stmt::Checkpoint | Stmt::Barrier => Vec::new(),
            Stmt::For { extent, .. } => vec![extent],
            Stmt::Block(b) => {
                let bindings = b.iters.iter().map(|it| &it.binding);
                let regions = region_exprs(&b.reads).chain(region_exprs(&b.writes));
                bindings.chain(&b.predicate).chain(regions).collect()
            }
            Stmt::Let { value, .. } => vec![value],
            Stmt::If { cond, .. } => vec![cond],
            Stmt::Store { indices, value, .. } => indices.iter().chain([value]).collect(),
            Stmt::Intrin { regions, params, .. } => region_exprs(regions).chain(params).collect(),
        }
    }

    /// The statements directly inside, in order of execution.
    pub fn children(&self) -> Vec<&Stmt> {
        match self {
            Stmt::Seq(stmts) => stmts.iter().collect(),
            Stmt::For { body, .. } => vec![body],
            Stmt::Block(b) => b.init.iter().chain([&b.body]).map(|s| &**s).collect(),
            Stmt::If { then, els, .. } => [then].into_iter().chain(els).map(|s| &**s).collect(),
            Stmt::Let { .. }
            | Stmt::Store { .. }
            | Stmt::Intrin { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier => Vec::new(),
        }
    }

    /// Calls `f` with this statement and all inside it, outer ones first.
    pub fn walk<'a>(&'a self, f: &mut dyn FnMut(&'a Stmt)) {
        let mut stack = vec![self];
        while let Some(s) = stack.pop() {
            f(s);
            stack.extend(s.children().into_iter().rev());
        }
    }

    /// The block of this name, if there is one inside.
    pub fn find_block(&self, name: &str) -> Option<&Block> {
        let mut found = None;
        self.walk(&mut |s| match s {
            Stmt::Block(b) if &*b.name == name && found.is_none() => found = Some(&**b),
            _ => {}
        });
        found
    }

    /// The same statement with statements directly inside rewritten.
    pub fn map_children(self, f: &mut dyn FnMut(Stmt) -> Stmt) -> Stmt {
        match self {
            Stmt::Seq(stmts) => Stmt::Seq(stmts.into_iter().map(f).collect()),
            Stmt::For { var, extent, kind, body } => {
                Stmt::For { var, extent, kind, body: Box::new(f(*body)) }
            }
            Stmt::Block(mut b) => {
                b.init = b.init.map(|s| Box::new(f(*s)));
                *b.body = f(std::mem::replace(&mut *b.body, Stmt::nop()));
                Stmt::Block(b)
            }
            Stmt::If { cond, then, els } => {
                Stmt::If { cond, then: Box::new(f(*then)), els: els.map(|s| Box::new(f(*s))) }
            }
            leaf @ (Stmt::Let { .. }
            | Stmt::Store { .. }
            | Stmt::Intrin { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier) => leaf,
        }
    }

    /// Rewrites statements from the inside out.
    pub fn map(self, f: &mut dyn FnMut(Stmt) -> Stmt) -> Stmt {
        let inner = self.map_children(&mut |s| s.map(f));
        f(inner)
    }

    /// Rewrites every expression of this statement and those inside.
    pub fn map_exprs(self, f: &mut dyn FnMut(&Expr) -> Expr) -> Stmt {
        self.map(&mut |s| map_own_exprs(s, f))
    }

    /// The statement with variables replaced in its expressions. Bound variables stay.
    pub fn substitute(self, replacement: &dyn Fn(VarId) -> Option<Expr>) -> Stmt {
        self.map_exprs(&mut |e| substitute(e, replacement))
    }

    /// The statement on other buffers.
    pub fn replace_buffers(self, replacement: &dyn Fn(BufferId) -> BufferId) -> Stmt {
        let expr = &mut |root: &Expr| {
            map_expr(root, &mut |e| match e.kind() {
                ExprKind::Load(b, indices) => {
                    Some(Expr::new(ExprKind::Load(replacement(*b), indices.clone()), e.dtype()))
                }
                _ => None,
            })
        };
        let regions = |regions: &mut Vec<Region>| {
            regions.iter_mut().for_each(|r| r.buffer = replacement(r.buffer));
        };
        self.map(&mut |s| match map_own_exprs(s, expr) {
            Stmt::Block(mut b) => {
                regions(&mut b.reads);
                regions(&mut b.writes);
                b.allocs.iter_mut().for_each(|a| *a = replacement(*a));
                Stmt::Block(b)
            }
            Stmt::Store { buffer, indices, value } => {
                Stmt::Store { buffer: replacement(buffer), indices, value }
            }
            Stmt::Intrin { name, regions: mut rs, params } => {
                regions(&mut rs);
                Stmt::Intrin { name, regions: rs, params }
            }
            s @ (Stmt::Seq(_)
            | Stmt::For { .. }
            | Stmt::Let { .. }
            | Stmt::If { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier) => s,
        })
    }

    /// The statements in order, nested sequences flattened.
    pub fn flatten(&self) -> Vec<&Stmt> {
        let mut flat = Vec::new();
        let mut stack = vec![self];
        while let Some(s) = stack.pop() {
            match s {
                Stmt::Seq(stmts) => stack.extend(stmts.iter().rev()),
                s => flat.push(s),
            }
        }
        flat
    }
}

impl Region {
    /// The region with its expressions rewritten.
    pub fn map_exprs(self, f: &mut dyn FnMut(&Expr) -> Expr) -> Region {
        let ranges = self.ranges.iter().map(|r| Range { min: f(&r.min), extent: f(&r.extent) }).collect();
        Region { buffer: self.buffer, ranges }
    }
}

fn map_own_exprs(stmt: Stmt, f: &mut dyn FnMut(&Expr) -> Expr) -> Stmt {
    match stmt {
        Stmt::For { var, extent, kind, body } => Stmt::For { var, extent: f(&extent), kind, body },
        Stmt::Block(mut b) => {
            let iters = std::mem::take(&mut b.iters);
            b.iters = iters.into_iter().map(|it| IterVar { binding: f(&it.binding), ..it }).collect();
            b.predicate = b.predicate.map(|p| f(&p));
            b.reads = b.reads.into_iter().map(|r| r.map_exprs(f)).collect();
            b.writes = b.writes.into_iter().map(|r| r.map_exprs(f)).collect();
            Stmt::Block(b)
        }
        Stmt::Let { var, value } => Stmt::Let { var, value: f(&value) },
        Stmt::If { cond, then, els } => Stmt::If { cond: f(&cond), then, els },
        Stmt::Store { buffer, indices, value } => {
            Stmt::Store { buffer, indices: indices.iter().map(&mut *f).collect(), value: f(&value) }
        }
        Stmt::Intrin { name, regions, params } => Stmt::Intrin {
            name,
            regions: regions.into_iter().map(|r| r.map_exprs(f)).collect(),
            params: params.iter().map(f).collect(),
        },
        s @ (Stmt::Seq(_) | Stmt::Checkpoint | Stmt::Barrier) => s,
    }
}
