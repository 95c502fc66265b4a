//! Tests of artifacts: written and read back, and damaged.

use super::*;
use fermata_ir::tir::{Buffer, Expr, ExprKind, LoopKind, Scope, Stmt, VarInfo};
use fermata_ir::types::DType;
use fermata_passes::lower::plan::{FuncPlan, Place, PlanBuffer, Port, Step};

/// `y = x + c`, with branches that nest, so that every kind of row is written.
fn program() -> Program {
    let mut func = PrimFunc::new("add");
    let (t, i) = ("t", "i");
    let [t, i] = [t, i].map(|n| func.vars.push(VarInfo { name: n.into(), dtype: DType::I64 }));
    let [x, c, y] = ["x", "c", "y"].map(|n| {
        let buffer = Buffer { name: n.into(), shape: vec![16], dtype: DType::F32, scope: Scope::Global };
        func.buffers.push(buffer)
    });
    func.params = vec![x, c, y];
    func.outputs = 1;
    let var = |v| Expr::new(ExprKind::Var(v), DType::I64);
    let at = vec![var(t) * 8 + var(i)];
    let load = |b| Expr::new(ExprKind::Load(b, at.clone()), DType::F32);
    let store = Stmt::Store { buffer: y, indices: at.clone(), value: load(x) + load(c) };
    let inner = Stmt::For { var: i, extent: Expr::int(8), kind: LoopKind::Vectorized, body: Box::new(store) };
    func.body = Stmt::For { var: t, extent: Expr::int(2), kind: LoopKind::Tiles, body: Box::new(inner) };
    let mut program = Program::default();
    let kernel = program.kernels.push(Kernel::new(func));
    program.constants.push(Tensor::from_slice(&[16], &[0.5f32; 16]).expect("small"));
    program.constants.push(Tensor::from_slice(&[3], &[1i8, 2, 3]).expect("small"));
    let mut plan =
        FuncPlan { name: "main".into(), arena_bytes: 128, result_bytes: vec![64], ..FuncPlan::default() };
    let mut buffer = |n, dtype, place| plan.buffers.push(PlanBuffer { shape: vec![n], dtype, place });
    let x = buffer(16, DType::F32, Place::Input(0));
    let c = buffer(16, DType::F32, Place::Constant(0));
    let y = buffer(16, DType::F32, Place::Output(0));
    let cond = buffer(1, DType::Bool, Place::Arena(64));
    plan.inputs = vec![Port { name: "x".into(), buffer: x }];
    plan.outputs = vec![Port { name: "y".into(), buffer: y }];
    let launch = Step::Launch { kernel, args: vec![x, c, y] };
    let copy = Step::Copy { src: x, dst: y };
    let inner = Step::If { cond, then: vec![copy.clone()], els: vec![] };
    let outer =
        Step::If { cond, then: vec![launch.clone(), inner.clone(), copy.clone()], els: vec![copy, inner] };
    let call = Step::Call { func: FuncId::new(0), args: vec![x], results: vec![y] };
    plan.steps = vec![launch, outer, call];
    program.entry = Some(program.funcs.push(plan));
    program
}

fn bytes_of(program: &Program, options: &ReadOptions) -> Vec<u8> {
    let funcs: Vec<&PrimFunc> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = cpu::compile_all(&funcs, &options.target).expect("it compiles");
    write_to(Cursor::new(Vec::new()), "def @main() { }", program, Code::Cpu(&kernels, &options.target))
        .expect("written")
        .into_inner()
}

fn map(bytes: &[u8]) -> Arc<Mmap> {
    let mut memory = memmap2::MmapMut::map_anon(bytes.len().max(1)).expect("memory");
    memory[..bytes.len()].copy_from_slice(bytes);
    Arc::new(memory.make_read_only().expect("memory"))
}

