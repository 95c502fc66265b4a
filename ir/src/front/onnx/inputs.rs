//! The inputs and outputs of a model as parameters and result of `@main`.
//!
//! A dimension's name becomes a symbolic dimension; an unnamed unknown dimension of input
//! `x` becomes `x_d0`, `x_d1` and so on, so that a flag can bind it.

use std::collections::BTreeSet;

use super::ImportOptions;
use super::graph::{Importer, Value};
use super::proto::{DimProto, Graph, TensorTypeProto, TypeProto, ValueInfo};
use super::tensor::dtype_of;
use crate::diag::{Code, Diagnostic, nearest};
use crate::expr::{Args, Expr, FuncAttrs, Function, Global, VarId};
use crate::front::names_attr;
use crate::types::{Dim, TensorType, Type};

/// Binds the inputs and initializers of the main graph; gives the parameters.
pub(super) fn define<'a>(
    im: &mut Importer<'a>,
    graph: &'a Graph<'a>,
    options: &ImportOptions,
) -> Result<Vec<VarId>, Diagnostic> {
    im.define_initializers(graph)?;
    let initialized: BTreeSet<&str> = graph.initializers.iter().map(|t| t.name).collect();
    let mut seen = BTreeSet::new();
    let mut dims = BTreeSet::new();
    let mut params = Vec::new();
    for input in graph.inputs.iter().filter(|i| !initialized.contains(i.name)) {
        if !seen.insert(input.name) {
            return Err(im.malformed(format!("input `{}` is declared twice", input.name)));
        }
        let ty = input_type(im, input, options, &mut dims)?;
        if let Some(tensor) = options.const_inputs.get(input.name) {
            let fits = tensor.dtype() == ty.dtype && unify(&ty, tensor.shape());
            if !fits {
                let message = format!("the value given for input `{}` does not fit its type", input.name);
                return Err(Diagnostic::error(Code::USAGE, message));
            }
            let e = im.module.constant(tensor.clone());
            im.bind(input.name, Value::Tensor(e));
            continue;
        }
        let ty = Type::from(ty);
        let var = im.module.var(input.name, ty.clone());
        let e = im.module.add(Expr::Var(var));
        im.module.types[e] = ty;
        im.bind(input.name, Value::Tensor(e));
        params.push(var);
    }
    check_options(options, &seen, &dims)?;
    Ok(params)
}

/// True if a tensor of this shape may be given for the type.
fn unify(ty: &TensorType, shape: &[usize]) -> bool {
    ty.rank() == shape.len() && ty.shape.iter().zip(shape).all(|(d, &n)| d.as_static().is_none_or(|m| m == n))
}

/// The type of an input, its dimensions bound where the options say so.
fn input_type(
    im: &Importer<'_>,
    input: &ValueInfo<'_>,
    options: &ImportOptions,
    dims: &mut BTreeSet<String>,
) -> Result<TensorType, Diagnostic> {
    let place = format!("input `{}`", input.name);
    let tensor = match &input.ty {
        TypeProto::Tensor(t) => t,
        // An optional tensor that is a parameter is always given.
        TypeProto::Optional(inner) => match &**inner {
            TypeProto::Tensor(t) => t,
            _ => return Err(unsupported(im, format!("{place} is an optional that is no tensor"))),
        },
        TypeProto::Missing => return Err(im.malformed(format!("{place} has no type"))),
        TypeProto::Sequence => return Err(unsupported(im, format!("{place} is a sequence"))),
        TypeProto::Other(kind) => return Err(unsupported(im, format!("{place} is {kind}"))),
    };
    let dtype = dtype_of(tensor.elem_type).map_err(|e| unsupported(im, format!("{place}: {e}")))?;
    if let Some(shape) = options.shapes.get(input.name) {
        check_shape(input.name, shape, tensor, options, dims)?;
        return Ok(TensorType::of(shape, dtype));
    }
    let shape = input_dims(im, input.name, tensor, options, dims)?;
    Ok(TensorType::new(shape, dtype))
}

/// Checks a shape that the caller gives against the declared one, whose names are known names.
fn check_shape(
    name: &str,
    shape: &[usize],
    tensor: &TensorTypeProto<'_>,
    options: &ImportOptions,
    dims: &mut BTreeSet<String>,
) -> Result<(), Diagnostic> {
    let Some(declared) = &tensor.shape else { return Ok(()) };
    let wrong = |why: String| {
        Err(Diagnostic::error(Code::USAGE, format!("the shape given for input `{name}` {why}")))
    };
    if declared.dims.len() != shape.len() {
        return wrong(format!("has {} dimensions instead of {}", shape.len(), declared.dims.len()));
    }
    for (dim, &size) in declared.dims.iter().zip(shape) {
        let DimProto::Param(original) = dim else { continue };
        let symbol = symbol_name(original).unwrap_or_default();
        let bound = options.dims.get(*original).or_else(|| options.dims.get(&symbol));
        if let Some(&bound) = bound.filter(|&&n| n != size) {
            return wrong(format!("has {size} for the dimension `{original}`, which is bound to {bound}"));
        }
        dims.extend([original.to_string(), symbol]);
    }
    Ok(())
}

