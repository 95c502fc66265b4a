//! `qnn.dense`, `qnn.batch_matmul` and `qnn.conv2d`: exact products of quantised numbers.
//!
//! Each is the product of its centred operands, data and weight less their zero points, in
//! int32. The scales of the result are those of the operands multiplied; they do not enter.
//! Padding of a convolution is the zero point of the data, which is 0 when centred.

use super::convert::QUANTISED;
use super::param::{self, Values};
use crate::eval::Value;
use crate::op::check::dtype_in;
use crate::op::conv::{CONV2D, Conv2dAttrs};
use crate::op::nn::{BATCH_MATMUL, BatchMatmulAttrs, DENSE, DenseAttrs};
use crate::op::num::{read, write};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity};
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType, Type};

/// How a product of quantised numbers follows from one of integers.
struct Product {
    /// The product of the centred operands.
    plain: &'static OpDef,
    /// The attributes of the product with an int32 result.
    attrs: fn(&Attrs) -> Attrs,
    /// The axis of the right operand that its parameters may be vectors along.
    channels: fn(&Attrs, usize) -> i64,
}

static QUANTISED_DENSE: Product = Product {
    plain: &DENSE,
    attrs: |a| DenseAttrs { out_dtype: Some(DType::I32), ..a.read() }.attrs(),
    channels: |_, _| 0,
};

static QUANTISED_BATCH_MATMUL: Product = Product {
    plain: &BATCH_MATMUL,
    attrs: |a| BatchMatmulAttrs { out_dtype: Some(DType::I32), ..a.read() }.attrs(),
    channels: |a, rank| rank as i64 - if a.read::<BatchMatmulAttrs>().transpose_b { 2 } else { 1 },
};

static QUANTISED_CONV2D: Product = Product {
    plain: &CONV2D,
    attrs: |a| Conv2dAttrs { out_dtype: Some(DType::I32), ..a.read() }.attrs(),
    channels: |a, _| a.read::<Conv2dAttrs>().kernel_layout.find('O').map_or(0, |d| d as i64),
};

/// Declares the row of a [`Product`].
macro_rules! row {
    ($id:ident, $name:literal, $doc:literal, $attrs:ident, $product:ident, $args:expr, $onnx:expr) => {
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: $args,
            optional: 0,
            attrs: $attrs::SCHEMA,
            pattern: FusePattern::OutElemwiseFusable,
            purity: Purity::Pure,
            dtypes: QUANTISED,
            infer: |args, attrs| infer(&$product, args, attrs),
            backward: |args, attrs| ($product.plain.backward)(&args[..2.min(args.len())], attrs),
            eval: |args, attrs, ty| eval(&$product, args, attrs, ty),
            lower: Lower::Te(|g, args, attrs, out| lower(&$product, g, args, attrs, out)),
            onnx: $onnx,
        };
    };
}

row!(
    QNN_DENSE,
    "qnn.dense",
    "nn.dense of quantised numbers less their zero points, in int32.",
    DenseAttrs,
    QUANTISED_DENSE,
    &["data", "weight", "input_scale", "input_zero_point", "weight_scale", "weight_zero_point"],
    &["MatMulInteger", "QLinearMatMul"]
);
row!(
    QNN_BATCH_MATMUL,
    "qnn.batch_matmul",
    "nn.batch_matmul of quantised numbers less their zero points, in int32.",
    BatchMatmulAttrs,
    QUANTISED_BATCH_MATMUL,
    &["x", "y", "x_scale", "x_zero_point", "y_scale", "y_zero_point"],
    &["MatMulInteger", "QLinearMatMul"]
);
row!(
    QNN_CONV2D,
    "qnn.conv2d",
    "nn.conv2d of quantised numbers less their zero points, in int32.",
    Conv2dAttrs,
    QUANTISED_CONV2D,
    &["data", "weight", "input_scale", "input_zero_point", "weight_scale", "weight_zero_point"],
    &["ConvInteger", "QLinearConv"]
);

fn infer(product: &Product, args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    dtype_in(args, 0, QUANTISED)?;
    dtype_in(args, 1, QUANTISED)?;
    param::check_single(args, 2, true)?;
    param::check_single(args, 3, false)?;
    let rank = args[1].as_tensor().map_or(0, TensorType::rank);
    let channels = (product.channels)(attrs, rank);
    param::check(args, 4, &args[1], channels, true)?;
    param::check(args, 5, &args[1], channels, false)?;
    (product.plain.infer)(&args[..2], &(product.attrs)(attrs))
}

/// The tensor less its zero points, in int32.
fn centered(t: &Tensor, zero: &Tensor, axis: i64) -> Result<Value, OpError> {
    let zero = Values::<i32>::new(zero, t.shape(), axis)?;
    let data = read::<i32>(t);
    let data: Vec<i32> = data.iter().enumerate().map(|(i, v)| v.wrapping_sub(zero.at(i))).collect();
    Ok(write(DType::I32, t.shape(), &data)?.into())
}

fn eval(product: &Product, args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (x, w) = (args[0].tensor()?, args[1].tensor()?);
    let channels = (product.channels)(attrs, w.rank());
    let operands = [centered(x, args[3].tensor()?, 0)?, centered(w, args[5].tensor()?, channels)?];
    (product.plain.eval)(&operands, &(product.attrs)(attrs), ty)
}

fn lower(
    product: &Product,
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let channels = (product.channels)(attrs, args[1].rank());
    let operands =
        [(0, 3, 0, "data_centered"), (1, 5, channels, "weight_centered")].map(|(t, zero, axis, name)| {
            let ty = TensorType::of(&args[t].shape, DType::I32);
            g.compute(name, "broadcast", &ty, |i| {
                args[t].at(i).cast(DType::I32) - param::at(&args[zero], i, axis).cast(DType::I32)
            })
        });
    match product.plain.lower {
        Lower::Te(lower) => lower(g, &operands, &(product.attrs)(attrs), out),
        Lower::None(why) => Err(OpError::new(why)),
    }
}
