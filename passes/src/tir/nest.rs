//! Loop nests under construction: values are placed at the outermost loop that can hold them.
//!
//! A [`Nest`] is a stack of open loops. Placing an expression binds what is used more than
//! once, and what does not change in the innermost loop, to variables at the loop where all
//! of it is known; a reduction that the expression reads is computed there too
//! (compute_at). What stands under the side of a select is evaluated only if the select
//! chooses it, so nothing is moved out of one.

mod block;
mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::SecondaryMap;
use fermata_ir::scalar::BinaryOp;
use fermata_ir::te::{Axis, Combiner, Compute, Reduce, StageKind};
use fermata_ir::tir::{
    Block, Buffer, BufferId, Expr, ExprKind, LoopKind, PrimFunc, Scope, Stmt, VarId, VarInfo,
};
use fermata_ir::types::DType;

use super::inline::{Env, Inliner, nodes, rebuild};

/// Why a value cannot be computed inside this nest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The reduction that defines this tensor would be repeated; with the leading axes that
    /// the nest would have to keep apart for it not to be, if that would help.
    Repeated {
        /// The tensor.
        tensor: BufferId,
        /// The axes of the nest that its indices use.
        axes: Vec<VarId>,
    },
    /// The tensor is read under a select and must exist before it.
    Guarded(BufferId),
}

/// What a frame becomes once it is closed.
enum Head {
    /// The outermost frame, which stays open.
    Root,
    Loop(VarId, Expr, LoopKind),
    /// Statements with a name.
    Note(&'static str),
    Guard(Expr),
    /// The other side of a guard, with the first side.
    Else(Expr, Vec<Stmt>),
}

/// An open loop or condition, with what has been put in it so far.
struct Frame {
    head: Head,
    /// Axes of the root stage that are known from here on, with their extents.
    axes: Vec<(VarId, usize)>,
    stmts: Vec<Stmt>,
    /// Values bound here, by the key of the expression (kept alive beside).
    values: BTreeMap<usize, (Expr, Expr)>,
    /// Elements of reductions computed here: tensor, indices, value.
    reduced: Vec<(BufferId, Vec<Expr>, Expr)>,
}

impl Frame {
    fn new(head: Head) -> Frame {
        Frame { head, axes: Vec::new(), stmts: Vec::new(), values: BTreeMap::new(), reduced: Vec::new() }
    }
}

/// A loop nest under construction.
pub struct Nest<'a> {
    /// The function that the nest becomes; its tables start as the graph's.
    pub func: PrimFunc,
    /// Scratch buffers of a tile.
    pub scratch: Vec<BufferId>,
    inliner: Inliner<'a>,
    reductions: BTreeMap<BufferId, (&'a Compute, &'a Reduce, usize)>,
    frames: Vec<Frame>,
    level: SecondaryMap<VarId, u32>,
    shared: BTreeSet<usize>,
    /// The outermost level where values are placed.
    floor: usize,
    /// Whether long reductions keep several partial results in lanes.
    lanes: bool,
    /// The GPU threads that share reductions placed at the floor.
    block: Option<BlockThreads>,
}

/// The threads of a GPU block on one axis.
#[derive(Clone, Copy, Debug)]
pub struct BlockThreads {
    /// The thread's index.
    pub index: VarId,
    /// How many there are, a power of two.
    pub count: usize,
}

/// The level of the outermost loop of a kernel.
const TILE_LEVEL: usize = 1;

impl<'a> Nest<'a> {
    /// An empty nest; reductions of tensors in `kept` are not computed inside it.
    pub fn new(name: &str, inliner: Inliner<'a>, kept: &BTreeSet<BufferId>) -> Nest<'a> {
        let graph = inliner.graph();
        let mut func = PrimFunc::new(name);
        func.buffers = graph.buffers.clone();
        func.vars = graph.vars.clone();
        let mut reductions = BTreeMap::new();
        for stage in &graph.stages {
            if let StageKind::Compute(compute) = &stage.kind
                && let Some(reduce) = &compute.reduce
            {
                let results = stage.outputs.iter().enumerate().filter(|(_, b)| !kept.contains(b));
                reductions.extend(results.map(|(i, &b)| (b, (compute, reduce, i))));
            }
        }
        Nest {
            func,
            scratch: Vec::new(),
            inliner,
            reductions,
            frames: vec![Frame::new(Head::Root)],
            level: SecondaryMap::new(),
            shared: BTreeSet::new(),
            floor: TILE_LEVEL,
            lanes: true,
            block: None,
        }
    }

    /// The inliner.
    pub fn inliner(&mut self) -> &mut Inliner<'a> {
        &mut self.inliner
    }

