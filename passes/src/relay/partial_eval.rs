//! PartialEval: runs, when compiling, what is known then.
//!
//! Every function is interpreted over values of which something may be known: a constant, the
//! fields of a tuple or of a constructed value, which function is called, what a reference cell
//! holds. What is known is computed: operators of constants, fields, branches and arms, calls of
//! functions whose body is at hand, reads of cells. The rest is emitted in A-normal form, one let a
//! step, effects in their order; then lets and cells go that nothing needs.
//!
//! A call is taken in unless it would run on without end: a function that is under way is entered
//! again only where no branch in between depends on what is not known, `calls` bounds how often
//! that may happen for one call, and a call that needs more stays as it is. `steps` bounds all that
//! is done in calls that were taken in. Cells keep their content until something is called that may
//! write them; a branch that is not known leaves what it wrote unknown.

mod branch;
mod call;
mod machine;
mod store;
mod tidy;
mod value;

use std::collections::BTreeMap;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{Expr, Function, GlobalId, Module};
use fermata_ir::walk;

use super::normal_form::a_normal_body;
use super::rewrite::owned_functions;
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};
use machine::Machine;

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "partial_eval",
    relay_name: "PartialEval",
    level: 4,
    doc: "run what is known when compiling: branches, calls, fields, cells; the rest in A-normal form",
    options: &[
        OptionDef {
            name: "calls",
            doc: "a call that enters one function more often than this stays",
            default: OptionValue::Int(1000),
        },
        OptionDef {
            name: "steps",
            doc: "so many steps of called functions are done at most, in all",
            default: OptionValue::Int(100_000),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: Some(Stage::ANormal),
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut functions: BTreeMap<GlobalId, Function> = BTreeMap::new();
    for (global, func) in owned_functions(module) {
        if let Some(why) = obstacle(module, &func) {
            remark(module, context, &func, why);
            continue;
        }
        let body = a_normal_body(module, func.body);
        functions.insert(global, Function { body, ..func });
    }
    if functions.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let globals: Vec<GlobalId> = functions.keys().copied().collect();
    let mut machine = Machine::new(module, context, functions);
    globals.into_iter().for_each(|global| machine.function(global));
    tidy::tidy(module);
    Ok(Outcome::Changed)
}

/// Why a function is left as it is.
fn obstacle(module: &Module, func: &Function) -> Option<&'static str> {
    let marked = |func: &Function| func.attrs.keys().any(|key| &**key != "Inline");
    if marked(func) {
        return Some("it has attributes that mark it for another pass");
    }
    let order = walk::post_order(module, &[func.body]);
    let holds = order.into_iter().any(|e| matches!(&module.exprs[e], Expr::Func(inner) if marked(inner)));
    holds.then_some("it holds functions that are marked for another pass")
}

fn remark(module: &Module, context: &mut PassContext, func: &Function, why: &str) {
    if context.want_remarks {
        let remark = Diagnostic::warning(Code::PASS, format!("a function is not run: {why}"));
        context.remarks.push(remark.at(module.spans[func.body].clone()));
    }
}
