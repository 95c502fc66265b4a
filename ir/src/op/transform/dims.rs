//! Arithmetic on dimensions: products, quotients and sums of static, symbolic and unknown sizes.

use std::sync::Arc;

use crate::types::Dim;

/// A product of dimensions: a number, names, and how many factors are unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    constant: u128,
    names: Vec<Arc<str>>,
    unknown: usize,
}

impl Product {
    /// The product of these dimensions.
    pub(super) fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Product {
        let mut product = Product { constant: 1, names: Vec::new(), unknown: 0 };
        for dim in dims {
            match dim {
                Dim::Static(n) => product.constant = product.constant.saturating_mul(*n as u128),
                Dim::Sym(name) => product.names.push(name.clone()),
                Dim::Any => product.unknown += 1,
            }
        }
        product.names.sort();
        product
    }

    /// The product as one dimension; what has no name of its own is unknown.
    pub(super) fn dim(&self) -> Dim {
        match (self.unknown, self.names.as_slice(), self.constant) {
            (0, [], n) => usize::try_from(n).map_or(Dim::Any, Dim::Static),
            (0, [name], 1) => Dim::Sym(name.clone()),
            _ => Dim::Any,
        }
    }

    /// Drops the names that both products have.
    fn cancel(&mut self, other: &mut Product) {
        self.names.retain(|name| match other.names.iter().position(|n| n == name) {
            Some(at) => {
                other.names.remove(at);
                false
            }
            None => true,
        });
    }

    /// The factor that makes `divisor` this product; `None` if there is none.
    pub(super) fn quotient(mut self, mut divisor: Product) -> Option<Dim> {
        self.cancel(&mut divisor);
        if divisor.constant == 0 {
            return None;
        }
        if self.unknown + divisor.unknown > 0 || !divisor.names.is_empty() {
            return Some(Dim::Any);
        }
        if self.constant.is_multiple_of(divisor.constant) {
            self.constant /= divisor.constant;
            return Some(self.dim());
        }
        (!self.names.is_empty()).then_some(Dim::Any)
    }

    /// True if the two products differ whatever the names and unknown factors are.
    pub(super) fn differs(mut self, mut other: Product) -> bool {
        self.cancel(&mut other);
        let known = self.unknown + other.unknown == 0 && self.names.is_empty() && other.names.is_empty();
        known && self.constant != other.constant
    }
}

/// The sum of dimensions: known if all are static, or if all but one are 0.
pub(super) fn sum<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Dim {
    let mut total = Dim::Static(0);
    for dim in dims {
        total = match (&total, dim) {
            (Dim::Static(a), Dim::Static(b)) => a.checked_add(*b).map_or(Dim::Any, Dim::Static),
            (Dim::Static(0), other) | (other, Dim::Static(0)) => other.clone(),
            _ => Dim::Any,
        };
    }
    total
}

/// A dimension times a number.
pub(super) fn times(dim: &Dim, n: usize) -> Dim {
    Product::of([dim, &Dim::Static(n)]).dim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sym(name: &str) -> Dim {
        Dim::Sym(name.into())
    }

    #[test]
    fn products_keep_a_lone_name() {
        assert_eq!(Product::of(&[sym("n"), Dim::Static(1)]).dim(), sym("n"));
        assert_eq!(Product::of(&[sym("n"), Dim::Static(2)]).dim(), Dim::Any);
        assert_eq!(Product::of(&[Dim::Static(3), Dim::Static(2)]).dim(), Dim::Static(6));
        assert_eq!(Product::of(&[]).dim(), Dim::Static(1));
    }

    #[test]
    fn quotients_cancel_names() {
        let q = |a: &[Dim], b: &[Dim]| Product::of(a).quotient(Product::of(b));
        assert_eq!(q(&[sym("n"), 6.into()], &[2.into()]), Some(Dim::Any));
        assert_eq!(q(&[sym("n"), 6.into()], &[6.into()]), Some(sym("n")));
        assert_eq!(q(&[sym("n"), 6.into()], &[sym("n"), 2.into()]), Some(Dim::Static(3)));
        assert_eq!(q(&[7.into()], &[2.into()]), None);
        assert_eq!(q(&[0.into()], &[0.into()]), None);
        assert_eq!(q(&[Dim::Any], &[2.into()]), Some(Dim::Any));
    }

    #[test]
    fn sums() {
        assert_eq!(sum(&[2.into(), 3.into()]), Dim::Static(5));
        assert_eq!(sum(&[0.into(), sym("n")]), sym("n"));
        assert_eq!(sum(&[sym("n"), 1.into()]), Dim::Any);
        assert_eq!(sum(&[Dim::Any, 0.into()]), Dim::Any);
    }
}
