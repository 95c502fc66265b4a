//! `fermata opt`: passes over a program, printed; TIR in text is read, verified and printed.

use std::io::Read;

use fermata_ir::diag::{Source, SourceMap};
use fermata_ir::front::{Kind, SNIFF_BYTES, sniff};
use fermata_ir::tir;

use crate::args::OptArgs;
use crate::compile::{any_target, optimise, pipeline};
use crate::model::{self, Bindings};
use crate::{Driver, Failure, Streams, list, output};

/// `fermata opt`.
pub(crate) fn command(driver: &Driver, args: &OptArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    if args.list_passes {
        return list::passes(driver, false, streams);
    }
    if args.pipeline.print_pipeline {
        writeln!(streams.stdout, "{}", pipeline(driver, &args.pipeline)?)?;
        return Ok(0);
    }
    if let Some((name, text)) = tir_text(args)? {
        return reprint_tir(&name, &text, args, streams);
    }
    let target = any_target(&args.pipeline)?;
    let bindings = Bindings::new(&args.model)?;
    let mut module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    optimise(driver, &mut module, &args.pipeline, &args.print, &target, streams)?;
    let printed = output::printed(&module, &args.print, args.show_types);
    if let Some(path) = &args.print.weights_out {
        output::write_weights(&module, &printed, path, streams)?;
    }
    output::write(&args.output, printed.text.as_bytes(), streams)?;
    Ok(0)
}

/// The text of the file, if it holds TIR.
fn tir_text(args: &OptArgs) -> Result<Option<(String, String)>, Failure> {
    let path = &args.model.model;
    if path.as_os_str() == "-" || path.is_dir() {
        return Ok(None);
    }
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read `{name}`: {e}"));
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(cannot)?;
    if sniff(&head) != Some(Kind::Tir) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    Ok(Some((name, text)))
}

fn reprint_tir(name: &str, text: &str, args: &OptArgs, streams: &mut Streams<'_>) -> Result<i32, Failure> {
    let mut sources = SourceMap::new();
    sources.push(Source { name: name.into(), text: text.into() });
    let funcs = tir::parse::parse(name, text).map_err(|d| Failure::refused(d, &sources))?;
    for func in &funcs {
        tir::verify::verify(func).map_err(|d| Failure::refused(d, &sources))?;
    }
    output::write(&args.output, tir::print::print_all(&funcs).as_bytes(), streams)?;
    Ok(0)
}
