//! Reductions whose element stays in a register while the loops around it run.

use std::collections::HashSet;

use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, SourceLoc, Value};
use cranelift_frontend::Variable;
use fermata_ir::diag::Diagnostic;
use fermata_ir::tir::{Block, BufferId, Expr, ExprKind, IterKind, LoopKind, Stmt, VarId};

use super::abi::{Home, memory, strides};
use super::analysis::{Lane, loads};
use super::convert::{clif_type, vector_type};
use super::lower_expr::Mode;
use super::lower_stmt::Lower;

/// An element of a buffer, or one a lane, that is held in a register while a reduction runs.
#[derive(Clone, Copy)]
pub(super) struct Accumulator {
    buffer: BufferId,
    /// The register.
    pub variable: Variable,
    /// Whether it is one element or one a lane.
    pub mode: Mode,
}

impl<'f> Lower<'f, '_> {
    /// The running reduction into a buffer, if there is one.
    pub(super) fn accumulator(&self, buffer: BufferId) -> Option<Accumulator> {
        self.accumulators.iter().rev().find(|a| a.buffer == buffer).copied()
    }

    /// Lowers loops around one block that reduces into an element which none of the loops moves:
    /// the element stays in a register. `None` if the loops are anything else.
    pub(super) fn reduction(&mut self, stmt: &'f Stmt) -> Option<Result<(), Diagnostic>> {
        let nest = Reduction::find(stmt)?;
        let shape = strides(&self.func.buffers[nest.buffer].shape);
        if matches!(self.layout.homes[nest.buffer], Home::Register | Home::Lanes | Home::None) {
            return None;
        }
        self.bind_iters(nest.block, false);
        let mode = if self.analysis.lanes > 1 && self.lane.is_none() { Mode::Vector } else { Mode::Scalar };
        if mode == Mode::Vector && self.analysis.position(&shape, nest.indices) != Lane::Step(1) {
            return None;
        }
        let dtype = self.func.buffers[nest.buffer].dtype;
        let ty = match mode {
            Mode::Scalar => clif_type(dtype),
            Mode::Vector => vector_type(dtype, self.analysis.lanes)?,
        };
        let outer = self.b.srcloc();
        self.origins.push(nest.block.name.clone());
        self.b.set_srcloc(SourceLoc::new(self.origins.len() as u32 - 1));
        let start = match nest.init {
            Some(init) => self.evaluate(init, mode),
            None => self.element(nest.buffer, nest.indices, mode),
        };
        let variable = self.b.declare_var(ty);
        self.b.def_var(variable, start);
        self.accumulators.push(Accumulator { buffer: nest.buffer, variable, mode });
        let done = self.reduction_loops(&nest, 0, variable, mode);
        self.accumulators.pop();
        self.bind_iters(nest.block, false);
        let value = self.b.use_var(variable);
        match mode {
            Mode::Vector => self.store_lanes(nest.buffer, nest.indices, Lane::Step(1), value),
            Mode::Scalar => {
                let offset = self.offset(nest.buffer, nest.indices.iter());
                let base = self.address(nest.buffer);
                let address = self.b.ins().iadd(base, offset);
                self.b.ins().store(memory(), value, address, 0);
            }
        }
        self.cache.memory_changed();
        self.b.set_srcloc(outer);
        Some(done)
    }

    fn reduction_loops(
        &mut self,
        nest: &Reduction<'f>,
        depth: usize,
        variable: Variable,
        mode: Mode,
    ) -> Result<(), Diagnostic> {
        let Some(&(var, extent)) = nest.loops.get(depth) else {
            self.bind_iters(nest.block, true);
            let value = self.evaluate(nest.value, mode);
            self.b.def_var(variable, value);
            self.cache.memory_changed();
            return Ok(());
        };
        let (start, end) = (self.b.ins().iconst(I64, 0), self.b.ins().iconst(I64, extent));
        self.counted(start, end, 1, true, |lower, i| {
            lower.bind_loop(var, i, 1, Lane::UNIFORM);
            lower.reduction_loops(nest, depth + 1, variable, mode)
        })
    }

    /// An element of a buffer, or one a lane.
    fn element(&mut self, buffer: BufferId, indices: &'f [Expr], mode: Mode) -> Value {
        if mode == Mode::Vector {
            return self.load_lanes(buffer, indices);
        }
        let offset = self.offset(buffer, indices.iter());
        let base = self.address(buffer);
        let address = self.b.ins().iadd(base, offset);
        self.b.ins().load(clif_type(self.func.buffers[buffer].dtype), memory(), address, 0)
    }
}

