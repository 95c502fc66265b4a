//! Calls: of operators, which are computed, and of functions, which are taken in.

use std::collections::BTreeMap;

use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::eval::Value as Computed;
use fermata_ir::expr::{Call, Callee, CtorRef, Expr, ExprId, Function, GlobalId, VarId};
use fermata_ir::op::{Op, Purity};
use fermata_ir::types::Type;
use fermata_ir::walk;

use super::machine::{Machine, Task};
use super::value::{Known, Value};

/// The most bytes by which the result of an operator may be larger than its arguments.
const GROWTH: usize = 1 << 20;

/// A function that is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A function value, by its expression.
    Func(ExprId),
    /// A global function.
    Global(GlobalId),
}

/// An activation: a call that was taken in, or the function that is interpreted.
pub struct Active {
    key: Key,
    /// The branches around the call; `None` for a function that must not be entered again.
    depth: Option<usize>,
    /// How often its function was entered since, if it is the oldest.
    count: u64,
    call: Option<Box<Taken>>,
}

impl Active {
    /// The function that is interpreted.
    pub fn root(key: Key) -> Active {
        Active { key, depth: None, count: 0, call: None }
    }
}

/// A call that was taken in, and how things stood before: it may turn out that it does not end.
struct Taken {
    origin: ExprId,
    callee: Value,
    args: Vec<Value>,
    call: Call,
    name: Option<VarId>,
    tasks: usize,
    envs: usize,
    blocks: usize,
    lets: usize,
    journal: usize,
}

