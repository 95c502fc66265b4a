//! `nn.dense`, `nn.matmul` and `nn.contrib_dense_pack`: products with one matrix.
//!
//! The left operand may have any rank; its last dimension is contracted. ONNX's `MatMul` with
//! a matrix on the right is `nn.matmul`, `Gemm` is `nn.dense` or `nn.matmul` with a bias added.

use crate::eval::Value;
use crate::op::check::{dtype_in, ranked, same_dim, shape_of, size};
use crate::op::gemm::{Strides, gemm, pack};
use crate::op::num::{Acc, acc_dtype, read, with_acc, write};
use crate::op::panels::into_panels;
use crate::op::strided::{Layout, pick};
use crate::op::util::{NUMERIC, accumulator, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`DENSE`].
    pub struct DenseAttrs {
        /// Rows of the weight; needed only where its type is not known.
        units: Option<i64>,
        /// Dtype of the result; the data's where it is `None`.
        out_dtype: Option<DType> = None,
    }
}

op_attrs! {
    /// Attributes of [`MATMUL`].
    pub struct MatmulAttrs {
        /// Columns of the result; needed only where the right operand's type is not known.
        units: Option<i64>,
        /// Dtype of the result; the left operand's where it is `None`.
        out_dtype: Option<DType> = None,
        /// The last two dimensions of the left operand are swapped.
        transpose_a: bool = false,
        /// The right operand is stored as columns by rows.
        transpose_b: bool = false,
    }
}

op_attrs! {
    /// Attributes of [`DENSE_PACK`].
    pub struct DensePackAttrs {
        /// Rows of the weight before packing.
        units: i64,
        /// Dtype of the result; the data's where it is `None`.
        out_dtype: Option<DType> = None,
    }
}

op_attrs! {
    /// Attributes of [`DENSE_PACK_WEIGHT`].
    pub struct DensePackWeightAttrs {
        /// Rows of a panel.
        nr: i64,
    }
}

/// `data[.., k] * weight[n, k]`, contracted over k.
pub static DENSE: OpDef = OpDef {
    name: "nn.dense",
    doc: "Product of the last dimension with the rows of a weight matrix: data * weight^T.",
    args: &["data", "weight"],
    optional: 0,
    attrs: DenseAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |args, attrs| infer_product(args, &dense(attrs)),
    backward: |args, attrs| backward_product(args, &dense(attrs)),
    eval: |args, attrs, ty| eval_product(args, &dense(attrs), ty),
    lower: Lower::Te(|g, args, attrs, out| Ok(vec![lower_product(g, args, &dense(attrs), &out[0], "dense")])),
    onnx: &["Gemm"],
};

/// `a[.., k] * b[k, n]` with either side transposed on demand.
pub static MATMUL: OpDef = OpDef {
    name: "nn.matmul",
    doc: "Product of the last dimension with a matrix, either side transposed on demand.",
    args: &["tensor_a", "tensor_b"],
    optional: 0,
    attrs: MatmulAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |args, attrs| infer_product(args, &attrs.read()),
    backward: |args, attrs| backward_product(args, &attrs.read()),
    eval: |args, attrs, ty| eval_product(args, &attrs.read(), ty),
    lower: Lower::Te(|g, args, attrs, out| {
        Ok(vec![lower_product(g, args, &attrs.read(), &out[0], "matmul")])
    }),
    onnx: &["MatMul", "Gemm"],
};

/// [`DENSE`] on a weight that [`DENSE_PACK_WEIGHT`] packed.
pub static DENSE_PACK: OpDef = OpDef {
    name: "nn.contrib_dense_pack",
    doc: "nn.dense on a weight packed into panels [ceil(units / nr), k, nr].",
    args: &["data", "weight"],
    optional: 0,
    attrs: DensePackAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: infer_packed,
    backward: no_backward,
    eval: eval_packed,
    lower: Lower::Te(lower_packed),
    onnx: &[],
};

/// Packs the weight of [`DENSE`] into panels, so that it happens when constants fold.
pub static DENSE_PACK_WEIGHT: OpDef = OpDef {
    name: "nn.contrib_dense_pack_weight",
    doc: "A weight [n, k] as panels [ceil(n / nr), k, nr], zeros past n.",
    args: &["weight"],
    optional: 0,
    attrs: DensePackWeightAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_pack,
    backward: no_backward,
    eval: eval_pack,
    lower: Lower::Te(lower_pack),
    onnx: &[],
};

