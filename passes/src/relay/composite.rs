//! Patterns of composite functions, written as Relay text.
//!
//! A pattern is a global function. Its body is what a program must hold; its parameters stand for
//! anything, the same parameter for the same expression. So a file of patterns reads as the
//! programs that it finds:
//! ```text
//! #[version = "0.0.5"]
//! def @dense_relu(%x, %w: Tensor[(?, ?), float32], constants=["w"]) {
//!   nn.relu(nn.dense(%x, %w, units=None))
//! }
//! ```
//! - A parameter with a type takes only what has such a type; `?` is any size. Those that the
//!   function's attribute `constants` names take only constants.
//! - An attribute that is written must have the value that is written, where that is not `None`; any
//!   other may have any.
//! - The operands of `add`, `multiply`, `maximum`, `minimum` and `equal` may stand either way round.
//! - A constant of one element stands for each of its value and dtype, floats to one part in 2^20.
//! - `%0 = ..` that is used twice stands for one expression that is used twice. What a pattern
//!   computes on the way to its result must not be read by anything else.
//! - The composite is called as the function, or as its attribute `Composite` says: several
//!   patterns may give one composite. Of two patterns that fit, the one that stands first is taken.

mod matching;

use std::collections::BTreeSet;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics, SourceMap, Span};
use fermata_ir::expr::{Callee, Expr, ExprId, Function, Module, VarId};
use fermata_ir::op::{AttrValue, OpTable};
use fermata_ir::text::{ParseOptions, parse_module, sources};
use fermata_ir::walk;

pub use matching::{Found, Refusal};

/// The most expressions of a pattern, so that looking for it takes little at each place.
const MAX_SIZE: usize = 64;

/// The patterns that are always known.
const BUILTIN: &str = include_str!("composite/patterns.relay");

/// A table of patterns.
pub struct Patterns {
    /// What they are written in.
    module: Module,
    /// In order of the text.
    pub list: Vec<Pattern>,
}

/// What a composite function is made of.
pub struct Pattern {
    /// The name of the pattern itself.
    pub name: String,
    /// The name of the composite.
    pub composite: String,
    /// Its operators in order: Relay's attribute `PartitionedFromPattern`.
    pub operators: String,
    params: Vec<VarId>,
    constants: BTreeSet<VarId>,
    /// The attributes that are written, by their call and place.
    written: BTreeSet<(ExprId, usize)>,
    root: ExprId,
}

impl Patterns {
    /// The built-in patterns.
    pub fn builtin() -> Patterns {
        Patterns::parse("patterns.relay", BUILTIN).expect("the built-in patterns are well formed")
    }

    /// Reads patterns; `name` is that of the text, for messages.
    ///
    /// # Errors
    /// If the text is no module, or a function no pattern.
    pub fn parse(name: &str, text: &str) -> Result<Patterns, Diagnostics> {
        let ops = OpTable::standard();
        let sources = sources(name, text);
        let placed = |d: Diagnostic| place(d, &sources);
        let module = parse_module(name, text, &ParseOptions::new(&ops))
            .map_err(|all| Diagnostics(all.0.into_iter().map(placed).collect()))?;
        let mut list = Vec::new();
        let mut errors = Vec::new();
        for global in module.globals.values() {
            let Some(func) = &global.func else { continue };
            match pattern(&module, &global.name, func) {
                Ok(pattern) => list.push(pattern),
                Err(error) => errors.push(placed(error)),
            }
        }
        if errors.is_empty() { Ok(Patterns { module, list }) } else { Err(Diagnostics(errors)) }
    }
}

