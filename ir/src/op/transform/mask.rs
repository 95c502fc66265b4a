//! Operators that keep some elements and replace others by position: triangles, diagonals,
//! sequences of given lengths; and permutations and coordinates as values.

use crate::eval::Value;
use crate::op::indexing::{from_integers, index_expr, int_arg, sizes, zero};
use crate::op::strided::{Layout, copy, each_place, words};
use crate::op::util::{
    ALL, INT, integers, normalize_axis, same_dtype, show_dims, tensor_arg, tensor_type, unify_dim,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{CmpOp, Scalar};
use crate::te::{self, StageKind};
use crate::tensor::Tensor;
use crate::tir::{Expr, LoopKind, Stmt};
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `trilu`.
    pub struct TriluAttrs {
        /// Whether the upper triangle is kept rather than the lower one.
        upper: bool = true,
    }
}

op_attrs! {
    /// Attributes of `matrix_set_diag`.
    pub struct MatrixSetDiagAttrs {
        /// The lowest diagonal to set; negative ones are below the main one.
        k1: i64 = 0,
        /// The highest diagonal to set.
        k2: i64 = 0,
        /// Whether diagonals above the main one stand at the right of their rows.
        super_diag_right_align: bool = true,
        /// Whether diagonals below the main one stand at the right of their rows.
        sub_diag_right_align: bool = false,
    }
}

op_attrs! {
    /// Attributes of `sequence_mask`.
    pub struct SequenceMaskAttrs {
        /// What replaces elements past the end of a sequence.
        mask_value: f64 = 0.0,
        /// The dimension of a sequence's elements, 0 or 1; the other one counts sequences.
        axis: i64 = 0,
    }
}

/// `trilu`: a triangle of each matrix.
pub static TRILU: OpDef = OpDef {
    name: "trilu",
    doc: "Keeps the elements on and above (or below) the diagonal `k` of each matrix, and zeros the others.",
    args: &["data", "k"],
    optional: 1,
    attrs: TriluAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_trilu,
    backward: no_backward,
    eval: eval_trilu,
    lower: Lower::Te(lower_trilu),
    onnx: &["Trilu"],
};

/// `matrix_set_diag`: replaces diagonals.
pub static MATRIX_SET_DIAG: OpDef = OpDef {
    name: "matrix_set_diag",
    doc: "Replaces the diagonals `k1..=k2` of each matrix by rows of the second tensor, the highest first.",
    args: &["input", "diagonal"],
    optional: 0,
    attrs: MatrixSetDiagAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_matrix_set_diag,
    backward: no_backward,
    eval: eval_matrix_set_diag,
    lower: Lower::Te(lower_matrix_set_diag),
    onnx: &[],
};

/// `sequence_mask`: replaces what is past the end of sequences.
pub static SEQUENCE_MASK: OpDef = OpDef {
    name: "sequence_mask",
    doc: "Replaces the elements at and past `valid_length[b]` along `axis` of sequence `b` by `mask_value`.",
    args: &["data", "valid_length"],
    optional: 0,
    attrs: SequenceMaskAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_sequence_mask,
    backward: no_backward,
    eval: eval_sequence_mask,
    lower: Lower::Te(lower_sequence_mask),
    onnx: &[],
};

