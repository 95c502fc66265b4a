//! Preemption: every interleaving of small kernels, every mutant, and a whole network.

use std::path::Path;

use fermata_ir::front::onnx::{ImportOptions, import_file};
use fermata_runtime::device::simulated::explore::explore;
use fermata_testsuite::preempt::blocks;
use fermata_testsuite::preempt::models::Compiled;
use fermata_testsuite::preempt::mutants::MUTANTS;
use fermata_testsuite::preempt::small::{Size, Small, kernels};

#[test]
fn every_interleaving_of_small_kernels_is_sound() {
    for small in kernels(Size::Quick) {
        let Small { title, tiles, model } = &small;
        match explore(model) {
            Ok(explored) => assert!(explored.interleavings > 1, "{title}, {tiles:?}"),
            Err(violation) => panic!("{title}, {} workers, {tiles:?}: {violation}", model.workers),
        }
    }
}

#[test]
fn a_block_is_preempted_at_each_read_of_the_word() {
    assert!(blocks::all_hold().expect("the loop of the protocol holds") > 10);
}

#[test]
fn every_mutant_is_killed() {
    let alive: Vec<&str> =
        MUTANTS.iter().filter(|mutant| (mutant.killed_by)().is_none()).map(|mutant| mutant.name).collect();
    assert!(alive.is_empty(), "no check sees these: {alive:?}");
}

#[test]
fn the_demo_network_gives_the_same_bits_in_any_interleaving() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/demo/digits.onnx");
    let dims = [("batch".to_string(), 16)].into();
    let module = import_file(&path, &ImportOptions { dims, ..ImportOptions::default() });
    let compiled = Compiled::new(module.expect("the network is there"), None).expect("it compiles");
    let findings = compiled.interleaved(0..24).expect("every check holds");
    assert!(findings.tiles > findings.launches, "{findings:?}");
    assert!(findings.flips > 100 && findings.parked > 0, "{findings:?}");
}
