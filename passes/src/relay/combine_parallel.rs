//! CombineParallelDense: products of one input with several weights as one product.
//!
//! `nn.dense`, `nn.matmul` and `quant.dense` of the same data become one product with the weights'
//! units on end (the projections of an attention are such), and a slice of its result each. Constant
//! vectors that are added to all of them join likewise. Every element is the same sum as
//! before. With `to_batch`, products of equal shape become one `nn.batch_matmul` instead, as in
//! Relay. A product in another branch or function than the first stays: it may never be needed.

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Call, Callee, Expr, ExprId, Module, VarId};
use fermata_ir::op::broadcast::ADD;
use fermata_ir::op::nn::{
    BATCH_MATMUL, BIAS_ADD, BatchMatmulAttrs, BiasAddAttrs, DENSE, DenseAttrs, MATMUL, MatmulAttrs,
};
use fermata_ir::op::quant::QUANT_DENSE;
use fermata_ir::op::transform::{
    CONCATENATE, ConcatenateAttrs, SPLIT, SQUEEZE, STACK, STRIDED_SLICE, Sections, SplitAttrs, SqueezeAttrs,
    StackAttrs, StridedSliceAttrs,
};
use fermata_ir::op::{Attrs, Op, OpAttrs};
use fermata_ir::tensor::Tensor;
use fermata_ir::walk;

use super::rewrite::{rebuild_functions, static_shape, use_counts};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "combine_parallel_dense",
    relay_name: "CombineParallelDense",
    level: 2,
    doc: "products of one input with several weights as one product",
    options: &[
        OptionDef {
            name: "min_num_branches",
            doc: "combine no fewer products than so many",
            default: OptionValue::Int(3),
        },
        OptionDef {
            name: "to_batch",
            doc: "products of equal shape become one nn.batch_matmul",
            default: OptionValue::Bool(false),
        },
        OptionDef {
            name: "constant",
            doc: "False combines weights too that only come at run time",
            default: OptionValue::Bool(true),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let least = usize::try_from(context.int("min_num_branches")).unwrap_or(0).max(2);
    let (to_batch, constant) = (context.bool("to_batch"), context.bool("constant"));
    let families = families(module, to_batch, constant);
    let mut plan = Plan { to_batch, family_of: BTreeMap::new(), families: Vec::new(), sums: BTreeMap::new() };
    for members in families.into_values().filter(|m| m.len() >= least) {
        if !context.fire("combine products of one input", module, members[0]) {
            break;
        }
        plan.add(module, members);
    }
    let mut failed = None;
    let outcome = rebuild_functions(module, |module, old, new| match plan.rewrite(module, old, new) {
        Ok(found) => found,
        Err(error) => {
            failed.get_or_insert(error);
            new
        }
    });
    failed.map_or(Ok(outcome), |error| Err(error.into()))
}

/// What a product reads: every mention of a variable is the same value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Var(VarId),
    Expr(ExprId),
}

impl Value {
    fn of(module: &Module, expr: ExprId) -> Value {
        match module.exprs[expr] {
            Expr::Var(var) => Value::Var(var),
            _ => Value::Expr(expr),
        }
    }
}

