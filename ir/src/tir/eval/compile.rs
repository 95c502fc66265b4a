//! From statements to register code.
//!
//! Code is written into a stack of frames: one for each open loop and branch. A pure
//! operation goes into the outermost frame where its operands are known, which takes
//! invariant index arithmetic out of loops; it is total, so that it may run where the
//! program would not have come to it. What reads memory stays where it is. Inside the sides
//! of a select, a shared part that reads memory becomes a subroutine that runs at most once
//! an activation: so a select evaluates only the side that it chose, and sharing never
//! makes the code longer than the expression.

mod expr;

use std::collections::HashMap;

use super::inst::{BufferInfo, Call, Inst, PureKey, Reg};
use super::{Program, ThreadAxis};
use crate::diag::{Code, Diagnostic};
use crate::entity::{EntityRef, SecondaryMap};
use crate::scalar::{BinaryOp, CmpOp, Scalar};
use crate::tensor::byte_len;
use crate::tir::interval::{Bounds, Interval};
use crate::tir::intrin::{self, Execution};
use crate::tir::ir::{
    Block, BufferId, Expr, IterKind, LoopKind, MAX_EXPR_DEPTH, MAX_NESTING, PrimFunc, Region, Scope, Stmt,
    VarId,
};
use crate::tir::verify::MAX_THREADS;
use crate::types::DType;

/// Tiles that a function may have.
const MAX_TILES: i64 = 1 << 28;

/// Compiles a function.
pub fn compile(func: &PrimFunc) -> Result<Program, Diagnostic> {
    let mut compiler = Compiler::new(func);
    compiler.limits()?;
    let tiles = match &func.body {
        Stmt::For { var, extent, kind: LoopKind::Tiles, body } => {
            let count = extent.as_int().filter(|n| (0..=MAX_TILES).contains(n));
            let count =
                count.ok_or_else(|| compiler.error("the number of tiles is not a constant in range"))?;
            let reg = compiler.register(0);
            compiler.vars[*var] = Some(reg);
            compiler.bounds.set(*var, Interval::below(count));
            compiler.stmt(body)?;
            Some((reg, count as u64))
        }
        body => {
            compiler.stmt(body)?;
            None
        }
    };
    Ok(compiler.finish(tiles))
}

/// Code of an open loop or branch, and the pure values computed in it.
#[derive(Default)]
struct Frame {
    code: Vec<Inst>,
    pure: HashMap<PureKey, Reg>,
}

struct Compiler<'a> {
    func: &'a PrimFunc,
    frames: Vec<Frame>,
    registers: Vec<u64>,
    /// The frame in which each register is set.
    levels: Vec<usize>,
    vars: SecondaryMap<VarId, Option<Reg>>,
    bounds: Bounds,
    declared: Vec<bool>,
    allocs: Vec<BufferId>,
    subs: Vec<Vec<Inst>>,
    calls: Vec<Call>,
    statement: Statement,
    /// The axes of GPU threads, in order of first appearance.
    threads: Vec<ThreadAxis>,
    /// Buffers that GPU threads share and write.
    watched: Vec<bool>,
}

/// What is known of the expressions of the statement at hand.
#[derive(Default)]
struct Statement {
    /// How often each node is used.
    uses: HashMap<usize, u32>,
    /// Nodes that read memory.
    impure: HashMap<usize, bool>,
    /// Registers of nodes: first those that are always computed, then a table for each open side.
    scopes: Vec<HashMap<usize, Reg>>,
    /// Subroutines of shared nodes.
    subs: HashMap<usize, (u32, Reg)>,
    /// The frame of the statement.
    level: usize,
}

