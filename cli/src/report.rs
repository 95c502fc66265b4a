//! `fermata report`: one page on what the passes make of a model.

mod cost;
mod page;
mod parts;

use std::collections::BTreeMap;
use std::time::Instant;

use fermata_ir::expr::{Expr, Module};
use fermata_ir::walk;
use fermata_passes::lower::lower;
use fermata_passes::lower::plan::{Program, Step};
use fermata_passes::manager::{self, Instrument, Options};
use fermata_passes::pass::{Outcome, PassContext, PassDef};

use crate::args::{PrintArgs, ReportArgs, WatchArgs};
use crate::compile::{any_target, pipeline};
use crate::model::{self, Bindings};
use crate::{Driver, Failure, Streams, output};

/// What the page says.
struct Report {
    model: String,
    target: String,
    pipeline: String,
    before: Module,
    after: Module,
    passes: Vec<PassRun>,
    /// The plan, if the program has kernels.
    plan: Option<Plan>,
    /// The program as text before the first pass.
    text: String,
}

/// What a pass did.
struct PassRun {
    pass: &'static PassDef,
    seconds: f64,
    changed: bool,
    rewrites: u64,
    fired: BTreeMap<&'static str, u64>,
    /// Calls of operators after it.
    calls: usize,
    /// The program after it, if it changed it.
    text: Option<String>,
}

/// What is launched.
struct Plan {
    kernels: usize,
    launches: usize,
    arena_bytes: usize,
}

/// `fermata report`.
pub(crate) fn command(driver: &Driver, args: &ReportArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let bindings = Bindings::new(&args.model)?;
    let before = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    let pipeline = pipeline(driver, &args.pipeline, &WatchArgs::default())?;
    let target = any_target(&args.pipeline)?;
    let options = Options {
        target: target.clone(),
        verify_each: args.pipeline.verify_each,
        table: driver.passes.clone(),
        ..Options::default()
    };
    let text = text(&before);
    let mut recorder = Recorder { passes: Vec::new(), table: driver, started: None };
    let mut after = before.clone();
    manager::run(&mut after, &pipeline, &options, &mut [&mut recorder])
        .map_err(|d| Failure::refused(d, &before.sources))?;
    let report = Report {
        model: args.model.model.file_name().map_or_else(|| "-".into(), |n| n.to_string_lossy().into_owned()),
        target: args.pipeline.target.clone(),
        pipeline: pipeline.to_string(),
        plan: lower(&after, &target).ok().and_then(|program| plan(&program)),
        passes: recorder.passes,
        before,
        after,
        text,
    };
    output::write(&args.output, page::page(&report).as_bytes(), streams)?;
    Ok(0)
}

/// The program as the page shows it: of constants only scalars and pairs.
fn text(module: &Module) -> String {
    output::module_text(module, &PrintArgs { elide_constants: 2, ..PrintArgs::default() }, false)
}

/// The number of calls of operators.
fn calls(module: &Module) -> usize {
    walk::reachable(module).into_iter().filter(|&id| module.as_op_call(id).is_some()).count()
}

/// The constants that a program refers to, and their bytes.
fn constants(module: &Module) -> (usize, usize) {
    let mut seen = std::collections::BTreeSet::new();
    let mut bytes = 0;
    for id in walk::reachable(module) {
        if let Expr::Const(c) = module.exprs[id]
            && seen.insert(c)
        {
            bytes += module.consts[c].tensor.bytes().len();
        }
    }
    (seen.len(), bytes)
}

fn plan(program: &Program) -> Option<Plan> {
    let plan = &program.funcs[program.entry?];
    let mut launches = 0;
    let mut stack: Vec<&Step> = plan.steps.iter().collect();
    while let Some(step) = stack.pop() {
        match step {
            Step::Launch { .. } => launches += 1,
            Step::If { then, els, .. } => stack.extend(then.iter().chain(els)),
            Step::Call { .. } | Step::Copy { .. } => {}
        }
    }
    Some(Plan { kernels: program.kernels.len(), launches, arena_bytes: plan.arena_bytes })
}

/// Times passes and keeps what they leave.
struct Recorder<'a> {
    passes: Vec<PassRun>,
    table: &'a Driver,
    started: Option<Instant>,
}

impl Instrument for Recorder<'_> {
    fn before(&mut self, _: &PassDef, _: &Module) {
        self.started = Some(Instant::now());
    }

    fn after(&mut self, pass: &PassDef, module: &Module, outcome: Outcome, context: &PassContext) {
        let seconds = self.started.take().map_or(0.0, |s| s.elapsed().as_secs_f64());
        let Some(pass) = self.table.passes.get(pass.name) else { return };
        let changed = outcome == Outcome::Changed;
        self.passes.push(PassRun {
            pass,
            seconds,
            changed,
            rewrites: context.rewrites,
            fired: context.fired.clone(),
            calls: calls(module),
            text: changed.then(|| text(module)),
        });
    }
}
