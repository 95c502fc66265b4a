//! Making a program small that fails some check: delta debugging over its expressions.
//!
//! Whole chunks first, halving them where a chunk cannot go, then single expressions: a part of
//! the program as its result; fresh parameters, operands of equal type or zeros in place of
//! calls; values in place of let variables; bodies in place of calls; smaller sizes. Every
//! candidate is inferred and verified before it is checked, the order is fixed, and every step
//! leaves less, so the outcome is the same each time and the work ends.

mod edit;
mod sizes;

use fermata_ir::entity::EntitySet;
use fermata_ir::expr::{Callee, Expr, ExprId, Module};
use fermata_ir::types::Type;
use fermata_ir::walk;

use edit::{Edit, apply};

/// What may be done to the program.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Calls and large constants may become parameters of `@main`; else only zeros.
    pub fresh_params: bool,
    /// The sizes of dimensions may shrink.
    pub sizes: bool,
    /// The most candidates that are checked.
    pub max_checks: usize,
}

/// A program on the way.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The program: inferred and verified.
    pub module: Module,
    /// For each parameter of `@main`, which one of the first program's it was; `None` if it is new
    /// or has another type now.
    pub origins: Vec<Option<usize>>,
}

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Calls that are left.
    pub calls: usize,
    /// Candidates that were checked.
    pub checks: usize,
}

/// A smaller program that still fails, and how much work it was.
///
/// `fails` must hold for the program itself. Where `@main` is missing nothing is done.
///
/// # Errors
/// If `fails` gives one.
pub fn reduce<E>(
    module: &Module,
    options: &Options,
    fails: &mut dyn FnMut(&Candidate) -> Result<bool, E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Candidate, Progress), E> {
    let params = module.global("main").and_then(|g| module.globals[g].func.as_ref()).map(|f| f.params.len());
    let best = Candidate { module: module.clone(), origins: (0..params.unwrap_or(0)).map(Some).collect() };
    let mut work = Reducer { best, options, fails, progress, checks: 0 };
    work.run()?;
    let done = work.state();
    Ok((work.best, done))
}

/// The number of calls that the live functions reach.
pub fn count_calls(module: &Module) -> usize {
    let calls = walk::reachable(module).into_iter();
    calls.filter(|&id| matches!(module.exprs[id], Expr::Call(_))).count()
}

struct Reducer<'a, E> {
    best: Candidate,
    options: &'a Options,
    fails: &'a mut dyn FnMut(&Candidate) -> Result<bool, E>,
    progress: &'a mut dyn FnMut(Progress),
    checks: usize,
}

