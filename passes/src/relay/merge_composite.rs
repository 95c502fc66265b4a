//! MergeComposite: what fits a pattern becomes a composite function, called where it stood.
//!
//! The function has the attributes `Composite`, the name that an external code generator knows it
//! by, and `PartitionedFromPattern`, its operators in order. What the patterns look like, and which
//! are built in: [`composite`](super::composite). A composite that nobody takes over is put back
//! into its place by `lambda_lift`, so the result runs and compiles as it is.

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics, nearest};
use fermata_ir::entity::SecondaryMap;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::AttrValue;
use fermata_ir::walk;

use super::composite::{Found, Pattern, Patterns};
use super::rewrite::{Mapped, marked_bodies, outline, rebuild_functions, use_counts};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "merge_composite",
    relay_name: "MergeComposite",
    level: 4,
    doc: "make composite functions of what fits patterns, which are Relay text",
    options: &[
        OptionDef {
            name: "file",
            doc: "patterns instead of the built-in ones: functions of Relay text, the first that fits is taken",
            default: OptionValue::NO_FILE,
        },
        OptionDef {
            name: "patterns",
            doc: "which patterns or composites to look for, by name and comma; all if empty",
            default: OptionValue::NO_TEXT,
        },
        OptionDef {
            name: "prefix",
            doc: "what the names of composites begin with: a code generator's name and a point",
            default: OptionValue::NO_TEXT,
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut patterns = match context.file("file")? {
        Some(file) => Patterns::parse(&file.path, &file.contents)?,
        None => Patterns::builtin(),
    };
    choose(&mut patterns.list, &context.text("patterns"))?;
    let prefix = context.text("prefix");
    let mut found = find(&patterns, module, context);
    let mut mapped: Mapped = SecondaryMap::new();
    Ok(rebuild_functions(module, |module, old, new| {
        let merged = found.remove(&old).map(|(place, found)| {
            let pattern = &patterns.list[place];
            merge(module, &found, pattern, &prefix, &mapped).expect("its parts are well typed")
        });
        let new = merged.unwrap_or(new);
        mapped[old] = Some(new);
        new
    }))
}

/// Leaves the patterns of these names.
fn choose(list: &mut Vec<Pattern>, names: &str) -> Result<(), Diagnostic> {
    let wanted: Vec<&str> = names.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
    for name in &wanted {
        if !list.iter().any(|p| p.name == *name || p.composite == *name) {
            let error = Diagnostic::error(Code::PASS, format!("there is no pattern `{name}`"));
            let known = list.iter().flat_map(|p| [&*p.name, &*p.composite]);
            return Err(match nearest(name, known) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => {
                    let names: Vec<&str> = list.iter().map(|p| &*p.name).collect();
                    error.help(format!("there are: {}", names.join(", ")))
                }
            });
        }
    }
    if !wanted.is_empty() {
        list.retain(|p| wanted.iter().any(|n| p.name == *n || p.composite == *n));
    }
    Ok(())
}

/// Where patterns fit, by their roots; no expression is inside of two.
fn find(patterns: &Patterns, module: &Module, context: &mut PassContext) -> BTreeMap<ExprId, (usize, Found)> {
    let uses = use_counts(module);
    let order = walk::reachable(module);
    let mut taken = marked_bodies(module, &order);
    let mut all = BTreeMap::new();
    for (place, pattern) in patterns.list.iter().enumerate() {
        let before = all.len();
        for &root in order.iter().filter(|&&e| matches!(module.exprs[e], Expr::Call(_))) {
            if taken.contains(&root) {
                continue;
            }
            match patterns.find(pattern, module, root, &uses) {
                Ok(Some(found)) => {
                    let free = found.inside.iter().all(|e| !taken.contains(e));
                    if free && context.fire("merge a composite", module, root) {
                        taken.extend(&found.inside);
                        all.insert(root, (place, found));
                    }
                }
                Ok(None) => {}
                Err(refusal) => context.remark(module, root, || {
                    let read = module.as_op_call(refusal.read);
                    let read = read.map_or("a tuple".into(), |(op, _)| format!("`{op}`"));
                    format!("no `{}` here: something outside of it reads {read}", pattern.name)
                }),
            }
        }
        if all.len() == before {
            let message = || format!("`{}` fits nowhere", pattern.name);
            if context.want_remarks {
                context.remarks.push(Diagnostic::warning(Code::PASS, message()));
            }
        }
    }
    all
}

/// A call of a composite function that computes what was found.
fn merge(
    module: &mut Module,
    found: &Found,
    pattern: &Pattern,
    prefix: &str,
    mapped: &Mapped,
) -> Result<ExprId, Diagnostic> {
    let root = *found.inside.last().expect("a pattern has a root");
    let mut func = outline(module, &found.inside, &[root], &found.args)?;
    let text = |text: String| AttrValue::Str(text.into());
    func.attrs.insert("PartitionedFromPattern".into(), text(pattern.operators.clone()));
    func.attrs.insert("Composite".into(), text(format!("{prefix}{}", pattern.composite)));
    let args: Vec<ExprId> = found.args.iter().map(|&a| mapped[a].unwrap_or(a)).collect();
    let span = module.spans[root].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let func = build.add(Expr::Func(Box::new(func)))?;
    build.call_func(func, &args)
}
