//! Whole functions, compiled, against the evaluator of TIR: loops of every kind, blocks with
//! predicates and reductions, guarded loads, lets, allocations, tiles.

use std::sync::Arc;

use fermata_codegen::cpu::compile;
use fermata_codegen::exec_memory::ExecMemory;
use fermata_ir::scalar::{BinaryOp, Scalar, UnaryOp};
use fermata_ir::te::expr::{Combiner, Compute, Graph, Reduce};
use fermata_ir::te::primfunc::create_prim_func;
use fermata_ir::tensor::Tensor;
use fermata_ir::tir::{
    Block, Buffer, BufferId, Expr, ExprKind, IterKind, IterVar, LoopKind, PrimFunc, Scope, Stmt, VarId,
    VarInfo,
};
use fermata_ir::types::{DType, TensorType};
use fermata_passes::target::{CpuFeatures, CpuTarget};
use fermata_runtime::memory::AlignedBytes;
use fermata_runtime::{detect, microkernel};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    /// A tensor of small numbers that every dtype has.
    fn tensor(&mut self, shape: &[usize], dtype: DType) -> Tensor {
        let len: usize = shape.iter().product();
        let values = (0..len).map(|_| Scalar::from_f64(dtype, (self.next() % 64) as f64 / 8.0));
        let bytes: Vec<u8> = values.flat_map(|v| v.bits().to_le_bytes()[..dtype.bytes()].to_vec()).collect();
        Tensor::from_bytes(dtype, shape, &bytes).expect("small")
    }
}

fn run_compiled(func: &PrimFunc, inputs: &[Tensor], features: CpuFeatures) -> Vec<Tensor> {
    let target = CpuTarget { features, ..CpuTarget::default() };
    let kernel = compile(func, &target).expect("it compiles");
    let memory = ExecMemory::new(std::slice::from_ref(&kernel)).expect("executable memory");
    let blocks: Vec<AlignedBytes> = func
        .params
        .iter()
        .enumerate()
        .map(|(at, &id)| match inputs.get(at) {
            Some(tensor) => AlignedBytes::copy_of(tensor.bytes()),
            None => AlignedBytes::zeroed(func.buffers[id].shape.iter().product::<usize>() * 8),
        })
        .collect();
    let pointers: Vec<*mut u8> = blocks.iter().map(AlignedBytes::as_ptr).collect();
    let imports: Vec<*const ()> =
        kernel.imports.iter().map(|name| microkernel::resolve(name, features).expect(name)).collect();
    let mut scratch = AlignedBytes::zeroed(kernel.scratch_bytes);
    for tile in (0..kernel.tiles).rev() {
        scratch.as_mut_slice().fill(0xff);
        // SAFETY: buffers, scratch memory and imports are what the kernel asked for.
        unsafe { memory.function(0)(pointers.as_ptr(), scratch.as_ptr(), imports.as_ptr(), tile) };
    }
    let outputs = func.output_params().iter().zip(blocks[inputs.len()..].iter());
    outputs
        .map(|(&id, block)| {
            let buffer = &func.buffers[id];
            let len = buffer.shape.iter().product::<usize>() * buffer.dtype.bytes();
            // SAFETY: the block has at least as many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), len) };
            Tensor::from_bytes(buffer.dtype, &buffer.shape, bytes).expect("small")
        })
        .collect()
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    let scalars = |t: &Tensor| -> Vec<f64> {
        let width = t.dtype().bytes();
        let one = |c: &[u8]| {
            let mut word = [0u8; 8];
            word[..width].copy_from_slice(c);
            Scalar::from_bits(t.dtype(), u64::from_le_bytes(word)).as_f64()
        };
        t.bytes().chunks(width).map(one).collect()
    };
    let tolerance = match a.dtype() {
        DType::F16 | DType::BF16 => 1e-2,
        DType::F32 => 1e-5,
        _ => 0.0,
    };
    let same = |(x, y): (f64, f64)| {
        x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * y.abs().max(1.0)
    };
    scalars(a).into_iter().zip(scalars(b)).all(same)
}

