//! Facts about expressions: what they read, what they cost, and how index arithmetic varies
//! from lane to lane of a vectorised loop.

use std::collections::HashMap;

use fermata_ir::entity::SecondaryMap;
use fermata_ir::scalar::BinaryOp;
use fermata_ir::tir::{BufferId, Expr, ExprKind, VarId};
use fermata_ir::types::DType;

use super::arith::is_real;

/// How an expression's value varies over the lanes of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// It is the same in all lanes; as a step, 0.
    Step(i64),
    /// Nothing is known.
    Varying,
}

impl Lane {
    /// The same in all lanes.
    pub const UNIFORM: Lane = Lane::Step(0);

    /// The sum of two.
    pub fn add(self, other: Lane) -> Lane {
        match (self, other) {
            (Lane::Step(a), Lane::Step(b)) => a.checked_add(b).map_or(Lane::Varying, Lane::Step),
            _ => Lane::Varying,
        }
    }

    /// The product with a number that is the same in all lanes.
    pub fn times(self, factor: i64) -> Lane {
        match self {
            Lane::Step(a) => a.checked_mul(factor).map_or(Lane::Varying, Lane::Step),
            Lane::Varying => Lane::Varying,
        }
    }
}

/// What is known of an expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// It reads memory.
    pub loads: bool,
    /// Roughly the number of instructions of evaluating it, shared parts counted each time.
    pub cost: u32,
    /// An integer that is not negative.
    pub nonneg: bool,
    /// An integer that this divides; 0 for zero itself.
    pub multiple: u64,
    /// How it varies over lanes.
    pub lane: Lane,
}

impl Facts {
    const UNKNOWN: Facts = Facts { loads: false, cost: 1, nonneg: false, multiple: 1, lane: Lane::UNIFORM };
}

/// What a variable stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Meaning<'f> {
    /// Not bound.
    #[default]
    Unbound,
    /// A number with these properties.
    Opaque {
        /// It is not negative.
        nonneg: bool,
        /// A divisor.
        multiple: u64,
        /// How it varies over lanes.
        lane: Lane,
    },
    /// The value of an expression.
    Alias(&'f Expr),
}

/// Facts about the expressions of a function under the bindings of the moment.
#[derive(Default)]
pub(super) struct Analysis<'f> {
    meanings: SecondaryMap<VarId, Meaning<'f>>,
    facts: HashMap<usize, Facts>,
    /// Lanes of the vectorised loop that is being worked on; 1 outside.
    pub lanes: u32,
}

