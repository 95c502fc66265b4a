//! SplitArgs: a concatenation of more tensors than a kernel may take becomes a tree of them.
//!
//! `fuse_ops{max_function_args=N}` keeps the parts apart.

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::transform::CONCATENATE;

use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "split_args",
    relay_name: "SplitArgs",
    level: 4,
    doc: "write concatenations of many tensors as trees of smaller ones",
    options: &[OptionDef {
        name: "max_args",
        doc: "the largest number of arguments and results of a kernel, at least 3",
        default: OptionValue::Int(128),
    }],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let most = usize::try_from(context.int("max_args").saturating_sub(1)).unwrap_or(0).max(2);
    Ok(rebuild_functions(module, |module, _, new| {
        let Some(fields) = joined(module, new).filter(|fields| fields.len() > most) else { return new };
        if !context.fire("split a concatenation", module, new) {
            return new;
        }
        tree(module, new, fields, most).unwrap_or(new)
    }))
}

/// The tensors that a concatenation joins.
fn joined(module: &Module, expr: ExprId) -> Option<Vec<ExprId>> {
    let (op, call) = module.as_op_call(expr)?;
    let Expr::Tuple(fields) = &module.exprs[*call.args.first()?] else { return None };
    op.is(&CONCATENATE).then(|| fields.to_vec())
}

/// Joins neighbours, at most so many at once, until one tensor is left.
fn tree(
    module: &mut Module,
    expr: ExprId,
    mut level: Vec<ExprId>,
    most: usize,
) -> Result<ExprId, Diagnostic> {
    let (_, call) = module.as_op_call(expr).expect("a concatenation");
    let attrs = call.attrs.clone();
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    while level.len() > 1 {
        let mut next = Vec::with_capacity(level.len().div_ceil(most));
        for part in level.chunks(most) {
            next.push(match part {
                [one] => *one,
                _ => {
                    let tuple = build.tuple(part)?;
                    build.call(&CONCATENATE, &[tuple], attrs.clone())?
                }
            });
        }
        level = next;
    }
    Ok(level[0])
}