/// Compares a function, with every choice of one spatial loop to vectorise and with its loops
/// unrolled, with the evaluator.
fn check(func: &PrimFunc) {
    let mut random = Random(0x5eed);
    let inputs: Vec<Tensor> = func
        .inputs()
        .iter()
        .map(|&id| random.tensor(&func.buffers[id].shape, func.buffers[id].dtype))
        .collect();
    let mut args = inputs.clone();
    args.extend(
        func.output_params()
            .iter()
            .map(|&id| Tensor::zeros(func.buffers[id].dtype, &func.buffers[id].shape).expect("small")),
    );
    fermata_ir::tir::eval::run(func, &mut args).expect("it evaluates");
    let want = &args[inputs.len()..];
    let mut variants = vec![func.clone(), with_kinds(func, |_, _| Some(LoopKind::Unrolled))];
    let spatial = spatial_loops(func);
    for chosen in &spatial {
        variants.push(with_kinds(func, |var, _| (var == *chosen).then_some(LoopKind::Vectorized)));
    }
    variants.push(with_kinds(func, |var, innermost| {
        (spatial.contains(&var) && innermost).then_some(LoopKind::Vectorized)
    }));
    for (at, variant) in variants.iter().enumerate() {
        for features in [detect::features(), CpuFeatures::default()] {
            let got = run_compiled(variant, &inputs, features);
            for (got, want) in got.iter().zip(want) {
                assert!(close(got, want), "{} variant {at}: {got:?} is not {want:?}", func.name);
            }
        }
    }
}

/// The function with loops of other kinds: the closure sees each serial loop and whether no
/// other loop is inside.
fn with_kinds(func: &PrimFunc, choose: impl Fn(VarId, bool) -> Option<LoopKind>) -> PrimFunc {
    fn go(stmt: &mut Stmt, choose: &dyn Fn(VarId, bool) -> Option<LoopKind>) -> bool {
        match stmt {
            Stmt::Seq(list) => list.iter_mut().fold(false, |any, s| go(s, choose) | any),
            Stmt::For { var, kind, body, .. } => {
                let inner = go(body, choose);
                if matches!(kind, LoopKind::Serial | LoopKind::Parallel) {
                    *kind = choose(*var, !inner).unwrap_or(kind.clone());
                }
                true
            }
            Stmt::Block(block) => go(&mut block.body, choose),
            Stmt::If { then, els, .. } => go(then, choose) | els.as_mut().is_some_and(|els| go(els, choose)),
            Stmt::Let { .. }
            | Stmt::Store { .. }
            | Stmt::Intrin { .. }
            | Stmt::Checkpoint
            | Stmt::Barrier => false,
        }
    }
    let mut func = func.clone();
    go(&mut func.body, &choose);
    func
}

/// The loops that some spatial axis of a block is bound to, and no reduce axis.
fn spatial_loops(func: &PrimFunc) -> Vec<VarId> {
    let (mut spatial, mut reduce) = (Vec::new(), Vec::new());
    let mut stack = vec![&func.body];
    while let Some(stmt) = stack.pop() {
        match stmt {
            Stmt::Seq(list) => stack.extend(list),
            Stmt::For { body, .. } => stack.push(body),
            Stmt::Block(block) => {
                for iter in &block.iters {
                    let mut exprs = vec![&iter.binding];
                    while let Some(e) = exprs.pop() {
                        match e.kind() {
                            ExprKind::Var(v) if iter.kind == IterKind::Spatial => spatial.push(*v),
                            ExprKind::Var(v) => reduce.push(*v),
                            ExprKind::Binary(_, a, b) => exprs.extend([a, b]),
                            _ => {}
                        }
                    }
                }
                stack.push(&block.body);
            }
            _ => {}
        }
    }
    spatial.retain(|v| !reduce.contains(v));
    spatial
}

fn ty(shape: &[usize], dtype: DType) -> TensorType {
    TensorType::of(shape, dtype)
}

