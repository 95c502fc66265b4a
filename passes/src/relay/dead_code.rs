//! DeadCodeElimination: drops lets whose variable is not used and whose value does nothing else.
//!
//! An expression is pure unless it may run a stateful operator, touch a reference cell or
//! call a function that may. A function value that is not known is assumed to be impure, and
//! so is a recursive one, which might never return.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::diag::Diagnostics;
use fermata_ir::entity::{EntitySet, SecondaryMap};
use fermata_ir::expr::{Callee, Expr, ExprId, GlobalId, Module, VarId};
use fermata_ir::op::Purity;
use fermata_ir::walk::{self, CallGraph};

use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "dead_code",
    relay_name: "DeadCodeElimination",
    level: 1,
    doc: "drop pure lets that nothing uses",
    options: &[
        OptionDef {
            name: "ignore_impurity",
            doc: "drop unused lets even if they may have effects",
            default: OptionValue::Bool(false),
        },
        OptionDef {
            name: "inline_once",
            doc: "put pure values that are used once where they are used, unless that is in another function",
            default: OptionValue::Bool(false),
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let ignore = context.bool("ignore_impurity");
    let dropped = drop_dead_lets(module, ignore, &mut |module, value| {
        context.fire("drop a let that nothing reads", module, value)
    });
    let inlined = if context.bool("inline_once") { inline_once(module, context) } else { Outcome::Unchanged };
    Ok(if inlined == Outcome::Changed { inlined } else { dropped })
}

/// Drops lets that nothing reads, if `may` says so of their values; those that act only if that is
/// to be ignored.
pub(super) fn drop_dead_lets(
    module: &mut Module,
    ignore: bool,
    may: &mut dyn FnMut(&Module, ExprId) -> bool,
) -> Outcome {
    let purity = Purities::of(module);
    let acts = |value| !ignore && !purity.is_pure(value);
    let live = Live::of(module, acts);
    // An inner let comes before the outer one whose scope it stands in: where fuel ends, whatever
    // uses a variable that stays bound does no harm.
    let mut dead: BTreeSet<ExprId> = BTreeSet::new();
    for expr in walk::reachable(module) {
        let Expr::Let { var, value, .. } = module.exprs[expr] else { continue };
        let idle = live.exprs.contains(expr) && !live.vars.contains(var) && !acts(value);
        if idle && may(module, value) {
            dead.insert(expr);
        }
    }
    match dead.is_empty() {
        true => Outcome::Unchanged,
        false => rebuild_functions(module, |module, old, new| match module.exprs[new] {
            Expr::Let { body, .. } if dead.contains(&old) => body,
            _ => new,
        }),
    }
}

/// Puts pure values that are used once in the place of their use.
fn inline_once(module: &mut Module, context: &mut PassContext) -> Outcome {
    let purity = Purities::of(module);
    let mut uses: SecondaryMap<VarId, u32> = SecondaryMap::new();
    let mut captured: BTreeSet<VarId> = BTreeSet::new();
    let counts = super::rewrite::use_counts(module);
    let reachable = walk::reachable(module);
    for &expr in &reachable {
        match &module.exprs[expr] {
            Expr::Var(var) => uses[*var] += counts[expr],
            Expr::Func(func) => captured.extend(walk::free_vars_of(module, func)),
            _ => {}
        }
    }
    let mut binders: BTreeMap<ExprId, VarId> = BTreeMap::new();
    for expr in reachable {
        let Expr::Let { var, value, .. } = module.exprs[expr] else { continue };
        let once = uses[var] == 1 && !captured.contains(&var) && counts[value] == 1;
        if once && purity.is_pure(value) && context.fire("put a value where it is used once", module, value) {
            binders.insert(value, var);
        }
    }
    let mut known: BTreeMap<VarId, ExprId> = BTreeMap::new();
    rebuild_functions(module, |module, old, new| {
        let new = match module.exprs[new] {
            Expr::Var(var) => known.get(&var).copied().unwrap_or(new),
            Expr::Let { var, body, .. } if known.contains_key(&var) => body,
            _ => new,
        };
        known.extend(binders.get(&old).map(|&var| (var, new)));
        new
    })
}

/// What the results of the functions and the effects on the way to them need.
struct Live {
    exprs: EntitySet<ExprId>,
    vars: EntitySet<VarId>,
}

impl Live {
    /// Marks from the functions' bodies on. A let's value is marked once its variable is, or at
    /// once if it `acts`; so a use in a value that nothing needs keeps nothing alive, and neither
    /// does the use that a recursive function makes of itself.
    fn of(module: &Module, acts: impl Fn(ExprId) -> bool) -> Live {
        let mut live = Live { exprs: EntitySet::new(), vars: EntitySet::new() };
        let mut waiting: SecondaryMap<VarId, Option<ExprId>> = SecondaryMap::new();
        let mut stack: Vec<ExprId> = module.functions().iter().map(|(_, func)| func.body).collect();
        while let Some(expr) = stack.pop() {
            if !live.exprs.insert(expr) {
                continue;
            }
            match module.exprs[expr] {
                Expr::Let { var, value, body } => {
                    stack.push(body);
                    match live.vars.contains(var) || acts(value) {
                        true => stack.push(value),
                        false => waiting[var] = Some(value),
                    }
                }
                Expr::Var(var) => {
                    live.vars.insert(var);
                    stack.extend(waiting[var].take());
                }
                _ => stack.extend(walk::children(&module.exprs[expr])),
            }
        }
        live
    }
}

/// Which expressions may have an effect when they are evaluated.
pub(super) struct Purities {
    impure: SecondaryMap<ExprId, bool>,
}

impl Purities {
    pub(super) fn of(module: &Module) -> Purities {
        let CallGraph { callees_first, recursive: mut impure_globals } = CallGraph::of(module);
        let mut impure: SecondaryMap<ExprId, bool> = SecondaryMap::new();
        let mut walk = walk::Walk::default();
        for global in callees_first {
            let Some(func) = &module.globals[global].func else { continue };
            for expr in walk.post_order(module, func.body, |_| true) {
                impure[expr] = has_effect(module, expr, &impure, &impure_globals);
            }
            if impure[func.body] {
                impure_globals.insert(global);
            }
        }
        Purities { impure }
    }

    pub(super) fn is_pure(&self, expr: ExprId) -> bool {
        !self.impure[expr]
    }
}

fn has_effect(
    module: &Module,
    expr: ExprId,
    impure: &SecondaryMap<ExprId, bool>,
    impure_globals: &BTreeSet<GlobalId>,
) -> bool {
    match &module.exprs[expr] {
        // Making a function runs nothing of it.
        Expr::Func(_) => false,
        Expr::RefRead(_) | Expr::RefWrite { .. } => true,
        Expr::Call(call) => {
            let callee = match call.callee {
                Callee::Op(op) => op.purity == Purity::Stateful,
                Callee::Ctor(_) => false,
                Callee::Expr(callee) => match &module.exprs[callee] {
                    Expr::Func(func) => impure[func.body],
                    Expr::Global(global) => impure_globals.contains(global),
                    Expr::Op(op) => op.purity == Purity::Stateful,
                    _ => true,
                },
            };
            callee || call.args.iter().any(|&a| impure[a])
        }
        other => walk::children(other).iter().any(|&c| impure[c]),
    }
}
