//! Tests of the generator itself.

use std::collections::BTreeMap;

use fermata_ir::eval::{EvalOptions, Value, eval_global};
use fermata_ir::expr::Callee;
use fermata_ir::verify::verify;
use fermata_ir::walk;

use super::*;

fn op_names(module: &Module) -> Vec<&'static str> {
    let calls = walk::reachable(module).into_iter().filter_map(|id| module.as_op_call(id));
    calls.map(|(op, _)| op.name()).collect()
}

#[test]
fn a_seed_gives_one_program_and_programs_are_well_formed() {
    let mut evaluated = 0;
    for seed in 0..150 {
        let program = Generator::new(seed).module(20);
        let again = Generator::new(seed).module(20);
        assert_eq!(format!("{:?}", program.module.exprs), format!("{:?}", again.module.exprs));
        if let Err(found) = verify(&program.module) {
            panic!("seed {seed}: {:?}", found.0);
        }
        let args = program.inputs.iter().cloned().map(Value::Tensor).collect();
        let options = EvalOptions { max_steps: 1_000_000, ..EvalOptions::default() };
        match eval_global(&program.module, "main", args, &options) {
            Ok(value) => {
                let main = program.module.global("main").expect("every program has one");
                let declared = &program.module.globals[main].func.as_ref().expect("live").ret;
                assert_eq!(value.ty(), *declared, "seed {seed}");
                evaluated += 1;
            }
            Err(d) => println!("seed {seed}: {}", d.message),
        }
    }
    println!("{evaluated} of 150 evaluate");
    assert!(evaluated >= 110);
}

#[test]
fn most_operators_occur() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    counts.extend(Options::default().ops.iter().map(|op| (op.name(), 0)));
    for seed in 0..300 {
        for name in op_names(&Generator::new(seed).module(20).module) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let missing: Vec<_> = counts.iter().filter(|(_, n)| **n == 0).map(|(name, _)| *name).collect();
    println!("{} of {} operators never occur: {missing:?}", missing.len(), counts.len());
    assert!(missing.len() * 4 < counts.len());
}

#[test]
fn shrinking_keeps_the_failure_and_little_else() {
    let holds = |p: &Program| op_names(&p.module).contains(&"tanh");
    let mut shrunk = 0;
    for seed in 0..60 {
        let program = Generator::new(seed).module(25);
        if !holds(&program) {
            continue;
        }
        let small = shrink(&program, &mut |p| holds(p));
        assert!(holds(&small));
        assert!(verify(&small.module).is_ok());
        // A call and its operand remain, unless the function with the call in it is used twice.
        assert!(small.module.exprs.len() <= 12, "seed {seed}: {:?}", small.module.exprs);
        shrunk += usize::from(small.module.exprs.len() == 2);
    }
    assert!(shrunk > 0);
}

#[test]
fn programs_without_control_flow_are_calls_only() {
    let options = Options { control_flow: false, ..Options::default() };
    for seed in 0..20 {
        let program = Generator::with_options(seed, options.clone()).module(30);
        let called = walk::reachable(&program.module).into_iter().all(|id| {
            !matches!(&program.module.exprs[id], fermata_ir::expr::Expr::Call(c) if matches!(c.callee, Callee::Expr(_)))
        });
        assert!(called);
    }
}
