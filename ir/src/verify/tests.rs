//! Tests of the verifier: a program that keeps every rule, and one that breaks each.

use super::*;
use crate::expr::{
    Adt, Args, Call, Callee, Clause, Ctor, CtorRef, Expr, Function, Global, MatchPattern, VarId,
};
use crate::infer::infer_module;
use crate::op::{AttrValue, Attrs, Op, OpDef};
use crate::tensor::Tensor;
use crate::test_ops::{ADD, LOG};
use crate::types::{DType, Type};

#[derive(Default)]
struct Prog(Module);

impl Prog {
    fn var(&mut self, name: &str) -> (VarId, ExprId) {
        let var = self.0.var(name, Type::scalar(DType::F32));
        (var, self.0.add(Expr::Var(var)))
    }
    fn op(&mut self, op: &'static OpDef, args: &[ExprId]) -> ExprId {
        self.0.call_op(Op(op), args, Attrs::NONE)
    }
    fn tuple(&mut self, fields: &[ExprId]) -> ExprId {
        self.0.add(Expr::Tuple(Args::from_slice(fields)))
    }
    fn main(&mut self, params: &[VarId], body: ExprId) {
        self.0.globals.push(Global { name: "main".into(), func: Some(function(params, body)) });
    }
    /// The rules that are broken, after inference has done what it can.
    fn broken(&mut self) -> Vec<String> {
        let _ = infer_module(&mut self.0);
        self.broken_as_is()
    }
    fn broken_as_is(&self) -> Vec<String> {
        match verify(&self.0) {
            Ok(_) => vec![],
            Err(found) => found.0.iter().map(|d| d.message[..2].to_owned()).collect(),
        }
    }
}

fn function(params: &[VarId], body: ExprId) -> Function {
    let (params, attrs) = (params.to_vec(), Default::default());
    Function { type_params: vec![], params, body, ret: Type::Unknown, attrs }
}

#[test]
fn a_sound_program_is_verified() {
    let mut p = Prog::default();
    let ((x, vx), (y, vy), (z, vz)) = (p.var("x"), p.var("y"), p.var("z"));
    let sum = p.op(&ADD, &[vx, vz]);
    let func = p.0.add(Expr::Func(Box::new(function(&[z], sum))));
    let call = |p: &mut Prog, arg| {
        let (callee, args) = (Callee::Expr(func), Args::from_slice(&[arg]));
        p.0.add(Expr::Call(Call { callee, args, attrs: Attrs::NONE }))
    };
    let (first, second) = (call(&mut p, vx), call(&mut p, vy));
    let pair = p.tuple(&[second, first, vy]);
    let bind = p.0.add(Expr::Let { var: y, value: first, body: pair });
    let body = p.0.add(Expr::Proj { tuple: bind, index: 2 });
    p.main(&[x], body);
    assert_eq!(p.broken(), [""; 0]);
}

#[test]
fn r1_ids_and_cycles() {
    let mut p = Prog::default();
    let unit = p.tuple(&[]);
    let outside = ExprId::from_u32(99);
    let body = p.tuple(&[unit, outside]);
    p.main(&[], body);
    assert_eq!(p.broken_as_is(), ["R1"]);

    let mut p = Prog::default();
    let a = p.tuple(&[]);
    let b = p.tuple(&[a, a]);
    p.0.exprs[a] = Expr::Tuple(Args::from_slice(&[b]));
    p.main(&[], b);
    assert!(p.broken_as_is().iter().all(|rule| rule == "R1"));
    assert!(!p.broken_as_is().is_empty());
}

#[test]
fn r2_one_binder() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x");
    let body = p.0.add(Expr::Let { var: x, value: vx, body: vx });
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R2"]);
}

#[test]
fn r3_scopes() {
    let mut p = Prog::default();
    let ((x, vx), (y, vy)) = (p.var("x"), p.var("y"));
    let log = p.op(&LOG, &[vy]);
    let bind = p.0.add(Expr::Let { var: y, value: vx, body: log });
    let body = p.tuple(&[bind, log]);
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R3"]);

    let mut p = Prog::default();
    let ((x, vx), (y, vy), (_, vz)) = (p.var("x"), p.var("y"), p.var("z"));
    let own = p.0.add(Expr::Let { var: y, value: vy, body: vx });
    let body = p.tuple(&[own, vz]);
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R3", "R3"]);
}

#[test]
fn r3_a_node_that_binds_may_stand_in_two_scopes() {
    // `let y = f(1); (f, y)` with one node for f, which is first met inside the let.
    let mut p = Prog::default();
    let ((x, vx), (y, vy), (z, vz)) = (p.var("x"), p.var("y"), p.var("z"));
    let sum = p.op(&ADD, &[vx, vz]);
    let func = p.0.add(Expr::Func(Box::new(function(&[z], sum))));
    let inner = p.tuple(&[func, vy]);
    let bind = p.0.add(Expr::Let { var: y, value: vx, body: inner });
    let body = p.tuple(&[bind, func]);
    p.main(&[x], body);
    assert_eq!(p.broken(), [""; 0]);

    // The same, but it uses y, which is not bound at the second place.
    let mut p = Prog::default();
    let ((x, vx), (y, vy), (z, vz)) = (p.var("x"), p.var("y"), p.var("z"));
    let sum = p.op(&ADD, &[vy, vz]);
    let func = p.0.add(Expr::Func(Box::new(function(&[z], sum))));
    let bind = p.0.add(Expr::Let { var: y, value: vx, body: func });
    let body = p.tuple(&[bind, func]);
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R3"]);
}

