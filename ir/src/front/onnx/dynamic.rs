//! Operators whose shapes are computed at run time.

use super::node::{Cx, Step, refuse};
use crate::expr::ExprId;

impl Cx<'_, '_> {
    fn needs_shape<T>(&self, what: &str) -> Step<T> {
        refuse(format!("{what} of `{}` must be known at compile time", self.node.op_type))
    }

    /// The shape of a tensor as a vector of int64.
    pub(super) fn shape_of(&mut self, x: ExprId) -> Step {
        let shape: Vec<i64> = self.shape(x)?.iter().map(|&n| n as i64).collect();
        Ok(self.ints_const(&shape))
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
    pub(super) fn arange(&mut self, _args: [ExprId; 3]) -> Step {
        self.needs_shape("the bounds")
    }

    /// Zeros around the elements.
    pub(super) fn pad_zeros(&mut self, _x: ExprId, _pads: &[i64]) -> Step {
        self.needs_shape("the pads")
    }
}
