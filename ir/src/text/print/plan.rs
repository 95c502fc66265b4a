//! Where each expression of a function is written.
//!
//! An atom (variable, constant, global, operator, constructor) stands wherever it is used. An
//! expression that is used once, as the value of a scope or of a let, stands there. Any
//! other is a statement `%n = ..` in the innermost scope that holds all its uses. The lets
//! along the value of a scope are statements of that scope.
//!
//! The order is that of a depth-first walk, operands first, so every statement stands
//! after what it refers to, and what depends on a let after the let.

use smallvec::SmallVec;

use super::scopes::{ROOT, ScopeId, Scopes};
use crate::entity::{EntitySet, SecondaryMap};
use crate::expr::{Callee, Expr, ExprId, Module, VarId};

/// How an expression is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// As an operand.
    Operand,
    /// As an operand that the grammar wants to be a name, or that would read as something else.
    Name,
    /// As the value of a let.
    Value,
    /// As the value of a scope that the user opens.
    Scope,
    /// As what follows a let.
    Rest,
}

/// A statement of a scope.
#[derive(Clone, Copy)]
pub(super) enum Stmt {
    /// `%n = ..;`
    Graph(ExprId),
    /// `let %x = ..;`
    Let(ExprId),
}

/// What is planned for one expression.
struct Node {
    uses: u32,
    slot: Slot,
    named: bool,
    home: Option<ScopeId>,
    /// The first of the scopes that it opens; the others follow.
    scopes: ScopeId,
    number: u32,
}

/// The plan of one function.
pub(super) struct Plan {
    /// Indices into `nodes`, plus one; zero where the function has no such expression.
    index: SecondaryMap<ExprId, u32>,
    nodes: Vec<Node>,
    stmts: Vec<Vec<Stmt>>,
    used: EntitySet<VarId>,
    /// The expressions of the function, so that the plan can be emptied in their number.
    members: Vec<ExprId>,
}

/// A step of the walk.
enum Walk {
    Enter(ExprId),
    Exit(ExprId),
    /// The value of a let is done, its scope begins.
    Bound(ExprId),
}

impl Plan {
    pub fn new() -> Plan {
        Plan {
            index: SecondaryMap::new(),
            nodes: Vec::new(),
            stmts: Vec::new(),
            used: EntitySet::new(),
            members: Vec::new(),
        }
    }

    /// Plans the function with this body, forgetting the one before.
    pub fn make(&mut self, module: &Module, body: ExprId) {
        for id in self.members.drain(..) {
            self.index[id] = 0;
        }
        self.nodes.clear();
        let steps = self.walk(module, body);
        self.count_uses(module, body);
        let scopes = self.place(module, body, &steps);
        self.stmts.clear();
        self.stmts.resize_with(scopes.len(), Vec::new);
        let mut number = 0;
        for step in steps {
            match step {
                Walk::Enter(_) => {}
                Walk::Exit(id) if self.is_inline(module, id) => {}
                Walk::Exit(id) => {
                    self.node_mut(id).number = number;
                    number += 1;
                    let home = self.home(id);
                    self.stmts[home as usize].push(Stmt::Graph(id));
                }
                Walk::Bound(id) => {
                    let scope = if self.is_flat_let(id) { self.home(id) } else { self.node(id).scopes };
                    self.stmts[scope as usize].push(Stmt::Let(id));
                }
            }
        }
    }

    /// The statements of a scope, in order.
    pub fn stmts(&self, scope: ScopeId) -> &[Stmt] {
        &self.stmts[scope as usize]
    }

    /// The number of an expression that is a statement; `None` for one that stands where it is used.
    pub fn number(&self, module: &Module, id: ExprId) -> Option<u32> {
        (!self.is_inline(module, id)).then(|| self.node(id).number)
    }

    /// The scope number `i` that an expression opens.
    pub fn scope(&self, id: ExprId, i: usize) -> ScopeId {
        self.node(id).scopes + i as ScopeId
    }

    /// The value of a scope, below the lets that are its statements.
    pub fn value(&self, module: &Module, mut root: ExprId) -> ExprId {
        while let Expr::Let { body, .. } = module.exprs[root] {
            if !self.is_flat_let(root) {
                break;
            }
            root = body;
        }
        root
    }

    /// True if the variable is used in the function.
    pub fn is_used(&self, var: VarId) -> bool {
        self.used.contains(var)
    }

