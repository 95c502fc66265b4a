//! `fermata bisect`: which rewrite of which pass broke a program.

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::Module;
use fermata_ir::tensor::Tensor;
use fermata_passes::bisect::{Found, Verdict, first_bad};
use fermata_passes::manager::{self, Instrument, Options};
use fermata_passes::pass::{Outcome, PassContext, PassDef};
use fermata_passes::pipeline::Pipeline;

use crate::args::{BisectArgs, WatchArgs};
use crate::check::{Checker, filled, progress, word};
use crate::compile::{any_target, pipeline};
use crate::inputs::{Given, collect};
use crate::model;
use crate::run::{Results, bindings, parameters};
use crate::{Driver, Failure, Streams, diff, output};

/// `fermata bisect`.
pub(crate) fn command(driver: &Driver, args: &BisectArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let inputs_args = filled(&args.inputs);
    let given = Given::new(&inputs_args, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    let checker = Checker::new(&args.check, args.emit, &args.pipeline, &args.tolerance)?;
    let inputs = match checker.compares() {
        true => collect(&inputs_args, &given, &parameters(&module)?)?,
        false => Vec::new(),
    };
    let search = Search {
        driver,
        args,
        pipeline: pipeline(driver, &args.pipeline, &WatchArgs::default())?,
        expected: checker.expected(&module, &inputs),
        module,
        checker,
        inputs,
    };
    let all = search.ends(streams)?;
    let mut check = |limit| {
        let verdict = search.judge(&search.optimised(Some(limit), None)?)?;
        progress(streams, &format!("after {limit} of {all} rewrites: {}", word(verdict)));
        Ok::<_, Failure>(verdict)
    };
    match first_bad(all, &mut check)? {
        Found::Rewrite(number) => search.show(number, all, streams),
        Found::Between { good, bad } => {
            let (first, last) = (good + 1, bad);
            writeln!(
                streams.stdout,
                "one of the rewrites {first} to {last} of {all} is the first bad one; the check could not \
                 judge what lies between"
            )?;
            Ok(1)
        }
    }
}

/// What stays the same while limits are tried.
struct Search<'a> {
    driver: &'a Driver,
    args: &'a BisectArgs,
    pipeline: Pipeline,
    module: Module,
    checker: Checker<'a>,
    inputs: Vec<Tensor>,
    expected: Option<Results>,
}

/// A program after some rewrites, and how it came about.
struct Optimised {
    module: Module,
    /// Why a pass failed, if one did.
    failed: Option<Diagnostics>,
    log: Log,
}

