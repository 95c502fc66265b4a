//! One step towards a smaller program.

use std::collections::{BTreeMap, BTreeSet};

use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Args, Callee, Expr, ExprId, Function, GlobalId, Module, VarId};
use fermata_ir::infer::infer_module;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::Type;
use fermata_ir::verify::verify;
use fermata_ir::walk;

use super::Candidate;
use super::sizes::{self, Resize};
use crate::relay::rewrite::rebuild;

/// A step.
pub(super) enum Edit {
    /// Only the functions that `@main` may call.
    DropUncalled,
    /// An expression as the result of `@main`.
    Result(ExprId),
    /// The result of `@main` without these fields; without any it is no step.
    DropResults(Vec<u32>),
    /// Fresh parameters of `@main` in place of these.
    Params(Vec<ExprId>),
    /// For each expression, of several operands the first, in its place.
    Operands(Vec<(ExprId, ExprId)>),
    /// Zeros in place of these.
    Zeros(Vec<ExprId>),
    /// The values of lets in place of their variables.
    Unlet(Vec<ExprId>),
    /// The body of a function, under lets of its parameters, in place of a call.
    Inline(ExprId),
    /// Another size of dimensions.
    Size(Resize),
}

/// The program after a step, if it is well formed.
pub(super) fn apply(program: &Candidate, edit: &Edit) -> Option<Candidate> {
    let mut module = program.module.clone();
    let mut origins = program.origins.clone();
    match edit {
        Edit::DropUncalled => {
            let uncalled = uncalled(&module);
            if uncalled.is_empty() {
                return None;
            }
            uncalled.into_iter().for_each(|id| module.globals[id].func = None);
        }
        Edit::Result(id) => set_result(&mut module, *id)?,
        Edit::DropResults(dropped) => drop_results(&mut module, dropped)?,
        Edit::Params(ids) => fresh_params(&mut module, &mut origins, ids)?,
        Edit::Operands(pairs) => {
            let mut operands = BTreeMap::new();
            for &(id, operand) in pairs {
                operands.entry(id).or_insert(operand);
            }
            substitute(&mut module, |_, old, stands| operands.get(&old).and_then(|&op| stands[op]));
        }
        Edit::Zeros(ids) => {
            let ids: BTreeSet<ExprId> = ids.iter().copied().collect();
            substitute(&mut module, |module, old, _| {
                ids.contains(&old).then(|| zeros(module, old)).flatten()
            });
        }
        Edit::Unlet(ids) => unlet(&mut module, ids),
        Edit::Inline(id) => inline(&mut module, *id)?,
        Edit::Size(resize) => sizes::resize(&mut module, &mut origins, resize)?,
    }
    drop_unused(&mut module, &mut origins)?;
    module.compact();
    number(&mut module);
    infer_module(&mut module).ok()?;
    verify(&module).ok()?;
    Some(Candidate { module, origins })
}

/// What stands for each old expression.
type Stands = SecondaryMap<ExprId, Option<ExprId>>;

/// Rebuilds every function with `f(module, old, what stands for the operands)` in place of what
/// it gives something for, which must have the same type.
fn substitute(module: &mut Module, mut f: impl FnMut(&mut Module, ExprId, &Stands) -> Option<ExprId>) {
    let mut stands = Stands::new();
    let bodies: Vec<(GlobalId, ExprId)> =
        module.functions().iter().map(|(id, func)| (*id, func.body)).collect();
    for (global, body) in bodies {
        let body = rebuild(module, body, &mut |module, old, new| {
            let stand = f(module, old, &stands).unwrap_or(new);
            stands[old] = Some(stand);
            stand
        });
        if let Some(func) = &mut module.globals[global].func {
            func.body = body;
        }
    }
}

fn zeros(module: &mut Module, id: ExprId) -> Option<ExprId> {
    let ty = module.types[id].as_tensor()?;
    let zeros = Tensor::zeros(ty.dtype, &ty.static_shape()?).ok()?;
    Some(module.constant(zeros))
}

fn set_result(module: &mut Module, id: ExprId) -> Option<()> {
    let ty = module.types[id].clone();
    let main = module.global("main")?;
    let func = module.globals[main].func.as_mut()?;
    func.body = id;
    func.ret = ty;
    // Names of results that are gone.
    func.attrs.shift_remove("outputs");
    Some(())
}

fn drop_results(module: &mut Module, dropped: &[u32]) -> Option<()> {
    let main = module.global("main")?;
    let body = module.globals[main].func.as_ref()?.body;
    let Expr::Tuple(fields) = &module.exprs[body] else { return None };
    let dropped: BTreeSet<u32> = dropped.iter().copied().collect();
    let left: Args = (0u32..).zip(fields).filter(|(i, _)| !dropped.contains(i)).map(|(_, &f)| f).collect();
    let body = match left[..] {
        [] => return None,
        [only] => only,
        _ => {
            let ty = Type::tuple(left.iter().map(|&f| module.types[f].clone()));
            let id = module.add(Expr::Tuple(left));
            module.types[id] = ty;
            id
        }
    };
    set_result(module, body)
}