    /// Depth first, operands first.
    fn walk(&mut self, module: &Module, body: ExprId) -> Vec<Walk> {
        let mut steps = Vec::new();
        let mut stack = vec![Walk::Enter(body)];
        while let Some(step) = stack.pop() {
            let Walk::Enter(id) = step else {
                steps.push(step);
                continue;
            };
            if self.index[id] != 0 {
                continue;
            }
            let node = Node { uses: 0, slot: Slot::Operand, named: false, home: None, scopes: 0, number: 0 };
            self.nodes.push(node);
            self.members.push(id);
            self.index[id] = self.nodes.len() as u32;
            if let Expr::Var(var) = module.exprs[id] {
                self.used.insert(var);
            }
            stack.push(Walk::Exit(id));
            match module.exprs[id] {
                Expr::Let { value, body, .. } => {
                    stack.extend([Walk::Enter(body), Walk::Bound(id), Walk::Enter(value)]);
                }
                _ => stack.extend(operands(&module.exprs[id]).into_iter().rev().map(|(o, _)| Walk::Enter(o))),
            }
        }
        steps
    }

    fn count_uses(&mut self, module: &Module, body: ExprId) {
        self.node_mut(body).uses = 1;
        self.node_mut(body).slot = Slot::Scope;
        for i in 0..self.members.len() {
            for (operand, slot) in operands(&module.exprs[self.members[i]]) {
                let node = self.node_mut(operand);
                node.uses += 1;
                node.slot = slot;
                node.named |= slot == Slot::Name;
            }
        }
    }

    /// Finds the home of every expression, users first.
    fn place(&mut self, module: &Module, body: ExprId, steps: &[Walk]) -> Scopes {
        let mut scopes = Scopes::new();
        self.node_mut(body).home = Some(ROOT);
        for step in steps.iter().rev() {
            let Walk::Exit(id) = *step else { continue };
            let home = self.home(id);
            self.node_mut(id).scopes = scopes.len() as ScopeId;
            let expr = &module.exprs[id];
            let inside = match expr {
                Expr::Let { .. } if !self.is_flat_let(id) => scopes.add(home),
                _ => home,
            };
            for (operand, slot) in operands(expr) {
                let used_in = if slot == Slot::Scope { scopes.add(home) } else { inside };
                let node = self.node_mut(operand);
                node.home = Some(node.home.map_or(used_in, |scope| scopes.common(scope, used_in)));
            }
        }
        scopes
    }

    /// True if an expression stands where it is used.
    fn is_inline(&self, module: &Module, id: ExprId) -> bool {
        let node = self.node(id);
        match module.exprs[id] {
            Expr::Var(_) | Expr::Global(_) => true,
            Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => !node.named,
            _ => node.uses == 1 && matches!(node.slot, Slot::Value | Slot::Scope | Slot::Rest),
        }
    }

    /// True for a let whose binding is a statement of the scope it stands in.
    fn is_flat_let(&self, id: ExprId) -> bool {
        let node = self.node(id);
        node.uses == 1 && matches!(node.slot, Slot::Scope | Slot::Rest)
    }

    fn home(&self, id: ExprId) -> ScopeId {
        self.node(id).home.expect("users are placed before what they use")
    }

    fn node(&self, id: ExprId) -> &Node {
        &self.nodes[self.index[id] as usize - 1]
    }

    fn node_mut(&mut self, id: ExprId) -> &mut Node {
        &mut self.nodes[self.index[id] as usize - 1]
    }
}

/// The operands of an expression in the order in which they are written, arguments before
/// the callee, with how they are used.
fn operands(expr: &Expr) -> SmallVec<[(ExprId, Slot); 4]> {
    let mut out = SmallVec::new();
    match expr {
        Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => {}
        Expr::Call(call) => {
            out.extend(call.args.iter().map(|&a| (a, Slot::Operand)));
            match call.callee {
                Callee::Expr(callee) => out.push((callee, Slot::Name)),
                Callee::Op(_) | Callee::Ctor(_) => {}
            }
        }
        Expr::Func(func) => out.push((func.body, Slot::Scope)),
        Expr::Let { value, body, .. } => out.extend([(*value, Slot::Value), (*body, Slot::Rest)]),
        Expr::If { cond, then, els } => {
            out.extend([(*cond, Slot::Operand), (*then, Slot::Scope), (*els, Slot::Scope)]);
        }
        Expr::Tuple(fields) => out.extend(fields.iter().map(|&f| (f, Slot::Operand))),
        Expr::Proj { tuple, .. } => out.push((*tuple, Slot::Name)),
        Expr::Match { value, clauses, .. } => {
            out.push((*value, Slot::Operand));
            out.extend(clauses.iter().map(|c| (c.body, Slot::Scope)));
        }
        Expr::Ref(value) | Expr::RefRead(value) => out.push((*value, Slot::Operand)),
        Expr::RefWrite { cell, value } => out.extend([(*cell, Slot::Operand), (*value, Slot::Operand)]),
    }
    out
}
