//! The words that mapping functions compose: one method an operator that many need.

use super::node::{Cx, Step};
use crate::expr::ExprId;
use crate::op::broadcast::{self, BroadcastToAttrs};
use crate::op::elemwise::{self, CastAttrs};
use crate::op::transform::{
    CONCATENATE, ConcatenateAttrs, EXPAND_DIMS, ExpandDimsAttrs, RESHAPE, ReshapeAttrs, SQUEEZE,
    STRIDED_SLICE, SqueezeAttrs, StridedSliceAttrs, TRANSPOSE, TransposeAttrs,
};
use crate::op::{Attrs, OpAttrs, OpDef};
use crate::types::{DType, Dim};

impl Cx<'_, '_> {
    /// A function of one tensor.
    pub(super) fn un(&mut self, op: &'static OpDef, x: ExprId) -> Step {
        self.call(op, &[x], Attrs::NONE)
    }

    /// A function of two tensors that broadcast.
    pub(super) fn bin(&mut self, op: &'static OpDef, a: ExprId, b: ExprId) -> Step {
        self.call(op, &[a, b], Attrs::NONE)
    }

    /// A function of a tensor and a number in the tensor's dtype.
    pub(super) fn num(&mut self, op: &'static OpDef, a: ExprId, b: f64) -> Step {
        let b = self.scalar(self.dtype(a)?, b);
        self.bin(op, a, b)
    }

    /// The sum.
    pub(super) fn add(&mut self, a: ExprId, b: ExprId) -> Step {
        self.bin(&broadcast::ADD, a, b)
    }

    /// The difference.
    pub(super) fn sub(&mut self, a: ExprId, b: ExprId) -> Step {
        self.bin(&broadcast::SUBTRACT, a, b)
    }

    /// The product.
    pub(super) fn mul(&mut self, a: ExprId, b: ExprId) -> Step {
        self.bin(&broadcast::MULTIPLY, a, b)
    }

    /// The quotient.
    pub(super) fn div(&mut self, a: ExprId, b: ExprId) -> Step {
        self.bin(&broadcast::DIVIDE, a, b)
    }

    /// One of two tensors, by a condition.
    pub(super) fn select(&mut self, cond: ExprId, then: ExprId, els: ExprId) -> Step {
        self.call(&broadcast::WHERE, &[cond, then, els], Attrs::NONE)
    }

    /// The elements in another dtype.
    pub(super) fn cast(&mut self, x: ExprId, dtype: DType) -> Step {
        match self.dtype(x)? == dtype {
            true => Ok(x),
            false => self.call(&elemwise::CAST, &[x], CastAttrs { dtype }.attrs()),
        }
    }

    /// The elements under another shape, all of it known; -1 infers one size.
    pub(super) fn reshape(&mut self, x: ExprId, shape: &[i64]) -> Step {
        let attrs = ReshapeAttrs { newshape: shape.to_vec(), allowzero: true };
        self.call(&RESHAPE, &[x], attrs.attrs())
    }

    /// The elements under the shape of these sizes.
    pub(super) fn reshape_to(&mut self, x: ExprId, shape: &[usize]) -> Step {
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        self.reshape(x, &shape)
    }

    /// The dimensions in another order.
    pub(super) fn transpose(&mut self, x: ExprId, order: &[usize]) -> Step {
        if order.iter().enumerate().all(|(i, &d)| i == d) {
            return Ok(x);
        }
        let axes = Some(order.iter().map(|&d| d as i64).collect());
        self.call(&TRANSPOSE, &[x], TransposeAttrs { axes }.attrs())
    }

    /// New dimensions of size 1 before `axis`.
    pub(super) fn expand_dims(&mut self, x: ExprId, axis: usize, count: usize) -> Step {
        if count == 0 {
            return Ok(x);
        }
        let attrs = ExpandDimsAttrs { axis: axis as i64, num_newaxis: count as i64 };
        self.call(&EXPAND_DIMS, &[x], attrs.attrs())
    }

    /// Without these dimensions, which are of size 1.
    pub(super) fn squeeze(&mut self, x: ExprId, axes: &[usize]) -> Step {
        if axes.is_empty() {
            return Ok(x);
        }
        let axis = Some(axes.iter().map(|&a| a as i64).collect());
        self.call(&SQUEEZE, &[x], SqueezeAttrs { axis }.attrs())
    }

