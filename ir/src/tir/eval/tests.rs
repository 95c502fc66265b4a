//! Evaluation against plain loops.

use super::*;
use crate::scalar::{BinaryOp, UnaryOp};
use crate::te::{Combiner, Compute, Graph, Reduce, StageKind, create_prim_func};
use crate::tir::{Buffer, Expr, ExprKind, IterKind, LoopKind, Range, Region, Scope, Stmt, VarId, VarInfo};
use crate::types::{DType, TensorType};

fn f32s(shape: &[usize], f: impl Fn(usize) -> f32) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product()).map(f).collect();
    Tensor::from_slice(shape, &data).expect("a small tensor")
}

fn ty(shape: &[usize], dtype: DType) -> TensorType {
    TensorType::of(shape, dtype)
}

fn zeros(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::zeros(dtype, shape).expect("a small tensor")
}

fn values(t: &Tensor) -> &[f32] {
    t.as_slice().expect("f32")
}

#[test]
fn matmul_and_relu() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[3, 5], DType::F32);
    let b = g.placeholder("B", &[5, 4], DType::F32);
    let zero = Expr::float(0.0, DType::F32);
    let c = g.reduce("C", "matmul", &ty(&[3, 4], DType::F32), &[5], BinaryOp::Add, zero.clone(), |i, k| {
        a.at(&[i[0].clone(), k[0].clone()]) * b.at(&[k[0].clone(), i[1].clone()])
    });
    let d = g.compute("D", "relu", &ty(&[3, 4], DType::F32), |i| c.at(i).max(zero));
    let func = create_prim_func(&g, "f", &[a.id, b.id], &[d.id]);
    let (x, y) = (f32s(&[3, 5], |i| i as f32 - 7.0), f32s(&[5, 4], |i| (i * i % 7) as f32 - 2.0));
    let mut args = [x.clone(), y.clone(), zeros(DType::F32, &[3, 4])];
    run(&func, &mut args).expect("runs");
    for i in 0..3 {
        for j in 0..4 {
            let sum: f32 = (0..5).map(|k| values(&x)[i * 5 + k] * values(&y)[k * 4 + j]).sum();
            assert_eq!(values(&args[2])[i * 4 + j], sum.max(0.0));
        }
    }
}

#[test]
fn a_select_guards_its_loads() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4], DType::F32);
    let p = g.compute("P", "pad", &ty(&[8], DType::F32), |i| {
        let at = i[0].clone() - 2;
        let inside = at.clone().ge(0).and(at.clone().lt(4));
        inside.select(a.at(&[at]), Expr::float(9.0, DType::F32))
    });
    let func = create_prim_func(&g, "f", &[a.id], &[p.id]);
    let mut args = [f32s(&[4], |i| i as f32), zeros(DType::F32, &[8])];
    run(&func, &mut args).expect("runs");
    assert_eq!(values(&args[1]), [9.0, 9.0, 0.0, 1.0, 2.0, 3.0, 9.0, 9.0]);
}

#[test]
fn unguarded_loads_out_of_bounds_are_errors() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4], DType::F32);
    let p = g.compute("P", "bad", &ty(&[4], DType::F32), |i| a.at(&[i[0].clone() + 1]));
    let func = create_prim_func(&g, "f", &[a.id], &[p.id]);
    let error = run(&func, &mut [f32s(&[4], |_| 0.0), zeros(DType::F32, &[4])]).expect_err("out of bounds");
    assert_eq!(error.message, "index 4 of dimension 0 of `A` is not in 0..4");
}

