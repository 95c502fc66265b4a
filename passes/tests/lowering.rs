//! Lowered plans, run step by step on the TIR evaluator, agree with the reference evaluator.

use fermata_ir::compare::compare;
use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::tir;
use fermata_ir::types::DType;
use fermata_passes::lower::plan::Program;
use fermata_passes::lower::{eval, lower};
use fermata_passes::manager;
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::{CpuFeatures, CpuTarget, CudaTarget, Target};

fn parse(text: &str) -> Module {
    let ops = OpTable::standard();
    let text = format!("#[version = \"0.0.5\"]\n{text}");
    let mut module = match parse_module("test.relay", &text, &ParseOptions::new(&ops)) {
        Ok(module) => module,
        Err(d) => panic!("{:#?}", d.0),
    };
    if let Err(d) = infer_module(&mut module) {
        panic!("{:#?}", d.0);
    }
    module
}

/// Values that neither repeat nor grow: a small linear congruential sequence.
fn fill(dtype: DType, shape: &[usize], seed: &mut u64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut next = || {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 40) as f64 / (1u64 << 24) as f64
    };
    match dtype {
        DType::F32 => {
            let data: Vec<f32> = (0..count).map(|_| (next() * 4.0 - 2.0) as f32).collect();
            Tensor::from_slice(shape, &data)
        }
        DType::I64 => {
            Tensor::from_slice(shape, &(0..count).map(|_| (next() * 10.0) as i64).collect::<Vec<_>>())
        }
        DType::I32 => {
            Tensor::from_slice(shape, &(0..count).map(|_| (next() * 10.0) as i32).collect::<Vec<_>>())
        }
        DType::Bool => {
            let data: Vec<u8> = (0..count).map(|_| u8::from(next() > 0.5)).collect();
            Tensor::from_bytes(DType::Bool, shape, &data)
        }
        other => panic!("no values for {other}"),
    }
    .expect("a small tensor")
}

fn flat(value: &Value) -> Vec<Tensor> {
    match value {
        Value::Tensor(t) => vec![t.clone()],
        Value::Tuple(fields) => fields.iter().flat_map(flat).collect(),
        other => panic!("no tensor: {other:?}"),
    }
}

/// All kernels of a program, for messages.
fn kernels(program: &Program) -> String {
    program.kernels.values().map(|k| tir::print::print(&k.func)).collect()
}

/// Compiles at every level, for a plain and a wide CPU and for a GPU, and compares.
fn check(text: &str) {
    let module = parse(text);
    let main = module.global("main").expect("@main");
    let func = module.globals[main].func.clone().expect("@main");
    let mut seed = 1;
    let inputs: Vec<Tensor> = func
        .params
        .iter()
        .map(|&p| {
            let ty = module.vars[p].ty.as_tensor().expect("a tensor").clone();
            fill(ty.dtype, &ty.static_shape().expect("static"), &mut seed)
        })
        .collect();
    let args = inputs.iter().cloned().map(Value::from).collect();
    let expected = match eval_global(&module, "main", args, &EvalOptions::default()) {
        Ok(v) => flat(&v),
        Err(d) => panic!("{d:#?}"),
    };
    let wide = CpuFeatures { avx2: true, avx512: true, ..CpuFeatures::default() };
    let cpu = |features| Target::Cpu(CpuTarget { features, ..CpuTarget::default() });
    for target in [cpu(CpuFeatures::default()), cpu(wide), CudaTarget { sm: 80 }.into()] {
        for level in 0..=2 {
            let mut module = module.clone();
            let options = manager::Options { target: target.clone(), ..manager::Options::default() };
            if let Err(d) = manager::run(&mut module, &standard(Level(level)), &options, &mut []) {
                panic!("-O{level}: {:#?}", d.0);
            }
            let program = match lower(&module, &target) {
                Ok(p) => p,
                Err(d) => panic!("-O{level}: {:#?}", d.0),
            };
            for kernel in program.kernels.values() {
                assert!(kernel.func.tiles().is_some(), "{}", tir::print::print(&kernel.func));
            }
            let actual = match eval::run(&program, &inputs) {
                Ok(actual) => actual,
                Err(d) => panic!("-O{level}: {}\n{}", d.message, kernels(&program)),
            };
            assert_eq!(actual.len(), expected.len());
            for (a, e) in actual.iter().zip(&expected) {
                let result = compare(a, e);
                if !result.matches() {
                    panic!("-O{level}: {result}\n{}", kernels(&program));
                }
            }
        }
    }
}

