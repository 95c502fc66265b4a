//! Attributes of the convolutions, and what is common to them.

use std::sync::Arc;

use crate::op::check::{padding, size, sizes};
use crate::op::layout::{Order, spatial_letters};
use crate::op::window::Window;
use crate::op::{Attrs, OpAttrs, OpError};
use crate::op_attrs;
use crate::types::DType;

/// Declares the attributes of a convolution over `$n` spatial axes.
macro_rules! conv_attrs {
    ($name:ident, $doc:literal, $n:literal, $data:literal, $kernel:literal) => {
        op_attrs! {
            #[doc = $doc]
            pub struct $name {
                /// Steps between windows.
                strides: Vec<i64> = vec![1; $n],
                /// Zeros around the data: one value, one an axis, or all befores and then all afters.
                padding: Vec<i64> = vec![0; $n],
                /// Steps between the taps of the kernel.
                dilation: Vec<i64> = vec![1; $n],
                /// Groups of channels that see only each other.
                groups: i64 = 1,
                /// Number of output channels; the weight's where it is `None`.
                channels: Option<i64> = None,
                /// Size of the kernel; the weight's where it is `None`.
                kernel_size: Option<Vec<i64>> = None,
                /// Order of the data's dimensions.
                data_layout: Arc<str> = $data.into(),
                /// Order of the weight's dimensions.
                kernel_layout: Arc<str> = $kernel.into(),
                /// Order of the result's dimensions; the data's where it is empty.
                out_layout: Arc<str> = "".into(),
                /// Dtype of the result; the data's where it is `None`.
                out_dtype: Option<DType> = None,
            }
        }

        impl ConvKind for $name {
            fn conv(attrs: &Attrs) -> Conv {
                let a: $name = attrs.read();
                Conv {
                    axes: $n,
                    strides: a.strides,
                    padding: a.padding,
                    dilation: a.dilation,
                    output_padding: vec![0; $n],
                    groups: a.groups,
                    channels: a.channels,
                    kernel_size: a.kernel_size,
                    data_layout: a.data_layout,
                    kernel_layout: a.kernel_layout,
                    out_layout: a.out_layout,
                    out_dtype: a.out_dtype,
                }
            }
        }
    };
}
conv_attrs!(Conv1dAttrs, "Attributes of `nn.conv1d`.", 1, "NCW", "OIW");
conv_attrs!(Conv2dAttrs, "Attributes of `nn.conv2d`.", 2, "NCHW", "OIHW");
conv_attrs!(Conv3dAttrs, "Attributes of `nn.conv3d`.", 3, "NCDHW", "OIDHW");

/// Declares the attributes of a transposed convolution over `$n` spatial axes.
macro_rules! transpose_attrs {
    ($name:ident, $doc:literal, $n:literal, $data:literal, $kernel:literal) => {
        op_attrs! {
            #[doc = $doc]
            pub struct $name {
                /// Number of output channels; the weight's where it is `None`.
                channels: Option<i64> = None,
                /// Size of the kernel; the weight's where it is `None`.
                kernel_size: Option<Vec<i64>> = None,
                /// Steps between the windows that input elements spread to.
                strides: Vec<i64> = vec![1; $n],
                /// Elements added after the result.
                output_padding: Vec<i64> = vec![0; $n],
                /// Elements cut off around the result: one value, one an axis, or all befores and then all afters.
                padding: Vec<i64> = vec![0; $n],
                /// Steps between the taps of the kernel.
                dilation: Vec<i64> = vec![1; $n],
                /// Groups of channels that see only each other.
                groups: i64 = 1,
                /// Order of the data's dimensions.
                data_layout: Arc<str> = $data.into(),
                /// Order of the weight's dimensions: I are the data's channels, O those of a group's result.
                kernel_layout: Arc<str> = $kernel.into(),
                /// Order of the result's dimensions; the data's where it is empty.
                out_layout: Arc<str> = "".into(),
                /// Dtype of the result; the data's where it is `None`.
                out_dtype: Option<DType> = None,
            }
        }

        impl ConvKind for $name {
            fn conv(attrs: &Attrs) -> Conv {
                let a: $name = attrs.read();
                Conv {
                    axes: $n,
                    strides: a.strides,
                    padding: a.padding,
                    dilation: a.dilation,
                    output_padding: a.output_padding,
                    groups: a.groups,
                    channels: a.channels,
                    kernel_size: a.kernel_size,
                    data_layout: a.data_layout,
                    kernel_layout: a.kernel_layout,
                    out_layout: a.out_layout,
                    out_dtype: a.out_dtype,
                }
            }
        }
    };
}
transpose_attrs!(Conv1dTransposeAttrs, "Attributes of `nn.conv1d_transpose`.", 1, "NCW", "IOW");
transpose_attrs!(Conv2dTransposeAttrs, "Attributes of `nn.conv2d_transpose`.", 2, "NCHW", "IOHW");
transpose_attrs!(Conv3dTransposeAttrs, "Attributes of `nn.conv3d_transpose`.", 3, "NCDHW", "IODHW");

