//! Which dimensions of a tensor a reduction keeps, and where they go.

use crate::op::OpError;
use crate::op::strided::{Layout, pick};
use crate::op::util::normalize_axes;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::Dim;

/// How the dimensions of a tensor become those of its reduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The dimension of the result that each dimension becomes; `None` if it is reduced.
    to: Vec<Option<usize>>,
    /// Number of dimensions of the result; those that nothing becomes have size 1.
    rank: usize,
}

impl Plan {
    /// Reduces the axes listed (all if there is no list), or with `exclude` the others.
    ///
    /// # Errors
    /// If an axis is out of bounds or given twice.
    pub fn new(axes: Option<&[i64]>, keepdims: bool, exclude: bool, rank: usize) -> Result<Plan, OpError> {
        let listed = match axes {
            Some(axes) => normalize_axes(axes, rank)?,
            None => (0..rank).collect(),
        };
        let reduced: Vec<bool> = (0..rank).map(|d| listed.contains(&d) != exclude).collect();
        Ok(Plan::of(&reduced, keepdims))
    }

    /// Reduces the dimensions that are marked.
    pub fn of(reduced: &[bool], keepdims: bool) -> Plan {
        let mut rank = 0;
        let mut to = Vec::with_capacity(reduced.len());
        for &reduced in reduced {
            to.push((!reduced).then_some(rank));
            rank += (keepdims || !reduced) as usize;
        }
        Plan { to, rank }
    }

    /// Sums a tensor of shape `from` to shape `to`, which broadcasts to it.
    pub fn collapse(from: &[usize], to: &[usize]) -> Plan {
        let lead = from.len() - to.len();
        let target = |d: usize| d.checked_sub(lead).filter(|&own| to[own] == from[d]);
        Plan { to: (0..from.len()).map(target).collect(), rank: to.len() }
    }

    /// The result's dimensions.
    pub fn shape(&self, from: &[Dim]) -> Vec<Dim> {
        let mut shape = vec![Dim::Static(1); self.rank];
        for (dim, to) in from.iter().zip(&self.to) {
            if let Some(to) = *to {
                shape[to] = dim.clone();
            }
        }
        shape
    }

    /// The result's sizes.
    pub fn sizes(&self, from: &[usize]) -> Vec<usize> {
        let mut shape = vec![1; self.rank];
        for (&n, to) in from.iter().zip(&self.to) {
            if let Some(to) = *to {
                shape[to] = n;
            }
        }
        shape
    }

    /// The dimensions that are reduced.
    pub fn reduced(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.to.len()).filter(|&d| self.to[d].is_none())
    }

    /// The sizes of the dimensions that are reduced.
    pub fn extents(&self, from: &[usize]) -> Vec<usize> {
        self.reduced().map(|d| from[d]).collect()
    }

    /// The same with reduced dimensions kept, at size 1.
    #[must_use]
    pub fn keeping(&self) -> Plan {
        Plan::of(&self.to.iter().map(Option::is_none).collect::<Vec<_>>(), true)
    }

    /// Where in the tensor the element is that goes to `kept` of the result.
    pub fn indices(&self, kept: &[Expr], reduced: &[Expr]) -> Vec<Expr> {
        let mut reduced = reduced.iter();
        let index = |to: &Option<usize>| match to {
            Some(to) => kept[*to].clone(),
            None => reduced.next().expect("one index a reduced dimension").clone(),
        };
        self.to.iter().map(index).collect()
    }

    /// The tensor with the reduced dimensions last, and how many elements they have.
    ///
    /// # Errors
    /// If it is larger than a tensor may be.
    pub fn rows(&self, data: &Tensor) -> Result<(Tensor, usize), OpError> {
        let shape = data.shape();
        let mut order: Vec<usize> = (0..shape.len()).filter(|&d| self.to[d].is_some()).collect();
        order.extend(self.reduced());
        let len = self.reduced().map(|d| shape[d]).product();
        if order.is_sorted() {
            return Ok((data.clone(), len));
        }
        let sizes: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
        Ok((pick(data, &Layout::dense(shape).permuted(&order), &sizes)?, len))
    }
}
