//! TIR to machine code of this machine, by Cranelift.
//!
//! [`compile`] turns a scheduled kernel into a [`TileFn`](crate::kernel::TileFn) that runs one
//! tile; a function without a tile loop becomes one tile. The way of a kernel: [`abi`] lays out
//! scratch memory and the function's frame, `lower_stmt` walks statements, `lower_expr` turns
//! scalar expressions into values, in vectors where `vector` found that a loop allows it.
//!
//! The code never traps: division, shifts, conversions and functions of numbers are defined for
//! every input, as [`fermata_ir::scalar`] says. It contains no addresses and needs no
//! relocation. Functions of single-precision numbers that are inline have the error bounds that
//! `math` states; all others are calls through the import table.

mod abi;
mod analysis;
mod arith;
mod convert;
mod lanes;
mod listing;
mod lower_expr;
mod lower_stmt;
mod math;
pub mod polynomial;
mod reduction;
mod vector;
mod vector_ops;

use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use fermata_ir::diag::{Code, Diagnostic};
use fermata_ir::tir::PrimFunc;
use fermata_passes::target::CpuTarget;
use rayon::prelude::*;

pub use listing::{asm_text, clif_text};

use crate::kernel::CompiledKernel;
use lower_stmt::Lower;

/// What the instruction set offers beyond what Cranelift expands by itself.
#[derive(Clone, Copy, Debug)]
struct Caps {
    /// Fused multiply-add; without it, [`fermata_ir::tir::ExprKind::Fma`] is a call.
    fma: bool,
    /// Rounding instructions; without them, floor and its like are calls, and nothing is vectorised.
    rounding: bool,
}

/// Compiles a kernel.
///
/// # Errors
/// If the function has GPU thread loops, nests too deeply, or this machine is none that
/// Cranelift makes code for.
pub fn compile(func: &PrimFunc, target: &CpuTarget) -> Result<CompiledKernel, Diagnostic> {
    let (isa, caps) = isa(target)?;
    let built = build(func, &isa, caps)?;
    let mut context = Context::for_function(built.function);
    let code = context
        .compile(&*isa, &mut ControlPlane::default())
        .map_err(|e| failed(func, &format!("{:?}", e.inner)))?;
    if !code.buffer.relocs().is_empty() {
        return Err(failed(func, "the code needs relocations"));
    }
    let mut provenance: Vec<(u32, Arc<str>)> = Vec::new();
    for location in code.buffer.get_srclocs_sorted() {
        // The prologue comes from nowhere.
        let Some(origin) = built.origins.get(location.loc.bits() as usize) else { continue };
        if provenance.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, origin)) {
            provenance.push((location.start, origin.clone()));
        }
    }
    Ok(CompiledKernel {
        name: func.name.to_string(),
        tiles: func.tiles().map_or(1, |n| n.max(0) as u64),
        code: code.buffer.data().to_vec(),
        scratch_bytes: built.scratch_bytes,
        imports: built.imports,
        provenance,
    })
}

/// Compiles many kernels in parallel; the first that fails, in order, decides the error.
///
/// # Errors
/// As [`compile`].
pub fn compile_all(funcs: &[&PrimFunc], target: &CpuTarget) -> Result<Vec<CompiledKernel>, Diagnostic> {
    let results: Vec<_> = funcs.par_iter().map(|func| compile(func, target)).collect();
    results.into_iter().collect()
}

/// A kernel in Cranelift's language.
struct Built {
    function: Function,
    imports: Vec<String>,
    scratch_bytes: usize,
    /// What a source location's number stands for.
    origins: Vec<Arc<str>>,
}

fn build(func: &PrimFunc, isa: &OwnedTargetIsa, caps: Caps) -> Result<Built, Diagnostic> {
    let signature = abi::tile_signature(&**isa);
    let mut function = Function::with_name_signature(UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut lower = Lower::new(func, &mut function, &mut context, caps, isa.default_call_conv())?;
    lower.body()?;
    let (imports, scratch_bytes, origins) = lower.finish(isa.frontend_config());
    Ok(Built { function, imports, scratch_bytes, origins })
}

fn failed(func: &PrimFunc, why: &str) -> Diagnostic {
    Diagnostic::error(Code::CODEGEN, format!("no code for kernel `{}`: {why}", func.name))
}

/// The instruction set of this machine, less what the target turns off.
fn isa(target: &CpuTarget) -> Result<(OwnedTargetIsa, Caps), Diagnostic> {
    let unsupported =
        |e: String| Diagnostic::error(Code::CODEGEN, format!("no code generator for this machine: {e}"));
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("enable_alias_analysis", "true"),
    ] {
        flags.set(name, value).map_err(|e| unsupported(e.to_string()))?;
    }
    let mut builder = cranelift_native::builder_with_options(cfg!(not(target_arch = "x86_64")))
        .map_err(|e| unsupported(e.into()))?;
    let caps = enable_features(&mut builder, target);
    let isa = builder.finish(settings::Flags::new(flags)).map_err(|e| unsupported(e.to_string()))?;
    Ok((isa, caps))
}

/// Enables the extensions that both the machine and the target have.
#[cfg(target_arch = "x86_64")]
fn enable_features(builder: &mut dyn Configurable, target: &CpuTarget) -> Caps {
    let mut enable = |name: &str, present: bool| present && builder.enable(name).is_ok();
    enable("has_sse3", std::is_x86_feature_detected!("sse3"));
    enable("has_ssse3", std::is_x86_feature_detected!("ssse3"));
    let rounding = enable("has_sse41", std::is_x86_feature_detected!("sse4.1"));
    enable("has_sse42", std::is_x86_feature_detected!("sse4.2"));
    enable("has_popcnt", std::is_x86_feature_detected!("popcnt"));
    let avx2 = target.features.avx2 && std::is_x86_feature_detected!("avx2");
    enable("has_avx", avx2);
    enable("has_avx2", avx2);
    enable("has_bmi1", avx2 && std::is_x86_feature_detected!("bmi1"));
    enable("has_bmi2", avx2 && std::is_x86_feature_detected!("bmi2"));
    let fma = enable("has_fma", avx2 && std::is_x86_feature_detected!("fma"));
    Caps { fma, rounding }
}

/// Other machines have what is needed in their base instruction set.
#[cfg(not(target_arch = "x86_64"))]
fn enable_features(_builder: &mut dyn Configurable, _target: &CpuTarget) -> Caps {
    Caps { fma: true, rounding: true }
}
