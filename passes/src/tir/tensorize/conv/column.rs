//! Images as one column of pixels, for what treats every pixel alike: a tile is then any of them.

use std::collections::BTreeSet;

use fermata_ir::entity::PrimaryMap;
use fermata_ir::tir::{Buffer, BufferId, Expr, ExprKind, VarId};

use super::super::super::inline::{nodes, operands};
use super::super::{Anchored, replace_loads};

/// An epilogue in terms of pixels: the axis of rows stands for the pixel, that of columns for 0.
pub struct Column {
    /// The element, if there is an epilogue.
    pub element: Option<Expr>,
    /// The buffers whose last two dimensions become pixels and 1.
    pub buffers: BTreeSet<BufferId>,
}

/// Sees a convolution's images as columns, `images` and what its epilogue reads at their pixels; not
/// if the epilogue has any other use of a pixel's place.
pub fn see(
    buffers: &PrimaryMap<BufferId, Buffer>,
    anchored: &Anchored<'_>,
    element: &Option<Expr>,
    images: &[BufferId],
) -> Option<Column> {
    let [.., row, column] = &anchored.axes[..] else { return None };
    if row.extent == 1 || column.extent == 1 {
        return None;
    }
    let at = Pixel { row: row.var, column: column.var, size: [row.extent, column.extent] };
    let mut seen: BTreeSet<BufferId> = images.iter().copied().collect();
    let Some(element) = element else { return Some(Column { element: None, buffers: seen }) };
    let (mut stack, mut known, mut others) = (vec![element], BTreeSet::new(), BTreeSet::new());
    while let Some(e) = stack.pop() {
        if !known.insert(e.key()) {
            continue;
        }
        match e.kind() {
            ExprKind::Load(b, indices) if at.is_at(indices, &buffers[*b].shape) => {
                seen.insert(*b);
            }
            ExprKind::Load(b, indices) => {
                others.insert(*b);
                stack.extend(indices);
            }
            ExprKind::Var(v) if at.mentions(*v) => return None,
            _ => stack.extend(operands(e)),
        }
    }
    if !seen.is_disjoint(&others) {
        return None;
    }
    let element = replace_loads(element, &mut |b, indices| {
        let (_, outer) = seen.contains(&b).then(|| indices.split_last()).flatten()?;
        let indices = outer.iter().cloned().chain([Expr::int(0)]).collect();
        Some(Expr::new(ExprKind::Load(b, indices), buffers[b].dtype))
    });
    Some(Column { element: Some(element), buffers: seen })
}

/// The shape of an image as a column.
pub fn reshape(shape: &mut [usize]) {
    if let [.., height, width] = shape {
        (*height, *width) = (*height * *width, 1);
    }
}

/// The axes of a pixel's place.
struct Pixel {
    row: VarId,
    column: VarId,
    size: [usize; 2],
}

impl Pixel {
    fn mentions(&self, v: VarId) -> bool {
        v == self.row || v == self.column
    }

    /// Whether a load of a buffer of this shape is at the pixel, in images of the same size.
    fn is_at(&self, indices: &[Expr], shape: &[usize]) -> bool {
        let ([outer @ .., row, column], [.., height, width]) = (indices, shape) else { return false };
        let is = |e: &Expr, v: VarId| matches!(e.kind(), ExprKind::Var(x) if *x == v);
        let elsewhere =
            |e: &Expr| nodes(e).iter().all(|n| !matches!(n.kind(), ExprKind::Var(v) if self.mentions(*v)));
        is(row, self.row)
            && is(column, self.column)
            && [*height, *width] == self.size
            && outer.iter().all(elsewhere)
    }
}
