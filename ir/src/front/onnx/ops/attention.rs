//! Attention and what goes with it.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::nn::{SOFTMAX, SoftmaxAttrs};
use crate::op::reduce::MAX;
use crate::op::transform::{REPEAT, RepeatAttrs};
use crate::tensor::{Bool8, Tensor};
use crate::types::DType;

/// Attention.
pub(super) const ROWS: &[Row] = &[
    Row::new("Attention", attention),
    one!("RotaryEmbedding", rotary_embedding),
    one!("SwiGLU", |cx| {
        let (x, y) = (cx.arg(0)?, cx.arg(1)?);
        let gate = cx.float("alpha", 1.0)?;
        let x = cx.swish(x, gate)?;
        cx.mul(x, y)
    }),
];

/// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
fn split_heads(cx: &mut Cx<'_, '_>, x: ExprId, heads: &str) -> Step {
    if cx.rank(x)? == 4 {
        return Ok(x);
    }
    let Some(heads) = cx.int_opt(heads)?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) else {
        return wrong(format!("`{}` of inputs of rank 3 needs {heads}", cx.node.op_type));
    };
    let (length, width) = (cx.size(x, 1)?, cx.size(x, 2)?);
    if width % heads != 0 {
        return wrong(format!("{width} elements do not divide into {heads} heads"));
    }
    let x = cx.reshape_batch(x, &[length, heads, width / heads])?;
    cx.transpose(x, &[0, 2, 1, 3])
}

/// The inverse of [`split_heads`].
fn merge_heads(cx: &mut Cx<'_, '_>, x: ExprId) -> Step {
    let (heads, length, size) = (cx.size(x, 1)?, cx.size(x, 2)?, cx.size(x, 3)?);
    let x = cx.transpose(x, &[0, 2, 1, 3])?;
    cx.reshape_batch(x, &[length, heads * size])
}

fn attention(cx: &mut Cx<'_, '_>) -> Mapped {
    let (q, k, v) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let merged = cx.rank(q)? == 3;
    let q = split_heads(cx, q, "q_num_heads")?;
    let mut k = split_heads(cx, k, "kv_num_heads")?;
    let mut v = split_heads(cx, v, "kv_num_heads")?;
    let mut past = 0;
    if let (Some(past_k), Some(past_v)) = (cx.opt(4)?, cx.opt(5)?) {
        past = cx.size(past_k, 2)?;
        k = cx.concat(&[past_k, k], 2)?;
        v = cx.concat(&[past_v, v], 2)?;
    }
    let present = (k, v);
    let (heads, kv_heads) = (cx.size(q, 1)?, cx.size(k, 1)?);
    if heads != kv_heads {
        let attrs = RepeatAttrs { repeats: (heads / kv_heads.max(1)) as i64, axis: Some(1) };
        k = cx.call(&REPEAT, &[k], attrs.attrs())?;
        v = cx.call(&REPEAT, &[v], attrs.attrs())?;
    }
    let scale = match cx.float_opt("scale")? {
        Some(scale) => scale,
        None => 1.0 / (cx.size(q, 3)? as f64).sqrt(),
    };
    let scaled_q = cx.num(&b::MULTIPLY, q, scale.sqrt())?;
    let scaled_k = cx.num(&b::MULTIPLY, k, scale.sqrt())?;
    let raw = cx.batch_matmul(scaled_q, scaled_k, true)?;
    let capped = match cx.float("softcap", 0.0)? {
        0.0 => raw,
        cap => {
            let x = cx.num(&b::DIVIDE, raw, cap)?;
            let x = cx.un(&e::TANH, x)?;
            cx.num(&b::MULTIPLY, x, cap)?
        }
    };
    let (biased, masked) = biased(cx, capped, past)?;
    let weights = probabilities(cx, biased, masked)?;
    let y = cx.batch_matmul(weights, v, false)?;
    let y = if merged { merge_heads(cx, y)? } else { y };
    let shown = match cx.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => weights,
        mode => return wrong(format!("qk_matmul_output_mode {mode} does not exist")),
    };
    Ok(vec![Value::Tensor(y), Value::Tensor(present.0), Value::Tensor(present.1), Value::Tensor(shown)])
}

