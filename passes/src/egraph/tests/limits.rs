//! Types, extraction and limits: what holds of every e-graph, and of programs that an enemy writes.

use std::collections::BTreeMap;

use egg::{Id, Language};
use fermata_ir::expr::Module;

use super::super::convert::{Imported, import};
use super::super::cost::cost;
use super::super::extract::extract;
use super::super::facts::{Graph, Knowledge, infer};
use super::super::rules;
use super::super::saturate::{Limits, saturate};
use super::{body, operators, parse, random_program, run};
use crate::pass::FloatClass;

/// The e-graph of `@main` after the rules, and why they stopped.
fn saturated(module: &Module, limits: Limits) -> (Imported, String) {
    let mut imported = import(module, body(module), Graph::new(Knowledge::default()));
    let (graph, reason) = saturate(imported.graph, rules::compiled(FloatClass::Algebraic), limits);
    imported.graph = graph;
    (imported, reason)
}

#[test]
fn all_nodes_of_a_class_have_its_type() {
    for seed in 0..30 {
        let module = parse(&random_program(seed, 20)).expect("a program");
        let (imported, _) = saturated(&module, Limits { iterations: 5, nodes: 3000 });
        let graph = &imported.graph;
        for class in graph.classes().filter(|class| class.data.ty().is_some()) {
            for node in &class.nodes {
                let operands: Vec<_> = node.children.iter().map(|&c| &graph[c].data).collect();
                let facts = infer(&graph.analysis, node.head, &operands).expect("it has a type");
                assert_eq!(facts.ty(), class.data.ty(), "seed {seed}: {node:?}");
            }
        }
    }
}

/// The least that a root costs, all choices tried one after the other; `None` if they are too many.
fn least(imported: &Imported) -> Option<u64> {
    let graph = &imported.graph;
    let root = graph.find(imported.root);
    let mut classes = vec![root];
    let mut at = 0;
    while let Some(&class) = classes.get(at) {
        for operand in graph[class].nodes.iter().flat_map(|n| n.children()) {
            let operand = graph.find(*operand);
            if !classes.contains(&operand) {
                classes.push(operand);
            }
        }
        at += 1;
    }
    let sizes: Vec<usize> = classes.iter().map(|&c| graph[c].nodes.len()).collect();
    let choices = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size).filter(|&n| n <= 300_000))?;
    let one = |mut number: usize| {
        let digits = sizes.iter().map(|size| {
            let digit = number % size;
            number /= size;
            digit
        });
        let choice: BTreeMap<Id, usize> = classes.iter().copied().zip(digits).collect();
        total(imported, root, &choice)
    };
    (0..choices).filter_map(one).min()
}

/// What a root costs under a choice, each class once; `None` if it needs itself.
fn total(imported: &Imported, root: Id, choice: &BTreeMap<Id, usize>) -> Option<u64> {
    let graph = &imported.graph;
    let mut state: BTreeMap<Id, bool> = BTreeMap::new();
    let (mut sum, mut stack) = (0, vec![(root, false)]);
    while let Some((class, leave)) = stack.pop() {
        if leave {
            state.insert(class, true);
            continue;
        }
        match state.get(&class) {
            Some(true) => continue,
            Some(false) => return None,
            None => {}
        }
        state.insert(class, false);
        stack.push((class, true));
        let node = &graph[class].nodes[choice[&class]];
        sum += cost(graph, node, &graph[class].data);
        for operand in node.children() {
            let operand = graph.find(*operand);
            match state.get(&operand) {
                Some(false) => return None,
                Some(true) => {}
                None => stack.push((operand, false)),
            }
        }
    }
    Some(sum)
}

#[test]
fn small_graphs_give_the_best_of_all_choices() {
    let mut compared = 0;
    for seed in 0..200 {
        let module = parse(&random_program(seed, 3 + seed as usize % 6)).expect("a program");
        let (imported, _) = saturated(&module, Limits { iterations: 2, nodes: 200 });
        if let Some(least) = least(&imported) {
            assert_eq!(extract(&imported).cost, least, "seed {seed}");
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared} graphs are small enough to compare");
}

#[test]
fn what_is_shared_is_paid_once() {
    // Alone, `x * y + x` is cheaper as it stands than as `x * (y + 1)`; its product has another use.
    let text = "%0 = erf(%x); %1 = multiply(%0, %y); (add(%1, %0), %1, multiply(%1, %0))";
    let params = "%x: Tensor[(64, 64), float32], %y: Tensor[(64, 64), float32]";
    let mut module = parse(&format!("def @main({params}) {{ {text} }}")).expect("a program");
    run(&mut module);
    assert_eq!(operators(&module).into_iter().filter(|&op| op == "erf").count(), 1);
    assert_eq!(operators(&module).into_iter().filter(|&op| op == "multiply").count(), 2);
}

#[test]
fn limits_hold_and_the_reason_is_told() {
    let text = "add(add(add(add(add(%x, 1f), %y), 2f), %z), multiply(multiply(multiply(%x, 3f), %y), 4f))";
    let params = ["x", "y", "z"].map(|n| format!("%{n}: Tensor[(2, 3), float32]")).join(", ");
    let module = parse(&format!("def @main({params}) {{ {text} }}")).expect("a program");
    let reason = |iterations, nodes| saturated(&module, Limits { iterations, nodes });
    assert_eq!(reason(1, 100_000).1, "stopped after 1 iterations");
    let (imported, why) = reason(50, 40);
    assert!(why.starts_with("stopped at the limit of"), "{why}");
    // A rule that has begun ends its round of matches.
    assert!(imported.graph.total_number_of_nodes() < 600, "{}", imported.graph.total_number_of_nodes());
    let module = parse("def @main(%x: Tensor[(4), float32]) { tanh(%x) }").expect("a program");
    assert_eq!(saturated(&module, Limits { iterations: 8, nodes: 100 }).1, "saturated");
}

/// A thousand values of one, summed; a deep chain; one operator with very many operands.
fn hostile(size: usize) -> [(&'static str, String); 3] {
    let shape = "%x: Tensor[(2, 3), float32]";
    let mut diamond = "%0 = tanh(%x);\n".to_string();
    let mut chain = diamond.clone();
    for i in 1..size {
        diamond += &format!("%{i} = multiply(%0, {i}f);\n");
        chain += &format!("%{i} = add(multiply(%{}, 1f), %{});\n", i - 1, i - 1);
    }
    let names: Vec<String> = (0..size).map(|i| format!("%{i}")).collect();
    let wide = vec!["%0"; 10 * size].join(", ");
    [
        (
            "diamond",
            format!("def @main({shape}) {{ {diamond} concatenate(({}), axis=0) }}", names.join(", ")),
        ),
        ("chain", format!("def @main({shape}) {{ {chain} nn.relu(%{}) }}", size - 1)),
        ("wide", format!("def @main({shape}) {{ %0 = tanh(%x); concatenate(({wide}), axis=0) }}")),
    ]
}

#[test]
fn hostile_programs_stay_within_the_limits() {
    for (name, text) in hostile(1000) {
        let mut module = parse(&text).expect("a program");
        let before = module.exprs.len();
        let (_, context) = run(&mut module);
        assert!(operators(&module).len() <= 2001, "{name}");
        let made = module.exprs.len() - before;
        assert!(made <= 4 * before, "{name}: {made} of {before}; {:?}", context.remarks);
    }
}
