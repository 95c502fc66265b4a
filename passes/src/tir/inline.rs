//! compute_inline: stages without a reduction are written into whoever reads them.
//!
//! The result is a DAG: one node for each (tensor, indices), however often it is read, so
//! `x + x` a hundred times over stays a hundred nodes.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::te::{Compute, Graph, StageKind};
use fermata_ir::tir::{BufferId, Expr, ExprKind, VarId};

/// What stands for a variable.
pub type Env = BTreeMap<VarId, Expr>;

/// A row of a tensor that lies in a buffer.
struct Held {
    buffer: BufferId,
    /// The place of the row in the buffer.
    row: Vec<Expr>,
    /// The leading indices of the tensor that the row stands for.
    leading: Vec<Expr>,
}

/// Writes stages into their readers, except those that are kept.
pub struct Inliner<'a> {
    graph: &'a Graph,
    /// The compute that defines a tensor, with the number of the result, if it may be inlined.
    inlinable: BTreeMap<BufferId, (&'a Compute, usize)>,
    /// What a tensor is at given indices, where it was asked for already.
    memo: BTreeMap<BufferId, Vec<(Vec<Expr>, Expr)>>,
    /// Rows of tensors that are at hand, by tensor.
    held: BTreeMap<BufferId, Held>,
}

impl<'a> Inliner<'a> {
    /// An inliner over a graph; `kept` tensors stay loads.
    pub fn new(graph: &'a Graph, kept: &BTreeSet<BufferId>) -> Inliner<'a> {
        let mut inlinable = BTreeMap::new();
        for stage in &graph.stages {
            if let StageKind::Compute(compute) = &stage.kind
                && compute.reduce.is_none()
            {
                let results = stage.outputs.iter().enumerate().filter(|(_, b)| !kept.contains(b));
                inlinable.extend(results.map(|(i, &b)| (b, (compute, i))));
            }
        }
        Inliner { graph, inlinable, memo: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Says that the tensor's elements at these `leading` indices are in the buffer, in this `row` of it.
    pub fn hold(&mut self, tensor: BufferId, buffer: BufferId, row: Vec<Expr>, leading: Vec<Expr>) {
        self.memo.clear();
        self.held.insert(tensor, Held { buffer, row, leading });
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// True if loads of a tensor are written out.
    pub fn inlines(&self, tensor: BufferId) -> bool {
        self.inlinable.contains_key(&tensor)
    }

    /// An expression of the graph with its variables replaced and its loads inlined.
    pub fn instantiate(&mut self, expr: &Expr, env: &Env) -> Expr {
        self.walk(expr, env, &mut BTreeMap::new())
    }

    /// As [`Inliner::instantiate`], of several expressions: what they share they go on sharing.
    pub fn instantiate_all<'e>(&mut self, exprs: impl Iterator<Item = &'e Expr>, env: &Env) -> Vec<Expr> {
        let mut done = BTreeMap::new();
        exprs.map(|e| self.walk(e, env, &mut done)).collect()
    }

    fn walk(&mut self, expr: &Expr, env: &Env, done: &mut BTreeMap<usize, Expr>) -> Expr {
        if let Some(value) = done.get(&expr.key()) {
            return value.clone();
        }
        let value = match expr.kind() {
            ExprKind::Var(v) => env.get(v).cloned().unwrap_or_else(|| expr.clone()),
            ExprKind::Load(buffer, indices) => {
                let indices = indices.iter().map(|i| self.walk(i, env, done)).collect();
                self.load(*buffer, indices, expr)
            }
            ExprKind::Const(_)
            | ExprKind::Cast(_)
            | ExprKind::Reinterpret(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Cmp(..)
            | ExprKind::Fma(..)
            | ExprKind::Select(..) => rebuild(expr, &mut |e| self.walk(e, env, done)),
        };
        done.insert(expr.key(), value.clone());
        value
    }

    fn load(&mut self, buffer: BufferId, indices: Vec<Expr>, like: &Expr) -> Expr {
        if let (Some(held), Some((last, outer))) = (self.held.get(&buffer), indices.split_last())
            && (outer == held.leading || held.buffer == buffer && outer == held.row)
        {
            // What stands in the tensor's own buffer may have been found there before.
            let place = held.row.iter().chain([last]).cloned().collect();
            return Expr::new(ExprKind::Load(held.buffer, place), like.dtype());
        }
        let Some(&(compute, result)) = self.inlinable.get(&buffer) else {
            return Expr::new(ExprKind::Load(buffer, indices), like.dtype());
        };
        let known = self.memo.get(&buffer).and_then(|seen| seen.iter().find(|(at, _)| *at == indices));
        if let Some((_, value)) = known {
            return value.clone();
        }
        let env: Env = compute.axes.iter().map(|a| a.var).zip(indices.iter().cloned()).collect();
        let value = self.instantiate(&compute.body[result], &env);
        self.memo.entry(buffer).or_default().push((indices, value.clone()));
        value
    }
}

/// The expression with each operand replaced by `f` of it; constants fold on the way.
pub fn rebuild(expr: &Expr, f: &mut dyn FnMut(&Expr) -> Expr) -> Expr {
    match expr.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => expr.clone(),
        ExprKind::Cast(a) => f(a).cast(expr.dtype()),
        ExprKind::Reinterpret(a) => Expr::new(ExprKind::Reinterpret(f(a)), expr.dtype()),
        ExprKind::Unary(op, a) => f(a).unary(*op),
        ExprKind::Binary(op, a, b) => {
            let a = f(a);
            a.binary(*op, f(b))
        }
        ExprKind::Cmp(op, a, b) => {
            let a = f(a);
            a.cmp(*op, f(b))
        }
        ExprKind::Fma(a, b, c) => {
            let (a, b) = (f(a), f(b));
            a.fma(b, f(c))
        }
        ExprKind::Select(c, a, b) => {
            let (c, a) = (f(c), f(a));
            c.select(a, f(b))
        }
        ExprKind::Load(buffer, indices) => {
            Expr::new(ExprKind::Load(*buffer, indices.iter().map(f).collect()), expr.dtype())
        }
    }
}

/// The operands of an expression.
pub fn operands(expr: &Expr) -> Vec<&Expr> {
    match expr.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => Vec::new(),
        ExprKind::Cast(a) | ExprKind::Reinterpret(a) | ExprKind::Unary(_, a) => vec![a],
        ExprKind::Binary(_, a, b) | ExprKind::Cmp(_, a, b) => vec![a, b],
        ExprKind::Fma(a, b, c) | ExprKind::Select(a, b, c) => vec![a, b, c],
        ExprKind::Load(_, indices) => indices.iter().collect(),
    }
}

/// Every node of the DAG once, operands before users.
pub fn nodes(root: &Expr) -> Vec<Expr> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let mut stack = vec![(root.clone(), false)];
    while let Some((expr, expanded)) = stack.pop() {
        if expanded {
            order.push(expr);
        } else if seen.insert(expr.key()) {
            let children: Vec<Expr> = operands(&expr).into_iter().cloned().collect();
            stack.push((expr, true));
            stack.extend(children.into_iter().rev().map(|c| (c, false)));
        }
    }
    order
}
