//! EliminateCommonSubexpr: equal pure calls are computed once.
//!
//! Two calls are equal if operator, attributes and arguments are; scalar constants of equal
//! bytes count as one. Tuples and projections are shared too, so that calls over them are.

use std::collections::BTreeMap;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Callee, Expr, ExprId, Module};
use fermata_ir::op::elemwise::convert::CAST;
use fermata_ir::op::{FusePattern, Op, Purity};
use fermata_ir::types::DType;
use smallvec::SmallVec;

use super::rewrite::{Value, rebuild, rebuild_functions, value_of};
use crate::pass::{FloatClass, OptionDef, OptionValue, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "common_subexpr",
    relay_name: "EliminateCommonSubexpr",
    level: 2,
    doc: "share equal calls of pure operators",
    options: &[OptionDef {
        name: "skip",
        doc: "leave calls apart: those of casts, or of all operators that only move elements",
        default: OptionValue::Word("nothing|casts|injective"),
    }],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

/// What makes two expressions the same value. What tells most of them apart comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Call(Values, &'static str, String),
    Tuple(Values),
    Proj(Value, u32),
    Scalar(DType, Vec<u8>),
}

/// Operands by what they mean: every mention of a variable is an expression of its own.
type Values = SmallVec<[Value; 2]>;

fn values(module: &Module, exprs: &[ExprId]) -> Values {
    exprs.iter().map(|&e| value_of(module, e)).collect()
}

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut seen: BTreeMap<Key, ExprId> = BTreeMap::new();
    let skip = context.word("skip");
    let skipped = |op: Op| match skip {
        "casts" => op.is(&CAST),
        "injective" => op.pattern == FusePattern::Injective,
        _ => false,
    };
    Ok(rebuild_functions(module, |module, _, new| {
        if module.as_op_call(new).is_some_and(|(op, _)| skipped(op)) {
            return new;
        }
        let Some(key) = key(module, new) else { return new };
        match *seen.entry(key).or_insert(new) {
            first if first == new || !context.fire("share an equal expression", module, new) => new,
            first => first,
        }
    }))
}

/// An expression in which what is equal is one.
pub fn share_equal(module: &mut Module, root: ExprId) -> ExprId {
    let mut seen: BTreeMap<Key, ExprId> = BTreeMap::new();
    rebuild(module, root, &mut |module, _, new| match key(module, new) {
        Some(key) => *seen.entry(key).or_insert(new),
        None => new,
    })
}

fn key(module: &Module, expr: ExprId) -> Option<Key> {
    match &module.exprs[expr] {
        Expr::Call(call) => match call.callee {
            Callee::Op(op) if op.purity == Purity::Pure => {
                let attrs = match call.attrs.values() {
                    [] => String::new(),
                    attrs => format!("{attrs:?}"),
                };
                Some(Key::Call(values(module, &call.args), op.0.name, attrs))
            }
            Callee::Op(_) | Callee::Expr(_) | Callee::Ctor(_) => None,
        },
        Expr::Tuple(fields) => Some(Key::Tuple(values(module, fields))),
        Expr::Proj { tuple, index } => Some(Key::Proj(value_of(module, *tuple), *index)),
        Expr::Const(c) => {
            let tensor = &module.consts[*c].tensor;
            (tensor.rank() == 0).then(|| Key::Scalar(tensor.dtype(), tensor.bytes().to_vec()))
        }
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
        | Expr::RefWrite { .. } => None,
    }
}
