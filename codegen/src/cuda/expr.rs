//! Scalar expressions as C.
//!
//! Index arithmetic is `int64` in TIR. Where intervals show that an operation and its operands
//! fit in 32 bits it is emitted as `int`, which GPUs are several times faster at; values that
//! analysis does not bound are computed in `long long`, wrapping. What is used several times
//! and is long gets a name before the statement, except under a select that might not choose
//! it: loads stay where they may be guarded.

use std::collections::BTreeMap;

use fermata_ir::entity::SecondaryMap;
use fermata_ir::scalar::{BinaryOp, CmpOp, Scalar, UnaryOp};
use fermata_ir::tir::interval::{Bounds, Interval};
use fermata_ir::tir::visit::{has_load, post_order};
use fermata_ir::tir::{BufferId, Expr, ExprKind, PrimFunc, VarId};
use fermata_ir::types::DType;

use super::convert::{cast, float_literal, from_compute, reinterpret, to_compute};
use super::helpers::{Helpers, c_type, compute_type};
use super::names::Names;
use super::ops;

/// What an `int` holds.
const INT: Interval = Interval::new(i32::MIN as i64, i32::MAX as i64);

/// Nodes that an expression must have as a tree to get a name where it is shared.
const NAMED_SIZE: u64 = 16;

/// A C expression that binds as tightly as a call.
#[derive(Clone, Debug)]
pub struct Text {
    /// The expression.
    pub code: String,
    /// Of dtype `int64`: whether it is an `int`.
    pub narrow: bool,
}

/// What expressions are written with: names, what is known of variables, helpers used so far.
pub struct Exprs<'a> {
    /// The function.
    pub func: &'a PrimFunc,
    /// Names of buffers.
    pub buffers: SecondaryMap<BufferId, String>,
    /// Gives out names.
    pub names: Names,
    /// Names of variables, once they are bound, and whether one is an `int`.
    pub vars: SecondaryMap<VarId, Option<Text>>,
    /// What is known of variables.
    pub bounds: Bounds,
    /// Device functions that are called.
    pub helpers: Helpers,
    /// Definitions that must stand before the statement at hand.
    pub pending: Vec<String>,
    uses: BTreeMap<usize, u32>,
    named: BTreeMap<usize, Text>,
    guarded: bool,
}

impl<'a> Exprs<'a> {
    /// Nothing is written yet.
    pub fn new(func: &'a PrimFunc, names: Names) -> Exprs<'a> {
        Exprs {
            func,
            names,
            buffers: SecondaryMap::new(),
            vars: SecondaryMap::new(),
            bounds: Bounds::new(),
            helpers: Helpers::default(),
            pending: Vec::new(),
            uses: BTreeMap::new(),
            named: BTreeMap::new(),
            guarded: false,
        }
    }

    /// Begins a statement with these expressions.
    pub fn begin<'e>(&mut self, roots: impl IntoIterator<Item = &'e Expr>) {
        self.uses.clear();
        self.named.clear();
        for e in post_order(roots) {
            for c in e.kind().children() {
                *self.uses.entry(c.key()).or_default() += 1;
            }
        }
    }

    /// An expression of the statement that was begun.
    pub fn expr(&mut self, e: &Expr) -> Text {
        if let Some(known) = self.named.get(&e.key()) {
            return known.clone();
        }
        let text = self.node(e);
        let shared = self.uses.get(&e.key()).is_some_and(|n| *n > 1) && e.size() >= NAMED_SIZE;
        if !shared || (self.guarded && has_load(e)) {
            return text;
        }
        let name = self.names.take("shared");
        let ty = if text.narrow { "int" } else { c_type(e.dtype()) };
        self.pending.push(format!("const {ty} {name} = {};", bare(&text.code)));
        let named = Text { code: name, narrow: text.narrow };
        self.named.insert(e.key(), named.clone());
        named
    }

