//! Tests of the evaluator.

use super::*;
use crate::expr::{
    Adt, Args, Call, Callee, Clause, Ctor, CtorRef, Expr, Function, Global, MatchPattern, VarId,
};
use crate::infer::infer_module;
use crate::op::{Attrs, Op, OpDef};
use crate::tensor::Tensor;
use crate::test_ops::{ADD, FAIL, LESS, LOG};
use crate::types::{DType, TensorType};

/// A module under construction, in the shorthand of these tests.
#[derive(Default)]
struct Prog(Module);

impl Prog {
    fn var(&mut self, name: &str, ty: Type) -> (VarId, ExprId) {
        let var = self.0.var(name, ty);
        (var, self.0.add(Expr::Var(var)))
    }
    fn scalar(&mut self, name: &str) -> (VarId, ExprId) {
        self.var(name, Type::scalar(DType::F32))
    }
    fn op(&mut self, op: &'static OpDef, args: &[ExprId]) -> ExprId {
        self.0.call_op(Op(op), args, Attrs::NONE)
    }
    fn call(&mut self, callee: Callee, args: &[ExprId]) -> ExprId {
        self.0.add(Expr::Call(Call { callee, args: Args::from_slice(args), attrs: Attrs::NONE }))
    }
    fn num(&mut self, x: f32) -> ExprId {
        self.0.constant(Tensor::scalar(x))
    }
    fn tuple(&mut self, fields: &[ExprId]) -> ExprId {
        self.0.add(Expr::Tuple(Args::from_slice(fields)))
    }
    fn bind(&mut self, var: VarId, value: ExprId, body: ExprId) -> ExprId {
        self.0.add(Expr::Let { var, value, body })
    }
    fn func(&mut self, params: &[VarId], body: ExprId) -> ExprId {
        self.0.add(Expr::Func(Box::new(function(params, body))))
    }
    fn main(&mut self, params: &[VarId], body: ExprId) {
        self.0.globals.push(Global { name: "main".into(), func: Some(function(params, body)) });
        infer_module(&mut self.0).expect("the test is well typed");
    }
    fn run(&self, args: &[f32]) -> Result<Value, Diagnostic> {
        let args = args.iter().map(|&x| Tensor::scalar(x).into()).collect();
        eval_global(&self.0, "main", args, &EvalOptions::default())
    }
    fn number(&self, args: &[f32]) -> f32 {
        number(&self.run(args).expect("the test evaluates"))
    }
}

fn function(params: &[VarId], body: ExprId) -> Function {
    let (params, attrs) = (params.to_vec(), Default::default());
    Function { type_params: vec![], params, body, ret: Type::Unknown, attrs }
}

fn number(value: &Value) -> f32 {
    value.as_tensor().and_then(|t| t.as_slice::<f32>()).expect("an f32 tensor")[0]
}

#[test]
fn lets_tuples_projections_and_operators() {
    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let (y, vy) = p.var("y", Type::Unknown);
    let sum = p.op(&ADD, &[vx, vx]);
    let pair = p.tuple(&[vy, vx, vy]);
    let first = p.0.add(Expr::Proj { tuple: pair, index: 2 });
    let last = p.op(&ADD, &[first, vx]);
    let body = p.bind(y, sum, last);
    p.main(&[x], body);
    assert_eq!(p.number(&[3.0]), 9.0);
}

#[test]
fn a_shared_node_is_evaluated_once_and_told_of_once() {
    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let mut e = vx;
    for _ in 0..60 {
        e = p.op(&ADD, &[e, e]);
    }
    p.main(&[x], e);
    let mut seen = Vec::new();
    let args = vec![Tensor::scalar(1f32).into()];
    let options = EvalOptions::default();
    let value = eval_observed(&p.0, "main", args, &options, &mut |id, v| seen.push((id, number(v))));
    assert_eq!(number(&value.expect("evaluates")), 2f32.powi(60));
    assert_eq!(seen.len(), 60);
    assert_eq!(seen[0].1, 2.0);
}

#[test]
fn only_the_branch_taken_is_evaluated() {
    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let zero = p.num(0.0);
    let cond = p.op(&LESS, &[vx, zero]);
    let fail = p.op(&FAIL, &[vx]);
    let body = p.0.add(Expr::If { cond, then: fail, els: vx });
    p.main(&[x], body);
    assert_eq!(p.number(&[1.0]), 1.0);
    let error = p.run(&[-1.0]).expect_err("the other branch fails");
    assert_eq!((error.code, error.message.as_str()), (Code::EVAL, "fail: this operator always fails"));
}