    /// A new variable.
    pub fn var(&mut self, name: &str, dtype: DType) -> VarId {
        self.func.vars.push(VarInfo { name: name.into(), dtype })
    }

    /// A new scratch buffer.
    pub fn local(&mut self, name: &str, shape: &[usize], dtype: DType) -> BufferId {
        self.scratch_buffer(name, shape, dtype, Scope::Local)
    }

    /// A new scratch buffer of a scope.
    pub fn scratch_buffer(&mut self, name: &str, shape: &[usize], dtype: DType, scope: Scope) -> BufferId {
        let buffer = Buffer { name: name.into(), shape: shape.to_vec(), dtype, scope };
        let id = self.func.buffers.push(buffer);
        self.scratch.push(id);
        id
    }

    /// Opens a loop over `0..extent`.
    pub fn open(&mut self, var: VarId, extent: Expr, kind: LoopKind) {
        self.level[var] = self.frames.len() as u32;
        self.open_frame(Head::Loop(var, extent, kind));
    }

    fn open_frame(&mut self, head: Head) {
        self.frames.push(Frame::new(head));
    }

    /// Opens a block that says what its statements do.
    pub fn open_note(&mut self, what: &'static str) {
        self.open_frame(Head::Note(what));
    }

    /// Opens a condition. What is bound in it stays in it.
    pub fn open_guard(&mut self, cond: Expr) {
        self.open_frame(Head::Guard(cond));
    }

    /// Closes the condition that is open and opens its other side.
    pub fn open_else(&mut self) {
        let frame = self.frames.pop().expect("an open condition");
        let Head::Guard(cond) = frame.head else { unreachable!("a condition is open") };
        self.open_frame(Head::Else(cond, frame.stmts));
    }

    /// Opens a loop that is an axis of the root stage.
    pub fn open_axis(&mut self, axis: &Axis, kind: LoopKind) {
        self.open(axis.var, axis.extent.into(), kind);
        self.declare_axis(axis);
    }

    /// Says that an axis of the root stage is known in the innermost open loop.
    pub fn declare_axis(&mut self, axis: &Axis) {
        self.innermost().axes.push((axis.var, axis.extent));
    }

    /// Closes the innermost loop.
    pub fn close(&mut self) {
        let frame = self.frames.pop().expect("an open loop");
        let seq = |stmts| Box::new(Stmt::Seq(stmts));
        let (var, extent, mut kind) = match frame.head {
            Head::Root => unreachable!("the outermost frame stays"),
            Head::Loop(var, extent, kind) => (var, extent, kind),
            Head::Note(name) => return self.push(named_block(name, Stmt::Seq(frame.stmts))),
            Head::Guard(cond) => {
                return self.push(Stmt::If { cond, then: seq(frame.stmts), els: None });
            }
            Head::Else(cond, then) => {
                return self.push(Stmt::If { cond, then: seq(then), els: Some(seq(frame.stmts)) });
            }
        };
        // Lanes hold no loops: what was computed inside makes the loop a serial one.
        if kind == LoopKind::Vectorized && frame.stmts.iter().any(|s| matches!(s, Stmt::For { .. })) {
            kind = LoopKind::Serial;
        }
        self.push(Stmt::For { var, extent, kind, body: seq(frame.stmts) });
    }

    /// Adds a statement to the innermost loop.
    pub fn push(&mut self, stmt: Stmt) {
        self.innermost().stmts.push(stmt);
    }

    /// Adds statements to the innermost loop.
    pub fn extend(&mut self, stmts: impl IntoIterator<Item = Stmt>) {
        self.innermost().stmts.extend(stmts);
    }

    /// Binds a variable in the innermost loop.
    pub fn bind(&mut self, var: VarId, value: Expr) {
        self.level[var] = self.frames.len() as u32 - 1;
        self.push(Stmt::Let { var, value });
    }

    /// The statements, once every loop is closed.
    pub fn finish(mut self) -> (PrimFunc, Vec<BufferId>, Stmt) {
        let stmts = self.frames.pop().expect("the outermost frame").stmts;
        (self.func, self.scratch, Stmt::Seq(stmts))
    }

    fn innermost(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the outermost frame stays")
    }

