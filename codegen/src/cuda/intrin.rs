//! Tensor intrinsics of GPU threads as device functions around one instruction each.
//!
//! They take pointers to the first elements of their regions. Operands of tensor cores are
//! registers, so what is passed for them are elements of local arrays, which are registers once
//! the function is inlined and the loops around are unrolled.

use fermata_ir::tir::Expr;
use fermata_ir::types::DType;

use super::helpers::Helpers;

/// The call of an intrinsic on the addresses of its regions; `None` if it has no CUDA code.
///
/// # Errors
/// If a parameter must be a constant and is none.
pub fn call(
    helpers: &mut Helpers,
    name: &str,
    regions: &[String],
    params: &[(Option<i64>, String)],
) -> Option<Result<String, String>> {
    let args = |more: &[&str]| {
        let all: Vec<&str> = regions.iter().map(String::as_str).chain(more.iter().copied()).collect();
        all.join(", ")
    };
    let called = |function: String, more: &[&str]| Some(Ok(format!("{function}({});", args(more))));
    match name {
        "mma_m16n8k32_i8" => called(mma(helpers, name, "m16n8k32", "s32.s8.s8.s32", DType::I32), &[]),
        "mma_m16n8k16_f16" => called(mma(helpers, name, "m16n8k16", "f32.f16.f16.f32", DType::F32), &[]),
        "mma_m16n8k16_bf16" => called(mma(helpers, name, "m16n8k16", "f32.bf16.bf16.f32", DType::F32), &[]),
        "ldmatrix_x4_i8" | "ldmatrix_x4_f16" | "ldmatrix_x4_bf16" => called(ldmatrix(helpers), &[]),
        "cp_async_16_i8" | "cp_async_16_f16" | "cp_async_16_bf16" => {
            let bytes = valid_bytes(name, &params[0]);
            called(cp_async(helpers), &[&bytes])
        }
        "copy_16_i8" | "copy_16_f16" | "copy_16_bf16" => {
            let bytes = valid_bytes(name, &params[0]);
            called(copy(helpers), &[&bytes])
        }
        "cp_async_commit" => called(commit(helpers), &[]),
        "cp_async_wait" => match params[0].0 {
            Some(newest) => called(wait(helpers, newest), &[]),
            None => Some(Err("the number of groups that it need not wait for must be a constant".into())),
        },
        "dp4a_16_i8" => called(dp4a(helpers), &[]),
        "warp_sum_i32" => called(warp_sum(helpers), &[]),
        _ => None,
    }
}

/// The constant, if it is one, and the text of parameters.
pub fn parameters(params: &[Expr], text: &mut dyn FnMut(&Expr) -> String) -> Vec<(Option<i64>, String)> {
    params.iter().map(|p| (p.as_int(), text(p))).collect()
}

/// Valid elements as bytes.
fn valid_bytes(name: &str, (constant, text): &(Option<i64>, String)) -> String {
    let size = if name.ends_with("_i8") { 1 } else { 2 };
    match constant {
        Some(n) => (n * size).to_string(),
        None if size == 1 => text.clone(),
        None => format!("{text} * {size}"),
    }
}

/// `mma.sync`: the sums of a fragment, updated.
fn mma(helpers: &mut Helpers, name: &str, shape: &str, types: &str, sum: DType) -> String {
    let (c, constraint) = if sum == DType::F32 { ("float", "+f") } else { ("int", "+r") };
    let sums: Vec<String> = (0..4).map(|i| format!("\"{constraint}\"(c[{i}])")).collect();
    helpers.define_long(
        &format!("fm_{name}"),
        "A warp adds the product of its fragments to its sums.",
        &format!("{c}* c, const unsigned int* a, const unsigned int* b"),
        &[
            &format!("asm volatile(\"mma.sync.aligned.{shape}.row.col.{types} \""),
            r#"    "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};""#,
            &format!("    : {}", sums.join(", ")),
            r#"    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));"#,
        ],
    )
}

/// The address of shared memory as the instructions that know it take it.
const SHARED: &str = "const unsigned int at = (unsigned int)__cvta_generic_to_shared";

fn ldmatrix(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_ldmatrix_x4",
        "A warp loads four matrices of 8 rows of 16 bytes; each thread says where one row is.",
        "unsigned int* f, const void* row",
        &[
            &format!("{SHARED}(row);"),
            r#"asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];""#,
            r#"    : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"(at) : "memory");"#,
        ],
    )
}

fn cp_async(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_cp_async_16",
        "Begins to copy so many bytes to shared memory, with zeros up to 16.",
        "void* to, const void* from, int bytes",
        &[
            &format!("{SHARED}(to);"),
            r#"asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;""#,
            r#"    :: "r"(at), "l"(from), "r"(bytes) : "memory");"#,
        ],
    )
}

fn commit(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_cp_async_commit",
        "Makes a group of the copies that the thread began since the last one.",
        "",
        &[r#"asm volatile("cp.async.commit_group;" ::: "memory");"#],
    )
}

fn wait(helpers: &mut Helpers, newest: i64) -> String {
    helpers.define_long(
        &format!("fm_cp_async_wait_{newest}"),
        &format!("Waits for the thread's groups of copies, but for the newest {newest}."),
        "",
        &[&format!("asm volatile(\"cp.async.wait_group {newest};\" ::: \"memory\");")],
    )
}

/// Vectors are copied whole in almost every case.
fn copy(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_copy_16",
        "Copies so many bytes, with zeros up to 16.",
        "void* to, const void* from, int bytes",
        &[
            "if (bytes == 16) {",
            "    *(uint4*)to = *(const uint4*)from;",
            "    return;",
            "}",
            "for (int i = 0; i < 16; ++i) ((char*)to)[i] = i < bytes ? ((const char*)from)[i] : 0;",
        ],
    )
}

fn dp4a(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_dp4a_16",
        "Adds the dot product of 16 numbers.",
        "int* c, const signed char* a, const signed char* b",
        &[
            "const int4 x = *(const int4*)a, y = *(const int4*)b;",
            "c[0] = __dp4a(x.x, y.x, __dp4a(x.y, y.y, __dp4a(x.z, y.z, __dp4a(x.w, y.w, c[0]))));",
        ],
    )
}

fn warp_sum(helpers: &mut Helpers) -> String {
    helpers.define_long(
        "fm_warp_sum",
        "Gives every thread of a warp the sum over all of them.",
        "int* c",
        &["for (int lanes = 16; lanes > 0; lanes /= 2) c[0] += __shfl_xor_sync(0xffffffffu, c[0], lanes);"],
    )
}
