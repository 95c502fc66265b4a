//! Generated programs as text: the round trip, and case files of those that fail.

use std::fmt::Write as _;

use fermata::inputs::to_f64;
use fermata_ir::equal::structurally_equal;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{LargeConstants, ParseOptions, PrintOptions, parse_module, print, print_module};
use fermata_ir::types::DType;
use fermata_ir::weights::Weights;

use super::{Fault, Program};

/// Prints a program, large constants beside the text, and reads it again.
///
/// # Errors
/// If the text is refused, is another program, or prints with other bytes.
pub fn round_trip(program: &Program) -> Result<(), String> {
    let options = PrintOptions::default();
    let printed = print(&program.module, &options);
    let tensors = printed.weights.iter();
    let weights: Weights =
        tensors.map(|(name, id)| (name.clone(), program.module.consts[*id].tensor.clone())).collect();
    let ops = OpTable::standard();
    let parse = ParseOptions { ops: &ops, weights: Some(&weights) };
    let mut read = parse_module("generated", &printed.text, &parse)
        .map_err(|d| format!("the text is refused: {}\n{}", d.0[0].message, printed.text))?;
    infer_module(&mut read)
        .map_err(|d| format!("the text has no types: {}\n{}", d.0[0].message, printed.text))?;
    if !structurally_equal(&program.module, &read) {
        return Err(format!("the text means another program:\n{}", printed.text));
    }
    let again = print(&read, &options);
    match again.text == printed.text {
        true => Ok(()),
        false => Err(format!("printing again differs:\n{}\n---\n{}", printed.text, again.text)),
    }
}

/// A program that fails as a case file, to be put under `cases/run`.
pub fn as_case(program: &Program, fault: &Fault) -> String {
    let mut text = "// RUN: fermata compare %s".to_owned();
    let main = program.module.global("main").and_then(|g| program.module.globals[g].func.as_ref());
    let params = main.into_iter().flat_map(|func| &func.params);
    for (&param, tensor) in params.zip(&program.inputs) {
        let _ = write!(text, " -i '{}={}'", program.module.vars[param].name, literal(tensor));
    }
    let options = PrintOptions { large: LargeConstants::Inline, ..PrintOptions::default() };
    let body = print_module(&program.module, &options);
    format!("{text} {}\n// CHECK: match\n{body}", fault.treatment)
}

/// A tensor as the command line takes it: `2x3xf32=[..]`.
fn literal(tensor: &Tensor) -> String {
    let sizes: String = tensor.shape().iter().map(|n| format!("{n}x")).collect();
    let values: Vec<String> = match tensor.dtype() {
        // A double does not hold these.
        DType::I64 => tensor.as_slice::<i64>().into_iter().flatten().map(i64::to_string).collect(),
        DType::U64 => tensor.as_slice::<u64>().into_iter().flatten().map(u64::to_string).collect(),
        _ => to_f64(tensor).iter().map(|x| if x.is_nan() { "nan".into() } else { x.to_string() }).collect(),
    };
    format!("{sizes}{}=[{}]", tensor.dtype().name(), values.join(","))
}
