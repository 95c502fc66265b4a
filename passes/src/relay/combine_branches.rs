//! CombineParallelConv2D and CombineParallelBatchMatmul: branches of one input computed at once.
//!
//! Calls that read the same input, and differ only in how many channels or columns they make, become
//! one call of the operands laid side by side, and a slice of its result each. Only operands that
//! are there before any of the calls, parameters and constants, are taken: so no branch can depend
//! on another, and constants fold.

use std::collections::BTreeMap;

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{Expr, ExprId, Module, VarId};
use fermata_ir::op::conv::{CONV2D, Conv2dAttrs};
use fermata_ir::op::nn::{BATCH_MATMUL, BatchMatmulAttrs};
use fermata_ir::op::transform::{CONCATENATE, ConcatenateAttrs, STRIDED_SLICE, StridedSliceAttrs};
use fermata_ir::op::{Attrs, Op, OpAttrs};
use fermata_ir::walk;

use super::rewrite::{rebuild_functions, static_shape};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The option that both passes have.
const OPTIONS: &[OptionDef] = &[OptionDef {
    name: "min_branches",
    doc: "how many calls of one input there have to be",
    default: OptionValue::Int(3),
}];

/// The row of the pass table.
pub static CONV2D_PASS: PassDef = PassDef {
    name: "combine_parallel_conv2d",
    relay_name: "CombineParallelConv2D",
    level: 4,
    doc: "compute convolutions of one input, alike but for their channels, as one",
    options: OPTIONS,
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run: |module, context| run(module, context, conv_branch),
};

/// The row of the pass table.
pub static BATCH_MATMUL_PASS: PassDef = PassDef {
    name: "combine_parallel_batch_matmul",
    relay_name: "CombineParallelBatchMatmul",
    level: 4,
    doc: "compute batched products of one left operand as one",
    options: OPTIONS,
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run: |module, context| run(module, context, product_branch),
};

/// A call that may be combined with others.
struct Branch {
    /// What the calls of a group have in common besides their input.
    likeness: String,
    /// The operand that differs.
    operand: ExprId,
    /// Where operands are laid side by side, and where results are cut apart.
    axes: [i64; 2],
    /// The size of this branch there.
    size: i64,
    /// The attributes of the combined call from the sum of the sizes.
    attrs: Box<dyn Fn(i64) -> Attrs>,
}

/// What says whether a call is a branch, and of which kind.
type Kind = fn(&Module, ExprId, Op) -> Option<Branch>;

/// A convolution in one group, its channels on dimension 0 of the weight.
fn conv_branch(module: &Module, expr: ExprId, op: Op) -> Option<Branch> {
    let (_, call) = module.as_op_call(expr)?;
    if !op.is(&CONV2D) {
        return None;
    }
    let attrs: Conv2dAttrs = call.attrs.read();
    let axis = attrs.data_layout.find('C')? as i64;
    if attrs.groups != 1 || &*attrs.kernel_layout != "OIHW" || !attrs.out_layout.is_empty() {
        return None;
    }
    let weight = static_shape(module, call.args[1])?;
    let common = Conv2dAttrs { channels: None, kernel_size: None, ..attrs };
    let attrs = move |sum: i64| Conv2dAttrs { channels: Some(sum), ..common.clone() }.attrs();
    Some(Branch {
        likeness: format!("{:?} {:?}", attrs(0).values(), &weight[1..]),
        operand: call.args[1],
        axes: [0, axis],
        size: weight[0] as i64,
        attrs: Box::new(attrs),
    })
}

/// A batched product, its columns on the last dimension or, transposed, the one before.
fn product_branch(module: &Module, expr: ExprId, op: Op) -> Option<Branch> {
    let (_, call) = module.as_op_call(expr)?;
    if !op.is(&BATCH_MATMUL) {
        return None;
    }
    let attrs: BatchMatmulAttrs = call.attrs.read();
    let right = static_shape(module, call.args[1])?;
    let rank = right.len();
    let axis = if attrs.transpose_b { rank - 2 } else { rank - 1 };
    let mut likeness = right.clone();
    likeness.remove(axis);
    let own = call.attrs.clone();
    Some(Branch {
        likeness: format!("{:?} {likeness:?} {:?}", own.values(), static_shape(module, call.args[0])?),
        operand: call.args[1],
        axes: [axis as i64, rank as i64 - 1],
        size: right[axis] as i64,
        attrs: Box::new(move |_| own.clone()),
    })
}

