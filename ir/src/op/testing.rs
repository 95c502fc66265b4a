//! A check for the unit tests of op rows: infers, evaluates, and interprets the Tensor
//! Expression, element by element and with every index checked; all three must agree.

use std::collections::BTreeMap;

use super::table::{Lower, OpDef, OpError};
use super::{AttrValue, Attrs};
use crate::eval::Value;
use crate::scalar::{self, Scalar};
use crate::te::primfunc::create_prim_func;
use crate::te::{self, Combiner, Compute, StageKind};
use crate::tensor::{Element, Tensor};
use crate::tir::print::print;
use crate::tir::verify::verify;
use crate::tir::{self, BufferId, Expr, ExprKind, Stmt, VarId};
use crate::types::{TensorType, Type};

/// A tensor from its elements.
pub fn tensor<T: Element>(shape: &[usize], data: &[T]) -> Value {
    Tensor::from_slice(shape, data).expect("shape and data match").into()
}

/// A tuple of values.
pub fn tuple(fields: &[Value]) -> Value {
    Value::Tuple(fields.into())
}

/// The elements of a tensor value.
pub fn data<T: Element>(value: &Value) -> Vec<T> {
    value.as_tensor().expect("a tensor").as_slice().expect("of this dtype").to_vec()
}

/// The attributes of a row by name; the others have their defaults.
pub fn attrs(op: &OpDef, given: &[(&str, AttrValue)]) -> Attrs {
    for (name, _) in given {
        assert!(op.attrs.iter().any(|def| def.name == *name), "{} has no attribute {name}", op.name);
    }
    let value = |def: &super::AttrDef| match given.iter().find(|(name, _)| *name == def.name) {
        Some((_, value)) => def.kind.coerce(value).expect("the value fits the attribute"),
        None => (def.default)().expect("a required attribute is given"),
    };
    Attrs::new(op.attrs.iter().map(value).collect())
}

/// A list of integers, as an attribute.
pub fn ints(list: &[i64]) -> AttrValue {
    AttrValue::List(list.iter().map(|&n| AttrValue::Int(n)).collect())
}

/// A string, as an attribute.
pub fn text(s: &str) -> AttrValue {
    AttrValue::Str(s.into())
}

/// What a row makes of these arguments. The result must have the inferred type, and the
/// Tensor Expression must give the same: the same bits, or floats that differ by rounding.
pub fn run(op: &OpDef, args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let types: Vec<Type> = args.iter().map(Value::ty).collect();
    let ty = op.result(&types, attrs)?;
    let value = (op.eval)(args, attrs, &ty)?;
    if flat_types(&ty).iter().all(|t| t.static_shape().is_some()) {
        assert_eq!(value.ty(), ty, "{}: the value has another type than was inferred", op.name);
        if let Lower::Te(lower) = op.lower {
            check_lowered(op, lower, args, attrs, &ty, &value);
        }
    }
    Ok(value)
}

/// The inferred type of a call.
pub fn infer(op: &OpDef, args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    op.result(args, attrs)
}

fn flat_types(ty: &Type) -> Vec<TensorType> {
    match ty {
        Type::Tuple(fields) => fields.iter().flat_map(flat_types).collect(),
        other => vec![other.as_tensor().expect("a tensor").clone()],
    }
}

fn flat_values(value: &Value) -> Vec<Tensor> {
    match value {
        Value::Tuple(fields) => fields.iter().flat_map(flat_values).collect(),
        other => vec![other.as_tensor().expect("a tensor").clone()],
    }
}

fn check_lowered(op: &OpDef, lower: super::TeFn, args: &[Value], attrs: &Attrs, ty: &Type, value: &Value) {
    let mut graph = te::Graph::new();
    let mut machine = Machine::default();
    let mut inputs = Vec::new();
    for (i, t) in args.iter().flat_map(flat_values).enumerate() {
        let input = graph.placeholder(&format!("p{i}"), t.shape(), t.dtype());
        machine.memory.insert(input.id, elements(&t));
        inputs.push(input);
    }
    let outputs = lower(&mut graph, &inputs, attrs, &flat_types(ty)).expect("the row lowers");
    for stage in &graph.stages {
        machine.stage(&graph, stage);
    }
    let expected = flat_values(value);
    check_prim_func(op, &graph, &inputs, &outputs, args, &expected);
    assert_eq!(outputs.len(), expected.len(), "{}: number of results", op.name);
    for (output, expected) in outputs.iter().zip(&expected) {
        assert_eq!((&output.shape[..], output.dtype), (expected.shape(), expected.dtype()), "{}", op.name);
        for (i, (a, b)) in machine.memory[&output.id].iter().zip(elements(expected)).enumerate() {
            assert!(
                close(*a, b),
                "{}: element {i} is {a:?} by its Tensor Expression, {b:?} by evaluation",
                op.name
            );
        }
    }
}

