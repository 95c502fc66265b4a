//! How long the passes take: `cargo bench -p fermata-testsuite --bench passes`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fermata_ir::expr::Module;
use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::{Level, standard};
use fermata_passes::target::Target;
use fermata_runtime::detect;
use fermata_testsuite::networks::{Encoder, densenet121, encoder, with_weights};
use fermata_testsuite::scale;

/// As the program runs them by default, but for the checks between passes.
fn optimise(mut module: Module) -> Module {
    let options = Options { target: Target::Cpu(detect::host()), verify_each: false, ..Options::default() };
    manager::run(&mut module, &standard(Level(2)), &options, &mut []).expect("the passes take it");
    module
}

fn chain() -> Module {
    let (_, text) = scale::programs(100_000).swap_remove(0);
    let mut module =
        parse_module("chain", &text, &ParseOptions::new(&OpTable::standard())).expect("it parses");
    infer_module(&mut module).expect("it is typed");
    module
}

fn passes(criterion: &mut Criterion) {
    let programs = [
        ("a chain of 100,000 operators", chain()),
        ("an encoder of 6 layers", with_weights(&encoder(Encoder::MINILM)).expect("it is a program")),
        ("densenet121", with_weights(&densenet121()).expect("it is a program")),
    ];
    let mut group = criterion.benchmark_group("-O2");
    group.sample_size(10);
    for (name, module) in programs {
        let copy = || module.clone();
        group.bench_function(name, |bencher| bencher.iter_batched(copy, optimise, BatchSize::PerIteration));
    }
    group.finish();
}

criterion_group!(benches, passes);
criterion_main!(benches);