impl<'a> Compiler<'a> {
    fn new(func: &'a PrimFunc) -> Compiler<'a> {
        let mut allocs = func.allocs.clone();
        func.body.walk(&mut |s| {
            if let Stmt::Block(b) = s {
                allocs.extend(&b.allocs);
            }
        });
        allocs.retain(|b| !func.params.contains(b));
        allocs.sort_unstable();
        allocs.dedup();
        let mut declared = vec![false; func.buffers.len()];
        for b in allocs.iter().chain(&func.params) {
            declared[b.index()] = true;
        }
        Compiler {
            func,
            frames: vec![Frame::default()],
            registers: Vec::new(),
            levels: Vec::new(),
            vars: SecondaryMap::new(),
            bounds: Bounds::new(),
            declared,
            allocs,
            subs: Vec::new(),
            calls: Vec::new(),
            statement: Statement::default(),
            threads: Vec::new(),
            watched: watched(func),
        }
    }

    fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::TIR, message).note(format!("in the TIR function `{}`", self.func.name))
    }

    /// Refuses what compiling by recursion could not take.
    fn limits(&self) -> Result<(), Diagnostic> {
        let mut deep = false;
        let mut stack = vec![(&self.func.body, 0)];
        while let Some((s, depth)) = stack.pop() {
            deep |= depth > MAX_NESTING;
            deep |= s.exprs().iter().any(|e| e.depth() > MAX_EXPR_DEPTH);
            stack.extend(s.children().into_iter().map(|c| (c, depth + 1)));
        }
        if deep {
            return Err(self.error("the function nests too deeply"));
        }
        for b in self.func.buffers.values() {
            byte_len(b.dtype, &b.shape).map_err(|e| self.error(format!("buffer `{}`: {e}", b.name)))?;
        }
        Ok(())
    }

    fn finish(mut self, tiles: Option<(Reg, u64)>) -> Program {
        let mut code = std::mem::take(&mut self.frames[0].code);
        code.push(Inst::End);
        let mut starts = Vec::new();
        for (i, body) in std::mem::take(&mut self.subs).into_iter().enumerate() {
            starts.push(code.len());
            code.extend(body);
            code.push(Inst::Return { sub: i as u32 });
        }
        let info = |b: &crate::tir::Buffer| BufferInfo {
            name: b.name.to_string(),
            dtype: b.dtype,
            shape: b.shape.clone(),
        };
        let private = self.allocs_of(Scope::Local);
        Program {
            name: self.func.name.to_string(),
            params: self.func.params.clone(),
            outputs: self.func.outputs,
            buffers: self.func.buffers.values().map(info).collect(),
            allocs: self.allocs.clone(),
            registers: self.registers,
            code,
            subs: starts,
            calls: self.calls,
            tiles,
            private,
            threads: self.threads,
            watched: self.watched,
        }
    }

    fn allocs_of(&self, scope: Scope) -> Vec<BufferId> {
        self.allocs.iter().copied().filter(|b| self.func.buffers[*b].scope == scope).collect()
    }

    fn register(&mut self, level: usize) -> Reg {
        self.registers.push(0);
        self.levels.push(level);
        (self.registers.len() - 1) as Reg
    }

    fn top(&self) -> usize {
        self.frames.len() - 1
    }

    fn emit(&mut self, inst: Inst) {
        let top = self.top();
        self.frames[top].code.push(inst);
    }

    /// The code that `f` writes, in a frame of its own.
    fn framed(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<(), Diagnostic>,
    ) -> Result<Vec<Inst>, Diagnostic> {
        self.frames.push(Frame::default());
        let result = f(self);
        let frame = self.frames.pop().expect("pushed above");
        result.map(|()| frame.code)
    }

    /// Appends code that runs only if a register is not 0.
    fn emit_guarded(&mut self, c: Reg, code: Vec<Inst>) {
        self.emit(Inst::JumpIfNot { c, by: code.len() as i32 });
        self.emit_all(code);
    }

    fn emit_all(&mut self, code: Vec<Inst>) {
        let top = self.top();
        self.frames[top].code.extend(code);
    }

    /// Appends code for both cases of a condition.
    fn emit_either(&mut self, c: Reg, mut then: Vec<Inst>, els: Vec<Inst>) {
        if !els.is_empty() {
            then.push(Inst::Jump { by: els.len() as i32 });
        }
        self.emit_guarded(c, then);
        self.emit_all(els);
    }

    /// A pure operation, computed once in the outermost frame that knows its operands.
    fn pure(&mut self, key: PureKey, operands: &[Reg], inst: impl FnOnce(Reg) -> Inst) -> Reg {
        let level = operands.iter().map(|&r| self.levels[r as usize]).max().unwrap_or(0);
        if let Some(&reg) = self.frames[level].pure.get(&key) {
            return reg;
        }
        let dst = self.register(level);
        self.frames[level].code.push(inst(dst));
        self.frames[level].pure.insert(key, dst);
        dst
    }

    fn constant(&mut self, value: Scalar) -> Reg {
        let key = PureKey::Const(value);
        if let Some(&reg) = self.frames[0].pure.get(&key) {
            return reg;
        }
        let reg = self.register(0);
        self.registers[reg as usize] = value.bits();
        self.frames[0].pure.insert(key, reg);
        reg
    }

    fn add(&mut self, a: Reg, b: Reg) -> Reg {
        let key = operation(5, BinaryOp::Add as u8, DType::I64, [a, b, 0]);
        self.pure(key, &[a, b], |dst| Inst::Add { dst, a, b })
    }

    fn scale(&mut self, a: Reg, by: i64) -> Reg {
        if by == 1 {
            return a;
        }
        self.pure(PureKey::Scale(a, by), &[a], |dst| Inst::Scale { dst, a, by })
    }

    // Statements

    fn stmt(&mut self, s: &Stmt) -> Result<(), Diagnostic> {
        match s {
            Stmt::Seq(stmts) => {
                stmts.iter().try_for_each(|s| self.stmt(s))?;
                for s in stmts {
                    if let Stmt::Let { var, .. } = s {
                        self.vars[*var] = None;
                    }
                }
                Ok(())
            }
            Stmt::Checkpoint => Ok(()),
            Stmt::Barrier if self.threads.is_empty() => {
                Err(self.error("a barrier stands outside of GPU threads"))
            }
            Stmt::Barrier => {
                self.emit(Inst::Barrier);
                Ok(())
            }
            Stmt::Block(block) => self.block(block),
            Stmt::For { var, extent, kind: LoopKind::ThreadBinding(axis), body }
                if axis.starts_with("threadIdx.") =>
            {
                self.threads(*var, extent, axis, body)
            }
            Stmt::For { var, extent, body, .. } => {
                self.begin([extent]);
                let count = self.expr(extent)?;
                let last = self.bounds.of(extent).hi.saturating_sub(1);
                self.bounds.set(*var, Interval::new(0, last));
                let reg = self.register(self.top() + 1);
                self.vars[*var] = Some(reg);
                let code = self.framed(|c| c.stmt(body))?;
                self.vars[*var] = None;
                let by = code.len() as i32 + 1;
                self.emit(Inst::Enter { var: reg, extent: count, by });
                self.emit_all(code);
                self.emit(Inst::Next { var: reg, extent: count, by: -by });
                Ok(())
            }
            Stmt::Let { var, value } => {
                self.begin([value]);
                let reg = self.expr(value)?;
                self.vars[*var] = Some(reg);
                self.bounds.set(*var, self.bounds.of(value));
                Ok(())
            }
            Stmt::If { cond, then, els } => {
                self.begin([cond]);
                let c = self.expr(cond)?;
                let then = self.framed(|s| s.stmt(then))?;
                let els = match els {
                    Some(els) => self.framed(|s| s.stmt(els))?,
                    None => Vec::new(),
                };
                self.emit_either(c, then, els);
                Ok(())
            }
            Stmt::Store { buffer, indices, value } => {
                self.begin(indices.iter().chain([value]));
                let a = self.expr(value)?;
                let at = self.element(*buffer, indices)?;
                let dtype = self.func.buffers[*buffer].dtype;
                self.watch(*buffer, at, true);
                self.emit(Inst::Store { a, buffer: buffer.as_u32(), at, dtype });
                Ok(())
            }
            Stmt::Intrin { name, regions, params } => self.intrinsic(s, name, regions, params),
        }
    }

    /// A loop over GPU threads: every thread runs the body once, with its own index.
    fn threads(&mut self, var: VarId, extent: &Expr, axis: &str, body: &Stmt) -> Result<(), Diagnostic> {
        let size = extent.as_int().filter(|n| (1..=MAX_THREADS).contains(n));
        let size = size.ok_or_else(|| {
            self.error(format!("the extent of `{axis}` is not a constant in 1..{MAX_THREADS}"))
        })?;
        let known = self.threads.iter().find(|a| *a.name == *axis);
        let reg = match known {
            Some(known) if known.extent != size as u64 => {
                return Err(self.error(format!("loops over `{axis}` have different extents")));
            }
            Some(known) => known.reg,
            None => {
                let reg = self.register(0);
                self.threads.push(ThreadAxis { name: axis.into(), reg, extent: size as u64 });
                reg
            }
        };
        self.vars[var] = Some(reg);
        self.bounds.set(var, Interval::below(size));
        self.stmt(body)?;
        self.vars[var] = None;
        Ok(())
    }

    /// Has an access seen by whoever looks for races between GPU threads.
    fn watch(&mut self, buffer: BufferId, at: Reg, write: bool) {
        if self.watched[buffer.index()] {
            self.emit(Inst::Watch { buffer: buffer.as_u32(), at, write });
        }
    }

    fn intrinsic(
        &mut self,
        s: &Stmt,
        name: &str,
        regions: &[Region],
        params: &[Expr],
    ) -> Result<(), Diagnostic> {
        let def = intrin::lookup(name)
            .ok_or_else(|| self.error(format!("there is no tensor intrinsic `{name}`")))?;
        let by_threads = def.execution != Execution::Worker;
        if by_threads == self.threads.is_empty() {
            let whose = if by_threads { "for GPU threads alone" } else { "no intrinsic for GPU threads" };
            return Err(self.error(format!("`{name}` is {whose}")));
        }
        let dtype = |r: &Region| self.func.buffers[r.buffer].dtype;
        let fits = def.regions.len() == regions.len()
            && def.regions.iter().zip(regions).all(|(d, r)| d.dtype == dtype(r));
        let outputs = &regions[..def.outputs().min(regions.len())];
        let alone = |b: BufferId| regions.iter().filter(|r| r.buffer == b).count() == 1;
        if !fits || !outputs.iter().all(|r| alone(r.buffer)) {
            return Err(self.error(format!("the regions of `{name}` are not what the catalogue says")));
        }
        self.begin(s.exprs());
        let mut places = Vec::new();
        for r in regions {
            self.declared(r.buffer, r.ranges.len())?;
            let mut dims = Vec::new();
            for range in &r.ranges {
                dims.push((self.expr(&range.min)?, self.expr(&range.extent)?));
            }
            places.push((r.buffer.as_u32(), dims));
        }
        let params = params.iter().map(|p| self.expr(p)).collect::<Result<_, _>>()?;
        self.emit(Inst::Intrin { call: self.calls.len() as u32 });
        self.calls.push(Call { def, regions: places, params });
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), Diagnostic> {
        self.bound_block(block)?;
        for it in &block.iters {
            self.vars[it.var] = None;
        }
        Ok(())
    }

    fn bound_block(&mut self, block: &Block) -> Result<(), Diagnostic> {
        for it in &block.iters {
            self.begin([&it.binding]);
            let reg = self.expr(&it.binding)?;
            self.vars[it.var] = Some(reg);
            self.bounds.set(it.var, self.bounds.of(&it.binding));
        }
        let Some(predicate) = &block.predicate else { return self.block_body(block) };
        self.begin([predicate]);
        let c = self.expr(predicate)?;
        let code = self.framed(|s| s.block_body(block))?;
        self.emit_guarded(c, code);
        Ok(())
    }

    /// The init where every reduce axis is at its start, and the body.
    fn block_body(&mut self, block: &Block) -> Result<(), Diagnostic> {
        if let Some(init) = &block.init {
            let code = self.framed(|s| s.stmt(init))?;
            let zero = self.constant(Scalar::from_i64(DType::I64, 0));
            let mut first = None;
            for it in block.iters.iter().filter(|it| it.kind == IterKind::Reduce) {
                let var = self.vars[it.var].expect("bound with the block");
                let here = self.compare(CmpOp::Eq, DType::I64, var, zero);
                first = Some(match first {
                    Some(others) => self.binary(BinaryOp::And, DType::Bool, others, here),
                    None => here,
                });
            }
            match first {
                Some(first) => self.emit_guarded(first, code),
                None => self.emit_all(code),
            }
        }
        self.stmt(&block.body)
    }
}

/// The buffers that GPU threads share and write; none if there are no threads.
fn watched(func: &PrimFunc) -> Vec<bool> {
    let mut watched = vec![false; func.buffers.len()];
    let mut has_threads = false;
    func.body.walk(&mut |s| match s {
        Stmt::For { kind: LoopKind::ThreadBinding(axis), .. } => {
            has_threads |= axis.starts_with("threadIdx.")
        }
        Stmt::Store { buffer, .. } => watched[buffer.index()] = func.buffers[*buffer].scope != Scope::Local,
        Stmt::Intrin { name, regions, .. } => {
            let outputs = intrin::lookup(name).map_or(regions.len(), |def| def.outputs());
            for r in regions.iter().take(outputs) {
                watched[r.buffer.index()] = func.buffers[r.buffer].scope != Scope::Local;
            }
        }
        _ => {}
    });
    watched.iter_mut().for_each(|w| *w &= has_threads);
    watched
}

/// The key of an operation: a tag for the kind of expression, the operation in it.
fn operation(tag: u16, op: u8, dtype: DType, operands: [Reg; 3]) -> PureKey {
    PureKey::Op(tag << 8 | u16::from(op), dtype, operands)
}
