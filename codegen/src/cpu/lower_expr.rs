//! Scalar expressions to values.
//!
//! An explicit stack of tasks, so that depth is no limit. A shared node is computed once in the
//! scope where it is first met; what reads memory only until memory may have changed. A select
//! whose sides are cheap and read nothing is an instruction, any other a branch.

use std::collections::HashMap;

use cranelift_codegen::ir::types::{I8, I64};
use cranelift_codegen::ir::{self, InstBuilder, Value};
use fermata_ir::scalar::BinaryOp;
use fermata_ir::tir::{BufferId, Expr, ExprKind, VarId};
use fermata_ir::types::DType;

use super::abi::{Home, memory, strides};
use super::analysis::{Lane, Meaning, operands};
use super::convert::{clif_type, vector_type};
use super::lower_stmt::Lower;

/// The cost up to which both sides of a select are computed.
const CHEAP: u32 = 24;

/// Whether a value is wanted of one lane or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// One number.
    Scalar,
    /// A vector of one number a lane.
    Vector,
}

/// Values of expressions that were computed already, by scope.
#[derive(Default)]
pub(super) struct Cache {
    values: HashMap<(usize, Mode), (Value, Option<u32>)>,
    log: Vec<(usize, Mode)>,
    epoch: u32,
}

impl Cache {
    /// What was read from memory before is not known to be there now.
    pub fn memory_changed(&mut self) {
        self.epoch += 1;
    }

    /// Whether memory may have changed since this was made.
    pub fn changed(&self) -> bool {
        self.epoch > 0
    }

    /// Begins a scope; [`Cache::leave`] with the result ends it.
    pub fn enter(&self) -> usize {
        self.log.len()
    }

    /// Forgets what was computed since the scope began.
    pub fn leave(&mut self, mark: usize) {
        for key in self.log.drain(mark..) {
            self.values.remove(&key);
        }
    }

    fn get(&self, expr: &Expr, mode: Mode) -> Option<Value> {
        let (value, epoch) = self.values.get(&(expr.key(), mode))?;
        epoch.is_none_or(|e| e == self.epoch).then_some(*value)
    }

    fn insert(&mut self, expr: &Expr, mode: Mode, value: Value, loads: bool) {
        let key = (expr.key(), mode);
        self.values.insert(key, (value, loads.then_some(self.epoch)));
        self.log.push(key);
    }
}

