//! Generated programs: compiled code agrees with the evaluator, and the text is the program.
//!
//! `FERMATA_PROGRAMS=5000 cargo test --release --test generated` tries more of them;
//! `testsuite generated` tries them in every way.

use std::collections::BTreeMap;

use fermata_testsuite::generate::{
    Fault, Generator, Program, Rng, Treatment, Verdict, as_case, check, evaluate, generalise, round_trip,
    shrink,
};

/// How many programs are tried.
fn programs(default: u64) -> u64 {
    let asked = std::env::var("FERMATA_PROGRAMS").ok();
    asked.map_or(default, |n| n.parse().expect("FERMATA_PROGRAMS is a number"))
}

#[test]
fn compiled_programs_agree_with_the_evaluator() {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    let count = programs(160);
    for seed in 0..count {
        let program = Generator::new(seed).module(8);
        let treatment = Treatment::random(&mut Rng::new(seed));
        let end = match check(&program, &[treatment]) {
            Ok(Verdict::Agrees) => "agree",
            Ok(Verdict::NoMeaning) => "stop on the evaluator",
            Ok(Verdict::Refused(_)) => "are refused",
            Ok(Verdict::Unstable) => "differ where rounding decides",
            Err(fault) => panic!("seed {seed}: {}", told(&program, fault)),
        };
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}");
    assert!(ends["agree"] * 2 > count, "most programs compile: {ends:?}");
}

/// A fault with a small program that has it, as a case file.
fn told(program: &Program, fault: Fault) -> String {
    let treatments = [fault.treatment];
    let small = shrink(program, &mut |p| check(p, &treatments).is_err());
    let last = check(&small, &treatments).err().unwrap_or(fault);
    format!("{last}\n{}", as_case(&small, &last))
}

#[test]
fn programs_survive_their_text() {
    for seed in 0..programs(400) {
        let program = Generator::new(1_000_000 + seed).module(12);
        if let Err(message) = round_trip(&program) {
            panic!("seed {seed}: {message}");
        }
    }
}

#[test]
fn a_named_dimension_changes_nothing() {
    let mut named = 0;
    for seed in 0..programs(300) {
        let program = Generator::new(2_000_000 + seed).module(5);
        let Some(general) = generalise(&program, &mut Rng::new(seed)) else { continue };
        if let Err(message) = round_trip(&general) {
            panic!("seed {seed}: {message}");
        }
        let results = [&program, &general].map(|p| evaluate(&p.module, &p.inputs));
        let [Ok(expected), Ok(found)] = &results else {
            assert!(results.iter().all(Result::is_err), "seed {seed}: {results:?}");
            continue;
        };
        assert!(found.iter().zip(expected).all(|(a, b)| a.bitwise_eq(b)), "seed {seed}");
        // Every fourth runs compiled too: specialising is the same whatever the program.
        if seed % 4 == 0
            && let Err(fault) = check(&general, &[Treatment::random(&mut Rng::new(seed))])
        {
            panic!("seed {seed}: {}", told(&general, fault));
        }
        named += 1;
    }
    println!("{named} programs with a named dimension");
    assert!(named > 20);
}
