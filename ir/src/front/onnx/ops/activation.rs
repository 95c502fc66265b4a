//! Activations: most are short compositions, as their definitions are.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, refuse};
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::nn::{self, LeakyReluAttrs};
use crate::op::{Attrs, OpAttrs};

/// Functions that networks put between layers.
pub(super) const ROWS: &[Row] = &[
    one!("Celu", celu),
    one!("Elu", elu),
    one!("Gelu", gelu),
    one!("HardSigmoid", hard_sigmoid),
    one!("HardSwish", hard_swish),
    one!("LeakyRelu", leaky_relu),
    one!("Mish", mish),
    one!("PRelu", prelu),
    one!("Relu", relu),
    one!("Selu", selu),
    one!("Shrink", shrink),
    one!("Softplus", |cx| {
        let x = cx.arg(0)?;
        cx.softplus(x)
    }),
    one!("Softsign", softsign),
    one!("Swish", swish),
    one!("ThresholdedRelu", thresholded_relu),
];

impl Cx<'_, '_> {
    /// `exp(x) - 1` scaled, for negative x; x itself otherwise.
    pub(super) fn elu(&mut self, x: ExprId, alpha: f64) -> Step {
        let exp = self.un(&e::EXP, x)?;
        let below = self.num(&b::SUBTRACT, exp, 1.0)?;
        let below = self.num(&b::MULTIPLY, below, alpha)?;
        let negative = self.num(&b::LESS, x, 0.0)?;
        self.select(negative, below, x)
    }

    /// `log(exp(x) + 1)`, computed so that it does not overflow.
    pub(super) fn softplus(&mut self, x: ExprId) -> Step {
        let abs = self.un(&e::ABS, x)?;
        let small = self.un(&e::NEGATIVE, abs)?;
        let small = self.un(&e::EXP, small)?;
        let small = self.num(&b::ADD, small, 1.0)?;
        let small = self.un(&e::LOG, small)?;
        let large = self.num(&b::MAXIMUM, x, 0.0)?;
        self.add(large, small)
    }

    /// `max(0, min(1, alpha * x + beta))`.
    pub(super) fn hard_sigmoid(&mut self, x: ExprId, alpha: f64, beta: f64) -> Step {
        let x = self.num(&b::MULTIPLY, x, alpha)?;
        let x = self.num(&b::ADD, x, beta)?;
        self.call(&e::CLIP, &[x], e::ClipAttrs { a_min: 0.0, a_max: 1.0 }.attrs())
    }

    /// `x * tanh(log(exp(x) + 1))`.
    pub(super) fn mish(&mut self, x: ExprId) -> Step {
        let y = self.softplus(x)?;
        let y = self.un(&e::TANH, y)?;
        self.mul(x, y)
    }

    /// `x / (1 + |x|)`.
    pub(super) fn softsign(&mut self, x: ExprId) -> Step {
        let y = self.un(&e::ABS, x)?;
        let y = self.num(&b::ADD, y, 1.0)?;
        self.div(x, y)
    }

    /// x where it is above a threshold, else 0.
    pub(super) fn thresholded_relu(&mut self, x: ExprId, alpha: f64) -> Step {
        let above = self.num(&b::GREATER, x, alpha)?;
        let zero = self.scalar(self.dtype(x)?, 0.0);
        self.select(above, x, zero)
    }

    /// `x` where it is not negative, else scaled.
    pub(super) fn leaky_relu(&mut self, x: ExprId, alpha: f64) -> Step {
        self.call(&nn::LEAKY_RELU, &[x], LeakyReluAttrs { alpha }.attrs())
    }

    /// `x * sigmoid(alpha * x)`.
    pub(super) fn swish(&mut self, x: ExprId, alpha: f64) -> Step {
        let y = if alpha == 1.0 { x } else { self.num(&b::MULTIPLY, x, alpha)? };
        let y = self.un(&e::SIGMOID, y)?;
        self.mul(x, y)
    }
}

fn relu(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    cx.call(&nn::RELU, &[x], Attrs::NONE)
}

fn leaky_relu(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha) = (cx.arg(0)?, cx.float("alpha", 0.01)?);
    cx.leaky_relu(x, alpha)
}

