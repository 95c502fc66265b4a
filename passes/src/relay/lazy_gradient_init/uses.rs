//! What operators make of held tensors: less, or nothing.

use fermata_ir::build::Builder;
use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::broadcast::select::WHERE;
use fermata_ir::op::broadcast::shape::{BROADCAST_TO, BroadcastToAttrs};
use fermata_ir::op::broadcast::{ADD, DIVIDE, MULTIPLY, SUBTRACT};
use fermata_ir::op::conv::{CONV2D, CONV2D_TRANSPOSE};
use fermata_ir::op::elemwise::NEGATIVE;
use fermata_ir::op::nn::{BATCH_MATMUL, DENSE};
use fermata_ir::op::reduce::{ReduceAttrs, SUM};
use fermata_ir::op::{Attrs, FusePattern, Op, OpAttrs, OpDef};
use fermata_ir::scalar::Scalar;

use super::{Lazy, filled, is_made, scalar};

/// Products whose result is zero where an operand is.
static PRODUCTS: [&OpDef; 4] = [&DENSE, &BATCH_MATMUL, &CONV2D, &CONV2D_TRANSPOSE];

/// A rewrite: the rule, and what stands for the expression.
type Found = Option<(&'static str, ExprId)>;

impl Lazy {
    /// What an expression is, now that some of its operands are held.
    pub fn simplified(&mut self, module: &mut Module, expr: ExprId) -> Found {
        if let Expr::Proj { tuple, index } = module.exprs[expr] {
            let Expr::Tuple(fields) = &module.exprs[tuple] else { return None };
            let field = *fields.get(index as usize)?;
            return self.exprs[field].map(|_| ("take a held field", field));
        }
        let (op, call) = module.as_op_call(expr)?;
        let call = call.clone();
        if PRODUCTS.iter().any(|def| op.is(def)) {
            let zero = call.args.iter().find_map(|&a| self.exprs[a].filter(is_zero));
            return match zero {
                Some(zero) => self.zero(module, expr, zero).filter(|_| self.finite),
                None if op.is(&DENSE) => self.sums(module, expr, &call),
                None => None,
            };
        }
        if op.is(&WHERE) {
            let &[_, a, b] = &call.args[..] else { return None };
            let value = self.exprs[a].filter(|v| self.exprs[b] == Some(*v))?;
            let made = filled(module, expr, value)?;
            self.exprs[made] = Some(value);
            return Some(("choose between equal values", made));
        }
        self.arithmetic(module, expr, op, &call).or_else(|| self.narrowed(module, expr, op, &call))
    }

    fn zero(&mut self, module: &mut Module, expr: ExprId, zero: Scalar) -> Found {
        let dtype = module.types[expr].as_tensor()?.dtype;
        let value = if zero.dtype() == dtype { zero } else { Scalar::from_i64(dtype, 0) };
        let made = filled(module, expr, value)?;
        self.exprs[made] = Some(value);
        Some(("a product with zeros is zero", made))
    }

    /// A product with a matrix of one value: the sums of the other's rows, times that value.
    fn sums(&mut self, module: &mut Module, expr: ExprId, call: &Call) -> Found {
        let &[data, weight] = &call.args[..] else { return None };
        let (value, other) = match (self.exprs[data], self.exprs[weight]) {
            (Some(value), None) => (value, weight),
            (None, Some(value)) => (value, data),
            _ => return None,
        };
        let out = module.types[expr].as_tensor()?.dtype;
        if !out.is_float() || value.dtype() != out || module.types[other].as_tensor()?.dtype != out {
            return None;
        }
        let span = module.spans[expr].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        // A row of the weight is a column of the result, one of the data stays a row.
        let over = ReduceAttrs { axis: Some(vec![-1]), keepdims: other == data, exclude: false };
        let mut sums = build.call(&SUM, &[other], over.attrs()).ok()?;
        if value.as_f64() != 1.0 {
            let factor = scalar(&mut build, value)?;
            sums = build.call(&MULTIPLY, &[sums, factor], Attrs::NONE).ok()?;
        }
        Some(("sum rows for a product with one value", spread(module, expr, sums)?))
    }

    /// Sums, differences, products and quotients with zeros and ones.
    fn arithmetic(&mut self, module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Found {
        let &[a, b] = &call.args[..] else { return None };
        let (left, right) = (self.exprs[a], self.exprs[b]);
        let adds_nothing = |v: Option<Scalar>| {
            v.is_some_and(|v| is_zero(&v) && (self.finite || !v.dtype().is_float() || v.bits() != 0))
        };
        let takes_nothing =
            |v: Option<Scalar>| v.is_some_and(|v| is_zero(&v) && (self.finite || v.bits() == 0));
        let one = |v: Option<Scalar>| v.is_some_and(|v| v.as_f64() == 1.0);
        // Where both are held, so is the result.
        if left.is_some() && right.is_some() {
            return None;
        }
        let other = if op.is(&ADD) && adds_nothing(right) || op.is(&SUBTRACT) && takes_nothing(right) {
            ("drop zeros from a sum", a)
        } else if op.is(&ADD) && adds_nothing(left) {
            ("drop zeros from a sum", b)
        } else if (op.is(&MULTIPLY) || op.is(&DIVIDE)) && one(right) {
            ("drop ones from a product", a)
        } else if op.is(&MULTIPLY) && one(left) {
            ("drop ones from a product", b)
        } else if op.is(&SUBTRACT) && left.is_some_and(|v| is_zero(&v)) && self.finite {
            let negative = Builder::new(module).call(&NEGATIVE, &[b], Attrs::NONE).ok()?;
            ("drop zeros from a difference", negative)
        } else if op.is(&MULTIPLY) && self.finite {
            let zero = left.filter(is_zero).or(right.filter(is_zero))?;
            return self.zero(module, expr, zero);
        } else {
            return None;
        };
        Some((other.0, spread(module, expr, other.1)?))
    }

    /// A held operand of an operator that broadcasts, as a scalar, where no dimension comes from it.
    fn narrowed(&mut self, module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Found {
        if op.pattern != FusePattern::Broadcast {
            return None;
        }
        let held =
            |&place: &usize| is_made(module, call.args[place]) && self.exprs[call.args[place]].is_some();
        let place = (0..call.args.len()).find(held)?;
        let value = self.exprs[call.args[place]]?;
        let span = module.spans[expr].clone();
        let mut build = Builder::new(module);
        build.with_span(span);
        let mut args = call.args.to_vec();
        args[place] = scalar(&mut build, value)?;
        self.exprs[args[place]] = Some(value);
        let narrow = build.call(op.0, &args, call.attrs.clone()).ok()?;
        Some(("take a scalar for a tensor of one value", narrow))
    }
}

fn is_zero(value: &Scalar) -> bool {
    value.as_f64() == 0.0
}

/// An operand in the shape of the result that it stands for.
fn spread(module: &mut Module, expr: ExprId, operand: ExprId) -> Option<ExprId> {
    if module.types[operand] == module.types[expr] {
        return Some(operand);
    }
    let shape = module.types[expr].as_tensor()?.static_shape()?;
    let shape = shape.iter().map(|&n| n as i64).collect();
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    build.call(&BROADCAST_TO, &[operand], BroadcastToAttrs { shape }.attrs()).ok()
}
