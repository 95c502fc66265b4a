//! Passes over generated programs: what must hold whatever the program is.
//!
//! `FERMATA_PROGRAMS=2000 cargo test --release --test metamorphic` tries more of them.

use fermata_ir::compare::compare;
use fermata_ir::equal::structurally_equal;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::infer::infer_module;
use fermata_ir::op::broadcast::{ADD, EQUAL, MAXIMUM, MINIMUM, MULTIPLY};
use fermata_ir::op::{Op, OpTable};
use fermata_ir::tensor::Tensor;
use fermata_ir::text::{ParseOptions, parse_module};
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

/// A quantisation of some operators of dequantised bytes, as text.
fn quantised_region(rng: &mut Rng) -> String {
    let scales = ["0.5f", "0.25f", "0.1f", "0.3f", "0.07f"];
    let params = |rng: &mut Rng| format!("{}, {}i8", rng.pick(&scales), rng.below(41) as i64 - 20);
    let [x, y, out] = [(); 3].map(|()| params(rng));
    let first = [
        "qnn.dequantize(%x, X)",
        "nn.conv2d(X, W, padding=[1, 1], channels=3, kernel_size=[3, 3])",
        "nn.relu(nn.bias_add(nn.conv2d(X, W, channels=3, kernel_size=[3, 3]), B))",
        "add(B3, nn.conv2d(nn.relu(X), W, channels=3, kernel_size=[3, 3]))",
        "nn.conv2d(nn.pad(nn.relu(X), 0f, pad_width=[[0, 0], [0, 0], [1, 0], [0, 2]]), W)",
        "nn.dense(reshape(X, newshape=[-1, 4]), V, units=None)",
        "add(nn.matmul(reshape(X, newshape=[-1, 4]), V, units=None, transpose_b=True), B)",
        "nn.batch_matmul(reshape(X, newshape=[2, 4, 4]), reshape(Y, newshape=[2, 4, 4]), transpose_b=True)",
        "add(X, Y)",
        "subtract(X, Y)",
        "multiply(X, Y)",
        "multiply(divide(X, 3f), 0.75f)",
        "concatenate((X, Y, X), axis=1)",
        "nn.avg_pool2d(X, pool_size=[3, 3], padding=[1, 1])",
        "nn.avg_pool2d(X, pool_size=[2, 2], strides=[2, 2], padding=[1, 1], count_include_pad=True)",
        "nn.global_avg_pool2d(X)",
        "mean(X, axis=[1], exclude=True)",
        "sum(X, axis=[2], keepdims=True)",
    ];
    let then = [
        "nn.relu(Z)",
        "clip(Z, a_min=-0.7f, a_max=1.3f)",
        "max(Z, axis=[0], keepdims=True)",
        "reshape(Z, newshape=[-1])",
        "Z",
    ];
    let mut body = (*rng.pick(&first)).to_owned();
    for _ in 0..rng.below(3) {
        body = rng.pick(&then).replace('Z', &body);
    }
    let weights = |n: usize| (0..n).map(|i| ((i * 37 + 11) % 23) as i64 - 11).map(|v| v.to_string());
    let constant = |shape: &str, n: usize| {
        format!("const(Tensor[({shape}), int8], [{}])", weights(n).collect::<Vec<_>>().join(", "))
    };
    let vector = "const(Tensor[(3), float32], [0.25, 0.125, 0.5]), const(Tensor[(3), int8], [0, 1, -2])";
    let body = body
        .replace("qnn.dequantize(%x, X)", "X")
        .replace('X', &format!("qnn.dequantize(%x, {x})"))
        .replace('Y', &format!("qnn.dequantize(%y, {y})"))
        .replace('W', &format!("qnn.dequantize({}, {vector}, axis=0)", constant("3, 2, 3, 3", 54)))
        .replace('V', &format!("qnn.dequantize({}, 0.2f, 1i8)", constant("3, 4", 12)))
        .replace("B3", "const(Tensor[(3, 1, 1), float32], [1.5, -2.25, 0.3])")
        .replace('B', "const(Tensor[(3), float32], [1.5, -2.25, 0.3])");
    let input = "Tensor[(1, 2, 4, 4), int8]";
    format!("#[version = \"0.0.5\"]\ndef @main(%x: {input}, %y: {input}) {{ qnn.quantize({body}, {out}) }}")
}

#[test]
fn integers_are_at_most_one_step_from_what_floats_round_to() {
    let table = OpTable::standard();
    let count = programs(400);
    let (mut steps, mut elements) = (0, 0);
    for seed in 0..count {
        let mut rng = Rng::new(10_000_000 + seed);
        let text = quantised_region(&mut rng);
        let mut module =
            parse_module("region", &text, &ParseOptions::new(&table)).expect("it is well formed");
        infer_module(&mut module).unwrap_or_else(|e| panic!("seed {seed}: {:?}\n{text}", e.0[0].message));
        let mut bytes = || (0..32).map(|_| rng.below(256) as u8 as i8).collect::<Vec<i8>>();
        let inputs = [bytes(), bytes()].map(|b| Tensor::from_slice(&[1, 2, 4, 4], &b).expect("32 bytes"));
        let program = Program { module, inputs: inputs.to_vec() };
        let integers = after(&program, "fake_quantization_to_integer");
        let float = |e: &ExprId| {
            let ty = integers.module.types[*e].as_tensor();
            ty.is_some_and(|t| t.dtype.is_float() && t.rank() > 1) && integers.module.as_const(*e).is_none()
        };
        let left = walk::reachable(&integers.module).into_iter().find(float);
        assert!(left.is_none(), "seed {seed}: a float is left\n{text}");
        round_trip(&integers).unwrap_or_else(|message| panic!("seed {seed}: {message}"));
        let results =
            [&program, &integers].map(|p| evaluate(&p.module, &p.inputs).expect("it has a meaning"));
        let [a, b] = results.map(|r| r[0].as_slice::<i8>().expect("bytes").to_vec());
        for (a, b) in a.iter().zip(&b) {
            let apart = (i32::from(*a) - i32::from(*b)).abs();
            assert!(apart <= 1, "seed {seed}: {a} became {b}\n{text}");
            steps += apart;
            elements += 1;
        }
    }
    println!("{steps} of {elements} numbers are one step away");
    assert!(steps * 20 < elements, "{steps} of {elements} numbers are one step away");
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
