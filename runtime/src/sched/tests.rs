//! Models together: every request is served, nothing is lost, all results are those of undisturbed runs.

use std::collections::BTreeSet;

use fermata_ir::entity::EntityRef;
use fermata_ir::tensor::Tensor;
use fermata_passes::lower::plan::KernelId;

use super::group::{Options, run};
use super::load::{Distribution, arrivals};
use super::policy::Policy;
use super::queue::Job;
use super::report::Report;
use crate::detect;
use crate::exec::tests::{chain, code, deep, iota};
use crate::exec::{Instance, Session};

fn job(name: &str, tiles: usize, workers: usize) -> Job {
    let program = chain(tiles);
    let kernels = code(&program);
    let inputs = vec![iota(tiles * 8)];
    let mut session = Session::new(program.clone(), kernels.clone(), 1).expect("a good plan");
    let expected = session.run(&inputs).expect("it runs");
    let instance = Instance::new(program, &kernels, workers, detect::features()).expect("a good plan");
    Job { name: name.into(), instance, inputs, expected, uncertified: BTreeSet::new() }
}

fn together(policy: Policy, workers: usize, rate: f64) -> (Report, usize) {
    let duration_ns = 60_000_000;
    let options = Options {
        workers,
        policy,
        arrivals: arrivals(rate, Distribution::Poisson, duration_ns, 3),
        duration_ns,
        trace: true,
    };
    let narrow = Job { uncertified: [KernelId::new(0)].into(), ..job("narrow", 3, workers) };
    let best_effort = vec![job("wide", 64, workers), narrow];
    let (report, spans) = run(Some(job("rt", 2, workers)), best_effort, &options);
    assert_eq!(spans.len(), workers);
    assert!(spans.iter().flatten().all(|s| s.start <= s.end && !s.name.is_empty()));
    for track in &spans {
        assert!(track.windows(2).all(|s| s[0].end <= s[1].start), "slices of a worker follow each other");
    }
    let stopped = spans.iter().flatten().any(|s| s.preempted);
    assert!(stopped || report.preemption.0.is_empty(), "what was preempted is marked");
    (report, options.arrivals.len())
}

#[test]
fn every_policy_serves_every_request_and_tears_nothing() {
    for policy in Policy::ALL {
        for workers in [1, 2, 3] {
            let (report, requests) = together(policy, workers, 2000.0);
            assert_eq!(report.latency.0.len(), requests, "{policy:?}");
            assert_eq!(report.first_tile.0.len(), requests, "{policy:?}");
            assert_eq!((report.wrong, &report.failure), (0, &None), "{policy:?}");
            for queue in &report.best_effort {
                assert_eq!((queue.wrong, &queue.failure), (0, &None), "{policy:?}, {}", queue.name);
                let runs = queue.completed as f64..=queue.completed as f64 + 1.0;
                assert!(runs.contains(&queue.runs), "{policy:?}: {} in {runs:?}", queue.runs);
                assert_eq!(queue.completed == 0, policy == Policy::Alone, "{policy:?}");
            }
        }
    }
}

#[test]
fn requests_behind_a_long_run_are_served_after_the_end() {
    for policy in Policy::ALL {
        let options = Options {
            workers: 2,
            policy,
            arrivals: (0..20).map(|i| i * 50_000).collect(),
            duration_ns: 1_000_000,
            trace: false,
        };
        let (report, _) = run(Some(job("rt", 2, 2)), vec![job("long", 20_000, 2)], &options);
        assert_eq!((report.latency.0.len(), report.wrong), (20, 0), "{policy:?}");
    }
}

/// A model that fails in the middle of every run: its calls nest too deeply.
fn failing(workers: usize) -> Job {
    let program = deep();
    let kernels = code(&program);
    let instance = Instance::new(program, &kernels, workers, detect::features()).expect("a good plan");
    let inputs = vec![Tensor::from_slice(&[8], &[5000i32; 8]).expect("small")];
    Job { name: "failing".into(), instance, inputs, expected: Vec::new(), uncertified: BTreeSet::new() }
}

#[test]
fn the_real_time_model_never_notices_that_another_fails() {
    for policy in Policy::ALL {
        for workers in [1, 2] {
            let duration_ns = 250_000_000;
            let arrivals = arrivals(200.0, Distribution::Poisson, duration_ns, 3);
            let options = Options { workers, policy, arrivals, duration_ns, trace: false };
            let best_effort = vec![failing(workers), job("sound", 16, workers)];
            let (report, _) = run(Some(job("rt", 2, workers)), best_effort, &options);
            assert_eq!(report.latency.0.len(), options.arrivals.len(), "{policy:?}");
            assert_eq!((report.wrong, &report.failure), (0, &None), "{policy:?}");
            let [failing, sound] = report.best_effort.as_slice() else { panic!("two models") };
            let ran = policy != Policy::Alone;
            assert_eq!((failing.failure.is_some(), failing.completed), (ran, 0), "{policy:?}");
            assert_eq!((sound.completed > 0, sound.wrong, &sound.failure), (ran, 0, &None), "{policy:?}");
        }
    }
}

#[test]
fn without_requests_best_effort_queues_have_the_device() {
    let options = Options {
        workers: 2,
        policy: Policy::Preempt,
        arrivals: Vec::new(),
        duration_ns: 20_000_000,
        trace: false,
    };
    let (report, _) = run(None, vec![job("be", 16, 2)], &options);
    assert!(report.best_effort[0].completed > 0 && report.latency.0.is_empty());
}
