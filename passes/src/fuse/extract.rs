//! From a partition to primitive functions.

use std::collections::BTreeMap;

use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Args, Call, Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::{AttrValue, Attrs};
use fermata_ir::types::{FuncType, Type};
use fermata_ir::walk;
use indexmap::IndexMap;

use super::graph::{DataflowGraph, NodeId, is_inline_constant};
use super::group::Groups;

/// The function's body with every group replaced by a call of a primitive function; constants that
/// are no scalars stand inside of groups where they are `linked`.
pub fn extract(
    module: &mut Module,
    func: &Function,
    graph: &DataflowGraph,
    groups: &Groups,
    linked: bool,
) -> ExprId {
    let order = walk::post_order(module, &[func.body]);
    let mut work = Extractor {
        module,
        graph,
        groups,
        outside: SecondaryMap::new(),
        inside: SecondaryMap::new(),
        open: BTreeMap::new(),
        mentions: BTreeMap::new(),
        members: count_members(graph, groups),
        primitive_depth: SecondaryMap::new(),
        linked,
    };
    work.mark_primitive_bodies(&order);
    for expr in order {
        work.visit(expr);
    }
    work.outside[func.body].unwrap_or(func.body)
}

fn count_members(graph: &DataflowGraph, groups: &Groups) -> SecondaryMap<NodeId, u32> {
    let mut members: SecondaryMap<NodeId, u32> = SecondaryMap::new();
    for node in graph.nodes.keys() {
        members[groups.root(node)] += 1;
    }
    members
}

/// The parameters that a group has so far: the value outside, and the variable inside.
type Params = IndexMap<ExprId, VarId>;

struct Extractor<'a> {
    module: &'a mut Module,
    graph: &'a DataflowGraph,
    groups: &'a Groups,
    /// What stands for an old expression outside of groups.
    outside: SecondaryMap<ExprId, Option<ExprId>>,
    /// What stands for it inside its group.
    inside: SecondaryMap<ExprId, Option<ExprId>>,
    open: BTreeMap<NodeId, Params>,
    /// The first mention of each variable: all mentions are one parameter of a group.
    mentions: BTreeMap<VarId, ExprId>,
    members: SecondaryMap<NodeId, u32>,
    /// Set for expressions inside functions that are primitive already.
    primitive_depth: SecondaryMap<ExprId, bool>,
    /// Whether all constants stand inside of groups, not only scalars.
    linked: bool,
}

