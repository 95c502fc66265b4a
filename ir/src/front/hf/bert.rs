//! The graph of a BERT encoder (Devlin et al., 2018), with the pooling behind it.

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::config::{Activation, Config};
use super::pooling::{Pooling, Tokens};
use super::{EMBEDDING, INPUTS, OUTPUTS};
use crate::build::Builder;
use crate::diag::{Diagnostic, Source, SourceId, Span};
use crate::expr::{Expr, ExprId, Global, Module};
use crate::front::names_attr;
use crate::op::broadcast::{ADD, DIVIDE, MAXIMUM, MULTIPLY, NOT_EQUAL, WHERE};
use crate::op::elemwise::convert::{CAST, CastAttrs};
use crate::op::elemwise::{ERF, SQRT};
use crate::op::index::take::{TAKE, TakeAttrs};
use crate::op::nn::{
    BATCH_MATMUL, BIAS_ADD, BatchMatmulAttrs, BiasAddAttrs, DENSE, DenseAttrs, RELU, SOFTMAX, SoftmaxAttrs,
};
use crate::op::norm::{LAYER_NORM, LayerNormAttrs};
use crate::op::reduce::{ReduceAttrs, SUM};
use crate::op::transform::{
    EXPAND_DIMS, ExpandDimsAttrs, RESHAPE, ReshapeAttrs, SLICE_LIKE, SliceLikeAttrs, TRANSPOSE,
    TransposeAttrs,
};
use crate::op::{Attrs, OpAttrs, OpDef};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

/// Added to the scores of tokens that the mask leaves out, as the reference does: the weights
/// are 0 unless all are left out, which then weigh the same.
const MASKED: f32 = f32::MIN;

/// Keeps the mean over no token finite, as sentence-transformers does.
const MIN_COUNT: f32 = 1e-9;

/// Keeps the direction of a zero vector finite, as PyTorch's `normalize` does.
const MIN_LENGTH: f32 = 1e-12;

type Step = Result<ExprId, Diagnostic>;

/// Builds the module of an encoder whose checkpoint has been checked.
pub(super) fn build(
    dir: &Path,
    config: &Config,
    pooling: Pooling,
    checkpoint: &Checkpoint,
) -> Result<Module, Diagnostic> {
    let mut module = Module::new();
    let source = module.sources.push(Source { name: dir.display().to_string().into(), text: "".into() });
    let mut net = Net { build: Builder::new(&mut module), source, config, checkpoint };
    let shape = vec![Dim::Sym("batch".into()), Dim::Sym("seq".into())];
    let ty = Type::from(TensorType::new(shape, DType::I64));
    let [(ids, ids_use), (mask, mask_use), (kinds, kinds_use)] =
        INPUTS.map(|name| net.build.param(name, ty.clone()));
    net.at("attention_mask");
    let zero = net.build.constant(Tensor::scalar(0i64));
    let kept = net.call(&NOT_EQUAL, &[mask_use, zero])?;
    let mut x = net.embeddings(ids_use, kinds_use)?;
    let bias = net.mask_bias(kept)?;
    for layer in 0..config.layers {
        x = net.layer(&format!("encoder.layer.{layer}"), x, bias)?;
    }
    net.at(EMBEDDING);
    let embedding = net.pooled(x, kept, pooling)?;
    let body = net.build.tuple(&[x, embedding])?;
    let mut func = net.build.function(&[ids, mask, kinds], body)?;
    func.attrs.insert("outputs".into(), names_attr(&OUTPUTS));
    module.globals.push(Global { name: "main".into(), func: Some(func) });
    Ok(module)
}

/// An encoder under construction.
struct Net<'a> {
    build: Builder<'a>,
    source: SourceId,
    config: &'a Config,
    checkpoint: &'a Checkpoint,
}