    /// A vector placed at dimension `axis` of a tensor of `rank`, to broadcast along the others.
    pub(super) fn along(&mut self, x: ExprId, axis: usize, rank: usize) -> Step {
        self.expand_dims(x, 1, rank - axis - 1)
    }

    /// Repeated to a shape.
    pub(super) fn broadcast_to(&mut self, x: ExprId, shape: &[usize]) -> Step {
        let same = self.ty(x)?.static_shape().is_some_and(|s| s == shape);
        if same {
            return Ok(x);
        }
        let attrs = BroadcastToAttrs { shape: shape.iter().map(|&n| n as i64).collect() };
        self.call(&broadcast::BROADCAST_TO, &[x], attrs.attrs())
    }

    /// Repeated to the shape of another tensor, whose dimensions need not be known.
    pub(super) fn broadcast_like(&mut self, x: ExprId, like: ExprId) -> Step {
        match self.ty(x)?.shape == self.ty(like)?.shape {
            true => Ok(x),
            false => self.bin(&broadcast::BROADCAST_TO_LIKE, x, like),
        }
    }

    /// The elements under a new shape but for the first dimension, which need not be known.
    pub(super) fn reshape_batch(&mut self, x: ExprId, rest: &[usize]) -> Step {
        let batch = self.ty(x)?.shape.first().and_then(Dim::as_static);
        let mut shape = vec![batch.map_or(0, |n| n as i64)];
        shape.extend(rest.iter().map(|&n| n as i64));
        let attrs = ReshapeAttrs { newshape: shape, allowzero: batch.is_some() };
        self.call(&RESHAPE, &[x], attrs.attrs())
    }

    /// As a matrix: the dimensions before `axis` and those from it on.
    pub(super) fn flatten_at(&mut self, x: ExprId, axis: usize) -> Step {
        let dims = self.ty(x)?.shape;
        let size = |dims: &[Dim]| dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.as_static()?));
        match (size(&dims[..axis]), size(&dims[axis..])) {
            (Some(m), Some(n)) => self.reshape_to(x, &[m, n]),
            (None, Some(n)) => self.reshape(x, &[-1, n as i64]),
            (Some(m), None) => self.reshape(x, &[m as i64, -1]),
            // Codes can merge two dimensions at a time, which is what there mostly is.
            (None, None) if axis <= 2 && dims.len() - axis <= 2 => {
                let merge = |count: usize| if count == 2 { -3 } else { 0 };
                let newshape = vec![merge(axis), merge(dims.len() - axis)];
                self.call(&RESHAPE, &[x], ReshapeAttrs { newshape, allowzero: false }.attrs())
            }
            (None, None) => {
                self.shape(x)?;
                self.reshape(x, &[-1, -1])
            }
        }
    }

    /// Joined along a dimension.
    pub(super) fn concat(&mut self, parts: &[ExprId], axis: usize) -> Step {
        if let [single] = parts {
            return Ok(*single);
        }
        let tuple = self.tuple(parts);
        self.call(&CONCATENATE, &[tuple], ConcatenateAttrs { axis: axis as i64 }.attrs())
    }

    /// A slice by Python's rules along some dimensions.
    pub(super) fn slice(
        &mut self,
        x: ExprId,
        axes: &[usize],
        begin: &[i64],
        end: &[i64],
        strides: &[i64],
    ) -> Step {
        let attrs = StridedSliceAttrs {
            begin: Some(begin.to_vec()),
            end: Some(end.to_vec()),
            strides: Some(strides.to_vec()),
            slice_mode: "end".into(),
            axes: Some(axes.iter().map(|&a| a as i64).collect()),
        };
        self.call(&STRIDED_SLICE, &[x], attrs.attrs())
    }

    /// The part `from..to` of one dimension.
    pub(super) fn part(&mut self, x: ExprId, axis: usize, from: usize, to: usize) -> Step {
        self.slice(x, &[axis], &[from as i64], &[to as i64], &[1])
    }

    /// A tensor of one value, which is a scalar expression.
    pub(super) fn full(&mut self, value: ExprId, shape: &[usize], dtype: DType) -> Step {
        let shape = shape.iter().map(|&n| n as i64).collect();
        self.call(&elemwise::FULL, &[value], elemwise::FullAttrs { shape, dtype: Some(dtype) }.attrs())
    }

    /// A tensor of one number.
    pub(super) fn filled(&mut self, shape: &[usize], dtype: DType, value: f64) -> Step {
        let value = self.scalar(dtype, value);
        self.full(value, shape, dtype)
    }
}
