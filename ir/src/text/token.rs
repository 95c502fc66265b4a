//! The tokens of Relay text.
//!
//! A superset of version 0.0.5: names may be quoted (`%"layer.weight"`), strings have
//! escapes, and a minus is a token of its own, so `1-1` is a subtraction. The slash is a
//! name character, as there: `%a / %b` divides, `%a/` is a name.

use logos::{FilterResult, Lexer, Logos};

/// One token; literals and names are slices of the text, not yet interpreted.
#[derive(Logos, Clone, Copy, Debug, PartialEq)]
#[logos(skip r"[ \t\r\n]+")]
#[logos(skip(r"//[^\n]*", allow_greedy = true))]
#[logos(error = LexError)]
#[allow(missing_docs, reason = "each variant is the token that its attribute spells")]
pub(super) enum Token<'t> {
    // The parser is told what to expect by a first token of its own making.
    StartModule,
    StartExpr,
    StartType,

    #[token("/*", comment)]
    Comment,
    /// `#[metadata]` with the JSON that follows it.
    #[token("#[metadata]", metadata)]
    Metadata(&'t str),
    #[token("#[")]
    Pragma,

    /// A number without its sign; `inff` and `nanf` are numbers.
    #[regex(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?[A-Za-z0-9_]*", priority = 20)]
    #[regex(r"(inf|nan)(f|f16|f32|f64|bf16)?", priority = 20)]
    Number(&'t str),
    /// With its quotes, escapes not yet resolved.
    #[regex(r#""([^"\\]|\\(.|\n))*""#)]
    Str(&'t str),
    /// Dotted names are one token: `nn.dense`.
    #[regex(r"[A-Za-z_][A-Za-z0-9_/]*(\.[A-Za-z_][A-Za-z0-9_/]*)*", priority = 2)]
    Ident(&'t str),
    /// Without the sigil, with quotes if quoted.
    #[regex(r"%[A-Za-z_/][A-Za-z0-9_/]*", sigil)]
    #[regex(r#"%"([^"\\]|\\(.|\n))*""#, sigil)]
    Local(&'t str),
    /// The digits.
    #[regex(r"%[0-9]+", sigil)]
    Graph(&'t str),
    /// Without the sigil, with quotes if quoted.
    #[regex(r"@[A-Za-z_/][A-Za-z0-9_/]*", sigil)]
    #[regex(r#"@"([^"\\]|\\(.|\n))*""#, sigil)]
    Global(&'t str),

    #[token("_", priority = 30)]
    Underscore,
    #[token("def", priority = 30)]
    Def,
    #[token("type", priority = 30)]
    Type,
    #[token("extern", priority = 30)]
    Extern,
    #[token("fn", priority = 30)]
    Fn,
    #[token("let", priority = 30)]
    Let,
    #[token("free_var", priority = 30)]
    FreeVar,
    #[token("if", priority = 30)]
    If,
    #[token("else", priority = 30)]
    Else,
    #[token("match", priority = 30)]
    Match,
    #[token("match?", priority = 30)]
    PartialMatch,
    #[token("ref", priority = 30)]
    Ref,
    #[token("ref_read", priority = 30)]
    RefRead,
    #[token("ref_write", priority = 30)]
    RefWrite,
    #[token("True", priority = 30)]
    True,
    #[token("False", priority = 30)]
    False,
    #[token("Tensor", priority = 30)]
    Tensor,
    #[token("meta", priority = 30)]
    Meta,
    #[token("weights", priority = 30)]
    Weights,
    #[token("const", priority = 30)]
    Const,
    #[token("elided", priority = 30)]
    Elided,

    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token(",")]
    Comma,
    #[token(";")]
    Semi,
    #[token(":")]
    Colon,
    #[token(".")]
    Dot,
    #[token("=")]
    Eq,
    #[token("->")]
    Arrow,
    #[token("=>")]
    FatArrow,
    #[token("?")]
    Question,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEq,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEq,
    #[token("==")]
    EqEq,
    #[token("!=")]
    NotEq,
}

/// Why some text is no token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LexError {
    /// Nothing starts with this character.
    #[default]
    Unknown,
    /// A comment that does not end.
    Comment,
}

/// Drops the `%` or `@`.
fn sigil<'t>(lex: &mut Lexer<'t, Token<'t>>) -> &'t str {
    &lex.slice()[1..]
}

/// Skips a comment with the comments inside it.
fn comment<'t>(lex: &mut Lexer<'t, Token<'t>>) -> FilterResult<(), LexError> {
    let bytes = lex.remainder().as_bytes();
    let (mut depth, mut at) = (1usize, 0);
    while depth > 0 {
        match bytes.get(at..at + 2) {
            None => return FilterResult::Error(LexError::Comment),
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            Some(_) => at += 1,
        }
    }
    lex.bump(at);
    FilterResult::Skip
}

/// Takes the rest of the file, which is JSON.
fn metadata<'t>(lex: &mut Lexer<'t, Token<'t>>) -> &'t str {
    let rest = lex.remainder();
    lex.bump(rest.len());
    rest
}

/// True if the text format reads `name` after a sigil without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'/');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'/')
}

/// True if `name` lexes as one identifier that is no keyword.
pub(super) fn is_plain_ident(name: &str) -> bool {
    let mut lex = Token::lexer(name);
    matches!(lex.next(), Some(Ok(Token::Ident(s))) if s == name)
}

#[cfg(test)]
mod tests {
    use super::Token::*;
    use super::*;

    fn lex(text: &str) -> Vec<Token<'_>> {
        Token::lexer(text).map(|t| t.expect("all are tokens")).collect()
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(lex("%a/%b"), [Local("a/"), Local("b")]);
        assert_eq!(lex("%0.0.1"), [Graph("0"), Dot, Number("0.1")]);
        assert_eq!(lex("1-1"), [Number("1"), Minus, Number("1")]);
        assert_eq!(lex("1e-3f64 inff nanbf16"), [Number("1e-3f64"), Number("inff"), Number("nanbf16")]);
        assert_eq!(lex("info nan_count"), [Ident("info"), Ident("nan_count")]);
        assert_eq!(lex(r#"%"a.b" @"c\"d""#), [Local(r#""a.b""#), Global(r#""c\"d""#)]);
        assert_eq!(lex("nn.dense match? match"), [Ident("nn.dense"), PartialMatch, Match]);
        assert_eq!(lex("%x -1"), [Local("x"), Minus, Number("1")]);
    }

    #[test]
    fn comments_nest() {
        assert_eq!(lex("1 /* a /* b */ c */ 2 // d\n3"), [Number("1"), Number("2"), Number("3")]);
        assert_eq!(Token::lexer("/* /* */").next(), Some(Err(LexError::Comment)));
    }

    #[test]
    fn metadata_takes_the_rest() {
        assert_eq!(lex("1 #[metadata] {]%"), [Number("1"), Metadata(" {]%")]);
    }

    #[test]
    fn plain_names() {
        assert!(
            is_plain_name("/enc/0") && is_plain_name("x_1") && !is_plain_name("0") && !is_plain_name("a.b")
        );
        assert!(!is_plain_name("") && !is_plain_name("é"));
        assert!(is_plain_ident("batch") && !is_plain_ident("let") && !is_plain_ident("a b"));
    }
}
