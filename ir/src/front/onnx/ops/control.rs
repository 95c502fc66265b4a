//! Control flow: `If`, `Loop`, `Scan`.
//!
//! A condition or trip count that is known is decided at once: the branch is inlined, the
//! loop unrolled. What is left becomes an `if` or a function that calls itself last, so
//! that it runs in constant space.

use super::Row;
use crate::build::Builder;
use crate::expr::{ExprId, VarId};
use crate::front::onnx::graph::{Border, Mapped, Scope, Value};
use crate::front::onnx::node::{Cx, Step, floats, refuse, wrong};
use crate::front::onnx::proto::Graph;
use crate::op::broadcast as b;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, FuncType, TensorType, Type};

/// How many iterations of a loop are unrolled.
const MAX_UNROLLED: i64 = 4096;

/// How often the types of a loop's state are widened before it is refused.
const MAX_WIDENED: usize = 4;

/// Branches and loops.
pub(super) const ROWS: &[Row] =
    &[Row::new("If", branch).known(&[0]), Row::new("Loop", repeat).known(&[0, 1]), Row::new("Scan", scan)];

/// A truth value, if it is known.
fn known_truth(cx: &Cx<'_, '_>, e: ExprId) -> Option<bool> {
    floats(&cx.known(e)?).first().map(|&v| v != 0.0)
}

/// A single truth value as a scalar.
fn truth(cx: &mut Cx<'_, '_>, e: ExprId) -> Step {
    match cx.rank(e)? {
        0 => Ok(e),
        _ => cx.reshape(e, &[]),
    }
}

/// The tensors among values; refused if one is a sequence.
fn tensors(cx: &Cx<'_, '_>, values: &[Value]) -> Step<Option<Vec<ExprId>>> {
    let mut found = Vec::new();
    for value in values {
        match value {
            Value::Tensor(e) => found.push(*e),
            Value::Poison => return Ok(None),
            Value::Sequence(_) | Value::Absent => {
                return refuse(format!(
                    "`{}` over sequences must be decided at compile time",
                    cx.node.op_type
                ));
            }
        }
    }
    Ok(Some(found))
}

/// One expression for some results: itself, or a tuple.
fn packed(cx: &mut Cx<'_, '_>, results: &[ExprId]) -> ExprId {
    match results {
        [single] => *single,
        _ => cx.tuple(results),
    }
}

/// The results out of what [`packed`] made.
fn unpacked(cx: &mut Cx<'_, '_>, e: ExprId, count: usize) -> Mapped {
    if count == 1 {
        return Ok(vec![Value::Tensor(e)]);
    }
    let fields = (0..count as u32).map(|i| Builder::new(&mut cx.im.module).proj(e, i).map(Value::Tensor));
    fields.collect()
}

fn branch(cx: &mut Cx<'_, '_>) -> Mapped {
    let cond = cx.arg(0)?;
    let (then, els) = (cx.graph("then_branch")?, cx.graph("else_branch")?);
    if let Some(taken) = known_truth(cx, cond) {
        let (graph, label) = if taken { (then, "then_branch") } else { (els, "else_branch") };
        return Ok(cx.im.import_subgraph(graph, label, Border::Open, &[])?.0);
    }
    let (a, _) = cx.im.import_subgraph(then, "then_branch", Border::Open, &[])?;
    let (b, _) = cx.im.import_subgraph(els, "else_branch", Border::Open, &[])?;
    let (Some(a), Some(b)) = (tensors(cx, &a)?, tensors(cx, &b)?) else { return Ok(Vec::new()) };
    if a.len() != b.len() {
        return wrong("the branches of If differ in the number of their outputs");
    }
    let (then, els) = (packed(cx, &a), packed(cx, &b));
    let cond = truth(cx, cond)?;
    let e = Builder::new(&mut cx.im.module).if_(cond, then, els)?;
    unpacked(cx, e, a.len())
}

