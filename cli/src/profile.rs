//! `fermata profile`: which kernels a run's time goes to.

use std::collections::BTreeMap;
use std::time::Duration;

use fermata_ir::op::AttrValue;
use fermata_passes::lower::plan::KernelId;
use fermata_runtime::exec::StepTime;

use crate::args::{Fill, ProfileArgs};
use crate::compile::load_compiled;
use crate::inputs::{Given, collect};
use crate::run::{bindings, ports, session};
use crate::{Driver, Failure, Streams};

/// What is known of a kernel, or of all copies.
#[derive(Default)]
struct Entry {
    launches: usize,
    time: Duration,
}

/// `fermata profile`.
pub(crate) fn command(
    driver: &Driver,
    args: &ProfileArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let mut inputs_args = args.inputs.clone();
    inputs_args.fill.get_or_insert(Fill::Random);
    let given = Given::new(&inputs_args, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let compiled = load_compiled(driver, &args.model, &bindings, &args.pipeline, streams)?;
    let wanted = ports(&compiled.program);
    let mut session = session(compiled, &args.pipeline, usize::from(args.threads))?;
    let inputs = collect(&inputs_args, &given, &wanted)?;
    // The same inputs take the same steps, so the best time of each step is well defined.
    let mut steps: Vec<StepTime> = Vec::new();
    for _ in 0..args.iterations.max(1) {
        let mut at = 0;
        let mut observe = |step: StepTime| {
            match steps.get_mut(at) {
                Some(best) => best.time = best.time.min(step.time),
                None => steps.push(step),
            }
            at += 1;
        };
        session.run_observed(&inputs, Some(&mut observe))?;
    }
    let mut kernels: BTreeMap<Option<KernelId>, Entry> = BTreeMap::new();
    for step in &steps {
        let entry = kernels.entry(step.kernel).or_default();
        entry.launches += 1;
        entry.time += step.time;
    }
    let mut order: Vec<(Option<KernelId>, Entry)> = kernels.into_iter().collect();
    order.sort_by_key(|(id, entry)| (std::cmp::Reverse(entry.time), *id));
    let all: Duration = steps.iter().map(|s| s.time).sum();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    writeln!(streams.stdout, "{:>10.3} ms in {} steps", ms(all), steps.len())?;
    for (id, entry) in order.into_iter().take(args.top.unwrap_or(usize::MAX)) {
        let kernel = id.map(|id| &session.program().kernels[id]);
        let name = kernel.map_or("copies", |k| &k.func.name);
        let ops = match kernel.and_then(|k| k.func.attrs.get("relay")) {
            Some(AttrValue::Str(ops)) => &**ops,
            _ => "",
        };
        let share = 100.0 * entry.time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE);
        let (time, launches, tiles) = (ms(entry.time), entry.launches, kernel.map_or(0, |k| k.tiles));
        writeln!(
            streams.stdout,
            "{time:>10.3} ms {share:>5.1} % {launches:>4} launches {tiles:>5} tiles  {name}  ({ops})"
        )?;
    }
    Ok(0)
}