impl Machine<'_> {
    /// Begins an activation.
    pub fn enter(&mut self, active: Active) {
        self.oldest.entry(active.key).or_insert(self.active.len());
        self.active.push(active);
    }

    /// Ends the last activation.
    pub fn leave(&mut self) {
        let Some(active) = self.active.pop() else { return };
        if self.oldest.get(&active.key) == Some(&self.active.len()) {
            self.oldest.remove(&active.key);
        }
    }

    /// Evaluates a call.
    pub fn call(&mut self, expr: ExprId, call: &Call, name: Option<VarId>) {
        let args = self.operands(&call.args);
        let value = match call.callee {
            Callee::Op(op) => self.operator(expr, op, call, &args, name),
            Callee::Ctor(ctor) => self.construct(expr, ctor, call, args, name),
            Callee::Expr(callee) => {
                let callee = self.operand(callee);
                match *self.known(callee) {
                    Known::Ctor(ctor) => self.construct(expr, ctor, call, args, name),
                    Known::Closure(number) => {
                        let closure = &self.closures[number];
                        let itself = closure.itself.map(|var| (var, callee));
                        let env = closure.captured.iter().copied().chain(itself).collect();
                        return self.take_in(expr, callee, Key::Func(closure.func), args, env, call, name);
                    }
                    Known::Global(global) => {
                        return self.take_in(
                            expr,
                            callee,
                            Key::Global(global),
                            args,
                            BTreeMap::new(),
                            call,
                            name,
                        );
                    }
                    _ => self.residual(expr, callee, &args, call, name),
                }
            }
        };
        self.give(value);
    }

    fn construct(
        &mut self,
        expr: ExprId,
        ctor: CtorRef,
        call: &Call,
        fields: Vec<Value>,
        name: Option<VarId>,
    ) -> Value {
        let args = self.atoms(&fields).into();
        let made = Call { callee: Callee::Ctor(ctor), args, attrs: call.attrs.clone() };
        self.emit(Expr::Call(made), name, expr, Known::Data(ctor, fields))
    }

    fn operator(&mut self, expr: ExprId, op: Op, call: &Call, args: &[Value], name: Option<VarId>) -> Value {
        let computed = self.computed(op, call, args);
        if let Some(computed) = computed
            && self.context.fire("compute an operator", self.module, expr)
        {
            return self.constants(expr, &computed, name);
        }
        let args = self.atoms(args).into();
        let call = Call { callee: Callee::Op(op), args, attrs: call.attrs.clone() };
        self.emit(Expr::Call(call), name, expr, Known::Nothing)
    }

    /// What a pure operator makes of constants: one tensor, or several.
    fn computed(&self, op: Op, call: &Call, args: &[Value]) -> Option<Computed> {
        if op.purity != Purity::Pure || args.is_empty() {
            return None;
        }
        let constant = |v: Value| {
            let atom = self.facts[v].atom;
            matches!(self.known(v), Known::Constant).then(|| self.module.as_const(atom).cloned()).flatten()
        };
        let value = |&v: &Value| match self.known(v) {
            Known::Tuple(fields) => {
                let fields: Option<Vec<Computed>> =
                    fields.iter().map(|&f| Some(Computed::from(constant(f)?))).collect();
                Some(Computed::Tuple(fields?.into()))
            }
            _ => Some(Computed::from(constant(v)?)),
        };
        let values: Vec<Computed> = args.iter().map(value).collect::<Option<_>>()?;
        let types: Vec<Type> = values.iter().map(Computed::ty).collect();
        let ty = op.result(&types, &call.attrs).ok()?;
        let given = types.iter().map(bytes).sum::<Option<usize>>()?;
        if bytes(&ty)? > given.saturating_add(GROWTH) {
            return None;
        }
        let result = (op.eval)(&values, &call.attrs, &ty).ok()?;
        let tensors = match &result {
            Computed::Tensor(_) => true,
            Computed::Tuple(fields) => fields.iter().all(|f| f.as_tensor().is_some()),
            _ => false,
        };
        tensors.then_some(result)
    }

    fn constants(&mut self, origin: ExprId, computed: &Computed, name: Option<VarId>) -> Value {
        let one = |machine: &mut Self, value: &Computed| {
            let tensor = value.as_tensor().expect("only tensors are computed").clone();
            let atom = machine.module.constant(tensor);
            machine.value(atom, Known::Constant)
        };
        match computed.as_tuple() {
            None => one(self, computed),
            Some(fields) => {
                let fields = fields.iter().map(|f| one(self, f)).collect();
                self.tuple(origin, fields, name)
            }
        }
    }

    /// Goes on in a function's body, if that may be done.
    #[allow(clippy::too_many_arguments, reason = "they are one call and its function")]
    fn take_in(
        &mut self,
        origin: ExprId,
        callee: Value,
        key: Key,
        args: Vec<Value>,
        mut env: BTreeMap<VarId, Value>,
        call: &Call,
        name: Option<VarId>,
    ) {
        let func = self.open(key, args.len());
        let Some(func) = func.filter(|_| self.may_enter(key)) else {
            let value = self.residual(origin, callee, &args, call, name);
            return self.give(value);
        };
        if let Some(&oldest) = self.oldest.get(&key) {
            if self.active[oldest].count >= self.context.int("calls").max(0) as u64 {
                return self.give_up(oldest);
            }
            self.active[oldest].count += 1;
        }
        if !self.context.fire("take in a call", self.module, origin) {
            let value = self.residual(origin, callee, &args, call, name);
            return self.give(value);
        }
        env.extend(func.params.iter().copied().zip(args.iter().copied()));
        let taken = Taken {
            origin,
            callee,
            args,
            call: call.clone(),
            name,
            tasks: self.tasks.len(),
            envs: self.envs.len(),
            blocks: self.blocks.len(),
            lets: self.blocks.last().map_or(0, Vec::len),
            journal: self.store.mark(),
        };
        self.enter(Active { key, depth: Some(self.depth), count: 1, call: Some(Box::new(taken)) });
        self.envs.push(env);
        self.tasks.push(Task::Leave);
        self.tasks.push(Task::Run(func.body));
    }

    /// The function of a key, if its body may stand in another function.
    fn open(&self, key: Key, args: usize) -> Option<Function> {
        let func = match key {
            Key::Global(global) => self.functions.get(&global)?.clone(),
            Key::Func(expr) => match &self.module.exprs[expr] {
                Expr::Func(func) => (**func).clone(),
                _ => return None,
            },
        };
        // Types of inner functions may name type parameters that are no more.
        let generic = !func.type_params.is_empty()
            && walk::post_order(self.module, &[func.body])
                .into_iter()
                .any(|e| matches!(self.module.exprs[e], Expr::Func(_)));
        (func.params.len() == args && !generic).then_some(func)
    }

    /// False for a function that is under way and was entered under other branches, or whose limit
    /// of steps is reached.
    fn may_enter(&mut self, key: Key) -> bool {
        let again = match self.oldest.get(&key) {
            Some(&oldest) => self.active[oldest].depth == Some(self.depth),
            None => true,
        };
        again && self.steps < self.context.int("steps").max(0) as u64
    }

    /// The call that entered a function first has entered it too often: all that was done for it
    /// is undone, and it stays.
    fn give_up(&mut self, oldest: usize) {
        while self.active.len() > oldest + 1 {
            self.leave();
        }
        let taken = self.active.last_mut().and_then(|active| active.call.take());
        self.leave();
        let taken = taken.expect("only calls that were taken in are entered again");
        self.tasks.truncate(taken.tasks);
        self.envs.truncate(taken.envs);
        self.blocks.truncate(taken.blocks);
        if let Some(block) = self.blocks.last_mut() {
            block.truncate(taken.lets);
        }
        self.store.undo(taken.journal);
        if self.context.want_remarks {
            let calls = self.context.int("calls");
            let message = format!("a call stays: it enters one function more than {calls} times");
            let at = self.module.spans[taken.origin].clone();
            self.context.remarks.push(Diagnostic::warning(Code::PASS, message).at(at));
        }
        let value = self.residual(taken.origin, taken.callee, &taken.args, &taken.call, taken.name);
        self.give(value);
    }
}

/// The bytes of a tensor or of a tuple of them.
fn bytes(ty: &Type) -> Option<usize> {
    let parts: Vec<&Type> = ty.as_tuple().map_or_else(|| vec![ty], |fields| fields.iter().collect());
    let one = |ty: &Type| {
        let tensor = ty.as_tensor()?;
        tensor.elements()?.checked_mul(tensor.dtype.bytes())
    };
    parts.into_iter().map(one).sum()
}