/// TIR made of the stages must follow its rules and give the same.
fn check_prim_func(
    op: &OpDef,
    graph: &te::Graph,
    inputs: &[te::Tensor],
    outputs: &[te::Tensor],
    args: &[Value],
    expected: &[Tensor],
) {
    let ids = |tensors: &[te::Tensor]| tensors.iter().map(|t| t.id).collect::<Vec<_>>();
    if outputs.iter().any(|t| inputs.contains(t)) {
        // An operator that gives an argument back is no kernel.
        return;
    }
    let func = create_prim_func(graph, "main", &ids(inputs), &ids(outputs));
    if let Err(found) = verify(&func) {
        panic!("{}: {:#?}\n{}", op.name, found.0, print(&func));
    }
    let mut memory: Vec<Tensor> = args.iter().flat_map(flat_values).collect();
    memory.extend(outputs.iter().map(|t| Tensor::zeros(t.dtype, &t.shape).expect("small")));
    tir::eval::run(&func, &mut memory).expect("the function runs");
    for (found, expected) in memory[inputs.len()..].iter().zip(expected) {
        for (i, (a, b)) in elements(found).into_iter().zip(elements(expected)).enumerate() {
            assert!(close(a, b), "{}: element {i} is {a:?} by TIR, {b:?} by evaluation", op.name);
        }
    }
}

fn close(a: Scalar, b: Scalar) -> bool {
    if a == b || !a.dtype().is_float() {
        return a == b;
    }
    let (a, b, bits) = (a.as_f64(), b.as_f64(), a.dtype().bytes());
    let tolerance = [1e-2, 1e-5, 1e-5, 1e-12][bits.ilog2() as usize];
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + b.abs())
}

fn elements(t: &Tensor) -> Vec<Scalar> {
    crate::dispatch!(t.dtype(), T => t.as_slice::<T>().expect("dispatched").iter().map(|&x| Scalar::of(x)).collect())
}

/// An interpreter of stages.
#[derive(Default)]
struct Machine {
    memory: BTreeMap<BufferId, Vec<Scalar>>,
    vars: BTreeMap<VarId, Scalar>,
}

impl Machine {
    fn stage(&mut self, graph: &te::Graph, stage: &te::Stage) {
        for &id in &stage.outputs {
            let buffer = &graph.buffers[id];
            let zeros = vec![Scalar::from_bits(buffer.dtype, 0); buffer.shape.iter().product()];
            self.memory.entry(id).or_insert(zeros);
        }
        match &stage.kind {
            StageKind::Placeholder => {}
            StageKind::Compute(compute) => self.compute(graph, &stage.outputs, compute),
            StageKind::Extern { allocs, body, .. } => {
                for &id in allocs {
                    let buffer = &graph.buffers[id];
                    let size = buffer.shape.iter().product();
                    self.memory.insert(id, vec![Scalar::from_bits(buffer.dtype, 0); size]);
                }
                self.stmt(graph, body);
            }
        }
    }

    fn compute(&mut self, graph: &te::Graph, outputs: &[BufferId], compute: &Compute) {
        let total: usize = compute.axes.iter().map(|a| a.extent).product();
        for at in 0..total {
            self.place(&compute.axes, at);
            let values = match &compute.reduce {
                None => compute.body.iter().map(|e| self.expr(graph, e)).collect(),
                Some(reduce) => self.reduce(graph, compute, reduce),
            };
            for (&id, value) in outputs.iter().zip(values) {
                self.memory.get_mut(&id).expect("allocated")[at] = value;
            }
        }
    }

