//! Operators whose shapes are computed at run time, and padding.

use super::node::{Cx, Step};
use crate::expr::ExprId;
use crate::op::OpAttrs;
use crate::op::dynamic::{
    DYN_ARANGE, DYN_FULL, DYN_RESHAPE, DYN_STRIDED_SLICE, DynInitAttrs, DynReshapeAttrs, DynStridedSliceAttrs,
};
use crate::op::nn::{PAD, PadAttrs};
use crate::op::transform::{ArangeAttrs, SHAPE_OF, ShapeOfAttrs};
use crate::types::DType;

impl Cx<'_, '_> {
    /// The shape of a tensor as a vector of int64.
    pub(super) fn shape_of(&mut self, x: ExprId) -> Step {
        self.call(&SHAPE_OF, &[x], ShapeOfAttrs { dtype: DType::I64 }.attrs())
    }

    /// The elements under a shape that is computed.
    pub(super) fn dyn_reshape(&mut self, x: ExprId, shape: ExprId) -> Step {
        // The number of dimensions must be known even so.
        self.size(shape, 0)?;
        let allowzero = self.flag("allowzero", false)?;
        self.call(&DYN_RESHAPE, &[x, shape], DynReshapeAttrs { allowzero }.attrs())
    }

    /// Broadcast with a shape that is computed: a choice between the data and itself has it.
    pub(super) fn dyn_broadcast(&mut self, x: ExprId, shape: ExprId) -> Step {
        let yes = self.scalar(DType::Bool, 1.0);
        let yes = self.dyn_full(yes, shape)?;
        self.select(yes, x, x)
    }

    /// A slice whose bounds are computed.
    pub(super) fn dyn_slice(
        &mut self,
        x: ExprId,
        axes: &[usize],
        starts: ExprId,
        ends: ExprId,
        steps: &[i64],
    ) -> Step {
        let steps = self.ints_const(steps);
        let steps = self.cast(steps, self.dtype(starts)?)?;
        let axes = Some(axes.iter().map(|&a| a as i64).collect());
        let attrs = DynStridedSliceAttrs { slice_mode: "end".into(), axes };
        self.call(&DYN_STRIDED_SLICE, &[x, starts, ends, steps], attrs.attrs())
    }

    /// A tensor of one value under a shape that is computed.
    pub(super) fn dyn_full(&mut self, value: ExprId, shape: ExprId) -> Step {
        self.size(shape, 0)?;
        let dtype = self.dtype(value)?;
        self.call(&DYN_FULL, &[value, shape], DynInitAttrs { dtype }.attrs())
    }

    /// Numbers from a start by a step to a limit, all computed.
    pub(super) fn arange(&mut self, args: [ExprId; 3]) -> Step {
        let dtype = self.dtype(args[0])?;
        let mut args = args;
        for arg in &mut args {
            // Some writers give vectors of one element.
            if self.rank(*arg)? > 0 {
                *arg = self.reshape(*arg, &[])?;
            }
        }
        let attrs = ArangeAttrs { start: 0.0, stop: None, step: 1.0, dtype };
        self.call(&DYN_ARANGE, &args, attrs.attrs())
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