    /// Places an expression over the axes of open loops: what it needs is computed where it
    /// can be, and what is left is to be evaluated in the innermost loop.
    ///
    /// # Errors
    /// If it reads a reduction that this nest cannot hold.
    pub fn place(&mut self, expr: &Expr) -> Result<Expr, Refusal> {
        let placed = self.place_all(std::slice::from_ref(expr))?;
        Ok(placed.into_iter().next().expect("one for one"))
    }

    /// As [`Nest::place`], of several expressions: what they share is computed once.
    ///
    /// # Errors
    /// If one reads a reduction that this nest cannot hold.
    pub fn place_all(&mut self, exprs: &[Expr]) -> Result<Vec<Expr>, Refusal> {
        let mut uses: BTreeMap<usize, u32> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for expr in exprs {
            *uses.entry(expr.key()).or_default() += 1;
            for node in nodes(expr).into_iter().filter(|node| seen.insert(node.key())) {
                super::inline::operands(&node).iter().for_each(|o| *uses.entry(o.key()).or_default() += 1);
            }
        }
        let outer = std::mem::take(&mut self.shared);
        self.shared = uses.into_iter().filter(|&(_, n)| n > 1).map(|(key, _)| key).collect();
        let placed = exprs.iter().map(|expr| self.walk(expr, false)).collect();
        self.shared = outer;
        placed
    }

