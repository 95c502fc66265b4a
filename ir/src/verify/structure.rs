//! R1, R2 and R4: ids, cycles, binders, names.

use std::collections::BTreeSet;

use super::Report;
use crate::entity::{EntityRef, EntitySet, PrimaryMap, SecondaryMap};
use crate::expr::{Callee, CtorRef, Expr, ExprId, MatchPattern, VarId};
use crate::walk;

/// How far the search for cycles has come with an expression.
#[derive(Clone, Copy, Default, PartialEq)]
enum Visit {
    #[default]
    Not,
    Begun,
    Done,
}

/// R1: every id names an entry, and the operands form no cycle.
pub(super) fn ids(report: &mut Report<'_>) {
    let module = report.module;
    let mut visits: SecondaryMap<ExprId, Visit> = SecondaryMap::new();
    for (_, func) in module.functions() {
        if func.params.iter().any(|&p| !has(&module.vars, p)) || !has(&module.exprs, func.body) {
            report.general("R1", "a global function refers to what is not there");
            continue;
        }
        let mut stack = vec![(func.body, false)];
        while let Some((id, done)) = stack.pop() {
            if done {
                visits[id] = Visit::Done;
                continue;
            }
            match visits[id] {
                Visit::Done => continue,
                Visit::Begun => {
                    report.at("R1", id, "an expression is an operand of itself");
                    continue;
                }
                Visit::Not => visits[id] = Visit::Begun,
            }
            if !refers_to_entries(report, id) {
                report.at("R1", id, "an expression refers to what is not there");
            }
            stack.push((id, true));
            walk::for_each_child(&module.exprs[id], |child| {
                // What has been begun and is no ancestor has been done by the time it is popped.
                if has(&module.exprs, child) && visits[child] != Visit::Done {
                    stack.push((child, false));
                }
            });
        }
    }
}

fn has<K: EntityRef, V>(table: &PrimaryMap<K, V>, id: K) -> bool {
    table.is_valid(id)
}

fn refers_to_entries(report: &Report<'_>, id: ExprId) -> bool {
    let module = report.module;
    let expr = &module.exprs[id];
    let ctor = |c: CtorRef| module.adts.get(c.adt).is_some_and(|adt| (c.index as usize) < adt.ctors.len());
    let own = match expr {
        Expr::Var(var) => has(&module.vars, *var),
        Expr::Global(global) => module.globals.get(*global).is_some_and(|g| g.func.is_some()),
        Expr::Const(constant) => has(&module.consts, *constant),
        Expr::Ctor(c) => ctor(*c),
        Expr::Call(call) => match call.callee {
            Callee::Ctor(c) => ctor(c),
            Callee::Op(_) | Callee::Expr(_) => true,
        },
        Expr::Match { clauses, .. } => {
            clauses.iter().all(|c| pattern_ctors(&c.pattern).into_iter().all(ctor))
        }
        Expr::Op(_)
        | Expr::Func(_)
        | Expr::Let { .. }
        | Expr::If { .. }
        | Expr::Tuple(_)
        | Expr::Proj { .. }
        | Expr::Ref(_)
        | Expr::RefRead(_)
        | Expr::RefWrite { .. } => true,
    };
    own && walk::bound_vars(expr).into_iter().all(|var| has(&module.vars, var))
        && walk::children(expr).into_iter().all(|child| has(&module.exprs, child))
}

fn pattern_ctors(pattern: &MatchPattern) -> Vec<CtorRef> {
    let (mut found, mut stack) = (Vec::new(), vec![pattern]);
    while let Some(pattern) = stack.pop() {
        match pattern {
            MatchPattern::Wildcard | MatchPattern::Var(_) => {}
            MatchPattern::Tuple(fields) => stack.extend(fields),
            MatchPattern::Ctor(ctor, fields) => {
                found.push(*ctor);
                stack.extend(fields);
            }
        }
    }
    found
}

/// R2: every variable is bound at one place.
pub(super) fn binders(report: &mut Report<'_>, order: &[ExprId]) {
    let module = report.module;
    let mut bound: EntitySet<VarId> = EntitySet::new();
    for (_, func) in module.functions() {
        for &param in &func.params {
            if !bound.insert(param) {
                let name = &module.vars[param].name;
                report.general("R2", format!("parameter `%{name}` of a global function is bound twice"));
            }
        }
    }
    for &id in order {
        for var in walk::bound_vars(&module.exprs[id]) {
            if !bound.insert(var) {
                report.at("R2", id, format!("variable `%{}` is bound twice", module.vars[var].name));
            }
        }
    }
}

/// R4: names are unique.
pub(super) fn names(report: &mut Report<'_>) {
    let module = report.module;
    let globals = module.functions().into_iter().map(|(id, _)| &*module.globals[id].name);
    unique(report, "function", globals.collect());
    unique(report, "data type", module.adts.values().map(|adt| &*adt.name).collect());
    let ctors = module.adts.values().flat_map(|adt| &adt.ctors).map(|ctor| &*ctor.name);
    unique(report, "constructor", ctors.collect());
}

fn unique(report: &mut Report<'_>, what: &str, names: Vec<&str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            report.general("R4", format!("two {what}s are named `{name}`"));
        }
    }
}
