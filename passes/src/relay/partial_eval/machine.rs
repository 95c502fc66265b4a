//! The machine: tasks, environments and the lets that are being emitted.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::expr::{Call, Callee, Expr, ExprId, Function, GlobalId, Module, VarId};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::branch::Branching;
use super::call::{Active, Key};
use super::store::Store;
use super::value::{Closure, Fact, Known, Value};
use crate::pass::PassContext;

/// What is left to do.
pub enum Task {
    /// Evaluate an expression in the current environment.
    Run(ExprId),
    /// Bind the result to a variable and go on with the scope.
    Bind(VarId, ExprId),
    /// End a call that was taken in.
    Leave,
    /// An arm of a branch that is not known has been evaluated: close it and go on with the next.
    Arm(Box<Branching>),
}

/// The state of the interpretation.
pub struct Machine<'m> {
    pub module: &'m mut Module,
    pub context: &'m mut PassContext,
    pub functions: BTreeMap<GlobalId, Function>,
    pub facts: PrimaryMap<Value, Fact>,
    pub closures: Vec<Closure>,
    pub tasks: Vec<Task>,
    pub envs: Vec<BTreeMap<VarId, Value>>,
    /// The lets of each scope that is open.
    pub blocks: Vec<Vec<(VarId, ExprId)>>,
    pub active: Vec<Active>,
    /// The first activation of each function that is under way.
    pub oldest: BTreeMap<Key, usize>,
    pub store: Store,
    /// How many branches that are not known stand around the current step.
    pub depth: usize,
    /// Steps done in calls that were taken in.
    pub steps: u64,
    result: Option<Value>,
    needed: VecDeque<usize>,
    free: BTreeMap<ExprId, Rc<[VarId]>>,
}

