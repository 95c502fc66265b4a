//! Readers of files from elsewhere: models and arrays.
//!
//! A file's kind is told by its content, never by its name: [`sniff`]. Every reader treats
//! its input as hostile: lengths are checked before anything is allocated, and what is
//! wrong is a diagnostic that names the place.

pub mod hf;
pub mod npy;
pub mod onnx;

use std::sync::Arc;

use crate::expr::Function;
use crate::op::AttrValue;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ONNX model.
    Onnx,
    /// Relay text.
    Relay,
    /// TIR in TVMScript.
    Tir,
    /// A compiled artifact, or another zip file.
    Artifact,
    /// One numpy array.
    Npy,
    /// A zip file of numpy arrays.
    Npz,
    /// Named tensors of a checkpoint.
    Safetensors,
    /// A quantised checkpoint of llama.cpp.
    Gguf,
    /// A folder of a checkpoint with its configuration.
    Checkpoint,
}

/// How many bytes of a file [`sniff`] looks at.
pub const SNIFF_BYTES: usize = 4096;

/// Tells what a file holds from its first bytes ([`SNIFF_BYTES`] are enough), if it is
/// anything that is known here.
pub fn sniff(head: &[u8]) -> Option<Kind> {
    let head = &head[..head.len().min(SNIFF_BYTES)];
    if head.starts_with(npy::MAGIC) {
        return Some(Kind::Npy);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(zip_kind(head));
    }
    if head.starts_with(b"GGUF") {
        return Some(Kind::Gguf);
    }
    if head.get(8) == Some(&b'{') && head.first_chunk().is_some_and(|n| u64::from_le_bytes(*n) < 1 << 40) {
        return Some(Kind::Safetensors);
    }
    if let Some(text) = as_text(head) {
        return Some(if is_script(text) { Kind::Tir } else { Kind::Relay });
    }
    looks_like_model(head).then_some(Kind::Onnx)
}

/// The names of a module's results, as the function attribute `outputs` lists them.
fn names_attr(names: &[&str]) -> AttrValue {
    AttrValue::List(names.iter().map(|n| AttrValue::Str(Arc::from(*n))).collect())
}

/// The names of a function's results, as the importer noted them.
pub fn output_names(func: &Function) -> Vec<String> {
    let Some(AttrValue::List(names)) = func.attrs.get("outputs") else { return Vec::new() };
    let text = |v: &AttrValue| match v {
        AttrValue::Str(s) => s.to_string(),
        _ => String::new(),
    };
    names.iter().map(text).collect()
}

/// A zip file whose first entry is an array is an npz.
fn zip_kind(head: &[u8]) -> Kind {
    let name_len = head.get(26..28).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    match head.get(30..30 + name_len) {
        Some(name) if name.ends_with(b".npy") => Kind::Npz,
        None if name_len == 0 => Kind::Npz,
        Some(_) | None => Kind::Artifact,
    }
}

/// The text, if these are bytes of a text file, perhaps cut inside a character.
fn as_text(head: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.trim().is_empty() && text.chars().all(is_text)).then_some(text)
}

/// Whether a text is TVMScript: it imports the script's language or decorates a function with it.
fn is_script(text: &str) -> bool {
    let begins = ["@T.prim_func", "# from tvm.script", "from tvm.script"];
    text.lines().any(|line| begins.iter().any(|b| line.trim_start().starts_with(b)))
}

/// True if the first field is one of `ModelProto` with the wire type that it must have.
fn looks_like_model(head: &[u8]) -> bool {
    match head {
        [tag, rest @ ..] => match tag >> 3 {
            1 | 5 => tag & 7 == 0 && !rest.is_empty(),
            2..=4 | 6..=8 | 14 => tag & 7 == 2 && !rest.is_empty(),
            _ => false,
        },
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        let onnx = [8u8, 13, 18, 7, b'p', b'y', b't', b'o', b'r', b'c', b'h'];
        let mut safetensors = 2u64.to_le_bytes().to_vec();
        safetensors.extend(b"{}");
        let cases: [(&[u8], Option<Kind>); 10] = [
            (&onnx, Some(Kind::Onnx)),
            (b"\x93NUMPY\x01\x00", Some(Kind::Npy)),
            (b"#[version = \"0.0.5\"]\ndef @main() { 1 }", Some(Kind::Relay)),
            ("def @main(%\u{e9}".as_bytes(), Some(Kind::Relay)),
            (b"# from tvm.script import tir as T\n", Some(Kind::Tir)),
            (b"// CHECK: @T.prim_func\ndef @main() { 1 }", Some(Kind::Relay)),
            (b"GGUF\x03\0\0\0", Some(Kind::Gguf)),
            (&safetensors, Some(Kind::Safetensors)),
            (b"", None),
            (b"\xff\xfe\0\0\0", None),
        ];
        for (bytes, kind) in cases {
            assert_eq!(sniff(bytes), kind, "{bytes:?}");
        }
    }
}
