//! Distinct elements and the places of those that are not 0: as many results as the data has.

use super::order_keys;
use crate::dispatch;
use crate::eval::Value;
use crate::op::util::{ALL, build, elements, show_dims, tensor_arg, tensor_type, tensor_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Type};

/// Why there is no Tensor Expression.
const DYNAMIC: &str = "how many results there are depends on the data";

op_attrs! {
    /// Attributes of `unique`.
    pub struct UniqueAttrs {
        /// Whether the elements are sorted; otherwise they come in the order of their first places.
        sorted: bool = true,
        /// Whether the result also tells how often each element occurs.
        return_counts: bool = false,
    }
}

/// `unique`: the distinct elements of a vector.
pub static UNIQUE: OpDef = OpDef {
    name: "unique",
    doc: "the distinct elements of a vector; their first places; which of them each element is; how many they are; and, if asked for, how often each occurs.",
    args: &["data"],
    optional: 0,
    attrs: UniqueAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_unique,
    backward: no_backward,
    eval: eval_unique,
    lower: Lower::None(DYNAMIC),
    onnx: &["Unique"],
};

/// `argwhere`: the indices of the elements that are not 0.
pub static ARGWHERE: OpDef = OpDef {
    name: "argwhere",
    doc: "the indices of the elements that are not 0, a row each, in row-major order.",
    args: &["condition"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, _| {
        let rank = tensor_arg(types, 0)?.rank();
        tensor_type(vec![Dim::Any, Dim::Static(rank)], DType::I32)
    },
    backward: no_backward,
    eval: eval_argwhere,
    lower: Lower::None(DYNAMIC),
    onnx: &["NonZero"],
};

fn infer_unique(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    if data.rank() != 1 {
        return Err(OpError::arg(0, format!("expected a vector, found shape {}", show_dims(&data.shape)))
            .help("reshape it to [-1]"));
    }
    let some = |dtype| tensor_type(vec![Dim::Any], dtype);
    let mut fields = vec![
        some(data.dtype)?,
        some(DType::I32)?,
        tensor_type(data.shape.clone(), DType::I32)?,
        Type::tensor(&[1], DType::I32),
    ];
    if attrs.read::<UniqueAttrs>().return_counts {
        fields.push(some(DType::I32)?);
    }
    Ok(Type::tuple(fields))
}

/// Equal elements: where the first one is and how many there are.
struct Group {
    first: usize,
    count: i32,
}

/// The groups of elements with equal keys, and the group of each element.
fn groups(x: &[u64], sorted: bool) -> (Vec<Group>, Vec<usize>) {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by_key(|&place| x[place]);
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = vec![0; x.len()];
    for &place in &order {
        match groups.last_mut() {
            Some(group) if x[group.first] == x[place] => group.count += 1,
            _ => groups.push(Group { first: place, count: 1 }),
        }
        group_of[place] = groups.len() - 1;
    }
    if sorted {
        return (groups, group_of);
    }
    let mut by_place: Vec<usize> = (0..groups.len()).collect();
    by_place.sort_by_key(|&g| groups[g].first);
    let mut rank = vec![0; groups.len()];
    by_place.iter().enumerate().for_each(|(new, &old)| rank[old] = new);
    groups.sort_by_key(|g| g.first);
    (groups, group_of.into_iter().map(|g| rank[g]).collect())
}

fn eval_unique(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let UniqueAttrs { sorted, return_counts } = attrs.read();
    let data = tensor_value(args, 0)?;
    let (groups, group_of) = groups(&order_keys(data), sorted);
    let values = dispatch!(data.dtype(), T => {
        let x = elements::<T>(data)?;
        let values: Vec<T> = groups.iter().map(|g| x[g.first]).collect();
        Tensor::from_slice(&[values.len()], &values)?
    });
    let vector = |list: Vec<i32>| Tensor::from_slice(&[list.len()], &list).map(Value::from);
    let mut fields = vec![
        values.into(),
        vector(groups.iter().map(|g| g.first as i32).collect())?,
        vector(group_of.iter().map(|&g| g as i32).collect())?,
        vector(vec![groups.len() as i32])?,
    ];
    if return_counts {
        fields.push(vector(groups.iter().map(|g| g.count).collect())?);
    }
    Ok(Value::Tuple(fields.into()))
}

fn eval_argwhere(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let shape = data.shape();
    let found: Vec<usize> = dispatch!(data.dtype(), T => {
        let x = elements::<T>(data)?;
        (0..x.len()).filter(|&i| bool::from(x[i].convert::<crate::tensor::Bool8>())).collect()
    });
    let rank = shape.len();
    let indices = build::<i32>(&[found.len(), rank], |out| {
        for (i, &place) in found.iter().enumerate() {
            let mut rest = place;
            for d in (0..rank).rev() {
                out[i * rank + d] = (rest % shape[d]) as i32;
                rest /= shape[d];
            }
        }
    });
    Ok(indices?.into())
}
