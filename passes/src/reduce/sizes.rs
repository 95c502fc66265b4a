//! Smaller dimensions: one size everywhere becomes another.

use std::collections::BTreeSet;
use std::sync::Arc;

use fermata_ir::expr::{Callee, Expr, Module};
use fermata_ir::op::{AttrValue, Attrs};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{Dim, TensorType, Type};
use fermata_ir::walk;

/// All dimensions of one size get another, smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resize {
    /// The size that goes.
    from: usize,
    /// What comes in its place.
    to: usize,
    /// Whether lone integers among the attributes are sizes too, as well as lists of them.
    lone: bool,
}

/// For each size of a parameter or constant, the largest first, what may come in its place.
pub(super) fn steps(module: &Module) -> Vec<Resize> {
    let mut sizes = BTreeSet::new();
    let main = module.global("main").and_then(|g| module.globals[g].func.as_ref());
    for &param in main.iter().flat_map(|f| &f.params) {
        let shape = module.vars[param].ty.as_tensor().map_or(&[][..], |t| &t.shape);
        sizes.extend(shape.iter().filter_map(Dim::as_static));
    }
    for id in walk::reachable(module) {
        sizes.extend(module.as_const(id).map_or(&[][..], Tensor::shape));
    }
    let smaller = |from: usize| {
        let mut to = vec![1, 2, from / 2];
        to.retain(|&to| to > 0 && to < from);
        to.dedup();
        to.into_iter().flat_map(move |to| [true, false].map(|lone| Resize { from, to, lone }))
    };
    sizes.into_iter().rev().flat_map(smaller).collect()
}

/// Gives the dimensions of a size another one: in the types of parameters, in constants, which keep
/// what lies in the front, and in attributes. What was inferred is forgotten.
pub(super) fn resize(module: &mut Module, origins: &mut [Option<usize>], resize: &Resize) -> Option<()> {
    let order = walk::reachable(module);
    let main = module.global("main")?;
    let params = module.globals[main].func.as_ref()?.params.clone();
    for (&param, origin) in params.iter().zip(origins) {
        let new = resized_type(&module.vars[param].ty, resize);
        if new != module.vars[param].ty {
            *origin = None;
        }
        module.vars[param].ty = new;
    }
    for id in order {
        module.types[id] = Type::Unknown;
        match module.exprs[id].clone() {
            Expr::Const(c) => {
                let tensor = &module.consts[c].tensor;
                let shape: Vec<usize> = tensor.shape().iter().map(|&n| size(n, resize)).collect();
                module.consts[c].tensor = corner(tensor, &shape)?;
            }
            Expr::Let { var, .. } => module.vars[var].ty = Type::Unknown,
            Expr::Func(mut func) => {
                for &param in &func.params {
                    module.vars[param].ty = resized_type(&module.vars[param].ty, resize);
                }
                func.ret = Type::Unknown;
                module.exprs[id] = Expr::Func(func);
            }
            Expr::Call(mut call) if matches!(call.callee, Callee::Op(_)) => {
                let values = call.attrs.values().iter().map(|v| resized_attr(v, resize)).collect();
                call.attrs = Attrs::new(values);
                module.exprs[id] = Expr::Call(call);
            }
            Expr::Call(_)
            | Expr::Var(_)
            | Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::If { .. }
            | Expr::Tuple(_)
            | Expr::Proj { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {}
        }
    }
    for global in module.globals.values_mut() {
        if let Some(func) = &mut global.func {
            func.ret = Type::Unknown;
        }
    }
    Some(())
}

fn size(n: usize, resize: &Resize) -> usize {
    if n == resize.from { resize.to } else { n }
}

fn resized_type(ty: &Type, resize: &Resize) -> Type {
    let Some(tensor) = ty.as_tensor() else { return ty.clone() };
    let dim = |dim: &Dim| dim.as_static().map_or_else(|| dim.clone(), |n| Dim::Static(size(n, resize)));
    TensorType::new(tensor.shape.iter().map(dim).collect(), tensor.dtype).into()
}

/// Integers are sizes more often than not; the verifier knows where they are none.
fn resized_attr(value: &AttrValue, resize: &Resize) -> AttrValue {
    let resized = |value: &AttrValue| match value {
        AttrValue::Int(n) if usize::try_from(*n) == Ok(resize.from) => AttrValue::Int(resize.to as i64),
        other => other.clone(),
    };
    match value {
        AttrValue::List(items) => AttrValue::List(items.iter().map(resized).collect::<Arc<[_]>>()),
        lone if resize.lone => resized(lone),
        other => other.clone(),
    }
}

/// The part of a tensor that a smaller shape has in its front corner.
fn corner(tensor: &Tensor, shape: &[usize]) -> Option<Tensor> {
    if shape == tensor.shape() {
        return Some(tensor.clone());
    }
    let width = tensor.dtype().bytes();
    let count: usize = shape.iter().product();
    let mut data = Vec::with_capacity(count * width);
    for flat in 0..count {
        let (mut rest, mut at, mut stride) = (flat, 0, 1);
        for (&new, &old) in shape.iter().zip(tensor.shape()).rev() {
            at += rest % new * stride;
            rest /= new;
            stride *= old;
        }
        data.extend_from_slice(tensor.bytes().get(at * width..(at + 1) * width)?);
    }
    Tensor::from_bytes(tensor.dtype(), shape, &data).ok()
}
