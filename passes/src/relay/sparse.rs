//! Tables of a function's expressions, for passes that make one for each function.
//!
//! A table by index has room for all expressions of the program: one for each of thousands of functions
//! would take time with the square of their number.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use fermata_ir::expr::ExprId;

/// What is known of some expressions; the default of the others.
#[derive(Clone, Debug, Default)]
pub struct Sparse<V> {
    known: BTreeMap<ExprId, V>,
    default: V,
}

impl<V> Index<ExprId> for Sparse<V> {
    type Output = V;

    fn index(&self, expr: ExprId) -> &V {
        self.known.get(&expr).unwrap_or(&self.default)
    }
}

impl<V: Default> IndexMut<ExprId> for Sparse<V> {
    fn index_mut(&mut self, expr: ExprId) -> &mut V {
        self.known.entry(expr).or_default()
    }
}
