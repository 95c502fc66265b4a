//! From Tensor Expressions to TIR: one loop nest with one block for each stage.
//!
//! The result has the shape of TVM's `create_prim_func`: block variables are named after
//! the axes with `v_` before, reads and writes follow from the loads, a reduction has an
//! `init`, intermediate tensors are allocations of the function. Nothing is scheduled yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::expr::{Axis, Combiner, Compute, Graph, Stage, StageKind};
use crate::op::AttrValue;
use crate::tir::names::Unique;
use crate::tir::region::{access_regions, full_region};
use crate::tir::visit::substitute;
use crate::tir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Scope, Stmt, VarId,
    VarInfo,
};
use crate::types::DType;

/// Turns a graph into a function of `inputs` and `outputs`, in this order.
///
/// Tensors keep their ids as buffers. An output that is also an input, or is listed twice,
/// is copied to a buffer of its own.
pub fn create_prim_func(graph: &Graph, name: &str, inputs: &[BufferId], outputs: &[BufferId]) -> PrimFunc {
    let mut lower = Lower::new(graph, name);
    for stage in &graph.stages {
        lower.stage(stage);
    }
    let results: Vec<BufferId> = (0..outputs.len()).map(|i| lower.output(inputs, outputs, i)).collect();
    let mut func = lower.func;
    func.params = inputs.iter().chain(&results).copied().collect();
    func.outputs = results.len();
    let defined = graph.stages.iter().flat_map(|s| &s.outputs).copied();
    func.allocs = defined.filter(|b| !func.params.contains(b)).collect();
    func.body = Stmt::Seq(lower.body);
    func
}

struct Lower {
    func: PrimFunc,
    body: Vec<Stmt>,
    /// Variables that some block binds: an axis used twice gets a variable of its own.
    bound: BTreeSet<VarId>,
    block_names: Unique,
}

/// A block under construction: its variables, and what replaces axes that were bound before.
#[derive(Default)]
struct Nest {
    loops: Vec<(VarId, i64)>,
    iters: Vec<IterVar>,
    replaced: IndexMap<VarId, Expr>,
}

impl Nest {
    fn rewrite(&self, e: &Expr) -> Expr {
        if self.replaced.is_empty() {
            return e.clone();
        }
        substitute(e, &|v| self.replaced.get(&v).cloned())
    }
}

impl Lower {
    fn new(graph: &Graph, name: &str) -> Lower {
        let mut func = PrimFunc::new(name);
        let mut names = Unique::default();
        for buffer in graph.buffers.values() {
            let name: Arc<str> = names.take(&buffer.name).into();
            func.buffers.push(Buffer { name, ..buffer.clone() });
        }
        func.vars = graph.vars.clone();
        func.attrs.insert("tir.noalias".into(), AttrValue::Bool(true));
        Lower { func, body: Vec::new(), bound: BTreeSet::new(), block_names: Unique::default() }
    }

    fn stage(&mut self, stage: &Stage) {
        match &stage.kind {
            StageKind::Placeholder => {}
            StageKind::Compute(c) => match &c.reduce {
                None => self.computes(stage, c, &c.body),
                // A loop without iterations would not even run the init.
                Some(reduce) if reduce.axes.iter().any(|a| a.extent == 0) => {
                    let plain = Compute { axes: c.axes.clone(), reduce: None, body: Vec::new() };
                    self.computes(stage, &plain, &reduce.identity);
                }
                Some(_) => self.compute(stage, c, &stage.outputs, &c.body),
            },
            StageKind::Extern { inputs, allocs, body } => {
                let block = Block {
                    name: self.block_names.take(&stage.name).into(),
                    iters: Vec::new(),
                    predicate: None,
                    reads: inputs.iter().map(|&b| full_region(&self.func, b)).collect(),
                    writes: stage.outputs.iter().map(|&b| full_region(&self.func, b)).collect(),
                    attrs: IndexMap::new(),
                    allocs: allocs.clone(),
                    init: None,
                    body: Box::new(body.clone()),
                };
                self.body.push(Stmt::Block(Box::new(block)));
            }
        }
    }

    /// A block for each output of a compute without reduction.
    fn computes(&mut self, stage: &Stage, compute: &Compute, elements: &[Expr]) {
        for (output, element) in stage.outputs.iter().zip(elements) {
            self.compute(stage, compute, &[*output], std::slice::from_ref(element));
        }
    }

    /// One block that computes `outputs`, in its loops.
    fn compute(&mut self, stage: &Stage, compute: &Compute, outputs: &[BufferId], elements: &[Expr]) {
        let mut nest = Nest::default();
        for axis in &compute.axes {
            self.bind(&mut nest, axis, IterKind::Spatial);
        }
        let spatial = nest.iters.len();
        for axis in compute.reduce.iter().flat_map(|r| &r.axes) {
            self.bind(&mut nest, axis, IterKind::Reduce);
        }
        let indices: Vec<Expr> =
            nest.iters[..spatial].iter().map(|it| Expr::new(ExprKind::Var(it.var), DType::I64)).collect();
        if nest.iters.is_empty() {
            // A block has at least one variable, so that schedules have something to hold.
            let var = self.func.vars.push(VarInfo { name: "vi".into(), dtype: DType::I64 });
            nest.iters.push(IterVar { var, extent: 1, kind: IterKind::Spatial, binding: Expr::int(0) });
        }
        let elements: Vec<Expr> = elements.iter().map(|e| nest.rewrite(e)).collect();
        let store =
            |i: usize, value: Expr| Stmt::Store { buffer: outputs[i], indices: indices.clone(), value };
        let (init, body) = match &compute.reduce {
            None => (None, store(0, elements[0].clone())),
            Some(reduce) => {
                let init: Vec<Stmt> =
                    reduce.identity.iter().enumerate().map(|(i, e)| store(i, nest.rewrite(e))).collect();
                let values = self.combine(&reduce.combiner, outputs, &indices, &elements);
                (Some(Box::new(sequence(init))), self.update(outputs, &indices, values))
            }
        };
        let (reads, writes) = access_regions(&self.func, &nest.iters, &body);
        let name = if outputs.len() == 1 { &self.func.buffers[outputs[0]].name } else { &stage.name };
        let block = Block {
            name: self.block_names.take(name).into(),
            iters: nest.iters,
            predicate: None,
            reads,
            writes,
            attrs: IndexMap::new(),
            allocs: Vec::new(),
            init,
            body: Box::new(body),
        };
        let nested =
            nest.loops.into_iter().rev().fold(Stmt::Block(Box::new(block)), |body, (var, extent)| {
                Stmt::For { var, extent: Expr::int(extent), kind: LoopKind::Serial, body: Box::new(body) }
            });
        self.body.push(nested);
    }

