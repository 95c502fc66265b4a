//! Attributes of the poolings, and what is common to them.

use std::sync::Arc;

use crate::op::check::{padding, sizes};
use crate::op::layout::Order;
use crate::op::window::Window;
use crate::op::{Attrs, OpAttrs, OpError};
use crate::op_attrs;

/// Declares the attributes of a maximum and an average over windows of `$n` axes.
macro_rules! window_attrs {
    ($max:ident, $max_doc:literal, $avg:ident, $avg_doc:literal, $n:literal, $layout:literal) => {
        op_attrs! {
            #[doc = $max_doc]
            pub struct $max {
                /// Size of a window.
                pool_size: Vec<i64>,
                /// Steps between windows.
                strides: Vec<i64> = vec![1; $n],
                /// Steps between the elements of a window.
                dilation: Vec<i64> = vec![1; $n],
                /// Padding: one value, one an axis, or all befores and then all afters.
                padding: Vec<i64> = vec![0; $n],
                /// Order of the data's dimensions.
                layout: Arc<str> = $layout.into(),
                /// Order of the result's dimensions; the data's where it is empty.
                out_layout: Arc<str> = "".into(),
                /// A last window may reach past the padding.
                ceil_mode: bool = false,
            }
        }
        window_attrs!(@pool $max, $n, |_a| Reduction::Max);

        op_attrs! {
            #[doc = $avg_doc]
            pub struct $avg {
                /// Size of a window.
                pool_size: Vec<i64>,
                /// Steps between windows.
                strides: Vec<i64> = vec![1; $n],
                /// Steps between the elements of a window.
                dilation: Vec<i64> = vec![1; $n],
                /// Padding: one value, one an axis, or all befores and then all afters.
                padding: Vec<i64> = vec![0; $n],
                /// Order of the data's dimensions.
                layout: Arc<str> = $layout.into(),
                /// Order of the result's dimensions; the data's where it is empty.
                out_layout: Arc<str> = "".into(),
                /// A last window may reach past the padding.
                ceil_mode: bool = false,
                /// Zeros of the padding count as elements.
                count_include_pad: bool = false,
            }
        }
        window_attrs!(@pool $avg, $n, |a: &$avg| Reduction::Avg { include_pad: a.count_include_pad });
    };
    (@pool $name:ident, $n:literal, $reduction:expr) => {
        impl PoolKind for $name {
            fn pool(attrs: &Attrs) -> Result<Pool, OpError> {
                let a: $name = attrs.read();
                let reduction: fn(&$name) -> Reduction = $reduction;
                let kernel = sizes("pool_size", &a.pool_size, $n, 1)?;
                let strides = sizes("strides", &a.strides, $n, 1)?;
                let dilation = sizes("dilation", &a.dilation, $n, 1)?;
                let padding = padding(&a.padding, $n)?;
                let window = |d: usize| Window {
                    kernel: kernel[d],
                    stride: strides[d],
                    dilation: dilation[d],
                    before: padding[d].0,
                    after: padding[d].1,
                };
                Ok(Pool {
                    axes: $n,
                    reduction: reduction(&a),
                    areas: (0..$n).map(|d| Area::Window(window(d), a.ceil_mode)).collect(),
                    layout: a.layout,
                    out_layout: a.out_layout,
                })
            }
        }
    };
}
window_attrs!(
    MaxPool1dAttrs,
    "Attributes of `nn.max_pool1d`.",
    AvgPool1dAttrs,
    "Attributes of `nn.avg_pool1d`.",
    1,
    "NCW"
);
window_attrs!(
    MaxPool2dAttrs,
    "Attributes of `nn.max_pool2d`.",
    AvgPool2dAttrs,
    "Attributes of `nn.avg_pool2d`.",
    2,
    "NCHW"
);
window_attrs!(
    MaxPool3dAttrs,
    "Attributes of `nn.max_pool3d`.",
    AvgPool3dAttrs,
    "Attributes of `nn.avg_pool3d`.",
    3,
    "NCDHW"
);