/// A loop's parts.
struct Loop<'a> {
    body: &'a Graph<'a>,
    /// Number of iterations; without one the condition alone ends it.
    trips: Option<ExprId>,
    cond: Option<ExprId>,
    state: Vec<Value>,
    /// Number of results that collect a value of every iteration.
    scans: usize,
}

fn repeat(cx: &mut Cx<'_, '_>) -> Mapped {
    let body = cx.graph("body")?;
    let state: Vec<Value> = (2..cx.arity()).map(|i| cx.value(i)).collect();
    let Some(scans) = body.outputs.len().checked_sub(1 + state.len()) else {
        return wrong("the body of Loop has too few outputs");
    };
    let looped = Loop { body, trips: cx.opt(0)?, cond: cx.opt(1)?, state, scans };
    match unrolled(cx, &looped)? {
        Some(results) => Ok(results),
        None => recursive(cx, &looped),
    }
}

/// The loop unrolled, if how often it runs is known as it goes.
fn unrolled<'a>(cx: &mut Cx<'_, 'a>, looped: &Loop<'a>) -> Step<Option<Vec<Value>>> {
    let trips = match looped.trips {
        None => i64::MAX,
        Some(e) => match cx.known(e).and_then(|t| floats(&t).first().copied()) {
            Some(n) => n as i64,
            None => return Ok(None),
        },
    };
    let mut going = match looped.cond {
        None => true,
        Some(e) => match known_truth(cx, e) {
            Some(going) => going,
            None => return Ok(None),
        },
    };
    if going && looped.trips.is_some() && trips > MAX_UNROLLED {
        return Ok(None);
    }
    let mut state = looped.state.clone();
    let mut scans: Vec<Vec<ExprId>> = vec![Vec::new(); looped.scans];
    let mut i = 0;
    while going && i < trips {
        if i == MAX_UNROLLED {
            return Ok(None);
        }
        let iteration = cx.constant(Tensor::scalar(i));
        let mut args = vec![Value::Tensor(iteration), Value::Tensor(cx.scalar(DType::Bool, 1.0))];
        args.append(&mut state);
        let (mut outputs, _) = cx.im.import_subgraph(looped.body, "body", Border::Open, &args)?;
        match outputs.remove(0) {
            Value::Tensor(e) => match known_truth(cx, e) {
                Some(goes_on) => going = goes_on,
                None => return Ok(None),
            },
            Value::Poison => return Ok(Some(Vec::new())),
            Value::Sequence(_) | Value::Absent => return wrong("the condition of Loop is no tensor"),
        }
        let collected = outputs.split_off(looped.state.len());
        let Some(collected) = tensors(cx, &collected)? else { return Ok(Some(Vec::new())) };
        for (scan, e) in scans.iter_mut().zip(collected) {
            scan.push(e);
        }
        state = outputs;
        i += 1;
    }
    for scan in &scans {
        if scan.is_empty() {
            return refuse("a Loop that never runs has results of unknown type");
        }
        state.push(Value::Tensor(stacked(cx, scan, 0)?));
    }
    Ok(Some(state))
}

/// The values of all iterations, along a new dimension.
fn stacked(cx: &mut Cx<'_, '_>, values: &[ExprId], axis: i64) -> Step {
    let Some(&first) = values.first() else {
        return refuse("a loop that never runs has results of unknown type");
    };
    let rank = cx.rank(first)? + 1;
    let axis = cx.axis(axis, rank)?;
    let parts = values.iter().map(|&v| cx.expand_dims(v, axis, 1)).collect::<Step<Vec<_>>>()?;
    cx.concat(&parts, axis)
}