#[test]
fn r4_names() {
    let mut p = Prog::default();
    let unit = p.tuple(&[]);
    p.main(&[], unit);
    p.main(&[], unit);
    let ctor = Ctor { name: "C".into(), fields: vec![] };
    for name in ["T", "U"] {
        let ctors = vec![ctor.clone()];
        p.0.adts.push(Adt { name: name.into(), params: vec![], ctors, is_extern: false });
    }
    assert_eq!(p.broken(), ["R4", "R4"]);
}

#[test]
fn r5_types_are_there() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x");
    let log = p.op(&LOG, &[vx]);
    p.main(&[x], log);
    assert_eq!(p.broken_as_is(), ["R5", "R5", "R5"]);
    let mut p = Prog::default();
    let x = p.0.var("x", Type::tensor(&[1 << 40], DType::F64));
    let vx = p.0.add(Expr::Var(x));
    p.main(&[x], vx);
    assert!(p.broken().iter().all(|rule| rule == "R5"));
}

#[test]
fn r6_and_r7_calls_and_types() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x");
    p.0.types[vx] = Type::scalar(DType::F32);
    let few = p.op(&ADD, &[vx]);
    p.0.types[few] = Type::scalar(DType::F32);
    let attrs = Attrs::new(vec![AttrValue::Int(1)]);
    let attr = p.0.call_op(Op(&LOG), &[vx], attrs);
    p.0.types[attr] = Type::scalar(DType::F32);
    let wrong = p.op(&LOG, &[vx]);
    p.0.types[wrong] = Type::scalar(DType::I32);
    let proj = p.0.add(Expr::Proj { tuple: vx, index: 0 });
    p.0.types[proj] = Type::scalar(DType::F32);
    let cond = p.0.add(Expr::If { cond: vx, then: vx, els: wrong });
    p.0.types[cond] = Type::scalar(DType::F32);
    let body = p.tuple(&[few, attr, wrong, proj, cond]);
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R6", "R6", "R7", "R7", "R7"]);
}

#[test]
fn r8_patterns() {
    let mut p = Prog::default();
    let ctors = vec![Ctor { name: "C".into(), fields: vec![Type::scalar(DType::F32)] }];
    let adt = p.0.adts.push(Adt { name: "T".into(), params: vec![], ctors, is_extern: false });
    let one = p.0.constant(Tensor::scalar(1f32));
    let callee = Callee::Ctor(CtorRef { adt, index: 0 });
    let value = p.0.add(Expr::Call(Call { callee, args: Args::from_slice(&[one]), attrs: Attrs::NONE }));
    let patterns = [
        MatchPattern::Ctor(CtorRef { adt, index: 0 }, vec![MatchPattern::Wildcard]),
        MatchPattern::Ctor(CtorRef { adt, index: 0 }, vec![]),
        MatchPattern::Tuple(vec![]),
    ];
    for (broken, pattern) in patterns.into_iter().enumerate() {
        let mut p = Prog(p.0.clone());
        let clauses = vec![Clause { pattern, body: one }];
        let body = p.0.add(Expr::Match { value, clauses, complete: true });
        p.0.types[body] = Type::scalar(DType::F32);
        p.0.types[value] = Type::Adt("T".into(), [].into());
        p.main(&[], body);
        let rules = p.broken();
        assert_eq!(rules, vec!["R8"; usize::from(broken > 0)]);
    }
}

#[test]
fn r9_primitive_functions() {
    let mut p = Prog::default();
    let ((x, vx), (y, vy)) = (p.var("x"), p.var("y"));
    let sum = p.op(&ADD, &[vx, vy]);
    let cell = p.0.add(Expr::Ref(sum));
    let mut func = function(&[y], cell);
    func.attrs.insert("Primitive".into(), AttrValue::Int(1));
    let body = p.0.add(Expr::Func(Box::new(func)));
    p.main(&[x], body);
    assert_eq!(p.broken(), ["R9", "R9"]);
}

#[test]
fn deep_programs_do_not_overflow() {
    let mut p = Prog::default();
    let (x, vx) = p.var("x");
    let mut body = vx;
    for i in 0..100_000 {
        let y = p.0.var("y", Type::Unknown);
        body =
            if i % 2 == 0 { p.op(&ADD, &[body, vx]) } else { p.0.add(Expr::Let { var: y, value: vx, body }) };
    }
    p.main(&[x], body);
    assert_eq!(p.broken(), [""; 0]);
}