/// The scores with mask and causality; whether a row may be masked in whole.
fn biased(cx: &mut Cx<'_, '_>, scores: ExprId, past: usize) -> Step<(ExprId, bool)> {
    let mut x = scores;
    let mut masked = false;
    let dtype = cx.dtype(x)?;
    let lowest = cx.scalar(dtype, f64::NEG_INFINITY);
    let total = cx.size(x, 3)?;
    if let Some(mask) = cx.opt(3)? {
        masked = true;
        let is_bool = cx.dtype(mask)? == DType::Bool;
        let mask = lengthened(cx, mask, total, if is_bool { 0.0 } else { f64::NEG_INFINITY })?;
        x = match is_bool {
            true => cx.select(mask, x, lowest)?,
            false => cx.add(x, mask)?,
        };
    }
    if let Some(allowed) = allowed(cx, x, past)? {
        masked = true;
        x = cx.select(allowed, x, lowest)?;
    }
    if let Some(valid) = cx.opt(6)? {
        masked = true;
        let valid = cx.along(valid, 0, 4)?;
        let keys = cx.count_up(total, cx.dtype(valid)?, 3, 4)?;
        let valid = cx.bin(&b::LESS, keys, valid)?;
        x = cx.select(valid, x, lowest)?;
    }
    Ok((x, masked))
}

/// A mask whose last dimension is filled up to a length.
fn lengthened(cx: &mut Cx<'_, '_>, mask: ExprId, total: usize, fill: f64) -> Step {
    let rank = cx.rank(mask)?;
    let Some(last) = rank.checked_sub(1) else { return Ok(mask) };
    let own = cx.size(mask, last)?;
    if own >= total || own == 1 {
        return Ok(mask);
    }
    let mut shape = cx.shape(mask)?;
    shape[last] = total - own;
    let rest = cx.filled(&shape, cx.dtype(mask)?, fill)?;
    cx.concat(&[mask, rest], last)
}

/// Which keys a query may see by causality and the window, if there is either.
fn allowed(cx: &mut Cx<'_, '_>, scores: ExprId, past: usize) -> Step<Option<ExprId>> {
    let causal = cx.flag("is_causal", false)?;
    let (left, right) = (cx.int("left_window_size", -1)?, cx.int("right_window_size", -1)?);
    let right = match (causal, right) {
        (true, _) => 0,
        (false, right) => right,
    };
    if left < 0 && right < 0 {
        return Ok(None);
    }
    let (queries, keys) = (cx.size(scores, 2)?, cx.size(scores, 3)?);
    let Some(valid) = cx.opt(6)? else {
        let sees = |q: i64, k: i64| {
            let place = q + past as i64;
            (left < 0 || k >= place - left) && (right < 0 || k <= place + right)
        };
        let mask: Vec<Bool8> = (0..queries as i64)
            .flat_map(|q| (0..keys as i64).map(move |k| (q, k)))
            .map(|(q, k)| Bool8::from(sees(q, k)))
            .collect();
        let mask = Tensor::from_slice(&[queries, keys], &mask).or_else(|e| wrong(e.to_string()))?;
        return Ok(Some(cx.constant(mask)));
    };
    // The place of the first query follows from how many keys of a sample are valid.
    let valid = cx.cast(valid, DType::I64)?;
    let offset = cx.num(&b::SUBTRACT, valid, queries as f64)?;
    let offset = cx.along(offset, 0, 4)?;
    let place = cx.count_up(queries, DType::I64, 2, 4)?;
    let place = cx.add(place, offset)?;
    let keys = cx.count_up(keys, DType::I64, 3, 4)?;
    let mut sees = None;
    if left >= 0 {
        let first = cx.num(&b::SUBTRACT, place, left as f64)?;
        sees = Some(cx.bin(&b::GREATER_EQUAL, keys, first)?);
    }
    if right >= 0 {
        let last = cx.num(&b::ADD, place, right as f64)?;
        let before = cx.bin(&b::LESS_EQUAL, keys, last)?;
        sees = Some(match sees {
            Some(after) => cx.bin(&b::LOGICAL_AND, after, before)?,
            None => before,
        });
    }
    Ok(sees)
}