/// `unravel_index`: coordinates from positions.
pub static UNRAVEL_INDEX: OpDef = OpDef {
    name: "unravel_index",
    doc: "The coordinates in a row-major tensor of `shape` of each position; a row a dimension.",
    args: &["indices", "shape"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: INT,
    infer: infer_unravel_index,
    backward: no_backward,
    eval: eval_unravel_index,
    lower: Lower::Te(lower_unravel_index),
    onnx: &[],
};

/// `invert_permutation`: where each index stands.
pub static INVERT_PERMUTATION: OpDef = OpDef {
    name: "invert_permutation",
    doc: "The inverse of a permutation: `out[data[i]] = i`. Where an index is missing, 0.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: INT,
    infer: infer_invert_permutation,
    backward: no_backward,
    eval: eval_invert_permutation,
    lower: Lower::Te(lower_invert_permutation),
    onnx: &[],
};

fn infer_trilu(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    if data.rank() < 2 {
        return Err(OpError::arg(0, format!("expected matrices, found a tensor of rank {}", data.rank())));
    }
    if args.len() > 1 && int_arg(args, 1)?.elements().is_none_or(|n| n != 1) {
        return Err(OpError::arg(1, "expected a scalar"));
    }
    Ok(args[0].clone())
}

fn eval_trilu(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let upper = attrs.read::<TriluAttrs>().upper;
    let k = match args.get(1) {
        Some(k) => integers(k.tensor()?)?.first().copied().unwrap_or(0),
        None => 0,
    };
    let [.., rows, columns] = data.shape() else { return Err(OpError::arg(0, "expected matrices")) };
    let (width, line) = (data.dtype().bytes(), columns * data.dtype().bytes());
    let filled = Tensor::filled(data.dtype(), data.shape(), |out| {
        if line == 0 {
            return;
        }
        for (r, (from, to)) in data.bytes().chunks_exact(line).zip(out.chunks_exact_mut(line)).enumerate() {
            let diagonal = ((r % rows) as i64).saturating_add(k);
            let kept = if upper {
                diagonal.clamp(0, *columns as i64) as usize * width..line
            } else {
                0..diagonal.saturating_add(1).clamp(0, *columns as i64) as usize * width
            };
            to[kept.clone()].copy_from_slice(&from[kept]);
        }
    });
    Ok(filled?.into())
}

fn lower_trilu(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let upper = attrs.read::<TriluAttrs>().upper;
    Ok(vec![g.compute("trilu", "elemwise", &out[0], |index| {
        let [.., row, column] = index else { return args[0].at(index) };
        let k = args.get(1).map_or(Expr::int(0), |k| index_expr(k.at(&vec![Expr::int(0); k.rank()])));
        // Comparing distances keeps a huge `k` from wrapping around.
        let op = if upper { CmpOp::Ge } else { CmpOp::Le };
        (column.clone() - row).cmp(op, k).select(args[0].at(index), zero(out[0].dtype))
    })])
}

/// The diagonals to set in matrices of known size.
struct Diagonals {
    attrs: MatrixSetDiagAttrs,
    rows: i64,
    columns: i64,
    /// The length of the longest one, as the second tensor's last dimension has it.
    longest: i64,
}

impl Diagonals {
    fn new(attrs: &Attrs, rows: usize, columns: usize) -> Result<Diagonals, OpError> {
        let a: MatrixSetDiagAttrs = attrs.read();
        let (rows, columns) = (rows as i64, columns as i64);
        let inside = |k: i64| (-rows < k && k < columns) || k == 0;
        if a.k1 > a.k2 || !inside(a.k1) || !inside(a.k2) {
            let (k1, k2) = (a.k1, a.k2);
            return Err(OpError::new(format!(
                "a matrix of {rows} x {columns} has no diagonals {k1} to {k2}"
            )));
        }
        let longest = (rows + a.k2.min(0)).min(columns + (-a.k1).min(0));
        Ok(Diagonals { attrs: a, rows, columns, longest })
    }

    /// Where the elements of diagonal `k` begin in its row.
    fn offset(&self, k: i64) -> i64 {
        let right =
            (k >= 0 && self.attrs.super_diag_right_align) || (k <= 0 && self.attrs.sub_diag_right_align);
        if right { self.longest - self.len(k) } else { 0 }
    }

    fn len(&self, k: i64) -> i64 {
        (self.rows + k.min(0)).min(self.columns + (-k).min(0))
    }

    fn is_single(&self) -> bool {
        self.attrs.k1 == self.attrs.k2
    }
}

fn infer_matrix_set_diag(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (input, diagonal) = (tensor_arg(args, 0)?, tensor_arg(args, 1)?);
    same_dtype(args, 0, 1)?;
    let [batch @ .., rows, columns] = input.shape.as_slice() else {
        return Err(OpError::arg(0, format!("expected matrices, found a tensor of rank {}", input.rank())));
    };
    let (Some(rows), Some(columns)) = (rows.as_static(), columns.as_static()) else {
        return Ok(args[0].clone());
    };
    let d = Diagonals::new(attrs, rows, columns)?;
    let mut expected = batch.to_vec();
    if !d.is_single() {
        expected.push(Dim::Static((d.attrs.k2 - d.attrs.k1 + 1) as usize));
    }
    expected.push(Dim::Static(d.longest as usize));
    let alike = diagonal.rank() == expected.len()
        && diagonal.shape.iter().zip(&expected).all(|(a, b)| unify_dim(a, b).is_some());
    if alike {
        return Ok(args[0].clone());
    }
    let (found, expected) = (show_dims(&diagonal.shape), show_dims(&expected));
    Err(OpError::arg(1, format!("the diagonals have shape {found}, expected {expected}")))
}

fn eval_matrix_set_diag(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (input, diagonal) = (args[0].tensor()?, args[1].tensor()?);
    let [batch @ .., rows, columns] = input.shape() else { return Err(OpError::arg(0, "expected matrices")) };
    let d = Diagonals::new(attrs, *rows, *columns)?;
    let (batches, width) = (batch.iter().product::<usize>(), input.dtype().bytes());
    let bands = (d.attrs.k2 - d.attrs.k1 + 1) as usize;
    let filled = Tensor::filled(input.dtype(), input.shape(), |out| {
        out.copy_from_slice(input.bytes());
        for k in d.attrs.k1..=d.attrs.k2 {
            let (band, len) = ((d.attrs.k2 - k) as usize, d.len(k).max(0) as usize);
            let first = (-k).max(0) as usize * columns + k.max(0) as usize;
            let to = Layout {
                offset: first as isize,
                strides: vec![(rows * columns) as isize, *columns as isize + 1],
            };
            let longest = d.longest as usize;
            let begin = band * longest + d.offset(k) as usize;
            let from = Layout { offset: begin as isize, strides: vec![(bands * longest) as isize, 1] };
            copy(width, &[batches, len], diagonal.bytes(), &from, out, &to);
        }
    });
    Ok(filled?.into())
}

fn lower_matrix_set_diag(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (input, diagonal) = (&args[0], &args[1]);
    let [.., rows, columns] = input.shape[..] else { return Err(OpError::arg(0, "expected matrices")) };
    let d = Diagonals::new(attrs, rows, columns)?;
    Ok(vec![g.compute("matrix_set_diag", "injective", &out[0], |index| {
        let [batch @ .., row, column] = index else { return input.at(index) };
        (d.attrs.k1..=d.attrs.k2).fold(input.at(index), |rest, k| {
            let mut from = batch.to_vec();
            if !d.is_single() {
                from.push(Expr::int(d.attrs.k2 - k));
            }
            from.push(column.clone() + (d.offset(k) - k.max(0)));
            (column.clone() - row).equal(k).select(diagonal.at(&from), rest)
        })
    })])
}

/// The dimension of elements and the dimension of sequences.
fn mask_axes(attrs: &Attrs, rank: usize) -> Result<(usize, usize), OpError> {
    let axis = normalize_axis(attrs.read::<SequenceMaskAttrs>().axis, rank)?;
    if rank < 2 || axis > 1 {
        return Err(OpError::new("sequences lie along dimension 0 or 1 of a tensor of rank 2 or more"));
    }
    Ok((axis, 1 - axis))
}

fn infer_sequence_mask(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, lengths) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let (_, batch) = mask_axes(attrs, data.rank())?;
    match lengths.shape.as_slice() {
        [n] if unify_dim(n, &data.shape[batch]).is_some() => Ok(args[0].clone()),
        _ => Err(OpError::arg(1, format!("expected one length for each of {} sequences", data.shape[batch]))),
    }
}

