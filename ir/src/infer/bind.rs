//! Binding of dimensions: a program for any size becomes one for given sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, Diagnostics, nearest};
use crate::expr::{Expr, GlobalId, Module, VarId};
use crate::tensor::byte_len;
use crate::types::{Dim, FuncType, TensorType, Type};
use crate::walk::{self, CallGraph};

/// Replaces named dimensions by sizes everywhere, and infers the whole program again.
///
/// What inference had found out and is now known better (a `?` that was computed from a named
/// dimension) becomes static; what the program declares keeps its `?`.
///
/// # Errors
/// If the program has no dimension of a name, if a tensor becomes too large, or if the program
/// is not well typed at these sizes.
pub fn bind_dims(module: &mut Module, sizes: &[(&str, usize)]) -> Result<(), Diagnostics> {
    if sizes.is_empty() {
        return Ok(());
    }
    let sizes: BTreeMap<&str, usize> = sizes.iter().copied().collect();
    let known = symbolic_dims(module);
    let unknown: Vec<_> = sizes.keys().filter(|name| !known.contains(**name)).collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = known.iter().map(|name| &**name).collect();
        return Err(Diagnostics(unknown.iter().map(|name| no_such("dimension", name, &names)).collect()));
    }
    substitute(module, &sizes).map_err(Diagnostics::from)?;
    infer_again(module)
}

/// Gives parameters of a function static shapes, binding the named dimensions that stand in
/// them everywhere, and infers the whole program again.
///
/// # Errors
/// As [`bind_dims`]; and if there is no such parameter or a shape contradicts its type.
pub fn bind_shapes(
    module: &mut Module,
    global: GlobalId,
    shapes: &[(&str, Vec<usize>)],
) -> Result<(), Diagnostics> {
    if shapes.is_empty() {
        return Ok(());
    }
    let params = module.globals[global].func.as_ref().map(|f| f.params.clone()).unwrap_or_default();
    let mut sizes = BTreeMap::new();
    for (name, shape) in shapes {
        let Some(&param) = params.iter().find(|&&p| &*module.vars[p].name == *name) else {
            let names: Vec<&str> = params.iter().map(|&p| &*module.vars[p].name).collect();
            return Err(no_such("input", name, &names).into());
        };
        bind_shape(module, param, shape, &mut sizes)?;
    }
    let sizes = sizes.iter().map(|(name, &size): (&Arc<str>, _)| (&**name, size)).collect();
    substitute(module, &sizes).map_err(Diagnostics::from)?;
    infer_again(module)
}

/// The caller named something that the program does not have.
fn no_such(what: &str, name: &str, known: &[&str]) -> Diagnostic {
    let error = Diagnostic::error(Code::USAGE, format!("the program has no {what} `{name}`"));
    match nearest(name, known.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.note(format!("it has no named {what}s")),
        None => error.note(format!("it has: {}", known.join(", "))),
    }
}

fn bind_shape(
    module: &mut Module,
    param: VarId,
    shape: &[usize],
    sizes: &mut BTreeMap<Arc<str>, usize>,
) -> Result<(), Diagnostic> {
    let var = &mut module.vars[param];
    let refuse =
        |why: String| Diagnostic::error(Code::TYPE_MISMATCH, format!("parameter `{}` {why}", var.name));
    let Some(tensor) = var.ty.as_tensor() else {
        return Err(refuse(format!("has type {}, which is no tensor", var.ty)));
    };
    if tensor.rank() != shape.len() {
        return Err(refuse(format!(
            "has rank {}, but a shape of rank {} is given",
            tensor.rank(),
            shape.len()
        )));
    }
    byte_len(tensor.dtype, shape).map_err(|error| refuse(format!("cannot have this shape: {error}")))?;
    for (dim, &size) in tensor.shape.iter().zip(shape) {
        let before = match dim {
            Dim::Static(n) => Some(*n),
            Dim::Sym(name) => sizes.insert(name.clone(), size),
            Dim::Any => None,
        };
        if let Some(before) = before.filter(|&n| n != size) {
            return Err(refuse(format!("has a dimension `{dim}` that is {before} and cannot be {size}")));
        }
    }
    var.ty = TensorType::of(shape, tensor.dtype).into();
    Ok(())
}

/// The named dimensions of a program, in order.
pub fn symbolic_dims(module: &Module) -> BTreeSet<Arc<str>> {
    let mut found = BTreeSet::new();
    for (_, func) in module.functions() {
        func.params.iter().for_each(|&p| collect(&module.vars[p].ty, &mut found));
        collect(&func.ret, &mut found);
    }
    for id in walk::reachable(module) {
        let expr = &module.exprs[id];
        walk::bound_vars(expr).iter().for_each(|&var| collect(&module.vars[var].ty, &mut found));
        if let Expr::Func(func) = expr {
            collect(&func.ret, &mut found);
        }
    }
    found
}

