//! Text to syntax: runs the lexer and the parser, and makes their errors readable.

use lalrpop_util::ParseError;
use logos::Logos;

use super::grammar::StartParser;
use super::token::{LexError, Token};
use super::tree::{MAX_NESTING, Tree};
use crate::diag::{Code, Diagnostic, SourceId, Span};

/// The only version of the format there is.
pub(super) const VERSION: &str = "0.0.5";

/// Parses a text that starts as `start` says.
pub(super) fn parse<'t>(text: &'t str, start: Token<'t>, source: SourceId) -> Result<Tree<'t>, Diagnostic> {
    if text.len() >= u32::MAX as usize {
        return Err(Diagnostic::error(Code::TEXT_LIMIT, "a text of 4 GiB or more is not read"));
    }
    let mut tree = Tree::default();
    let tokens = Token::lexer(text).spanned().map(|(token, at)| match token {
        Ok(token) => Ok((at.start, token, at.end)),
        Err(error) => Err((error, at.start)),
    });
    let first = std::iter::once(Ok((0, start, 0)));
    let error = match StartParser::new().parse(&mut tree, first.chain(tokens)) {
        Ok(()) => return check(tree, source),
        Err(error) => error,
    };
    let (range, diagnostic) = match error {
        ParseError::User { error: (error, at) } => no_token(text, error, at),
        ParseError::UnrecognizedToken { token: (start, _, end), expected } => {
            let found = format!("`{}`", shorten(&text[start..end]));
            (start..end, unexpected(&text[..start], &text[start..end], &found, &expected))
        }
        ParseError::UnrecognizedEof { expected, .. } => {
            (text.len()..text.len(), unexpected(text, "", "the end of the text", &expected))
        }
        ParseError::ExtraToken { token: (start, _, end) } => {
            (start..end, Diagnostic::error(Code::TEXT_SYNTAX, "nothing may follow here"))
        }
        ParseError::InvalidToken { location } => {
            (location..location + 1, Diagnostic::error(Code::TEXT_TOKEN, "this is no token"))
        }
    };
    Err(diagnostic.at(Span::Text { source, range }))
}

