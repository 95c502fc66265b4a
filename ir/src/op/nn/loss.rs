//! Losses: `nn.nll_loss`, `nn.cross_entropy` and `nn.cross_entropy_with_logits`.

use std::sync::Arc;

use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, one_of, ranked, same_dim, shape_of};
use crate::op::num::{Real, read, with_real, write};
use crate::op::util::{FLOAT, INT, accumulator, integers, tensor_arg, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::UnaryOp;
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of [`NLL_LOSS`].
    pub struct NllLossAttrs {
        /// `mean` (by weight), `sum` or `none`.
        reduction: Arc<str> = "mean".into(),
        /// The target that does not count.
        ignore_index: i64,
    }
}

/// `-weights[t] * predictions[n, t, ..]` for the targets t.
pub static NLL_LOSS: OpDef = OpDef {
    name: "nn.nll_loss",
    doc: "-weights[t] * predictions[n, t, ..] for the targets t in [n, ..]: their mean by weight, their sum, or each.",
    args: &["predictions", "targets", "weights"],
    optional: 0,
    attrs: NllLossAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: infer_nll,
    backward: no_backward,
    eval: |args, attrs, ty| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => nll::<F>(args, attrs, ty))
    },
    lower: Lower::Te(lower_nll),
    onnx: &["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"],
};

/// Declares a row of a sum over the batch.
macro_rules! row {
    ($id:ident, $name:literal, $doc:literal, $log:literal) => {
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: &["predictions", "targets"],
            optional: 0,
            attrs: &[],
            pattern: FusePattern::OutElemwiseFusable,
            purity: Purity::Pure,
            dtypes: FLOAT,
            infer: |args, _| infer_cross(args),
            backward: no_backward,
            eval: |args, _, _| {
                let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => cross::<F>(args, $log))
            },
            lower: Lower::Te(|g, args, _, out| Ok(vec![lower_cross(g, args, &out[0], $log)])),
            onnx: &[],
        };
    };
}
row!(CROSS_ENTROPY, "nn.cross_entropy", "-sum(targets * log(predictions)) over the batch's size.", true);
row!(
    CROSS_ENTROPY_WITH_LOGITS,
    "nn.cross_entropy_with_logits",
    "-sum(targets * predictions) over the batch's size; the predictions are logarithms.",
    false
);

fn infer_nll(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: NllLossAttrs = attrs.read();
    one_of("reduction", &a.reduction, &["mean", "sum", "none"])?;
    let dtype = dtype_in(args, 0, FLOAT)?;
    dtype_in(args, 1, INT)?;
    has_dtype(args, 2, dtype)?;
    let predictions = tensor_arg(args, 0)?;
    if predictions.rank() < 2 {
        return Err(OpError::arg(0, "expected a tensor of rank 2 or more"));
    }
    let targets = ranked(args, 1, predictions.rank() - 1)?;
    same_dim(2, "the number of classes", &ranked(args, 2, 1)?.shape[0], &predictions.shape[1])?;
    let own = [&predictions.shape[..1], &predictions.shape[2..]].concat();
    let shape = targets.shape.iter().zip(&own).map(|(t, p)| same_dim(1, "a dimension", t, p));
    let shape = shape.collect::<Result<Vec<_>, _>>()?;
    tensor_type(if &*a.reduction == "none" { shape } else { Vec::new() }, dtype)
}

fn nll<F: Real>(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let a: NllLossAttrs = attrs.read();
    let (shape, dtype) = shape_of(ty)?;
    let x = args[0].tensor()?;
    let (classes, inner) = (x.shape()[1], x.shape()[2..].iter().product::<usize>());
    let (predictions, weights) = (read::<F>(x), read::<F>(args[2].tensor()?));
    let (mut losses, mut total) = (Vec::new(), F::ZERO);
    for (i, t) in integers(args[1].tensor()?)?.into_iter().enumerate() {
        if t == a.ignore_index {
            losses.push(F::ZERO);
            continue;
        }
        let class = usize::try_from(t)
            .ok()
            .filter(|&t| t < classes)
            .ok_or_else(|| OpError::arg(1, format!("target {t} is none of {classes} classes")))?;
        let p = predictions[(i / inner * classes + class) * inner + i % inner];
        losses.push(F::ZERO - p * weights[class]);
        total = total + weights[class];
    }
    let sum = losses.iter().fold(F::ZERO, |s, &v| s + v);
    let result = match &*a.reduction {
        "none" => losses,
        "sum" => vec![sum],
        _ => vec![sum / total],
    };
    Ok(write(dtype, &shape, &result)?.into())
}

