//! Type inference: unification with holes, over expressions that have no type yet.
//!
//! Inference fills [`Module::types`], [`crate::expr::Var::ty`] and
//! [`crate::expr::Function::ret`]. It is incremental: an expression whose type is known is
//! taken at its word and not entered, so after a pass only what the pass made is inferred.
//! One walk in order of evaluation does nearly all the work: an operator whose argument types
//! are known gives its result type at once. What is not known yet is a hole; an operator or a
//! projection that needs one waits until unification fills it.
//!
//! * Functions with type parameters (`fn [A](%x: A) -> A`) are instantiated at every call.
//! * Recursive functions are checked against their declared result, or against a hole.
//! * An unknown dimension (`?`) fits every dimension; where two branches meet it wins.
//!   Symbolic dimensions are equal if their names are.
//! * An error poisons the expression that has it: what depends on it is not reported again.

mod bind;
mod call;
mod exit;
mod finish;
mod op;
mod relate;
mod terms;
mod visit;

pub use bind::{bind_dims, bind_shapes, symbolic_dims};
pub(crate) use call::op_diagnostic;
pub use call::{check_call, substitute};
pub use op::{check_attrs, check_call_shape, infer_op};
pub(crate) use relate::Satisfied;
pub use relate::{compatible, is_well_formed, join};

use crate::diag::{Diagnostic, Diagnostics};
use crate::expr::{ExprId, Module};
use crate::types::Type;

/// Deeper types are refused, so that nothing that recurses over a type can run out of stack.
pub const MAX_TYPE_DEPTH: usize = 64;

/// The largest number of nodes a type may have when written out.
pub const MAX_TYPE_SIZE: usize = 1 << 20;

/// Infers every live global function.
///
/// # Errors
/// Every error found, up to a limit; types that are not affected are filled in all the same.
pub fn infer_module(module: &mut Module) -> Result<(), Diagnostics> {
    let mut infer = visit::Infer::new(module);
    infer.globals();
    infer.finish().map_err(Diagnostics)
}

/// Infers one expression, whose free variables have types.
///
/// # Errors
/// The first error found.
pub fn infer_expr(module: &mut Module, expr: ExprId) -> Result<Type, Diagnostic> {
    if module.types[expr] == Type::Unknown {
        let mut infer = visit::Infer::new(module);
        infer.expr(expr);
        infer.finish().map_err(|mut errors| errors.swap_remove(0))?;
    }
    Ok(module.types[expr].clone())
}

#[cfg(test)]
mod tests;
