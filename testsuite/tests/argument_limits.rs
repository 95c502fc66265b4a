//! The limit on the arguments of a group, at the sizes of the targets that have one.

use std::fmt::Write as _;

use fermata_ir::infer::infer_module;
use fermata_ir::op::OpTable;
use fermata_ir::text::{ParseOptions, parse_module};
use fermata_ir::walk;
use fermata_passes::fuse::is_primitive_expr;
use fermata_passes::manager::{self, Options};
use fermata_passes::pipeline::parse;
use fermata_passes::table::PassTable;

/// Values of so many parameters, each moved and made an exponential, summed from left to right.
fn sum_of(inputs: usize) -> String {
    let params: Vec<String> = (0..inputs).map(|i| format!("%p{i}: Tensor[(10, 20), float32]")).collect();
    let mut text = format!("#[version = \"0.0.5\"]\ndef @main({}) {{\n", params.join(", "));
    let mut sum = String::new();
    for i in 0..inputs {
        let _ = writeln!(text, "  %{} = add(%p{i}, 1f);\n  %{} = exp(%{});", 3 * i, 3 * i + 1, 3 * i);
        let value = format!("%{}", 3 * i + 1);
        if i == 0 {
            sum = value;
        } else {
            let _ = writeln!(text, "  %{} = add({sum}, {value});", 3 * i + 2);
            sum = format!("%{}", 3 * i + 2);
        }
    }
    text + "  " + &sum + "\n}\n"
}

/// How many groups there are with these options, and the most arguments and results that one has.
fn groups(text: &str, options: &str) -> (usize, usize) {
    let mut module = parse_module("sum", text, &ParseOptions::new(&OpTable::standard())).expect("it parses");
    infer_module(&mut module).expect("it is typed");
    let passes = parse(&format!("fuse_ops{{{options}}}"), &PassTable::standard()).expect("a pipeline");
    manager::run(&mut module, &passes, &Options::default(), &mut []).expect("it runs");
    let groups = walk::reachable(&module).into_iter().filter(|&e| is_primitive_expr(&module, e));
    let sizes: Vec<usize> = groups
        .map(|e| match &module.exprs[e] {
            fermata_ir::expr::Expr::Func(func) => func.params.len() + 1,
            _ => 0,
        })
        .collect();
    (sizes.len(), sizes.into_iter().max().unwrap_or(0))
}

#[test]
fn a_long_sum_is_as_many_groups_as_the_limit_makes() {
    let text = sum_of(300);
    let relay = |limit: usize| groups(&text, &format!("max_depth=1500 mode=relay max_function_args={limit}"));
    // The first group is full; of each further parameter there is a group, and one that adds it.
    assert_eq!(relay(128), (347, 128));
    assert_eq!(relay(31), (541, 31));
    assert_eq!(relay(0), (1, 301));
}

#[test]
fn no_group_exceeds_its_limit() {
    let text = sum_of(40);
    for limit in [3, 4, 7, 16, 31] {
        let (count, most) = groups(&text, &format!("max_function_args={limit}"));
        assert!(most <= limit && count > 1, "{limit}: {count} groups of at most {most}");
    }
}
