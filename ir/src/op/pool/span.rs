//! The areas of a pooling along one axis with the size known.

use super::attrs::Area;
use crate::op::OpError;
use crate::types::Dim;

/// The elements of one area along an axis: `first`, `first + step`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first element.
    pub first: usize,
    /// Step between elements.
    pub step: usize,
    /// Number of elements that are data.
    pub taps: usize,
    /// Number of elements that are data or padding.
    pub padded: usize,
}

impl Area {
    /// The size of the result along an axis.
    pub fn count_dim(&self, input: &Dim) -> Result<Dim, OpError> {
        match (self, input) {
            (Area::Window(w, ceil), _) => w.count_dim(input, *ceil),
            (Area::Shares(_), Dim::Static(0)) => Err(OpError::arg(0, "there are no elements to share")),
            (Area::Shares(n), _) => Ok(Dim::Static(*n)),
            (Area::Keep, _) => Ok(input.clone()),
        }
    }

    /// The span of each area.
    pub fn spans(&self, input: usize, count: usize) -> Vec<Span> {
        (0..count).map(|i| self.span(i, input, count)).collect()
    }

    fn span(&self, i: usize, input: usize, count: usize) -> Span {
        match self {
            Area::Window(w, _) => {
                let start = i * w.stride;
                let reached = |end: usize| end.saturating_sub(start).div_ceil(w.dilation).min(w.kernel);
                let skipped = w.before.saturating_sub(start).div_ceil(w.dilation).min(w.kernel);
                Span {
                    first: (start + skipped * w.dilation).saturating_sub(w.before),
                    step: w.dilation,
                    taps: reached(w.before + input).saturating_sub(skipped),
                    padded: reached(w.before + input + w.after),
                }
            }
            Area::Shares(_) => {
                let first = i * input / count;
                let taps = ((i + 1) * input).div_ceil(count) - first;
                Span { first, step: 1, taps, padded: taps }
            }
            Area::Keep => Span { first: i, step: 1, taps: 1, padded: 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::window::Window;

    #[test]
    fn windows_count_data_and_padding() {
        let w = Window { kernel: 3, stride: 2, dilation: 1, before: 1, after: 1 };
        let span = |first, taps, padded| Span { first, step: 1, taps, padded };
        // Over 4 elements in ceil mode the third window reaches one past the padding.
        assert_eq!(Area::Window(w, true).spans(4, 3), [span(0, 2, 3), span(1, 3, 3), span(3, 1, 2)]);
    }

    #[test]
    fn shares_overlap_where_they_must() {
        let span = |first, taps| Span { first, step: 1, taps, padded: taps };
        assert_eq!(Area::Shares(3).spans(5, 3), [span(0, 2), span(1, 3), span(3, 2)]);
        assert_eq!(Area::Shares(1).spans(4, 1), [span(0, 4)]);
        assert_eq!(Area::Shares(3).spans(2, 3), [span(0, 1), span(0, 2), span(1, 1)]);
    }
}