impl<'m> Machine<'m> {
    pub fn new(
        module: &'m mut Module,
        context: &'m mut PassContext,
        functions: BTreeMap<GlobalId, Function>,
    ) -> Machine<'m> {
        Machine {
            module,
            context,
            functions,
            facts: PrimaryMap::new(),
            closures: Vec::new(),
            tasks: Vec::new(),
            envs: Vec::new(),
            blocks: Vec::new(),
            active: Vec::new(),
            oldest: BTreeMap::new(),
            store: Store::default(),
            depth: 0,
            steps: 0,
            result: None,
            needed: VecDeque::new(),
            free: BTreeMap::new(),
        }
    }

    /// Interprets a global function over parameters of which nothing is known.
    pub fn function(&mut self, global: GlobalId) {
        let func = self.functions[&global].clone();
        let params = func.params.iter().map(|&p| (p, p)).collect();
        let body = self.body(Key::Global(global), &func, params, BTreeMap::new());
        self.module.globals[global].func = Some(Function { body, ..func });
        while let Some(closure) = self.needed.pop_front() {
            self.closure_body(closure);
        }
    }

    /// The function of a closure that somebody needs as a value.
    fn closure_body(&mut self, number: usize) {
        let closure = self.closures[number].clone();
        let Expr::Func(func) = self.module.exprs[closure.func].clone() else { return };
        let fresh = |module: &mut Module, p: VarId| {
            let old = module.vars[p].clone();
            module.var(old.name, old.ty)
        };
        let params: Vec<(VarId, VarId)> = func.params.iter().map(|&p| (p, fresh(self.module, p))).collect();
        let itself = closure.itself.map(|var| (var, closure.value));
        let env = closure.captured.into_iter().chain(itself).collect();
        let body = self.body(Key::Func(closure.func), &func, params.clone(), env);
        let params = params.into_iter().map(|(_, new)| new).collect();
        // Nobody has looked at the holder yet: it was made for this.
        self.module.exprs[closure.holder] = Expr::Func(Box::new(Function { params, body, ..*func }));
    }

    /// A body, interpreted over new parameters; it must not be entered again from within.
    fn body(
        &mut self,
        key: Key,
        func: &Function,
        params: Vec<(VarId, VarId)>,
        mut env: BTreeMap<VarId, Value>,
    ) -> ExprId {
        self.store.forget();
        for (old, new) in params {
            let value = self.variable(new, func.body);
            env.insert(old, value);
        }
        self.envs.push(env);
        self.enter(Active::root(key));
        self.blocks.push(Vec::new());
        self.tasks.push(Task::Run(func.body));
        while let Some(task) = self.tasks.pop() {
            self.step(task);
        }
        let value = self.taken();
        let body = self.close(value);
        self.leave();
        self.envs.pop();
        body
    }

    fn step(&mut self, task: Task) {
        match task {
            Task::Run(expr) => {
                self.steps += u64::from(self.active.len() > 1);
                if let Expr::Let { var, value, body } = self.module.exprs[expr] {
                    self.tasks.push(Task::Bind(var, body));
                    self.evaluate(value, Some(var));
                } else {
                    self.evaluate(expr, None);
                }
            }
            Task::Bind(var, body) => {
                let value = self.taken();
                self.bind(var, value);
                self.tasks.push(Task::Run(body));
            }
            Task::Leave => {
                self.envs.pop();
                self.leave();
            }
            Task::Arm(branching) => self.arm(*branching),
        }
    }

    /// The value that the last task left.
    pub fn taken(&mut self) -> Value {
        self.result.take().expect("a task leaves its value for the next")
    }

    /// Leaves a value for the next task.
    pub fn give(&mut self, value: Value) {
        self.result = Some(value);
    }

    pub fn bind(&mut self, var: VarId, value: Value) {
        self.envs.last_mut().expect("a task runs in an environment").insert(var, value);
    }

    /// A new value.
    pub fn value(&mut self, atom: ExprId, known: Known) -> Value {
        self.facts.push(Fact { atom, known })
    }

    /// The value of a variable of the new program of which nothing is known.
    pub fn variable(&mut self, var: VarId, origin: ExprId) -> Value {
        let atom = self.module.add_like(Expr::Var(var), origin);
        self.value(atom, Known::Nothing)
    }

    pub fn known(&self, value: Value) -> &Known {
        &self.facts[value].known
    }

    /// What names a value in the program that is emitted.
    pub fn atom(&mut self, value: Value) -> ExprId {
        if let Known::Closure(number) = self.facts[value].known
            && !std::mem::replace(&mut self.closures[number].needed, true)
        {
            self.needed.push_back(number);
        }
        self.facts[value].atom
    }

    pub fn atoms(&mut self, values: &[Value]) -> Vec<ExprId> {
        values.iter().map(|&v| self.atom(v)).collect()
    }

    /// Emits a step, named after the variable of the old program if there is one.
    pub fn emit(&mut self, expr: Expr, name: Option<VarId>, origin: ExprId, known: Known) -> Value {
        let name = name.map_or_else(|| "t".into(), |var| self.module.vars[var].name.clone());
        let var = self.module.var(name, Type::Unknown);
        let step = self.module.add_like(expr, origin);
        self.blocks.last_mut().expect("a scope is open").push((var, step));
        let atom = self.module.add_like(Expr::Var(var), origin);
        self.value(atom, known)
    }

    /// Ends a scope: its lets around its value.
    pub fn close(&mut self, value: Value) -> ExprId {
        let mut body = self.atom(value);
        for (var, value) in self.blocks.pop().expect("a scope is open").into_iter().rev() {
            body = self.module.add_like(Expr::Let { var, value, body }, value);
        }
        body
    }

    /// The value of an operand: in A-normal form it names one.
    pub fn operand(&mut self, expr: ExprId) -> Value {
        let known = match self.module.exprs[expr] {
            Expr::Var(var) => {
                let env = self.envs.last().expect("a task runs in an environment");
                if let Some(&value) = env.get(&var) {
                    return value;
                }
                Known::Nothing
            }
            Expr::Const(_) => Known::Constant,
            Expr::Global(global) => Known::Global(global),
            Expr::Ctor(ctor) => Known::Ctor(ctor),
            Expr::Op(_) => Known::Nothing,
            Expr::Call(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => unreachable!("in A-normal form operands are atoms"),
        };
        self.value(expr, known)
    }

    pub fn operands(&mut self, exprs: &[ExprId]) -> Vec<Value> {
        exprs.iter().map(|&e| self.operand(e)).collect()
    }

    /// Evaluates one step: leaves its value, or tasks that will.
    fn evaluate(&mut self, expr: ExprId, name: Option<VarId>) {
        match self.module.exprs[expr].clone() {
            Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => {
                let value = self.operand(expr);
                self.give(value);
            }
            Expr::Let { .. } => self.tasks.push(Task::Run(expr)),
            Expr::Call(call) => self.call(expr, &call, name),
            Expr::Func(func) => self.closure(expr, &func, name),
            Expr::If { cond, then, els } => self.branch(expr, cond, [then, els], name),
            Expr::Match { value, clauses, complete } => self.select(expr, value, clauses, complete, name),
            Expr::Tuple(fields) => {
                let fields = self.operands(&fields);
                let tuple = self.tuple(expr, fields, name);
                self.give(tuple);
            }
            Expr::Proj { tuple, index } => self.field(expr, tuple, index, name),
            Expr::Ref(content) => {
                let content = self.operand(content);
                let atom = self.atom(content);
                let cell = self.store.cell(content);
                let value = self.emit(Expr::Ref(atom), name, expr, Known::Cell(cell));
                self.give(value);
            }
            Expr::RefRead(cell) => self.read(expr, cell, name),
            Expr::RefWrite { cell, value } => {
                let (cell, content) = (self.operand(cell), self.operand(value));
                match *self.known(cell) {
                    Known::Cell(number) => self.store.write(number, Some(content)),
                    _ => self.store.forget(),
                }
                let (cell, value) = (self.atom(cell), self.atom(content));
                let unit = self.emit(Expr::RefWrite { cell, value }, name, expr, Known::Tuple(Vec::new()));
                self.give(unit);
            }
        }
    }

    /// A tuple of these.
    pub fn tuple(&mut self, origin: ExprId, fields: Vec<Value>, name: Option<VarId>) -> Value {
        let atoms = self.atoms(&fields);
        self.emit(Expr::Tuple(atoms.into()), name, origin, Known::Tuple(fields))
    }

    fn field(&mut self, expr: ExprId, tuple: ExprId, index: u32, name: Option<VarId>) {
        let tuple = self.operand(tuple);
        let field = match self.known(tuple) {
            Known::Tuple(fields) => fields.get(index as usize).copied(),
            _ => None,
        };
        let value = match field {
            Some(field) if self.context.fire("take a known field", self.module, expr) => field,
            _ => {
                let tuple = self.atom(tuple);
                self.emit(Expr::Proj { tuple, index }, name, expr, Known::Nothing)
            }
        };
        self.give(value);
    }

    fn read(&mut self, expr: ExprId, cell: ExprId, name: Option<VarId>) {
        let cell = self.operand(cell);
        let content = match *self.known(cell) {
            Known::Cell(number) => self.store.read(number),
            _ => None,
        };
        let value = match content {
            Some(content) if self.context.fire("take what a cell is known to hold", self.module, expr) => {
                content
            }
            _ => {
                let atom = self.atom(cell);
                let value = self.emit(Expr::RefRead(atom), name, expr, Known::Nothing);
                // Until it is written, the cell holds what was read.
                if let Known::Cell(number) = *self.known(cell) {
                    self.store.write(number, Some(value));
                }
                value
            }
        };
        self.give(value);
    }

    /// A function value: its place is kept, its body made only if somebody needs it.
    fn closure(&mut self, expr: ExprId, func: &Function, name: Option<VarId>) {
        let free = match self.free.get(&expr) {
            Some(free) => free.clone(),
            None => {
                let free: Rc<[VarId]> = walk::free_vars_of(self.module, func).into();
                self.free.insert(expr, free.clone());
                free
            }
        };
        let env = self.envs.last().expect("a task runs in an environment");
        let captured = free.iter().filter_map(|&var| Some((var, *env.get(&var)?))).collect();
        let itself = name.filter(|var| free.contains(var));
        let number = self.closures.len();
        let value = self.emit(Expr::Func(Box::new(func.clone())), name, expr, Known::Closure(number));
        let (_, holder) = *self.blocks.last().and_then(|b| b.last()).expect("it was just emitted");
        self.closures.push(Closure { func: expr, captured, itself, value, holder, needed: false });
        self.give(value);
    }

    /// Emits a call of what is no function that could be taken in.
    pub fn residual(
        &mut self,
        origin: ExprId,
        callee: Value,
        args: &[Value],
        call: &Call,
        name: Option<VarId>,
    ) -> Value {
        let (callee, args) = (self.atom(callee), self.atoms(args));
        self.store.forget();
        let call = Call { callee: Callee::Expr(callee), args: args.into(), attrs: call.attrs.clone() };
        self.emit(Expr::Call(call), name, origin, Known::Nothing)
    }
}
