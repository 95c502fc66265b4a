//! What op rows share: sets of dtypes, reading arguments, axes, and shapes that broadcast.

use super::OpError;
use crate::eval::Value;
use crate::scalar::{Convert, Scalar};
use crate::te;
use crate::tensor::{Element, Tensor, byte_len};
use crate::tir::Expr;
use crate::types::{DType, Dim, MAX_RANK, TensorType, Type};

/// Every dtype.
pub const ALL: &[DType] = &DType::ALL;
/// The floats.
pub const FLOAT: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
/// The signed and unsigned integers.
pub const INT: &[DType] =
    &[DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];
/// The integers and bool.
pub const INT_BOOL: &[DType] = &[
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
/// The floats and integers.
pub const NUMERIC: &[DType] = &[
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
];
/// What has a sign: floats and signed integers.
pub const SIGNED: &[DType] =
    &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I8, DType::I16, DType::I32, DType::I64];
/// Bool alone.
pub const BOOL: &[DType] = &[DType::Bool];

/// The dtype in which sums of a dtype accumulate.
pub fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        _ => dtype,
    }
}

/// The value that no value of a dtype is less than: where a maximum starts.
pub fn lowest(dtype: DType) -> Scalar {
    match dtype {
        DType::Bool => Scalar::from_bits(dtype, 0),
        _ => Scalar::from_f64(dtype, f64::NEG_INFINITY),
    }
}

/// The value that no value of a dtype is greater than: where a minimum starts.
pub fn highest(dtype: DType) -> Scalar {
    Scalar::from_f64(dtype, f64::INFINITY)
}

/// The type of an argument, which must be a tensor.
///
/// # Errors
/// If it is absent or no tensor.
pub fn tensor_arg(types: &[Type], i: usize) -> Result<&TensorType, OpError> {
    let ty = types.get(i).ok_or_else(|| OpError::new(format!("argument {i} is missing")))?;
    ty.as_tensor().ok_or_else(|| OpError::arg(i, "expected a tensor"))
}

/// The types of an argument's fields, which must be a tuple of tensors.
///
/// # Errors
/// If it is absent or something else.
pub fn tuple_arg(types: &[Type], i: usize) -> Result<Vec<&TensorType>, OpError> {
    let ty = types.get(i).ok_or_else(|| OpError::new(format!("argument {i} is missing")))?;
    let fields = ty.as_tuple().ok_or_else(|| OpError::arg(i, "expected a tuple of tensors"))?;
    fields
        .iter()
        .map(Type::as_tensor)
        .collect::<Option<_>>()
        .ok_or_else(|| OpError::arg(i, "expected a tuple of tensors, but a field is none"))
}

/// The type of an argument, which must be a scalar.
///
/// # Errors
/// If it is absent or something else.
pub fn scalar_arg(types: &[Type], i: usize) -> Result<&TensorType, OpError> {
    let ty = tensor_arg(types, i)?;
    if ty.rank() == 0 {
        return Ok(ty);
    }
    Err(OpError::arg(i, format!("expected a scalar, found shape {}", show_dims(&ty.shape))))
}

/// The type of a result, if its rank and (where static) its size are within what a tensor may have.
///
/// # Errors
/// If they are not.
pub fn tensor_type(shape: Vec<Dim>, dtype: DType) -> Result<Type, OpError> {
    if shape.len() > MAX_RANK {
        return Err(OpError::new(format!("the result has {} dimensions, more than {MAX_RANK}", shape.len())));
    }
    let ty = TensorType::new(shape, dtype);
    if let Some(sizes) = ty.static_shape() {
        byte_len(dtype, &sizes)?;
    }
    Ok(ty.into())
}

/// Checks that an argument has one of these dtypes.
///
/// # Errors
/// If it has another.
pub fn check_dtype(arg: usize, found: DType, allowed: &[DType]) -> Result<(), OpError> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(|d| d.name()).collect();
    Err(OpError::arg(arg, format!("{found} is not supported here"))
        .help(format!("supported: {}", names.join(", "))))
}

/// The dtype that two arguments share.
///
/// # Errors
/// If they differ.
pub fn same_dtype(types: &[Type], a: usize, b: usize) -> Result<DType, OpError> {
    let (x, y) = (tensor_arg(types, a)?.dtype, tensor_arg(types, b)?.dtype);
    if x == y {
        return Ok(x);
    }
    Err(OpError::arg(b, format!("the operands have different dtypes, {x} and {y}")).help("insert a cast"))
}

/// An axis counted from the front; negative ones count from the back.
///
/// # Errors
/// If it is not within the rank.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_front).ok().filter(|&a| a < rank).ok_or_else(|| match rank {
        0 => OpError::new(format!("axis {axis} is out of bounds for a scalar")),
        _ => OpError::new(format!("axis {axis} is out of bounds for rank {rank}")).help(format!(
            "axes go from {} to {}",
            -(rank as i64),
            rank - 1
        )),
    })
}

