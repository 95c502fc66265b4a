//! Structures beyond single calls: tuples that travel, recursion, strange names and attributes.

use std::sync::Arc;

use fermata_ir::build::Builder;
use fermata_ir::expr::{Expr, ExprId, FuncAttrs, Function, Global, VarId};
use fermata_ir::op::{AttrValue, Attrs, OpTable};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{DType, Type};

use super::Generator;
use super::scope::Scope;

/// Names that are no identifiers, or that mean something elsewhere.
const STRANGE: &[&str] = &[
    "let",
    "fn",
    "Tensor",
    "True",
    "0",
    "1x",
    "layer.weight",
    "input:0",
    "a b",
    "\u{e9}",
    "\u{1f3b5}",
    "a\"b",
    "a\\b",
    "%x",
    "@f",
    "a/b/c",
    "//",
    "/*",
    "\t",
    "_",
    "x.0",
    "-1",
    "meta",
    "nanf",
    "#[metadata]",
];

/// The most turns of a loop.
const MAX_TURNS: usize = 4;

impl Generator {
    /// A name that is not used yet, mostly a plain one.
    pub(super) fn name(&mut self, letter: char) -> Arc<str> {
        self.names += 1;
        match self.options.strange_names && self.rng.chance(1, 6) {
            true => format!("{}{}", self.rng.pick(STRANGE), self.names).into(),
            false => format!("{letter}{}", self.names).into(),
        }
    }

    /// The name of a local variable, which need not be new.
    pub(super) fn local_name(&mut self, letter: char) -> Arc<str> {
        match self.options.strange_names {
            true if self.rng.chance(1, 6) => letter.to_string().into(),
            true if self.rng.chance(1, 6) => (*self.rng.pick(STRANGE)).into(),
            _ => self.name(letter),
        }
    }

    /// Attributes of a function, which mean nothing to the compiler.
    pub(super) fn function_attrs(&mut self) -> FuncAttrs {
        let mut attrs = FuncAttrs::default();
        if self.rng.chance(3, 4) {
            return attrs;
        }
        let values = [
            AttrValue::Int(self.rng.bits() as i64),
            AttrValue::Float(*self.rng.pick(&[0.1, -0.0, 1e300, 5e-324, f64::INFINITY])),
            AttrValue::Bool(true),
            AttrValue::Str((*self.rng.pick(STRANGE)).into()),
            AttrValue::None,
            AttrValue::List([AttrValue::Int(-1), AttrValue::Str("\n".into())].into()),
        ];
        for _ in 0..1 + self.rng.below(3) {
            let name = format!("k{}", self.rng.below(9));
            attrs.insert(name.into(), self.rng.pick(&values).clone());
        }
        attrs
    }

    /// A tuple of some of what is in scope, perhaps nested, that goes through a let or a branch
    /// and is then taken apart.
    pub(super) fn tuple(&mut self, scope: &mut Scope) -> usize {
        let mut whole = self.tuple_of(scope);
        if self.rng.chance(1, 3) {
            let mut fields = vec![whole, *self.rng.pick(&scope.pool)];
            self.rng.shuffle(&mut fields);
            whole = self.build(|b| b.tuple(&fields));
        }
        if self.rng.chance(1, 3) && self.options.control_flow {
            let cond = self.condition(scope);
            let other = self.like(whole);
            whole = self.build(|b| b.if_(cond, whole, other));
        }
        if self.rng.chance(1, 2) {
            let name = self.local_name('t');
            let var = self.module.var(name, self.module.types[whole].clone());
            scope.bind(var, whole);
            whole = self.read(var);
        }
        self.fields(whole, &mut scope.pool);
        1
    }

    fn tuple_of(&mut self, scope: &Scope) -> ExprId {
        let fields: Vec<ExprId> = (0..1 + self.rng.below(3)).map(|_| *self.rng.pick(&scope.pool)).collect();
        self.build(|b| b.tuple(&fields))
    }

