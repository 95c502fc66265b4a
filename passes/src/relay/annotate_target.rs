//! AnnotateTarget: what an external code generator has becomes regions of one call each.
//!
//! The code generator has the operators that the option `ops` names, or those of its row in the
//! table here, and the composites whose name begins with its own and a point, as `merge_composite`
//! makes them with `prefix`. What stands in a region already stays there: with several code
//! generators, the one annotated first comes first.

use std::collections::BTreeSet;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics, nearest};
use fermata_ir::expr::{Callee, Expr, ExprId, Module};
use fermata_ir::op::AttrValue;
use fermata_ir::types::{DType, Type};
use fermata_ir::walk;

use super::regions::{COMPILER, called, text_attr};
use super::rewrite::{marked_bodies, outline, rebuild_functions, value_of};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "annotate_target",
    relay_name: "AnnotateTarget",
    level: 4,
    doc: "mark the operators and composites that an external code generator has, each as a region",
    options: &[
        OptionDef {
            name: "target",
            doc: "the name of the code generator",
            default: OptionValue::Text(std::borrow::Cow::Borrowed("dnnl")),
        },
        OptionDef {
            name: "ops",
            doc: "the operators and composites that it has, by comma; a row of the built-in table if empty",
            default: OptionValue::NO_TEXT,
        },
    ],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

/// What a code generator has, as far as it is known here.
struct Generator {
    name: &'static str,
    ops: &'static [&'static str],
    dtypes: &'static [DType],
}

/// Code generators that Relay's users know.
const GENERATORS: &[Generator] = &[
    Generator {
        name: "dnnl",
        ops: &[
            "abs",
            "add",
            "clip",
            "concatenate",
            "exp",
            "log",
            "multiply",
            "nn.avg_pool2d",
            "nn.batch_matmul",
            "nn.batch_norm",
            "nn.conv1d",
            "nn.conv2d",
            "nn.conv2d_transpose",
            "nn.conv3d",
            "nn.dense",
            "nn.global_avg_pool2d",
            "nn.layer_norm",
            "nn.leaky_relu",
            "nn.max_pool2d",
            "nn.relu",
            "nn.softmax",
            "sigmoid",
            "sqrt",
            "tanh",
        ],
        dtypes: &[DType::F32, DType::BF16],
    },
    Generator {
        name: "cublas",
        ops: &["nn.batch_matmul", "nn.dense", "nn.matmul"],
        dtypes: &[DType::F32, DType::F16],
    },
    Generator {
        name: "cudnn",
        ops: &["nn.conv2d", "nn.log_softmax", "nn.max_pool2d", "nn.avg_pool2d", "nn.softmax"],
        dtypes: &[DType::F32, DType::F16],
    },
];

/// What is asked for.
struct Wanted<'a> {
    target: &'a str,
    ops: BTreeSet<&'a str>,
    /// Those of the tensors; any where there are none.
    dtypes: &'a [DType],
}

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let (target, ops) = (context.text("target"), context.text("ops"));
    let wanted = wanted(&target, &ops)?;
    tell(module, &wanted, context);
    let marked = marked_bodies(module, &walk::reachable(module));
    Ok(rebuild_functions(module, |module, old, new| {
        if marked.contains(&old) || !supported(module, new, &wanted) || !is_data(module, new) {
            return new;
        }
        if !context.fire("mark a region", module, new) {
            return new;
        }
        wrap(module, new, &target).expect("a call that was well typed")
    }))
}

fn wanted<'a>(target: &'a str, ops: &'a str) -> Result<Wanted<'a>, Diagnostic> {
    let named: BTreeSet<&str> = ops.split(',').map(str::trim).filter(|o| !o.is_empty()).collect();
    if !named.is_empty() {
        return Ok(Wanted { target, ops: named, dtypes: &[] });
    }
    let Some(known) = GENERATORS.iter().find(|g| g.name == target) else {
        let message = format!("it is not known which operators the code generator `{target}` has");
        let names = GENERATORS.iter().map(|g| g.name);
        let near = nearest(target, names.clone()).map(|near| format!("did you mean `{near}`? "));
        let known = names.collect::<Vec<_>>().join(", ");
        let help =
            format!("{}name them: ops=\"nn.dense,nn.relu\"; known are {known}", near.unwrap_or_default());
        return Err(Diagnostic::error(Code::PASS, message).help(help));
    };
    Ok(Wanted { target, ops: known.ops.iter().copied().collect(), dtypes: known.dtypes })
}