impl Net<'_> {
    /// Locates what is built from now on.
    fn at(&mut self, path: &str) {
        self.build.with_span(Span::Node { source: self.source, path: path.into() });
    }

    fn call(&mut self, op: &'static OpDef, args: &[ExprId]) -> Step {
        self.build.call(op, args, Attrs::NONE)
    }

    fn scalar(&mut self, value: f32) -> ExprId {
        self.build.constant(Tensor::scalar(value))
    }

    /// A tensor of the checkpoint, in float32.
    fn weight(&mut self, name: &str) -> Step {
        let (full, tensor) = self.checkpoint.tensor(name);
        let dtype = tensor.dtype();
        let weight = self.build.constant(tensor);
        let module = self.build.module();
        if let Expr::Const(id) = module.exprs[weight] {
            module.consts[id].name = Some(full.into());
        }
        match dtype {
            DType::F32 => Ok(weight),
            _ => self.build.call(&CAST, &[weight], CastAttrs { dtype: DType::F32 }.attrs()),
        }
    }

    fn dense(&mut self, path: &str, x: ExprId) -> Step {
        self.at(path);
        let weight = self.weight(&format!("{path}.weight"))?;
        let bias = self.weight(&format!("{path}.bias"))?;
        let y = self.build.call(&DENSE, &[x, weight], DenseAttrs { units: None, out_dtype: None }.attrs())?;
        self.build.call(&BIAS_ADD, &[y, bias], BiasAddAttrs { axis: -1 }.attrs())
    }

    fn layer_norm(&mut self, path: &str, x: ExprId) -> Step {
        self.at(path);
        let gamma = self.weight(&format!("{path}.weight"))?;
        let beta = self.weight(&format!("{path}.bias"))?;
        let attrs = LayerNormAttrs { axis: -1, epsilon: self.config.epsilon, center: true, scale: true };
        self.build.call(&LAYER_NORM, &[x, gamma, beta], attrs.attrs())
    }

    fn expand(&mut self, x: ExprId, axis: i64, num_newaxis: i64) -> Step {
        self.build.call(&EXPAND_DIMS, &[x], ExpandDimsAttrs { axis, num_newaxis }.attrs())
    }

    /// The sum of the embeddings of tokens, their kinds and their places, normalised.
    fn embeddings(&mut self, ids: ExprId, kinds: ExprId) -> Step {
        self.at("embeddings");
        let rows = TakeAttrs { batch_dims: 0, axis: Some(0), mode: "clip".into() };
        let words = self.weight("embeddings.word_embeddings.weight")?;
        let words = self.build.call(&TAKE, &[words, ids], rows.attrs())?;
        let types = self.weight("embeddings.token_type_embeddings.weight")?;
        let types = self.build.call(&TAKE, &[types, kinds], rows.attrs())?;
        let x = self.call(&ADD, &[words, types])?;
        let places = self.weight("embeddings.position_embeddings.weight")?;
        let places = self.expand(places, 0, 1)?;
        let first = SliceLikeAttrs { axes: Some(vec![1]) };
        let places = self.build.call(&SLICE_LIKE, &[places, x], first.attrs())?;
        let x = self.call(&ADD, &[x, places])?;
        self.layer_norm("embeddings.LayerNorm", x)
    }

    /// What is added to the scores, `[batch, 1, 1, seq]`.
    fn mask_bias(&mut self, kept: ExprId) -> Step {
        self.at("attention_mask");
        let (none, masked) = (self.scalar(0.0), self.scalar(MASKED));
        let bias = self.call(&WHERE, &[kept, none, masked])?;
        self.expand(bias, 1, 2)
    }

    fn layer(&mut self, path: &str, x: ExprId, bias: ExprId) -> Step {
        let attended = self.attention(&format!("{path}.attention.self"), x, bias)?;
        let projected = self.dense(&format!("{path}.attention.output.dense"), attended)?;
        let sum = self.call(&ADD, &[projected, x])?;
        let x = self.layer_norm(&format!("{path}.attention.output.LayerNorm"), sum)?;
        let inner = self.dense(&format!("{path}.intermediate.dense"), x)?;
        let inner = self.activation(inner)?;
        let outer = self.dense(&format!("{path}.output.dense"), inner)?;
        let sum = self.call(&ADD, &[outer, x])?;
        self.layer_norm(&format!("{path}.output.LayerNorm"), sum)
    }

    fn attention(&mut self, path: &str, x: ExprId, bias: ExprId) -> Step {
        let mut heads = [x; 3];
        for (part, head) in ["query", "key", "value"].iter().zip(&mut heads) {
            let projected = self.dense(&format!("{path}.{part}"), x)?;
            *head = self.split_heads(projected)?;
        }
        let [query, key, value] = heads;
        self.at(path);
        let product = |transpose_b| BatchMatmulAttrs { out_dtype: None, transpose_a: false, transpose_b };
        let scores = self.build.call(&BATCH_MATMUL, &[query, key], product(true).attrs())?;
        let size = self.config.hidden / self.config.heads;
        let scale = self.scalar((1.0 / (size as f64).sqrt()) as f32);
        let scores = self.call(&MULTIPLY, &[scores, scale])?;
        let scores = self.call(&ADD, &[scores, bias])?;
        let shares = self.build.call(&SOFTMAX, &[scores], SoftmaxAttrs { axis: -1 }.attrs())?;
        let y = self.build.call(&BATCH_MATMUL, &[shares, value], product(false).attrs())?;
        let y = self.build.call(&TRANSPOSE, &[y], heads_outside().attrs())?;
        self.reshape(y, vec![0, 0, self.config.hidden as i64])
    }

    /// `[batch, seq, hidden]` as `[batch, heads, seq, hidden / heads]`.
    fn split_heads(&mut self, x: ExprId) -> Step {
        let heads = self.config.heads;
        let x = self.reshape(x, vec![0, 0, heads as i64, (self.config.hidden / heads) as i64])?;
        self.build.call(&TRANSPOSE, &[x], heads_outside().attrs())
    }

    fn reshape(&mut self, x: ExprId, newshape: Vec<i64>) -> Step {
        self.build.call(&RESHAPE, &[x], ReshapeAttrs { newshape, allowzero: false }.attrs())
    }

    fn activation(&mut self, x: ExprId) -> Step {
        match self.config.activation {
            Activation::Relu => self.call(&RELU, &[x]),
            Activation::Gelu => {
                let (half, one) = (self.scalar(0.5), self.scalar(1.0));
                let root = self.scalar(std::f32::consts::FRAC_1_SQRT_2);
                let scaled = self.call(&MULTIPLY, &[x, root])?;
                let erf = self.call(&ERF, &[scaled])?;
                let share = self.call(&ADD, &[erf, one])?;
                let halved = self.call(&MULTIPLY, &[x, half])?;
                self.call(&MULTIPLY, &[halved, share])
            }
        }
    }

    /// The embedding of the sentence, `[batch, hidden]`.
    fn pooled(&mut self, x: ExprId, kept: ExprId, pooling: Pooling) -> Step {
        let pooled = match pooling.tokens {
            Tokens::First => {
                let zero = self.build.constant(Tensor::scalar(0i64));
                let first = TakeAttrs { batch_dims: 0, axis: Some(1), mode: "clip".into() };
                self.build.call(&TAKE, &[x, zero], first.attrs())?
            }
            Tokens::Mean => {
                let kept = self.build.call(&CAST, &[kept], CastAttrs { dtype: DType::F32 }.attrs())?;
                let kept = self.expand(kept, -1, 1)?;
                let x = self.call(&MULTIPLY, &[x, kept])?;
                let sum = self.sum(x, false)?;
                let count = self.sum(kept, false)?;
                let least = self.scalar(MIN_COUNT);
                let count = self.call(&MAXIMUM, &[count, least])?;
                self.call(&DIVIDE, &[sum, count])?
            }
        };
        if !pooling.normalize {
            return Ok(pooled);
        }
        let squares = self.call(&MULTIPLY, &[pooled, pooled])?;
        let squares = self.sum(squares, true)?;
        let length = self.call(&SQRT, &[squares])?;
        let least = self.scalar(MIN_LENGTH);
        let length = self.call(&MAXIMUM, &[length, least])?;
        self.call(&DIVIDE, &[pooled, length])
    }

    /// The sum over the second dimension.
    fn sum(&mut self, x: ExprId, keepdims: bool) -> Step {
        let attrs = ReduceAttrs { axis: Some(vec![1]), keepdims, exclude: false };
        self.build.call(&SUM, &[x], attrs.attrs())
    }
}

/// Swaps the dimensions of heads and places.
fn heads_outside() -> TransposeAttrs {
    TransposeAttrs { axes: Some(vec![0, 2, 1, 3]) }
}
