//! The machine: a stack of tasks, a stack of values, a stack of activations.

use std::collections::HashMap;
use std::rc::Rc;

use super::scope::Scope;
use super::{Closure, EvalOptions, Observer, Value};
use crate::diag::{Code, Diagnostic};
use crate::expr::{Callee, Expr, ExprId, Module, VarId};
use crate::walk;

/// What is left to do.
pub(super) enum Task {
    /// Push the value of an expression.
    Eval(ExprId),
    /// The operands are on the stack: replace them by the value.
    Finish(ExprId),
    /// The value of a let is on the stack: bind it and go on with the body.
    Bind(ExprId),
    /// The condition of an if is on the stack: go on with a branch.
    Branch(ExprId),
    /// The value of a match is on the stack: go on with an arm.
    Arm(ExprId),
    /// The value of an expression is on the stack: remember it for its other uses.
    Keep(ExprId),
    /// The result of an activation is on the stack: end it.
    Return,
}

/// A value that is needed a few more times.
struct Kept {
    value: Value,
    left: u32,
}

impl Kept {
    /// One use: the value itself if it is the last.
    fn use_in<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Kept>, key: K) -> Option<Value> {
        let kept = table.get_mut(&key)?;
        if kept.left > 1 {
            kept.left -= 1;
            return Some(kept.value.clone());
        }
        table.remove(&key).map(|kept| kept.value)
    }
}

/// One activation of a function.
struct Frame {
    scope: Rc<Scope>,
    kept: HashMap<ExprId, Kept>,
    vars: HashMap<VarId, Kept>,
}

pub(super) struct Machine<'a> {
    pub module: &'a Module,
    pub options: &'a EvalOptions,
    observer: Option<&'a mut Observer<'a>>,
    pub tasks: Vec<Task>,
    pub values: Vec<Value>,
    frames: Vec<Frame>,
    scopes: HashMap<ExprId, Rc<Scope>>,
    captures: HashMap<ExprId, Rc<[VarId]>>,
}

