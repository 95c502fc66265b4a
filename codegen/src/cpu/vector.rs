//! Vectorised loops: four lanes of up to 32 bits, or two of 64, in 128-bit vectors.
//!
//! The iterations of a loop of kind `Vectorized` are independent, so every statement of its
//! body runs for all lanes before the next statement. What is the same in all lanes is computed
//! once; neighbouring elements are read and written together; what has no vector form (gathers,
//! guarded loads, calls) is computed lane by lane and put into a vector. A body that does not
//! fit (it allocates, branches differently by lane, or writes one place from all lanes) leaves
//! the loop scalar, and so are the iterations past the last full vector.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, F64X2, I8X16, I16, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};
use fermata_ir::diag::Diagnostic;
use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::tir::{Block, BufferId, Expr, ExprKind, IterKind, LoopKind, Stmt, VarId};
use fermata_ir::types::DType;

use super::abi::{Home, memory, strides};
use super::analysis::{Lane, Meaning};
use super::arith::{float_cc, int_cc};
use super::convert::{Lanes, clif_type, vector_type};
use super::lower_expr::Mode;
use super::lower_stmt::{Bound, Lower};

/// A vectorised loop on its way.
#[derive(Clone, Copy)]
pub(super) struct VectorLoop {
    var: VarId,
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
        let n = extent.as_int()?;
        let lanes = lanes_for(self.func, body)?;
        let full = n - n % lanes as i64;
        if full <= 0 {
            return None;
        }
        self.begin_lanes(lanes);
        self.analysis.bind(var, vector_meaning(lanes));
        let fits = self.fits(body);
        if !fits {
            self.end_lanes();
            return None;
        }
        let (start, end) = (self.b.ins().iconst(I64, 0), self.b.ins().iconst(I64, full));
        let vectors = self.counted(start, end, lanes as i64, true, |lower, base| {
            lower.analysis.bind(var, vector_meaning(lanes));
            lower.variables[var] = Bound { scalar: Some(base), vector: None };
            lower.vector_loop = Some(VectorLoop { var, base });
            lower.stmt(body)
        });
        self.vector_loop = None;
        self.end_lanes();
        if vectors.is_err() || full == n {
            return Some(vectors);
        }
        let last = self.b.ins().iconst(I64, n);
        Some(self.counted(end, last, 1, true, |lower, i| {
            lower.bind_loop(var, i, 1, Lane::UNIFORM);
            lower.stmt(body)
        }))
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
    fn to_lane(&mut self, value: Value, dtype: DType) -> Value {
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

    fn insert(&mut self, vector: Option<Value>, lane: u32, scalar: Value, dtype: DType) -> Value {
        match vector {
            None => self.splat(scalar, dtype),
            Some(vector) => {
                let element = self.to_lane(scalar, dtype);
                self.b.ins().insertlane(vector, element, lane as u8)
            }
        }
    }

    /// A scalar in all lanes.
    pub(super) fn splat(&mut self, scalar: Value, dtype: DType) -> Value {
        let ty = vector_type(dtype, self.analysis.lanes).expect("only what has a vector form is splat");
        let element = self.to_lane(scalar, dtype);
        self.b.ins().splat(ty, element)
    }

    /// A load of neighbouring elements, or of the elements that a reduction holds.
    pub(super) fn vector_load(&mut self, expr: &'f Expr) -> Value {
        let ExprKind::Load(buffer, indices) = expr.kind() else { unreachable!("called for loads") };
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

    /// The vector of an expression from those of its operands.
    pub(super) fn apply_vector(&mut self, expr: &'f Expr, args: &[Value]) -> Value {
        let dtype = expr.dtype();
        match expr.kind() {
            ExprKind::Const(_) | ExprKind::Var(_) | ExprKind::Load(..) => {
                unreachable!("these are evaluated without operands")
            }
            ExprKind::Unary(op, a) => self.vector_unary(*op, args[0], a.dtype()),
            ExprKind::Binary(op, ..) => self.vector_binary(*op, args[0], args[1], dtype),
            ExprKind::Cast(a) => self.vector_cast(args[0], a.dtype(), dtype),
            ExprKind::Reinterpret(a) => {
                let from = a.dtype();
                let same_lane = dtype.bytes() >= 4 && dtype != DType::Bool;
                if same_lane {
                    let ty = vector_type(dtype, self.analysis.lanes).expect("it has a vector form");
                    return self.bits(ty, args[0]);
                }
                self.by_lane(args, &[from], dtype, |lower, s| lower.reinterpret(s[0], dtype))
            }
            ExprKind::Cmp(op, a, _) => {
                let operand = a.dtype();
                match operand {
                    DType::F32 | DType::F64 => self.b.ins().fcmp(float_cc(*op), args[0], args[1]),
                    DType::F16 | DType::BF16 => {
                        let a = self.widen_lanes(Lanes::FOUR, operand, args[0]);
                        let b = self.widen_lanes(Lanes::FOUR, operand, args[1]);
                        self.b.ins().fcmp(float_cc(*op), a, b)
                    }
                    DType::Bool | DType::U64 => self.by_lane(args, &[operand; 2], DType::Bool, |lower, s| {
                        lower.compare(*op, s[0], s[1], operand)
                    }),
                    _ => self.b.ins().icmp(int_cc(*op, operand.is_signed_int()), args[0], args[1]),
                }
            }
            ExprKind::Fma(..) => match dtype {
                DType::F32 | DType::F64 if self.caps.fma => self.b.ins().fma(args[0], args[1], args[2]),
                _ => self.by_lane(args, &[dtype; 3], dtype, |lower, s| lower.fma(s[0], s[1], s[2], dtype)),
            },
            ExprKind::Select(..) => self.choose(args[0], args[1], args[2]),
        }
    }

    /// Applies a scalar function to each lane.
    fn by_lane(
        &mut self,
        args: &[Value],
        from: &[DType],
        to: DType,
        f: impl Fn(&mut Self, &[Value]) -> Value,
    ) -> Value {
        let mut vector = None;
        for lane in 0..self.analysis.lanes {
            let scalars: Vec<Value> =
                args.iter().zip(from).map(|(&arg, &dtype)| self.extract(arg, lane, dtype)).collect();
            let result = f(self, &scalars);
            vector = Some(self.insert(vector, lane, result, to));
        }
        vector.expect("a vector has lanes")
    }

    fn vector_unary(&mut self, op: UnaryOp, a: Value, dtype: DType) -> Value {
        let predicate = matches!(op, UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite);
        let to = if predicate { DType::Bool } else { dtype };
        let result = match dtype {
            DType::F32 | DType::F64 => self.vector_unary_float(op, a, vector_float(dtype)),
            DType::F16 | DType::BF16 => {
                let wide = self.widen_lanes(Lanes::FOUR, dtype, a);
                match self.vector_unary_float(op, wide, F32X4) {
                    Some(result) if predicate => Some(result),
                    Some(result) => Some(self.narrow_lanes(Lanes::FOUR, dtype, result)),
                    None => None,
                }
            }
            DType::Bool => (op == UnaryOp::Not).then(|| self.b.ins().bnot(a)),
            DType::I32 | DType::I64 | DType::I8 | DType::I16 | DType::U32 | DType::U64 => match op {
                UnaryOp::Neg => {
                    let negated = self.b.ins().ineg(a);
                    Some(self.wrap(negated, dtype))
                }
                UnaryOp::Not => {
                    let inverted = self.b.ins().bnot(a);
                    Some(self.wrap(inverted, dtype))
                }
                _ => None,
            },
            DType::U8 | DType::U16 => None,
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[a], &[dtype], to, |lower, s| lower.unary(op, s[0], dtype)),
        }
    }

    fn vector_unary_float(&mut self, op: UnaryOp, a: Value, ty: Type) -> Option<Value> {
        if ty == F32X4
            && let Some(result) = self.inline_function(op, Lanes::FOUR, a)
        {
            return Some(result);
        }
        if let Some(result) = self.simple_float(op, ty, a) {
            return Some(result);
        }
        match op {
            UnaryOp::IsNan => Some(self.b.ins().fcmp(FloatCC::Unordered, a, a)),
            UnaryOp::IsInf | UnaryOp::IsFinite => {
                let infinity = self.float_const(ty, f64::INFINITY);
                let magnitude = self.b.ins().fabs(a);
                let cc = if op == UnaryOp::IsInf { FloatCC::Equal } else { FloatCC::LessThan };
                Some(self.b.ins().fcmp(cc, magnitude, infinity))
            }
            _ => None,
        }
    }

    fn vector_binary(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Value {
        let result = match dtype {
            DType::F32 | DType::F64 => self.vector_binary_float(op, a, b),
            DType::F16 | DType::BF16 => {
                let a = self.widen_lanes(Lanes::FOUR, dtype, a);
                let b = self.widen_lanes(Lanes::FOUR, dtype, b);
                let wide = self.vector_binary_float(op, a, b);
                wide.map(|wide| self.narrow_lanes(Lanes::FOUR, dtype, wide))
            }
            DType::Bool => match op {
                BinaryOp::And | BinaryOp::Mul | BinaryOp::Min => Some(self.b.ins().band(a, b)),
                BinaryOp::Or | BinaryOp::Add | BinaryOp::Max => Some(self.b.ins().bor(a, b)),
                BinaryOp::Xor | BinaryOp::Sub => Some(self.b.ins().bxor(a, b)),
                _ => None,
            },
            _ => self.vector_binary_int(op, a, b, dtype),
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[a, b], &[dtype; 2], dtype, |lower, s| lower.binary(op, s[0], s[1], dtype)),
        }
    }

    fn vector_binary_float(&mut self, op: BinaryOp, a: Value, b: Value) -> Option<Value> {
        match op {
            BinaryOp::FloorDiv => {
                let quotient = self.b.ins().fdiv(a, b);
                Some(self.b.ins().floor(quotient))
            }
            _ => self.simple_float_binary(op, a, b),
        }
    }

    fn vector_binary_int(&mut self, op: BinaryOp, a: Value, b: Value, dtype: DType) -> Option<Value> {
        let narrow = self.analysis.lanes == 4;
        // Narrow unsigned lanes are never negative, so all but 32 bits compare as signed.
        let signed = dtype != DType::U32;
        let result = match op {
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul => self.b.ins().imul(a, b),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            BinaryOp::Min if narrow && signed => self.b.ins().smin(a, b),
            BinaryOp::Min if narrow => self.b.ins().umin(a, b),
            BinaryOp::Max if narrow && signed => self.b.ins().smax(a, b),
            BinaryOp::Max if narrow => self.b.ins().umax(a, b),
            _ => return None,
        };
        Some(self.wrap(result, dtype))
    }

    /// The low bits of each lane, extended as the dtype is.
    fn wrap(&mut self, value: Value, dtype: DType) -> Value {
        match dtype {
            DType::I8 | DType::I16 => {
                let unused = 32 - dtype.bits() as i64;
                let high = self.shl(value, unused);
                self.sshr(high, unused)
            }
            DType::U8 | DType::U16 => self.and_const(value, (1 << dtype.bits()) - 1),
            _ => value,
        }
    }

    fn vector_cast(&mut self, value: Value, from: DType, to: DType) -> Value {
        if from == to {
            return value;
        }
        let result = if self.analysis.lanes == 4 {
            self.vector_cast_four(value, from, to)
        } else {
            match (from, to) {
                (DType::I64, DType::U64) | (DType::U64, DType::I64) => Some(value),
                (DType::Bool, DType::I64 | DType::U64) => Some(self.and_const(value, 1)),
                (DType::F64, DType::Bool) => {
                    let zero = self.float_const(F64X2, 0.0);
                    Some(self.b.ins().fcmp(FloatCC::NotEqual, value, zero))
                }
                _ => None,
            }
        };
        match result {
            Some(result) => result,
            None => self.by_lane(&[value], &[from], to, |lower, s| lower.cast(s[0], from, to)),
        }
    }

    fn vector_cast_four(&mut self, value: Value, from: DType, to: DType) -> Option<Value> {
        match (from, to) {
            (DType::F16 | DType::BF16, _) => {
                let wide = self.widen_lanes(Lanes::FOUR, from, value);
                Some(if to == DType::F32 { wide } else { self.vector_cast(wide, DType::F32, to) })
            }
            (DType::F32, DType::F16 | DType::BF16) => Some(self.narrow_lanes(Lanes::FOUR, to, value)),
            (DType::F32, DType::Bool) => {
                let zero = self.float_const(F32X4, 0.0);
                Some(self.b.ins().fcmp(FloatCC::NotEqual, value, zero))
            }
            (DType::F32, DType::I32) => Some(self.b.ins().fcvt_to_sint_sat(I32X4, value)),
            (DType::F32, DType::I8 | DType::I16 | DType::U8 | DType::U16) => {
                let wide = self.b.ins().fcvt_to_sint_sat(I32X4, value);
                let top = 1i64 << (to.bits() as i64 - to.is_signed_int() as i64);
                Some(self.clamp(wide, if to.is_signed_int() { -top } else { 0 }, top - 1))
            }
            (DType::F32, _) => None,
            (DType::Bool, DType::F32) => {
                let one = self.int_const(I32X4, 1f32.to_bits() as i64);
                let bits = self.b.ins().band(value, one);
                Some(self.bits(F32X4, bits))
            }
            (DType::Bool, DType::F16 | DType::BF16) => {
                let one = self.vector_cast(value, DType::Bool, DType::F32);
                Some(self.narrow_lanes(Lanes::FOUR, to, one))
            }
            (DType::Bool, _) => Some(self.and_const(value, 1)),
            (_, DType::Bool) => Some(self.icmp_const(IntCC::NotEqual, value, 0)),
            (DType::U32, DType::F32) => None,
            (_, DType::F32) => Some(self.b.ins().fcvt_from_sint(F32X4, value)),
            (DType::I8 | DType::U8 | DType::I16 | DType::U16, DType::F16 | DType::BF16) => {
                let float = self.b.ins().fcvt_from_sint(F32X4, value);
                Some(self.narrow_lanes(Lanes::FOUR, to, float))
            }
            (_, DType::F16 | DType::BF16) => None,
            _ => Some(self.wrap(value, to)),
        }
    }
}

fn vector_float(dtype: DType) -> Type {
    if dtype == DType::F32 { F32X4 } else { F64X2 }
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
            Stmt::Let { .. } | Stmt::Intrin { .. } | Stmt::Checkpoint => {}
        }
    }
    match (wide, narrow) {
        (true, true) => None,
        (true, false) => Some(2),
        (false, _) => Some(4),
    }
}
