//! What kernels look like.

use fermata_ir::tir::PrimFunc;
use fermata_ir::tir::parse::parse;

use super::emit;

fn kernel(text: &str) -> PrimFunc {
    parse("test.tir", text).expect("parses").pop().expect("a function")
}

const REVERSE: &str = "\
@T.prim_func
def reverse(X: T.Buffer((32,), \"float32\"), int: T.Buffer((32,), \"float32\")):
    for t in T.tiles(4):
        with T.block(\"reverse\"):
            S = T.alloc_buffer((8,), scope=\"shared\")
            for tx in T.thread_binding(8, thread=\"threadIdx.x\"):
                S[tx] = X[t * 8 + tx]
                T.tvm_storage_sync(\"shared\")
                int[t * 8 + tx] = T.max(S[7 - tx], T.float32(0))
";

#[test]
fn a_kernel_reads_as_it_was_scheduled() {
    let emitted = emit(&kernel(REVERSE)).expect("emits");
    let tile = emitted.source.split("reverse_tile(const float* X, float* int_1, long long tile) {\n").nth(1);
    let tile = tile.and_then(|rest| rest.split("\n}\n").next()).expect("the tile function");
    let expected = "    \
    const int t = (int)tile;
    // reverse
    __shared__ float S[8];
    const int tx = (int)threadIdx.x;
    S[tx] = X[t * 8 + tx];
    __syncthreads();
    int_1[t * 8 + tx] = fm_max_float32(S[7 - tx], 0.0f);";
    assert_eq!(tile, expected);
    assert_eq!((emitted.threads, emitted.tiles, emitted.shared_bytes), ([8, 1, 1], 4, 32));
    assert_eq!(emitted.source.matches("fm_max_float32(float a, float b) {").count(), 1);
}

#[test]
fn what_no_kernel_can_have_is_refused() {
    let text = REVERSE.replace("(8,), scope=\"shared\"", "(20000,), scope=\"shared\"");
    let error = emit(&kernel(&text)).expect_err("too much shared memory");
    assert!(error.message.contains("needs 80000 bytes of shared memory"), "{}", error.message);
    let text = REVERSE.replace("scope=\"shared\")\n            for", "scope=\"global\")\n            for");
    let error = emit(&kernel(&text)).expect_err("global memory");
    assert!(error.message.contains("allocates global memory"), "{}", error.message);
}
