//! `fermata compare`: devices against the evaluator, results against files, node against node.

use std::collections::BTreeMap;
use std::path::Path;

use fermata_ir::diag::Span;
use fermata_ir::eval::{EvalOptions, Value, eval_observed};
use fermata_ir::expr::{Args, Expr, ExprId, Function, Module};
use fermata_ir::tensor::Tensor;
use fermata_ir::walk;

use crate::args::{CompareArgs, Device};
use crate::compile::plan;
use crate::inputs::{Given, collect, read_npz, to_f64};
use crate::model;
use crate::run::{
    Results, bindings, compile_and_execute, evaluate_kernels, execute, expected, interpret, judge, no_main,
    parameters,
};
use crate::{Driver, Failure, Streams, cuda};

/// The cosine that quantised results must have where the user asks for none.
const MIN_COSINE: f64 = 0.9;

/// `fermata compare`.
pub(crate) fn command(
    driver: &Driver,
    args: &CompareArgs,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let given = Given::new(&args.inputs, &args.model)?;
    let bindings = bindings(driver, &args.model, &given, streams)?;
    let module = model::module(model::load(driver, &args.model, &bindings, streams)?)?;
    let wanted = parameters(&module)?;
    let inputs = collect(&args.inputs, &given, &wanted)?;
    if args.all_nodes {
        return all_nodes(driver, args, &module, &inputs, streams);
    }
    let reference: Results = match args.reference.as_str() {
        "interp" => interpret(&module, inputs.clone())?,
        file => read_npz(Path::new(file))?.into_iter().collect(),
    };
    let mut code = 0;
    for device in &args.with {
        let results = match device {
            Device::Interp => interpret(&module, inputs.clone())?,
            Device::Cpu => {
                let threads = usize::from(args.threads);
                compile_and_execute(driver, module.clone(), &args.pipeline, threads, &inputs, streams)?
            }
            Device::Tir => evaluate_kernels(driver, module.clone(), &args.pipeline, &inputs, streams)?,
            Device::Cuda => {
                let planned = plan(driver, module.clone(), &args.pipeline, streams)?;
                execute(&mut cuda::session(planned, cuda::compiled(&args.pipeline)?)?, &inputs)?
            }
        };
        let outcome = match (args.min_cosine, &args.pipeline.quantize) {
            (None, None) => expected(&results, &reference, &args.tolerance, streams)?,
            (least, _) => cosines(&results, &reference, least.unwrap_or(MIN_COSINE), streams)?,
        };
        code = code.max(outcome);
        if outcome != 0 && args.fail_fast {
            break;
        }
    }
    writeln!(streams.stdout, "{}", if code == 0 { "match" } else { "differ" })?;
    Ok(code)
}

/// Compares results by their directions and prints a line each; 1 if any differs too much.
fn cosines(
    results: &Results,
    reference: &Results,
    least: f64,
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let mut code = 0;
    for (name, want) in reference {
        let Some((_, found)) = results.iter().find(|(n, _)| n == name) else {
            return Err(Failure::usage(format!("there is no result `{name}`")));
        };
        let (a, b) = (to_f64(found), to_f64(want));
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        let worst = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        writeln!(streams.stdout, "{name}: cosine {cosine:.6}, largest difference {worst:.3e}")?;
        let holds = a.len() == b.len() && cosine >= least;
        code = if holds { code } else { 1 };
    }
    Ok(code)
}

/// Runs a program that gives the value of every node, and compares each with the evaluator's, in
/// topological order.
fn all_nodes(
    driver: &Driver,
    args: &CompareArgs,
    module: &Module,
    inputs: &[Tensor],
    streams: &mut Streams<'_>,
) -> Result<i32, Failure> {
    let (probed, nodes) = with_probes(module)?;
    let mut seen: BTreeMap<ExprId, Tensor> = BTreeMap::new();
    let values = inputs.iter().cloned().map(Value::from).collect();
    let mut observe = |expr: ExprId, value: &Value| {
        if let Some(tensor) = value.as_tensor() {
            seen.insert(expr, tensor.clone());
        }
    };
    eval_observed(module, "main", values, &EvalOptions::default(), &mut observe)
        .map_err(|d| Failure::refused(d, &module.sources))?;
    let threads = usize::from(args.threads);
    let found = compile_and_execute(driver, probed, &args.pipeline, threads, inputs, streams)?;
    let mut differing = 0;
    for (&node, (_, tensor)) in nodes.iter().zip(&found) {
        let Some(want) = seen.get(&node) else { continue };
        let outcome = judge(&args.tolerance, tensor, want);
        if !outcome.matches() {
            let title = if differing == 0 { "first divergent node" } else { "divergent node" };
            writeln!(streams.stdout, "{title}: {}\n  {outcome}", describe(module, node))?;
            differing += 1;
            if args.fail_fast {
                break;
            }
        }
    }
    writeln!(streams.stdout, "{differing} of {} nodes differ", nodes.len())?;
    Ok(i32::from(differing > 0))
}

/// The program with every call outside of branches and functions as a result; and the calls.
fn with_probes(module: &Module) -> Result<(Module, Vec<ExprId>), Failure> {
    let mut probed = module.clone();
    let main = probed.global("main").ok_or_else(|| no_main(module))?;
    let func = probed.globals[main].func.clone().expect("a live function");
    let order = walk::post_order_in_scope(&probed, func.body);
    let mut branches = std::collections::BTreeSet::new();
    for &expr in &order {
        if let Expr::If { then, els, .. } = probed.exprs[expr] {
            branches.extend(walk::post_order_in_scope(&probed, then));
            branches.extend(walk::post_order_in_scope(&probed, els));
        }
        if let Expr::Let { .. } = probed.exprs[expr] {
            return Err(Failure::usage(
                "--all-nodes needs a program in graph form; run to_graph_normal_form",
            ));
        }
    }
    let is_probe = |&e: &ExprId| {
        matches!(probed.exprs[e], Expr::Call(_))
            && probed.types[e].as_tensor().is_some()
            && !branches.contains(&e)
    };
    let nodes: Vec<ExprId> = order.into_iter().filter(is_probe).collect();
    let body = probed.add(Expr::Tuple(Args::from_slice(&nodes)));
    let mut attrs = func.attrs.clone();
    attrs.shift_remove("outputs");
    let ret = fermata_ir::types::Type::Unknown;
    probed.globals[main].func = Some(Function { body, ret, attrs, ..func });
    fermata_ir::infer::infer_module(&mut probed)?;
    Ok((probed, nodes))
}

/// Where a node stands, for people.
fn describe(module: &Module, node: ExprId) -> String {
    let op = module.as_op_call(node).map_or("call", |(op, _)| op.name());
    match &module.spans[node] {
        Span::Node { path, .. } => format!("{op} at {path}"),
        Span::Text { source, range } => {
            let source = &module.sources[*source];
            let line = source.text[..range.start.min(source.text.len())].matches('\n').count() + 1;
            format!("{op} at {}:{line}", source.name)
        }
        Span::None => op.to_string(),
    }
}
