//! Reads the script that [`super::print`] writes.
//!
//! `parse(print(f))` is `f` up to ids, sharing inside expressions and the nesting of
//! sequences ([`super::equal`]); printing it again gives the same bytes. The reader checks
//! what it needs to build a function (names, dtypes of operands, numbers of indices); the
//! rules of TIR are the business of [`super::verify`].

mod cursor;
mod expr;
mod stmt;
mod token;

use crate::diag::{Code, Diagnostic, Diagnostics, SourceId, Span};
use crate::entity::EntityRef;
use crate::op::AttrValue;
use crate::tensor::byte_len;
use crate::types::DType;

use super::ir::{Buffer, BufferId, PrimFunc, Scope as BufferScope};
use super::print::{NUM_OUTPUTS, written_suffix};
use cursor::{Cursor, Named, Scope};
use token::{Line, Token};

/// Bytes of text that are read.
const MAX_BYTES: usize = 1 << 28;

/// Reads the functions of a text. Spans point into source 0, whose name is the caller's to
/// give; `name` stands in messages that have no place.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(name: &str, text: &str) -> Result<Vec<PrimFunc>, Diagnostics> {
    let source = SourceId::new(0);
    if text.len() > MAX_BYTES {
        return Err(Diagnostic::error(Code::TIR, format!("`{name}` is too large")).into());
    }
    let lines = token::lines(text, source)?;
    let mut reader = Reader { lines: &lines, next: 0, source };
    let mut funcs = Vec::new();
    while reader.line().is_some() {
        funcs.push(reader.function()?);
    }
    if funcs.is_empty() {
        return Err(Diagnostic::error(Code::TIR, format!("there is no function in `{name}`")).into());
    }
    Ok(funcs)
}

/// The lines of a text, and the next one.
struct Reader<'a, 't> {
    lines: &'a [Line<'t>],
    next: usize,
    source: SourceId,
}

impl<'a, 't> Reader<'a, 't> {
    fn line(&self) -> Option<&'a Line<'t>> {
        self.lines.get(self.next)
    }

    /// The next line, if it stands at this indentation or deeper.
    fn line_inside(&self, indent: usize) -> Option<&'a Line<'t>> {
        self.line().filter(|l| l.indent >= indent)
    }

    fn cursor(&self, line: &'a Line<'t>) -> Cursor<'a, 't> {
        Cursor::new(line, self.source)
    }

    /// An error after the last line.
    fn end_error(&self, message: &str) -> Diagnostic {
        match self.lines.last() {
            Some(last) => {
                let mut cursor = self.cursor(last);
                while cursor.bump().is_some() {}
                cursor.error(message)
            }
            None => Diagnostic::error(Code::TIR, message).at(Span::None),
        }
    }

    /// Takes the next line, which must be there.
    fn take(&mut self, what: &str) -> Result<Cursor<'a, 't>, Diagnostic> {
        let line = self.line().ok_or_else(|| self.end_error(&format!("expected {what}")))?;
        self.next += 1;
        Ok(self.cursor(line))
    }

