//! Random calls of operators.

use fermata_ir::expr::{Args, Expr, ExprId};
use fermata_ir::infer::infer_op;
use fermata_ir::op::{Attrs, Op};
use fermata_ir::types::{DType, TensorType, Type};

use super::scope::Scope;
use super::{Generator, attrs};

/// How often a call of one operator is tried before another is drawn.
const ATTEMPTS: usize = 48;

/// An argument that is made only if the call is kept.
enum Arg {
    Have(ExprId),
    Fresh(TensorType),
    Tuple(Vec<Arg>),
}

impl Generator {
    /// A call of some operator, added to the scope; `None` if none was found that fits.
    pub(super) fn call(&mut self, scope: &mut Scope) -> Option<ExprId> {
        let op = *self.rng.pick(&self.options.ops);
        let id = self.call_of(op, scope)?;
        scope.pool.push(id);
        Some(id)
    }

    /// A call of this operator with arguments from the scope.
    pub(super) fn call_of(&mut self, op: Op, scope: &Scope) -> Option<ExprId> {
        for _ in 0..ATTEMPTS {
            let args = self.arguments(op, scope);
            let types: Vec<Type> = args.iter().map(|arg| self.arg_type(arg)).collect();
            let shape = first_tensor(&types).and_then(|t| t.static_shape()).unwrap_or_default();
            let attrs = attrs::attrs(&mut self.rng, op.attrs, &shape);
            if let Some(ty) = self.accepted(op, &types, &attrs) {
                let args: Vec<ExprId> = args.into_iter().map(|arg| self.make(arg)).collect();
                let id = self.module.call_op(op, &args, attrs);
                self.module.types[id] = ty;
                return Some(id);
            }
        }
        None
    }

    /// The result type, if the operator takes the arguments and the result is static and small.
    fn accepted(&self, op: Op, types: &[Type], attrs: &Attrs) -> Option<Type> {
        let known = first_tensor(types).is_none_or(|t| op.dtypes.contains(&t.dtype));
        let ty = infer_op(op, types, attrs).ok().filter(|_| known)?;
        let fits = |ty: &Type| {
            ty.as_tensor().and_then(TensorType::elements).is_some_and(|n| n <= self.options.max_elements)
        };
        let small = match &ty {
            Type::Tensor(_) => fits(&ty),
            Type::Tuple(fields) => !fields.is_empty() && fields.len() <= 8 && fields.iter().all(fits),
            Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => false,
        };
        small.then_some(ty)
    }

    fn arguments(&mut self, op: Op, scope: &Scope) -> Vec<Arg> {
        let most = op.args.len();
        let count = most - self.rng.below(op.optional + 1);
        let mut args = Vec::with_capacity(count);
        let first = self.first_argument(op, scope);
        let ty = first_tensor(&[self.arg_type(&first)]).cloned();
        if count > 0 {
            args.push(first);
        }
        while args.len() < count {
            let arg = match &ty {
                Some(ty) => self.next_argument(ty, scope),
                None => Arg::Fresh(self.tensor_type()),
            };
            args.push(arg);
        }
        args
    }

    fn first_argument(&mut self, op: Op, scope: &Scope) -> Arg {
        let fits = |g: &Generator, id: ExprId| g.tensor(id).is_some_and(|t| op.dtypes.contains(&t.dtype));
        let candidates: Vec<ExprId> = scope.pool.iter().copied().filter(|&id| fits(self, id)).collect();
        let first = match candidates.is_empty() || self.rng.chance(1, 4) {
            true => {
                let mut ty = self.tensor_type();
                if !op.dtypes.is_empty() && !op.dtypes.contains(&ty.dtype) {
                    ty.dtype = *self.rng.pick(op.dtypes);
                }
                Arg::Fresh(ty)
            }
            false => Arg::Have(*self.rng.pick(&candidates)),
        };
        if !self.rng.chance(1, 6) {
            return first;
        }
        // Some operators take a tuple of like tensors.
        let ty = first_tensor(&[self.arg_type(&first)]).cloned();
        let mut fields = vec![first];
        for _ in 0..self.rng.below(3) {
            let Some(ty) = &ty else { break };
            let like = if self.rng.chance(1, 3) { self.resized(ty) } else { ty.clone() };
            fields.push(Arg::Fresh(like));
        }
        Arg::Tuple(fields)
    }

