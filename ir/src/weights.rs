//! Tensors by name in a safetensors file.
//!
//! A file is mapped, not read: a tensor is a slice of it until somebody looks. Lengths,
//! offsets, overlaps and products in the header are checked before any tensor exists.
//! Writing orders tensors by alignment and name, so the same tensors give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use crate::diag::{Code, Diagnostic};
use crate::tensor::{Tensor, TensorError};
use crate::types::DType;

/// The tensors of a file, by name.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<Arc<str>, Tensor>,
}

impl Weights {
    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Tensor)> {
        self.tensors.iter()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True if there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

impl FromIterator<(Arc<str>, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Tensor)>>(tensors: I) -> Self {
        Weights { tensors: tensors.into_iter().collect() }
    }
}

/// Maps a safetensors file.
///
/// # Errors
/// If it cannot be opened, or is malformed.
pub fn read(path: &Path) -> Result<Weights, Diagnostic> {
    let file = Arc::new(map_file(path)?);
    let name = path.display().to_string();
    parse(&name, &file, |dtype, shape, range| Tensor::from_mapped(dtype, shape, &file, range))
}

/// Reads a safetensors file that is part of a mapped file; `name` is for messages.
///
/// # Errors
/// If it is malformed, or the range is outside the mapped file.
pub fn read_mapped(name: &str, file: &Arc<Mmap>, range: Range<usize>) -> Result<Weights, Diagnostic> {
    let bytes = file.get(range.clone()).ok_or_else(|| {
        Diagnostic::error(Code::WEIGHTS, format!("`{name}` ends past the file that it is part of"))
    })?;
    parse(name, bytes, |dtype, shape, part| {
        Tensor::from_mapped(dtype, shape, file, range.start + part.start..range.start + part.end)
    })
}

/// Reads the bytes of a safetensors file; `name` is for messages.
///
/// # Errors
/// If they are malformed.
pub fn read_bytes(name: &str, bytes: &[u8]) -> Result<Weights, Diagnostic> {
    parse(name, bytes, |dtype, shape, range| Tensor::from_bytes(dtype, shape, &bytes[range]))
}

/// Writes tensors as a safetensors file, the same bytes for the same tensors.
///
/// # Errors
/// If writing fails.
pub fn write<'a>(
    out: &mut dyn Write,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> io::Result<()> {
    let sorted: BTreeMap<&str, &Tensor> = tensors.into_iter().collect();
    let mut ordered: Vec<_> = sorted.into_iter().collect();
    // Wide elements first keep every tensor aligned without gaps, which the format forbids.
    ordered.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().bytes()));

    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, tensor) in &ordered {
        let end = at + tensor.bytes().len();
        let entry = serde_json::json!({
            "dtype": dtype_name(tensor.dtype()), "shape": tensor.shape(), "data_offsets": [at, end],
        });
        header.insert((*name).to_owned(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    ordered.iter().try_for_each(|(_, tensor)| out.write_all(tensor.bytes()))
}

/// The most bytes a header may have; the format's own limit.
const MAX_HEADER: usize = 100_000_000;

/// Reads the header and makes each tensor from its byte range.
fn parse(
    file: &str,
    bytes: &[u8],
    make: impl Fn(DType, &[usize], Range<usize>) -> Result<Tensor, TensorError>,
) -> Result<Weights, Diagnostic> {
    let error = |message: String| Diagnostic::error(Code::WEIGHTS, format!("{file}: {message}"));
    let (data, infos) = header(bytes).map_err(error)?;
    let mut tensors = BTreeMap::new();
    let mut at = data;
    for (name, info) in infos {
        let error = |message: &str| error(format!("tensor `{name}` {message}"));
        let (start, end) = info.data_offsets;
        let range = data.saturating_add(start)..data.saturating_add(end);
        if range.start != at || range.end < at {
            return Err(error("overlaps another or leaves a gap"));
        }
        if range.end > bytes.len() {
            return Err(error("ends after the file: it is truncated"));
        }
        at = range.end;
        let dtype =
            dtype(info.dtype).ok_or_else(|| error(&format!("has the unsupported dtype {:?}", info.dtype)))?;
        let tensor = make(dtype, &info.shape, range).map_err(|e| error(&format!("is malformed: {e}")))?;
        tensors.insert(name.into(), tensor);
    }
    if at != bytes.len() {
        return Err(error(format!("{} bytes are left over after the tensors", bytes.len() - at)));
    }
    Ok(Weights { tensors })
}

/// Where the data begins, and the entries of the header in the order of their bytes.
fn header(bytes: &[u8]) -> Result<(usize, Vec<(String, TensorInfo)>), String> {
    let (length, rest) =
        bytes.split_first_chunk().ok_or("not a safetensors file: shorter than its length field")?;
    let length = u64::from_le_bytes(*length);
    let length = usize::try_from(length).ok().filter(|&n| n <= MAX_HEADER);
    let length = length.ok_or("not a safetensors file: the header claims to be larger than 100 MB")?;
    let json = rest.get(..length).ok_or("the header claims to be longer than the file")?;
    let not_json = |e: serde_json::Error| format!("not a safetensors file: {e}");
    let mut entries: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(not_json)?;
    entries.remove("__metadata__");
    let infos = entries.into_iter().map(|(name, entry)| match serde_json::from_value::<TensorInfo>(entry) {
        Ok(info) => Ok((name, info)),
        Err(e) => Err(format!("tensor `{name}`: {e}")),
    });
    let mut infos = infos.collect::<Result<Vec<_>, _>>()?;
    infos.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));
    Ok((size_of::<u64>() + length, infos))
}

