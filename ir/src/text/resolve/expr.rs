//! Expressions, by a machine with its own stacks: nesting costs memory, not call depth.
//!
//! A task looks at a node and leaves tasks for its operands and one to finish it; results
//! wait on a stack of values. Scopes are restored by tasks, too.

use super::super::literal;
use super::super::tree::{Func, Node, NodeId, Param, Pattern, PatternId, Place, Stmt};
use super::Resolver;
use crate::diag::Code;
use crate::expr::{Args, Call, Callee, Clause, Expr, ExprId, FuncAttrs, Function, MatchPattern, VarId};
use crate::scalar::Scalar;
use crate::tensor::Bool8;
use crate::types::Type;

/// What is left to do.
#[derive(Clone, Copy)]
enum Task {
    /// Look at a node.
    Visit(NodeId),
    /// Make an expression of a node whose operands are done.
    Finish(NodeId),
    /// Look at a statement of a block.
    Stmt { block: NodeId, index: usize },
    /// The value of a statement is done; a function was declared before it.
    Bind { block: NodeId, index: usize, early: Option<VarId> },
    /// Wrap the value of a block in the lets above this number.
    EndBlock { lets: usize, scope: usize },
    /// Bind the pattern of an arm.
    Arm { node: NodeId, arm: usize },
    /// Forget the names above this number.
    Leave { scope: usize },
}

/// A let whose scope is being read.
struct OpenLet {
    var: VarId,
    value: ExprId,
    start: u32,
}

/// A function whose body is being read.
pub(super) struct OpenFunction {
    func: Function,
    locals: usize,
    type_vars: usize,
}

/// The stacks of the machine.
#[derive(Default)]
struct Machine {
    tasks: Vec<Task>,
    values: Vec<ExprId>,
    lets: Vec<OpenLet>,
    functions: Vec<OpenFunction>,
    patterns: Vec<MatchPattern>,
}

impl Machine {
    /// Leaves tasks so that they run in the order given.
    fn then(&mut self, tasks: &[Task]) {
        self.tasks.extend(tasks.iter().rev());
    }

    /// Leaves a node to finish after its operands, which run in the order given.
    fn operands(&mut self, node: NodeId, operands: impl DoubleEndedIterator<Item = NodeId>) {
        self.tasks.push(Task::Finish(node));
        self.tasks.extend(operands.rev().map(Task::Visit));
    }

    fn pop(&mut self) -> ExprId {
        self.values.pop().expect("every operand left a value")
    }

    /// The last `n` values, in order.
    fn pop_many(&mut self, n: usize) -> Args {
        let at = self.values.len().checked_sub(n).expect("every operand left a value");
        self.values.drain(at..).collect()
    }
}