    /// A loop over an axis, and the block variable bound to it.
    fn bind(&mut self, nest: &mut Nest, axis: &Axis, kind: IterKind) {
        let info = self.func.vars[axis.var].clone();
        let outer = self.func.vars.push(info.clone());
        let named = VarInfo { name: format!("v_{}", info.name).into(), dtype: info.dtype };
        let var = if self.bound.insert(axis.var) {
            self.func.vars[axis.var] = named;
            axis.var
        } else {
            let name = info.name.strip_prefix("v_").unwrap_or(&info.name);
            self.func.vars[outer].name = name.into();
            let var = self.func.vars.push(VarInfo { name: format!("v_{name}").into(), dtype: info.dtype });
            nest.replaced.insert(axis.var, Expr::new(ExprKind::Var(var), DType::I64));
            var
        };
        let extent = axis.extent as i64;
        nest.loops.push((outer, extent));
        let binding = Expr::new(ExprKind::Var(outer), DType::I64);
        nest.iters.push(IterVar { var, extent, kind, binding });
    }

    /// The accumulators after one more element.
    fn combine(&self, with: &Combiner, outputs: &[BufferId], at: &[Expr], elements: &[Expr]) -> Vec<Expr> {
        let load = |b: BufferId| Expr::new(ExprKind::Load(b, at.to_vec()), self.func.buffers[b].dtype);
        match with {
            Combiner::Binary(op) => {
                outputs.iter().zip(elements).map(|(&b, e)| load(b).binary(*op, e.clone())).collect()
            }
            Combiner::User { lhs, rhs, result } => {
                let accumulators = lhs.iter().copied().zip(outputs.iter().map(|&b| load(b)));
                let elements = rhs.iter().copied().zip(elements.iter().cloned());
                let values: IndexMap<VarId, Expr> = accumulators.chain(elements).collect();
                result.iter().map(|e| substitute(e, &|v| values.get(&v).cloned())).collect()
            }
        }
    }

    /// Stores new accumulators; several are computed before the first is overwritten.
    fn update(&mut self, outputs: &[BufferId], at: &[Expr], values: Vec<Expr>) -> Stmt {
        let store = |buffer: BufferId, value: Expr| Stmt::Store { buffer, indices: at.to_vec(), value };
        if let [value] = values.as_slice() {
            return store(outputs[0], value.clone());
        }
        let mut lets = Vec::new();
        let mut stores = Vec::new();
        for (&output, value) in outputs.iter().zip(values) {
            let dtype = value.dtype();
            let name = format!("v_{}", self.func.buffers[output].name).into();
            let var = self.func.vars.push(VarInfo { name, dtype });
            stores.push(store(output, Expr::new(ExprKind::Var(var), dtype)));
            lets.push(Stmt::Let { var, value });
        }
        lets.extend(stores);
        sequence(lets)
    }

    /// The buffer of output `i`, which must be no input and no other output.
    fn output(&mut self, inputs: &[BufferId], outputs: &[BufferId], i: usize) -> BufferId {
        let source = outputs[i];
        if !inputs.contains(&source) && !outputs[..i].contains(&source) {
            return source;
        }
        let from = self.func.buffers[source].clone();
        let mut names = Unique::default();
        self.func.buffers.values().for_each(|b| {
            names.take(&b.name);
        });
        let name: Arc<str> = names.take(&format!("{}_copy", from.name)).into();
        let copy =
            self.func.buffers.push(Buffer { name: name.clone(), scope: Scope::Global, ..from.clone() });
        let axes: Vec<Axis> = from.shape.iter().enumerate().map(|(d, &n)| self.axis(d, n)).collect();
        let value = Expr::new(ExprKind::Load(source, axes.iter().map(Axis::expr).collect()), from.dtype);
        let compute = Compute { axes, reduce: None, body: vec![value.clone()] };
        let stage =
            Stage { name, outputs: vec![copy], kind: StageKind::Placeholder, tag: "injective".into() };
        self.compute(&stage, &compute, &[copy], &[value]);
        copy
    }

    fn axis(&mut self, dim: usize, extent: usize) -> Axis {
        let var = self.func.vars.push(VarInfo { name: format!("i{dim}").into(), dtype: DType::I64 });
        Axis { var, extent }
    }
}

fn sequence(mut stmts: Vec<Stmt>) -> Stmt {
    if stmts.len() == 1 { stmts.remove(0) } else { Stmt::Seq(stmts) }
}