#[test]
fn argmax_keeps_the_first() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[2, 4], DType::F32);
    let (i, k) = (g.axis("i", 2), g.axis("k", 4));
    let names = [("x0", DType::I64), ("x1", DType::F32), ("y0", DType::I64), ("y1", DType::F32)];
    let v = names.map(|(n, d)| g.var(n, d));
    let var = |n: usize| Expr::new(ExprKind::Var(v[n]), names[n].1);
    let keep = var(1).ge(var(3));
    let result = vec![keep.clone().select(var(0), var(2)), keep.select(var(1), var(3))];
    let combiner = Combiner::User { lhs: vec![v[0], v[1]], rhs: vec![v[2], v[3]], result };
    let identity = vec![Expr::int(-1), Expr::float(f64::NEG_INFINITY, DType::F32)];
    let reduce = Reduce { axes: vec![k.clone()], combiner, identity };
    let body = vec![k.expr(), a.at(&[i.expr(), k.expr()])];
    let index = g.tensor("index", &[2], DType::I64);
    let value = g.tensor("value", &[2], DType::F32);
    let compute = Compute { axes: vec![i], reduce: Some(reduce), body };
    g.push("argmax", "comm_reduce", &[index.id, value.id], StageKind::Compute(compute));
    let func = create_prim_func(&g, "f", &[a.id], &[index.id, value.id]);
    let x = Tensor::from_slice(&[2, 4], &[1f32, 7.0, 7.0, 2.0, -3.0, -5.0, -3.0, -9.0]).expect("8 elements");
    let mut args = [x, zeros(DType::I64, &[2]), zeros(DType::F32, &[2])];
    run(&func, &mut args).expect("runs");
    assert_eq!(args[1].as_slice::<i64>().expect("int64"), [1, 0]);
    assert_eq!(values(&args[2]), [7.0, -3.0]);
}

/// Every step selects between two uses of the step before: as a tree 2^60 loads.
#[test]
fn sharing_inside_selects_costs_nothing() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4], DType::F32);
    let p = g.compute("P", "chain", &ty(&[4], DType::F32), |i| {
        let mut x = a.at(i);
        for n in 0..60 {
            let c = i[0].clone().floor_mod(3).equal(Expr::int(n % 3));
            let one = Expr::float(1.0, DType::F32);
            x = c.select(x.clone() + one.clone() + (x.clone() - x.clone()), x.clone() - one);
        }
        x
    });
    let func = create_prim_func(&g, "f", &[a.id], &[p.id]);
    let program = Program::compile(&func).expect("compiles");
    assert!(program.code.len() < 2000, "{} instructions", program.code.len());
    let mut args = [f32s(&[4], |i| i as f32), zeros(DType::F32, &[4])];
    program.run(&mut args).expect("runs");
    assert_eq!(values(&args[1]), [-20.0, -19.0, -18.0, -17.0]);
}

/// `out[t * 4 + l] = exp(in[..])` through scratch memory, as tiles.
fn tiled() -> PrimFunc {
    let mut f = PrimFunc::new("kernel");
    let mut buffer = |name: &str, n: usize, scope| {
        f.buffers.push(Buffer { name: name.into(), shape: vec![n], dtype: DType::F32, scope })
    };
    let (x, y, tmp) =
        (buffer("x", 10, Scope::Global), buffer("y", 10, Scope::Global), buffer("tmp", 4, Scope::Local));
    let v = ["t", "i", "j"].map(|n| f.vars.push(VarInfo { name: n.into(), dtype: DType::I64 }));
    let var = |i: usize| Expr::new(ExprKind::Var(v[i]), DType::I64);
    let at = |i: usize| var(0) * 4 + var(i);
    let guarded = |i: usize, body: Stmt| Stmt::For {
        var: v[i],
        extent: Expr::int(4),
        kind: LoopKind::Serial,
        body: Box::new(Stmt::If { cond: at(i).lt(10), then: Box::new(body), els: None }),
    };
    let load = |b, i: Expr| Expr::new(ExprKind::Load(b, vec![i]), DType::F32);
    let copy = Stmt::Store { buffer: tmp, indices: vec![var(1)], value: load(x, at(1)).unary(UnaryOp::Neg) };
    let back = Stmt::Store { buffer: y, indices: vec![at(2)], value: load(tmp, var(2)) };
    let body = Stmt::Seq(vec![guarded(1, copy), guarded(2, back), Stmt::Checkpoint]);
    f.body = Stmt::For { var: v[0], extent: Expr::int(3), kind: LoopKind::Tiles, body: Box::new(body) };
    (f.params, f.outputs, f.allocs) = (vec![x, y], 1, vec![tmp]);
    f
}

#[test]
fn tiles_run_in_any_order() {
    let func = tiled();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut args = [f32s(&[10], |i| i as f32), zeros(DType::F32, &[10])];
        run_with(&func, &mut args, &order).expect("runs");
        assert_eq!(values(&args[1]), (0..10).map(|i| -(i as f32)).collect::<Vec<_>>());
    }
    let args = || [f32s(&[10], |_| 0.0), zeros(DType::F32, &[10])];
    assert!(run_with(&func, &mut args(), &[0, 1]).is_err());
    assert!(run_with(&func, &mut args(), &[0, 1, 1]).is_err());
    assert!(run_with(&func, &mut args(), &[0, 1, 3]).is_err());
}

