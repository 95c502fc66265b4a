//! `quant.contrib_dense_pack`: `quant.dense` on a weight in the panels that micro-kernels read.
//!
//! Panels are [ceil(n / 16), ceil(k / 4), 16, 4]: four steps of k lie together, as instructions
//! multiply them, for each of 16 channels. The sums of the weight's rows come as an argument,
//! for instructions that take the data as unsigned.

use super::dense::{parameter, real, sums};
use crate::eval::Value;
use crate::op::check::{has_dtype, ranked, same_dim, shape_of, size};
use crate::op::gemm::{Strides, pack};
use crate::op::num::{read, write};
use crate::op::util::{tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`QUANT_DENSE_PACK`].
    pub struct QuantDensePackAttrs {
        /// Rows of the weight before packing.
        units: i64,
    }
}

/// Columns of a panel of [`QUANT_DENSE_PACK`], and how many numbers along k lie together.
pub const PANEL: [usize; 2] = [16, 4];

/// [`QUANT_DENSE`](super::QUANT_DENSE) on a weight that [`QUANT_DENSE_PACK_WEIGHT`] packed.
pub static QUANT_DENSE_PACK: OpDef = OpDef {
    name: "quant.contrib_dense_pack",
    doc: "quant.dense on a weight packed into panels [ceil(units / 16), ceil(k / 4), 16, 4], with the sums of its rows.",
    args: &["data", "weight", "weight_sums", "data_scale", "weight_scale", "bias"],
    optional: 0,
    attrs: QuantDensePackAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: &[DType::I8],
    infer: infer_packed,
    backward: no_backward,
    eval: eval_packed,
    lower: Lower::Te(lower_packed),
    onnx: &[],
};

/// Packs the weight of [`QUANT_DENSE`](super::QUANT_DENSE) into panels, so that it happens when constants fold.
pub static QUANT_DENSE_PACK_WEIGHT: OpDef = OpDef {
    name: "quant.contrib_dense_pack_weight",
    doc: "A weight [n, k] as panels [ceil(n / 16), ceil(k / 4), 16, 4], zeros past n and k.",
    args: &["weight"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &[DType::I8],
    infer: infer_pack,
    backward: no_backward,
    eval: eval_pack,
    lower: Lower::Te(lower_pack),
    onnx: &[],
};

fn infer_packed(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, weight) = (tensor_arg(args, 0)?, ranked(args, 1, 4)?);
    let Some((k, rows)) = data.shape.split_last() else {
        return Err(OpError::arg(0, "expected a tensor with rows, found a scalar"));
    };
    let units = size("units", attrs.read::<QuantDensePackAttrs>().units, 0)?;
    let [nr, kr] = PANEL;
    let groups = k.as_static().map_or(Dim::Any, |k| k.div_ceil(kr).into());
    let expected = [units.div_ceil(nr).into(), groups, nr.into(), kr.into()];
    for (own, dim) in weight.shape.iter().zip(&expected) {
        same_dim(1, "a dimension of the panels", own, dim)?;
    }
    has_dtype(args, 1, DType::I8)?;
    let channels = [Dim::Static(units)];
    let vectors = [(2, DType::I32, &channels[..]), (3, DType::F32, rows)];
    for (i, dtype, dims) in vectors.into_iter().chain([4, 5].map(|i| (i, DType::F32, &channels[..]))) {
        has_dtype(args, i, dtype)?;
        let own = ranked(args, i, dims.len())?;
        own.shape
            .iter()
            .zip(dims)
            .try_for_each(|(own, dim)| same_dim(i, "a dimension", own, dim).map(drop))?;
    }
    tensor_type([rows, &channels[..]].concat(), DType::F32)
}

fn eval_packed(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, weight) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let n = shape[shape.len() - 1];
    let k = data.shape()[data.rank() - 1];
    let [nr, kr] = PANEL;
    let groups = k.div_ceil(kr);
    let panels = read::<i32>(weight);
    let mut b = vec![0; n * k];
    for (i, v) in b.iter_mut().enumerate() {
        let (column, p) = (i / k, i % k);
        *v = panels[((column / nr * groups + p / kr) * nr + column % nr) * kr + p % kr];
    }
    let sums = sums(&read::<i32>(data), &pack(&b, k, n, Strides { row: 1, col: k }), k, n, &shape);
    let scales = [parameter(args, 3, 1f32)?, parameter(args, 4, 1f32)?];
    Ok(write(dtype, &shape, &real(&sums, n, scales, parameter(args, 5, 0f32)?))?.into())
}

fn lower_packed(
    g: &mut Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, weight) = (&args[0], &args[1]);
    let [nr, kr] = PANEL;
    let wide = TensorType::new(out[0].shape.clone(), DType::I32);
    let k = data.shape[data.rank() - 1];
    let sum = stages::sum(g, "quant_dense", "quant_dense_pack", &wide, &[k], |i, k| {
        let (column, rows) = i.split_last().expect("a result has columns");
        let (panel, lane) = (column.clone().floor_div(nr), column.clone().floor_mod(nr));
        let (group, part) = (k[0].clone().floor_div(kr), k[0].clone().floor_mod(kr));
        let b = weight.at(&[panel, group, lane, part]).cast(DType::I32);
        data.at(&[rows, &k[..1]].concat()).cast(DType::I32) * b
    });
    Ok(vec![g.compute("quant_dense_real", "elemwise", &out[0], |i| {
        let (column, rows) = i.split_last().expect("a result has columns");
        let column = std::slice::from_ref(column);
        let scale = args[3].at(rows) * args[4].at(column);
        sum.at(i).cast(DType::F32).fma(scale, args[5].at(column))
    })])
}

fn infer_pack(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let weight = ranked(args, 0, 2)?;
    let [nr, kr] = PANEL;
    let count = |dim: &Dim, of: usize| dim.as_static().map_or(Dim::Any, |n| n.div_ceil(of).into());
    let shape = vec![count(&weight.shape[0], nr), count(&weight.shape[1], kr), nr.into(), kr.into()];
    tensor_type(shape, DType::I8)
}

fn eval_pack(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let weight = args[0].tensor()?;
    let (shape, dtype) = shape_of(ty)?;
    const NR: usize = PANEL[0];
    const KR: usize = PANEL[1];
    let (k, groups) = (weight.shape()[1], shape[1]);
    let packed = Tensor::filled(dtype, &shape, |bytes| {
        for (row, steps) in weight.bytes().chunks_exact(k.max(1)).enumerate() {
            let first = (row / NR * groups * NR + row % NR) * KR;
            let (whole, rest) = steps.as_chunks::<KR>();
            for (group, steps) in whole.iter().enumerate() {
                bytes[first + group * NR * KR..][..KR].copy_from_slice(steps);
            }
            if !rest.is_empty() {
                bytes[first + whole.len() * NR * KR..][..rest.len()].copy_from_slice(rest);
            }
        }
    });
    Ok(packed?.into())
}

fn lower_pack(
    g: &mut Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let weight = &args[0];
    let [nr, kr] = PANEL;
    Ok(vec![g.compute("quant_dense_pack_weight", "injective", &out[0], |i| {
        let (row, p) = (&i[0] * nr + &i[2], &i[1] * kr + &i[3]);
        let within = row.clone().lt(weight.shape[0]).and(p.clone().lt(weight.shape[1]));
        within.select(weight.at(&[row, p]), stages::zero(DType::I8))
    })])
}