    /// The code of an expression without parentheses around it.
    pub fn bare(&mut self, e: &Expr) -> String {
        bare(&self.expr(e).code).to_string()
    }

    fn code(&mut self, e: &Expr) -> String {
        self.expr(e).code
    }

    fn node(&mut self, e: &Expr) -> Text {
        if e.dtype() == DType::I64 {
            return self.index(e);
        }
        let h = |s: &mut Self, f: &mut dyn FnMut(&mut Helpers) -> String| f(&mut s.helpers);
        let code = match e.kind() {
            ExprKind::Const(s) => literal(*s),
            ExprKind::Var(v) => return self.var(*v),
            ExprKind::Cast(a) => {
                let code = self.code(a);
                cast(&mut self.helpers, a.dtype(), e.dtype(), code)
            }
            ExprKind::Reinterpret(a) => reinterpret(a.dtype(), e.dtype(), self.code(a)),
            ExprKind::Unary(op, a) => {
                let code = self.wide(a);
                h(self, &mut |h| ops::unary(h, *op, a.dtype(), code.clone()))
            }
            ExprKind::Binary(op, a, b) => {
                let (a, b) = (self.code(a), self.code(b));
                h(self, &mut |h| ops::binary(h, *op, e.dtype(), a.clone(), b.clone()))
            }
            ExprKind::Cmp(op, a, b) => self.compare(*op, a, b),
            ExprKind::Fma(a, b, c) => self.fma(e.dtype(), [a, b, c]),
            ExprKind::Select(c, a, b) => {
                let (c, a, b) = self.select(c, a, b);
                format!("({c} ? {} : {})", a.code, b.code)
            }
            ExprKind::Load(buffer, indices) => {
                let place = self.element(*buffer, indices);
                if e.dtype() == DType::Bool { format!("({place} != 0)") } else { place }
            }
        };
        Text { code, narrow: false }
    }

    fn var(&self, v: VarId) -> Text {
        self.vars[v].clone().expect("the verifier has seen that variables are bound where they are used")
    }

    /// An operand that is `int64` only as a `long long`.
    fn wide(&mut self, e: &Expr) -> String {
        let text = self.expr(e);
        if text.narrow { format!("((long long){})", text.code) } else { text.code }
    }

    fn fits(&self, e: &Expr) -> bool {
        let interval = self.bounds.of(e);
        interval.is_bounded() && interval.within(INT)
    }

    /// An expression of dtype `int64`.
    fn index(&mut self, e: &Expr) -> Text {
        let narrow = |code: String| Text { code, narrow: true };
        let wide = |code: String| Text { code, narrow: false };
        match e.kind() {
            ExprKind::Const(s) => match i32::try_from(s.as_i64()) {
                Ok(n) if n < 0 && n != i32::MIN => narrow(format!("({n})")),
                Ok(n) if n >= 0 => narrow(n.to_string()),
                _ => wide(literal(*s)),
            },
            ExprKind::Var(v) => self.var(*v),
            ExprKind::Cast(a) if a.dtype().is_int() && a.dtype().bytes() <= 4 && a.dtype() != DType::U32 => {
                narrow(format!("((int){})", self.code(a)))
            }
            ExprKind::Cast(a) if a.dtype() == DType::Bool => narrow(format!("((int){})", self.code(a))),
            ExprKind::Cast(a) => {
                let code = self.code(a);
                wide(cast(&mut self.helpers, a.dtype(), DType::I64, code))
            }
            ExprKind::Reinterpret(a) => {
                let code = self.wide(a);
                wide(reinterpret(a.dtype(), DType::I64, code))
            }
            ExprKind::Unary(op, a) => match (op, self.expr(a)) {
                (UnaryOp::Neg, Text { code, narrow: true }) if self.fits(e) => narrow(format!("(-{code})")),
                _ => {
                    let code = self.wide(a);
                    wide(ops::unary(&mut self.helpers, *op, DType::I64, code))
                }
            },
            ExprKind::Binary(op, a, b) => self.index_binary(e, *op, a, b),
            ExprKind::Fma(a, b, c) => wide(self.fma(DType::I64, [a, b, c])),
            ExprKind::Select(c, a, b) => {
                let (c, a, b) = self.select(c, a, b);
                Text { code: format!("({c} ? {} : {})", a.code, b.code), narrow: a.narrow && b.narrow }
            }
            ExprKind::Load(buffer, indices) => wide(self.element(*buffer, indices)),
            ExprKind::Cmp(..) => unreachable!("a comparison is a bool"),
        }
    }

