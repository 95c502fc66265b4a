//! The sizes of a convolution with everything known, spatial axes padded to three.

use super::attrs::Conv;
use crate::op::OpError;
use crate::op::window::Window;

/// One spatial axis.
#[derive(Clone, Copy, Debug)]
pub(in crate::op) struct Axis {
    /// Elements of the side that windows slide over: the data, or the result if transposed.
    pub wide: usize,
    /// Number of windows: the result's elements, or the data's if transposed.
    pub count: usize,
    /// The window.
    pub window: Window,
}

/// The sizes of a convolution.
#[derive(Clone, Debug)]
pub(in crate::op) struct Geometry {
    /// Batch.
    pub batch: usize,
    /// Groups.
    pub groups: usize,
    /// Channels of the data in a group.
    pub icg: usize,
    /// Channels of the result in a group.
    pub ocg: usize,
    /// Depth, height and width; leading ones are trivial where there are fewer.
    pub axes: [Axis; 3],
}

impl Geometry {
    /// From canonical shapes: the side that windows slide over, the side of one element a
    /// window, and the kernel's spatial sizes.
    pub fn new(conv: &Conv, wide: &[usize], count: &[usize], kernel: &[usize]) -> Result<Geometry, OpError> {
        let groups = conv.groups()?;
        let windows = conv.windows(kernel)?;
        let one = Window { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };
        let mut axes = [Axis { wide: 1, count: 1, window: one }; 3];
        for (d, &window) in windows.iter().enumerate() {
            axes[3 - windows.len() + d] = Axis { wide: wide[2 + d], count: count[2 + d], window };
        }
        Ok(Geometry { batch: wide[0], groups, icg: wide[1] / groups, ocg: count[1] / groups, axes })
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.axes.iter().map(|a| a.window.kernel).product()
    }

    /// Elements of a channel of the side that windows slide over.
    pub fn wide(&self) -> usize {
        self.axes.iter().map(|a| a.wide).product()
    }

    /// Number of windows in a channel.
    pub fn count(&self) -> usize {
        self.axes.iter().map(|a| a.count).product()
    }

    /// The coordinates of a tap.
    pub fn tap(&self, index: usize) -> [usize; 3] {
        unravel(index, self.axes.map(|a| a.window.kernel))
    }

    /// The coordinates of a window.
    pub fn window(&self, index: usize) -> [usize; 3] {
        unravel(index, self.axes.map(|a| a.count))
    }

    /// The element under a tap of a window, unless it is padding.
    pub fn under(&self, window: [usize; 3], tap: [usize; 3]) -> Option<usize> {
        let mut at = 0;
        for ((axis, i), k) in self.axes.iter().zip(window).zip(tap) {
            at = at * axis.wide + axis.window.tap(i, k, axis.wide)?;
        }
        Some(at)
    }
}

/// The coordinates of a row-major index.
fn unravel(index: usize, [_, h, w]: [usize; 3]) -> [usize; 3] {
    [index / (h * w), index / w % h, index % w]
}
