//! FoldScaleAxis: a constant factor per output channel moves into the weights before it.
//!
//! `conv(x, w) * s` is `conv(x, w * s)`, and `(conv(x, w) + b) * s` is
//! `conv(x, w * s) + b * s`, where `s` has one value a channel and nothing else reads what lies
//! between. The same holds for `nn.dense` and its last dimension.

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::broadcast::{ADD, MULTIPLY};
use fermata_ir::op::conv::{CONV2D, Conv2dAttrs};
use fermata_ir::op::nn::DENSE;
use fermata_ir::op::transform::{RESHAPE, ReshapeAttrs};
use fermata_ir::op::{Attrs, OpAttrs};

use super::rewrite::{rebuild_functions, static_shape, use_counts};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "fold_scale_axis",
    relay_name: "FoldScaleAxis",
    level: 2,
    doc: "move constant factors per channel into the weights of convolutions and products",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let before = use_counts(module);
    // New expressions stand for one old one each, and are used as often.
    let mut uses: SecondaryMap<ExprId, u32> = SecondaryMap::new();
    Ok(rebuild_functions(module, |module, old, new| {
        let folded = match fold(module, new, &uses) {
            Some(folded) if context.fire("fold a scale into a weight", module, new) => folded,
            _ => new,
        };
        uses[folded] = uses[folded].max(before[old]);
        folded
    }))
}

/// What the factor is multiplied with.
struct Site {
    /// The convolution or product.
    anchor: ExprId,
    /// A constant added between it and the factor.
    bias: Option<ExprId>,
}

fn fold(module: &mut Module, expr: ExprId, uses: &SecondaryMap<ExprId, u32>) -> Option<ExprId> {
    let (op, call) = module.as_op_call(expr)?;
    if !op.is(&MULTIPLY) {
        return None;
    }
    let (a, b) = (call.args[0], call.args[1]);
    let (data, factor) = if module.as_const(b).is_some() { (a, b) } else { (b, a) };
    module.as_const(factor)?;
    if module.types[data] != module.types[expr] {
        return None;
    }
    let site = find_site(module, data, uses)?;
    let channels = per_channel(module, site.anchor, factor)?;
    rewrite(module, &site, factor, channels).ok()
}

/// The anchor behind `data`, directly or through one constant addition, read by nothing else.
fn find_site(module: &Module, data: ExprId, uses: &SecondaryMap<ExprId, u32>) -> Option<Site> {
    let (op, call) = module.as_op_call(data)?;
    if uses[data] != 1 {
        return None;
    }
    if is_anchor(module, data) {
        return Some(Site { anchor: data, bias: None });
    }
    if !op.is(&ADD) {
        return None;
    }
    let (a, b) = (call.args[0], call.args[1]);
    let (anchor, bias) = if module.as_const(b).is_some() { (a, b) } else { (b, a) };
    let fits = module.as_const(bias).is_some()
        && is_anchor(module, anchor)
        && uses[anchor] == 1
        && module.types[anchor] == module.types[data];
    fits.then_some(Site { anchor, bias: Some(bias) })
}

/// A convolution in NCHW or a product, with a constant float weight.
fn is_anchor(module: &Module, expr: ExprId) -> bool {
    let Some((op, call)) = module.as_op_call(expr) else { return false };
    let layout = if op.is(&CONV2D) {
        let attrs: Conv2dAttrs = call.attrs.read();
        &*attrs.data_layout == "NCHW" && &*attrs.kernel_layout == "OIHW" && attrs.out_layout.is_empty()
    } else {
        op.is(&DENSE)
    };
    layout && call.args.get(1).and_then(|&w| module.as_const(w)).is_some_and(|w| w.dtype().is_float())
}

/// The number of channels if the factor has one value for each, or one for all.
fn per_channel(module: &Module, anchor: ExprId, factor: ExprId) -> Option<usize> {
    let (op, call) = module.as_op_call(anchor)?;
    let channels = static_shape(module, call.args[1])?[0];
    let rank = module.types[anchor].as_tensor()?.rank();
    let axis = if op.is(&DENSE) { rank - 1 } else { 1 };
    let shape = static_shape(module, factor)?;
    if shape.len() > rank {
        return None;
    }
    let lead = rank - shape.len();
    let fits = shape.iter().enumerate().all(|(i, &n)| n == 1 || lead + i == axis && n == channels);
    fits.then_some(channels)
}

fn rewrite(module: &mut Module, site: &Site, factor: ExprId, channels: usize) -> Result<ExprId, Diagnostic> {
    let (op, call) = module.as_op_call(site.anchor).expect("a site's anchor is a call");
    let call = call.clone();
    let weight_rank = module.types[call.args[1]].as_tensor().map_or(0, |t| t.rank());
    let elements = module.as_const(factor).map_or(1, |t| t.len());
    let span = module.spans[site.anchor].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let mut along = vec![1i64; weight_rank];
    along[0] = if elements == 1 { 1 } else { channels as i64 };
    let attrs = ReshapeAttrs { newshape: along, allowzero: false }.attrs();
    let scale = build.call(&RESHAPE, &[factor], attrs)?;
    let weight = build.call(&MULTIPLY, &[call.args[1], scale], Attrs::NONE)?;
    let scaled = build.call(op.0, &[call.args[0], weight], call.attrs.clone())?;
    match site.bias {
        None => Ok(scaled),
        Some(bias) => {
            let bias = build.call(&MULTIPLY, &[bias, factor], Attrs::NONE)?;
            build.call(&ADD, &[scaled, bias], Attrs::NONE)
        }
    }
}
