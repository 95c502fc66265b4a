//! Types under construction: known types, and terms with holes that unification fills.

use std::sync::Arc;

use super::MAX_TYPE_DEPTH;
use super::relate::{compatible, is_known};
use crate::entity::{PrimaryMap, SecondaryMap};
use crate::entity_id;
use crate::expr::ExprId;
use crate::types::{FuncType, Type};

entity_id!(/// A term: a type that is not wholly known.
    TermId, "t");

/// A type that is known or will be. `Known(Type::Unknown)` is the type of what has an error.
#[derive(Clone, Debug)]
pub(super) enum Ty {
    /// Nothing in it is a hole.
    Known(Type),
    /// See the table.
    Open(TermId),
}

/// The type of an expression that has an error: it fits everything and is not reported again.
pub(super) const POISON: Ty = Ty::Known(Type::Unknown);

#[derive(Clone, Debug)]
pub(super) enum Term {
    /// Nothing is known of it; these expressions wait for it.
    Hole,
    /// It has been found to be this.
    Is(Ty),
    Tuple(Vec<Ty>),
    Func(Vec<Ty>, Ty),
    Ref(Ty),
    Adt(Arc<str>, Vec<Ty>),
}

/// Why a term is no type yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unresolved {
    /// This hole is in it.
    Hole(TermId),
    /// It nests too deeply, perhaps because it contains itself.
    TooDeep,
}

/// Why two types could not be made equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clash;

/// The terms of one inference, and who waits for which hole.
#[derive(Default)]
pub(super) struct Terms {
    terms: PrimaryMap<TermId, Term>,
    waiting: SecondaryMap<TermId, Vec<ExprId>>,
    woken: Vec<ExprId>,
}

impl Terms {
    pub fn hole(&mut self) -> Ty {
        Ty::Open(self.terms.push(Term::Hole))
    }

    pub fn add(&mut self, term: Term) -> Ty {
        Ty::Open(self.terms.push(term))
    }

    /// The term, where this is one; links are followed by [`Terms::shallow`].
    pub fn get(&self, id: TermId) -> &Term {
        &self.terms[id]
    }

    /// Follows what holes have been found to be, down to the outermost constructor.
    pub fn shallow(&mut self, ty: &Ty) -> Ty {
        let mut path = Vec::new();
        let mut at = ty.clone();
        while let Ty::Open(id) = at
            && let Term::Is(next) = &self.terms[id]
        {
            path.push(id);
            at = next.clone();
        }
        path.pop();
        path.into_iter().for_each(|id| self.terms[id] = Term::Is(at.clone()));
        at
    }

    /// A type as it stands in the program, a hole for every unknown part.
    pub fn open(&mut self, ty: &Type) -> Ty {
        self.instantiate(ty, &[])
    }

    /// As [`Terms::open`], with types for some type variables.
    pub fn instantiate(&mut self, ty: &Type, params: &[(Arc<str>, Ty)]) -> Ty {
        if is_known(ty) && (params.is_empty() || !mentions(ty, params)) {
            return Ty::Known(ty.clone());
        }
        let term = match ty {
            Type::Unknown => Term::Hole,
            Type::Tensor(_) => return Ty::Known(ty.clone()),
            Type::Var(name) => match params.iter().find(|(param, _)| param == name) {
                Some((_, ty)) => return ty.clone(),
                None => return Ty::Known(ty.clone()),
            },
            Type::Tuple(fields) => Term::Tuple(self.instantiate_all(fields, params)),
            Type::Adt(name, args) => Term::Adt(name.clone(), self.instantiate_all(args, params)),
            Type::Func(f) => {
                Term::Func(self.instantiate_all(&f.params, params), self.instantiate(&f.ret, params))
            }
            Type::Ref(inner) => Term::Ref(self.instantiate(inner, params)),
        };
        self.add(term)
    }

    fn instantiate_all(&mut self, types: &[Type], params: &[(Arc<str>, Ty)]) -> Vec<Ty> {
        types.iter().map(|ty| self.instantiate(ty, params)).collect()
    }

    /// The type, if it has no holes left.
    pub fn resolve(&self, ty: &Ty) -> Result<Type, Unresolved> {
        self.resolve_within(ty, MAX_TYPE_DEPTH)
    }

    fn resolve_within(&self, ty: &Ty, depth: usize) -> Result<Type, Unresolved> {
        let mut at = ty;
        let id = loop {
            match at {
                Ty::Known(ty) => return Ok(ty.clone()),
                Ty::Open(id) => match &self.terms[*id] {
                    Term::Is(next) => at = next,
                    _ => break *id,
                },
            }
        };
        let depth = depth.checked_sub(1).ok_or(Unresolved::TooDeep)?;
        let all =
            |types: &[Ty]| types.iter().map(|t| self.resolve_within(t, depth)).collect::<Result<Vec<_>, _>>();
        match &self.terms[id] {
            Term::Hole | Term::Is(_) => Err(Unresolved::Hole(id)),
            Term::Tuple(fields) => Ok(Type::Tuple(all(fields)?.into())),
            Term::Adt(name, args) => Ok(Type::Adt(name.clone(), all(args)?.into())),
            Term::Ref(inner) => Ok(Type::Ref(Arc::new(self.resolve_within(inner, depth)?))),
            Term::Func(params, ret) => {
                let (params, ret) = (all(params)?, self.resolve_within(ret, depth)?);
                Ok(Type::Func(Arc::new(FuncType { type_params: vec![], params, ret })))
            }
        }
    }

    /// What is known of the type, with [`Type::Unknown`] in place of holes.
    pub fn show(&self, ty: &Ty) -> Type {
        self.show_within(ty, 8)
    }

