//! Tests of sessions: programs run from their plans.

use std::sync::Arc;

use super::*;
use crate::device::simulated::Simulated;
use fermata_codegen::cpu::compile;
use fermata_ir::entity::{EntityRef, PrimaryMap};
use fermata_ir::scalar::{CmpOp, Scalar};
use fermata_ir::tir::{Buffer, Expr, ExprKind, LoopKind, PrimFunc, Scope, Stmt, VarId, VarInfo};
use fermata_ir::types::DType;
use fermata_passes::lower::plan::{BufferId, FuncId, Kernel, Place, PlanBuffer, Port, Step};
use fermata_passes::target::CpuTarget;

/// `out[t * 8 + i] = f(in0[..], in1[..])` in `tiles` tiles of 8 elements.
fn elementwise(
    name: &str,
    dtype: DType,
    arity: usize,
    tiles: usize,
    f: impl Fn(&[Expr]) -> Expr,
) -> PrimFunc {
    let mut func = PrimFunc::new(name);
    let var = |name: &str| VarInfo { name: name.into(), dtype: DType::I64 };
    let (t, i) = (func.vars.push(var("t")), func.vars.push(var("i")));
    let at = |v: VarId| Expr::new(ExprKind::Var(v), DType::I64);
    let index = at(t) * 8 + at(i);
    let param = |func: &mut PrimFunc, dtype| {
        let name = format!("p{}", func.params.len());
        let buffer = Buffer { name: name.into(), shape: vec![tiles * 8], dtype, scope: Scope::Global };
        let id = func.buffers.push(buffer);
        func.params.push(id);
        id
    };
    let inputs: Vec<Expr> = (0..arity)
        .map(|_| Expr::new(ExprKind::Load(param(&mut func, dtype), vec![index.clone()]), dtype))
        .collect();
    let value = f(&inputs);
    let buffer = param(&mut func, value.dtype());
    func.outputs = 1;
    let store = Stmt::Store { buffer, indices: vec![index], value };
    let inner = Stmt::For { var: i, extent: Expr::int(8), kind: LoopKind::Vectorized, body: Box::new(store) };
    let extent = Expr::int(tiles as i64);
    func.body = Stmt::For { var: t, extent, kind: LoopKind::Tiles, body: Box::new(inner) };
    func
}

fn kernel(program: &mut Program, func: PrimFunc) -> KernelId {
    program.kernels.push(Kernel::new(func))
}

pub(crate) fn code(program: &Program) -> Vec<CompiledKernel> {
    let target = CpuTarget { features: detect::features(), ..CpuTarget::default() };
    program.kernels.values().map(|k| compile(&k.func, &target).expect("it compiles")).collect()
}

fn plan_buffer(plan: &mut FuncPlan, n: usize, dtype: DType, place: Place) -> BufferId {
    plan.buffers.push(PlanBuffer { shape: vec![n], dtype, place })
}

fn port(name: &str, buffer: BufferId) -> Port {
    Port { name: name.into(), buffer }
}

fn scalar_f32(v: f32) -> Expr {
    Expr::constant(Scalar::of(v))
}

/// `y = (x + c) * 2 + x`, through the arena, with a constant; also gives `x` and `c` back.
pub(crate) fn chain(tiles: usize) -> Program {
    let n = tiles * 8;
    let mut program = Program::default();
    let add = kernel(&mut program, elementwise("add", DType::F32, 2, tiles, |p| p[0].clone() + &p[1]));
    let double =
        kernel(&mut program, elementwise("double", DType::F32, 1, tiles, |p| p[0].clone() * scalar_f32(2.0)));
    program.constants.push(Tensor::from_slice(&[n], &vec![0.5f32; n]).expect("small"));
    let mut plan = FuncPlan {
        name: "main".into(),
        arena_bytes: 2 * (n * 4).next_multiple_of(64),
        ..FuncPlan::default()
    };
    let x = plan_buffer(&mut plan, n, DType::F32, Place::Input(0));
    let c = plan_buffer(&mut plan, n, DType::F32, Place::Constant(0));
    let a = plan_buffer(&mut plan, n, DType::F32, Place::Arena(0));
    let b = plan_buffer(&mut plan, n, DType::F32, Place::Arena((n * 4).next_multiple_of(64)));
    let y = plan_buffer(&mut plan, n, DType::F32, Place::Output(0));
    plan.result_bytes = vec![n * 4];
    plan.inputs = vec![port("x", x)];
    plan.outputs = vec![port("y", y), port("x_again", x), port("c", c)];
    plan.steps = vec![
        Step::Launch { kernel: add, args: vec![x, c, a] },
        Step::Launch { kernel: double, args: vec![a, b] },
        Step::Launch { kernel: add, args: vec![b, x, y] },
    ];
    program.entry = Some(program.funcs.push(plan));
    program
}

