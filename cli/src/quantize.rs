//! `fermata quantize`: a model in int8, and what that costs layer by layer.

use fermata_ir::diag::{Code, Diagnostic};
use fermata_passes::manager;
use fermata_passes::pipeline::{self, Pipeline, Step};
use fermata_passes::relay::quantize::{LayerError, Scheme, report};

use crate::args::{PrintArgs, QuantizeArgs};
use crate::inputs::{Given, collect};
use crate::run::{bindings, parameters};
use crate::{Driver, Failure, Streams, model, output};

/// `fermata quantize`.
pub(crate) fn command(
    driver: &Driver,
    args: &QuantizeArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let scheme = scheme(&args.scheme)?;
    let given = Given::new(&args.inputs, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let mut module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    if args.report {
        let wanted = parameters(&module)?;
        let inputs = collect(&args.inputs, &given, &wanted)?;
        let errors = report(&module, scheme, &inputs).map_err(|d| Failure::refused(d, &module.sources))?;
        print(&errors, streams)?;
        if args.output.is_none() {
            return Ok(0);
        }
    }
    let pipeline = Pipeline { steps: steps(driver, &args.scheme)? };
    let options = manager::Options { table: driver.passes.clone(), ..manager::Options::default() };
    manager::run(&mut module, &pipeline, &options, &mut [])
        .map_err(|d| Failure::refused(d, &module.sources))?;
    let path = args.output.clone().unwrap_or_else(|| "-".into());
    let weights_out = (path.as_os_str() != "-").then(|| path.with_extension("safetensors"));
    let printed = output::printed(&module, &PrintArgs { elide_constants: 16, weights_out }, false);
    if path.as_os_str() != "-" {
        output::write_weights(&module, &printed, &path.with_extension("safetensors"), streams)?;
    }
    output::write(&path, printed.text.as_bytes(), streams)?;
    Ok(0)
}

fn scheme(name: &str) -> Result<Scheme, Failure> {
    Scheme::from_name(name).ok_or_else(|| {
        let names = Scheme::ALL.map(Scheme::name);
        let error = Diagnostic::error(Code::USAGE, format!("there is no scheme `{name}`"));
        Failure::from_usage(error.help(format!("schemes are: {}", names.join(", "))))
    })
}

/// The steps that quantise a program by a scheme: weights are often computed from constants,
/// so these fold first.
///
/// # Errors
/// If there is no scheme of this name.
pub(crate) fn steps(driver: &Driver, name: &str) -> Result<Vec<Step>, Failure> {
    let text = format!("infer_type,fold_constant,quantize{{scheme={}}}", scheme(name)?.name());
    Ok(pipeline::parse(&text, &driver.passes).map_err(Failure::from_usage)?.steps)
}

/// A line a layer, the worst ones named again.
fn print(errors: &[LayerError], streams: &mut Streams<'_>) -> Result<(), Failure> {
    let width = errors.iter().map(|e| e.name.len()).max().unwrap_or(0);
    writeln!(streams.stdout, "{:<width$}  {:>11}  {:>8}  {:>11}", "layer", "n x k", "SQNR, dB", "worst")?;
    for e in errors {
        let shape = format!("{} x {}", e.shape[0], e.shape[1]);
        writeln!(streams.stdout, "{:<width$}  {shape:>11}  {:>8.2}  {:>11.3e}", e.name, e.sqnr_db, e.worst)?;
    }
    let lowest = errors.iter().min_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    match lowest {
        Some(e) => writeln!(streams.stdout, "lowest: {} at {:.2} dB", e.name, e.sqnr_db)?,
        None => writeln!(streams.stdout, "no product with a constant weight")?,
    }
    Ok(())
}
