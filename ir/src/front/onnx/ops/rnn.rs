//! Recurrent layers, unrolled over the sequence.

use super::Row;
use crate::expr::ExprId;
use crate::front::onnx::graph::{Mapped, Value};
use crate::front::onnx::node::{Cx, Step, refuse, wrong};
use crate::op::OpAttrs;
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::nn::{DENSE, DenseAttrs};
use crate::op::transform::{REVERSE_SEQUENCE, ReverseSequenceAttrs};

/// How long a sequence may be.
const MAX_LENGTH: usize = 4096;

/// Recurrent layers.
pub(super) const ROWS: &[Row] = &[
    Row::new("GRU", |cx| layer(cx, Cell::Gru)),
    Row::new("LSTM", |cx| layer(cx, Cell::Lstm)),
    Row::new("RNN", |cx| layer(cx, Cell::Rnn)),
];

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Rnn,
    Gru,
    Lstm,
}

impl Cell {
    /// Number of gates.
    fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// The activations of one direction.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Rnn => &["Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// An activation with its parameters.
#[derive(Clone)]
struct Activation {
    name: String,
    alpha: Option<f64>,
    beta: Option<f64>,
}

/// One direction of a layer.
struct Direction {
    cell: Cell,
    hidden: usize,
    recurrent: ExprId,
    /// The recurrent bias of a GRU's last gate, which stands inside of the reset.
    reset_bias: Option<ExprId>,
    peepholes: Option<[ExprId; 3]>,
    activations: Vec<Activation>,
    clip: Option<f64>,
    input_forget: bool,
    linear_before_reset: bool,
}

fn layer(cx: &mut Cx<'_, '_>, cell: Cell) -> Mapped {
    let batch_first = cx.flag("layout", false)?;
    let mut x = cx.arg(0)?;
    if batch_first {
        x = cx.transpose(x, &[1, 0, 2])?;
    }
    let (length, batch) = (cx.size(x, 0)?, cx.size(x, 1)?);
    let recurrent = cx.arg(2)?;
    let (directions, hidden) = (cx.size(recurrent, 0)?, cx.size(recurrent, 2)?);
    if length > MAX_LENGTH {
        return refuse(format!("a sequence of {length} steps is too long to unroll"));
    }
    let direction = cx.text("direction", "forward")?;
    let wanted = if direction == "bidirectional" { 2 } else { 1 };
    if directions != wanted {
        return wrong(format!("direction `{direction}` does not fit {directions} weights"));
    }
    let lengths = cx.opt(4)?;
    let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for d in 0..directions {
        let backwards = direction == "reverse" || d == 1;
        let input = if backwards { reversed(cx, x, lengths)? } else { x };
        let unit = Direction::new(cx, cell, d, hidden)?;
        let h = initial(cx, 5, d, batch, hidden, batch_first)?;
        let c = if cell == Cell::Lstm { Some(initial(cx, 6, d, batch, hidden, batch_first)?) } else { None };
        let projected = unit.project(cx, input, d)?;
        let (ys, h, c) = unit.run(cx, projected, length, lengths, h, c)?;
        let y = if ys.is_empty() {
            cx.filled(&[0, batch, hidden], cx.dtype(x)?, 0.0)?
        } else {
            cx.concat(&ys, 0)?
        };
        let y = if backwards { reversed(cx, y, lengths)? } else { y };
        all.push(cx.expand_dims(y, 1, 1)?);
        last.push(cx.expand_dims(h, 0, 1)?);
        if let Some(c) = c {
            cells.push(cx.expand_dims(c, 0, 1)?);
        }
    }
    let mut y = cx.concat(&all, 1)?;
    if batch_first {
        y = cx.transpose(y, &[2, 0, 1, 3])?;
    }
    let mut results = vec![Value::Tensor(y)];
    for parts in [last, cells].into_iter().filter(|p| !p.is_empty()) {
        let mut state = cx.concat(&parts, 0)?;
        if batch_first {
            state = cx.transpose(state, &[1, 0, 2])?;
        }
        results.push(Value::Tensor(state));
    }
    Ok(results)
}

/// The sequences backwards; shorter ones within their length.
fn reversed(cx: &mut Cx<'_, '_>, x: ExprId, lengths: Option<ExprId>) -> Step {
    match lengths {
        None => cx.reverse(x, 0),
        Some(lengths) => {
            let attrs = ReverseSequenceAttrs { seq_axis: 0, batch_axis: 1 };
            cx.call(&REVERSE_SEQUENCE, &[x, lengths], attrs.attrs())
        }
    }
}

/// The state before the first step.
fn initial(
    cx: &mut Cx<'_, '_>,
    operand: usize,
    d: usize,
    batch: usize,
    hidden: usize,
    batch_first: bool,
) -> Step {
    let Some(state) = cx.opt(operand)? else {
        let dtype = cx.dtype(cx.arg(0)?)?;
        return cx.filled(&[batch, hidden], dtype, 0.0);
    };
    let axis = usize::from(batch_first);
    let own = cx.part(state, axis, d, d + 1)?;
    cx.squeeze(own, &[axis])
}

/// The part of a weight that belongs to a direction.
fn of_direction(cx: &mut Cx<'_, '_>, weight: ExprId, d: usize) -> Step {
    let own = cx.part(weight, 0, d, d + 1)?;
    cx.squeeze(own, &[0])
}

impl Direction {
    fn new(cx: &mut Cx<'_, '_>, cell: Cell, d: usize, hidden: usize) -> Step<Direction> {
        let recurrent = cx.arg(2)?;
        let recurrent = of_direction(cx, recurrent, d)?;
        let linear_before_reset = cell == Cell::Gru && cx.flag("linear_before_reset", false)?;
        let mut reset_bias = None;
        if let (true, Some(bias)) = (linear_before_reset, cx.opt(3)?) {
            let bias = of_direction(cx, bias, d)?;
            reset_bias = Some(cx.part(bias, 0, 5 * hidden, 6 * hidden)?);
        }
        let mut peepholes = None;
        if let (Cell::Lstm, Some(p)) = (cell, cx.opt(7)?) {
            let p = of_direction(cx, p, d)?;
            let part = |cx: &mut Cx<'_, '_>, i: usize| cx.part(p, 0, i * hidden, (i + 1) * hidden);
            peepholes = Some([part(cx, 0)?, part(cx, 1)?, part(cx, 2)?]);
        }
        Ok(Direction {
            cell,
            hidden,
            recurrent,
            reset_bias,
            peepholes,
            activations: activations(cx, cell, d)?,
            clip: cx.float_opt("clip")?,
            input_forget: cx.flag("input_forget", false)?,
            linear_before_reset,
        })
    }

