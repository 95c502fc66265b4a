//! Vectorised loops: four lanes of up to 32 bits, or two of 64, in 128-bit vectors.
//!
//! The iterations of a loop of kind `Vectorized` are independent, so every statement of its
//! body runs for all lanes before the next statement. What is the same in all lanes is computed
//! once; neighbouring elements are read and written together; what has no vector form (gathers,
//! guarded loads, calls) is computed lane by lane and put into a vector. A body that does not
//! fit (it allocates, branches differently by lane, or writes one place from all lanes) leaves
//! the loop scalar, and so are the iterations past the last full vector.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, I8X16, I16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use fermata_ir::diag::Diagnostic;
use fermata_ir::tir::{Block, BufferId, Expr, ExprKind, IterKind, LoopKind, Stmt, VarId};
use fermata_ir::types::DType;

use super::abi::{Home, memory, strides};
use super::analysis::{Lane, Meaning};
use super::convert::{clif_type, vector_type};
use super::lower_expr::Mode;
use super::lower_stmt::{Bound, Lower};

/// A vectorised loop on its way.
#[derive(Clone, Copy)]
pub(super) struct VectorLoop {
    pub var: VarId,
    /// The value of the variable in lane 0.
    base: Value,
}

impl<'f> Lower<'f, '_> {
    /// Lowers a loop with vectors; `None` if its body does not allow that.
    pub(super) fn vectorized(
        &mut self,
        var: VarId,
        extent: &'f Expr,
        body: &'f Stmt,
    ) -> Option<Result<(), Diagnostic>> {
        if self.analysis.lanes > 1 || !self.caps.rounding {
            return None;
        }
        let lanes = lanes_for(self.func, body)?;
        let known = extent.as_int();
        if known.is_some_and(|n| n < lanes as i64) {
            return None;
        }
        self.begin_lanes(lanes);
        self.analysis.bind(var, vector_meaning(lanes));
        if !self.fits(body) {
            self.end_lanes();
            return None;
        }
        if let Some(n) = known.filter(|_| self.indexes_lanes(var, body)) {
            let vectors = self.written_out(var, n, lanes, body);
            self.end_lanes();
            return Some(vectors);
        }
        // A length that is computed may be negative; then there are no iterations.
        let length = self.scalar(extent);
        let length = if known.is_some() { length } else { self.clamp(length, 0, i64::MAX) };
        let full = self.b.ins().band_imm_s(length, -(lanes as i64));
        let start = self.b.ins().iconst(I64, 0);
        let vectors = self.counted(start, full, lanes as i64, known.is_some(), |lower, base| {
            lower.analysis.bind(var, vector_meaning(lanes));
            lower.variables[var] = Bound { scalar: Some(base), vector: None };
            lower.vector_loop = Some(VectorLoop { var, base });
            lower.stmt(body)
        });
        self.vector_loop = None;
        self.end_lanes();
        if vectors.is_err() || known.is_some_and(|n| n % lanes as i64 == 0) {
            return Some(vectors);
        }
        Some(self.counted(full, length, 1, known.is_some(), |lower, i| {
            lower.bind_loop(var, i, 1, Lane::UNIFORM);
            lower.stmt(body)
        }))
    }

    /// A loop over elements in registers, vector after vector.
    fn written_out(&mut self, var: VarId, n: i64, lanes: u32, body: &'f Stmt) -> Result<(), Diagnostic> {
        for first in (0..n).step_by(lanes as usize) {
            let mark = self.cache.enter();
            let base = self.b.ins().iconst(I64, first);
            self.analysis.bind(var, vector_meaning(lanes));
            self.variables[var] = Bound { scalar: Some(base), vector: None };
            self.known[var] = Some(first);
            self.vector_loop = Some(VectorLoop { var, base });
            self.stmt(body)?;
            self.cache.leave(mark);
        }
        self.known[var] = None;
        self.vector_loop = None;
        Ok(())
    }

    fn begin_lanes(&mut self, lanes: u32) {
        self.analysis.set_lanes(lanes);
    }

    fn end_lanes(&mut self) {
        self.analysis.set_lanes(1);
    }

    /// Whether a statement can run for all lanes at once; binds facts about variables on the way.
    fn fits(&mut self, stmt: &'f Stmt) -> bool {
        match stmt {
            Stmt::Seq(list) => list.iter().all(|s| self.fits(s)),
            Stmt::For { var, extent, kind, body } => {
                if matches!(kind, LoopKind::ThreadBinding(_) | LoopKind::Tiles) {
                    return false;
                }
                let uniform = self.analysis.of(extent).lane == Lane::UNIFORM;
                self.analysis.bind(*var, Meaning::Opaque { nonneg: true, multiple: 1, lane: Lane::UNIFORM });
                uniform && self.fits(body)
            }
            Stmt::Block(block) => self.block_fits(block),
            Stmt::Let { var, value } => {
                let facts = self.analysis.of(value);
                let representable = vector_type(value.dtype(), self.analysis.lanes).is_some();
                let lane = if facts.lane == Lane::UNIFORM { Lane::UNIFORM } else { Lane::Varying };
                let meaning = if lane == Lane::UNIFORM || representable {
                    Meaning::Opaque { nonneg: false, multiple: 1, lane }
                } else {
                    Meaning::Alias(value)
                };
                self.analysis.bind(*var, meaning);
                lane == Lane::UNIFORM || representable || !facts.loads
            }
            Stmt::If { cond, then, els } => {
                self.analysis.of(cond).lane == Lane::UNIFORM
                    && self.fits(then)
                    && els.as_ref().is_none_or(|els| self.fits(els))
            }
            Stmt::Store { buffer, indices, value } => {
                let in_memory = !matches!(self.layout.homes[*buffer], Home::Register | Home::None);
                let shape = strides(&self.func.buffers[*buffer].shape);
                in_memory
                    && self.analysis.position(&shape, indices) != Lane::UNIFORM
                    && vector_type(value.dtype(), self.analysis.lanes).is_some()
            }
            Stmt::Intrin { .. } => false,
            Stmt::Checkpoint => true,
            Stmt::Barrier => false,
        }
    }

    fn block_fits(&mut self, block: &'f Block) -> bool {
        if !block.allocs.is_empty() {
            return false;
        }
        let read_varying = block.iters.iter().any(|iter| {
            let facts = self.analysis.of(&iter.binding);
            facts.loads && facts.lane != Lane::UNIFORM
        });
        self.bind_iters(block, false);
        let begins_together = block.init.is_none()
            || block
                .iters
                .iter()
                .filter(|iter| iter.kind == IterKind::Reduce)
                .all(|iter| self.analysis.of(&iter.binding).lane == Lane::UNIFORM);
        !read_varying
            && begins_together
            && block.init.as_ref().is_none_or(|init| self.fits(init))
            && self.fits(&block.body)
    }

    /// A block whose predicate varies over lanes: all at once where it holds in all, else one by one.
    pub(super) fn guarded_lanes(&mut self, predicate: &'f Expr, block: &'f Block) -> Result<(), Diagnostic> {
        let lanes = self.analysis.lanes;
        let mut conds = Vec::new();
        for lane in 0..lanes {
            conds.push(self.in_lane(lane, |lower| lower.scalar(predicate)));
        }
        let all = conds[1..].iter().fold(conds[0], |all, &cond| self.b.ins().band(all, cond));
        self.if_else(
            all,
            |lower| lower.block_body(block),
            |lower| {
                for (lane, cond) in conds.into_iter().enumerate() {
                    lower.in_lane(lane as u32, |lower| {
                        lower.if_else(cond, |lower| lower.block_body(block), |_| Ok(()))
                    })?;
                }
                Ok(())
            },
        )
    }

    /// Makes the scalar code of one lane.
    fn in_lane<T>(&mut self, lane: u32, f: impl FnOnce(&mut Self) -> T) -> T {
        let VectorLoop { var, base } = self.vector_loop.expect("lanes exist in a vectorised loop");
        let saved = std::mem::take(&mut self.cache);
        let value = self.b.ins().iadd_imm_s(base, lane as i64);
        self.variables[var].scalar = Some(value);
        self.lane = Some(lane);
        let result = f(self);
        self.lane = None;
        self.variables[var].scalar = Some(base);
        let changed = std::mem::replace(&mut self.cache, saved).changed();
        if changed {
            self.cache.memory_changed();
        }
        result
    }

    /// An expression computed lane by lane.
    pub(super) fn per_lane(&mut self, expr: &'f Expr) -> Value {
        let mut vector = None;
        for lane in 0..self.analysis.lanes {
            let scalar = self.in_lane(lane, |lower| lower.scalar(expr));
            vector = Some(self.insert(vector, lane, scalar, expr.dtype()));
        }
        vector.expect("a vector has lanes")
    }

    /// A scalar as it is held in a lane.
    fn lane_of(&mut self, value: Value, dtype: DType) -> Value {
        let lane = if self.analysis.lanes == 4 { I32 } else { I64 };
        match dtype {
            DType::F32 | DType::F64 => value,
            DType::Bool => {
                let wide = self.b.ins().uextend(lane, value);
                self.b.ins().ineg(wide)
            }
            _ => self.resize(value, dtype, lane),
        }
    }

    /// A lane's value as a scalar.
    pub(super) fn extract(&mut self, vector: Value, lane: u32, dtype: DType) -> Value {
        let value = self.b.ins().extractlane(vector, lane as u8);
        match dtype {
            DType::F32 | DType::F64 => value,
            DType::Bool => self.b.ins().icmp_imm_s(IntCC::NotEqual, value, 0),
            _ => self.resize_down(value, clif_type(dtype)),
        }
    }

    fn resize_down(&mut self, value: Value, ty: Type) -> Value {
        if self.b.func.dfg.value_type(value) == ty { value } else { self.b.ins().ireduce(ty, value) }
    }

    pub(super) fn insert(&mut self, vector: Option<Value>, lane: u32, scalar: Value, dtype: DType) -> Value {
        match vector {
            None => self.splat(scalar, dtype),
            Some(vector) => {
                let element = self.lane_of(scalar, dtype);
                self.b.ins().insertlane(vector, element, lane as u8)
            }
        }
    }

    /// A scalar in all lanes.
    pub(super) fn splat(&mut self, scalar: Value, dtype: DType) -> Value {
        let ty = vector_type(dtype, self.analysis.lanes).expect("only what has a vector form is splat");
        let element = self.lane_of(scalar, dtype);
        self.b.ins().splat(ty, element)
    }

    /// A load of neighbouring elements, or of the elements that a reduction holds.
    pub(super) fn vector_load(&mut self, expr: &'f Expr) -> Value {
        let ExprKind::Load(buffer, indices) = expr.kind() else { unreachable!("called for loads") };
        if self.layout.homes[*buffer] == Home::Lanes {
            return self.vector_of_lanes(*buffer, indices);
        }
        match self.accumulator(*buffer) {
            Some(accumulator) => {
                let value = self.b.use_var(accumulator.variable);
                match accumulator.mode {
                    Mode::Vector => value,
                    Mode::Scalar => self.splat(value, expr.dtype()),
                }
            }
            None => self.load_lanes(*buffer, indices),
        }
    }

    /// Neighbouring elements, from that of lane 0.
    pub(super) fn load_lanes(&mut self, buffer: BufferId, indices: &'f [Expr]) -> Value {
        let dtype = self.func.buffers[buffer].dtype;
        let offset = self.offset(buffer, indices.iter());
        let base = self.address(buffer);
        let address = self.b.ins().iadd(base, offset);
        let flags = self.load_flags(buffer);
        if self.analysis.lanes == 2 {
            if dtype != DType::Bool {
                let ty = vector_type(dtype, 2).expect("64-bit lanes");
                return self.b.ins().load(ty, flags, address, 0);
            }
            let bytes = self.b.ins().load(I16, flags, address, 0);
            let pair = self.b.ins().uextend(I64, bytes);
            let low = self.and_const(pair, 0xff);
            let high = self.ushr(pair, 8);
            let vector = self.b.ins().splat(I64X2, low);
            let vector = self.b.ins().insertlane(vector, high, 1u8);
            return self.icmp_const(IntCC::NotEqual, vector, 0);
        }
        match dtype {
            DType::F32 => self.b.ins().load(F32X4, flags, address, 0),
            DType::I16 => self.b.ins().sload16x4(flags, address, 0),
            DType::U16 | DType::F16 | DType::BF16 => self.b.ins().uload16x4(flags, address, 0),
            DType::I8 | DType::U8 | DType::Bool => {
                let bytes = self.b.ins().load(I32, flags, address, 0);
                let vector = self.b.ins().scalar_to_vector(I32X4, bytes);
                let vector = self.bits(I8X16, vector);
                if dtype == DType::I8 {
                    let half = self.b.ins().swiden_low(vector);
                    return self.b.ins().swiden_low(half);
                }
                let half = self.b.ins().uwiden_low(vector);
                let lanes = self.b.ins().uwiden_low(half);
                if dtype == DType::Bool { self.icmp_const(IntCC::NotEqual, lanes, 0) } else { lanes }
            }
            _ => self.b.ins().load(I32X4, flags, address, 0),
        }
    }

    /// Stores a vector: as it is where the elements are neighbours, else one by one.
    pub(super) fn store_lanes(
        &mut self,
        buffer: BufferId,
        indices: &'f [Expr],
        position: Lane,
        value: Value,
    ) {
        let dtype = self.func.buffers[buffer].dtype;
        if position != Lane::Step(1) || (self.analysis.lanes == 2 && dtype == DType::Bool) {
            for lane in 0..self.analysis.lanes {
                let element = self.extract(value, lane, dtype);
                self.in_lane(lane, |lower| {
                    let offset = lower.offset(buffer, indices.iter());
                    let base = lower.address(buffer);
                    let address = lower.b.ins().iadd(base, offset);
                    lower.b.ins().store(memory(), element, address, 0);
                });
            }
            return;
        }
        let offset = self.offset(buffer, indices.iter());
        let base = self.address(buffer);
        let address = self.b.ins().iadd(base, offset);
        // Lanes hold values in range, so the saturation of narrowing changes nothing.
        let packed = match dtype {
            DType::I8 | DType::U8 | DType::Bool => {
                let value = if dtype == DType::Bool { self.and_const(value, 1) } else { value };
                let half = self.b.ins().snarrow(value, value);
                let bytes = if dtype == DType::I8 {
                    self.b.ins().snarrow(half, half)
                } else {
                    self.b.ins().unarrow(half, half)
                };
                let words = self.bits(I32X4, bytes);
                self.b.ins().extractlane(words, 0u8)
            }
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
                let half = if dtype == DType::I16 {
                    self.b.ins().snarrow(value, value)
                } else {
                    self.b.ins().unarrow(value, value)
                };
                let words = self.bits(I64X2, half);
                self.b.ins().extractlane(words, 0u8)
            }
            _ => value,
        };
        self.b.ins().store(memory(), packed, address, 0);
    }
}