fn mask_value(attrs: &Attrs, dtype: DType) -> Scalar {
    Scalar::from_f64(dtype, attrs.read::<SequenceMaskAttrs>().mask_value)
}

fn eval_sequence_mask(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, lengths) = (args[0].tensor()?, integers(args[1].tensor()?)?);
    let (seq, batch) = mask_axes(attrs, data.rank())?;
    let (dense, n) = (Layout::dense(data.shape()), data.shape()[seq]);
    let mask = mask_value(attrs, data.dtype());
    let filled = Tensor::filled(data.dtype(), data.shape(), |out| {
        out.copy_from_slice(data.bytes());
        let mut shape = data.shape().to_vec();
        shape[batch] = 1;
        words!(data.dtype().bytes(), T => {
            let out = bytemuck::cast_slice_mut::<u8, T>(out);
            for (b, &length) in lengths.iter().enumerate() {
                let length = length.clamp(0, n as i64) as usize;
                shape[seq] = n - length;
                let rest = dense.clone().sliced(batch, b as isize, 1).sliced(seq, length as isize, 1);
                each_place(&shape, &rest, |place| out[place] = mask.bits() as T);
            }
        });
    });
    Ok(filled?.into())
}

fn lower_sequence_mask(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (seq, batch) = mask_axes(attrs, args[0].rank())?;
    let mask = Expr::constant(mask_value(attrs, out[0].dtype));
    Ok(vec![g.compute("sequence_mask", "injective", &out[0], |index| {
        let length = index_expr(args[1].at(&[index[batch].clone()]));
        index[seq].clone().lt(length).select(args[0].at(index), mask)
    })])
}

