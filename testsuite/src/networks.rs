//! Networks as people export them, made from a few numbers: an encoder and a dense network.
//!
//! The texts have weights as parameters; [`with_weights`] makes constants of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fermata::inputs::Random;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, Module, VarId};
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::walk;

/// The sizes of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Layers.
    pub layers: usize,
    /// Tokens.
    pub tokens: usize,
    /// The width of a token's state.
    pub width: usize,
    /// Heads of attention; they divide the width.
    pub heads: usize,
}

impl Encoder {
    /// The sizes of MiniLM-L6 at 128 tokens.
    pub const MINILM: Encoder = Encoder { layers: 6, tokens: 128, width: 384, heads: 12 };
}

/// A function whose parameters and lines are written one after the other.
#[derive(Default)]
struct Text {
    params: Vec<String>,
    body: String,
    values: usize,
}

impl Text {
    /// A parameter; gives its name.
    fn param(&mut self, shape: &[usize]) -> String {
        let name = format!("%p{}", self.params.len());
        let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        self.params.push(format!("{name}: Tensor[({}), float32]", sizes.join(", ")));
        name
    }

    /// A call; gives the name of its value.
    fn line(&mut self, call: impl AsRef<str>) -> String {
        let name = format!("%{}", self.values);
        self.values += 1;
        let _ = writeln!(self.body, "  {name} = {};", call.as_ref());
        name
    }

    fn finish(self, result: &str) -> String {
        format!(
            "#[version = \"0.0.5\"]\ndef @main({}) {{\n{}  {result}\n}}\n",
            self.params.join(", "),
            self.body
        )
    }
}

/// An encoder with norms, GELU and attention written out as exporters do; `%p0` is its input.
pub fn encoder(sizes: Encoder) -> String {
    let Encoder { layers, tokens, width, .. } = sizes;
    let mut text = Text::default();
    let mut state = text.param(&[tokens, width]);
    for _ in 0..layers {
        let attended = attention(&mut text, &state, sizes);
        let sum = text.line(format!("add({attended}, {state})"));
        let normed = layer_norm(&mut text, &sum, width);
        let wide = linear(&mut text, &normed, width, 4 * width);
        let active = gelu(&mut text, &wide);
        let narrow = linear(&mut text, &active, 4 * width, width);
        let sum = text.line(format!("add({narrow}, {normed})"));
        state = layer_norm(&mut text, &sum, width);
    }
    text.finish(&state)
}

fn linear(text: &mut Text, x: &str, from: usize, to: usize) -> String {
    let (weight, bias) = (text.param(&[to, from]), text.param(&[to]));
    let product = text.line(format!("nn.dense({x}, {weight}, units={to})"));
    text.line(format!("add({product}, {bias})"))
}

fn layer_norm(text: &mut Text, x: &str, width: usize) -> String {
    let (scale, shift) = (text.param(&[width]), text.param(&[width]));
    let mean = text.line(format!("mean({x}, axis=[-1], keepdims=True)"));
    let centred = text.line(format!("subtract({x}, {mean})"));
    let squares = text.line(format!("power({centred}, 2f)"));
    let variance = text.line(format!("mean({squares}, axis=[-1], keepdims=True)"));
    let safe = text.line(format!("add({variance}, 1e-05f)"));
    let deviation = text.line(format!("sqrt({safe})"));
    let normed = text.line(format!("divide({centred}, {deviation})"));
    let scaled = text.line(format!("multiply({normed}, {scale})"));
    text.line(format!("add({scaled}, {shift})"))
}

fn gelu(text: &mut Text, x: &str) -> String {
    let scaled = text.line(format!("divide({x}, 1.4142135f)"));
    let erf = text.line(format!("erf({scaled})"));
    let one = text.line(format!("add({erf}, 1f)"));
    let product = text.line(format!("multiply({x}, {one})"));
    text.line(format!("multiply({product}, 0.5f)"))
}

fn attention(text: &mut Text, x: &str, sizes: Encoder) -> String {
    let Encoder { tokens, width, heads, .. } = sizes;
    let head = width / heads;
    let split = |text: &mut Text, axes: &str| {
        let projected = linear(text, x, width, width);
        let parts = text.line(format!("reshape({projected}, newshape=[{tokens}, {heads}, {head}])"));
        text.line(format!("transpose({parts}, axes={axes})"))
    };
    let query = split(text, "[1, 0, 2]");
    let key = split(text, "[1, 0, 2]");
    let value = split(text, "[1, 2, 0]");
    let scores = text.line(format!("nn.batch_matmul({query}, {key}, transpose_b=True)"));
    let scaled = text.line(format!("divide({scores}, {}f)", (head as f32).sqrt()));
    let weights = text.line(format!("nn.softmax({scaled}, axis=-1)"));
    let mixed = text.line(format!("nn.batch_matmul({weights}, {value}, transpose_b=True)"));
    let rows = text.line(format!("transpose({mixed}, axes=[1, 0, 2])"));
    let joined = text.line(format!("reshape({rows}, newshape=[{tokens}, {width}])"));
    linear(text, &joined, width, width)
}

