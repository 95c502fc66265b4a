//! Traversal of TIR statements.

use std::collections::BTreeSet;

use fermata_ir::tir::{BufferId, Expr, ExprKind, PrimFunc, Scope, Stmt};

use super::inline::nodes;

/// Calls `expr` for every expression and `stmt` for every statement, outermost first.
pub fn visit(stmt: &Stmt, on_stmt: &mut dyn FnMut(&Stmt), on_expr: &mut dyn FnMut(&Expr)) {
    on_stmt(stmt);
    match stmt {
        Stmt::Seq(stmts) => stmts.iter().for_each(|s| visit(s, on_stmt, on_expr)),
        Stmt::For { extent, body, .. } => {
            on_expr(extent);
            visit(body, on_stmt, on_expr);
        }
        Stmt::Block(block) => {
            block.iters.iter().for_each(|i| on_expr(&i.binding));
            block.predicate.iter().for_each(&mut *on_expr);
            block.init.iter().for_each(|s| visit(s, on_stmt, on_expr));
            visit(&block.body, on_stmt, on_expr);
        }
        Stmt::Let { value, .. } => on_expr(value),
        Stmt::If { cond, then, els } => {
            on_expr(cond);
            visit(then, on_stmt, on_expr);
            els.iter().for_each(|s| visit(s, on_stmt, on_expr));
        }
        Stmt::Store { indices, value, .. } => {
            indices.iter().for_each(&mut *on_expr);
            on_expr(value);
        }
        Stmt::Intrin { regions, params, .. } => {
            let ranges = regions.iter().flat_map(|r| &r.ranges);
            ranges.for_each(|r| {
                on_expr(&r.min);
                on_expr(&r.extent);
            });
            params.iter().for_each(on_expr);
        }
        Stmt::Checkpoint | Stmt::Barrier => {}
    }
}

/// The global buffers that a statement reads, by loads or as regions of intrinsics, in order of id.
pub fn globals_read(stmt: &Stmt, func: &PrimFunc) -> Vec<BufferId> {
    let mut found = BTreeSet::new();
    let mut regions = BTreeSet::new();
    visit(
        stmt,
        &mut |s| {
            if let Stmt::Intrin { regions: all, .. } = s {
                regions.extend(all.iter().map(|r| r.buffer));
            }
        },
        &mut |e| {
            found.extend(nodes(e).iter().filter_map(|n| match n.kind() {
                ExprKind::Load(b, _) => Some(*b),
                _ => None,
            }));
        },
    );
    found.extend(regions);
    found.into_iter().filter(|&b| func.buffers[b].scope == Scope::Global).collect()
}