/// The variable of a vectorised loop: lane 0 is at a multiple of the number of lanes.
fn vector_meaning(lanes: u32) -> Meaning<'static> {
    Meaning::Opaque { nonneg: true, multiple: lanes as u64, lane: Lane::Step(1) }
}

/// The number of lanes for a body: by the width of what it stores; `None` for a mixture.
fn lanes_for(func: &fermata_ir::tir::PrimFunc, body: &Stmt) -> Option<u32> {
    let (mut wide, mut narrow) = (false, false);
    let mut stack = vec![body];
    while let Some(stmt) = stack.pop() {
        match stmt {
            Stmt::Store { buffer, .. } => match func.buffers[*buffer].dtype {
                DType::F64 | DType::I64 | DType::U64 => wide = true,
                DType::Bool => {}
                _ => narrow = true,
            },
            Stmt::Seq(list) => stack.extend(list),
            Stmt::For { body, .. } => stack.push(body),
            Stmt::Block(block) => {
                stack.push(&block.body);
                stack.extend(block.init.as_deref());
            }
            Stmt::If { then, els, .. } => {
                stack.push(then);
                stack.extend(els.as_deref());
            }
            Stmt::Let { .. } | Stmt::Intrin { .. } | Stmt::Checkpoint | Stmt::Barrier => {}
        }
    }
    match (wide, narrow) {
        (true, true) => None,
        (true, false) => Some(2),
        (false, _) => Some(4),
    }
}