    /// An argument after the first, which has the type `ty`.
    fn next_argument(&mut self, ty: &TensorType, scope: &Scope) -> Arg {
        let same: Vec<ExprId> = scope
            .pool
            .iter()
            .copied()
            .filter(|&id| self.tensor(id).is_some_and(|t| t.dtype == ty.dtype))
            .collect();
        match self.rng.below(8) {
            0 | 1 if !same.is_empty() => Arg::Have(*self.rng.pick(&same)),
            2 if !scope.pool.is_empty() => Arg::Have(*self.rng.pick(&scope.pool)),
            _ => Arg::Fresh(self.related(ty)),
        }
    }

    /// A type that often goes with another: its own, one to broadcast, a weight, a bias, indices.
    fn related(&mut self, ty: &TensorType) -> TensorType {
        let shape = ty.static_shape().unwrap_or_default();
        let last = shape.last().copied().unwrap_or(1);
        let second = shape.get(1).copied().unwrap_or(last);
        let small = |g: &mut Generator| 1 + g.rng.below(3);
        let new: Vec<usize> = match self.rng.below(10) {
            0 | 1 => shape.clone(),
            2 => shape.iter().map(|&n| if self.rng.chance(1, 2) { 1 } else { n }).collect(),
            3 => shape[self.rng.below(shape.len() + 1)..].to_vec(),
            4 => vec![small(self), last],
            5 => vec![last],
            6 => vec![second],
            7 => {
                // The weight of a convolution or of a transposed one.
                let out = 1 + self.rng.below(4);
                let channels = if self.rng.chance(2, 3) { [out, second] } else { [second, out] };
                channels.into_iter().chain((2..shape.len()).map(|_| small(self))).collect()
            }
            8 => {
                // A batch of matrices that multiplies another.
                let mut new = shape.clone();
                if new.len() >= 2 {
                    let at = new.len() - 1 - self.rng.below(2);
                    new.swap(shape.len() - 1, shape.len() - 2);
                    new[at] = if self.rng.chance(1, 2) { small(self) } else { new[at] };
                }
                new
            }
            _ => (0..self.rng.below(3)).map(|_| small(self)).collect(),
        };
        let dtype = match self.rng.below(6) {
            0 => *self.rng.pick(&[DType::I32, DType::I64, DType::I32, DType::I64, DType::Bool]),
            1 => *self.rng.pick(&self.options.dtypes),
            _ => ty.dtype,
        };
        TensorType::of(&new, dtype)
    }

    /// The type with another size in one dimension.
    fn resized(&mut self, ty: &TensorType) -> TensorType {
        let mut shape = ty.static_shape().unwrap_or_default();
        if !shape.is_empty() {
            let at = self.rng.below(shape.len());
            shape[at] = self.rng.below(4);
        }
        TensorType::of(&shape, ty.dtype)
    }

    fn arg_type(&self, arg: &Arg) -> Type {
        match arg {
            Arg::Have(id) => self.module.types[*id].clone(),
            Arg::Fresh(ty) => ty.clone().into(),
            Arg::Tuple(fields) => Type::tuple(fields.iter().map(|field| self.arg_type(field))),
        }
    }

    fn make(&mut self, arg: Arg) -> ExprId {
        match arg {
            Arg::Have(id) => id,
            Arg::Fresh(ty) => self.leaf(&ty),
            Arg::Tuple(fields) => {
                let fields: Vec<ExprId> = fields.into_iter().map(|field| self.make(field)).collect();
                let ty = Type::tuple(fields.iter().map(|&f| self.module.types[f].clone()));
                let id = self.module.add(Expr::Tuple(Args::from_slice(&fields)));
                self.module.types[id] = ty;
                id
            }
        }
    }
}

fn first_tensor(types: &[Type]) -> Option<&TensorType> {
    match types.first()? {
        Type::Tensor(t) => Some(t),
        Type::Tuple(fields) => fields.first()?.as_tensor(),
        Type::Func(_) | Type::Ref(_) | Type::Adt(..) | Type::Var(_) | Type::Unknown => None,
    }
}
