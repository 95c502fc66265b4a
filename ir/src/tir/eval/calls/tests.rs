//! What warps do together, and copies that end later, on kernels given as text.

use crate::tensor::Tensor;
use crate::tir::eval::{Launch, Program, run, run_persistent};
use crate::tir::parse::parse;
use crate::tir::protocol::{BLOCK_LOOP, Word};
use crate::tir::{PrimFunc, verify};

/// A warp multiplies a tile of 16 x 32 with one of 8 x 32: operands come to shared memory by
/// asynchronous copies, to registers as fragments, and the sums go out as the product lays them.
const PRODUCT: &str = "\
@T.prim_func
def main(A: T.Buffer((16, 32), \"int8\"), B: T.Buffer((16, 32), \"int8\"), C: T.Buffer((16, 8), \"int32\")):
    for t in T.tiles(1):
        with T.block(\"product\"):
            SA = T.alloc_buffer((16, 48), \"int8\", scope=\"shared\")
            SB = T.alloc_buffer((16, 48), \"int8\", scope=\"shared\")
            FA = T.alloc_buffer((4,), \"uint32\", scope=\"local\")
            FB = T.alloc_buffer((4,), \"uint32\", scope=\"local\")
            acc = T.alloc_buffer((4,), \"int32\", scope=\"local\")
            for tx in T.thread_binding(32, thread=\"threadIdx.x\"):
                row: T.int64 = tx // 2
                at: T.int64 = tx % 2 * 16
                T.tensor_intrin(\"cp_async_16_i8\", SA[row, at:at + 16], A[row, at:at + 16], 16)
                T.tensor_intrin(\"cp_async_16_i8\", SB[row, at:at + 16], B[row, at:at + 16], 16)
                T.tensor_intrin(\"cp_async_commit\")
                for i in T.unroll(4):
                    acc[i] = T.int32(0)
                T.tensor_intrin(\"cp_async_wait\", 0)
                T.tvm_storage_sync(\"shared\")
                T.tensor_intrin(\"ldmatrix_x4_i8\", FA[0:4], SA[tx % 16, tx // 16 * 16:tx // 16 * 16 + 16])
                T.tensor_intrin(\"ldmatrix_x4_i8\", FB[0:4], SB[tx % 8 + tx // 16 * 8, tx // 8 % 2 * 16:tx // 8 % 2 * 16 + 16])
                T.tensor_intrin(\"mma_m16n8k32_i8\", acc[0:4], FA[0:4], FB[0:2])
                for i in T.unroll(4):
                    C[tx // 4 + i // 2 * 8, tx % 4 * 2 + i % 2] = acc[i]
";

fn kernel(text: &str) -> PrimFunc {
    let func = parse("test.tir", text).expect("parses").pop().expect("a function");
    if let Err(d) = verify::verify(&func) {
        panic!("{:#?}", d.0);
    }
    func
}

fn numbers(step: usize) -> Vec<i8> {
    (0..512).map(|i| (i * step % 251) as u8 as i8).collect()
}

fn args() -> [Tensor; 3] {
    let operand = |step| Tensor::from_slice(&[16, 32], &numbers(step)).expect("small");
    [operand(37), operand(91), Tensor::from_slice(&[16, 8], &[0i32; 128]).expect("small")]
}

fn product() -> Vec<i32> {
    let (a, b) = (numbers(37), numbers(91));
    let row = |v: &[i8], r: usize| v[r * 32..(r + 1) * 32].to_vec();
    let sum = |i: usize| {
        let pairs = row(&a, i / 8).into_iter().zip(row(&b, i % 8));
        pairs.map(|(x, y)| i32::from(x) * i32::from(y)).sum()
    };
    (0..128).map(sum).collect()
}

fn refused(text: &str) -> String {
    run(&kernel(text), &mut args()).expect_err("refused").message
}

#[test]
fn a_warp_multiplies_fragments() {
    let mut args = args();
    run(&kernel(PRODUCT), &mut args).expect("runs");
    assert_eq!(args[2].as_slice::<i32>().expect("int32"), product());
}

#[test]
fn a_preemptible_block_makes_the_same_calls() {
    let program = Program::compile(&kernel(PRODUCT)).expect("compiles");
    let (mut args, mut launch) = (args(), Launch { epoch: 1, ..Launch::default() });
    let mut word = || Word { epoch: 1, quota: 1 };
    run_persistent(&program, &mut args, &mut launch, 0, &BLOCK_LOOP, &mut word).expect("runs");
    assert_eq!(args[2].as_slice::<i32>().expect("int32"), product());
}

#[test]
fn a_copy_that_is_not_waited_for_is_caught() {
    let text = PRODUCT.replace("\"cp_async_wait\", 0", "\"cp_async_wait\", 1");
    let message = "thread 0 reads element 0 of `SA`, into which thread 0 copies without having waited";
    assert_eq!(refused(&text), message);
}

#[test]
fn a_copy_that_only_its_own_thread_knows_of_is_caught() {
    let text = PRODUCT.replace("                T.tvm_storage_sync(\"shared\")\n", "");
    let message = refused(&text);
    assert!(message.ends_with("without a barrier between"), "{message}");
}

#[test]
fn a_thread_that_ends_before_its_copies_is_caught() {
    let text =
        PRODUCT.replace("T.tensor_intrin(\"cp_async_wait\", 0)", "T.tensor_intrin(\"cp_async_commit\")");
    let end = text.find("                T.tensor_intrin(\"ldmatrix").expect("the load");
    let text = format!("{}                C[tx // 2, tx % 2] = T.int32(0)\n", &text[..end]);
    assert_eq!(refused(&text), "a thread ends before its copies have ended");
}

#[test]
fn a_warp_that_does_not_come_whole_is_caught() {
    let call = "T.tensor_intrin(\"mma_m16n8k32_i8\", acc[0:4], FA[0:4], FB[0:2])";
    let text = PRODUCT.replace(call, &format!("if tx < 31:\n                    {call}"));
    let message = refused(&text);
    assert!(message.starts_with("a warp is torn: thread 0 waits for its warp at"), "{message}");
    assert!(message.ends_with("but thread 31 has ended"), "{message}");
}

#[test]
fn regions_lie_at_multiples_of_their_size() {
    let text = PRODUCT.replace("SA[row, at:at + 16]", "SA[row, at + 8:at + 24]");
    let message = "in a call of `cp_async_16_i8`: region of `SA`: 8 is no multiple of its size";
    assert_eq!(refused(&text), message);
}
