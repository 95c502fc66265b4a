//! A place in a line, and the names that are known there.

use std::collections::HashMap;
use std::sync::Arc;

use super::token::{Line, Spanned, Token};
use crate::diag::{Code, Diagnostic, SourceId, Span};
use crate::op::AttrValue;
use crate::tir::{BufferId, VarId};
use crate::types::DType;

/// Lists inside lists in attributes.
const MAX_ATTR_DEPTH: usize = 16;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    /// A buffer.
    Buffer(BufferId),
    /// A variable and its dtype.
    Var(VarId, DType),
}

/// Names and what they hide.
#[derive(Debug, Default)]
pub struct Scope {
    names: HashMap<String, Named>,
    hidden: Vec<(String, Option<Named>)>,
}

impl Scope {
    /// Defines a name until the scope is left.
    pub fn define(&mut self, name: &str, value: Named) {
        let old = self.names.insert(name.to_string(), value);
        self.hidden.push((name.to_string(), old));
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<Named> {
        self.names.get(name).copied()
    }

    /// A mark to [`Scope::leave`] to.
    pub fn enter(&self) -> usize {
        self.hidden.len()
    }

    /// Forgets what was defined since the mark.
    pub fn leave(&mut self, mark: usize) {
        for (name, old) in self.hidden.drain(mark..).rev() {
            match old {
                Some(old) => self.names.insert(name, old),
                None => self.names.remove(&name),
            };
        }
    }
}

/// A place in a line.
#[derive(Clone, Debug)]
pub struct Cursor<'a, 't> {
    line: &'a Line<'t>,
    next: usize,
    source: SourceId,
}

impl<'a, 't> Cursor<'a, 't> {
    /// The start of a line.
    pub fn new(line: &'a Line<'t>, source: SourceId) -> Cursor<'a, 't> {
        Cursor { line, next: 0, source }
    }

    /// The token here.
    pub fn peek(&self) -> Option<Token> {
        self.peek_at(0)
    }

    /// The token some places ahead.
    pub fn peek_at(&self, ahead: usize) -> Option<Token> {
        self.line.tokens.get(self.next + ahead).map(|t| t.token)
    }

    /// The text of the token some places ahead; empty at the end.
    pub fn text_at(&self, ahead: usize) -> &'t str {
        self.line.tokens.get(self.next + ahead).map_or("", |t| t.text)
    }

    /// Where the token here stands; at the end of the line, after it.
    pub fn span(&self) -> Span {
        let last = self.line.tokens.len() - 1;
        let range = match self.line.tokens.get(self.next) {
            Some(t) => t.start..t.start + t.text.len(),
            None => {
                let end = self.line.tokens[last].start + self.line.tokens[last].text.len();
                end..end
            }
        };
        Span::Text { source: self.source, range }
    }

