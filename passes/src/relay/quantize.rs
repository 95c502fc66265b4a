//! Quantize: products with constant weights in int8, with scales found as the program runs.
//!
//! `nn.dense` and `nn.matmul` of float32 data and a constant matrix become a quantisation of
//! the data and `quant.dense`, which takes a bias that is added behind them. Data that several
//! products read is quantised once. What the two schemes differ in is whose scale a number has.

mod report;

pub use report::{LayerError, report};

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::broadcast::ADD;
use fermata_ir::op::nn::{BIAS_ADD, BiasAddAttrs, DENSE, MATMUL, MatmulAttrs};
use fermata_ir::op::quant::{
    QUANT_DENSE, QUANTIZE_PER_TENSOR, QUANTIZE_PER_TOKEN, QuantDenseAttrs, quantize_columns, quantize_rows,
};
use fermata_ir::op::{Attrs, OpAttrs, OpDef};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::rewrite::{rebuild_functions, static_shape, use_counts};
use crate::pass::{FloatClass, MAX_LEVEL, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "quantize",
    relay_name: "Quantize",
    level: MAX_LEVEL + 1,
    doc: "products with constant weights in int8, with scales found as the program runs",
    options: &[OptionDef {
        name: "scheme",
        doc: "a scale for each row of the data and each output channel, or for each tensor",
        default: OptionValue::Word("w8a8-int8-per-token|w8a8-int8-per-tensor"),
    }],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Approximate,
    run,
};

/// Whose scale a quantised number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A row of the data has its own, and an output channel of the weight.
    PerToken,
    /// A tensor has one.
    PerTensor,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Scheme; 2] = [Scheme::PerToken, Scheme::PerTensor];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::PerToken => "w8a8-int8-per-token",
            Scheme::PerTensor => "w8a8-int8-per-tensor",
        }
    }

    /// The scheme of a name.
    pub fn from_name(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// The operator that quantises data.
    fn quantize(self) -> &'static OpDef {
        match self {
            Scheme::PerToken => &QUANTIZE_PER_TOKEN,
            Scheme::PerTensor => &QUANTIZE_PER_TENSOR,
        }
    }

    /// The integers `[n, k]` and the scales of a weight.
    fn weight(self, weight: &Weight) -> Option<[Tensor; 2]> {
        let (data, [n, k]) = (weight.matrix.as_slice::<f32>()?, weight.shape()?);
        let (numbers, scales) = match self {
            Scheme::PerTensor => quantize_rows(data, data.len()),
            Scheme::PerToken if weight.by_rows => quantize_rows(data, k),
            Scheme::PerToken => quantize_columns(data, n),
        };
        let numbers = if weight.by_rows { numbers } else { transposed(&numbers, [k, n]) };
        let channels: &[usize] = match self {
            Scheme::PerTensor => &[],
            Scheme::PerToken => &[n],
        };
        Some([Tensor::from_slice(&[n, k], &numbers).ok()?, Tensor::from_slice(channels, &scales).ok()?])
    }
}

/// A constant weight, as it lies.
struct Weight {
    matrix: Tensor,
    /// Whether its rows are the output channels, or else its columns.
    by_rows: bool,
}

impl Weight {
    /// Output channels, and the numbers of each.
    fn shape(&self) -> Option<[usize; 2]> {
        match (self.matrix.shape(), self.by_rows) {
            (&[n, k], true) | (&[k, n], false) => Some([n, k]),
            _ => None,
        }
    }
}

/// A product that can be quantised.
struct Layer {
    data: ExprId,
    weight: Weight,
}

impl Layer {
    /// The product that an expression is.
    fn of(module: &Module, expr: ExprId) -> Option<Layer> {
        let (op, call) = module.as_op_call(expr)?;
        let by_rows = if op.is(&MATMUL) {
            let attrs: MatmulAttrs = call.attrs.read();
            if attrs.transpose_a {
                return None;
            }
            attrs.transpose_b
        } else {
            op.is(&DENSE).then_some(true)?
        };
        let is_f32 = |e: ExprId| module.types[e].as_tensor().is_some_and(|t| t.dtype == DType::F32);
        let weight = module.as_const(call.args[1])?;
        // Without leaving early a vector is checked at a time.
        let finite = weight.as_slice::<f32>()?.iter().fold(true, |all, v| all & v.is_finite());
        if weight.is_empty() || !finite || !is_f32(call.args[0]) || !is_f32(expr) {
            return None;
        }
        let weight = Weight { matrix: weight.clone(), by_rows };
        weight.shape().map(|_| Layer { data: call.args[0], weight })
    }
}