/// What products must have in common to be combined; weights and what has an element a unit are not in it.
type Key = (Vec<Value>, &'static str, String, Vec<usize>);

/// The products of each function's own body that may be combined, in order.
fn families(module: &Module, to_batch: bool, constant: bool) -> BTreeMap<(usize, Key), Vec<ExprId>> {
    let mut found: BTreeMap<(usize, Key), Vec<ExprId>> = BTreeMap::new();
    for (number, (_, func)) in module.functions().into_iter().enumerate() {
        for expr in unconditional(module, func.body) {
            if let Some(key) = key(module, expr, to_batch, constant) {
                found.entry((number, key)).or_default().push(expr);
            }
        }
    }
    found
}

/// What is computed whenever the body is: nothing in branches or closures, operands first.
fn unconditional(module: &Module, body: ExprId) -> Vec<ExprId> {
    let mut always: SecondaryMap<ExprId, bool> = SecondaryMap::new();
    let mut open = vec![body];
    while let Some(expr) = open.pop() {
        if std::mem::replace(&mut always[expr], true) {
            continue;
        }
        match &module.exprs[expr] {
            Expr::If { cond, .. } => open.push(*cond),
            // What a let binds could read other lets than the first product does.
            Expr::Func(_) | Expr::Match { .. } | Expr::Let { .. } => {}
            _ => open.extend(walk::children(&module.exprs[expr])),
        }
    }
    walk::post_order(module, &[body]).into_iter().filter(|&e| always[e]).collect()
}

fn key(module: &Module, expr: ExprId, to_batch: bool, constant: bool) -> Option<Key> {
    let Expr::Call(call) = &module.exprs[expr] else { return None };
    let Callee::Op(op) = call.callee else { return None };
    let known = |e: ExprId| module.as_const(e).is_some() || !constant;
    let stored = static_shape(module, *call.args.get(1)?)?;
    let &[units, k] = &stored[..] else { return None };
    let dtype = module.types[call.args[1]].as_tensor()?.dtype.to_string();
    static_shape(module, expr)?;
    if op.is(&DENSE) && known(call.args[1]) {
        let data = static_shape(module, call.args[0])?;
        if to_batch && data.len() != 2 {
            return None;
        }
        let out = module.types[expr].as_tensor()?.dtype;
        let shape = if to_batch { vec![units, k] } else { vec![k] };
        return Some((vec![Value::of(module, call.args[0])], op.name(), format!("{dtype} {out}"), shape));
    }
    if op.is(&MATMUL) && known(call.args[1]) && !to_batch {
        let attrs: MatmulAttrs = call.attrs.read();
        static_shape(module, call.args[0])?;
        let out = module.types[expr].as_tensor()?.dtype;
        let k = stored[usize::from(attrs.transpose_b)];
        let same = format!("{dtype} {out} {} {}", attrs.transpose_a, attrs.transpose_b);
        return Some((vec![Value::of(module, call.args[0])], op.name(), same, vec![k]));
    }
    if op.is(&QUANT_DENSE) && !to_batch && (4..=5).contains(&call.args.len()) {
        let a_unit_each = |&e: &ExprId| known(e) && static_shape(module, e).is_some_and(|s| s == [units]);
        let each = known(call.args[1]) && call.args[3..].iter().all(a_unit_each);
        let attrs = format!("{dtype} {:?} {}", call.attrs, call.args.len());
        let values = [call.args[0], call.args[2]].map(|e| Value::of(module, e)).to_vec();
        return each.then(|| (values, op.name(), attrs, vec![k]));
    }
    None
}

/// Products that become one.
struct Family {
    /// The products, in order.
    members: Vec<ExprId>,
    /// Rows of each weight.
    units: Vec<usize>,
    /// The vectors that are added to the products, if one is to each and nothing else reads them.
    biases: Option<Vec<ExprId>>,
    /// The results of the members, once they are made.
    results: Option<Vec<ExprId>>,
}

struct Plan {
    to_batch: bool,
    families: Vec<Family>,
    /// The family of each old product, and its place in it.
    family_of: BTreeMap<ExprId, (usize, usize)>,
    /// The old additions that the families take in.
    sums: BTreeMap<ExprId, (usize, usize)>,
}

impl Plan {
    fn add(&mut self, module: &Module, members: Vec<ExprId>) {
        let axis = members.first().map_or(0, |&m| unit_axis(module, m));
        let units =
            members.iter().map(|&m| static_shape(module, argument(module, m, 1)).map_or(0, |s| s[axis]));
        let units: Vec<usize> = units.collect();
        let number = self.families.len();
        let added = if self.to_batch { None } else { added_vectors(module, &members, &units) };
        for (place, &member) in members.iter().enumerate() {
            self.family_of.insert(member, (number, place));
            if let Some(added) = &added {
                self.sums.insert(added[place].0, (number, place));
            }
        }
        let biases = added.map(|added| added.into_iter().map(|(_, bias)| bias).collect());
        self.families.push(Family { members, units, biases, results: None });
    }

    fn rewrite(&mut self, module: &mut Module, old: ExprId, new: ExprId) -> Result<ExprId, Diagnostic> {
        if let Some(&(number, place)) = self.sums.get(&old) {
            return Ok(self.families[number].results.as_ref().map_or(new, |results| results[place]));
        }
        let Some(&(number, place)) = self.family_of.get(&old) else { return Ok(new) };
        if self.families[number].results.is_none() {
            let results = match self.to_batch {
                true => batched(module, &self.families[number], new)?,
                false => flat(module, &self.families[number], new)?,
            };
            self.families[number].results = Some(results);
        }
        // Where additions were taken in, only they read the product.
        Ok(self.families[number].results.as_ref().map_or(new, |results| results[place]))
    }
}

fn argument(module: &Module, call: ExprId, i: usize) -> ExprId {
    module.as_op_call(call).map_or(call, |(_, call)| call.args[i])
}

/// For each product, the addition that alone reads it, and the constant vector that this adds.
fn added_vectors(module: &Module, members: &[ExprId], units: &[usize]) -> Option<Vec<(ExprId, ExprId)>> {
    let uses = use_counts(module);
    let mut readers: BTreeMap<ExprId, (ExprId, ExprId)> = BTreeMap::new();
    let bodies: Vec<ExprId> = module.functions().iter().map(|(_, f)| f.body).collect();
    for expr in walk::post_order(module, &bodies) {
        let Some((op, call)) = module.as_op_call(expr) else { continue };
        let rank = module.types[expr].as_tensor().map_or(0, |t| t.rank()) as i64;
        let last = |axis: i64| axis == -1 || axis == rank - 1;
        if op.is(&ADD) || op.is(&BIAS_ADD) && last(call.attrs.read::<BiasAddAttrs>().axis) {
            readers.insert(call.args[0], (expr, call.args[1]));
            if op.is(&ADD) {
                readers.insert(call.args[1], (expr, call.args[0]));
            }
        }
    }
    let added = members.iter().zip(units).map(|(member, &units)| {
        let &(sum, bias) = readers.get(member).filter(|_| uses[*member] == 1)?;
        let dtype = |e: ExprId| module.types[e].as_tensor().map(|t| t.dtype);
        let vector = module.as_const(bias)?.shape() == [units] && dtype(bias) == dtype(*member);
        vector.then_some((sum, bias))
    });
    added.collect()
}

/// The axis of a product's weight that has the units of its result.
fn unit_axis(module: &Module, product: ExprId) -> usize {
    let by_columns =
        |(op, call): (Op, &Call)| op.is(&MATMUL) && !call.attrs.read::<MatmulAttrs>().transpose_b;
    usize::from(module.as_op_call(product).is_some_and(by_columns))
}

/// Constants one behind the other along an axis; their other axes are equal, and so are their dtypes.
pub(crate) fn on_end(parts: &[Tensor], axis: usize) -> Option<Tensor> {
    let first = parts.first()?;
    let mut shape = first.shape().to_vec();
    *shape.get_mut(axis)? = parts.iter().map(|p| p.shape()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    Tensor::filled(first.dtype(), &shape, |mut to| {
        // What lies side by side in each part, and then in the whole.
        for line in 0..outer {
            for part in parts {
                let run = part.bytes().len() / outer;
                let (own, rest) = to.split_at_mut(run);
                own.copy_from_slice(&part.bytes()[line * run..(line + 1) * run]);
                to = rest;
            }
        }
    })
    .ok()
}

/// The part of a product that has the units from `first` on, along its last axis.
pub(crate) fn part(first: usize, units: usize, axis: usize) -> StridedSliceAttrs {
    StridedSliceAttrs {
        begin: Some(vec![first as i64]),
        end: Some(vec![units as i64]),
        strides: None,
        slice_mode: "size".into(),
        axes: Some(vec![axis as i64]),
    }
}

/// The values on end: constants as one constant, else as `concatenate` does.
fn joined(build: &mut Builder<'_>, parts: &[ExprId], axis: usize) -> Result<ExprId, Diagnostic> {
    let constants: Option<Vec<Tensor>> = parts.iter().map(|&p| build.module().as_const(p).cloned()).collect();
    match constants.as_deref().and_then(|parts| on_end(parts, axis)) {
        Some(tensor) => Ok(build.constant(tensor)),
        None => {
            let tuple = build.tuple(parts)?;
            build.call(&CONCATENATE, &[tuple], ConcatenateAttrs { axis: axis as i64 }.attrs())
        }
    }
}

/// One product with all weights, and a slice of it for each.
fn flat(module: &mut Module, family: &Family, new: ExprId) -> Result<Vec<ExprId>, Diagnostic> {
    let Some((op, call)) = module.as_op_call(new) else { return Ok(Vec::new()) };
    let (quantised, call) = (op.is(&QUANT_DENSE), call.clone());
    let axis = unit_axis(module, new);
    let arguments =
        |i: usize| -> Vec<ExprId> { family.members.iter().map(|&m| argument(module, m, i)).collect() };
    let weights = arguments(1);
    let vectors: Vec<Vec<ExprId>> =
        if quantised { (3..call.args.len()).map(arguments).collect() } else { Vec::new() };
    let span = module.spans[new].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let weight = joined(&mut build, &weights, axis)?;
    let mut args = call.args.to_vec();
    args[1] = weight;
    for (i, vectors) in vectors.iter().enumerate() {
        args[3 + i] = joined(&mut build, vectors, 0)?;
    }
    let total: usize = family.units.iter().sum();
    let units = Some(total as i64);
    let mut product = if quantised {
        build.call(&QUANT_DENSE, &args, call.attrs)?
    } else if op.is(&MATMUL) {
        build.call(&MATMUL, &args, MatmulAttrs { units, ..call.attrs.read() }.attrs())?
    } else {
        build.call(&DENSE, &args, DenseAttrs { units, ..call.attrs.read() }.attrs())?
    };
    if let Some(biases) = &family.biases {
        let bias = joined(&mut build, biases, 0)?;
        product = build.call(&ADD, &[product, bias], Attrs::NONE)?;
    }
    let rank = build.ty(product).as_tensor().map_or(0, |t| t.rank());
    let mut first = 0;
    let slice = |&units: &usize| {
        let attrs = part(first, units, rank.saturating_sub(1));
        first += units;
        build.call(&STRIDED_SLICE, &[product], attrs.attrs())
    };
    family.units.iter().map(slice).collect()
}

/// One product of batches, as many as there are weights, and a part of it for each.
fn batched(module: &mut Module, family: &Family, new: ExprId) -> Result<Vec<ExprId>, Diagnostic> {
    let Some((_, call)) = module.as_op_call(new) else { return Ok(Vec::new()) };
    let (data, attrs) = (call.args[0], call.attrs.read::<DenseAttrs>());
    let weights: Vec<ExprId> = family.members.iter().map(|&m| argument(module, m, 1)).collect();
    let span = module.spans[new].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let count = weights.len();
    let stacked = |build: &mut Builder<'_>, parts: &[ExprId]| {
        let tuple = build.tuple(parts)?;
        build.call(&STACK, &[tuple], StackAttrs { axis: 0 }.attrs())
    };
    let (x, w) = (stacked(&mut build, &vec![data; count])?, stacked(&mut build, &weights)?);
    let attrs = BatchMatmulAttrs { transpose_a: false, transpose_b: true, out_dtype: attrs.out_dtype };
    let product = build.call(&BATCH_MATMUL, &[x, w], attrs.attrs())?;
    let attrs = SplitAttrs { indices_or_sections: Sections::Equal(count as i64), axis: 0 };
    let parts = build.call(&SPLIT, &[product], attrs.attrs())?;
    let part = |i: usize| {
        let part = build.proj(parts, i as u32)?;
        build.call(&SQUEEZE, &[part], SqueezeAttrs { axis: Some(vec![0]) }.attrs())
    };
    (0..count).map(part).collect()
}
