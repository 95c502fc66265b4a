//! Device functions that emitted kernels call: each is written out only where it is used.
//!
//! They give the operations of [`fermata_ir::scalar`] a meaning for every input: integers wrap,
//! division by zero is 0, shifts and conversions are defined, `min` and `max` propagate NaN. A
//! 16-bit float is its bits in an `unsigned short`; it computes in `float` and rounds once.

use fermata_ir::types::DType;

/// The C type of a value.
pub fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::BF16 | DType::U16 => "unsigned short",
        DType::F32 => "float",
        DType::F64 => "double",
        DType::I8 => "signed char",
        DType::I16 => "short",
        DType::I32 => "int",
        DType::I64 => "long long",
        DType::U8 => "unsigned char",
        DType::U32 => "unsigned int",
        DType::U64 => "unsigned long long",
        DType::Bool => "bool",
    }
}

/// The unsigned type in which integers of a dtype wrap.
fn wrapping_type(dtype: DType) -> &'static str {
    if dtype.bytes() == 8 { "unsigned long long" } else { "unsigned int" }
}

/// The C type of a float that an operation on a dtype computes in.
pub fn compute_type(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The helpers that a kernel uses, each after those that it calls.
#[derive(Debug, Default)]
pub struct Helpers {
    defined: Vec<(String, String)>,
}

impl Helpers {
    /// The definitions.
    pub fn text(&self) -> String {
        self.defined.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Defines a function, unless it is; gives its name.
    pub fn define(&mut self, name: String, result: &str, params: &str, body: &str) -> String {
        if !self.defined.iter().any(|(known, _)| *known == name) {
            let text = format!("static __device__ __forceinline__ {result} {name}({params}) {{ {body} }}\n");
            self.defined.push((name.clone(), text));
        }
        name
    }

    /// Defines a function whose body has several lines, under a comment, unless it is defined; gives
    /// its name.
    pub fn define_long(&mut self, name: &str, comment: &str, params: &str, lines: &[&str]) -> String {
        if !self.defined.iter().any(|(known, _)| *known == name) {
            let body: String = lines.iter().map(|line| format!("    {line}\n")).collect();
            let text = format!(
                "// {comment}\nstatic __device__ __forceinline__ void {name}({params}) {{\n{body}}}\n\n"
            );
            self.defined.push((name.into(), text));
        }
        name.into()
    }

    /// `a op b` of wrapping integers, `op` being `+`, `-` or `*`.
    pub fn wrapping(&mut self, verb: &str, op: &str, dtype: DType) -> String {
        let (t, u) = (c_type(dtype), wrapping_type(dtype));
        let body = format!("return ({t})(({u})a {op} ({u})b);");
        self.define(format!("fm_{verb}_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// Truncating division (`/`) or its remainder (`%`) of integers.
    pub fn quotient(&mut self, op: &str, dtype: DType) -> String {
        let (t, u) = (c_type(dtype), wrapping_type(dtype));
        let verb = if op == "/" { "div" } else { "mod" };
        let minus_one = match (dtype.is_signed_int(), op) {
            (false, _) => String::new(),
            (true, "/") => format!("b == -1 ? ({t})(0 - ({u})a) : "),
            (true, _) => format!("b == -1 ? ({t})0 : "),
        };
        let body = format!("return b == 0 ? ({t})0 : {minus_one}({t})(a {op} b);");
        self.define(format!("fm_{verb}_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// Division rounded down of integers.
    pub fn floor_div(&mut self, dtype: DType) -> String {
        let (div, rem) = (self.quotient("/", dtype), self.quotient("%", dtype));
        let t = c_type(dtype);
        let body = format!(
            "const {t} r = {rem}(a, b); return ({t})({div}(a, b) - (r != 0 && (r < 0) != (b < 0) ? 1 : 0));"
        );
        self.define(format!("fm_floordiv_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// Remainder with the sign of the divisor, of integers.
    pub fn floor_mod(&mut self, dtype: DType) -> String {
        let rem = self.quotient("%", dtype);
        let t = c_type(dtype);
        let body =
            format!("const {t} r = {rem}(a, b); return ({t})(r + (r != 0 && (r < 0) != (b < 0) ? b : 0));");
        self.define(format!("fm_floormod_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// Shifts of integers by any amount.
    pub fn shift(&mut self, left: bool, dtype: DType) -> String {
        let (t, u, bits) = (c_type(dtype), wrapping_type(dtype), dtype.bits());
        let out = if dtype.is_signed_int() { "b < 0 || b >= BITS" } else { "b >= BITS" };
        let out = out.replace("BITS", &bits.to_string());
        let (verb, body) = match left {
            true => ("shl", format!("return {out} ? ({t})0 : ({t})(({u})a << b);")),
            false => ("shr", format!("return {out} ? ({t})(a < 0 ? -1 : 0) : ({t})(a >> b);")),
        };
        let body = if dtype.is_signed_int() { body } else { body.replace("(a < 0 ? -1 : 0)", "0") };
        self.define(format!("fm_{verb}_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// An integer to the power of another.
    pub fn int_power(&mut self, dtype: DType) -> String {
        let mul = self.wrapping("mul", "*", dtype);
        let t = c_type(dtype);
        let negative = if dtype.is_signed_int() {
            format!("if (b < 0) return a == 1 ? ({t})1 : a == -1 ? (({t})((b & 1) ? -1 : 1)) : ({t})0; ")
        } else {
            String::new()
        };
        let body = format!(
            "{negative}{t} r = 1; for (; b != 0; b = ({t})(b >> 1)) {{ if (b & 1) r = {mul}(r, a); a = {mul}(a, a); }} return r;"
        );
        self.define(format!("fm_pow_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// The smaller (`<`) or larger (`>`) of two floats: NaN wins, and -0 is less than 0.
    pub fn extreme(&mut self, op: &str, dtype: DType) -> String {
        let t = c_type(dtype);
        let (verb, sign) = if op == "<" { ("min", "signbit(a)") } else { ("max", "!signbit(a)") };
        let body = format!("return a {op} b || (a == b && {sign}) || a != a ? a : b;");
        self.define(format!("fm_{verb}_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// Remainder with the sign of the divisor, of floats.
    pub fn float_floor_mod(&mut self, dtype: DType) -> String {
        let (t, f) = (c_type(dtype), if dtype == DType::F64 { "" } else { "f" });
        let body = format!(
            "const {t} r = fmod{f}(a, b); return r == 0 ? copysign{f}(({t})0, b) : (r < 0) != (b < 0) ? r + b : r;"
        );
        self.define(format!("fm_floormod_{}", dtype.name()), t, &format!("{t} a, {t} b"), &body)
    }

    /// -1, 0 or 1; NaN stays.
    pub fn sign(&mut self, dtype: DType) -> String {
        let t = c_type(dtype);
        let body = match dtype.is_float() {
            true => format!("return a > 0 ? ({t})1 : a < 0 ? ({t})-1 : a + ({t})0;"),
            false => format!("return ({t})((a > 0) - (a < 0));"),
        };
        self.define(format!("fm_sign_{}", dtype.name()), t, &format!("{t} a"), &body)
    }

    /// `1 / (1 + exp(-a))`.
    pub fn sigmoid(&mut self, dtype: DType) -> String {
        let t = c_type(dtype);
        let body = match dtype {
            DType::F64 => "return 1.0 / (1.0 + exp(-a));",
            _ => "return 1.0f / (1.0f + expf(-a));",
        };
        self.define(format!("fm_sigmoid_{}", dtype.name()), t, &format!("{t} a"), body)
    }

    /// A float of 16 bits as a `float`.
    pub fn widen(&mut self, dtype: DType) -> String {
        let (name, body) = match dtype {
            DType::F16 => {
                ("fm_from_float16", r#"float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(a)); return f;"#)
            }
            _ => ("fm_from_bfloat16", "return __uint_as_float((unsigned int)a << 16);"),
        };
        self.define(name.into(), "float", "unsigned short a", body)
    }

    /// A `float` rounded to 16 bits, ties to even.
    pub fn narrow(&mut self, dtype: DType) -> String {
        let (name, body) = match dtype {
            DType::F16 => (
                "fm_to_float16",
                r#"unsigned short h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(a)); return h;"#,
            ),
            _ => (
                "fm_to_bfloat16",
                "const unsigned int u = __float_as_uint(a); \
                 return (unsigned short)(a != a ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);",
            ),
        };
        self.define(name.into(), "unsigned short", "float a", body)
    }

    /// A `double` as the `float` beside it whose last bit is 1, unless it is exact: rounding
    /// that to 16 bits gives what rounding once would.
    pub fn round_to_odd(&mut self) -> String {
        let body = "const float n = (float)a; if ((double)n == a || a != a || isinf(n)) return n; \
                    return __uint_as_float((__float_as_uint(n) - (fabs((double)n) > fabs(a) ? 1u : 0u)) | 1u);";
        self.define("fm_round_to_odd".into(), "float", "double a", body)
    }

    /// An integer of 64 bits as a `double` that rounds to 16 bits as the integer does.
    pub fn sticky(&mut self, dtype: DType) -> String {
        let t = c_type(dtype);
        let body = "const unsigned long long m = a < 0 ? 0ull - (unsigned long long)a : (unsigned long long)a; \
                    const double d = (double)(m < (1ull << 53) ? m : (m & ~0xffffffffull) | \
                    ((unsigned long long)((m & 0xffffffffull) != 0) << 32)); return a < 0 ? -d : d;";
        let body = if dtype == DType::U64 {
            body.replace("a < 0 ? 0ull - (unsigned long long)a : ", "").replace("a < 0 ? -d : d", "d")
        } else {
            body.into()
        };
        self.define(format!("fm_sticky_{}", dtype.name()), "double", &format!("{t} a"), &body)
    }

    /// A float as an integer: truncated, saturated, NaN to 0.
    pub fn saturate(&mut self, from: DType, to: DType) -> String {
        let (f, t) = (c_type(from), c_type(to));
        let bits = to.bits() as i32;
        let (low, high, min, max) = match to.is_signed_int() {
            true => {
                let limit = 2f64.powi(bits - 1);
                let min = if bits == 64 {
                    "(-9223372036854775807ll - 1)".into()
                } else {
                    format!("{}", -(1i64 << (bits - 1)))
                };
                (format!("{:?}", -limit), limit, min, format!("{}", (1u64 << (bits - 1)) - 1))
            }
            false => ("0.0".into(), 2f64.powi(bits), "0".into(), format!("{}", u64::MAX >> (64 - bits))),
        };
        let suffix = match (to.bytes(), to.is_signed_int()) {
            (8, true) => "ll",
            (8, false) => "ull",
            (4, false) => "u",
            _ => "",
        };
        let body = format!(
            "return a != a ? ({t})0 : a <= ({f}){low} ? ({t}){min} : a >= ({f}){high:?} ? ({t}){max}{suffix} : ({t})a;"
        );
        self.define(format!("fm_{}_from_{}", to.name(), from.name()), t, &format!("{f} a"), &body)
    }
}