/// An input by what it means: every mention of a variable is an expression of its own.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Input {
    Var(VarId),
    Expr(ExprId),
}

fn run(module: &mut Module, context: &mut PassContext, kind: Kind) -> Result<Outcome, Diagnostics> {
    let mut groups: BTreeMap<(Input, String), Vec<(ExprId, Branch)>> = BTreeMap::new();
    for expr in walk::reachable(module) {
        let Some((op, call)) = module.as_op_call(expr) else { continue };
        let Some(branch) = kind(module, expr, op) else { continue };
        if !matches!(module.exprs[branch.operand], Expr::Const(_) | Expr::Var(_)) {
            tell(module, expr, "its weights are computed", context);
            continue;
        }
        let input = match module.exprs[call.args[0]] {
            Expr::Var(var) => Input::Var(var),
            _ => Input::Expr(call.args[0]),
        };
        groups.entry((input, branch.likeness.clone())).or_default().push((expr, branch));
    }
    let least = usize::try_from(context.int("min_branches")).unwrap_or(0).max(2);
    let mut member: BTreeMap<ExprId, (usize, usize)> = BTreeMap::new();
    let mut chosen = Vec::new();
    for group in groups.into_values() {
        if group.len() < least {
            let why = "there are fewer calls of one input than `min_branches`";
            group.iter().for_each(|(expr, _)| tell(module, *expr, why, context));
        } else if context.fire("combine branches", module, group[0].0) {
            let place = chosen.len();
            member.extend(group.iter().enumerate().map(|(i, (expr, _))| (*expr, (place, i))));
            chosen.push(group);
        }
    }
    let mut combined: BTreeMap<usize, ExprId> = BTreeMap::new();
    Ok(rebuild_functions(module, |module, old, new| {
        let Some(&(place, i)) = member.get(&old) else { return new };
        let whole = match combined.get(&place) {
            Some(&whole) => whole,
            None => match combine(module, new, &chosen[place]) {
                Ok(whole) => *combined.entry(place).or_insert(whole),
                Err(_) => return new,
            },
        };
        slice(module, new, whole, &chosen[place], i).unwrap_or(new)
    }))
}

/// The call of all branches at once.
fn combine(module: &mut Module, like: ExprId, group: &[(ExprId, Branch)]) -> Result<ExprId, Diagnostic> {
    let (op, call) = module.as_op_call(like).expect("a branch is a call");
    let (op, input) = (op.0, call.args[0]);
    let span = module.spans[like].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let operands: Vec<ExprId> = group.iter().map(|(_, b)| b.operand).collect();
    let tuple = build.tuple(&operands)?;
    let joined = build.call(&CONCATENATE, &[tuple], ConcatenateAttrs { axis: group[0].1.axes[0] }.attrs())?;
    let sum = group.iter().map(|(_, b)| b.size).sum();
    build.call(op, &[input, joined], (group[0].1.attrs)(sum))
}

/// The part of the whole that is the result of one branch.
fn slice(
    module: &mut Module,
    like: ExprId,
    whole: ExprId,
    group: &[(ExprId, Branch)],
    i: usize,
) -> Option<ExprId> {
    let first: i64 = group[..i].iter().map(|(_, b)| b.size).sum();
    let branch = &group[i].1;
    let attrs = StridedSliceAttrs {
        begin: Some(vec![first]),
        end: Some(vec![first + branch.size]),
        strides: None,
        slice_mode: "end".into(),
        axes: Some(vec![branch.axes[1]]),
    };
    let ty = module.types[like].clone();
    let span = module.spans[like].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let part = build.call(&STRIDED_SLICE, &[whole], attrs.attrs()).ok()?;
    (*build.ty(part) == ty).then_some(part)
}

fn tell(module: &Module, at: ExprId, why: &str, context: &mut PassContext) {
    if context.want_remarks {
        let message = format!("this branch is not combined with others: {why}");
        context.remarks.push(Diagnostic::warning(Code::PASS, message).at(module.spans[at].clone()));
    }
}
