//! How long the passes take: `cargo bench -p fermata-testsuite --bench passes`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, Pipeline, parse, standard};
use fermata_passes::table::PassTable;
use fermata_passes::target::Target;
use fermata_runtime::detect;
use fermata_testsuite::networks::{Encoder, densenet121, encoder, with_weights};
use fermata_testsuite::scale;

/// Passes that the standard pipelines leave out, or that take the most of -O3, by the program that
/// they run on.
const ENCODER: [&str; 2] = [
    "saturate",
    "merge_composite,annotate_target{target=x ops=\"nn.dense, nn.softmax\"},\
                            merge_compiler_regions,partition_graph",
];
const DENSENET: [&str; 2] = ["convert_layout{layouts=nn.conv2d:NHWC}", "canonicalize_ops,legalize"];
const CLOSURES: [&str; 2] = ["lambda_lift", "partial_eval"];

/// As the program runs them by default, but for the checks between passes.
fn optimise(mut module: Module, pipeline: &Pipeline) -> Module {
    let options = Options { target: Target::Cpu(detect::host()), verify_each: false, ..Options::default() };
    manager::run(&mut module, pipeline, &options, &mut []).expect("the passes take it");
    module
}

/// A program of `testsuite scale`, typed.
fn large(name: &str, size: usize) -> Module {
    let mut programs = scale::programs(size).into_iter();
    let (_, text) = programs.find(|(found, _)| *found == name).expect("there is such a program");
    let mut module = parse_module(name, &text, &ParseOptions::new(&OpTable::standard())).expect("it parses");
    infer_module(&mut module).expect("it is typed");
    module
}

fn passes(criterion: &mut Criterion) {
    let encoder = with_weights(&encoder(Encoder::MINILM)).expect("it is a program");
    let densenet = with_weights(&densenet121()).expect("it is a program");
    let closures = large("closures", 100_000);
    let mut group = criterion.benchmark_group("passes");
    group.sample_size(10);
    let mut measure = |program: &str, passes: &str, module: &Module, pipeline: &Pipeline| {
        group.bench_function(format!("{program}: {passes}"), |bencher| {
            let copy = || module.clone();
            bencher.iter_batched(copy, |module| optimise(module, pipeline), BatchSize::PerIteration);
        });
    };
    measure("a chain of 100,000 operators", "-O2", &large("a chain", 100_000), &standard(Level(2)));
    measure("an encoder of 6 layers", "-O2", &encoder, &standard(Level(2)));
    measure("densenet121", "-O2", &densenet, &standard(Level(2)));
    let alone = [
        ("an encoder of 6 layers", &encoder, ENCODER),
        ("densenet121", &densenet, DENSENET),
        ("5,000 closures", &closures, CLOSURES),
    ];
    for (program, module, pipelines) in alone {
        for text in pipelines {
            let pipeline = parse(text, &PassTable::standard()).expect("they are passes");
            measure(program, text, module, &pipeline);
        }
    }
    group.finish();
}

criterion_group!(benches, passes);
criterion_main!(benches);