/// Maps a file into memory.
///
/// # Errors
/// If it cannot be opened or mapped; the code is that of a wrong call.
pub fn map_file(path: &Path) -> Result<Mmap, Diagnostic> {
    let error = |e: io::Error| {
        Diagnostic::error(Code::USAGE, format!("cannot open `{}`", path.display())).note(e.to_string())
    };
    let file = File::open(path).map_err(error)?;
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(io::ErrorKind::IsADirectory.into()));
    }
    map(&file).map_err(error)
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process. Someone who truncates the
    // file while it is mapped can make reads fault; that is the price of not copying
    // gigabytes, and files of weights are replaced by renaming, not rewritten.
    unsafe { Mmap::map(file) }
}

fn dtype(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&d| format!("{dtype:?}") == dtype_name(d))
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::I8 => "I8",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::U8 => "U8",
        DType::U16 => "U16",
        DType::U32 => "U32",
        DType::U64 => "U64",
        DType::Bool => "BOOL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        read_bytes("w", bytes).expect_err("it is refused").message
    }

    #[test]
    fn every_dtype_survives() {
        let tensors: Vec<(String, Tensor)> = DType::ALL
            .into_iter()
            .map(|d| {
                let data: Vec<u8> =
                    (0..3 * d.bytes() as u8).map(|b| if d == DType::Bool { b % 2 } else { b }).collect();
                (format!("t.{d}"), Tensor::from_bytes(d, &[1, 3], &data).expect("it fits"))
            })
            .chain([("empty".to_owned(), Tensor::zeros(DType::F32, &[0, 2]).expect("it fits"))])
            .collect();
        let save = |reverse: bool| {
            let mut list: Vec<_> = tensors.iter().map(|(n, t)| (&**n, t)).collect();
            if reverse {
                list.reverse();
            }
            let mut out = Vec::new();
            write(&mut out, list).expect("a vector takes all");
            out
        };
        assert_eq!(save(false), save(true));
        let dir = std::env::temp_dir().join(format!("fermata-weights-{}", std::process::id()));
        std::fs::write(&dir, save(false)).expect("the temporary folder is writable");
        for read in [read_bytes("w", &save(false)), read(&dir)] {
            let read = read.expect("it reads back");
            assert_eq!(read.len(), tensors.len());
            for (name, tensor) in &tensors {
                assert!(read.get(name).is_some_and(|t| t.bitwise_eq(tensor)), "{name}");
            }
        }
        std::fs::remove_file(&dir).expect("it was written");
    }

    #[test]
    fn lies_are_refused() {
        assert!(message(b"abc").contains("shorter"));
        assert!(message(&u64::MAX.to_le_bytes()).contains("100 MB"));
        assert!(message(&file("{", 0)).contains("not a safetensors"));
        assert!(message(&4096u64.to_le_bytes()).contains("longer than the file"));
        let t = |dtype: &str, shape: &str, from: u64, to: u64| {
            format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let one = |entry: String, data| message(&file(&format!(r#"{{"a":{entry}}}"#), data));
        assert!(one(t("F32", "[2]", 0, 4), 4).contains("shape needs 8"));
        assert!(one(t("F32", "[1]", 0, 4), 3).contains("truncated"));
        assert!(one(t("F32", "[1]", 0, 4), 9).contains("5 bytes are left over"));
        assert!(one(t("F32", "[1]", 4, 0), 4).contains("gap"));
        assert!(one(t("F32", "[18446744073709551615,2]", 0, 4), 4).contains("2^40"));
        assert!(one(t("F8_E4M3", "[4]", 0, 4), 4).contains("unsupported"));
        assert!(one(t("F32", "[-1]", 0, 4), 4).contains("invalid value"));
        assert!(one(t("U8", "[1]", 0, u64::MAX), 4).contains("truncated"));
        assert!(one(t("U8", "[0,18446744073709551615]", 0, 0), 0).contains("2^40"));
        let two = format!(r#"{{"a":{},"b":{}}}"#, t("F32", "[1]", 0, 4), t("F32", "[1]", 2, 6));
        assert!(message(&file(&two, 6)).contains("overlap"));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        assert!(message(&file(&deep, 0)).contains("not a safetensors"));
    }

    #[test]
    fn a_missing_file_is_a_wrong_call() {
        assert_eq!(read(Path::new("/nowhere/x")).expect_err("it is not there").code, Code::USAGE);
        assert_eq!(read(Path::new("/")).expect_err("it is a folder").code, Code::USAGE);
    }
}
