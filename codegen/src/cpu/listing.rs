//! Generated code as text, with comments that name the part of the program it came from.

use std::fmt::Write;

#[cfg(not(target_arch = "x86_64"))]
use fermata_ir::diag::Code;
use fermata_ir::diag::Diagnostic;
use fermata_ir::op::AttrValue;
use fermata_ir::tir::PrimFunc;
use fermata_passes::target::CpuTarget;

use super::{build, isa};
use crate::kernel::CompiledKernel;

/// A kernel in Cranelift's text format.
///
/// # Errors
/// As [`compile`](super::compile).
pub fn clif_text(func: &PrimFunc, target: &CpuTarget) -> Result<String, Diagnostic> {
    let (isa, caps) = isa(target)?;
    let built = build(func, &isa, caps)?;
    let mut text = header(func);
    let mut last = None;
    for line in built.function.display().to_string().lines() {
        // Instructions that came from a place start with `@` and its number.
        let (location, rest) = match line.strip_prefix('@').and_then(|l| l.split_once(' ')) {
            Some((number, rest)) => (usize::from_str_radix(number, 16).ok(), rest.trim_start()),
            None => (None, line.trim_start()),
        };
        if location.is_some() && location != last {
            last = location;
            if let Some(origin) = location.and_then(|at| built.origins.get(at)) {
                let _ = writeln!(text, "    ; {origin}");
            }
        }
        let indented = !rest.starts_with("block") && !rest.starts_with("function") && rest != "}";
        let indent = if indented && !rest.is_empty() { "    " } else { "" };
        let _ = writeln!(text, "{indent}{rest}");
    }
    for (slot, name) in built.imports.iter().enumerate() {
        let _ = writeln!(text, "; import {slot}: {name}");
    }
    Ok(text)
}

/// The name of a kernel and what it was made from.
fn header(func: &PrimFunc) -> String {
    let mut text = format!("; kernel {}\n", func.name);
    if let Some(AttrValue::Str(relay)) = func.attrs.get("relay") {
        for line in relay.lines() {
            let _ = writeln!(text, "; {line}");
        }
    }
    text
}

/// A kernel's machine code in Intel syntax.
///
/// # Errors
/// On machines other than x86-64.
#[cfg(target_arch = "x86_64")]
pub fn asm_text(kernel: &CompiledKernel) -> Result<String, Diagnostic> {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    let mut text = format!("; kernel {}\n", kernel.name);
    let mut decoder = Decoder::with_ip(64, &kernel.code, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_rip_relative_addresses(true);
    let mut places = kernel.provenance.iter().peekable();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        while let Some((_, origin)) = places.next_if(|(at, _)| *at as u64 <= instruction.ip()) {
            let _ = writeln!(text, "; {origin}");
        }
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        let _ = writeln!(text, "{:06x}  {line}", instruction.ip());
    }
    for (slot, name) in kernel.imports.iter().enumerate() {
        let _ = writeln!(text, "; import {slot}: {name}");
    }
    Ok(text)
}

/// A kernel's machine code in Intel syntax.
///
/// # Errors
/// On machines other than x86-64.
#[cfg(not(target_arch = "x86_64"))]
pub fn asm_text(kernel: &CompiledKernel) -> Result<String, Diagnostic> {
    let message = format!("no disassembler for the code of kernel `{}` on this machine", kernel.name);
    Err(Diagnostic::error(Code::CODEGEN, message))
}