impl Search<'_> {
    /// The program after so many rewrites, all if there is no limit.
    fn optimised(&self, limit: Option<u64>, keep: Option<usize>) -> Result<Optimised, Failure> {
        let options = Options {
            target: any_target(&self.args.pipeline)?,
            verify_each: self.args.pipeline.verify_each,
            fuel: limit,
            table: self.driver.passes.clone(),
            ..Options::default()
        };
        let mut log = Log { keep, ..Log::default() };
        let mut module = self.module.clone();
        let failed = manager::run(&mut module, &self.pipeline, &options, &mut [&mut log]).err();
        Ok(Optimised { module, failed, log })
    }

    fn judge(&self, optimised: &Optimised) -> Result<Verdict, Failure> {
        match optimised.failed {
            // What a pass itself chokes on needs no further check.
            Some(_) => Ok(Verdict::Bad),
            None => self.checker.judge(&optimised.module, &self.inputs, self.expected.as_ref()),
        }
    }

    /// Judges both ends, which must differ; gives the number of rewrites.
    fn ends(&self, streams: &mut Streams<'_>) -> Result<u64, Failure> {
        let as_it_is = self.checker.judge(&self.module, &self.inputs, self.expected.as_ref())?;
        progress(streams, &format!("before any pass: {}", word(as_it_is)));
        if as_it_is != Verdict::Good {
            let message = format!("before any pass the program is not good: it {}", said(as_it_is));
            return Err(nothing_to_find(
                message,
                "a check must hold for the program as it is; try it by hand",
            ));
        }
        let optimised = self.optimised(None, None)?;
        let all = optimised.log.rewrites();
        let verdict = self.judge(&optimised)?;
        progress(streams, &format!("after all {all} rewrites: {}", word(verdict)));
        if verdict != Verdict::Bad {
            let message = format!("after all {all} rewrites the program is not bad: it {}", said(verdict));
            return Err(nothing_to_find(message, "give the -O level or the --passes with which it fails"));
        }
        let none = self.judge(&self.optimised(Some(0), None)?)?;
        progress(streams, &format!("after no rewrite: {}", word(none)));
        if none != Verdict::Good {
            let message =
                format!("with the passes, but without any rewrite, the program already {}", said(none));
            let help = "a pass that changes the program without counting it is to blame; try --disable-pass";
            return Err(nothing_to_find(message, help));
        }
        Ok(all)
    }

    /// Names a rewrite and shows what it changed.
    fn show(&self, number: u64, all: u64, streams: &mut Streams<'_>) -> Result<i32, Failure> {
        let bad = self.optimised(Some(number), None)?;
        let Some(at) = bad.log.step_of(number) else {
            return Err(Failure::usage("the passes rewrite differently each time"));
        };
        let before = self.optimised(Some(number - 1), Some(at))?;
        let after = self.optimised(Some(number), Some(at))?;
        let step = &bad.log.steps[at];
        let nth = number - bad.log.steps[..at].iter().map(|s| s.rewrites).sum::<u64>();
        let pass = step.pass;
        writeln!(
            streams.stdout,
            "the first bad rewrite is number {number} of {all}: rewrite {nth} of the pass `{pass}`"
        )?;
        if let Some(rewrite) = &step.last {
            write!(streams.stdout, "{}", rewrite.render(&self.module.sources, false))?;
        }
        if let Some(failed) = &bad.failed {
            write!(streams.stdout, "{}", failed.render(&self.module.sources, false))?;
        }
        let text =
            |o: Optimised| output::module_text(&o.log.kept.unwrap_or(o.module), &self.args.print, false);
        write!(streams.stdout, "{}", diff::unified(&text(before), &text(after)))?;
        Ok(0)
    }
}

fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "passes the check",
        Verdict::Bad => "fails the check",
        Verdict::Skip => "cannot be judged",
    }
}

fn nothing_to_find(message: String, help: &str) -> Failure {
    Diagnostic::error(Code::CHECK, message).help(help).into()
}

/// What a pass did.
struct Step {
    pass: &'static str,
    rewrites: u64,
    /// The rewrite that took the last fuel.
    last: Option<Diagnostic>,
}

/// Counts the rewrites of each pass, and keeps the program after one of them.
#[derive(Default)]
struct Log {
    steps: Vec<Step>,
    keep: Option<usize>,
    kept: Option<Module>,
}

impl Log {
    fn rewrites(&self) -> u64 {
        self.steps.iter().map(|s| s.rewrites).sum()
    }

    /// The step that did the rewrite of a number; the last one, if it failed before it could count.
    fn step_of(&self, number: u64) -> Option<usize> {
        let mut sum = 0;
        let found = self.steps.iter().position(|step| {
            sum += step.rewrites;
            sum >= number
        });
        found.or(self.steps.len().checked_sub(1))
    }
}

impl Instrument for Log {
    fn before(&mut self, pass: &PassDef, _: &Module) {
        self.steps.push(Step { pass: pass.name, rewrites: 0, last: None });
    }

    fn after(&mut self, _: &PassDef, module: &Module, _: Outcome, context: &PassContext) {
        if self.keep == self.steps.len().checked_sub(1) {
            self.kept = Some(module.clone());
        }
        if let Some(step) = self.steps.last_mut() {
            step.rewrites = context.rewrites;
            step.last = context.last_rewrite.clone();
        }
    }
}