/// `nn.dense` as the matmul that it is.
fn dense(attrs: &Attrs) -> MatmulAttrs {
    let DenseAttrs { units, out_dtype } = attrs.read();
    MatmulAttrs { units, out_dtype, transpose_a: false, transpose_b: true }
}

/// The dtype of a product of arguments 0 and 1: `out_dtype`, or the first one's. A result
/// narrower than its operands, or an integer one of floats, is refused.
pub(in crate::op) fn product_dtype(args: &[Type], out_dtype: Option<DType>) -> Result<DType, OpError> {
    let a = dtype_in(args, 0, NUMERIC)?;
    let b = dtype_in(args, 1, NUMERIC)?;
    let out = out_dtype.unwrap_or(a);
    if a != b && !(a.is_int() && b.is_int() && out_dtype.is_some()) {
        return Err(OpError::arg(1, format!("expected dtype {a}, found {b}")));
    }
    let keeps = |d: DType| out.bytes() >= d.bytes() && (out.is_float() || d.is_int());
    if !NUMERIC.contains(&out) || !keeps(a) || !keeps(b) {
        return Err(OpError::new(format!("a product of {a} and {b} cannot have dtype {out}")));
    }
    Ok(out)
}

fn infer_product(args: &[Type], attrs: &MatmulAttrs) -> Result<Type, OpError> {
    let dtype = product_dtype(args, attrs.out_dtype)?;
    let (a, b) = (tensor_arg(args, 0)?, ranked(args, 1, 2)?);
    let needed = 1 + attrs.transpose_a as usize;
    if a.rank() < needed {
        return Err(OpError::arg(0, format!("expected a tensor of rank {needed} or more")));
    }
    let mut shape = a.shape.clone();
    let last = shape.len() - 1;
    if attrs.transpose_a {
        shape.swap(last, last - 1);
    }
    let (k, n) = if attrs.transpose_b { (1, 0) } else { (0, 1) };
    same_dim(1, "the contracted dimension", &b.shape[k], &shape[last])?;
    shape[last] = match attrs.units {
        Some(units) => same_dim(1, "the number of units", &b.shape[n], &size("units", units, 0)?.into())?,
        None => b.shape[n].clone(),
    };
    tensor_type(shape, dtype)
}

fn backward_product(args: &[Type], attrs: &MatmulAttrs) -> Vec<(usize, Type)> {
    let (Some(Type::Unknown), Some(a)) = (args.get(1), args.first().and_then(Type::as_tensor)) else {
        return Vec::new();
    };
    let contracted = a.rank().checked_sub(1 + attrs.transpose_a as usize);
    let (Some(k), Some(units)) = (contracted, attrs.units.and_then(|u| usize::try_from(u).ok())) else {
        return Vec::new();
    };
    let mut shape = vec![a.shape[k].clone(), Dim::Static(units)];
    if attrs.transpose_b {
        shape.swap(0, 1);
    }
    vec![(1, TensorType::new(shape, a.dtype).into())]
}

/// The tensor with its last two dimensions swapped.
pub(super) fn swap_last(t: &Tensor) -> Result<Tensor, OpError> {
    let mut axes: Vec<usize> = (0..t.rank()).collect();
    let mut shape = t.shape().to_vec();
    let last = t.rank() - 1;
    axes.swap(last, last - 1);
    shape.swap(last, last - 1);
    pick(t, &Layout::dense(t.shape()).permuted(&axes), &shape)
}

fn eval_product(args: &[Value], attrs: &MatmulAttrs, ty: &Type) -> Result<Value, OpError> {
    let (a, b) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let swapped;
    let a = if attrs.transpose_a {
        swapped = swap_last(a)?;
        &swapped
    } else {
        a
    };
    let n = shape[shape.len() - 1];
    let k = a.shape()[a.rank() - 1];
    let at = if attrs.transpose_b { Strides { row: 1, col: k } } else { Strides { row: n, col: 1 } };
    with_acc!(acc_dtype(a.dtype(), dtype), A => {
        let panels = pack(&read::<A>(b), k, n, at);
        Ok(write(dtype, &shape, &product(&read::<A>(a), &panels, k, n, &shape))?.into())
    })
}

/// The product of rows of `k` elements with packed panels of `n` columns.
fn product<A: Acc>(a: &[A], panels: &[A], k: usize, n: usize, shape: &[usize]) -> Vec<A> {
    let m = shape[..shape.len() - 1].iter().product();
    let mut c = vec![A::ZERO; m * n];
    gemm(m, n, k, a, panels, &mut c, n);
    c
}