impl<'f> Analysis<'f> {
    /// Nothing is bound, and no loop is vectorised.
    pub fn new() -> Analysis<'f> {
        Analysis { lanes: 1, ..Analysis::default() }
    }

    /// Says what a variable stands for from now on.
    pub fn bind(&mut self, var: VarId, meaning: Meaning<'f>) {
        if !matches!(self.meanings[var], Meaning::Unbound) {
            self.facts.clear();
        }
        self.meanings[var] = meaning;
    }

    /// Begins or ends a vectorised loop.
    pub fn set_lanes(&mut self, lanes: u32) {
        self.lanes = lanes;
        self.facts.clear();
    }

    /// What a variable stands for.
    pub fn meaning(&self, var: VarId) -> Meaning<'f> {
        self.meanings[var]
    }

    /// The facts about an expression.
    pub fn of(&mut self, root: &'f Expr) -> Facts {
        if let Some(facts) = self.facts.get(&root.key()) {
            return *facts;
        }
        let mut stack = vec![(root, false)];
        while let Some((expr, operands_done)) = stack.pop() {
            if self.facts.contains_key(&expr.key()) {
                continue;
            }
            if operands_done {
                let facts = self.derive(expr);
                self.facts.insert(expr.key(), facts);
                continue;
            }
            stack.push((expr, true));
            match expr.kind() {
                ExprKind::Var(var) => {
                    if let Meaning::Alias(definition) = self.meanings[*var] {
                        stack.push((definition, false));
                    }
                }
                _ => operands(expr, &mut |operand| stack.push((operand, false))),
            }
        }
        self.facts[&root.key()]
    }

    /// Facts from those about the operands, which are known.
    fn derive(&self, expr: &'f Expr) -> Facts {
        let mut facts = Facts::UNKNOWN;
        operands(expr, &mut |operand| {
            let f = self.facts[&operand.key()];
            facts.loads |= f.loads;
            facts.cost = facts.cost.saturating_add(f.cost);
            if f.lane != Lane::UNIFORM {
                facts.lane = Lane::Varying;
            }
        });
        match expr.kind() {
            ExprKind::Const(value) => {
                if !expr.dtype().is_float() {
                    facts.nonneg = value.as_i64() >= 0;
                    facts.multiple = value.as_i64().unsigned_abs();
                }
            }
            ExprKind::Var(var) => match self.meanings[*var] {
                Meaning::Unbound => {}
                Meaning::Opaque { nonneg, multiple, lane } => {
                    facts = Facts { nonneg, multiple, lane, ..facts };
                }
                Meaning::Alias(definition) => facts = self.facts[&definition.key()],
            },
            ExprKind::Binary(op, a, b) if expr.dtype() == DType::I64 => {
                let (a, b) = (self.facts[&a.key()], (self.facts[&b.key()], b.as_int()));
                self.index_arithmetic(*op, a, b, &mut facts);
            }
            ExprKind::Binary(op, ..) => {
                if matches!(op, BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Mod | BinaryOp::FloorMod) {
                    facts.cost = facts.cost.saturating_add(50);
                }
            }
            ExprKind::Unary(op, _) if is_real(*op) => facts.cost = facts.cost.saturating_add(50),
            ExprKind::Load(..) => facts.loads = true,
            ExprKind::Unary(..)
            | ExprKind::Cast(_)
            | ExprKind::Reinterpret(_)
            | ExprKind::Cmp(..)
            | ExprKind::Fma(..)
            | ExprKind::Select(..) => {}
        }
        facts
    }

    fn index_arithmetic(&self, op: BinaryOp, a: Facts, (b, constant): (Facts, Option<i64>), out: &mut Facts) {
        let both_nonneg = a.nonneg && b.nonneg;
        match op {
            BinaryOp::Add | BinaryOp::Sub => {
                out.nonneg = both_nonneg && op == BinaryOp::Add;
                out.multiple = gcd(a.multiple, b.multiple);
                out.lane = a.lane.add(b.lane.times(if op == BinaryOp::Add { 1 } else { -1 }));
            }
            BinaryOp::Mul => {
                out.nonneg = both_nonneg;
                out.multiple = a.multiple.saturating_mul(b.multiple);
                if let Some(factor) = constant {
                    out.lane = a.lane.times(factor);
                }
            }
            BinaryOp::Div | BinaryOp::FloorDiv => {
                out.nonneg = both_nonneg;
                let floors = a.nonneg || op == BinaryOp::FloorDiv;
                if let Some(d) = constant.filter(|&d| d > 0 && floors) {
                    out.lane = self.quotient_lane(a, d);
                    if a.multiple.is_multiple_of(d as u64) {
                        out.multiple = a.multiple / d as u64;
                    }
                }
            }
            BinaryOp::Mod | BinaryOp::FloorMod => {
                out.nonneg = a.nonneg || (op == BinaryOp::FloorMod && b.nonneg);
                if let Some(d) = constant.filter(|&d| d > 0 && (a.nonneg || op == BinaryOp::FloorMod)) {
                    out.multiple = gcd(a.multiple, d as u64);
                    out.lane = if self.quotient_lane(a, d) == Lane::UNIFORM { a.lane } else { Lane::Varying };
                }
            }
            BinaryOp::Min | BinaryOp::Max => out.nonneg = both_nonneg,
            _ => {}
        }
    }

    /// How a quotient by a positive constant varies: not at all, where no multiple of the divisor
    /// lies between the first lane's value and the last one's.
    fn quotient_lane(&self, a: Facts, divisor: i64) -> Lane {
        let Lane::Step(step) = a.lane else { return Lane::Varying };
        if step == 0 {
            return Lane::UNIFORM;
        }
        // Lane 0 is a multiple of g, which divides the divisor: so up to g - 1 above it, the
        // quotient stays.
        let g = gcd(a.multiple, divisor as u64);
        let span = (self.lanes as i64 - 1).saturating_mul(step);
        if step > 0 && (span as u64) < g { Lane::UNIFORM } else { Lane::Varying }
    }

    /// How the position in a buffer varies over the lanes.
    pub fn position(&mut self, strides: &[i64], indices: &'f [Expr]) -> Lane {
        indices
            .iter()
            .zip(strides)
            .fold(Lane::UNIFORM, |lane, (index, &stride)| lane.add(self.of(index).lane.times(stride)))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Calls `f` for each operand of an expression, indices of a load included.
pub(super) fn operands<'e>(expr: &'e Expr, f: &mut dyn FnMut(&'e Expr)) {
    match expr.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => {}
        ExprKind::Cast(a) | ExprKind::Reinterpret(a) | ExprKind::Unary(_, a) => f(a),
        ExprKind::Binary(_, a, b) | ExprKind::Cmp(_, a, b) => {
            f(a);
            f(b);
        }
        ExprKind::Fma(a, b, c) | ExprKind::Select(a, b, c) => {
            f(a);
            f(b);
            f(c);
        }
        ExprKind::Load(_, indices) => indices.iter().for_each(f),
    }
}

/// Calls `f` for each load in an expression.
pub(super) fn loads<'e>(root: &'e Expr, f: &mut dyn FnMut(BufferId, &'e [Expr])) {
    let mut seen = std::collections::HashSet::new();
    let mut stack = vec![root];
    while let Some(expr) = stack.pop() {
        if !seen.insert(expr.key()) {
            continue;
        }
        if let ExprKind::Load(buffer, indices) = expr.kind() {
            f(*buffer, indices);
        }
        operands(expr, &mut |operand| stack.push(operand));
    }
}
