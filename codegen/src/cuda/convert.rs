//! Conversions between dtypes as C.

use fermata_ir::types::DType;

use super::helpers::{Helpers, c_type, compute_type};

/// The value of a float as what it computes in: a `float`, or a `double` as it is.
pub fn to_compute(helpers: &mut Helpers, dtype: DType, value: String) -> String {
    match dtype {
        DType::F16 | DType::BF16 => format!("{}({value})", helpers.widen(dtype)),
        _ => value,
    }
}

/// What was computed, as a float of the dtype.
pub fn from_compute(helpers: &mut Helpers, dtype: DType, value: String) -> String {
    match dtype {
        DType::F16 | DType::BF16 => format!("{}({value})", helpers.narrow(dtype)),
        _ => value,
    }
}

/// A value converted: the rules are those of [`fermata_ir::scalar`].
pub fn cast(helpers: &mut Helpers, from: DType, to: DType, value: String) -> String {
    match (from, to) {
        _ if from == to => value,
        (DType::F32 | DType::F64, DType::Bool) => format!("({value} != 0)"),
        (DType::F16 | DType::BF16, DType::Bool) => format!("({} != 0)", to_compute(helpers, from, value)),
        (_, DType::Bool) => format!("({value} != 0)"),
        (_, DType::F16 | DType::BF16) => to_small(helpers, from, to, value),
        (DType::F16 | DType::BF16, _) => {
            let wide = to_compute(helpers, from, value);
            cast(helpers, DType::F32, to, wide)
        }
        (DType::F32 | DType::F64, _) if to.is_int() => {
            format!("{}({value})", helpers.saturate(from, to))
        }
        _ => format!("(({}){value})", c_type(to)),
    }
}

/// A value rounded once to 16 bits.
fn to_small(helpers: &mut Helpers, from: DType, to: DType, value: String) -> String {
    let narrow = helpers.narrow(to);
    match from {
        DType::F32 => format!("{narrow}({value})"),
        DType::F16 | DType::BF16 => format!("{narrow}({})", to_compute(helpers, from, value)),
        DType::I64 | DType::U64 => {
            let (odd, sticky) = (helpers.round_to_odd(), helpers.sticky(from));
            format!("{narrow}({odd}({sticky}({value})))")
        }
        _ => {
            let odd = helpers.round_to_odd();
            format!("{narrow}({odd}((double){value}))")
        }
    }
}

/// The same bits as another dtype of equal width.
pub fn reinterpret(from: DType, to: DType, value: String) -> String {
    let float = |d: DType| d == DType::F32 || d == DType::F64;
    match (from, to) {
        (_, DType::Bool) => format!("({value} != 0)"),
        (DType::F32, _) if !float(to) => format!("(({})__float_as_uint({value}))", c_type(to)),
        (_, DType::F32) if !float(from) => format!("__uint_as_float((unsigned int){value})"),
        (DType::F64, _) if !float(to) => format!("(({})__double_as_longlong({value}))", c_type(to)),
        (_, DType::F64) if !float(from) => format!("__longlong_as_double((long long){value})"),
        _ if c_type(from) == c_type(to) => value,
        _ => format!("(({}){value})", c_type(to)),
    }
}

/// A float literal of a dtype that computes in `float` or `double`, from its bits.
pub fn float_literal(dtype: DType, value: f64) -> String {
    let wide = compute_type(dtype) == DType::F64;
    match (value.is_finite(), wide) {
        (true, true) => format!("{value:?}"),
        (true, false) => format!("{:?}f", value as f32),
        (false, true) => format!("__longlong_as_double({:#x}ll)", value.to_bits()),
        (false, false) => format!("__int_as_float({:#x})", (value as f32).to_bits()),
    }
}