fn collect(ty: &Type, found: &mut BTreeSet<Arc<str>>) {
    any_dim(ty, &mut |dim| {
        if let Dim::Sym(name) = dim {
            found.insert(name.clone());
        }
        false
    });
}

/// True if some dimension satisfies the predicate, which sees them in order until one does.
fn any_dim(ty: &Type, f: &mut dyn FnMut(&Dim) -> bool) -> bool {
    match ty {
        Type::Unknown | Type::Var(_) => false,
        Type::Tensor(t) => t.shape.iter().any(f),
        Type::Tuple(fields) | Type::Adt(_, fields) => fields.iter().any(|t| any_dim(t, f)),
        Type::Func(func) => func.params.iter().any(|t| any_dim(t, f)) || any_dim(&func.ret, f),
        Type::Ref(inner) => any_dim(inner, f),
    }
}

fn has_unknown_dim(ty: &Type) -> bool {
    any_dim(ty, &mut |dim| *dim == Dim::Any)
}

/// The type with named dimensions replaced.
fn with_sizes(ty: &Type, sizes: &BTreeMap<&str, usize>) -> Result<Type, Diagnostic> {
    if !any_dim(ty, &mut |dim| matches!(dim, Dim::Sym(name) if sizes.contains_key(&**name))) {
        return Ok(ty.clone());
    }
    let all = |types: &[Type]| types.iter().map(|t| with_sizes(t, sizes)).collect::<Result<Vec<_>, _>>();
    Ok(match ty {
        Type::Unknown | Type::Var(_) => ty.clone(),
        Type::Tensor(t) => {
            let shape: Vec<Dim> = t
                .shape
                .iter()
                .map(|dim| match dim {
                    Dim::Sym(name) => sizes.get(&**name).map_or(dim.clone(), |&n| Dim::Static(n)),
                    Dim::Static(_) | Dim::Any => dim.clone(),
                })
                .collect();
            let new = TensorType::new(shape, t.dtype);
            let sizes: Vec<usize> = new.shape.iter().filter_map(Dim::as_static).collect();
            byte_len(t.dtype, &sizes)
                .map_err(|error| Diagnostic::error(Code::DIM_UNBOUND, error.to_string()))?;
            new.into()
        }
        Type::Tuple(fields) => Type::Tuple(all(fields)?.into()),
        Type::Adt(name, args) => Type::Adt(name.clone(), all(args)?.into()),
        Type::Ref(inner) => Type::Ref(Arc::new(with_sizes(inner, sizes)?)),
        Type::Func(f) => Type::Func(Arc::new(FuncType {
            type_params: f.type_params.clone(),
            params: all(&f.params)?,
            ret: with_sizes(&f.ret, sizes)?,
        })),
    })
}

/// Replaces named dimensions in everything that carries a type by declaration.
fn substitute(module: &mut Module, sizes: &BTreeMap<&str, usize>) -> Result<(), Diagnostic> {
    for var in module.vars.values_mut() {
        var.ty = with_sizes(&var.ty, sizes)?;
    }
    for global in module.globals.values_mut() {
        if let Some(func) = &mut global.func {
            func.ret = with_sizes(&func.ret, sizes)?;
        }
    }
    for expr in module.exprs.values_mut() {
        if let Expr::Func(func) = expr {
            func.ret = with_sizes(&func.ret, sizes)?;
        }
    }
    for adt in module.adts.values_mut() {
        for field in adt.ctors.iter_mut().flat_map(|c| &mut c.fields) {
            *field = with_sizes(field, sizes)?;
        }
    }
    Ok(())
}

/// Forgets what inference had found, as far as better can be found now, and infers.
fn infer_again(module: &mut Module) -> Result<(), Diagnostics> {
    let order = walk::reachable(module);
    let (lets, globals) = (walk::recursive_lets(module), CallGraph::of(module).recursive);
    for &id in &order {
        module.types[id] = Type::Unknown;
        let Expr::Let { var, value, .. } = module.exprs[id] else { continue };
        if lets.contains(var) {
            continue;
        }
        if has_unknown_dim(&module.vars[var].ty) {
            module.vars[var].ty = Type::Unknown;
        }
        if let Expr::Func(func) = &mut module.exprs[value]
            && has_unknown_dim(&func.ret)
        {
            func.ret = Type::Unknown;
        }
    }
    for (id, global) in module.globals.iter_mut() {
        if let Some(func) = &mut global.func
            && !globals.contains(&id)
            && has_unknown_dim(&func.ret)
        {
            func.ret = Type::Unknown;
        }
    }
    super::infer_module(module)
}
