//! Host tensors: dtype, shape and bytes in row-major order, seen through ndarray.
//!
//! A tensor is immutable and shares its bytes: cloning one copies no data, and a large
//! weight may be a slice of a memory-mapped file. Bytes are little-endian.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use half::{bf16, f16};
use memmap2::Mmap;
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::types::{DType, MAX_RANK, MAX_TENSOR_BYTES, TensorType, Type};

/// A truth value stored in one byte: 0 is false, anything else is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bool8(pub u8);

impl From<bool> for Bool8 {
    fn from(b: bool) -> Self {
        Bool8(b as u8)
    }
}

impl From<Bool8> for bool {
    fn from(b: Bool8) -> Self {
        b.0 != 0
    }
}

/// A Rust type that is the element of a tensor.
pub trait Element: Pod + Copy + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The dtype it is stored as.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),* $(,)?) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f16 => F16, bf16 => BF16, f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
          u8 => U8, u16 => U16, u32 => U32, u64 => U64, Bool8 => Bool);

/// Calls a generic function or closure-like macro body with the Rust type of a dtype.
///
/// `dispatch!(dtype, T => body)` runs `body` with `T` bound to `f32`, `i8`, [`Bool8`] and so on.
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::types::DType::F16 => {
                type $t = $crate::half::f16;
                $body
            }
            $crate::types::DType::BF16 => {
                type $t = $crate::half::bf16;
                $body
            }
            $crate::types::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::types::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::types::DType::I8 => {
                type $t = i8;
                $body
            }
            $crate::types::DType::I16 => {
                type $t = i16;
                $body
            }
            $crate::types::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::types::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::types::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::types::DType::U16 => {
                type $t = u16;
                $body
            }
            $crate::types::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::types::DType::U64 => {
                type $t = u64;
                $body
            }
            $crate::types::DType::Bool => {
                type $t = $crate::tensor::Bool8;
                $body
            }
        }
    };
}

/// Where the bytes live. Owned bytes are held in `u64`s so that every dtype is aligned.
#[derive(Clone)]
enum Storage {
    Owned(Arc<Vec<u64>>),
    Mapped(Arc<Mmap>, Range<usize>),
}

/// An immutable tensor on the host.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

/// Why a tensor could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorError {
    /// More than [`MAX_RANK`] dimensions.
    Rank(usize),
    /// The shape needs more than [`MAX_TENSOR_BYTES`] bytes.
    TooLarge(Vec<usize>),
    /// The data has another length than the shape says; both in elements or bytes.
    Length {
        /// What the shape needs.
        expected: usize,
        /// What was given.
        found: usize,
    },
}

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorError::Rank(n) => write!(f, "a tensor has at most {MAX_RANK} dimensions, this has {n}"),
            TensorError::TooLarge(s) => write!(f, "a tensor of shape {s:?} is larger than 2^40 bytes"),
            TensorError::Length { expected, found } => {
                write!(f, "the shape needs {expected} but the data has {found}")
            }
        }
    }
}

impl std::error::Error for TensorError {}

/// Bytes that a dtype and shape need.
///
/// # Errors
/// If the rank or the size is past what a tensor may have.
pub fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > MAX_RANK {
        return Err(TensorError::Rank(shape.len()));
    }
    // A zero dimension must not hide an overflow among the others.
    let too_large = || TensorError::TooLarge(shape.to_vec());
    let mut nonzero = shape.iter().filter(|&&n| n != 0);
    let span = nonzero.try_fold(dtype.bytes(), |n, &d| n.checked_mul(d));
    match span {
        Some(n) if n <= MAX_TENSOR_BYTES => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(too_large()),
    }
}

