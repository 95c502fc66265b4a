//! Each rule broken on purpose.

use super::*;
use crate::te::{Graph, create_prim_func};
use crate::tir::{Buffer, VarInfo};
use crate::types::TensorType;

fn padded(offset: i64) -> PrimFunc {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4], DType::F32);
    let p = g.compute("P", "pad", &TensorType::of(&[8], DType::F32), |i| {
        let at = i[0].clone() - 2;
        let inside = at.clone().ge(0).and(at.clone().lt(4));
        inside.select(a.at(&[at + offset]), Expr::float(0.0, DType::F32))
    });
    create_prim_func(&g, "f", &[a.id], &[p.id])
}

fn rules(func: &PrimFunc) -> Vec<String> {
    match verify(func) {
        Ok(()) => Vec::new(),
        Err(Diagnostics(found)) => {
            found.iter().map(|d| d.notes[0].split([' ', ',']).nth(1).unwrap_or("").to_string()).collect()
        }
    }
}

#[test]
fn guarded_accesses_are_proved() {
    assert!(rules(&padded(0)).is_empty());
    assert!(unproved_accesses(&padded(0)).is_empty());
    assert_eq!(unproved_accesses(&padded(1)), ["dimension 0 of a read of `A`"]);
    assert_eq!(rules(&padded(9)), ["T10"]);
}

#[test]
fn split_blocks_are_proved_by_their_predicate() {
    let mut f = PrimFunc::new("f");
    let (name, shape) = ("y".into(), vec![10]);
    let y = f.buffers.push(Buffer { name, shape, dtype: DType::I64, scope: Scope::Global });
    (f.params, f.outputs) = (vec![y], 1);
    let v = ["o", "i", "v"].map(|n| f.vars.push(VarInfo { name: n.into(), dtype: DType::I64 }));
    let var = |i: usize| Expr::new(ExprKind::Var(v[i]), DType::I64);
    let at = var(0) * 4 + var(1);
    let block = |predicate| Block {
        name: "y".into(),
        iters: vec![super::super::IterVar {
            var: v[2],
            extent: 10,
            kind: IterKind::Spatial,
            binding: at.clone(),
        }],
        predicate,
        reads: vec![],
        writes: vec![],
        attrs: Default::default(),
        allocs: vec![],
        init: None,
        body: Box::new(Stmt::Store { buffer: y, indices: vec![var(2)], value: var(2) }),
    };
    let nest = |block: Block| {
        let nested = |var, extent, body| Stmt::For {
            var,
            extent: Expr::int(extent),
            kind: LoopKind::Serial,
            body: Box::new(body),
        };
        nested(v[0], 3, nested(v[1], 4, Stmt::Block(Box::new(block))))
    };
    f.body = nest(block(Some(at.clone().lt(10))));
    assert!(rules(&f).is_empty());
    assert!(unproved_accesses(&f).is_empty());
    f.body = nest(block(None));
    assert_eq!(unproved_accesses(&f).len(), 1);
}

#[test]
fn violations_are_collected() {
    let mut f = padded(0);
    let a = f.params[0];
    let p = f.params[1];
    let stray = f.vars.push(VarInfo { name: "stray".into(), dtype: DType::I64 });
    let use_stray = Expr::new(ExprKind::Var(stray), DType::I64);
    let body = std::mem::replace(&mut f.body, Stmt::nop());
    let bad = vec![
        Stmt::Store { buffer: a, indices: vec![Expr::int(0)], value: Expr::float(1.0, DType::F32) },
        Stmt::Store { buffer: p, indices: vec![use_stray.clone()], value: Expr::float(1.0, DType::F32) },
        Stmt::Store { buffer: p, indices: vec![], value: Expr::float(1.0, DType::F32) },
        Stmt::Store { buffer: p, indices: vec![Expr::int(0)], value: Expr::int(1) },
        Stmt::Intrin { name: "nothing".into(), regions: vec![], params: vec![] },
    ];
    f.body = Stmt::Seq([vec![body.clone()], bad, vec![body]].concat());
    let mut found = rules(&f);
    found.dedup();
    assert_eq!(found, ["T8", "T4", "T7", "T6", "T12", "T4"]);
}

#[test]
fn declarations_and_tiles() {
    let mut f = padded(0);
    f.params.push(f.params[0]);
    f.outputs = 7;
    assert_eq!(rules(&f), ["T1", "T1"]);

    let mut f = padded(0);
    let t = f.vars.push(VarInfo { name: "t".into(), dtype: DType::I64 });
    let body = Box::new(std::mem::replace(&mut f.body, Stmt::nop()));
    let tiles = Stmt::For { var: t, extent: Expr::int(2), kind: LoopKind::Tiles, body };
    f.body = tiles.clone();
    assert!(rules(&f).is_empty());
    f.body = Stmt::If { cond: Expr::int(0).lt(1), then: Box::new(tiles), els: None };
    assert_eq!(rules(&f), ["T9"]);
}

#[test]
fn deep_functions_are_refused() {
    let mut f = padded(0);
    for _ in 0..200 {
        f.body = Stmt::If { cond: Expr::int(0).lt(1), then: Box::new(f.body), els: None };
    }
    assert_eq!(rules(&f), ["T3"]);
}
