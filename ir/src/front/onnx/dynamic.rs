//! Operators whose shapes are computed at run time.

use super::node::{Cx, Step, refuse};
use crate::expr::ExprId;
use crate::op::OpAttrs;
use crate::op::nn::{PAD, PadAttrs};
use crate::op::transform::{ARANGE, ArangeAttrs, SHAPE_OF, ShapeOfAttrs};
use crate::types::DType;

impl Cx<'_, '_> {
    fn needs_shape<T>(&self, what: &str) -> Step<T> {
        refuse(format!("{what} of `{}` must be known at compile time", self.node.op_type))
    }

    /// The shape of a tensor as a vector of int64.
    pub(super) fn shape_of(&mut self, x: ExprId) -> Step {
        self.call(&SHAPE_OF, &[x], ShapeOfAttrs { dtype: DType::I64 }.attrs())
    }

    /// The elements under a shape that is computed.
    pub(super) fn dyn_reshape(&mut self, _x: ExprId, _shape: ExprId) -> Step {
        self.needs_shape("the shape")
    }

    /// Repeated to a shape that is computed.
    pub(super) fn dyn_broadcast(&mut self, _x: ExprId, _shape: ExprId) -> Step {
        self.needs_shape("the shape")
    }

    /// A slice whose bounds are computed.
    pub(super) fn dyn_slice(
        &mut self,
        _x: ExprId,
        _axes: &[usize],
        _starts: ExprId,
        _ends: ExprId,
        _steps: &[i64],
    ) -> Step {
        self.needs_shape("the bounds")
    }

    /// A tensor of one value under a shape that is computed.
    pub(super) fn dyn_full(&mut self, _value: ExprId, _shape: ExprId) -> Step {
        self.needs_shape("the shape")
    }

    /// Numbers from a start by a step to a limit, all computed.
    pub(super) fn arange(&mut self, args: [ExprId; 3]) -> Step {
        let dtype = self.dtype(args[0])?;
        let attrs = ArangeAttrs { start: 0.0, stop: None, step: 1.0, dtype };
        self.call(&ARANGE, &args, attrs.attrs())
    }

    /// Elements around the data: all counts before, then all after; negative ones cut off.
    pub(super) fn pad(&mut self, x: ExprId, pads: &[i64], mode: &str, value: ExprId) -> Step {
        let rank = pads.len() / 2;
        let pad_width = (0..rank).map(|d| vec![pads[d], pads[rank + d]]).collect();
        let attrs = PadAttrs { pad_width, pad_mode: mode.into() };
        self.call(&PAD, &[x, value], attrs.attrs())
    }

    /// Zeros around the elements.
    pub(super) fn pad_zeros(&mut self, x: ExprId, pads: &[i64]) -> Step {
        let zero = self.scalar(self.dtype(x)?, 0.0);
        self.pad(x, pads, "constant", zero)
    }
}
