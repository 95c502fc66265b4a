//! Statements: loops, blocks, conditions, stores.

use std::sync::Arc;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{Function, InstBuilder, SourceLoc, Value};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use fermata_ir::diag::Diagnostic;
use fermata_ir::entity::SecondaryMap;
use fermata_ir::tir::{Block, BufferId, Expr, IterKind, LoopKind, PrimFunc, Stmt, VarId};

use super::abi::{Home, Imports, Layout, memory, strides};
use super::analysis::{Analysis, Lane, Meaning};
use super::convert::vector_type;
use super::lower_expr::{Cache, Mode};
use super::reduction::Accumulator;
use super::vector::VectorLoop;
use super::{Caps, failed};

/// How deeply statements may nest.
const MAX_DEPTH: usize = 256;

/// An unrolled loop is written out if it has at most this many iterations,
const UNROLL_ITERATIONS: i64 = 64;

/// and while the function has at most this many instructions; else it is a loop.
const UNROLL_INSTRUCTIONS: usize = 20_000;

/// The arguments of the tile function.
pub(super) struct Frame {
    pub buffers: Value,
    pub scratch: Value,
    pub imports: Value,
    tile: Value,
}

/// The value of a variable that does not merely name an expression.
#[derive(Clone, Copy, Default)]
pub(super) struct Bound {
    /// In one lane or in all.
    pub scalar: Option<Value>,
    /// Lane by lane.
    pub vector: Option<Value>,
}

/// A function on its way to Cranelift's language.
pub(super) struct Lower<'f, 'b> {
    pub b: FunctionBuilder<'b>,
    pub func: &'f PrimFunc,
    pub caps: Caps,
    pub layout: Layout,
    pub imports: Imports,
    pub frame: Frame,
    pub analysis: Analysis<'f>,
    pub cache: Cache,
    pub variables: SecondaryMap<VarId, Bound>,
    /// Registers of one-element buffers.
    pub registers: SecondaryMap<BufferId, Option<Variable>>,
    /// Vector registers of buffers that are held in lanes, first elements first.
    pub lanes: SecondaryMap<BufferId, Vec<Variable>>,
    /// The values of variables of loops that are written out.
    pub known: SecondaryMap<VarId, Option<i64>>,
    /// Reductions that are running, innermost last.
    pub accumulators: Vec<Accumulator>,
    /// The vectorised loop that is being worked on.
    pub vector_loop: Option<VectorLoop>,
    /// The lane whose scalar code is being made.
    pub lane: Option<u32>,
    /// Loads must stay where they are.
    pub pinned: bool,
    pub origins: Vec<Arc<str>>,
}

