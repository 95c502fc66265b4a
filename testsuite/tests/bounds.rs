//! Bounds on the time of a tile: shorter bounds give more tiles, and the same results bit for bit.

use std::time::Duration;

use fermata::inputs::Random;
use fermata_codegen::cpu::compile_all;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::lower::lower_within;
use fermata_passes::lower::plan::Program;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_runtime::detect;
use fermata_runtime::exec::Session;
use fermata_testsuite::generate::Generator;

/// Kernels of real networks, a program each.
const KERNELS: [&str; 9] = [
    // A convolution of wide windows whose weights are packed, and one that is only a product.
    "def @main(%x: Tensor[(1, 32, 28, 28), float32]) { %0 = reshape(sin(arange(stop=18432)), newshape=[64, 32, 3, 3]); \
     nn.relu(nn.conv2d(%x, %0, padding=[1, 1], channels=64, kernel_size=[3, 3])) }",
    "def @main(%x: Tensor[(1, 256, 7, 7), float32]) { %0 = reshape(sin(arange(stop=131072)), newshape=[512, 256, 1, 1]); \
     nn.conv2d(%x, %0, channels=512, kernel_size=[1, 1]) }",
    "def @main(%x: Tensor[(1, 96, 28, 28), float32], %w: Tensor[(96, 1, 3, 3), float32]) { \
     nn.conv2d(%x, %w, padding=[1, 1], groups=96, channels=96, kernel_size=[3, 3]) }",
    // One so deep that its windows are gathered apart.
    "def @main(%x: Tensor[(1, 128, 14, 14), float32]) { %0 = reshape(sin(cumsum(broadcast_to(1f, shape=[147456]), axis=0)), \
     newshape=[128, 128, 3, 3]); nn.relu(nn.conv2d(%x, %0, padding=[1, 1], channels=128, kernel_size=[3, 3])) }",
    // Products of packed and of computed operands, with what follows them.
    "def @main(%x: Tensor[(128, 384), float32]) { %0 = reshape(sin(arange(stop=147456)), newshape=[384, 384]); \
     sigmoid(nn.dense(%x, %0, units=384)) }",
    "def @main(%a: Tensor[(4, 128, 32), float32], %b: Tensor[(4, 128, 32), float32]) { \
     nn.softmax(nn.batch_matmul(%a, %b, transpose_b=True)) }",
    // Int8 with a scale a row.
    "def @main(%x: Tensor[(70, 256), float32]) { %0 = cast(multiply(sin(cumsum(broadcast_to(1f, shape=[32768]), axis=0)), 100f), dtype=\"int8\"); \
     %1 = quant.quantize_per_token(%x); quant.dense(%1.0, reshape(%0, newshape=[128, 256]), %1.1, \
     broadcast_to(0.01f, shape=[128]), broadcast_to(0.5f, shape=[128])) }",
    // Rows, and what reads neighbours.
    "def @main(%x: Tensor[(128, 384), float32], %g: Tensor[(384), float32], %b: Tensor[(384), float32]) { \
     nn.layer_norm(%x, %g, %b) }",
    "def @main(%x: Tensor[(1, 64, 56, 56), float32]) { \
     nn.max_pool2d(%x, pool_size=[3, 3], strides=[2, 2], padding=[1, 1]) }",
];

fn parse(text: &str) -> Module {
    let text = format!("#[version = \"0.0.5\"]\n{text}");
    let ops = OpTable::standard();
    let parsed = parse_module("test.relay", &text, &ParseOptions::new(&ops));
    let mut module = parsed.unwrap_or_else(|d| panic!("{:#?}", d.0));
    infer_module(&mut module).unwrap_or_else(|d| panic!("{:#?}", d.0));
    module
}

fn compile(module: &Module, bound_ns: u64) -> Result<Program, Diagnostics> {
    let mut module = module.clone();
    let target = detect::host().into();
    let options = Options { target, ..Options::default() };
    manager::run(&mut module, &standard(Level(2)), &options, &mut [])?;
    lower_within(&module, &options.target, (bound_ns > 0).then(|| Duration::from_nanos(bound_ns)))
}

fn execute(program: Program, inputs: &[Tensor]) -> Vec<Tensor> {
    let funcs: Vec<_> = program.kernels.values().map(|k| &*k.func).collect();
    let kernels = compile_all(&funcs, &detect::host()).expect("it compiles");
    Session::new(program, kernels, 1).expect("a good plan").run(inputs).expect("it runs")
}

/// Tiles of all kernels that are launched.
fn tiles(program: &Program) -> u64 {
    program.kernels.values().zip(program.launches()).filter(|(_, n)| *n > 0).map(|(k, _)| k.tiles).sum()
}

/// That results under a bound, and those of the raw variants beside it, are those without.
fn agree(program: &Program, inputs: &[Tensor], expected: &[Tensor], what: &str) {
    for (variant, program) in [("bounded", program.clone()), ("raw", program.raw())] {
        let found = execute(program, inputs);
        let same = found.iter().zip(expected).all(|(a, b)| a.bitwise_eq(b));
        assert!(same && found.len() == expected.len(), "{what}: the {variant} kernels give other results");
    }
}

fn random_inputs(module: &Module) -> Vec<Tensor> {
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref()).expect("@main");
    let inputs = main.params.iter().map(|&p| {
        let ty = module.vars[p].ty.as_tensor().expect("a tensor");
        let shape = ty.static_shape().expect("static");
        Random::new(p.as_u32().into()).tensor(ty.dtype, &shape, -2.0, 2.0).expect("a small tensor")
    });
    inputs.collect()
}

#[test]
fn shorter_bounds_give_more_tiles_and_the_same_results() {
    for text in KERNELS {
        let module = parse(text);
        let inputs = random_inputs(&module);
        let free = compile(&module, 0).expect("it compiles");
        let mut counts = vec![tiles(&free)];
        let expected = execute(free, &inputs);
        for bound_ns in [100_000, 20_000, 5_000, 1_000] {
            let program = compile(&module, bound_ns).expect("it compiles");
            counts.push(tiles(&program));
            for kernel in program.kernels.values().filter(|k| k.raw.is_some()) {
                let raw = &program.kernels[kernel.raw.expect("filtered")];
                let predicted = [kernel, raw].map(|k| k.certificate.as_ref().expect("a CPU's").tile_ns);
                assert!(predicted[0] < predicted[1], "{text}: {predicted:?}");
            }
            if bound_ns <= 20_000 {
                agree(&program, &inputs, &expected, &format!("{text} under {bound_ns} ns"));
            }
        }
        assert!(counts.is_sorted() && counts[0] < counts[4], "{text}: {counts:?}");
    }
}

#[test]
fn generated_programs_mean_the_same_under_every_bound() {
    let (mut compiled, mut cut) = (0, 0);
    for seed in 0..60 {
        let program = Generator::new(3_000_000 + seed).module(6);
        let Ok(free) = compile(&program.module, 0) else { continue };
        let without = tiles(&free);
        let expected = execute(free, &program.inputs);
        for bound_ns in [2_000, 200] {
            let bounded = compile(&program.module, bound_ns).expect("it compiles without a bound");
            cut += u64::from(tiles(&bounded) > without);
            agree(&bounded, &program.inputs, &expected, &format!("seed {seed} under {bound_ns} ns"));
        }
        compiled += 1;
    }
    println!("{compiled} programs, {cut} of them with more tiles under a bound");
    assert!(compiled > 20 && cut > 10, "{compiled} {cut}");
}
