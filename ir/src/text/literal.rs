//! Numbers and strings of the text format, both ways.
//!
//! Every scalar that is not an odd NaN has a literal: `1` and `1i64`, `2u8`, `0.5f`, `1f16`,
//! `1bf16`, `1f64`, `inff`, `-nanf`, `True`. Floats print with the fewest digits that read
//! back as the same bits. Inside `const(..)` and in attributes, where the dtype is
//! known, suffixes are left out; there `0x7f800001` gives the bits of an element.

use std::borrow::Cow;
use std::fmt::Write;

use half::{bf16, f16};

use crate::scalar::Scalar;
use crate::tensor::Bool8;
use crate::types::DType;

/// A number's digits, suffix, and whether it has a point, an exponent or is inf or nan.
struct Parts<'t> {
    body: &'t str,
    suffix: &'t str,
    decimal: bool,
}

/// Takes a number token apart. A suffix never starts with a digit, a point or an exponent.
fn split(text: &str) -> Parts<'_> {
    if text.starts_with("inf") || text.starts_with("nan") {
        return Parts { body: &text[..3], suffix: &text[3..], decimal: true };
    }
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    let whole = end;
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-')) as usize;
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
        }
    }
    Parts { body: &text[..end], suffix: &text[end..], decimal: end > whole }
}

/// The dtype that a suffix names.
fn suffix_dtype(suffix: &str) -> Option<DType> {
    Some(match suffix {
        "i" | "i32" => DType::I32,
        "i8" => DType::I8,
        "i16" => DType::I16,
        "i64" => DType::I64,
        "u" | "u32" => DType::U32,
        "u8" => DType::U8,
        "u16" => DType::U16,
        "u64" => DType::U64,
        "f" | "f32" => DType::F32,
        "f16" => DType::F16,
        "f64" => DType::F64,
        "bf16" => DType::BF16,
        _ => return None,
    })
}

/// The suffix of a dtype's literals.
fn dtype_suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::F32 => "f",
        DType::F64 => "f64",
        DType::I8 => "i8",
        DType::I16 => "i16",
        DType::I32 | DType::Bool => "",
        DType::I64 => "i64",
        DType::U8 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
    }
}

/// Reads a literal expression.
pub(super) fn scalar(text: &str, negative: bool) -> Result<Scalar, String> {
    let parts = split(text);
    if !parts.suffix.is_empty() {
        let dtype = suffix_dtype(parts.suffix)
            .ok_or_else(|| format!("`{}` is no suffix of a number", parts.suffix))?;
        return number(dtype, &parts, negative);
    }
    if parts.decimal {
        return Err(format!("a floating-point literal needs a suffix: `{text}f` is a float32"));
    }
    // Without a suffix, what does not fit an int32 is an int64.
    number(DType::I32, &parts, negative)
        .or_else(|_| number(DType::I64, &parts, negative))
        .map_err(|_| format!("`{text}` does not fit int64"))
}

/// Reads an element of a tensor of a dtype: no suffix, or the raw bits in hexadecimal.
pub(super) fn element(dtype: DType, text: &str, negative: bool) -> Result<Scalar, String> {
    if let Some(hex) = text.strip_prefix("0x") {
        let bits = u64::from_str_radix(hex, 16).ok().filter(|_| !negative);
        return bits
            .filter(|&b| dtype.bytes() == 8 || b >> (dtype.bytes() * 8) == 0)
            .map(|b| Scalar::from_bits(dtype, b))
            .ok_or_else(|| format!("`{text}` is not the bits of a {dtype}"));
    }
    let parts = split(text);
    if !parts.suffix.is_empty() && suffix_dtype(parts.suffix) != Some(dtype) {
        return Err(format!("`{text}` is no {dtype}"));
    }
    number(dtype, &parts, negative)
}

/// Reads a number as an attribute: exactly one of an integer and a float.
pub(super) fn attr(text: &str, negative: bool) -> Result<AttrNumber, String> {
    let parts = split(text);
    let suffix = match parts.suffix {
        "" => None,
        s => Some(suffix_dtype(s).ok_or_else(|| format!("`{s}` is no suffix of a number"))?),
    };
    if parts.decimal || suffix.is_some_and(DType::is_float) {
        // An attribute is an f64 whatever the suffix says; `0.1f` keeps all its digits.
        let value = number(DType::F64, &parts, negative)?;
        return Ok(AttrNumber::Float(value.as_f64()));
    }
    number(DType::I64, &parts, negative).map(|s| AttrNumber::Int(s.as_i64()))
}

/// A number of an attribute.
pub(super) enum AttrNumber {
    Int(i64),
    Float(f64),
}