/// Softmax of the scores; a row that sees nothing is zero.
fn probabilities(cx: &mut Cx<'_, '_>, scores: ExprId, masked: bool) -> Step {
    let out = cx.dtype(scores)?;
    let precision = match cx.int("softmax_precision", 0)? {
        0 => out,
        _ => cx.dtype_attr("softmax_precision")?.unwrap_or(out),
    };
    let x = cx.cast(scores, precision)?;
    let mut y = cx.call(&SOFTMAX, &[x], SoftmaxAttrs { axis: -1 }.attrs())?;
    if masked {
        let top = cx.reduce(&MAX, x, &[3], true)?;
        let nothing = cx.num(&b::EQUAL, top, f64::NEG_INFINITY)?;
        let zero = cx.scalar(precision, 0.0);
        y = cx.select(nothing, zero, y)?;
    }
    cx.cast(y, out)
}

fn rotary_embedding(cx: &mut Cx<'_, '_>) -> Step {
    let original = cx.arg(0)?;
    let merged = cx.rank(original)? == 3;
    let x = split_heads(cx, original, "num_heads")?;
    let (length, size) = (cx.size(x, 2)?, cx.size(x, 3)?);
    let rotated = match cx.int("rotary_embedding_dim", 0)? {
        n if n > 0 && n as usize <= size => n as usize,
        _ => size,
    };
    let half = rotated / 2;
    let interleaved = cx.flag("interleaved", false)?;
    let (mut cos, mut sin) = (cx.arg(1)?, cx.arg(2)?);
    if let Some(places) = cx.opt(3)? {
        cos = cx.take(cos, places, 0)?;
        sin = cx.take(sin, places, 0)?;
    }
    // [batch, length, half] against [batch, heads, length, half].
    let fit = |cx: &mut Cx<'_, '_>, t: ExprId| -> Step {
        let t = if cx.size(t, 2)? > half { cx.part(t, 2, 0, half)? } else { t };
        cx.expand_dims(t, 1, 1)
    };
    let (cos, sin) = (fit(cx, cos)?, fit(cx, sin)?);
    let heads = cx.size(x, 1)?;
    let turned = cx.part(x, 3, 0, rotated)?;
    let (a, c) = match interleaved {
        true => {
            let pairs = cx.reshape_batch(turned, &[heads, length, half, 2])?;
            let (a, c) = (cx.part(pairs, 4, 0, 1)?, cx.part(pairs, 4, 1, 2)?);
            (cx.squeeze(a, &[4])?, cx.squeeze(c, &[4])?)
        }
        false => (cx.part(turned, 3, 0, half)?, cx.part(turned, 3, half, rotated)?),
    };
    let (ac, cs) = (cx.mul(a, cos)?, cx.mul(c, sin)?);
    let (as_, cc) = (cx.mul(a, sin)?, cx.mul(c, cos)?);
    let (real, imaginary) = (cx.sub(ac, cs)?, cx.add(as_, cc)?);
    let mut y = match interleaved {
        true => {
            let (r, i) = (cx.expand_dims(real, 4, 1)?, cx.expand_dims(imaginary, 4, 1)?);
            let y = cx.concat(&[r, i], 4)?;
            cx.reshape_batch(y, &[heads, length, rotated])?
        }
        false => cx.concat(&[real, imaginary], 3)?,
    };
    if rotated < size {
        let rest = cx.part(x, 3, rotated, size)?;
        y = cx.concat(&[y, rest], 3)?;
    }
    if merged { merge_heads(cx, y) } else { Ok(y) }
}