impl Extractor<'_> {
    fn mark_primitive_bodies(&mut self, order: &[ExprId]) {
        for &expr in order {
            if super::is_primitive_expr(self.module, expr) {
                let Expr::Func(func) = &self.module.exprs[expr] else { continue };
                for inner in walk::post_order(self.module, &[func.body]) {
                    self.primitive_depth[inner] = true;
                }
            }
        }
    }

    fn visit(&mut self, expr: ExprId) {
        if self.primitive_depth[expr] {
            self.outside[expr] = Some(expr);
            return;
        }
        let node = self.graph.node(expr).expect("the graph has the whole body");
        let root = self.groups.root(node);
        if !self.is_grouped(expr, root) {
            let outside = &self.outside;
            let rebuilt =
                walk::map_children(&self.module.exprs[expr], |child| outside[child].unwrap_or(child));
            let new = match rebuilt {
                Some(new) => {
                    let id = self.module.add_like(new, expr);
                    self.module.types[id] = self.module.types[expr].clone();
                    id
                }
                None => expr,
            };
            self.outside[expr] = Some(new);
            return;
        }
        self.add_member(expr, root);
        if node == root {
            self.close(expr, root);
        }
    }

    /// True if the expression becomes part of a primitive function.
    fn is_grouped(&self, expr: ExprId, root: NodeId) -> bool {
        let alone = self.members[root] == 1;
        match &self.module.exprs[expr] {
            Expr::Call(call) => matches!(call.callee, Callee::Op(_)),
            Expr::Tuple(_) => !alone && self.graph.nodes[root].expr != expr,
            Expr::Proj { tuple, .. } => {
                let owner = self.graph.node(*tuple).map(|t| self.groups.root(t));
                !alone && (owner == Some(root) || self.graph.nodes[root].expr != expr)
            }
            Expr::Var(_)
            | Expr::Global(_)
            | Expr::Const(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => false,
        }
    }

    /// Copies an expression into its group.
    fn add_member(&mut self, expr: ExprId, root: NodeId) {
        let mut params = self.open.remove(&root).unwrap_or_default();
        let operands = walk::children(&self.module.exprs[expr]);
        let mut mapped = BTreeMap::new();
        for operand in operands {
            let inner = self.operand(operand, root, &mut params);
            mapped.insert(operand, inner);
        }
        let new = walk::map_children(&self.module.exprs[expr], |child| mapped[&child]);
        let new = new.unwrap_or_else(|| self.module.exprs[expr].clone());
        let id = self.module.add_like(new, expr);
        self.module.types[id] = self.module.types[expr].clone();
        self.inside[expr] = Some(id);
        self.open.insert(root, params);
    }

    /// What an operand of a member is inside the group: a member, a scalar, or a parameter.
    fn operand(&mut self, operand: ExprId, root: NodeId, params: &mut Params) -> ExprId {
        let same = self.graph.node(operand).is_some_and(|n| self.groups.root(n) == root);
        if same && let Some(inner) = self.inside[operand] {
            return inner;
        }
        let constant = self.module.as_const(operand).is_some();
        if is_inline_constant(self.module, operand) || self.linked && constant {
            return operand;
        }
        let mut value = self.outside[operand].unwrap_or(operand);
        if let Expr::Var(var) = self.module.exprs[value] {
            value = *self.mentions.entry(var).or_insert(value);
        }
        let ty = self.module.types[operand].clone();
        let next = params.len();
        let module = &mut *self.module;
        let var = *params.entry(value).or_insert_with(|| module.var(format!("p{next}"), ty.clone()));
        let id = self.module.add(Expr::Var(var));
        self.module.types[id] = ty;
        id
    }

    /// Makes the function of a finished group and a call of it.
    fn close(&mut self, expr: ExprId, root: NodeId) {
        let params = self.open.remove(&root).unwrap_or_default();
        let body = self.inside[expr].expect("the root is a member");
        let ret = self.module.types[expr].clone();
        let mut attrs: IndexMap<_, _> = [("Primitive".into(), AttrValue::Int(1))].into();
        if is_reshape_only(self.module, body) {
            attrs.insert("relay.reshape_only".into(), AttrValue::Int(1));
        }
        let vars: Vec<VarId> = params.values().copied().collect();
        let param_types: Vec<Type> = vars.iter().map(|&v| self.module.vars[v].ty.clone()).collect();
        let ty = FuncType { type_params: Vec::new(), params: param_types, ret: ret.clone() };
        let func = Function { type_params: Vec::new(), params: vars, body, ret: ret.clone(), attrs };
        let func = self.module.add_like(Expr::Func(Box::new(func)), expr);
        self.module.types[func] = Type::Func(ty.into());
        let args: Args = params.keys().copied().collect();
        let call = self
            .module
            .add_like(Expr::Call(Call { callee: Callee::Expr(func), args, attrs: Attrs::NONE }), expr);
        self.module.types[call] = ret;
        self.outside[expr] = Some(call);
    }
}

/// True if a group's body gives its argument another shape and does nothing else.
pub fn is_reshape_only(module: &Module, body: ExprId) -> bool {
    walk::post_order(module, &[body]).iter().all(|&e| match &module.exprs[e] {
        Expr::Call(_) => module.as_op_call(e).is_some_and(|(op, _)| super::is_reshape(op)),
        Expr::Var(_) => true,
        _ => false,
    })
}
