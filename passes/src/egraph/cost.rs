//! What a node costs: operations and bytes, on one scale.
//!
//! One floating-point operation counts as one and one byte that is read or written as one:
//! near enough to a core that does ten times as many operations as it moves bytes and keeps
//! most intermediate values in its caches. Weights matter by their bytes, products by their
//! operations, and what only renames elements, or is computed when compiling, is nearly free.

use fermata_ir::op::transform::{STRIDED_SLICE, StridedSliceAttrs};
use fermata_ir::op::{Attrs, FusePattern, Op};
use fermata_ir::types::{TensorType, Type};

use super::facts::{Facts, Graph, is_folded, split_attrs};
use super::lang::{Head, Node};

/// Operations of a function that is a polynomial and more.
const TRANSCENDENTAL: u64 = 16;

/// The cost of a node without that of its operands.
pub fn cost(graph: &Graph, node: &Node, result: &Facts) -> u64 {
    let Head::Op(op) = node.head else { return 0 };
    let (args, attrs) = split_attrs(op, &node.children);
    let args: Vec<&Facts> = args.iter().map(|&c| &graph[c].data).collect();
    let written = result.ty().map_or(0, bytes);
    let folded = result.ty().is_some_and(|ty| is_folded(&args, ty));
    let attrs = attrs.and_then(|&id| graph[id].data.attrs());
    if folded || is_view(op) || is_part(op, attrs) {
        return 1;
    }
    let read = args.iter().filter_map(|f| f.ty()).fold(0u64, |sum, ty| sum.saturating_add(bytes(ty)));
    operations(op, &args, result).saturating_add(read).saturating_add(written).max(1)
}

/// Operators that only give a tensor another shape.
fn is_view(op: Op) -> bool {
    matches!(
        op.name(),
        "reshape" | "squeeze" | "expand_dims" | "nn.batch_flatten" | "contrib_reverse_reshape"
    )
}

/// Slices of neighbours: whoever reads them reads the whole in their place.
fn is_part(op: Op, attrs: Option<&Attrs>) -> bool {
    let steps = |attrs: &Attrs| attrs.read::<StridedSliceAttrs>().strides.unwrap_or_default();
    op.is(&STRIDED_SLICE) && attrs.is_some_and(|attrs| steps(attrs).iter().all(|&step| step == 1))
}

fn elements(ty: &TensorType) -> u64 {
    ty.elements().unwrap_or(1) as u64
}

fn bytes(ty: &Type) -> u64 {
    let mut sum = 0u64;
    let mut stack = vec![ty];
    while let Some(ty) = stack.pop() {
        if let Some(tensor) = ty.as_tensor() {
            sum = sum.saturating_add(elements(tensor).saturating_mul(tensor.dtype.bytes() as u64));
        }
        stack.extend(ty.as_tuple().into_iter().flatten());
    }
    sum
}

fn operations(op: Op, args: &[&Facts], result: &Facts) -> u64 {
    let out = result.tensor().map_or(1, elements);
    let largest = args.iter().filter_map(|f| f.tensor()).map(elements).max().unwrap_or(0);
    match op.pattern {
        FusePattern::Elemwise | FusePattern::Broadcast => out.saturating_mul(weight(op)),
        FusePattern::Injective => out,
        FusePattern::CommReduce => largest,
        FusePattern::OutElemwiseFusable => out.saturating_mul(depth(op, args).saturating_mul(2)),
        FusePattern::Tuple | FusePattern::Opaque => largest.max(out).saturating_mul(8),
    }
}

/// Operations an element of elementwise operators.
fn weight(op: Op) -> u64 {
    match op.name() {
        "divide" | "sqrt" | "rsqrt" | "floor_divide" | "mod" | "floor_mod" => 4,
        "exp" | "log" | "log2" | "log10" | "erf" | "tanh" | "sigmoid" | "sin" | "cos" | "tan" => {
            TRANSCENDENTAL
        }
        // The exponential of a multiple of the logarithm.
        "power" => 2 * TRANSCENDENTAL,
        _ => 1,
    }
}

/// Products an element of the result: the size of a weight over the results that share it.
fn depth(op: Op, args: &[&Facts]) -> u64 {
    let shape = |i: usize| args.get(i)?.tensor()?.static_shape();
    if matches!(op.name(), "nn.batch_matmul" | "nn.matmul") {
        return shape(0).and_then(|s| s.last().copied()).unwrap_or(1) as u64;
    }
    match shape(1) {
        Some(weight) => weight.iter().skip(1).product::<usize>() as u64,
        None => 4,
    }
}