impl<'a> Machine<'a> {
    pub fn new(
        module: &'a Module,
        options: &'a EvalOptions,
        observer: Option<&'a mut Observer<'a>>,
    ) -> Machine<'a> {
        Machine {
            module,
            options,
            observer,
            tasks: Vec::new(),
            values: Vec::new(),
            frames: Vec::new(),
            scopes: HashMap::new(),
            captures: HashMap::new(),
        }
    }

    /// Begins the evaluation of a body with these variables bound.
    pub fn start(&mut self, body: ExprId, vars: impl IntoIterator<Item = (VarId, Value)>) {
        let scope = self.scope(body);
        self.frames.push(Frame { scope, kept: HashMap::new(), vars: HashMap::new() });
        vars.into_iter().for_each(|(var, value)| self.bind(var, value));
        self.tasks.push(Task::Eval(body));
    }

    /// Ends the activation that is about to return, if the call is the last thing it does, and
    /// begins another.
    pub fn enter(
        &mut self,
        call: ExprId,
        body: ExprId,
        vars: impl IntoIterator<Item = (VarId, Value)>,
    ) -> Result<(), Diagnostic> {
        if matches!(self.tasks.last(), Some(Task::Return)) {
            self.frames.pop();
        } else {
            self.tasks.push(Task::Return);
        }
        if self.frames.len() >= self.options.max_depth {
            let message = format!("calls nest more than {} deep", self.options.max_depth);
            return Err(self.error(call, message).help("does the recursion end?"));
        }
        self.start(body, vars);
        Ok(())
    }

    /// Evaluates until nothing is left to do.
    pub fn run(mut self) -> Result<Value, Diagnostic> {
        let mut steps = 0;
        while let Some(task) = self.tasks.pop() {
            steps += 1;
            if steps > self.options.max_steps {
                let message = format!("evaluation takes more than {} steps", self.options.max_steps);
                return Err(Diagnostic::error(Code::EVAL, message).help("does the recursion end?"));
            }
            match task {
                Task::Eval(id) => self.eval(id)?,
                Task::Finish(id) => self.finish(id)?,
                Task::Bind(id) => self.bind_let(id),
                Task::Branch(id) => self.branch(id)?,
                Task::Arm(id) => self.arm(id)?,
                Task::Keep(id) => {
                    let value = self.pop();
                    if matches!(self.module.exprs[id], Expr::Call(_)) {
                        self.observe(id, &value);
                    }
                    self.keep(id, value);
                }
                Task::Return => drop(self.frames.pop()),
            }
        }
        Ok(self.pop())
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a task runs in an activation")
    }

    /// The topmost value.
    pub fn pop(&mut self) -> Value {
        self.values.pop().expect("every task finds the values that the tasks before it pushed")
    }

    /// Gives an expression its value.
    pub fn push(&mut self, id: ExprId, value: Value) {
        self.observe(id, &value);
        self.keep(id, value);
    }

    fn observe(&mut self, id: ExprId, value: &Value) {
        if let Some(observer) = &mut self.observer {
            observer(id, value);
        }
    }

    /// True if the value of an expression is wanted by others than the one that asks for it.
    pub fn is_watched(&mut self, id: ExprId) -> bool {
        self.observer.is_some() || self.frame().scope.uses(id) > 1
    }

    /// Pushes a value, and remembers it if it is needed again.
    fn keep(&mut self, id: ExprId, value: Value) {
        let frame = self.frame();
        let uses = frame.scope.uses(id);
        if uses > 1 {
            frame.kept.insert(id, Kept { value: value.clone(), left: uses - 1 });
        }
        self.values.push(value);
    }

    /// Binds a variable of the current activation, unless nothing reads it.
    pub fn bind(&mut self, var: VarId, value: Value) {
        let frame = self.frame();
        let left = frame.scope.var_uses(var);
        if left > 0 {
            frame.vars.insert(var, Kept { value, left });
        }
    }

    pub fn error(&self, id: ExprId, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::EVAL, message).at(self.module.spans[id].clone())
    }

    fn eval(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        if let Some(value) = Kept::use_in(&mut self.frame().kept, id) {
            self.values.push(value);
            return Ok(());
        }
        let module = self.module;
        match &module.exprs[id] {
            Expr::Var(var) => {
                let value = Kept::use_in(&mut self.frame().vars, *var);
                let unbound =
                    || self.error(id, format!("variable `%{}` is not bound", module.vars[*var].name));
                let value = value.ok_or_else(unbound)?;
                self.values.push(value);
            }
            Expr::Global(global) => self.values.push(Value::Global(*global)),
            Expr::Const(constant) => {
                self.values.push(Value::Tensor(module.consts[*constant].tensor.clone()));
            }
            Expr::Op(op) => self.values.push(Value::Op(*op)),
            Expr::Ctor(ctor) => self.values.push(Value::Ctor(*ctor)),
            Expr::Func(_) => {
                let closure = self.closure(id, None)?;
                self.push(id, closure);
            }
            Expr::Let { value, .. } => self.first(id, Task::Bind(id), *value),
            Expr::If { cond, .. } => self.first(id, Task::Branch(id), *cond),
            Expr::Match { value, .. } => self.first(id, Task::Arm(id), *value),
            expr @ (Expr::Call(_)
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. }) => {
                self.tasks.push(Task::Finish(id));
                let first = self.tasks.len();
                walk::for_each_child(expr, |child| self.tasks.push(Task::Eval(child)));
                self.tasks[first..].reverse();
            }
        }
        Ok(())
    }

    /// Evaluates one operand, then does the rest of the expression.
    fn first(&mut self, id: ExprId, rest: Task, operand: ExprId) {
        if self.frame().scope.uses(id) > 1 {
            self.tasks.push(Task::Keep(id));
        }
        self.tasks.extend([rest, Task::Eval(operand)]);
    }

    fn bind_let(&mut self, id: ExprId) {
        let value = self.pop();
        if let Expr::Let { var, value: bound, body } = self.module.exprs[id] {
            let value = self.tie(value, var, bound);
            self.bind(var, value);
            self.tasks.push(Task::Eval(body));
        }
    }

    /// The value of an expression that is a function, seen from the variable it is bound to.
    fn tie(&mut self, value: Value, var: VarId, bound: ExprId) -> Value {
        match value {
            Value::Closure(closure) if closure.func == bound && closure.itself.is_none() => {
                if !self.captures(bound).contains(&var) {
                    return Value::Closure(closure);
                }
                let captured = closure.captured.clone();
                Value::Closure(Rc::new(Closure { func: bound, captured, itself: Some(var) }))
            }
            other => other,
        }
    }

    /// A function value with the variables that it uses. One that is not bound yet can only be
    /// the function's own, which [`Machine::tie`] supplies.
    fn closure(&mut self, func: ExprId, itself: Option<VarId>) -> Result<Value, Diagnostic> {
        let mut captured = Vec::new();
        for &var in self.captures(func).iter() {
            if let Some(value) = Kept::use_in(&mut self.frame().vars, var) {
                captured.push((var, value));
            }
        }
        Ok(Value::Closure(Rc::new(Closure { func, captured, itself })))
    }

    /// The free variables of a function expression.
    pub fn captures(&mut self, func: ExprId) -> Rc<[VarId]> {
        let module = self.module;
        self.captures.entry(func).or_insert_with(|| walk::free_vars(module, func).into()).clone()
    }

    fn scope(&mut self, body: ExprId) -> Rc<Scope> {
        if let Some(scope) = self.scopes.get(&body) {
            return scope.clone();
        }
        let module = self.module;
        let scope = Rc::new(Scope::of(module, body, |func| self.captures(func).to_vec()));
        self.scopes.insert(body, scope.clone());
        scope
    }

    fn finish(&mut self, id: ExprId) -> Result<(), Diagnostic> {
        let module = self.module;
        match &module.exprs[id] {
            Expr::Call(call) => match call.callee {
                Callee::Op(op) => self.op_call(id, op, call),
                Callee::Ctor(ctor) => {
                    let fields = self.pop_many(call.args.len());
                    self.construct(id, ctor, fields);
                    Ok(())
                }
                Callee::Expr(_) => self.function_call(id, call.args.len()),
            },
            Expr::Tuple(fields) => {
                let fields = self.pop_many(fields.len());
                self.push(id, Value::Tuple(fields.into()));
                Ok(())
            }
            Expr::Proj { index, .. } => self.proj(id, *index as usize),
            Expr::Ref(_) => {
                let content = self.pop();
                self.push(id, Value::Ref(Rc::new(content.into())));
                Ok(())
            }
            Expr::RefRead(_) => self.ref_read(id),
            Expr::RefWrite { .. } => self.ref_write(id),
            Expr::Var(_)
            | Expr::Global(_)
            | Expr::Const(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. } => unreachable!("these are done without a finishing task"),
        }
    }

    /// The topmost values, in the order in which they were pushed.
    pub fn pop_many(&mut self, count: usize) -> Vec<Value> {
        self.values.split_off(self.values.len() - count)
    }
}