fn zero(dtype: DType) -> Expr {
    Expr::constant(Scalar::from_i64(dtype, 0))
}

#[test]
fn products_and_chains() {
    for dtype in DType::ALL {
        let mut g = Graph::new();
        let (m, n, k) = (5, 11, 7);
        let a = g.placeholder("a", &[m, k], dtype);
        let b = g.placeholder("b", &[k, n], dtype);
        let c = g.reduce("c", "matmul", &ty(&[m, n], dtype), &[k], BinaryOp::Add, zero(dtype), |i, r| {
            a.at(&[i[0].clone(), r[0].clone()]) * b.at(&[r[0].clone(), i[1].clone()])
        });
        let d = g.compute("d", "injective", &ty(&[n, m], dtype), |i| {
            c.at(&[i[1].clone(), i[0].clone()]).max(zero(dtype)) + a.at(&[i[1].clone(), Expr::int(2)])
        });
        check(&create_prim_func(&g, &format!("product_{dtype}"), &[a.id, b.id], &[c.id, d.id]));
    }
}

#[test]
fn softmax_and_reductions_over_several_axes() {
    let mut g = Graph::new();
    let x = g.placeholder("x", &[6, 9], DType::F32);
    let low = Expr::float(f64::NEG_INFINITY, DType::F32);
    let max = g.reduce("max", "", &ty(&[6], DType::F32), &[9], BinaryOp::Max, low, |i, k| {
        x.at(&[i[0].clone(), k[0].clone()])
    });
    let e = g.compute("e", "", &ty(&[6, 9], DType::F32), |i| (x.at(i) - max.at(&i[..1])).unary(UnaryOp::Exp));
    let sum = g.reduce("sum", "", &ty(&[6], DType::F32), &[9], BinaryOp::Add, zero(DType::F32), |i, k| {
        e.at(&[i[0].clone(), k[0].clone()])
    });
    let y = g.compute("y", "", &ty(&[6, 9], DType::F32), |i| e.at(i) / sum.at(&i[..1]));
    let all =
        g.reduce("all", "", &ty(&[], DType::F32), &[6, 9], BinaryOp::Add, zero(DType::F32), |_, k| y.at(k));
    check(&create_prim_func(&g, "softmax", &[x.id], &[y.id, all.id]));
}

#[test]
fn guarded_loads_and_index_arithmetic() {
    for dtype in [DType::F32, DType::F16, DType::I8, DType::I64, DType::F64, DType::Bool] {
        let mut g = Graph::new();
        let x = g.placeholder("x", &[4, 10], dtype);
        let pad = g.compute("pad", "", &ty(&[6, 13], dtype), |i| {
            let inside =
                i[0].clone().ge(1).and(i[0].clone().lt(5)).and(i[1].clone().ge(2)).and(i[1].clone().lt(12));
            inside.select(
                x.at(&[i[0].clone() - 1, i[1].clone() - 2]),
                Expr::constant(Scalar::from_i64(dtype, 1)),
            )
        });
        let flat = g.compute("flat", "", &ty(&[78], dtype), |i| {
            pad.at(&[i[0].clone().floor_div(13), i[0].clone().floor_mod(13)])
        });
        let swap = g.compute("swap", "", &ty(&[8, 8], dtype), |i| {
            let f = i[0].clone() * 8 + i[1].clone();
            flat.at(&[f.clone().floor_div(4) * 4 + f.floor_mod(4)])
        });
        let strided =
            g.compute("strided", "", &ty(&[39], dtype), |i| flat.at(&[Expr::int(77) - i[0].clone() * 2]));
        check(&create_prim_func(&g, &format!("index_{dtype}"), &[x.id], &[flat.id, swap.id, strided.id]));
    }
}