/// The loop as a function that calls itself last.
///
/// Its parameters are the iteration, the condition, the state, and what was collected so
/// far. Sizes that change from one iteration to the next become unknown dimensions.
fn recursive<'a>(cx: &mut Cx<'_, 'a>, looped: &Loop<'a>) -> Mapped {
    let Some(state) = tensors(cx, &looped.state)? else { return Ok(Vec::new()) };
    let mut types: Vec<Type> = state.iter().map(|&e| cx.im.ty(e)).collect();
    for _ in 0..MAX_WIDENED {
        let Some(attempt) = recursive_body(cx, looped, &types)? else { return Ok(Vec::new()) };
        let found: Vec<Type> = attempt.results.iter().map(|&e| cx.im.ty(e)).collect();
        let wider = widened(&types, &found)?;
        if wider == types {
            return close_loop(cx, looped, &state, &types, attempt);
        }
        types = wider;
    }
    refuse("the types of this Loop's state change from one iteration to the next")
}

/// Types that take both what comes in and what a round gives.
fn widened(types: &[Type], found: &[Type]) -> Step<Vec<Type>> {
    let mut wider = Vec::new();
    for (ty, new) in types.iter().zip(found) {
        let (Some(t), Some(n)) = (ty.as_tensor(), new.as_tensor()) else {
            return refuse("the state of this Loop is no tensor");
        };
        if t.dtype != n.dtype || t.rank() != n.rank() {
            return refuse(format!("the state of this Loop changes from {ty} to {new}"));
        }
        let dims = t.shape.iter().zip(&n.shape).map(|(a, b)| if a == b { a.clone() } else { Dim::Any });
        wider.push(TensorType::new(dims.collect(), t.dtype).into());
    }
    Ok(wider)
}

/// A loop's body as expressions over new variables.
struct Body<'a> {
    iteration: VarId,
    going: VarId,
    state: Vec<VarId>,
    cond: ExprId,
    /// The state after the round.
    results: Vec<ExprId>,
    /// What the round adds to the collected values.
    collected: Vec<ExprId>,
    scope: Scope<'a>,
}

fn recursive_body<'a>(cx: &mut Cx<'_, 'a>, looped: &Loop<'a>, types: &[Type]) -> Step<Option<Body<'a>>> {
    let mut param = |name: &str, ty: Type| Builder::new(&mut cx.im.module).param(name, ty);
    let (iteration, i) = param("i", Type::scalar(DType::I64));
    let (going, c) = param("go", Type::scalar(DType::Bool));
    let mut args = vec![Value::Tensor(i), Value::Tensor(c)];
    let mut state = Vec::new();
    for (k, ty) in types.iter().enumerate() {
        let (var, e) = param(&format!("state{k}"), ty.clone());
        state.push(var);
        args.push(Value::Tensor(e));
    }
    let (outputs, scope) = cx.im.import_subgraph(looped.body, "body", Border::Closure, &args)?;
    let Some(mut results) = tensors(cx, &outputs)? else { return Ok(None) };
    let cond = truth(cx, results.remove(0))?;
    let collected = results.split_off(types.len());
    Ok(Some(Body { iteration, going, state, cond, results, collected, scope }))
}

/// The type of what collects values: any number of them.
fn collection_type(cx: &Cx<'_, '_>, e: ExprId) -> Step<TensorType> {
    let ty = cx.ty(e)?;
    let mut shape = vec![Dim::Any];
    shape.extend(ty.shape);
    Ok(TensorType::new(shape, ty.dtype))
}