    /// The input's part of all gates at all steps, with the biases that just add up.
    fn project(&self, cx: &mut Cx<'_, '_>, x: ExprId, d: usize) -> Step {
        let weight = cx.arg(1)?;
        let weight = of_direction(cx, weight, d)?;
        let y = cx.call(&DENSE, &[x, weight], DenseAttrs { units: None, out_dtype: None }.attrs())?;
        let Some(bias) = cx.opt(3)? else { return Ok(y) };
        let bias = of_direction(cx, bias, d)?;
        let width = self.cell.gates() * self.hidden;
        let y = {
            let own = cx.part(bias, 0, 0, width)?;
            cx.add(y, own)?
        };
        let mut other = cx.part(bias, 0, width, 2 * width)?;
        if self.linear_before_reset {
            let gates = cx.part(other, 0, 0, 2 * self.hidden)?;
            let zeros = cx.filled(&[self.hidden], cx.dtype(bias)?, 0.0)?;
            other = cx.concat(&[gates, zeros], 0)?;
        }
        cx.add(y, other)
    }

    /// All steps: their results with a dimension in front, and the state at the end.
    fn run(
        &self,
        cx: &mut Cx<'_, '_>,
        projected: ExprId,
        length: usize,
        lengths: Option<ExprId>,
        mut h: ExprId,
        mut c: Option<ExprId>,
    ) -> Step<(Vec<ExprId>, ExprId, Option<ExprId>)> {
        let mut ys = Vec::with_capacity(length);
        let zero = cx.scalar(cx.dtype(h)?, 0.0);
        for t in 0..length {
            let x = cx.part(projected, 0, t, t + 1)?;
            let x = cx.squeeze(x, &[0])?;
            let (new_h, new_c) = match self.cell {
                Cell::Rnn => (self.rnn(cx, x, h)?, None),
                Cell::Gru => (self.gru(cx, x, h)?, None),
                Cell::Lstm => {
                    let Some(c) = c else { return wrong("LSTM has a cell") };
                    let (h, c) = self.lstm(cx, x, h, c)?;
                    (h, Some(c))
                }
            };
            let mut y = new_h;
            if let Some(lengths) = lengths {
                // A sequence that has ended keeps its state and gives zeros.
                let going = cx.num(&b::GREATER, lengths, t as f64)?;
                let going = cx.expand_dims(going, 1, 1)?;
                y = cx.select(going, new_h, zero)?;
                h = cx.select(going, new_h, h)?;
                c = match (new_c, c) {
                    (Some(new), Some(old)) => Some(cx.select(going, new, old)?),
                    (new, _) => new,
                };
            } else {
                h = new_h;
                c = new_c;
            }
            ys.push(cx.expand_dims(y, 0, 1)?);
        }
        Ok((ys, h, c))
    }