    /// An error here.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::TIR, message).at(self.span())
    }

    /// An error at the token before.
    pub fn error_before(&self, message: impl Into<String>) -> Diagnostic {
        Cursor { next: self.next.saturating_sub(1), ..self.clone() }.error(message)
    }

    /// Takes the token here.
    pub fn bump(&mut self) -> Option<Spanned<'t>> {
        let token = self.line.tokens.get(self.next).copied();
        self.next += token.is_some() as usize;
        token
    }

    /// Takes a token if it is here.
    pub fn eat(&mut self, token: Token) -> bool {
        let here = self.peek() == Some(token);
        self.next += here as usize;
        here
    }

    /// Takes a token or fails.
    pub fn expect(&mut self, token: Token, what: &str) -> Result<&'t str, Diagnostic> {
        match self.peek() {
            Some(t) if t == token => Ok(self.bump().map_or("", |t| t.text)),
            Some(_) => Err(self.error(format!("expected {what}, found `{}`", self.text_at(0)))),
            None => Err(self.error(format!("expected {what}, found the end of the line"))),
        }
    }

    /// Takes a word if it is here.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let here = self.peek() == Some(Token::Name) && self.text_at(0) == word;
        self.next += here as usize;
        here
    }

    /// True if `T.path` is here, a path of dotted names.
    pub fn at_path(&self, path: &str) -> bool {
        let mut ahead = 1;
        self.text_at(0) == "T"
            && path.split('.').all(|part| {
                let here = self.peek_at(ahead) == Some(Token::Dot) && self.text_at(ahead + 1) == part;
                ahead += 2;
                here
            })
    }

    /// Takes `T.path(` if it is here.
    pub fn eat_call(&mut self, path: &str) -> bool {
        let length = 1 + 2 * path.split('.').count();
        let here = self.at_path(path) && self.peek_at(length) == Some(Token::Open);
        self.next += if here { length + 1 } else { 0 };
        here
    }

    /// Fails unless the line ends here.
    pub fn end(&self) -> Result<(), Diagnostic> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(format!("expected the end of the line, found `{}`", self.text_at(0)))),
        }
    }

    /// Takes `)` and the end of the line.
    pub fn close(&mut self) -> Result<(), Diagnostic> {
        self.expect(Token::Close, "`)`")?;
        self.end()
    }

    /// A string literal.
    pub fn string(&mut self) -> Result<String, Diagnostic> {
        let text = self.expect(Token::Str, "a string")?;
        let mut out = String::new();
        let mut chars = text[1..text.len() - 1].chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some(c) => out.push(c),
                    None => {}
                },
                c => out.push(c),
            }
        }
        Ok(out)
    }

    /// A dtype as a string literal.
    pub fn dtype(&mut self) -> Result<DType, Diagnostic> {
        let name = self.string()?;
        DType::from_name(&name).ok_or_else(|| self.error_before(format!("`{name}` is no dtype")))
    }

    /// An integer, with its sign.
    pub fn integer(&mut self) -> Result<i64, Diagnostic> {
        let sign = if self.eat(Token::Minus) { "-" } else { "" };
        let digits = self.expect(Token::Int, "an integer")?;
        format!("{sign}{digits}").parse().map_err(|_| self.error_before("this integer does not fit `int64`"))
    }

    /// `(2, 3)`, `(4,)` or `()`.
    pub fn shape(&mut self) -> Result<Vec<usize>, Diagnostic> {
        self.expect(Token::Open, "a shape in parentheses")?;
        let mut shape = Vec::new();
        while !self.eat(Token::Close) {
            let n = self.expect(Token::Int, "a size")?;
            shape.push(n.parse().map_err(|_| self.error_before("this size is too large"))?);
            if !self.eat(Token::Comma) {
                self.expect(Token::Close, "`)`")?;
                break;
            }
        }
        Ok(shape)
    }

    /// `{"name": value, ..}`.
    pub fn attrs(&mut self) -> Result<Vec<(Arc<str>, AttrValue)>, Diagnostic> {
        self.expect(Token::OpenBrace, "attributes in braces")?;
        let mut attrs = Vec::new();
        while !self.eat(Token::CloseBrace) {
            let name = self.string()?;
            self.expect(Token::Colon, "`:`")?;
            attrs.push((name.into(), self.attr(0)?));
            if !self.eat(Token::Comma) {
                self.expect(Token::CloseBrace, "`}`")?;
                break;
            }
        }
        Ok(attrs)
    }

    fn attr(&mut self, depth: usize) -> Result<AttrValue, Diagnostic> {
        if depth > MAX_ATTR_DEPTH {
            return Err(self.error("lists nest too deeply"));
        }
        if self.eat(Token::OpenSquare) {
            let mut items = Vec::new();
            while !self.eat(Token::CloseSquare) {
                items.push(self.attr(depth + 1)?);
                if !self.eat(Token::Comma) {
                    self.expect(Token::CloseSquare, "`]`")?;
                    break;
                }
            }
            return Ok(AttrValue::List(items.into()));
        }
        let value = if self.eat_word("None") {
            return Ok(AttrValue::None);
        } else if self.eat_word("True") {
            return Ok(AttrValue::Bool(true));
        } else if self.eat_word("False") {
            return Ok(AttrValue::Bool(false));
        } else if self.peek() == Some(Token::Str) {
            return Ok(AttrValue::Str(self.string()?.into()));
        } else if self.eat_call("bool") {
            AttrValue::Bool(self.truth()?)
        } else if self.eat_call("dtype") {
            AttrValue::DType(self.dtype()?)
        } else if self.eat_call("float64") {
            AttrValue::Float(self.float(DType::F64)?.as_f64())
        } else {
            return self.integer().map(AttrValue::Int);
        };
        self.expect(Token::Close, "`)`")?;
        Ok(value)
    }

    /// `True` or `False`.
    pub fn truth(&mut self) -> Result<bool, Diagnostic> {
        if self.eat_word("True") {
            Ok(true)
        } else if self.eat_word("False") {
            Ok(false)
        } else {
            Err(self.error("expected `True` or `False`"))
        }
    }

    /// What stands in `T.float32(..)`: a decimal, or a string for what is no number.
    pub fn float(&mut self, dtype: DType) -> Result<crate::scalar::Scalar, Diagnostic> {
        use crate::scalar::Scalar;
        if self.peek() == Some(Token::Str) {
            let text = self.string()?;
            let special = match text.as_str() {
                "nan" => Some(Scalar::from_f64(dtype, f64::NAN)),
                "inf" => Some(Scalar::from_f64(dtype, f64::INFINITY)),
                "-inf" => Some(Scalar::from_f64(dtype, f64::NEG_INFINITY)),
                _ => {
                    let bits = text.strip_prefix("nan:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
                    bits.map(|bits| Scalar::from_bits(dtype, bits)).filter(|s| s.as_f64().is_nan())
                }
            };
            return special.ok_or_else(|| self.error_before(format!("`{text}` is no number")));
        }
        let sign = if self.eat(Token::Minus) { "-" } else { "" };
        let digits = match self.peek() {
            Some(Token::Int | Token::Float) => self.bump().map_or("", |t| t.text),
            _ => return Err(self.error("expected a number")),
        };
        let text = format!("{sign}{digits}");
        let bad = |_| self.error_before(format!("`{text}` is no number"));
        // Reading an `f32` through `f64` would round twice.
        match dtype {
            DType::F32 => text.parse::<f32>().map(Scalar::of).map_err(bad),
            _ => text.parse::<f64>().map(|v| Scalar::from_f64(dtype, v)).map_err(bad),
        }
    }
}