fn close_loop(
    cx: &mut Cx<'_, '_>,
    looped: &Loop<'_>,
    initial: &[ExprId],
    types: &[Type],
    body: Body<'_>,
) -> Mapped {
    let mut initial = initial.to_vec();
    let mut params = vec![body.iteration, body.going];
    params.extend(&body.state);
    let mut types = types.to_vec();
    let mut next = body.results.clone();
    for (k, &e) in body.collected.iter().enumerate() {
        let ty = collection_type(cx, e)?;
        let mut shape = cx.shape(e)?;
        shape.insert(0, 0);
        let empty = cx.filled(&shape, ty.dtype, 0.0)?;
        initial.push(empty);
        let (var, so_far) =
            Builder::new(&mut cx.im.module).param(&format!("collected{k}"), ty.clone().into());
        params.push(var);
        types.push(ty.into());
        let e = cx.expand_dims(e, 0, 1)?;
        next.push(cx.concat(&[so_far, e], 0)?);
    }
    let count = types.len();
    let ret = if count == 1 { types[0].clone() } else { Type::tuple(types.iter().cloned()) };
    let mut param_types = vec![Type::scalar(DType::I64), Type::scalar(DType::Bool)];
    param_types.extend(types);
    let func_type = FuncType { type_params: Vec::new(), params: param_types, ret };
    let func_var = cx.im.module.var("loop", Type::Func(std::sync::Arc::new(func_type)));

    let mut captured = body.scope.captured.clone();
    let trips = match looped.trips {
        None => None,
        Some(trips) => {
            let trips = truth(cx, trips)?;
            let var = cx.im.module.var("trips", cx.im.ty(trips));
            captured.push((var, trips));
            Some(use_var(cx, var))
        }
    };
    let (i, go) = (use_var(cx, body.iteration), use_var(cx, body.going));
    let go_on = match trips {
        None => go,
        Some(trips) => {
            let more = cx.bin(&b::LESS, i, trips)?;
            cx.bin(&b::LOGICAL_AND, more, go)?
        }
    };
    let mut args = vec![cx.num(&b::ADD, i, 1.0)?, body.cond];
    args.append(&mut next);
    let callee = use_var(cx, func_var);
    let again = Builder::new(&mut cx.im.module).call_func(callee, &args)?;
    let done: Vec<ExprId> = params[2..].iter().map(|&v| use_var(cx, v)).collect();
    let done = packed(cx, &done);
    let choice = Builder::new(&mut cx.im.module).if_(go_on, again, done)?;
    let func = Builder::new(&mut cx.im.module).func(&params, choice)?;

    let mut start = vec![cx.constant(Tensor::scalar(0i64))];
    start.push(match looped.cond {
        Some(cond) => truth(cx, cond)?,
        None => cx.scalar(DType::Bool, 1.0),
    });
    start.append(&mut initial);
    let callee = use_var(cx, func_var);
    let call = Builder::new(&mut cx.im.module).call_func(callee, &start)?;
    let mut e = Builder::new(&mut cx.im.module).let_(func_var, func, call)?;
    for (var, outer) in captured.iter().rev() {
        e = Builder::new(&mut cx.im.module).let_(*var, *outer, e)?;
    }
    unpacked(cx, e, count)
}

fn use_var(cx: &mut Cx<'_, '_>, var: VarId) -> ExprId {
    Builder::new(&mut cx.im.module).var(var)
}

fn scan(cx: &mut Cx<'_, '_>) -> Mapped {
    let body = cx.graph("body")?;
    let Some(inputs) = cx.int_opt("num_scan_inputs")?.and_then(|n| usize::try_from(n).ok()) else {
        return wrong("Scan needs num_scan_inputs");
    };
    let first = if cx.opset < 9 { 1 } else { 0 };
    if cx.opset < 9 {
        return scan_batched(cx, body, inputs, first);
    }
    let Some(states) = cx.arity().checked_sub(inputs) else { return wrong("Scan has too few inputs") };
    let state: Vec<Value> = (0..states).map(|i| cx.value(i)).collect();
    let scanned = (states..cx.arity()).map(|i| cx.arg(i)).collect::<Step<Vec<_>>>()?;
    let outputs = body.outputs.len().saturating_sub(states);
    let list = |cx: &Cx<'_, '_>, name: &str, n: usize| -> Step<Vec<i64>> {
        let list = cx.ints_opt(name)?.unwrap_or_else(|| vec![0; n]);
        if list.len() == n { Ok(list) } else { wrong(format!("`{name}` of Scan has the wrong length")) }
    };
    let (in_axes, in_dirs) =
        (list(cx, "scan_input_axes", inputs)?, list(cx, "scan_input_directions", inputs)?);
    let (out_axes, out_dirs) =
        (list(cx, "scan_output_axes", outputs)?, list(cx, "scan_output_directions", outputs)?);
    let (mut results, mut collected) = scan_steps(cx, body, state, &scanned, &in_axes, &in_dirs)?;
    for (k, values) in collected.iter_mut().enumerate() {
        if out_dirs[k] != 0 {
            values.reverse();
        }
        results.push(Value::Tensor(stacked(cx, values, out_axes[k])?));
    }
    Ok(results)
}

