//! Segments of small kernels.

use super::*;
use crate::tir::{Buffer, Scope, VarInfo};
use crate::types::DType;

/// Tiles over `out` of the given shape; `index` makes the indices from the tile and the loops.
struct Kernel {
    func: PrimFunc,
    vars: Vec<VarId>,
    x: BufferId,
    y: BufferId,
}

fn kernel(shape: &[usize], loops: usize) -> Kernel {
    let mut func = PrimFunc::new("k");
    let mut buffer = |name: &str| {
        let (name, shape) = (name.into(), shape.to_vec());
        func.buffers.push(Buffer { name, shape, dtype: DType::F32, scope: Scope::Global })
    };
    let (x, y) = (buffer("x"), buffer("y"));
    (func.params, func.outputs) = (vec![x, y], 1);
    let vars =
        (0..=loops).map(|i| func.vars.push(VarInfo { name: format!("i{i}").into(), dtype: DType::I64 }));
    let vars = vars.collect();
    Kernel { func, vars, x, y }
}

impl Kernel {
    fn var(&self, i: usize) -> Expr {
        Expr::new(ExprKind::Var(self.vars[i]), DType::I64)
    }

    fn copy(&self, to: &[Expr], from: &[Expr]) -> Stmt {
        let value = Expr::new(ExprKind::Load(self.x, from.to_vec()), DType::F32);
        Stmt::Store { buffer: self.y, indices: to.to_vec(), value }
    }

    /// The statement inside loops of these extents, the first of which is the tiles.
    fn nest(mut self, extents: &[i64], body: Stmt) -> Kernel {
        let nested = extents.iter().enumerate().rev().fold(body, |body, (i, &n)| Stmt::For {
            var: self.vars[i],
            extent: Expr::int(n),
            kind: if i == 0 { LoopKind::Tiles } else { LoopKind::Serial },
            body: Box::new(body),
        });
        self.func.body = nested;
        crate::tir::verify::verify(&self.func).expect("a valid kernel");
        self
    }

    fn segments(&self) -> Segments {
        segments(&self.func).expect("scheduled")
    }

    fn independent(&self) -> bool {
        self.segments().independent(&self.func) == TilesIndependent::Proved
    }

    fn in_place(&self) -> bool {
        self.segments().in_place(&self.func, self.x, self.y).is_ok()
    }
}

#[test]
fn chunks_of_a_vector() {
    let k = kernel(&[10], 1);
    let at = k.var(0) * 4 + k.var(1);
    let guarded = Stmt::If {
        cond: at.clone().lt(10),
        then: Box::new(k.copy(std::slice::from_ref(&at), std::slice::from_ref(&at))),
        els: None,
    };
    let k = k.nest(&[3, 4], guarded);
    assert!(k.independent() && k.in_place());
    assert_eq!(k.segments().of_tile(&k.func, k.y, true, 1), Some((4, 7)));
    assert_eq!(k.segments().of_tile(&k.func, k.y, true, 2), Some((8, 9)));
    assert_eq!(k.segments().whole(&k.func, k.x, false), Some((0, 9)));
}

#[test]
fn overlapping_windows() {
    let k = kernel(&[12], 1);
    let at = k.var(0) * 3 + k.var(1);
    let body = k.copy(std::slice::from_ref(&at), std::slice::from_ref(&at));
    let k = k.nest(&[3, 4], body);
    assert!(!k.independent());
}

#[test]
fn a_flat_loop_over_rows() {
    // y[f // 6, f % 6] with f = tile * 4 + i: neither dimension is affine, the offset is.
    let k = kernel(&[4, 6], 1);
    let f = k.var(0) * 4 + k.var(1);
    let at = [f.clone().floor_div(6), f.floor_mod(6)];
    let body = k.copy(&at, &at);
    let k = k.nest(&[6, 4], body);
    assert!(k.independent() && k.in_place());
}

#[test]
fn a_grid_of_blocks() {
    let k = kernel(&[8, 6], 2);
    let row = k.var(0).floor_div(3) * 2 + k.var(1);
    let column = k.var(0).floor_mod(3) * 2 + k.var(2);
    let body = k.copy(&[row.clone(), column.clone()], &[row, column]);
    let k = k.nest(&[12, 2, 2], body);
    assert!(k.independent() && k.in_place());
}

#[test]
fn columns_and_transposes() {
    let k = kernel(&[5, 8], 2);
    let (row, column) = (k.var(1), k.var(0) * 2 + k.var(2));
    let body = k.copy(&[row.clone(), column.clone()], &[row, column]);
    let k = k.nest(&[4, 5, 2], body);
    assert!(k.independent() && k.in_place());

    let k = kernel(&[6, 6], 1);
    let body = k.copy(&[k.var(0), k.var(1)], &[k.var(1), k.var(0)]);
    let k = k.nest(&[6, 6], body);
    assert!(k.independent() && !k.in_place());
}

#[test]
fn reading_after_writing_is_not_in_place() {
    // One tile that reverses: no other tile interferes, but the order matters.
    let k = kernel(&[6], 1);
    let body = k.copy(&[k.var(1)], &[Expr::int(5) - k.var(1)]);
    let k = k.nest(&[1, 6], body);
    assert!(k.independent() && !k.in_place());

    // The same element again and again.
    let k = kernel(&[6], 2);
    let body = k.copy(&[k.var(1)], &[k.var(1)]);
    let k = k.nest(&[1, 6, 3], body);
    assert!(!k.in_place());
}

#[test]
fn a_grid_of_many_tiles() {
    // Three matrices of 40 x 33 tiles of 4 x 8, more than are compared one by one.
    let shape = [3, 160, 264];
    let at =
        |k: &Kernel, [matrix, row, column]: [Expr; 3]| [matrix, row * 4 + k.var(1), column * 8 + k.var(2)];
    let k = kernel(&shape, 2);
    let t = k.var(0);
    let places =
        |t: Expr| [t.clone().floor_div(1320), t.clone().floor_div(33).floor_mod(40), t.floor_mod(33)];
    let to = at(&k, places(t));
    let body = k.copy(&to, &to);
    let k = k.nest(&[3960, 4, 8], body);
    assert!(k.independent() && k.in_place());
    // Tiles 1200 apart write the same rows and columns, and mostly the same matrix.
    let k = kernel(&shape, 2);
    let t = k.var(0);
    let to = at(&k, [t.clone().floor_div(1320), t.clone().floor_div(30).floor_mod(40), t.floor_mod(30)]);
    let body = k.copy(&to, &to);
    assert!(!k.nest(&[3960, 4, 8], body).independent());
    // Nothing says which matrix it is.
    let k = kernel(&shape, 2);
    let t = k.var(0);
    let to = at(&k, [Expr::int(0), t.clone().floor_div(33).floor_mod(40), t.floor_mod(33)]);
    let body = k.copy(&to, &to);
    assert!(!k.nest(&[3960, 4, 8], body).independent());
}
