//! FuseOps: groups operators into primitive functions, each of which becomes kernels.
//!
//! The algorithm is Relay's (post-dominator tree, union-find, three phases), over the
//! sharing of graph normal form: nothing fuses across a `let`. Every operator call ends up in
//! a call of a function marked `Primitive=1`; scalar constants are written into their group,
//! everything else that a group reads is a parameter.

mod dominator;
mod extract;
mod graph;
mod group;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, Function, Module};

use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "fuse_ops",
    relay_name: "FuseOps",
    level: 0,
    doc: "group operators into primitive functions, one or more kernels each",
    options: &[
        OptionDef {
            name: "max_depth",
            doc: "the largest number of nodes in a group",
            default: OptionValue::Int(256),
        },
        OptionDef {
            name: "fuse",
            doc: "False makes a group of every operator alone",
            default: OptionValue::Bool(true),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: Some(Stage::Fused),
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let max_depth = context.int("max_depth").clamp(1, i64::from(u32::MAX)) as u32;
    let fuse = context.bool("fuse");
    let mut changed = false;
    for (global, func) in owned_functions(module) {
        if is_primitive(&func) {
            continue;
        }
        let graph = graph::DataflowGraph::new(module, &func);
        let groups = match fuse {
            true => group::Groups::partition(&graph, max_depth),
            false => group::Groups::singletons(&graph),
        };
        let body = extract::extract(module, &func, &graph, &groups, context);
        changed |= body != func.body;
        module.globals[global].func = Some(Function { body, ..func });
    }
    Ok(if changed { Outcome::Changed } else { Outcome::Unchanged })
}

fn owned_functions(module: &Module) -> Vec<(fermata_ir::expr::GlobalId, Function)> {
    module.functions().into_iter().map(|(id, func)| (id, func.clone())).collect()
}

/// True if the function is a group of operators (`Primitive=1`).
pub fn is_primitive(func: &Function) -> bool {
    func.attrs.get("Primitive").is_some_and(|v| matches!(v, fermata_ir::op::AttrValue::Int(n) if *n != 0))
}

/// True if the expression is a group of operators.
pub fn is_primitive_expr(module: &Module, expr: fermata_ir::expr::ExprId) -> bool {
    matches!(&module.exprs[expr], Expr::Func(func) if is_primitive(func))
}