impl<E> Reducer<'_, E> {
    fn state(&self) -> Progress {
        Progress { calls: count_calls(&self.best.module), checks: self.checks }
    }

    /// Repeats all steps as long as one of them succeeds.
    fn run(&mut self) -> Result<(), E> {
        loop {
            let mut smaller = self.attempt(&Edit::DropUncalled)?;
            smaller |= self.result_by_halves()?;
            if self.options.fresh_params {
                smaller |= self.in_chunks(calls_of_main, Edit::Params)?;
            }
            smaller |= self.in_chunks(lets, Edit::Unlet)?;
            smaller |= self.in_chunks(same_typed_operands, Edit::Operands)?;
            // Where values may come in as parameters, a parameter is as good as zeros.
            let tensors = if self.options.fresh_params { computed_tensors } else { tensors };
            smaller |= self.in_chunks(tensors, Edit::Zeros)?;
            smaller |= self.one_by_one(inlinable, Edit::Inline)?;
            smaller |= self.in_chunks(result_fields, Edit::DropResults)?;
            smaller |= self.one_by_one(parts_of_main, Edit::Result)?;
            if self.options.fresh_params {
                smaller |= self.in_chunks(large_constants, Edit::Params)?;
            }
            if self.options.sizes {
                smaller |= self.one_by_one(sizes::steps, Edit::Size)?;
            }
            if !smaller || self.is_spent() {
                return Ok(());
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.checks >= self.options.max_checks
    }

    /// Keeps the program after a step if it still fails.
    fn attempt(&mut self, edit: &Edit) -> Result<bool, E> {
        let Some(candidate) = apply(&self.best, edit).filter(|_| !self.is_spent()) else { return Ok(false) };
        self.checks += 1;
        let fails = (self.fails)(&candidate)?;
        if fails {
            self.best = candidate;
        }
        let state = self.state();
        (self.progress)(state);
        Ok(fails)
    }

    /// Looks for an early call that fails as the result, by halves.
    fn result_by_halves(&mut self) -> Result<bool, E> {
        let mut smaller = false;
        loop {
            let calls = calls_of_main(&self.best.module);
            let (mut low, mut high) = (0, calls.len().saturating_sub(1));
            let mut found = None;
            while low < high {
                let middle = low + (high - low) / 2;
                let part = apply(&self.best, &Edit::Result(calls[middle])).filter(|_| !self.is_spent());
                self.checks += usize::from(part.is_some());
                match part {
                    Some(part) if (self.fails)(&part)? => {
                        found = Some(part);
                        high = middle;
                    }
                    Some(_) | None => low = middle + 1,
                }
            }
            let Some(candidate) = found else { return Ok(smaller) };
            self.best = candidate;
            let state = self.state();
            (self.progress)(state);
            smaller = true;
        }
    }

    /// Delta debugging: all items of a kind at once, then half of them at a time, and so on.
    fn in_chunks<T: Clone>(
        &mut self,
        items: fn(&Module) -> Vec<T>,
        edit: fn(Vec<T>) -> Edit,
    ) -> Result<bool, E> {
        let mut smaller = false;
        let mut size = items(&self.best.module).len();
        while size > 0 && !self.is_spent() {
            let mut at = 0;
            // What is left shifts to the front when a chunk goes, so the place stays.
            loop {
                let left = items(&self.best.module);
                if at >= left.len() {
                    break;
                }
                let chunk = left[at..(at + size).min(left.len())].to_vec();
                match self.attempt(&edit(chunk))? {
                    true => smaller = true,
                    false => at += size,
                }
            }
            size /= 2;
        }
        Ok(smaller)
    }

    /// Tries steps of a kind one after the other. Where the last success was, the next is likely:
    /// going on from there instead of starting over keeps the checks near the number of steps.
    fn one_by_one<T: Clone>(&mut self, items: fn(&Module) -> Vec<T>, edit: fn(T) -> Edit) -> Result<bool, E> {
        let mut smaller = false;
        let mut steps = items(&self.best.module);
        let (mut at, mut failed) = (0, 0);
        while failed < steps.len() && !self.is_spent() {
            at %= steps.len();
            if self.attempt(&edit(steps[at].clone()))? {
                smaller = true;
                steps = items(&self.best.module);
                failed = 0;
            } else {
                at += 1;
                failed += 1;
            }
        }
        Ok(smaller)
    }
}

/// What `@main` evaluates itself, operands first.
fn scope_of_main(module: &Module) -> Vec<ExprId> {
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    main.map_or_else(Vec::new, |func| walk::post_order_in_scope(module, func.body))
}

/// The result of `@main`.
fn result_of_main(module: &Module) -> Option<ExprId> {
    module.global("main").and_then(|g| module.globals[g].func.as_ref()).map(|func| func.body)
}

/// The calls in `@main` that give a tensor of known shape, operands first.
fn calls_of_main(module: &Module) -> Vec<ExprId> {
    let is_call = |&id: &ExprId| matches!(module.exprs[id], Expr::Call(_)) && is_static(module, id);
    scope_of_main(module).into_iter().filter(is_call).collect()
}

fn is_static(module: &Module, id: ExprId) -> bool {
    module.types[id].as_tensor().is_some_and(|t| t.static_shape().is_some())
}

/// Data in `@main` that could be its result, the smallest parts first.
fn parts_of_main(module: &Module) -> Vec<ExprId> {
    let result = result_of_main(module);
    let is_data = |id: ExprId| matches!(module.types[id], Type::Tensor(_) | Type::Tuple(_));
    scope_of_main(module).into_iter().filter(|&id| Some(id) != result && is_data(id)).collect()
}

/// The lets, inner ones first.
fn lets(module: &Module) -> Vec<ExprId> {
    let all = walk::reachable(module).into_iter();
    all.filter(|&id| matches!(module.exprs[id], Expr::Let { .. })).collect()
}

/// Expressions with an operand that could stand in their place, users first.
fn same_typed_operands(module: &Module) -> Vec<(ExprId, ExprId)> {
    let pairs = walk::reachable(module).into_iter().rev().flat_map(|id| {
        let operands = walk::children(&module.exprs[id]).into_iter();
        let is_scope = matches!(module.exprs[id], Expr::Let { .. } | Expr::Func(_) | Expr::Match { .. });
        let same = move |&op: &ExprId| !is_scope && module.types[op] == module.types[id];
        operands.filter(same).map(move |op| (id, op))
    });
    pairs.collect()
}

/// What is not a constant already and could be zeros, users first.
fn tensors(module: &Module) -> Vec<ExprId> {
    let all = walk::reachable(module).into_iter().rev();
    all.filter(|&id| !matches!(module.exprs[id], Expr::Const(_)) && is_static(module, id)).collect()
}

/// Of [`tensors`] those that are no variables.
fn computed_tensors(module: &Module) -> Vec<ExprId> {
    tensors(module).into_iter().filter(|&id| !matches!(module.exprs[id], Expr::Var(_))).collect()
}

/// Calls of functions.
fn inlinable(module: &Module) -> Vec<ExprId> {
    let is_call = |id: &ExprId| match &module.exprs[*id] {
        Expr::Call(call) => matches!(call.callee, Callee::Expr(_)),
        _ => false,
    };
    walk::reachable(module).into_iter().filter(is_call).collect()
}

/// The places of the fields of the result, if it is a tuple of several.
fn result_fields(module: &Module) -> Vec<u32> {
    match result_of_main(module).map(|id| &module.exprs[id]) {
        Some(Expr::Tuple(fields)) if fields.len() > 1 => (0..fields.len() as u32).collect(),
        _ => Vec::new(),
    }
}

/// Constants of `@main` that a text would not show.
fn large_constants(module: &Module) -> Vec<ExprId> {
    let mut seen = EntitySet::new();
    let is_large = |id: &ExprId| match module.exprs[*id] {
        Expr::Const(c) => module.consts[c].tensor.len() > LARGE && seen.insert(*id),
        _ => false,
    };
    scope_of_main(module).into_iter().filter(is_large).collect()
}

/// Constants of more elements do not stand in the text.
const LARGE: usize = 16;

#[cfg(test)]
mod tests;
