//! RemoveUnusedFunctions: drops what `@main` does not reach.

use std::collections::BTreeSet;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, GlobalId, Module};
use fermata_ir::walk;

use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "remove_unused_functions",
    relay_name: "RemoveUnusedFunctions",
    level: 1,
    doc: "drop global functions that the entry functions do not reach",
    options: &[OptionDef {
        name: "keep_prefix",
        doc: "functions whose names begin with `main` are entries too, not only `@main`",
        default: OptionValue::Bool(false),
    }],
    requires: &[],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let prefix = context.bool("keep_prefix");
    let is_entry = |name: &str| name == "main" || prefix && name.starts_with("main");
    let all: Vec<GlobalId> = module.functions().iter().map(|(id, _)| *id).collect();
    let mut pending: Vec<GlobalId> =
        all.iter().copied().filter(|&id| is_entry(&module.globals[id].name)).collect();
    if pending.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let mut reached: BTreeSet<GlobalId> = pending.iter().copied().collect();
    while let Some(id) = pending.pop() {
        let Some(func) = &module.globals[id].func else { continue };
        for expr in walk::post_order(module, &[func.body]) {
            if let Expr::Global(callee) = module.exprs[expr]
                && reached.insert(callee)
            {
                pending.push(callee);
            }
        }
    }
    let mut outcome = Outcome::Unchanged;
    for id in all {
        let Some(func) = module.globals[id].func.as_ref().filter(|_| !reached.contains(&id)) else {
            continue;
        };
        let of = || format!(", `@{}`", module.globals[id].name);
        if context.fire_named("drop a function that nothing calls", module, func.body, of) {
            module.globals[id].func = None;
            outcome = Outcome::Changed;
        }
    }
    Ok(outcome)
}
