//! What the interpretation leaves behind: steps that nothing needs, cells that nothing reads.

use std::collections::BTreeSet;

use fermata_ir::expr::{Expr, Module, VarId};
use fermata_ir::walk;

use crate::relay::dead_code::drop_dead_lets;
use crate::relay::rewrite::rebuild_functions;

/// Drops dead lets, then cells that are only written, then what only those needed.
pub fn tidy(module: &mut Module) {
    drop_dead_lets(module, false, &mut |_, _| true);
    let cells = written_only(module);
    if cells.is_empty() {
        return;
    }
    rebuild_functions(module, |module, _, new| {
        let Expr::Let { var, value, body } = module.exprs[new] else { return new };
        let idle = match module.exprs[value] {
            Expr::Ref(_) => cells.contains(&var),
            Expr::RefWrite { cell, .. } => is_one_of(module, cell, &cells),
            _ => false,
        };
        if idle { body } else { new }
    });
    drop_dead_lets(module, false, &mut |_, _| true);
}

fn is_one_of(module: &Module, expr: fermata_ir::expr::ExprId, vars: &BTreeSet<VarId>) -> bool {
    matches!(module.exprs[expr], Expr::Var(var) if vars.contains(&var))
}

/// Variables bound to new cells that are used for nothing but writing, with results that nothing uses.
fn written_only(module: &Module) -> BTreeSet<VarId> {
    let (mut cells, mut results) = (BTreeSet::new(), Vec::new());
    let mut read: BTreeSet<VarId> = BTreeSet::new();
    let variable = |expr| match module.exprs[expr] {
        Expr::Var(var) => Some(var),
        _ => None,
    };
    let order = walk::reachable(module);
    for &expr in &order {
        match &module.exprs[expr] {
            Expr::Let { var, value, body } => {
                match module.exprs[*value] {
                    Expr::Ref(_) => drop(cells.insert(*var)),
                    Expr::RefWrite { cell, .. } => results.push((*var, variable(cell))),
                    _ => read.extend(variable(*value)),
                }
                read.extend(variable(*body));
            }
            // The use as a cell is the one that does not count.
            Expr::RefWrite { value, .. } => read.extend(variable(*value)),
            other => walk::for_each_child(other, |child| read.extend(variable(child))),
        }
    }
    let bodies = module.functions();
    read.extend(bodies.iter().filter_map(|(_, func)| variable(func.body)));
    let needed: Vec<VarId> =
        results.iter().filter(|(r, _)| read.contains(r)).filter_map(|(_, c)| *c).collect();
    cells.into_iter().filter(|cell| !read.contains(cell) && !needed.contains(cell)).collect()
}