    fn walk(&mut self, expr: &Expr, guarded: bool) -> Result<Expr, Refusal> {
        let known = self.frames.iter().rev().find_map(|f| f.values.get(&expr.key()));
        if let Some((_, value)) = known {
            return Ok(value.clone());
        }
        let mut refusal = None;
        let mut visit = |nest: &mut Self, e: &Expr, guarded: bool| match nest.walk(e, guarded) {
            Ok(value) => value,
            Err(r) => {
                refusal.get_or_insert(r);
                e.clone()
            }
        };
        let placed = match expr.kind() {
            ExprKind::Select(c, a, b) => {
                let c = visit(self, c, guarded);
                let (a, b) = (visit(self, a, true), visit(self, b, true));
                c.select(a, b)
            }
            _ => rebuild(expr, &mut |e| visit(self, e, guarded)),
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let ExprKind::Load(buffer, indices) = placed.kind()
            && self.reductions.contains_key(buffer)
        {
            if let Some(value) = self.at_hand(*buffer, indices) {
                return Ok(value);
            }
            if guarded {
                return Err(Refusal::Guarded(*buffer));
            }
            return self.compute_at(*buffer, &indices.clone(), expr);
        }
        Ok(if guarded { placed } else { self.share(expr, placed) })
    }

    /// Binds a placed value to a variable if that saves work.
    fn share(&mut self, source: &Expr, value: Expr) -> Expr {
        if matches!(value.kind(), ExprKind::Const(_) | ExprKind::Var(_)) {
            return value;
        }
        let level = self.level_of(&value);
        let invariant = level + 1 < self.frames.len() && is_costly(&value);
        if !invariant && !self.shared.contains(&source.key()) {
            return value;
        }
        self.bind_at(level, source, value)
    }

    fn bind_at(&mut self, level: usize, source: &Expr, value: Expr) -> Expr {
        let dtype = value.dtype();
        let var = self.var("t", dtype);
        self.level[var] = level as u32;
        let bound = Expr::new(ExprKind::Var(var), dtype);
        let frame = &mut self.frames[level];
        frame.stmts.push(Stmt::Let { var, value });
        frame.values.insert(source.key(), (source.clone(), bound.clone()));
        bound
    }

    /// The innermost loop that an expression depends on; nothing stands outside of the floor.
    fn level_of(&self, expr: &Expr) -> usize {
        let levels = nodes(expr).into_iter().map(|e| match e.kind() {
            ExprKind::Var(v) => self.level[*v] as usize,
            ExprKind::Load(b, _) if self.func.buffers[*b].scope != Scope::Global => self.frames.len() - 1,
            _ => self.floor,
        });
        levels.max().unwrap_or(self.floor).max(self.floor)
    }

    /// An element of a reduction that was computed in an open loop.
    fn at_hand(&self, tensor: BufferId, indices: &[Expr]) -> Option<Expr> {
        let mut reduced = self.frames.iter().flat_map(|f| &f.reduced);
        let (.., value) = reduced.find(|(t, at, _)| *t == tensor && at == indices)?;
        Some(value.clone())
    }

    /// Computes an element of a reduction at the outermost loop where its indices are known.
    fn compute_at(&mut self, tensor: BufferId, indices: &[Expr], source: &Expr) -> Result<Expr, Refusal> {
        let level = indices.iter().map(|i| self.level_of(i)).max().unwrap_or(self.floor);
        let used: BTreeSet<VarId> = indices.iter().flat_map(|i| self.axes_of(i)).collect();
        let known = self.frames[..=level].iter().flat_map(|f| &f.axes);
        if known.clone().any(|(axis, extent)| *extent > 1 && !used.contains(axis)) {
            let axes = known.map(|a| a.0).filter(|a| used.contains(a)).collect();
            return Err(Refusal::Repeated { tensor, axes });
        }
        let (compute, reduce, result) = self.reductions[&tensor];
        let inner = self.frames.split_off(level + 1);
        let env = compute.axes.iter().map(|a| a.var).zip(indices.iter().cloned()).collect();
        let values = self.accumulate(compute, reduce, env);
        let value = values.map(|v| self.bind_at(level, source, v[result].clone()));
        if let Ok(value) = &value {
            self.innermost().reduced.push((tensor, indices.to_vec(), value.clone()));
        }
        self.frames.extend(inner);
        value
    }

    /// The root axes that an expression over placed values depends on.
    fn axes_of(&self, expr: &Expr) -> Vec<VarId> {
        let vars = nodes(expr).into_iter().filter_map(|e| match e.kind() {
            ExprKind::Var(v) => Some(*v),
            _ => None,
        });
        vars.collect()
    }

    /// Emits the loops of a reduction into the innermost open loop; gives the results.
    ///
    /// # Errors
    /// If its elements read a reduction that this nest cannot hold.
    pub fn accumulate(
        &mut self,
        compute: &Compute,
        reduce: &Reduce,
        mut env: Env,
    ) -> Result<Vec<Expr>, Refusal> {
        if reduce.axes.iter().any(|a| a.extent == 0) {
            return Ok(reduce.identity.clone());
        }
        if let Some(block) = self.block
            && self.frames.len() - 1 == self.floor
        {
            return self.accumulate_block(block, compute, reduce, env);
        }
        let axes = self.fresh_axes(&reduce.axes, &mut env);
        let body: Vec<Expr> = compute.body.iter().map(|b| self.inliner.instantiate(b, &env)).collect();
        if let (Combiner::Binary(op), [element], Some(last)) = (&reduce.combiner, &body[..], axes.last())
            && self.lanes
            && last.extent >= lanes::MIN_EXTENT
            && element.dtype() == DType::F32
            && is_contiguous(element, last.var)
        {
            return self.accumulate_lanes(*op, element, &axes, &reduce.identity[0]).map(|v| vec![v]);
        }
        let acc: Vec<BufferId> = body.iter().map(|e| self.local("acc", &[1], e.dtype())).collect();
        for (&acc, identity) in acc.iter().zip(&reduce.identity) {
            self.store_element(acc, Expr::int(0), identity.clone());
        }
        axes.iter().for_each(|a| self.open(a.var, a.extent.into(), LoopKind::Serial));
        let step = self.combine(reduce, &body, &acc);
        axes.iter().for_each(|_| self.close());
        step?;
        Ok(acc.into_iter().map(|acc| self.element(acc, Expr::int(0))).collect())
    }

    /// Says that an axis of the root stage is known from the loop of another variable on.
    pub fn declare_axis_as(&mut self, axis: &Axis, var: VarId) {
        self.innermost().axes.push((var, axis.extent));
    }

    /// True if the nest computes this tensor itself where it is read.
    pub fn holds(&self, tensor: BufferId) -> bool {
        self.reductions.contains_key(&tensor)
    }

    /// New variables for the axes of a reduction; `env` takes them.
    pub fn fresh_axes(&mut self, axes: &[Axis], env: &mut Env) -> Vec<Axis> {
        axes.iter().map(|a| self.fresh_axis(a, env)).collect()
    }

    fn fresh_axis(&mut self, axis: &Axis, env: &mut Env) -> Axis {
        let name = self.func.vars[axis.var].name.clone();
        let fresh = Axis { var: self.var(&name, DType::I64), extent: axis.extent };
        env.insert(axis.var, fresh.expr());
        fresh
    }

    /// One step of a reduction: the accumulators take in the elements.
    fn combine(&mut self, reduce: &Reduce, body: &[Expr], acc: &[BufferId]) -> Result<(), Refusal> {
        let elements = body.iter().map(|e| self.place(e)).collect::<Result<Vec<_>, _>>()?;
        let results = match &reduce.combiner {
            Combiner::Binary(op) => {
                let pairs = acc.iter().zip(elements);
                pairs.map(|(&a, e)| self.element(a, Expr::int(0)).binary(*op, e)).collect()
            }
            Combiner::User { lhs, rhs, result } => {
                let mut env = Env::new();
                for (i, &var) in rhs.iter().enumerate() {
                    env.insert(var, self.bind_fresh(elements[i].clone()));
                }
                for (i, &var) in lhs.iter().enumerate() {
                    let value = self.element(acc[i], Expr::int(0));
                    env.insert(var, self.bind_fresh(value));
                }
                let results: Vec<Expr> = result.iter().map(|r| self.inliner.instantiate(r, &env)).collect();
                results.into_iter().map(|r| self.bind_fresh(r)).collect::<Vec<_>>()
            }
        };
        for (&acc, value) in acc.iter().zip(results) {
            self.store_element(acc, Expr::int(0), value);
        }
        Ok(())
    }

    fn bind_fresh(&mut self, value: Expr) -> Expr {
        self.bind_fresh_named("t", value)
    }

    /// Binds a value to a new variable in the innermost loop, unless it is atomic already.
    pub fn bind_fresh_named(&mut self, name: &str, value: Expr) -> Expr {
        if matches!(value.kind(), ExprKind::Const(_) | ExprKind::Var(_)) {
            return value;
        }
        let dtype = value.dtype();
        let var = self.var(name, dtype);
        self.bind(var, value);
        Expr::new(ExprKind::Var(var), dtype)
    }

    /// `buffer[index]`, of a buffer with one dimension.
    pub fn element(&self, buffer: BufferId, index: Expr) -> Expr {
        Expr::new(ExprKind::Load(buffer, vec![index]), self.func.buffers[buffer].dtype)
    }

    /// `buffer[index] = value`, of a buffer with one dimension.
    pub fn store_element(&mut self, buffer: BufferId, index: Expr, value: Expr) {
        self.push(Stmt::Store { buffer, indices: vec![index], value });
    }
}

/// Statements under a name.
fn named_block(name: &str, body: Stmt) -> Stmt {
    Stmt::Block(Box::new(Block {
        name: name.into(),
        iters: Vec::new(),
        predicate: None,
        reads: Vec::new(),
        writes: Vec::new(),
        attrs: Default::default(),
        allocs: Vec::new(),
        init: None,
        body: Box::new(body),
    }))
}

/// True if moving the value out of a loop is worth a variable.
fn is_costly(expr: &Expr) -> bool {
    match expr.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => false,
        ExprKind::Load(..) | ExprKind::Unary(..) | ExprKind::Select(..) | ExprKind::Fma(..) => true,
        ExprKind::Cmp(..) | ExprKind::Cast(_) | ExprKind::Reinterpret(_) => true,
        ExprKind::Binary(op, ..) => {
            expr.dtype().is_float()
                || matches!(op, BinaryOp::FloorDiv | BinaryOp::FloorMod | BinaryOp::Div | BinaryOp::Mod)
        }
    }
}

