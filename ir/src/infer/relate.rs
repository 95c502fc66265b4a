//! When two known types fit each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::tensor::byte_len;
use crate::types::{Dim, FuncType, MAX_RANK, TensorType, Type};

/// True if a value of one type may stand where the other is expected.
///
/// An unknown dimension fits every dimension; everything else must be equal.
/// [`Type::Unknown`] fits every type.
pub fn compatible(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Unknown, _) | (_, Type::Unknown) => true,
        (Type::Tensor(a), Type::Tensor(b)) => Arc::ptr_eq(a, b) || tensors_fit(a, b),
        (Type::Tuple(a), Type::Tuple(b)) => Arc::ptr_eq(a, b) || all_fit(a, b),
        (Type::Func(a), Type::Func(b)) => {
            Arc::ptr_eq(a, b)
                || a.type_params.len() == b.type_params.len()
                    && all_fit(&a.params, &b.params)
                    && compatible(&a.ret, &b.ret)
        }
        (Type::Ref(a), Type::Ref(b)) => compatible(a, b),
        (Type::Adt(a, a_args), Type::Adt(b, b_args)) => a == b && all_fit(a_args, b_args),
        (Type::Var(a), Type::Var(b)) => a == b,
        (
            Type::Tensor(_) | Type::Tuple(_) | Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_),
            _,
        ) => false,
    }
}

fn all_fit(a: &[Type], b: &[Type]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| compatible(a, b))
}

fn tensors_fit(a: &TensorType, b: &TensorType) -> bool {
    a.dtype == b.dtype
        && a.shape.len() == b.shape.len()
        && a.shape.iter().zip(&b.shape).all(|(a, b)| join_dim(a, b).is_some())
}

/// The type of a value that is of one of two types, as where two branches meet; `None` if they
/// do not fit. Where one has an unknown dimension, so has the result.
pub fn join(a: &Type, b: &Type) -> Option<Type> {
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (Type::Unknown, other) | (other, Type::Unknown) => Some(other.clone()),
        (Type::Tensor(a), Type::Tensor(b)) => {
            if a.dtype != b.dtype || a.shape.len() != b.shape.len() {
                return None;
            }
            let dims = a.shape.iter().zip(&b.shape).map(|(a, b)| join_dim(a, b).cloned());
            Some(TensorType::new(dims.collect::<Option<_>>()?, a.dtype).into())
        }
        (Type::Tuple(a), Type::Tuple(b)) => Some(Type::Tuple(join_all(a, b)?.into())),
        (Type::Func(f), Type::Func(g)) if f.type_params == g.type_params => {
            let (params, ret) = (join_all(&f.params, &g.params)?, join(&f.ret, &g.ret)?);
            Some(Type::Func(Arc::new(FuncType { type_params: f.type_params.clone(), params, ret })))
        }
        (Type::Ref(a), Type::Ref(b)) => Some(Type::Ref(Arc::new(join(a, b)?))),
        (Type::Adt(a, a_args), Type::Adt(b, b_args)) if a == b => {
            Some(Type::Adt(a.clone(), join_all(a_args, b_args)?.into()))
        }
        (
            Type::Tensor(_) | Type::Tuple(_) | Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_),
            _,
        ) => None,
    }
}

fn join_all(a: &[Type], b: &[Type]) -> Option<Vec<Type>> {
    (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| join(a, b)).collect())?
}

fn join_dim<'a>(a: &'a Dim, b: &'a Dim) -> Option<&'a Dim> {
    match (a, b) {
        (Dim::Any, _) | (_, Dim::Any) => Some(&Dim::Any),
        (a, b) => (a == b).then_some(a),
    }
}

/// True if nothing in the type is [`Type::Unknown`]; unknown dimensions are known types.
pub(super) fn is_known(ty: &Type) -> bool {
    match ty {
        Type::Unknown => false,
        Type::Tensor(_) | Type::Var(_) => true,
        Type::Tuple(fields) | Type::Adt(_, fields) => fields.iter().all(is_known),
        Type::Func(f) => f.params.iter().all(is_known) && is_known(&f.ret),
        Type::Ref(inner) => is_known(inner),
    }
}

/// Types that are made of others and satisfied a condition. They are shared, so what has been asked
/// of a wide tuple once needs no second look at each of its uses.
#[derive(Default)]
pub(crate) struct Satisfied {
    /// Where they lie.
    seen: BTreeSet<usize>,
    /// Keeps them there.
    kept: Vec<Type>,
}

impl Satisfied {
    /// True if the type satisfies the condition.
    pub(crate) fn holds(&mut self, ty: &Type, condition: impl FnOnce(&Type) -> bool) -> bool {
        let address = match ty {
            Type::Unknown | Type::Tensor(_) | Type::Var(_) => return condition(ty),
            Type::Tuple(fields) | Type::Adt(_, fields) => fields.as_ptr().addr(),
            Type::Func(func) => Arc::as_ptr(func).addr(),
            Type::Ref(inner) => Arc::as_ptr(inner).addr(),
        };
        if self.seen.contains(&address) {
            return true;
        }
        let holds = condition(ty);
        if holds {
            self.seen.insert(address);
            self.kept.push(ty.clone());
        }
        holds
    }
}

/// True if a type is known, within the limits of nesting and size, and so are its tensors.
pub fn is_well_formed(ty: &Type) -> bool {
    let mut stack = vec![ty];
    if !within_limits(ty) {
        return false;
    }
    while let Some(ty) = stack.pop() {
        match ty {
            Type::Unknown => return false,
            Type::Var(_) => {}
            Type::Tensor(t) => {
                let sizes: SmallVec<[usize; MAX_RANK]> = t.shape.iter().filter_map(Dim::as_static).collect();
                if t.rank() > MAX_RANK || byte_len(t.dtype, &sizes).is_err() {
                    return false;
                }
            }
            Type::Tuple(fields) | Type::Adt(_, fields) => stack.extend(fields.iter()),
            Type::Func(f) => {
                stack.extend(&f.params);
                stack.push(&f.ret);
            }
            Type::Ref(inner) => stack.push(inner),
        }
    }
    true
}

/// True if the type nests no deeper and is no larger, written out, than types may be.
pub(super) fn within_limits(ty: &Type) -> bool {
    fn walk(ty: &Type, depth: usize, budget: &mut usize) -> bool {
        if depth == 0 || *budget == 0 {
            return false;
        }
        *budget -= 1;
        match ty {
            Type::Unknown | Type::Tensor(_) | Type::Var(_) => true,
            Type::Tuple(fields) | Type::Adt(_, fields) => fields.iter().all(|t| walk(t, depth - 1, budget)),
            Type::Func(f) => {
                f.params.iter().all(|t| walk(t, depth - 1, budget)) && walk(&f.ret, depth - 1, budget)
            }
            Type::Ref(inner) => walk(inner, depth - 1, budget),
        }
    }
    walk(ty, super::MAX_TYPE_DEPTH, &mut super::MAX_TYPE_SIZE.clone())
}
