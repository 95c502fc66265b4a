//! Data layouts as text: `NCHW`, `NCHW4c`, `OIHW16i4o`.

use crate::op::OpError;

/// A dimension's letter, in upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::op) struct Letter(pub char);

/// One dimension of a layout: all or the outer part of a letter, or an inner part of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::op) struct Part {
    /// Which letter.
    pub letter: Letter,
    /// The size of an inner part.
    pub factor: Option<usize>,
}

/// The dimensions of a layout, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::op) struct DataLayout {
    /// The dimensions.
    pub parts: Vec<Part>,
}

impl DataLayout {
    /// Reads a layout: an upper-case letter is a dimension, a number and a lower-case letter
    /// an inner part of it.
    pub(in crate::op) fn parse(text: &str) -> Result<DataLayout, OpError> {
        let bad = |why: &str| OpError::new(format!("\"{text}\" is no layout: {why}"));
        let mut parts: Vec<Part> = Vec::new();
        let mut digits = String::new();
        for c in text.chars() {
            let letter = Letter(c.to_ascii_uppercase());
            match c {
                '0'..='9' => digits.push(c),
                'A'..='Z' if digits.is_empty() => {
                    if parts.iter().any(|p| p.letter == letter && p.factor.is_none()) {
                        return Err(bad(&format!("{c} stands twice")));
                    }
                    parts.push(Part { letter, factor: None });
                }
                'a'..='z' => {
                    let factor = digits.parse::<usize>().ok().filter(|&n| n > 0);
                    let factor = factor.ok_or_else(|| bad(&format!("{c} needs a size before it")))?;
                    parts.push(Part { letter, factor: Some(factor) });
                    digits.clear();
                }
                _ => return Err(bad(&format!("{c} does not fit there"))),
            }
        }
        let layout = DataLayout { parts };
        let whole = layout.letters();
        let stray = layout.parts.iter().find(|p| !whole.contains(&p.letter));
        match (stray, digits.is_empty()) {
            (None, true) => Ok(layout),
            (Some(p), _) => Err(bad(&format!("an inner part of {} has no outer one", p.letter.0))),
            (None, false) => Err(bad("it ends in a number")),
        }
    }

    /// The letters, in the order of their outer parts.
    pub(in crate::op) fn letters(&self) -> Vec<Letter> {
        self.parts.iter().filter(|p| p.factor.is_none()).map(|p| p.letter).collect()
    }

    /// The size of an inner part.
    pub(in crate::op) fn factor(&self, part: usize) -> Option<usize> {
        self.parts[part].factor
    }

    /// True if no dimension is split.
    pub(in crate::op) fn is_plain(&self) -> bool {
        self.parts.iter().all(|p| p.factor.is_none())
    }

    /// True if both layouts are of the same letters.
    pub(in crate::op) fn same_letters(&self, other: &DataLayout) -> bool {
        let (mut a, mut b) = (self.letters(), other.letters());
        a.sort();
        b.sort();
        a == b
    }

    /// The dimensions of a letter, the outer part first, then inner parts from left to right.
    pub(in crate::op) fn parts_of(&self, letter: Letter) -> impl Iterator<Item = usize> + '_ {
        let of = move |inner: bool| {
            let parts = self.parts.iter().enumerate();
            parts.filter(move |(_, p)| p.letter == letter && p.factor.is_some() == inner).map(|(i, _)| i)
        };
        of(false).chain(of(true))
    }

    /// The product of a letter's inner parts.
    pub(in crate::op) fn inner_size(&self, letter: Letter) -> usize {
        let factors = self.parts.iter().filter(|p| p.letter == letter).filter_map(|p| p.factor);
        factors.fold(1, usize::saturating_mul)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_read() {
        let layout = DataLayout::parse("OIHW4i16o").expect("a layout");
        assert_eq!(layout.letters(), ['O', 'I', 'H', 'W'].map(Letter));
        assert_eq!(layout.parts_of(Letter('I')).collect::<Vec<_>>(), [1, 4]);
        assert_eq!((layout.inner_size(Letter('O')), layout.inner_size(Letter('H'))), (16, 1));
    }

    #[test]
    fn malformed_layouts_are_refused() {
        for text in ["NN", "Nc", "N4c", "4N", "N4", "N-C", "C0c", "C99999999999999999999c"] {
            assert!(DataLayout::parse(text).is_err(), "{text}");
        }
    }
}
