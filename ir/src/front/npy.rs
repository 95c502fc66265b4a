//! Numpy's `.npy` and `.npz` files.
//!
//! All dtypes that numpy and this compiler share are read, in either byte order and either
//! memory order; `bfloat16` is stored as numpy stores it, as two raw bytes (`V2`). What a
//! header claims is compared with the data that is there before anything is allocated.

use std::io::{Cursor, Read, Seek, Write};

use indexmap::IndexMap;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::diag::{Code, Diagnostic};
use crate::tensor::{Tensor, byte_len};
use crate::types::{DType, MAX_RANK};

/// How every `.npy` file starts.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read; numpy's own limit is 10,000 characters.
const MAX_HEADER: usize = 1 << 16;

/// The most that a small npz file may unpack to; a larger file may unpack to
/// [`MAX_RATIO`] times its size.
const MAX_UNPACKED: u64 = 1 << 30;

/// How many times its size a large npz file may unpack to.
const MAX_RATIO: u64 = 32;

/// The most arrays that a file may hold.
const MAX_ENTRIES: usize = 1 << 16;

/// Arrays by name, in the order of the file.
pub type Arrays = IndexMap<String, Tensor>;

fn malformed(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::WEIGHTS, message)
}

/// Reads one array.
///
/// # Errors
/// If the bytes are no `.npy` file or its dtype has no counterpart here.
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, Diagnostic> {
    let (header, data) = split_header(bytes)?;
    let header = parse_header(header)?;
    let wanted = byte_len(header.dtype, &header.shape).map_err(|e| malformed(e.to_string()))?;
    let data = data.get(..wanted).ok_or_else(|| {
        malformed(format!("the npy header promises {wanted} bytes of data, the file has {}", data.len()))
    })?;
    let native = match header.swapped {
        true => Some(data.chunks_exact(header.dtype.bytes()).flat_map(|e| e.iter().rev().copied()).collect()),
        false => None::<Vec<u8>>,
    };
    let data = native.as_deref().unwrap_or(data);
    let tensor = match header.fortran {
        true => Tensor::from_bytes(header.dtype, &header.shape, &row_major(data, &header)),
        false => Tensor::from_bytes(header.dtype, &header.shape, data),
    };
    tensor.map_err(|e| malformed(e.to_string()))
}

/// Reads a zip file of arrays; the names are those of its entries without `.npy`.
///
/// # Errors
/// If the zip file or one of its arrays is malformed, a name occurs twice, or it unpacks
/// to more than a small file may.
pub fn read_npz(bytes: &[u8]) -> Result<Arrays, Diagnostic> {
    let damaged = |e: &dyn std::fmt::Display| malformed(format!("the npz file is damaged: {e}"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| damaged(&e))?;
    if archive.len() > MAX_ENTRIES {
        return Err(malformed(format!("the npz file claims {} arrays", archive.len())));
    }
    let mut budget = MAX_UNPACKED.max((bytes.len() as u64).saturating_mul(MAX_RATIO));
    let mut arrays = Arrays::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| damaged(&e))?;
        let name = entry.name().map_err(|e| damaged(&e))?.into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        let mut unpacked = Vec::new();
        entry.take(budget + 1).read_to_end(&mut unpacked).map_err(|e| damaged(&e))?;
        budget = budget.checked_sub(unpacked.len() as u64).ok_or_else(|| {
            malformed(format!("array `{name}` unpacks to more than a file of this size may"))
        })?;
        let tensor = read_npy(&unpacked).map_err(|d| d.note(format!("in array `{name}`")))?;
        if arrays.insert(name.clone(), tensor).is_some() {
            return Err(malformed(format!("array `{name}` occurs twice in the npz file")));
        }
    }
    Ok(arrays)
}

/// The bytes of a `.npy` file.
pub fn write_npy(tensor: &Tensor) -> Vec<u8> {
    let mut shape: String = tensor.shape().iter().map(|n| format!("{n}, ")).collect();
    if tensor.rank() != 1 {
        shape.truncate(shape.len().saturating_sub(2));
    } else {
        shape.truncate(shape.len() - 1);
    }
    let descr = descr_of(tensor.dtype());
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let used = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(used.next_multiple_of(64) - used));
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(tensor.bytes());
    out
}

/// Writes arrays as an npz file; equal arrays give equal bytes.
///
/// # Errors
/// If writing fails.
pub fn write_npz<'a, W: Write + Seek>(
    out: W,
    arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(out);
    for (name, tensor) in arrays {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(tensor.bytes().len() >= 1 << 31);
        zip.start_file(format!("{name}.npy"), options)?;
        zip.write_all(&write_npy(tensor))?;
    }
    zip.finish()?;
    Ok(())
}

/// What a header says.
#[derive(Debug)]
struct Header {
    dtype: DType,
    swapped: bool,
    fortran: bool,
    shape: Vec<usize>,
}

/// Header text and data.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8]), Diagnostic> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("this is no npy file"))?;
    let (len, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(malformed("the npy file is truncated or of an unknown version")),
    };
    let header = rest.get(..len).filter(|_| len <= MAX_HEADER);
    let header = header.and_then(|h| std::str::from_utf8(h).ok());
    let header = header.ok_or_else(|| malformed(format!("the npy header of {len} bytes is not there")))?;
    Ok((header, &rest[len..]))
}