    fn index_binary(&mut self, e: &Expr, op: BinaryOp, a: &Expr, b: &Expr) -> Text {
        let (x, y) = (self.expr(a), self.expr(b));
        let both = x.narrow && y.narrow && self.fits(e);
        let positive = self.bounds.of(a).lo >= 0 && self.bounds.of(b).lo > 0;
        let infix = |op: &str| infix(op, &x.code, &y.code);
        let code = match op {
            BinaryOp::Add if both => infix("+"),
            BinaryOp::Sub if both => infix("-"),
            BinaryOp::Mul if both => infix("*"),
            BinaryOp::Div | BinaryOp::FloorDiv if both && positive => infix("/"),
            BinaryOp::Mod | BinaryOp::FloorMod if both && positive => infix("%"),
            _ if both => ops::binary(&mut self.helpers, op, DType::I32, x.code, y.code),
            _ => {
                let (a, b) = (self.wide(a), self.wide(b));
                ops::binary(&mut self.helpers, op, DType::I64, a, b)
            }
        };
        Text { code, narrow: both }
    }

    /// The three parts of a select. The sides are guarded by the condition.
    fn select(&mut self, c: &Expr, a: &Expr, b: &Expr) -> (String, Text, Text) {
        let c = self.code(c);
        let outer = std::mem::replace(&mut self.guarded, true);
        let (a, b) = (self.expr(a), self.expr(b));
        self.guarded = outer;
        (c, a, b)
    }

    fn compare(&mut self, op: CmpOp, a: &Expr, b: &Expr) -> String {
        let symbol = match op {
            CmpOp::Eq => "==",
            CmpOp::Ne => "!=",
            CmpOp::Lt => "<",
            CmpOp::Le => "<=",
            CmpOp::Gt => ">",
            CmpOp::Ge => ">=",
        };
        let dtype = a.dtype();
        let (a, b) = (self.code(a), self.code(b));
        let (a, b) = (to_compute(&mut self.helpers, dtype, a), to_compute(&mut self.helpers, dtype, b));
        format!("({a} {symbol} {b})")
    }

    fn fma(&mut self, dtype: DType, parts: [&Expr; 3]) -> String {
        let [a, b, c] = parts.map(|e| self.wide(e));
        if !dtype.is_float() {
            let product = ops::binary(&mut self.helpers, BinaryOp::Mul, dtype, a, b);
            return ops::binary(&mut self.helpers, BinaryOp::Add, dtype, product, c);
        }
        let [a, b, c] = [a, b, c].map(|x| to_compute(&mut self.helpers, dtype, x));
        let f = if compute_type(dtype) == DType::F64 { "" } else { "f" };
        from_compute(&mut self.helpers, dtype, format!("fma{f}({a}, {b}, {c})"))
    }

    /// `buffer[offset]`.
    pub fn element(&mut self, buffer: BufferId, indices: &[Expr]) -> String {
        let func = self.func;
        let shape = &func.buffers[buffer].shape;
        let large = shape.iter().product::<usize>() > i32::MAX as usize;
        let mut stride: usize = shape.iter().product();
        let mut terms = Vec::new();
        for (index, &n) in indices.iter().zip(shape) {
            stride = stride.checked_div(n).unwrap_or(0);
            let text = if large { self.wide(index) } else { self.code(index) };
            match (stride, index.as_int()) {
                (_, Some(0)) | (0, _) => {}
                (1, _) => terms.push(bare(&text).to_string()),
                _ => terms.push(bare(&infix("*", &text, &stride.to_string())).to_string()),
            }
        }
        let offset = if terms.is_empty() { "0".into() } else { terms.join(" + ") };
        format!("{}[{offset}]", self.buffers[buffer])
    }
}

