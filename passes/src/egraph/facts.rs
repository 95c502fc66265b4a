//! What is known of each class: its type, and its value where that is constant.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Analysis, DidMerge, EGraph, Id};
use fermata_ir::eval::Value;
use fermata_ir::expr::ExprId;
use fermata_ir::op::{Attrs, Op, Purity};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{TensorType, Type};

use super::lang::{Head, Node};
use crate::relay::elements::one_value;

/// An e-graph of programs.
pub type Graph = EGraph<Node, Knowledge>;

/// The most elements of a constant that is computed while rules run.
const MAX_FOLDED: usize = 1 << 16;

/// What holds of every node of a class.
#[derive(Clone, Debug)]
pub enum Facts {
    /// A value.
    Value {
        /// Its type; all nodes of a class have the same.
        ty: Type,
        /// Its elements, if they are known.
        constant: Option<Tensor>,
        /// It depends on constants only and is no larger than they are: FoldConstant computes it.
        fixed: bool,
    },
    /// The attributes of an operator.
    Attrs(Attrs),
}

impl Facts {
    /// The type of a value.
    pub fn ty(&self) -> Option<&Type> {
        match self {
            Facts::Value { ty, .. } => Some(ty),
            Facts::Attrs(_) => None,
        }
    }

    /// The type of a tensor.
    pub fn tensor(&self) -> Option<&TensorType> {
        self.ty()?.as_tensor()
    }

    /// The elements of a constant.
    pub fn constant(&self) -> Option<&Tensor> {
        match self {
            Facts::Value { constant, .. } => constant.as_ref(),
            Facts::Attrs(_) => None,
        }
    }

    /// True if the value is computed when compiling.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Facts::Value { fixed: true, .. })
    }

    /// Attributes.
    pub fn attrs(&self) -> Option<&Attrs> {
        match self {
            Facts::Attrs(attrs) => Some(attrs),
            Facts::Value { .. } => None,
        }
    }
}

/// The analysis: tables that heads point into, and what rules may still do.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// Constants by number.
    pub constants: Vec<Tensor>,
    /// Attributes by number, each with its key.
    pub attrs: Vec<Attrs>,
    /// Types of opaque expressions.
    pub opaque: BTreeMap<ExprId, Type>,
    /// Rewrites that may still be done; `None` is no limit.
    pub fuel: Option<u64>,
    /// How often each rule changed something.
    pub fired: BTreeMap<&'static str, u64>,
    /// The rule that changed something last.
    pub last_fired: Option<&'static str>,
    /// How many constants the program itself has; those that rules make have higher numbers.
    pub own_constants: u32,
    /// Constants that were put on end, by the axis and the numbers of the parts.
    pub joined: BTreeMap<(usize, Vec<u32>), u32>,
    /// Nodes that kernels know by their form: of two that cost the same, these are taken.
    pub preferred: BTreeSet<Node>,
    constant_numbers: BTreeMap<(String, Vec<u8>), u32>,
    attr_numbers: BTreeMap<String, u32>,
}

impl Knowledge {
    /// Empty tables, and how many rewrites may be done.
    pub fn with_fuel(fuel: Option<u64>) -> Knowledge {
        Knowledge { fuel, ..Knowledge::default() }
    }

    /// The head of a constant; small equal ones have one number.
    pub fn constant(&mut self, tensor: &Tensor) -> Head {
        let next = self.constants.len() as u32;
        let number = match tensor.len() {
            0..=16 => {
                let key = (tensor.tensor_type().to_string(), tensor.bytes().to_vec());
                *self.constant_numbers.entry(key).or_insert(next)
            }
            _ => next,
        };
        if number == next {
            self.constants.push(tensor.clone());
        }
        Head::Const(number)
    }

    /// The head of attributes; equal ones have one number.
    pub fn attributes(&mut self, attrs: &Attrs) -> Head {
        let next = self.attrs.len() as u32;
        let number = *self.attr_numbers.entry(format!("{:?}", attrs.values())).or_insert(next);
        if number == next {
            self.attrs.push(attrs.clone());
        }
        Head::Attrs(number)
    }