    /// Something new of the same type.
    fn like(&mut self, id: ExprId) -> ExprId {
        match self.module.types[id].clone() {
            Type::Tensor(ty) => self.leaf(&ty),
            Type::Tuple(types) => {
                // A tuple of tuples is made of two levels at most.
                let fields: Vec<ExprId> = (0..types.len() as u32)
                    .map(|index| {
                        let field = self.build(|b| b.proj(id, index));
                        self.like(field)
                    })
                    .collect();
                self.build(|b| b.tuple(&fields))
            }
            other => unreachable!("only data is put into tuples, not {other}"),
        }
    }

    /// The tensors in a tuple, by projections.
    fn fields(&mut self, whole: ExprId, pool: &mut Vec<ExprId>) {
        let count = self.module.types[whole].as_tuple().map_or(0, <[Type]>::len);
        for index in 0..count as u32 {
            let field = self.build(|b| b.proj(whole, index));
            match self.tensor(field) {
                Some(_) => pool.push(field),
                None => self.fields(field, pool),
            }
        }
    }

    /// A global function that calls itself a few times, and its call: in the last place, as a
    /// loop does, or with work left to do.
    pub(super) fn recursion(&mut self, scope: &mut Scope, size: usize) -> usize {
        let start = *self.rng.pick(&scope.pool);
        let ty = self.module.types[start].clone();
        let count_ty = Type::scalar(DType::I32);
        let count = self.module.var("n", count_ty.clone());
        let name = self.local_name('p');
        let state = self.module.var(name, ty.clone());
        let name = self.name('g');
        let body = self.read(state);
        let func = Function {
            type_params: vec![],
            params: vec![count, state],
            body,
            ret: ty.clone(),
            attrs: self.function_attrs(),
        };
        let global = self.module.globals.push(Global { name, func: Some(func) });
        let callee = self.build(|b| b.add(Expr::Global(global)));
        let body = self.recursive_body((count, state), callee, &ty, size);
        self.module.globals[global].func.as_mut().expect("it was just made").body = body;
        let turns = self.rng.below(MAX_TURNS + 1) as i64;
        let turns = self.scalar(DType::I32, turns);
        let id = self.build(|b| b.call_func(callee, &[turns, start]));
        scope.pool.push(id);
        1
    }

    /// `if (n > 0) { step(self(n - 1, state)) or self(n - 1, step(state)) } else { state }`.
    fn recursive_body(
        &mut self,
        (count, state): (VarId, VarId),
        callee: ExprId,
        ty: &Type,
        size: usize,
    ) -> ExprId {
        let ops = OpTable::standard();
        let op = |name| ops.get(name).expect("it is in the table");
        let (in_main, depth) = (self.in_main, self.depth);
        (self.in_main, self.depth) = (false, self.depth + 1);
        let [zero, one] = [0, 1].map(|n| self.scalar(DType::I32, n));
        let n = self.read(count);
        let more = self.build(|b| b.call(op("greater").0, &[n, zero], Attrs::NONE));
        let less = self.build(|b| b.call(op("subtract").0, &[n, one], Attrs::NONE));
        let old = self.read(state);
        let tail = self.rng.chance(1, 2);
        let input = if tail { old } else { self.build(|b| b.call_func(callee, &[less, old])) };
        let mut inner = Scope::default();
        inner.pool.push(input);
        let step = self.of_type(ty, &mut inner, size);
        let then = if tail { self.build(|b| b.call_func(callee, &[less, step])) } else { step };
        let then = self.close(inner, then);
        let els = self.read(state);
        (self.in_main, self.depth) = (in_main, depth);
        self.build(|b| b.if_(more, then, els))
    }

    fn scalar(&mut self, dtype: DType, value: i64) -> ExprId {
        let bits = Scalar::from_i64(dtype, value).bits().to_le_bytes();
        let tensor = Tensor::from_bytes(dtype, &[], &bits[..dtype.bytes()]).expect("a scalar is small");
        self.module.constant(tensor)
    }

    /// Builds something that is well typed by construction.
    pub(super) fn build<T, E: std::fmt::Debug>(&mut self, f: impl FnOnce(&mut Builder) -> Result<T, E>) -> T {
        f(&mut Builder::new(&mut self.module)).expect("operands were chosen to fit")
    }
}
