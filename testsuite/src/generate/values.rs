//! Random tensors.

use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::Rng;

/// A tensor of small numbers, with NaN, infinities and the ends of the range strewn in where
/// `special` asks for them; half of such tensors have none all the same.
pub(super) fn tensor(rng: &mut Rng, shape: &[usize], dtype: DType, special: bool) -> Tensor {
    let special = special && rng.chance(1, 2);
    // Integers are often indices or shapes: some tensors hold only small ones.
    let span = if rng.chance(1, 2) { 2 } else { 20 };
    let count: usize = shape.iter().product();
    let width = dtype.bytes();
    let mut bytes = Vec::with_capacity(count * width);
    for _ in 0..count {
        let value = match special && rng.chance(1, 12) {
            true => extreme(rng, dtype),
            false => plain(rng, dtype, span),
        };
        bytes.extend_from_slice(&value.bits().to_le_bytes()[..width]);
    }
    Tensor::from_bytes(dtype, shape, &bytes).expect("generated shapes are small")
}

fn plain(rng: &mut Rng, dtype: DType, span: i64) -> Scalar {
    match dtype {
        DType::Bool => Scalar::from_bits(dtype, rng.bits() & 1),
        d if d.is_float() => {
            // Eighths are exact in every dtype; the others exercise rounding.
            let x = (rng.unit() - 0.5) * 6.0;
            Scalar::from_f64(dtype, if rng.chance(1, 4) { (x * 8.0).round() / 8.0 } else { x })
        }
        d if d.is_unsigned_int() => Scalar::from_i64(dtype, rng.between(0, span)),
        _ => Scalar::from_i64(dtype, if span == 2 { rng.between(0, 2) } else { rng.between(-span, span) }),
    }
}

fn extreme(rng: &mut Rng, dtype: DType) -> Scalar {
    if dtype.is_float() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e-40, -1e-6, 1e4, -3e38, 65504.0];
        return Scalar::from_f64(dtype, *rng.pick(&all));
    }
    // All bits, the sign bit alone, and all but the sign bit.
    let width = if dtype == DType::Bool { 1 } else { dtype.bits() as u32 };
    let sign = 1u64 << (width - 1);
    Scalar::from_bits(dtype, *rng.pick(&[u64::MAX, sign, sign - 1, 0]))
}
