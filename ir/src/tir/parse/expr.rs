//! Scalar expressions, by operator precedence on explicit stacks.

use super::cursor::{Cursor, Named, Scope};
use super::token::Token;
use crate::diag::{Diagnostic, Span};
use crate::entity::PrimaryMap;
use crate::scalar::{BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::tir::ir::MAX_EXPR_DEPTH;
use crate::tir::print::expr::{BINARY, UNARY, prec};
use crate::tir::{Buffer, BufferId, Expr, ExprKind};
use crate::types::DType;

/// An operator between operands.
#[derive(Clone, Copy)]
enum Infix {
    Binary(BinaryOp),
    Cmp(CmpOp),
}

/// A function whose arguments stand in parentheses.
#[derive(Clone, Copy)]
enum Function {
    Unary(UnaryOp),
    Binary(BinaryOp),
    Cast(DType),
    Reinterpret(DType),
    Fma,
    Select,
}

/// What waits for its operands.
enum Pending {
    Infix(Infix, u8, Span),
    Neg(Span),
    Not(Span),
    Paren,
    /// A call, and how many operands there were before its arguments.
    Call(Function, usize, Span),
    Load(BufferId, usize, Span),
}

/// Reads an expression; it ends before a token that cannot continue it.
pub fn expr(
    cursor: &mut Cursor<'_, '_>,
    scope: &Scope,
    buffers: &PrimaryMap<BufferId, Buffer>,
) -> Result<Expr, Diagnostic> {
    let mut reader = Reader { scope, buffers, operands: Vec::new(), pending: Vec::new() };
    loop {
        while reader.operand(cursor)? {}
        if !reader.continues(cursor)? {
            break;
        }
    }
    reader.reduce(prec::ANY)?;
    match (reader.pending.last(), reader.operands.pop()) {
        (None, Some(e)) => Ok(e),
        (Some(_), _) => Err(cursor.error("a bracket is not closed")),
        (None, None) => Err(cursor.error("expected an expression")),
    }
}

struct Reader<'s> {
    scope: &'s Scope,
    buffers: &'s PrimaryMap<BufferId, Buffer>,
    operands: Vec<Expr>,
    pending: Vec<Pending>,
}

