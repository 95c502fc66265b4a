//! Passes over generated programs: what must hold whatever the program is.
//!
//! `FERMATA_PROGRAMS=2000 cargo test --release --test metamorphic` tries more of them.

use fermata_ir::compare::compare;
use fermata_ir::equal::structurally_equal;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, EQUAL, MAXIMUM, MINIMUM, MULTIPLY};
use fermata_ir::op::{Op, OpTable};
use fermata_ir::tensor::Tensor;
use fermata_ir::walk;
use fermata_passes::fuse::is_primitive_expr;
use fermata_passes::manager::{self, Options};
use fermata_passes::pass::{FloatClass, PassDef, Stage};
use fermata_passes::pipeline::parse;
use fermata_passes::relay::regions::region;
use fermata_passes::table::{PASSES, PassTable};
use fermata_testsuite::generate::{Generator, Program, Rng, evaluate, round_trip};

/// How many programs are tried.
fn programs(default: u64) -> u64 {
    let asked = std::env::var("FERMATA_PROGRAMS").ok();
    asked.map_or(default, |n| n.parse().expect("FERMATA_PROGRAMS is a number"))
}

/// The program after some passes.
fn after(program: &Program, passes: &str) -> Program {
    let mut module = program.module.clone();
    let pipeline = parse(passes, &PassTable::standard()).expect("a pipeline");
    if let Err(refused) = manager::run(&mut module, &pipeline, &Options::default(), &mut []) {
        panic!("{passes}: {}: {:?}", refused.0[0].message, refused.0[0].notes);
    }
    Program { module, inputs: program.inputs.clone() }
}

/// What brings a program into the form that a pass takes.
fn prelude(pass: &PassDef) -> &'static str {
    match pass.takes {
        Stage::Relay => "",
        Stage::Graph => "to_graph_normal_form,",
        Stage::ANormal => "to_a_normal_form,",
        Stage::Fused => "to_graph_normal_form,fuse_ops,",
    }
}

/// True if the results agree, or the first program has none.
fn same_results(before: &Program, changed: &Program) -> Result<(), String> {
    let Ok(expected) = evaluate(&before.module, &before.inputs) else { return Ok(()) };
    let found = evaluate(&changed.module, &changed.inputs).map_err(|d| format!("it stops: {}", d.message))?;
    let agree = |(a, b): (&Tensor, &Tensor)| a.bitwise_eq(b) || compare(a, b).matches();
    match found.len() == expected.len() && found.iter().zip(&expected).all(agree) {
        true => Ok(()),
        false => Err(format!("results differ: {found:?} instead of {expected:?}")),
    }
}

#[test]
fn every_pass_leaves_a_program_that_prints_and_means_the_same() {
    for seed in 0..programs(8 * PASSES.len() as u64) {
        let pass = PASSES[seed as usize % PASSES.len()];
        let program = Generator::new(3_000_000 + seed).module(10);
        let changed = after(&program, &format!("{}{}", prelude(pass), pass.name));
        if let Err(message) = round_trip(&changed) {
            panic!("seed {seed}, {}: {message}", pass.name);
        }
        if pass.float == FloatClass::Exact
            && let Err(message) = same_results(&program, &changed)
        {
            panic!("seed {seed}, {}: {message}", pass.name);
        }
    }
}

#[test]
fn groups_come_apart_into_the_program_that_they_were_made_of() {
    for seed in 0..programs(120) {
        let program = Generator::new(4_000_000 + seed).module(12);
        let graph = after(&program, "to_graph_normal_form");
        let back = after(&program, "to_graph_normal_form,fuse_ops,defuse_ops");
        assert!(structurally_equal(&graph.module, &back.module), "seed {seed}");
    }
}

#[test]
fn normal_forms_mean_the_same() {
    for seed in 0..programs(120) {
        let program = Generator::new(5_000_000 + seed).module(12);
        for form in ["to_a_normal_form", "to_a_normal_form,to_graph_normal_form", "partial_eval"] {
            if let Err(message) = same_results(&program, &after(&program, form)) {
                panic!("seed {seed}, {form}: {message}");
            }
        }
    }
}

