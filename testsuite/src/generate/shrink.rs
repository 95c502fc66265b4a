//! Making a failing program small.

use fermata_ir::expr::{Callee, Expr, ExprId, GlobalId, Module};
use fermata_ir::infer::infer_module;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::Type;
use fermata_ir::verify::verify;
use fermata_ir::walk;

use super::Program;

/// The most candidates that are tried.
const MAX_TRIES: usize = 4000;

/// A smaller program that still fails.
///
/// Tries, as long as something succeeds: a part of the program as its whole result, an operand
/// or zeros in place of an expression of the same type, a let's value in place of its variable,
/// a function's body in place of a call; and drops unused parameters and functions.
pub fn shrink(program: &Program, fails: &mut dyn FnMut(&Program) -> bool) -> Program {
    let mut best = program.clone();
    let mut steps = candidates(&best.module);
    // Where the last success was, the next is likely: going on from there instead of starting
    // over keeps the number of tries near the number of steps.
    let (mut at, mut failed, mut tries) = (0, 0, 0);
    while failed < steps.len() && tries < MAX_TRIES {
        at %= steps.len();
        let smaller = apply(&best, &steps[at]);
        tries += usize::from(smaller.is_some());
        match smaller.filter(|smaller| fails(smaller)) {
            Some(smaller) => {
                best = smaller;
                steps = candidates(&best.module);
                failed = 0;
            }
            None => {
                at += 1;
                failed += 1;
            }
        }
    }
    best
}

/// A step towards a smaller program.
enum Candidate {
    /// Only the functions that `@main` may call.
    DropUncalled,
    /// An expression as the result of `@main`.
    Result(ExprId),
    /// One expression in place of another of the same type.
    Replace(ExprId, ExprId),
    /// Zeros in place of an expression.
    Zeros(ExprId),
    /// The value of a let in place of its variable.
    Unlet(ExprId),
    /// The body of a function, under lets of its parameters, in place of a call.
    Inline(ExprId),
}

/// Steps in the order in which they promise most.
fn candidates(module: &Module) -> Vec<Candidate> {
    let Some(main) = module.global("main").and_then(|g| module.globals[g].func.as_ref()) else {
        return Vec::new();
    };
    let order = walk::reachable(module);
    let whole = walk::post_order_in_scope(module, main.body);
    let is_data = |id: ExprId| matches!(module.types[id], Type::Tensor(_) | Type::Tuple(_));
    let results = whole.iter().copied().filter(|&id| id != main.body && is_data(id)).map(Candidate::Result);
    let replaced = order.iter().rev().flat_map(|&id| {
        let operands = walk::children(&module.exprs[id]).into_iter();
        let same = operands.filter(move |&op| module.types[op] == module.types[id]);
        same.map(move |op| Candidate::Replace(id, op))
    });
    let zeros = order.iter().rev().copied().filter(|&id| {
        let leaf = matches!(module.exprs[id], Expr::Const(_));
        !leaf && module.types[id].as_tensor().is_some()
    });
    let structure = order.iter().filter_map(|&id| match &module.exprs[id] {
        Expr::Let { .. } => Some(Candidate::Unlet(id)),
        Expr::Call(call) if matches!(call.callee, Callee::Expr(_)) => Some(Candidate::Inline(id)),
        _ => None,
    });
    let first = std::iter::once(Candidate::DropUncalled).filter(|_| !uncalled(module).is_empty());
    first.chain(results).chain(structure).chain(replaced).chain(zeros.map(Candidate::Zeros)).collect()
}

/// The program after one step, if it is well formed and not the same.
fn apply(program: &Program, candidate: &Candidate) -> Option<Program> {
    let mut module = program.module.clone();
    let main = module.global("main")?;
    match *candidate {
        Candidate::DropUncalled => drop_functions(&mut module),
        Candidate::Result(id) => {
            let ty = module.types[id].clone();
            let func = module.globals[main].func.as_mut()?;
            func.body = id;
            func.ret = ty;
        }
        Candidate::Replace(old, new) => replace(&mut module, old, new),
        Candidate::Zeros(old) => {
            let ty = module.types[old].as_tensor()?;
            let zeros = Tensor::zeros(ty.dtype, &ty.static_shape()?).ok()?;
            let new = module.constant(zeros);
            replace(&mut module, old, new);
        }
        Candidate::Unlet(id) => unlet(&mut module, id)?,
        Candidate::Inline(id) => inline(&mut module, id)?,
    }
    let inputs = drop_unused(&mut module, &program.inputs)?;
    module.compact();
    infer_module(&mut module).ok()?;
    verify(&module).ok()?;
    Some(Program { module, inputs })
}

fn replace(module: &mut Module, old: ExprId, new: ExprId) {
    walk::rewrite_module(module, &mut |_, id| (id == old).then_some(new));
}

fn unlet(module: &mut Module, id: ExprId) -> Option<()> {
    let Expr::Let { var, value, body } = module.exprs[id] else { return None };
    replace(module, id, body);
    walk::rewrite_module(module, &mut |m, read| (m.exprs[read] == Expr::Var(var)).then_some(value));
    Some(())
}

fn inline(module: &mut Module, id: ExprId) -> Option<()> {
    let Expr::Call(call) = module.exprs[id].clone() else { return None };
    let Callee::Expr(callee) = call.callee else { return None };
    let func = match &module.exprs[callee] {
        Expr::Func(func) => (**func).clone(),
        Expr::Global(global) => module.globals[*global].func.clone()?,
        _ => return None,
    };
    let idle = uncalled(module);
    let params = func.params.iter().zip(&call.args).rev();
    let new = params.fold(func.body, |body, (&var, &value)| module.add(Expr::Let { var, value, body }));
    replace(module, id, new);
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

fn drop_functions(module: &mut Module) {
    uncalled(module).into_iter().for_each(|id| module.globals[id].func = None);
}

/// Drops unused parameters of `@main`; gives the inputs that are left.
fn drop_unused(module: &mut Module, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
    let main = module.global("main")?;
    let func = module.globals[main].func.as_mut()?;
    let body = func.body;
    let params = std::mem::take(&mut func.params);
    let order = walk::post_order(module, &[body]);
    let read = |var| order.iter().any(|&id| module.exprs[id] == Expr::Var(var));
    let (left, inputs) = params.into_iter().zip(inputs.iter().cloned()).filter(|&(p, _)| read(p)).unzip();
    module.globals[main].func.as_mut()?.params = left;
    Some(inputs)
}