#[test]
fn packed_gemm_is_a_matrix_product() {
    let (m, n, k, nr) = (3usize, 5usize, 4usize, 2usize);
    let mut f = PrimFunc::new("gemm");
    let mut buffer = |name: &str, shape: &[usize], scope| {
        f.buffers.push(Buffer { name: name.into(), shape: shape.to_vec(), dtype: DType::F32, scope })
    };
    let a = buffer("A", &[m, k], Scope::Global);
    let b = buffer("B", &[k, n], Scope::Global);
    let c = buffer("C", &[m, n], Scope::Global);
    let packed = buffer("Bp", &[n.div_ceil(nr), k, nr], Scope::Global);
    (f.params, f.outputs, f.allocs) = (vec![a, b, c], 1, vec![packed]);
    let full = |b| crate::tir::region::full_region(&f, b);
    let ints = |v: &[usize]| v.iter().map(|&n| Expr::from(n)).collect();
    let call = |name: &str, regions: Vec<Region>, params: Vec<Expr>| Stmt::Intrin {
        name: name.into(),
        regions,
        params,
    };
    f.body = Stmt::Seq(vec![
        call("pack_b_f32", vec![full(packed), full(b)], ints(&[n, k, nr])),
        call("gemm_f32", vec![full(c), full(a), full(packed)], ints(&[m, n, k, nr])),
    ]);
    let (x, y) = (f32s(&[m, k], |i| i as f32), f32s(&[k, n], |i| (i % 3) as f32));
    let mut args = [x.clone(), y.clone(), zeros(DType::F32, &[m, n])];
    run(&f, &mut args).expect("runs");
    for i in 0..m {
        for j in 0..n {
            let sum: f32 = (0..k).map(|p| values(&x)[i * k + p] * values(&y)[p * n + j]).sum();
            assert_eq!(values(&args[2])[i * n + j], sum);
        }
    }
    let Stmt::Seq(stmts) = &mut f.body else { panic!("built above") };
    let Stmt::Intrin { params, .. } = &mut stmts[1] else { panic!("built above") };
    params[0] = Expr::int(4);
    let error = run(&f, &mut args).expect_err("too many rows");
    assert!(error.message.contains("has extent 3, but 4 is called for"), "{}", error.message);
}

#[test]
fn convolution_intrinsic_pads_and_strides() {
    let (ic, h, w, oc, kh, kw, mr) = (2usize, 5usize, 4usize, 3usize, 3usize, 2usize, 2usize);
    let (oh, ow) = (3usize, 3usize);
    let mut f = PrimFunc::new("conv");
    let mut buffer = |name: &str, shape: &[usize]| {
        let (name, shape) = (name.into(), shape.to_vec());
        f.buffers.push(Buffer { name, shape, dtype: DType::F32, scope: Scope::Global })
    };
    let x = buffer("X", &[1, ic, h, w]);
    let wp = buffer("W", &[oc.div_ceil(mr), ic * kh * kw, mr]);
    let y = buffer("Y", &[1, oc, oh, ow]);
    (f.params, f.outputs) = (vec![x, wp, y], 1);
    // Rows 1 and 2 of the output only.
    let mut part = crate::tir::region::full_region(&f, y);
    part.ranges[2] = Range { min: Expr::int(1), extent: Expr::int(2) };
    let full = |b| crate::tir::region::full_region(&f, b);
    let params = [oc, 1, 0, 2, ow, ow, ic, h, w, kh, kw, 2, 1, 1, 0, 1, 1, mr];
    f.body = Stmt::Intrin {
        name: "conv2d_f32".into(),
        regions: vec![part, full(x), full(wp)],
        params: params.iter().map(|&n| Expr::from(n)).collect(),
    };
    let input = f32s(&[1, ic, h, w], |i| (i % 7) as f32);
    let weights = f32s(&[oc.div_ceil(mr), ic * kh * kw, mr], |i| (i % 5) as f32 - 2.0);
    let mut args = [input.clone(), weights.clone(), zeros(DType::F32, &[1, oc, oh, ow])];
    run(&f, &mut args).expect("runs");
    let at = |c: usize, i: i64, j: i64| {
        let inside = (0..h as i64).contains(&i) && (0..w as i64).contains(&j);
        if inside { values(&input)[(c * h + i as usize) * w + j as usize] } else { 0.0 }
    };
    for (o, i, j) in (0..oc).flat_map(|o| (0..oh).flat_map(move |i| (0..ow).map(move |j| (o, i, j)))) {
        let mut sum = 0.0;
        for (c, r, s) in (0..ic).flat_map(|c| (0..kh).flat_map(move |r| (0..kw).map(move |s| (c, r, s)))) {
            let weight = values(&weights)[((o / mr) * ic * kh * kw + (c * kh + r) * kw + s) * mr + o % mr];
            sum += weight * at(c, (i * 2 + r) as i64 - 1, (j + s) as i64);
        }
        let expected = if i == 0 { 0.0 } else { sum };
        assert_eq!(values(&args[2])[(o * oh + i) * ow + j], expected, "{o} {i} {j}");
    }
}