#[test]
fn elementwise_chains() {
    check("def @main(%x: Tensor[(10, 20), float32]) { %0 = add(%x, 1f); %1 = exp(%0); squeeze(%1) }");
    check(
        "def @main(%x: Tensor[(3, 4, 5), float32], %b: Tensor[(4, 1), float32]) { tanh(multiply(%x, %b)) }",
    );
    check("def @main(%x: float32) { add(%x, %x) }");
    check("def @main(%x: Tensor[(0, 3), float32]) { exp(%x) }");
    check("def @main(%x: Tensor[(70000), float32]) { add(%x, %x) }");
}

#[test]
fn reductions() {
    check("def @main(%x: Tensor[(7, 33), float32]) { sum(%x, axis=[1]) }");
    check("def @main(%x: Tensor[(7, 33), float32]) { sum(%x, axis=[0]) }");
    check("def @main(%x: Tensor[(7, 33), float32]) { sqrt(abs(sum(%x))) }");
    check("def @main(%x: Tensor[(7, 3, 5), float32]) { max(%x, axis=[0, 2], keepdims=True) }");
    check("def @main(%x: Tensor[(7, 33), float32]) { argmax(%x, axis=[1]) }");
    check("def @main(%x: Tensor[(2, 3, 8, 8), float32]) { mean(%x, axis=[2, 3], keepdims=True) }");
}

#[test]
fn softmax_and_written_out() {
    check("def @main(%x: Tensor[(4, 40), float32]) { nn.softmax(%x) }");
    check(
        "def @main(%x: Tensor[(4, 8), float32]) { %0 = max(%x, axis=[-1], keepdims=True); %1 = subtract(%x, %0); \
         %2 = exp(%1); %3 = sum(%2, axis=[-1], keepdims=True); divide(%2, %3) }",
    );
}

#[test]
fn injective() {
    check(
        "def @main(%x: Tensor[(3, 4), float32], %y: Tensor[(2, 4), float32]) { concatenate((%x, %y), axis=0) }",
    );
    check("def @main(%x: Tensor[(3, 4, 5), float32]) { exp(transpose(%x, axes=[2, 0, 1])) }");
    check(
        "def @main(%x: Tensor[(6, 4), float32]) { %0 = split(%x, indices_or_sections=3, axis=0); add(%0.0, %0.2) }",
    );
    check(
        "def @main(%x: Tensor[(5, 4), float32], %i: Tensor[(3), int64]) { take(%x, %i, axis=0, mode=\"clip\") }",
    );
}

#[test]
fn products_and_convolutions() {
    check(
        "def @main(%x: Tensor[(5, 12), float32], %w: Tensor[(9, 12), float32]) { nn.relu(nn.dense(%x, %w, units=None)) }",
    );
    check(
        "def @main(%a: Tensor[(2, 5, 12), float32], %b: Tensor[(2, 7, 12), float32]) { nn.batch_matmul(%a, %b, transpose_b=True) }",
    );
    check(
        "def @main(%x: Tensor[(1, 3, 9, 8), float32], %w: Tensor[(5, 3, 3, 3), float32]) \
         { nn.relu(nn.conv2d(%x, %w, padding=[1, 1, 1, 1], strides=[2, 1], channels=5, kernel_size=[3, 3])) }",
    );
    check(
        "def @main(%x: Tensor[(1, 6, 9, 8), float32], %w: Tensor[(6, 1, 3, 3), float32]) \
         { nn.relu(nn.conv2d(%x, %w, padding=[1, 1, 1, 1], groups=6, channels=6, kernel_size=[3, 3])) }",
    );
    // Windows side by side, on a weight that folds to a constant.
    check(
        "def @main(%x: Tensor[(2, 4, 3, 5), float32]) { \
         %0 = reshape(sin(arange(stop=96)), newshape=[4, 4, 2, 3]); \
         nn.relu(nn.conv2d_transpose(%x, %0, strides=[2, 3], channels=4, kernel_size=[2, 3])) }",
    );
}

/// The program at the default level.
fn compiled(text: &str) -> Program {
    let mut module = parse(text);
    let target = Target::Cpu(CpuTarget::default());
    let options = manager::Options { target: target.clone(), ..manager::Options::default() };
    if let Err(d) = manager::run(&mut module, &standard(Level(2)), &options, &mut []) {
        panic!("{:#?}", d.0);
    }
    lower(&module, &target).unwrap_or_else(|d| panic!("{:#?}", d.0))
}

