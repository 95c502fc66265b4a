//! A few operators for the unit tests of this crate, so that they do not depend on the families.

use crate::eval::Value;
use crate::op::{Attrs, FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType, Type};

const FLOAT: &[DType] = &[DType::F32];

fn tensor(ty: &Type, arg: usize) -> Result<&TensorType, OpError> {
    ty.as_tensor().ok_or_else(|| OpError::arg(arg, "expected a tensor"))
}

fn broadcast(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (a, b) = (tensor(&types[0], 0)?, tensor(&types[1], 1)?);
    if a.dtype != b.dtype {
        return Err(OpError::arg(1, "the dtypes differ").help("cast one of them"));
    }
    let rank = a.rank().max(b.rank());
    let one = Dim::Static(1);
    let at = |t: &TensorType, i: usize| {
        if i + t.rank() < rank { one.clone() } else { t.shape[i + t.rank() - rank].clone() }
    };
    let dim = |i| match (at(a, i), at(b, i)) {
        (a, b) if a == b => Ok(a),
        (Dim::Static(1), d) | (d, Dim::Static(1)) => Ok(d),
        (Dim::Any, _) | (_, Dim::Any) => Ok(Dim::Any),
        (a, b) => Err(OpError::arg(1, format!("dims {a} and {b} neither equal nor 1"))),
    };
    Ok(TensorType::new((0..rank).map(dim).collect::<Result<_, _>>()?, a.dtype).into())
}

fn compare(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let ty = broadcast(types, attrs)?;
    Ok(TensorType::new(tensor(&ty, 0)?.shape.clone(), DType::Bool).into())
}

fn same(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    tensor(&types[0], 0).map(|t| t.clone().into())
}

fn zip(args: &[Value], f: impl Fn(f32, f32) -> f32, ty: &Type) -> Result<Value, OpError> {
    let read = |v: &Value| v.tensor().map(|t| t.as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default());
    let (a, b) = (read(&args[0])?, read(&args[1])?);
    let shape = tensor(ty, 0)?.static_shape().unwrap_or_default();
    let out: Vec<f32> = (0..shape.iter().product()).map(|i| f(a[i % a.len()], b[i % b.len()])).collect();
    Ok(Tensor::from_slice(&shape, &out).expect("a small test tensor").into())
}

fn add_eval(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    zip(args, |a, b| a + b, ty)
}

fn less_eval(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    let at = |v: &Value| v.tensor().map(|t| t.as_slice::<f32>().map_or(0.0, |s| s[0]));
    Ok(Tensor::scalar(crate::tensor::Bool8::from(at(&args[0])? < at(&args[1])?)).into())
}

fn log_eval(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    zip(&[args[0].clone(), args[0].clone()], |a, _| a.ln(), ty)
}

fn dense(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (x, w) = (tensor(&types[0], 0)?, tensor(&types[1], 1)?);
    Ok(TensorType::new(vec![x.shape[0].clone(), w.shape[0].clone()], x.dtype).into())
}

fn dense_backward(types: &[Type], _: &Attrs) -> Vec<(usize, Type)> {
    match (types[0].as_tensor(), &types[1]) {
        (Some(x), Type::Unknown) => {
            vec![(1, TensorType::new(vec![Dim::Static(2), x.shape[1].clone()], x.dtype).into())]
        }
        _ => vec![],
    }
}

fn no_eval(_: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    Err(OpError::new("this operator always fails"))
}

const fn row(name: &'static str, args: &'static [&'static str]) -> OpDef {
    OpDef {
        name,
        doc: "A test operator.",
        args,
        optional: 0,
        attrs: &[],
        pattern: FusePattern::Opaque,
        purity: Purity::Pure,
        dtypes: FLOAT,
        infer: same,
        backward: no_backward,
        eval: no_eval,
        lower: Lower::None("a test operator"),
        onnx: &[],
    }
}

/// Broadcasting addition.
pub static ADD: OpDef = OpDef { infer: broadcast, eval: add_eval, ..row("add", &["lhs", "rhs"]) };
/// Comparison of scalars.
pub static LESS: OpDef = OpDef { infer: compare, eval: less_eval, ..row("less", &["lhs", "rhs"]) };
/// Natural logarithm.
pub static LOG: OpDef = OpDef { eval: log_eval, ..row("log", &["data"]) };
/// Matrix product that deduces its weight, with two units.
pub static DENSE: OpDef =
    OpDef { infer: dense, backward: dense_backward, ..row("nn.dense", &["data", "weight"]) };
/// Well typed, but fails.
pub static FAIL: OpDef = row("fail", &["data"]);
