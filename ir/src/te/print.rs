//! A graph of Tensor Expressions as text, in the manner of TVM's Python.
//!
//! The text is for people; nothing reads it back.

use std::fmt::Write as _;

use super::expr::{Axis, Combiner, Compute, Graph, Reduce, Stage, StageKind};
use crate::scalar::BinaryOp;
use crate::tir::print::Printer;
use crate::tir::print::expr::{Names, expr_text};
use crate::tir::{BufferId, Expr, PrimFunc, Stmt, VarId};

/// The stages in order, one a line.
pub fn print(graph: &Graph) -> String {
    let mut shell = PrimFunc::new("te");
    shell.buffers = graph.buffers.clone();
    shell.vars = graph.vars.clone();
    let externs = graph.stages.iter().filter_map(|s| match &s.kind {
        StageKind::Extern { body, .. } => Some(body.clone()),
        StageKind::Placeholder | StageKind::Compute(_) => None,
    });
    shell.body = Stmt::Seq(externs.collect());
    let mut text = Text { graph, printer: Printer::new(&shell), out: String::new() };
    for stage in &graph.stages {
        text.stage(stage);
    }
    text.out
}

struct Text<'a> {
    graph: &'a Graph,
    printer: Printer<'a>,
    out: String,
}

impl Text<'_> {
    fn stage(&mut self, stage: &Stage) {
        let results = self.names(&stage.outputs);
        let comment = if *stage.name == *results { String::new() } else { format!(" {}", stage.name) };
        match &stage.kind {
            StageKind::Placeholder => {
                let ty = stage.outputs.first().map_or(String::new(), |b| self.ty(*b));
                let _ = writeln!(self.out, "{results} = te.placeholder({ty})");
            }
            StageKind::Compute(compute) => {
                let line = self.compute(stage, compute);
                let _ = writeln!(self.out, "{results} = {line}  # {}{comment}", stage.tag);
            }
            StageKind::Extern { inputs, allocs, body } => {
                let types: Vec<String> = stage.outputs.iter().map(|b| format!("({})", self.ty(*b))).collect();
                let (types, inputs) = (types.join(", "), self.names(inputs));
                let _ = writeln!(
                    self.out,
                    "{results} = te.extern([{types}], [{inputs}])  # {}{comment}",
                    stage.tag
                );
                for &b in allocs {
                    let _ =
                        writeln!(self.out, "    {} = T.alloc_buffer({})", self.printer.buffer(b), self.ty(b));
                }
                self.printer.inside(&mut self.out, body);
            }
        }
    }

    fn compute(&mut self, stage: &Stage, compute: &Compute) -> String {
        let reduce_axes = compute.reduce.iter().flat_map(|r| &r.axes);
        let bound: Vec<VarId> = compute.axes.iter().chain(reduce_axes).map(|a| a.var).collect();
        bound.iter().for_each(|&v| self.printer.bind(v));
        let body = self.exprs(&compute.body);
        let value = match &compute.reduce {
            None => body,
            Some(reduce) => self.reduce(reduce, &body),
        };
        let shape = stage.outputs.first().map_or(String::new(), |b| tuple(&self.graph.buffers[*b].shape));
        let axes = self.axes(&compute.axes, |name, _| name.to_string());
        let lambda = if axes.is_empty() { "lambda".to_string() } else { format!("lambda {axes}") };
        let text = format!("te.compute({shape}, {lambda}: {value})");
        self.printer.release(&bound);
        text
    }

    fn reduce(&mut self, reduce: &Reduce, body: &str) -> String {
        let axes = self.axes(&reduce.axes, |name, n| format!("{name} < {n}"));
        let identity = self.exprs(&reduce.identity);
        match &reduce.combiner {
            Combiner::Binary(op) => match reducer(*op) {
                Some(name) => format!("te.{name}({body}, axis=[{axes}])"),
                None => format!("te.reduce(\"{op:?}\", {body}, axis=[{axes}], identity={identity})"),
            },
            Combiner::User { lhs, rhs, result } => {
                let bound: Vec<VarId> = lhs.iter().chain(rhs).copied().collect();
                bound.iter().for_each(|&v| self.printer.bind(v));
                let side = |vars: &[VarId]| {
                    vars.iter().map(|&v| self.printer.var(v).to_string()).collect::<Vec<_>>().join(", ")
                };
                let (lhs, rhs) = (side(lhs), side(rhs));
                let combine = format!("lambda ({lhs}), ({rhs}): {}", self.exprs(result));
                self.printer.release(&bound);
                format!("te.reduce({combine}, {body}, axis=[{axes}], identity={identity})")
            }
        }
    }

    fn axes(&self, axes: &[Axis], text: impl Fn(&str, usize) -> String) -> String {
        axes.iter().map(|a| text(self.printer.var(a.var), a.extent)).collect::<Vec<_>>().join(", ")
    }

    /// One expression, or several in parentheses.
    fn exprs(&self, exprs: &[Expr]) -> String {
        let texts: Vec<String> = exprs.iter().map(|e| expr_text(e, &self.printer)).collect();
        if let [only] = texts.as_slice() { only.clone() } else { format!("({})", texts.join(", ")) }
    }

    fn names(&self, buffers: &[BufferId]) -> String {
        buffers.iter().map(|&b| self.printer.buffer(b)).collect::<Vec<_>>().join(", ")
    }

    fn ty(&self, b: BufferId) -> String {
        let buffer = &self.graph.buffers[b];
        format!("{}, \"{}\"", tuple(&buffer.shape), buffer.dtype.name())
    }
}

/// TE's name of a reduction.
fn reducer(op: BinaryOp) -> Option<&'static str> {
    match op {
        BinaryOp::Add => Some("sum"),
        BinaryOp::Mul => Some("prod"),
        BinaryOp::Min => Some("min"),
        BinaryOp::Max => Some("max"),
        BinaryOp::And => Some("all"),
        BinaryOp::Or => Some("any"),
        BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::FloorDiv
        | BinaryOp::Mod
        | BinaryOp::FloorMod
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => None,
    }
}

fn tuple(shape: &[usize]) -> String {
    match shape {
        [n] => format!("({n},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DType, TensorType};

    #[test]
    fn computes_and_reductions() {
        let mut g = Graph::new();
        let a = g.placeholder("A", &[4, 8], DType::F32);
        let s = g.reduce(
            "S",
            "comm_reduce",
            &TensorType::of(&[4], DType::F32),
            &[8],
            BinaryOp::Add,
            Expr::float(0.0, DType::F32),
            |i, k| a.at(&[i[0].clone(), k[0].clone()]),
        );
        g.compute("R", "elemwise", &TensorType::of(&[4], DType::F32), |i| {
            s.at(i).max(Expr::float(0.0, DType::F32))
        });
        assert_eq!(
            print(&g),
            "A = te.placeholder((4, 8), \"float32\")\n\
             S = te.compute((4,), lambda i0: te.sum(A[i0, k0], axis=[k0 < 8]))  # comm_reduce\n\
             R = te.compute((4,), lambda i0: T.max(S[i0], T.float32(0)))  # elemwise\n"
        );
    }
}
