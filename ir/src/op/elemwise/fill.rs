//! Tensors of one value.

use crate::dispatch;
use crate::eval::Value;
use crate::op::util::{
    ALL, build, dims_of, elements, result_type, scalar_arg, static_shape, tensor_arg, tensor_type,
    tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Convert, Scalar};
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

use super::convert::cast;

op_attrs! {
    /// Attributes of `full`.
    pub struct FullAttrs {
        /// The shape of the result.
        shape: Vec<i64>,
        /// The dtype of the result; that of the value if absent.
        dtype: Option<DType> = None,
    }
}

op_attrs! {
    /// Attributes of `zeros` and `ones`.
    pub struct InitAttrs {
        /// The shape of the result.
        shape: Vec<i64>,
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

/// `full`: a tensor filled with a value.
pub static FULL: OpDef = OpDef {
    name: "full",
    doc: "a tensor of a shape, filled with a scalar.",
    args: &["fill_value"],
    optional: 0,
    attrs: FullAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, attrs| {
        let value = scalar_arg(types, 0)?;
        let attrs = attrs.read::<FullAttrs>();
        tensor_type(dims_of(&attrs.shape, false)?, attrs.dtype.unwrap_or(value.dtype))
    },
    backward: no_backward,
    eval: |args, _, ty| filled(tensor_value(args, 0)?, result_type(ty)?),
    lower: Lower::Te(|graph, args, _, out| Ok(vec![lower("full", graph, args[0].at(&[]), out)])),
    onnx: &["ConstantOfShape"],
};

/// `full_like`: a tensor like another, filled with a value.
pub static FULL_LIKE: OpDef = OpDef {
    name: "full_like",
    doc: "a tensor of another's shape and dtype, filled with a scalar.",
    args: &["data", "fill_value"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, _| {
        scalar_arg(types, 1)?;
        Ok(tensor_arg(types, 0)?.clone().into())
    },
    backward: no_backward,
    eval: |args, _, ty| filled(tensor_value(args, 1)?, result_type(ty)?),
    lower: Lower::Te(|graph, args, _, out| Ok(vec![lower("full_like", graph, args[1].at(&[]), out)])),
    onnx: &[],
};

/// Declares the rows that fill with 0 or 1.
macro_rules! constants {
    ($($row:ident $name:literal $row_like:ident $name_like:literal $value:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: a tensor filled with ", $value, ".")]
            pub static $row: OpDef = OpDef {
                name: $name,
                doc: concat!("a tensor of a shape and dtype, filled with ", $value, "."),
                args: &[],
                optional: 0,
                attrs: InitAttrs::SCHEMA,
                pattern: FusePattern::Elemwise,
                purity: Purity::Pure,
                dtypes: ALL,
                infer: infer_init,
                backward: no_backward,
                eval: |_, _, ty| constant(ty, $value),
                lower: Lower::Te(|graph, _, _, out| Ok(vec![lower_constant($name, graph, out, $value)])),
                onnx: &[],
            };
            #[doc = concat!("`", $name_like, "`: a tensor like another, filled with ", $value, ".")]
            pub static $row_like: OpDef = OpDef {
                name: $name_like,
                doc: concat!("a tensor of another's shape and dtype, filled with ", $value, "."),
                args: &["data"],
                optional: 0,
                attrs: &[],
                pattern: FusePattern::Elemwise,
                purity: Purity::Pure,
                dtypes: ALL,
                infer: |types, _| Ok(tensor_arg(types, 0)?.clone().into()),
                backward: no_backward,
                eval: |_, _, ty| constant(ty, $value),
                lower: Lower::Te(|graph, _, _, out| Ok(vec![lower_constant($name_like, graph, out, $value)])),
                onnx: &[],
            };
        )*
        /// Tensors of one value.
        pub const OPS: &[&OpDef] = &[&FULL, &FULL_LIKE, $(&$row, &$row_like),*];
    };
}
constants! {
    ONES  "ones"  ONES_LIKE  "ones_like"  1;
    ZEROS "zeros" ZEROS_LIKE "zeros_like" 0;
}

fn infer_init(_: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let attrs = attrs.read::<InitAttrs>();
    tensor_type(dims_of(&attrs.shape, false)?, attrs.dtype)
}

fn filled(value: &Tensor, ty: &TensorType) -> Result<Value, OpError> {
    let value = cast(value, ty.dtype)?;
    dispatch!(ty.dtype, T => {
        let value = elements::<T>(&value)?[0];
        Ok(build::<T>(&static_shape(ty)?, |out| out.fill(value))?.into())
    })
}

fn constant(ty: &Type, value: i64) -> Result<Value, OpError> {
    let ty = result_type(ty)?;
    dispatch!(ty.dtype, T => Ok(build::<T>(&static_shape(ty)?, |out| out.fill(T::of_i64(value)))?.into()))
}

fn lower(name: &str, graph: &mut te::Graph, value: Expr, out: &[TensorType]) -> te::Tensor {
    graph.compute(name, "elemwise", &out[0], |_| value.cast(out[0].dtype))
}

fn lower_constant(name: &str, graph: &mut te::Graph, out: &[TensorType], value: i64) -> te::Tensor {
    lower(name, graph, Expr::constant(Scalar::from_i64(out[0].dtype, value)), out)
}
