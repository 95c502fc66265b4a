//! Clock cycles of scalar operations, and of the same on vectors of 16 bytes.
//!
//! Figures are reciprocal throughputs on the cores of this decade, rounded; functions are those
//! of the code generator's polynomials, or of a call where it has none.

use fermata_ir::entity::PrimaryMap;
use fermata_ir::scalar::{BinaryOp, UnaryOp};
use fermata_ir::tir::linear::Linear;
use fermata_ir::tir::{Buffer, BufferId, Expr, ExprKind, Stmt, VarId};
use fermata_ir::types::DType;

/// Lanes of the vectors that the portable code generator computes in.
pub const VECTOR: f64 = 4.0;

/// Cycles of a store.
pub const STORE: f64 = 1.0;

/// Cycles of a simple operation.
const SIMPLE: f64 = 0.5;

/// Cycles from or to float16, whose parts are taken apart.
const HALF: f64 = 3.0;

/// Cycles of a call of a function of numbers.
const CALL: f64 = 60.0;

/// The buffers that indices are of.
pub type Buffers = PrimaryMap<BufferId, Buffer>;

/// Cycles of a node, its operands left out; where `lane` is a variable, of a vector along it.
pub fn cycles(e: &Expr, buffers: &Buffers, lane: Option<VarId>) -> f64 {
    match e.kind() {
        ExprKind::Const(_) | ExprKind::Var(_) => 0.0,
        ExprKind::Reinterpret(_) => SIMPLE,
        ExprKind::Cast(a) if [a.dtype(), e.dtype()].contains(&DType::F16) => HALF,
        ExprKind::Cast(_) => 1.0,
        ExprKind::Unary(op, _) if e.dtype().is_float() => function(*op),
        ExprKind::Unary(..) | ExprKind::Cmp(..) | ExprKind::Select(..) => 2.0 * SIMPLE,
        ExprKind::Fma(..) => SIMPLE,
        ExprKind::Binary(op, _, b) => binary(*op, e.dtype(), b),
        ExprKind::Load(buffer, indices) => match lane {
            Some(lane) if !steps_by_one(&buffers[*buffer], indices, lane) => VECTOR * 2.0 * SIMPLE,
            _ => SIMPLE,
        },
    }
}

fn function(op: UnaryOp) -> f64 {
    match op {
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not => SIMPLE,
        UnaryOp::Sign | UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite => 2.0,
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => 1.0,
        UnaryOp::Sqrt => 5.0,
        UnaryOp::Rsqrt => 10.0,
        UnaryOp::Exp | UnaryOp::Log => 20.0,
        UnaryOp::Tanh | UnaryOp::Sigmoid => 28.0,
        UnaryOp::Erf => 40.0,
        UnaryOp::Log2
        | UnaryOp::Log10
        | UnaryOp::Sin
        | UnaryOp::Cos
        | UnaryOp::Tan
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Cosh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh => CALL,
    }
}

fn binary(op: BinaryOp, dtype: DType, right: &Expr) -> f64 {
    match op {
        BinaryOp::Pow | BinaryOp::Atan2 => CALL,
        BinaryOp::Div if dtype.is_float() => 4.0,
        BinaryOp::Mod | BinaryOp::FloorDiv | BinaryOp::FloorMod if dtype.is_float() => CALL,
        BinaryOp::Div | BinaryOp::Mod | BinaryOp::FloorDiv | BinaryOp::FloorMod => match right.as_int() {
            Some(n) if n > 0 && (n as u64).is_power_of_two() => 2.0 * SIMPLE,
            Some(_) => 3.0,
            None => 15.0,
        },
        // NaN goes through, which no single instruction does.
        BinaryOp::Min | BinaryOp::Max if dtype.is_float() => 4.0 * SIMPLE,
        // Most index arithmetic is part of an address.
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul if dtype == DType::I64 => 0.5 * SIMPLE,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => SIMPLE,
    }
}

/// How many additions long the chain is that an accumulation waits for.
pub fn chain(value: &Expr) -> f64 {
    match value.kind() {
        ExprKind::Binary(BinaryOp::Min | BinaryOp::Max, ..) if value.dtype().is_float() => 1.5,
        _ => 1.0,
    }
}

/// True if neighbouring lanes read neighbouring elements, or all the same.
fn steps_by_one(buffer: &Buffer, indices: &[Expr], lane: VarId) -> bool {
    // Dimensions of one element at the end do not lie between two lanes.
    let single = buffer.shape.iter().rev().take_while(|&&n| n == 1).count();
    let Some((last, outer)) = indices[..indices.len().saturating_sub(single)].split_last() else {
        return true;
    };
    let mentions = |e: &Expr| fermata_ir::tir::visit::vars([e]).contains(&lane);
    let sum = Linear::of(last);
    let plain = sum.terms.iter().all(|(atom, k)| {
        let own = matches!(atom.kind(), ExprKind::Var(v) if *v == lane);
        if own { *k == 1 } else { !mentions(atom) }
    });
    plain && !outer.iter().any(mentions)
}

/// True if the code generator computes a loop's body in vectors: floats in registers, and stores
/// that lie side by side.
pub fn is_vector(body: &Stmt, buffers: &Buffers, lane: VarId) -> bool {
    let mut vector = true;
    body.walk(&mut |s| match s {
        Stmt::Store { buffer, indices, value } => {
            vector &= steps_by_one(&buffers[*buffer], indices, lane) && is_vector_value(value, buffers, lane);
        }
        Stmt::Let { value, .. } => vector &= is_vector_value(value, buffers, lane),
        Stmt::For { .. } | Stmt::If { .. } | Stmt::Intrin { .. } => vector = false,
        Stmt::Seq(_) | Stmt::Block(_) | Stmt::Checkpoint | Stmt::Barrier => {}
    });
    vector
}

/// True if no part of a value keeps the code generator from computing it in vectors.
pub fn is_vector_value(value: &Expr, buffers: &Buffers, lane: VarId) -> bool {
    fermata_ir::tir::visit::post_order([value]).into_iter().all(|e| match e.kind() {
        ExprKind::Load(buffer, indices) => steps_by_one(&buffers[*buffer], indices, lane),
        ExprKind::Unary(op, _) => function(*op) < CALL,
        ExprKind::Binary(op, _, b) => binary(*op, e.dtype(), b) < CALL,
        _ => e.dtype() != DType::F64 && e.dtype() != DType::F16 && e.dtype() != DType::BF16,
    })
}
