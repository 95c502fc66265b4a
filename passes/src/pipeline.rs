//! Pipelines: flat lists of named steps, the standard ones and those that a user writes.
//!
//! Text form: `fold_constant,fuse_ops{max_depth=64 fuse=True}`. A value with
//! blanks or braces in it stands in quotation marks: `annotate_target{ops="add, nn.relu"}`. Printing a pipeline gives
//! a text that parses to the same.

use std::fmt;

use fermata_ir::diag::{Code, Diagnostic, nearest};

use crate::pass::{OptionDef, OptionValue, PassDef, Stage};
use crate::relay::fast_math;
use crate::table::PassTable;

/// A pass with the values of its options.
#[derive(Clone)]
pub struct Step {
    /// The pass.
    pub pass: &'static PassDef,
    /// A value for every option of the pass, in its order.
    pub options: Vec<(&'static str, OptionValue)>,
}

/// Steps in order.
#[derive(Clone, Default)]
pub struct Pipeline {
    /// The steps.
    pub steps: Vec<Step>,
}

/// The optimisation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub u8);

/// The standard pipeline of a level, 0 to 3, ending in fused form.
pub fn standard(level: Level) -> Pipeline {
    let text = match level.0 {
        0 => O0,
        1 => O1,
        2 => O2,
        _ => O3,
    };
    parse(text, &PassTable::standard()).expect("the standard pipelines are well formed")
}

/// Every operator a kernel of its own, numbers as the evaluator computes them.
const O0: &str = "infer_type,simplify_inference,remove_unused_functions,lambda_lift,\
                  to_graph_normal_form,fuse_ops{fuse=False}";

/// What costs nothing: folding, dropping, fusing.
const O1: &str = "infer_type,remove_unused_functions,simplify_inference,fold_constant,dead_code,\
                  lambda_lift,to_graph_normal_form,fuse_ops";

/// The default: algebraic rewriting (only rounding changes) and packed weights too.
const O2: &str = "infer_type,remove_unused_functions,simplify_inference,canonicalize_ops,legalize,\
                  fold_constant,dead_code,lambda_lift,to_graph_normal_form,common_subexpr,simplify_expr,fold_scale_axis,\
                  fold_constant,combine_parallel_dense,alter_op_layout,fold_constant,common_subexpr,fuse_ops";

/// As O2, with what takes more time than it is worth by default: rewriting by all rules at once.
const O3: &str = "infer_type,remove_unused_functions,simplify_inference,canonicalize_ops,legalize,\
                  fold_constant,dead_code,lambda_lift,to_graph_normal_form,common_subexpr,simplify_expr,saturate,\
                  fold_scale_axis,fold_constant,combine_parallel_dense,alter_op_layout,fold_constant,\
                  common_subexpr,fuse_ops";

impl Pipeline {
    /// Turns on what fast math allows: passes that have approximate rules use them, and FastMath
    /// runs before groups are made.
    pub fn allow_approximations(&mut self) {
        for (name, value) in self.steps.iter_mut().flat_map(|step| match step.pass.name {
            "simplify_expr" | "saturate" => step.options.as_mut_slice(),
            _ => &mut [],
        }) {
            match *name {
                "class" => *value = OptionValue::Word("approximate"),
                "approximate" => *value = OptionValue::Bool(true),
                _ => {}
            }
        }
        let known = |name: &str| self.steps.iter().position(|step| step.pass.name == name);
        if known(fast_math::PASS.name).is_none() {
            let fused = self.steps.iter().position(|step| step.pass.gives == Some(Stage::Fused));
            self.steps.insert(fused.unwrap_or(self.steps.len()), Step::new(&fast_math::PASS));
        }
    }
}

impl Step {
    /// A pass with the default values of its options.
    pub fn new(pass: &'static PassDef) -> Step {
        Step { pass, options: pass.options.iter().map(|o| (o.name, default_value(o))).collect() }
    }
}

fn default_value(option: &OptionDef) -> OptionValue {
    match &option.default {
        OptionValue::Word(words) => OptionValue::Word(words.split('|').next().unwrap_or(words)),
        value => value.clone(),
    }
}

/// Reads a pipeline.
///
/// # Errors
/// For an unknown pass, option or value; the message shows the whole text with a caret.
pub fn parse(text: &str, table: &PassTable) -> Result<Pipeline, Diagnostic> {
    let mut reader = Reader { text, at: 0 };
    let mut steps = Vec::new();
    reader.skip_space();
    while !reader.at_end() {
        steps.push(step(&mut reader, table)?);
        reader.skip_space();
        if !reader.at_end() && !reader.take(',') {
            return Err(reader.error(reader.at, "expected `,` between passes"));
        }
        reader.skip_space();
    }
    Ok(Pipeline { steps })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// What reaches to the next blank or brace, or stands between quotation marks; `None` if those are
    /// not closed.
    fn value(&mut self) -> Option<&'a str> {
        if !self.take('"') {
            let value = plain(self.rest());
            self.at += value.len();
            return Some(value);
        }
        let value = self.rest().split('"').next().unwrap_or_default();
        self.at += value.len();
        self.take('"').then_some(value)
    }

    /// An error that shows the text with a caret under the byte `at`.
    fn error(&self, at: usize, message: impl Into<String>) -> Diagnostic {
        let column = self.text[..at].chars().count();
        Diagnostic::error(Code::PASS, message)
            .note(format!("in the pipeline: {}", self.text))
            .note(format!("                 {}^", " ".repeat(column)))
    }
}