    fn show_within(&self, ty: &Ty, depth: usize) -> Type {
        let id = match ty {
            Ty::Known(ty) => return ty.clone(),
            Ty::Open(id) => *id,
        };
        if depth == 0 {
            return Type::Unknown;
        }
        let all = |types: &[Ty]| types.iter().map(|t| self.show_within(t, depth - 1)).collect::<Vec<_>>();
        match &self.terms[id] {
            Term::Hole => Type::Unknown,
            Term::Is(ty) => self.show_within(ty, depth - 1),
            Term::Tuple(fields) => Type::Tuple(all(fields).into()),
            Term::Adt(name, args) => Type::Adt(name.clone(), all(args).into()),
            Term::Ref(inner) => Type::Ref(Arc::new(self.show_within(inner, depth - 1))),
            Term::Func(params, ret) => Type::Func(Arc::new(FuncType {
                type_params: vec![],
                params: all(params),
                ret: self.show_within(ret, depth - 1),
            })),
        }
    }

    /// Makes two types fit, filling holes.
    pub fn unify(&mut self, a: &Ty, b: &Ty) -> Result<(), Clash> {
        self.unify_within(a, b, MAX_TYPE_DEPTH)
    }

    fn unify_within(&mut self, a: &Ty, b: &Ty, depth: usize) -> Result<(), Clash> {
        let (a, b) = (self.shallow(a), self.shallow(b));
        let depth = depth.checked_sub(1).ok_or(Clash)?;
        match (&a, &b) {
            (Ty::Known(x), Ty::Known(y)) => compatible(x, y).then_some(()).ok_or(Clash),
            (Ty::Open(x), Ty::Open(y)) if x == y => Ok(()),
            (Ty::Open(x), other) | (other, Ty::Open(x)) if matches!(self.terms[*x], Term::Hole) => {
                self.fill(*x, other.clone());
                Ok(())
            }
            (Ty::Open(x), other) | (other, Ty::Open(x)) => {
                let left = self.terms[*x].clone();
                match other {
                    Ty::Known(Type::Unknown) => Ok(()),
                    Ty::Known(ty) => {
                        let right = one_level(ty).ok_or(Clash)?;
                        self.unify_terms(&left, &right, depth)
                    }
                    Ty::Open(y) => {
                        let right = self.terms[*y].clone();
                        self.unify_terms(&left, &right, depth)
                    }
                }
            }
        }
    }

    fn unify_terms(&mut self, a: &Term, b: &Term, depth: usize) -> Result<(), Clash> {
        match (a, b) {
            (Term::Tuple(a), Term::Tuple(b)) => self.unify_all(a, b, depth),
            (Term::Adt(a, a_args), Term::Adt(b, b_args)) if a == b => self.unify_all(a_args, b_args, depth),
            (Term::Ref(a), Term::Ref(b)) => self.unify_within(a, b, depth),
            (Term::Func(a, a_ret), Term::Func(b, b_ret)) => {
                self.unify_all(a, b, depth)?;
                self.unify_within(a_ret, b_ret, depth)
            }
            (
                Term::Hole | Term::Is(_) | Term::Tuple(_) | Term::Adt(..) | Term::Ref(_) | Term::Func(..),
                _,
            ) => Err(Clash),
        }
    }

    fn unify_all(&mut self, a: &[Ty], b: &[Ty], depth: usize) -> Result<(), Clash> {
        if a.len() != b.len() {
            return Err(Clash);
        }
        a.iter().zip(b).try_for_each(|(a, b)| self.unify_within(a, b, depth))
    }

    /// Says what a hole is, and wakes who waits for it.
    fn fill(&mut self, hole: TermId, ty: Ty) {
        let waiting = std::mem::take(&mut self.waiting[hole]);
        match ty {
            Ty::Open(other) if matches!(self.terms[other], Term::Hole) => {
                self.waiting[other].extend(waiting);
            }
            Ty::Known(_) | Ty::Open(_) => self.woken.extend(waiting),
        }
        self.terms[hole] = Term::Is(ty);
    }

    /// Makes an expression wait until a hole is filled.
    pub fn wait(&mut self, expr: ExprId, hole: TermId) {
        self.waiting[hole].push(expr);
    }

    /// The next expression that what it waited for has been found for.
    pub fn next_woken(&mut self) -> Option<ExprId> {
        self.woken.pop()
    }
}

/// The outermost constructor of a known type as a term; `None` for those that have no parts.
fn one_level(ty: &Type) -> Option<Term> {
    let known = |types: &[Type]| types.iter().cloned().map(Ty::Known).collect();
    match ty {
        Type::Tuple(fields) => Some(Term::Tuple(known(fields))),
        Type::Adt(name, args) => Some(Term::Adt(name.clone(), known(args))),
        Type::Func(f) => Some(Term::Func(known(&f.params), Ty::Known(f.ret.clone()))),
        Type::Ref(inner) => Some(Term::Ref(Ty::Known((**inner).clone()))),
        Type::Tensor(_) | Type::Var(_) | Type::Unknown => None,
    }
}

/// True if one of the type variables occurs.
fn mentions(ty: &Type, params: &[(Arc<str>, Ty)]) -> bool {
    match ty {
        Type::Unknown | Type::Tensor(_) => false,
        Type::Var(name) => params.iter().any(|(param, _)| param == name),
        Type::Tuple(fields) | Type::Adt(_, fields) => fields.iter().any(|t| mentions(t, params)),
        Type::Func(f) => f.params.iter().any(|t| mentions(t, params)) || mentions(&f.ret, params),
        Type::Ref(inner) => mentions(inner, params),
    }
}
