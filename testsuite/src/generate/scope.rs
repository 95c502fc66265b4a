//! Random structure around the calls: lets, tuples, ifs, closures, global functions.

use fermata_ir::expr::{Expr, ExprId, Global, VarId};
use fermata_ir::types::{DType, TensorType, Type};

use super::Generator;

/// What may be used at one place, and what is bound there.
#[derive(Clone, Default)]
pub(super) struct Scope {
    /// Expressions of tensor type.
    pub pool: Vec<ExprId>,
    /// Lets that enclose the result, outermost first.
    lets: Vec<(VarId, ExprId)>,
}

impl Scope {
    /// Binds a variable around the result.
    pub fn bind(&mut self, var: VarId, value: ExprId) {
        self.lets.push((var, value));
    }
}

/// Deeper than this there are only calls.
const MAX_DEPTH: usize = 3;

impl Generator {
    /// The body of `@main`: gives one tensor or a tuple of some.
    pub(super) fn main_body(&mut self, size: usize) -> ExprId {
        let mut scope = Scope::default();
        for _ in 0..1 + self.rng.below(3) {
            let ty = self.tensor_type();
            let id = self.leaf(&ty);
            scope.pool.push(id);
        }
        self.fill(&mut scope, size);
        let results = self.results(&scope);
        let body = match results.as_slice() {
            [one] if self.rng.chance(2, 3) => *one,
            many => self.build(|b| b.tuple(many)),
        };
        self.close(scope, body)
    }

    /// Some of what is in scope, the newest always among them.
    fn results(&mut self, scope: &Scope) -> Vec<ExprId> {
        let mut results: Vec<ExprId> = scope.pool.last().copied().into_iter().collect();
        for _ in 0..self.rng.below(3) {
            results.push(*self.rng.pick(&scope.pool));
        }
        results
    }

    /// Adds about `size` expressions to a scope.
    fn fill(&mut self, scope: &mut Scope, size: usize) {
        let mut made = 0;
        let mut tries = 0;
        while made < size && tries < 8 * size {
            tries += 1;
            made += match self.rng.below(26) {
                0 | 1 => self.bind(scope),
                2 if self.may_nest() && size > 2 => self.branch(scope, size / 3),
                3 if self.may_nest() && size > 2 => self.closure(scope, size / 3),
                4 if self.may_nest() && size > 2 && self.in_main => self.global(scope, size / 3),
                5 => self.tuple(scope),
                6 if self.may_nest() && size > 2 && self.in_main => self.recursion(scope, size / 4),
                _ => match self.call(scope) {
                    Some(id) => self.take_apart(scope, id),
                    None => 0,
                },
            };
        }
    }

    fn may_nest(&self) -> bool {
        self.options.control_flow && self.depth < MAX_DEPTH
    }

    /// Replaces a tuple that was made by its fields; counts what was made.
    fn take_apart(&mut self, scope: &mut Scope, id: ExprId) -> usize {
        let Some(fields) = self.module.types[id].as_tuple().map(<[Type]>::len) else {
            return 1;
        };
        scope.pool.retain(|&other| other != id);
        for index in 0..fields as u32 {
            let field = self.build(|b| b.proj(id, index));
            if self.tensor(field).is_some() {
                scope.pool.push(field);
            }
        }
        1
    }

    /// Binds something to a variable, which is used in its place from now on.
    fn bind(&mut self, scope: &mut Scope) -> usize {
        let Some(value) = scope.pool.last().copied() else { return 0 };
        let name = self.local_name('v');
        let var = self.module.var(name, self.module.types[value].clone());
        scope.bind(var, value);
        let read = self.read(var);
        scope.pool.pop();
        scope.pool.push(read);
        1
    }

    /// Wraps the lets of a scope around its result.
    pub(super) fn close(&mut self, scope: Scope, body: ExprId) -> ExprId {
        scope.lets.into_iter().rev().fold(body, |body, (var, value)| self.build(|b| b.let_(var, value, body)))
    }

