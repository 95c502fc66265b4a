//! The rules of TIR.
//!
//! | rule | what holds |
//! | --- | --- |
//! | T1 | parameters and allocations are distinct buffers, each declared once; parameters are global, and their last `outputs` are outputs |
//! | T2 | every buffer is within the limits of tensors |
//! | T3 | statements and expressions are within [`MAX_NESTING`], [`MAX_EXPR_DEPTH`] and [`MAX_EXPR_SIZE`] |
//! | T4 | a variable is bound in one place, and used only where it is bound |
//! | T5 | a buffer is used only where it is declared: parameters and the function's allocations everywhere, a block's in the block |
//! | T6 | dtypes fit: operands of one operation, conditions (`bool`), indices, extents and parameters (`int64`), values and what they are stored to |
//! | T7 | an access has one index, a region one range a dimension |
//! | T8 | inputs are not written |
//! | T9 | there is at most one tile loop; it is the outermost statement and its extent is a constant |
//! | T10 | no access lies outside its buffer for every value of the variables |
//! | T11 | only a block with a reduce axis has an init; domains of axes are not negative |
//! | T12 | a tensor intrinsic is in the catalogue, has its regions and parameters, and its outputs share no buffer with other regions |
//! | T13 | a thread axis is one of `blockIdx`, `threadIdx` (`.x`, `.y`, `.z`) and `vthread` |
//! | T14 | loops over an axis of `threadIdx` have one constant extent and do not nest; a block has at most 1024 threads; barriers stand inside such loops |
//! | T15 | intrinsics of GPU threads stand inside such loops, and those of CPU workers outside; with what a warp does together, a block has whole warps |
//! | T16 | a checkpoint is the last statement of the tile loop's body, between one tile and the next: a tile that was begun always ends |
//!
//! All violations are collected. Whether an access is always inside its buffer is more than
//! the rules ask; [`unproved_accesses`] lists those that analysis cannot place.

mod threads;

use std::collections::BTreeSet;

use super::access::for_each_access;
use super::facts::Place;
use super::intrin;
use super::ir::{
    Block, BufferId, Expr, ExprKind, IterKind, LoopKind, MAX_EXPR_DEPTH, MAX_EXPR_SIZE, MAX_NESTING,
    PrimFunc, Region, Scope, Stmt, VarId,
};
use super::visit::post_order;
use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::scalar::{BinaryOp, UnaryOp};
use crate::tensor::byte_len;
use crate::types::DType;

pub use threads::MAX_THREADS;

/// Violations that are reported of one function.
const MAX_REPORTED: usize = 50;

/// Checks every rule.
///
/// # Errors
/// The violations.
pub fn verify(func: &PrimFunc) -> Result<(), Diagnostics> {
    let mut rules = Rules { func, found: Vec::new(), bound: BTreeSet::new() };
    rules.declarations();
    rules.limits();
    if rules.found.is_empty() {
        // What follows may recurse on statements.
        rules.tiles();
        rules.threads();
        let params = func.params.iter().chain(&func.allocs).copied().collect();
        rules.stmt(&func.body, &mut Vec::new(), &params);
    }
    if rules.found.is_empty() {
        rules.bounds();
    }
    if rules.found.is_empty() {
        return Ok(());
    }
    rules.found.truncate(MAX_REPORTED);
    Err(Diagnostics(rules.found))
}

/// Accesses of a function that passed [`verify`] of which analysis cannot tell whether they
/// are always within bounds: what a back end must check or the program must guarantee.
pub fn unproved_accesses(func: &PrimFunc) -> Vec<String> {
    let mut unproved = Vec::new();
    let complete = for_each_access(func, &mut |facts, access| {
        let buffer = &func.buffers[access.buffer];
        for (dim, (range, &n)) in access.ranges.iter().zip(&buffer.shape).enumerate() {
            if facts.place(&range.min, &range.extent, n) != Place::Inside {
                let kind = if access.write { "write" } else { "read" };
                unproved.push(format!("dimension {dim} of a {kind} of `{}`", buffer.name));
            }
        }
    });
    if !complete {
        unproved.push("accesses behind too many selects".to_string());
    }
    unproved
}

