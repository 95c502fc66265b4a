//! ONNX models: a protobuf reader of our own, and the mapping of ONNX operators to ours.
//!
//! [`import_file`] gives a module whose function `@main` has the model's inputs as
//! parameters, under their names, and its outputs as result: one value, or a tuple of
//! several. The names of the outputs are in the function's attribute `outputs`
//! ([`output_names`](super::output_names)). Named dimensions are symbolic; [`ImportOptions`] binds them.
//! Every expression's span is the path of its node: `main > NAME (node #i)`.
//!
//! Nothing of a model is trusted: lengths are checked against the file before anything is
//! allocated, names, cycles and types as the graph is walked. What is not supported is
//! reported all at once.

mod dynamic;
mod external;
mod fold;
mod graph;
mod inputs;
mod node;
mod ops;
mod order;
mod proto;
mod support;
mod tensor;
#[cfg(test)]
mod tests;
mod vocab;
mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::diag::{Code, Diagnostic, Diagnostics, SourceId, Span};
use crate::entity::EntityRef;
use crate::expr::Module;
use crate::tensor::Tensor;

pub use support::{input_names, shape_inputs, supported};

/// The file that spans of an imported module, and of errors in reading it, point into.
const SOURCE: usize = 0;

/// What to bind while importing.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Sizes of named dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs that become constants and are parameters no longer.
    pub const_inputs: BTreeMap<String, Tensor>,
}

/// Imports a model from a file; large weights stay mapped.
///
/// # Errors
/// If the file cannot be read, is malformed, or asks for what is not supported.
pub fn import_file(path: &Path, options: &ImportOptions) -> Result<Module, Diagnostics> {
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| Diagnostic::error(Code::USAGE, format!("cannot read `{name}`: {e}"));
    let file = File::open(path).map_err(cannot)?;
    // SAFETY: the mapping is read-only; changing a model's file while it is in use is
    // outside what the reader promises.
    let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(cannot)?);
    let folder = path.parent().map(Path::to_path_buf);
    let files = tensor::Files { map: Some(map.clone()), folder, opened: Default::default() };
    import(&name, &map, &files, options)
}

/// Imports a model from memory; it may not have external data.
///
/// # Errors
/// If the bytes are malformed or ask for what is not supported.
pub fn import_bytes(name: &str, bytes: &[u8], options: &ImportOptions) -> Result<Module, Diagnostics> {
    let files = tensor::Files { map: None, folder: None, opened: Default::default() };
    import(name, bytes, &files, options)
}

fn import(
    name: &str,
    bytes: &[u8],
    files: &tensor::Files,
    options: &ImportOptions,
) -> Result<Module, Diagnostics> {
    let model: proto::Model<'_> = wire::decode(bytes).map_err(Diagnostic::from)?;
    let Some(graph) = &model.graph else {
        return Err(malformed("the file holds no graph: it is no ONNX model", "main").into());
    };
    support::check(&model, graph)?;
    let mut im = graph::Importer::new(name, files, &model.functions, &model.opset_import)?;
    let result = im.import_main(graph, options);
    let mut errors = im.take_errors();
    errors.extend(result.err());
    match errors.is_empty() {
        true => Ok(im.module),
        false => Err(Diagnostics(errors)),
    }
}

/// A malformed file: what is wrong and the path of the place.
fn malformed(message: impl Into<String>, path: &str) -> Diagnostic {
    let span = Span::Node { source: SourceId::new(SOURCE), path: path.into() };
    Diagnostic::error(Code::IMPORT_FORMAT, message).at(span)
}

impl From<wire::WireError> for Diagnostic {
    fn from(e: wire::WireError) -> Diagnostic {
        let path: Vec<String> = e.path.into_iter().rev().collect();
        malformed(e.message, &path.join(" > ")).note(format!("at byte {}", e.offset))
    }
}

/// Reads a file that holds a single `TensorProto`, as ONNX's own test data does.
///
/// # Errors
/// If the bytes are malformed or the dtype has no counterpart here.
pub fn read_tensor(bytes: &[u8]) -> Result<Tensor, Diagnostic> {
    let proto: proto::TensorProto<'_> = wire::decode(bytes)?;
    let files = tensor::Files { map: None, folder: None, opened: Default::default() };
    files.tensor(&proto).map_err(|message| malformed(message, proto.name))
}