pub(crate) fn iota(n: usize) -> Tensor {
    Tensor::from_slice(&[n], &(0..n).map(|i| i as f32).collect::<Vec<_>>()).expect("small")
}

#[test]
fn a_chain_of_launches_runs_on_any_number_of_threads() {
    for (tiles, threads) in [(1, 1), (5, 1), (64, 2), (64, 4), (1, 3)] {
        let program = chain(tiles);
        let kernels = code(&program);
        let mut session = Session::new(program, kernels, threads).expect("a good plan");
        let x = iota(tiles * 8);
        for _ in 0..300 {
            let out = session.run(std::slice::from_ref(&x)).expect("it runs");
            let y = out[0].as_slice::<f32>().expect("f32");
            assert!(y.iter().enumerate().all(|(i, &y)| y == (i as f32 + 0.5) * 2.0 + i as f32));
            assert!(out[1].bitwise_eq(&x));
            assert_eq!(out[2].as_slice::<f32>(), Some(&vec![0.5f32; tiles * 8][..]));
        }
    }
}

#[test]
fn any_interleaving_gives_the_same_bits() {
    let program = chain(13);
    let x = iota(13 * 8);
    let mut plain = Session::new(program.clone(), code(&program), 1).expect("a good plan");
    let want = plain.run(std::slice::from_ref(&x)).expect("it runs");
    for seed in 0..200 {
        let device = Box::new(Simulated::new(1 + seed as usize % 5, seed, 3));
        let mut session = Session::on_device(program.clone(), code(&program), device, detect::features())
            .expect("a good plan");
        let got = session.run(std::slice::from_ref(&x)).expect("it runs");
        assert!(got.iter().zip(&want).all(|(a, b)| a.bitwise_eq(b)), "seed {seed}");
    }
}