/// Says which names of `ops` nothing has.
fn tell(module: &Module, wanted: &Wanted<'_>, context: &mut PassContext) {
    if !context.want_remarks || !wanted.dtypes.is_empty() {
        return;
    }
    let mut found = BTreeSet::new();
    for expr in walk::reachable(module) {
        found.extend(name(module, expr).map(str::to_owned));
    }
    for missing in wanted.ops.iter().filter(|o| !found.contains(**o)) {
        let remark = Diagnostic::warning(Code::PASS, format!("no operator or composite here is `{missing}`"));
        context.remarks.push(match nearest(missing, found.iter().map(|f| &**f)) {
            Some(near) => remark.help(format!("did you mean `{near}`?")),
            None => remark,
        });
    }
}

/// The name of the operator or composite that an expression calls.
fn name(module: &Module, expr: ExprId) -> Option<&str> {
    match module.as_op_call(expr) {
        Some((op, _)) => Some(op.name()),
        None => text_attr(called(module, expr)?.1, "Composite"),
    }
}

fn supported(module: &Module, expr: ExprId, wanted: &Wanted<'_>) -> bool {
    let Some(name) = name(module, expr) else { return false };
    let own = name.strip_prefix(wanted.target).is_some_and(|rest| rest.starts_with('.'));
    let composite = module.as_op_call(expr).is_none();
    if composite && own {
        return true;
    }
    let Expr::Call(call) = &module.exprs[expr] else { return false };
    let fits = |ty: &Type| {
        let fields = ty.as_tuple().unwrap_or(std::slice::from_ref(ty));
        fields.iter().all(|f| f.as_tensor().is_some_and(|t| wanted.dtypes.contains(&t.dtype)))
    };
    wanted.ops.contains(name)
        && (wanted.dtypes.is_empty() || call.args.iter().all(|&a| fits(&module.types[a])))
}

/// Whether what goes in and comes out are tensors, so that a call of another compiler can pass them.
fn is_data(module: &Module, expr: ExprId) -> bool {
    let Expr::Call(call) = &module.exprs[expr] else { return false };
    let pure = match call.callee {
        Callee::Op(op) => op.purity == fermata_ir::op::Purity::Pure,
        Callee::Expr(callee) => walk::free_vars(module, callee).is_empty(),
        Callee::Ctor(_) => false,
    };
    let data = |e: &ExprId| crate::lower::program::is_data(&module.types[*e]);
    pure && data(&expr) && call.args.iter().all(data)
}

/// A call of a region that makes this call. Constants, and the tuples that are made for the call,
/// are part of it.
fn wrap(module: &mut Module, expr: ExprId, target: &str) -> Result<ExprId, Diagnostic> {
    let Expr::Call(call) = &module.exprs[expr] else { return Ok(expr) };
    let is_tuple = |e: ExprId| matches!(module.exprs[e], Expr::Tuple(_));
    let mut inside: Vec<ExprId> = Vec::new();
    let mut args: Vec<ExprId> = Vec::new();
    let mut known = BTreeSet::new();
    for &arg in &call.args {
        let parts = match &module.exprs[arg] {
            Expr::Tuple(fields) if !fields.iter().any(|&f| is_tuple(f)) => {
                inside.push(arg);
                fields.to_vec()
            }
            _ => vec![arg],
        };
        for part in parts {
            if !matches!(module.exprs[part], Expr::Const(_)) && known.insert(value_of(module, part)) {
                args.push(part);
            }
        }
    }
    inside.push(expr);
    let mut func = outline(module, &inside, &[expr], &args)?;
    func.attrs.insert(COMPILER.into(), AttrValue::Str(target.into()));
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let func = build.add(Expr::Func(Box::new(func)))?;
    build.call_func(func, &args)
}
