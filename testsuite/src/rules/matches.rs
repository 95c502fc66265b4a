//! Matches that hide what is added later: a wildcard beside the forms of an enumeration.
//!
//! A match that asks for a form or a few is a question, and may answer all others at once. One
//! that treats the forms one by one must name them all, so that the compiler says where a new
//! form is missing. The sources are formatted, so the arms of a match stand one step deeper than
//! its line, and this reading by lines is exact.

use super::Source;

/// The most forms that a match with a wildcard may name.
pub const MAX_NAMED: usize = 3;

/// A match with a wildcard.
#[derive(Debug, PartialEq)]
struct Match {
    /// Its line, from 1.
    line: usize,
    /// Forms that it names, as `Enumeration::`.
    named: Vec<String>,
}

/// Matches over one of the enumerations that treat more than a few forms and have a wildcard, and
/// those over a strict one that have a wildcard at all.
pub fn wildcards(
    sources: &[Source],
    enums: &[&str],
    strict: &[&str],
    exceptions: &[(&str, &str)],
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| !s.is_test()) {
        let excused = exceptions.iter().any(|e| e.0 == source.path);
        for Match { line, named } in with_wildcard(&source.text) {
            let over = |list: &[&str]| named.iter().any(|n| list.contains(&n.as_str()));
            let hides = over(strict) || over(enums) && named.len() > MAX_NAMED && !excused;
            if hides {
                let of = &named[0];
                found.push(format!(
                    "{}:{line}: a wildcard beside {} forms of `{of}`: name them all",
                    source.path,
                    named.len()
                ));
            }
        }
    }
    found
}

/// The matches of a text that have a wildcard arm without a condition.
fn with_wildcard(text: &str) -> Vec<Match> {
    let lines: Vec<&str> = text.lines().collect();
    let is_match =
        |line: &str| line.ends_with('{') && line.contains("match ") && !line.trim().starts_with("//");
    let starts = lines.iter().enumerate().filter(|(_, line)| is_match(line));
    let matches = starts.filter_map(|(at, line)| {
        let arms = arms(&lines[at + 1..], indent(line));
        let named: Vec<String> = arms.iter().filter_map(|arm| enumeration(arm)).collect();
        let is_wild = arms.iter().any(|arm| is_wildcard(arm));
        (is_wild && !named.is_empty()).then_some(Match { line: at + 1, named })
    });
    matches.collect()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The lines that begin arms, of a match at this indentation.
fn arms<'t>(lines: &[&'t str], at: usize) -> Vec<&'t str> {
    let ends = |line: &&&str| !(line.trim_start().starts_with('}') && indent(line) <= at);
    let body = lines.iter().take_while(ends);
    body.filter(|line| indent(line) == at + 4).map(|line| line.trim()).collect()
}

/// The enumeration whose form begins an arm: `Expr` of `Expr::Var(v) => ..`.
fn enumeration(arm: &str) -> Option<String> {
    let (path, form) = arm.trim_start_matches(['|', ' ', '&']).split_once("::")?;
    let is_type =
        path.starts_with(|c: char| c.is_ascii_uppercase()) && path.chars().all(char::is_alphanumeric);
    (is_type && form.starts_with(|c: char| c.is_ascii_uppercase())).then(|| path.to_owned())
}

/// `_ => ..` or `name => ..`.
fn is_wildcard(arm: &str) -> bool {
    let Some((pattern, _)) = arm.split_once(" =>") else { return false };
    let mut chars = pattern.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_lowercase())
        && chars.all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
        && !matches!(pattern, "true" | "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDES: &str = "//! doc\nfn f(e: &Expr) {\n    match e {\n        Expr::A => 1,\n        Expr::B(x) | Expr::C => {\n            2\n        }\n        Expr::D => 3,\n        Expr::E => 3,\n        _ => 4,\n    }\n}\n";

    fn found(text: &str, strict: &[&str]) -> Vec<String> {
        let sources = [Source { path: "a/src/b.rs".into(), text: text.into() }];
        wildcards(&sources, &["Expr"], strict, &[])
    }

    #[test]
    fn a_wildcard_beside_many_forms_is_found() {
        assert_eq!(found(HIDES, &[]), ["a/src/b.rs:3: a wildcard beside 4 forms of `Expr`: name them all"]);
        assert!(found(&HIDES.replace("_ =>", "Expr::F =>"), &[]).is_empty());
        assert_eq!(found(&HIDES.replace("_ =>", "other =>"), &[]).len(), 1);
    }

    #[test]
    fn a_question_may_have_one_unless_the_enumeration_is_strict() {
        let question =
            "//! doc\nfn f(e: &Expr) {\n    match e {\n        Expr::A => 1,\n        _ => 4,\n    }\n}\n";
        assert!(found(question, &[]).is_empty());
        assert_eq!(found(question, &["Expr"]).len(), 1);
        assert!(found(&question.replace("_ =>", "_ if x =>"), &["Expr"]).is_empty());
    }
}