#[test]
fn what_is_written_is_read() {
    let program = program();
    for trust in [false, true] {
        let options = ReadOptions { trust, ..ReadOptions::default() };
        let bytes = bytes_of(&program, &options);
        assert!(bytes == bytes_of(&program, &options), "the same program gives the same bytes");
        let read = read_mapped(&map(&bytes), &options).expect("it reads");
        assert_eq!(read.graph, "def @main() { }");
        assert_eq!(format!("{:?}", read.program.funcs), format!("{:?}", program.funcs));
        assert_eq!(read.program.entry, program.entry);
        assert!(read.program.constants.iter().zip(&program.constants).all(|(a, b)| a.bitwise_eq(b)));
        let (old, new) = (&program.kernels[KernelId::new(0)], &read.program.kernels[KernelId::new(0)]);
        assert_eq!(tir::print::print(&old.func), tir::print::print(&new.func));
        assert_eq!(read.kernels[0].code, cpu::compile(&old.func, &options.target).expect("it compiles").code);
    }
}

#[test]
fn certificates_are_made_anew_and_raw_variants_must_be_there() {
    let mut program = program();
    let id = KernelId::new(0);
    let raw = Arc::unwrap_or_clone(program.kernels[id].func.clone());
    let mut func = raw.clone();
    checkpoint::insert(&mut func);
    let raw = program.kernels.push(Kernel::new(raw));
    program.bound = Some(Duration::from_micros(20));
    let options = ReadOptions::default();
    let honest = checkpoint::certify(&func, &options.target, program.bound);
    assert!(honest.holds() && honest.tile_ns > 1, "{honest:?}");
    let lie = tir::protocol::Certificate { tile_ns: 1, ..honest.clone() };
    program.kernels[id] = Kernel { certificate: Some(lie), raw: Some(raw), ..Kernel::new(func) };
    let read = read_mapped(&map(&bytes_of(&program, &options)), &options).expect("it reads");
    assert_eq!(read.program.bound, program.bound);
    let [bounded, raw_read] = [id, raw].map(|id| &read.program.kernels[id]);
    assert_eq!((bounded.certificate.as_ref(), bounded.raw), (Some(&honest), Some(raw)));
    assert_eq!(raw_read.certificate.as_ref().and_then(|c| c.bound_ns), None);
    program.kernels[id].raw = Some(KernelId::new(7));
    let error =
        read_mapped(&map(&bytes_of(&program, &options)), &options).expect_err("there is no such kernel");
    assert!(error.0[0].message.contains("a raw variant that is not there"), "{error:?}");
}

#[test]
fn kernels_for_a_gpu_carry_their_source() {
    let program = program();
    let kernels = crate::cuda::emit_all(&[&program.kernels[KernelId::new(0)].func]).expect("it is written");
    let target = CudaTarget { sm: 90 };
    let code = Code::Cuda(&kernels, None, target);
    let bytes = write_to(Cursor::new(Vec::new()), "", &program, code).expect("written").into_inner();
    let mut zip = ZipArchive::new(Cursor::new(&bytes[..])).expect("a zip");
    assert_eq!(text(&mut zip, "kernels/00000_add.cu").expect("the source"), kernels[0].source);
    let read = read_mapped(&map(&bytes), &ReadOptions::default()).expect("it reads");
    let gpu = read.gpu.expect("it is for a GPU");
    assert_eq!((gpu.target, gpu.unproved.len(), read.kernels.len()), (target, 0, 0));
    let trusting = ReadOptions { trust: true, ..ReadOptions::default() };
    let read = read_mapped(&map(&bytes), &trusting).expect("it reads");
    assert!(read.gpu.expect("it is for a GPU").cubins.is_none(), "there is no machine code in it");
}

#[test]
fn machine_code_for_a_gpu_is_kept_only_if_trusted() {
    let program = program();
    let kernels = crate::cuda::emit_all(&[&program.kernels[KernelId::new(0)].func]).expect("it is written");
    let binary = Binary { cubin: b"machine code".to_vec(), ptx: String::new(), log: String::new() };
    let code = Code::Cuda(&kernels, Some(std::slice::from_ref(&binary)), CudaTarget { sm: 80 });
    let bytes = write_to(Cursor::new(Vec::new()), "", &program, code).expect("written").into_inner();
    let cubins = |trust| {
        let options = ReadOptions { trust, ..ReadOptions::default() };
        let read = read_mapped(&map(&bytes), &options).expect("it reads");
        read.gpu.expect("it is for a GPU").cubins
    };
    assert_eq!((cubins(false), cubins(true)), (None, Some(vec![binary.cubin])));
}

