//! `nn.batch_matmul`: a product of matrices for every index of the leading dimensions.
//!
//! Both operands have the same rank, 3 or more; leading dimensions of size 1 repeat.

use super::dense::{product_dtype, swap_last};
use crate::eval::Value;
use crate::op::check::{ranked, same_dim, shape_of};
use crate::op::gemm::{Strides, gemm, pack};
use crate::op::num::{acc_dtype, read, with_acc, write};
use crate::op::util::{NUMERIC, accumulator, tensor_arg, tensor_type, unify_dim};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`BATCH_MATMUL`].
    pub struct BatchMatmulAttrs {
        /// Dtype of the result; the left operand's where it is `None`.
        out_dtype: Option<DType> = None,
        /// The left operand is stored with its last two dimensions swapped.
        transpose_a: bool = false,
        /// The right operand is stored with its last two dimensions swapped.
        transpose_b: bool = false,
    }
}

/// `x[.., m, k] * y[.., k, n]` for every leading index.
pub static BATCH_MATMUL: OpDef = OpDef {
    name: "nn.batch_matmul",
    doc: "Products of the matrices in the last two dimensions; leading dimensions of size 1 repeat.",
    args: &["tensor_a", "tensor_b"],
    optional: 0,
    attrs: BatchMatmulAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer,
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &["MatMul"],
};

/// The places of rows and columns in an operand of a rank.
fn matrix_axes(rank: usize, transposed: bool) -> (usize, usize) {
    if transposed { (rank - 1, rank - 2) } else { (rank - 2, rank - 1) }
}

/// The dimension of the result where a leading dimension of both operands meets.
fn broadcast(a: &Dim, b: &Dim) -> Result<Dim, OpError> {
    match (a, b) {
        (Dim::Static(1), other) | (other, Dim::Static(1)) => Ok(other.clone()),
        _ => unify_dim(a, b).ok_or_else(|| OpError::new(format!("batches of {a} and {b} do not fit"))),
    }
}

fn infer(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let attrs: BatchMatmulAttrs = attrs.read();
    let dtype = product_dtype(args, attrs.out_dtype)?;
    let x = tensor_arg(args, 0)?;
    let rank = x.rank();
    if rank < 3 {
        return Err(OpError::arg(0, format!("expected a tensor of rank 3 or more, found rank {rank}"))
            .help("use nn.matmul or nn.dense for matrices"));
    }
    let y = ranked(args, 1, rank)?;
    let (m, kx) = matrix_axes(rank, attrs.transpose_a);
    let (ky, n) = matrix_axes(rank, attrs.transpose_b);
    same_dim(1, "the contracted dimension", &y.shape[ky], &x.shape[kx])?;
    let leading = x.shape.iter().zip(&y.shape).take(rank - 2);
    let mut shape = leading.map(|(a, b)| broadcast(a, b)).collect::<Result<Vec<_>, _>>()?;
    shape.extend([x.shape[m].clone(), y.shape[n].clone()]);
    tensor_type(shape, dtype)
}

/// For every leading index of the result in order, the number of the operand's matrix.
fn batches(out: &[usize], operand: &[usize]) -> Vec<usize> {
    let mut numbers = vec![0];
    for (&n, &own) in out.iter().zip(operand) {
        let step = |base: usize, i: usize| base * own + if own == 1 { 0 } else { i };
        numbers = numbers.iter().flat_map(|&base| (0..n).map(move |i| step(base, i))).collect();
    }
    numbers
}

fn eval(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let attrs: BatchMatmulAttrs = attrs.read();
    let (x, y) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let x = if attrs.transpose_a { swap_last(x)? } else { x.clone() };
    let (leading, matrix) = shape.split_at(shape.len() - 2);
    let (m, n, k) = (matrix[0], matrix[1], x.shape()[x.rank() - 1]);
    let at = if attrs.transpose_b { Strides { row: 1, col: k } } else { Strides { row: n, col: 1 } };
    with_acc!(acc_dtype(x.dtype(), dtype), A => {
        let (a, b) = (read::<A>(&x), read::<A>(y));
        let mut c = vec![A::ZERO; shape.iter().product()];
        let (of_a, of_b) = (batches(leading, x.shape()), batches(leading, y.shape()));
        for (i, (&ia, &ib)) in of_a.iter().zip(&of_b).enumerate() {
            let panels = pack(&b[ib * k * n..(ib + 1) * k * n], k, n, at);
            gemm(m, n, k, &a[ia * m * k..(ia + 1) * m * k], &panels, &mut c[i * m * n..(i + 1) * m * n], n);
        }
        Ok(write(dtype, &shape, &c)?.into())
    })
}

fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let attrs: BatchMatmulAttrs = attrs.read();
    let (x, y) = (&args[0], &args[1]);
    let acc = accumulator(out[0].dtype);
    let rank = x.rank();
    let (m, kx) = matrix_axes(rank, attrs.transpose_a);
    let (ky, n) = matrix_axes(rank, attrs.transpose_b);
    Ok(vec![stages::sum(g, "batch_matmul", "batch_matmul", &out[0], &[x.shape[kx]], |i, k| {
        let place = |t: &te::Tensor, row: usize, col: usize, r: &Expr, c: &Expr| {
            let mut at: Vec<Expr> =
                (0..rank).map(|d| if t.shape[d] == 1 { Expr::int(0) } else { i[d].clone() }).collect();
            at[row] = r.clone();
            at[col] = c.clone();
            t.at(&at).cast(acc)
        };
        place(x, m, kx, &i[rank - 2], &k[0]) * place(y, ky, n, &k[0], &i[rank - 1])
    })])
}
