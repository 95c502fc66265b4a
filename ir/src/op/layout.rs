//! Layouts named by letters, such as `NCHW`, `HWIO` and `NCHW16c`: where each dimension stands.
//!
//! Kernels and type relations work on the canonical order (batch, channels, spatial axes);
//! a layout says where its dimensions stand in a tensor. The first two, which are channels of
//! some kind, may stand in parts: the outer part, and inner ones of fixed size.

use super::OpError;
use super::check::ranked;
use super::strided::{Layout, pick};
use super::transform::layout::{DataLayout, Letter};
use super::util::tensor_type;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, Type};

/// The letters of the spatial axes of a rank: `W`, `HW` or `DHW`.
pub(super) fn spatial_letters(n: usize) -> &'static str {
    &"DHW"[3 - n..]
}

/// Canonical dimensions that may stand in parts.
const SPLITTABLE: usize = 2;

/// Something that there is one of for each dimension of a tensor, and what it is for the parts of one.
pub(super) trait PerDim: Clone {
    /// That of the whole from those of the parts, outer part first; `sizes` are those of the inner parts.
    fn join(parts: &[Self], sizes: &[usize]) -> Self;
    /// Those of the parts.
    fn split(&self, sizes: &[usize]) -> Vec<Self>;
}

/// A size.
impl PerDim for usize {
    fn join(parts: &[usize], _: &[usize]) -> usize {
        parts.iter().product()
    }

    fn split(&self, sizes: &[usize]) -> Vec<usize> {
        let outer = self / sizes.iter().product::<usize>();
        [&[outer], sizes].concat()
    }
}

/// A size that may not be known.
impl PerDim for Dim {
    fn join(parts: &[Dim], sizes: &[usize]) -> Dim {
        match (parts[0].as_static(), sizes) {
            (_, []) => parts[0].clone(),
            (Some(outer), sizes) => Dim::Static(sizes.iter().fold(outer, |n, s| n.saturating_mul(*s))),
            (None, _) => Dim::Any,
        }
    }

    fn split(&self, sizes: &[usize]) -> Vec<Dim> {
        let outer = match (self.as_static(), sizes) {
            (_, []) => self.clone(),
            (Some(n), sizes) => Dim::Static(n / sizes.iter().product::<usize>()),
            (None, _) => Dim::Any,
        };
        std::iter::once(outer).chain(sizes.iter().map(|&s| Dim::Static(s))).collect()
    }
}

/// An index.
impl PerDim for Expr {
    fn join(parts: &[Expr], sizes: &[usize]) -> Expr {
        sizes.iter().zip(&parts[1..]).fold(parts[0].clone(), |at, (&size, part)| at * size + part)
    }

    fn split(&self, sizes: &[usize]) -> Vec<Expr> {
        let mut rest = self.clone();
        let mut parts = Vec::new();
        for &size in sizes.iter().rev() {
            parts.push(rest.clone().floor_mod(size));
            rest = rest.floor_div(size);
        }
        parts.push(rest);
        parts.reverse();
        parts
    }
}

/// Padding, of which a dimension in parts has none.
impl PerDim for (usize, usize) {
    fn join(parts: &[(usize, usize)], _: &[usize]) -> (usize, usize) {
        parts[0]
    }

    fn split(&self, sizes: &[usize]) -> Vec<(usize, usize)> {
        let inner = sizes.iter().map(|_| (0, 0));
        std::iter::once(*self).chain(inner).collect()
    }
}

/// For each dimension in canonical order the places of its parts in a tensor, the outer part first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    dims: Vec<Places>,
    rank: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    /// Of the outer part and the inner ones.
    places: Vec<usize>,
    /// Of the inner parts.
    sizes: Vec<usize>,
}

impl Order {
    /// Reads a layout that is some order of the letters in `canonical`.
    pub fn parse(attr: &str, layout: &str, canonical: &str) -> Result<Order, OpError> {
        let refused = || {
            OpError::new(format!("{attr} \"{layout}\" is not supported")).help(format!(
                "write the letters {canonical} in some order; the first two may be split, as in 4{}",
                canonical[1..2].to_lowercase()
            ))
        };
        let parsed = DataLayout::parse(layout).map_err(|_| refused())?;
        if parsed.letters().len() != canonical.len() {
            return Err(refused());
        }
        let mut dims = Vec::new();
        for (d, letter) in canonical.chars().enumerate() {
            let places: Vec<usize> = parsed.parts_of(Letter(letter)).collect();
            if places.is_empty() || places.len() > 1 && d >= SPLITTABLE {
                return Err(refused());
            }
            let sizes = places[1..].iter().filter_map(|&p| parsed.factor(p)).collect();
            dims.push(Places { places, sizes });
        }
        let product = |d: &Places| d.sizes.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        if dims.iter().any(|d| product(d).is_none()) {
            return Err(refused());
        }
        Ok(Order { rank: dims.iter().map(|d| d.places.len()).sum(), dims })
    }

    /// The layout of data: batch, channels and `n` spatial axes.
    pub fn data(attr: &str, layout: &str, n: usize) -> Result<Order, OpError> {
        Order::parse(attr, layout, &format!("NC{}", spatial_letters(n)))
    }

    /// The place of a canonical dimension, of its outer part if it has several.
    pub fn place(&self, d: usize) -> usize {
        self.dims[d].places[0]
    }