fn lower_product(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &MatmulAttrs,
    out: &TensorType,
    tag: &str,
) -> te::Tensor {
    let (a, b) = (&args[0], &args[1]);
    let acc = accumulator(out.dtype);
    let k = a.shape[a.rank() - 1 - attrs.transpose_a as usize];
    stages::sum(g, tag, tag, out, &[k], |i, k| {
        let last = i.len() - 1;
        let mut left = i.to_vec();
        left[last] = k[0].clone();
        if attrs.transpose_a {
            left.swap(last, last - 1);
        }
        let mut right = [k[0].clone(), i[last].clone()];
        if attrs.transpose_b {
            right.swap(0, 1);
        }
        a.at(&left).cast(acc) * b.at(&right).cast(acc)
    })
}

fn infer_packed(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let attrs: DensePackAttrs = attrs.read();
    let dtype = product_dtype(args, attrs.out_dtype)?;
    let (data, weight) = (tensor_arg(args, 0)?, ranked(args, 1, 3)?);
    let (Some(k), Some(nr)) = (data.shape.last(), weight.shape[2].as_static()) else {
        return Err(OpError::new("the data needs a dimension and the panels a static width"));
    };
    same_dim(1, "the contracted dimension", &weight.shape[1], k)?;
    let units = size("units", attrs.units, 0)?;
    same_dim(1, "the number of panels", &weight.shape[0], &units.div_ceil(nr.max(1)).into())?;
    let mut shape = data.shape.clone();
    shape.pop();
    shape.push(units.into());
    tensor_type(shape, dtype)
}

fn eval_packed(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, weight) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let &[count, k, nr] = weight.shape() else { return Err(OpError::arg(1, "expected panels")) };
    with_acc!(acc_dtype(data.dtype(), dtype), A => {
        // As a [k, n] matrix per panel the layout is the ordinary one; all panels side by
        // side have columns past the units, which are dropped.
        let (data, weight) = (read::<A>(data), read::<A>(weight));
        let units = shape[shape.len() - 1];
        let m: usize = shape[..shape.len() - 1].iter().product();
        let mut c = vec![A::ZERO; m * units];
        for p in 0..count {
            let n = nr.min(units - p * nr);
            let panels = pack(&weight[p * k * nr..(p + 1) * k * nr], k, n, Strides { row: nr, col: 1 });
            gemm(m, n, k, &data, &panels, &mut c[p * nr..], units);
        }
        Ok(write(dtype, &shape, &c)?.into())
    })
}

fn lower_packed(
    g: &mut Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, weight) = (&args[0], &args[1]);
    let acc = accumulator(out[0].dtype);
    let nr = weight.shape[2];
    Ok(vec![stages::sum(g, "dense_pack", "dense_pack", &out[0], &[weight.shape[1]], |i, k| {
        let last = i.len() - 1;
        let mut left = i.to_vec();
        left[last] = k[0].clone();
        let (panel, lane) = (i[last].clone().floor_div(nr), i[last].clone().floor_mod(nr));
        data.at(&left).cast(acc) * weight.at(&[panel, k[0].clone(), lane]).cast(acc)
    })])
}

fn infer_pack(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let attrs: DensePackWeightAttrs = attrs.read();
    let weight = ranked(args, 0, 2)?;
    let nr = size("nr", attrs.nr, 1)?;
    let panels = weight.shape[0].as_static().map_or(Dim::Any, |n| n.div_ceil(nr).into());
    let shape = vec![panels, weight.shape[1].clone(), nr.into()];
    tensor_type(shape, weight.dtype)
}

fn eval_pack(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let weight = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    let sizes = [shape[1], shape[2], dtype.bytes()];
    let packed = Tensor::filled(dtype, &shape, |packed| into_panels(weight.bytes(), packed, sizes))?;
    Ok(packed.into())
}

fn lower_pack(
    g: &mut Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let weight = &args[0];
    let (n, nr) = (weight.shape[0], out[0].shape[2].as_static().expect("panels are static"));
    Ok(vec![g.compute("dense_pack_weight", "injective", &out[0], |i| {
        let row = &i[0] * nr + &i[2];
        let element = weight.at(&[row.clone(), i[1].clone()]);
        row.lt(Expr::from(n)).select(element, stages::zero(weight.dtype))
    })])
}
