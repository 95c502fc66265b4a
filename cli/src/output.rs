//! Results as text, arrays and files. Files appear whole or not at all.

use std::io::{Cursor, Write as _};
use std::path::Path;

use fermata_codegen::artifact::{self, Code, ReadOptions};
use fermata_ir::dispatch;
use fermata_ir::expr::Module;
use fermata_ir::front::npy;
use fermata_ir::tensor::{Bool8, Tensor};
use fermata_ir::text::{LargeConstants, PrintOptions, Printed, print};
use fermata_passes::lower::plan::Program;
use fermata_passes::target::CpuTarget;

use crate::args::PrintArgs;
use crate::compile::Compiled;
use crate::{Failure, Streams};

/// Writes a file by way of a temporary one beside it, or to standard output for `-`.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, content: &[u8], streams: &mut Streams<'_>) -> Result<(), Failure> {
    if path == Path::new("-") {
        streams.stdout.write_all(content)?;
        return Ok(());
    }
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot write `{}`: {e}", path.display()));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    file.write_all(content).map_err(cannot)?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}

/// A program as text; large constants are elided unless there is a file for them.
pub fn module_text(module: &Module, args: &PrintArgs, types: bool) -> String {
    printed(module, args, types).text
}

/// A program as text, with the weights that the text refers to.
pub fn printed(module: &Module, args: &PrintArgs, types: bool) -> Printed {
    let large = if args.weights_out.is_some() { LargeConstants::Weights } else { LargeConstants::Elide };
    print(module, &PrintOptions { types, inline_elements: args.elide_constants, large })
}

/// Writes the weights that a printed text refers to.
///
/// # Errors
/// If the file cannot be written.
pub fn write_weights(
    module: &Module,
    printed: &Printed,
    path: &Path,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let tensors = printed.weights.iter().map(|(name, id)| (&**name, &module.consts[*id].tensor));
    let mut bytes = Vec::new();
    fermata_ir::weights::write(&mut bytes, tensors)?;
    write(path, &bytes, streams)
}

/// The arrays of a file, as bytes of an npz.
///
/// # Errors
/// If an array cannot be written.
pub fn npz<'a>(arrays: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Cursor::new(Vec::new());
    npy::write_npz(&mut bytes, arrays).map_err(|e| Failure::usage(format!("cannot write arrays: {e}")))?;
    Ok(bytes.into_inner())
}

/// The values of a tensor as a nested list, as they are read back.
pub fn values_text(tensor: &Tensor) -> String {
    let mut items: Vec<String> = dispatch!(tensor.dtype(), T => {
        let data = tensor.as_slice::<T>().expect("dispatched on the dtype");
        data.iter().map(Shown::text).collect()
    });
    for &size in tensor.shape().iter().rev() {
        items = match size {
            0 => vec!["[]".into()],
            n => items.chunks(n).map(|row| format!("[{}]", row.join(", "))).collect(),
        };
    }
    items.into_iter().next().unwrap_or_else(|| "[]".into())
}

/// How an element is written.
trait Shown {
    fn text(&self) -> String;
}

macro_rules! shown {
    (int: $($int:ty)*; float: $($float:ty)*) => {
        $(impl Shown for $int { fn text(&self) -> String { self.to_string() } })*
        $(impl Shown for $float {
            fn text(&self) -> String {
                if self.is_nan() { "nan".into() } else { self.to_string() }
            }
        })*
    };
}
shown!(int: i8 i16 i32 i64 u8 u16 u32 u64; float: fermata_ir::half::f16 fermata_ir::half::bf16 f32 f64);

impl Shown for Bool8 {
    fn text(&self) -> String {
        bool::from(*self).to_string()
    }
}

/// A result with its name and type.
pub fn result_text(name: &str, tensor: &Tensor) -> String {
    format!("{name}: {} = {}", tensor.ty(), values_text(tensor))
}

/// The largest values of a result with their places.
pub fn top_text(name: &str, tensor: &Tensor, count: usize) -> String {
    let numbers: Vec<f64> = crate::inputs::to_f64(tensor);
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]).then(a.cmp(&b)));
    let mut text = format!("{name}: {}, the largest {}:", tensor.ty(), count.min(order.len()));
    for &at in order.iter().take(count) {
        let mut index = Vec::new();
        let mut rest = at;
        for &n in tensor.shape().iter().rev() {
            index.push(rest % n);
            rest /= n;
        }
        index.reverse();
        text.push_str(&format!("\n  {index:?} = {}", numbers[at]));
    }
    text
}

/// Writes the artifact of a compiled program.
///
/// # Errors
/// If it cannot be written.
pub fn write_artifact(
    module: &Module,
    program: &Program,
    code: Code<'_>,
    path: &Path,
) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(Failure::usage("an artifact is written to a file; name one with -o"));
    }
    let graph = print(module, &PrintOptions { large: LargeConstants::Elide, ..PrintOptions::default() });
    Ok(artifact::write(path, &graph.text, program, code)?)
}

/// A compiled program from an artifact; its code is made anew unless the user trusts the file.
///
/// # Errors
/// If the artifact is malformed or of another version.
pub fn read_artifact(path: &Path, target: &CpuTarget, trust: bool) -> Result<Compiled, Failure> {
    let options = ReadOptions { trust, target: target.clone() };
    let read = artifact::read(path, &options)?;
    Ok(Compiled { module: Module::new(), program: read.program, kernels: read.kernels, gpu: read.gpu })
}