/// Axes counted from the front, in the order given.
///
/// # Errors
/// If one is not within the rank or comes twice.
pub fn normalize_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut normal = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let a = normalize_axis(axis, rank)?;
        if normal.contains(&a) {
            return Err(OpError::new(format!("axis {axis} is given twice")));
        }
        normal.push(a);
    }
    Ok(normal)
}

/// Dimensions from an attribute of sizes, where -1 stands for an unknown one if `unknown` allows it.
///
/// # Errors
/// If one is negative.
pub fn dims_of(sizes: &[i64], unknown: bool) -> Result<Vec<Dim>, OpError> {
    let dim = |&n: &i64| match usize::try_from(n) {
        Ok(n) => Ok(Dim::Static(n)),
        Err(_) if unknown && n == -1 => Ok(Dim::Any),
        Err(_) => Err(OpError::new(format!("a dimension cannot be {n}"))),
    };
    sizes.iter().map(dim).collect()
}

/// The dimension that two equal ones stand for, or `None` if they cannot be equal. An unknown
/// dimension takes the other's value; a symbolic one is checked again when it is bound.
pub fn unify_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Static(x), Dim::Static(y)) => (x == y).then(|| a.clone()),
        (Dim::Static(_), _) | (Dim::Sym(_), Dim::Any | Dim::Sym(_)) => Some(a.clone()),
        (Dim::Any, _) | (Dim::Sym(_), Dim::Static(_)) => Some(b.clone()),
    }
}

/// The dimension that two broadcast to, or `None` if they cannot.
///
/// An unknown dimension is taken for equal to a known one other than 1, as Relay does; two
/// symbolic dimensions of different names give an unknown one.
pub fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a, b) {
        (Dim::Static(1), other) | (other, Dim::Static(1)) => Some(other.clone()),
        (Dim::Sym(x), Dim::Sym(y)) if x != y => Some(Dim::Any),
        _ => unify_dim(a, b),
    }
}

/// The shape that two broadcast to by numpy's rules.
///
/// # Errors
/// If a pair of dimensions is neither equal nor 1.
pub fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], d: usize| match (d + dims.len()).checked_sub(rank) {
        Some(own) => dims[own].clone(),
        None => Dim::Static(1),
    };
    (0..rank)
        .map(|d| {
            let (x, y) = (at(a, d), at(b, d));
            broadcast_dim(&x, &y).ok_or_else(|| {
                OpError::new(format!(
                    "shapes {} and {} do not broadcast: dimensions {x} and {y} are neither equal nor 1",
                    show_dims(a),
                    show_dims(b)
                ))
            })
        })
        .collect()
}

/// The static shape that several broadcast to.
///
/// # Errors
/// If a pair of dimensions is neither equal nor 1.
pub fn broadcast_shapes(shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
    let mut out: Vec<Dim> = Vec::new();
    for shape in shapes {
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Static(n)).collect();
        out = broadcast_dims(&out, &dims)?;
    }
    Ok(out.iter().map(|d| d.as_static().expect("made of static ones")).collect())
}

/// Dimensions as they are written: `(2, n, ?)`.
pub fn show_dims(dims: &[Dim]) -> String {
    let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("({})", dims.join(", "))
}

/// The sizes of a type whose dimensions must all be static.
///
/// # Errors
/// If one is not.
pub fn static_shape(ty: &TensorType) -> Result<Vec<usize>, OpError> {
    ty.static_shape().ok_or_else(|| OpError::new(format!("the shape {} is not static", show_dims(&ty.shape))))
}

/// The type of a result that is a tensor.
///
/// # Errors
/// If it is none.
pub fn result_type(ty: &Type) -> Result<&TensorType, OpError> {
    ty.as_tensor().ok_or_else(|| OpError::new("the result is not a tensor"))
}

/// The value of an argument, which must be a tensor.
///
/// # Errors
/// If it is absent or no tensor.
pub fn tensor_value(args: &[Value], i: usize) -> Result<&Tensor, OpError> {
    args.get(i).ok_or_else(|| OpError::new(format!("argument {i} is missing")))?.tensor()
}

/// The fields of an argument, which must be a tuple of tensors.
///
/// # Errors
/// If it is absent or something else.
pub fn tuple_value(args: &[Value], i: usize) -> Result<Vec<&Tensor>, OpError> {
    let value = args.get(i).ok_or_else(|| OpError::new(format!("argument {i} is missing")))?;
    let fields = value.as_tuple().ok_or_else(|| OpError::arg(i, "expected a tuple of tensors"))?;
    fields.iter().map(Value::tensor).collect()
}