fn lower_nll(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: NllLossAttrs = attrs.read();
    let (x, targets, weights) = (&args[0], &args[1], &args[2]);
    let acc = accumulator(x.dtype);
    let each = TensorType::of(&targets.shape, acc);
    let last = x.shape[1].saturating_sub(1);
    let zero = || Expr::float(0.0, acc);
    let class = |i: &[Expr]| targets.at(i).cast(DType::I64).max(0i64).min(last);
    let counted =
        |i: &[Expr], value: Expr| targets.at(i).cast(DType::I64).equal(a.ignore_index).select(zero(), value);
    let weight = |i: &[Expr]| stages::widen(weights.at(&[class(i)]));
    let losses = g.compute("nll_loss_each", "injective", &each, |i| {
        let at = [&i[..1], &[class(i)], &i[1..]].concat();
        counted(i, -(stages::widen(x.at(&at)) * weight(i)))
    });
    if &*a.reduction == "none" {
        return Ok(vec![stages::convert(g, "nll_loss", losses, x.dtype)]);
    }
    let scalar = TensorType::of(&[], acc);
    let sum = stages::sum(g, "nll_loss_sum", "nll_loss_sum", &scalar, &targets.shape, |_, k| losses.at(k));
    if &*a.reduction == "sum" {
        return Ok(vec![stages::convert(g, "nll_loss", sum, x.dtype)]);
    }
    let total = stages::sum(g, "nll_loss_weight", "nll_loss_weight", &scalar, &targets.shape, |_, k| {
        counted(k, weight(k))
    });
    Ok(vec![g.compute("nll_loss", "elemwise", &out[0], |_| (sum.at(&[]) / total.at(&[])).cast(x.dtype))])
}

fn infer_cross(args: &[Type]) -> Result<Type, OpError> {
    let dtype = dtype_in(args, 0, FLOAT)?;
    has_dtype(args, 1, dtype)?;
    let (x, y) = (ranked(args, 0, 2)?, ranked(args, 1, 2)?);
    for (a, b) in x.shape.iter().zip(&y.shape) {
        same_dim(1, "a dimension", b, a)?;
    }
    tensor_type(Vec::new(), dtype)
}

fn cross<F: Real>(args: &[Value], log: bool) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let (predictions, targets) = (read::<F>(x), read::<F>(args[1].tensor()?));
    let term = |(&p, &t): (&F, &F)| if log { p.ln() * t } else { p * t };
    let sum = predictions.iter().zip(targets.iter()).map(term).fold(F::ZERO, |s, v| s + v);
    Ok(write(x.dtype(), &[], &[F::ZERO - sum / F::of(x.shape()[0] as f64)])?.into())
}

fn lower_cross(g: &mut Graph, args: &[te::Tensor], out: &TensorType, log: bool) -> te::Tensor {
    let (x, y) = (&args[0], &args[1]);
    let acc = accumulator(x.dtype);
    let scalar = TensorType::of(&[], acc);
    let sum = stages::sum(g, "cross_entropy_sum", "cross_entropy_sum", &scalar, &x.shape, |_, k| {
        let p = stages::widen(x.at(k));
        (if log { p.unary(UnaryOp::Log) } else { p }) * stages::widen(y.at(k))
    });
    let n = Expr::float(x.shape[0] as f64, acc);
    g.compute("cross_entropy", "elemwise", out, |_| (Expr::float(0.0, acc) - sum.at(&[]) / n).cast(x.dtype))
}
