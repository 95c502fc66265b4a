//! Operators by what they are like: a colour each.

use fermata_ir::op::{FusePattern, Op};

/// What an operator is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// An input or a result.
    Port,
    /// Convolutions.
    Convolution,
    /// Products of matrices.
    Product,
    /// Each element for itself, broadcasting included.
    Elementwise,
    /// Norms and softmax.
    Norm,
    /// Reductions and pools.
    Reduction,
    /// Elements that only move.
    Movement,
    /// To and from small integers.
    Quantisation,
    /// Branches, calls, tuples, and operators of no family.
    Other,
}

impl Family {
    /// Each, in the order of the legend.
    pub(crate) const ALL: [Family; 9] = [
        Family::Port,
        Family::Convolution,
        Family::Product,
        Family::Elementwise,
        Family::Norm,
        Family::Reduction,
        Family::Movement,
        Family::Quantisation,
        Family::Other,
    ];

    /// The family of an operator.
    pub(crate) fn of(op: Op) -> Family {
        let name = op.name();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["quantize", "quant."]) && !has(&["dense", "matmul"]) {
            return Family::Quantisation;
        }
        if has(&["conv1d", "conv2d", "conv3d"]) {
            return Family::Convolution;
        }
        if has(&["dense", "matmul", "einsum", "attention"]) {
            return Family::Product;
        }
        if has(&["norm", "softmax", "nn.lrn"]) {
            return Family::Norm;
        }
        if has(&["pool"]) {
            return Family::Reduction;
        }
        match op.pattern {
            FusePattern::Elemwise | FusePattern::Broadcast => Family::Elementwise,
            FusePattern::Injective => Family::Movement,
            FusePattern::CommReduce => Family::Reduction,
            FusePattern::OutElemwiseFusable | FusePattern::Tuple | FusePattern::Opaque => Family::Other,
        }
    }

    /// What the legend says.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Family::Port => "inputs and results",
            Family::Convolution => "convolutions",
            Family::Product => "matrix products",
            Family::Elementwise => "elementwise",
            Family::Norm => "norms and softmax",
            Family::Reduction => "reductions and pools",
            Family::Movement => "moves elements",
            Family::Quantisation => "quantisation",
            Family::Other => "control and others",
        }
    }

    /// The class of its nodes in a style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Family::Port => "port",
            Family::Convolution => "conv",
            Family::Product => "prod",
            Family::Elementwise => "elem",
            Family::Norm => "norm",
            Family::Reduction => "redu",
            Family::Movement => "move",
            Family::Quantisation => "quan",
            Family::Other => "othe",
        }
    }

    /// Its colour on a light ground.
    pub(crate) fn light(self) -> &'static str {
        match self {
            Family::Port => "#dfe3ea",
            Family::Convolution => "#bcd4ff",
            Family::Product => "#d6c6ff",
            Family::Elementwise => "#c3ecd0",
            Family::Norm => "#ffe0b0",
            Family::Reduction => "#ffc9bf",
            Family::Movement => "#e9e6d2",
            Family::Quantisation => "#f9c8e6",
            Family::Other => "#d3d7db",
        }
    }

    /// Its colour on a dark ground.
    pub(crate) fn dark(self) -> &'static str {
        match self {
            Family::Port => "#3a4250",
            Family::Convolution => "#234a86",
            Family::Product => "#4b3786",
            Family::Elementwise => "#1f5a38",
            Family::Norm => "#75521a",
            Family::Reduction => "#7c3a2e",
            Family::Movement => "#545038",
            Family::Quantisation => "#742f5b",
            Family::Other => "#474c52",
        }
    }
}
