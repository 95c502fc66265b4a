//! Tests of inference.

use std::sync::Arc;

use super::*;
use crate::diag::Code;
use crate::expr::{
    Adt, Args, Call, Callee, Clause, Ctor, CtorRef, Expr, Function, Global, MatchPattern, VarId,
};
use crate::op::{Attrs, OpDef};
use crate::tensor::Tensor;
use crate::test_ops::{ADD, DENSE, LESS, LOG};
use crate::types::{DType, Dim, FuncType, TensorType};

fn f32s(shape: &[usize]) -> Type {
    Type::tensor(shape, DType::F32)
}

fn dims(shape: &[Dim]) -> Type {
    TensorType::new(shape.to_vec(), DType::F32).into()
}

/// A module under construction, in the shorthand of these tests.
#[derive(Default)]
struct Prog(Module);

impl Prog {
    fn var(&mut self, name: &str, ty: Type) -> (VarId, ExprId) {
        let var = self.0.var(name, ty);
        (var, self.0.add(Expr::Var(var)))
    }
    fn op(&mut self, op: &'static OpDef, args: &[ExprId]) -> ExprId {
        self.0.call_op(crate::op::Op(op), args, Attrs::NONE)
    }
    fn call(&mut self, f: ExprId, args: &[ExprId]) -> ExprId {
        let (callee, args) = (Callee::Expr(f), Args::from_slice(args));
        self.0.add(Expr::Call(Call { callee, args, attrs: Attrs::NONE }))
    }
    fn ctor(&mut self, ctor: CtorRef, args: &[ExprId]) -> ExprId {
        let (callee, args) = (Callee::Ctor(ctor), Args::from_slice(args));
        self.0.add(Expr::Call(Call { callee, args, attrs: Attrs::NONE }))
    }
    fn one(&mut self) -> ExprId {
        self.0.constant(Tensor::scalar(1f32))
    }
    fn tuple(&mut self, fields: &[ExprId]) -> ExprId {
        self.0.add(Expr::Tuple(Args::from_slice(fields)))
    }
    fn func(&mut self, type_params: &[&str], params: &[VarId], ret: Type, body: ExprId) -> ExprId {
        let func = function(type_params, params, ret, body);
        self.0.add(Expr::Func(Box::new(func)))
    }
    fn global(&mut self, name: &str, params: &[VarId], ret: Type, body: ExprId) -> crate::expr::GlobalId {
        let func = Some(function(&[], params, ret, body));
        self.0.globals.push(Global { name: name.into(), func })
    }
    fn infer(&mut self) -> Vec<(Code, String)> {
        match infer_module(&mut self.0) {
            Ok(()) => vec![],
            Err(errors) => errors.0.into_iter().map(|d| (d.code, d.message)).collect(),
        }
    }
    fn ret(&self, name: &str) -> Type {
        let id = self.0.global(name).expect("the test defines it");
        self.0.globals[id].func.as_ref().expect("live").ret.clone()
    }
}

fn function(type_params: &[&str], params: &[VarId], ret: Type, body: ExprId) -> Function {
    let type_params = type_params.iter().map(|&p| p.into()).collect();
    Function { type_params, params: params.to_vec(), body, ret, attrs: Default::default() }
}

#[test]
fn operators_give_their_result_and_unannotated_lets_take_it() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[3, 1]));
    let (y, vy) = p.var("y", f32s(&[4]));
    let sum = p.op(&ADD, &[vx, vy]);
    let (s, vs) = p.var("s", Type::Unknown);
    let log = p.op(&LOG, &[vs]);
    let body = p.0.add(Expr::Let { var: s, value: sum, body: log });
    p.global("main", &[x, y], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.0.vars[s].ty, f32s(&[3, 4]));
    assert_eq!(p.ret("main"), f32s(&[3, 4]));
}

#[test]
fn an_operator_that_refuses_is_reported_once_with_types_and_argument() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[3]));
    let (y, vy) = p.var("y", f32s(&[4]));
    let bad = p.op(&ADD, &[vx, vy]);
    let log = p.op(&LOG, &[bad]);
    let pair = p.tuple(&[log, bad]);
    let body = p.0.add(Expr::Proj { tuple: pair, index: 1 });
    p.global("main", &[x, y], Type::Unknown, body);
    let errors = infer_module(&mut p.0).expect_err("refused").0;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code, Code::TYPE_MISMATCH);
    assert_eq!(errors[0].message, "add: dims 3 and 4 neither equal nor 1");
    assert_eq!((errors[0].label.as_str(), errors[0].notes.len()), ("argument 2", 2));
}

#[test]
fn several_independent_errors_are_collected() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[3]));
    let arity = p.op(&ADD, &[vx]);
    let proj = p.0.add(Expr::Proj { tuple: vx, index: 0 });
    let called = p.call(vx, &[]);
    let body = p.tuple(&[arity, proj, called]);
    p.global("main", &[x], Type::Unknown, body);
    let codes: Vec<Code> = p.infer().into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [Code::OP_ARGS, Code::TYPE_MISMATCH, Code::TYPE_MISMATCH]);
}

