//! Conversion of elements to another dtype, by value or by bits.

use crate::dispatch;
use crate::eval::Value;
use crate::op::runs::map;
use crate::op::util::{ALL, build, result_type, tensor_arg, tensor_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::{Expr, ExprKind};
use crate::types::{DType, TensorType, Type};

/// Conversions.
pub const OPS: &[&OpDef] = &[&CAST, &CAST_LIKE, &REINTERPRET];

op_attrs! {
    /// Attributes of `cast` and `reinterpret`.
    pub struct CastAttrs {
        /// The dtype of the result.
        dtype: DType,
    }
}

/// `cast`: the value in another dtype.
pub static CAST: OpDef = OpDef {
    name: "cast",
    doc: "the value in another dtype; floats saturate and truncate to integers, integers wrap.",
    args: &["data"],
    optional: 0,
    attrs: CastAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, attrs| Ok(with_dtype(tensor_arg(types, 0)?, attrs.read::<CastAttrs>().dtype)),
    backward: no_backward,
    eval: eval_cast,
    lower: Lower::Te(lower_cast),
    onnx: &["Cast"],
};

/// `cast_like`: the value in the dtype of another tensor.
pub static CAST_LIKE: OpDef = OpDef {
    name: "cast_like",
    doc: "the value in the dtype of another tensor.",
    args: &["data", "dtype_like"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, _| Ok(with_dtype(tensor_arg(types, 0)?, tensor_arg(types, 1)?.dtype)),
    backward: no_backward,
    eval: eval_cast,
    lower: Lower::Te(lower_cast),
    onnx: &["CastLike"],
};

/// `reinterpret`: the same bits as another dtype.
pub static REINTERPRET: OpDef = OpDef {
    name: "reinterpret",
    doc: "the same bits as another dtype of equal width.",
    args: &["data"],
    optional: 0,
    attrs: CastAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_reinterpret,
    backward: no_backward,
    eval: |args, attrs, _| {
        let data = tensor_value(args, 0)?;
        let dtype = attrs.read::<CastAttrs>().dtype;
        Ok(Tensor::from_bytes(dtype, data.shape(), data.bytes())?.into())
    },
    lower: Lower::Te(|graph, args, _, out| {
        let bits = |i: &[Expr]| Expr::new(ExprKind::Reinterpret(args[0].at(i)), out[0].dtype);
        Ok(vec![graph.compute("reinterpret", "elemwise", &out[0], bits)])
    }),
    onnx: &["BitCast"],
};

fn with_dtype(data: &TensorType, dtype: DType) -> Type {
    TensorType::new(data.shape.clone(), dtype).into()
}

fn infer_reinterpret(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    let dtype = attrs.read::<CastAttrs>().dtype;
    if data.dtype.bits() != dtype.bits() {
        return Err(OpError::arg(
            0,
            format!("{} has {} bits and {dtype} has {}", data.dtype, data.dtype.bits(), dtype.bits()),
        )
        .help("use cast to convert the value"));
    }
    Ok(with_dtype(data, dtype))
}

/// The values of a tensor in another dtype.
///
/// # Errors
/// If the result is larger than a tensor may be.
pub fn cast(data: &Tensor, to: DType) -> Result<Tensor, OpError> {
    if data.dtype() == to {
        return Ok(data.clone());
    }
    dispatch!(to, U => build::<U>(data.shape(), |out| convert_tensor(data, out)))
}

/// Writes the elements of a tensor in another type; as many as there are of the shorter one.
pub fn convert_tensor<U: Convert>(data: &Tensor, out: &mut [U]) {
    dispatch!(data.dtype(), T => convert_slice(data.as_slice::<T>().unwrap_or_default(), out))
}

/// Writes elements in another type; as many as there are of the shorter slice.
///
/// They go through the widest type of their kind, as [`Convert::convert`] does, in blocks: so
/// there is one loop for each type and not one for each pair of them.
pub fn convert_slice<T: Convert, U: Convert>(from: &[T], out: &mut [U]) {
    let len = from.len().min(out.len());
    let out = &mut out[..len];
    match T::DTYPE {
        dtype if dtype.is_float() => narrow(out, &widened(from, T::to_f64), U::of_f64),
        // Unsigned 64-bit integers wrap to signed ones and back.
        dtype if dtype.is_unsigned_int() => narrow(out, &widened(from, T::to_i64), |w| U::of_u64(w as u64)),
        _ => narrow(out, &widened(from, T::to_i64), U::of_i64),
    }
}

/// Elements on their way at a time.
const BLOCK: usize = 256;

/// What fills a block with the elements from a place on.
fn widened<T: Copy, W>(from: &[T], widen: impl Fn(T) -> W) -> impl Fn(usize, &mut [W]) {
    move |at, block| map(&from[at..at + block.len()], block, &widen)
}

fn narrow<W: Copy + Default, U>(out: &mut [U], fill: &dyn Fn(usize, &mut [W]), narrow: impl Fn(W) -> U) {
    let mut block = [W::default(); BLOCK];
    for (i, out) in out.chunks_mut(BLOCK).enumerate() {
        let block = &mut block[..out.len()];
        fill(i * BLOCK, block);
        map(block, out, &narrow);
    }
}

fn eval_cast(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    Ok(cast(tensor_value(args, 0)?, result_type(ty)?.dtype)?.into())
}

fn lower_cast(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    Ok(vec![graph.compute("cast", "elemwise", &out[0], |i| args[0].at(i).cast(out[0].dtype))])
}
