//! Rewriting: a new program that shares with the old one whatever did not change.

use std::collections::HashMap;

use super::for_each_child;
use crate::expr::{Args, Callee, Expr, ExprId, Module};

/// The expression with every direct operand mapped, or `None` if none of them changed.
pub fn map_children(expr: &Expr, mut f: impl FnMut(ExprId) -> ExprId) -> Option<Expr> {
    let mut mapped = Args::new();
    let mut changed = false;
    for_each_child(expr, |child| {
        let new = f(child);
        changed |= new != child;
        mapped.push(new);
    });
    // Most expressions stay as they are, and are not copied.
    changed.then(|| {
        let (mut new, mut mapped) = (expr.clone(), mapped.into_iter());
        for_each_child_mut(&mut new, |child| *child = mapped.next().unwrap_or(*child));
        new
    })
}

fn for_each_child_mut(expr: &mut Expr, mut f: impl FnMut(&mut ExprId)) {
    match expr {
        Expr::Var(_) | Expr::Global(_) | Expr::Const(_) | Expr::Op(_) | Expr::Ctor(_) => {}
        Expr::Call(call) => {
            match &mut call.callee {
                Callee::Expr(callee) => f(callee),
                Callee::Op(_) | Callee::Ctor(_) => {}
            }
            call.args.iter_mut().for_each(f);
        }
        Expr::Func(func) => f(&mut func.body),
        Expr::Let { value, body, .. } => {
            f(value);
            f(body);
        }
        Expr::If { cond, then, els } => {
            f(cond);
            f(then);
            f(els);
        }
        Expr::Tuple(fields) => fields.iter_mut().for_each(f),
        Expr::Proj { tuple, .. } => f(tuple),
        Expr::Match { value, clauses, .. } => {
            f(value);
            clauses.iter_mut().for_each(|clause| f(&mut clause.body));
        }
        Expr::Ref(value) => f(value),
        Expr::RefRead(cell) => f(cell),
        Expr::RefWrite { cell, value } => {
            f(cell);
            f(value);
        }
    }
}

/// Rewrites what `root` reaches from the operands up, and gives the new root.
///
/// A node whose operands were replaced becomes a new node with the old one's location; then
/// `f` sees it and may give another node in its place. What `f` gives is not visited again.
/// A node that neither changes keeps its id, and so its type. Every old node is seen once.
///
/// A new function or let binds the variables of the old one, so the old one must no longer be
/// part of the program; a replacement of another type than the original asks for resetting
/// [`crate::expr::Var::ty`] and [`crate::expr::Function::ret`] where they spoke of it.
pub fn rewrite(
    module: &mut Module,
    root: ExprId,
    f: &mut dyn FnMut(&mut Module, ExprId) -> Option<ExprId>,
) -> ExprId {
    rewrite_memo(module, root, &mut HashMap::new(), f)
}

/// Rewrites the body of every live global function; says whether anything changed.
pub fn rewrite_module(module: &mut Module, f: &mut dyn FnMut(&mut Module, ExprId) -> Option<ExprId>) -> bool {
    let mut memo = HashMap::new();
    let bodies: Vec<_> = module.functions().iter().map(|&(id, func)| (id, func.body)).collect();
    let mut changed = false;
    for (global, body) in bodies {
        let new = rewrite_memo(module, body, &mut memo, f);
        // The rewriter may itself have removed the function.
        if let Some(func) = module.globals[global].func.as_mut().filter(|_| new != body) {
            func.body = new;
            changed = true;
        }
    }
    changed
}

fn rewrite_memo(
    module: &mut Module,
    root: ExprId,
    memo: &mut HashMap<ExprId, ExprId>,
    f: &mut dyn FnMut(&mut Module, ExprId) -> Option<ExprId>,
) -> ExprId {
    let mut stack = vec![(root, false)];
    while let Some((id, operands_done)) = stack.pop() {
        if memo.contains_key(&id) {
            continue;
        }
        if !operands_done {
            stack.push((id, true));
            let first = stack.len();
            for_each_child(&module.exprs[id], |child| {
                if !memo.contains_key(&child) {
                    stack.push((child, false));
                }
            });
            stack[first..].reverse();
            continue;
        }
        let mapped = map_children(&module.exprs[id], |child| memo.get(&child).copied().unwrap_or(child));
        let rebuilt = match mapped {
            Some(expr) => module.add_like(expr, id),
            None => id,
        };
        let new = f(module, rebuilt).unwrap_or(rebuilt);
        memo.insert(id, new);
    }
    memo[&root]
}
