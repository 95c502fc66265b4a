//! Blocks, barriers and races on kernels given as text.

use super::super::{Launch, Program, run, run_persistent};
use crate::tensor::Tensor;
use crate::tir::parse::parse;
use crate::tir::protocol::{BLOCK_LOOP, BlockLoop, BlockStep, Word};
use crate::tir::{PrimFunc, verify};

/// Each block reverses 8 elements through shared memory.
const REVERSE: &str = "\
@T.prim_func
def main(X: T.Buffer((32,), \"float32\"), Y: T.Buffer((32,), \"float32\")):
    for t in T.tiles(4):
        with T.block(\"reverse\"):
            S = T.alloc_buffer((8,), scope=\"shared\")
            L = T.alloc_buffer((1,), scope=\"local\")
            for tx in T.thread_binding(8, thread=\"threadIdx.x\"):
                S[tx] = X[t * 8 + tx]
                T.tvm_storage_sync(\"shared\")
                L[0] = S[7 - tx]
                T.tvm_storage_sync(\"shared\")
                Y[t * 8 + tx] = L[0]
";

/// Each block copies 8 elements and has no barrier of its own, which would hide others missing.
const COPY: &str = "\
@T.prim_func
def main(X: T.Buffer((32,), \"float32\"), Y: T.Buffer((32,), \"float32\")):
    for t in T.tiles(4):
        for tx in T.thread_binding(8, thread=\"threadIdx.x\"):
            Y[t * 8 + tx] = X[t * 8 + tx]
";

fn kernel(text: &str) -> PrimFunc {
    let func = parse("test.tir", text).expect("parses").pop().expect("a function");
    if let Err(d) = verify::verify(&func) {
        panic!("{:#?}", d.0);
    }
    func
}

fn args() -> [Tensor; 2] {
    let x: Vec<f32> = (0..32).map(|i| i as f32).collect();
    [Tensor::from_slice(&[32], &x).expect("small"), Tensor::from_slice(&[32], &[0f32; 32]).expect("small")]
}

fn reversed() -> Vec<f32> {
    (0..32).map(|i| (i / 8 * 8 + 7 - i % 8) as f32).collect()
}

/// The word of a queue on which nothing is ever preempted.
fn calm() -> Word {
    Word { epoch: 1, quota: 1 }
}

/// Runs one worker of a launch of the first epoch.
fn persist(
    text: &str,
    shape: &BlockLoop,
    launch: &mut Launch,
    args: &mut [Tensor],
    word: &mut dyn FnMut() -> Word,
) -> Result<(), String> {
    let program = Program::compile(&kernel(text)).expect("compiles");
    run_persistent(&program, args, launch, 0, shape, word).map_err(|d| d.message)
}

#[test]
fn threads_share_memory_and_have_their_own() {
    let mut args = args();
    run(&kernel(REVERSE), &mut args).expect("runs");
    assert_eq!(args[1].as_slice::<f32>().expect("f32"), reversed());
}

#[test]
fn a_missing_barrier_is_caught() {
    let text = REVERSE.replacen("                T.tvm_storage_sync(\"shared\")\n", "", 1);
    let error = run(&kernel(&text), &mut args()).expect_err("a race");
    assert_eq!(
        error.message,
        "thread 4 writes element 4 of `S`, which thread 3 accesses without a barrier between"
    );
}

#[test]
fn a_barrier_that_some_threads_miss_is_caught() {
    let sync = "T.tvm_storage_sync(\"shared\")\n                Y";
    let text = REVERSE.replacen(sync, &format!("if tx < 4:\n                    {sync}"), 1);
    let error = run(&kernel(&text), &mut args()).expect_err("torn");
    assert!(
        error.message.starts_with("the block is torn: thread 0 waits at the barrier at"),
        "{}",
        error.message
    );
}

#[test]
fn threads_that_store_to_one_element_race() {
    let text = REVERSE.replace("Y[t * 8 + tx] = L[0]", "Y[t * 8] = L[0]");
    let error = run(&kernel(&text), &mut args()).expect_err("a race");
    assert_eq!(
        error.message,
        "thread 1 writes element 0 of `Y`, which thread 0 accesses without a barrier between"
    );
}

#[test]
fn a_launch_is_preempted_and_taken_on() {
    let mut launch = Launch { epoch: 1, ..Launch::default() };
    let mut args = args();
    let mut reads = 0;
    // The third read of the word finds another epoch: two tiles were claimed, and both end.
    let mut word = || {
        reads += 1;
        Word { epoch: 1 + (reads > 2) as u32, quota: 1 }
    };
    persist(REVERSE, &BLOCK_LOOP, &mut launch, &mut args, &mut word).expect("leaves in order");
    assert_eq!((launch.next, launch.done), (2, 2));
    assert_eq!(args[1].as_slice::<f32>().expect("f32")[..16], reversed()[..16]);
    persist(REVERSE, &BLOCK_LOOP, &mut launch, &mut args, &mut calm).expect("ends");
    assert_eq!((launch.next, launch.done), (5, 4));
    assert_eq!(args[1].as_slice::<f32>().expect("f32"), reversed());
}

#[test]
fn a_word_that_each_thread_reads_tears_the_block() {
    let turn = &[
        BlockStep::Barrier,
        BlockStep::CountDone,
        BlockStep::AdmitEach,
        BlockStep::Take,
        BlockStep::RunTile,
        BlockStep::Decide,
    ];
    let mut reads = 0;
    let mut word = || {
        reads += 1;
        Word { epoch: 1 + (reads > 5) as u32, quota: 1 }
    };
    let mutant = BlockLoop { turn, ..BLOCK_LOOP };
    let mut launch = Launch { epoch: 1, ..Launch::default() };
    let error = persist(REVERSE, &mutant, &mut launch, &mut args(), &mut word).expect_err("torn");
    assert!(error.starts_with("the block is torn: thread 0 waits at the barrier"), "{error}");
    assert!(error.ends_with("but thread 4 has left"), "{error}");
}

#[test]
fn one_slot_or_no_barrier_is_a_race() {
    let without_barrier = &[BlockStep::CountDone, BlockStep::Take, BlockStep::RunTile, BlockStep::Decide];
    let mutants = [BlockLoop { slots: 1, ..BLOCK_LOOP }, BlockLoop { turn: without_barrier, ..BLOCK_LOOP }];
    for mutant in mutants {
        let mut launch = Launch { epoch: 1, ..Launch::default() };
        let error = persist(COPY, &mutant, &mut launch, &mut args(), &mut calm).expect_err("a race");
        assert!(error.contains("of the block's loop"), "{error}");
    }
}
