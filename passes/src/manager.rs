//! Runs pipelines: resolves what passes require, re-infers types, verifies, tells observers.

use std::collections::BTreeSet;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::verify::verify;

use crate::pass::{Outcome, PassContext, PassDef, Stage};
use crate::pipeline::{Pipeline, Step};
use crate::table::PassTable;
use crate::target::Target;

/// Somebody who watches the passes: timing, printing, dumping.
pub trait Instrument {
    /// A pass is about to run.
    fn before(&mut self, pass: &PassDef, module: &Module) {
        let _ = (pass, module);
    }

    /// A pass has run and the module is valid again.
    fn after(&mut self, pass: &PassDef, module: &Module, outcome: Outcome, context: &PassContext) {
        let _ = (pass, module, outcome, context);
    }
}

/// How a pipeline runs.
pub struct Options {
    /// The target that passes are told.
    pub target: Target,
    /// Check the module's rules after every pass.
    pub verify_each: bool,
    /// Collect remarks.
    pub remarks: bool,
    /// Stop rewriting after this many rewrites of the whole pipeline.
    pub fuel: Option<u64>,
    /// Where required passes are looked up.
    pub table: PassTable,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            target: Target::default(),
            verify_each: true,
            remarks: false,
            fuel: None,
            table: PassTable::standard(),
        }
    }
}

/// Runs the steps in order.
///
/// # Errors
/// If a pass fails, cannot run on the program's form, or leaves the program invalid.
pub fn run(
    module: &mut Module,
    pipeline: &Pipeline,
    options: &Options,
    instruments: &mut [&mut dyn Instrument],
) -> Result<(), Diagnostics> {
    let mut manager = Manager { options, fresh: BTreeSet::new(), stage: Stage::Relay, fuel: options.fuel };
    for step in &pipeline.steps {
        for name in step.pass.requires {
            if manager.fresh.contains(name) || *name == step.pass.name {
                continue;
            }
            let required = options.table.get(name).ok_or_else(|| {
                Diagnostic::error(
                    Code::PASS,
                    format!("`{}` requires `{name}`, which is no pass", step.pass.name),
                )
            })?;
            manager.step(module, &Step::new(required), instruments)?;
        }
        manager.step(module, step, instruments)?;
    }
    Ok(())
}

struct Manager<'a> {
    options: &'a Options,
    /// Passes that have run since the program last changed.
    fresh: BTreeSet<&'static str>,
    stage: Stage,
    fuel: Option<u64>,
}

impl Manager<'_> {
    fn step(
        &mut self,
        module: &mut Module,
        step: &Step,
        instruments: &mut [&mut dyn Instrument],
    ) -> Result<(), Diagnostics> {
        let pass = step.pass;
        self.check_stage(pass)?;
        instruments.iter_mut().for_each(|i| i.before(pass, module));
        let mut context = PassContext {
            target: self.options.target.clone(),
            options: step.options.clone(),
            fuel: self.fuel,
            want_remarks: self.options.remarks,
            ..PassContext::default()
        };
        let outcome = (pass.run)(module, &mut context)?;
        self.fuel = context.fuel;
        if outcome == Outcome::Changed {
            self.fresh.clear();
            infer_module(module)?;
            self.fresh.insert("infer_type");
            if self.options.verify_each {
                self.verify(pass, module)?;
            }
        }
        self.fresh.insert(pass.name);
        self.stage = pass.gives.unwrap_or(self.stage);
        instruments.iter_mut().for_each(|i| i.after(pass, module, outcome, &context));
        Ok(())
    }

    fn check_stage(&self, pass: &PassDef) -> Result<(), Diagnostics> {
        let fits = match pass.takes {
            Stage::Relay => self.stage != Stage::Fused || pass.gives.is_none(),
            Stage::Graph => matches!(self.stage, Stage::Relay | Stage::Graph),
            Stage::ANormal => self.stage == Stage::ANormal,
            // A text may have come with groups in it.
            Stage::Fused => matches!(self.stage, Stage::Fused | Stage::Relay),
        };
        if fits {
            return Ok(());
        }
        let message = format!("the pass `{}` cannot run on a program in {:?} form", pass.name, self.stage);
        Err(Diagnostic::error(Code::PASS, message)
            .help(format!("it takes {:?} form; move it before the pass that changed the form", pass.takes))
            .into())
    }

    fn verify(&self, pass: &PassDef, module: &Module) -> Result<(), Diagnostics> {
        verify(module).map(|_| ()).map_err(|Diagnostics(all)| {
            let note = format!("the program was valid before the pass `{}`", pass.name);
            Diagnostics(all.into_iter().map(|d| d.note(note.clone())).collect())
        })
    }
}