impl Reader<'_> {
    /// Reads what may begin an operand; true if an operand must still follow.
    fn operand(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<bool, Diagnostic> {
        if self.pending.len() > MAX_EXPR_DEPTH as usize {
            return Err(cursor.error("the expression nests too deeply"));
        }
        let span = cursor.span();
        match cursor.peek() {
            Some(Token::Minus) if cursor.peek_at(1) != Some(Token::Int) => {
                cursor.bump();
                self.pending.push(Pending::Neg(span));
                Ok(true)
            }
            Some(Token::Minus | Token::Int) => {
                let value = cursor.integer()?;
                self.operands.push(Expr::int(value));
                Ok(false)
            }
            Some(Token::Open) => {
                cursor.bump();
                self.pending.push(Pending::Paren);
                Ok(true)
            }
            Some(Token::Name) => self.name(cursor, span),
            Some(Token::Float) => Err(cursor.error("a float names its dtype, as in `T.float32(0.5)`")),
            Some(_) => Err(cursor.error(format!("expected an expression, found `{}`", cursor.text_at(0)))),
            None => Err(cursor.error("expected an expression, found the end of the line")),
        }
    }

    fn name(&mut self, cursor: &mut Cursor<'_, '_>, span: Span) -> Result<bool, Diagnostic> {
        if cursor.text_at(0) == "T" && cursor.peek_at(1) == Some(Token::Dot) {
            return self.call(cursor, span);
        }
        if cursor.eat_word("not") {
            self.pending.push(Pending::Not(span));
            return Ok(true);
        }
        let name = cursor.text_at(0);
        match self.scope.get(name) {
            None => Err(cursor.error(format!("`{name}` is not defined here"))),
            Some(Named::Var(var, dtype)) => {
                cursor.bump();
                self.operands.push(Expr::new(ExprKind::Var(var), dtype));
                Ok(false)
            }
            Some(Named::Buffer(buffer)) => {
                cursor.bump();
                cursor.expect(Token::OpenSquare, "`[` after a buffer")?;
                if cursor.peek() == Some(Token::Open) && cursor.peek_at(1) == Some(Token::Close) {
                    (0..2).for_each(|_| {
                        cursor.bump();
                    });
                    cursor.expect(Token::CloseSquare, "`]`")?;
                    self.load(buffer, Vec::new(), span, cursor)?;
                    return Ok(false);
                }
                self.pending.push(Pending::Load(buffer, self.operands.len(), span));
                Ok(true)
            }
        }
    }

    /// `T.name(`, or a whole literal.
    fn call(&mut self, cursor: &mut Cursor<'_, '_>, span: Span) -> Result<bool, Diagnostic> {
        let name = cursor.text_at(2);
        let by_name = |table: &[(UnaryOp, &str)]| table.iter().find(|(_, n)| *n == name).map(|(op, _)| *op);
        let unary = by_name(UNARY).map(Function::Unary);
        let binary = BINARY.iter().find(|(_, n)| *n == name).map(|(op, _)| Function::Binary(*op));
        let other = match name {
            "fma" => Some(Function::Fma),
            "if_then_else" | "Select" => Some(Function::Select),
            _ => None,
        };
        if !cursor.eat_call(name) {
            return Err(cursor.error("expected a call such as `T.exp(x)`"));
        }
        let function = if let Some(f) = unary.or(binary).or(other) {
            f
        } else if matches!(name, "Cast" | "reinterpret") {
            let dtype = cursor.dtype()?;
            cursor.expect(Token::Comma, "`,`")?;
            if name == "Cast" { Function::Cast(dtype) } else { Function::Reinterpret(dtype) }
        } else if let Some(dtype) = DType::ALL.into_iter().find(|d| d.name() == name) {
            let value = literal(cursor, dtype)?;
            cursor.expect(Token::Close, "`)`")?;
            self.operands.push(Expr::constant(value));
            return Ok(false);
        } else {
            return Err(cursor.error_before(format!("`T.{name}` is not known")));
        };
        self.pending.push(Pending::Call(function, self.operands.len(), span));
        Ok(true)
    }

    /// After an operand: reads operators and closing brackets. True if an operand must follow.
    fn continues(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<bool, Diagnostic> {
        loop {
            let span = cursor.span();
            if let Some((infix, level)) = infix(cursor) {
                self.reduce(if level == prec::CMP { level + 1 } else { level })?;
                if level == prec::CMP && matches!(self.pending.last(), Some(Pending::Infix(_, prec::CMP, _)))
                {
                    return Err(cursor.error("comparisons do not chain"));
                }
                cursor.bump();
                self.pending.push(Pending::Infix(infix, level, span));
                return Ok(true);
            }
            let token = cursor.peek();
            if !matches!(token, Some(Token::Close | Token::CloseSquare | Token::Comma)) {
                return Ok(false);
            }
            self.reduce(prec::ANY)?;
            match (token, self.pending.last()) {
                (Some(Token::Comma), Some(Pending::Call(..) | Pending::Load(..))) => {
                    cursor.bump();
                    return Ok(true);
                }
                (Some(Token::Close), Some(Pending::Paren)) => {
                    cursor.bump();
                    self.pending.pop();
                }
                (Some(Token::Close), Some(&Pending::Call(function, start, ref span))) => {
                    let span = span.clone();
                    let args = self.operands.split_off(start);
                    self.pending.pop();
                    let value = apply(function, args).map_err(|why| cursor.error(why).at(span))?;
                    cursor.bump();
                    self.push(value, cursor)?;
                }
                (Some(Token::CloseSquare), Some(&Pending::Load(buffer, start, ref span))) => {
                    let span = span.clone();
                    let indices = self.operands.split_off(start);
                    self.pending.pop();
                    self.load(buffer, indices, span, cursor)?;
                    cursor.bump();
                }
                (_, None) => return Ok(false),
                (_, Some(_)) => return Err(cursor.error(format!("unexpected `{}`", cursor.text_at(0)))),
            }
        }
    }

    fn push(&mut self, e: Expr, cursor: &Cursor<'_, '_>) -> Result<(), Diagnostic> {
        if e.depth() > MAX_EXPR_DEPTH {
            return Err(cursor.error("the expression nests too deeply"));
        }
        self.operands.push(e);
        Ok(())
    }

    fn load(
        &mut self,
        buffer: BufferId,
        indices: Vec<Expr>,
        span: Span,
        cursor: &Cursor<'_, '_>,
    ) -> Result<(), Diagnostic> {
        let info = &self.buffers[buffer];
        let rank = info.shape.len();
        if indices.len() != rank {
            let given = indices.len();
            let message = format!("`{}` has {rank} dimensions, but {given} indices", info.name);
            return Err(cursor.error(message).at(span));
        }
        self.push(Expr::new(ExprKind::Load(buffer, indices), info.dtype), cursor)
    }

    /// Applies operators that bind at least as tightly.
    fn reduce(&mut self, level: u8) -> Result<(), Diagnostic> {
        loop {
            let here = match self.pending.last() {
                Some(Pending::Infix(_, here, _)) => *here,
                Some(Pending::Neg(_)) => prec::SIGN,
                Some(Pending::Not(_)) => prec::NOT,
                Some(Pending::Paren | Pending::Call(..) | Pending::Load(..)) | None => return Ok(()),
            };
            if here < level {
                return Ok(());
            }
            let last = self.pending.pop().expect("looked at above");
            let operand = self.operands.pop().expect("an operator has operands");
            let (made, span) = match last {
                Pending::Infix(op, _, span) => {
                    let left = self.operands.pop().expect("an operator has operands");
                    (join(op, left, operand), span)
                }
                Pending::Neg(span) => {
                    let dtype = operand.dtype();
                    (Ok(Expr::new(ExprKind::Unary(UnaryOp::Neg, operand), dtype)), span)
                }
                Pending::Not(span) => match operand.dtype() {
                    DType::Bool => (Ok(Expr::new(ExprKind::Unary(UnaryOp::Not, operand), DType::Bool)), span),
                    d => (Err(format!("`not` of {d}")), span),
                },
                Pending::Paren | Pending::Call(..) | Pending::Load(..) => unreachable!("these have no level"),
            };
            let made = made.map_err(|why| Diagnostic::error(crate::diag::Code::TIR, why).at(span.clone()))?;
            if made.depth() > MAX_EXPR_DEPTH {
                let message = "the expression nests too deeply";
                return Err(Diagnostic::error(crate::diag::Code::TIR, message).at(span));
            }
            self.operands.push(made);
        }
    }
}

/// What stands in the parentheses of `T.dtype(..)`.
fn literal(cursor: &mut Cursor<'_, '_>, dtype: DType) -> Result<Scalar, Diagnostic> {
    match dtype {
        DType::Bool => Ok(Scalar::from_i64(dtype, cursor.truth()? as i64)),
        DType::U64 => {
            let digits = cursor.expect(Token::Int, "an integer")?;
            let value: Result<u64, _> = digits.parse();
            let value = value.map_err(|_| cursor.error_before("this integer does not fit `uint64`"))?;
            Ok(Scalar::from_bits(dtype, value))
        }
        d if d.is_float() => cursor.float(d),
        d => {
            let value = cursor.integer()?;
            let scalar = Scalar::from_i64(d, value);
            if scalar.as_i64() == value {
                Ok(scalar)
            } else {
                Err(cursor.error_before(format!("this integer does not fit `{d}`")))
            }
        }
    }
}

/// The infix operator here, with how tightly it binds.
fn infix(cursor: &Cursor<'_, '_>) -> Option<(Infix, u8)> {
    let binary = |op, level| Some((Infix::Binary(op), level));
    let cmp = |op| Some((Infix::Cmp(op), prec::CMP));
    match cursor.peek()? {
        Token::Plus => binary(BinaryOp::Add, prec::SUM),
        Token::Minus => binary(BinaryOp::Sub, prec::SUM),
        Token::Star => binary(BinaryOp::Mul, prec::PRODUCT),
        Token::Slash => binary(BinaryOp::Div, prec::PRODUCT),
        Token::DoubleSlash => binary(BinaryOp::FloorDiv, prec::PRODUCT),
        Token::Percent => binary(BinaryOp::FloorMod, prec::PRODUCT),
        Token::Eq => cmp(CmpOp::Eq),
        Token::Ne => cmp(CmpOp::Ne),
        Token::Lt => cmp(CmpOp::Lt),
        Token::Le => cmp(CmpOp::Le),
        Token::Gt => cmp(CmpOp::Gt),
        Token::Ge => cmp(CmpOp::Ge),
        Token::Name if cursor.text_at(0) == "and" => binary(BinaryOp::And, prec::AND),
        Token::Name if cursor.text_at(0) == "or" => binary(BinaryOp::Or, prec::OR),
        _ => None,
    }
}

/// An operator on its operands. Nothing is folded: the tree is as the text says.
fn join(op: Infix, a: Expr, b: Expr) -> Result<Expr, String> {
    if a.dtype() != b.dtype() {
        return Err(format!("the operands are {} and {}", a.dtype(), b.dtype()));
    }
    let dtype = a.dtype();
    match op {
        Infix::Cmp(op) => Ok(Expr::new(ExprKind::Cmp(op, a, b), DType::Bool)),
        Infix::Binary(BinaryOp::And | BinaryOp::Or) if dtype != DType::Bool => {
            Err(format!("`and` and `or` are of bools, not of {dtype}; `T.bitwise_and` is of integers"))
        }
        Infix::Binary(BinaryOp::Div) if !dtype.is_float() => {
            Err("`/` divides floats; integers divide with `//` or `T.truncdiv`".into())
        }
        Infix::Binary(op) => Ok(Expr::new(ExprKind::Binary(op, a, b), dtype)),
    }
}

/// A function on its arguments.
fn apply(function: Function, args: Vec<Expr>) -> Result<Expr, String> {
    let same = |args: &[Expr]| match args {
        [first, rest @ ..] if rest.iter().all(|a| a.dtype() == first.dtype()) => Ok(first.dtype()),
        _ => Err("the arguments have different dtypes".to_string()),
    };
    match (function, args.as_slice()) {
        (Function::Unary(op), [a]) => {
            let test = matches!(op, UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite);
            let dtype = if test { DType::Bool } else { a.dtype() };
            Ok(Expr::new(ExprKind::Unary(op, a.clone()), dtype))
        }
        (Function::Binary(op), [a, b]) => {
            Ok(Expr::new(ExprKind::Binary(op, a.clone(), b.clone()), same(&args)?))
        }
        (Function::Cast(dtype), [a]) => Ok(Expr::new(ExprKind::Cast(a.clone()), dtype)),
        (Function::Reinterpret(dtype), [a]) if a.dtype().bytes() == dtype.bytes() => {
            Ok(Expr::new(ExprKind::Reinterpret(a.clone()), dtype))
        }
        (Function::Reinterpret(dtype), [a]) => {
            Err(format!("{} and {dtype} have different widths", a.dtype()))
        }
        (Function::Fma, [a, b, c]) => {
            Ok(Expr::new(ExprKind::Fma(a.clone(), b.clone(), c.clone()), same(&args)?))
        }
        (Function::Select, [c, a, b]) => {
            if c.dtype() != DType::Bool {
                return Err(format!("the condition is {}, not bool", c.dtype()));
            }
            Ok(Expr::new(ExprKind::Select(c.clone(), a.clone(), b.clone()), same(&args[1..])?))
        }
        _ => Err(format!("this function does not take {} arguments", args.len())),
    }
}
