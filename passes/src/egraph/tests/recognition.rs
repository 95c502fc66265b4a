//! GELU and attention in all the forms that exporters give them become one; the order of the rules
//! decides nothing.

use std::collections::BTreeSet;

use fermata_ir::compare::compare;
use fermata_ir::types::DType;

use super::super::convert::import;
use super::super::extract::extract;
use super::super::facts::{Graph, Knowledge};
use super::super::rules;
use super::super::saturate::{Limits, saturate};
use super::{FINITE, body, evaluate, inputs, operators, parse, random_program, run};
use crate::pass::FloatClass;

/// A call whose operands are swapped if the next of some bits is set.
fn either(bits: &mut u32, op: &str, a: &str, b: &str) -> String {
    let swapped = *bits & 1 == 1;
    *bits >>= 1;
    if swapped { format!("{op}({b}, {a})") } else { format!("{op}({a}, {b})") }
}

/// How often an operator is in a list.
fn count(operators: &[&str], name: &str) -> usize {
    operators.iter().filter(|&&op| op == name).count()
}

/// GELU, by which factor the half is and how the division is written, operands in one of the orders.
fn gelu(form: usize, bits: &mut u32) -> String {
    let inner = match form % 2 {
        0 => "divide(%x, 1.4142135f)".to_string(),
        _ => either(bits, "multiply", "%x", "0.70710677f"),
    };
    let erf = format!("erf({inner})");
    let share = either(bits, "add", &erf, "1f");
    match form / 2 {
        0 => {
            let half = either(bits, "multiply", "%x", "0.5f");
            either(bits, "multiply", &half, &share)
        }
        1 => {
            let whole = either(bits, "multiply", "%x", &share);
            either(bits, "multiply", &whole, "0.5f")
        }
        2 => {
            let half = either(bits, "multiply", &share, "0.5f");
            either(bits, "multiply", "%x", &half)
        }
        3 => format!("divide({}, 2f)", either(bits, "multiply", "%x", &share)),
        4 => {
            let scaled = either(bits, "multiply", &erf, "0.5f");
            let spread = either(bits, "add", &scaled, "0.5f");
            either(bits, "multiply", "%x", &spread)
        }
        _ => {
            let half = either(bits, "multiply", "%x", "0.5f");
            let product = either(bits, "multiply", &half, &erf);
            either(bits, "add", &half, &product)
        }
    }
}

#[test]
fn every_spelling_of_gelu_becomes_one() {
    for form in 0..12 {
        // Not every form has five operators that commute.
        let texts: BTreeSet<String> = (0..32u32).map(|bits| gelu(form, &mut bits.clone())).collect();
        for text in texts {
            let program = format!("def @main(%x: Tensor[(2, 3), float32]) {{ {text} }}");
            let mut module = parse(&program).expect("a program");
            let args = inputs(&module, DType::F32, FINITE);
            let expected = evaluate(&module, &args);
            run(&mut module);
            let found = operators(&module);
            let shape = ["multiply", "erf", "add", "divide"].map(|op| count(&found, op));
            assert_eq!((shape, found.len()), ([3, 1, 1, 0], 5), "{text} becomes {found:?}");
            let comparison = compare(&evaluate(&module, &args), &expected);
            assert!(comparison.matches(), "{text}: {comparison}");
        }
    }
}

/// Queries and keys of a projection each, with the scale and the mask where a form has them.
fn attention(form: usize, bits: &mut u32) -> String {
    let heads = |name: &str, weight: &str, keys: bool| {
        let axes = if keys { "[0, 2, 3, 1]" } else { "[0, 2, 1, 3]" };
        let dense = format!("nn.dense({name}, broadcast_to({weight}, shape=[8, 8]), units=8)");
        let biased = format!("add({dense}, broadcast_to({weight}, shape=[8]))");
        format!("transpose(reshape({biased}, newshape=[0, 0, 2, 4]), axes={axes})")
    };
    let (mut q, mut k) = (heads("%x", "0.25f", false), heads("%x", "0.5f", form % 2 == 1));
    match form / 2 {
        1 => q = either(bits, "multiply", &q, "0.5f"),
        2 => {
            q = either(bits, "multiply", &q, "0.7071068f");
            k = either(bits, "multiply", &k, "0.7071068f");
        }
        _ => {}
    }
    let turned = if form % 2 == 1 { "" } else { ", transpose_b=True" };
    let mut scores = format!("nn.batch_matmul({q}, {k}{turned})");
    match form / 2 {
        0 => scores = format!("divide({scores}, 2f)"),
        3 => scores = either(bits, "multiply", &scores, "0.5f"),
        _ => {}
    }
    let masked = either(bits, "add", &scores, "%mask");
    let values = heads("%x", "0.125f", false);
    format!("nn.batch_matmul(nn.softmax({masked}), {values})")
}

#[test]
fn every_scale_of_an_attention_goes_into_a_projection() {
    for form in 0..8 {
        let texts: BTreeSet<String> = (0..8u32).map(|bits| attention(form, &mut bits.clone())).collect();
        for text in texts {
            let params = "%x: Tensor[(1, 6, 8), float32], %mask: Tensor[(1, 1, 1, 6), float32]";
            let mut module = parse(&format!("def @main({params}) {{ {text} }}")).expect("a program");
            run(&mut module);
            let found = operators(&module);
            let scales = ["multiply", "divide"].map(|op| count(&found, op));
            assert_eq!(scales, [0, 0], "{text} becomes {found:?}");
            let kept = ["nn.batch_matmul", "nn.softmax"].map(|op| count(&found, op));
            assert_eq!(kept, [2, 1], "{text} becomes {found:?}");
        }
    }
}

#[test]
fn the_order_of_the_rules_decides_nothing() {
    for seed in 0..30 {
        let module = parse(&random_program(seed, 12)).expect("a program");
        let cost = |reversed: bool| {
            let mut imported = import(&module, body(&module), Graph::new(Knowledge::default()));
            let mut rules: Vec<_> = rules::compiled(FloatClass::Algebraic).iter().collect();
            if reversed {
                rules.reverse();
            }
            let (graph, reason) = saturate(imported.graph, rules, Limits { iterations: 12, nodes: 20_000 });
            imported.graph = graph;
            (reason == "saturated").then(|| extract(&imported).cost)
        };
        // Where a limit ends it, how far it came may differ.
        if let (Some(one), Some(other)) = (cost(false), cost(true)) {
            assert_eq!(one, other, "seed {seed}");
        }
    }
}