/// Declares the attributes of a pooling over `$n` axes to a given size.
macro_rules! adaptive_attrs {
    ($name:ident, $doc:literal, $n:literal, $layout:literal) => {
        op_attrs! {
            #[doc = $doc]
            pub struct $name {
                /// Size of the result: one value for all axes, one an axis, or none to keep the data's.
                output_size: Vec<i64> = Vec::new(),
                /// Order of the data's dimensions.
                layout: Arc<str> = $layout.into(),
                /// Order of the result's dimensions; the data's where it is empty.
                out_layout: Arc<str> = "".into(),
            }
        }
        impl PoolKind for $name {
            fn pool(attrs: &Attrs) -> Result<Pool, OpError> {
                let a: $name = attrs.read();
                let areas = if a.output_size.is_empty() {
                    vec![Area::Keep; $n]
                } else {
                    sizes("output_size", &a.output_size, $n, 1)?.into_iter().map(Area::Shares).collect()
                };
                let reduction = Reduction::Avg { include_pad: false };
                Ok(Pool { axes: $n, reduction, areas, layout: a.layout, out_layout: a.out_layout })
            }
        }
    };
}
adaptive_attrs!(AdaptivePool1dAttrs, "Attributes of the adaptive poolings over one axis.", 1, "NCW");
adaptive_attrs!(AdaptivePool2dAttrs, "Attributes of the adaptive poolings over two axes.", 2, "NCHW");
adaptive_attrs!(AdaptivePool3dAttrs, "Attributes of the adaptive poolings over three axes.", 3, "NCDHW");

op_attrs! {
    /// Attributes of the global poolings.
    pub struct GlobalPool2dAttrs {
        /// Order of the data's dimensions.
        layout: Arc<str> = "NCHW".into(),
        /// Order of the result's dimensions; the data's where it is empty.
        out_layout: Arc<str> = "".into(),
    }
}

impl PoolKind for GlobalPool2dAttrs {
    fn pool(attrs: &Attrs) -> Result<Pool, OpError> {
        let GlobalPool2dAttrs { layout, out_layout } = attrs.read();
        let reduction = Reduction::Avg { include_pad: false };
        Ok(Pool { axes: 2, reduction, areas: vec![Area::Shares(1); 2], layout, out_layout })
    }
}

/// Attributes that describe a pooling.
pub(super) trait PoolKind: OpAttrs {
    /// The pooling; adaptive and global ones come as averages.
    fn pool(attrs: &Attrs) -> Result<Pool, OpError>;
}

/// What a pooling makes of the elements of an area.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The largest, NaN if there is one.
    Max,
    /// The mean; `include_pad` counts the padding as zeros.
    Avg { include_pad: bool },
}

/// The areas along an axis.
#[derive(Clone, Copy)]
pub(super) enum Area {
    /// Windows, and whether the last may reach past the padding.
    Window(Window, bool),
    /// A number of even shares, which overlap where the size does not divide.
    Shares(usize),
    /// Each element is its own.
    Keep,
}

/// A pooling.
pub(super) struct Pool {
    /// Number of spatial axes.
    pub axes: usize,
    pub reduction: Reduction,
    /// One a spatial axis.
    pub areas: Vec<Area>,
    pub layout: Arc<str>,
    pub out_layout: Arc<str>,
}

impl Pool {
    /// Order of the data's dimensions.
    pub fn order(&self) -> Result<Order, OpError> {
        Order::data("layout", &self.layout, self.axes)
    }

    /// Order of the result's dimensions.
    pub fn out_order(&self) -> Result<Order, OpError> {
        let layout = if self.out_layout.is_empty() { &self.layout } else { &self.out_layout };
        Order::data("out_layout", layout, self.axes)
    }

    /// The same with another reduction.
    pub fn with(self, reduction: Reduction) -> Pool {
        Pool { reduction, ..self }
    }
}