/// The diagnostic with its place in words: it points into another text than the program's.
fn place(diagnostic: Diagnostic, sources: &SourceMap) -> Diagnostic {
    let Span::Text { source, range } = &diagnostic.span else { return diagnostic };
    let source = &sources[*source];
    let before = &source.text[..range.start.min(source.text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    let note = format!("at {}:{line}:{column}, in a file of patterns", source.name);
    Diagnostic { span: Span::None, label: String::new(), ..diagnostic }.note(note)
}

fn pattern(module: &Module, name: &str, func: &Function) -> Result<Pattern, Diagnostic> {
    let at = module.spans[func.body].clone();
    let refused = |why: String| {
        let message = format!("`@{name}` is no pattern: {why}");
        Diagnostic::error(Code::PASS, message).at(at.clone())
    };
    let order = walk::post_order(module, &[func.body]);
    if order.len() > MAX_SIZE {
        return Err(refused(format!("it has more than {MAX_SIZE} expressions")));
    }
    let (mut operators, mut written) = (String::new(), BTreeSet::new());
    for &expr in &order {
        match &module.exprs[expr] {
            Expr::Call(call) => match call.callee {
                Callee::Op(op) => {
                    operators += &format!("{op}_");
                    let text = attributes(module, expr);
                    let given = |&place: &usize| names(text, op.attrs[place].name);
                    written.extend((0..op.attrs.len()).filter(given).map(|place| (expr, place)));
                }
                Callee::Expr(_) | Callee::Ctor(_) => return Err(refused("it calls no operator".into())),
            },
            Expr::Const(c) if module.consts[*c].tensor.len() == 1 => {}
            Expr::Const(_) => return Err(refused("it has a constant of more than one element".into())),
            Expr::Var(v) if func.params.contains(v) => {}
            Expr::Tuple(_) | Expr::Proj { .. } => {}
            Expr::Var(_)
            | Expr::Global(_)
            | Expr::Op(_)
            | Expr::Ctor(_)
            | Expr::Func(_)
            | Expr::Let { .. }
            | Expr::If { .. }
            | Expr::Match { .. }
            | Expr::Ref(_)
            | Expr::RefRead(_)
            | Expr::RefWrite { .. } => {
                return Err(refused("it is made of more than operators, tuples and constants".into()));
            }
        }
    }
    if module.as_op_call(func.body).is_none() {
        return Err(refused("its result is that of no operator".into()));
    }
    let text = |value: &AttrValue| match value {
        AttrValue::Str(s) => Some(s.to_string()),
        _ => None,
    };
    let mut constants = BTreeSet::new();
    if let Some(AttrValue::List(names)) = func.attrs.get("constants") {
        for wanted in names.iter().filter_map(text) {
            let param = func.params.iter().find(|&&v| *module.vars[v].name == *wanted);
            constants.insert(*param.ok_or_else(|| refused(format!("it has no parameter `%{wanted}`")))?);
        }
    }
    let composite = func.attrs.get("Composite").and_then(text).unwrap_or_else(|| name.to_owned());
    let params = func.params.clone();
    Ok(Pattern { name: name.to_owned(), composite, operators, params, constants, written, root: func.body })
}

/// The text of a call behind its operands.
fn attributes(module: &Module, call: ExprId) -> &str {
    let Span::Text { source, range } = &module.spans[call] else { return "" };
    let inside = |child: ExprId| match &module.spans[child] {
        Span::Text { source: other, range: own } if other == source => Some(own.end),
        Span::Text { .. } | Span::Node { .. } | Span::None => None,
    };
    let ends = walk::children(&module.exprs[call]).into_iter().filter_map(inside);
    let start = ends.filter(|end| range.contains(end)).max().unwrap_or(range.start);
    module.sources[*source].text.get(start..range.end).unwrap_or_default()
}

/// Whether a text gives an attribute a value.
fn names(text: &str, attribute: &str) -> bool {
    text.match_indices(attribute).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let value = text[at + attribute.len()..].trim_start().starts_with('=');
        value && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_patterns_are_well_formed() {
        let patterns = Patterns::builtin();
        assert!(patterns.list.len() > 10);
        let gelu = patterns.list.iter().find(|p| p.name == "dense_bias_gelu").expect("it is there");
        assert_eq!(gelu.operators, "nn.dense_add_multiply_erf_multiply_add_multiply_");
    }

    #[test]
    fn attributes_that_are_written_are_known() {
        let text = "#[version = \"0.0.5\"]\ndef @p(%x, %w) { nn.relu(nn.conv2d(nn.max_pool2d(%x, pool_size=[2, 2]), \
                    %w, groups=1, kernel_layout=\"OIHW\")) }";
        let patterns = Patterns::parse("p.relay", text).expect("a pattern");
        let names = patterns.list[0].written.iter().map(|(call, place)| {
            let (op, _) = patterns.module.as_op_call(*call).expect("a call");
            op.attrs[*place].name
        });
        assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(["groups", "kernel_layout", "pool_size"]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let refused = |body: &str| {
            let text = format!("#[version = \"0.0.5\"]\ndef @p(%x{body}");
            Patterns::parse("p.relay", &text).map(|_| ()).expect_err("refused").0.swap_remove(0)
        };
        for (body, why) in [
            (") { %x }", "its result"),
            (") { let %y = nn.relu(%x); %y }", "made of more"),
            (", constants=[\"w\"]) { nn.relu(%x) }", "no parameter `%w`"),
            (") { @p(%x) }", "made of more"),
            (") { nn.rleu(%x) }", "nn.rleu"),
        ] {
            let error = refused(body);
            assert!(error.message.contains(why), "{}", error.message);
            assert!(error.notes.iter().any(|n| n.starts_with("at p.relay:2:")), "{:?}", error.notes);
        }
    }
}
