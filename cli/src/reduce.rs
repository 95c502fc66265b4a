//! `fermata reduce`: a failing program, made small.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tensor::Tensor;
use fermata_passes::bisect::Verdict;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::Pipeline;
use fermata_passes::reduce::{self, Candidate, Progress, count_calls};

use crate::args::{Handed, InputArgs, ReduceArgs, WatchArgs};
use crate::check::{Checker, filled, progress, write_relay};
use crate::compile::{any_target, pipeline};
use crate::inputs::{Given, collect};
use crate::model;
use crate::run::{bindings, parameters};
use crate::{Driver, Failure, Streams, output};

/// `fermata reduce`.
pub(crate) fn command(driver: &Driver, args: &ReduceArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let inputs_args = filled(&args.inputs);
    let given = Given::new(&inputs_args, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    let checker = Checker::new(&args.check, Handed::Relay, &args.pipeline, &args.tolerance)?;
    let inputs = match checker.compares() {
        true => collect(&inputs_args, &given, &parameters(&module)?)?,
        false => Vec::new(),
    };
    let judge = Judge {
        optimises: checker.compares() || args.after_passes,
        pipeline: pipeline(driver, &args.pipeline, &WatchArgs::default())?,
        driver,
        args,
        checker,
        inputs,
        fill: InputArgs { fill: inputs_args.fill, seed: inputs_args.seed, ..InputArgs::default() },
    };
    let calls = count_calls(&module);
    let whole = Candidate { origins: (0..judge.inputs.len()).map(Some).collect(), module };
    if !judge.fails(&whole)? {
        let message = "the check does not fail for the program, so there is nothing to reduce";
        let help = "a check exits with 1 where the program still shows the fault";
        return Err(Diagnostic::error(Code::CHECK, message).help(help).into());
    }
    let options = reduce::Options { fresh_params: true, sizes: true, max_checks: args.max_checks };
    let mut show =
        |p: Progress| progress(streams, &format!("{} calls left after {} checks", p.calls, p.checks));
    let (small, done) = reduce::reduce(&whole.module, &options, &mut |c| judge.fails(c), &mut show)?;
    let (left, checks) = (done.calls, done.checks);
    writeln!(streams.stderr, "{calls} calls became {left} in {checks} checks")?;
    if args.output.as_os_str() == "-" {
        let text = output::module_text(&small.module, &crate::args::PrintArgs::default(), false);
        streams.stdout.write_all(text.as_bytes())?;
    } else {
        write_relay(&small.module, &args.output)?;
    }
    Ok(0)
}

/// Says whether a candidate still fails.
struct Judge<'a> {
    driver: &'a Driver,
    args: &'a ReduceArgs,
    checker: Checker<'a>,
    pipeline: Pipeline,
    /// Whether the check sees the program after the passes.
    optimises: bool,
    /// The inputs of the first program.
    inputs: Vec<Tensor>,
    /// How inputs of new parameters are made.
    fill: InputArgs,
}

impl Judge<'_> {
    fn fails(&self, candidate: &Candidate) -> Result<bool, Failure> {
        let Some(inputs) = self.inputs_of(candidate) else { return Ok(false) };
        let expected = self.checker.expected(&candidate.module, &inputs);
        let mut module = candidate.module.clone();
        if self.optimises {
            let options = Options {
                target: any_target(&self.args.pipeline)?,
                verify_each: self.args.pipeline.verify_each,
                table: self.driver.passes.clone(),
                ..Options::default()
            };
            if manager::run(&mut module, &self.pipeline, &options, &mut []).is_err() {
                return Ok(true);
            }
        }
        Ok(self.checker.judge(&module, &inputs, expected.as_ref())? == Verdict::Bad)
    }

    /// The first program's inputs where a parameter was one of its own, others as the flags fill them.
    fn inputs_of(&self, candidate: &Candidate) -> Option<Vec<Tensor>> {
        if !self.checker.compares() {
            return Some(Vec::new());
        }
        let wanted = parameters(&candidate.module).ok()?;
        let filled = collect(&self.fill, &Given::default(), &wanted).ok()?;
        let known = |origin: &Option<usize>| origin.and_then(|place| self.inputs.get(place).cloned());
        Some(
            filled
                .into_iter()
                .zip(&candidate.origins)
                .map(|(new, origin)| known(origin).unwrap_or(new))
                .collect(),
        )
    }
}