    fn dense(cx: &mut Cx<'_, '_>, x: ExprId, weight: ExprId) -> Step {
        cx.call(&DENSE, &[x, weight], DenseAttrs { units: None, out_dtype: None }.attrs())
    }

    /// A gate's columns.
    fn gate(&self, cx: &mut Cx<'_, '_>, x: ExprId, i: usize) -> Step {
        cx.part(x, 1, i * self.hidden, (i + 1) * self.hidden)
    }

    /// The activation of a gate, after the clip.
    fn activate(&self, cx: &mut Cx<'_, '_>, x: ExprId, which: usize) -> Step {
        let x = match self.clip {
            Some(clip) => cx.call(&e::CLIP, &[x], e::ClipAttrs { a_min: -clip, a_max: clip }.attrs())?,
            None => x,
        };
        apply(cx, x, &self.activations[which])
    }

    fn rnn(&self, cx: &mut Cx<'_, '_>, x: ExprId, h: ExprId) -> Step {
        let own = Direction::dense(cx, h, self.recurrent)?;
        let x = cx.add(x, own)?;
        self.activate(cx, x, 0)
    }

    fn gru(&self, cx: &mut Cx<'_, '_>, x: ExprId, h: ExprId) -> Step {
        let n = self.hidden;
        let first = cx.part(self.recurrent, 0, 0, 2 * n)?;
        let last = cx.part(self.recurrent, 0, 2 * n, 3 * n)?;
        let own = Direction::dense(cx, h, first)?;
        let given = cx.part(x, 1, 0, 2 * n)?;
        let gates = cx.add(given, own)?;
        let (z, r) = (self.gate(cx, gates, 0)?, self.gate(cx, gates, 1)?);
        let (z, r) = (self.activate(cx, z, 0)?, self.activate(cx, r, 0)?);
        let own = if self.linear_before_reset {
            let mut own = Direction::dense(cx, h, last)?;
            if let Some(bias) = self.reset_bias {
                own = cx.add(own, bias)?;
            }
            cx.mul(r, own)?
        } else {
            let reset = cx.mul(r, h)?;
            Direction::dense(cx, reset, last)?
        };
        let given = self.gate(cx, x, 2)?;
        let new = cx.add(given, own)?;
        let new = self.activate(cx, new, 1)?;
        let one = cx.scalar(cx.dtype(z)?, 1.0);
        let rest = cx.sub(one, z)?;
        let (new, old) = (cx.mul(rest, new)?, cx.mul(z, h)?);
        cx.add(new, old)
    }