impl<'t> Resolver<'_, 't> {
    /// Resolves an expression.
    pub(super) fn expression(&mut self, root: NodeId) -> ExprId {
        let mut m = Machine::default();
        m.tasks.push(Task::Visit(root));
        while let Some(task) = m.tasks.pop() {
            if self.full() {
                return self.broken(self.tree.place(root));
            }
            match task {
                Task::Visit(node) => self.visit(&mut m, node),
                Task::Finish(node) => {
                    let id = self.finish(&mut m, node);
                    m.values.push(id);
                }
                Task::Stmt { block, index } => self.statement(&mut m, block, index),
                Task::Bind { block, index, early } => self.bind(&mut m, block, index, early),
                Task::EndBlock { lets, scope } => {
                    self.locals.restore(scope);
                    self.end_block(&mut m, lets);
                }
                Task::Arm { node, arm } => {
                    if let Node::Match { arms, .. } = self.tree.node(node) {
                        let mark = self.locals.mark();
                        let pattern = self.pattern(arms[arm].0, mark);
                        m.patterns.push(pattern);
                    }
                }
                Task::Leave { scope } => self.locals.restore(scope),
            }
        }
        m.pop()
    }

    /// Looks at a node: a leaf becomes a value, anything else leaves tasks.
    fn visit(&mut self, m: &mut Machine, id: NodeId) {
        let tree = self.tree;
        let place = tree.place(id);
        let value = match tree.node(id) {
            Node::Number { text, negative } => match literal::scalar(text, *negative) {
                Ok(scalar) => self.scalar(place, scalar),
                Err(message) => {
                    self.error(place, Code::TEXT_TOKEN, message);
                    self.broken(place)
                }
            },
            Node::Bool(b) => self.scalar(place, Scalar::of(Bool8::from(*b))),
            Node::Local(name) => self.local(*name),
            Node::Graph(number) => self.graph_node(number, place),
            Node::Global(name) => self.global(*name),
            Node::Ident(name) => self.word(name, place),
            Node::Meta { key, index } => self.meta_constant(key, index, place),
            Node::Weights(name) => self.weight(name, place),
            Node::Const { ty, values } => self.const_tensor(*ty, *values, place),
            Node::Elided => self.elided(place),
            Node::Str(_) | Node::List(..) => {
                self.error(place, Code::TEXT_SYNTAX, "this is no expression");
                self.broken(place)
            }
            Node::Func(func) => {
                let open = self.open_function(func);
                m.functions.push(open);
                return m.operands(id, [func.body].into_iter());
            }
            Node::If { cond, then, els } => return m.operands(id, [*cond, *then, *els].into_iter()),
            Node::Ref(a) | Node::RefRead(a) | Node::Proj { tuple: a, .. } => {
                return m.operands(id, [*a].into_iter());
            }
            Node::RefWrite { cell, value } => return m.operands(id, [*cell, *value].into_iter()),
            Node::Binary { lhs, rhs, .. } => return m.operands(id, [*lhs, *rhs].into_iter()),
            Node::Tuple(fields) => return m.operands(id, fields.iter().copied()),
            Node::Call { callee, args, .. } => {
                // An operator or constructor that is called is no value of its own.
                let callee = (!matches!(tree.node(*callee), Node::Ident(_))).then_some(*callee);
                return m.operands(id, args.iter().copied().chain(callee));
            }
            Node::Match { value, arms, .. } => {
                let scope = self.locals.mark();
                m.tasks.push(Task::Finish(id));
                for (arm, (_, body)) in arms.iter().enumerate().rev() {
                    m.then(&[Task::Arm { node: id, arm }, Task::Visit(*body), Task::Leave { scope }]);
                }
                return m.tasks.push(Task::Visit(*value));
            }
            Node::Block(_) => {
                let end = Task::EndBlock { lets: m.lets.len(), scope: self.locals.mark() };
                return m.then(&[Task::Stmt { block: id, index: 0 }, end]);
            }
        };
        m.values.push(value);
    }

    /// Looks at a statement: its value first, then what it binds, then the next one.
    fn statement(&mut self, m: &mut Machine, block: NodeId, index: usize) {
        let Node::Block(stmts) = self.tree.node(block) else { return };
        let next = Task::Stmt { block, index: index + 1 };
        let (value, early) = match stmts[index] {
            Stmt::Expr(value) if index + 1 == stmts.len() => return m.tasks.push(Task::Visit(value)),
            Stmt::Expr(value) | Stmt::Graph { value, .. } => (value, None),
            Stmt::Let { name, ty, value } => {
                // A function may call itself by its name.
                let recursive = matches!(self.tree.node(value), Node::Func(_));
                (value, recursive.then(|| self.declare(name, ty)))
            }
            Stmt::FreeVar { name, ty } => {
                let var = self.declare(name, ty);
                self.free_vars.push(var);
                return m.tasks.push(next);
            }
        };
        m.then(&[Task::Visit(value), Task::Bind { block, index, early }, next]);
    }

    /// Binds the value of a statement.
    fn bind(&mut self, m: &mut Machine, block: NodeId, index: usize, early: Option<VarId>) {
        let Node::Block(stmts) = self.tree.node(block) else { return };
        let value = m.pop();
        match stmts[index] {
            Stmt::Graph { number, .. } => {
                let key = trim_zeros(number.text);
                if self.graph.insert(key, value).is_some() {
                    let message = format!("graph number `%{key}` is defined twice in this function");
                    self.error(number.place, Code::TEXT_NAME, message);
                }
            }
            Stmt::Let { name, ty, .. } => {
                let var = early.unwrap_or_else(|| self.declare(name, ty));
                m.lets.push(OpenLet { var, value, start: name.place.0 });
            }
            Stmt::Expr(node) => {
                // A value that nobody names is still evaluated, in its turn.
                let var = self.module.var("_", Type::Unknown);
                m.lets.push(OpenLet { var, value, start: self.tree.place(node).0 });
            }
            Stmt::FreeVar { .. } => {}
        }
    }

    /// Wraps the value of a block in its lets, the last one innermost.
    fn end_block(&mut self, m: &mut Machine, lets: usize) {
        let mut body = m.pop();
        let end = match &self.module.spans[body] {
            crate::diag::Span::Text { range, .. } => range.end as u32,
            _ => 0,
        };
        for OpenLet { var, value, start } in m.lets.drain(lets..).rev() {
            body = self.add((start, end.max(start)), Expr::Let { var, value, body });
        }
        m.values.push(body);
    }

    /// Makes an expression of a node whose operands are on the stack.
    fn finish(&mut self, m: &mut Machine, id: NodeId) -> ExprId {
        let tree = self.tree;
        let place = tree.place(id);
        let expr = match tree.node(id) {
            Node::Func(_) => {
                let body = m.pop();
                let open = m.functions.pop().expect("the function was opened when it was visited");
                Expr::Func(Box::new(self.close_function(open, body)))
            }
            Node::If { .. } => {
                let parts = m.pop_many(3);
                Expr::If { cond: parts[0], then: parts[1], els: parts[2] }
            }
            Node::Ref(_) => Expr::Ref(m.pop()),
            Node::RefRead(_) => Expr::RefRead(m.pop()),
            Node::RefWrite { .. } => {
                let value = m.pop();
                Expr::RefWrite { cell: m.pop(), value }
            }
            Node::Proj { indices, .. } => {
                let tuple = m.pop();
                return self.projections(tuple, indices, place);
            }
            Node::Binary { op, .. } => {
                let args = m.pop_many(2);
                return self.op_call(op, args, &[], place, place);
            }
            Node::Tuple(fields) => Expr::Tuple(m.pop_many(fields.len())),
            Node::Call { callee, args, attrs } => {
                if let Node::Ident(name) = tree.node(*callee) {
                    let args = self.arguments(m, args, attrs);
                    return self.op_call(name, args, attrs, tree.place(*callee), place);
                }
                let callee = m.pop();
                let args = self.arguments(m, args, attrs);
                self.no_attrs(attrs);
                Expr::Call(Call { callee: Callee::Expr(callee), args, attrs: crate::op::Attrs::NONE })
            }
            Node::Match { arms, complete, .. } => {
                let bodies = m.pop_many(arms.len());
                let at = m.patterns.len().saturating_sub(arms.len());
                let patterns = m.patterns.drain(at..);
                let clauses = patterns.zip(bodies).map(|(pattern, body)| Clause { pattern, body }).collect();
                Expr::Match { value: m.pop(), clauses, complete: *complete }
            }
            // Leaves and blocks are never left to finish.
            Node::Number { .. }
            | Node::Bool(_)
            | Node::Local(_)
            | Node::Graph(_)
            | Node::Global(_)
            | Node::Ident(_)
            | Node::Meta { .. }
            | Node::Weights(_)
            | Node::Const { .. }
            | Node::Elided
            | Node::Block(_)
            | Node::Str(_)
            | Node::List(..) => return self.broken(place),
        };
        self.add(place, expr)
    }

    /// The arguments of a call, which stand before its attributes.
    fn arguments(&mut self, m: &mut Machine, args: &[NodeId], attrs: &[(super::Name<'t>, NodeId)]) -> Args {
        if let (Some((first, _)), Some(&last)) = (attrs.first(), args.last()) {
            let place = self.tree.place(last);
            if place.0 > first.place.0 {
                self.error(place, Code::TEXT_SYNTAX, "arguments stand before attributes");
            }
        }
        m.pop_many(args.len())
    }

    /// `tuple.0.1`
    fn projections(&mut self, mut tuple: ExprId, indices: &str, place: Place) -> ExprId {
        for index in indices.split('.') {
            match literal::index(index).and_then(|i| u32::try_from(i).ok()) {
                Some(index) => tuple = self.add(place, Expr::Proj { tuple, index }),
                None => {
                    self.error(place, Code::TEXT_SYNTAX, format!("`.{index}` is no field of a tuple"));
                    return tuple;
                }
            }
        }
        tuple
    }

    /// Begins a function: declares its type parameters and parameters.
    pub(super) fn open_function(&mut self, func: &Func<'t>) -> OpenFunction {
        let (locals, type_vars) = (self.locals.mark(), self.type_vars.mark());
        let type_params = self.type_params(&func.type_params);
        let mut params = Vec::new();
        let mut attrs = FuncAttrs::default();
        for param in &func.params {
            match *param {
                Param::Var(name, ty) => {
                    let text = self.name(name);
                    if self.locals.declared_since(locals, &text) {
                        self.error(
                            name.place,
                            Code::TEXT_NAME,
                            format!("parameter `%{text}` is listed twice"),
                        );
                    }
                    if !attrs.is_empty() {
                        self.error(name.place, Code::TEXT_SYNTAX, "parameters stand before attributes");
                    }
                    params.push(self.declare(name, ty));
                }
                Param::Attr(name, value) => {
                    let key = self.name(name);
                    let value = self.attr_value(value);
                    if attrs.insert(key.as_ref().into(), value).is_some() {
                        self.error(name.place, Code::TEXT_NAME, format!("attribute `{key}` is given twice"));
                    }
                }
            }
        }
        let ret = self.annotation(func.ret);
        // The body is not known yet; closing the function replaces this id.
        let body = ExprId::from_u32(0);
        OpenFunction { func: Function { type_params, params, body, ret, attrs }, locals, type_vars }
    }

    /// Ends a function whose body has been read.
    pub(super) fn close_function(&mut self, open: OpenFunction, body: ExprId) -> Function {
        self.locals.restore(open.locals);
        self.type_vars.restore(open.type_vars);
        Function { body, ..open.func }
    }

    /// Declares a variable in the present scope.
    fn declare(&mut self, name: super::Name<'t>, ty: Option<super::TypeId>) -> VarId {
        let text = self.name(name);
        let ty = self.annotation(ty);
        let var = self.module.var(text.as_ref(), ty);
        self.locals.declare(text, var);
        var
    }

    /// Resolves a pattern and declares its variables; `mark` is where its scope began.
    /// Patterns nest at most as deep as the tree allows, so this may recurse.
    fn pattern(&mut self, id: PatternId, mark: usize) -> MatchPattern {
        let tree = self.tree;
        let (node, place) = tree.pattern(id);
        match node {
            Pattern::Wildcard => MatchPattern::Wildcard,
            Pattern::Var(name, ty) => {
                let text = self.name(*name);
                if self.locals.declared_since(mark, &text) {
                    self.error(
                        place,
                        Code::TEXT_NAME,
                        format!("variable `%{text}` is bound twice in this pattern"),
                    );
                }
                MatchPattern::Var(self.declare(*name, *ty))
            }
            Pattern::Tuple(fields) => {
                MatchPattern::Tuple(fields.iter().map(|&f| self.pattern(f, mark)).collect())
            }
            Pattern::Ctor(name, fields) => {
                let fields: Vec<_> = fields.iter().map(|&f| self.pattern(f, mark)).collect();
                match self.constructor(*name, fields.len()) {
                    Some(ctor) => MatchPattern::Ctor(ctor, fields),
                    None => MatchPattern::Wildcard,
                }
            }
        }
    }

    /// Stands for an expression that has an error.
    pub(super) fn broken(&mut self, place: Place) -> ExprId {
        self.add(place, Expr::Tuple(Args::new()))
    }
}

/// `%007` is `%7`.
pub(super) fn trim_zeros(digits: &str) -> &str {
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() { "0" } else { trimmed }
}
