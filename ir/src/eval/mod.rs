//! The reference evaluator: the meaning of a program.
//!
//! Evaluation is call by value and in order: callee, arguments from left to right, then the
//! call; a let's value before its body; a condition before the one branch that is taken. A
//! shared node is evaluated once in an activation of the function that contains it, when it is
//! first needed; its value lives until its last use. Operators compute through their rows'
//! `eval`, with the result type that follows from the actual argument types, so a program with
//! unknown dimensions needs no shapes but those of its inputs.
//!
//! The evaluator keeps its own stack. A tail call replaces the activation it ends, so loops
//! written as tail calls run in constant space. What could run away is bounded by counts
//! ([`EvalOptions`]) and ends in a diagnostic.

mod apply;
mod machine;
mod scope;
mod value;

pub use value::{AdtValue, Closure, Value};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic};
use crate::expr::{ExprId, Module};
use crate::types::{Dim, Type};
use machine::Machine;

/// Limits of one evaluation.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// How many activations may be alive at once.
    pub max_depth: usize,
    /// How many steps may be taken, about one an expression.
    pub max_steps: u64,
    /// The most bytes that the result of one operator may occupy.
    pub max_bytes: usize,
}

impl Default for EvalOptions {
    fn default() -> EvalOptions {
        EvalOptions { max_depth: 100_000, max_steps: 1 << 28, max_bytes: 1 << 33 }
    }
}

/// Told of every value that an expression gives, in order of evaluation.
///
/// Variables, constants, lets and branches only pass on values and are not told of.
pub type Observer<'a> = dyn FnMut(ExprId, &Value) + 'a;

/// The result of a global function for these arguments.
///
/// # Errors
/// If there is no such function, the arguments do not fit its parameters, an operator fails on
/// its values, or a limit is reached.
pub fn eval_global(
    module: &Module,
    name: &str,
    args: Vec<Value>,
    options: &EvalOptions,
) -> Result<Value, Diagnostic> {
    run_global(module, name, args, options, None)
}

/// As [`eval_global`], with a look at intermediate values.
///
/// # Errors
/// As [`eval_global`].
pub fn eval_observed(
    module: &Module,
    name: &str,
    args: Vec<Value>,
    options: &EvalOptions,
    observer: &mut Observer<'_>,
) -> Result<Value, Diagnostic> {
    run_global(module, name, args, options, Some(observer))
}

fn run_global<'a>(
    module: &'a Module,
    name: &str,
    args: Vec<Value>,
    options: &'a EvalOptions,
    observer: Option<&'a mut Observer<'a>>,
) -> Result<Value, Diagnostic> {
    let unknown = || Diagnostic::error(Code::EVAL, format!("the program has no function `@{name}`"));
    let func = module.global(name).and_then(|g| module.globals[g].func.as_ref()).ok_or_else(unknown)?;
    check_arguments(module, name, &func.params, &args)?;
    let mut machine = Machine::new(module, options, observer);
    machine.start(func.body, func.params.iter().copied().zip(args));
    machine.run()
}

/// The value of an expression without free variables, for constant folding.
///
/// # Errors
/// If an operator fails on its values, a limit is reached, or a variable is free.
pub fn eval_expr(module: &Module, expr: ExprId) -> Result<Value, Diagnostic> {
    let options = EvalOptions::default();
    let mut machine = Machine::new(module, &options, None);
    machine.start(expr, []);
    machine.run()
}

fn check_arguments(
    module: &Module,
    name: &str,
    params: &[crate::expr::VarId],
    args: &[Value],
) -> Result<(), Diagnostic> {
    if params.len() != args.len() {
        let message = format!("`@{name}` takes {} arguments, {} are given", params.len(), args.len());
        return Err(Diagnostic::error(Code::EVAL, message));
    }
    let mut sizes = BTreeMap::new();
    for (&param, arg) in params.iter().zip(args) {
        let (var, found) = (&module.vars[param], arg.ty());
        if !accepts(&var.ty, &found, &mut sizes) {
            let message = format!("parameter `%{}` has type {}, the value has {found}", var.name, var.ty);
            return Err(Diagnostic::error(Code::EVAL, message));
        }
    }
    Ok(())
}

/// True if a parameter of one type takes a value of the other; equal names must be equal sizes.
fn accepts(param: &Type, value: &Type, sizes: &mut BTreeMap<Arc<str>, usize>) -> bool {
    match (param, value) {
        (Type::Tensor(p), Type::Tensor(v)) => {
            p.dtype == v.dtype
                && p.shape.len() == v.shape.len()
                && p.shape.iter().zip(&v.shape).all(|(p, v)| match (p, v.as_static()) {
                    (Dim::Any, _) | (_, None) => true,
                    (Dim::Static(n), Some(size)) => *n == size,
                    (Dim::Sym(name), Some(size)) => *sizes.entry(name.clone()).or_insert(size) == size,
                })
        }
        (Type::Tuple(p), Type::Tuple(v)) => {
            p.len() == v.len() && p.iter().zip(v.iter()).all(|(p, v)| accepts(p, v, sizes))
        }
        // Values of other kinds do not carry their types.
        (_, Type::Unknown) | (Type::Unknown, _) => true,
        (
            Type::Tensor(_) | Type::Tuple(_) | Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_),
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests;