    fn lstm(&self, cx: &mut Cx<'_, '_>, x: ExprId, h: ExprId, c: ExprId) -> Step<(ExprId, ExprId)> {
        let own = Direction::dense(cx, h, self.recurrent)?;
        let gates = cx.add(x, own)?;
        let peep = |cx: &mut Cx<'_, '_>, gate: ExprId, i: usize, c: ExprId| -> Step {
            match self.peepholes {
                Some(p) => {
                    let seen = cx.mul(p[i], c)?;
                    cx.add(gate, seen)
                }
                None => Ok(gate),
            }
        };
        let input = self.gate(cx, gates, 0)?;
        let input = peep(cx, input, 0, c)?;
        let input = self.activate(cx, input, 0)?;
        let forget = if self.input_forget {
            let one = cx.scalar(cx.dtype(input)?, 1.0);
            cx.sub(one, input)?
        } else {
            let forget = self.gate(cx, gates, 2)?;
            let forget = peep(cx, forget, 2, c)?;
            self.activate(cx, forget, 0)?
        };
        let new = self.gate(cx, gates, 3)?;
        let new = self.activate(cx, new, 1)?;
        let (kept, new) = (cx.mul(forget, c)?, cx.mul(input, new)?);
        let c = cx.add(kept, new)?;
        let output = self.gate(cx, gates, 1)?;
        let output = peep(cx, output, 1, c)?;
        let output = self.activate(cx, output, 0)?;
        let shown = apply(cx, c, &self.activations[2])?;
        Ok((cx.mul(output, shown)?, c))
    }
}

/// The activations of a direction; their parameters come in two lists, in order.
fn activations(cx: &Cx<'_, '_>, cell: Cell, d: usize) -> Step<Vec<Activation>> {
    let count = cell.activations().len();
    let names = match cx.texts_opt("activations")? {
        Some(names) => names.iter().map(|n| n.to_string()).collect(),
        None => cell.activations().repeat(d + 1).iter().map(|n| n.to_string()).collect::<Vec<_>>(),
    };
    if names.len() < count * (d + 1) {
        return wrong("too few activations");
    }
    let mut alphas = cx.floats_opt("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = cx.floats_opt("activation_beta")?.unwrap_or_default().into_iter();
    let mut all = Vec::new();
    for name in names {
        let (takes_alpha, takes_beta) = match name.to_lowercase().as_str() {
            "affine" | "hardsigmoid" | "scaledtanh" => (true, true),
            "leakyrelu" | "thresholdedrelu" | "elu" => (true, false),
            _ => (false, false),
        };
        let alpha = if takes_alpha { alphas.next().map(f64::from) } else { None };
        let beta = if takes_beta { betas.next().map(f64::from) } else { None };
        all.push(Activation { name, alpha, beta });
    }
    Ok(all[count * d..count * (d + 1)].to_vec())
}

fn apply(cx: &mut Cx<'_, '_>, x: ExprId, f: &Activation) -> Step {
    let alpha = |default: f64| f.alpha.unwrap_or(default);
    let beta = |default: f64| f.beta.unwrap_or(default);
    match f.name.to_lowercase().as_str() {
        "tanh" => cx.un(&e::TANH, x),
        "sigmoid" => cx.un(&e::SIGMOID, x),
        "relu" => cx.num(&b::MAXIMUM, x, 0.0),
        "affine" => {
            let x = cx.num(&b::MULTIPLY, x, alpha(1.0))?;
            cx.num(&b::ADD, x, beta(0.0))
        }
        "leakyrelu" => cx.leaky_relu(x, alpha(0.01)),
        "thresholdedrelu" => cx.thresholded_relu(x, alpha(1.0)),
        "scaledtanh" => {
            let x = cx.num(&b::MULTIPLY, x, beta(1.0))?;
            let x = cx.un(&e::TANH, x)?;
            cx.num(&b::MULTIPLY, x, alpha(1.0))
        }
        "hardsigmoid" => cx.hard_sigmoid(x, alpha(0.2), beta(0.5)),
        "elu" => cx.elu(x, alpha(1.0)),
        "softsign" => cx.softsign(x),
        "softplus" => cx.softplus(x),
        other => refuse(format!("activation `{other}` is not supported")),
    }
}
