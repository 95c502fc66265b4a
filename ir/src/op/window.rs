//! Sliding windows: the sizes that convolutions and poolings have in common.

use super::OpError;
use crate::types::Dim;

/// A window along one spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Number of taps, at least 1.
    pub kernel: usize,
    /// Step between windows, at least 1.
    pub stride: usize,
    /// Step between taps, at least 1.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
    /// Padding after the last element.
    pub after: usize,
}

impl Window {
    /// Elements from the first tap to the last.
    pub fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    /// Number of windows over `input` elements, or `None` if not even one fits. With `ceil`
    /// a last window may reach past the padding, if it starts before it.
    pub fn count(&self, input: usize, ceil: bool) -> Option<usize> {
        let room = (input + self.before + self.after).checked_sub(self.extent())?;
        if !ceil {
            return Some(room / self.stride + 1);
        }
        let last = room.div_ceil(self.stride);
        Some(if last * self.stride >= input + self.before { last } else { last + 1 })
    }

    /// The dimension of the result; a dimension that is not static passes through where the
    /// window keeps every size.
    pub fn count_dim(&self, input: &Dim, ceil: bool) -> Result<Dim, OpError> {
        match input {
            Dim::Static(n) => self.count(*n, ceil).map(Dim::Static).ok_or_else(|| {
                let padded = n + self.before + self.after;
                OpError::arg(
                    0,
                    format!("a window of {} does not fit {padded} padded elements", self.extent()),
                )
            }),
            Dim::Sym(_) if self.keeps_size() => Ok(input.clone()),
            Dim::Sym(_) | Dim::Any => Ok(Dim::Any),
        }
    }

    /// True if there are as many windows as elements, whatever their number.
    fn keeps_size(&self) -> bool {
        self.stride == 1 && self.before + self.after + 1 == self.extent()
    }

    /// Where tap `k` of window `i` lies, if it is inside `input` elements.
    pub fn tap(&self, i: usize, k: usize, input: usize) -> Option<usize> {
        (i * self.stride + k * self.dilation).checked_sub(self.before).filter(|&at| at < input)
    }

    /// The windows whose tap `k` is inside `input` elements, among `windows`.
    pub fn inside(&self, k: usize, input: usize, windows: usize) -> std::ops::Range<usize> {
        let offset = k * self.dilation;
        let lo = self.before.saturating_sub(offset).div_ceil(self.stride);
        let hi = (input + self.before).saturating_sub(offset).div_ceil(self.stride);
        lo.min(windows)..hi.min(windows).max(lo.min(windows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, before: usize, after: usize) -> Window {
        Window { kernel, stride, dilation, before, after }
    }

    #[test]
    fn counts() {
        assert_eq!(window(3, 2, 1, 1, 1).count(7, false), Some(4));
        assert_eq!(window(2, 2, 1, 0, 0).count(5, false), Some(2));
        assert_eq!(window(2, 2, 1, 0, 0).count(5, true), Some(3));
        // The third window would start in the padding after the last element.
        assert_eq!(window(1, 2, 1, 0, 1).count(4, true), Some(2));
        assert_eq!(window(3, 1, 2, 0, 0).count(4, false), None);
    }

    #[test]
    fn symbols_pass_where_sizes_stay() {
        let n = Dim::Sym("n".into());
        assert_eq!(window(3, 1, 1, 1, 1).count_dim(&n, false), Ok(n.clone()));
        assert_eq!(window(3, 2, 1, 1, 1).count_dim(&n, false), Ok(Dim::Any));
    }

    #[test]
    fn inside_agrees_with_tap() {
        for w in [window(3, 2, 2, 3, 1), window(5, 1, 1, 2, 2), window(2, 3, 4, 0, 5)] {
            for input in 1..12 {
                let Some(windows) = w.count(input, false) else { continue };
                for k in 0..w.kernel {
                    let range = w.inside(k, input, windows);
                    for i in 0..windows {
                        assert_eq!(range.contains(&i), w.tap(i, k, input).is_some(), "{w:?} {input} {k} {i}");
                    }
                }
            }
        }
    }
}