/// Attributes that describe a convolution.
pub(in crate::op) trait ConvKind: OpAttrs {
    /// The convolution.
    fn conv(attrs: &Attrs) -> Conv;
}

/// The attributes of any convolution, plain or transposed.
pub(in crate::op) struct Conv {
    /// Number of spatial axes.
    pub axes: usize,
    pub strides: Vec<i64>,
    pub padding: Vec<i64>,
    pub dilation: Vec<i64>,
    pub output_padding: Vec<i64>,
    pub groups: i64,
    pub channels: Option<i64>,
    pub kernel_size: Option<Vec<i64>>,
    pub data_layout: Arc<str>,
    pub kernel_layout: Arc<str>,
    pub out_layout: Arc<str>,
    pub out_dtype: Option<DType>,
}

impl Conv {
    /// Order of the data's dimensions.
    pub fn data_order(&self) -> Result<Order, OpError> {
        Order::data("data_layout", &self.data_layout, self.axes)
    }

    /// Order of the result's dimensions.
    pub fn out_order(&self) -> Result<Order, OpError> {
        let layout = if self.out_layout.is_empty() { &self.data_layout } else { &self.out_layout };
        Order::data("out_layout", layout, self.axes)
    }

    /// Order of the weight's dimensions, `OI` or `IO` first in the canonical one.
    pub fn kernel_order(&self, channels: &str) -> Result<Order, OpError> {
        let canonical = format!("{channels}{}", spatial_letters(self.axes));
        Order::parse("kernel_layout", &self.kernel_layout, &canonical)
    }

    /// Number of groups.
    pub fn groups(&self) -> Result<usize, OpError> {
        size("groups", self.groups, 1)
    }

    /// The kernel's sizes as the attribute gives them.
    pub fn kernel_size(&self) -> Result<Option<Vec<usize>>, OpError> {
        self.kernel_size.as_ref().map(|k| sizes("kernel_size", k, self.axes, 1)).transpose()
    }

    /// The windows of kernels of these sizes.
    pub fn windows(&self, kernel: &[usize]) -> Result<Vec<Window>, OpError> {
        let strides = sizes("strides", &self.strides, self.axes, 1)?;
        let dilation = sizes("dilation", &self.dilation, self.axes, 1)?;
        let padding = padding(&self.padding, self.axes)?;
        let window = |d: usize| Window {
            kernel: kernel[d],
            stride: strides[d],
            dilation: dilation[d],
            before: padding[d].0,
            after: padding[d].1,
        };
        Ok((0..self.axes).map(window).collect())
    }

    /// Elements added after the result of a transposed convolution.
    pub fn output_padding(&self) -> Result<Vec<usize>, OpError> {
        sizes("output_padding", &self.output_padding, self.axes, 0)
    }
}
