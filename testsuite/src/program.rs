//! From a model's file to what runs, on the evaluator and compiled: the way all checks take.

use std::path::Path;

use fermata_codegen::cpu::compile_all;
use fermata_ir::diag::Diagnostics;
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::front::onnx::{ImportOptions, import_file, shape_inputs};
use fermata_ir::infer::infer_module;
use fermata_ir::tensor::Tensor;
use fermata_ir::weights::map_file;
use fermata_passes::lower::lower;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, Pipeline, parse, standard};
use fermata_passes::relay::quantize::Scheme;
use fermata_passes::table::PassTable;
use fermata_runtime::detect;
use fermata_runtime::exec::Session;

/// A model, specialised to its inputs.
pub(crate) struct Imported {
    /// The typed program.
    pub(crate) module: Module,
    /// The inputs that are not in it as constants.
    pub(crate) inputs: Vec<Tensor>,
}

/// Imports a model for these inputs, which stand in the order of its own.
pub(crate) fn import(
    path: &Path,
    inputs: impl IntoIterator<Item = (String, Tensor)>,
) -> Result<Imported, Diagnostics> {
    let constant = shape_inputs(&map_file(path)?)?;
    let (fixed, free): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(n, _)| constant.contains(n));
    let options = ImportOptions {
        shapes: free.iter().map(|(n, t)| (n.clone(), t.shape().to_vec())).collect(),
        const_inputs: fixed.into_iter().collect(),
        ..ImportOptions::default()
    };
    let mut module = import_file(path, &options)?;
    infer_module(&mut module)?;
    Ok(Imported { module, inputs: free.into_iter().map(|(_, t)| t).collect() })
}

/// Compiles a program for this machine.
pub(crate) fn compile(module: Module, threads: usize) -> Result<Session, Diagnostics> {
    compile_quantised(module, None, threads)
}

/// Compiles a program for this machine, its products in int8 if there is a scheme.
pub(crate) fn compile_quantised(
    module: Module,
    scheme: Option<Scheme>,
    threads: usize,
) -> Result<Session, Diagnostics> {
    compile_by(module, &pipeline(scheme)?, threads)
}

/// The passes of the default level, after those that a scheme needs.
pub(crate) fn pipeline(scheme: Option<Scheme>) -> Result<Pipeline, Diagnostics> {
    let mut pipeline = standard(Level(2));
    if let Some(scheme) = scheme {
        let text = format!("infer_type,fold_constant,quantize{{scheme={}}}", scheme.name());
        pipeline.steps.splice(0..0, parse(&text, &PassTable::standard())?.steps);
    }
    Ok(pipeline)
}

/// Compiles a program for this machine by these passes.
pub(crate) fn compile_by(
    mut module: Module,
    pipeline: &Pipeline,
    threads: usize,
) -> Result<Session, Diagnostics> {
    let target = detect::host();
    let options = Options { target: target.clone().into(), ..Options::default() };
    manager::run(&mut module, pipeline, &options, &mut [])?;
    let program = lower(&module, &target.clone().into())?;
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &target)?;
    Ok(Session::new(program, kernels, threads)?)
}

/// The results of a program on the evaluator, tuples flattened.
pub(crate) fn evaluate(module: &Module, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostics> {
    let args = inputs.iter().cloned().map(Value::from).collect();
    let value = eval_global(module, "main", args, &EvalOptions::default())?;
    let mut found = Vec::new();
    let mut stack = vec![&value];
    while let Some(value) = stack.pop() {
        found.extend(value.as_tensor().cloned());
        stack.extend(value.as_tuple().into_iter().flatten().rev());
    }
    Ok(found)
}
