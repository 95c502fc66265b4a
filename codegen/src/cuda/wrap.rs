//! The kernels around a tile function: one tile a block, and the loop of the protocol.

use std::fmt::Write as _;

use fermata_ir::tir::PrimFunc;
use fermata_ir::tir::protocol::{BLOCK_LOOP, BlockStep, DONE, NEXT};

use super::stmt::{Written, memory_type};

/// What a source is made for.
pub struct Kernel<'a> {
    pub name: &'a str,
    /// The operators that it came from.
    pub relay: &'a str,
    pub tiles: u64,
    pub threads: [u32; 3],
}

/// The device functions of the protocol.
fn protocol_helpers() -> String {
    format!(
        "\
// The checkpoint of a block: reads the word {{epoch, quota}} and, if the launch is admitted, claims a tile.
static __device__ long long fm_decide(const volatile unsigned long long* word, unsigned long long* counters,
                                      unsigned int epoch, unsigned int slot, unsigned long long tiles) {{
    const unsigned long long now = *word;
    if ((unsigned int)(now >> 32) != epoch || slot >= (unsigned int)now) return -1;
    const unsigned long long claimed = atomicAdd(&counters[{NEXT}], 1ull);
    return claimed < tiles ? (long long)claimed : -1;
}}

// Counts a tile that every thread of the block has left: who sees the count sees what was stored.
static __device__ void fm_count_done(unsigned long long* counters) {{
    __threadfence();
    atomicAdd(&counters[{DONE}], 1ull);
}}
"
    )
}

/// The whole source of a kernel.
pub fn source(func: &PrimFunc, written: &Written, kernel: &Kernel<'_>) -> String {
    let Kernel { name, relay, tiles, threads } = kernel;
    let inputs = func.params.len() - func.outputs;
    let param = |(i, b): (usize, &fermata_ir::tir::BufferId)| {
        let constant = if i < inputs { "const " } else { "" };
        format!("{constant}{}* {}", memory_type(func.buffers[*b].dtype), written.params[i])
    };
    let params = func.params.iter().enumerate().map(param).collect::<Vec<_>>().join(", ");
    let separator = if params.is_empty() { "" } else { ", " };
    let count: u32 = threads.iter().product();
    let mut out = String::new();
    let _ = writeln!(out, "// {name}: {tiles} tiles of {count} threads");
    if !relay.is_empty() {
        let _ = writeln!(out, "// from {relay}");
    }
    out.push('\n');
    out.push_str(&written.helpers.text());
    out.push_str(&protocol_helpers());
    let _ = writeln!(
        out,
        "\nstatic __device__ __forceinline__ void {name}_tile({params}{separator}long long tile) {{"
    );
    out.push_str(&written.text);
    out.push_str("}\n\n// Nothing can preempt this one: a block a tile.\n");
    let _ = writeln!(out, "extern \"C\" __global__ void __launch_bounds__({count}) {name}({params}) {{");
    let args: String = written.params.iter().map(|p| format!("{p}, ")).collect();
    let _ = writeln!(out, "    {name}_tile({args}blockIdx.x);\n}}\n");
    out.push_str(&persistent(kernel, &params, &args, count));
    out
}

/// The kernel that goes through the loop of the protocol.
fn persistent(kernel: &Kernel<'_>, params: &str, args: &str, count: u32) -> String {
    let Kernel { name, tiles, .. } = kernel;
    let after = if params.is_empty() { "" } else { "," };
    let mut out =
        String::from("// Resident blocks claim tiles until the word of their queue says otherwise.\n");
    let _ = writeln!(
        out,
        "extern \"C\" __global__ void __launch_bounds__({count}) {name}_preemptible({params}{after}\n    \
         const volatile unsigned long long* word, unsigned long long* counters, unsigned int epoch, \
         unsigned int first_slot) {{\n    \
         __shared__ long long claimed[{}];\n    \
         const unsigned int slot = first_slot + blockIdx.x;\n    \
         const bool leader = threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0;\n    \
         bool ran = false;",
        BLOCK_LOOP.slots
    );
    let steps = |out: &mut String, steps: &[BlockStep], indent: &str, next: &str| {
        for step in steps {
            let text = match step {
                BlockStep::Decide => {
                    format!(
                        "if (leader) claimed[{next}] = fm_decide(word, counters, epoch, slot, {tiles}ull);"
                    )
                }
                BlockStep::Barrier => "__syncthreads();".into(),
                BlockStep::CountDone => "if (leader && ran) fm_count_done(counters);".into(),
                BlockStep::Take => format!(
                    "const long long tile = claimed[turn % {}];\n{indent}if (tile < 0) break;",
                    BLOCK_LOOP.slots
                ),
                BlockStep::RunTile => format!("{name}_tile({args}tile);\n{indent}ran = true;"),
                BlockStep::AdmitEach => unreachable!("no step of the protocol"),
            };
            let _ = writeln!(out, "{indent}{text}");
        }
    };
    steps(&mut out, BLOCK_LOOP.before, "    ", "0");
    out.push_str("    for (unsigned int turn = 0;; ++turn) {\n");
    steps(&mut out, BLOCK_LOOP.turn, "        ", &format!("(turn + 1) % {}", BLOCK_LOOP.slots));
    out.push_str("    }\n}\n");
    out
}
