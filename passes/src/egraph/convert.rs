//! Between programs and e-graphs.

use std::collections::BTreeMap;

use egg::{Id, Language};
use fermata_ir::expr::{Args, Call, Callee, Expr, ExprId, Module, VarId};
use fermata_ir::op::{Attrs, Purity};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::facts::{Facts, Graph, split_attrs};
use super::lang::{Head, Node};
use crate::relay::sparse::Sparse;

/// A function's body as an e-graph.
pub struct Imported {
    /// The classes; rebuilt.
    pub graph: Graph,
    /// The class of the body.
    pub root: Id,
    /// Every expression with its node, operands first; functions are not entered.
    pub nodes: Vec<(ExprId, Node)>,
}

/// True if a root reaches binders, whose variables must not leave their scope: `let` and `match`.
pub fn binds(module: &Module, root: ExprId) -> bool {
    let order = walk::post_order_in_scope(module, root);
    order.iter().any(|&e| matches!(module.exprs[e], Expr::Let { .. } | Expr::Match { .. }))
}

/// Adds what a root reaches to an empty e-graph.
pub fn import(module: &Module, root: ExprId, mut graph: Graph) -> Imported {
    let mut class: Sparse<Option<Id>> = Sparse::default();
    let mut nodes = Vec::new();
    let mut uses: BTreeMap<VarId, ExprId> = BTreeMap::new();
    for expr in walk::post_order_in_scope(module, root) {
        if let Expr::Var(var) = module.exprs[expr] {
            // All uses of a variable are one class.
            let first = *uses.entry(var).or_insert(expr);
            class[expr] = class[first];
            if first != expr {
                continue;
            }
        }
        let node = node_of(module, expr, &class, &mut graph);
        nodes.push((expr, node.clone()));
        class[expr] = Some(graph.add(node));
    }
    graph.analysis.own_constants = graph.analysis.constants.len() as u32;
    graph.rebuild();
    let root = class[root].expect("the root comes last");
    Imported { graph, root, nodes }
}

fn node_of(module: &Module, expr: ExprId, class: &Sparse<Option<Id>>, graph: &mut Graph) -> Node {
    let of = |e: ExprId| class[e].expect("operands come first");
    let node =
        |head: Head, operands: &[ExprId]| Node { head, children: operands.iter().map(|&e| of(e)).collect() };
    match &module.exprs[expr] {
        Expr::Const(c) => Node::leaf(graph.analysis.constant(&module.consts[*c].tensor)),
        Expr::Tuple(fields) => node(Head::Tuple, fields),
        Expr::Proj { tuple, index } => node(Head::Proj(*index), &[*tuple]),
        Expr::Call(call) => match call.callee {
            Callee::Op(op) if op.purity == Purity::Pure && is_inferred(module, expr, call) => {
                let mut node = node(Head::Op(op), &call.args);
                if !op.attrs.is_empty() {
                    let attrs = Node::leaf(graph.analysis.attributes(&call.attrs));
                    node.children.push(graph.add(attrs));
                }
                node
            }
            Callee::Op(_) | Callee::Expr(_) | Callee::Ctor(_) => opaque(module, expr, class, graph),
        },
        Expr::Var(_)
        | Expr::Global(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Func(_)
        | Expr::Let { .. }
        | Expr::If { .. }
        | Expr::Match { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => opaque(module, expr, class, graph),
    }
}

/// True if inference from the arguments alone gives the type that the expression has.
fn is_inferred(module: &Module, expr: ExprId, call: &Call) -> bool {
    let Callee::Op(op) = call.callee else { return false };
    let types: Vec<Type> = call.args.iter().map(|&a| module.types[a].clone()).collect();
    op.result(&types, &call.attrs).is_ok_and(|ty| ty == module.types[expr])
}

fn opaque(module: &Module, expr: ExprId, class: &Sparse<Option<Id>>, graph: &mut Graph) -> Node {
    graph.analysis.opaque.insert(expr, module.types[expr].clone());
    let operands = match &module.exprs[expr] {
        // Not entered: a function is a value of its own.
        Expr::Func(_) => Args::new(),
        other => walk::children(other),
    };
    let children = operands.iter().map(|&e| class[e].expect("operands come first")).collect();
    Node { head: Head::Opaque(expr), children }
}

/// Builds the chosen nodes as expressions and gives that of the root's class. What stayed as it
/// was keeps its id, and so its location.
pub fn export(module: &mut Module, imported: &Imported, chosen: &[Option<Node>]) -> ExprId {
    let graph = &imported.graph;
    let mut origins: BTreeMap<Id, ExprId> = BTreeMap::new();
    for (expr, node) in &imported.nodes {
        let node = node.clone().map_children(|c| graph.find(c));
        if let Some(class) = graph.lookup(node) {
            origins.entry(class).or_insert(*expr);
        }
    }
    let mut built: BTreeMap<Id, ExprId> = BTreeMap::new();
    let root = graph.find(imported.root);
    let mut stack = vec![(root, false)];
    while let Some((class, ready)) = stack.pop() {
        if built.contains_key(&class) {
            continue;
        }
        let node = chosen[usize::from(class)].as_ref().expect("extraction chose a node for what it reaches");
        let operands = node.children.iter().map(|&c| graph.find(c));
        if ready {
            let operands = operands.filter_map(|c| built.get(&c).copied()).collect();
            let expr = build(module, graph, node, operands, origins.get(&class).copied());
            built.insert(class, expr);
        } else {
            stack.push((class, true));
            let values = operands.filter(|&c| matches!(graph[c].data, Facts::Value { .. }));
            stack.extend(values.filter(|c| !built.contains_key(c)).map(|c| (c, false)));
        }
    }
    built[&root]
}

fn build(module: &mut Module, graph: &Graph, node: &Node, operands: Args, origin: Option<ExprId>) -> ExprId {
    let expr = match node.head {
        Head::Const(number) => {
            let tensor = &graph.analysis.constants[number as usize];
            return match origin.filter(|&e| module.as_const(e).is_some()) {
                Some(constant) => constant,
                None => module.constant(tensor.clone()),
            };
        }
        Head::Opaque(expr) => {
            let mut operands = operands.into_iter();
            if let Expr::Func(_) = module.exprs[expr] {
                return expr;
            }
            match walk::map_children(&module.exprs[expr], |child| operands.next().unwrap_or(child)) {
                Some(changed) => changed,
                None => return expr,
            }
        }
        Head::Tuple => Expr::Tuple(operands),
        Head::Proj(index) => Expr::Proj { tuple: operands[0], index },
        Head::Op(op) => {
            let attrs = split_attrs(op, &node.children).1.and_then(|&id| graph[id].data.attrs());
            let attrs = attrs.cloned().unwrap_or(Attrs::NONE);
            Expr::Call(Call { callee: Callee::Op(op), args: operands, attrs })
        }
        Head::Attrs(_) => unreachable!("attributes are no values"),
    };
    if let Some(origin) = origin.filter(|&e| module.exprs[e] == expr) {
        return origin;
    }
    let ty = graph.lookup(node.clone()).and_then(|class| graph[class].data.ty().cloned());
    let id = match origin {
        Some(origin) => module.add_like(expr, origin),
        None => module.add(expr),
    };
    module.types[id] = ty.unwrap_or_default();
    id
}