#[test]
fn a_function_with_type_parameters_is_instantiated_at_every_call() {
    let mut p = Prog::default();
    let a = Type::Var("A".into());
    let (x, vx) = p.var("x", a.clone());
    let id = p.func(&["A"], &[x], a, vx);
    let (f, vf) = p.var("id", Type::Unknown);
    let (one, unit) = (p.one(), p.tuple(&[]));
    let (first, second) = (p.call(vf, &[one]), p.call(vf, &[unit]));
    let pair = p.tuple(&[first, second]);
    let body = p.0.add(Expr::Let { var: f, value: id, body: pair });
    p.global("main", &[], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), Type::tuple([f32s(&[]), Type::tuple([])]));
}

#[test]
fn unannotated_parameters_follow_from_the_call() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", Type::Unknown);
    let one = p.one();
    let sum = p.op(&ADD, &[vx, one]);
    let pair = p.tuple(&[sum, vx]);
    let field = p.0.add(Expr::Proj { tuple: pair, index: 0 });
    let func = p.func(&[], &[x], Type::Unknown, field);
    let (f, vf) = p.var("f", Type::Unknown);
    let (y, vy) = p.var("y", f32s(&[2, 3]));
    let call = p.call(vf, &[vy]);
    let body = p.0.add(Expr::Let { var: f, value: func, body: call });
    p.global("main", &[y], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), f32s(&[2, 3]));
    assert_eq!(p.0.vars[x].ty, f32s(&[2, 3]));
    assert_eq!(p.0.types[sum], f32s(&[2, 3]));
}

#[test]
fn what_nothing_determines_is_named() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", Type::Unknown);
    p.global("main", &[x], Type::Unknown, vx);
    assert_eq!(p.infer(), [(Code::TYPE_UNKNOWN, "the type of `%x` cannot be inferred".to_owned())]);
}

#[test]
fn an_operator_deduces_an_argument() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[10, 5]));
    let (w, vw) = p.var("w", Type::Unknown);
    let body = p.op(&DENSE, &[vx, vw]);
    p.global("main", &[x, w], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.0.vars[w].ty, f32s(&[2, 5]));
    assert_eq!(p.ret("main"), f32s(&[10, 2]));
}

#[test]
fn recursion_through_globals_and_lets() {
    for ret in [f32s(&[]), Type::Unknown] {
        let mut p = Prog::default();
        let (n, vn) = p.var("n", f32s(&[]));
        let one = p.one();
        let cond = p.op(&LESS, &[vn, one]);
        let g = p.0.globals.next_key();
        let callee = p.0.add(Expr::Global(g));
        let log = p.op(&LOG, &[vn]);
        let again = p.call(callee, &[log]);
        let more = p.op(&ADD, &[again, one]);
        let body = p.0.add(Expr::If { cond, then: vn, els: more });
        p.global("main", &[n], ret.clone(), body);
        assert_eq!(p.infer(), []);
        assert_eq!(p.ret("main"), f32s(&[]));

        let mut p = Prog::default();
        let (n, vn) = p.var("n", f32s(&[]));
        let (f, vf) = p.var("f", Type::Unknown);
        let one = p.one();
        let cond = p.op(&LESS, &[vn, one]);
        let again = p.call(vf, &[vn]);
        let branch = p.0.add(Expr::If { cond, then: again, els: vn });
        let func = p.func(&[], &[n], ret, branch);
        let call = p.call(vf, &[one]);
        let body = p.0.add(Expr::Let { var: f, value: func, body: call });
        p.global("main", &[], Type::Unknown, body);
        assert_eq!(p.infer(), []);
        assert_eq!(p.ret("main"), f32s(&[]));
    }
}

#[test]
fn unknown_dims_fit_static_ones_and_win_where_branches_meet() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", dims(&[Dim::Any]));
    let callee_id = p.global("f", &[x], Type::Unknown, vx);
    let (y, vy) = p.var("y", f32s(&[10]));
    let (c, vc) = p.var("c", Type::scalar(DType::Bool));
    let callee = p.0.add(Expr::Global(callee_id));
    let called = p.call(callee, &[vy]);
    let body = p.0.add(Expr::If { cond: vc, then: vy, els: called });
    p.global("main", &[y, c], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), dims(&[Dim::Any]));
}

#[test]
fn symbolic_dims_are_equal_by_name_and_can_be_bound() {
    let n = Dim::Sym("n".into());
    let mut p = Prog::default();
    let (x, vx) = p.var("x", dims(&[n.clone(), Dim::Static(4)]));
    let (y, vy) = p.var("y", dims(&[n.clone(), Dim::Static(1)]));
    let sum = p.op(&ADD, &[vx, vy]);
    let (s, vs) = p.var("s", Type::Unknown);
    let body = p.0.add(Expr::Let { var: s, value: sum, body: vs });
    let main = p.global("main", &[x, y], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), dims(&[n.clone(), Dim::Static(4)]));
    let mut other = p.0.clone();
    bind_dims(&mut p.0, &[("n", 7)]).expect("n is a dimension");
    assert_eq!((p.ret("main"), p.0.types[sum].clone()), (f32s(&[7, 4]), f32s(&[7, 4])));
    assert!(bind_dims(&mut p.0, &[("n", 7)]).is_err());

    bind_shapes(&mut other, main, &[("x", vec![3, 4])]).expect("fits");
    assert_eq!(other.vars[y].ty, f32s(&[3, 1]));
    assert!(bind_shapes(&mut other, main, &[("x", vec![3, 5])]).is_err());
    assert!(bind_shapes(&mut other, main, &[("z", vec![3])]).is_err());
    assert!(bind_shapes(&mut other, main, &[("x", vec![3])]).is_err());
}

