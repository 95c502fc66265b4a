//! InferType: fills in the types of everything that has none yet.

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;

use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "infer_type",
    relay_name: "InferType",
    level: 0,
    doc: "infer the type of every expression that has none yet",
    options: &[],
    requires: &[],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, _: &mut PassContext) -> Result<Outcome, Diagnostics> {
    infer_module(module)?;
    Ok(Outcome::Unchanged)
}