struct Rules<'a> {
    func: &'a PrimFunc,
    found: Vec<Diagnostic>,
    /// Variables bound so far.
    bound: BTreeSet<VarId>,
}

impl<'a> Rules<'a> {
    fn broken(&mut self, rule: u8, message: impl Into<String>) {
        let note = format!("rule T{rule} of TIR, in the function `{}`", self.func.name);
        self.found.push(Diagnostic::error(Code::TIR, message).note(note));
    }

    fn name(&self, b: BufferId) -> &'a str {
        &self.func.buffers[b].name
    }

    fn declarations(&mut self) {
        let func = self.func;
        let mut declared = BTreeSet::new();
        let mut blocks = Vec::new();
        func.body.walk(&mut |s| {
            if let Stmt::Block(b) = s {
                blocks.extend(&b.allocs);
            }
        });
        for &b in func.params.iter().chain(&func.allocs).chain(blocks) {
            if !func.buffers.is_valid(b) {
                return self.broken(1, format!("there is no buffer {b}"));
            }
            if !declared.insert(b) {
                self.broken(1, format!("the buffer `{}` is declared twice", self.name(b)));
            }
        }
        for &b in &func.params {
            if func.buffers[b].scope != Scope::Global {
                self.broken(1, format!("the parameter `{}` is not global", self.name(b)));
            }
        }
        if func.outputs > func.params.len() {
            self.broken(1, format!("{} outputs, but {} parameters", func.outputs, func.params.len()));
        }
        for b in func.buffers.values() {
            if let Err(e) = byte_len(b.dtype, &b.shape) {
                self.broken(2, format!("buffer `{}`: {e}", b.name));
            }
        }
    }

    fn limits(&mut self) {
        let mut stack = vec![(&self.func.body, 0)];
        let (mut nesting, mut depth, mut size) = (0, 0, 0);
        while let Some((s, level)) = stack.pop() {
            nesting = nesting.max(level);
            for e in s.exprs() {
                depth = depth.max(e.depth());
                size = size.max(e.size());
            }
            stack.extend(s.children().into_iter().map(|c| (c, level + 1)));
        }
        if nesting > MAX_NESTING {
            self.broken(3, format!("statements nest {nesting} deep; the limit is {MAX_NESTING}"));
        }
        if depth > MAX_EXPR_DEPTH {
            self.broken(3, format!("an expression is {depth} deep; the limit is {MAX_EXPR_DEPTH}"));
        }
        if size > MAX_EXPR_SIZE {
            self.broken(3, format!("an expression has {size} nodes as a tree; the limit is {MAX_EXPR_SIZE}"));
        }
    }

    fn tiles(&mut self) {
        let mut count = 0;
        self.func.body.walk(&mut |s| {
            count += matches!(s, Stmt::For { kind: LoopKind::Tiles, .. }) as usize;
        });
        if count > 0 && self.func.tiles().is_none_or(|n| n < 0) {
            self.broken(9, "the tile loop is not the outermost statement, or its extent is not a constant");
        } else if count > 1 {
            self.broken(9, "there is a tile loop inside the tile loop");
        }
        self.checkpoints();
    }

    fn checkpoints(&mut self) {
        let mut count = 0;
        self.func.body.walk(&mut |s| count += matches!(s, Stmt::Checkpoint) as usize);
        let between = match &self.func.body {
            Stmt::For { kind: LoopKind::Tiles, body, .. } => {
                matches!(body.flatten().last(), Some(Stmt::Checkpoint)) as usize
            }
            _ => 0,
        };
        if count > between {
            self.broken(16, "a checkpoint stands elsewhere than at the end of the tile loop's body");
        }
    }

    fn bind(&mut self, var: VarId, dtype: DType, scope: &mut Vec<VarId>) {
        let name = self.func.vars[var].name.clone();
        if !self.bound.insert(var) {
            self.broken(4, format!("the variable `{name}` is bound in two places"));
        }
        if self.func.vars[var].dtype != dtype {
            let declared = self.func.vars[var].dtype;
            self.broken(6, format!("the variable `{name}` is {declared}, but bound to {dtype}"));
        }
        scope.push(var);
    }

    fn stmt(&mut self, s: &Stmt, scope: &mut Vec<VarId>, buffers: &BTreeSet<BufferId>) {
        if !matches!(s, Stmt::Block(_)) {
            self.exprs(&s.exprs(), scope, buffers);
        }
        let outer = scope.len();
        match s {
            Stmt::Seq(stmts) => stmts.iter().for_each(|s| self.stmt(s, scope, buffers)),
            Stmt::For { var, extent, kind, body } => {
                self.dtype("the extent of a loop", extent, DType::I64);
                if let LoopKind::ThreadBinding(axis) = kind
                    && !is_thread_axis(axis)
                {
                    self.broken(13, format!("`{axis}` is no thread axis"));
                }
                self.bind(*var, DType::I64, scope);
                self.stmt(body, scope, buffers);
            }
            Stmt::Block(block) => self.block(block, scope, buffers),
            Stmt::Let { var, value } => {
                // Known to the end of the sequence, which takes it back.
                self.bind(*var, value.dtype(), scope);
                return;
            }
            Stmt::If { cond, then, els } => {
                self.dtype("a condition", cond, DType::Bool);
                for s in [then].into_iter().chain(els) {
                    let outer = scope.len();
                    self.stmt(s, scope, buffers);
                    scope.truncate(outer);
                }
            }
            Stmt::Store { buffer, indices, value } => {
                if self.used(*buffer, buffers) {
                    self.written(*buffer);
                    self.indices(*buffer, indices);
                    let what = format!("the value stored to `{}`", self.name(*buffer));
                    self.dtype(&what, value, self.func.buffers[*buffer].dtype);
                }
            }
            Stmt::Intrin { name, regions, params } => self.intrinsic(name, regions, params, buffers),
            Stmt::Checkpoint | Stmt::Barrier => {}
        }
        scope.truncate(outer);
    }

    fn block(&mut self, block: &Block, scope: &mut Vec<VarId>, buffers: &BTreeSet<BufferId>) {
        let bindings: Vec<&Expr> = block.iters.iter().map(|it| &it.binding).collect();
        self.exprs(&bindings, scope, buffers);
        for it in &block.iters {
            self.dtype("the binding of an axis", &it.binding, DType::I64);
            if it.extent < 0 {
                self.broken(11, format!("an axis of block `{}` has a negative domain", block.name));
            }
            self.bind(it.var, DType::I64, scope);
        }
        if block.init.is_some() && !block.iters.iter().any(|it| it.kind == IterKind::Reduce) {
            self.broken(11, format!("block `{}` has an init but no reduce axis", block.name));
        }
        if let Some(predicate) = &block.predicate {
            self.exprs(&[predicate], scope, buffers);
            self.dtype("a predicate", predicate, DType::Bool);
        }
        for r in block.reads.iter().chain(&block.writes) {
            let exprs: Vec<&Expr> = r.ranges.iter().flat_map(|r| [&r.min, &r.extent]).collect();
            self.exprs(&exprs, scope, buffers);
            self.region(r, buffers);
        }
        let inner: BTreeSet<BufferId> = buffers.iter().chain(&block.allocs).copied().collect();
        for s in block.init.iter().chain([&block.body]) {
            let outer = scope.len();
            self.stmt(s, scope, &inner);
            scope.truncate(outer);
        }
    }

    fn intrinsic(&mut self, name: &str, regions: &[Region], params: &[Expr], buffers: &BTreeSet<BufferId>) {
        let known = regions.iter().filter(|r| self.region(r, buffers)).count();
        params.iter().for_each(|p| self.dtype("a parameter of an intrinsic", p, DType::I64));
        let Some(def) = intrin::lookup(name) else {
            return self.broken(12, format!("there is no tensor intrinsic `{name}`"));
        };
        if known != regions.len() {
            return;
        }
        if def.regions.len() != regions.len() || def.params.len() != params.len() {
            let (r, p) = (def.regions.len(), def.params.len());
            return self.broken(12, format!("`{name}` has {r} regions and {p} parameters"));
        }
        for (i, (d, r)) in def.regions.iter().zip(regions).enumerate() {
            let buffer = &self.func.buffers[r.buffer];
            if buffer.dtype != d.dtype || r.ranges.len() < d.rank() {
                let (dtype, rank) = (d.dtype, d.rank());
                self.broken(
                    12,
                    format!("region {} of `{name}` is {dtype} of at least {rank} dimensions", d.name),
                );
            }
            if i < def.outputs() {
                self.written(r.buffer);
                if regions.iter().filter(|o| o.buffer == r.buffer).count() > 1 {
                    self.broken(
                        12,
                        format!("`{name}` writes `{}`, which is also another region", buffer.name),
                    );
                }
            }
        }
        let constants: Option<Vec<i64>> = params.iter().map(Expr::as_int).collect();
        if let Some(constants) = constants {
            match def.check(&constants) {
                Ok(extents) => self.extents(name, regions, &extents),
                Err(why) => self.broken(12, format!("in a call of `{name}`: {why}")),
            }
        }
    }

    /// Constant extents of regions are what the parameters call for.
    fn extents(&mut self, name: &str, regions: &[Region], wanted: &[Vec<i64>]) {
        for (region, wanted) in regions.iter().zip(wanted) {
            let outer = region.ranges.len() - wanted.len();
            for (d, range) in region.ranges.iter().enumerate() {
                let want = if d < outer { 1 } else { wanted[d - outer] };
                if let Some(extent) = range.extent.as_int().filter(|e| *e != want) {
                    let buffer = self.name(region.buffer);
                    self.broken(
                        12,
                        format!(
                            "dimension {d} of region `{buffer}` of `{name}` has extent {extent}, not {want}"
                        ),
                    );
                }
            }
        }
    }

    /// False if the buffer may not be used here.
    fn used(&mut self, b: BufferId, buffers: &BTreeSet<BufferId>) -> bool {
        let here = buffers.contains(&b);
        if !here {
            let name = if self.func.buffers.is_valid(b) { self.name(b).to_string() } else { b.to_string() };
            self.broken(5, format!("the buffer `{name}` is not declared here"));
        }
        here
    }

    fn written(&mut self, b: BufferId) {
        let outputs = self.func.outputs.min(self.func.params.len());
        if self.func.params[..self.func.params.len() - outputs].contains(&b) {
            self.broken(8, format!("the input `{}` is written", self.name(b)));
        }
    }

    fn region(&mut self, r: &Region, buffers: &BTreeSet<BufferId>) -> bool {
        if !self.used(r.buffer, buffers) {
            return false;
        }
        let mins: Vec<Expr> = r.ranges.iter().map(|r| r.min.clone()).collect();
        self.indices(r.buffer, &mins);
        for range in &r.ranges {
            self.dtype("the extent of a region", &range.extent, DType::I64);
        }
        r.ranges.len() == self.func.buffers[r.buffer].shape.len()
    }

    fn indices(&mut self, b: BufferId, indices: &[Expr]) {
        let rank = self.func.buffers[b].shape.len();
        if indices.len() != rank {
            let (name, given) = (self.name(b), indices.len());
            self.broken(7, format!("`{name}` has {rank} dimensions, but {given} indices"));
        }
        for i in indices {
            self.dtype("an index", i, DType::I64);
        }
    }

    fn dtype(&mut self, what: &str, e: &Expr, want: DType) {
        if e.dtype() != want {
            self.broken(6, format!("{what} is {}, not {want}", e.dtype()));
        }
    }

    fn exprs(&mut self, exprs: &[&Expr], scope: &[VarId], buffers: &BTreeSet<BufferId>) {
        for e in post_order(exprs.iter().copied()) {
            match e.kind() {
                ExprKind::Var(v) if !scope.contains(v) => {
                    let name = match self.func.vars.get(*v) {
                        Some(info) => info.name.to_string(),
                        None => v.to_string(),
                    };
                    self.broken(4, format!("the variable `{name}` is not bound here"));
                }
                ExprKind::Var(v) => self.dtype("a use of a variable", e, self.func.vars[*v].dtype),
                ExprKind::Load(b, indices) => {
                    if self.used(*b, buffers) {
                        self.indices(*b, indices);
                        self.dtype("a load", e, self.func.buffers[*b].dtype);
                    }
                }
                _ => {
                    if let Some(message) = ill_typed(e) {
                        self.broken(6, message);
                    }
                }
            }
        }
    }

    fn bounds(&mut self) {
        let func = self.func;
        let mut outside = Vec::new();
        for_each_access(func, &mut |facts, access| {
            let buffer = &func.buffers[access.buffer];
            for (dim, (range, &n)) in access.ranges.iter().zip(&buffer.shape).enumerate() {
                if facts.place(&range.min, &range.extent, n) == Place::Outside {
                    outside.push(format!("dimension {dim} of `{}` is accessed outside 0..{n}", buffer.name));
                }
            }
        });
        outside.into_iter().for_each(|message| self.broken(10, message));
    }
}