    /// Takes one rewrite's worth of fuel; false if there is none left.
    pub fn take_fuel(&mut self) -> bool {
        match &mut self.fuel {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

/// The operands of an operator's node: arguments, and the attributes behind them.
pub fn split_attrs<T>(op: Op, operands: &[T]) -> (&[T], Option<&T>) {
    match operands.split_last() {
        Some((attrs, args)) if !op.attrs.is_empty() => (args, Some(attrs)),
        _ => (operands, None),
    }
}

/// The facts of a node from those of its operands; `None` if it has no type.
pub fn infer(knowledge: &Knowledge, head: Head, operands: &[&Facts]) -> Option<Facts> {
    let ty = match head {
        Head::Attrs(number) => return Some(Facts::Attrs(knowledge.attrs[number as usize].clone())),
        Head::Const(number) => {
            let tensor = knowledge.constants[number as usize].clone();
            return Some(Facts::Value { ty: tensor.ty(), constant: Some(tensor), fixed: true });
        }
        Head::Opaque(expr) => knowledge.opaque.get(&expr)?.clone(),
        Head::Tuple => Type::tuple(operands.iter().map(|f| f.ty().cloned()).collect::<Option<Vec<_>>>()?),
        Head::Proj(index) => operands.first()?.ty()?.as_tuple()?.get(index as usize)?.clone(),
        Head::Op(op) => return infer_call(op, operands),
    };
    let fixed = match head {
        Head::Tuple | Head::Proj(_) => operands.iter().all(|f| f.is_fixed()),
        Head::Attrs(_) | Head::Const(_) | Head::Opaque(_) | Head::Op(_) => false,
    };
    Some(Facts::Value { ty, constant: None, fixed })
}

/// True if FoldConstant computes a call of these arguments with a result of this type.
pub fn is_folded(args: &[&Facts], ty: &Type) -> bool {
    let known = !args.is_empty() && args.iter().all(|f| f.is_fixed());
    let size = |ty: &Type| {
        let parts: Vec<&Type> = ty.as_tuple().map_or_else(|| vec![ty], |fields| fields.iter().collect());
        parts.into_iter().map(|t| t.as_tensor()?.elements()).sum::<Option<usize>>()
    };
    let given = || args.iter().map(|f| size(f.ty()?)).sum::<Option<usize>>();
    known && size(ty).zip(given()).is_some_and(|(made, given)| made <= given)
}

fn infer_call(op: Op, operands: &[&Facts]) -> Option<Facts> {
    let (args, attrs) = split_attrs(op, operands);
    let attrs = match attrs {
        Some(facts) => facts.attrs()?.clone(),
        None => Attrs::NONE,
    };
    let types = args.iter().map(|f| f.ty().cloned()).collect::<Option<Vec<_>>>()?;
    let ty = op.result(&types, &attrs).ok()?;
    let constant = fold(op, args, &attrs, &ty);
    let fixed = constant.is_some() || is_folded(args, &ty);
    Some(Facts::Value { ty, constant, fixed })
}

/// The value of a call whose arguments are all constants, if it is small.
fn fold(op: Op, args: &[&Facts], attrs: &Attrs, ty: &Type) -> Option<Tensor> {
    let elements = ty.as_tensor()?.elements()?;
    if op.purity != Purity::Pure || args.is_empty() || elements > MAX_FOLDED {
        return None;
    }
    let values: Vec<Value> =
        args.iter().map(|f| f.constant().cloned().map(Value::from)).collect::<Option<_>>()?;
    (op.eval)(&values, attrs, ty).ok()?.as_tensor().cloned()
}

impl Analysis<Node> for Knowledge {
    type Data = Facts;

    fn make(graph: &mut Graph, node: &Node, _: Id) -> Facts {
        let operands: Vec<&Facts> = node.children.iter().map(|&c| &graph[c].data).collect();
        let unknown = || Facts::Value { ty: Type::Unknown, constant: None, fixed: false };
        // Rules add only what has a type; a program's own expressions had theirs inferred before.
        infer(&graph.analysis, node.head, &operands).unwrap_or_else(unknown)
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        let (
            Facts::Value { constant: known, fixed, .. },
            Facts::Value { constant: new, fixed: new_fixed, .. },
        ) = (a, b)
        else {
            return DidMerge(false, false);
        };
        let gains = known.is_none() && new.is_some() || !*fixed && new_fixed;
        let gives = known.is_some() && new.is_none() || *fixed && !new_fixed;
        *fixed |= new_fixed;
        if known.is_none() {
            *known = new;
        }
        DidMerge(gains, gives)
    }

    fn modify(graph: &mut Graph, id: Id) {
        let Some(tensor) = graph[id].data.constant().cloned() else { return };
        if graph[id].nodes.iter().any(|n| matches!(n.head, Head::Const(_))) {
            return;
        }
        let head = graph.analysis.constant(&tensor);
        let constant = graph.add(Node::leaf(head));
        graph.union(id, constant);
    }
}

/// The value of a constant all of whose elements are equal.
pub fn splat(facts: &Facts) -> Option<Scalar> {
    one_value(facts.constant()?)
}
