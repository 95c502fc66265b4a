//! Layouts named by letters, such as `NCHW` and `HWIO`: where each dimension stands.
//!
//! Kernels and type relations work on the canonical order (batch, channels, spatial axes);
//! a layout says where its dimensions stand in a tensor.

use super::OpError;
use super::strided::{Layout, pick};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

/// The letters of the spatial axes of a rank: `W`, `HW` or `DHW`.
pub(super) fn spatial_letters(n: usize) -> &'static str {
    &"DHW"[3 - n..]
}

/// For each dimension in canonical order its place in a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order(Vec<usize>);

impl Order {
    /// Reads a layout that is some order of the letters in `canonical`.
    pub fn parse(attr: &str, layout: &str, canonical: &str) -> Result<Order, OpError> {
        let places: Option<Vec<usize>> = canonical.chars().map(|c| layout.find(c)).collect();
        match places {
            Some(places) if layout.len() == canonical.len() => Ok(Order(places)),
            _ => Err(OpError::new(format!("{attr} \"{layout}\" is not supported"))
                .help(format!("write the letters {canonical} in some order"))),
        }
    }

    /// The layout of data: batch, channels and `n` spatial axes.
    pub fn data(attr: &str, layout: &str, n: usize) -> Result<Order, OpError> {
        Order::parse(attr, layout, &format!("NC{}", spatial_letters(n)))
    }

    /// The place of a canonical dimension.
    pub fn place(&self, d: usize) -> usize {
        self.0[d]
    }

    /// Something per dimension of a tensor, in canonical order.
    pub fn canonical<T: Clone>(&self, per_dim: &[T]) -> Vec<T> {
        self.0.iter().map(|&p| per_dim[p].clone()).collect()
    }

    /// Something per canonical dimension, in the tensor's order.
    pub fn arrange<T: Clone>(&self, canonical: &[T]) -> Vec<T> {
        let mut out = canonical.to_vec();
        for (&p, v) in self.0.iter().zip(canonical) {
            out[p] = v.clone();
        }
        out
    }

    /// The dimensions of a type in canonical order.
    pub fn dims(&self, t: &TensorType) -> Vec<Dim> {
        self.canonical(&t.shape)
    }

    /// The tensor in canonical order; shared where it is in it already.
    pub fn canonical_tensor(&self, t: &Tensor) -> Result<Tensor, OpError> {
        if self.0.is_sorted() {
            return Ok(t.clone());
        }
        pick(t, &Layout::dense(t.shape()).permuted(&self.0), &self.canonical(t.shape()))
    }

    /// A tensor in canonical order rearranged to this one.
    pub fn arrange_tensor(&self, t: &Tensor) -> Result<Tensor, OpError> {
        if self.0.is_sorted() {
            return Ok(t.clone());
        }
        let inverse = self.arrange(&(0..self.0.len()).collect::<Vec<_>>());
        pick(t, &Layout::dense(t.shape()).permuted(&inverse), &self.arrange(t.shape()))
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
        assert!(Order::data("layout", "NCHW16c", 2).is_err());
        assert!(Order::data("layout", "NNHW", 2).is_err());
    }

    #[test]
    fn there_and_back() {
        let t = Tensor::from_slice(&[1, 2, 1, 3], &[1i8, 2, 3, 4, 5, 6]).unwrap();
        let order = Order::data("layout", "NHWC", 2).unwrap();
        let c = order.canonical_tensor(&t).unwrap();
        assert_eq!((c.shape(), c.as_slice::<i8>().unwrap()), (&[1, 3, 2, 1][..], &[1, 4, 2, 5, 3, 6][..]));
        assert!(order.arrange_tensor(&c).unwrap().bitwise_eq(&t));
    }
}
