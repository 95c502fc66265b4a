//! The elements of constants.

use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;

/// The most elements of a constant that are compared.
const MAX_COMPARED: usize = 1 << 16;

/// The elements of a tensor, in order.
pub fn scalars(tensor: &Tensor) -> impl Iterator<Item = Scalar> + '_ {
    let element = |bytes: &[u8]| {
        let mut bits = [0u8; 8];
        bits[..bytes.len()].copy_from_slice(bytes);
        Scalar::from_bits(tensor.dtype(), u64::from_le_bytes(bits))
    };
    tensor.bytes().chunks_exact(tensor.dtype().bytes()).map(element)
}

/// The value of a tensor all of whose elements are equal, bit by bit; none of a tensor without elements
/// or with more than it would pay to look at.
pub fn one_value(tensor: &Tensor) -> Option<Scalar> {
    let (bytes, width) = (tensor.bytes(), tensor.dtype().bytes());
    // Each element is the one before it.
    let equal = tensor.len() <= MAX_COMPARED && bytes.get(width..)? == &bytes[..bytes.len() - width];
    scalars(tensor).next().filter(|_| equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_that_of_all_elements() {
        let of = |elements: &[f32]| {
            let tensor = Tensor::from_slice(&[elements.len()], elements).expect("a tensor");
            one_value(&tensor).map(|scalar| scalar.as_f64())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[2.0]), Some(2.0));
        assert_eq!(of(&[2.0, 2.0, 2.0]), Some(2.0));
        assert_eq!(of(&[2.0, 2.0, 3.0]), None);
        assert_eq!(of(&[0.0, -0.0]), None);
        assert_eq!(of(&vec![1.0; MAX_COMPARED]), Some(1.0));
        assert_eq!(of(&vec![1.0; MAX_COMPARED + 1]), None);
    }
}
