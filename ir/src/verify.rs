//! The verifier: what a well-formed program is. After it, nothing panics.
//!
//! The rules, of everything that a live global function reaches:
//!
//! * **R1** Every id names an entry of its table, constructors included, and no expression is
//!   an operand of itself, directly or through others: recursion is only through functions.
//! * **R2** Every variable is bound at one place: as a parameter, by a let, or by a pattern.
//! * **R3** Every use of a variable is inside the scope of its binder. A parameter's scope is
//!   the body, a let's the body and, if the value is a function, the value; a pattern's its arm.
//!   Global functions have no free variables.
//! * **R4** Names of live global functions are unique, so are those of data types and of
//!   constructors.
//! * **R5** Every expression, variable and function result has a type without unknown parts,
//!   and tensors in it respect the limits of rank and size.
//! * **R6** A call of an operator has as many arguments as the operator takes, and attributes
//!   that follow its schema.
//! * **R7** Every type is what the expression's operands give: an operator's what its row
//!   infers from the argument types, a projection's the field's, a variable's the binder's.
//! * **R8** A pattern gives every field of its constructor or tuple, and the constructor is one
//!   of the matched type's.
//! * **R9** A function marked `Primitive` is closed, and its body consists of calls of
//!   operators, tuples, projections, constants and its parameters.
//!
//! All violations are collected, up to a limit. Where R1 is broken nothing else is looked at.

mod primitive;
mod scope;
mod structure;
mod types;

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::expr::{ExprId, Module};
use crate::walk;

/// Proof that a module has been verified; code generation asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    _private: (),
}

/// More violations than this would not help anybody.
const MAX_VIOLATIONS: usize = 64;

/// Checks the rules.
///
/// # Errors
/// Every violation found.
pub fn verify(module: &Module) -> Result<Verified, Diagnostics> {
    let mut report = Report { module, violations: Vec::new() };
    structure::ids(&mut report);
    if report.violations.is_empty() {
        let order = walk::reachable(module);
        structure::binders(&mut report, &order);
        structure::names(&mut report);
        // Scopes mean something only if every variable has one binder.
        if report.violations.is_empty() {
            scope::check(&mut report);
        }
        types::check(&mut report, &order);
        primitive::check(&mut report, &order);
    }
    match report.violations.is_empty() {
        true => Ok(Verified { _private: () }),
        false => Err(Diagnostics(report.violations)),
    }
}

/// The module that is verified, and what was found.
struct Report<'m> {
    module: &'m Module,
    violations: Vec<Diagnostic>,
}

impl Report<'_> {
    /// Notes that an expression breaks a rule.
    fn at(&mut self, rule: &str, id: ExprId, message: impl std::fmt::Display) {
        let span = self.module.spans[id].clone();
        self.add(
            Diagnostic::error(Code::VERIFY, format!("{rule}: {message}")).at(span).label(format!("{id}")),
        );
    }

    /// Notes that something which is no expression breaks a rule.
    fn general(&mut self, rule: &str, message: impl std::fmt::Display) {
        self.add(Diagnostic::error(Code::VERIFY, format!("{rule}: {message}")));
    }

    fn add(&mut self, violation: Diagnostic) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation);
        }
    }
}

#[cfg(test)]
mod tests;
