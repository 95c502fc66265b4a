//! Types of the syntax tree to types of the program.
//!
//! Types nest at most as deep as the tree allows, so these functions may recurse.

use std::sync::Arc;

use super::super::literal;
use super::super::tree::{DimNode, Name, Place, TypeId, TypeNode};
use super::Resolver;
use crate::diag::Code;
use crate::tensor::byte_len;
use crate::types::{DType, Dim, FuncType, MAX_RANK, TensorType, Type};

impl<'t> Resolver<'_, 't> {
    /// The type of an annotation; unknown if there is none.
    pub(super) fn annotation(&mut self, ty: Option<TypeId>) -> Type {
        ty.map_or(Type::Unknown, |id| self.ty(id))
    }

    /// Resolves a type; an error gives the unknown type.
    pub(super) fn ty(&mut self, id: TypeId) -> Type {
        let tree = self.tree;
        let (node, place) = tree.ty(id);
        match node {
            TypeNode::Unknown => Type::Unknown,
            TypeNode::Tensor { dims, dtype } => self.tensor_type(dims, *dtype, place),
            TypeNode::Named(name, args) => self.named_type(*name, args, place),
            TypeNode::Tuple(fields) => Type::tuple(fields.iter().map(|&f| self.ty(f)).collect::<Vec<_>>()),
            TypeNode::Ref(inner) => Type::Ref(Arc::new(self.ty(*inner))),
            TypeNode::Func { type_params, params, ret } => {
                let mark = self.type_vars.mark();
                let type_params = self.type_params(type_params);
                let params = params.iter().map(|&p| self.ty(p)).collect();
                let ret = self.ty(*ret);
                self.type_vars.restore(mark);
                Type::Func(Arc::new(FuncType { type_params, params, ret }))
            }
        }
    }

    /// Resolves a tensor type, whose static size must be one that a tensor may have.
    pub(super) fn tensor_type(&mut self, dims: &[DimNode<'t>], dtype: Name<'t>, place: Place) -> Type {
        if dims.len() > MAX_RANK {
            let message = format!("a tensor has at most {MAX_RANK} dimensions, this has {}", dims.len());
            self.error(place, Code::TEXT_LIMIT, message);
            return Type::Unknown;
        }
        let shape: Vec<Dim> = dims.iter().map(|d| self.dim(d)).collect();
        let Some(dtype) = self.dtype(dtype) else { return Type::Unknown };
        let known: Vec<usize> = shape.iter().filter_map(Dim::as_static).collect();
        if let Err(error) = byte_len(dtype, &known) {
            self.error(place, Code::TEXT_LIMIT, error.to_string());
            return Type::Unknown;
        }
        TensorType::new(shape, dtype).into()
    }

    fn dim(&mut self, dim: &DimNode<'t>) -> Dim {
        match dim {
            DimNode::Any => Dim::Any,
            DimNode::Symbol(name) => Dim::Sym(self.name(*name).into()),
            DimNode::Number(number) => literal::index(number.text).map_or_else(
                || {
                    self.error(number.place, Code::TEXT_TOKEN, format!("`{}` is no dimension", number.text));
                    Dim::Any
                },
                Dim::Static,
            ),
        }
    }

    fn dtype(&mut self, name: Name<'t>) -> Option<DType> {
        let dtype = DType::from_name(name.text);
        if dtype.is_none() {
            let known = DType::ALL.map(DType::name);
            self.unknown(name.place, format!("no dtype `{}`", name.text), name.text, known, str::to_owned);
        }
        dtype
    }

    /// A word: a type variable, a dtype (the type of its scalars) or a user's type.
    fn named_type(&mut self, name: Name<'t>, args: &[TypeId], place: Place) -> Type {
        if args.is_empty() {
            if self.type_vars.get(name.text).is_some() {
                return Type::Var(name.text.into());
            }
            if let Some(dtype) = DType::from_name(name.text) {
                return Type::scalar(dtype);
            }
        }
        let Some(&adt) = self.adts.get(name.text) else {
            if !self.full() {
                self.unknown_type(name);
            }
            return Type::Unknown;
        };
        let args: Vec<Type> = args.iter().map(|&a| self.ty(a)).collect();
        let adt = &self.module.adts[adt];
        let (wanted, adt_name) = (adt.params.len(), adt.name.clone());
        if args.len() != wanted {
            let message = format!("type `{adt_name}` takes {wanted} arguments, not {}", args.len());
            self.error(place, Code::TEXT_NAME, message);
            return Type::Unknown;
        }
        Type::Adt(adt_name, args.into())
    }

    fn unknown_type(&mut self, name: Name<'t>) {
        let adts: Vec<Arc<str>> = self.module.adts.values().map(|a| a.name.clone()).collect();
        let known = DType::ALL.map(DType::name).into_iter().chain(adts.iter().map(|a| &**a));
        let known: Vec<&str> = known.chain(["Tensor"]).collect();
        let message = format!("no type `{}`", name.text);
        self.unknown(name.place, message, name.text, known, str::to_owned);
    }
}