impl Tensor {
    /// A tensor from its elements in row-major order.
    ///
    /// # Errors
    /// If the shape is too large or does not match the number of elements.
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Result<Tensor, TensorError> {
        let bytes = byte_len(T::DTYPE, shape)?;
        let expected = bytes / T::DTYPE.bytes();
        if expected != data.len() {
            return Err(TensorError::Length { expected, found: data.len() });
        }
        Tensor::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(data))
    }

    /// A tensor from little-endian bytes in row-major order.
    ///
    /// # Errors
    /// If the shape is too large or does not match the number of bytes.
    pub fn from_bytes(dtype: DType, shape: &[usize], data: &[u8]) -> Result<Tensor, TensorError> {
        let expected = byte_len(dtype, shape)?;
        if expected != data.len() {
            return Err(TensorError::Length { expected, found: data.len() });
        }
        let mut words = vec![0u64; expected.div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..expected].copy_from_slice(data);
        Ok(Tensor { dtype, shape: shape.to_vec(), storage: Storage::Owned(Arc::new(words)) })
    }

    /// A tensor whose bytes `fill` writes, little-endian and in row-major order; they start as zeros.
    ///
    /// # Errors
    /// If the rank or the size is past what a tensor may have.
    pub fn filled(
        dtype: DType,
        shape: &[usize],
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Tensor, TensorError> {
        let len = byte_len(dtype, shape)?;
        let mut words = vec![0u64; len.div_ceil(8)];
        fill(&mut bytemuck::cast_slice_mut(&mut words)[..len]);
        Tensor::from_words(dtype, shape, words)
    }

    /// A tensor from its bytes in row-major order, packed into words, without copying them.
    ///
    /// # Errors
    /// If the shape is too large or does not match the number of words.
    pub fn from_words(dtype: DType, shape: &[usize], words: Vec<u64>) -> Result<Tensor, TensorError> {
        let expected = byte_len(dtype, shape)?.div_ceil(8);
        if expected != words.len() {
            return Err(TensorError::Length { expected: expected * 8, found: words.len() * 8 });
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), storage: Storage::Owned(Arc::new(words)) })
    }

    /// A tensor whose bytes are a range of a mapped file; copied only if misaligned.
    ///
    /// # Errors
    /// If the range is outside the file or does not match the shape.
    pub fn from_mapped(
        dtype: DType,
        shape: &[usize],
        file: &Arc<Mmap>,
        range: Range<usize>,
    ) -> Result<Tensor, TensorError> {
        let expected = byte_len(dtype, shape)?;
        let bytes = file
            .get(range.clone())
            .filter(|b| b.len() == expected)
            .ok_or(TensorError::Length { expected, found: range.len().min(file.len()) })?;
        if !(bytes.as_ptr() as usize).is_multiple_of(dtype.bytes()) {
            return Tensor::from_bytes(dtype, shape, bytes);
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), storage: Storage::Mapped(file.clone(), range) })
    }

    /// A tensor from an ndarray.
    ///
    /// # Errors
    /// If the rank or the size is past what a tensor may have.
    pub fn from_array<T: Element>(array: ArrayD<T>) -> Result<Tensor, TensorError> {
        let array = array.as_standard_layout();
        match array.as_slice() {
            Some(data) => Tensor::from_slice(array.shape(), data),
            None => Tensor::from_slice(array.shape(), &array.iter().copied().collect::<Vec<_>>()),
        }
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::from_slice(&[], &[value]).expect("a scalar is within every limit")
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// If the rank or the size is past what a tensor may have.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        let words = vec![0u64; byte_len(dtype, shape)?.div_ceil(8)];
        Ok(Tensor { dtype, shape: shape.to_vec(), storage: Storage::Owned(Arc::new(words)) })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The type of this tensor.
    pub fn tensor_type(&self) -> TensorType {
        TensorType::of(&self.shape, self.dtype)
    }

    /// The type of this tensor, as the type of an expression.
    pub fn ty(&self) -> Type {
        self.tensor_type().into()
    }

    /// The bytes, little-endian, row-major.
    pub fn bytes(&self) -> &[u8] {
        let len = self.len() * self.dtype.bytes();
        match &self.storage {
            Storage::Owned(words) => &bytemuck::cast_slice(words)[..len],
            Storage::Mapped(file, range) => &file[range.clone()],
        }
    }

    /// The elements in row-major order, if they are of this type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (T::DTYPE == self.dtype).then(|| bytemuck::cast_slice(self.bytes()))
    }

    /// The elements as an array view, if they are of this type.
    pub fn view<T: Element>(&self) -> Option<ArrayViewD<'_, T>> {
        let data = self.as_slice()?;
        Some(ArrayViewD::from_shape(IxDyn(&self.shape), data).expect("bytes match the shape"))
    }

    /// The same bytes under another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        let expected = byte_len(self.dtype, shape)?;
        let found = self.bytes().len();
        if expected != found {
            return Err(TensorError::Length { expected, found });
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.to_vec(), storage: self.storage.clone() })
    }

    /// True if dtype, shape and every byte are the same: `NaN` equals itself, `0` differs from `-0`.
    pub fn bitwise_eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?}", self.dtype, self.shape)?;
        dispatch!(self.dtype, T => {
            let data = self.as_slice::<T>().expect("dispatched on the dtype");
            write!(f, " {:?}", &data[..data.len().min(8)])?;
        });
        f.write_str(")")
    }
}