#[test]
fn gathers_read_where_data_says() {
    let mut g = Graph::new();
    let x = g.placeholder("x", &[9, 5], DType::F32);
    let index = g.placeholder("index", &[7], DType::I64);
    let y = g.compute("y", "", &ty(&[7, 5], DType::F32), |i| {
        let row = index.at(&i[..1]).max(Expr::int(0)).min(Expr::int(8));
        x.at(&[row, i[1].clone()])
    });
    let z = g.compute("z", "", &ty(&[7], DType::F32), |i| {
        index.at(i).cast(DType::F32) * i[0].clone().cast(DType::F32)
    });
    check(&create_prim_func(&g, "gather", &[x.id, index.id], &[y.id, z.id]));
}

#[test]
fn argmax_by_a_reducer_of_two() {
    let mut g = Graph::new();
    let x = g.placeholder("x", &[5, 12], DType::F32);
    let (axes, k) = (g.spatial_axes(&[5]), g.axis("k", 12));
    let [l0, r0] = ["l0", "r0"].map(|n| g.var(n, DType::I32));
    let [l1, r1] = ["l1", "r1"].map(|n| g.var(n, DType::F32));
    let var = |v, d| Expr::new(ExprKind::Var(v), d);
    let better = var(r1, DType::F32).cmp(fermata_ir::scalar::CmpOp::Gt, var(l1, DType::F32));
    let result = vec![
        better.clone().select(var(r0, DType::I32), var(l0, DType::I32)),
        better.select(var(r1, DType::F32), var(l1, DType::F32)),
    ];
    let body = vec![k.expr().cast(DType::I32), x.at(&[axes[0].expr(), k.expr()])];
    let identity = vec![Expr::constant(Scalar::of(-1i32)), Expr::float(f64::NEG_INFINITY, DType::F32)];
    let combiner = Combiner::User { lhs: vec![l0, l1], rhs: vec![r0, r1], result };
    let reduce = Some(Reduce { axes: vec![k], combiner, identity });
    let at = g.tensor("at", &[5], DType::I32);
    let value = g.tensor("value", &[5], DType::F32);
    let compute = fermata_ir::te::expr::StageKind::Compute(Compute { axes, reduce, body });
    g.push("argmax", "", &[at.id, value.id], compute);
    check(&create_prim_func(&g, "argmax", &[x.id], &[at.id, value.id]));
}

/// Names and builds what the tests below need by hand.
struct Build(PrimFunc);

impl Build {
    fn new(name: &str) -> Build {
        Build(PrimFunc::new(name))
    }

    fn var(&mut self, name: &str, dtype: DType) -> VarId {
        self.0.vars.push(VarInfo { name: name.into(), dtype })
    }

    fn buffer(&mut self, name: &str, shape: &[usize], dtype: DType, scope: Scope) -> BufferId {
        self.0.buffers.push(Buffer { name: name.into(), shape: shape.to_vec(), dtype, scope })
    }

    fn param(&mut self, name: &str, shape: &[usize], dtype: DType) -> BufferId {
        let id = self.buffer(name, shape, dtype, Scope::Global);
        self.0.params.push(id);
        id
    }

    fn load(&self, id: BufferId, indices: &[Expr]) -> Expr {
        Expr::new(ExprKind::Load(id, indices.to_vec()), self.0.buffers[id].dtype)
    }

    fn block(
        name: &str,
        iters: Vec<IterVar>,
        predicate: Option<Expr>,
        allocs: Vec<BufferId>,
        body: Stmt,
    ) -> Stmt {
        Stmt::Block(Box::new(Block {
            name: name.into(),
            iters,
            predicate,
            reads: Vec::new(),
            writes: Vec::new(),
            attrs: Default::default(),
            allocs,
            init: None,
            body: Box::new(body),
        }))
    }
}

fn int(v: VarId) -> Expr {
    Expr::new(ExprKind::Var(v), DType::I64)
}

fn for_(var: VarId, n: i64, kind: LoopKind, body: Stmt) -> Stmt {
    Stmt::For { var, extent: Expr::int(n), kind, body: Box::new(body) }
}