impl<'f, 'b> Lower<'f, 'b> {
    /// Begins a function.
    pub fn new(
        func: &'f PrimFunc,
        function: &'b mut Function,
        context: &'b mut FunctionBuilderContext,
        caps: Caps,
        call_conv: CallConv,
    ) -> Result<Lower<'f, 'b>, Diagnostic> {
        let layout = Layout::new(func)?;
        let mut b = FunctionBuilder::new(function, context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let &[buffers, scratch, imports, tile] = b.block_params(entry) else {
            return Err(failed(func, "the frame has four arguments"));
        };
        b.set_srcloc(SourceLoc::new(0));
        Ok(Lower {
            b,
            func,
            caps,
            layout,
            imports: Imports::new(call_conv),
            frame: Frame { buffers, scratch, imports, tile },
            analysis: Analysis::new(),
            cache: Cache::default(),
            variables: SecondaryMap::new(),
            registers: SecondaryMap::new(),
            lanes: SecondaryMap::new(),
            known: SecondaryMap::new(),
            accumulators: Vec::new(),
            vector_loop: None,
            lane: None,
            pinned: false,
            origins: vec![func.name.clone()],
        })
    }

    /// Lowers the body: one tile of it, if it is scheduled.
    pub fn body(&mut self) -> Result<(), Diagnostic> {
        for &id in &self.func.allocs {
            self.enter_alloc(id);
        }
        match &self.func.body {
            Stmt::For { var, kind: LoopKind::Tiles, body, .. } => {
                let tile = self.frame.tile;
                self.bind_loop(*var, tile, 1, Lane::UNIFORM);
                self.stmt(body)
            }
            body => self.stmt(body),
        }
    }

    /// Ends the function: names of imports, bytes of scratch memory, and what source locations mean.
    pub fn finish(mut self, config: TargetFrontendConfig) -> (Vec<String>, usize, Vec<Arc<str>>) {
        self.b.ins().return_(&[]);
        self.b.finalize(config);
        (self.imports.into_names(), self.layout.scratch_bytes, self.origins)
    }

    /// Lowers a statement. Recursion is as deep as statements nest, which [`walk`] bounds.
    pub(super) fn stmt(&mut self, stmt: &'f Stmt) -> Result<(), Diagnostic> {
        match stmt {
            Stmt::Seq(list) => list.iter().try_for_each(|s| self.stmt(s)),
            Stmt::For { var, extent, kind, body } => self.loop_stmt(stmt, *var, extent, kind, body),
            Stmt::Block(block) => self.block(block),
            Stmt::Let { var, value } => {
                self.let_stmt(*var, value);
                Ok(())
            }
            Stmt::If { cond, then, els } => {
                let cond = self.scalar(cond);
                self.if_else(
                    cond,
                    |lower| lower.stmt(then),
                    |lower| els.as_ref().map_or(Ok(()), |els| lower.stmt(els)),
                )
            }
            Stmt::Store { buffer, indices, value } => {
                self.store(*buffer, indices, value);
                Ok(())
            }
            Stmt::Intrin { name, regions, params } => {
                self.call_intrinsic(name, regions, params);
                Ok(())
            }
            // The worker looks at the word between tiles, outside of generated code.
            Stmt::Checkpoint => Ok(()),
            Stmt::Barrier => {
                Err(failed(self.func, "it has a barrier of GPU threads").help("schedule it for a CPU"))
            }
        }
    }

    fn loop_stmt(
        &mut self,
        stmt: &'f Stmt,
        var: VarId,
        extent: &'f Expr,
        kind: &LoopKind,
        body: &'f Stmt,
    ) -> Result<(), Diagnostic> {
        match kind {
            LoopKind::ThreadBinding(axis) => {
                return Err(failed(self.func, &format!("it has a loop over GPU threads (`{axis}`)"))
                    .help("schedule it for a CPU"));
            }
            LoopKind::Tiles => return Err(failed(self.func, "its tile loop is not outermost")),
            LoopKind::Vectorized => {
                if let Some(done) = self.vectorized(var, extent, body) {
                    return done;
                }
            }
            LoopKind::Serial | LoopKind::Parallel | LoopKind::Unrolled => {
                if let Some(done) = self.reduction(stmt) {
                    return done;
                }
            }
        }
        match extent.as_int() {
            Some(n) if n <= 0 => Ok(()),
            Some(1) => self.iteration(var, 0, body),
            // Elements in registers have no index that could be computed.
            Some(n) if *kind == LoopKind::Vectorized && self.indexes_lanes(var, body) => {
                (0..n).try_for_each(|i| self.iteration(var, i, body))
            }
            Some(n)
                if *kind == LoopKind::Unrolled
                    && n <= UNROLL_ITERATIONS
                    && self.b.func.dfg.num_insts() < UNROLL_INSTRUCTIONS =>
            {
                (0..n).try_for_each(|i| self.iteration(var, i, body))
            }
            known => {
                let start = self.b.ins().iconst(I64, 0);
                let end = self.scalar(extent);
                self.counted(start, end, 1, known.is_some(), |lower, i| {
                    lower.bind_loop(var, i, 1, Lane::UNIFORM);
                    lower.stmt(body)
                })
            }
        }
    }

    /// One iteration of a loop that is written out.
    fn iteration(&mut self, var: VarId, i: i64, body: &'f Stmt) -> Result<(), Diagnostic> {
        let mark = self.cache.enter();
        let value = self.b.ins().iconst(I64, i);
        self.bind_loop(var, value, i.unsigned_abs(), Lane::UNIFORM);
        self.known[var] = Some(i);
        let done = self.stmt(body);
        self.known[var] = None;
        self.cache.leave(mark);
        done
    }

    /// Binds a loop variable, which is never negative.
    pub(super) fn bind_loop(&mut self, var: VarId, value: Value, multiple: u64, lane: Lane) {
        self.analysis.bind(var, Meaning::Opaque { nonneg: true, multiple, lane });
        self.variables[var] = Bound { scalar: Some(value), vector: None };
    }

    /// `for i in (start..end).step_by(step)`; the test is at the end, and at the start only
    /// where the loop may be empty.
    pub(super) fn counted(
        &mut self,
        start: Value,
        end: Value,
        step: i64,
        nonempty: bool,
        body: impl FnOnce(&mut Self, Value) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let (top, exit) = (self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(top, I64);
        if nonempty {
            self.b.ins().jump(top, &[start.into()]);
        } else {
            let some = self.b.ins().icmp(IntCC::SignedLessThan, start, end);
            self.b.ins().brif(some, top, &[start.into()], exit, &[]);
        }
        self.b.switch_to_block(top);
        let mark = self.cache.enter();
        self.cache.memory_changed();
        body(self, i)?;
        self.cache.leave(mark);
        self.cache.memory_changed();
        let next = self.b.ins().iadd_imm_s(i, step);
        let again = self.b.ins().icmp(IntCC::SignedLessThan, next, end);
        self.b.ins().brif(again, top, &[next.into()], exit, &[]);
        self.b.seal_block(top);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
        Ok(())
    }

    /// `if cond { then } else { els }`.
    pub(super) fn if_else(
        &mut self,
        cond: Value,
        then: impl FnOnce(&mut Self) -> Result<(), Diagnostic>,
        els: impl FnOnce(&mut Self) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(cond, yes, &[], no, &[]);
        self.b.seal_block(yes);
        self.b.seal_block(no);
        for (block, side) in [(yes, Side::Then(then)), (no, Side::Else(els))] {
            self.b.switch_to_block(block);
            let mark = self.cache.enter();
            match side {
                Side::Then(f) => f(self)?,
                Side::Else(f) => f(self)?,
            }
            self.cache.leave(mark);
            self.cache.memory_changed();
            self.b.ins().jump(join, &[]);
        }
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        Ok(())
    }

    fn let_stmt(&mut self, var: VarId, value: &'f Expr) {
        let facts = self.analysis.of(value);
        let pinned = std::mem::replace(&mut self.pinned, true);
        let form = vector_type(value.dtype(), self.analysis.lanes);
        if facts.lane == Lane::UNIFORM || self.lane.is_some() {
            let scalar = self.scalar(value);
            let lane = if facts.lane == Lane::UNIFORM { Lane::UNIFORM } else { Lane::Varying };
            self.analysis.bind(var, Meaning::Opaque { nonneg: facts.nonneg, multiple: facts.multiple, lane });
            self.variables[var] = Bound { scalar: Some(scalar), vector: None };
        } else if form.is_some() {
            let vector = self.evaluate(value, Mode::Vector);
            self.analysis.bind(var, Meaning::Opaque { nonneg: false, multiple: 1, lane: Lane::Varying });
            self.variables[var] = Bound { scalar: None, vector: Some(vector) };
        } else {
            self.analysis.bind(var, Meaning::Alias(value));
        }
        self.pinned = pinned;
    }

    fn block(&mut self, block: &'f Block) -> Result<(), Diagnostic> {
        let outer = self.b.srcloc();
        self.origins.push(block.name.clone());
        self.b.set_srcloc(SourceLoc::new(self.origins.len() as u32 - 1));
        self.bind_iters(block, true);
        let done = match &block.predicate {
            Some(predicate) if self.lane.is_none() && self.analysis.of(predicate).lane != Lane::UNIFORM => {
                self.guarded_lanes(predicate, block)
            }
            Some(predicate) => {
                let cond = self.scalar(predicate);
                self.if_else(cond, |lower| lower.block_body(block), |_| Ok(()))
            }
            None => self.block_body(block),
        };
        self.b.set_srcloc(outer);
        done
    }

    /// Binds a block's variables: they name their expressions, except where those read memory
    /// (`emit` makes the code of that; without it only the facts are bound).
    pub(super) fn bind_iters(&mut self, block: &'f Block, emit: bool) {
        for iter in &block.iters {
            let facts = self.analysis.of(&iter.binding);
            if !facts.loads {
                self.analysis.bind(iter.var, Meaning::Alias(&iter.binding));
                continue;
            }
            if emit {
                let value = self.scalar(&iter.binding);
                self.variables[iter.var] = Bound { scalar: Some(value), vector: None };
            }
            self.analysis.bind(iter.var, Meaning::Opaque { nonneg: false, multiple: 1, lane: Lane::UNIFORM });
        }
    }

    /// What a block does once its variables are bound and its predicate holds.
    pub(super) fn block_body(&mut self, block: &'f Block) -> Result<(), Diagnostic> {
        self.enter_allocs(block);
        if let Some(init) = &block.init {
            let mut first = None;
            for iter in block.iters.iter().filter(|iter| iter.kind == IterKind::Reduce) {
                if iter.binding.as_int() == Some(0) {
                    continue;
                }
                let value = self.scalar(&iter.binding);
                let at_zero = self.b.ins().icmp_imm_s(IntCC::Equal, value, 0);
                first = Some(self.both(first, at_zero));
            }
            match first {
                Some(first) => self.if_else(first, |lower| lower.stmt(init), |_| Ok(()))?,
                None => self.stmt(init)?,
            }
        }
        self.stmt(&block.body)
    }

    fn store(&mut self, buffer: BufferId, indices: &'f [Expr], value: &'f Expr) {
        let buffer_info = &self.func.buffers[buffer];
        if let (Home::Register, Some(variable)) = (self.layout.homes[buffer], self.registers[buffer]) {
            let value = self.scalar(value);
            self.b.def_var(variable, value);
        } else if self.layout.homes[buffer] == Home::Lanes {
            self.store_in_lanes(buffer, indices, value);
        } else if self.analysis.lanes > 1 && self.lane.is_none() {
            let value = self.evaluate(value, Mode::Vector);
            let lane = self.analysis.position(&strides(&buffer_info.shape), indices);
            self.store_lanes(buffer, indices, lane, value);
        } else {
            let value = self.scalar(value);
            let offset = self.offset(buffer, indices.iter());
            let base = self.address(buffer);
            let address = self.b.ins().iadd(base, offset);
            self.b.ins().store(memory(), value, address, 0);
        }
        self.cache.memory_changed();
    }
}

/// One of two closures of different types.
enum Side<A, B> {
    Then(A),
    Else(B),
}

/// Calls `f` for every statement of a function, outer before inner.
///
/// # Errors
/// If statements nest too deeply for code to be made of them.
pub(super) fn walk<'f>(func: &'f PrimFunc, f: &mut dyn FnMut(&'f Stmt)) -> Result<(), Diagnostic> {
    let mut stack = vec![(&func.body, 0)];
    while let Some((stmt, depth)) = stack.pop() {
        if depth > MAX_DEPTH {
            return Err(failed(func, &format!("its statements nest more than {MAX_DEPTH} deep")));
        }
        f(stmt);
        match stmt {
            Stmt::Seq(list) => stack.extend(list.iter().rev().map(|s| (s, depth + 1))),
            Stmt::For { body, .. } => stack.push((body, depth + 1)),
            Stmt::Block(block) => {
                stack.push((&block.body, depth + 1));
                stack.extend(block.init.iter().map(|init| (&**init, depth + 1)));
            }
            Stmt::If { then, els, .. } => {
                stack.extend(els.iter().map(|els| (&**els, depth + 1)));
                stack.push((then, depth + 1));
            }
            Stmt::Let { .. }
            | Stmt::Store { .. }
            | Stmt::Intrin { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier => {}
        }
    }
    Ok(())
}
