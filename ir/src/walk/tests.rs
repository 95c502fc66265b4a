//! Tests of the traversals.

use super::*;
use crate::expr::{Function, Global};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

fn tuple(m: &mut Module, fields: &[ExprId]) -> ExprId {
    m.add(Expr::Tuple(Args::from_slice(fields)))
}

fn func(params: &[VarId], body: ExprId) -> Function {
    Function {
        type_params: vec![],
        params: params.to_vec(),
        body,
        ret: Type::Unknown,
        attrs: Default::default(),
    }
}

#[test]
fn post_order_puts_operands_first_and_visits_shared_nodes_once() {
    let mut m = Module::new();
    let a = m.constant(Tensor::scalar(1f32));
    let b = m.constant(Tensor::scalar(2f32));
    let pair = tuple(&mut m, &[a, b]);
    let top = tuple(&mut m, &[b, pair, pair]);
    assert_eq!(post_order(&m, &[top]), [b, a, pair, top]);
    let uses = use_counts(&m, &[top]);
    assert_eq!((uses[a], uses[b], uses[pair], uses[top]), (1, 2, 2, 1));
}

#[test]
fn free_variables_leave_out_parameters_and_binders() {
    let mut m = Module::new();
    let [x, y, z] = ["x", "y", "z"].map(|n| m.var(n, Type::scalar(DType::F32)));
    let [vx, vy, vz] = [x, y, z].map(|v| m.add(Expr::Var(v)));
    let inner = tuple(&mut m, &[vz, vx, vy]);
    let bind = m.add(Expr::Let { var: y, value: vx, body: inner });
    let closure = m.add(Expr::Func(Box::new(func(&[x], bind))));
    assert_eq!(free_vars(&m, closure), [z]);
    assert_eq!(free_vars(&m, inner), [z, x, y]);
    assert_eq!(free_vars_of(&m, &func(&[z], inner)), [x, y]);
    assert_eq!(post_order_in_scope(&m, closure), [closure]);
}

#[test]
fn rewriting_keeps_what_did_not_change() {
    let mut m = Module::new();
    let a = m.constant(Tensor::scalar(1f32));
    let b = m.constant(Tensor::scalar(2f32));
    let same = tuple(&mut m, &[a]);
    let other = tuple(&mut m, &[b]);
    let top = tuple(&mut m, &[same, other, other]);
    let mut seen = 0;
    let new = rewrite(&mut m, top, &mut |_, id| {
        seen += 1;
        (id == b).then_some(a)
    });
    assert_eq!(seen, 5);
    let kids = children(&m.exprs[new]);
    assert_eq!((kids[0], kids[1]), (same, kids[2]));
    assert_ne!(kids[1], other);
    assert_eq!(rewrite(&mut m, top, &mut |_, _| None), top);
}

#[test]
fn deep_programs_do_not_overflow() {
    let mut m = Module::new();
    let mut e = m.constant(Tensor::scalar(1f32));
    for _ in 0..200_000 {
        e = tuple(&mut m, &[e]);
    }
    m.globals.push(Global { name: "main".into(), func: Some(func(&[], e)) });
    assert_eq!(reachable(&m).len(), 200_001);
    assert!(free_vars(&m, e).is_empty());
    let one = m.constant(Tensor::scalar(3f32));
    let first = post_order(&m, &[e])[0];
    assert!(rewrite_module(&mut m, &mut |_, id| (id == first).then_some(one)));
    m.compact();
    assert_eq!(m.exprs.len(), 200_001);
}
