//! Operators of two tensors that broadcast together by numpy's rules.
//!
//! Functions of [`BinaryOp`] and comparisons are rows of one table each.

pub mod select;
pub mod shape;

#[cfg(test)]
mod tests;

pub use select::{LOG_ADD_EXP, WHERE};
pub use shape::{BROADCAST_TO, BROADCAST_TO_LIKE, BroadcastToAttrs};

use super::runs::zip;
use super::util::{
    ALL, BOOL, FLOAT, INT, INT_BOOL, NUMERIC, broadcast_at, broadcast_dims, build, elements, result_type,
    same_dtype, static_shape, tensor_arg, tensor_type, tensor_value,
};
use super::{FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::eval::Value;
use crate::scalar::{BinaryOp, CmpOp, binary_fn, compare_fn};
use crate::te;
use crate::tensor::{Bool8, Element};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};
use crate::{dispatch, with_binary};

/// An operation of two scalars.
#[derive(Clone, Copy)]
enum Operation {
    /// Gives the operands' dtype.
    Function(BinaryOp),
    /// Gives bool.
    Comparison(CmpOp),
}

use CmpOp::{Eq, Ge, Gt, Le, Lt, Ne};
use Operation::{Comparison as C, Function as F};

/// Declares a row for each operation: its static, its name in text, the operation, the dtypes,
/// the ONNX operators and what it gives.
macro_rules! rows {
    ($($row:ident $name:literal $op:expr, $dtypes:ident [$($onnx:literal),*] $doc:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $doc)]
            pub static $row: OpDef = OpDef {
                name: $name,
                doc: $doc,
                args: &["lhs", "rhs"],
                optional: 0,
                attrs: &[],
                pattern: FusePattern::Broadcast,
                purity: Purity::Pure,
                dtypes: $dtypes,
                infer: |types, _| infer($op, types),
                backward: no_backward,
                eval: |args, _, ty| eval($op, args, ty),
                lower: Lower::Te(|graph, args, _, out| Ok(vec![lower($name, $op, graph, args, out)])),
                onnx: &[$($onnx),*],
            };
        )*
        /// The functions and comparisons of two scalars.
        pub const OPS: &[&OpDef] = &[$(&$row),*];
    };
}

use BinaryOp::{Add, And, Atan2, Div, FloorDiv, FloorMod, Max, Min, Mod, Mul, Or, Pow, Shl, Shr, Sub, Xor};

