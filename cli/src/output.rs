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

/// Writes a file by way of a temporary one beside it, or to standard output for `-`. A device or
/// a pipe (`/dev/null`) is written to: renaming a file over it would destroy it.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, content: &[u8], streams: &mut Streams<'_>) -> Result<(), Failure> {
    if path == Path::new("-") {
        streams.stdout.write_all(content)?;
        return Ok(());
    }
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot write `{}`: {e}", path.display()));
    if is_special(path) {
        return std::fs::write(path, content).map_err(cannot);
    }
    // What a link names is replaced, not the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_in(folder).map_err(cannot)?;
    file.write_all(content).map_err(cannot)?;
    file.persist(&target).map_err(|e| cannot(e.error))?;
    Ok(())
}

/// Whether there is something of this name that is no ordinary file.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| !m.is_file())
}

/// A temporary file with the permissions of a new file, where the system has such.
fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
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
    if path == Path::new("-") || is_special(path) {
        return Err(Failure::usage("an artifact is written to an ordinary file; name one with -o"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> Result<(), Failure> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
            color: false,
            terminal: false,
        };
        write(path, b"text", &mut streams)
    }

    #[test]
    fn files_appear_whole_and_a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        written(&path).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"text");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert_eq!(written(folder.path()).expect_err("a folder").code, 2);
    }

    #[test]
    #[cfg(unix)]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").expect("written");
        symlink(&file, &link).expect("linked");
        written(&link).expect("written");
        assert!(link.is_symlink() && std::fs::read(&file).expect("there") == b"text");
        // A link of our own to the device, so that a fault cannot harm the machine.
        let null = folder.path().join("null");
        symlink("/dev/null", &null).expect("linked");
        written(&null).expect("written");
        assert!(std::fs::metadata("/dev/null").expect("there").file_type().is_char_device());
    }
}
