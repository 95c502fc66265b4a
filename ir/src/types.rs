//! Element types, dimensions and the types of expressions.

use std::fmt;
use std::sync::Arc;

/// The type of one tensor element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 half precision.
    F16,
    /// Brain floating point: the upper half of an `f32`.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Truth value, one byte that is 0 or 1.
    Bool,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [DType; 13] = [
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
    ];

    /// Size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// Size of one element in bits, as the text format counts them (`bool` is 1).
    pub const fn bits(self) -> usize {
        match self {
            DType::Bool => 1,
            _ => self.bytes() * 8,
        }
    }

    /// True for f16, bf16, f32 and f64.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// True for the signed integers.
    pub const fn is_signed_int(self) -> bool {
        matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }

    /// True for the unsigned integers; `bool` is none.
    pub const fn is_unsigned_int(self) -> bool {
        matches!(self, DType::U8 | DType::U16 | DType::U32 | DType::U64)
    }

    /// True for signed and unsigned integers; `bool` is none.
    pub const fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    /// The name in Relay text: `float32`, `int8`, `bfloat16`, `bool`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::U8 => "uint8",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
            DType::Bool => "bool",
        }
    }

    /// Reads a name in Relay text; omitted bits mean 32 (`int` is `int32`).
    pub fn from_name(name: &str) -> Option<DType> {
        match name {
            "int" => Some(DType::I32),
            "uint" => Some(DType::U32),
            "float" => Some(DType::F32),
            _ => DType::ALL.into_iter().find(|d| d.name() == name),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known now.
    Static(usize),
    /// A named dimension, bound at compile time; equal names are equal sizes.
    Sym(Arc<str>),
    /// Known only when the program runs; printed `?`.
    Any,
}

impl Dim {
    /// The size, where it is known.
    pub fn as_static(&self) -> Option<usize> {
        match self {
            Dim::Static(n) => Some(*n),
            Dim::Sym(_) | Dim::Any => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Static(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Static(n) => write!(f, "{n}"),
            Dim::Sym(s) => f.write_str(&crate::text::word(s)),
            Dim::Any => f.write_str("?"),
        }
    }
}

/// The largest number of dimensions a tensor may have.
pub const MAX_RANK: usize = 16;

/// The largest number of bytes one tensor may occupy (2^40); a shape past it is refused
/// when it is read, so that sizes of tensors never overflow later.
pub const MAX_TENSOR_BYTES: usize = 1 << 40;

/// Dtype and dimensions of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Dimensions, outermost first; rank 0 is a scalar.
    pub shape: Vec<Dim>,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// A type with these dimensions.
    pub fn new(shape: Vec<Dim>, dtype: DType) -> Self {
        TensorType { shape, dtype }
    }

    /// A type whose dimensions are all known.
    pub fn of(shape: &[usize], dtype: DType) -> Self {
        TensorType { shape: shape.iter().map(|&n| Dim::Static(n)).collect(), dtype }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The sizes, if every dimension is static.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::as_static).collect()
    }

    /// Number of elements, if every dimension is static.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.as_static()?))
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuncType {
    /// Bound type variables (`fn [A](..)`).
    pub type_params: Vec<Arc<str>>,
    /// Parameter types.
    pub params: Vec<Type>,
    /// Result type.
    pub ret: Type,
}

/// The type of an expression. Nested types are shared, so cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Type {
    /// A tensor.
    Tensor(Arc<TensorType>),
    /// A tuple; the empty one is the unit type.
    Tuple(Arc<[Type]>),
    /// A function.
    Func(Arc<FuncType>),
    /// A reference cell.
    Ref(Arc<Type>),
    /// A user-defined algebraic type with its arguments.
    Adt(Arc<str>, Arc<[Type]>),
    /// A bound type variable.
    Var(Arc<str>),
    /// Not known yet (`_`); inference replaces it.
    #[default]
    Unknown,
}

impl Type {
    /// A tensor of statically known shape.
    pub fn tensor(shape: &[usize], dtype: DType) -> Type {
        TensorType::of(shape, dtype).into()
    }

    /// A rank-0 tensor.
    pub fn scalar(dtype: DType) -> Type {
        Type::tensor(&[], dtype)
    }

    /// A tuple.
    pub fn tuple(fields: impl IntoIterator<Item = Type>) -> Type {
        Type::Tuple(fields.into_iter().collect())
    }

    /// The tensor type, if this is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The fields, if this is a tuple.
    pub fn as_tuple(&self) -> Option<&[Type]> {
        match self {
            Type::Tuple(fields) => Some(fields),
            _ => None,
        }
    }

    /// The function type, if this is one.
    pub fn as_func(&self) -> Option<&FuncType> {
        match self {
            Type::Func(f) => Some(f),
            _ => None,
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Self {
        Type::Tensor(Arc::new(t))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A lone `bfloat16` reads as the name of a data type.
        if self.shape.is_empty() && self.dtype != DType::BF16 {
            return write!(f, "{}", self.dtype);
        }
        f.write_str("Tensor[(")?;
        list(f, &self.shape)?;
        write!(f, "), {}]", self.dtype)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => t.fmt(f),
            Type::Tuple(fields) => {
                f.write_str("(")?;
                list(f, fields)?;
                f.write_str(if fields.len() == 1 { ",)" } else { ")" })
            }
            Type::Func(func) => {
                f.write_str("fn ")?;
                if !func.type_params.is_empty() {
                    f.write_str("[")?;
                    list(f, &func.type_params)?;
                    f.write_str("]")?;
                }
                f.write_str("(")?;
                list(f, &func.params)?;
                write!(f, ") -> {}", func.ret)
            }
            Type::Ref(inner) => write!(f, "ref({inner})"),
            Type::Adt(name, args) if args.is_empty() => f.write_str(name),
            Type::Adt(name, args) => {
                write!(f, "{name}[")?;
                list(f, args)?;
                f.write_str("]")
            }
            Type::Var(name) => f.write_str(name),
            Type::Unknown => f.write_str("_"),
        }
    }
}

/// Writes items with commas between them.
fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(i, item)| {
        f.write_str(if i == 0 { "" } else { ", " })?;
        item.fmt(f)
    })
}
