//! Gradient: `@main` gives, beside its result, the gradients of the sum of its elements.
//!
//! Reverse mode, of first order: users before operands, every operator turns the gradient of its
//! result into those of its arguments ([`rules`]). The result is `(result, (gradients..))`, a gradient
//! for every parameter, of its type; what the result does not depend on has zeros. A program with an
//! operator on the way that has no rule is left as it was.

mod rules;

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::broadcast::ADD;
use fermata_ir::op::elemwise::fill::{InitAttrs, ONES, ZEROS};
use fermata_ir::op::{Attrs, OpAttrs};
use fermata_ir::types::{TensorType, Type};
use fermata_ir::walk;

use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "gradient",
    relay_name: "FirstOrderGradient",
    level: 4,
    doc: "let @main give the gradients of its result with respect to its parameters too",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let Some(global) = module.global("main") else { return Ok(Outcome::Unchanged) };
    let Some(func) = module.globals[global].func.clone() else { return Ok(Outcome::Unchanged) };
    match differentiated(module, &func) {
        Ok(body) if context.fire("add gradients", module, func.body) => {
            let ret = module.types[body].clone();
            module.globals[global].func = Some(Function { body, ret, ..func });
            Ok(Outcome::Changed)
        }
        Ok(_) => Ok(Outcome::Unchanged),
        Err((at, why)) => {
            if context.want_remarks {
                let remark = Diagnostic::warning(Code::PASS, format!("there are no gradients: {why}"));
                context.remarks.push(remark.at(module.spans[at].clone()));
            }
            Ok(Outcome::Unchanged)
        }
    }
}

/// Where there is no gradient, and why.
type Refusal = (ExprId, String);

fn differentiated(module: &mut Module, func: &Function) -> Result<ExprId, Refusal> {
    let at = func.body;
    let refuse = |why: &str| (at, why.to_string());
    let float = |ty: &Type| {
        let tensor = ty.as_tensor().filter(|t| t.dtype.is_float() && t.static_shape().is_some())?;
        Some(tensor.clone())
    };
    let seed = float(&module.types[at]).ok_or_else(|| refuse("the result is no float tensor"))?;
    for &param in &func.params {
        float(&module.vars[param].ty)
            .ok_or_else(|| refuse("a parameter is no float tensor of static shape"))?;
    }
    if module.functions().iter().any(|(_, f)| uses_main(module, f)) {
        return Err(refuse("another function calls @main"));
    }
    let order = walk::post_order(module, &[at]);
    let depends = dependent(module, &order);
    let mut flow = Flow { module, grads: SecondaryMap::new(), params: BTreeMap::new() };
    let ones = flow.filled(&ONES, &seed).map_err(|d| refuse(&d.message))?;
    flow.grads[at] = Some(ones);
    for &expr in order.iter().rev() {
        let Some(grad) = flow.grads[expr].filter(|_| depends[expr]) else { continue };
        flow.step(expr, grad, &depends)?;
    }
    let mut gradients = Vec::new();
    for &param in &func.params {
        let ty = float(&flow.module.vars[param].ty).expect("checked before");
        let known = flow.params.get(&param).copied();
        let grad = known.map_or_else(|| flow.filled(&ZEROS, &ty), Ok).map_err(|d| refuse(&d.message))?;
        gradients.push(grad);
    }
    let mut build = Builder::new(flow.module);
    let both = build.tuple(&gradients).and_then(|tuple| build.tuple(&[at, tuple]));
    both.map_err(|d| refuse(&d.message))
}

fn uses_main(module: &Module, func: &Function) -> bool {
    let main = module.global("main");
    let order = walk::post_order(module, &[func.body]);
    order.into_iter().any(|e| matches!(module.exprs[e], Expr::Global(g) if Some(g) == main))
}

/// The expressions that depend on a variable.
fn dependent(module: &Module, order: &[ExprId]) -> SecondaryMap<ExprId, bool> {
    let mut depends = SecondaryMap::new();
    for &expr in order {
        let own = matches!(module.exprs[expr], Expr::Var(_));
        depends[expr] = own || walk::children(&module.exprs[expr]).iter().any(|&c| depends[c]);
    }
    depends
}

/// Gradients on their way from the result to the parameters.
struct Flow<'m> {
    module: &'m mut Module,
    grads: SecondaryMap<ExprId, Option<ExprId>>,
    params: BTreeMap<VarId, ExprId>,
}

impl Flow<'_> {
    fn filled(&mut self, def: &'static fermata_ir::op::OpDef, ty: &TensorType) -> Result<ExprId, Diagnostic> {
        let shape = ty.static_shape().unwrap_or_default().iter().map(|&n| n as i64).collect();
        Builder::new(self.module).call(def, &[], InitAttrs { shape, dtype: ty.dtype }.attrs())
    }

    /// Passes the gradient of an expression on to its operands.
    fn step(
        &mut self,
        expr: ExprId,
        grad: ExprId,
        depends: &SecondaryMap<ExprId, bool>,
    ) -> Result<(), Refusal> {
        if let Expr::Var(var) = self.module.exprs[expr] {
            let sum = match self.params.get(&var) {
                Some(&known) => self.sum(expr, known, grad)?,
                None => grad,
            };
            self.params.insert(var, sum);
            return Ok(());
        }
        let Some((op, call)) = self.module.as_op_call(expr) else {
            return Err((expr, "this is no operator".into()));
        };
        let args = call.args.clone();
        let found = rules::backward(self.module, expr, grad);
        let Some(gradients) = found.map_err(|d| (expr, d.message))? else {
            return Err((expr, format!("`{op}` has no rule")));
        };
        for (arg, gradient) in args.into_iter().zip(gradients) {
            // What is no float, a condition say, has no gradient.
            let float = self.module.types[arg].as_tensor().is_some_and(|t| t.dtype.is_float());
            if !depends[arg] || !float {
                continue;
            }
            let sum = match self.grads[arg] {
                Some(known) => self.sum(expr, known, gradient)?,
                None => gradient,
            };
            self.grads[arg] = Some(sum);
        }
        Ok(())
    }

    fn sum(&mut self, at: ExprId, a: ExprId, b: ExprId) -> Result<ExprId, Refusal> {
        Builder::new(self.module).call(&ADD, &[a, b], Attrs::NONE).map_err(|d| (at, d.message))
    }
}