/// The elements of a tensor of a known Rust type.
///
/// # Errors
/// If it has another dtype.
pub fn elements<T: Element>(tensor: &Tensor) -> Result<&[T], OpError> {
    tensor.as_slice().ok_or_else(|| OpError::new(format!("expected {}, found {}", T::DTYPE, tensor.dtype())))
}

/// The elements of an integer tensor as `i64`s: axes, shapes and indices given at run time.
/// Unsigned ones past `i64::MAX` saturate.
///
/// # Errors
/// If it is not of integers.
pub fn integers(tensor: &Tensor) -> Result<Vec<i64>, OpError> {
    check_dtype(0, tensor.dtype(), INT)?;
    if let Some(data) = tensor.as_slice::<u64>() {
        return Ok(data.iter().map(|&x| i64::try_from(x).unwrap_or(i64::MAX)).collect());
    }
    crate::dispatch!(tensor.dtype(), T => Ok(elements::<T>(tensor)?.iter().map(|x| x.to_i64()).collect()))
}

/// A tensor whose elements `fill` writes, in row-major order; they start as zeros.
///
/// # Errors
/// If the shape is past what a tensor may have.
pub fn build<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Result<Tensor, OpError> {
    Ok(Tensor::filled(T::DTYPE, shape, |bytes| fill(bytemuck::cast_slice_mut(bytes)))?)
}

/// The element of `tensor` that broadcasting puts at `indices`.
pub fn broadcast_at(tensor: &te::Tensor, indices: &[Expr]) -> Expr {
    let own = &indices[indices.len() - tensor.rank()..];
    let index = |(i, &n): (&Expr, &usize)| if n == 1 { Expr::int(0) } else { i.clone() };
    tensor.at(&own.iter().zip(&tensor.shape).map(index).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(names: &[&str]) -> Vec<Dim> {
        let dim = |name: &&str| match (*name, name.parse()) {
            (_, Ok(n)) => Dim::Static(n),
            ("?", _) => Dim::Any,
            (name, _) => Dim::Sym(name.into()),
        };
        names.iter().map(dim).collect()
    }

    #[test]
    fn broadcasting_of_static_symbolic_and_unknown_dims() {
        for (a, b, expected) in [
            (&["2", "3"][..], &["3"][..], Some(&["2", "3"][..])),
            (&["2", "1"], &["1", "3"], Some(&["2", "3"])),
            (&[], &["0", "4"], Some(&["0", "4"])),
            (&["1"], &["0"], Some(&["0"])),
            (&["3"], &["4"], None),
            (&["0"], &["4"], None),
            (&["n"], &["n"], Some(&["n"])),
            (&["n"], &["1"], Some(&["n"])),
            (&["n"], &["4"], Some(&["4"])),
            (&["n"], &["m"], Some(&["?"])),
            (&["?"], &["1"], Some(&["?"])),
            (&["?"], &["4"], Some(&["4"])),
            (&["?"], &["n"], Some(&["n"])),
            (&["?"], &["?"], Some(&["?"])),
        ] {
            let (a, b) = (dims(a), dims(b));
            assert_eq!(broadcast_dims(&a, &b).ok(), expected.map(dims), "{a:?} {b:?}");
            assert_eq!(broadcast_dims(&b, &a).ok(), expected.map(dims), "{b:?} {a:?}");
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        assert_eq!(normalize_axis(-1, 3), Ok(2));
        let error = normalize_axis(3, 3).expect_err("out of bounds");
        assert_eq!(error.message, "axis 3 is out of bounds for rank 3");
        assert_eq!(error.help.as_deref(), Some("axes go from -3 to 2"));
        assert!(normalize_axis(i64::MIN, 3).is_err());
        assert!(normalize_axis(0, 0).is_err());
        assert_eq!(normalize_axes(&[1, -1], 2).expect_err("twice").message, "axis -1 is given twice");
        let error = broadcast_dims(&dims(&["2", "3"]), &dims(&["4"])).expect_err("3 and 4");
        assert_eq!(
            error.message,
            "shapes (2, 3) and (4) do not broadcast: dimensions 3 and 4 are neither equal nor 1"
        );
    }

    #[test]
    fn results_within_bounds_only() {
        assert!(tensor_type(dims(&["1099511627776"]), DType::Bool).is_ok());
        assert!(tensor_type(dims(&["1099511627776"]), DType::I16).is_err());
        assert!(tensor_type(vec![Dim::Static(1); 17], DType::I16).is_err());
        assert!(dims_of(&[-1], false).is_err());
        assert_eq!(dims_of(&[-1, 2], true), Ok(dims(&["?", "2"])));
    }
}