fn store(buffer: BufferId, index: Expr, value: Expr) -> Stmt {
    Stmt::Store { buffer, indices: vec![index], value }
}

#[test]
fn tiles_with_predicates_lets_and_scratch() {
    for n in [1usize, 7, 16, 30, 33] {
        let mut b = Build::new("tiles");
        let x = b.param("x", &[n], DType::F32);
        let y = b.param("y", &[n], DType::F32);
        b.0.outputs = 1;
        let (t, i, v) = (b.var("t", DType::I64), b.var("i", DType::I64), b.var("v", DType::I64));
        let (j, w) = (b.var("j", DType::I64), b.var("w", DType::F32));
        let scratch = b.buffer("s", &[8], DType::F32, Scope::Shared);
        let one = b.buffer("one", &[1], DType::F32, Scope::Local);
        let at = |k: Expr| k.min(Expr::int(n as i64 - 1));
        let fill = for_(
            j,
            8,
            LoopKind::Vectorized,
            store(scratch, int(j), b.load(x, &[at(int(t) * 8 + int(j))]) + Expr::float(1.0, DType::F32)),
        );
        let let_w = Stmt::Let { var: w, value: b.load(scratch, &[int(v).floor_mod(8)]) };
        let w_value = Expr::new(ExprKind::Var(w), DType::F32);
        let write = store(y, int(v), w_value.clone() * w_value + b.load(one, &[Expr::int(0)]));
        let iter =
            IterVar { var: v, extent: n as i64, kind: IterKind::Spatial, binding: int(t) * 8 + int(i) };
        let guard = (int(t) * 8 + int(i)).lt(Expr::int(n as i64));
        let inner = Build::block("write", vec![iter], Some(guard), vec![], Stmt::Seq(vec![let_w, write]));
        let body = Stmt::Seq(vec![
            store(one, Expr::int(0), int(t).cast(DType::F32)),
            fill,
            for_(i, 8, LoopKind::Serial, inner),
        ]);
        let root = Build::block("root", vec![], None, vec![scratch, one], body);
        let tile = Stmt::Seq(vec![root, Stmt::Checkpoint]);
        b.0.body = for_(t, n.div_ceil(8) as i64, LoopKind::Tiles, tile);
        fermata_ir::tir::verify::verify(&b.0).expect("well formed");
        check(&b.0);
    }
}

#[test]
fn conditions_by_data_and_loops_of_computed_length() {
    let mut b = Build::new("control");
    let x = b.param("x", &[10], DType::I32);
    let y = b.param("y", &[10], DType::I32);
    b.0.outputs = 1;
    let (i, k) = (b.var("i", DType::I64), b.var("k", DType::I64));
    let value = b.load(x, &[int(i)]);
    let two = Expr::constant(Scalar::of(2i32));
    let odd = value.clone().binary(BinaryOp::FloorMod, two.clone()).equal(Expr::constant(Scalar::of(1i32)));
    let count = value.clone().cast(DType::I64).max(Expr::int(0)).min(Expr::int(9));
    let add = store(y, int(i), b.load(y, &[int(i)]) + b.load(x, &[int(k)]));
    let sum = Stmt::For { var: k, extent: count, kind: LoopKind::Serial, body: Box::new(add) };
    let then = Stmt::Seq(vec![store(y, int(i), zero(DType::I32)), sum]);
    let choose =
        Stmt::If { cond: odd, then: Box::new(then), els: Some(Box::new(store(y, int(i), value * two))) };
    b.0.body = for_(i, 10, LoopKind::Serial, choose);
    check(&b.0);
}

#[test]
fn vectors_of_computed_length() {
    for n in [1usize, 3, 4, 21, 32] {
        let mut b = Build::new("ragged");
        let x = b.param("x", &[n], DType::F32);
        let y = b.param("y", &[n], DType::F32);
        b.0.outputs = 1;
        let (t, i) = (b.var("t", DType::I64), b.var("i", DType::I64));
        let at = int(t) * 9 + int(i);
        let body = store(y, at.clone(), b.load(x, &[at]).unary(UnaryOp::Tanh));
        let length = Expr::int(9).min(Expr::int(n as i64) - int(t) * 9);
        let inner = Stmt::For { var: i, extent: length, kind: LoopKind::Vectorized, body: Box::new(body) };
        // Some tiles more than are needed: the length of the last ones is not positive.
        b.0.body = for_(t, n.div_ceil(9) as i64 + 2, LoopKind::Tiles, inner);
        check(&b.0);
    }
}