    /// A scope inside another, of which it sees everything.
    fn inner(&self, scope: &Scope) -> Scope {
        Scope { pool: scope.pool.clone(), lets: Vec::new() }
    }

    /// An expression of a type, made from what is in scope if that can be.
    pub(super) fn of_type(&mut self, ty: &Type, scope: &mut Scope, size: usize) -> ExprId {
        self.fill(scope, size);
        let fitting: Vec<ExprId> =
            scope.pool.iter().copied().filter(|&id| self.module.types[id] == *ty).collect();
        match fitting.last() {
            Some(&newest) => newest,
            None => self.leaf(ty.as_tensor().expect("pools hold tensors")),
        }
    }

    fn branch(&mut self, scope: &mut Scope, size: usize) -> usize {
        let cond = self.condition(scope);
        let ty = self.module.types[*self.rng.pick(&scope.pool)].clone();
        self.depth += 1;
        let arms = [0, 1].map(|_| {
            let mut inner = self.inner(scope);
            let result = self.of_type(&ty, &mut inner, size);
            self.close(inner, result)
        });
        self.depth -= 1;
        let [then, els] = arms;
        let id = self.build(|b| b.if_(cond, then, els));
        scope.pool.push(id);
        1
    }

    pub(super) fn condition(&mut self, scope: &Scope) -> ExprId {
        let bool_scalar = TensorType::of(&[], DType::Bool);
        let found = scope.pool.iter().rev().copied().find(|&id| self.tensor(id) == Some(&bool_scalar));
        found.unwrap_or_else(|| self.leaf(&bool_scalar))
    }

    /// Parameters like some of what is in scope, and the arguments for a first call.
    fn parameters(&mut self, scope: &Scope) -> (Vec<VarId>, Vec<ExprId>) {
        let count = 1 + self.rng.below(2);
        let args: Vec<ExprId> = (0..count).map(|_| *self.rng.pick(&scope.pool)).collect();
        let params = args.iter().map(|&arg| {
            let name = self.name('p');
            self.module.var(name, self.module.types[arg].clone())
        });
        (params.collect(), args)
    }

    /// A closure, called at once or through a variable, perhaps twice.
    fn closure(&mut self, scope: &mut Scope, size: usize) -> usize {
        let (params, args) = self.parameters(scope);
        self.depth += 1;
        let mut inner = self.inner(scope);
        let result = self.function_body(&params, &mut inner, size);
        self.depth -= 1;
        let mut func = self.build(|b| b.func(&params, result));
        if self.rng.chance(1, 2) {
            let name = self.local_name('f');
            let var = self.module.var(name, self.module.types[func].clone());
            scope.bind(var, func);
            func = self.read(var);
        }
        for _ in 0..1 + self.rng.below(2) {
            let id = self.build(|b| b.call_func(func, &args));
            scope.pool.push(id);
        }
        1
    }

    /// A global function, called once or twice.
    fn global(&mut self, scope: &mut Scope, size: usize) -> usize {
        let (params, args) = self.parameters(scope);
        self.depth += 1;
        self.in_main = false;
        let result = self.function_body(&params, &mut Scope::default(), size);
        self.in_main = true;
        self.depth -= 1;
        let mut func = self.build(|b| b.function(&params, result));
        func.attrs = self.function_attrs();
        let name = self.name('f');
        let global = self.module.globals.push(Global { name, func: Some(func) });
        let callee = self.build(|b| b.add(Expr::Global(global)));
        for _ in 0..1 + self.rng.below(2) {
            let id = self.build(|b| b.call_func(callee, &args));
            scope.pool.push(id);
        }
        1
    }

    fn function_body(&mut self, params: &[VarId], scope: &mut Scope, size: usize) -> ExprId {
        for &param in params {
            let read = self.read(param);
            scope.pool.push(read);
        }
        self.fill(scope, size);
        let result = *scope.pool.last().expect("a function has a parameter");
        self.close(std::mem::take(scope), result)
    }
}