/// DenseNet-121 as exported from Caffe: every norm is followed by a scale and a shift of its own.
pub fn densenet121() -> String {
    const GROWTH: usize = 32;
    let mut text = Text::default();
    let image = text.param(&[1, 3, 224, 224]);
    let first = conv(&mut text, &image, [3, 64, 7], "strides=[2, 2], padding=[3, 3, 3, 3], ");
    let active = norm_relu(&mut text, &first, 64);
    let mut x =
        text.line(format!("nn.max_pool2d({active}, pool_size=[3, 3], strides=[2, 2], padding=[1, 1, 1, 1])"));
    let mut channels = 64;
    for (block, layers) in [6, 12, 24, 16].into_iter().enumerate() {
        for _ in 0..layers {
            let active = norm_relu(&mut text, &x, channels);
            let narrow = conv(&mut text, &active, [channels, 4 * GROWTH, 1], "");
            let active = norm_relu(&mut text, &narrow, 4 * GROWTH);
            let new = conv(&mut text, &active, [4 * GROWTH, GROWTH, 3], "padding=[1, 1, 1, 1], ");
            x = text.line(format!("concatenate(({x}, {new}), axis=1)"));
            channels += GROWTH;
        }
        let active = norm_relu(&mut text, &x, channels);
        x = match block {
            3 => active,
            _ => {
                channels /= 2;
                let half = conv(&mut text, &active, [2 * channels, channels, 1], "");
                text.line(format!("nn.avg_pool2d({half}, pool_size=[2, 2], strides=[2, 2])"))
            }
        };
    }
    let pooled = text.line(format!("nn.global_avg_pool2d({x})"));
    let flat = text.line(format!("nn.batch_flatten({pooled})"));
    let classes = linear(&mut text, &flat, channels, 1000);
    text.finish(&classes)
}

fn conv(text: &mut Text, x: &str, [from, to, size]: [usize; 3], how: &str) -> String {
    let weight = text.param(&[to, from, size, size]);
    text.line(format!("nn.conv2d({x}, {weight}, {how}channels={to}, kernel_size=[{size}, {size}])"))
}

fn norm_relu(text: &mut Text, x: &str, channels: usize) -> String {
    let [gamma, beta, mean, variance, scale, shift] = std::array::from_fn(|_| text.param(&[channels]));
    let norm = text.line(format!("nn.batch_norm({x}, {gamma}, {beta}, {mean}, {variance})"));
    let scale = text.line(format!("expand_dims({scale}, axis=1, num_newaxis=2)"));
    let scaled = text.line(format!("multiply({norm}.0, {scale})"));
    let shift = text.line(format!("expand_dims({shift}, axis=1, num_newaxis=2)"));
    let shifted = text.line(format!("add({scaled}, {shift})"));
    text.line(format!("nn.relu({shifted})"))
}

/// The program of a text, all parameters of `@main` but the first made constants between 0.5 and 1.
///
/// # Errors
/// If the text is no program.
pub fn with_weights(text: &str) -> Result<Module, Diagnostics> {
    let mut module = parse_module("network", text, &ParseOptions::new(&OpTable::standard()))?;
    infer_module(&mut module)?;
    let Some(main) = module.global("main") else { return Ok(module) };
    let params = module.globals[main].func.as_ref().map(|f| f.params.clone()).unwrap_or_default();
    let mut random = Random::new(0);
    let mut constants: BTreeMap<VarId, _> = BTreeMap::new();
    for &param in params.iter().skip(1) {
        let ty = module.vars[param].ty.as_tensor().cloned();
        let shaped = ty.and_then(|t| Some((t.dtype, t.static_shape()?)));
        let Some((dtype, shape)) = shaped else { continue };
        if let Ok(tensor) = random.tensor(dtype, &shape, 0.5, 1.0) {
            constants.insert(param, module.constant(tensor));
        }
    }
    walk::rewrite_module(&mut module, &mut |module, id| match module.exprs[id] {
        Expr::Var(var) => constants.get(&var).copied(),
        _ => None,
    });
    if let Some(func) = &mut module.globals[main].func {
        func.params.retain(|param| !constants.contains_key(param));
    }
    module.compact();
    infer_module(&mut module)?;
    Ok(module)
}
