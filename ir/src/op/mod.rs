//! The op table: one row an operator, a file a family.
//!
//! A new operator is one [`OpDef`] in its family's `OPS` with its functions beside it, and
//! one case file; nothing else is touched. Programs refer to rows through [`Op`], so a user's
//! own crate may define more and hand them to [`OpTable::with`].
//!
//! # Which operator runs where
//!
//! The evaluator and the CPU take every operator at the dtypes of its row, which are those of its
//! first tensor argument; `fermata list ops --markdown` makes this table.
//!
#![doc = include_str!("../../docs/operators.md")]

mod attrs;
pub mod broadcast;
mod check;
pub mod conv;
pub mod dynamic;
pub mod elemwise;
mod gemm;
pub mod image;
pub mod index;
pub mod indexing;
mod layout;
pub mod nn;
pub mod norm;
mod num;
mod panels;
pub mod pool;
pub mod quant;
pub mod reduce;
pub mod runs;
pub mod sort;
mod stages;
pub mod strided;
mod table;
#[cfg(test)]
pub mod testing;
pub mod transform;
pub mod util;
mod window;

pub use attrs::{AttrDef, AttrField, AttrKind, AttrValue, Attrs, OpAttrs};
pub use table::{FusePattern, Lower, Op, OpDef, OpError, Purity, TeFn, no_backward};

use std::collections::BTreeMap;

/// Every family's rows.
const FAMILIES: &[&[&OpDef]] = &[
    broadcast::OPS,
    broadcast::select::OPS,
    broadcast::shape::OPS,
    conv::OPS,
    dynamic::OPS,
    elemwise::OPS,
    elemwise::convert::OPS,
    elemwise::fill::OPS,
    elemwise::fixed_point::OPS,
    elemwise::misc::OPS,
    index::OPS,
    image::OPS,
    nn::OPS,
    norm::OPS,
    pool::OPS,
    quant::OPS,
    reduce::OPS,
    reduce::arg::OPS,
    reduce::collapse::OPS,
    reduce::moments::OPS,
    sort::OPS,
    transform::OPS,
];

/// Operators by name: the built-in rows and a user's own.
#[derive(Clone)]
pub struct OpTable {
    by_name: BTreeMap<&'static str, Op>,
}

impl OpTable {
    /// The built-in operators.
    pub fn standard() -> OpTable {
        let rows = FAMILIES.iter().flat_map(|family| family.iter());
        OpTable { by_name: rows.map(|def| (def.name, Op(def))).collect() }
    }

    /// These operators and more; a row of an existing name replaces it.
    #[must_use]
    pub fn with(mut self, rows: &[&'static OpDef]) -> OpTable {
        self.by_name.extend(rows.iter().map(|def| (def.name, Op(def))));
        self
    }

    /// The operator of this name.
    pub fn get(&self, name: &str) -> Option<Op> {
        self.by_name.get(name).copied()
    }

    /// All operators, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = Op> + '_ {
        self.by_name.values().copied()
    }
}
