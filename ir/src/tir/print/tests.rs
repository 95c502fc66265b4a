//! The text of functions made from Tensor Expressions.

use super::*;
use crate::scalar::{BinaryOp, CmpOp, UnaryOp};
use crate::te::{Combiner, Compute, Graph, Reduce, StageKind, create_prim_func};
use crate::tir::{Range, VarInfo};
use crate::types::TensorType;

fn f32s(shape: &[usize]) -> TensorType {
    TensorType::of(shape, DType::F32)
}

fn matmul() -> PrimFunc {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[128, 128], DType::F32);
    let b = g.placeholder("B", &[128, 128], DType::F32);
    let (x, y, k) = (g.axis("x", 128), g.axis("y", 128), g.axis("k", 128));
    let body = a.at(&[x.expr(), k.expr()]) * b.at(&[y.expr(), k.expr()]);
    let reduce = Reduce {
        axes: vec![k],
        combiner: Combiner::Binary(BinaryOp::Add),
        identity: vec![Expr::float(0.0, DType::F32)],
    };
    let compute = Compute { axes: vec![x, y], reduce: Some(reduce), body: vec![body] };
    let c = g.push_compute("C", "matmul", &[128, 128], DType::F32, compute);
    create_prim_func(&g, "main", &[a.id, b.id], &[c.id])
}

#[test]
fn matmul_prints_as_tvm_does() {
    let expected = r#"# from tvm.script import tir as T

@T.prim_func
def main(A: T.Buffer((128, 128), "float32"), B: T.Buffer((128, 128), "float32"), C: T.Buffer((128, 128), "float32")):
    T.func_attr({"tir.noalias": T.bool(True)})
    # with T.block("root"):
    for x, y, k in T.grid(128, 128, 128):
        with T.block("C"):
            v_x, v_y, v_k = T.axis.remap("SSR", [x, y, k])
            T.reads(A[v_x, v_k], B[v_y, v_k])
            T.writes(C[v_x, v_y])
            with T.init():
                C[v_x, v_y] = T.float32(0)
            C[v_x, v_y] = C[v_x, v_y] + A[v_x, v_k] * B[v_y, v_k]
"#;
    assert_eq!(print(&matmul()), expected);
}

fn body_text(func: &PrimFunc) -> String {
    let text = print(func);
    text.split_once("# with T.block(\"root\"):\n").map(|(_, body)| body.to_string()).unwrap_or_default()
}

#[test]
fn intermediates_ranks_and_windows() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[9], DType::F32);
    let d = g.compute("D", "injective", &f32s(&[8]), |i| {
        let next = a.at(&[i[0].clone() + 1]);
        i[0].clone().lt(4).select(a.at(i) - next, Expr::float(0.5, DType::F32))
    });
    let s = g.compute("S", "elemwise", &f32s(&[]), |_| d.at(&[Expr::int(3)]).unary(UnaryOp::Exp));
    let func = create_prim_func(&g, "f", &[a.id], &[s.id]);
    let expected = r#"    D = T.alloc_buffer((8,))
    for i0 in range(8):
        with T.block("D"):
            v_i0 = T.axis.spatial(8, i0)
            T.reads(A[v_i0:v_i0 + 2])
            T.writes(D[v_i0])
            D[v_i0] = T.if_then_else(v_i0 < 4, A[v_i0] - A[v_i0 + 1], T.float32(0.5))
    with T.block("S"):
        vi = T.axis.spatial(1, 0)
        T.reads(D[3])
        T.writes(S[()])
        S[()] = T.exp(D[3])
"#;
    assert_eq!(body_text(&func), expected);
}

#[test]
fn tuple_reductions_bind_their_results_first() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4, 8], DType::F32);
    let (i, k) = (g.axis("i", 4), g.axis("k", 8));
    let names = [("x0", DType::I64), ("x1", DType::F32), ("y0", DType::I64), ("y1", DType::F32)];
    let v = names.map(|(n, d)| g.var(n, d));
    let var = |n: usize| Expr::new(ExprKind::Var(v[n]), names[n].1);
    let keep = var(1).cmp(CmpOp::Ge, var(3));
    let result = vec![keep.clone().select(var(0), var(2)), keep.select(var(1), var(3))];
    let combiner = Combiner::User { lhs: vec![v[0], v[1]], rhs: vec![v[2], v[3]], result };
    let identity = vec![Expr::int(-1), Expr::float(f64::NEG_INFINITY, DType::F32)];
    let reduce = Reduce { axes: vec![k.clone()], combiner, identity };
    let body = vec![k.expr(), a.at(&[i.expr(), k.expr()])];
    let index = g.tensor("index", &[4], DType::I64);
    let value = g.tensor("value", &[4], DType::F32);
    let compute = Compute { axes: vec![i], reduce: Some(reduce), body };
    g.push("argmax", "comm_reduce", &[index.id, value.id], StageKind::Compute(compute));
    let func = create_prim_func(&g, "f", &[a.id], &[index.id, value.id]);
    let expected = r#"    for i, k in T.grid(4, 8):
        with T.block("argmax"):
            v_i, v_k = T.axis.remap("SR", [i, k])
            T.reads(A[v_i, v_k])
            T.writes(index[v_i], value[v_i])
            with T.init():
                index[v_i] = -1
                value[v_i] = T.float32("-inf")
            v_index: T.int64 = T.if_then_else(value[v_i] >= A[v_i, v_k], index[v_i], v_k)
            v_value: T.float32 = T.if_then_else(value[v_i] >= A[v_i, v_k], value[v_i], A[v_i, v_k])
            index[v_i] = v_index
            value[v_i] = v_value