/// `(a op b)` of integers, without parentheses that C does not need inside.
fn infix(op: &str, a: &str, b: &str) -> String {
    let product = |op: &str| matches!(op, "*" | "/" | "%");
    // Operators of one rank bind from the left.
    let a = match outermost(a) {
        Some(inner) if !product(op) || product(inner) => bare(a),
        _ => a,
    };
    let b = match outermost(b) {
        Some(inner) if !product(op) && product(inner) => bare(b),
        _ => b,
    };
    format!("({a} {op} {b})")
}

/// The loosest operator of `(a op b op c)`, if all are of arithmetic.
fn outermost(code: &str) -> Option<&str> {
    let inner = bare(code);
    if inner.len() == code.len() {
        return None;
    }
    let mut depth = 0i32;
    let mut loosest = None;
    for word in inner.split(' ') {
        if depth == 0 && !word.starts_with(|c: char| c.is_alphanumeric() || c == '(' || c == '_') {
            match word {
                "+" | "-" => loosest = Some(word),
                "*" | "/" | "%" => loosest = loosest.or(Some(word)),
                _ => return None,
            }
        }
        depth += word.matches(['(', '[']).count() as i32 - word.matches([')', ']']).count() as i32;
    }
    loosest
}

/// The code without the parentheses that are around all of it.
pub fn bare(code: &str) -> &str {
    let Some(inner) = code.strip_prefix('(').and_then(|c| c.strip_suffix(')')) else { return code };
    let mut depth = 0i32;
    for c in inner.bytes() {
        depth += (c == b'(') as i32 - (c == b')') as i32;
        if depth < 0 {
            return code;
        }
    }
    inner
}

/// A literal, exact.
pub fn literal(value: Scalar) -> String {
    let n = value.as_i64();
    let signed = |text: String| if n < 0 { format!("({text})") } else { text };
    match value.dtype() {
        DType::Bool => {
            if value.bits() != 0 {
                "true".into()
            } else {
                "false".into()
            }
        }
        DType::F16 | DType::BF16 => format!("((unsigned short){:#x})", value.bits()),
        d @ (DType::F32 | DType::F64) => {
            let text = float_literal(d, value.as_f64());
            if text.starts_with('-') { format!("({text})") } else { text }
        }
        DType::I64 if n == i64::MIN => "(-9223372036854775807ll - 1)".into(),
        DType::I32 if n == i64::from(i32::MIN) => "(-2147483647 - 1)".into(),
        DType::I64 => signed(format!("{n}ll")),
        DType::I32 => signed(n.to_string()),
        DType::U32 => format!("{n}u"),
        DType::U64 => format!("{}ull", value.bits()),
        d => format!("(({}){n})", c_type(d)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_stand_only_where_they_are_needed() {
        let sum = infix("+", "a", "b");
        let product = infix("*", "a", "b");
        assert_eq!(infix("+", &sum, &product), "(a + b + a * b)");
        assert_eq!(infix("*", &sum, &product), "((a + b) * (a * b))");
        assert_eq!(infix("-", &product, &sum), "(a * b - (a + b))");
        assert_eq!(infix("%", &product, "c"), "(a * b % c)");
        assert_eq!(infix("+", "(-a)", "(c ? a : b)"), "((-a) + (c ? a : b))");
        assert_eq!(infix("+", "f(a + b)", "x[a + b]"), "(f(a + b) + x[a + b])");
    }
}
