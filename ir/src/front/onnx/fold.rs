//! What is known of values while a model is imported.
//!
//! An expression is *closed* if it depends on constants alone. Small closed expressions
//! are evaluated at once; large ones (a transposed weight, say) are left to the optimiser
//! unless some operator needs to know the value. Of vectors that hold shapes, single
//! elements may be known where others are symbolic dimensions: their *extents*.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Importer, Value};
use super::node::Cx;
use super::ops;
use super::proto::Node;
use crate::dispatch;
use crate::entity::EntitySet;
use crate::eval;
use crate::expr::{Expr, ExprId, Module};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Dim, Type};

/// Closed expressions of at most this many elements are folded at once.
const EAGER_ELEMENTS: usize = 1 << 12;

/// An operand that must be known is evaluated if it has at most this many elements.
const OPERAND_ELEMENTS: usize = 1 << 24;

/// One element of a vector that holds a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its value.
    Known(i64),
    /// The size of a symbolic dimension.
    Sym(Arc<str>),
    /// Nothing is known.
    Unknown,
}

impl From<&Dim> for Extent {
    fn from(dim: &Dim) -> Extent {
        match dim {
            Dim::Static(n) => Extent::Known(*n as i64),
            Dim::Sym(s) => Extent::Sym(s.clone()),
            Dim::Any => Extent::Unknown,
        }
    }
}

/// What the importer knows of expressions.
#[derive(Default)]
pub(super) struct Folder {
    closed: EntitySet<ExprId>,
    extents: BTreeMap<ExprId, Vec<Extent>>,
}

impl Folder {
    /// True if every value depends on constants alone.
    pub(super) fn all_closed(&self, module: &Module, values: &[Value]) -> bool {
        let closed = |e: &ExprId| matches!(module.exprs[*e], Expr::Const(_)) || self.closed.contains(*e);
        values.iter().all(|v| match v {
            Value::Tensor(e) => closed(e),
            Value::Sequence(items) => items.iter().all(closed),
            Value::Absent => true,
            Value::Poison => false,
        })
    }

    /// Marks an expression as closed; folds it if it is small.
    pub(super) fn close(&mut self, module: &mut Module, e: ExprId) -> ExprId {
        self.closed.insert(e);
        match elements(module, e) {
            Some(n) if n <= EAGER_ELEMENTS => match evaluate(module, e) {
                Some(tensor) => module.constant(tensor),
                None => e,
            },
            Some(_) | None => e,
        }
    }

    /// The value of an expression, if it depends on constants alone.
    pub(super) fn constant(&self, module: &Module, e: ExprId) -> Option<Tensor> {
        if let Some(tensor) = module.as_const(e) {
            return Some(tensor.clone());
        }
        if !self.closed.contains(e) || elements(module, e).is_some_and(|n| n > OPERAND_ELEMENTS) {
            return None;
        }
        evaluate(module, e)
    }

    /// What is known of the elements of a vector (or scalar) of integers.
    pub(super) fn extents(&self, module: &Module, e: ExprId) -> Option<Vec<Extent>> {
        if let Some(tensor) = self.constant(module, e) {
            return Some(ints(&tensor)?.into_iter().map(Extent::Known).collect());
        }
        self.extents.get(&e).cloned()
    }

    /// Notes what is known of the elements of a vector.
    pub(super) fn note_extents(&mut self, e: ExprId, extents: Vec<Extent>) {
        self.extents.insert(e, extents);
    }
}

fn elements(module: &Module, e: ExprId) -> Option<usize> {
    match &module.types[e] {
        Type::Tensor(t) => t.elements(),
        _ => None,
    }
}

fn evaluate(module: &Module, e: ExprId) -> Option<Tensor> {
    let value = eval::eval_expr(module, e).ok()?;
    value.as_tensor().cloned()
}

/// The elements of a tensor of integers or bools, in row-major order.
pub(super) fn ints(tensor: &Tensor) -> Option<Vec<i64>> {
    if tensor.dtype().is_float() {
        return None;
    }
    dispatch!(tensor.dtype(), T => {
        let data = tensor.as_slice::<T>()?;
        Some(data.iter().map(|&x| Scalar::of(x).as_i64()).collect())
    })
}

/// Follows extents through a node that only moves elements about.
///
/// The node is mapped once more on constants that number the elements of its inputs; where
/// those numbers arrive tells what the results hold.
pub(super) fn trace_extents<'a>(
    im: &mut Importer<'a>,
    row: &'static ops::Row,
    node: &'a Node<'a>,
    opset: i64,
    args: &[Value],
    results: &mut [Value],
) {
    let Some((numbered, known)) = number_elements(im, row, args) else { return };
    let attrs = im.resolve_attrs(node);
    let mut cx = Cx::new(im, node, attrs, numbered, opset);
    let Ok(traced) = (row.map)(&mut cx) else { return };
    for (result, traced) in results.iter_mut().zip(traced) {
        let (Value::Tensor(e), Value::Tensor(t)) = (&*result, traced) else { continue };
        let Some(tensor) = evaluate(&im.module, t) else { continue };
        let Some(numbers) = ints(&tensor) else { continue };
        let found: Option<Vec<Extent>> =
            numbers.iter().map(|&n| known.get(usize::try_from(n).ok()?).cloned()).collect();
        let Some(found) = found else { continue };
        match constant_of(&found, &tensor) {
            Some(tensor) => *result = Value::Tensor(im.module.constant(tensor)),
            None => im.folder.note_extents(*e, found),
        }
    }
}

/// The arguments with data replaced by numbered elements, and what each number stands for.
fn number_elements(
    im: &mut Importer<'_>,
    row: &ops::Row,
    args: &[Value],
) -> Option<(Vec<Value>, Vec<Extent>)> {
    let mut known = Vec::new();
    let mut numbered = Vec::new();
    for (i, arg) in args.iter().enumerate() {
        let moved = i == 0 || row.all_move;
        let Value::Tensor(e) = *arg else {
            numbered.push(arg.clone());
            continue;
        };
        if !moved {
            im.module.as_const(e)?;
            numbered.push(arg.clone());
            continue;
        }
        let extents = im.folder.extents(&im.module, e)?;
        let ty = im.ty(e);
        let shape = ty.as_tensor()?.static_shape()?;
        let numbers: Vec<i64> = (known.len()..known.len() + extents.len()).map(|n| n as i64).collect();
        let tensor = Tensor::from_slice(&shape, &numbers).ok()?;
        known.extend(extents);
        numbered.push(Value::Tensor(im.module.constant(tensor)));
    }
    Some((numbered, known))
}

/// The constant that fully known extents are.
fn constant_of(extents: &[Extent], like: &Tensor) -> Option<Tensor> {
    let known = |e: &Extent| match e {
        Extent::Known(n) => Some(*n),
        Extent::Sym(_) | Extent::Unknown => None,
    };
    let numbers: Vec<i64> = extents.iter().map(known).collect::<Option<_>>()?;
    dispatch!(like.dtype(), T => {
        let data: Vec<T> = numbers
            .iter()
            .map(|&n| Scalar::from_i64(like.dtype(), n).get::<T>())
            .collect::<Option<_>>()?;
        Tensor::from_slice(like.shape(), &data).ok()
    })
}