/// True if every load walks memory in steps of one, or stands still, along an axis.
pub fn is_contiguous(expr: &Expr, axis: VarId) -> bool {
    let mentions = |e: &Expr| nodes(e).iter().any(|n| matches!(n.kind(), ExprKind::Var(v) if *v == axis));
    let mut walks = false;
    for node in nodes(expr) {
        match node.kind() {
            ExprKind::Load(_, indices) => {
                let Some((last, outer)) = indices.split_last() else { continue };
                if outer.iter().any(mentions) {
                    return false;
                }
                match unit_step(last, axis) {
                    Some(steps) => walks |= steps,
                    None => return false,
                }
            }
            ExprKind::Select(..) => return false,
            _ => {}
        }
    }
    walks
}

/// Whether an index is `axis + (something without it)` (true), without it (false), or neither.
fn unit_step(index: &Expr, axis: VarId) -> Option<bool> {
    match index.kind() {
        ExprKind::Var(v) => Some(*v == axis),
        ExprKind::Const(_) => Some(false),
        ExprKind::Binary(BinaryOp::Add, a, b) => match (unit_step(a, axis)?, unit_step(b, axis)?) {
            (true, true) => None,
            (a, b) => Some(a || b),
        },
        ExprKind::Binary(BinaryOp::Sub, a, b) => match (unit_step(a, axis)?, unit_step(b, axis)?) {
            (a, false) => Some(a),
            (_, true) => None,
        },
        _ => {
            let mentions = nodes(index).iter().any(|n| matches!(n.kind(), ExprKind::Var(v) if *v == axis));
            (!mentions).then_some(false)
        }
    }
}
