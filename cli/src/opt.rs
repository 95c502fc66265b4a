//! `fermata opt`: passes over a program, printed; TIR in text is read, verified and printed.

use fermata_ir::diag::{Source, SourceMap};
use fermata_ir::expr::Module;
use fermata_ir::front::Kind;
use fermata_ir::tir;

use crate::args::{OptArgs, OptEmit};
use crate::compile::{optimise, pipeline};
use crate::model::{self, Bindings, Opened};
use crate::{Driver, Failure, Streams, crash, graph, list, output, split};

/// `fermata opt`.
pub(crate) fn command(driver: &Driver, args: &OptArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    if args.list_passes {
        return list::passes(driver, false, streams);
    }
    let mut args = args.clone();
    if args.run_reproducer {
        args.pipeline.passes = Some(crash::pipeline_of(&args.model.model)?);
    }
    if args.watch.print_pipeline {
        writeln!(streams.stdout, "{}", pipeline(driver, &args.pipeline, &args.watch)?)?;
        return Ok(0);
    }
    let opened = model::open(&args.model.model, streams)?;
    if matches!(opened.kind, Some(Kind::Tir | Kind::Relay)) {
        return texts(driver, &args, opened, streams);
    }
    if args.split_input_file || args.verify_diagnostics {
        return Err(Failure::usage(format!("`{}` is no text, as this needs", opened.name)));
    }
    let bindings = Bindings::new(&args.model)?;
    let module = model::module(model::load_opened(driver, &args.model, &bindings, opened)?)?;
    let text = optimised(driver, &args, module, streams)?;
    output::write(&args.output, text.as_bytes(), streams)?;
    Ok(0)
}

/// The programs of a text, each on its own, and the errors that they expect.
fn texts(driver: &Driver, args: &OptArgs, opened: Opened, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let is_tir = opened.kind == Some(Kind::Tir);
    let name = opened.name.clone();
    let text = opened.text(&args.model.model)?;
    let parts = if args.split_input_file { split::parts(&text) } else { vec![text] };
    let (mut printed, mut code) = (Vec::new(), 0);
    for part in &parts {
        let done = match is_tir {
            true => reprinted_tir(&name, part),
            false => relay_part(driver, args, &name, part, streams),
        };
        let done = if args.verify_diagnostics { verified(&name, part, done) } else { done };
        match done {
            Ok(text) => printed.push(text),
            Err(failure) if args.split_input_file => code = code.max(streams.report(&failure)),
            Err(failure) => return Err(failure),
        }
    }
    if !args.verify_diagnostics {
        let border = if is_tir { "# -----\n" } else { "// -----\n" };
        output::write(&args.output, printed.join(border).as_bytes(), streams)?;
    }
    Ok(code)
}

/// Judges what became of a part by the errors that its comments expect.
fn verified(name: &str, part: &str, done: Result<String, Failure>) -> Result<String, Failure> {
    let sources = fermata_ir::text::sources(name, part);
    let found = match done {
        Ok(_) => Vec::new(),
        Err(failure) => failure.diagnostics.0,
    };
    split::verify(part, &found, &sources).map_err(|d| Failure::refused(d, &sources))?;
    Ok(String::new())
}

fn relay_part(
    driver: &Driver,
    args: &OptArgs,
    name: &str,
    part: &str,
    streams: &mut Streams<'_>,
) -> Result<String, Failure> {
    let module = model::of_text(driver, &args.model, &Bindings::new(&args.model)?, name, part)?;
    optimised(driver, args, module, streams)
}

/// A program after the passes, as text; its weights are written where the flags say.
fn optimised(
    driver: &Driver,
    args: &OptArgs,
    mut module: Module,
    streams: &mut Streams<'_>,
) -> Result<String, Failure> {
    optimise(driver, &mut module, &args.pipeline, &args.watch, &args.print, streams)?;
    match args.emit {
        OptEmit::Relay => {}
        OptEmit::Dot => return Ok(graph::dot::file(&graph::build(&module))),
        OptEmit::Svg => return Ok(graph::svg::file(&graph::build(&module))),
    }
    let printed = output::printed(&module, &args.print, args.show_types);
    if let Some(path) = &args.print.weights_out {
        output::write_weights(&module, &printed, path, streams)?;
    }
    Ok(printed.text)
}

fn reprinted_tir(name: &str, text: &str) -> Result<String, Failure> {
    let mut sources = SourceMap::new();
    sources.push(Source { name: name.into(), text: text.into() });
    let funcs = tir::parse::parse(name, text).map_err(|d| Failure::refused(d, &sources))?;
    for func in &funcs {
        tir::verify::verify(func).map_err(|d| Failure::refused(d, &sources))?;
    }
    Ok(tir::print::print_all(&funcs))
}
