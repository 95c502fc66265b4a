//! Equality saturation: all that the rules make of a function at once, then the cheapest.
//!
//! ```text
//! function ─ convert ─► e-graph ─ saturate (rules) ─► e-graph ─ extract (cost) ─► nodes ─ convert ─► function
//! ```
//! The e-graph (egg; Willsey et al., 2021) holds pure, typed calls; whatever else a function has
//! is opaque to the rules. It is no second program: it is fed, saturated, read and dropped here.

mod convert;
mod cost;
mod extract;
mod facts;
mod lang;
pub mod rules;
mod saturate;

#[cfg(test)]
mod tests;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{ExprId, Function, Module};

use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};
use crate::relay::rewrite::owned_functions;
use facts::{Graph, Knowledge};
use saturate::Limits;

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "saturate",
    relay_name: "EqualitySaturation",
    level: 3,
    doc: "rewrite by all rules at once in an e-graph and keep the cheapest program",
    options: &[
        OptionDef { name: "iterations", doc: "rounds of all rules at most", default: OptionValue::Int(8) },
        OptionDef {
            name: "nodes",
            doc: "nodes of the e-graph at most, besides ten for each of the program's",
            default: OptionValue::Int(10_000),
        },
        OptionDef {
            name: "algebraic",
            doc: "allow rules that change the rounding of floats",
            default: OptionValue::Bool(true),
        },
        OptionDef {
            name: "approximate",
            doc: "allow rules whose results are close, not equal but for rounding: what fast math means",
            default: OptionValue::Bool(false),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    for (global, func) in owned_functions(module) {
        if convert::binds(module, func.body) {
            remark(module, context, func.body, "not rewritten: it binds variables; use to_graph_normal_form");
            continue;
        }
        let body = optimise(module, func.body, context);
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(Function { body, ..func });
        }
    }
    Ok(outcome)
}

fn optimise(module: &mut Module, body: ExprId, context: &mut PassContext) -> ExprId {
    let graph = Graph::new(Knowledge::with_fuel(context.fuel));
    let mut imported = convert::import(module, body, graph);
    let at_least = |name: &str, context: &PassContext| usize::try_from(context.int(name)).unwrap_or(0);
    let nodes = imported.graph.total_number_of_nodes().saturating_mul(10);
    let limits = Limits {
        iterations: at_least("iterations", context),
        nodes: nodes.saturating_add(at_least("nodes", context)),
    };
    let class = match (context.bool("approximate"), context.bool("algebraic")) {
        (true, _) => FloatClass::Approximate,
        (false, true) => FloatClass::Algebraic,
        (false, false) => FloatClass::Exact,
    };
    let (graph, reason) = saturate::saturate(imported.graph, rules::compiled(class), limits);
    imported.graph = graph;
    let fired: u64 = imported.graph.analysis.fired.values().sum();
    context.fuel = imported.graph.analysis.fuel;
    context.rewrites += fired;
    for (&rule, count) in &imported.graph.analysis.fired {
        *context.fired.entry(rule).or_default() += count;
    }
    if let (Some(0), Some(rule)) = (context.fuel, imported.graph.analysis.last_fired) {
        context.last_rewrite = Some(Diagnostic::warning(Code::PASS, format!("{rule}, in the e-graph")));
    }
    if fired == 0 {
        remark(module, context, body, &format!("{reason}; no rule fired"));
        return body;
    }
    let extraction = extract::extract(&imported);
    let rules = imported.graph.analysis.fired.iter().map(|(name, count)| format!("{name} {count}"));
    let rules = rules.collect::<Vec<_>>().join(", ");
    let (before, after) = (extraction.input_cost, extraction.cost);
    remark(module, context, body, &format!("{reason}; cost {before} becomes {after}; fired: {rules}"));
    if after == before {
        return body;
    }
    convert::export(module, &imported, &extraction.chosen)
}

fn remark(module: &Module, context: &mut PassContext, at: ExprId, text: &str) {
    if context.want_remarks {
        context.remarks.push(Diagnostic::warning(Code::PASS, text).at(module.spans[at].clone()));
    }
}