#[test]
fn data_types_and_matches() {
    let mut p = Prog::default();
    let a = Type::Var("A".into());
    let list = Type::Adt("List".into(), [a.clone()].into());
    let ctors = vec![
        Ctor { name: "Nil".into(), fields: vec![] },
        Ctor { name: "Cons".into(), fields: vec![a.clone(), list] },
    ];
    let adt = Adt { name: "List".into(), params: vec!["A".into()], ctors, is_extern: false };
    let adt = p.0.adts.push(adt);
    let [nil, cons] = [0, 1].map(|index| CtorRef { adt, index });
    let (empty, one) = (p.ctor(nil, &[]), p.one());
    let value = p.ctor(cons, &[one, empty]);
    let (h, vh) = p.var("h", Type::Unknown);
    let log = p.op(&LOG, &[vh]);
    let pattern = MatchPattern::Ctor(cons, vec![MatchPattern::Var(h), MatchPattern::Wildcard]);
    let clauses =
        vec![Clause { pattern, body: log }, Clause { pattern: MatchPattern::Ctor(nil, vec![]), body: one }];
    let body = p.0.add(Expr::Match { value, clauses, complete: true });
    p.global("main", &[], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), f32s(&[]));
    assert_eq!(p.0.types[empty], Type::Adt("List".into(), [f32s(&[])].into()));
}

#[test]
fn references_hold_one_type() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[2]));
    let cell = p.0.add(Expr::Ref(vx));
    let one = p.one();
    let write = p.0.add(Expr::RefWrite { cell, value: one });
    let read = p.0.add(Expr::RefRead(cell));
    let body = p.tuple(&[write, read]);
    p.global("main", &[x], Type::Unknown, body);
    assert_eq!(p.infer().len(), 1);
    assert_eq!(p.0.types[read], f32s(&[2]));
}

#[test]
fn functions_are_values() {
    let mut p = Prog::default();
    let ty = Type::Func(Arc::new(FuncType { type_params: vec![], params: vec![f32s(&[])], ret: f32s(&[]) }));
    let (f, vf) = p.var("f", Type::Unknown);
    let (x, vx) = p.var("x", f32s(&[]));
    let body = p.call(vf, &[vx]);
    let log = p.op(&LOG, &[body]);
    p.global("main", &[f, x], Type::Unknown, log);
    assert_eq!(p.infer()[0].0, Code::TYPE_UNKNOWN);

    let mut p = Prog::default();
    let (f, vf) = p.var("f", ty.clone());
    let (x, vx) = p.var("x", f32s(&[]));
    let call = p.call(vf, &[vx]);
    let body = p.op(&LOG, &[call]);
    p.global("main", &[f, x], Type::Unknown, body);
    assert_eq!(p.infer(), []);
    assert_eq!(p.ret("main"), f32s(&[]));
}

#[test]
fn a_condition_is_a_bool_scalar_and_branches_agree() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[2]));
    let one = p.one();
    let body = p.0.add(Expr::If { cond: vx, then: vx, els: one });
    p.global("main", &[x], Type::Unknown, body);
    assert_eq!(p.infer().len(), 2);
}

#[test]
fn types_that_nest_or_grow_without_end_are_refused() {
    let mut p = Prog::default();
    let mut deep = p.one();
    let mut wide = deep;
    for _ in 0..10_000 {
        deep = p.tuple(&[deep]);
        wide = p.tuple(&[wide, wide]);
    }
    let body = p.tuple(&[deep, wide]);
    p.global("main", &[], Type::Unknown, body);
    assert_eq!(p.infer().len(), 2);

    let mut p = Prog::default();
    let (x, vx) = p.var("x", Type::Unknown);
    let body = p.call(vx, &[vx]);
    p.global("main", &[x], Type::Unknown, body);
    assert!(!p.infer().is_empty());
}

#[test]
fn a_long_chain_is_linear_and_only_new_expressions_are_inferred() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x", f32s(&[2]));
    let mut e = vx;
    for _ in 0..100_000 {
        e = p.op(&ADD, &[e, vx]);
    }
    let main = p.global("main", &[x], Type::Unknown, e);
    let start = std::time::Instant::now();
    assert_eq!(p.infer(), []);
    println!("100,000 ops: {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let new = p.op(&LOG, &[e]);
    p.0.globals[main].func.as_mut().expect("live").body = new;
    assert_eq!(p.infer(), []);
    println!("one more: {:?}", start.elapsed());
    assert_eq!(p.0.types[new], f32s(&[2]));
}
