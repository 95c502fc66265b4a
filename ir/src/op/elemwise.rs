//! Operators that work on each element for itself.
//!
//! The functions of [`UnaryOp`] are rows of one table here; conversions, constants and
//! fixed-point products are families of their own beside it.

pub mod convert;
pub mod fill;
pub mod fixed_point;
pub mod misc;

#[cfg(test)]
mod tests;

pub use convert::{CAST, CAST_LIKE, CastAttrs, REINTERPRET};
pub use fill::{FULL, FULL_LIKE, FullAttrs, InitAttrs, ONES, ONES_LIKE, ZEROS, ZEROS_LIKE};
pub use fixed_point::{FIXED_POINT_MULTIPLY, FIXED_POINT_MULTIPLY_PER_AXIS};
pub use misc::{CEIL_LOG2, CLIP, COPY, ClipAttrs, ELEMWISE_SUM};

use super::runs::map;
use super::util::{BOOL, FLOAT, INT_BOOL, NUMERIC, build, elements, tensor_arg, tensor_type, tensor_value};
use super::{FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::dispatch;
use crate::eval::Value;
use crate::scalar::{UnaryFn, UnaryOp, unary_fn};
use crate::te;
use crate::tensor::Bool8;
use crate::types::{DType, TensorType, Type};

/// Declares a row for each function of one scalar: its static, its name in text, the function,
/// the dtypes, the ONNX operators and what it gives.
macro_rules! rows {
    ($($row:ident $name:literal $op:ident $dtypes:ident [$($onnx:literal),*] $doc:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $doc)]
            pub static $row: OpDef = OpDef {
                name: $name,
                doc: $doc,
                args: &["data"],
                optional: 0,
                attrs: &[],
                pattern: FusePattern::Elemwise,
                purity: Purity::Pure,
                dtypes: $dtypes,
                infer: |types, _| infer(UnaryOp::$op, types),
                backward: no_backward,
                eval: |args, _, _| eval(UnaryOp::$op, args),
                lower: Lower::Te(|graph, args, _, out| Ok(vec![lower($name, UnaryOp::$op, graph, args, out)])),
                onnx: &[$($onnx),*],
            };
        )*
        /// The functions of one scalar.
        pub const OPS: &[&OpDef] = &[$(&$row),*];
    };
}

rows! {
    ABS         "abs"         Abs      NUMERIC  ["Abs"]        "the absolute value; the smallest integer wraps.";
    NEGATIVE    "negative"    Neg      NUMERIC  ["Neg"]        "the value with the other sign; integers wrap.";
    SIGN        "sign"        Sign     NUMERIC  ["Sign"]       "-1, 0 or 1; NaN of NaN.";
    FLOOR       "floor"       Floor    NUMERIC  ["Floor"]      "the largest integer that is not greater.";
    CEIL        "ceil"        Ceil     NUMERIC  ["Ceil"]       "the smallest integer that is not less.";
    ROUND       "round"       Round    NUMERIC  ["Round"]      "the nearest integer, halves to even.";
    TRUNC       "trunc"       Trunc    NUMERIC  []             "the integer part.";
    SQRT        "sqrt"        Sqrt     FLOAT    ["Sqrt"]       "the square root.";
    RSQRT       "rsqrt"       Rsqrt    FLOAT    []             "1 divided by the square root.";
    EXP         "exp"         Exp      FLOAT    ["Exp"]        "e to the power of the value.";
    LOG         "log"         Log      FLOAT    ["Log"]        "the natural logarithm.";
    LOG2        "log2"        Log2     FLOAT    []             "the logarithm to base 2.";
    LOG10       "log10"       Log10    FLOAT    []             "the logarithm to base 10.";
    SIN         "sin"         Sin      FLOAT    ["Sin"]        "the sine.";
    COS         "cos"         Cos      FLOAT    ["Cos"]        "the cosine.";
    TAN         "tan"         Tan      FLOAT    ["Tan"]        "the tangent.";
    ASIN        "asin"        Asin     FLOAT    ["Asin"]       "the inverse of the sine.";
    ACOS        "acos"        Acos     FLOAT    ["Acos"]       "the inverse of the cosine.";
    ATAN        "atan"        Atan     FLOAT    ["Atan"]       "the inverse of the tangent.";
    SINH        "sinh"        Sinh     FLOAT    ["Sinh"]       "the hyperbolic sine.";
    COSH        "cosh"        Cosh     FLOAT    ["Cosh"]       "the hyperbolic cosine.";
    TANH        "tanh"        Tanh     FLOAT    ["Tanh"]       "the hyperbolic tangent.";
    ASINH       "asinh"       Asinh    FLOAT    ["Asinh"]      "the inverse of the hyperbolic sine.";
    ACOSH       "acosh"       Acosh    FLOAT    ["Acosh"]      "the inverse of the hyperbolic cosine.";
    ATANH       "atanh"       Atanh    FLOAT    ["Atanh"]      "the inverse of the hyperbolic tangent.";
    ERF         "erf"         Erf      FLOAT    ["Erf"]        "the error function.";
    SIGMOID     "sigmoid"     Sigmoid  FLOAT    ["Sigmoid"]    "1 / (1 + exp(-x)).";
    FAST_EXP    "fast_exp"    Exp      FLOAT    []             "exp, which a target may approximate.";
    FAST_TANH   "fast_tanh"   Tanh     FLOAT    []             "tanh, which a target may approximate.";
    FAST_ERF    "fast_erf"    Erf      FLOAT    []             "erf, which a target may approximate.";
    ISNAN       "isnan"       IsNan    NUMERIC  ["IsNaN"]      "whether the value is NaN.";
    ISINF       "isinf"       IsInf    NUMERIC  ["IsInf"]      "whether the value is infinite.";
    ISFINITE    "isfinite"    IsFinite NUMERIC  []             "whether the value is neither NaN nor infinite.";
    LOGICAL_NOT "logical_not" Not      BOOL     ["Not"]        "the opposite truth value.";
    BITWISE_NOT "bitwise_not" Not      INT_BOOL ["BitwiseNot"] "every bit inverted.";
}

/// The dtype of a function's result.
fn result_dtype(op: UnaryOp, dtype: DType) -> DType {
    match op {
        UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite => DType::Bool,
        _ => dtype,
    }
}

fn infer(op: UnaryOp, types: &[Type]) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    tensor_type(data.shape.clone(), result_dtype(op, data.dtype))
}

fn eval(op: UnaryOp, args: &[Value]) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    dispatch!(data.dtype(), T => {
        let input = elements::<T>(data)?;
        let result = match unary_fn::<T>(op) {
            UnaryFn::Value(f) => build::<T>(data.shape(), |out| map(input, out, f)),
            UnaryFn::Predicate(f) => build::<Bool8>(data.shape(), |out| map(input, out, |x| f(x).into())),
        };
        Ok(result?.into())
    })
}

fn lower(
    name: &str,
    op: UnaryOp,
    graph: &mut te::Graph,
    args: &[te::Tensor],
    out: &[TensorType],
) -> te::Tensor {
    graph.compute(name, "elemwise", &out[0], |i| args[0].at(i).unary(op))
}
