//! The ONNX operators: one row each, a file a family.
//!
//! A row names the operator, says what must be known of its operands at compile time, and
//! maps a node to expressions. Differences between opsets are decided inside the mapping
//! function, from [`Cx::opset`].

mod activation;
mod attention;
mod constant;
mod control;
mod image;
mod index;
mod linear;
mod loss;
mod math;
mod misc;
mod norm;
mod pool;
mod quant;
mod reduce;
mod resize;
mod rnn;
mod sequence;
mod shape;
mod signal;
mod state;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::graph::{Mapped, Value};
use super::node::{Cx, Step};
use crate::expr::ExprId;

/// Maps a node.
pub(super) type MapFn = for<'i, 'a> fn(&mut Cx<'i, 'a>) -> Mapped;

/// Maps a node with one result.
type MapOne = for<'i, 'a> fn(&mut Cx<'i, 'a>) -> Step;

/// An ONNX operator.
pub(super) struct Row {
    /// The domain; empty for the standard one.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// Operands whose values must be known at compile time.
    pub known: &'static [usize],
    /// The results hold elements of the first operand, moved about: shapes are traced through.
    pub moves_data: bool,
    /// As `moves_data`, of all operands.
    pub all_move: bool,
    /// What a node becomes.
    pub map: MapFn,
}

impl Row {
    /// An operator of the standard domain.
    const fn new(name: &'static str, map: MapFn) -> Row {
        Row { domain: "", name, known: &[], moves_data: false, all_move: false, map }
    }

    /// Says which operands must be known.
    const fn known(mut self, operands: &'static [usize]) -> Row {
        self.known = operands;
        self
    }

    /// Says that shapes are traced through the first operand.
    const fn moves(mut self) -> Row {
        self.moves_data = true;
        self
    }

    /// Says that shapes are traced through all operands.
    const fn all_move(mut self) -> Row {
        self.moves_data = true;
        self.all_move = true;
        self
    }

    /// Puts the operator in another domain.
    const fn of(mut self, domain: &'static str) -> Row {
        self.domain = domain;
        self
    }
}

/// Declares the rows of a family: a name, the mapping function of a single result, and what
/// else there is to say.
macro_rules! one {
    ($name:literal, $map:expr) => {
        $crate::front::onnx::ops::Row::new($name, |cx| $crate::front::onnx::ops::single(cx, $map))
    };
}
use one;

/// Maps a node with one result.
fn single(cx: &mut Cx<'_, '_>, map: MapOne) -> Mapped {
    map(cx).map(|e: ExprId| vec![Value::Tensor(e)])
}

/// Every family's rows.
const FAMILIES: &[&[Row]] = &[
    activation::ROWS,
    attention::ROWS,
    constant::ROWS,
    control::ROWS,
    image::ROWS,
    index::ROWS,
    linear::ROWS,
    loss::ROWS,
    math::ROWS,
    misc::ROWS,
    norm::ROWS,
    pool::ROWS,
    quant::ROWS,
    reduce::ROWS,
    resize::ROWS,
    rnn::ROWS,
    sequence::ROWS,
    shape::ROWS,
    signal::ROWS,
    state::ROWS,
];

static TABLE: LazyLock<BTreeMap<(&'static str, &'static str), &'static Row>> =
    LazyLock::new(|| FAMILIES.iter().flat_map(|f| f.iter()).map(|r| ((r.domain, r.name), r)).collect());

/// The row of an operator.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Row> {
    TABLE.get(&(domain, name)).copied()
}

/// All rows, sorted by domain and name.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.values().copied()
}

/// A domain in one spelling: the standard one is empty.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}