/// Runs the body over every index of the scanned inputs; the final state, and what was collected.
fn scan_steps<'a>(
    cx: &mut Cx<'_, 'a>,
    body: &'a Graph<'a>,
    mut state: Vec<Value>,
    scanned: &[ExprId],
    axes: &[i64],
    reversed: &[i64],
) -> Step<(Vec<Value>, Vec<Vec<ExprId>>)> {
    let states = state.len();
    let mut collected = vec![Vec::new(); body.outputs.len().saturating_sub(states)];
    let Some(&first) = scanned.first() else { return wrong("Scan scans nothing") };
    let length = cx.size(first, cx.axis(axes[0], cx.rank(first)?)?)?;
    if length as i64 > MAX_UNROLLED {
        return refuse(format!("a Scan of {length} steps is too long"));
    }
    for i in 0..length {
        let mut args = std::mem::take(&mut state);
        for (k, &x) in scanned.iter().enumerate() {
            let axis = cx.axis(axes[k], cx.rank(x)?)?;
            if cx.size(x, axis)? != length {
                return wrong("the inputs that Scan scans differ in length");
            }
            let at = if reversed[k] != 0 { length - 1 - i } else { i };
            let part = cx.part(x, axis, at, at + 1)?;
            args.push(Value::Tensor(cx.squeeze(part, &[axis])?));
        }
        let (mut outputs, _) = cx.im.import_subgraph(body, "body", Border::Open, &args)?;
        if outputs.iter().any(|v| matches!(v, Value::Poison)) {
            return refuse("the body of this Scan is refused");
        }
        let values = outputs.split_off(states);
        for (list, e) in collected.iter_mut().zip(tensors(cx, &values)?.unwrap_or_default()) {
            list.push(e);
        }
        state = outputs;
    }
    Ok((state, collected))
}

/// The first version of `Scan`: everything has a batch dimension, and sequences may be shorter.
fn scan_batched<'a>(cx: &mut Cx<'_, 'a>, body: &'a Graph<'a>, inputs: usize, first: usize) -> Mapped {
    if cx.opt(0)?.is_some() {
        return refuse("Scan of opset 8 with sequence lengths is not supported");
    }
    let Some(states) = cx.arity().checked_sub(inputs + first) else {
        return wrong("Scan has too few inputs");
    };
    let all = (first..cx.arity()).map(|i| cx.arg(i)).collect::<Step<Vec<_>>>()?;
    let Some(&any) = all.first() else { return wrong("Scan has too few inputs") };
    let reversed = cx.ints_opt("directions")?.unwrap_or_else(|| vec![0; inputs]);
    let axes = vec![0; inputs];
    let mut batches: Vec<Vec<ExprId>> = Vec::new();
    for n in 0..cx.size(any, 0)? {
        let mut row = Vec::new();
        for &e in &all {
            let part = cx.part(e, 0, n, n + 1)?;
            row.push(cx.squeeze(part, &[0])?);
        }
        let state = row[..states].iter().map(|&e| Value::Tensor(e)).collect();
        let (state, collected) = scan_steps(cx, body, state, &row[states..], &axes, &reversed)?;
        let mut results = tensors(cx, &state)?.unwrap_or_default();
        for values in &collected {
            results.push(stacked(cx, values, 0)?);
        }
        batches.push(results);
    }
    let count = batches.first().map_or(0, Vec::len);
    (0..count)
        .map(|k| {
            let column: Vec<ExprId> = batches.iter().map(|row| row[k]).collect();
            Ok(Value::Tensor(stacked(cx, &column, 0)?))
        })
        .collect()
}