/// A small unsigned number, such as a dimension or an index.
pub(super) fn index(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The value of a number in a dtype; out of range is an error, lost digits are not.
fn number(dtype: DType, parts: &Parts<'_>, negative: bool) -> Result<Scalar, String> {
    let sign = if negative { "-" } else { "" };
    let range = || format!("`{sign}{}` does not fit {dtype}", parts.body);
    if !dtype.is_float() {
        if parts.decimal || dtype == DType::Bool {
            return Err(format!("`{sign}{}` is no {dtype}", parts.body));
        }
        let magnitude: i128 = parts.body.parse().map_err(|_| range())?;
        let value = if negative { -magnitude } else { magnitude };
        let scalar = Scalar::from_bits(dtype, value as u64);
        let back = if dtype == DType::U64 { scalar.bits() as i128 } else { scalar.as_i64() as i128 };
        return if back == value { Ok(scalar) } else { Err(range()) };
    }
    let body = parts.body;
    let scalar = match dtype {
        // `str::parse` rounds once; going through f64 would round twice.
        DType::F32 => body.parse::<f32>().map(Scalar::of).map_err(|_| range())?,
        _ => Scalar::from_f64(dtype, body.parse().map_err(|_| range())?),
    };
    if scalar.as_f64().is_infinite() && body != "inf" {
        return Err(range());
    }
    let scalar = if body == "nan" { quiet_nan(dtype) } else { scalar };
    Ok(if negative { Scalar::from_bits(dtype, scalar.bits() ^ sign_bit(dtype)) } else { scalar })
}

/// The NaN that `nan` stands for.
fn quiet_nan(dtype: DType) -> Scalar {
    match dtype {
        DType::F16 => Scalar::of(f16::from_bits(0x7e00)),
        DType::BF16 => Scalar::of(bf16::from_bits(0x7fc0)),
        DType::F32 => Scalar::of(f32::from_bits(0x7fc0_0000)),
        _ => Scalar::of(f64::from_bits(0x7ff8_0000_0000_0000)),
    }
}

fn sign_bit(dtype: DType) -> u64 {
    1 << (dtype.bytes() * 8 - 1)
}

/// The literal of a scalar; `None` for a NaN that is not the quiet one.
pub(super) fn print_scalar(value: Scalar) -> Option<String> {
    let mut text = print_element(value);
    if text.starts_with("0x") {
        return None;
    }
    text.push_str(dtype_suffix(value.dtype()));
    Some(text)
}

/// A scalar without a suffix, as `const(..)` lists it.
pub(super) fn print_element(value: Scalar) -> String {
    let dtype = value.dtype();
    if dtype == DType::Bool {
        return if value.get::<Bool8>().is_some_and(bool::from) { "True" } else { "False" }.to_owned();
    }
    if !dtype.is_float() {
        return if dtype == DType::U64 { value.bits().to_string() } else { value.as_i64().to_string() };
    }
    let v = value.as_f64();
    if v.is_nan() {
        let bits = value.bits() & !sign_bit(dtype);
        return match (bits == quiet_nan(dtype).bits(), value.bits() & sign_bit(dtype) != 0) {
            (true, false) => "nan".to_owned(),
            (true, true) => "-nan".to_owned(),
            (false, _) => format!("0x{:x}", value.bits()),
        };
    }
    match dtype {
        DType::F32 => print_digits(format!("{:?}", v as f32)),
        DType::F64 => print_f64(v),
        _ => print_digits(shortest_half(value)),
    }
}

/// A float attribute, without a suffix.
pub(super) fn print_f64(v: f64) -> String {
    print_digits(format!("{v:?}"))
}

/// Rust writes `1.0` where the text format writes `1`.
fn print_digits(mut digits: String) -> String {
    if let Some(whole) = digits.strip_suffix(".0") {
        digits.truncate(whole.len());
    }
    digits.make_ascii_lowercase();
    digits
}

/// The fewest digits that read back as the same 16-bit float.
fn shortest_half(value: Scalar) -> String {
    let v = value.as_f64();
    let digits = (0..9).map(|places| format!("{v:.places$e}"));
    let same = |s: &String| s.parse().is_ok_and(|x| Scalar::from_f64(value.dtype(), x) == value);
    let digits = digits.into_iter().find(same).unwrap_or_else(|| format!("{v:e}"));
    // The same number without an exponent where that is short.
    digits.parse::<f64>().map_or(digits, |x| format!("{x:?}"))
}

/// Resolves the escapes of a quoted string; anything else is itself.
pub(super) fn unquote(text: &str) -> Result<Cow<'_, str>, String> {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else {
        return Ok(Cow::Borrowed(text));
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            Some('u') => {
                let hex = chars.as_str().strip_prefix('{').and_then(|s| s.split_once('}'));
                let (hex, rest) = hex.ok_or("`\\u` is followed by `{`, hexadecimal digits and `}`")?;
                let code = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                out.push(code.ok_or_else(|| format!("`\\u{{{hex}}}` is no character"))?);
                chars = rest.chars();
            }
            other => return Err(format!("`\\{}` is no escape", other.unwrap_or(' '))),
        }
    }
    Ok(Cow::Owned(out))
}