/// Reads the Python dictionary that a header is.
fn parse_header(text: &str) -> Result<Header, Diagnostic> {
    let bad = || malformed(format!("the npy header `{}` is malformed", text.trim()));
    let value = |key: &str| {
        let at = text.find(&format!("'{key}'"))? + key.len() + 2;
        Some(text[at..].trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("descr").and_then(|v| v.strip_prefix('\'')).and_then(|v| v.split('\'').next());
    let descr = descr.ok_or_else(bad)?;
    let (dtype, swapped) = dtype_of(descr).ok_or_else(|| {
        malformed(format!("dtype `{descr}` of the npy file is not supported"))
            .help("save it as a numeric dtype, for example with .astype(numpy.float32)")
    })?;
    let fortran = match value("fortran_order").ok_or_else(bad)? {
        v if v.starts_with("True") => true,
        v if v.starts_with("False") => false,
        _ => return Err(bad()),
    };
    let shape = value("shape").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split_once(')'));
    let shape = shape.ok_or_else(bad)?.0.split(',').map(str::trim).filter(|s| !s.is_empty());
    let shape: Vec<usize> =
        shape.take(MAX_RANK + 1).map(|s| s.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    Ok(Header { dtype, swapped, fortran, shape })
}

/// The dtype of a numpy type string, and whether its bytes are in big-endian order.
fn dtype_of(descr: &str) -> Option<(DType, bool)> {
    let (order, code) = descr.split_at_checked(1)?;
    let dtype = match code {
        "f2" => DType::F16,
        "V2" => DType::BF16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "b1" => DType::Bool,
        _ => return None,
    };
    match order {
        "<" | "|" | "=" => Some((dtype, false)),
        ">" => Some((dtype, dtype.bytes() > 1)),
        _ => None,
    }
}

/// The numpy type string of a dtype.
fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "<f2",
        DType::BF16 => "|V2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
    }
}

/// Column-major data in row-major order.
fn row_major(data: &[u8], header: &Header) -> Vec<u8> {
    let size = header.dtype.bytes();
    let mut index = vec![0usize; header.shape.len()];
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() / size {
        let offset = index.iter().zip(&header.shape).rev().fold(0, |at, (&i, &n)| at * n + i);
        out.extend_from_slice(&data[offset * size..(offset + 1) * size]);
        for (i, &n) in index.iter_mut().zip(&header.shape).rev() {
            *i += 1;
            if *i < n {
                break;
            }
            *i = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn every_dtype_and_rank_comes_back() {
        for dtype in DType::ALL {
            for shape in [&[][..], &[3], &[2, 3], &[2, 0, 4]] {
                let len = byte_len(dtype, shape).expect("small");
                let data: Vec<u8> =
                    (0..len as u8).map(|i| if dtype == DType::Bool { i % 2 } else { i }).collect();
                let tensor = Tensor::from_bytes(dtype, shape, &data).expect("small");
                let bytes = write_npy(&tensor);
                assert_eq!((bytes.len() - len) % 64, 0, "numpy aligns data to 64 bytes");
                assert!(read_npy(&bytes).expect("own file").bitwise_eq(&tensor));
            }
        }
    }

    #[test]
    fn byte_and_memory_order_are_undone() {
        let data: Vec<u8> = [1i16, 2, 3, 4, 5, 6].iter().flat_map(|n| n.to_be_bytes()).collect();
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }";
        let tensor = read_npy(&with_header(header, &data)).expect("well formed");
        assert_eq!(tensor.as_slice::<i16>(), Some(&[1, 3, 5, 2, 4, 6][..]));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let f4 = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
        for shape in
            ["1000000000000,", "4294967296, 4294967296", "-1,", "1e3,", "2, 2", "99999999999999999999999,"]
        {
            assert!(read_npy(&with_header(&f4(shape), &[0; 8])).is_err(), "{shape}");
        }
        let rank = "1, ".repeat(1000);
        assert!(read_npy(&with_header(&f4(&rank), &[0; 8])).is_err());
        assert!(read_npy(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").is_err());
        assert!(read_npy(&with_header("{'descr': '|O', 'fortran_order': False, 'shape': ()}", &[])).is_err());
        for len in 0..40 {
            assert!(read_npy(&with_header(&f4("2,"), &[0; 8])[..len]).is_err());
        }
    }

    #[test]
    fn archives_keep_names_and_order() {
        let a = Tensor::from_slice(&[2], &[1f32, 2.0]).expect("small");
        let b = Tensor::scalar(7i64);
        let mut out = Cursor::new(Vec::new());
        write_npz(&mut out, [("x:0", &a), ("b/c", &b)]).expect("in memory");
        let bytes = out.into_inner();
        let arrays = read_npz(&bytes).expect("own file");
        assert_eq!(arrays.keys().collect::<Vec<_>>(), ["x:0", "b/c"]);
        assert!(arrays["x:0"].bitwise_eq(&a) && arrays["b/c"].bitwise_eq(&b));
        for cut in (0..bytes.len()).step_by(7) {
            assert!(read_npz(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("x.npy", options).expect("in memory");
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999,), }";
        zip.write_all(&with_header(header, &vec![0; 1 << 20])).expect("in memory");
        let bytes = zip.finish().expect("in memory").into_inner();
        assert!(read_npz(&bytes).is_err(), "less data than the header claims");
    }
}