fn step(reader: &mut Reader<'_>, table: &PassTable) -> Result<Step, Diagnostic> {
    let start = reader.at;
    let name = reader.word();
    let Some(pass) = table.get(name) else {
        let error = reader.error(start, format!("there is no pass `{name}`"));
        let near = nearest(name, table.iter().map(|p| p.name));
        return Err(match near {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("`fermata list passes` lists them all"),
        });
    };
    let mut step = Step::new(pass);
    if reader.take('{') {
        loop {
            reader.skip_space();
            if reader.take('}') {
                break;
            }
            if reader.at_end() {
                return Err(reader.error(start, "the options of this pass are not closed with `}`"));
            }
            option(reader, &mut step)?;
        }
    }
    Ok(step)
}

fn option(reader: &mut Reader<'_>, step: &mut Step) -> Result<(), Diagnostic> {
    let start = reader.at;
    let name = reader.word();
    let pass = step.pass.name;
    let Some(index) = step.pass.options.iter().position(|o| o.name == name) else {
        let error = reader.error(start, format!("the pass `{pass}` has no option `{name}`"));
        let known: Vec<&str> = step.pass.options.iter().map(|o| o.name).collect();
        return Err(match nearest(name, known.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => error.help("it takes no options"),
            None => error.help(format!("its options are: {}", known.join(", "))),
        });
    };
    let value_at = reader.at + 1;
    let text = if reader.take('=') { reader.value() } else { Some("") };
    let definition = &step.pass.options[index];
    let Some(text) = text else {
        return Err(reader.error(value_at, format!("the value of `{name}` is not closed with `\"`")));
    };
    let Some(value) = option_value(definition, text) else {
        let wanted = match definition.default {
            OptionValue::Bool(_) => "True or False".to_string(),
            OptionValue::Int(_) => "an integer".to_string(),
            OptionValue::Word(words) => format!("one of {}", words.replace('|', ", ")),
            OptionValue::Text(_) => "a text".to_string(),
            OptionValue::File { .. } => "a file".to_string(),
        };
        let at = value_at.min(reader.text.len());
        let error = reader.error(at, format!("the option `{name}` of `{pass}` takes {wanted}"));
        let words = match definition.default {
            OptionValue::Bool(_) => "True|False",
            OptionValue::Int(_) | OptionValue::Text(_) | OptionValue::File { .. } => "",
            OptionValue::Word(words) => words,
        };
        return Err(match nearest(text, words.split('|')) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        });
    };
    step.options[index].1 = value;
    Ok(())
}

fn option_value(option: &OptionDef, text: &str) -> Option<OptionValue> {
    match option.default {
        OptionValue::Bool(_) => match text {
            "True" | "true" | "1" => Some(OptionValue::Bool(true)),
            "False" | "false" | "0" => Some(OptionValue::Bool(false)),
            _ => None,
        },
        OptionValue::Int(_) => text.parse().ok().map(OptionValue::Int),
        OptionValue::Word(words) => words.split('|').find(|w| *w == text).map(OptionValue::Word),
        OptionValue::Text(_) => Some(OptionValue::Text(text.to_owned().into())),
        OptionValue::File { .. } => Some(OptionValue::File { path: text.to_owned().into(), contents: None }),
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pass.name)?;
        let changed = self.options.iter().zip(self.pass.options);
        let changed: Vec<String> = changed
            .filter(|((_, value), option)| *value != default_value(option))
            .map(|((name, value), _)| format!("{name}={value}"))
            .collect();
        if changed.is_empty() { Ok(()) } else { write!(f, "{{{}}}", changed.join(" ")) }
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::Bool(true) => f.write_str("True"),
            OptionValue::Bool(false) => f.write_str("False"),
            OptionValue::Int(n) => write!(f, "{n}"),
            OptionValue::Word(word) => f.write_str(word),
            OptionValue::Text(text) => value(f, text),
            OptionValue::File { path, .. } => value(f, path),
        }
    }
}

/// The start of a text that is a value without quotation marks.
fn plain(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '}').next().unwrap_or_default()
}

/// A text as a value, in quotation marks where it needs them.
fn value(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if plain(text).len() == text.len() { f.write_str(text) } else { write!(f, "\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_is_the_inverse_of_parsing() {
        let table = PassTable::standard();
        for level in 0..=3 {
            let text = standard(Level(level)).to_string();
            assert_eq!(parse(&text, &table).expect("parses").to_string(), text);
        }
        let text = "fold_constant,fuse_ops{max_depth=64 fuse=False}";
        assert_eq!(parse(text, &table).expect("parses").to_string(), text);
        let text = "merge_composite{file=a.relay patterns=\"a, b\"}";
        assert_eq!(parse(text, &table).expect("parses").to_string(), text);
    }

    #[test]
    fn errors_point_at_the_place() {
        let table = PassTable::standard();
        let error = |text: &str| parse(text, &table).map(|p| p.to_string()).expect_err("refused");
        let unknown = error("infer_type,fold_constnat");
        assert_eq!(unknown.help.as_deref(), Some("did you mean `fold_constant`?"));
        assert!(unknown.notes[1].ends_with(&format!("{}^", " ".repeat(11))));
        assert!(error("fuse_ops{depth=3}").help.expect("help").contains("max_depth, fuse"));
        assert_eq!(error("fuse_ops{max_dpeth=3}").help.as_deref(), Some("did you mean `max_depth`?"));
        assert!(error("fuse_ops{max_depth=x}").message.contains("an integer"));
        assert!(error("fuse_ops{max_depth=3").message.contains("not closed"));
        assert!(error("merge_composite{patterns=\"a,b}").message.contains("not closed with `\"`"));
        assert!(error("infer_type fuse_ops").message.contains("`,`"));
    }
}