/// What is wrong with the dtypes of one operation.
fn ill_typed(e: &Expr) -> Option<String> {
    let dtype = e.dtype();
    let wrong = |bad: bool, what: String| bad.then_some(what);
    match e.kind() {
        ExprKind::Const(s) => wrong(s.dtype() != dtype, format!("a literal of {} is {dtype}", s.dtype())),
        ExprKind::Var(_) | ExprKind::Cast(_) | ExprKind::Load(..) => None,
        ExprKind::Reinterpret(a) => {
            let bad = a.dtype().bytes() != dtype.bytes();
            wrong(bad, format!("{} is reinterpreted as {dtype}, which has another width", a.dtype()))
        }
        ExprKind::Unary(op, a) => {
            let test = matches!(op, UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite);
            let want = if test { DType::Bool } else { a.dtype() };
            wrong(dtype != want, format!("{op:?} of {} is {dtype}", a.dtype()))
        }
        ExprKind::Binary(op, a, b) => {
            let logical = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor);
            let bad = a.dtype() != b.dtype() || dtype != a.dtype() || (logical && dtype.is_float());
            wrong(bad, format!("{op:?} of {} and {} is {dtype}", a.dtype(), b.dtype()))
        }
        ExprKind::Cmp(op, a, b) => {
            let bad = a.dtype() != b.dtype() || dtype != DType::Bool;
            wrong(bad, format!("{op:?} of {} and {} is {dtype}", a.dtype(), b.dtype()))
        }
        ExprKind::Fma(a, b, c) => {
            let bad = [a, b, c].iter().any(|x| x.dtype() != dtype);
            wrong(bad, format!("fma of {}, {} and {} is {dtype}", a.dtype(), b.dtype(), c.dtype()))
        }
        ExprKind::Select(c, a, b) => {
            let bad = c.dtype() != DType::Bool || a.dtype() != dtype || b.dtype() != dtype;
            wrong(bad, format!("a select on {} of {} and {} is {dtype}", c.dtype(), a.dtype(), b.dtype()))
        }
    }
}

fn is_thread_axis(axis: &str) -> bool {
    match axis.split_once('.') {
        Some((name, dim)) => matches!(name, "blockIdx" | "threadIdx") && matches!(dim, "x" | "y" | "z"),
        None => axis == "vthread",
    }
}

#[cfg(test)]
mod tests;
