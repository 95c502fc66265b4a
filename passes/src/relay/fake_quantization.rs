//! FakeQuantizationToInteger: what is computed between `qnn.dequantize` and `qnn.quantize` is computed in
//! integers.
//!
//! A region is all that a `qnn.quantize` reads up to `qnn.dequantize` and constants. If each of its
//! operators has a form in integers ([`rules`]) and nothing else reads what it computes on the way, it
//! becomes that: products sum exactly in int32, and one `qnn.requantize` at the end rounds. Exactly the
//! same numbers come of operators that only choose or move elements (reshaping, joining, maxima,
//! `nn.relu`, `clip`). Of sums and products each number may be one step of the result's scale away, where
//! floats rounded the other way: `qnn.quantize` and `qnn.requantize` round halves to even, `qnn.add` and
//! `qnn.mul` round them upward, and means of windows are cut off after 8 more bits.
//!
//! `fold_constant` makes floats of the weights' `qnn.dequantize`: it runs after this pass, or with
//! `fold_qnn=False`. A remark says so where it did not.

mod integer;
mod products;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::quant::{DEQUANTIZE, QUANTIZE};
use fermata_ir::types::DType;
use fermata_ir::walk;

use super::rewrite::{rebuild_functions, use_counts};
use crate::pass::{FloatClass, MAX_LEVEL, Outcome, PassContext, PassDef, Stage};
use integer::{Params, Work};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "fake_quantization_to_integer",
    relay_name: "FakeQuantizationToInteger",
    level: MAX_LEVEL + 1,
    doc: "compute in integers what stands between qnn.dequantize and qnn.quantize",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Approximate,
    run,
};

/// The most expressions of a region.
const MAX_SIZE: usize = 256;

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let before = use_counts(module);
    // New expressions stand for one old one each, and are used as often.
    let mut uses: SecondaryMap<ExprId, u32> = SecondaryMap::new();
    Ok(rebuild_functions(module, |module, old, new| {
        uses[new] = uses[new].max(before[old]);
        if !is(module, new, &QUANTIZE) {
            return new;
        }
        let integers = region(module, new, &uses).and_then(|inside| in_integers(module, new, &inside));
        let result = match integers {
            Ok(result) if context.fire("compute a region in integers", module, new) => result,
            Ok(_) => new,
            Err(why) => {
                context.remark(module, new, || format!("not computed in integers: {why}"));
                new
            }
        };
        uses[result] = uses[result].max(before[old]);
        result
    }))
}

fn is(module: &Module, expr: ExprId, def: &'static fermata_ir::op::OpDef) -> bool {
    module.as_op_call(expr).is_some_and(|(op, _)| op.is(def))
}

/// What a quantisation computes from dequantised tensors and constants, operands first.
fn region(module: &Module, root: ExprId, uses: &SecondaryMap<ExprId, u32>) -> Result<Vec<ExprId>, String> {
    let Some((_, call)) = module.as_op_call(root) else { return Err("it is no call".into()) };
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut stack = vec![(call.args[0], false)];
    while let Some((expr, done)) = stack.pop() {
        if done {
            order.push(expr);
            continue;
        }
        let leaf = is(module, expr, &DEQUANTIZE) || matches!(module.exprs[expr], Expr::Const(_));
        if leaf || !seen.insert(expr) {
            continue;
        }
        match (&module.exprs[expr], module.as_op_call(expr)) {
            (_, Some((op, _))) if rules::has_integers(op) => {}
            (_, Some((op, _))) => return Err(format!("`{op}` has no form in integers")),
            (Expr::Tuple(_), _) => {}
            _ => return Err("it reads a float that is not dequantised".into()),
        }
        if seen.len() > MAX_SIZE {
            return Err(format!("it has more than {MAX_SIZE} expressions"));
        }
        stack.push((expr, true));
        stack.extend(walk::children(&module.exprs[expr]).into_iter().rev().map(|c| (c, false)));
    }
    let mut inner: BTreeMap<ExprId, u32> = BTreeMap::from([(call.args[0], 1)]);
    for child in order.iter().flat_map(|&e| walk::children(&module.exprs[e])) {
        *inner.entry(child).or_default() += 1;
    }
    match order.iter().find(|&&e| inner.get(&e).copied() != Some(uses[e])) {
        None => Ok(order),
        Some(&read) => {
            let what = module.as_op_call(read).map_or("a tuple".into(), |(op, _)| format!("`{op}`"));
            Err(format!("the result of {what} is read as a float too"))
        }
    }
}

/// What a quantisation is in integers.
fn in_integers(module: &mut Module, root: ExprId, inside: &[ExprId]) -> Result<ExprId, String> {
    let Some((_, call)) = module.as_op_call(root) else { return Err("it is no call".into()) };
    let call = call.clone();
    let Some(ty) = module.types[root].as_tensor().cloned() else {
        return Err("its type is not known".into());
    };
    let axis = call.attrs.read::<fermata_ir::op::quant::QuantizeAttrs>().axis;
    let goal = Params::new(module, call.args[1], call.args[2], axis, ty.rank(), ty.dtype)?;
    if module.types[call.args[0]].as_tensor().is_none_or(|t| t.dtype != DType::F32) {
        return Err("it is not of float32".into());
    }
    let mut work = Work::new(module, root, goal);
    work.reaching = rules::reaching(work.module, call.args[0], inside);
    for &expr in inside {
        let value = rules::value(&mut work, expr)?;
        work.values.insert(expr, value);
    }
    let data = work.quantised(call.args[0])?;
    let result = work.at_goal(&data)?;
    match work.module.types[result] == work.module.types[root] {
        true => Ok(result),
        false => Err("its form in integers has another type".into()),
    }
}

/// Why a diagnostic of something that was built stands against it.
fn said(diagnostic: Diagnostic) -> String {
    debug_assert!(diagnostic.code != Code::INTERNAL);
    diagnostic.message
}
