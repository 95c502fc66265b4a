//! Constants as text.

use super::super::literal::{print_element, print_scalar, quote};
use super::names::ConstNames;
use super::{LargeConstants, PrintOptions};
use crate::expr::{ConstId, Module};
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// A constant: a literal, its elements, a name in the weights file, or `elided`.
pub(super) fn print(module: &Module, id: ConstId, options: &PrintOptions, names: &mut ConstNames) -> String {
    let tensor = &module.consts[id].tensor;
    if tensor.rank() == 0
        && let Some(literal) = print_scalar(element(tensor, 0))
    {
        return literal;
    }
    if tensor.len() <= options.inline_elements.max(1) || options.large == LargeConstants::Inline {
        // The element type of a tensor is written with its dimensions even where it has none.
        let dims = tensor.shape().iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return format!("const(Tensor[({dims}), {}], {})", tensor.dtype(), elements(tensor));
    }
    match options.large {
        LargeConstants::Weights => format!("weights[{}]", quote(&names.get(module, id))),
        LargeConstants::Elide | LargeConstants::Inline if options.types => "elided".to_owned(),
        LargeConstants::Elide | LargeConstants::Inline => format!("elided /* ty={} */", tensor.tensor_type()),
    }
}

/// The elements in brackets, nested as the shape says.
fn elements(tensor: &Tensor) -> String {
    let shape = tensor.shape();
    if tensor.is_empty() {
        return "[]".to_owned();
    }
    // How many dimensions begin at element `i`: the brackets to open there.
    let starts = |i: usize| {
        let inner = (0..shape.len()).rev().scan(1, |size, d| {
            *size *= shape[d];
            Some(*size)
        });
        inner.take_while(|size| i.is_multiple_of(*size)).count()
    };
    let rank = shape.len();
    let mut text = String::new();
    for i in 0..tensor.len() {
        let open = if rank == 0 { 1 } else { starts(i) };
        if i > 0 {
            text.push_str(&"]".repeat(open));
            text.push_str(", ");
        }
        text.push_str(&"[".repeat(open));
        text.push_str(&print_element(element(tensor, i)));
    }
    text.push_str(&"]".repeat(rank.max(1)));
    text
}

/// Element `i` in row-major order.
fn element(tensor: &Tensor, i: usize) -> Scalar {
    let width = tensor.dtype().bytes();
    let mut bits = [0u8; 8];
    bits[..width].copy_from_slice(&tensor.bytes()[i * width..][..width]);
    Scalar::from_bits(tensor.dtype(), u64::from_le_bytes(bits))
}
