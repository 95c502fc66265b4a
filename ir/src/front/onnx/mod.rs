//! ONNX models: a protobuf reader of our own, and the mapping of ONNX operators to ours.

mod external;
mod proto;
mod tensor;
mod wire;

use crate::diag::{Code, Diagnostic, SourceId, Span};
use crate::entity::EntityRef;
use crate::tensor::Tensor;

/// The file that spans of an imported module, and of errors in reading it, point into.
const SOURCE: usize = 0;

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
