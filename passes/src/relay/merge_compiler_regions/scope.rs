//! Which expressions may stand together: the scope of each.

use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::walk;

use crate::relay::sparse::Sparse;

/// A scope, by its number: a function's body, a branch, an arm, or what follows a let.
struct Scope {
    parent: usize,
    depth: u32,
}

/// The innermost scope that all users of an expression stand in, for those in `order`, operands first.
pub(super) fn scopes(module: &Module, root: ExprId, order: &[ExprId]) -> Sparse<usize> {
    let mut all = vec![Scope { parent: 0, depth: 0 }];
    let mut of: Sparse<Option<usize>> = Sparse::default();
    of[root] = Some(0);
    for &expr in order.iter().rev() {
        let Some(scope) = of[expr] else { continue };
        for (index, child) in walk::children(&module.exprs[expr]).into_iter().enumerate() {
            let at = match opens(&module.exprs[expr], index) {
                true => {
                    all.push(Scope { parent: scope, depth: all[scope].depth + 1 });
                    all.len() - 1
                }
                false => scope,
            };
            of[child] = Some(of[child].map_or(at, |known| common(&all, known, at)));
        }
    }
    let mut scopes = Sparse::default();
    order.iter().for_each(|&e| scopes[e] = of[e].unwrap_or(0));
    scopes
}

fn common(all: &[Scope], mut a: usize, mut b: usize) -> usize {
    while a != b {
        if all[a].depth >= all[b].depth {
            a = all[a].parent;
        } else {
            b = all[b].parent;
        }
    }
    a
}

/// Whether an operand, by its number, stands in a scope of its own.
fn opens(expr: &Expr, index: usize) -> bool {
    match expr {
        Expr::Func(_) => true,
        Expr::Let { .. } | Expr::If { .. } | Expr::Match { .. } => index > 0,
        Expr::Var(_)
        | Expr::Global(_)
        | Expr::Const(_)
        | Expr::Op(_)
        | Expr::Ctor(_)
        | Expr::Call(_)
        | Expr::Tuple(_)
        | Expr::Proj { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => false,
    }
}
