//! Checks that type relations of the network operators share.

use super::OpError;
use super::util::{check_dtype, result_type, static_shape, tensor_arg, unify_dim};
use crate::types::{DType, Dim, TensorType, Type};

/// Argument `i` as a tensor of a rank.
pub(super) fn ranked(args: &[Type], i: usize, rank: usize) -> Result<&TensorType, OpError> {
    let t = tensor_arg(args, i)?;
    if t.rank() == rank {
        Ok(t)
    } else {
        Err(OpError::arg(i, format!("expected a tensor of rank {rank}, found rank {}", t.rank())))
    }
}

/// The dimension that a dimension of argument `i` and an expected one are.
pub(super) fn same_dim(i: usize, what: &str, found: &Dim, expected: &Dim) -> Result<Dim, OpError> {
    unify_dim(found, expected)
        .ok_or_else(|| OpError::arg(i, format!("{what} is {found}, but should be {expected}")))
}

/// The dtype of argument `i`, which must be one of these.
pub(super) fn dtype_in(args: &[Type], i: usize, allowed: &[DType]) -> Result<DType, OpError> {
    let dtype = tensor_arg(args, i)?.dtype;
    check_dtype(i, dtype, allowed)?;
    Ok(dtype)
}

/// Argument `i` must have this dtype.
pub(super) fn has_dtype(args: &[Type], i: usize, dtype: DType) -> Result<(), OpError> {
    let t = tensor_arg(args, i)?;
    if t.dtype == dtype {
        Ok(())
    } else {
        Err(OpError::arg(i, format!("expected dtype {dtype}, found {}", t.dtype)))
    }
}

/// A list attribute of `n` sizes of at least `min`; a single value stands for all.
pub(super) fn sizes(name: &str, values: &[i64], n: usize, min: i64) -> Result<Vec<usize>, OpError> {
    let all = match values {
        [one] => vec![*one; n],
        _ if values.len() == n => values.to_vec(),
        _ => return Err(OpError::new(format!("{name} needs {n} values, found {}", values.len()))),
    };
    all.iter().map(|&v| size(name, v, min)).collect()
}

/// The largest size, stride or padding that an attribute may ask for; products of a few of
/// them with tensor sizes stay within 64 bits.
const MAX_ATTR: i64 = 1 << 31;

/// An integer attribute as a size of at least `min`.
pub(super) fn size(name: &str, value: i64, min: i64) -> Result<usize, OpError> {
    if (min..=MAX_ATTR).contains(&value) {
        Ok(value as usize)
    } else {
        Err(OpError::new(format!("{name} must be from {min} to {MAX_ATTR}, found {value}")))
    }
}

/// A padding attribute for `n` axes as (before, after) an axis: one value for all, one an
/// axis, or all befores and then all afters.
pub(super) fn padding(values: &[i64], n: usize) -> Result<Vec<(usize, usize)>, OpError> {
    let v = match values.len() {
        1 => sizes("padding", values, 2 * n, 0)?,
        len if len == n => sizes("padding", &[values, values].concat(), 2 * n, 0)?,
        len if len == 2 * n => sizes("padding", values, 2 * n, 0)?,
        len => return Err(OpError::new(format!("padding needs 1, {n} or {} values, found {len}", 2 * n))),
    };
    Ok((0..n).map(|i| (v[i], v[i + n])).collect())
}

/// The string attribute must be one of these.
pub(super) fn one_of(name: &str, value: &str, allowed: &[&str]) -> Result<(), OpError> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        let allowed: Vec<String> = allowed.iter().map(|a| format!("\"{a}\"")).collect();
        Err(OpError::new(format!("{name} is \"{value}\""))
            .help(format!("write one of {}", allowed.join(", "))))
    }
}

/// The sizes and dtype of a result; evaluation knows them all.
pub(super) fn shape_of(ty: &Type) -> Result<(Vec<usize>, DType), OpError> {
    let t = result_type(ty)?;
    Ok((static_shape(t)?, t.dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_forms() {
        assert_eq!(padding(&[1], 2), Ok(vec![(1, 1), (1, 1)]));
        assert_eq!(padding(&[1, 2], 2), Ok(vec![(1, 1), (2, 2)]));
        assert_eq!(padding(&[1, 2, 3, 4], 2), Ok(vec![(1, 3), (2, 4)]));
        assert!(padding(&[1, 2, 3], 2).is_err());
        assert!(padding(&[-1], 2).is_err());
    }
}