/// `let %f = fn (%n, %acc) { if (%n < 1) { %acc } else { .. } }; %f(%x, 0)`.
fn counting(tail: bool) -> Prog {
    let mut p = Prog::default();
    let ((x, vx), (n, vn), (acc, vacc)) = (p.scalar("x"), p.scalar("n"), p.scalar("acc"));
    let (f, vf) = p.var("f", Type::Unknown);
    let (one, minus, zero) = (p.num(1.0), p.num(-1.0), p.num(0.0));
    let cond = p.op(&LESS, &[vn, one]);
    let next = p.op(&ADD, &[vn, minus]);
    let more = p.op(&ADD, &[vacc, one]);
    let els = if tail {
        p.call(Callee::Expr(vf), &[next, more])
    } else {
        let rest = p.call(Callee::Expr(vf), &[next, vacc]);
        p.op(&ADD, &[rest, one])
    };
    let branch = p.0.add(Expr::If { cond, then: vacc, els });
    let func = p.func(&[n, acc], branch);
    let call = p.call(Callee::Expr(vf), &[vx, zero]);
    let body = p.bind(f, func, call);
    p.main(&[x], body);
    p
}

#[test]
fn tail_calls_run_in_constant_depth_and_others_are_bounded() {
    assert_eq!(counting(true).number(&[200_000.0]), 200_000.0);
    assert_eq!(counting(false).number(&[20_000.0]), 20_000.0);
    let error = counting(false).run(&[f32::INFINITY]).expect_err("never ends");
    assert_eq!(error.message, "calls nest more than 100000 deep");
    let p = counting(true);
    let options = EvalOptions { max_steps: 10_000, ..EvalOptions::default() };
    let args = vec![Tensor::scalar(f32::INFINITY).into()];
    assert!(eval_global(&p.0, "main", args, &options).is_err());
}

#[test]
fn closures_capture_and_globals_recurse() {
    let mut p = Prog::default();
    let ((x, vx), (y, vy)) = (p.scalar("x"), p.scalar("y"));
    let sum = p.op(&ADD, &[vx, vy]);
    let adder = p.func(&[y], sum);
    let make = p.func(&[x], adder);
    let (one, two) = (p.num(1.0), p.num(2.0));
    let add_one = p.call(Callee::Expr(make), &[one]);
    let body = p.call(Callee::Expr(add_one), &[two]);
    p.main(&[], body);
    assert_eq!(p.number(&[]), 3.0);

    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let (zero, one) = (p.num(0.0), p.num(1.0));
    let cond = p.op(&LESS, &[vx, zero]);
    let itself = p.0.globals.next_key();
    let callee = p.0.add(Expr::Global(itself));
    let next = p.op(&ADD, &[vx, one]);
    let again = p.call(Callee::Expr(callee), &[next]);
    let body = p.0.add(Expr::If { cond, then: again, els: vx });
    p.main(&[x], body);
    assert_eq!(p.number(&[-3.5]), 0.5);
}

#[test]
fn cells_are_read_and_written_in_order() {
    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let cell = p.0.add(Expr::Ref(vx));
    let (c, vc) = p.var("c", Type::Unknown);
    let (u, _) = p.var("u", Type::Unknown);
    let two = p.num(2.0);
    let before = p.0.add(Expr::RefRead(vc));
    let new = p.op(&ADD, &[before, two]);
    let write = p.0.add(Expr::RefWrite { cell: vc, value: new });
    let after = p.0.add(Expr::RefRead(vc));
    let rest = p.bind(u, write, after);
    let body = p.bind(c, cell, rest);
    p.main(&[x], body);
    assert_eq!(p.number(&[1.0]), 3.0);
}

