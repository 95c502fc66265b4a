//! ConvertLayout: operators get the layouts that the user wants, and what follows keeps to them.
//!
//! `convert_layout{layouts=nn.conv2d:NHWC,nn.conv2d_transpose:NHWC:HWOI}` says, operator by operator,
//! the layout of the data and, if it is no usual one, that of the weight. How layouts go on, and
//! where tensors are brought back: [`layout`](super::layout). Weights that are constants are
//! rearranged when FoldConstant runs after this. For a CPU, `legalize` takes convolutions to NCHW in
//! the standard pipelines, whatever they were before.

use std::collections::BTreeMap;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics, nearest};
use fermata_ir::expr::{Call, Module};
use fermata_ir::op::{Op, OpTable};

use super::layout::{self, Layouts, form};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "convert_layout",
    relay_name: "ConvertLayout",
    level: 4,
    doc: "give operators the layouts that are wanted, and what follows them too",
    options: &[OptionDef {
        name: "layouts",
        doc: "for each operator, by comma: its name, the data's layout and, if need be, the weight's",
        default: OptionValue::Text(std::borrow::Cow::Borrowed("nn.conv2d:NCHW")),
    }],
    requires: &["canonicalize_ops", "infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let wanted = parse(&context.text("layouts"))?;
    let of = |_: &Module, op: Op, _: &Call| wanted.get(op.name()).cloned();
    layout::convert(module, &of, "convert a layout", context)
}

/// The layouts of a text, by operator.
fn parse(text: &str) -> Result<BTreeMap<&'static str, Layouts>, Diagnostic> {
    let ops = OpTable::standard();
    let refused = |what: String| Diagnostic::error(Code::PASS, what);
    let mut wanted = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|i| !i.is_empty()) {
        let mut words = item.split(':').map(str::trim);
        let (name, data, kernel) = (words.next().unwrap_or_default(), words.next(), words.next());
        let Some(data) = data.filter(|_| words.next().is_none()) else {
            let help = "write `nn.conv2d:NHWC`, or `nn.conv2d:NHWC:OHWI`";
            return Err(refused(format!("`{item}` does not say a layout")).help(help));
        };
        let Some(op) = ops.get(name) else {
            let known = ops.iter().filter(|op| layout::has_layout(*op).is_some()).map(|op| op.name());
            let error = refused(format!("there is no operator `{name}`"));
            return Err(match nearest(name, known) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error,
            });
        };
        let Some(weighted) = layout::has_layout(op) else {
            return Err(refused(format!("`{name}` has no layout")));
        };
        let kernel = match (weighted, kernel) {
            (true, Some(kernel)) => kernel.to_owned(),
            (true, None) if data == "NCHW" && name.ends_with("_transpose") => "IOHW".to_owned(),
            (true, None) => layout::kernel_for(data).ok_or_else(|| {
                let help = format!("name it: `{name}:{data}:OIHW`");
                refused(format!("no layout of weights goes with \"{data}\"")).help(help)
            })?,
            (false, None) => String::new(),
            (false, Some(_)) => return Err(refused(format!("`{name}` has no weight"))),
        };
        for layout in [data, &*kernel] {
            if !layout.is_empty() && form::read(layout).is_none() {
                return Err(refused(format!("\"{layout}\" is no layout"))
                    .help("write a letter for each dimension, and `4c` for parts of four"));
            }
        }
        wanted.insert(op.name(), Layouts { data: data.to_owned(), kernel });
    }
    Ok(wanted)
}