rows! {
    ADD           "add"           F(Add),      NUMERIC  ["Add"]            "the sum.";
    SUBTRACT      "subtract"      F(Sub),      NUMERIC  ["Sub"]            "the difference.";
    MULTIPLY      "multiply"      F(Mul),      NUMERIC  ["Mul"]            "the product.";
    DIVIDE        "divide"        F(Div),      NUMERIC  ["Div"]            "the quotient; of integers, truncated.";
    FLOOR_DIVIDE  "floor_divide"  F(FloorDiv), NUMERIC  []                 "the quotient, rounded down.";
    TRUNC_DIVIDE  "trunc_divide"  F(Div),      INT      []                 "the quotient of integers, truncated.";
    MOD           "mod"           F(Mod),      NUMERIC  ["Mod"]            "the remainder, with the sign of the dividend.";
    FLOOR_MOD     "floor_mod"     F(FloorMod), NUMERIC  ["Mod"]            "the remainder, with the sign of the divisor.";
    TRUNC_MOD     "trunc_mod"     F(Mod),      INT      []                 "the remainder of integers, with the sign of the dividend.";
    POWER         "power"         F(Pow),      NUMERIC  ["Pow"]            "the left operand to the power of the right.";
    ATAN2         "atan2"         F(Atan2),    FLOAT    []                 "the angle of the point (rhs, lhs).";
    MAXIMUM       "maximum"       F(Max),      ALL      ["Max"]            "the larger; NaN if either is.";
    MINIMUM       "minimum"       F(Min),      ALL      ["Min"]            "the smaller; NaN if either is.";
    LEFT_SHIFT    "left_shift"    F(Shl),      INT      ["BitShift"]       "bits moved up.";
    RIGHT_SHIFT   "right_shift"   F(Shr),      INT      ["BitShift"]       "bits moved down; the sign fills in.";
    BITWISE_AND   "bitwise_and"   F(And),      INT_BOOL ["BitwiseAnd"]     "the bits set in both.";
    BITWISE_OR    "bitwise_or"    F(Or),       INT_BOOL ["BitwiseOr"]      "the bits set in either.";
    BITWISE_XOR   "bitwise_xor"   F(Xor),      INT_BOOL ["BitwiseXor"]     "the bits set in one.";
    LOGICAL_AND   "logical_and"   F(And),      BOOL     ["And"]            "whether both hold.";
    LOGICAL_OR    "logical_or"    F(Or),       BOOL     ["Or"]             "whether either holds.";
    LOGICAL_XOR   "logical_xor"   F(Xor),      BOOL     ["Xor"]            "whether one holds.";
    EQUAL         "equal"         C(Eq),       ALL      ["Equal"]          "whether the operands are equal.";
    NOT_EQUAL     "not_equal"     C(Ne),       ALL      []                 "whether the operands differ.";
    LESS          "less"          C(Lt),       ALL      ["Less"]           "whether the left operand is smaller.";
    LESS_EQUAL    "less_equal"    C(Le),       ALL      ["LessOrEqual"]    "whether the left operand is not larger.";
    GREATER       "greater"       C(Gt),       ALL      ["Greater"]        "whether the left operand is larger.";
    GREATER_EQUAL "greater_equal" C(Ge),       ALL      ["GreaterOrEqual"] "whether the left operand is not smaller.";
}

fn infer(op: Operation, types: &[Type]) -> Result<Type, OpError> {
    let operands = same_dtype(types, 0, 1)?;
    let shape = broadcast_dims(&tensor_arg(types, 0)?.shape, &tensor_arg(types, 1)?.shape)?;
    let dtype = match op {
        F(_) => operands,
        C(_) => DType::Bool,
    };
    tensor_type(shape, dtype)
}

fn eval(op: Operation, args: &[Value], ty: &Type) -> Result<Value, OpError> {
    let dtype = tensor_value(args, 0)?.dtype();
    // The dtype of most data has a loop for each function; the others share one and call it.
    if let (F(op), DType::F32) = (op, dtype) {
        return with_binary!(op, f32, f => broadcast::<f32, f32, f32>(args, ty, f));
    }
    dispatch!(dtype, T => match op {
        F(op) => broadcast::<T, T, T>(args, ty, binary_fn::<T>(op)),
        C(op) => {
            let f = compare_fn::<T>(op);
            broadcast::<T, T, Bool8>(args, ty, |x, y| f(x, y).into())
        }
    })
}

/// The result of a function on the elements of two tensors that broadcast to the result type.
///
/// # Errors
/// If the dtypes are not those of the function.
pub fn broadcast<A: Element, B: Element, C: Element>(
    args: &[Value],
    ty: &Type,
    f: impl Fn(A, B) -> C,
) -> Result<Value, OpError> {
    let (lhs, rhs) = (tensor_value(args, 0)?, tensor_value(args, 1)?);
    let (a, b) = (elements::<A>(lhs)?, elements::<B>(rhs)?);
    let shape = static_shape(result_type(ty)?)?;
    Ok(build(&shape, |out| zip((a, lhs.shape()), (b, rhs.shape()), (out, &shape), f))?.into())
}

fn lower(
    name: &str,
    op: Operation,
    graph: &mut te::Graph,
    args: &[te::Tensor],
    out: &[TensorType],
) -> te::Tensor {
    graph.compute(name, "broadcast", &out[0], |i: &[Expr]| {
        let (x, y) = (broadcast_at(&args[0], i), broadcast_at(&args[1], i));
        match op {
            F(op) => x.binary(op, y),
            C(op) => x.cmp(op, y),
        }
    })
}