    /// Something per dimension of a tensor, in canonical order.
    pub fn canonical<T: PerDim>(&self, per_dim: &[T]) -> Vec<T> {
        let whole = |d: &Places| {
            let parts: Vec<T> = d.places.iter().map(|&p| per_dim[p].clone()).collect();
            T::join(&parts, &d.sizes)
        };
        self.dims.iter().map(whole).collect()
    }

    /// Something per canonical dimension, in the tensor's order.
    pub fn arrange<T: PerDim>(&self, canonical: &[T]) -> Vec<T> {
        let parts = self.dims.iter().zip(canonical).flat_map(|(d, v)| v.split(&d.sizes));
        let mut placed: Vec<(usize, T)> = self.places().into_iter().zip(parts).collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, v)| v).collect()
    }

    /// The place of every part, in canonical order.
    fn places(&self) -> Vec<usize> {
        self.dims.iter().flat_map(|d| d.places.iter().copied()).collect()
    }

    /// The dimensions of an argument in canonical order.
    pub fn dims(&self, args: &[Type], arg: usize) -> Result<Vec<Dim>, OpError> {
        let t = ranked(args, arg, self.rank)?;
        for d in &self.dims {
            for (&place, &size) in d.places[1..].iter().zip(&d.sizes) {
                if t.shape[place].as_static().is_some_and(|n| n != size) {
                    let found = &t.shape[place];
                    return Err(OpError::arg(
                        arg,
                        format!("the layout says {size} where the shape has {found}"),
                    ));
                }
            }
        }
        Ok(self.canonical(&t.shape))
    }

    /// The type of a tensor whose dimensions in canonical order are these.
    pub fn tensor_type(&self, canonical: &[Dim], dtype: DType) -> Result<Type, OpError> {
        for (dim, d) in canonical.iter().zip(&self.dims) {
            let inner: usize = d.sizes.iter().product();
            if dim.as_static().is_some_and(|n| !n.is_multiple_of(inner)) {
                return Err(OpError::new(format!(
                    "a dimension of {dim} does not split into parts of {inner}"
                )));
            }
        }
        tensor_type(self.arrange(canonical), dtype)
    }

    /// The tensor in canonical order; shared where it is in it already.
    pub fn canonical_tensor(&self, t: &Tensor) -> Result<Tensor, OpError> {
        let places = self.places();
        if places.is_sorted() && self.rank == self.dims.len() {
            return Ok(t.clone());
        }
        let parts: Vec<usize> = places.iter().map(|&p| t.shape()[p]).collect();
        let apart = pick(t, &Layout::dense(t.shape()).permuted(&places), &parts)?;
        Ok(apart.reshape(&self.canonical(t.shape()))?)
    }

    /// A tensor in canonical order rearranged to this one.
    pub fn arrange_tensor(&self, t: &Tensor) -> Result<Tensor, OpError> {
        let places = self.places();
        if places.is_sorted() && self.rank == self.dims.len() {
            return Ok(t.clone());
        }
        let shape = self.arrange(t.shape());
        let apart = t.reshape(&places.iter().map(|&p| shape[p]).collect::<Vec<_>>())?;
        let mut inverse = vec![0; places.len()];
        places.iter().enumerate().for_each(|(at, &p)| inverse[p] = at);
        pick(&apart, &Layout::dense(apart.shape()).permuted(&inverse), &shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let nhwc = Order::data("layout", "NHWC", 2).unwrap();
        assert_eq!(nhwc.canonical(&[1, 5, 6, 3]), [1, 3, 5, 6]);
        assert_eq!(nhwc.arrange(&[1, 3, 5, 6]), [1, 5, 6, 3]);
        let blocked = Order::data("layout", "NCHW4c", 2).unwrap();
        assert_eq!(blocked.canonical(&[1, 2, 5, 6, 4]), [1, 8, 5, 6]);
        assert_eq!(blocked.arrange(&[1, 8, 5, 6]), [1, 2, 5, 6, 4]);
        assert_eq!(blocked.arrange(&[(0, 0), (0, 0), (1, 2), (3, 4)])[2..], [(1, 2), (3, 4), (0, 0)]);
        for layout in ["NNHW", "NCH2hW", "NCHWc", "NCHW4d", "NCW"] {
            assert!(Order::data("layout", layout, 2).is_err(), "{layout}");
        }
        assert!(blocked.tensor_type(&[1, 6, 5, 6].map(Dim::Static), DType::F32).is_err());
    }

    #[test]
    fn there_and_back() {
        let t = Tensor::from_slice(&[1, 2, 1, 3], &[1i8, 2, 3, 4, 5, 6]).unwrap();
        let order = Order::data("layout", "NHWC", 2).unwrap();
        let c = order.canonical_tensor(&t).unwrap();
        assert_eq!((c.shape(), c.as_slice::<i8>().unwrap()), (&[1, 3, 2, 1][..], &[1, 4, 2, 5, 3, 6][..]));
        assert!(order.arrange_tensor(&c).unwrap().bitwise_eq(&t));
        let order = Order::parse("layout", "OIHW2i3o", "OIHW").unwrap();
        let t = Tensor::from_slice(&[1, 2, 1, 1, 2, 3], &(0i8..12).collect::<Vec<_>>()).unwrap();
        let c = order.canonical_tensor(&t).unwrap();
        let rows = [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]].concat();
        assert_eq!((c.shape(), c.as_slice::<i8>().unwrap()), (&[3, 4, 1, 1][..], &rows[..]));
        assert!(order.arrange_tensor(&c).unwrap().bitwise_eq(&t));
    }
}