#[test]
fn products_whatever_made_them() {
    let products = [
        ("(2, 1, 5, 12)", "(2, 3, 12, 7)", "nn.batch_matmul(%a, %b)", "gemm_f32_nn"),
        ("(1, 3, 5, 12)", "(2, 3, 7, 12)", "nn.batch_matmul(%a, %b, transpose_b=True)", "gemm_f32_nt"),
        ("(2, 70, 12)", "(12, 200)", "nn.matmul(%a, %b, units=None)", "gemm_f32_nn"),
        ("(2, 5, 12)", "(7, 12)", "nn.dense(%a, %b, units=None)", "gemm_f32_nt"),
        ("(2, 5, 3, 4)", "(2, 7, 3, 4)", "einsum((%a, %b), equation=\"bihk,bjhk->bhij\")", "gemm_f32_nt"),
        ("(2, 3, 5, 7)", "(2, 7, 3, 4)", "einsum((%a, %b), equation=\"bhij,bjhk->bhik\")", "gemm_f32_nn"),
    ];
    for (a, b, call, intrinsic) in products {
        let text = format!("def @main(%a: Tensor[{a}, float32], %b: Tensor[{b}, float32]) {{ {call} }}");
        check(&text);
        let kernels = kernels(&compiled(&text));
        assert!(kernels.contains(&format!("\"{intrinsic}\"")), "{text}\n{kernels}");
    }
}

#[test]
fn epilogues_of_a_single_batch_are_in_the_tile() {
    let text = "def @main(%a: Tensor[(1, 5, 12), float32], %w: Tensor[(7, 12), float32], %b: Tensor[(7), float32], \
                %r: Tensor[(1, 5, 7), float32]) { nn.relu(add(add(nn.dense(%a, %w, units=None), %b), %r)) }";
    check(text);
    assert_eq!(kernels(&compiled(text)).matches("@T.prim_func").count(), 1);
}

#[test]
fn a_result_takes_over_the_memory_of_its_argument() {
    let text = "def @main(%x: Tensor[(64, 64), float32]) { %0 = cumsum(%x, axis=1); %1 = exp(%0); \
                cumsum(%1, axis=0) }";
    check(text);
    let program = compiled(text);
    let plan = &program.funcs[program.entry.expect("an entry")];
    // Both temporaries lie where the result will be.
    assert_eq!(plan.arena_bytes, 0, "{:?}", plan.steps);
}

#[test]
fn rows_of_costly_elements_are_held() {
    let text = "def @main(%x: Tensor[(4, 40), float32]) { %0 = exp(%x); divide(%0, sum(%0, axis=[1], keepdims=True)) }";
    assert_eq!(kernels(&compiled(text)).matches("T.exp(").count(), 1, "{}", kernels(&compiled(text)));
}

#[test]
fn divided_axes_are_split() {
    let text = "def @main(%x: Tensor[(3, 5, 8), float32]) { reshape(transpose(%x, axes=[1, 0, 2]), newshape=[5, 24]) }";
    check(text);
    assert!(!kernels(&compiled(text)).contains("j // 8"), "{}", kernels(&compiled(text)));
}

#[test]
fn recursions_of_lets_are_functions() {
    check(
        "def @main(%n: int32, %x: Tensor[(4), float32]) { let %loop = fn (%i: int32, %s: Tensor[(4), float32]) -> Tensor[(4), float32] { \
         if (%i <= 0) { %s } else { %loop(%i - 1, add(%s, %x)) } }; %loop(%n, %x) }",
    );
}

#[test]
fn products_in_tiles() {
    check(
        "def @main(%x: Tensor[(20, 40), float32], %w: Tensor[(70, 40), float32], %b: Tensor[(70), float32]) \
         { nn.relu(nn.bias_add(nn.dense(%x, %w, units=None), %b)) }",
    );
    check(
        "def @main(%a: Tensor[(2, 17, 33), float32], %b: Tensor[(2, 33, 18), float32]) \
         { nn.batch_matmul(%a, %b, transpose_b=False) }",
    );
    check(
        "def @main(%x: Tensor[(1, 3, 9, 8), float32], %w: Tensor[(17, 3, 3, 3), float32]) \
         { nn.relu(nn.conv2d(%x, %w, padding=[1, 1, 1, 1], strides=[2, 1], channels=17, kernel_size=[3, 3])) }",
    );
}

#[test]
fn branches() {
    check(
        "def @main(%x: Tensor[(4), float32], %c: bool) { %0 = exp(%x); \
         if (%c) { add(%0, 1f) } else { let %y = multiply(%0, 2f); subtract(%y, %x) } }",
    );
    check(
        "def @f(%x: Tensor[(4), float32]) -> Tensor[(4), float32] { exp(%x) }\n\
           def @main(%x: Tensor[(4), float32]) { add(@f(%x), @f(%x)) }",
    );
}