/// Loops around a block that reduces into one element of a buffer.
struct Reduction<'f> {
    loops: Vec<(VarId, i64)>,
    block: &'f Block,
    buffer: BufferId,
    indices: &'f [Expr],
    init: Option<&'f Expr>,
    value: &'f Expr,
}

impl<'f> Reduction<'f> {
    /// Recognises the form: constant serial loops; a block without predicate whose reduce axes
    /// start where the loops do, and whose other axes do not depend on the loops; one store, at
    /// block variables, of a value that reads the stored buffer only there.
    fn find(stmt: &'f Stmt) -> Option<Reduction<'f>> {
        let mut loops = Vec::new();
        let mut inner = stmt;
        while let Stmt::For { var, extent, kind: LoopKind::Serial | LoopKind::Unrolled, body } = inner {
            loops.push((*var, extent.as_int().filter(|&n| n > 0)?));
            inner = body;
        }
        let Stmt::Block(block) = inner else { return None };
        if block.predicate.is_some() || !block.allocs.is_empty() {
            return None;
        }
        let Stmt::Store { buffer, indices, value } = &*block.body else { return None };
        let init = match block.init.as_deref() {
            None => None,
            Some(Stmt::Store { buffer: b, indices: i, value }) if b == buffer && same_places(i, indices) => {
                Some(value)
            }
            Some(_) => return None,
        };
        for iter in &block.iters {
            let fits = match iter.kind {
                IterKind::Reduce => init.is_none() || starts_at_zero(&iter.binding, &loops),
                _ => !mentions(&iter.binding, &loops),
            };
            if !fits {
                return None;
            }
        }
        // A loop that moves no axis would begin anew in each iteration.
        let reduce_axes = || block.iters.iter().filter(|iter| iter.kind == IterKind::Reduce);
        let moves = |l: &(VarId, i64)| reduce_axes().any(|iter| mentions(&iter.binding, &[*l]));
        if init.is_some() && !loops.iter().all(moves) {
            return None;
        }
        let reduces = |var: &VarId| block.iters.iter().any(|i| i.var == *var && i.kind == IterKind::Reduce);
        let fixed = indices.iter().all(|index| match index.kind() {
            ExprKind::Const(_) => true,
            ExprKind::Var(var) => !reduces(var) && !loops.iter().any(|(v, _)| v == var),
            _ => false,
        });
        let mut alone = true;
        loads(value, &mut |b, i| alone &= b != *buffer || same_places(i, indices));
        if let Some(init) = init {
            loads(init, &mut |b, _| alone &= b != *buffer);
        }
        (fixed && alone).then_some(Reduction { loops, block, buffer: *buffer, indices, init, value })
    }
}

/// Whether two lists of variables and constants are the same.
fn same_places(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| match (a.kind(), b.kind()) {
            (ExprKind::Const(a), ExprKind::Const(b)) => a == b,
            (ExprKind::Var(a), ExprKind::Var(b)) => a == b,
            _ => false,
        })
}

fn mentions(expr: &Expr, loops: &[(VarId, i64)]) -> bool {
    let mut seen = HashSet::new();
    let mut stack = vec![expr];
    let mut found = false;
    while let Some(expr) = stack.pop() {
        if !seen.insert(expr.key()) {
            continue;
        }
        found |= matches!(expr.kind(), ExprKind::Var(var) if loops.iter().any(|(v, _)| v == var));
        super::analysis::operands(expr, &mut |operand| stack.push(operand));
    }
    found
}

/// Whether an expression is a sum of the loops' variables times positive constants: zero in the
/// first iteration, and only there if the axis has several values.
fn starts_at_zero(expr: &Expr, loops: &[(VarId, i64)]) -> bool {
    use fermata_ir::scalar::BinaryOp::{Add, Mul};
    let mut stack = vec![expr];
    while let Some(expr) = stack.pop() {
        match expr.kind() {
            ExprKind::Var(var) if loops.iter().any(|(v, _)| v == var) => {}
            ExprKind::Binary(Add, a, b) => stack.extend([a, b]),
            ExprKind::Binary(Mul, a, b) if b.as_int().is_some_and(|n| n > 0) => stack.push(a),
            _ => return false,
        }
    }
    true
}
