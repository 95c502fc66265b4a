//! Inference of calls: operators through their rows, functions through their types.

use std::sync::Arc;

use super::op::check_call_shape;
use super::relate::{compatible, is_known};
use super::terms::{POISON, Term, Terms, Ty, Unresolved};
use super::visit::Infer;
use crate::diag::{Code, Diagnostic, Span};
use crate::expr::{Call, Callee, ExprId, Module};
use crate::op::{Op, OpError};
use crate::types::{FuncType, Type};

impl Infer<'_> {
    /// The type of a call whose callee and arguments have been visited.
    pub(super) fn call(&mut self, id: ExprId, call: &Call) -> Ty {
        match call.callee {
            Callee::Op(op) => self.op_call(id, op, call),
            Callee::Ctor(ctor) => match self.ctor_signature(ctor) {
                Some((fields, data)) => {
                    self.arguments(id, call, &fields);
                    self.known_if_resolved(data)
                }
                None => POISON,
            },
            Callee::Expr(callee) => self.function_call(id, callee, call),
        }
    }

    fn function_call(&mut self, id: ExprId, callee: ExprId, call: &Call) -> Ty {
        let ty = self.ty(callee);
        let at = self.terms.shallow(&ty);
        let (params, ret) = match &at {
            Ty::Known(Type::Unknown) => return POISON,
            Ty::Known(Type::Func(func)) => self.instantiated(func),
            Ty::Known(_) => return self.not_callable(callee, &at),
            Ty::Open(term) => match self.terms.get(*term).clone() {
                Term::Func(params, ret) => (params, ret),
                Term::Hole => {
                    let params: Vec<Ty> = call.args.iter().map(|&arg| self.ty(arg)).collect();
                    let ret = self.terms.hole();
                    let func = self.terms.add(Term::Func(params.clone(), ret.clone()));
                    // A fresh hole fits everything.
                    let _ = self.terms.unify(&at, &func);
                    return ret;
                }
                Term::Is(_) | Term::Tuple(_) | Term::Ref(_) | Term::Adt(..) => {
                    return self.not_callable(callee, &at);
                }
            },
        };
        self.arguments(id, call, &params);
        self.known_if_resolved(ret)
    }

    fn not_callable(&mut self, callee: ExprId, ty: &Ty) -> Ty {
        let shown = self.terms.show(ty);
        self.error(callee, Code::TYPE_MISMATCH, format!("a value of type {shown} is called"), None)
    }

    /// Parameter and result types of a function type, with fresh holes for its type parameters.
    fn instantiated(&mut self, func: &FuncType) -> (Vec<Ty>, Ty) {
        let fresh: Vec<_> = func.type_params.iter().map(|p| (p.clone(), self.terms.hole())).collect();
        let params = func.params.iter().map(|p| self.terms.instantiate(p, &fresh)).collect();
        (params, self.terms.instantiate(&func.ret, &fresh))
    }

    fn arguments(&mut self, id: ExprId, call: &Call, params: &[Ty]) {
        if call.args.len() != params.len() {
            let message =
                format!("{} arguments are given to a function of {}", call.args.len(), params.len());
            self.error(id, Code::TYPE_MISMATCH, message, None);
            return;
        }
        for (index, (&arg, param)) in call.args.iter().zip(params).enumerate() {
            let ty = self.ty(arg);
            if self.terms.unify(param, &ty).is_err() {
                self.mismatch(arg, param, &ty, &format!("argument {} of the call", index + 1));
            }
        }
    }

    fn known_if_resolved(&mut self, ty: Ty) -> Ty {
        match self.terms.resolve(&ty) {
            Ok(known) => Ty::Known(known),
            Err(_) => ty,
        }
    }

    fn op_call(&mut self, id: ExprId, op: Op, call: &Call) -> Ty {
        if let Err(error) = check_call_shape(op, call.args.len(), &call.attrs) {
            let diagnostic = op_diagnostic(self.module, id, Code::OP_ARGS, op, call, &[], error);
            self.report(diagnostic);
            return POISON;
        }
        let mut types = self.arg_types(call);
        if types.iter().any(|t| t.is_err()) && self.deduce(op, call, &types) {
            types = self.arg_types(call);
        }
        let holes: Vec<_> = types.iter().filter_map(|t| t.as_ref().err().copied()).collect();
        if !holes.is_empty() {
            for hole in holes {
                match hole {
                    Unresolved::Hole(hole) => self.terms.wait(id, hole),
                    Unresolved::TooDeep => return POISON,
                }
            }
            return self.hole_of(id);
        }
        let types: Vec<Type> = types.into_iter().flatten().collect();
        if !types.iter().all(|ty| self.known.holds(ty, is_known)) {
            return POISON;
        }
        match op.result(&types, &call.attrs) {
            Ok(ty) => Ty::Known(ty),
            Err(error) => {
                let diagnostic = op_diagnostic(self.module, id, Code::TYPE_MISMATCH, op, call, &types, error);
                self.report(diagnostic);
                POISON
            }
        }
    }

    fn arg_types(&mut self, call: &Call) -> Vec<Result<Type, Unresolved>> {
        call.args
            .iter()
            .map(|&arg| {
                let ty = self.ty(arg);
                self.terms.resolve(&ty)
            })
            .collect()
    }

    /// Types of arguments that follow from the other arguments; says whether there were any.
    fn deduce(&mut self, op: Op, call: &Call, types: &[Result<Type, Unresolved>]) -> bool {
        let types: Vec<Type> = types.iter().map(|t| t.clone().unwrap_or_default()).collect();
        let deduced = (op.backward)(&types, &call.attrs);
        for (index, ty) in &deduced {
            let Some(&arg) = call.args.get(*index) else { continue };
            let (expected, found) = (Ty::Known(ty.clone()), self.ty(arg));
            if self.terms.unify(&found, &expected).is_err() {
                self.mismatch(arg, &expected, &found, &format!("argument {} of {op}", index + 1));
            }
        }
        !deduced.is_empty()
    }
}