/// A step of evaluating an expression; values pass through a stack.
enum Task<'f> {
    /// Gives the value.
    Eval(&'f Expr, Mode),
    /// Operands to value.
    Apply(&'f Expr, Mode),
    /// Scalar to vector.
    Splat(&'f Expr),
    /// Condition to a branch.
    Branch(&'f Expr, Mode),
    /// Ends the first side of a branch.
    Else { expr: &'f Expr, mode: Mode, els: ir::Block, join: ir::Block, mark: usize },
    /// Ends the second side.
    Join { expr: &'f Expr, mode: Mode, join: ir::Block, mark: usize },
}

/// True for `x ** 2`, which is `x * x` to the last bit.
pub(super) fn squares(op: BinaryOp, exponent: &Expr) -> bool {
    let two = |e: &Expr| matches!(e.kind(), ExprKind::Const(c) if c.as_f64() == 2.0);
    op == BinaryOp::Pow && exponent.dtype().is_float() && two(exponent)
}

impl<'f> Lower<'f, '_> {
    /// The value of an expression; in a vectorised loop, that of the first lane.
    pub(super) fn scalar(&mut self, expr: &'f Expr) -> Value {
        self.evaluate(expr, Mode::Scalar)
    }

    /// The values of an expression in all lanes.
    pub(super) fn evaluate(&mut self, expr: &'f Expr, mode: Mode) -> Value {
        let mut tasks = vec![Task::Eval(expr, mode)];
        let mut values: Vec<Value> = Vec::new();
        while let Some(task) = tasks.pop() {
            match task {
                Task::Eval(expr, mode) => self.eval(expr, mode, &mut tasks, &mut values),
                Task::Apply(expr, mode) => {
                    let mut count = 0;
                    operands(expr, &mut |_| count += 1);
                    let args = values.split_off(values.len() - count);
                    let value = match mode {
                        Mode::Scalar => self.apply(expr, &args),
                        Mode::Vector => self.apply_vector(expr, &args),
                    };
                    values.push(self.remember(expr, mode, value));
                }
                Task::Splat(expr) => {
                    let scalar = values.pop().expect("the scalar was evaluated");
                    let value = self.splat(scalar, expr.dtype());
                    values.push(self.remember(expr, Mode::Vector, value));
                }
                Task::Branch(expr, mode) => {
                    let cond = values.pop().expect("the condition was evaluated");
                    self.branch(expr, mode, cond, &mut tasks);
                }
                Task::Else { expr, mode, els, join, mark } => {
                    let value = values.pop().expect("a side was evaluated");
                    self.b.ins().jump(join, &[value.into()]);
                    self.cache.leave(mark);
                    self.b.switch_to_block(els);
                    tasks.push(Task::Join { expr, mode, join, mark: self.cache.enter() });
                    if let ExprKind::Select(_, _, b) = expr.kind() {
                        tasks.push(Task::Eval(b, mode));
                    }
                }
                Task::Join { expr, mode, join, mark } => {
                    let value = values.pop().expect("a side was evaluated");
                    self.b.ins().jump(join, &[value.into()]);
                    self.cache.leave(mark);
                    self.b.seal_block(join);
                    self.b.switch_to_block(join);
                    let value = self.b.block_params(join)[0];
                    values.push(self.remember(expr, mode, value));
                }
            }
        }
        values.pop().expect("every evaluation gives a value")
    }

    fn remember(&mut self, expr: &'f Expr, mode: Mode, value: Value) -> Value {
        let loads = self.analysis.of(expr).loads;
        self.cache.insert(expr, mode, value, loads);
        value
    }

    fn eval(&mut self, expr: &'f Expr, mode: Mode, tasks: &mut Vec<Task<'f>>, values: &mut Vec<Value>) {
        if let Some(value) = self.cache.get(expr, mode) {
            values.push(value);
            return;
        }
        if mode == Mode::Vector {
            if self.analysis.of(expr).lane == Lane::UNIFORM {
                tasks.push(Task::Splat(expr));
                tasks.push(Task::Eval(expr, Mode::Scalar));
                return;
            }
            if !self.has_vector_form(expr) {
                let value = self.per_lane(expr);
                values.push(self.remember(expr, mode, value));
                return;
            }
        }
        match expr.kind() {
            ExprKind::Const(value) => values.push(self.constant(*value)),
            ExprKind::Var(var) => match self.analysis.meaning(*var) {
                Meaning::Alias(definition) => tasks.push(Task::Eval(definition, mode)),
                Meaning::Opaque { .. } | Meaning::Unbound => values.push(self.variable(*var, expr, mode)),
            },
            ExprKind::Select(cond, a, b) => {
                let (left, right) = (self.analysis.of(a), self.analysis.of(b));
                if left.loads || right.loads || left.cost.saturating_add(right.cost) > CHEAP {
                    tasks.push(Task::Branch(expr, mode));
                    tasks.push(Task::Eval(cond, Mode::Scalar));
                } else {
                    tasks.push(Task::Apply(expr, mode));
                    tasks.extend([Task::Eval(b, mode), Task::Eval(a, mode), Task::Eval(cond, mode)]);
                }
            }
            ExprKind::Load(..) if mode == Mode::Vector => {
                let value = self.vector_load(expr);
                values.push(self.remember(expr, mode, value));
            }
            ExprKind::Cast(_)
            | ExprKind::Reinterpret(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Cmp(..)
            | ExprKind::Fma(..)
            | ExprKind::Load(..) => {
                tasks.push(Task::Apply(expr, mode));
                let first = tasks.len();
                operands(expr, &mut |operand| tasks.push(Task::Eval(operand, mode)));
                tasks[first..].reverse();
            }
        }
    }

    /// Whether an expression that varies over lanes is computed as a vector from vectors.
    fn has_vector_form(&mut self, expr: &'f Expr) -> bool {
        let lanes = self.analysis.lanes;
        let fits = |dtype: DType| vector_type(dtype, lanes).is_some();
        match expr.kind() {
            ExprKind::Const(_) => fits(expr.dtype()),
            ExprKind::Var(var) => match self.analysis.meaning(*var) {
                Meaning::Alias(_) => fits(expr.dtype()),
                Meaning::Opaque { .. } | Meaning::Unbound => self.variables[*var].vector.is_some(),
            },
            ExprKind::Load(buffer, indices) => {
                let shape = strides(&self.func.buffers[*buffer].shape);
                let contiguous = self.analysis.position(&shape, indices) == Lane::Step(1);
                fits(expr.dtype()) && (contiguous || self.accumulator(*buffer).is_some())
            }
            ExprKind::Select(cond, a, b) => {
                let (left, right) = (self.analysis.of(a), self.analysis.of(b));
                let eager = !left.loads && !right.loads && left.cost.saturating_add(right.cost) <= CHEAP;
                fits(expr.dtype()) && (eager || self.analysis.of(cond).lane == Lane::UNIFORM)
            }
            ExprKind::Cast(a) | ExprKind::Reinterpret(a) | ExprKind::Cmp(_, a, _) | ExprKind::Unary(_, a) => {
                fits(expr.dtype()) && fits(a.dtype())
            }
            ExprKind::Binary(..) | ExprKind::Fma(..) => fits(expr.dtype()),
        }
    }

    fn variable(&mut self, var: VarId, expr: &Expr, mode: Mode) -> Value {
        let bound = self.variables[var];
        match (mode, bound.scalar, bound.vector) {
            (Mode::Scalar, Some(value), _) => value,
            (Mode::Vector, _, Some(value)) => value,
            (Mode::Scalar, None, Some(vector)) => {
                let lane = self.lane.expect("one lane of a vector is used only where a lane is chosen");
                self.extract(vector, lane, expr.dtype())
            }
            _ => unreachable!("the verifier saw every variable bound before its use"),
        }
    }

    fn branch(&mut self, expr: &'f Expr, mode: Mode, cond: Value, tasks: &mut Vec<Task<'f>>) {
        let (then, els, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let ty = match mode {
            Mode::Scalar => clif_type(expr.dtype()),
            Mode::Vector => vector_type(expr.dtype(), self.analysis.lanes).expect("it has a vector form"),
        };
        self.b.append_block_param(join, ty);
        self.b.ins().brif(cond, then, &[], els, &[]);
        self.b.seal_block(then);
        self.b.seal_block(els);
        self.b.switch_to_block(then);
        tasks.push(Task::Else { expr, mode, els, join, mark: self.cache.enter() });
        if let ExprKind::Select(_, a, _) = expr.kind() {
            tasks.push(Task::Eval(a, mode));
        }
    }

    /// The value of an expression from those of its operands.
    fn apply(&mut self, expr: &'f Expr, args: &[Value]) -> Value {
        match expr.kind() {
            ExprKind::Const(value) => self.constant(*value),
            ExprKind::Var(_) => unreachable!("variables have no operands"),
            ExprKind::Cast(a) => self.cast(args[0], a.dtype(), expr.dtype()),
            ExprKind::Reinterpret(_) => self.reinterpret(args[0], expr.dtype()),
            ExprKind::Unary(op, a) => self.unary(*op, args[0], a.dtype()),
            ExprKind::Binary(op, a, b) => {
                let divides =
                    matches!(op, BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod | BinaryOp::FloorMod);
                if squares(*op, b) {
                    return self.binary(BinaryOp::Mul, args[0], args[0], expr.dtype());
                }
                match b.as_int() {
                    Some(d) if divides && d > 0 && expr.dtype() == DType::I64 => {
                        let nonneg = self.analysis.of(a).nonneg;
                        self.divide_const(*op, args[0], d, nonneg)
                    }
                    _ => self.binary(*op, args[0], args[1], expr.dtype()),
                }
            }
            ExprKind::Cmp(op, a, _) => self.compare(*op, args[0], args[1], a.dtype()),
            ExprKind::Fma(..) => self.fma(args[0], args[1], args[2], expr.dtype()),
            ExprKind::Select(..) => self.b.ins().select(args[0], args[1], args[2]),
            ExprKind::Load(buffer, indices) if self.layout.homes[*buffer] == Home::Lanes => {
                self.element_of_lanes(*buffer, indices)
            }
            ExprKind::Load(buffer, _) => self.load(*buffer, args),
        }
    }

    /// The element of a buffer at these indices.
    fn load(&mut self, buffer: BufferId, indices: &[Value]) -> Value {
        if let Some(value) = self.load_register(buffer) {
            return value;
        }
        let dtype = self.func.buffers[buffer].dtype;
        let offset = self.offset_of(buffer, indices);
        let base = self.address(buffer);
        let address = self.b.ins().iadd(base, offset);
        let flags = self.load_flags(buffer);
        let value = self.b.ins().load(clif_type(dtype), flags, address, 0);
        if dtype == DType::Bool { self.is_nonzero(value, DType::U8) } else { value }
    }

    /// Loads of what nothing writes may move freely, except in the value of a let: its uses may lie
    /// behind a store to an output that the memory plan laid over this input.
    pub(super) fn load_flags(&self, buffer: BufferId) -> ir::MemFlagsData {
        let flags = memory();
        if self.layout.read_only[buffer] && !self.pinned { flags.with_readonly() } else { flags }
    }

    /// The value of a buffer that is held in a register: of this lane if it has lanes.
    fn load_register(&mut self, buffer: BufferId) -> Option<Value> {
        if let Some(accumulator) = self.accumulator(buffer) {
            let value = self.b.use_var(accumulator.variable);
            return Some(match accumulator.mode {
                Mode::Scalar => value,
                Mode::Vector => {
                    let dtype = self.func.buffers[buffer].dtype;
                    self.extract(value, self.lane.unwrap_or(0), dtype)
                }
            });
        }
        match (self.layout.homes[buffer], self.registers[buffer]) {
            (Home::Register, Some(variable)) => Some(self.b.use_var(variable)),
            _ => None,
        }
    }

    /// The offset in bytes of an element.
    pub(super) fn offset(&mut self, buffer: BufferId, indices: impl Iterator<Item = &'f Expr>) -> Value {
        let indices: Vec<Value> = indices.map(|index| self.scalar(index)).collect();
        self.offset_of(buffer, &indices)
    }

    fn offset_of(&mut self, buffer: BufferId, indices: &[Value]) -> Value {
        let buffer = &self.func.buffers[buffer];
        let width = buffer.dtype.bytes() as i64;
        let mut sum = None;
        for (&index, stride) in indices.iter().zip(strides(&buffer.shape)) {
            let term = match stride.saturating_mul(width) {
                1 => index,
                scale if scale & (scale - 1) == 0 => {
                    self.b.ins().ishl_imm_u(index, scale.trailing_zeros() as i64)
                }
                scale => self.b.ins().imul_imm_s(index, scale),
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.b.ins().iadd(sum, term),
            });
        }
        match sum {
            Some(sum) => sum,
            None => self.b.ins().iconst(I64, 0),
        }
    }

    /// The conjunction of two bools.
    pub(super) fn both(&mut self, a: Option<Value>, b: Value) -> Value {
        debug_assert_eq!(self.b.func.dfg.value_type(b), I8);
        match a {
            Some(a) => self.b.ins().band(a, b),
            None => b,
        }
    }
}