/// The transpose of a matrix of so many rows and columns, block by block, so that both sides stay
/// in the cache.
fn transposed(data: &[i8], [rows, columns]: [usize; 2]) -> Vec<i8> {
    const BLOCK: usize = 64;
    let mut turned = vec![0; data.len()];
    for column in (0..columns).step_by(BLOCK) {
        for row in (0..rows).step_by(BLOCK) {
            for j in column..columns.min(column + BLOCK) {
                for i in row..rows.min(row + BLOCK) {
                    turned[j * rows + i] = data[i * columns + j];
                }
            }
        }
    }
    turned
}

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let scheme = Scheme::from_name(context.word("scheme")).expect("the option's words are the schemes");
    let mut pass =
        Quantize { scheme, uses: use_counts(module), data: BTreeMap::new(), made: BTreeMap::new() };
    let mut failed = None;
    let outcome =
        rebuild_functions(module, |module, old, new| match pass.rewrite(module, old, new, context) {
            Ok(found) => found.unwrap_or(new),
            Err(error) => {
                failed.get_or_insert(error);
                new
            }
        });
    failed.map_or(Ok(outcome), |error| Err(error.into()))
}

struct Quantize {
    scheme: Scheme,
    /// How often each old expression is used.
    uses: SecondaryMap<ExprId, u32>,
    /// The integers and scales of data.
    data: BTreeMap<ExprId, [ExprId; 2]>,
    /// The arguments of products that have no bias yet.
    made: BTreeMap<ExprId, [ExprId; 4]>,
}

impl Quantize {
    fn rewrite(
        &mut self,
        module: &mut Module,
        old: ExprId,
        new: ExprId,
        context: &mut PassContext,
    ) -> Result<Option<ExprId>, Diagnostic> {
        if let Some(biased) = self.add_bias(module, old, new)? {
            return Ok(Some(biased));
        }
        let Some(layer) = Layer::of(module, new) else { return Ok(None) };
        let Some(weight) = self.scheme.weight(&layer.weight) else { return Ok(None) };
        if !context.fire("quantise a product", module, new) {
            return Ok(None);
        }
        let span = module.spans[new].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        let [data, scale] = match self.data.get(&layer.data) {
            Some(&known) => known,
            None => {
                let pair = build.call(self.scheme.quantize(), &[layer.data], Attrs::NONE)?;
                [build.proj(pair, 0)?, build.proj(pair, 1)?]
            }
        };
        self.data.insert(layer.data, [data, scale]);
        let [weight, weight_scale] = weight.map(|t| build.constant(t));
        let args = [data, weight, scale, weight_scale];
        let product = build.call(&QUANT_DENSE, &args, real().attrs())?;
        self.made.insert(product, args);
        Ok(Some(product))
    }

    /// A product that takes the constant vector that is added to it, if nothing else reads it.
    fn add_bias(&self, module: &mut Module, old: ExprId, new: ExprId) -> Result<Option<ExprId>, Diagnostic> {
        let Some((op, call)) = module.as_op_call(new) else { return Ok(None) };
        let last = |axis: i64, rank: usize| axis == -1 || axis == rank as i64 - 1;
        let rank = module.types[new].as_tensor().map_or(0, |t| t.rank());
        let adds = op.is(&ADD) || op.is(&BIAS_ADD) && last(call.attrs.read::<BiasAddAttrs>().axis, rank);
        let Some((_, before)) = module.as_op_call(old).filter(|_| adds) else { return Ok(None) };
        for (product, bias) in [(0, 1), (1, 0)] {
            let Some(args) = self.made.get(&call.args[product]) else { continue };
            let units = module.types[args[1]].as_tensor().and_then(|t| t.shape[0].as_static());
            let vector = units.map(|n| vec![n]) == static_shape(module, call.args[bias]);
            let constant = module.as_const(call.args[bias]).is_some();
            if vector && constant && self.uses[before.args[product]] == 1 {
                let args = [&args[..], &[call.args[bias]]].concat();
                let span = module.spans[new].clone();
                let mut build = Builder::new(module);
                build.with_span(span);
                return build.call(&QUANT_DENSE, &args, real().attrs()).map(Some);
            }
        }
        Ok(None)
    }
}

/// A real result in float32.
fn real() -> QuantDenseAttrs {
    QuantDenseAttrs { activation: "none".into(), out_dtype: DType::F32 }
}
