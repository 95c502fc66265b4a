//! Scalar expressions as text, and the names of operations in it.

use crate::scalar::{BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::tir::{BufferId, Expr, ExprKind, VarId};
use crate::types::DType;

/// How buffers and variables are spelled.
pub trait Names {
    /// The name of a buffer.
    fn buffer(&self, buffer: BufferId) -> &str;
    /// The name of a variable.
    fn var(&self, var: VarId) -> &str;
}

/// Functions of one scalar, spelled `T.name(x)`.
pub const UNARY: &[(UnaryOp, &str)] = &[
    (UnaryOp::Neg, "neg"),
    (UnaryOp::Abs, "abs"),
    (UnaryOp::Sign, "sign"),
    (UnaryOp::Floor, "floor"),
    (UnaryOp::Ceil, "ceil"),
    (UnaryOp::Round, "round"),
    (UnaryOp::Trunc, "trunc"),
    (UnaryOp::Sqrt, "sqrt"),
    (UnaryOp::Rsqrt, "rsqrt"),
    (UnaryOp::Exp, "exp"),
    (UnaryOp::Log, "log"),
    (UnaryOp::Log2, "log2"),
    (UnaryOp::Log10, "log10"),
    (UnaryOp::Sin, "sin"),
    (UnaryOp::Cos, "cos"),
    (UnaryOp::Tan, "tan"),
    (UnaryOp::Asin, "asin"),
    (UnaryOp::Acos, "acos"),
    (UnaryOp::Atan, "atan"),
    (UnaryOp::Sinh, "sinh"),
    (UnaryOp::Cosh, "cosh"),
    (UnaryOp::Tanh, "tanh"),
    (UnaryOp::Asinh, "asinh"),
    (UnaryOp::Acosh, "acosh"),
    (UnaryOp::Atanh, "atanh"),
    (UnaryOp::Erf, "erf"),
    (UnaryOp::Sigmoid, "sigmoid"),
    (UnaryOp::Not, "bitwise_not"),
    (UnaryOp::IsNan, "isnan"),
    (UnaryOp::IsInf, "isinf"),
    (UnaryOp::IsFinite, "isfinite"),
];

/// Functions of two scalars, spelled `T.name(x, y)` where no operator is.
pub const BINARY: &[(BinaryOp, &str)] = &[
    (BinaryOp::Div, "truncdiv"),
    (BinaryOp::Mod, "truncmod"),
    (BinaryOp::Min, "min"),
    (BinaryOp::Max, "max"),
    (BinaryOp::Pow, "pow"),
    (BinaryOp::Atan2, "atan2"),
    (BinaryOp::And, "bitwise_and"),
    (BinaryOp::Or, "bitwise_or"),
    (BinaryOp::Xor, "bitwise_xor"),
    (BinaryOp::Shl, "shift_left"),
    (BinaryOp::Shr, "shift_right"),
];

/// How tightly operators bind, as in Python.
pub mod prec {
    /// Anything may stand here.
    pub const ANY: u8 = 0;
    /// `or`.
    pub const OR: u8 = 1;
    /// `and`.
    pub const AND: u8 = 2;
    /// `not`.
    pub const NOT: u8 = 3;
    /// Comparisons; they do not chain.
    pub const CMP: u8 = 4;
    /// `+` and `-`.
    pub const SUM: u8 = 5;
    /// `*`, `/`, `//` and `%`.
    pub const PRODUCT: u8 = 6;
    /// The sign.
    pub const SIGN: u8 = 7;
}

/// The operator of a comparison.
pub const fn cmp_symbol(op: CmpOp) -> &'static str {
    match op {
        CmpOp::Eq => " == ",
        CmpOp::Ne => " != ",
        CmpOp::Lt => " < ",
        CmpOp::Le => " <= ",
        CmpOp::Gt => " > ",
        CmpOp::Ge => " >= ",
    }
}

/// The infix operator of a binary operation on a dtype, with how tightly it binds.
fn infix(op: BinaryOp, dtype: DType) -> Option<(&'static str, u8)> {
    match op {
        BinaryOp::Add => Some((" + ", prec::SUM)),
        BinaryOp::Sub => Some((" - ", prec::SUM)),
        BinaryOp::Mul => Some((" * ", prec::PRODUCT)),
        BinaryOp::Div if dtype.is_float() => Some((" / ", prec::PRODUCT)),
        BinaryOp::FloorDiv => Some((" // ", prec::PRODUCT)),
        BinaryOp::FloorMod => Some((" % ", prec::PRODUCT)),
        BinaryOp::And if dtype == DType::Bool => Some((" and ", prec::AND)),
        BinaryOp::Or if dtype == DType::Bool => Some((" or ", prec::OR)),
        BinaryOp::Div
        | BinaryOp::Mod
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => None,
    }
}

