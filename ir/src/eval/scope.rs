//! What is known of a function body before it is run: who uses what, and how often.

use std::collections::HashMap;

use crate::expr::{Expr, ExprId, Module, VarId};
use crate::walk;

/// The uses within one function body, not counting those inside nested functions.
#[derive(Default)]
pub(super) struct Scope {
    /// Nodes with more than one use: their values are kept until the last.
    shared: HashMap<ExprId, u32>,
    /// How often each variable is read; being captured is one read.
    vars: HashMap<VarId, u32>,
}

impl Scope {
    /// Counts the uses in `root`; `captures` gives the free variables of a function value.
    pub fn of(module: &Module, root: ExprId, mut captures: impl FnMut(ExprId) -> Vec<VarId>) -> Scope {
        let mut uses: HashMap<ExprId, u32> = HashMap::from([(root, 1)]);
        let order = walk::post_order_in_scope(module, root);
        for &id in &order {
            if !matches!(module.exprs[id], Expr::Func(_)) {
                walk::for_each_child(&module.exprs[id], |child| *uses.entry(child).or_default() += 1);
            }
        }
        let mut scope = Scope::default();
        for &id in &order {
            match module.exprs[id] {
                Expr::Var(var) => *scope.vars.entry(var).or_default() += uses[&id],
                Expr::Func(_) => {
                    captures(id).into_iter().for_each(|var| *scope.vars.entry(var).or_default() += 1);
                }
                _ => {}
            }
        }
        uses.retain(|_, count| *count > 1);
        scope.shared = uses;
        scope
    }

    /// How often a node's value is needed in one activation, at most.
    pub fn uses(&self, id: ExprId) -> u32 {
        self.shared.get(&id).copied().unwrap_or(1)
    }

    /// How often a variable is read in one activation, at most.
    pub fn var_uses(&self, var: VarId) -> u32 {
        self.vars.get(&var).copied().unwrap_or(0)
    }
}
