//! The rules: the type of each kind of expression from the types of its operands.

use std::sync::Arc;

use super::relate::join;
use super::terms::{Clash, POISON, Term, Ty};
use super::visit::Infer;
use crate::diag::Code;
use crate::expr::{CtorRef, Expr, ExprId, Function, GlobalId};
use crate::types::{DType, FuncType, Type};

impl Infer<'_> {
    /// The type of an expression whose operands have been visited.
    pub(super) fn exit(&mut self, id: ExprId) -> Ty {
        match &self.module.exprs[id] {
            Expr::Var(var) => {
                let var = *var;
                self.var_ty(var)
            }
            Expr::Global(global) => {
                let global = *global;
                self.global_ty(id, global)
            }
            Expr::Const(constant) => Ty::Known(self.module.consts[*constant].tensor.ty()),
            Expr::Op(op) => {
                let help = format!("write fn (%x, ..) {{ {op}(%x, ..) }}");
                self.error(id, Code::TYPE_UNKNOWN, format!("operator `{op}` is used as a value"), Some(help))
            }
            Expr::Ctor(ctor) => {
                let ctor = *ctor;
                self.ctor_ty(ctor)
            }
            Expr::Call(call) => {
                let call = call.clone();
                self.call(id, &call)
            }
            Expr::Func(func) => {
                let func = func.clone();
                self.function(id, &func)
            }
            Expr::Let { body, .. } => {
                let body = *body;
                self.ty(body)
            }
            Expr::If { cond, then, els } => {
                let (cond, then, els) = (*cond, *then, *els);
                self.if_(cond, then, els)
            }
            Expr::Tuple(fields) => {
                let fields = fields.clone();
                let fields = fields.into_iter().map(|f| self.ty(f)).collect();
                self.limited(id, Term::Tuple(fields))
            }
            Expr::Proj { tuple, index } => {
                let (tuple, index) = (*tuple, *index);
                self.proj(id, tuple, index as usize)
            }
            Expr::Match { clauses, .. } => {
                let bodies: Vec<ExprId> = clauses.iter().map(|c| c.body).collect();
                self.match_(id, &bodies)
            }
            Expr::Ref(value) => {
                let value = *value;
                let value = self.ty(value);
                self.limited(id, Term::Ref(value))
            }
            Expr::RefRead(cell) => {
                let cell = *cell;
                self.ref_content(cell)
            }
            Expr::RefWrite { cell, value } => {
                let (cell, value) = (*cell, *value);
                let content = self.ref_content(cell);
                let new = self.ty(value);
                if self.terms.unify(&content, &new).is_err() {
                    self.mismatch(value, &content, &new, "the cell holds another type");
                }
                Ty::Known(Type::tuple([]))
            }
        }
    }

    fn global_ty(&mut self, id: ExprId, global: GlobalId) -> Ty {
        if let Some(ty) = self.started.get(&global).filter(|ty| **ty != Type::Unknown) {
            return Ty::Known(ty.clone());
        }
        let found = self.module.globals.get(global).and_then(|g| g.func.clone());
        let Some(func) = found else {
            return self.error(id, Code::TYPE_UNKNOWN, "a removed function is used".into(), None);
        };
        let ret = self.global_rets.get(&global).cloned().unwrap_or(Ty::Known(func.ret.clone()));
        let ty = self.func_ty(&func, ret);
        let ty = self.bounded(id, ty);
        if let Ty::Known(ty) = &ty {
            self.started.insert(global, ty.clone());
        }
        ty
    }

    /// A constructor as a function value.
    fn ctor_ty(&mut self, ctor: CtorRef) -> Ty {
        let Some(adt) = self.module.adts.get(ctor.adt) else { return POISON };
        let Some(def) = adt.ctors.get(ctor.index as usize) else { return POISON };
        let args = adt.params.iter().cloned().map(Type::Var).collect();
        let ret = Type::Adt(adt.name.clone(), args);
        let (type_params, params) = (adt.params.clone(), def.fields.clone());
        Ty::Known(Type::Func(Arc::new(FuncType { type_params, params, ret })))
    }

    fn function(&mut self, id: ExprId, func: &Function) -> Ty {
        let ret = self.rets.get(&id).cloned().unwrap_or(Ty::Known(func.ret.clone()));
        let body = self.ty(func.body);
        if self.terms.unify(&ret, &body).is_err() {
            self.mismatch(func.body, &ret, &body, "the function's declared result type is another");
        }
        let ty = self.func_ty(func, ret);
        let ty = self.bounded(id, ty);
        if matches!(ty, Ty::Open(_)) && !func.type_params.is_empty() {
            let message = "a function with type parameters has a parameter or result of unknown type";
            let help = "annotate its parameters and its result".to_owned();
            return self.error(id, Code::TYPE_UNKNOWN, message.into(), Some(help));
        }
        ty
    }

    fn if_(&mut self, cond: ExprId, then: ExprId, els: ExprId) -> Ty {
        let cond_ty = self.ty(cond);
        let bool_ty = Ty::Known(Type::scalar(DType::Bool));
        if self.terms.unify(&bool_ty, &cond_ty).is_err() {
            self.mismatch(cond, &bool_ty, &cond_ty, "a condition is a bool scalar");
        }
        self.join_all(&[then, els], "the branches of an if have one type")
    }

    fn match_(&mut self, id: ExprId, bodies: &[ExprId]) -> Ty {
        if bodies.is_empty() {
            return self.error(id, Code::TYPE_UNKNOWN, "a match without arms has no type".into(), None);
        }
        self.join_all(bodies, "the arms of a match have one type")
    }

    fn join_all(&mut self, bodies: &[ExprId], why: &str) -> Ty {
        let mut joined = POISON;
        for &body in bodies {
            let ty = self.ty(body);
            let (a, b) = (self.terms.shallow(&joined), self.terms.shallow(&ty));
            let fits = match (&a, &b) {
                (Ty::Known(a), Ty::Known(b)) => join(a, b).map(|ty| joined = Ty::Known(ty)).ok_or(Clash),
                (Ty::Known(Type::Unknown), _) => {
                    joined = b.clone();
                    Ok(())
                }
                _ => self.terms.unify(&a, &b),
            };
            if fits.is_err() {
                self.mismatch(body, &a, &b, why);
            }
        }
        joined
    }

    fn proj(&mut self, id: ExprId, tuple: ExprId, index: usize) -> Ty {
        let ty = self.ty(tuple);
        let at = self.terms.shallow(&ty);
        let (field, len) = match &at {
            Ty::Known(Type::Unknown) => return POISON,
            Ty::Known(Type::Tuple(fields)) => (fields.get(index).cloned().map(Ty::Known), fields.len()),
            Ty::Known(other) => {
                let message = format!("field {index} is taken of a value of type {other}, which is no tuple");
                return self.error(id, Code::TYPE_MISMATCH, message, None);
            }
            Ty::Open(term) => match self.terms.get(*term) {
                Term::Tuple(fields) => (fields.get(index).cloned(), fields.len()),
                Term::Hole => {
                    self.terms.wait(id, *term);
                    return self.hole_of(id);
                }
                Term::Is(_) | Term::Func(..) | Term::Ref(_) | Term::Adt(..) => {
                    let shown = self.terms.show(&at);
                    let message =
                        format!("field {index} is taken of a value of type {shown}, which is no tuple");
                    return self.error(id, Code::TYPE_MISMATCH, message, None);
                }
            },
        };
        match field {
            Some(field) => field,
            None => {
                let message = format!("field {index} is taken of a tuple of {len}");
                self.error(id, Code::TYPE_MISMATCH, message, Some("fields count from 0".into()))
            }
        }
    }

    fn ref_content(&mut self, cell: ExprId) -> Ty {
        let ty = self.ty(cell);
        let content = self.terms.hole();
        let wanted = self.terms.add(Term::Ref(content.clone()));
        if self.terms.unify(&wanted, &ty).is_err() {
            self.mismatch(cell, &wanted, &ty, "a reference cell is needed here");
            return POISON;
        }
        self.terms.shallow(&content)
    }
}
