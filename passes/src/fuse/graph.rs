//! The dataflow graph that fusion looks at: expressions with their users and patterns.
//!
//! Nodes stand in post-order, so a user always has a larger id than what it uses. A node is
//! *external* if something other than an operator, a tuple or a projection uses it: such a
//! value must exist on its own and ends every group. Follows the indexed forward graph of
//! Relay's FuseOps.

use std::collections::BTreeMap;

use fermata_ir::entity::{PrimaryMap, SecondaryMap};
use fermata_ir::entity_id;
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::FusePattern;
use fermata_ir::types::{DType, Dim, Type};
use fermata_ir::walk;

entity_id!(/// A node of a dataflow graph, in post-order.
    NodeId, "n");

/// An expression as fusion sees it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The expression.
    pub expr: ExprId,
    /// How it computes.
    pub pattern: FusePattern,
    /// True if it must be a value of its own.
    pub external: bool,
    /// Who uses it, and in what manner; a user appears once for each argument.
    pub uses: Vec<Use>,
    /// The first node of the same value: every mention of a variable is a node of its own.
    pub value: NodeId,
    /// True for a scalar that is written into the groups that read it.
    pub inlined: bool,
}

/// An edge from a value to its user.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// The user.
    pub user: NodeId,
    /// How the user reads the value.
    pub pattern: FusePattern,
}

/// The graph of one function's body.
pub struct DataflowGraph {
    /// The nodes in post-order.
    pub nodes: PrimaryMap<NodeId, Node>,
    node_of: SecondaryMap<ExprId, Option<NodeId>>,
}

impl DataflowGraph {
    /// The graph of a function's body.
    pub fn new(module: &Module, func: &Function) -> DataflowGraph {
        let mut graph = DataflowGraph { nodes: PrimaryMap::new(), node_of: SecondaryMap::new() };
        let mut mentions: BTreeMap<VarId, NodeId> = BTreeMap::new();
        for expr in walk::post_order(module, &[func.body]) {
            let pattern = node_pattern(module, expr);
            let own = graph.nodes.next_key();
            let value = match module.exprs[expr] {
                Expr::Var(var) => *mentions.entry(var).or_insert(own),
                _ => own,
            };
            let inlined = is_inline_constant(module, expr);
            let node = Node { expr, pattern, external: false, uses: Vec::new(), value, inlined };
            graph.node_of[expr] = Some(graph.nodes.push(node));
            graph.connect(module, expr);
        }
        graph.mark_external(func.body);
        graph
    }

    /// The node of an expression, if the body reaches it.
    pub fn node(&self, expr: ExprId) -> Option<NodeId> {
        self.node_of[expr]
    }

    fn mark_external(&mut self, expr: ExprId) {
        if let Some(node) = self.node_of[expr] {
            self.nodes[node].external = true;
        }
    }

    fn add_use(&mut self, value: ExprId, user: ExprId, pattern: FusePattern) {
        if let (Some(value), Some(user)) = (self.node_of[value], self.node_of[user]) {
            self.nodes[value].uses.push(Use { user, pattern });
        }
    }

    /// Adds the edges from the operands of `expr`, or marks them external.
    fn connect(&mut self, module: &Module, expr: ExprId) {
        match &module.exprs[expr] {
            Expr::Call(call) => match call.callee {
                Callee::Op(_) => {
                    let pattern = node_pattern(module, expr);
                    for &arg in &call.args {
                        self.add_use(arg, expr, edge_pattern(module, pattern, arg, expr));
                    }
                }
                Callee::Expr(callee) => {
                    self.mark_external(callee);
                    call.args.iter().for_each(|&arg| self.mark_external(arg));
                }
                Callee::Ctor(_) => call.args.iter().for_each(|&arg| self.mark_external(arg)),
            },
            Expr::Tuple(fields) => {
                fields.iter().for_each(|&field| self.add_use(field, expr, FusePattern::Injective));
            }
            Expr::Proj { tuple, .. } => {
                if all_tensors(&module.types[*tuple]) {
                    self.add_use(*tuple, expr, FusePattern::Injective);
                } else {
                    self.mark_external(*tuple);
                }
            }
            Expr::Var(_) | Expr::Global(_) | Expr::Func(_) => self.mark_external(expr),
            Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => {}
            Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {
                self.mark_external(expr);
                walk::children(&module.exprs[expr]).into_iter().for_each(|c| self.mark_external(c));
            }
        }
        if let Expr::Func(func) = &module.exprs[expr] {
            self.mark_external(func.body);
        }
    }
}

fn all_tensors(ty: &Type) -> bool {
    ty.as_tuple().is_some_and(|fields| fields.iter().all(|f| f.as_tensor().is_some()))
}

/// True if every dimension of every tensor in the type is known.
pub fn is_static(ty: &Type) -> bool {
    match ty {
        Type::Tensor(t) => t.shape.iter().all(|d| matches!(d, Dim::Static(_))),
        Type::Tuple(fields) => fields.iter().all(is_static),
        Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => false,
    }
}

/// A scalar that is written into a group instead of being passed to it.
pub fn is_inline_constant(module: &Module, expr: ExprId) -> bool {
    module.as_const(expr).is_some_and(|t| {
        let dtype = matches!(t.dtype(), DType::I32 | DType::I64 | DType::F32 | DType::F64 | DType::Bool);
        t.rank() == 0 && dtype
    })
}

fn node_pattern(module: &Module, expr: ExprId) -> FusePattern {
    match &module.exprs[expr] {
        Expr::Call(call) => match call.callee {
            Callee::Op(op) if op.purity == fermata_ir::op::Purity::Pure && is_static(&module.types[expr]) => {
                op.pattern
            }
            Callee::Op(_) | Callee::Expr(_) | Callee::Ctor(_) => FusePattern::Opaque,
        },
        Expr::Const(_) if is_inline_constant(module, expr) => FusePattern::Elemwise,
        Expr::Tuple(_) => FusePattern::Tuple,
        Expr::Proj { .. } => FusePattern::Injective,
        Expr::Const(_)
        | Expr::Var(_)
        | Expr::Global(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Func(_)
        | Expr::Let { .. }
        | Expr::If { .. }
        | Expr::Match { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => FusePattern::Opaque,
    }
}

/// A broadcast reads an argument elementwise if it has the shape of the result.
fn edge_pattern(module: &Module, pattern: FusePattern, arg: ExprId, user: ExprId) -> FusePattern {
    let shape = |e: ExprId| module.types[e].as_tensor().map(|t| &t.shape);
    let same = shape(arg).is_some() && shape(arg) == shape(user);
    if pattern == FusePattern::Broadcast && same { FusePattern::Elemwise } else { pattern }
}