#[test]
fn preemption_from_another_thread_loses_nothing() {
    let program = chain(200);
    let x = iota(1600);
    let pool = Pool::new(3, false);
    let control = pool.control();
    let mut session = Session::on_device(program.clone(), code(&program), Box::new(pool), detect::features())
        .expect("a good plan");
    let want = session.run(std::slice::from_ref(&x)).expect("it runs");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut quota = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                control.preempt();
                std::hint::spin_loop();
                quota = (quota + 1) % 3;
                control.set_quota(quota + 1);
            }
            control.set_quota(u32::MAX);
        });
        for _ in 0..200 {
            let got = session.run(std::slice::from_ref(&x)).expect("it runs");
            assert!(got[0].bitwise_eq(&want[0]));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// `main(n) = count(n, 0)`, `count(n, k) = if n > k { count(n, k + 1) } else { k }`, by a tail call.
fn counting() -> Program {
    let mut program = Program::default();
    let one = Expr::constant(Scalar::of(1i32));
    let next = kernel(&mut program, elementwise("next", DType::I32, 1, 1, |p| p[0].clone() + one.clone()));
    let more = {
        let mut func = elementwise("more", DType::I32, 2, 1, |p| p[0].clone().cmp(CmpOp::Gt, p[1].clone()));
        let out = func.params[2];
        func.buffers[out].shape = vec![1];
        let load = |b| Expr::new(ExprKind::Load(b, vec![Expr::int(0)]), DType::I32);
        let value = load(func.params[0]).cmp(CmpOp::Gt, load(func.params[1]));
        let store = Stmt::Store { buffer: out, indices: vec![Expr::int(0)], value };
        let t = func.vars.push(VarInfo { name: "t".into(), dtype: DType::I64 });
        func.body = Stmt::For { var: t, extent: Expr::int(1), kind: LoopKind::Tiles, body: Box::new(store) };
        kernel(&mut program, func)
    };
    program.constants.push(Tensor::from_slice(&[8], &[0i32; 8]).expect("small"));
    let mut count = FuncPlan { name: "count".into(), arena_bytes: 128, ..FuncPlan::default() };
    let n = plan_buffer(&mut count, 8, DType::I32, Place::Input(0));
    let k = plan_buffer(&mut count, 8, DType::I32, Place::Input(1));
    let cond = plan_buffer(&mut count, 1, DType::Bool, Place::Arena(64));
    let k1 = plan_buffer(&mut count, 8, DType::I32, Place::Arena(0));
    let result = plan_buffer(&mut count, 8, DType::I32, Place::Output(0));
    count.result_bytes = vec![32];
    count.inputs = vec![port("n", n), port("k", k)];
    count.outputs = vec![port("result", result)];
    let count_id = FuncId::new(0);
    count.steps = vec![
        Step::Launch { kernel: more, args: vec![n, k, cond] },
        Step::If {
            cond,
            then: vec![
                Step::Launch { kernel: next, args: vec![k, k1] },
                Step::Call { func: count_id, args: vec![n, k1], results: vec![result] },
            ],
            els: vec![Step::Copy { src: k, dst: result }],
        },
    ];
    assert_eq!(program.funcs.push(count), count_id);
    let mut main = FuncPlan { name: "main".into(), ..FuncPlan::default() };
    let n = plan_buffer(&mut main, 8, DType::I32, Place::Input(0));
    let zero = plan_buffer(&mut main, 8, DType::I32, Place::Constant(0));
    let result = plan_buffer(&mut main, 8, DType::I32, Place::Output(0));
    main.result_bytes = vec![32];
    main.inputs = vec![port("n", n)];
    main.outputs = vec![port("result", result)];
    main.steps = vec![Step::Call { func: count_id, args: vec![n, zero], results: vec![result] }];
    program.entry = Some(program.funcs.push(main));
    program
}

#[test]
fn tail_calls_loop_without_nesting() {
    let program = counting();
    let mut session = Session::new(program.clone(), code(&program), 1).expect("a good plan");
    for n in [0i32, 1, 20_000] {
        let out = session.run(&[Tensor::from_slice(&[8], &[n; 8]).expect("small")]).expect("it runs");
        assert_eq!(out[0].as_slice::<i32>(), Some(&[n; 8][..]));
    }
}

/// As [`counting`], but a copy after the call makes it no tail call.
pub(crate) fn deep() -> Program {
    let mut program = counting();
    let func = &mut program.funcs[FuncId::new(0)];
    let extra = plan_buffer(func, 8, DType::I32, Place::Arena(0));
    let result = func.outputs[0].buffer;
    let Step::If { then, .. } = &mut func.steps[1] else { panic!("the plan branches") };
    then.push(Step::Copy { src: result, dst: extra });
    program
}

#[test]
fn calls_that_nest_too_deeply_are_refused() {
    let program = deep();
    let mut session = Session::new(program.clone(), code(&program), 1).expect("a good plan");
    let n = |n: i32| [Tensor::from_slice(&[8], &[n; 8]).expect("small")];
    assert!(session.run(&n(900)).is_ok());
    let error = session.run(&n(5000)).expect_err("too deep");
    assert_eq!(error.code, Code::RUN);
    assert!(session.run(&n(900)).is_ok(), "a failed run leaves the session usable");
}

#[test]
fn wrong_inputs_are_explained() {
    let program = chain(1);
    let mut session = Session::new(program.clone(), code(&program), 1).expect("a good plan");
    let error = session.run(&[]).expect_err("an input is missing");
    assert!(error.help.expect("the flag").contains("inputs are x"));
    let error = session.run(&[iota(7)]).expect_err("the shape is wrong");
    assert_eq!(error.message, "input `x` has the wrong type");
    assert_eq!(error.notes, ["expected Tensor[(8), float32]", "found Tensor[(7), float32]"]);
}

#[test]
fn broken_plans_are_refused() {
    let breakages: &[fn(&mut Program)] = &[
        |p| p.entry = None,
        |p| p.funcs[FuncId::new(0)].arena_bytes = 8,
        |p| p.funcs[FuncId::new(0)].buffers[BufferId::new(2)].place = Place::Arena(32),
        |p| p.funcs[FuncId::new(0)].buffers[BufferId::new(1)].place = Place::Constant(9),
        |p| p.funcs[FuncId::new(0)].buffers[BufferId::new(4)].shape = vec![1],
        |p| p.funcs[FuncId::new(0)].outputs.clear(),
        |p| p.constants.clear(),
        |p| {
            let Step::Launch { args, .. } = &mut p.funcs[FuncId::new(0)].steps[0] else { return };
            args.swap(1, 2);
        },
        |p| {
            let Step::Launch { args, .. } = &mut p.funcs[FuncId::new(0)].steps[0] else { return };
            args[0] = BufferId::new(77);
        },
        |p| p.kernels = PrimaryMap::new(),
    ];
    let good = chain(1);
    let kernels = code(&good);
    for (at, break_it) in breakages.iter().enumerate() {
        let mut program = good.clone();
        break_it(&mut program);
        assert!(Session::new(program, kernels.clone(), 1).is_err(), "breakage {at}");
    }
}

#[test]
fn kernels_that_want_too_much_scratch_memory_are_refused() {
    let program = chain(1);
    let mut kernels = code(&program);
    kernels[0].scratch_bytes = usize::MAX / 2;
    let refused = Session::new(program, kernels, 1).err().expect("more than any worker has");
    assert!(refused.message.contains("bytes of scratch memory a worker"), "{}", refused.message);
}

#[test]
fn a_kernel_writes_over_its_input_only_where_that_is_proved() {
    let x = iota(32);
    let mut apart = Session::new(chain(4), code(&chain(4)), 1).expect("a good plan");
    let want = apart.run(std::slice::from_ref(&x)).expect("it runs");
    let mut program = chain(4);
    // The two temporaries of the plan share memory: `double` reads of it what it writes.
    let func = &mut program.funcs[FuncId::new(0)];
    func.buffers[BufferId::new(3)].place = func.buffers[BufferId::new(2)].place;
    let kernels = code(&program);
    let mut session = Session::new(program.clone(), kernels, 2).expect("the proof holds");
    let got = session.run(std::slice::from_ref(&x)).expect("it runs");
    assert!(got.iter().zip(&want).all(|(a, b)| a.bitwise_eq(b)));
    // A kernel that reads its neighbour's element could find the new one.
    let neighbour = elementwise("neighbour", DType::F32, 1, 4, |p| {
        let ExprKind::Load(buffer, at) = p[0].kind() else { panic!("an input is loaded") };
        Expr::new(ExprKind::Load(*buffer, vec![(at[0].clone() + 1).floor_mod(32)]), DType::F32)
    });
    program.kernels[KernelId::new(1)].func = Arc::new(neighbour);
    let kernels = code(&program);
    let Err(error) = Session::new(program, kernels, 1) else { panic!("it must be refused") };
    assert!(error.message.contains("`neighbour` must not write"), "{}", error.message);
}

#[test]
fn each_step_is_timed() {
    let program = chain(3);
    let mut session = Session::new(program.clone(), code(&program), 2).expect("a good plan");
    let mut seen = Vec::new();
    session.run_observed(&[iota(24)], Some(&mut |step: StepTime| seen.push(step.kernel))).expect("it runs");
    assert_eq!(seen, [Some(KernelId::new(0)), Some(KernelId::new(1)), Some(KernelId::new(0))]);
}