#[test]
fn regions_mean_what_they_were_made_of() {
    // Not all operators, so that regions have something between them.
    let table = OpTable::standard();
    let ops: Vec<&str> = table.iter().map(|op| op.name()).filter(|name| name.len() % 4 != 0).collect();
    let annotate = format!("annotate_target{{target=some ops={}}}", ops.join(","));
    let steps = [&*annotate, "merge_compiler_regions", "partition_graph", "to_graph_normal_form,fuse_ops"];
    let mut joined = 0;
    for seed in 0..programs(160) {
        let program = Generator::new(8_000_000 + seed).module(16);
        let mut passes = "merge_composite".to_owned();
        let mut regions = Vec::new();
        for step in steps {
            passes = format!("{passes},{step}");
            let changed = after(&program, &passes);
            let told = round_trip(&changed).and_then(|()| same_results(&program, &changed));
            if let Err(message) = told {
                panic!("seed {seed}, {passes}: {message}");
            }
            let is_region = |e: &ExprId| region(&changed.module, *e).is_some();
            regions.push(walk::reachable(&changed.module).iter().filter(|e| is_region(e)).count());
        }
        joined += usize::from(regions[1] < regions[0]);
    }
    assert!(joined > 10, "regions are joined in {joined} programs");
}

#[test]
fn layouts_mean_the_same() {
    let last = |name: &str| match name {
        _ if name.contains("1d") => "NWC",
        _ if name.contains("3d") => "NDHWC",
        _ => "NHWC",
    };
    let table = OpTable::standard();
    let has = |op: &Op| ["layout", "data_layout"].iter().any(|n| op.attrs.iter().any(|a| a.name == *n));
    let names: Vec<&str> = table.iter().filter(has).map(|op| op.name()).collect();
    let all = |layout: &dyn Fn(&str) -> &'static str| {
        let each: Vec<String> = names.iter().map(|name| format!("{name}:{}", layout(name))).collect();
        format!("convert_layout{{layouts={}}}", each.join(","))
    };
    let ways = [all(&last), "convert_layout{layouts=nn.conv2d:NCHW2c,nn.max_pool2d:NCHW2c,nn.avg_pool2d:NCHW2c,nn.global_avg_pool2d:NCHW2c}".into()];
    let mut changed = [0; 2];
    for seed in 0..programs(400) {
        let program = Generator::new(9_000_000 + seed).module(16);
        for (way, passes) in ways.iter().enumerate() {
            let other = after(&program, passes);
            if let Err(message) = round_trip(&other).and_then(|()| same_results(&program, &other)) {
                panic!("seed {seed}, {passes}: {message}");
            }
            let plain = after(&program, "canonicalize_ops");
            changed[way] += usize::from(!structurally_equal(&plain.module, &other.module));
        }
    }
    println!("{changed:?} programs with other layouts");
    assert!(changed[0] > 10 && changed[1] > 0, "{changed:?} programs with other layouts");
}

#[test]
fn what_is_held_lazily_means_the_same() {
    for seed in 0..programs(160) {
        let program = Generator::new(9_000_000 + seed).module(12);
        if let Err(message) = same_results(&program, &after(&program, "lazy_gradient_init{finite=False}")) {
            panic!("seed {seed}: {message}");
        }
    }
}

/// The program with the operands of some commuting operators the other way round.
fn commuted(program: &Program, rng: &mut Rng) -> Program {
    let mut module = program.module.clone();
    for expr in walk::reachable(&module) {
        let Some((op, _)) = module.as_op_call(expr) else { continue };
        let commutes = [&ADD, &MULTIPLY, &MAXIMUM, &MINIMUM, &EQUAL].iter().any(|def| op.is(def));
        if commutes
            && rng.chance(1, 2)
            && let Expr::Call(call) = &mut module.exprs[expr]
        {
            call.args.reverse();
        }
    }
    Program { module, inputs: program.inputs.clone() }
}

/// How many groups there are.
fn groups(module: &Module) -> usize {
    walk::reachable(module).into_iter().filter(|&e| is_primitive_expr(module, e)).count()
}

#[test]
fn the_order_of_operands_decides_nothing_about_groups() {
    for seed in 0..programs(160) {
        let program = Generator::new(6_000_000 + seed).module(12);
        let other = commuted(&program, &mut Rng::new(seed));
        let [one, two] =
            [&program, &other].map(|p| groups(&after(p, "to_graph_normal_form,fuse_ops").module));
        assert_eq!(one, two, "seed {seed}");
    }
}

#[test]
fn any_exact_pass_may_be_left_out() {
    let exact = [
        "remove_unused_functions",
        "fold_constant",
        "dead_code",
        "lambda_lift",
        "to_graph_normal_form",
        "common_subexpr",
        "simplify_expr",
        "fuse_ops",
    ];
    for seed in 0..programs(120) {
        let program = Generator::new(7_000_000 + seed).module(10);
        let left_out = seed as usize % exact.len();
        // Fusion takes a graph, whatever else is left out.
        let passes: Vec<&str> = exact
            .iter()
            .enumerate()
            .filter(|&(i, name)| i != left_out || *name == "to_graph_normal_form")
            .map(|(_, name)| *name)
            .collect();
        if let Err(message) = same_results(&program, &after(&program, &passes.join(","))) {
            panic!("seed {seed}, without {}: {message}", exact[left_out]);
        }
    }
}