#[test]
fn long_lists_are_built_taken_apart_and_dropped() {
    let mut p = Prog::default();
    let number = Type::scalar(DType::F32);
    let list = Type::Adt("List".into(), [].into());
    let ctors = vec![
        Ctor { name: "Nil".into(), fields: vec![] },
        Ctor { name: "Cons".into(), fields: vec![number.clone(), list.clone()] },
    ];
    let adt = p.0.adts.push(Adt { name: "List".into(), params: vec![], ctors, is_extern: false });
    let [nil, cons] = [0, 1].map(|index| CtorRef { adt, index });
    let ((n, vn), (l, vl)) = (p.scalar("n"), p.var("l", list));
    let (x, vx) = p.scalar("x");
    let (f, vf) = p.var("f", Type::Unknown);
    let (h, vh) = p.var("h", Type::Unknown);
    let (one, minus) = (p.num(1.0), p.num(-1.0));
    let cond = p.op(&LESS, &[vn, one]);
    let next = p.op(&ADD, &[vn, minus]);
    let longer = p.call(Callee::Ctor(cons), &[vn, vl]);
    let again = p.call(Callee::Expr(vf), &[next, longer]);
    let branch = p.0.add(Expr::If { cond, then: vl, els: again });
    let func = p.func(&[n, l], branch);
    let empty = p.call(Callee::Ctor(nil), &[]);
    let value = p.call(Callee::Expr(vf), &[vx, empty]);
    let pattern = MatchPattern::Ctor(cons, vec![MatchPattern::Var(h), MatchPattern::Wildcard]);
    let clauses = vec![Clause { pattern, body: vh }];
    let taken = p.0.add(Expr::Match { value, clauses, complete: false });
    let body = p.bind(f, func, taken);
    p.main(&[x], body);
    assert_eq!(p.number(&[100_000.0]), 1.0);
    assert!(p.run(&[0.0]).expect_err("the list is empty").message.starts_with("no arm"));
}

#[test]
fn arguments_are_checked_against_parameters() {
    let mut p = Prog::default();
    let n = Dim::Sym("n".into());
    let ty = |dims: &[Dim]| -> Type { TensorType::new(dims.to_vec(), DType::F32).into() };
    let (x, vx) = p.var("x", ty(&[n.clone(), Dim::Any]));
    let (y, _) = p.var("y", ty(std::slice::from_ref(&n)));
    p.main(&[x, y], vx);
    let zeros = |shape: &[usize]| Value::Tensor(Tensor::zeros(DType::F32, shape).expect("small"));
    let run = |args| eval_global(&p.0, "main", args, &EvalOptions::default());
    assert!(run(vec![zeros(&[2, 3]), zeros(&[2])]).is_ok());
    assert!(run(vec![zeros(&[2, 3]), zeros(&[3])]).is_err());
    assert!(run(vec![zeros(&[2]), zeros(&[2])]).is_err());
    assert!(run(vec![zeros(&[2, 3])]).is_err());
    assert!(eval_global(&p.0, "other", vec![], &EvalOptions::default()).is_err());
}

#[test]
fn results_past_the_limit_are_refused() {
    let mut p = Prog::default();
    let ty: Type = TensorType::of(&[1 << 20, 1], DType::F32).into();
    let (x, vx) = p.var("x", ty);
    let (y, vy) = p.var("y", Type::tensor(&[1, 1 << 20], DType::F32));
    let body = p.op(&ADD, &[vx, vy]);
    p.main(&[x, y], body);
    let zeros = |shape: &[usize]| Value::Tensor(Tensor::zeros(DType::F32, shape).expect("small"));
    let args = vec![zeros(&[1 << 20, 1]), zeros(&[1, 1 << 20])];
    let error = eval_global(&p.0, "main", args, &EvalOptions::default()).expect_err("4 TiB");
    assert_eq!(error.code, Code::EVAL);
}

#[test]
fn expressions_without_free_variables_evaluate() {
    let mut p = Prog::default();
    let one = p.num(1.0);
    let sum = p.op(&ADD, &[one, one]);
    assert_eq!(number(&eval_expr(&p.0, sum).expect("closed")), 2.0);
    let (_, vx) = p.scalar("x");
    let log = p.op(&LOG, &[vx]);
    let error = eval_expr(&p.0, log).expect_err("open");
    assert_eq!(error.message, "variable `%x` is not bound");
}

#[test]
fn deep_programs_do_not_overflow() {
    let mut p = Prog::default();
    let (x, vx) = p.scalar("x");
    let one = p.num(1.0);
    let vars: Vec<VarId> = (0..100_000).map(|_| p.0.var("v", Type::Unknown)).collect();
    let reads: Vec<ExprId> = vars.iter().map(|&v| p.0.add(Expr::Var(v))).collect();
    let mut body = *reads.last().expect("not empty");
    for i in (0..vars.len()).rev() {
        let before = if i == 0 { vx } else { reads[i - 1] };
        let value = p.op(&ADD, &[before, one]);
        body = p.bind(vars[i], value, body);
    }
    for _ in 0..100_000 {
        body = p.op(&ADD, &[body, one]);
    }
    p.main(&[x], body);
    assert_eq!(p.number(&[0.0]), 200_000.0);
}
