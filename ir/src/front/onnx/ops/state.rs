//! Layers that carry a state from one token to the next.

use super::Row;
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::conv::{CONV1D, Conv1dAttrs};
use crate::op::elemwise as e;
use crate::op::reduce::SUM;
use crate::op::transform::{REPEAT, RepeatAttrs};

/// How many tokens are unrolled.
const MAX_LENGTH: usize = 4096;

/// Convolutions and attention with a state.
pub(super) const ROWS: &[Row] =
    &[Row::new("CausalConvWithState", causal_conv), Row::new("LinearAttention", linear_attention)];

/// A depthwise convolution that looks back only; the state holds what the next call sees.
fn causal_conv(cx: &mut Cx<'_, '_>) -> Mapped {
    let (x, weight) = (cx.arg(0)?, cx.arg(1)?);
    let (batch, channels, kernel) = (cx.size(x, 0)?, cx.size(x, 1)?, cx.size(weight, 2)?);
    let past = match cx.opt(3)? {
        Some(past) => past,
        None => cx.filled(&[batch, channels, kernel.saturating_sub(1)], cx.dtype(x)?, 0.0)?,
    };
    let joined = cx.concat(&[past, x], 2)?;
    let attrs = Conv1dAttrs {
        strides: vec![1],
        padding: vec![0],
        dilation: vec![1],
        groups: channels as i64,
        channels: None,
        kernel_size: None,
        data_layout: "NCW".into(),
        kernel_layout: "OIW".into(),
        out_layout: "".into(),
        out_dtype: None,
    };
    let mut y = cx.call(&CONV1D, &[joined, weight], attrs.attrs())?;
    if let Some(bias) = cx.opt(2)? {
        y = cx.bias_add(y, bias)?;
    }
    match cx.text("activation", "none")? {
        "none" => {}
        "silu" | "swish" => y = cx.swish(y, 1.0)?,
        other => return refuse(format!("activation `{other}` is not supported")),
    }
    let total = cx.size(joined, 2)?;
    let state = cx.part(joined, 2, total - kernel.saturating_sub(1), total)?;
    Ok(vec![Value::Tensor(y), Value::Tensor(state)])
}

/// What one token brings, heads apart.
struct Token {
    /// `[batch, heads, d_k, 1]`
    key: ExprId,
    /// `[batch, heads, 1, d_v]`
    value: ExprId,
    /// `exp(g)`, to broadcast against the state.
    decay: Option<ExprId>,
    /// The update rate, to broadcast against the state.
    rate: Option<ExprId>,
}

/// Index `t` of dimension 1 of `[batch, tokens, ..]`, under a new shape after the batch.
fn token(cx: &mut Cx<'_, '_>, x: ExprId, t: usize, shape: &[usize]) -> Step {
    let own = cx.part(x, 1, t, t + 1)?;
    cx.reshape_batch(own, shape)
}

fn linear_attention(cx: &mut Cx<'_, '_>) -> Mapped {
    let (q, k, v) = (cx.arg(0)?, cx.arg(1)?, cx.arg(2)?);
    let heads = |name: &str| -> Step<usize> {
        match cx.int_opt(name)?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) {
            Some(n) => Ok(n),
            None => wrong(format!("LinearAttention needs {name}")),
        }
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let (batch, length) = (cx.size(q, 0)?, cx.size(q, 1)?);
    let (d_k, d_v) = (cx.size(q, 2)? / q_heads, cx.size(v, 2)? / kv_heads);
    if length > MAX_LENGTH {
        return refuse(format!("LinearAttention over {length} tokens is too long to unroll"));
    }
    let rule = cx.text("update_rule", "gated_delta")?;
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return wrong(format!("update_rule `{other}` does not exist")),
    };
    let scale = match cx.float("scale", 0.0)? {
        0.0 => 1.0 / (d_k as f64).sqrt(),
        scale => scale,
    };
    let mut state = match cx.opt(3)? {
        Some(past) => past,
        None => cx.filled(&[batch, kv_heads, d_k, d_v], cx.dtype(q)?, 0.0)?,
    };
    let (decay, rate) =
        (if gated { Some(cx.arg(4)?) } else { None }, if delta { Some(cx.arg(5)?) } else { None });
    let mut outputs = Vec::with_capacity(length);
    for t in 0..length {
        let token = Token {
            key: token(cx, k, t, &[kv_heads, d_k, 1])?,
            value: token(cx, v, t, &[kv_heads, 1, d_v])?,
            decay: decay.map(|g| decay_of(cx, g, t, kv_heads)).transpose()?,
            rate: rate.map(|r| rate_of(cx, r, t)).transpose()?,
        };
        state = updated(cx, state, &token)?;
        let query = self::token(cx, q, t, &[q_heads, d_k, 1])?;
        let mut seen = state;
        if q_heads != kv_heads {
            let attrs = RepeatAttrs { repeats: (q_heads / kv_heads) as i64, axis: Some(1) };
            seen = cx.call(&REPEAT, &[state], attrs.attrs())?;
        }
        let product = cx.mul(query, seen)?;
        let y = cx.reduce(&SUM, product, &[2], false)?;
        let y = cx.num(&b::MULTIPLY, y, scale)?;
        outputs.push(cx.reshape_batch(y, &[1, q_heads * d_v])?);
    }
    let y = match outputs.is_empty() {
        true => cx.filled(&[batch, 0, q_heads * d_v], cx.dtype(q)?, 0.0)?,
        false => cx.concat(&outputs, 1)?,
    };
    Ok(vec![Value::Tensor(y), Value::Tensor(state)])
}

/// The decay of a token: one for each head, or one for each of its rows.
fn decay_of(cx: &mut Cx<'_, '_>, decay: ExprId, t: usize, heads: usize) -> Step {
    let rows = cx.size(decay, 2)? / heads;
    let g = token(cx, decay, t, &[heads, rows, 1])?;
    cx.un(&e::EXP, g)
}

/// The update rate of a token: one for each head, or one for all.
fn rate_of(cx: &mut Cx<'_, '_>, rate: ExprId, t: usize) -> Step {
    let heads = cx.size(rate, 2)?;
    token(cx, rate, t, &[heads, 1, 1])
}

/// The state after a token.
fn updated(cx: &mut Cx<'_, '_>, state: ExprId, token: &Token) -> Step {
    let state = match token.decay {
        Some(decay) => cx.mul(decay, state)?,
        None => state,
    };
    let new = match token.rate {
        None => cx.mul(token.key, token.value)?,
        Some(rate) => {
            let known = cx.mul(state, token.key)?;
            let known = cx.reduce(&SUM, known, &[2], true)?;
            let surprise = cx.sub(token.value, known)?;
            let new = cx.mul(token.key, surprise)?;
            cx.mul(rate, new)?
        }
    };
    cx.add(state, new)
}
