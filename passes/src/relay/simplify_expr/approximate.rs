//! Rewrites whose results are close, not equal but for rounding: only where that is asked for.

use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, DIVIDE, MULTIPLY};
use fermata_ir::op::elemwise::{RSQRT, SQRT};
use fermata_ir::op::{Attrs, Op, OpDef};

use super::constants::same_value;
use super::{located, splat};

/// `a / sqrt(b)` as `a * rsqrt(b)`.
pub fn reciprocal_root(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let float = module.types[expr].as_tensor().is_some_and(|t| t.dtype.is_float());
    let (root, inner) = module.as_op_call(*call.args.get(1)?)?;
    if !op.is(&DIVIDE) || !root.is(&SQRT) || !float {
        return None;
    }
    let (data, radicand) = (call.args[0], inner.args[0]);
    let mut build = located(module, expr);
    let root = build.call(&RSQRT, &[radicand], Attrs::NONE).ok()?;
    build.call(&MULTIPLY, &[data, root], Attrs::NONE).ok()
}

/// `x * x + 2 * x * y + y * y`, its terms and factors in any order, as the square of `x + y`.
pub fn binomial(module: &mut Module, expr: ExprId, op: Op, _: &Call) -> Option<ExprId> {
    if !op.is(&ADD) {
        return None;
    }
    let [a, b, c] = operands(module, expr, &ADD, 3)?[..] else { return None };
    let (x, y) = [[a, b, c], [a, c, b], [b, c, a]].into_iter().find_map(|[first, second, mixed]| {
        let (x, y) = (squared(module, first)?, squared(module, second)?);
        is_twice(module, mixed, x, y).then_some((x, y))
    })?;
    let mut build = located(module, expr);
    let sum = build.call(&ADD, &[x, y], Attrs::NONE).ok()?;
    build.call(&MULTIPLY, &[sum, sum], Attrs::NONE).ok()
}

/// What a nest of calls of one operator combines, if it is so many values.
fn operands(module: &Module, expr: ExprId, def: &'static OpDef, count: usize) -> Option<Vec<ExprId>> {
    let (mut open, mut found) = (vec![expr], Vec::new());
    while let Some(at) = open.pop() {
        match module.as_op_call(at) {
            Some((op, call)) if op.is(def) && open.len() + found.len() + 1 < count => open.extend(&call.args),
            _ => found.push(at),
        }
    }
    (found.len() == count).then_some(found)
}

fn squared(module: &Module, expr: ExprId) -> Option<ExprId> {
    let [a, b] = operands(module, expr, &MULTIPLY, 2)?[..] else { return None };
    same_value(module, a, b).then_some(a)
}

/// True if an expression is `2 * x * y`.
fn is_twice(module: &Module, expr: ExprId, x: ExprId, y: ExprId) -> bool {
    let Some(factors) = operands(module, expr, &MULTIPLY, 3) else { return false };
    let is_two = |&e: &ExprId| splat(module, e).is_some_and(|s| s.as_f64() == 2.0);
    let Some(two) = factors.iter().position(is_two) else { return false };
    let rest: Vec<ExprId> = factors.iter().enumerate().filter(|(i, _)| *i != two).map(|(_, &e)| e).collect();
    let pair = |a, b| same_value(module, rest[0], a) && same_value(module, rest[1], b);
    pair(x, y) || pair(y, x)
}