/// The result type of calling a function of a known type with arguments of known types, or
/// `None` if they do not fit.
pub fn check_call(func: &FuncType, args: &[Type]) -> Option<Type> {
    if func.params.len() != args.len() {
        return None;
    }
    if func.type_params.is_empty() {
        let fit = func.params.iter().zip(args).all(|(param, arg)| compatible(param, arg));
        return fit.then(|| func.ret.clone());
    }
    let mut terms = Terms::default();
    let fresh: Vec<_> = func.type_params.iter().map(|p| (p.clone(), terms.hole())).collect();
    for (param, arg) in func.params.iter().zip(args) {
        let param = terms.instantiate(param, &fresh);
        terms.unify(&param, &Ty::Known(arg.clone())).ok()?;
    }
    let ret = terms.instantiate(&func.ret, &fresh);
    // What the arguments do not determine, the context does.
    Some(terms.show(&ret))
}

/// A type with types in place of type variables.
pub fn substitute(ty: &Type, params: &[Arc<str>], args: &[Type]) -> Type {
    let params: Vec<_> = params.iter().cloned().zip(args.iter().cloned().map(Ty::Known)).collect();
    let mut terms = Terms::default();
    let ty = terms.instantiate(ty, &params);
    terms.show(&ty)
}

/// What an operator has against a call, with the place and the types of the arguments.
pub(crate) fn op_diagnostic(
    module: &Module,
    id: ExprId,
    code: Code,
    op: Op,
    call: &Call,
    types: &[Type],
    error: OpError,
) -> Diagnostic {
    let culprit = error.arg.and_then(|index| call.args.get(index)).map(|&arg| module.spans[arg].clone());
    let span = culprit.filter(|span| *span != Span::None).unwrap_or_else(|| module.spans[id].clone());
    let message = match error.message.starts_with(op.name()) {
        true => error.message,
        false => format!("{op}: {}", error.message),
    };
    let mut diagnostic = Diagnostic::error(code, message).at(span);
    if let Some(index) = error.arg {
        diagnostic.label = format!("argument {}", index + 1);
    }
    for (index, ty) in types.iter().enumerate() {
        let name = op.args.get(index).copied().unwrap_or("");
        diagnostic.notes.push(format!("argument {} (`{name}`) has type {ty}", index + 1));
    }
    diagnostic.help = error.help;
    diagnostic
}