#[test]
fn kernels_for_a_gpu_that_are_not_proved_do_not_run_there() {
    let mut program = program();
    let mut func = (*program.kernels[KernelId::new(0)].func).clone();
    // Every tile writes the first elements.
    let y = func.params[2];
    func.body = func.body.map(&mut |s| match s {
        Stmt::Store { buffer, value, .. } if buffer == y => {
            Stmt::Store { buffer, indices: vec![Expr::int(0)], value }
        }
        s => s,
    });
    program.kernels = PrimaryMap::new();
    program.kernels.push(Kernel::new(func));
    let kernels = crate::cuda::emit_all(&[&program.kernels[KernelId::new(0)].func]).expect("it is written");
    let code = Code::Cuda(&kernels, None, CudaTarget { sm: 80 });
    let bytes = write_to(Cursor::new(Vec::new()), "", &program, code).expect("written").into_inner();
    let read = read_mapped(&map(&bytes), &ReadOptions::default()).expect("it reads");
    let error = read.gpu.expect("it is for a GPU").code(&read.program).expect_err("not proved");
    assert_eq!(error.message, "kernel `add`: tiles may write the same part of `y`");
}

#[test]
fn damaged_files_are_refused_or_harmless() {
    let options = ReadOptions::default();
    let bytes = bytes_of(&program(), &options);
    for len in (0..bytes.len()).step_by(97) {
        assert!(read_mapped(&map(&bytes[..len]), &options).is_err(), "cut at {len}");
    }
    for at in (0..bytes.len()).step_by(41) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x21;
        // Some bytes do not matter; none may make the reader fail otherwise than by saying so.
        let _ = read_mapped(&map(&damaged), &options);
    }
}

#[test]
fn rows_that_lie_about_their_length_are_refused() {
    use dto::StepRow::{Copy, If};
    let plan = |steps: Vec<dto::StepRow>| dto::Function {
        name: "f".to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        buffers: Vec::new(),
        result_bytes: Vec::new(),
        arena_bytes: 0,
        steps,
    };
    let copy = || Copy { src: 0, dst: 0 };
    let good = plan(vec![If { cond: 0, then: 1, els: 1 }, copy(), copy(), copy()]);
    let funcs = dto::functions_in(&[good]).expect("two branches and a copy");
    let [Step::If { then, els, .. }, Step::Copy { .. }] = &funcs[FuncId::new(0)].steps[..] else {
        panic!("{funcs:?}");
    };
    assert!(then.len() == 1 && els.len() == 1);
    for bad in [
        vec![If { cond: 0, then: 2, els: 0 }, copy()],
        vec![If { cond: 0, then: usize::MAX, els: 1 }, copy()],
        vec![If { cond: 0, then: 1, els: 0 }, If { cond: 0, then: 1, els: 0 }, copy()],
        vec![Copy { src: usize::MAX, dst: 0 }],
    ] {
        assert!(dto::functions_in(&[plan(bad)]).is_none());
    }
    // As many branches as there are rows, each in the one before.
    let deep = |n: usize| plan((0..n).map(|i| If { cond: 0, then: n - i - 1, els: 0 }).collect());
    assert!(dto::functions_in(&[deep(500)]).is_some());
    assert!(dto::functions_in(&[deep(50_000)]).is_none());
}

#[test]
fn files_appear_whole() {
    let dir = std::env::temp_dir().join(format!("fermata-artifact-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("model.fermata");
    let program = program();
    let options = ReadOptions::default();
    let kernels =
        cpu::compile_all(&[&program.kernels[KernelId::new(0)].func], &options.target).expect("it compiles");
    write(&path, "", &program, Code::Cpu(&kernels, &options.target)).expect("written");
    assert!(read(&path, &options).is_ok());
    assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 1, "nothing else is left");
    let missing = dir.join("no").join("model.fermata");
    assert!(write(&missing, "", &program, Code::Cpu(&kernels, &options.target)).is_err());
    assert!(read(&missing, &options).is_err());
    std::fs::remove_dir_all(&dir).expect("removed");
}