fn name_in<O: PartialEq + Copy>(table: &[(O, &'static str)], op: O) -> &'static str {
    table.iter().find(|(o, _)| *o == op).map(|(_, name)| *name).expect("every operation has a name")
}

/// What is still to be written.
enum Item<'a> {
    Expr(&'a Expr, u8),
    Text(&'static str),
    Name(String),
}

/// Writes an expression where operators of less than `min_prec` need parentheses.
pub fn write_expr(out: &mut String, root: &Expr, min_prec: u8, names: &dyn Names) {
    let mut stack = vec![Item::Expr(root, min_prec)];
    while let Some(item) = stack.pop() {
        match item {
            Item::Text(text) => out.push_str(text),
            Item::Name(text) => out.push_str(&text),
            Item::Expr(e, min_prec) => {
                let start = stack.len();
                items(e, min_prec, names, &mut stack);
                stack[start..].reverse();
            }
        }
    }
}

/// An expression as text.
pub fn expr_text(root: &Expr, names: &dyn Names) -> String {
    let mut out = String::new();
    write_expr(&mut out, root, prec::ANY, names);
    out
}

/// Appends the parts of one node, first part first.
fn items<'a>(e: &'a Expr, min_prec: u8, names: &dyn Names, out: &mut Vec<Item<'a>>) {
    let mut operator = |level: u8, parts: Vec<Item<'a>>| {
        let parens = level < min_prec;
        out.extend(parens.then_some(Item::Text("(")));
        out.extend(parts);
        out.extend(parens.then_some(Item::Text(")")));
    };
    match e.kind() {
        ExprKind::Const(s) => out.push(Item::Name(literal(*s))),
        ExprKind::Var(v) => out.push(Item::Name(names.var(*v).to_string())),
        ExprKind::Cast(a) => call(format!("T.Cast(\"{}\", ", e.dtype().name()), &[a], out),
        ExprKind::Reinterpret(a) => call(format!("T.reinterpret(\"{}\", ", e.dtype().name()), &[a], out),
        ExprKind::Unary(UnaryOp::Neg, a) if !matches!(a.kind(), ExprKind::Const(_)) => {
            operator(prec::SIGN, vec![Item::Text("-"), Item::Expr(a, prec::SIGN)]);
        }
        ExprKind::Unary(UnaryOp::Not, a) if e.dtype() == DType::Bool => {
            operator(prec::NOT, vec![Item::Text("not "), Item::Expr(a, prec::NOT)]);
        }
        ExprKind::Unary(op, a) => call(format!("T.{}(", name_in(UNARY, *op)), &[a], out),
        ExprKind::Binary(op, a, b) => match infix(*op, e.dtype()) {
            Some((symbol, level)) => {
                let parts = vec![Item::Expr(a, level), Item::Text(symbol), Item::Expr(b, level + 1)];
                operator(level, parts);
            }
            None => call(format!("T.{}(", name_in(BINARY, *op)), &[a, b], out),
        },
        ExprKind::Cmp(op, a, b) => {
            let side = prec::CMP + 1;
            operator(prec::CMP, vec![Item::Expr(a, side), Item::Text(cmp_symbol(*op)), Item::Expr(b, side)]);
        }
        ExprKind::Fma(a, b, c) => call("T.fma(".to_string(), &[a, b, c], out),
        ExprKind::Select(c, a, b) => call("T.if_then_else(".to_string(), &[c, a, b], out),
        ExprKind::Load(buffer, indices) => {
            out.push(Item::Name(names.buffer(*buffer).to_string()));
            out.push(Item::Text(if indices.is_empty() { "[()" } else { "[" }));
            list(indices.iter(), out);
            out.push(Item::Text("]"));
        }
    }
}

fn call<'a>(head: String, args: &[&'a Expr], out: &mut Vec<Item<'a>>) {
    out.push(Item::Name(head));
    list(args.iter().copied(), out);
    out.push(Item::Text(")"));
}

fn list<'a>(exprs: impl Iterator<Item = &'a Expr>, out: &mut Vec<Item<'a>>) {
    for (i, e) in exprs.enumerate() {
        out.extend((i > 0).then_some(Item::Text(", ")));
        out.push(Item::Expr(e, prec::ANY));
    }
}

/// A literal: `int64` plain, every other dtype as `T.dtype(value)`.
pub fn literal(s: Scalar) -> String {
    match s.dtype() {
        DType::I64 => s.as_i64().to_string(),
        DType::Bool => format!("T.bool({})", if s.as_i64() != 0 { "True" } else { "False" }),
        DType::U64 => format!("T.uint64({})", s.bits()),
        d if d.is_float() => format!("T.{}({})", d.name(), float_text(s)),
        d => format!("T.{}({})", d.name(), s.as_i64()),
    }
}

/// The shortest decimal that reads back as the same float; what is no number is a string.
pub fn float_text(s: Scalar) -> String {
    let value = s.as_f64();
    if value.is_nan() {
        // The usual NaN has a short spelling; others keep their bits.
        let usual = Scalar::from_f64(s.dtype(), f64::NAN);
        return if s == usual { "\"nan\"".into() } else { format!("\"nan:{:x}\"", s.bits()) };
    }
    if value.is_infinite() {
        return format!("\"{}inf\"", if value < 0.0 { "-" } else { "" });
    }
    let text = match s.dtype() {
        DType::F32 => format!("{:?}", value as f32),
        DType::F16 | DType::BF16 => short_text(s, value),
        _ => format!("{value:?}"),
    };
    text.strip_suffix(".0").unwrap_or(&text).to_string()
}

/// The fewest digits that round to the same half-precision value.
fn short_text(s: Scalar, value: f64) -> String {
    let candidates = (0..8).map(|digits| format!("{value:.digits$e}"));
    let parsed = candidates.filter_map(|text| text.parse::<f64>().ok());
    let short = parsed.into_iter().find(|v| Scalar::from_f64(s.dtype(), *v) == s);
    format!("{:?}", short.unwrap_or(value))
}