/// Gives the parameters that were made here their numbers anew, for those between them may be gone.
fn number(module: &mut Module) {
    let Some(main) = module.global("main") else { return };
    let params = module.globals[main].func.as_ref().map(|f| f.params.clone()).unwrap_or_default();
    let is_number = |name: &str| name.chars().all(|c| c.is_ascii_digit());
    let ours = params.into_iter().filter(|&p| module.vars[p].name.strip_prefix(MADE).is_some_and(is_number));
    for (n, param) in ours.collect::<Vec<_>>().into_iter().enumerate() {
        module.vars[param].name = format!("{MADE}{n}").into();
    }
}

/// How the names of parameters begin that were made here.
const MADE: &str = "in_";

/// Replaces expressions of `@main` by parameters.
fn fresh_params(module: &mut Module, origins: &mut Vec<Option<usize>>, ids: &[ExprId]) -> Option<()> {
    let main = module.global("main")?;
    let mut taken: BTreeSet<String> = module.vars.values().map(|v| v.name.to_string()).collect();
    let mut reads = BTreeMap::new();
    for &id in ids {
        let name = (0..).map(|n| format!("{MADE}{n}")).find(|name| taken.insert(name.clone()))?;
        let ty = module.types[id].clone();
        let var = module.var(name, ty.clone());
        let read = module.add_like(Expr::Var(var), id);
        module.types[read] = ty;
        reads.insert(id, (var, read));
    }
    substitute(module, |_, old, _| reads.get(&old).map(|&(_, read)| read));
    let func = module.globals[main].func.as_mut()?;
    for (var, _) in reads.into_values() {
        func.params.push(var);
        origins.push(None);
    }
    Some(())
}

fn unlet(module: &mut Module, ids: &[ExprId]) {
    let ids: BTreeSet<ExprId> = ids.iter().copied().collect();
    let mut values: BTreeMap<VarId, ExprId> = BTreeMap::new();
    for &id in &ids {
        if let Expr::Let { var, value, .. } = module.exprs[id] {
            values.insert(var, value);
        }
    }
    // A value comes before the scope in which its variable is read; a function that reads its own
    // variable keeps it, and so is refused by the verifier.
    substitute(module, |module, old, stands| match module.exprs[old] {
        Expr::Var(var) => values.get(&var).and_then(|&value| stands[value]),
        Expr::Let { body, .. } if ids.contains(&old) => stands[body],
        _ => None,
    });
}

fn inline(module: &mut Module, id: ExprId) -> Option<()> {
    let Expr::Call(call) = module.exprs[id].clone() else { return None };
    let Callee::Expr(callee) = call.callee else { return None };
    let func: Function = match &module.exprs[callee] {
        Expr::Func(func) => (**func).clone(),
        Expr::Global(global) => module.globals[*global].func.clone()?,
        _ => return None,
    };
    let idle = uncalled(module);
    let params = func.params.iter().zip(&call.args).rev();
    let new = params.fold(func.body, |body, (&var, &value)| module.add(Expr::Let { var, value, body }));
    walk::rewrite_module(module, &mut |_, at| (at == id).then_some(new));
    // The body must not stay in two places.
    let newly: Vec<GlobalId> = uncalled(module).into_iter().filter(|g| !idle.contains(g)).collect();
    newly.into_iter().for_each(|g| module.globals[g].func = None);
    Some(())
}

/// The functions that `@main` does not call, directly or through others.
fn uncalled(module: &Module) -> Vec<GlobalId> {
    let mut called: Vec<GlobalId> = module.global("main").into_iter().collect();
    let mut at = 0;
    while let Some(&global) = called.get(at) {
        at += 1;
        let Some(func) = &module.globals[global].func else { continue };
        for id in walk::post_order(module, &[func.body]) {
            if let Expr::Global(callee) = module.exprs[id]
                && !called.contains(&callee)
            {
                called.push(callee);
            }
        }
    }
    module.functions().into_iter().map(|(id, _)| id).filter(|id| !called.contains(id)).collect()
}

/// Drops the parameters of `@main` that nothing reads.
fn drop_unused(module: &mut Module, origins: &mut Vec<Option<usize>>) -> Option<()> {
    let main = module.global("main")?;
    let body = module.globals[main].func.as_ref()?.body;
    let order = walk::post_order(module, &[body]);
    let read: BTreeSet<VarId> = order
        .iter()
        .filter_map(|&id| match module.exprs[id] {
            Expr::Var(var) => Some(var),
            _ => None,
        })
        .collect();
    let func = module.globals[main].func.as_mut()?;
    let kept = func.params.iter().map(|p| read.contains(p)).collect::<Vec<_>>();
    let mut keep = kept.iter();
    func.params.retain(|_| keep.next().copied().unwrap_or(true));
    let mut keep = kept.iter();
    origins.retain(|_| keep.next().copied().unwrap_or(true));
    Some(())
}