fn elu(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha) = (cx.arg(0)?, cx.float("alpha", 1.0)?);
    cx.elu(x, alpha)
}

fn selu(cx: &mut Cx<'_, '_>) -> Step {
    // The defaults of opset 6 are those constants rounded to single precision.
    let (alpha, gamma) = match cx.opset {
        ..6 => (1.6732, 1.0507),
        _ => (1.673_263_2, 1.050_701),
    };
    let (x, alpha, gamma) = (cx.arg(0)?, cx.float("alpha", alpha)?, cx.float("gamma", gamma)?);
    let y = cx.elu(x, alpha)?;
    cx.num(&b::MULTIPLY, y, gamma)
}

fn celu(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha) = (cx.arg(0)?, cx.float("alpha", 1.0)?);
    let y = cx.num(&b::DIVIDE, x, alpha)?;
    let y = cx.un(&e::EXP, y)?;
    let y = cx.num(&b::SUBTRACT, y, 1.0)?;
    let y = cx.num(&b::MULTIPLY, y, alpha)?;
    let y = cx.num(&b::MINIMUM, y, 0.0)?;
    let x = cx.num(&b::MAXIMUM, x, 0.0)?;
    cx.add(x, y)
}

fn gelu(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let inner = match cx.text("approximate", "none")? {
        "none" => {
            let y = cx.num(&b::MULTIPLY, x, std::f64::consts::FRAC_1_SQRT_2)?;
            cx.un(&e::ERF, y)?
        }
        "tanh" => {
            let cube = cx.mul(x, x)?;
            let cube = cx.mul(cube, x)?;
            let y = cx.num(&b::MULTIPLY, cube, 0.044715)?;
            let y = cx.add(x, y)?;
            let y = cx.num(&b::MULTIPLY, y, (2.0 / std::f64::consts::PI).sqrt())?;
            cx.un(&e::TANH, y)?
        }
        other => return refuse(format!("approximation `{other}` of Gelu is not supported")),
    };
    let y = cx.num(&b::ADD, inner, 1.0)?;
    let half = cx.num(&b::MULTIPLY, x, 0.5)?;
    cx.mul(half, y)
}

fn hard_sigmoid(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha, beta) = (cx.arg(0)?, cx.float("alpha", 0.2)?, cx.float("beta", 0.5)?);
    cx.hard_sigmoid(x, alpha, beta)
}

fn hard_swish(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let y = cx.hard_sigmoid(x, 1.0 / 6.0, 0.5)?;
    cx.mul(x, y)
}

fn mish(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    cx.mish(x)
}

/// The slope broadcasts to the input in one direction.
fn prelu(cx: &mut Cx<'_, '_>) -> Step {
    let (x, slope) = (cx.arg(0)?, cx.arg(1)?);
    let rank = cx.rank(x)?;
    // Before opset 7 a slope of one dimension belonged to the channels.
    let slope =
        if cx.opset < 7 && cx.rank(slope)? == 1 && rank > 2 { cx.along(slope, 1, rank)? } else { slope };
    let below = cx.mul(x, slope)?;
    let negative = cx.num(&b::LESS, x, 0.0)?;
    cx.select(negative, below, x)
}

fn shrink(cx: &mut Cx<'_, '_>) -> Step {
    let (x, bias, lambd) = (cx.arg(0)?, cx.float("bias", 0.0)?, cx.float("lambd", 0.5)?);
    let (plus, minus) = (cx.num(&b::ADD, x, bias)?, cx.num(&b::SUBTRACT, x, bias)?);
    let (below, above) = (cx.num(&b::LESS, x, -lambd)?, cx.num(&b::GREATER, x, lambd)?);
    let zero = cx.scalar(cx.dtype(x)?, 0.0);
    let rest = cx.select(above, minus, zero)?;
    cx.select(below, plus, rest)
}

fn softsign(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    cx.softsign(x)
}

fn swish(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha) = (cx.arg(0)?, cx.float("alpha", 1.0)?);
    cx.swish(x, alpha)
}

fn thresholded_relu(cx: &mut Cx<'_, '_>) -> Step {
    let (x, alpha) = (cx.arg(0)?, cx.float("alpha", 1.0)?);
    cx.thresholded_relu(x, alpha)
}
