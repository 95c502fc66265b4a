//! How a tensor lies: which axis of the tensor that the program had is where, and in what parts.

use fermata_ir::types::Dim;

/// A dimension of a rearranged tensor: an axis of the plain one, its outer part or an inner part of
/// fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The axis of the plain tensor.
    pub axis: usize,
    /// The size of an inner part; `None` for the whole axis or its outer part.
    pub size: Option<usize>,
}

/// The dimensions of a rearranged tensor, which holds the elements of a plain one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form(pub Vec<Part>);

/// The letters and inner sizes of a layout in text: `NCHW4c`.
///
/// `None` if it is none: a letter without its outer part, one that stands twice, a size of 0.
pub fn read(layout: &str) -> Option<Vec<(char, Option<usize>)>> {
    let mut parts: Vec<(char, Option<usize>)> = Vec::new();
    let mut digits = String::new();
    for c in layout.chars() {
        match c {
            '0'..='9' => digits.push(c),
            'A'..='Z' if digits.is_empty() && !parts.contains(&(c, None)) => parts.push((c, None)),
            'a'..='z' => {
                let size = digits.parse::<usize>().ok().filter(|&n| n > 0)?;
                parts.push((c.to_ascii_uppercase(), Some(size)));
                digits.clear();
            }
            _ => return None,
        }
    }
    let whole = |(letter, _): &(char, Option<usize>)| parts.contains(&(*letter, None));
    (digits.is_empty() && !parts.is_empty() && parts.iter().all(whole)).then_some(parts)
}

impl Form {
    /// The form of a tensor that lies as one layout says, seen from where it lies as another does, which
    /// has no inner parts. `None` if either is no layout, or their letters differ.
    pub fn between(plain: &str, layout: &str) -> Option<Form> {
        let plain = read(plain)?;
        if plain.iter().any(|(_, size)| size.is_some()) {
            return None;
        }
        let parts = read(layout)?;
        let axis = |letter: char| plain.iter().position(|&(l, _)| l == letter);
        let parts: Option<Vec<Part>> =
            parts.into_iter().map(|(letter, size)| Some(Part { axis: axis(letter)?, size })).collect();
        Some(Form(parts?)).filter(|form| form.rank() == plain.len())
    }

    /// True if this is how the plain tensor lies.
    pub fn is_plain(&self) -> bool {
        self.0.iter().enumerate().all(|(at, part)| *part == Part { axis: at, size: None })
    }

    /// The number of axes of the plain tensor.
    pub fn rank(&self) -> usize {
        self.0.iter().filter(|p| p.size.is_none()).count()
    }

    /// Where an axis is, if it is in one part.
    pub fn place(&self, axis: usize) -> Option<usize> {
        let mut places = self.0.iter().enumerate().filter(|(_, p)| p.axis == axis);
        let place = places.next()?.0;
        places.next().is_none().then_some(place)
    }

    /// The layout in text, where the plain one has these letters.
    pub fn text(&self, letters: &[char]) -> String {
        let part = |p: &Part| match p.size {
            None => letters[p.axis].to_string(),
            Some(size) => format!("{size}{}", letters[p.axis].to_ascii_lowercase()),
        };
        self.0.iter().map(part).collect()
    }

    /// The dimensions of the rearranged tensor; `None` if one does not divide into its parts, or is not
    /// known where it must.
    pub fn dims(&self, plain: &[Dim]) -> Option<Vec<Dim>> {
        let dim = |part: &Part| {
            let own = self.0.iter().filter(|p| p.axis == part.axis).filter_map(|p| p.size);
            let inner: usize = own.fold(1usize, usize::saturating_mul);
            match (part.size, plain.get(part.axis)?) {
                (Some(size), _) => Some(Dim::Static(size)),
                (None, dim) if inner == 1 => Some(dim.clone()),
                (None, dim) => {
                    dim.as_static().filter(|n| n.is_multiple_of(inner)).map(|n| (n / inner).into())
                }
            }
        };
        self.0.iter().map(dim).collect()
    }

    /// The same for a tensor that has size 1 along some of the axes: no part of those is larger.
    pub fn for_dims(&self, plain: &[Dim]) -> Form {
        let one = |axis: usize| plain[axis].as_static() == Some(1);
        let part = |p: &Part| Part { size: p.size.map(|n| if one(p.axis) { 1 } else { n }), ..*p };
        Form(self.0.iter().map(part).collect())
    }

    /// The same without some axes of the plain tensor.
    pub fn without(&self, axes: &[usize]) -> Form {
        let shifted = |p: &Part| Part { axis: p.axis - axes.iter().filter(|&&a| a < p.axis).count(), ..*p };
        Form(self.0.iter().filter(|p| !axes.contains(&p.axis)).map(shifted).collect())
    }

    /// The form of the transposed plain tensor, whose axis `j` is axis `order[j]` of this one's.
    pub fn transposed(&self, order: &[usize]) -> Option<Form> {
        let part = |p: &Part| Some(Part { axis: order.iter().position(|&a| a == p.axis)?, ..*p });
        Some(Form(self.0.iter().map(part).collect::<Option<_>>()?))
    }
}

/// Letters for the axes of a tensor of which no layout is known.
pub fn letters(rank: usize) -> Vec<char> {
    match rank {
        3 => "NCW".chars().collect(),
        4 => "NCHW".chars().collect(),
        5 => "NCDHW".chars().collect(),
        _ => ('A'..='Z').take(rank).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(sizes: &[usize]) -> Vec<Dim> {
        sizes.iter().map(|&n| Dim::Static(n)).collect()
    }

    #[test]
    fn forms_say_where_axes_are() {
        let form = Form::between("NHWC", "NCHW4c").expect("a form");
        assert_eq!(form.text(&['N', 'H', 'W', 'C']), "NCHW4c");
        assert_eq!(form.dims(&dims(&[1, 5, 6, 8])), Some(dims(&[1, 2, 5, 6, 4])));
        assert_eq!(form.dims(&dims(&[1, 5, 6, 7])), None);
        assert_eq!((form.place(1), form.place(3)), (Some(2), None));
        assert_eq!(
            form.for_dims(&dims(&[1, 5, 6, 1])).dims(&dims(&[1, 5, 6, 1])),
            Some(dims(&[1, 1, 5, 6, 1]))
        );
        assert_eq!(form.without(&[1, 2]), Form::between("NC", "NC4c").expect("a form"));
        let nhwc = Form::between("NCHW", "NHWC").expect("a form");
        assert!(nhwc.transposed(&[0, 2, 3, 1]).expect("a form").is_plain());
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for (plain, layout) in
            [("NCHW", "NCHWc"), ("NCHW", "NCW"), ("NC4c", "NC"), ("NC", "NC4"), ("NC", "NCC")]
        {
            assert_eq!(Form::between(plain, layout), None, "{plain} {layout}");
        }
    }
}
