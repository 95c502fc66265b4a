//! Tokens and lines of the script.

use logos::Logos;

use crate::diag::{Code, Diagnostic, SourceId, Span};

/// One token.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(skip r"[ \t\r]+")]
#[logos(skip(r"#[^\n]*", allow_greedy = true))]
#[allow(missing_docs, reason = "each variant is the token that its attribute spells")]
pub enum Token {
    #[token("\n")]
    Newline,
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Name,
    #[regex(r"[0-9]+")]
    Int,
    #[regex(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", priority = 1)]
    Float,
    #[regex(r#""([^"\\\n]|\\[^\n])*""#)]
    Str,
    #[token("(")]
    Open,
    #[token(")")]
    Close,
    #[token("[")]
    OpenSquare,
    #[token("]")]
    CloseSquare,
    #[token("{")]
    OpenBrace,
    #[token("}")]
    CloseBrace,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token(".")]
    Dot,
    #[token("@")]
    At,
    #[token("=")]
    Assign,
    #[token("==")]
    Eq,
    #[token("!=")]
    Ne,
    #[token("<=")]
    Le,
    #[token(">=")]
    Ge,
    #[token("<")]
    Lt,
    #[token(">")]
    Gt,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("//")]
    DoubleSlash,
    #[token("%")]
    Percent,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Spanned<'t> {
    /// Which.
    pub token: Token,
    /// Its text.
    pub text: &'t str,
    /// Its first byte.
    pub start: usize,
}

/// A logical line: brackets join lines.
#[derive(Clone, Debug)]
pub struct Line<'t> {
    /// Spaces before the first token.
    pub indent: usize,
    /// The tokens, at least one.
    pub tokens: Vec<Spanned<'t>>,
}

/// Splits a text into lines.
pub fn lines<'t>(text: &'t str, source: SourceId) -> Result<Vec<Line<'t>>, Diagnostic> {
    let mut lines: Vec<Line<'t>> = Vec::new();
    let mut open = 0usize;
    let mut fresh = true;
    let mut lexer = Token::lexer(text);
    while let Some(token) = lexer.next() {
        let range = lexer.span();
        let Ok(token) = token else {
            let span = Span::Text { source, range };
            return Err(Diagnostic::error(Code::TIR, "this is no token of the script").at(span));
        };
        match token {
            Token::Newline => {
                fresh |= open == 0;
                continue;
            }
            Token::Open | Token::OpenSquare | Token::OpenBrace => open += 1,
            Token::Close | Token::CloseSquare | Token::CloseBrace => open = open.saturating_sub(1),
            _ => {}
        }
        if fresh {
            let line_start = text[..range.start].rfind('\n').map_or(0, |i| i + 1);
            lines.push(Line { indent: range.start - line_start, tokens: Vec::new() });
            fresh = false;
        }
        let spanned = Spanned { token, text: lexer.slice(), start: range.start };
        lines.last_mut().expect("a line was begun").tokens.push(spanned);
    }
    Ok(lines)
}
