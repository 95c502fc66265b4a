//! `TensorProto` to [`Tensor`]: every length and offset is checked, large data stays mapped.

use std::path::PathBuf;
use std::sync::Arc;

use memmap2::Mmap;

use super::external;
use super::proto::TensorProto;
use crate::tensor::Tensor;
use crate::types::{DType, MAX_TENSOR_BYTES};

/// Where the bytes of tensors come from.
pub(super) struct Files {
    /// The mapped model, if it is a file.
    pub map: Option<Arc<Mmap>>,
    /// The folder that external data must stay in.
    pub folder: Option<PathBuf>,
    /// External files that are mapped already.
    pub opened: external::Opened,
}

/// The dtype of a `TensorProto.DataType`, or what to call it in a refusal.
pub(super) fn dtype_of(data_type: i32) -> Result<DType, String> {
    let unsupported = match data_type {
        1 => return Ok(DType::F32),
        2 => return Ok(DType::U8),
        3 => return Ok(DType::I8),
        4 => return Ok(DType::U16),
        5 => return Ok(DType::I16),
        6 => return Ok(DType::I32),
        7 => return Ok(DType::I64),
        9 => return Ok(DType::Bool),
        10 => return Ok(DType::F16),
        11 => return Ok(DType::F64),
        12 => return Ok(DType::U32),
        13 => return Ok(DType::U64),
        16 => return Ok(DType::BF16),
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        other => return Err(format!("element type {other} does not exist")),
    };
    Err(format!("element type {unsupported} is not supported"))
}

/// Sizes from the file's dimensions.
pub(super) fn shape_of(dims: &[u64]) -> Result<Vec<usize>, String> {
    dims.iter()
        .map(|&d| match d as i64 {
            n if n < 0 => Err(format!("dimension {n} is negative")),
            n => usize::try_from(n).map_err(|_| format!("dimension {n} is too large")),
        })
        .collect()
}

impl Files {
    /// The tensor, or why it is refused.
    pub(super) fn tensor(&self, proto: &TensorProto<'_>) -> Result<Tensor, String> {
        if proto.is_segment {
            return Err("tensors in segments are not supported".into());
        }
        let dtype = dtype_of(proto.data_type)?;
        let shape = shape_of(&proto.dims)?;
        if proto.is_external {
            return external::tensor(self, proto, dtype, &shape);
        }
        let Some(raw) = proto.raw else { return typed_tensor(proto, dtype, &shape) };
        if let Some(map) = &self.map {
            let range = raw.offset..raw.offset + raw.bytes.len();
            return Tensor::from_mapped(dtype, &shape, map, range).map_err(|e| e.to_string());
        }
        Tensor::from_bytes(dtype, &shape, raw.bytes).map_err(|e| e.to_string())
    }
}

/// A tensor whose elements are in `float_data`, `int32_data` and the like.
fn typed_tensor(proto: &TensorProto<'_>, dtype: DType, shape: &[usize]) -> Result<Tensor, String> {
    let wanted = match dtype {
        DType::F32 => 4,
        DType::F64 => 10,
        DType::I64 => 7,
        DType::U32 | DType::U64 => 11,
        DType::F16
        | DType::BF16
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::U8
        | DType::U16
        | DType::Bool => 5,
    };
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_TENSOR_BYTES)
        .ok_or_else(|| format!("shape {shape:?} is too large"))?;
    let mut numbers = Vec::new();
    for data in &proto.typed {
        if data.number != wanted {
            return Err(format!("the elements of a {dtype} tensor are in the wrong field"));
        }
        data.field.numbers(data.width(), &mut numbers).map_err(|e| e.message)?;
    }
    if numbers.len() != elements {
        return Err(format!("shape {shape:?} needs {elements} elements, the file has {}", numbers.len()));
    }
    let mut bytes = Vec::with_capacity(elements * dtype.bytes());
    for n in numbers {
        let n = if dtype == DType::Bool { (n != 0) as u64 } else { n };
        bytes.extend_from_slice(&n.to_le_bytes()[..dtype.bytes()]);
    }
    Tensor::from_bytes(dtype, shape, &bytes).map_err(|e| e.to_string())
}