fn input_dims(
    im: &Importer<'_>,
    name: &str,
    tensor: &TensorTypeProto<'_>,
    options: &ImportOptions,
    dims: &mut BTreeSet<String>,
) -> Result<Vec<Dim>, Diagnostic> {
    let Some(shape) = &tensor.shape else {
        return Err(unsupported(im, format!("input `{name}` has no shape"))
            .help(format!("give one: --shape {name}=1x3x224x224")));
    };
    let mut bind = |original: &str, fallback: String| {
        let symbol = symbol_name(original).unwrap_or(fallback);
        let bound = options.dims.get(original).or_else(|| options.dims.get(&symbol)).copied();
        dims.insert(original.to_string());
        dims.insert(symbol.clone());
        bound.map_or(Dim::Sym(symbol.into()), Dim::Static)
    };
    let mut sizes = Vec::with_capacity(shape.dims.len());
    for (i, dim) in shape.dims.iter().enumerate() {
        let fallback = || format!("{}_d{i}", symbol_name(name).unwrap_or_else(|| "input".into()));
        sizes.push(match dim {
            DimProto::Value(n) if *n >= 0 => {
                let size = usize::try_from(*n).ok().filter(|&n| n <= crate::types::MAX_TENSOR_BYTES);
                Dim::Static(
                    size.ok_or_else(|| im.malformed(format!("dimension {n} of `{name}` is too large")))?,
                )
            }
            // Some exporters write -1 where they mean that the size is not known.
            DimProto::Value(-1) | DimProto::Unknown => bind("", fallback()),
            DimProto::Value(n) => return Err(im.malformed(format!("dimension {n} of `{name}` is negative"))),
            DimProto::Param(p) => bind(p, fallback()),
        });
    }
    Ok(sizes)
}

/// A name as an identifier of Relay text; `None` if nothing of it is left.
fn symbol_name(name: &str) -> Option<String> {
    let mut symbol: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if symbol.chars().all(|c| c == '_') {
        return None;
    }
    if symbol.starts_with(|c: char| c.is_ascii_digit()) {
        symbol.insert(0, 'd');
    }
    Some(symbol)
}

fn unsupported(im: &Importer<'_>, message: String) -> Diagnostic {
    Diagnostic::error(Code::IMPORT_UNSUPPORTED, message).at(im.span())
}

/// Refuses options that name nothing of the model.
fn check_options(
    options: &ImportOptions,
    inputs: &BTreeSet<&str>,
    dims: &BTreeSet<String>,
) -> Result<(), Diagnostic> {
    let shapes = options.shapes.keys().chain(options.const_inputs.keys());
    let unknown = |what: &str, name: &str, known: Vec<&str>| {
        let error = Diagnostic::error(Code::USAGE, format!("the model has no {what} `{name}`"));
        Err(match nearest(name, known.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => error.note(format!("it has no named {what}s")),
            None => error.note(format!("it has: {}", known.join(", "))),
        })
    };
    for name in shapes {
        if !inputs.contains(name.as_str()) {
            return unknown("input", name, inputs.iter().copied().collect());
        }
    }
    for name in options.dims.keys() {
        if !dims.contains(name) {
            let named = dims.iter().map(String::as_str).filter(|d| !d.is_empty());
            return unknown("dimension", name, named.collect());
        }
    }
    Ok(())
}

/// Adds `@main` to the module.
pub(super) fn finish(
    im: &mut Importer<'_>,
    params: Vec<VarId>,
    names: &[&str],
    outputs: &[Value],
) -> Result<(), Diagnostic> {
    let mut fields = Args::new();
    for (name, value) in names.iter().zip(outputs) {
        match value {
            Value::Tensor(e) => fields.push(*e),
            Value::Sequence(_) => return Err(unsupported(im, format!("output `{name}` is a sequence"))),
            Value::Absent => return Err(unsupported(im, format!("output `{name}` is an empty optional"))),
            Value::Poison => return Ok(()),
        }
    }
    let body = match fields.as_slice() {
        [single] => *single,
        _ => {
            let ty = Type::tuple(fields.iter().map(|&e| im.ty(e)));
            let tuple = im.module.add(Expr::Tuple(fields));
            im.module.types[tuple] = ty;
            tuple
        }
    };
    let mut attrs = FuncAttrs::new();
    attrs.insert("outputs".into(), names_attr(names));
    let ret = im.ty(body);
    let func = Function { type_params: Vec::new(), params, body, ret, attrs };
    im.module.globals.push(Global { name: "main".into(), func: Some(func) });
    Ok(())
}