    fn function(&mut self) -> Result<PrimFunc, Diagnostic> {
        let mut cursor = self.take("a function")?;
        cursor.expect(Token::At, "`@T.prim_func`")?;
        if !cursor.at_path("prim_func") {
            return Err(cursor.error("expected `T.prim_func`"));
        }
        (0..3).for_each(|_| {
            cursor.bump();
        });
        cursor.end()?;
        let indent = self.line().map_or(0, |l| l.indent);
        let mut cursor = self.take("`def`")?;
        if !cursor.eat_word("def") {
            return Err(cursor.error("expected `def`"));
        }
        let mut body =
            stmt::Body { func: PrimFunc::new(""), scope: Scope::default(), extents: Default::default() };
        body.func.name = cursor.expect(Token::Name, "a name")?.into();
        params(&mut cursor, &mut body)?;
        let inner = self.line().map_or(0, |l| l.indent);
        if inner <= indent {
            let error = self.line().map(|l| self.cursor(l).error("expected the body of the function"));
            return Err(error.unwrap_or_else(|| self.end_error("expected the body of the function")));
        }
        let mut outputs = None;
        while let Some(line) = self.line_inside(inner) {
            let mut cursor = self.cursor(line);
            if cursor.eat_call("func_attr") {
                for (name, value) in cursor.attrs()? {
                    match (&*name, &value) {
                        (NUM_OUTPUTS, AttrValue::Int(n)) => outputs = Some(*n),
                        _ => drop(body.func.attrs.insert(name, value)),
                    }
                }
                cursor.close()?;
            } else if let Some(buffer) = alloc(&mut cursor, &mut body)? {
                body.func.allocs.push(buffer);
            } else {
                break;
            }
            self.next += 1;
        }
        body.func.body = self.statements(&mut body, inner, 0)?;
        let mut func = body.func;
        func.outputs = match outputs {
            Some(n) if (0..=func.params.len() as i64).contains(&n) => n as usize,
            Some(n) => return Err(self.end_error(&format!("the function cannot have {n} outputs"))),
            None => written_suffix(&func),
        };
        Ok(func)
    }
}

/// `(A: T.Buffer((2, 3), "float32"), ..):`.
fn params(cursor: &mut Cursor<'_, '_>, body: &mut stmt::Body) -> Result<(), Diagnostic> {
    cursor.expect(Token::Open, "`(`")?;
    while !cursor.eat(Token::Close) {
        let name = cursor.expect(Token::Name, "a parameter")?;
        cursor.expect(Token::Colon, "`:`")?;
        if !cursor.eat_call("Buffer") {
            return Err(cursor.error("expected `T.Buffer((..), \"dtype\")`"));
        }
        let buffer = buffer(cursor, name, body)?;
        body.func.params.push(buffer);
        if !cursor.eat(Token::Comma) {
            cursor.expect(Token::Close, "`)`")?;
            break;
        }
    }
    cursor.expect(Token::Colon, "`:`")?;
    cursor.end()
}

/// `B = T.alloc_buffer((2, 3), "float32", scope="shared")`, if the line is that.
fn alloc(cursor: &mut Cursor<'_, '_>, body: &mut stmt::Body) -> Result<Option<BufferId>, Diagnostic> {
    if cursor.peek() != Some(Token::Name) || cursor.peek_at(1) != Some(Token::Assign) {
        return Ok(None);
    }
    let mut ahead = cursor.clone();
    let name = ahead.expect(Token::Name, "a name")?;
    ahead.bump();
    if !ahead.eat_call("alloc_buffer") {
        return Ok(None);
    }
    *cursor = ahead;
    let buffer = buffer(cursor, name, body)?;
    cursor.end()?;
    Ok(Some(buffer))
}

/// A shape, a dtype and a scope, to the closing parenthesis; defines the buffer.
fn buffer(cursor: &mut Cursor<'_, '_>, name: &str, body: &mut stmt::Body) -> Result<BufferId, Diagnostic> {
    let shape = cursor.shape()?;
    let (mut dtype, mut scope) = (DType::F32, BufferScope::Global);
    while cursor.eat(Token::Comma) {
        if cursor.peek() == Some(Token::Str) {
            dtype = cursor.dtype()?;
            continue;
        }
        if !cursor.eat_word("scope") {
            return Err(cursor.error("expected a dtype or `scope`"));
        }
        cursor.expect(Token::Assign, "`=`")?;
        scope = match cursor.string()?.as_str() {
            "global" => BufferScope::Global,
            "shared" => BufferScope::Shared,
            "local" => BufferScope::Local,
            other => {
                return Err(
                    cursor.error_before(format!("`{other}` is no scope; there are global, shared and local"))
                );
            }
        };
    }
    byte_len(dtype, &shape).map_err(|e| cursor.error(e.to_string()))?;
    cursor.expect(Token::Close, "`)`")?;
    let buffer = body.func.buffers.push(Buffer { name: name.into(), shape, dtype, scope });
    body.scope.define(name, Named::Buffer(buffer));
    Ok(buffer)
}

#[cfg(test)]
mod tests;