#[test]
fn blocks_run_where_the_predicate_holds_and_start_with_the_init() {
    // sum of x[0..10] in chunks of 4: `k = ko * 4 + ki`, where k < 10.
    let mut f = PrimFunc::new("sum");
    let mut buffer = |name: &str, shape: &[usize]| {
        let (name, shape) = (name.into(), shape.to_vec());
        f.buffers.push(Buffer { name, shape, dtype: DType::I32, scope: Scope::Global })
    };
    let (x, y) = (buffer("x", &[10]), buffer("y", &[]));
    (f.params, f.outputs) = (vec![x, y], 1);
    let v: Vec<VarId> =
        ["ko", "ki", "vk"].map(|n| f.vars.push(VarInfo { name: n.into(), dtype: DType::I64 })).into();
    let var = |i: usize| Expr::new(ExprKind::Var(v[i]), DType::I64);
    let k = var(0) * 4 + var(1);
    let load = |b, at: Vec<Expr>| Expr::new(ExprKind::Load(b, at), DType::I32);
    let store = |value| Stmt::Store { buffer: y, indices: vec![], value };
    let block = crate::tir::Block {
        name: "sum".into(),
        iters: vec![crate::tir::IterVar {
            var: v[2],
            extent: 10,
            kind: IterKind::Reduce,
            binding: k.clone(),
        }],
        predicate: Some(k.lt(10)),
        reads: vec![],
        writes: vec![],
        attrs: Default::default(),
        allocs: vec![],
        init: Some(Box::new(store(Expr::int(0).cast(DType::I32)))),
        body: Box::new(store(load(y, vec![]) + load(x, vec![var(2)]))),
    };
    let inner = Stmt::For {
        var: v[1],
        extent: Expr::int(4),
        kind: LoopKind::Serial,
        body: Box::new(Stmt::Block(Box::new(block))),
    };
    f.body = Stmt::For { var: v[0], extent: Expr::int(3), kind: LoopKind::Serial, body: Box::new(inner) };
    let input = Tensor::from_slice(&[10], &(1..=10).collect::<Vec<i32>>()).expect("10 elements");
    let mut args = [input, Tensor::scalar(77i32)];
    run(&f, &mut args).expect("runs");
    assert_eq!(args[1].as_slice::<i32>().expect("int32"), [55]);
}

#[test]
fn empty_tensors_and_wrong_arguments() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[0, 4], DType::F16);
    let p = g.compute("P", "exp", &ty(&[0, 4], DType::F16), |i| a.at(i).unary(UnaryOp::Exp));
    let func = create_prim_func(&g, "f", &[a.id], &[p.id]);
    let empty = zeros(DType::F16, &[0, 4]);
    run(&func, &mut [empty.clone(), empty.clone()]).expect("nothing to do");
    assert!(run(&func, &mut [empty.clone()]).is_err());
    assert!(run(&func, &mut [empty.clone(), zeros(DType::F32, &[0, 4])]).is_err());
    let one = Expr::float(1.0, DType::F16);
    let product = g.reduce("S", "prod", &ty(&[2], DType::F16), &[0], BinaryOp::Mul, one, |i, k| {
        a.at(&[k[0].clone(), i[0].clone()])
    });
    let func = create_prim_func(&g, "f", &[a.id], &[product.id]);
    let mut args = [zeros(DType::F16, &[0, 4]), zeros(DType::F16, &[2])];
    run(&func, &mut args).expect("runs");
    assert_eq!(args[1].as_slice::<half::f16>().expect("f16"), [half::f16::ONE; 2]);
}