    fn place(&mut self, axes: &[te::Axis], mut at: usize) {
        for axis in axes.iter().rev() {
            self.vars.insert(axis.var, Scalar::of((at % axis.extent) as i64));
            at /= axis.extent;
        }
    }

    fn reduce(&mut self, graph: &te::Graph, compute: &Compute, reduce: &te::expr::Reduce) -> Vec<Scalar> {
        let mut acc: Vec<Scalar> = reduce.identity.iter().map(|e| self.expr(graph, e)).collect();
        for k in 0..reduce.axes.iter().map(|a| a.extent).product() {
            self.place(&reduce.axes, k);
            let new: Vec<Scalar> = compute.body.iter().map(|e| self.expr(graph, e)).collect();
            acc = match &reduce.combiner {
                Combiner::Binary(op) => {
                    acc.iter().zip(new).map(|(&a, b)| scalar::binary(*op, a, b)).collect()
                }
                Combiner::User { lhs, rhs, result } => {
                    self.vars.extend(lhs.iter().copied().zip(acc));
                    self.vars.extend(rhs.iter().copied().zip(new));
                    result.iter().map(|e| self.expr(graph, e)).collect()
                }
            };
        }
        acc
    }

    fn stmt(&mut self, graph: &te::Graph, stmt: &Stmt) {
        match stmt {
            Stmt::Seq(list) => list.iter().for_each(|s| self.stmt(graph, s)),
            Stmt::For { var, extent, body, .. } => {
                for i in 0..self.expr(graph, extent).as_i64() {
                    self.vars.insert(*var, Scalar::of(i));
                    self.stmt(graph, body);
                }
            }
            Stmt::Let { var, value } => {
                let value = self.expr(graph, value);
                self.vars.insert(*var, value);
            }
            Stmt::If { cond, then, els } => {
                if self.expr(graph, cond).bits() != 0 {
                    self.stmt(graph, then);
                } else if let Some(els) = els {
                    self.stmt(graph, els);
                }
            }
            Stmt::Store { buffer, indices, value } => {
                let value = self.expr(graph, value);
                assert_eq!(value.dtype(), graph.buffers[*buffer].dtype, "a store of another dtype");
                let at = self.flat(&graph.buffers[*buffer].shape, indices, graph);
                self.memory.get_mut(buffer).expect("allocated")[at] = value;
            }
            Stmt::Block(_) | Stmt::Intrin { .. } | Stmt::Checkpoint | Stmt::Barrier => {
                panic!("no statement of a stage")
            }
        }
    }

    fn flat(&mut self, shape: &[usize], indices: &[Expr], graph: &te::Graph) -> usize {
        assert_eq!(shape.len(), indices.len(), "one index a dimension");
        shape.iter().zip(indices).fold(0, |flat, (&n, index)| {
            let i = self.expr(graph, index).as_i64();
            assert!((0..n as i64).contains(&i), "index {i} is out of bounds for {n}");
            flat * n + i as usize
        })
    }

    fn expr(&mut self, graph: &te::Graph, e: &Expr) -> Scalar {
        match e.kind() {
            ExprKind::Const(s) => *s,
            ExprKind::Var(v) => self.vars[v],
            ExprKind::Cast(a) => scalar::cast(self.expr(graph, a), e.dtype()),
            ExprKind::Reinterpret(a) => Scalar::from_bits(e.dtype(), self.expr(graph, a).bits()),
            ExprKind::Unary(op, a) => scalar::unary(*op, self.expr(graph, a)),
            ExprKind::Binary(op, a, b) => scalar::binary(*op, self.expr(graph, a), self.expr(graph, b)),
            ExprKind::Cmp(op, a, b) => scalar::compare(*op, self.expr(graph, a), self.expr(graph, b)),
            ExprKind::Fma(a, b, c) => {
                let [a, b, c] = [a, b, c].map(|x| self.expr(graph, x).as_f64());
                Scalar::from_f64(e.dtype(), a.mul_add(b, c))
            }
            ExprKind::Select(c, a, b) => {
                let chosen = if self.expr(graph, c).bits() != 0 { a } else { b };
                self.expr(graph, chosen)
            }
            ExprKind::Load(id, indices) => {
                let shape = graph.buffers[*id].shape.clone();
                let at = self.flat(&shape, indices, graph);
                self.memory[id][at]
            }
        }
    }
}