fn infer_unravel_index(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (indices, shape) = (int_arg(args, 0)?, int_arg(args, 1)?);
    let [rank] = shape.shape.as_slice() else {
        return Err(OpError::arg(1, "expected a shape, a vector"));
    };
    let mut dims = vec![rank.clone()];
    dims.extend_from_slice(&indices.shape);
    tensor_type(dims, indices.dtype)
}

fn eval_unravel_index(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (mut rest, shape) = (integers(args[0].tensor()?)?, integers(args[1].tensor()?)?);
    let dtype = args[0].tensor()?.dtype();
    let mut out = vec![0i64; rest.len() * shape.len()];
    for (d, &n) in shape.iter().enumerate().rev() {
        for (slot, left) in out[d * rest.len()..].iter_mut().zip(&mut rest) {
            // The outermost coordinate takes whatever is left; division by 0 gives 0 as everywhere.
            let (quotient, remainder) = floor_divide(*left, n);
            *slot = if d == 0 { *left } else { remainder };
            *left = quotient;
        }
    }
    Ok(from_integers(&sizes(ty)?, &out, dtype)?.into())
}

/// Quotient and remainder of a floored division, 0 where the divisor is.
fn floor_divide(a: i64, n: i64) -> (i64, i64) {
    use crate::scalar::{BinaryOp, binary};
    let [q, r] =
        [BinaryOp::FloorDiv, BinaryOp::FloorMod].map(|op| binary(op, Scalar::of(a), Scalar::of(n)).as_i64());
    (q, r)
}

fn lower_unravel_index(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (indices, shape) = (&args[0], &args[1]);
    let rank = shape.shape[0];
    Ok(vec![g.compute("unravel_index", "injective", &out[0], |index| {
        let mut left = index_expr(indices.at(&index[1..]));
        let mut value = zero(DType::I64);
        for d in (0..rank).rev() {
            let n = index_expr(shape.at(&[Expr::int(d as i64)]));
            let coordinate = if d == 0 { left.clone() } else { left.clone().floor_mod(n.clone()) };
            value = index[0].clone().equal(d).select(coordinate, value);
            left = left.floor_div(n);
        }
        value.cast(out[0].dtype)
    })])
}

fn infer_invert_permutation(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    match int_arg(args, 0)?.rank() {
        1 => Ok(args[0].clone()),
        rank => Err(OpError::arg(0, format!("expected a vector, found a tensor of rank {rank}"))),
    }
}

fn eval_invert_permutation(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let mut inverse = vec![0i64; data.len()];
    for (i, &at) in integers(data)?.iter().enumerate() {
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| inverse.get_mut(at)) {
            *slot = i as i64;
        }
    }
    Ok(from_integers(data.shape(), &inverse, data.dtype())?.into())
}

fn lower_invert_permutation(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, dtype) = (&args[0], out[0].dtype);
    let result = g.tensor("invert_permutation", &data.shape, dtype);
    let (clear, i, at) =
        (g.axis("i", data.shape[0]), g.axis("i", data.shape[0]), g.axis("at", data.shape[0]));
    let each = |axis: &te::Axis, body: Stmt| Stmt::For {
        var: axis.var,
        extent: axis.extent.into(),
        kind: LoopKind::Serial,
        body: Box::new(body),
    };
    let store = |at: Expr, value: Expr| Stmt::Store { buffer: result.id, indices: vec![at], value };
    let inside = at.expr().ge(0i64).and(at.expr().lt(at.extent));
    let write = Stmt::Seq(vec![
        Stmt::Let { var: at.var, value: index_expr(data.at(&[i.expr()])) },
        Stmt::If { cond: inside, then: Box::new(store(at.expr(), i.expr().cast(dtype))), els: None },
    ]);
    let body = Stmt::Seq(vec![each(&clear, store(clear.expr(), zero(dtype))), each(&i, write)]);
    let kind = StageKind::Extern { inputs: vec![data.id], allocs: Vec::new(), body };
    g.push("invert_permutation", "invert_permutation", &[result.id], kind);
    Ok(vec![result])
}