"#;
    assert_eq!(body_text(&func), expected);
}

#[test]
fn outputs_that_are_inputs_are_copied() {
    let mut g = Graph::new();
    let a = g.placeholder("A", &[4], DType::F32);
    let func = create_prim_func(&g, "f", &[a.id], &[a.id, a.id]);
    assert_eq!(func.outputs, 2);
    let text = body_text(&func);
    assert!(text.contains("A_copy[v_i0] = A[v_i0]") && text.contains("A_copy_1[v_i0] = A[v_i0]"), "{text}");
}

#[test]
fn every_kind_of_loop_and_statement() {
    let mut f = PrimFunc::new("kernel");
    let buffer =
        |name: &str, scope| Buffer { name: name.into(), shape: vec![64, 64], dtype: DType::F32, scope };
    let out = f.buffers.push(buffer("out", Scope::Global));
    let tmp = f.buffers.push(buffer("tmp", Scope::Shared));
    (f.params, f.outputs) = (vec![out], 1);
    let vars: Vec<VarId> =
        ["t", "x", "y", "n"].map(|n| f.vars.push(VarInfo { name: n.into(), dtype: DType::I64 })).into();
    let var = |i: usize| Expr::new(ExprKind::Var(vars[i]), DType::I64);
    let region = |b, min: Expr| Region {
        buffer: b,
        ranges: vec![
            Range { min, extent: Expr::int(16) },
            Range { min: Expr::int(0), extent: Expr::int(64) },
        ],
    };
    let call = Stmt::Intrin {
        name: "pack_a_f32".into(),
        regions: vec![region(out, var(0) * 16), region(tmp, Expr::int(0))],
        params: vec![var(3), Expr::new(ExprKind::Load(out, vec![var(0), var(1)]), DType::I64)],
    };
    let store = Stmt::Store {
        buffer: tmp,
        indices: vec![var(1), var(2)],
        value: -(Expr::float(1e-7, DType::F32)
            * Expr::new(ExprKind::Var(vars[1]), DType::I64).cast(DType::F32)),
    };
    let inner = Stmt::For { var: vars[2], extent: var(1), kind: LoopKind::Vectorized, body: Box::new(store) };
    let outer = Stmt::For {
        var: vars[1],
        extent: Expr::int(64),
        kind: LoopKind::ThreadBinding("threadIdx.x".into()),
        body: Box::new(inner),
    };
    let cond = Stmt::If {
        cond: var(0).lt(3).and(var(0).ge(1)),
        then: Box::new(Stmt::Checkpoint),
        els: Some(Box::new(Stmt::nop())),
    };
    let bind = Stmt::Let { var: vars[3], value: (var(0) - (var(0) - 1)).floor_mod(7) };
    let tile = Stmt::Seq(vec![bind, call, Stmt::Seq(vec![outer, cond])]);
    f.body = Stmt::For { var: vars[0], extent: Expr::int(4), kind: LoopKind::Tiles, body: Box::new(tile) };
    f.allocs = vec![tmp];
    let expected = r#"    tmp = T.alloc_buffer((64, 64), scope="shared")
    for t in T.tiles(4):
        n: T.int64 = (t - (t - 1)) % 7
        T.tensor_intrin("pack_a_f32", out[t * 16:t * 16 + 16, 0:64], tmp[0:16, 0:64], n, (out[t, x?]))
        for x in T.thread_binding(64, thread="threadIdx.x"):
            for y in T.vectorized(x):
                tmp[x, y] = -(T.float32(1e-7) * T.Cast("float32", x))
        if t < 3 and t >= 1:
            T.checkpoint()
        else:
            T.evaluate(0)
"#;
    assert_eq!(body_text(&f).replace("i1?", "x?"), expected);
}

#[test]
fn literals_are_short_and_exact() {
    use crate::scalar::Scalar;
    use half::{bf16, f16};
    let text = expr::literal;
    assert_eq!(text(Scalar::of(0.1f32)), "T.float32(0.1)");
    assert_eq!(text(Scalar::of(-0.0f32)), "T.float32(-0)");
    assert_eq!(text(Scalar::of(f16::from_f32(0.1))), "T.float16(0.1)");
    assert_eq!(text(Scalar::of(bf16::from_f32(3.1))), "T.bfloat16(3.1)");
    assert_eq!(text(Scalar::of(f64::NAN)), "T.float64(\"nan\")");
    assert_eq!(text(Scalar::of(f32::from_bits(0x7fc0_0001))), "T.float32(\"nan:7fc00001\")");
    assert_eq!(text(Scalar::of(-7i8)), "T.int8(-7)");
    assert_eq!(text(Scalar::of(u64::MAX)), "T.uint64(18446744073709551615)");
    assert_eq!(text(Scalar::from_i64(DType::Bool, 1)), "T.bool(True)");
}
