//! Branches and loops, decided at compile time and not.

use super::write::{Pb, floats, graph, int, longs, model, node, raw, subgraph, value};
use super::{BOOL, F32, I64, imported, ops, run, vector};
use crate::expr::Expr;
use crate::tensor::{Bool8, Tensor};

fn branches() -> [Pb; 2] {
    let then = graph(&[node("Neg", &["x"], &["t"], &[])], &[], &[], &[value("t", F32, &[])]);
    let els = graph(&[node("Add", &["x", "x"], &["e"], &[])], &[], &[], &[value("e", F32, &[])]);
    [subgraph("then_branch", &then), subgraph("else_branch", &els)]
}

#[test]
fn a_known_condition_takes_its_branch() {
    for (cond, expected) in [(1u8, -3.0), (0, 6.0)] {
        let nodes = [node("If", &["c"], &["y"], &branches())];
        let g = graph(
            &nodes,
            &[raw("c", BOOL, &[], &[cond])],
            &[value("x", F32, &["1"])],
            &[value("y", F32, &[])],
        );
        let module = imported(&model(17, &g));
        assert_eq!(ops(&module).len(), 1);
        assert_eq!(run(&module, &[vector(&[3.0])])[0].as_slice::<f32>(), Some(&[expected][..]));
    }
}

#[test]
fn an_unknown_condition_is_an_if() {
    let nodes = [node("If", &["c"], &["y"], &branches())];
    let inputs = [value("c", BOOL, &["1"]), value("x", F32, &["1"])];
    let module = imported(&model(17, &graph(&nodes, &[], &inputs, &[value("y", F32, &[])])));
    assert!(module.exprs.values().any(|e| matches!(e, Expr::If { .. })));
    for (cond, expected) in [(true, -3.0), (false, 6.0)] {
        let cond = Tensor::from_slice(&[1], &[Bool8::from(cond)]).expect("small");
        assert_eq!(run(&module, &[cond, vector(&[3.0])])[0].as_slice::<f32>(), Some(&[expected][..]));
    }
}

/// Doubles the state each round, collects it, and adds a value of the graph around.
fn doubling() -> Pb {
    let nodes = [
        node("Add", &["state", "state"], &["twice"], &[]),
        node("Add", &["twice", "outer"], &["next"], &[]),
        node("Identity", &["go"], &["go_on"], &[]),
        node("Identity", &["next"], &["seen"], &[]),
    ];
    graph(
        &nodes,
        &[],
        &[value("i", I64, &[]), value("go", BOOL, &[]), value("state", F32, &["1"])],
        &[value("go_on", BOOL, &[]), value("next", F32, &["1"]), value("seen", F32, &["1"])],
    )
}

fn loop_model(trips: &[Pb], inputs: &[Pb]) -> Pb {
    let nodes = [
        node("Neg", &["x"], &["outer"], &[]),
        node("Loop", &["trips", "", "x"], &["last", "all"], &[subgraph("body", &doubling())]),
    ];
    model(17, &graph(&nodes, trips, inputs, &[value("last", F32, &[]), value("all", F32, &[])]))
}

#[test]
fn a_known_trip_count_unrolls() {
    let module = imported(&loop_model(&[longs("trips", &[], &[3])], &[value("x", F32, &["1"])]));
    assert!(!module.exprs.values().any(|e| matches!(e, Expr::Func(_))));
    let results = run(&module, &[vector(&[1.0])]);
    assert_eq!(results[0].as_slice::<f32>(), Some(&[1.0][..]));
    assert_eq!(results[1].shape(), [3, 1]);
}

#[test]
fn an_unknown_trip_count_is_a_tail_call() {
    let inputs = [value("x", F32, &["1"]), value("trips", I64, &[])];
    let module = imported(&loop_model(&[], &inputs));
    assert!(module.exprs.values().any(|e| matches!(e, Expr::Func(_))));
    for trips in [0i64, 1, 4] {
        let results = run(&module, &[vector(&[3.0]), Tensor::scalar(trips)]);
        assert_eq!(results[0].as_slice::<f32>(), Some(&[3.0][..]), "2 * 3 - 3 stays");
        assert_eq!(results[1].shape(), [trips as usize, 1]);
    }
}

#[test]
fn scan_collects_every_step() {
    let body = graph(
        &[node("Add", &["sum", "x_t"], &["next"], &[]), node("Identity", &["next"], &["seen"], &[])],
        &[],
        &[value("sum", F32, &["1"]), value("x_t", F32, &["1"])],
        &[value("next", F32, &["1"]), value("seen", F32, &["1"])],
    );
    let attrs = [int("num_scan_inputs", 1), subgraph("body", &body)];
    let g = graph(
        &[node("Scan", &["zero", "x"], &["last", "sums"], &attrs)],
        &[floats("zero", &[1], &[0.0])],
        &[value("x", F32, &["3", "1"])],
        &[value("last", F32, &[]), value("sums", F32, &[])],
    );
    let x = Tensor::from_slice(&[3, 1], &[1f32, 2.0, 4.0]).expect("small");
    let results = run(&imported(&model(17, &g)), &[x]);
    assert_eq!(results[0].as_slice::<f32>(), Some(&[7.0][..]));
    assert_eq!(results[1].as_slice::<f32>(), Some(&[1.0, 3.0, 7.0][..]));
}

#[test]
fn sequences_of_known_length_are_lists() {
    let nodes = [
        node("SequenceConstruct", &["x", "x"], &["s"], &[]),
        node("SequenceInsert", &["s", "w"], &["s2"], &[]),
        node("ConcatFromSequence", &["s2"], &["y"], &[int("axis", 0)]),
        node("SequenceLength", &["s2"], &["n"], &[]),
    ];
    let g = graph(
        &nodes,
        &[floats("w", &[1], &[9.0])],
        &[value("x", F32, &["1"])],
        &[value("y", F32, &[]), value("n", I64, &[])],
    );
    let results = run(&imported(&model(17, &g)), &[vector(&[1.0])]);
    assert_eq!(results[0].as_slice::<f32>(), Some(&[1.0, 1.0, 9.0][..]));
    assert_eq!(results[1].as_slice::<i64>(), Some(&[3][..]));
}