/// A string in quotes, with escapes.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' | '"' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => write!(out, "\\u{{{:x}}}", c as u32).expect("a string takes all"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_their_dtype() {
        let read = |t| scalar(t, false).map(|s| (s.dtype(), s.as_f64()));
        assert_eq!(read("42"), Ok((DType::I32, 42.0)));
        assert_eq!(read("3000000000"), Ok((DType::I64, 3e9)));
        assert_eq!(read("7i8"), Ok((DType::I8, 7.0)));
        assert_eq!(read("2u8"), Ok((DType::U8, 2.0)));
        assert_eq!(read("1.5e2f"), Ok((DType::F32, 150.0)));
        assert_eq!(read("1bf16"), Ok((DType::BF16, 1.0)));
        assert_eq!(read("1.f64"), Ok((DType::F64, 1.0)));
        assert_eq!(scalar("2147483648", true).map(|s| s.dtype()), Ok(DType::I32));
        assert_eq!(scalar("0f", true).map(|s| s.bits()), Ok(0x8000_0000));
    }

    #[test]
    fn overflow_and_nonsense_are_errors() {
        for bad in
            ["3000000000i", "128i8", "256u8", "65520f16", "1e39f", "1e400f64", "1.0", "1e5", "1.5i8", "1q"]
        {
            assert!(scalar(bad, false).is_err(), "{bad}");
        }
        assert!(scalar("1u8", true).is_err());
        assert!(scalar("99999999999999999999999999999999999999999999", false).is_err());
        assert!(element(DType::F32, "0x1ffffffff", false).is_err());
        assert!(scalar("129i8", true).is_err() && scalar("128i8", true).is_ok());
    }

    #[test]
    fn printed_scalars_read_back() {
        let check = |s: Scalar| {
            let text = print_element(s);
            let (digits, negative) = text.strip_prefix('-').map_or((&*text, false), |t| (t, true));
            if s.dtype() != DType::Bool {
                assert_eq!(element(s.dtype(), digits, negative), Ok(s), "{text}");
            }
            if let Some(text) = print_scalar(s) {
                let (digits, negative) = text.strip_prefix('-').map_or((&*text, false), |t| (t, true));
                if s.dtype() != DType::Bool {
                    assert_eq!(scalar(digits, negative), Ok(s), "{text}");
                }
            }
        };
        for bits in 0..=u16::MAX as u64 {
            check(Scalar::from_bits(DType::F16, bits));
            check(Scalar::from_bits(DType::BF16, bits));
            check(Scalar::from_bits(DType::I16, bits));
        }
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            for dtype in DType::ALL {
                check(Scalar::from_bits(dtype, x >> 3));
            }
        }
    }

    #[test]
    fn printed_scalars_are_short() {
        let print = |s| print_scalar(s).expect("it has a literal");
        assert_eq!(print(Scalar::of(1f32)), "1f");
        assert_eq!(print(Scalar::of(0.1f32)), "0.1f");
        assert_eq!(print(Scalar::of(f16::from_f32(0.1))), "0.1f16");
        assert_eq!(print(Scalar::of(1e-30f32)), "1e-30f");
        assert_eq!(print(Scalar::of(-0f64)), "-0f64");
        assert_eq!(print(Scalar::of(f32::NAN)), "nanf");
        assert_eq!(print(Scalar::of(f64::INFINITY)), "inff64");
        assert_eq!(print(Scalar::of(-1i8)), "-1i8");
        assert_eq!(print_scalar(Scalar::from_bits(DType::F32, 0x7f80_0001)), None);
    }

    #[test]
    fn strings_read_back() {
        for s in ["", "a b", "a\"b\\c", "\n\t\r\u{0}\u{7f}é", "\\n"] {
            assert_eq!(unquote(&quote(s)).as_deref(), Ok(s));
        }
        assert_eq!(unquote("plain").as_deref(), Ok("plain"));
        assert!(unquote(r#""\q""#).is_err() && unquote(r#""\u{d800}""#).is_err());
    }
}
