//! FuseOps: groups operators into primitive functions, each of which becomes kernels.
//!
//! The algorithm is Relay's (post-dominator tree, union-find, three phases), over the
//! sharing of graph normal form: nothing fuses across a `let`. Every operator call ends up in
//! a call of a function marked `Primitive=1`; scalar constants are written into their group,
//! everything else that a group reads is a parameter.
//!
//! `mode=relay` stops there and groups exactly as Relay does. By default two things are better.
//! Complex operators take what follows element by element before anything else does, so the order
//! of operands decides nothing and a group with a complex operator ends in that operator's shape.
//! And groups that were made are joined where the target's own schedules say that the two together
//! are fewer launches and no more work ([`merge`]): reductions that feed on, reorderings in front
//! of a product or behind it, rows that a norm or a softmax takes over. A group whose value others
//! read too can be joined likewise, and one that reads the same as another: they have several results
//! then ([`share`]). A split is written into all that reads its fields ([`spread`]).

mod dominator;
mod extract;
mod graph;
mod group;
mod merge;
mod share;
mod spread;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{Expr, ExprId, Function, Module};
use fermata_ir::op::Op;
use fermata_ir::op::transform::{BATCH_FLATTEN, EXPAND_DIMS, RESHAPE, SQUEEZE};

use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};
use crate::relay::rewrite::owned_functions;

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
        OptionDef {
            name: "mode",
            doc: "relay makes exactly Relay's groups, fermata joins them further where that makes fewer launches",
            default: OptionValue::Word("fermata|relay"),
        },
        OptionDef {
            name: "max_function_args",
            doc: "the largest number of arguments and results of a group; 0 is no limit",
            default: OptionValue::Int(0),
        },
        OptionDef {
            name: "link_params",
            doc: "True keeps all constants inside their group, not only scalars",
            default: OptionValue::Bool(false),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: Some(Stage::Fused),
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let limits = group::Limits {
        nodes: context.int("max_depth").clamp(1, i64::from(u32::MAX)) as u32,
        args: context.int("max_function_args").clamp(0, i64::from(u32::MAX)) as u32,
    };
    let (fuse, relay) = (context.bool("fuse"), context.word("mode") == "relay");
    let linked = context.bool("link_params");
    let tries = fuse && !relay;
    let mut trial = merge::Trial::new(context.target.clone(), limits);
    let mut changed = false;
    for (global, func) in owned_functions(module) {
        if is_primitive(&func) {
            continue;
        }
        let graph = graph::DataflowGraph::new(module, &func);
        let groups = match fuse {
            true => group::Groups::partition(module, &graph, limits, relay, context),
            false => group::Groups::singletons(&graph),
        };
        tell(module, &graph, &groups, context);
        let body = extract::extract(module, &func, &graph, &groups, linked);
        let body = if tries { spread::spread(module, body, &mut trial, context) } else { body };
        let body = if tries { merge::merge(module, body, &mut trial, context) } else { body };
        let body = if tries { share::share(module, body, &mut trial, context) } else { body };
        changed |= body != func.body;
        module.globals[global].func = Some(Function { body, ..func });
    }
    Ok(if changed { Outcome::Changed } else { Outcome::Unchanged })
}

/// Says of every operator what it joined, or why it ends its group.
fn tell(module: &Module, graph: &graph::DataflowGraph, groups: &group::Groups, context: &mut PassContext) {
    if !context.want_remarks {
        return;
    }
    for (id, node) in graph.nodes.iter() {
        let (Some((op, _)), Some(decision)) = (module.as_op_call(node.expr), groups.decision(id)) else {
            continue;
        };
        let message = match decision {
            group::Decision::Joined(sink) => match module.as_op_call(graph.nodes[sink].expr) {
                Some((into, _)) => format!("`{op}` is fused up to `{into}`"),
                None => format!("`{op}` is fused up to a tuple"),
            },
            group::Decision::Ends(why) => format!("`{op}` ends its group: {why}"),
        };
        let remark = Diagnostic::warning(Code::PASS, message);
        context.remarks.push(remark.at(module.spans[node.expr].clone()));
    }
}

/// True if the function is a group of operators (`Primitive=1`).
pub fn is_primitive(func: &Function) -> bool {
    func.attrs.get("Primitive").is_some_and(|v| matches!(v, fermata_ir::op::AttrValue::Int(n) if *n != 0))
}

/// True if the expression is a group of operators.
pub fn is_primitive_expr(module: &Module, expr: ExprId) -> bool {
    matches!(&module.exprs[expr], Expr::Func(func) if is_primitive(func))
}

/// True if an operator only gives a tensor another shape: a group of nothing else is an alias.
pub fn is_reshape(op: Op) -> bool {
    [&RESHAPE, &SQUEEZE, &EXPAND_DIMS, &BATCH_FLATTEN].iter().any(|def| op.is(def))
        || matches!(op.name(), "contrib_reverse_reshape" | "dyn.reshape" | "dyn.squeeze")
}