#[test]
fn a_store_between_two_equal_loads_is_seen() {
    let mut b = Build::new("order");
    let x = b.param("x", &[8], DType::F32);
    let y = b.param("y", &[8], DType::F32);
    b.0.outputs = 1;
    let i = b.var("i", DType::I64);
    let same = b.load(y, &[int(i)]);
    let body = Stmt::Seq(vec![
        store(y, int(i), b.load(x, &[int(i)])),
        store(y, int(i), same.clone() + same.clone()),
        store(y, int(i), same.clone() + same),
    ]);
    b.0.body = for_(i, 8, LoopKind::Serial, body);
    check(&b.0);
    let vectors = with_kinds(&b.0, |_, _| Some(LoopKind::Vectorized));
    let x = Random(3).tensor(&[8], DType::F32);
    let y = run_compiled(&vectors, std::slice::from_ref(&x), detect::features());
    let quadruple = x.as_slice::<f32>().expect("f32").iter().map(|v| v * 4.0);
    assert!(quadruple.eq(y[0].as_slice::<f32>().expect("f32").iter().copied()));
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let target = CpuTarget::default();
    let mut b = Build::new("gpu");
    let y = b.param("y", &[4], DType::F32);
    b.0.outputs = 1;
    let i = b.var("i", DType::I64);
    b.0.body = for_(i, 4, LoopKind::ThreadBinding("threadIdx.x".into()), store(y, int(i), zero(DType::F32)));
    let error = compile(&b.0, &target).expect_err("a GPU loop");
    assert!(error.message.contains("threadIdx.x"), "{}", error.message);
    let mut deep = store(y, Expr::int(0), zero(DType::F32));
    for _ in 0..400 {
        deep = Stmt::Seq(vec![deep]);
    }
    b.0.body = deep;
    assert!(compile(&b.0, &target).expect_err("too deep").message.contains("nest"));
}

#[test]
fn long_chains_compile_and_share_what_they_repeat() {
    let mut b = Build::new("chain");
    let x = b.param("x", &[37], DType::F32);
    let y = b.param("y", &[37], DType::F32);
    b.0.outputs = 1;
    let i = b.var("i", DType::I64);
    let mut value = b.load(x, &[int(i)]);
    for step in 0..256 {
        // Each step uses the last one twice: without sharing this would be 2^256 additions.
        value = match step % 3 {
            0 => (value.clone() + value).unary(UnaryOp::Tanh),
            1 => value.clone() * value,
            _ => value.unary(UnaryOp::Sigmoid),
        };
    }
    b.0.body = for_(i, 37, LoopKind::Vectorized, store(y, int(i), value));
    let kernel =
        compile(&b.0, &CpuTarget { features: detect::features(), ..CpuTarget::default() }).expect("compiles");
    assert!(kernel.code.len() < 200_000, "{} bytes", kernel.code.len());
    b.0.attrs.insert("relay".into(), fermata_ir::op::AttrValue::Str(Arc::from("fn (%x) { tanh(%x) }")));
    let clif = fermata_codegen::cpu::clif_text(&b.0, &CpuTarget::default()).expect("text");
    assert!(clif.starts_with("; kernel chain\n; fn (%x) { tanh(%x) }\nfunction "), "{}", &clif[..200]);
    if cfg!(target_arch = "x86_64") {
        let asm = fermata_codegen::cpu::asm_text(&kernel).expect("text");
        assert!(asm.contains("; chain\n") && asm.contains("mulps"), "{}", &asm[..400]);
    }
}