/// What the grammar leaves to be checked once for the whole text.
fn check(tree: Tree<'_>, source: SourceId) -> Result<Tree<'_>, Diagnostic> {
    let at = |(start, end): (u32, u32)| Span::Text { source, range: start as usize..end as usize };
    if let Some(place) = tree.too_deep {
        let message = format!("types, patterns and attributes nest at most {MAX_NESTING} deep");
        return Err(Diagnostic::error(Code::TEXT_LIMIT, message).at(at(place)));
    }
    if let Some(place) = tree.valueless {
        let message = "a block ends in an expression, which is its value";
        return Err(Diagnostic::error(Code::TEXT_SYNTAX, message).at(at(place)));
    }
    if let Some((word, version)) = tree.version {
        if word.text != "version" {
            let message = format!("`#[{}]` is not known", word.text);
            let help = format!("write `#[version = \"{VERSION}\"]` or `#[metadata]`");
            return Err(Diagnostic::error(Code::TEXT_SYNTAX, message).at(at(word.place)).help(help));
        }
        if version.trim_matches('"') != VERSION {
            let message = format!("version {version} of the text format is not known");
            let help = format!("write `#[version = \"{VERSION}\"]`");
            return Err(Diagnostic::error(Code::TEXT_SYNTAX, message).at(at(word.place)).help(help));
        }
    }
    Ok(tree)
}

/// The message for text that is no token.
fn no_token(text: &str, error: LexError, at: usize) -> (std::ops::Range<usize>, Diagnostic) {
    let first = text[at..].chars().next().unwrap_or(' ');
    let sigil = matches!(first, '%' | '@');
    let quoted = first == '"' || (sigil && text[at + 1..].starts_with('"'));
    let message = match error {
        LexError::Comment => "this comment does not end".to_owned(),
        LexError::Unknown if quoted => "this string does not end".to_owned(),
        LexError::Unknown if sigil => format!("`{first}` is followed by a name"),
        LexError::Unknown => format!("`{}` is no token", first.escape_debug()),
    };
    let diagnostic = Diagnostic::error(Code::TEXT_TOKEN, message);
    let diagnostic = if sigil && !quoted {
        diagnostic.help(format!(
            "quote a name with other characters than letters, digits, `_` and `/`: `{first}\"a.b\"`"
        ))
    } else {
        diagnostic
    };
    (at..at + first.len_utf8(), diagnostic)
}

/// The message for a token that cannot stand where it does.
fn unexpected(before: &str, token: &str, found: &str, expected: &[String]) -> Diagnostic {
    let expected: Vec<&str> = expected.iter().map(|e| e.trim_matches('"')).collect();
    let list = describe(&expected);
    let diagnostic = Diagnostic::error(Code::TEXT_SYNTAX, format!("expected {list}, found {found}"))
        .label(if token.is_empty() { "the text ends here" } else { "not expected here" });
    let name = |sigil| {
        format!("a name here starts with `{sigil}`: `{sigil}{}`", token.trim_start_matches(['%', '@']))
    };
    match expected[..] {
        ["%x"] if !token.is_empty() => diagnostic.help(name('%')),
        ["@f"] if !token.is_empty() => diagnostic.help(name('@')),
        ["-", "number"] | ["number", "-"] => diagnostic
            .help("a minus stands before a number or between operands; otherwise write `negative(..)`"),
        _ if ends_in_slash_name(before) => {
            diagnostic.help("`/` is a name character; write spaces around it to divide: `%a / %b`")
        }
        _ => diagnostic,
    }
}

/// True if the text ends in a name whose last character is a slash.
fn ends_in_slash_name(before: &str) -> bool {
    let before = before.trim_end();
    let name = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/');
    before.ends_with('/') && name.len() + 1 < before.len()
}

/// The tokens that start an expression, beside names and `(`.
const EXPR_START: &[&str] = &[
    "number",
    "%x",
    "%0",
    "@f",
    "identifier",
    "True",
    "False",
    "fn",
    "if",
    "match",
    "match?",
    "ref",
    "ref_read",
    "ref_write",
    "meta",
    "weights",
    "const",
    "elided",
    "(",
    "{",
    "-",
    "let",
    "free_var",
];
/// The tokens that start a type.
const TYPE_START: &[&str] = &["_", "Tensor", "identifier", "(", "fn", "ref"];
/// The tokens that join operands.
const OPERATORS: &[&str] = &["*", "/", "+", "-", "<", "<=", ">", ">=", "==", "!="];

/// Folds a list of expected tokens into words: whole classes are named as such.
fn describe(expected: &[&str]) -> String {
    let mut rest: Vec<&str> = expected.to_vec();
    let mut words: Vec<String> = Vec::new();
    let mut class = |probes: &[&str], members: &[&str], word: &str| {
        if probes.iter().all(|p| rest.contains(p)) {
            rest.retain(|e| !members.contains(e));
            words.push(word.to_owned());
        }
    };
    class(&["number", "fn", "if"], EXPR_START, "an expression");
    class(&["Tensor", "identifier"], TYPE_START, "a type");
    class(&["*", "=="], OPERATORS, "an operator");
    let single = rest.into_iter().map(|e| match e {
        "number" => "a number".to_owned(),
        "string" => "a string".to_owned(),
        "identifier" => "a name".to_owned(),
        "%x" => "a variable".to_owned(),
        "%0" => "a graph number".to_owned(),
        "@f" => "a global name".to_owned(),
        e => format!("`{e}`"),
    });
    words.extend(single);
    match words.split_last() {
        None => "nothing more".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, [.., _])) if words.len() > 7 => {
            format!("{} or others like {last}", words[..5].join(", "))
        }
        Some((last, init)) => format!("{} or {last}", init.join(", ")),
    }
}

/// The start of a token for a message.
fn shorten(token: &str) -> String {
    if token.chars().count() <= 30 {
        return token.to_owned();
    }
    let start: String = token.chars().take(24).collect();
    format!("{start}...")
}
